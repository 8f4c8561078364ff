"""What a cleaning run does, as configuration: datasets, their rules, and presets after the sources of the paper's Table 2."""

from __future__ import annotations

import copy
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from qwenvl.config import Strict, validate
from qwenvl.data.clean.rules import (
    AspectRatio,
    Characters,
    Emoji,
    ImageTextScore,
    Rule,
    SmallImage,
    SpecialTags,
    TextLength,
)
from qwenvl.data.clean.text import IRREGULAR, Pattern

BROKEN = "broken_image"
"""The rule that has nothing to set: a picture that the trainer's own decoder refuses."""
NOT_FETCHED = "not_fetched"
"""Not a rule: the row has an address and no picture. Such rows are counted apart."""
SCORE = "image_text_score"


class Duplicates(Strict):
    """Drops a pair that has a better double. Rows are doubles where picture and text are, each in the way that is asked for.

    Of two doubles the better one is that with the longer text or, at the same length or with keep `first`, the earlier one. A row
    is dropped if any better row is its double, so the outcome does not depend on the order of work.
    """

    name: str = Field(pattern=r"^\w[\w.-]*$")
    image: Literal["exact", "near"] | None = "exact"
    """The same file; or perceptual hashes at most `max_distance` bits apart; or any pictures."""
    text: Literal["exact", "near"] | None = "exact"
    """The same clean text; or word sets of at least `min_similarity` (Jaccard); or any texts."""
    keep: Literal["first", "longest"] = "first"
    max_distance: int = Field(default=8, ge=0, le=15)
    """Bits of the 64 of the perceptual hash. Compressing and resizing turn up to 4, seldom 6; strangers differ in about 32."""
    min_similarity: float = Field(default=0.7, ge=0.5, le=1)
    """Words in common by words in all. Below 0.5 minhash would overlook too many, or bring too many together."""
    ngram: int = Field(default=1, ge=1)
    """Words that are compared together; above 1, order counts."""

    @model_validator(mode="after")
    def _asks_something(self) -> Duplicates:
        if self.image is None and self.text is None:
            raise ValueError("image and text are both null: every row would be a double; ask for one of them")
        return self


EXACT = Duplicates(name="exact_duplicate")
NEAR = Duplicates(name="near_duplicate", image="near", text="near")
LONGEST = Duplicates(name="longest_text", text=None, keep="longest")
"""A.1: "If there is more than one text matching the same image, we select the longest one." """


class RuleSet(Strict):
    """The rules of one dataset; null leaves one out. Text is cleaned first, and judged as it is then."""

    html: bool = True
    irregular: tuple[Pattern, ...] = IRREGULAR
    special_tags: SpecialTags | None = None
    characters: Characters | None = Characters()
    emoji: Emoji | None = Emoji()
    text_length: TextLength | None = TextLength()
    aspect_ratio: AspectRatio | None = AspectRatio()
    small_image: SmallImage | None = SmallImage()
    image_text_score: ImageTextScore | None = None
    duplicates: tuple[Duplicates, ...] = (EXACT, NEAR)

    @field_validator("duplicates")
    @classmethod
    def _have_names_of_their_own(cls, rules: tuple[Duplicates, ...]) -> tuple[Duplicates, ...]:
        names = [rule.name for rule in rules]
        taken = {NOT_FETCHED, *RuleSet.names_of_rules()}
        if len(set(names)) < len(names) or taken & set(names):
            raise ValueError(f"names {', '.join(names)}: every rule needs a name of its own")
        return rules

    @property
    def text_rules(self) -> dict[str, Rule]:
        named = {name: getattr(self, name) for name in ("special_tags", "emoji", "characters", "text_length")}
        return {name: rule for name, rule in named.items() if rule is not None}

    @property
    def size_rules(self) -> dict[str, Rule]:
        named = {"aspect_ratio": self.aspect_ratio, "small_image": self.small_image}
        return {name: rule for name, rule in named.items() if rule is not None}

    @property
    def names(self) -> list[str]:
        """The rules in force that drop rows, in the order in which they are applied."""
        score = [SCORE] if self.image_text_score else []
        return [*self.text_rules, *self.size_rules, BROKEN, *score, *(rule.name for rule in self.duplicates)]

    @staticmethod
    def names_of_rules() -> tuple[str, ...]:
        return ("special_tags", "emoji", "characters", "text_length", "aspect_ratio", "small_image", BROKEN, SCORE)


