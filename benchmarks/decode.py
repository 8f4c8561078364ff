"""Text through a decoder of a third of a billion parameters: prefill and decode against transformers' Qwen2ForCausalLM.

Both have the same weights (the same storage even), so their outputs are compared too. Ours runs through the Session that answers
a chat. The peer is called directly with its own cache, without the further work of its `generate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Case
from qwenvl.config import DecoderConfig, ModelConfig, ResamplerConfig, VisionConfig
from qwenvl.inference.session import Session
from qwenvl.models.decoder import Decoder
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.types import Encoded

DECODER = DecoderConfig(
    vocab_size=32000, hidden_size=896, intermediate_size=3584, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=14,
    head_dim=64, tie_word_embeddings=True,
)  # fmt: skip
PREFILL, CONTEXT, STEPS = 256, 128, 8


def cases(quick: bool) -> Iterator[Case]:
    for dtype in (torch.float32,) if quick else (torch.float32, torch.bfloat16):
        yield from compare(dtype)


def compare(dtype: torch.dtype) -> Iterator[Case]:
    model = build(DECODER, dtype)
    peer = build_peer(model.decoder, dtype)
    name = str(dtype).removeprefix("torch.")
    ids = np.random.default_rng(0).integers(0, DECODER.vocab_size, PREFILL)

    def our_prefill() -> Tensor:
        return Session(model, [prompt(ids)], room=1).prefill()[0]

    @torch.inference_mode()
    def their_prefill() -> Tensor:
        return peer(input_ids=torch.from_numpy(ids)[None], logits_to_keep=1).logits[0, -1].float()

    yield Case(
        f"prefill of {PREFILL} tokens, {name}",
        "token",
        {"qwenvl": our_prefill, "transformers Qwen2": their_prefill},
        units=PREFILL,
        agreement=lambda: relative_difference(our_prefill(), their_prefill()),
    )

    start = {"input_ids": torch.from_numpy(ids[:CONTEXT])[None]}
    ours, theirs = OurSteps(model, prompt(ids[:CONTEXT]), ids.tolist()), TheirSteps(peer, start, ids.tolist())
    yield Case(
        f"decode after {CONTEXT} tokens, {name}",
        "token",
        {"qwenvl": ours, "transformers Qwen2": theirs},
        units=STEPS,
        agreement=lambda: relative_difference(ours.last, theirs.last),
    )


class OurSteps:
    """Each call decodes STEPS more tokens. Both sides choose greedily but are fed the same given tokens, so that in bfloat16, where
    two near-equal logits may swap, their outputs stay comparable. The prefill is not measured."""

    def __init__(self, model: VisionLanguageModel, prompt: Encoded, tokens: Sequence[int], room: int = 512) -> None:
        self.tokens = cycle(tokens)
        self.session = Session(model, [prompt], room=room)
        self.last = self.session.prefill()[0]

    def __call__(self) -> None:
        for _ in range(STEPS):
            int(self.last.argmax())
            self.last = self.session.step([next(self.tokens)])[0]


class TheirSteps:
    """next_position: of the first token, where the peer has to be told (one position on all three axes); None where it has not."""

    @torch.inference_mode()
    def __init__(self, peer: Any, start: dict[str, Any], tokens: Sequence[int], next_position: int | None = None) -> None:
        self.peer, self.next_position = peer, next_position
        self.tokens = cycle(tokens)
        output = peer(**start, use_cache=True, logits_to_keep=1)
        self.cache, self.last = output.past_key_values, output.logits[0, -1].float()

    @torch.inference_mode()
    def __call__(self) -> None:
        for _ in range(STEPS):
            int(self.last.argmax())
            token, place = torch.tensor([[next(self.tokens)]]), {}
            if self.next_position is not None:
                place = {"position_ids": torch.full((3, 1, 1), self.next_position)}
                self.next_position += 1
            output = self.peer(input_ids=token, past_key_values=self.cache, use_cache=True, **place)
            self.cache, self.last = output.past_key_values, output.logits[0, -1].float()


def build(decoder: DecoderConfig, dtype: torch.dtype) -> VisionLanguageModel:
    """A model with this decoder, and the least picture parts that a model can have. Random weights from a fixed seed."""
    vision = VisionConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1, image_size=28, position_grid=2,
        input_norm=True,
    )
    connector = ResamplerConfig(num_queries=4, hidden_size=decoder.hidden_size, num_attention_heads=1)
    ids = {"image_start_id": 1, "image_end_id": 2, "image_pad_id": 3}
    config = ModelConfig(family="qwen_vl", vision=vision, connector=connector, decoder=decoder, **ids)
    model = VisionLanguageModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.decoder.parameters():
        if parameter.ndim > 1:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model.to(dtype)


def build_peer(decoder: Decoder, dtype: torch.dtype) -> Any:
    """transformers' Qwen2ForCausalLM over the very tensors of `decoder`."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    ours = decoder.config
    config = Qwen2Config(
        vocab_size=ours.vocab_size, hidden_size=ours.hidden_size, intermediate_size=ours.intermediate_size,
        num_hidden_layers=ours.num_hidden_layers, num_attention_heads=ours.num_attention_heads,
        num_key_value_heads=ours.num_key_value_heads, rms_norm_eps=ours.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": ours.rope_theta}, tie_word_embeddings=True,
        max_position_embeddings=ours.max_position_embeddings, attn_implementation="sdpa",
    )  # fmt: skip
    peer = Qwen2ForCausalLM(config).to(dtype).eval()
    state = {f"model.{name}": tensor for name, tensor in decoder.state_dict().items()}
    state["lm_head.weight"] = decoder.embed_tokens.weight
    peer.load_state_dict(state, assign=True)
    return peer


def prompt(ids: Sequence[int] | np.ndarray[Any, Any]) -> Encoded:
    """A text-only Encoded of these ids."""
    ids = np.asarray(ids, dtype=np.int64)
    nothing = np.zeros((0, 3), np.int64)
    return Encoded(ids, ids, np.tile(np.arange(len(ids)), (3, 1)), np.zeros((0, 0), np.float32), nothing, nothing[:, 0])


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of logits over their largest size."""
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())
