"""C5: the first token of an answer, from a picture of 448 pixels in memory and 34 words to its choice, against transformers; and
from a text of 512 words, against llama.cpp too, which has no tower here.

transformers' `generate` is not used, whose further work would count against it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks import llama, reference
from benchmarks.decode import load, name_of, prompt, relative_difference
from benchmarks.harness import Against, Case, Floor, Kept, Run
from benchmarks.reference import SIZE, Size, noise, peer_inputs, peer_processor, picture_prompt, random_ids
from qwenvl.inference.session import Session

SIDE, WORDS, TEXT = 448, 34, 512
GOALS = {"bfloat16": 1.5, "float32": 2.0}
AT_TINY_SIZE = {"size": reference.TINY, "side": 112}


def cases(quick: bool, size: Size = SIZE, side: int = SIDE) -> Iterator[Case]:
    for dtype in ("bfloat16",) if quick else ("bfloat16", "float32"):
        yield of_picture(dtype, size, side)
        reference.forget()
    if not quick:
        yield of_text(size)


def of_picture(dtype: str, size: Size, side: int) -> Case:
    model = reference.ours(None if dtype == "bfloat16" else dtype, size=size)
    peer, processor, picture, words = reference.theirs(dtype, size), peer_processor(), noise(side, side), random_ids(WORDS, size)
    ids = picture_prompt(model.config, [picture], words).input_ids

    def ours() -> Tensor:
        logits = Session(model.model, [picture_prompt(model.config, [picture], words)], room=1).prefill()[0]
        int(logits.argmax())
        return logits

    @torch.inference_mode()
    def theirs() -> Tensor:
        seen = processor(picture, return_tensors="pt")
        peer.model.rope_deltas = None
        given = peer_inputs(model.config, ids, seen["pixel_values"], seen["image_grid_thw"])
        logits = peer(**given, use_cache=True, logits_to_keep=1).logits[0, -1].float()
        int(logits.argmax())
        return logits

    flops = text_flops(size, len(ids)) + vision_flops(size, [(side // 14, side // 14)])
    mine, its = Kept(ours), Kept(theirs)
    return Case(
        f"first token after a {side} px picture and {WORDS} words, {dtype}", "answer", {"qwenvl": mine, "transformers": its},
        rounds=3, agreement=lambda: relative_difference(mine.last, its.last), floors={"qwenvl": Floor(flops=flops, dtype=dtype)},
        against=[Against("qwenvl", "transformers", GOALS[dtype])],
    )  # fmt: skip


def of_text(size: Size) -> Case:
    ids, peer = random_ids(TEXT, size), reference.theirs(size=size)

    def begin(storage: str) -> Kept:
        model = load(storage, size)

        def run() -> Tensor:
            logits = Session(model.model, [prompt(ids)], room=1).prefill()[0]
            int(logits.argmax())
            return logits

        return Kept(run)

    @torch.inference_mode()
    def theirs() -> Tensor:
        logits = peer(input_ids=torch.from_numpy(ids)[None], use_cache=True, logits_to_keep=1).logits[0, -1].float()
        int(logits.argmax())
        return logits

    kinds = {"bfloat16": "bf16", "int8": "q8_0", "int4": "q4_0"}
    ours = {name_of(storage): begin(storage) for storage in kinds}
    its = Kept(theirs)
    variants: dict[str, Run] = {**ours, "transformers": its}
    against = [Against("qwenvl", "transformers"), *(Against(name, "transformers") for name in list(ours)[1:])]
    if llama.missing() is None:
        variants |= {f"llama.cpp {kind}": llama.Prefill(kind, [ids.tolist()], TEXT + 8, size) for kind in kinds.values()}
        against += [Against(name_of(storage), f"llama.cpp {kind}") for storage, kind in kinds.items()]
    return Case(
        f"first token after {TEXT} words", "answer", variants, rounds=3, against=against,
        agreement=lambda: relative_difference(ours["qwenvl"].last, its.last),
        floors={name: Floor(flops=text_flops(size, TEXT)) for name in ours},
    )  # fmt: skip


def text_flops(size: Size, tokens: int) -> float:
    """Of a prompt: all layers for every token, causal attention, and the head for the last one."""
    head = size.hidden * size.vocabulary
    attention = size.layers * 2 * tokens * tokens * size.hidden
    return 2.0 * tokens * (size.text_weights - head) + attention + 2 * head


def vision_flops(size: Size, grids: list[tuple[int, int]]) -> float:
    """Of pictures of so many patches a side: the tower, whose full blocks see a whole picture and the others 64 patches, and the
    merger. A still picture needs one of the two frames of a patch."""
    block = 4 * size.width**2 + 3 * size.width * size.vision_intermediate
    merger = (4 * size.width) ** 2 + 4 * size.width * size.hidden
    total = 0.0
    for rows, columns in grids:
        patches, full = rows * columns, len(size.full_blocks)
        seen = full * patches + (size.depth - full) * min(64, patches)
        total += 2 * patches * (size.depth * block + 3 * 14 * 14 * size.width) + 4 * patches * seen * size.width
        total += 2 * patches / 4 * merger
    return total
