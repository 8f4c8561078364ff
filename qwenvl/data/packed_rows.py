"""Rows of a training step packed from a stream of Samples: no Sample cut, no row fuller than its budget, nothing drawn twice.

A step's rows come from `lanes` that know nothing of each other. Lane l of L reads samples l, l + L, l + 2 L, … of the stream, keeps
a pool of them, and takes from it what fills a row. Its state is how many it has read and which of them wait. So any number of
ranks and workers that share out the lanes see the same rows, and what a checkpoint must hold is a few numbers a lane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from qwenvl.data.bins import fill_row
from qwenvl.data.jitter import jitter_regions
from qwenvl.data.loader import Refused, Row, row_generator
from qwenvl.data.packing import interleave
from qwenvl.data.pairs import encode_pair, fit_pair
from qwenvl.data.places import for_markup
from qwenvl.data.stream import SampleStream
from qwenvl.data.token_weights import TokenWeights
from qwenvl.processing.encode import Processor
from qwenvl.processing.measure import Measure, fit, measure
from qwenvl.types import Encoded, QwenVLError, Sample, Style

OLDEST = 8
"""Times the pool's length by which a waiting sample may be overtaken before it must be taken."""
JITTER = 3
"""Keeps the draws of jitter apart from others of the same numbers."""
MISSES = 1000
"""Samples refused one after another before the run stops: then it is not a bad sample but a wrong setting."""


class StreamError(QwenVLError):
    """A stream of which nothing can be used."""


@dataclass(frozen=True)
class PackRules:
    """tokens, patches: what a row holds at most; patches None for no limit. `interleave`: one document of samples of one task,
    attention across, as in Qwen-VL's second stage; otherwise documents that do not see each other. pool: samples that a lane looks
    ahead; a row is the fuller the more there are. box_jitter: pixels by which places are moved. pairs: samples are pairs of answers
    (`data.pairs`), each a document of two branches."""

    style: Style
    tokens: int
    patches: int | None = None
    interleave: bool = False
    pool: int = 64
    box_jitter: float = 0.0
    pairs: bool = False


class Waiting(NamedTuple):
    """A sample that was read and measured: its number in the stream, and what it takes."""

    number: int
    sample: Sample
    size: Measure


@dataclass(frozen=True)
class PackedRows:
    """RowSource that packs a stream. Losses are told apart by source."""

    stream: SampleStream
    processor: Processor
    rules: PackRules
    weights: TokenWeights | None = None
    """None: every supervised token counts as 1."""

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(source.name for source in self.stream.sources)

    def lane(self, lane: int, lanes: int, start: int, state: Any) -> PackedLane:
        if start and state is None:
            raise StreamError(f"row {start} of lane {lane}: what came before it is not known; resume from a checkpoint")
        return PackedLane(self, lane, lanes, state)


