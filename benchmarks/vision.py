"""C3: patches to visual tokens, through the tower and merger of Qwen2.5-VL, against transformers' with the same weights: 1,024 and
3,996 patches in bfloat16, 1,024 in float32, and four pictures of different sizes together.

Both begin with what their own processor makes of a picture. Positions and windows are worked out inside the measured calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmarks import reference
from benchmarks.decode import relative_difference
from benchmarks.first_token import vision_flops
from benchmarks.harness import Against, Case, Floor, Kept
from benchmarks.reference import SIZE, Size, noise, peer_processor, picture_prompt, random_ids
from qwenvl.inference.features import TensorCache, looks_of, visual_tokens

ONE, LARGE = ((448, 448),), ((1024, 768),)
MIXED = ((448, 252), (168, 560), (140, 140), (336, 336))
"""(width, height) of pictures together."""
GOALS = {"bfloat16": 1.5, "float32": 1.8}
AT_TINY_SIZE = {"size": reference.TINY}


def cases(quick: bool, size: Size = SIZE) -> Iterator[Case]:
    shapes = [("bfloat16", ONE), ("bfloat16", MIXED), ("bfloat16", LARGE), ("float32", ONE)]
    for dtype, pictures in shapes[:1] if quick else shapes:
        yield compare(dtype, pictures, size)


def compare(dtype: str, pictures: Sequence[tuple[int, int]], size: Size) -> Case:
    model, peer = reference.ours(None if dtype == "bfloat16" else dtype, size=size).model, reference.theirs(dtype, size)
    drawn = [noise(width, height, seed) for seed, (width, height) in enumerate(pictures)]
    prompt = picture_prompt(model.config, drawn, random_ids(2, size))
    looks = looks_of(model, prompt)
    seen = peer_processor()(drawn, return_tensors="pt")

    @torch.inference_mode()
    def ours() -> Tensor:
        return visual_tokens(model, prompt, looks, TensorCache(0))  # which keeps nothing

    @torch.inference_mode()
    def theirs() -> Tensor:
        tokens: Tensor = peer.model.visual(seen["pixel_values"].to(peer.dtype), grid_thw=seen["image_grid_thw"]).pooler_output
        return tokens

    grids = [(int(rows), int(columns)) for _, rows, columns in prompt.grids]
    patches = sum(rows * columns for rows, columns in grids)
    name = f"{patches} patches" + (f" of {len(grids)} pictures" if len(grids) > 1 else "")
    goal = GOALS[dtype] if pictures != MIXED else None
    mine, its = Kept(ours), Kept(theirs)
    return Case(
        f"{name}, {dtype}", "pass", {"qwenvl": mine, "transformers": its}, rounds=2 if patches > 2048 else 5,
        agreement=lambda: relative_difference(mine.last.float(), its.last.float()),
        floors={"qwenvl": Floor(flops=vision_flops(size, grids), dtype=dtype)}, against=[Against("qwenvl", "transformers", goal)],
    )  # fmt: skip
