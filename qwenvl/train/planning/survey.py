"""The first rows of a recipe's data, as a trainer will get them: how long samples are, how full rows, what is refused.

Where the data is not there yet, or the vocabulary that goes with the model is not, rows are taken as full and half of pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qwenvl.config import ModelConfig
from qwenvl.data.loader import Refused, Row
from qwenvl.data.mixture import MixtureRecipe
from qwenvl.data.packed_rows import PackedRows
from qwenvl.data.packing import prefix_length
from qwenvl.data.stream import BLOCK
from qwenvl.families.spec import FamilySpec
from qwenvl.processing.collate import collate
from qwenvl.processing.grid import image_grid
from qwenvl.processing.tokenizer import TokenizerError
from qwenvl.train.build import processor_of, row_source
from qwenvl.train.planning.cost import Work, work_of, work_of_batch
from qwenvl.train.recipe import Recipe
from qwenvl.types import Encoded

PICTURE = (1024, 768)
"""Width and height in pixels of the picture that a nominal row has, in families that see pictures at their own size."""
NAMED = 10
"""Longest samples that are named."""


class Length(NamedTuple):
    """tokens, of which visual; name: the sample's id."""

    tokens: int
    visual: int
    name: str


class Share(NamedTuple):
    """Of a mixture's source: its part of the samples, how many it has (None: it is drawn without end), how many a row takes."""

    name: str
    share: float
    size: int | None
    a_row: float


@dataclass(frozen=True)
class Survey:
    """works: of each row. nominal: why no rows were read; empty where they were. fill: part of the rows' room that is used."""

    works: list[Work]
    pictures: int = 0
    fill: float = 1.0
    lengths: list[Length] = field(default_factory=list)
    samples: int = 0
    sources: list[Share] = field(default_factory=list)
    refused: Refused = field(default_factory=Refused)
    nominal: str = ""

    @property
    def longest(self) -> list[Length]:
        return sorted(self.lengths, reverse=True)[:NAMED]

    @property
    def mean(self) -> Work:
        """Of a row."""
        return sum(self.works, Work()).times(1 / len(self.works))


def survey(recipe: Recipe, rows: int) -> Survey:
    """Look at `rows` rows. Raises ConfigError and what else a trainer would meet in them."""
    config = recipe.model_config_of_stage()
    if missing := missing_shards(recipe):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return nominal_rows(recipe, config, f"{missing[0]}{more}: no such shards yet; `qwenvl data` makes them")
    try:
        processor = processor_of(recipe)
    except TokenizerError as error:
        return nominal_rows(recipe, config, f"{error}; give model.tokenizer")
    source = row_source(recipe, processor)
    lane: Any = source.lane(0, 1, 0, None)
    refused, taken = Refused(), []
    for _ in range(rows):
        taken.append(lane.next())
        refused.join(lane.refused)
    end = processor.tokenizer.special(processor.spec.chat.document_end)
    lengths = [length for row in taken for document in row.documents for length in lengths_of(document, end)]
    samples = len(lengths) or sum(len(row.documents) for row in taken)
    # A lane packs its longest samples first; with those that still wait there are as many of each kind as it has read.
    waiting = [Length(one.size.tokens, one.size.visual, one.sample.id) for one in getattr(lane, "pool", ())]
    return Survey(
        works=[_work(config, row) for row in taken],
        pictures=sum(len(document.grids) for row in taken for document in row.documents),
        fill=sum(_used(recipe, row) for row in taken) / (rows * recipe.data.row_tokens),
        lengths=lengths + waiting,
        samples=samples,
        sources=_shares(source, samples / rows) if isinstance(source, PackedRows) else [],
        refused=refused,
    )


def missing_shards(recipe: Recipe) -> list[str]:
    data = recipe.data
    sources = data.sources if isinstance(data, MixtureRecipe) else ()
    return [path for source in sources for path in source.shards if not Path(path).exists()]


def nominal_rows(recipe: Recipe, config: ModelConfig, reason: str) -> Survey:
    """One full row: half of it visual tokens, of which each picture makes a document with as much text, half of that supervised."""
    room, dense = recipe.data.row_tokens, recipe.objective.kind == "dense_patches"
    grid, visual = _nominal_picture(recipe.family(), config, room)
    if dense:
        return Survey([work_of(config, [], [grid])], pictures=1, samples=1, nominal=reason)
    count = max(room // 2 // (visual + 2), 1)
    if (most := getattr(recipe.data, "row_patches", None)) is not None:
        count = max(min(count, most // math.prod(grid)), 1)
    whole = recipe.data.packing == "interleave"
    documents = [room] if whole else [room // count] * count
    work = work_of(config, documents, [grid] * count, max(room - count * visual, 0) // 2)
    return Survey([work], pictures=count, samples=count, nominal=reason)


def _nominal_picture(family: FamilySpec, config: ModelConfig, room: int) -> tuple[tuple[int, int, int], int]:
    """Grid and visual tokens of a picture that takes at most half of a row, where its size can be chosen."""
    most, side = None, config.vision.patch_size * config.vision.merge_size
    if config.vision.image_size is None:
        least, limit = family.images.min_pixels or 1, family.images.max_pixels or 1 << 62
        most = max(least, min(limit, (room // 2 - 2) * side**2, math.prod(PICTURE)))
    grid = image_grid(config, family, *PICTURE, None, most)
    return grid, family.visual_tokens(config, grid)


def lengths_of(document: Encoded, end: int) -> Iterator[Length]:
    """Of the samples in a document: behind shared pictures, or joined, each ended by the token `end`; or of the document as one."""
    names, visual = document.sample_id.split("+"), len(document.visual_slots)
    if document.branch_ids is not None:
        shared, *own = np.bincount(document.branch_ids).tolist()
        if len(own) == len(names):
            yield from (Length(shared + length, visual, name) for name, length in zip(names, own, strict=True))
            return
    ends = np.flatnonzero(document.input_ids == end) + 1
    if document.branch_ids is None and len(names) > 1 and len(ends) == len(names):
        slots = np.searchsorted(document.visual_slots, [0, *ends])
        for name, tokens, count in zip(names, np.diff([0, *ends]), np.diff(slots), strict=True):
            yield Length(int(tokens), int(count), name)
        return
    if len(document):
        yield Length(len(document), visual, document.sample_id)


def _work(config: ModelConfig, row: Row) -> Work:
    return work_of_batch(config, collate(row.documents))


def _used(recipe: Recipe, row: Row) -> int:
    """Tokens of a row's room. What a shared picture takes is beside it."""
    shared = recipe.data.packing == "share_prefix"
    return sum(len(document) - (prefix_length(document) if shared else 0) for document in row.documents)


def _shares(source: PackedRows, samples: float) -> list[Share]:
    stream = source.stream
    parts: Sequence[float] = [count / BLOCK for count in stream.counts]
    pairs = zip(stream.sources, parts, strict=True)
    return [Share(one.name, part, one.size, part * samples) for one, part in pairs]
