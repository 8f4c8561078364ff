"""The one entry to attention: packed documents, pictures and a cache, on every device, with a slow reference beside it.

Tokens of several documents lie on one packed axis. A layout, made once per forward, says how that axis becomes rows of a
batch and who may attend to whom; every layer of a model shares it.

Shape letters: T packed tokens, N rows, L tokens of a row, S keys of a row, H heads, K kv heads, d head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class LayerCache(Protocol):
    """What attention needs of a cache: store this step's keys and values, give back all of the rows'."""

    keys: list[Tensor]
    values: list[Tensor]
    """Per layer (rows, K, slots, d)."""

    def append(self, layer: int, keys: Tensor, values: Tensor, layout: CachedLayout) -> tuple[Tensor, Tensor]:
        """Keys and values (T, K, d) of the new tokens -> those of whole rows, (N, K, S, d)."""
        ...


class TokenPiece(Protocol):
    """Of ranks that share out a row's tokens: this rank's t of the T tokens outside of attention, its H / n heads of all inside."""

    def to_heads(self, x: Tensor) -> Tensor:
        """(t, H, d) -> (T, H / n, d)"""
        ...

    def to_tokens(self, x: Tensor) -> Tensor:
        """(T, H / n, d) -> (t, H, d)"""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """The packed axis as N rows of L tokens. Without `gather` the axis already is N * L tokens, row by row.

    gather (N * L,) indexes the packed axis (padding repeats a row's first token); scatter (T,) indexes N * L.
    """

    count: int
    length: int
    gather: Tensor | None = None
    scatter: Tensor | None = None
    valid: Tensor | None = None
    """(N, L) bool, False on padding; None where there is none."""

    @classmethod
    def of(cls, lengths: Tensor, starts: Tensor | None = None) -> Rows:
        """Rows of these lengths (N,), lying one after the other on the packed axis, or each from its start (N,) on it; `join` then
        gives the tokens of these rows alone."""
        count = len(lengths)
        longest, total = (int(lengths.max()), int(lengths.sum())) if count else (0, 0)
        even = count * longest == total
        if even and starts is None:
            return cls(count, longest)
        column = torch.arange(longest, device=lengths.device)
        valid = column < lengths[:, None]
        if starts is None:
            starts = (lengths.cumsum(0) - lengths).clamp(max=max(total - 1, 0))  # a last row may be empty
        gather = (starts[:, None] + column * valid).flatten()
        if even:
            return cls(count, longest, gather)
        return cls(count, longest, gather, valid.flatten().nonzero().flatten(), valid)

    def split(self, x: Tensor) -> Tensor:
        """(T, ...) -> (N, L, ...)"""
        x = x if self.gather is None else x.index_select(0, self.gather)
        return x.unflatten(0, (self.count, self.length))

    def join(self, x: Tensor) -> Tensor:
        """(N, L, ...) -> (T, ...), padding dropped."""
        x = x.flatten(0, 1)
        return x if self.scatter is None else x.index_select(0, self.scatter)


MAX_PADDING = 2
"""Rows may have so many times the tokens that are in them."""


def group_rows(lengths: Tensor) -> tuple[list[Rows], Tensor | None]:
    """Documents of these lengths (N,), one after the other on the packed axis, as groups of rows, and the `order` of PackedLayout.

    As rows of one length, a long document among short ones would pad all of them to its own length. Where padding would more than
    double the tokens, documents are grouped by length, each group within a factor of two. Either way N rows of L tokens hold at
    most twice the documents' tokens t, so that their N L^2 scores are at most four times the sum of t^2 (Cauchy-Schwarz).
    """
    sizes = lengths.tolist()
    if len(sizes) * max(sizes, default=0) <= MAX_PADDING * sum(sizes):
        return [Rows.of(lengths)], None
    members: dict[int, list[int]] = {}
    for index, size in enumerate(sizes):
        members.setdefault((size - 1).bit_length(), []).append(index)
    starts = lengths.cumsum(0) - lengths
    chosen = [torch.tensor(indices, device=lengths.device) for indices in members.values()]
    groups = [Rows.of(lengths[indices], starts[indices]) for indices in chosen]
    # Where each of the groups' tokens, one group after the other, stands on the packed axis; argsort turns that round.
    tokens = torch.cat([rows.join(rows.split(torch.arange(sum(sizes), device=lengths.device))) for rows in groups])
    return groups, tokens.argsort()


@dataclass(frozen=True, slots=True)
class Pattern:
    """Rows for one call of the kernel, and who sees whom in them: each token what comes before it (`causal`), else the whole row.

    blocked, broadcastable to (N, H, L, S), is True where attention is forbidden. It is never given with `causal`: a kernel takes
    only one of the two.
    """

    rows: Rows
    causal: bool = False
    blocked: Tensor | None = None


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """Documents that attend within themselves, in groups of like length.

    order (T,): where on the groups' joint axis each packed token stands; None for a single group, which keeps the order.
    piece: how tokens are exchanged for heads, where several ranks have one packed axis together.
    """

    groups: tuple[Pattern, ...]
    order: Tensor | None = None
    piece: TokenPiece | None = None

    @classmethod
    def of(cls, document_ids: Tensor, branch_ids: Tensor | None = None) -> PackedLayout:
        """Causal documents. document_ids (T,) is non-decreasing; branch_ids (T,), if given, is 0 on a document's shared
        prefix, and tokens of branch b > 0 see the prefix and their own branch only."""
        groups, order = group_rows(torch.unique_consecutive(document_ids, return_counts=True)[1])
        return cls(tuple(_causal(rows, branch_ids) for rows in groups), order)

    @classmethod
    def full(cls, lengths: Tensor) -> PackedLayout:
        """Segments of these lengths (N,) within which everything sees everything: the patches of one picture."""
        groups, order = group_rows(lengths)
        return cls(tuple(_full(rows) for rows in groups), order)


def _full(rows: Rows) -> Pattern:
    return Pattern(rows, blocked=None if rows.valid is None else ~rows.valid[:, None, None, :])


def _causal(rows: Rows, branch_ids: Tensor | None) -> Pattern:
    # Padding stands at a row's end, where causality hides it from every real token.
    if branch_ids is None:
        return Pattern(rows, causal=True)
    branch = rows.split(branch_ids)
    seen = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    return Pattern(rows, blocked=~seen.tril()[:, None])


@dataclass(frozen=True, slots=True)
class CachedLayout:
    """New tokens of N rows, each row continuing what a cache holds of it.

    The pattern hides the cache's unused slots and what lies ahead. sequences (T,) and slots (T,) say where in the cache each new
    token is kept; `keys` is S. steps: there is one new token of each row, in the order of the rows, and it sees all that its row
    holds, which is what the pattern says too.
    """

    pattern: Pattern
    sequences: Tensor
    slots: Tensor
    keys: int
    steps: bool = False


Layout = PackedLayout | CachedLayout


def attention(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, *, cache: LayerCache | None = None, layer: int = 0
) -> Tensor:
    """q (T, H, d), k and v (T, K, d) -> (T, H, d), scaled by 1 / sqrt(d). K must divide H. With a layout's piece: its tokens."""
    if isinstance(layout, CachedLayout):
        if cache is None:
            raise ValueError("a cached layout needs its cache")
        keys, values = cache.append(layer, k, v, layout)
        return _attend(q, keys, values, layout.pattern)
    if layout.piece is not None:
        q, k, v = (layout.piece.to_heads(x) for x in (q, k, v))
    groups = []
    for pattern in layout.groups:
        keys, values = (pattern.rows.split(x).transpose(1, 2) for x in (k, v))
        groups.append(_attend(q, keys, values, pattern))
    out = groups[0] if layout.order is None else torch.cat(groups).index_select(0, layout.order)
    return out if layout.piece is None else layout.piece.to_tokens(out)


def _attend(q: Tensor, keys: Tensor, values: Tensor, pattern: Pattern) -> Tensor:
    """q (T, H, d) packed, keys and values (N, K, S, d) of the pattern's rows -> (tokens of these rows, H, d)."""
    out = batched_attention(pattern.rows.split(q).transpose(1, 2), keys, values, pattern.blocked, pattern.causal)
    return pattern.rows.join(out.transpose(1, 2))


PLAIN_KEYS = 512
"""Longest row for which three plain products beat the fused kernel's backward pass on the CPU, as measured by
`python -m benchmarks --only attention`."""

ROWS_SCORES, HEAD_SCORES = 1 << 20, 1 << 21
"""Scores that products in chunks hold at once: of several rows with all of their heads, and of one head, whose few large products
are worth leaving a core's own cache for. Measured at windows of 64 patches and pictures of 1,024 and 3,996."""

FEWEST_SCORES = 1 << 15
"""For fewer scores than these in all one call of the fused kernel costs less than several of products."""

FEWEST_QUERIES = 16
"""For fewer queries of a row, as in decoding, the fused kernel in float32 is the fastest, with what it costs to widen the keys and
values: in bfloat16 it takes two to ten times as long."""


def batched_attention(q: Tensor, k: Tensor, v: Tensor, blocked: Tensor | None = None, causal: bool = False) -> Tensor:
    """q (N, H, L, d), k and v (N, K, S, d), blocked broadcastable to (N, H, L, S) -> (N, H, L, d)."""
    trains = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    # On the CPU the fused kernel computes bfloat16 in float32; plain products use the bfloat16 units.
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        if trains and k.shape[2] <= PLAIN_KEYS:
            return _plain(q, k, v, blocked, causal)
        # Of causal scores the fused kernel computes only half, and is as fast.
        enough = q.shape[2] >= FEWEST_QUERIES and q.shape[:-1].numel() * k.shape[2] >= FEWEST_SCORES
        if enough and not trains and not causal:
            return _chunked(q, k, v, blocked)
        if not trains and q.shape[2] < FEWEST_QUERIES:
            return batched_attention(q.float(), k.float(), v.float(), blocked, causal).to(q.dtype)
    mask = None if blocked is None else ~blocked
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])


