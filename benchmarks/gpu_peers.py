"""What benchmarks of answers on a GPU share: models of random weights, their peers in transformers, and how long they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_steps import build, clock, peak_gib
from benchmarks.reference import ours_over
from qwenvl.config import ModelConfig
from qwenvl.families import get_family
from qwenvl.families.spec import Markup
from qwenvl.inference.model import QwenVL
from qwenvl.inference.session import Session
from qwenvl.processing.patches import as_numbers
from qwenvl.runtime import resolve_device
from qwenvl.types import Encoded

BANDWIDTH = {"A100": 2.0e12, "H100 PCIe": 2.0e12, "H100": 3.35e12, "H200": 4.8e12}
"""Bytes a second, NVIDIA's data sheets, by what torch calls the GPU."""
STEPS = 32


def median_seconds(run: Callable[[], object], device: torch.device, rounds: int = 5) -> float:
    run()
    found = []
    for _ in range(rounds):
        start = clock(device)
        run()
        found.append(clock(device) - start)
    return median(found)


def loaded(config: ModelConfig, peer: Any = None) -> QwenVL:
    """As `qwenvl.load` would have it: of the peer's tensors, or of random ones."""
    model = (build(config, resolve_device()) if peer is None else ours_over(peer)).eval().requires_grad_(False)
    return QwenVL(model, get_family(config.family), Markup(), name="random")


def peer_of(config: ModelConfig) -> Any:
    """transformers' Qwen2-VL or Qwen2.5-VL in bfloat16, its weights drawn on the device."""
    import transformers

    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL"}[config.family]
    known = getattr(transformers, f"{name}Config").from_dict(get_family(config.family).write_config(config))
    torch.manual_seed(0)
    device = resolve_device()
    with torch.device(device):
        peer = getattr(transformers, f"{name}ForConditionalGeneration")._from_config(known, dtype=torch.bfloat16)
    return peer.to(device).eval().requires_grad_(False)


def stand_in(config: ModelConfig) -> tuple[Any, Any]:
    """A tower and a decoder of Qwen-VL's shapes."""
    import transformers

    vision, decoder, device = config.vision, config.decoder, resolve_device()
    tower = transformers.CLIPVisionConfig(
        hidden_size=vision.hidden_size, intermediate_size=vision.intermediate_size, num_hidden_layers=vision.num_hidden_layers,
        num_attention_heads=vision.num_attention_heads, patch_size=vision.patch_size, image_size=vision.image_size or 448,
    )  # fmt: skip
    text = transformers.Qwen2Config(
        vocab_size=decoder.vocab_size, hidden_size=decoder.hidden_size, intermediate_size=decoder.intermediate_size,
        num_hidden_layers=decoder.num_hidden_layers, num_attention_heads=decoder.num_attention_heads,
        num_key_value_heads=decoder.num_key_value_heads, max_position_embeddings=decoder.max_position_embeddings,
    )  # fmt: skip
    with torch.device(device):
        kinds = (transformers.CLIPVisionModel, tower), (transformers.Qwen2ForCausalLM, text)
        made = [kind._from_config(shape, dtype=torch.bfloat16, attn_implementation="sdpa") for kind, shape in kinds]
    return made[0].eval().requires_grad_(False), made[1].eval().requires_grad_(False)


def our_first(model: QwenVL, prompts: Sequence[Encoded]) -> Callable[[], object]:
    return lambda: Session(model.model, prompts, room=1).prefill().argmax(dim=-1).tolist()


def our_rate(model: QwenVL, prompts: Sequence[Encoded]) -> float:
    """Seconds of a step, after some that are not measured, in which graphs are made."""
    session = Session(model.model, prompts, room=3 * STEPS)
    device = model.device
    tokens = session.prefill().argmax(dim=-1).tolist()
    seconds = []
    for _ in range(2):
        start = clock(device)
        for _ in range(STEPS):
            tokens = session.step(tokens).argmax(dim=-1).tolist()
        seconds.append((clock(device) - start) / STEPS)
    return seconds[-1]


