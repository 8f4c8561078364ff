"""Attention against its slow reference: packed documents, branches, pictures, grouped heads, and the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from qwenvl.config import DecoderConfig
from qwenvl.inference.cache import KVCache
from qwenvl.models import attention as module
from qwenvl.models.attention import PackedLayout, attention, batched_attention, reference_attention
from qwenvl.models.decoder import Decoder
from qwenvl.models.rope import rotary

UNEVEN = [0] * 5 + [1] * 3 + [2] * 7
EVEN = [0] * 4 + [1] * 4
BRANCHES = [0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 2, 2, 3]


def heads(tokens: int, count: int, grad: bool = False) -> torch.Tensor:
    return torch.randn(tokens, count, 8, generator=torch.Generator().manual_seed(tokens * 31 + count)).requires_grad_(grad)


@pytest.mark.parametrize("grad", [False, True], ids=["fused", "plain"])
@pytest.mark.parametrize("kv_heads", [4, 2], ids=["mha", "gqa"])
@pytest.mark.parametrize("documents", [UNEVEN, EVEN, [0] * 6], ids=["uneven", "even", "one"])
def test_packed_documents_equal_the_reference(documents: list[int], kv_heads: int, grad: bool) -> None:
    ids = torch.tensor(documents)
    q, k, v = heads(len(ids), 4, grad), heads(len(ids), kv_heads, grad) * 1.1, heads(len(ids), kv_heads, grad) * 0.9
    ours = attention(q, k, v, PackedLayout.of(ids))
    torch.testing.assert_close(ours, reference_attention(q, k, v, ids).float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grad", [False, True], ids=["fused", "plain"])
def test_branches_see_the_shared_prefix_and_themselves_only(grad: bool) -> None:
    ids, branches = torch.tensor(UNEVEN), torch.tensor(BRANCHES)
    q, k, v = heads(15, 4, grad), heads(15, 4, grad) + 0.1, heads(15, 4, grad) - 0.1
    ours = attention(q, k, v, PackedLayout.of(ids, branches))
    torch.testing.assert_close(ours, reference_attention(q, k, v, ids, branches).float(), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, reference_attention(q, k, v, ids).float(), atol=1e-3)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2], ids=["mha", "gqa"])
@pytest.mark.parametrize("limits", [(2**20, 2**21), (3 * 4 * 48 * 48, 1), (1, 20 * 48)], ids=["whole", "by rows", "by queries"])
def test_bfloat16_in_chunks_on_the_cpu_is_what_the_fused_kernel_gives(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], kv_heads: int, masked: bool
) -> None:
    """However the scores are cut: 8 rows of 4 heads and 48 tokens, in the last rows with padding."""
    monkeypatch.setattr(module, "ROWS_SCORES", limits[0])
    monkeypatch.setattr(module, "HEAD_SCORES", limits[1])
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(8, 48, count, 16, generator=generator).transpose(1, 2) for count in (4, kv_heads, kv_heads))
    blocked = torch.arange(48) >= torch.tensor([48] * 5 + [40, 20, 1])[:, None, None, None] if masked else None
    expected = batched_attention(q, k, v, blocked)
    halves = [x.bfloat16() for x in (q, k, v)]
    assert halves[0].shape[:-1].numel() * 48 >= module.FEWEST_SCORES
    found = batched_attention(*halves, blocked)
    assert found.dtype is torch.bfloat16 and found.transpose(1, 2).is_contiguous()
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0)
    each = [[None if x is None else x[row : row + 1] for x in (q, k, v, blocked)] for row in range(8)]
    alone = torch.cat([batched_attention(*parts) for parts in each])  # type: ignore[arg-type]
    torch.testing.assert_close(alone, expected, atol=1e-6, rtol=0)


SEGMENTS = [[5, 3, 7], [4, 4], [1, 40, 2, 1, 3, 40, 2, 9, 1, 1], [1, 1, 1, 1, 33]]


def documents_of(lengths: Sequence[int]) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))


def branches_of(lengths: Sequence[int]) -> torch.Tensor:
    """Of every document a prefix of three tokens, then branches of three."""
    return torch.cat([torch.arange(length) // 3 for length in lengths])


LAYOUTS: dict[str, Callable[[Sequence[int]], PackedLayout]] = {
    "texts": lambda lengths: PackedLayout.of(documents_of(lengths)),
    "branches": lambda lengths: PackedLayout.of(documents_of(lengths), branches_of(lengths)),
    "pictures": lambda lengths: PackedLayout.full(torch.tensor(lengths)),
}


@pytest.mark.parametrize("lengths", SEGMENTS)
def test_pictures_attend_freely_within_themselves(lengths: list[int]) -> None:
    ids = documents_of(lengths)
    q, k, v = heads(len(ids), 4), heads(len(ids), 4) + 0.1, heads(len(ids), 4) - 0.1
    ours = attention(q, k, v, PackedLayout.full(torch.tensor(lengths)))
    torch.testing.assert_close(ours, reference_attention(q, k, v, ids, causal=False).float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("lengths", [*SEGMENTS, [2048, *[16] * 200], [64] * 40 + [16] * 3, [8] * 30 + [300, 299, 1]])
def test_padding_at_most_doubles_the_tokens_and_masks_at_most_quadruple_the_scores(lengths: list[int], kind: str) -> None:
    """A long document among short ones does not pad them to its own length."""
    groups = LAYOUTS[kind](lengths).groups
    sizes = [(group.rows.count, group.rows.length) for group in groups]
    assert sum(count for count, _ in sizes) == len(lengths)
    assert sum(count * length for count, length in sizes) <= 2 * sum(lengths)
    scores = 4 * sum(length**2 for length in lengths)
    assert sum(count * length**2 for count, length in sizes) <= scores
    assert sum(group.blocked.numel() for group in groups if group.blocked is not None) <= (0 if kind == "texts" else scores)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["fused", "plain"])
@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("lengths", [[8] * 20 + [150] + [5] * 20, [1, 40, 2, 1, 3, 40, 2, 9, 1, 1]])
def test_a_long_document_among_short_ones_equals_each_alone(lengths: list[int], kind: str, dtype: torch.dtype) -> None:
    """Values, and the gradients of queries, keys and values."""
    layout = LAYOUTS[kind](lengths)
    assert len(layout.groups) > 1
    generator = torch.Generator().manual_seed(1)
    q, k, v, weights = (torch.randn(sum(lengths), count, 8, generator=generator).to(dtype) for count in (4, 2, 2, 4))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    packed = attention(q, k, v, layout)
    pieces = zip(*(x.split(lengths) for x in inputs), lengths, strict=True)
    alone = torch.cat([attention(*piece, LAYOUTS[kind]([length])) for *piece, length in pieces])
    found, expected = (torch.autograd.grad((out * weights).sum(), inputs) for out in (packed, alone))
    tolerance = 1e-10 if dtype == torch.float64 else 0.05
    for one, other in zip((packed, *found), (alone, *expected), strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


def random_decoder() -> Decoder:
    config = DecoderConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, trained_length=64,
    )
    decoder = Decoder(config).eval()
    generator = torch.Generator().manual_seed(5)
    for parameter in decoder.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.dim() > 1 else 1.0)
    return decoder


def whole(decoder: Decoder, ids: torch.Tensor) -> torch.Tensor:
    table = rotary(torch.arange(len(ids)).expand(3, -1), 8, 1e4)
    return decoder(decoder.embed(ids), table, PackedLayout.of(torch.zeros(len(ids), dtype=torch.long)))


@torch.no_grad()
def test_cache_equals_no_cache_in_chunks_of_uneven_sequences() -> None:
    decoder = random_decoder()
    a, b = torch.arange(11) % 50, (torch.arange(6) * 7) % 50
    cache = KVCache(decoder.config, 2, 16, dtype=torch.float32)
    done, pieces = [0, 0], ([], [])
    for take in ([5, 2], [1, 1], [4, 0], [1, 3]):  # prefill, decode, one sequence waits, chunk
        parts = [ids[start : start + count] for ids, start, count in zip((a, b), done, take, strict=True)]
        positions = torch.cat([torch.arange(start, start + count) for start, count in zip(done, take, strict=True)])
        out = decoder(decoder.embed(torch.cat(parts)), rotary(positions.expand(3, -1), 8, 1e4), cache.extend(take), cache)
        for piece, row in zip(pieces, out.split(take), strict=True):
            piece.append(row)
        done = [start + count for start, count in zip(done, take, strict=True)]
    for ids, piece in zip((a, b), pieces, strict=True):
        torch.testing.assert_close(torch.cat(piece), whole(decoder, ids), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_cache_refuses_to_overflow_and_keeps_chosen_sequences() -> None:
    decoder = random_decoder()
    cache = KVCache(decoder.config, 2, 4, dtype=torch.float32)
    cache.extend([3, 1])
    with pytest.raises(ValueError, match="holds 4 tokens"):
        cache.extend([2, 0])


@torch.no_grad()
def test_packed_equals_separate() -> None:
    decoder = random_decoder()
    a, b = torch.arange(11) % 50, (torch.arange(6) * 7) % 50
    ids = torch.tensor([0] * 11 + [1] * 6)
    positions = torch.cat([torch.arange(11), torch.arange(6)])
    packed = decoder(decoder.embed(torch.cat([a, b])), rotary(positions.expand(3, -1), 8, 1e4), PackedLayout.of(ids))
    torch.testing.assert_close(packed, torch.cat([whole(decoder, a), whole(decoder, b)]), atol=1e-5, rtol=1e-5)
