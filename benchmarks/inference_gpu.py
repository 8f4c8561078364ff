"""Answers at full size on one GPU, benchmarks G1 to G6 and G11 of gpu.py, beside transformers in the same process: its attention
by torch, its growing cache, no compilation. Peers of Qwen2-VL and Qwen2.5-VL have our very tensors; Qwen-VL, which transformers
does not have, is stood in for by CLIPVisionModel and Qwen2ForCausalLM of its shapes.

Times are medians, by the clock, once the device is done. mbu: bytes of weights and cache that a step has to read, over the time, of
what the data sheet gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.decode import prompt
from benchmarks.gpu_peers import (
    STEPS,
    against,
    asked_tokens,
    ids_of,
    loaded,
    median_seconds,
    on_device,
    our_first,
    our_rate,
    peer_of,
    peer_rate,
    stand_in,
    their_batches,
    their_prompt,
    told,
)
from benchmarks.gpu_steps import Benchmark, clock, forget, peak_gib
from benchmarks.reference import noise, picture_prompt
from qwenvl.families import find_preset
from qwenvl.inference.engine import Engine
from qwenvl.inference.features import TensorCache, looks_of, visual_tokens
from qwenvl.inference.reply import Reply
from qwenvl.inference.requests import EngineLimits
from qwenvl.inference.sampling import GenerationOptions
from qwenvl.models.packed import quantise_for_inference
from qwenvl.runtime import resolve_device
from qwenvl.types import Encoded

PUBLISHED = {2048: 28.87, 8192: 24.32}
"""Tokens a second of Qwen-VL in bfloat16 on an A100, by the length at the end: README of QwenLM/Qwen-VL."""
FLOORS = {"tower, 1 picture": 5.2, "first token after 288": 10.1, "first token after 2048": 40.3}
"""Milliseconds on an H200: model FLOPs over 790 TFLOP/s, bytes over 4.3 TB/s."""


def qwen_vl_first(tiny: bool) -> dict[str, Any]:
    """G1."""
    config = find_preset("qwen-vl-nano" if tiny else "qwen-vl-7b").config
    model, (tower, decoder), parts = loaded(config), stand_in(config), {}
    device, side = model.device, config.vision.image_size or 448
    for pictures in (1, 2 if tiny else 16):
        asked = picture_prompt(config, [noise(side, side, seed) for seed in range(pictures)], ids_of(config, 2)[0])
        looks, pixels = looks_of(model.model, asked), torch.randn(pictures, 3, side, side).to(device, torch.bfloat16)
        with torch.inference_mode():
            mine = median_seconds(partial(visual_tokens, model.model, asked, looks, TensorCache(0)), device)
            theirs = median_seconds(partial(tower, pixel_values=pixels), device)
        name = f"tower, {pictures} picture{'s' * (pictures > 1)}"
        parts[name] = against(mine, theirs, None if tiny else FLOORS.get(name, FLOORS["tower, 1 picture"] * pictures))
    for length in (288, 2048):
        length = length // 4 if tiny else length
        words = length - 2 - asked_tokens(config)
        asked = picture_prompt(config, [noise(side, side)], ids_of(config, words)[0])
        mine = median_seconds(our_first(model, [asked]), device)
        with torch.inference_mode():
            given, pixels = on_device(ids_of(config, length)), torch.randn(1, 3, side, side).to(device, torch.bfloat16)

            def theirs_first(given: Any = given, pixels: Tensor = pixels) -> object:
                tower(pixel_values=pixels)
                return int(decoder(**given, use_cache=True, logits_to_keep=1).logits[0, -1].argmax())

            name = f"first token after {length}"
            parts[name] = against(mine, median_seconds(theirs_first, device), None if tiny else FLOORS[name])
    return {"parts": parts}


def qwen_vl_decoding(tiny: bool) -> dict[str, Any]:
    """G2. The longest context is that of the longest answer published."""
    config = find_preset("qwen-vl-nano" if tiny else "qwen-vl-7b").config
    model, parts = loaded(config), {}
    contexts = (64, 128) if tiny else (512, 2048, 8192 - 3 * STEPS)
    for context in contexts:
        forget(model.device)
        parts[f"context {context}"] = told(model, our_rate(model, [prompt(ids_of(config, context)[0])]), context)
    del model
    forget(resolve_device())
    _, decoder = stand_in(config)
    for context in contexts:
        found = parts[f"context {context}"]
        found["times_peer"] = peer_rate(decoder, on_device(ids_of(config, context))) * 1e3 / found["ms"]
        anchor = next((rate for length, rate in PUBLISHED.items() if length - 200 < context <= length), None)
        found["times_published"] = None if anchor is None else found["tokens_per_s"] / anchor
    return {"parts": parts}


def qwen_vl_stored(tiny: bool) -> dict[str, Any]:
    """G3."""
    config = find_preset("qwen-vl-nano" if tiny else "qwen-vl-7b").config
    parts, context = {}, 64 if tiny else 512
    storages: tuple[Literal["bfloat16", "int8", "int4"], ...] = ("bfloat16", "int8", "int4")
    for storage in storages:
        model = loaded(config)
        if storage != "bfloat16":
            quantise_for_inference(model.model, storage)
        forget(model.device)
        parts[storage] = told(model, our_rate(model, [prompt(ids_of(config, context)[0])]), context)
        parts[storage]["times_bfloat16"] = parts["bfloat16"]["ms"] / parts[storage]["ms"]
        del model
    return {"parts": parts}


def native(preset: str, sizes: Sequence[tuple[int, int]], batches: Sequence[int], context: int) -> dict[str, Any]:
    """The first token after a picture, and steps of so many answers, with transformers over the same tensors."""
    config = find_preset(preset).config
    peer = peer_of(config)
    model, parts = loaded(config, peer), {}
    device = model.device
    for size in sizes:
        asked = picture_prompt(config, [noise(*size)], ids_of(config, 32)[0])
        given = their_prompt(peer, asked, model)

        @torch.inference_mode()
        def theirs(given: dict[str, Any] = given) -> int:
            peer.model.rope_deltas = None
            return int(peer(**given, use_cache=True, logits_to_keep=1).logits[0, -1].argmax())

        mine = median_seconds(our_first(model, [asked]), device, 3)
        parts[f"first token after {size[0]} x {size[1]}"] = against(mine, median_seconds(theirs, device, 3))
    for rows in batches:
        ids = ids_of(config, context, rows)
        forget(device)
        seconds = our_rate(model, [prompt(row) for row in ids])
        peer.model.rope_deltas = None
        parts[f"decoding {rows}"] = told(model, seconds, context, rows, peer_rate(peer, on_device(ids)))
    return {"parts": parts}


def seven_billion(tiny: bool) -> dict[str, Any]:
    """G4. The second picture has 4,000 visual tokens."""
    if tiny:
        return native("qwen2.5-vl-nano", ((112, 84),), (1, 2), 64)
    return native("qwen2.5-vl-7b", ((1036, 756), (1792, 1792)), (1, 32), 1024)


def smaller(tiny: bool) -> dict[str, Any]:
    """G5."""
    presets = ("qwen2.5-vl-nano", "qwen2-vl-nano") if tiny else ("qwen2.5-vl-3b", "qwen2-vl-2b")
    parts: dict[str, Any] = {}
    for preset in presets:
        found = native(preset, (), (1, 2) if tiny else (1, 32), 64 if tiny else 1024)
        parts |= {f"{preset}, {name}": part for name, part in found["parts"].items()}
        forget(resolve_device())
    return {"parts": parts}


def large_pictures(tiny: bool) -> dict[str, Any]:
    """G6. 16,384 patches through a tower of windows, and through one that always sees the whole picture."""
    parts = {}
    presets = ("qwen2.5-vl-nano", "qwen2-vl-nano") if tiny else ("qwen2.5-vl-3b", "qwen2-vl-2b")
    for preset, name in zip(presets, ("windows", "all of it")):
        config = find_preset(preset).config
        peer = peer_of(config)
        model = loaded(config, peer)
        asked = picture_prompt(config, [noise(*((112, 84) if tiny else (1792, 1792)))], ids_of(config, 2)[0])
        looks, given = looks_of(model.model, asked), their_prompt(peer, asked, model)
        with torch.inference_mode():
            mine = median_seconds(partial(visual_tokens, model.model, asked, looks, TensorCache(0)), model.device)
            theirs = median_seconds(
                partial(peer.model.visual, given["pixel_values"], grid_thw=given["image_grid_thw"]), model.device
            )
        parts[name] = against(mine, theirs, None if tiny else {"windows": 34.0, "all of it": 82.0}[name])
        del model, peer, given
        forget(resolve_device())
    return {"parts": parts}


def serving(tiny: bool) -> dict[str, Any]:
    """G11. Requests with pictures of four sizes, all at once, from pixels; one after another; transformers in padded batches."""
    config = find_preset("qwen2.5-vl-nano" if tiny else "qwen2.5-vl-3b").config
    peer = peer_of(config)
    model, device = loaded(config, peer), resolve_device()
    requests, answer = (6, 4) if tiny else (64, 64)
    sizes = ((56, 56), (84, 56), (112, 84), (56, 112)) if tiny else ((448, 448), (672, 448), (1024, 768), (300, 400))
    options = GenerationOptions(max_new_tokens=answer, min_new_tokens=answer, stop_loops=False)
    pictures = [noise(*sizes[number % len(sizes)], seed=number) for number in range(requests)]

    def ask(number: int) -> Encoded:
        return picture_prompt(config, [pictures[number]], ids_of(config, 16 + number % 5)[0])

    def all_at_once() -> int:
        engine = Engine(model, EngineLimits(running=requests))
        tickets = [engine.submit(ask(number), options) for number in range(requests)]
        done = sum(len(reply.tokens) for ticket in tickets for reply in ticket if isinstance(reply, Reply))
        engine.close()
        return done

    all_at_once()
    start = clock(device)
    tokens = all_at_once()
    together = clock(device) - start
    some = max(requests // 8, 1)
    start = clock(device)
    for number in range(some):
        model.generate([ask(number)], options)
    alone = (clock(device) - start) / some * requests
    theirs = their_batches(peer, model, [ask(number) for number in range(requests)], answer)
    return {
        "ms": together * 1e3, "requests_per_s": requests / together, "tokens_per_s": tokens / together,
        "times_sequential": alone / together, "times_peer": theirs / together, "peak_gib": peak_gib(device),
    }  # fmt: skip


BENCHMARKS = {
    "G2": Benchmark(90, "Qwen-VL decoding one answer", qwen_vl_decoding),
    "G4": Benchmark(100, "Qwen2.5-VL-7B, 1,024 tokens before each answer", seven_billion),
    "G1": Benchmark(70, "Qwen-VL from pixels", qwen_vl_first),
    "G3": Benchmark(80, "Qwen-VL decoding one answer, weights stored in fewer bits", qwen_vl_stored),
    "G5": Benchmark(80, "Qwen2.5-VL-3B and Qwen2-VL-2B decoding", smaller),
    "G6": Benchmark(60, "16,384 patches to visual tokens", large_pictures),
    "G11": Benchmark(90, "64 requests with pictures at Qwen2.5-VL-3B, 64 tokens each", serving),
}  # fmt: skip
