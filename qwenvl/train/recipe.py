"""A recipe: everything that decides a run, as one strict YAML file. What the run used is saved beside its results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from qwenvl.config import ConfigError, ModelConfig, Strict, load_yaml, merged, validate
from qwenvl.data.mixture import MixtureRecipe
from qwenvl.data.scene_recipe import SceneRecipe
from qwenvl.families import family_of_preset, find_preset
from qwenvl.families.spec import FamilySpec, Markup
from qwenvl.train.sections import (
    EvaluateRecipe,
    LoraRecipe,
    ModelRecipe,
    ObjectiveRecipe,
    OptimRecipe,
    ParallelRecipe,
    Source,
    TrainRecipe,
)


def _source_of(data: Any) -> str:
    """Which kind of rows a `data` section describes; without `source` it is scenes."""
    return data.get("source", "scenes") if isinstance(data, dict) else getattr(data, "source", "")


SOURCES = Discriminator(_source_of, custom_error_type="source", custom_error_message="source must be scenes or mixture")


class Recipe(Strict):
    name: str
    run: str
    """Folder for checkpoints, metrics and the final model."""
    summary: str = ""
    """One line about the model that comes out, for its card."""
    seed: int = Field(default=0, ge=0)
    deviations: tuple[str, ...] = ()
    """In which ways, in words, this recipe departs from the published one."""
    init_from: dict[Source, str] = Field(default_factory=dict)
    """Part, or dense_heads -> the folder of an earlier run; a part also -> a finished model, by folder or built-in name.

    What is not named starts from its initialisation.
    """
    model: ModelRecipe = ModelRecipe()
    data: Annotated[Annotated[SceneRecipe, Tag("scenes")] | Annotated[MixtureRecipe, Tag("mixture")], SOURCES]
    """Scenes drawn row by row, or a mixture of sources (`source: mixture`)."""
    objective: ObjectiveRecipe = ObjectiveRecipe()
    lora: LoraRecipe | None = None
    optim: OptimRecipe
    train: TrainRecipe
    parallel: ParallelRecipe = ParallelRecipe()
    evaluate: EvaluateRecipe | None = None

    def model_config_of_stage(self) -> ModelConfig:
        """Raises ConfigError for a size that the model cannot have."""
        config = find_preset(self.model.preset).config
        if self.model.config:
            config = validate(merged(config.model_dump(), self.model.config), ModelConfig, "model.config")
        side, patch = self.model.image_size, config.vision.patch_size
        if side is None:
            return config
        if config.vision.image_size is None:
            native = f"{self.model.preset} sees pictures at their own size"
            raise ConfigError(f"model.image_size {side}: {native}; bound it by model.min_pixels and model.max_pixels")
        if side % patch:
            raise ConfigError(f"model.image_size {side}: must be a multiple of the patch size, {patch}")
        return config.model_copy(update={"vision": config.vision.model_copy(update={"image_size": side})})

    def markup(self) -> Markup:
        return find_preset(self.model.preset).markup

    def family(self) -> FamilySpec:
        """The family with the rules for pictures and clips of the preset and of this stage. Raises ConfigError for bounds that
        contradict each other or say nothing."""
        spec = family_of_preset(find_preset(self.model.preset))
        least, most = self.model.min_pixels, self.model.max_pixels
        if least is None and most is None:
            return spec
        if spec.images.kind != "native":
            key = "min_pixels" if most is None else "max_pixels"
            raise ConfigError(f"model.{key}: {self.model.preset} makes every picture the same square; set model.image_size")
        least, most = least or spec.images.min_pixels, most or spec.images.max_pixels
        if least is not None and most is not None and least > most:
            raise ConfigError(f"model.min_pixels {least} is more than the greatest area, {most}; give min_pixels <= max_pixels")
        return replace(spec, images=replace(spec.images, min_pixels=least, max_pixels=most))


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read and check a recipe file. Raises ConfigError, one line."""
    recipe = load_yaml(path, Recipe, overrides)
    if problem := _contradiction(recipe):
        raise ConfigError(f"{path}: {problem}")
    return recipe


