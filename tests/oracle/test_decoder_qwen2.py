"""The decoder against transformers' Qwen2 of equal shape: logits, gradients and cached steps."""

from __future__ import annotations

import pytest
import torch

from qwenvl.config import DecoderConfig
from qwenvl.inference.cache import KVCache
from qwenvl.models.attention import PackedLayout
from qwenvl.models.decoder import Decoder
from qwenvl.models.rope import rotary

CONFIG = DecoderConfig(
    vocab_size=97, hidden_size=64, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, trained_length=512, rope_theta=10000.0,
)


@pytest.fixture(scope="module")
def pair() -> tuple[Decoder, torch.nn.Module]:
    transformers = pytest.importorskip("transformers")
    peer = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            vocab_size=97, hidden_size=64, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            rms_norm_eps=1e-6, tie_word_embeddings=False, attn_implementation="eager",
        )
    ).eval()  # fmt: skip
    generator = torch.Generator().manual_seed(11)
    for parameter in peer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.15 + (parameter.dim() == 1)
    ours = Decoder(CONFIG)
    ours.load_state_dict({name.removeprefix("model."): value for name, value in peer.state_dict().items()})
    return ours.eval(), peer


def our_logits(decoder: Decoder, ids: torch.Tensor) -> torch.Tensor:
    table = rotary(torch.arange(len(ids)).expand(3, -1), CONFIG.head_dim, CONFIG.rope_theta)
    return decoder.logits(decoder(decoder.embed(ids), table, PackedLayout.of(torch.zeros_like(ids))))


def test_logits_equal_transformers(pair: tuple[Decoder, torch.nn.Module]) -> None:
    ours, peer = pair
    ids = torch.randint(0, 97, (41,), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = peer(ids[None]).logits[0]
        assert expected.std() > 0.5, "weights too small for a wrong path to show"
        torch.testing.assert_close(our_logits(ours, ids), expected, atol=1e-4, rtol=1e-4)


def test_gradients_equal_transformers(pair: tuple[Decoder, torch.nn.Module]) -> None:
    ours, peer = pair
    ids = torch.randint(0, 97, (23,), generator=torch.Generator().manual_seed(3))
    for model, logits in ((ours, our_logits(ours, ids)), (peer, peer(ids[None]).logits[0])):
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits[:-1], ids[1:]).backward()
    theirs = dict(peer.named_parameters())
    for name, parameter in ours.named_parameters():
        gradient = theirs[name if name.startswith("lm_head") else f"model.{name}"].grad
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_left_padded_batch_of_transformers_equals_our_ragged_cache(pair: tuple[Decoder, torch.nn.Module]) -> None:
    ours, peer = pair
    rows = [torch.randint(0, 97, (length,), generator=torch.Generator().manual_seed(length)) for length in (9, 4)]
    padded = torch.zeros(2, 9, dtype=torch.long)
    mask = torch.zeros(2, 9, dtype=torch.long)
    for i, row in enumerate(rows):
        padded[i, 9 - len(row) :], mask[i, 9 - len(row) :] = row, 1
    expected = peer(padded, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits[:, -1]
    cache = KVCache(CONFIG, 2, 16, dtype=torch.float32)
    positions = torch.cat([torch.arange(9), torch.arange(4)])
    table = rotary(positions.expand(3, -1), CONFIG.head_dim, CONFIG.rope_theta)
    hidden = ours(ours.embed(torch.cat(rows)), table, cache.extend([9, 4]), cache)
    torch.testing.assert_close(ours.logits(hidden[[8, 12]]), expected, atol=1e-4, rtol=1e-4)