class PackedLane:
    """The rows of one lane, in order. `state` is what it takes to go on behind the last row given."""

    def __init__(self, source: PackedRows, lane: int, lanes: int, state: Mapping[str, Any] | None) -> None:
        self.stream, self.processor, self.rules = source.stream, source.processor, source.rules
        self.weights, self.lane, self.lanes = source.weights, lane, lanes
        self.read = 0
        self.pool: list[Waiting] = []
        self.refused = Refused()
        if state is not None:
            self._restore(state)

    @property
    def state(self) -> dict[str, Any]:
        """Plain numbers. Rows that follow depend on nothing else."""
        return {"read": self.read, "waiting": [waiting.number for waiting in self.pool]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.read = state["read"]
        for number in state["waiting"]:
            self._admit(number)
        self.refused = Refused()

    def next(self) -> Row:
        """The lane's next row. A sample whose picture turns out to be damaged leaves its place empty."""
        self.refused = Refused()
        while True:
            self._fill_pool()
            documents = [encoded for waiting in self._take() if (encoded := self._encode(waiting)) is not None]
            if documents:
                return Row([interleave(documents, self.rules.tokens)] if self.rules.interleave else documents)

    def _fill_pool(self) -> None:
        """Read on until there is enough to choose a row from, or so much refused that something must be wrong."""
        misses = 0
        sizes = {name: [len(group), sum(one.size.tokens for one in group)] for name, group in self._groups().items()}
        while not any(self._enough(*size) for size in sizes.values()):
            number = self.lane + self.read * self.lanes
            self.read += 1
            if self._admit(number):
                misses, size = 0, sizes.setdefault(self._group(self.pool[-1]), [0, 0])
                size[0] += 1
                size[1] += self.pool[-1].size.tokens
                continue
            misses += 1
            if misses >= MISSES:
                last = self.refused.named[-1] if self.refused.named else ""
                raise StreamError(f"data.sources: {MISSES} samples in a row were refused, the last one: {last}")

    def _groups(self) -> dict[str, list[Waiting]]:
        """What waits and may share a row, oldest first: all of it, or the samples of one task."""
        groups: dict[str, list[Waiting]] = {}
        for waiting in self.pool:
            groups.setdefault(self._group(waiting), []).append(waiting)
        return groups

    def _group(self, waiting: Waiting) -> str:
        return waiting.sample.task if self.rules.interleave else ""

    def _enough(self, count: int, tokens: int) -> bool:
        """Two rows' worth, and as many samples as the pool is to have. Of one task, which may be rare, two rows must do."""
        return tokens >= 2 * self.rules.tokens and (self.rules.interleave or count >= self.rules.pool)

    def _admit(self, number: int) -> bool:
        """Read a sample and measure it; whether it can be used."""
        try:
            into = fit_pair if self.rules.pairs else fit
            fitted, size = into(self.processor, self._read(number), self.rules.style, self.rules.tokens, self.rules.patches)
        except QwenVLError as error:
            self.refused.add(self._source(number), error)
            return False
        self.pool.append(Waiting(number, fitted, size))
        return True

    def _read(self, number: int) -> Sample:
        """A sample as the family can write it, its places moved by less than a pixel if they are to be."""
        if self.rules.pairs:
            return self.stream.sample(number)
        sample = for_markup(self.stream.sample(number), self.processor.markup)
        if not self.rules.box_jitter:
            return sample
        frames = measure(self.processor, sample, self.rules.style).frames
        return jitter_regions(sample, self.rules.box_jitter, frames, row_generator(self.stream.seed, JITTER, number))

    def _source(self, number: int) -> str:
        return self.stream.sources[self.stream.draw(number)[0]].name

    def _take(self) -> list[Waiting]:
        """Take out of the pool what makes the next row: the longest sample, or the oldest if it has waited long, and what fills up
        best beside it."""
        groups = self._groups().values()
        group = next(group for group in groups if self._enough(len(group), sum(waiting.size.tokens for waiting in group)))
        waited = (group[-1].number - group[0].number) // self.lanes
        first = group[0] if waited > OLDEST * self.rules.pool else max(group, key=lambda waiting: waiting.size.tokens)
        row = [first, *(waiting for waiting in group if waiting is not first)]
        tokens, patches = ([getattr(waiting.size, name) for waiting in row] for name in ("tokens", "patches"))
        taken = [row[index] for index in fill_row(tokens, self.rules.tokens, patches=patches, limit=self.rules.patches)]
        gone = {waiting.number for waiting in taken}
        self.pool = [waiting for waiting in self.pool if waiting.number not in gone]
        return taken

    def _encode(self, waiting: Waiting) -> Encoded | None:
        source, sample = self._source(waiting.number), waiting.sample
        try:
            encoded = (encode_pair if self.rules.pairs else Processor.encode)(self.processor, sample, self.rules.style)
            if len(encoded) > waiting.size.tokens:
                raise StreamError(f"sample {sample.id!r}: {len(encoded)} tokens, not {waiting.size.tokens} as its header says")
        except QwenVLError as error:
            self.refused.add(source, error)
            return None
        weights = self.weights.of(encoded) if self.weights is not None else None
        return encoded.with_(task="+".join([source] * (2 if self.rules.pairs else 1)), loss_weights=weights)
