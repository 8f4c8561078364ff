"""Everything that can be drawn without end, by name: `qwenvl data synth NAME`, or `synth: NAME` in a mixture.

A generator is a spec (a Strict model) and a function `samples(spec, seed, index) -> list[Sample]` about what is drawn for that
number. The same numbers give the same samples, whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import numpy as np

from qwenvl.config import ConfigError, Strict, validate
from qwenvl.data.sources import BadSample
from qwenvl.types import Sample


@dataclass(frozen=True, slots=True)
class Generator:
    """`module` holds `spec`, the model's name, and `function`. Both are looked up when they are needed: some import much."""

    name: str
    summary: str
    module: str
    spec: str
    function: str = "samples"
    long: bool = False
    """Samples of megabytes each."""

    def spec_type(self) -> type[Strict]:
        return getattr(import_module(self.module), self.spec)

    def read_spec(self, settings: Mapping[str, Any], where: str) -> Strict:
        """Raises ConfigError naming the first bad key."""
        return validate(dict(settings), self.spec_type(), where)

    def told(self, language: str, held_out: bool) -> dict[str, Any]:
        """What its spec has for the language and for the phrasing of questions; not every generator has both."""
        wanted: dict[str, Any] = {"language": language, "languages": [language], "held_out": held_out}
        return {key: value for key, value in wanted.items() if key in self.spec_type().model_fields}

    def samples(self, spec: Strict, seed: int, index: int) -> list[Sample]:
        return getattr(import_module(self.module), self.function)(spec, seed, index)


_FIGURES = "qwenvl.data.synth.figures"
_LONG = "qwenvl.data.synth.long"
_TEXT = "qwenvl.data.synth.text"

GENERATORS: dict[str, Generator] = {
    generator.name: generator
    for generator in (
        Generator("scenes", "pictures of things and words, questions about them", "qwenvl.data.scene_samples", "SceneSamples"),
        Generator(
            "text", "pages of text as a camera sees them, and signs: what is written, and where", f"{_TEXT}.samples", "TextSpec"
        ),
        Generator("chart", "charts with the numbers behind them, arithmetic over them", f"{_FIGURES}.chart", "ChartSpec"),
        Generator("table", "tables of numbers and records", f"{_FIGURES}.table", "TableSpec"),
        Generator("form", "invoices, receipts, tickets and other forms as keys and values", f"{_FIGURES}.form", "FormSpec"),
        Generator("screen", "screens of telephones, computers and the web with named controls", f"{_FIGURES}.screen", "ScreenSpec"),
        Generator("icon", "icons, their names and places", f"{_FIGURES}.icon", "IconSpec"),
        Generator("code", "screenshots of source code", f"{_FIGURES}.code", "CodeSpec"),
        Generator("formula", "formulas with their LaTeX", f"{_FIGURES}.formula", "FormulaSpec"),
        Generator("music", "sheets of music with their ABC notation", f"{_FIGURES}.music", "MusicSpec"),
        Generator("chemistry", "structural formulas with their SMILES", f"{_FIGURES}.chemistry", "ChemistrySpec"),
        Generator("page", "pages of documents with all elements of QwenVL HTML", f"{_FIGURES}.page", "PageSpec"),
        Generator("clip", "short clips: what happens, when, in which order", "qwenvl.data.clip_samples", "ClipSamples"),
        Generator("dialogue", "conversations about several scenes", "qwenvl.data.dialogues.scenes", "SceneDialogues"),
        Generator("preference", "a right and a wrong answer about one picture", "qwenvl.data.preferences.build", "PreferenceSpec"),
        Generator("reel", "long: minutes of clips, one question late", f"{_LONG}.reel", "ReelSpec", long=True),
        Generator(
            "haystack", "long: many pictures of other generators, one question late", f"{_LONG}.haystack", "HaystackSpec", long=True
        ),
        Generator(
            "trajectory", "long: whole tasks on a telephone, screen by screen", f"{_LONG}.trajectory", "TrajectorySpec", long=True
        ),
    )
}


def generator_named(name: str) -> Generator:
    """Raises ConfigError with a suggestion."""
    if name not in GENERATORS:
        close = get_close_matches(name, GENERATORS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(GENERATORS)}"
        raise ConfigError(f"generator {name!r} is not known; {hint}")
    return GENERATORS[name]


class Generated:
    """SampleSource over a generator: sample i is one of those drawn for number i, chosen by it."""

    size: int | None = None

    def __init__(self, generator: str, settings: Mapping[str, Any], seed: int, name: str | None = None) -> None:
        self.generator = generator_named(generator)
        self.name, self.seed = name or generator, seed
        self.spec = self.generator.read_spec(settings, f"source {self.name!r}")

    def sample(self, index: int) -> Sample:
        """Raises BadSample where nothing can be asked about what was drawn."""
        made = self.generator.samples(self.spec, self.seed, index)
        if not made:
            raise BadSample(f"{self.name} {self.seed}/{index}", "nothing can be asked about what was drawn")
        return made[int(np.random.default_rng((self.seed, index)).integers(len(made)))]