def _contradiction(recipe: Recipe) -> str | None:
    """What two keys say against each other, each of them sound."""
    train, objective, sharded = recipe.train, recipe.objective, recipe.parallel.data == "fsdp"
    mixture = isinstance(recipe.data, MixtureRecipe)
    dense = objective.kind == "dense_patches" or objective.dense_weight > 0
    never_trained = sorted(set(train.frozen) & set(train.unfreeze_after))
    checks = {
        f"{', '.join(never_trained)} both in train.frozen and in train.unfreeze_after; keep one": bool(never_trained),
        "objective dpo reads pairs of answers; set data.source: mixture, of what `qwenvl data preferences` wrote":
            objective.kind == "dpo" and not mixture,
        "objective dpo reads pairs, each a row's document of its own; set data.packing: isolate":
            objective.kind == "dpo" and mixture and recipe.data.packing != "isolate",
        "data.box_jitter moves the places of one answer alone; leave it out with objective dpo":
            objective.kind == "dpo" and recipe.data.box_jitter > 0,
        "objective.reference adapters_off: the layers of lora.whole train too; choose copy or precomputed":
            objective.reference == "adapters_off" and recipe.lora is not None and bool(recipe.lora.whole),
        "objective.reference adapters_off: there are no adapters; add a lora section, or choose copy or precomputed":
            objective.kind == "dpo" and objective.reference == "adapters_off" and recipe.lora is None,
        "a mixture has no dense labels; objective next_token without dense_weight, or data of scenes": mixture and dense,
        "objective dense_patches reads pictures alone; set data.packing: pictures":
            objective.kind == "dense_patches" and recipe.data.packing != "pictures",
        "the dense loss is for parallel.data: replicate; leave objective.dense_weight out with fsdp": dense and sharded,
        "parallel.context shares out the tokens of next_token alone; leave dpo and the dense loss out, or set it to 1":
            recipe.parallel.context > 1 and (dense or objective.kind == "dpo"),
        "train.unfreeze_after is for parallel.data: replicate; give train.frozen, and a second run for the rest":
            sharded and bool(train.unfreeze_after),
        "lora says what trains; leave train.frozen and train.unfreeze_after out":
            recipe.lora is not None and bool(train.frozen or train.unfreeze_after),
        "lora is for parallel.tensor: 1; cut its base with parallel.data: fsdp alone":
            recipe.lora is not None and recipe.parallel.tensor > 1,
        "objective.reference copy is of weights that are not rounded, lora.base is; choose adapters_off or precomputed":
            objective.kind == "dpo" and objective.reference == "copy" and recipe.lora is not None and recipe.lora.base != "full",
        "optim.masters split has weights in bfloat16; set train.precision: bf16":
            recipe.optim.masters == "split" and train.precision != "bf16",
    }  # fmt: skip
    return next((problem for problem, holds in checks.items() if holds), None)


RESUMABLE = (
    "name", "run", "deviations", "train.steps", "train.micro_batch_rows", "train.checkpoint_every", "train.keep_checkpoints",
    "train.log_every", "train.curve_every", "train.threads", "train.activation_checkpointing", "train.compile", "train.not_finite",
    "train.spike", "data.workers", "parallel.tensor", "parallel.context", "evaluate",
)
"""Keys that may change when a run is resumed: they change neither its data nor, up to rounding, what a step does."""


def changed_keys(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Dotted keys whose values differ, without those that a resumed run may change.

    A key that is younger than the checkpoint had its default there. Raises ConfigError for a key that no longer exists.
    """
    return _changed(validate(saved, Recipe, "the checkpoint's recipe").model_dump(mode="json"), now, "")


def _changed(saved: dict[str, Any], now: dict[str, Any], prefix: str) -> list[str]:
    changed: list[str] = []
    for key in sorted(set(saved) | set(now)):
        dotted = f"{prefix}{key}"
        before, after = saved.get(key), now.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed += _changed(before, after, f"{dotted}.")
        elif before != after and not any(dotted == one or dotted.startswith(f"{one}.") for one in RESUMABLE):
            changed.append(dotted)
    return changed
