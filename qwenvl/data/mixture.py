"""A mixture: weighted sources of Samples, packed into rows. The `data` section of a recipe, or a YAML file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field, model_validator

from qwenvl.config import ConfigError, Strict, read_yaml, validate
from qwenvl.data.packed_rows import PackedRows, PackRules
from qwenvl.data.row_recipe import RowRecipe
from qwenvl.data.sources import SampleSource, Shards
from qwenvl.data.stream import SampleStream
from qwenvl.data.synth.generators import Generated
from qwenvl.data.token_weights import TokenWeights
from qwenvl.processing.encode import Processor


class SourceRecipe(Strict):
    """One source: shards that `qwenvl data` wrote, or a generator that draws samples as they are asked for."""

    name: str
    """What its loss is called in the log."""
    weight: float = Field(default=1.0, gt=0)
    """How often it is drawn, in proportion to the sum: by samples, not by tokens."""
    shards: tuple[str, ...] = ()
    """Parquet files, or folders of part-*.parquet."""
    synth: str | None = None
    """A generator of `qwenvl data synth`."""
    spec: dict[str, Any] = Field(default_factory=dict)
    """What the generator is told; its keys are those of `qwenvl data synth NAME --help`."""

    @model_validator(mode="after")
    def is_one_thing(self) -> SourceRecipe:
        if bool(self.shards) == (self.synth is not None):
            raise ValueError(f"source {self.name!r}: give either shards or synth")
        if self.spec and self.synth is None:
            raise ValueError(f"source {self.name!r}: spec is for synth; shards have none")
        return self


class MixtureRecipe(RowRecipe):
    source: Literal["mixture"] = "mixture"
    packing: Literal["isolate", "interleave"] = "isolate"
    """isolate: samples of a row do not see each other. interleave: a row is one document of samples of one task, as in the second
    stage of Qwen-VL (arXiv 2308.12966, section 3.2)."""
    row_tokens: int = Field(default=2048, gt=0)
    row_patches: int | None = Field(default=None, gt=0)
    """Patches that the pictures of a row may have in all; none for no limit."""
    pool: int = Field(default=64, gt=0, le=8192)
    """Samples that wait for a row that they fill well, for each lane."""
    lanes: int | None = Field(default=None, gt=0)
    """Streams that are packed apart; none: the largest divisor of rows_per_step up to 64. Ranks share them out."""
    sources: tuple[SourceRecipe, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def names_differ(self) -> MixtureRecipe:
        names = [source.name for source in self.sources]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"sources: {', '.join(sorted(twice))} stands there twice; losses are told apart by name")
        return self

    def lane_count(self) -> int:
        return self.lanes or max(number for number in range(1, 65) if self.rows_per_step % number == 0)


class _Model(BaseModel):
    preset: str | None = None


class _Head(BaseModel):
    """What else of a recipe decides what is drawn."""

    model: _Model = _Model()
    seed: int = Field(default=0, ge=0)


class Taught(NamedTuple):
    """A mixture read from a file; of a recipe also the preset and the seed that it is drawn with."""

    mixture: MixtureRecipe
    preset: str | None = None
    seed: int = 0


def read_mixture(path: Path) -> Taught:
    """A file that is a mixture, or a recipe whose `data` is one. Raises ConfigError, one line."""
    content = read_yaml(path)
    if "data" not in content:
        return Taught(validate(content, MixtureRecipe, str(path)))
    data = content["data"]
    if not isinstance(data, dict) or data.get("source") != "mixture":
        raise ConfigError(f"{path}: its data is no mixture; `qwenvl data scene` and `data tokens` show recipes of scenes")
    head = validate({name: content[name] for name in ("model", "seed") if content.get(name) is not None}, _Head, str(path))
    return Taught(validate(data, MixtureRecipe, str(path)), head.model.preset, head.seed)


def open_sources(recipe: MixtureRecipe, seed: int, folder: Path | None = None) -> list[SampleSource]:
    """The sources in order. Paths of shards are relative to `folder`. Raises ShardError or ConfigError naming the source."""
    return [_open(source, seed, folder or Path()) for source in recipe.sources]


def _open(source: SourceRecipe, seed: int, folder: Path) -> SampleSource:
    if source.synth is None:
        return Shards(*(folder / path for path in source.shards), name=source.name)
    return Generated(source.synth, source.spec, seed, source.name)


def stream_of(recipe: MixtureRecipe, seed: int, folder: Path | None = None) -> SampleStream:
    weights: Sequence[float] = [source.weight for source in recipe.sources]
    return SampleStream(open_sources(recipe, seed, folder), weights, seed)


def mixture_rows(
    recipe: MixtureRecipe, processor: Processor, seed: int, folder: Path | None = None, pairs: bool = False
) -> PackedRows:
    """The rows of a mixture, for `RowStream`; `pairs`: of one whose samples are pairs of answers."""
    interleave = recipe.packing == "interleave"
    rules = PackRules(recipe.style, recipe.row_tokens, recipe.row_patches, interleave, recipe.pool, recipe.box_jitter, pairs)
    weights = TokenWeights(recipe.loss, processor.tokenizer, processor.markup)
    return PackedRows(stream_of(recipe, seed, folder), processor, rules, weights)