def _plain(q: Tensor, k: Tensor, v: Tensor, blocked: Tensor | None, causal: bool) -> Tensor:
    """Product, softmax, product."""
    if (groups := q.shape[1] // k.shape[1]) > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if causal:
        blocked = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    if blocked is not None:
        scores = scores.masked_fill(blocked, float("-inf"))
    return scores.softmax(-1) @ v


def _chunked(q: Tensor, k: Tensor, v: Tensor, blocked: Tensor | None) -> Tensor:
    """As `_plain`, with few scores at once: several rows with all of their heads where rows are short, as windows are, else some
    queries of one head. The result lies in memory as (N, L, H, d), which is how the next layer reads it."""
    (count, heads, length, _), keys = q.shape, k.shape[2]
    groups = heads // k.shape[1]
    out = q.new_empty(count, length, heads, v.shape[-1]).transpose(1, 2)
    if blocked is not None:
        blocked = blocked.expand(count, heads, length, keys)
    if together := ROWS_SCORES // (heads * length * keys):
        for start in range(0, count, together):
            rows = slice(start, start + together)
            out[rows] = _plain(q[rows], k[rows], v[rows], None if blocked is None else blocked[rows], causal=False)
        return out
    queries = max(HEAD_SCORES // keys, FEWEST_QUERIES)
    for row, head in product(range(count), range(heads)):
        own, own_keys, own_values = q[row, head] * q.shape[-1] ** -0.5, k[row, head // groups].t(), v[row, head // groups]
        for start in range(0, length, queries):
            part = slice(start, start + queries)
            scores = own[part] @ own_keys
            if blocked is not None:
                scores.masked_fill_(blocked[row, head, part], float("-inf"))
            out[row, head, part] = scores.softmax(-1) @ own_values
    return out


def reference_attention(
    q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor, branch_ids: Tensor | None = None, causal: bool = True
) -> Tensor:
    """The slow oracle of `attention` over packed documents: one token at a time, in float64."""
    q, k, v = q.double(), k.double(), v.double()
    groups = q.shape[1] // k.shape[1]
    out = torch.zeros_like(q)
    for i in range(len(q)):
        seen = [
            j
            for j in range(len(q))
            if document_ids[j] == document_ids[i]
            and (j <= i or not causal)
            and (branch_ids is None or branch_ids[j] == 0 or branch_ids[j] == branch_ids[i])
        ]
        for head in range(q.shape[1]):
            scores = k[seen, head // groups] @ q[i, head] / q.shape[-1] ** 0.5
            out[i, head] = scores.softmax(0) @ v[seen, head // groups]
    return out
