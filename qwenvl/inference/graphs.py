"""A decode step as one CUDA graph: some hundred small kernels launched at once, where a device would wait for Python between them.

A graph has fixed shapes and fixed addresses. So a step's tokens, tables, slots and what each row may see are copied into tensors of
the graph's own before it is replayed. Rows are filled up to a power of two and keys to a multiple of BUCKET: graphs stay few.
They are made when first needed, and again when the cache has moved. Nothing else differs from the plain step, which is taken from
then on where a graph cannot be made.

N rows, S slots that are seen, L layers, d head_dim.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from qwenvl.inference.cache import KVCache
from qwenvl.models.attention import CachedLayout, Pattern, Rows
from qwenvl.models.rope import Rotary
from qwenvl.models.vlm import VisionLanguageModel

log = logging.getLogger("qwenvl.engine")

BUCKET = 256
"""Slots that are seen are a multiple of it, or all of the cache's."""
MOST = 32
"""Graphs kept; the longest unused goes first."""

Body = Callable[[], Tensor]
Capture = Callable[[Body], Body]
"""Makes of a step on fixed tensors one that does the same each time it is called."""


@dataclass(frozen=True, slots=True)
class _Graph:
    """The tensors that a captured step reads, and the step; it returns logits (N, vocab), which the next one overwrites."""

    tokens: Tensor
    table: Rotary
    slots: Tensor
    blocked: Tensor
    replay: Body


class StepGraphs:
    """Decode steps of one model, of one thread at a time, over whatever cache they are given. capture: `cuda_graph`, or for tests
    what calls the step as it is."""

    def __init__(self, model: VisionLanguageModel, capture: Capture) -> None:
        self.model, self.capture = model, capture
        self.fails = False
        """A graph could not be made: all steps are plain ones from then on."""
        self._held: OrderedDict[tuple[int, ...], _Graph] = OrderedDict()
        self._places: tuple[object, ...] = ()
        """Where the cache's layers lie in memory, and how: graphs of another place are of no use."""

    @classmethod
    def of(cls, model: VisionLanguageModel) -> StepGraphs | None:
        """None where there are no CUDA graphs."""
        device = model.decoder.embed_tokens.weight.device
        if device.type != "cuda":
            return None
        with torch.cuda.device(device):
            # One pool for all: what a graph has written is copied before another one runs.
            return cls(model, partial(cuda_graph, device=device, pool=torch.cuda.graph_pool_handle()))

    def step(self, cache: KVCache, tokens: Sequence[int], table: Rotary) -> Tensor | None:
        """Logits (N, vocab), float32, after one more token of each of the cache's sequences, whose lengths grow; None, and nothing
        done, where no graph can be made. table: of the N tokens. Raises ValueError as `KVCache.extend` does."""
        count, starts = len(tokens), list(cache.lengths)
        if max(starts) >= cache.capacity:
            raise ValueError(f"the cache holds {cache.capacity} tokens of a sequence; {max(starts) + 1} are needed")
        rows = min(1 << (count - 1).bit_length(), cache.rows)
        keys = min(-(-(max(starts) + 1) // BUCKET) * BUCKET, cache.capacity)
        graph = None if self.fails else self._graph(cache, rows, keys)
        if graph is None:
            return None
        device, free = graph.tokens.device, [0] * (rows - count)
        # A free row reads and writes its first slot, which whoever takes the row overwrites.
        graph.tokens.copy_(torch.tensor([*tokens, *free]))
        graph.slots.copy_(torch.tensor([*starts, *free]))
        torch.gt(torch.arange(keys, device=device), graph.slots[:, None, None, None], out=graph.blocked)
        graph.table.cos[:count].copy_(table.cos)
        graph.table.sin[:count].copy_(table.sin)
        if graph.table.query_scale is not None:
            graph.table.query_scale[:count].copy_(torch.ones(count) if table.query_scale is None else table.query_scale)
        logits = graph.replay()[:count].clone()
        cache.lengths = [start + 1 for start in starts]
        return logits

    def _graph(self, cache: KVCache, rows: int, keys: int) -> _Graph | None:
        places = tuple((held.data_ptr(), held.shape, held.stride()) for held in (*cache.keys, *cache.values))
        if places != self._places:
            self._held.clear()
            self._places = places
        if (rows, keys) not in self._held:
            try:
                self._held[rows, keys] = self._made(cache, rows, keys)
            except RuntimeError as error:  # what CUDA and torch raise here
                log.warning("decode steps are no CUDA graphs from now on: %s", " ".join(str(error).split()))
                self.fails = True
                self._held.clear()
                return None
            if len(self._held) > MOST:
                self._held.popitem(last=False)
        self._held.move_to_end((rows, keys))
        return self._held[rows, keys]

    def _made(self, cache: KVCache, rows: int, keys: int) -> _Graph:
        decoder, device = self.model.config.decoder, cache.keys[0].device
        tokens, slots = (torch.zeros(rows, dtype=torch.long, device=device) for _ in range(2))
        blocked = torch.ones(rows, 1, 1, keys, dtype=torch.bool, device=device)
        blocked[..., 0] = False
        cos, sin = torch.ones(rows, decoder.head_dim // 2, device=device), torch.zeros(rows, decoder.head_dim // 2, device=device)
        table = Rotary(cos, sin, torch.ones(rows, device=device) if decoder.use_logn_attn else None)
        layout = CachedLayout(Pattern(Rows(rows, 1), blocked=blocked), torch.arange(rows, device=device), slots, keys)

        def body() -> Tensor:
            hidden = self.model.decoder(self.model.decoder.embed(tokens), table, layout, cache)
            return self.model.logits(hidden).float()

        # Trying a step writes every row's first slot: what is there is put back, whatever happens.
        first = [held[:rows, :, :1].clone() for held in (*cache.keys, *cache.values)]
        try:
            replay = self.capture(body)
        finally:
            for held, was in zip((*cache.keys, *cache.values), first):
                held[:rows, :, :1] = was
        return _Graph(tokens, table, slots, blocked, replay)


_CAPTURING = threading.Lock()
"""A process captures one graph at a time."""


def cuda_graph(body: Body, device: torch.device, pool: Any = None) -> Body:
    """The body as a CUDA graph, run a few times before, so that what kernels set up at their first call is not in it."""
    with _CAPTURING, torch.cuda.device(device):
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                body()
        # What other threads do on the device meanwhile is no part of it, and no error.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            out = body()
        torch.cuda.current_stream().wait_stream(stream)

    def replay() -> Tensor:
        with torch.cuda.device(device):
            graph.replay()
        return out

    return replay
