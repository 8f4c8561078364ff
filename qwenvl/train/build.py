"""From a recipe to a trainer: where the parts of a run are put together, and what the run leaves behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from qwenvl.data.loader import NumberedRows, RowSource, RowStream
from qwenvl.data.mixture import MixtureRecipe, mixture_rows
from qwenvl.data.scene_rows import SceneRows
from qwenvl.data.synth.clip import clip_hash
from qwenvl.data.synth.dense import NUM_DENSE_CLASSES
from qwenvl.data.synth.spec import spec_hash
from qwenvl.data.workers import WorkerPool
from qwenvl.families.spec import Markup
from qwenvl.models.initialise import initialise
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.encode import Processor
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.processing.tokenizer_files import save_tokenizer
from qwenvl.train.engine import has_whole
from qwenvl.train.fingerprints import for_family, hash_of, markup_print, vocabulary_print
from qwenvl.train.model_card import write_cards
from qwenvl.train.objectives import build_objective
from qwenvl.train.parallel import World
from qwenvl.train.recipe import Recipe
from qwenvl.train.trainer import Trainer
from qwenvl.weights.io import build_meta

TOKENIZER = Path(__file__).parents[1] / "assets" / "models" / "qwen-vl-nano"
"""Folder of the vocabulary that ships with the package."""

CHAT_FORMATS = {"raw": "raw", "chat": "chatml"}


def build_trainer(recipe: Recipe, world: World) -> tuple[Trainer, Processor]:
    """Build model, data stream and objective on this rank. Ranks with a whole model draw the same initial weights from the recipe's
    seed; those that will only ever have their part of one build it in shapes alone."""
    processor = processor_of(recipe)
    source = row_source(recipe, processor)
    config, data = processor.config, recipe.data
    lanes = data.lane_count() if isinstance(data, MixtureRecipe) else data.rows_per_step
    if has_whole(recipe, world):
        model = VisionLanguageModel(config)
        initialise(model, recipe.seed)
    else:
        model = build_meta(config)
    objective = build_objective(
        recipe.objective, config.vision.hidden_size, NUM_DENSE_CLASSES, len(source.tasks), recipe.seed
    )
    make = partial(row_source, recipe)
    pool = WorkerPool(make, data.workers, world.data_rank, world.data_size, data.rows_per_step, lanes) if data.workers else None
    stream = RowStream(source, data.rows_per_step, lanes, pool)
    return Trainer(recipe, model, objective, stream, fingerprint(recipe, processor.tokenizer), world), processor


def processor_of(recipe: Recipe) -> Processor:
    """What makes a model's input of Samples in this stage."""
    return Processor(recipe.model_config_of_stage(), recipe.family(), tokenizer_of(recipe), recipe.markup())


def row_source(recipe: Recipe, processor: Processor | None = None) -> RowSource:
    """The rows of the recipe's data. Raises ConfigError for what its family cannot see or write."""
    processor = processor or processor_of(recipe)
    if isinstance(recipe.data, MixtureRecipe):
        return mixture_rows(recipe.data, processor, recipe.seed, pairs=recipe.objective.kind == "dpo")
    dense = recipe.objective.kind == "dense_patches" or recipe.objective.dense_weight > 0
    return NumberedRows(SceneRows(recipe.data, processor, dense), recipe.seed)


def tokenizer_of(recipe: Recipe) -> Tokenizer:
    """The recipe's vocabulary with the special tokens of its family. One of Qwen-VL's names serves every family: the same text is
    the same ids, so that all generations read and write with one vocabulary. Raises TokenizerError for a family's token that is
    neither there nor can be made so.
    """
    return for_family(_stored_vocabulary(recipe), recipe.family())


def _stored_vocabulary(recipe: Recipe) -> Tokenizer:
    return Tokenizer.from_folder(recipe.model.tokenizer or TOKENIZER)


def fingerprint(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, str]:
    """Hashes of what weights learn to read and write: the vocabulary, the markup of regions, the scenes and clips.

    `renamed_from` is that of the vocabulary in which the special tokens have other names, where the family's is made from one.
    """
    prints = {
        "vocabulary": vocabulary_print(tokenizer),
        "markup": markup_print(recipe.markup()),
        "scenes": hash_of("".join(_drawn(recipe))),
    }
    stored = vocabulary_print(_stored_vocabulary(recipe))
    return prints if stored == prints["vocabulary"] else prints | {"renamed_from": stored}


def _drawn(recipe: Recipe) -> list[str]:
    """Hashes of what the rows show."""
    data = recipe.data
    if isinstance(data, MixtureRecipe):
        return [source.model_dump_json() for source in data.sources]
    return [*(spec_hash(scenes.spec) for scenes in data.scenes), *([clip_hash(data.clips)] if data.clip_rows else [])]


def export(trainer: Trainer, processor: Processor) -> Path:
    """Save the finished model as a folder that `qwenvl.load` opens, beside the run's checkpoints. All ranks must call this.

    With it go how it is to be asked (generation_config.json, in the published file's words) and what it was made of (card.json,
    README.md).
    Adapters are saved by themselves in `adapter`, in PEFT's format, and merged into the model.
    """
    from qwenvl.train.whole import whole_model
    from qwenvl.weights.io import save_model

    folder, recipe = trainer.run / "model", trainer.recipe
    model = whole_model(trainer)
    if not trainer.world.leads:
        return folder
    folder.mkdir(exist_ok=True)
    chat = processor.spec.chat
    turn_end, document_end = (processor.tokenizer.special(name) for name in (chat.turn_end, chat.document_end))
    ids = {"bos_token_id": document_end, "eos_token_id": turn_end}
    save_model(model, folder, extra_config=markup_keys(processor.markup) | ids, spec=processor.spec)
    save_tokenizer(processor.tokenizer, processor.spec, folder)
    asked = {"chat_format": CHAT_FORMATS[recipe.data.style], "do_sample": False, "eos_token_id": [turn_end, document_end]}
    _write_json(folder / "generation_config.json", asked)
    write_cards(folder, recipe, trainer.step, trainer.fingerprint)
    return folder


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def markup_keys(markup: Markup) -> dict[str, int]:
    """The keys of ours in config.json that `FamilySpec.read_markup` reads."""
    return {} if markup.digits == 1 else {"coordinate_digits": markup.digits}
