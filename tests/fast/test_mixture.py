"""A mixture file: read strictly, drawn by weight, packed into rows, its stream a pure function of the seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from qwenvl.config import ConfigError, validate
from qwenvl.data.loader import RowStream
from qwenvl.data.mixture import MixtureRecipe, mixture_rows, read_mixture, stream_of
from qwenvl.data.shards import ShardError, ShardWriter
from qwenvl.data.stats import loading
from qwenvl.data.synth.generators import GENERATORS, Generated, generator_named
from qwenvl.train.recipe import Recipe
from qwenvl.types import IGNORE_INDEX
from tests.fast.test_packed_rows import Captions, processor

needs_fonts = pytest.mark.usefixtures("scene_sources")
SCENES = {"name": "scenes", "weight": 2.0, "synth": "scenes", "spec": {"style": "chat"}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, rows_per_shard=40) as writer:
        for number in range(60):
            writer.add(Captions().sample(number))
    return folder


def mixture(shards: Path, **changes: object) -> MixtureRecipe:
    sources = [{"name": "captions", "shards": [str(shards)]}, SCENES]
    base = {"source": "mixture", "style": "chat", "rows_per_step": 2, "row_tokens": 500, "pool": 8, "sources": sources}
    return MixtureRecipe.model_validate(base | changes)


@needs_fonts
def test_rows_of_a_mixture_come_from_all_sources_by_weight(shards: Path) -> None:
    stream = RowStream(mixture_rows(mixture(shards, box_jitter=1.0, loss={"tasks": {"referring": 3.0}}), processor(), seed=1), 2)
    assert stream.tasks == ("captions", "scenes")
    batches = [batch for step in range(4) for batch in stream.batches(step, 0, 1, 2)]
    for batch in batches:
        supervised = batch.labels != IGNORE_INDEX
        assert supervised.any() and set(batch.extra["task_ids"][supervised].tolist()) <= {0, 1}
        assert batch.loss_weights.max() <= 3.0
    drawn = [stream_of(mixture(shards), seed=1).draw(index)[0] for index in range(1024)]
    assert drawn.count(1) == 683


def test_loading_says_how_full_rows_are_and_how_fast(shards: Path) -> None:
    rows = mixture_rows(mixture(shards, sources=[{"name": "captions", "shards": [str(shards)]}]), processor(), seed=1)
    found = loading(rows, 6)
    lane = rows.lane(0, 1, 0, None)
    lane.next()
    tokens = sum(len(document) for _ in range(6) for document in lane.next().documents)
    assert found["rows"] == 6 and found["full"] == round(tokens / (6 * 500), 4)
    assert found["samples_per_cpu_second"] > 6 and found["tokens_per_cpu_second"] > found["samples_per_cpu_second"]


@needs_fonts
def test_generated_samples_depend_on_seed_and_number_alone() -> None:
    one, other = (Generated("scenes", {"style": "raw"}, seed) for seed in (1, 2))
    assert one.sample(5).messages[1] == Generated("scenes", {"style": "raw"}, 1).sample(5).messages[1]
    assert [one.sample(index).id for index in range(4)] != [other.sample(index).id for index in range(4)]


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_has_a_strict_spec_with_defaults(name: str) -> None:
    generator = generator_named(name)
    generator.read_spec({}, name)
    with pytest.raises(ConfigError, match="no_such_key: unknown key"):
        generator.read_spec({"no_such_key": 1}, name)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"sources": []}, "data.sources: The list should have at least 1 item"),
        ({"sources": [{"name": "a"}]}, "data.sources.0: source 'a': give either shards or synth"),
        ({"sources": [{"name": "a", "shards": ["x"], "spec": {"a": 1}}]}, "source 'a': spec is for synth"),
        ({"sources": [SCENES, SCENES]}, "data: sources: scenes stands there twice"),
        ({"sources": [{"name": "a", "shard": ["x"]}]}, "data.sources.0.shard: unknown key; did you mean 'shards'?"),
        ({"sources": [{"name": "a", "weight": float("inf"), "synth": "scenes"}]}, "data.sources.0.weight: Input should be"),
        ({"pool": 10**9}, "data.pool: Input should be less than"),
        ({"loss": {"tasks": {"caption": -1}}}, "data.loss.tasks.caption: Input should be greater than"),
        ({"row_token": 1}, "data.row_token: unknown key; did you mean 'row_tokens'?"),
        ({"source": "mix"}, "data: source must be scenes or mixture"),
    ],
)
def test_a_mistake_in_a_mixture_is_one_line(change: dict[str, object], told: str, shards: Path) -> None:
    data = mixture(shards).model_dump() | change
    with pytest.raises(ConfigError) as error:
        validate({"name": "x", "run": "x", "data": data, "optim": {"lr": 1.0}, "train": {"steps": 1}}, Recipe, "recipe.yaml")
    assert str(error.value).startswith("recipe.yaml: ") and told in str(error.value), error.value


@pytest.mark.parametrize(
    "change, told",
    [
        ({"seed": "x"}, "seed: Input should be a valid integer"), ({"seed": -1}, "seed: Input should be greater than"),
        ({"model": 5}, "model: Input should be a mapping"), ({"data": 5}, "its data is no mixture"),
    ],
)  # fmt: skip
def test_a_mistake_in_what_decides_the_draw_is_one_line(change: dict[str, object], told: str, tmp_path: Path) -> None:
    data = {"source": "mixture", "sources": [SCENES]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"data": data, **change}))
    with pytest.raises(ConfigError) as error:
        read_mixture(tmp_path / "recipe.yaml")
    assert str(error.value).startswith(f"{tmp_path / 'recipe.yaml'}: {told}")


def test_sources_that_are_not_there_are_named(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="nowhere: no Parquet file there"):
        stream_of(mixture(shards, sources=[{"name": "a", "shards": ["nowhere"]}]), 0, tmp_path)
    with pytest.raises(ConfigError, match="generator 'scene' is not known; did you mean 'scenes'"):
        stream_of(mixture(shards, sources=[SCENES | {"synth": "scene"}]), 0)
    with pytest.raises(ConfigError, match=r"source 'scenes': styl: unknown key; did you mean 'style'"):
        stream_of(mixture(shards, sources=[SCENES | {"spec": {"styl": "raw"}}]), 0)


def test_a_mixture_is_read_alone_or_out_of_a_recipe(shards: Path, tmp_path: Path) -> None:
    alone, recipe, scenes = (tmp_path / name for name in ("mixture.yaml", "recipe.yaml", "scenes.yaml"))
    ours = mixture(shards)
    alone.write_text(yaml.safe_dump(ours.model_dump(mode="json")), encoding="utf-8")
    recipe.write_text(yaml.safe_dump({"seed": 4, "model": {"preset": "qwen2-vl-nano"}, "data": ours.model_dump(mode="json")}))
    assert read_mixture(alone) == (ours, None, 0)
    assert read_mixture(recipe) == (ours, "qwen2-vl-nano", 4)
    scenes.write_text("data: {tasks: {caption: 1}}", encoding="utf-8")
    with pytest.raises(ConfigError, match="its data is no mixture"):
        read_mixture(scenes)


def test_lanes_divide_the_rows_of_a_step(shards: Path) -> None:
    counts = {rows: mixture(shards, rows_per_step=rows).lane_count() for rows in (2, 64, 96, 30720)}
    assert counts == {2: 2, 64: 64, 96: 48, 30720: 64}
