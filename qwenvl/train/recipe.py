"""A recipe: everything that decides a run, as one strict YAML file. What the run used is saved beside its results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from qwenvl.config import ConfigError, ModelConfig, Strict, load_yaml, validate
from qwenvl.data.mixture import MixtureRecipe
from qwenvl.data.scene_recipe import SceneRecipe
from qwenvl.families import family_of_preset, find_preset
from qwenvl.families.spec import FamilySpec, Markup

PARTS = ("vision_tower", "connector", "decoder")


def _one_of(*known: str) -> AfterValidator:
    def check(name: str) -> str:
        if name not in known:
            raise ValueError(f"unknown part {name!r}; known: {', '.join(known)}")
        return name

    return AfterValidator(check)


Part = Annotated[str, _one_of(*PARTS)]
Source = Annotated[str, _one_of(*PARTS, "dense_heads")]


def _source_of(data: Any) -> str:
    """Which kind of rows a `data` section describes; without `source` it is scenes."""
    return data.get("source", "scenes") if isinstance(data, dict) else getattr(data, "source", "")


SOURCES = Discriminator(_source_of, custom_error_type="source", custom_error_message="source must be scenes or mixture")


class ModelRecipe(Strict):
    preset: str = "qwen-vl-nano"
    image_size: int | None = Field(default=None, gt=0)
    """Side of the picture in pixels for this stage, in families that make all pictures one square; none keeps the preset's."""
    min_pixels: int | None = Field(default=None, gt=0)
    """Least area of a picture as the model sees it, in families of native resolution; none keeps the preset's."""
    max_pixels: int | None = Field(default=None, gt=0)
    tokenizer: str | None = None
    """Folder with tokenizer.json; none means the one that ships with the package. Its special tokens may have Qwen-VL's names."""


class ObjectiveRecipe(Strict):
    kind: Literal["next_token", "dense_patches"] = "next_token"
    dense_weight: float = Field(default=0.0, ge=0)
    """Weight of the dense patch loss beside next-token prediction."""
    box_loss_weight: float = Field(default=2.0, ge=0)
    """Within the dense loss: weight of the box error beside the class error."""


class OptimRecipe(Strict):
    lr: float = Field(gt=0)
    min_lr: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = Field(default=0.05, ge=0)
    clip: float = Field(default=1.0, gt=0)
    schedule: Literal["cosine", "trapezoid"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    decay_fraction: float = Field(default=0.25, gt=0, le=1)
    """Trapezoid only: the last part of the steps, over which the rate falls linearly to min_lr."""
    lr_multipliers: dict[Part, float] = Field(default_factory=dict)
    tower_layer_decay: float = Field(default=1.0, gt=0, le=1)


class TrainRecipe(Strict):
    steps: int = Field(ge=0)
    micro_batch_rows: int = Field(default=16, gt=0)
    """Rows in one forward pass of one process; the rest of its share of data.rows_per_step is accumulated."""
    precision: Literal["float32", "bf16"] = "bf16"
    frozen: tuple[Part, ...] = ()
    unfreeze_after: dict[Part, int] = Field(default_factory=dict)
    """Parts frozen for their first so many steps."""
    checkpoint_every: int = Field(default=200, gt=0)
    keep_checkpoints: int = Field(default=2, gt=0)
    log_every: int = Field(default=10, gt=0)
    curve_every: int = Field(default=200, gt=0)
    threads: int = Field(default=1, gt=0)
    """Threads of each process."""


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
    optim: OptimRecipe
    train: TrainRecipe

    def model_config_of_stage(self) -> ModelConfig:
        """Raises ConfigError for a size that the model cannot have."""
        config = find_preset(self.model.preset).config
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
    never_trained = set(recipe.train.frozen) & set(recipe.train.unfreeze_after)
    if never_trained:
        raise ConfigError(f"{path}: {', '.join(sorted(never_trained))} both in train.frozen and in train.unfreeze_after; keep one")
    if isinstance(recipe.data, MixtureRecipe) and (recipe.objective.kind != "next_token" or recipe.objective.dense_weight):
        raise ConfigError(f"{path}: a mixture has no dense labels; objective next_token without dense_weight, or data of scenes")
    if recipe.objective.kind == "dense_patches" and recipe.data.packing != "pictures":
        raise ConfigError(f"{path}: objective dense_patches reads pictures alone; set data.packing: pictures")
    return recipe


RESUMABLE = (
    "name", "run", "deviations", "train.steps", "train.micro_batch_rows", "train.checkpoint_every", "train.keep_checkpoints",
    "train.log_every", "train.curve_every", "train.threads", "data.workers",
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
        elif before != after and dotted not in RESUMABLE:
            changed.append(dotted)
    return changed
