"""C2: JPEG files of many sizes to patches, as a loader of data does it, against PIL and transformers' image processor. Nobody gets
below decoding and resizing."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from benchmarks.harness import Against, Bound, Case
from benchmarks.pictures import FAMILY
from benchmarks.reference import BOUNDS, peer_processor, photo
from qwenvl.families import get_family
from qwenvl.processing.encode import ready_picture
from qwenvl.processing.image import open_image

COUNT = 100
AT_TINY_SIZE = {"count": 20}
DRAWN = 10
"""Different pictures among the files."""
WIDE = ((640, 480), (1024, 768), (800, 600), (512, 512), (480, 640), (768, 1024), (1280, 720), (300, 400), (640, 427), (500, 375))
FLOOR = "decoding and resizing alone"


def cases(quick: bool, count: int = COUNT) -> Iterator[Case]:
    spec, peer = get_family(FAMILY), peer_processor()
    config = spec.presets[0].config
    drawn = [jpeg(*WIDE[number], number) for number in range(DRAWN)]
    files = [drawn[number % DRAWN] for number in range(count // 10 if quick else count)]
    grids = [ready_picture(config, spec, file, "picture", *BOUNDS).grid for file in drawn]
    patch = config.vision.patch_size

    def ours() -> None:
        for file in files:
            ready_picture(config, spec, file, "picture", *BOUNDS, pixels=True)

    def theirs() -> None:
        for file in files:
            peer(Image.open(io.BytesIO(file)).convert("RGB"), return_tensors="np")

    def floor() -> None:
        for number, file in enumerate(files):
            _, rows, columns = grids[number % DRAWN]
            open_image(file).resize((columns * patch, rows * patch), Image.Resampling.BICUBIC)

    yield Case(
        f"{len(files)} JPEG files of {len(set(WIDE))} sizes to patches", "picture",
        {"qwenvl": ours, "PIL and transformers": theirs, FLOOR: floor}, len(files), rounds=3,
        against=[Against("qwenvl", "PIL and transformers", 2.5)], floors={"qwenvl": FLOOR},
        bounds=[Bound("qwenvl", at_most=12.5, unit="ms, 80 pictures a second")],
        figures=lambda: {"megapixels of a file": float(np.mean([width * height for width, height in WIDE])) / 1e6},
    )  # fmt: skip


def jpeg(width: int, height: int, seed: int) -> bytes:
    file = io.BytesIO()
    photo(width, height, seed).save(file, "JPEG", quality=90)
    return file.getvalue()
