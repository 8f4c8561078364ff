"""C1: a picture in memory to the patches that a model takes, against transformers' image processor of PIL (and the one of
torchvision, where that is installed). Nobody gets below the resize that both contain. Ours are bytes, of which the tower makes the
numbers; the same as numbers are measured beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.harness import Against, Bound, Case, Run
from benchmarks.reference import BOUNDS, noise, peer_processor
from qwenvl.families import get_family
from qwenvl.processing.encode import ready_picture
from qwenvl.processing.patches import as_numbers

SIZES = ((1024, 768), (448, 448), (1920, 1080))
FAMILY = "qwen2_5_vl"
FLOOR = "PIL's resize alone"
AS_NUMBERS = "qwenvl, as numbers"
APART = "largest error"


def cases(quick: bool) -> Iterator[Case]:
    for width, height in SIZES[:1] if quick else SIZES:
        yield compare(width, height)


def compare(width: int, height: int) -> Case:
    """Of Qwen2.5-VL; Qwen2-VL's patches are the same."""
    spec, peer, fast, picture = get_family(FAMILY), peer_processor(), fast_processor(), noise(width, height)
    config = spec.presets[0].config
    _, rows, columns = ready_picture(config, spec, picture, "picture", *BOUNDS).grid
    size = columns * config.vision.patch_size, rows * config.vision.patch_size

    def ours() -> Any:
        return ready_picture(config, spec, picture, "picture", *BOUNDS, pixels=True).patches

    def numbers() -> Any:
        return ready_picture(config, spec, picture, "picture", *BOUNDS).patches

    def theirs() -> Any:
        return peer(picture, return_tensors="np")["pixel_values"]

    def resize() -> Image.Image:
        return picture.resize(size, Image.Resampling.BICUBIC)

    variants: dict[str, Run] = {"qwenvl": ours, AS_NUMBERS: numbers, "transformers PIL": theirs}
    against = [Against("qwenvl", "transformers PIL", 2.5, aim=4.0), Against(AS_NUMBERS, "transformers PIL")]
    if fast is not None:
        variants["transformers torchvision"] = lambda: fast(picture, return_tensors="pt")["pixel_values"]
        against.append(Against("qwenvl", "transformers torchvision"))
    floor = {} if picture.size == size else {FLOOR: resize}

    def figures() -> dict[str, float]:
        return {"MB": ours().nbytes / 1e6, "MB of the peer's": theirs().nbytes / 1e6, APART: apart()}

    def apart() -> float:
        """Numbers as they are made of pixels, and at once."""
        mine = as_numbers(ours(), config, spec)
        return max(float(np.abs(values - theirs()).max()) for values in (mine, numbers()))

    return Case(
        f"picture of {width} x {height} to patches", "picture", {**variants, **floor}, repeats=3, figures=figures,
        agreement=apart, against=against, bounds=[Bound(APART, at_most=1e-6)],
        floors={"qwenvl": FLOOR} if floor else {},
    )  # fmt: skip


def fast_processor() -> Any:
    """None where torchvision is missing, or does not fit this torch."""
    try:
        import torchvision  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

        return Qwen2VLImageProcessor(min_pixels=BOUNDS[0], max_pixels=BOUNDS[1])
    except Exception:  # whatever a package that does not fit raises
        return None