class Preset(NamedTuple):
    """A source of Table 2: what part of it the paper kept (in percent), and how its rules differ from the default."""

    remaining: int | None
    rules: dict[str, Any]


# A.1 puts web pairs through eight steps, academic captions through the special tags and the choice of the longest text. Lengths,
# sizes and shapes are not named for those, so they have none here.
_ACADEMIC: dict[str, Any] = {
    "characters": None, "emoji": None, "text_length": None, "aspect_ratio": None, "small_image": None,
    "duplicates": [LONGEST.model_dump()],
}  # fmt: skip

PRESETS: dict[str, Preset] = {
    "web": Preset(None, {}),
    "laion-en": Preset(14, {}),
    "laion-coco": Preset(50, {}),
    "datacomp": Preset(21, {}),
    "coyo": Preset(28, {}),
    "cc12m": Preset(66, {**_ACADEMIC, "special_tags": {"tags": ["<PERSON>"]}}),
    "cc3m": Preset(100, _ACADEMIC),
    "sbu": Preset(80, {**_ACADEMIC, "special_tags": {"tags": ["<[a-z]+>"]}}),
    "coco": Preset(100, _ACADEMIC),
    "laion-zh": Preset(97, {}),
}
"""Table 2 of arXiv 2308.12966. Only the cleaning steps are published, so web sources differ by the score's threshold alone."""


class Columns(Strict):
    """The names of columns, where they are not the usual ones of the formats that are known."""

    text: str | None = None
    image: str | None = None
    """Holds bytes, a {bytes, path}, or a path."""
    url: str | None = None
    key: str | None = None


class Dataset(Strict):
    """Files of one source, and the rules for it."""

    name: str = Field(pattern=r"^\w[\w.-]*$")
    inputs: tuple[str, ...] = Field(min_length=1)
    """Files, folders of them, or patterns such as shards/*.tar: each file is one shard."""
    preset: str = "web"
    rules: dict[str, Any] = Field(default={})
    """What differs from the preset; `ruleset()` is both together."""
    columns: Columns = Columns()
    images: str | None = None
    """The folder that paths of pictures start from; by default that of the input file."""

    @field_validator("preset")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PRESETS:
            raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        return name

    @model_validator(mode="after")
    def _rules_fit(self) -> Dataset:
        self.ruleset()
        return self

    def ruleset(self) -> RuleSet:
        return validate(_merged(PRESETS[self.preset].rules, self.rules), RuleSet, f"rules of {self.name}")


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested settings of `above` laid over those of `below`."""
    result = copy.deepcopy(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


class CleanConfig(Strict):
    """A whole run. What it is computed on (runner, workers) is not in it: the outcome does not depend on that."""

    datasets: tuple[Dataset, ...] = Field(min_length=1)
    across: tuple[Duplicates, ...] = ()
    """Duplicates between datasets, after those within each. The earlier dataset keeps its row."""
    scorer: str | None = None
    """`clip:FOLDER` (transformers), `open_clip:FOLDER`, or `model:NAME`: the likelihood that one of our models gives the text."""
    examples: int = Field(default=8, ge=0, le=100)
    """Dropped rows of each rule that the report shows."""

    @model_validator(mode="after")
    def _fits_together(self) -> CleanConfig:
        names = [dataset.name for dataset in self.datasets]
        if len(set(names)) < len(names):
            raise ValueError(f"datasets {', '.join(names)}: give each a name of its own")
        for dataset in self.datasets:
            if both := {rule.name for rule in self.across} & set(dataset.ruleset().names):
                raise ValueError(f"across: {', '.join(sorted(both))} is a rule of {dataset.name} already; give it another name")
        judged = [dataset.name for dataset in self.datasets if dataset.ruleset().image_text_score]
        if judged and self.scorer is None:
            raise ValueError(f"{judged[0]}: image_text_score needs a scorer; give clip:FOLDER, open_clip:FOLDER or model:NAME")
        return self
