"""From a recipe to a trainer: where the parts of a run are put together, and what the run leaves behind."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from qwenvl.data.loader import RowStream
from qwenvl.data.scene_rows import SceneRows
from qwenvl.data.synth.dense import NUM_DENSE_CLASSES
from qwenvl.data.synth.spec import spec_hash
from qwenvl.families.spec import Markup
from qwenvl.models.initialise import initialise
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.encode import Processor
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.train.objectives import build_objective
from qwenvl.train.parallel import World
from qwenvl.train.recipe import Recipe
from qwenvl.train.trainer import Trainer

TOKENIZER = Path(__file__).parents[1] / "assets" / "models" / "qwen-vl-nano"
"""Folder of the vocabulary that ships with the package."""


def build_trainer(recipe: Recipe, world: World) -> tuple[Trainer, Processor]:
    """Build model, data stream and objective on this rank. All ranks draw the same initial weights from the recipe's seed."""
    config = recipe.model_config_of_stage()
    tokenizer = Tokenizer.from_folder(recipe.model.tokenizer or TOKENIZER)
    processor = Processor(config, recipe.family(), tokenizer, recipe.markup())
    dense = recipe.objective.kind == "dense_patches" or recipe.objective.dense_weight > 0
    source = SceneRows(recipe.data, processor, dense)
    model = VisionLanguageModel(config)
    initialise(model, recipe.seed)
    objective = build_objective(
        recipe.objective, config.vision.hidden_size, NUM_DENSE_CLASSES, len(source.tasks), recipe.seed
    )
    stream = RowStream(source, recipe.seed, recipe.data.rows_per_step)
    return Trainer(recipe, model, objective, stream, fingerprint(recipe, tokenizer), world), processor


def fingerprint(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, str]:
    """Hashes of what weights learn to read and write: the vocabulary, the markup of regions, the scenes."""
    return {
        "vocabulary": _hash(tokenizer.to_json()),
        "markup": _hash(json.dumps(asdict(recipe.markup()))),
        "scenes": _hash("".join(spec_hash(scenes.spec) for scenes in recipe.data.scenes)),
    }


def export(trainer: Trainer, processor: Processor) -> Path:
    """Save the finished model as a folder that `qwenvl.load` opens, beside the run's checkpoints."""
    from qwenvl.weights.io import save_model

    folder = trainer.run / "model"
    folder.mkdir(exist_ok=True)
    save_model(trainer.model, folder, extra_config=markup_keys(processor.markup))
    processor.tokenizer.save(folder)
    return folder


def markup_keys(markup: Markup) -> dict[str, int]:
    """The keys of ours in config.json that `FamilySpec.read_markup` reads."""
    return {} if markup.digits == 1 else {"coordinate_digits": markup.digits}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
