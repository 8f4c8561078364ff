"""The loss on rows that training never sees: held-out scenes, and text alone in two languages.

It is the mean over supervised tokens, none of which weighs more than another; exp of it is the perplexity.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from qwenvl.config import ConfigError
from qwenvl.data.loader import Row
from qwenvl.data.scene_recipe import SceneRecipe
from qwenvl.data.scene_rows import SceneRows
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.runtime import atomic_write
from qwenvl.train.build import processor_of
from qwenvl.train.objectives import hidden_states, token_losses
from qwenvl.train.recipe import Recipe
from qwenvl.types import IGNORE_INDEX
from qwenvl.weights.io import load_model

FILE = "losses.json"
SEED = 7_000_003
"""Of rows; no recipe has it."""
TEXT_TOKENS = 512
ROWS_AT_ONCE = 4

Drawn = Callable[[Recipe], SceneRecipe]


def held_out_scenes(recipe: Recipe) -> SceneRecipe:
    """The recipe's own rows, of scenes from the stream that is kept for tests."""
    data = recipe.data
    if not isinstance(data, SceneRecipe):
        raise ConfigError("held-out rows are those of scenes; this recipe's data is a mixture")
    scenes = [one.model_copy(update={"spec": one.spec.model_copy(update={"split": "held_out"})}) for one in data.scenes]
    return data.model_copy(update={"scenes": tuple(scenes), "box_jitter": 0.0})


def text_alone(chinese: float) -> Drawn:
    """Rows of texts without pictures, none of which sees another, in raw style: what language models are judged by."""
    told = {"style": "raw", "packing": "isolate", "row_tokens": TEXT_TOKENS, "text_rows": 1.0, "chinese": chinese}
    return lambda recipe: SceneRecipe.model_validate(told)


KINDS: dict[str, Drawn] = {"held_out": held_out_scenes, "text_en": text_alone(0.0), "text_zh": text_alone(1.0)}


def mean_losses(recipe: Recipe, names: Sequence[str], rows: int) -> dict[str, float]:
    """Name (of KINDS) -> mean loss of the model that the recipe's run left, over so many rows. Kept in the run's folder, and read
    from there when asked for again."""
    path = Path(recipe.run) / FILE
    kept: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = kept.get(str(rows), {})
    if missing := [name for name in names if name not in found]:
        model = trained_model(recipe)
        found |= {name: mean_loss(model, recipe, rows_of(recipe, KINDS[name](recipe), rows)) for name in missing}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(kept | {str(rows): found}), encoding="utf-8")
    return {name: found[name] for name in names}


def trained_model(recipe: Recipe) -> VisionLanguageModel:
    """In float32, what the finished run left: adapters merged, and the moving average where there is one, which checkpoints have
    apart. Raises ConfigError for a run that left none."""
    model = VisionLanguageModel(recipe.model_config_of_stage())
    model.load_state_dict(load_model(Path(recipe.run) / "model", device="cpu", dtype=torch.float32).state_dict())
    return model.eval()


def rows_of(recipe: Recipe, data: SceneRecipe, count: int) -> Iterable[Row]:
    source = SceneRows(data, processor_of(recipe))
    return (source.row(SEED, 0, index) for index in range(count))


@torch.no_grad()
def mean_loss(model: VisionLanguageModel, recipe: Recipe, rows: Iterable[Row]) -> float:
    total, count, waiting = 0.0, 0, list(rows)
    bf16 = recipe.train.precision == "bf16"
    for start in range(0, len(waiting), ROWS_AT_ONCE):
        batch = collate([document for row in waiting[start : start + ROWS_AT_ONCE] for document in row.documents])
        places = (batch.labels != IGNORE_INDEX).nonzero().flatten()
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            losses = token_losses(model, hidden_states(model, batch).index_select(0, places), batch.labels[places])
        total, count = total + float(losses.double().sum()), count + len(places)
    return total / max(count, 1)
