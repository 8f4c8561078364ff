"""What a forward and a backward pass compute: products of matrices and attention, counted from a configuration and lengths.

Counted are model FLOPs, a multiplication and an addition being two: nothing twice that is made again for want of memory (arXiv
2204.02311, appendix B), and of a causal document of L tokens the L (L + 1) / 2 pairs that matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np

from qwenvl.config import ModelConfig, ResamplerConfig
from qwenvl.models.lora import plain_name
from qwenvl.processing.grid import window_plan
from qwenvl.train.planning.operations import Attended, Operation, Product, operations
from qwenvl.train.sections import ObjectiveRecipe
from qwenvl.types import IGNORE_INDEX

if TYPE_CHECKING:
    from torch import nn

    from qwenvl.types import Batch


@dataclass(frozen=True, slots=True)
class Work:
    """Lengths that a forward pass deals with. Those of two passes add up, but for the longest ones, of which the longer counts."""

    tokens: float = 0
    pairs: float = 0
    """Tokens of documents, each with every token that it sees, itself included."""
    supervised: float = 0
    patches: float = 0
    frame_pairs: float = 0
    """Patches with those of the same frame."""
    window_pairs: float = 0
    """Patches with those of the same window; as many as of frames, for a tower without windows."""
    visual: float = 0
    """Visual tokens."""
    passes: float = 0
    """Forward passes with pictures in them."""
    longest: float = 0
    longest_frame: float = 0

    def __add__(self, other: Work) -> Work:
        mine, its = asdict(self), asdict(other)
        return Work(**{name: max(mine[name], its[name]) if name in LONGEST else mine[name] + its[name] for name in mine})

    def times(self, factor: float) -> Work:
        return Work(**{name: value if name in LONGEST else factor * value for name, value in asdict(self).items()})


LONGEST = ("longest", "longest_frame")


def work_of(
    config: ModelConfig, lengths: Sequence[int], grids: Sequence[Sequence[int]] = (), supervised: int = 0, pairs: int | None = None
) -> Work:
    """Of documents of these lengths, with pictures of `grids` (n, 3). Tokens see what is before them, unless `pairs` says what."""
    frames = [(count, height * width) for count, height, width in grids]
    patches, frame_pairs = sum(n * size for n, size in frames), sum(n * size**2 for n, size in frames)
    windows = window_plan(np.asarray(grids, dtype=np.int64), config.vision) if len(frames) else None
    connector, visual = config.connector, patches // config.vision.merge_size**2
    if isinstance(connector, ResamplerConfig):
        visual = connector.num_queries * len(frames)
    return Work(
        tokens=sum(lengths),
        pairs=sum(length * (length + 1) // 2 for length in lengths) if pairs is None else pairs,
        supervised=supervised,
        patches=patches,
        frame_pairs=frame_pairs,
        window_pairs=frame_pairs if windows is None else int((windows.lengths**2).sum()),
        visual=visual,
        passes=int(bool(frames)),
        longest=max(lengths, default=0),
        longest_frame=max((size for _, size in frames), default=0),
    )


def reference_pass(objective: ObjectiveRecipe, config: ModelConfig) -> list[Operation]:
    """The forward pass of DPO's reference, the model without adapters, that every step takes. Nothing for other objectives, nor
    where the reference's numbers were noted before the first step."""
    if objective.kind != "dpo" or objective.reference == "precomputed":
        return []
    return operations(config, lambda name: False)


def work_of_batch(config: ModelConfig, batch: Batch) -> Work:
    """Of a batch as the trainer gets it, on the CPU."""
    lengths, pairs = _documents(batch)
    return work_of(config, lengths, batch.grids.tolist(), int((batch.labels != IGNORE_INDEX).sum()), pairs)


def _documents(batch: Batch) -> tuple[list[int], int]:
    """Lengths of the documents, and the pairs of tokens that see each other: branches see what they share, and themselves."""
    lengths = batch.document_ids.unique_consecutive(return_counts=True)[1].tolist() if len(batch.document_ids) else []
    if batch.branch_ids is None:
        return lengths, sum(length * (length + 1) // 2 for length in lengths)
    pairs = 0
    for branches in batch.branch_ids.split(lengths):
        shared, *own = branches.bincount().tolist()
        pairs += shared * (shared + 1) // 2 + sum(length * shared + length * (length + 1) // 2 for length in own)
    return lengths, pairs


@dataclass(frozen=True, slots=True)
class Flops:
    """By part; `head` is the product with the vocabulary, and heads on patches."""

    tower: float = 0.0
    connector: float = 0.0
    decoder: float = 0.0
    head: float = 0.0

    @property
    def total(self) -> float:
        return self.tower + self.connector + self.decoder + self.head

    def __add__(self, other: Flops) -> Flops:
        return Flops(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def times(self, factor: float) -> Flops:
        return Flops(*(factor * value for value in astuple(self)))


class Counter:
    """FLOPs of passes over the same operations. They are linear in Work, so that a pass costs a few multiplications to count.

    beside: of a forward pass of another model, such as a reference, that every step of training takes besides.
    """

    def __init__(self, found: Iterable[Operation], beside: Sequence[Operation] = ()) -> None:
        # How much each of Work's numbers adds to each part: (forward, backward).
        self._rates: dict[tuple[str, str], tuple[float, float]] = {}
        for operation in found:
            if isinstance(operation, Product | Attended):
                key, (forward, backward) = (operation.piece, operation.unit), operation.flops
                before = self._rates.get(key, (0.0, 0.0))
                self._rates[key] = before[0] + forward, before[1] + backward
        self._beside = Counter(beside) if beside else None

    @classmethod
    def of(
        cls, model: nn.Module, config: ModelConfig, *, text: bool = True, dense: int = 0, beside: Sequence[Operation] = ()
    ) -> Counter:
        """Of a model as it stands, adapters and all: what trains is what wants a gradient."""
        trained, ranks = set(), {}
        for name, parameter in model.named_parameters():
            layer, _, kind = name.rpartition(".")
            if kind == "lora_a":
                ranks[layer] = parameter.shape[0]
            elif parameter.requires_grad:
                trained.add(plain_name(name))
        return cls(operations(config, trained.__contains__, ranks, text=text, dense=dense), beside)

    def forward(self, work: Work) -> Flops:
        return self._sum(work, lambda forward, backward: forward)

    def training(self, work: Work) -> Flops:
        """Forward and backward, and what is beside them."""
        own = self._sum(work, lambda forward, backward: forward + backward)
        return own if self._beside is None else own + self._beside.forward(work)

    def _sum(self, work: Work, wanted: Callable[[float, float], float]) -> Flops:
        parts: dict[str, float] = {}
        for (piece, unit), rate in self._rates.items():
            parts[piece] = parts.get(piece, 0.0) + getattr(work, unit) * wanted(*rate)
        return Flops(**parts)