@torch.inference_mode()
def peer_rate(peer: Any, given: dict[str, Any], steps: int = STEPS // 2) -> float:
    device = next(peer.parameters()).device
    output = peer(**given, use_cache=True, logits_to_keep=1)
    start = clock(device)
    for number in range(steps + 4):
        if number == 4:
            start = clock(device)
        token = output.logits[:, -1:].argmax(dim=-1)
        output = peer(input_ids=token, past_key_values=output.past_key_values, use_cache=True)
    return (clock(device) - start) / steps


def ids_of(config: ModelConfig, length: int, rows: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, config.image_start_id - 300, (rows, length))


def on_device(ids: np.ndarray[Any, Any]) -> dict[str, Tensor]:
    return {"input_ids": torch.from_numpy(ids).to(resolve_device())}


def told(model: QwenVL, seconds: float, context: int, rows: int = 1, peer: float | None = None) -> dict[str, Any]:
    """Of a step of decoding."""
    config, decoder = model.config.decoder, model.model.decoder
    tensors = [*decoder.parameters(), *decoder.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if not config.tie_word_embeddings:
        weights -= decoder.embed_tokens.weight.nbytes
    cache = rows * context * config.num_hidden_layers * 2 * config.num_key_value_heads * config.head_dim * 2
    name = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else ""
    bandwidth = next((value for key, value in BANDWIDTH.items() if key in name), None)
    return {
        "ms": seconds * 1e3, "tokens_per_s": rows / seconds, "peak_gib": peak_gib(model.device),
        "mbu": None if bandwidth is None else (weights + cache) / seconds / bandwidth,
        "times_peer": None if peer is None else peer / seconds,
    }  # fmt: skip


def against(seconds: float, peer: float | None, floor: float | None = None) -> dict[str, Any]:
    """Of anything else. floor: milliseconds."""
    return {
        "ms": seconds * 1e3, "times_peer": None if peer is None else peer / seconds,
        "times_floor": None if floor is None else seconds * 1e3 / floor,
    }  # fmt: skip


def asked_tokens(config: ModelConfig) -> int:
    """Visual tokens of a picture of the family's own square."""
    side = (config.vision.image_size or 448) // config.vision.patch_size
    return get_family(config.family).visual_tokens(config, (1, side, side))


def their_prompt(peer: Any, asked: Encoded, model: QwenVL) -> dict[str, Any]:
    ids = torch.from_numpy(asked.input_ids)[None]
    patches = torch.from_numpy(as_numbers(asked.patches, model.config, model.spec))
    device = model.device
    return {
        "input_ids": ids.to(device), "mm_token_type_ids": (ids == peer.config.image_token_id).int().to(device),
        "pixel_values": patches.to(device, torch.bfloat16), "image_grid_thw": torch.from_numpy(asked.grids).to(device),
    }  # fmt: skip


@torch.inference_mode()
def their_batches(peer: Any, model: QwenVL, prompts: Sequence[Encoded], answer: int, rows: int = 16) -> float:
    """Seconds of `generate` on padded batches of so many rows."""
    device = model.device
    start = clock(device)
    for first in range(0, len(prompts), rows):
        part = prompts[first : first + rows]
        longest = max(map(len, part))
        padded = [np.pad(one.input_ids, (longest - len(one), 0)) for one in part]
        mask = [np.pad(np.ones(len(one), np.int64), (longest - len(one), 0)) for one in part]
        ids = torch.from_numpy(np.stack(padded)).to(device)
        patches = np.concatenate([as_numbers(one.patches, model.config, model.spec) for one in part])
        peer.model.rope_deltas = None
        peer.generate(
            input_ids=ids, attention_mask=torch.from_numpy(np.stack(mask)).to(device),
            mm_token_type_ids=(ids == peer.config.image_token_id).int(),
            pixel_values=torch.from_numpy(patches).to(device, torch.bfloat16),
            image_grid_thw=torch.from_numpy(np.concatenate([one.grids for one in part])).to(device), do_sample=False,
            max_new_tokens=answer, min_new_tokens=answer, pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
    return clock(device) - start
