"""An ablation: variants of one recipe, trained with the same seed and budget, and what the paper found where it did so."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from qwenvl.config import ConfigError, Strict, load_yaml, put
from qwenvl.runtime import atomic_write
from qwenvl.train.ablations.measures import MEASURES
from qwenvl.train.checkpoint import list_checkpoints
from qwenvl.train.recipe import Recipe, load_recipe
from qwenvl.train.sections import PARTS

FOLDER = Path("recipes/ablations")
ENDS = ("first", "second", "last")
"""What a claim calls points of a curve. The first one is before any step, and has no loss."""
QUICK_STEPS = 2


def _known(name: str) -> str:
    if name not in MEASURES:
        raise ValueError(f"no measure {name!r}; known: {', '.join(MEASURES)}")
    return name


MeasureName = Annotated[str, AfterValidator(_known)]
RowName = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]


class Claim(Strict):
    """Something that the paper shows, said of rows of our table: they rise in an order, or one is below or above all others."""

    says: str
    measure: MeasureName
    rising: tuple[RowName, ...] = ()
    lowest: RowName | None = None
    highest: RowName | None = None

    @model_validator(mode="after")
    def says_one_thing(self) -> Claim:
        if sum(map(bool, (self.rising, self.lowest, self.highest))) != 1 or len(self.rising) == 1:
            raise ValueError(f"claim {self.says!r}: give one of rising (two rows or more), lowest and highest")
        return self

    @property
    def rows(self) -> tuple[str, ...]:
        return tuple(filter(None, (*self.rising, self.lowest, self.highest)))


class Variant(Strict):
    changes: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys of the recipe, and their values here."""
    after: RowName | None = None
    """The variant whose finished weights this one starts from, in place of init_from."""
    published: dict[str, str] = Field(default_factory=dict)
    """Column -> what the paper has for it."""


class Ablation(Strict):
    name: RowName
    question: str
    source: str
    """Where the paper has it."""
    minutes: float = Field(gt=0)
    """What all of it takes on two idle cores, about."""
    deviations: tuple[str, ...] = Field(min_length=1)
    """How it differs from the paper's, in words."""
    rows: Literal["variants", "evaluations"] = "variants"
    """What a line of the table is: a variant, or an evaluation of the only one."""
    measures: tuple[MeasureName, ...] = Field(min_length=1)
    chart: tuple[MeasureName, ...] = Field(min_length=1)
    """What is drawn beside the curves of the loss."""
    claims: tuple[Claim, ...] = Field(min_length=1)
    base: dict[str, Any]
    """A recipe but for `name`, `run` and `deviations`."""
    variants: dict[RowName, Variant] = Field(min_length=1)

    @model_validator(mode="after")
    def refers_to_what_is_there(self) -> Ablation:
        names = list(self.variants)
        for index, (name, variant) in enumerate(self.variants.items()):
            if variant.after is not None and variant.after not in names[:index]:
                raise ValueError(f"variants.{name}: after {variant.after!r} must name a variant above it")
        if self.rows == "evaluations" and len(names) != 1:
            raise ValueError("rows evaluations is the curve of one variant; give one")
        known = ENDS if self.rows == "evaluations" else tuple(names)
        for claim in self.claims:
            if unknown := set(claim.rows) - set(known):
                raise ValueError(f"claim {claim.says!r}: no row {', '.join(sorted(unknown))}; known: {', '.join(known)}")
        if outside := {*self.chart, *(claim.measure for claim in self.claims)} - set(self.measures):
            raise ValueError(f"measures: add {', '.join(sorted(outside))}, which claims or the chart speak of")
        return self


def find_ablation(name: str) -> Path:
    """The file of an ablation, by its path or by its name in the checkout. Raises ConfigError with the names that there are."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if path.is_file():
        return path
    known = ", ".join(sorted(found.stem for found in FOLDER.glob("*.yaml")))
    raise ConfigError(f"{path}: no such ablation; " + (f"known: {known}" if known else "start it from the root of the checkout"))


def load_ablation(path: Path) -> Ablation:
    """Raises ConfigError, one line."""
    return load_yaml(path, Ablation)


class Budget(Strict):
    """steps: for every variant that trains at all, in place of its own. quick: a few tiny steps, to see that all of it works."""

    steps: int | None = Field(default=None, gt=0)
    quick: bool = False


def write_recipes(ablation: Ablation, folder: Path, budget: Budget) -> dict[str, Recipe]:
    """The recipes of all variants, whose runs will be in `folder`, written to `folder`/recipes. Raises ConfigError for what is no
    recipe."""
    recipes = {}
    for name, variant in ablation.variants.items():
        path = folder / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = recipe_of(ablation, name, variant, folder, budget)
        with atomic_write(path) as temporary:
            temporary.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
        recipes[name] = load_recipe(path)
    return recipes


def recipe_of(ablation: Ablation, name: str, variant: Variant, folder: Path, budget: Budget) -> dict[str, Any]:
    """One variant as plain data."""
    data: dict[str, Any] = {"name": name, "run": str(folder / name), "deviations": list(ablation.deviations)}
    data |= copy.deepcopy(ablation.base)
    for key, value in variant.changes.items():
        put(data, key, value, f"change {key!r}")
    if variant.after is not None:
        data["init_from"] = dict.fromkeys(PARTS, str(folder / variant.after))
    _limit(data, budget)
    return data


def _limit(data: dict[str, Any], budget: Budget) -> None:
    """Fewer steps and rows, in place; evaluations stay as many."""
    train, evaluate = data.get("train"), data.get("evaluate")
    if not isinstance(train, dict) or not isinstance(train.get("steps"), int) or not isinstance(data.get("data"), dict):
        return  # no recipe, as whoever reads it will say
    own = train["steps"]
    if own:
        train["steps"] = budget.steps or (QUICK_STEPS if budget.quick else own)
    if evaluate is not None and own:
        evaluate["every"] = max(round(evaluate["every"] * train["steps"] / own), 1)
        train["log_every"] = min(train.get("log_every", 1), evaluate["every"])
    if budget.quick:
        train |= {"micro_batch_rows": 2, "log_every": 1}
        data["data"]["rows_per_step"] = 2
        if evaluate is not None:
            evaluate |= {"limit": 2, "shown": 0}


def changed(recipe: Recipe, saved: Mapping[str, Any]) -> list[str]:
    """Sections in which a run's recipe.yaml differs from what it should be."""
    now = recipe.model_dump(mode="json")
    return sorted(key for key in set(now) | set(saved) if now.get(key) != saved.get(key))


def progress_of(recipe: Recipe) -> Literal["new", "begun", "done"]:
    """How far a variant has come. Raises ConfigError for a folder that holds a run of another recipe."""
    run = Path(recipe.run)
    saved = run / "recipe.yaml"
    if not list_checkpoints(run):
        return "new"
    if different := changed(recipe, yaml.safe_load(saved.read_text(encoding="utf-8")) if saved.is_file() else {}):
        raise ConfigError(f"{run}: holds a run with another {', '.join(different)}; remove it, or give another --out")
    return "done" if (run / "model" / "card.json").is_file() else "begun"
