"""Preference pairs from ground truth: a right answer, and one with a fault that the picture shows. For DPO.

The fault is drawn first, then a question that allows it, so that rare faults are not drowned by common ones. A pair is stored as
`data.record` says: a Sample with the right answer, `extra["rejected"]` and, of ours, `extra["fault"]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal, cast

import numpy as np
from pydantic import Field, model_validator

from qwenvl.config import Strict, validate
from qwenvl.data.preferences.faults import Fault, Truth
from qwenvl.data.preferences.places import missed_point, other_box, shifted_box
from qwenvl.data.preferences.words import (
    absent_affirmed,
    present_denied,
    thing_left_out,
    wrong_choice,
    wrong_count,
    wrong_number,
    wrong_text,
    wrong_thing,
)
from qwenvl.data.record import preference_to_sample
from qwenvl.data.scene_recipe import draw
from qwenvl.data.synth.generators import generator_named
from qwenvl.data.synth.names import Language
from qwenvl.data.synth.scene import SceneSpec, generate_scene
from qwenvl.data.tasks import questions
from qwenvl.data.wording import Voice
from qwenvl.types import Message, PreferenceSample, Region, RegionPart, Sample

_SALT = 10
TASK, SOURCE = "preference", "preferences"

FAULTS: dict[str, Fault] = {
    "shifted_box": shifted_box,
    "other_box": other_box,
    "missed_point": missed_point,
    "wrong_choice": wrong_choice,
    "wrong_count": wrong_count,
    "wrong_thing": wrong_thing,
    "wrong_text": wrong_text,
    "wrong_number": wrong_number,
    "absent_affirmed": absent_affirmed,
    "present_denied": present_denied,
    "thing_left_out": thing_left_out,
}
EVEN = {name: 1.0 for name in FAULTS if name != "missed_point"}
"""All that every family can write."""

SCENES = "scenes"
_ABOUT_SCENES = (
    "caption", "grounded_caption", "referring", "naming", "what", "count", "where", "colour", "yes_no", "left_right", "above_below",
    "ocr", "ocr_quad", "find_text", "refusal",
)  # fmt: skip


class PreferenceSpec(Strict):
    """What pairs are made of."""

    sources: dict[str, float] = Field(default={SCENES: 3.0, "chart": 1.0, "screen": 1.0, "table": 1.0}, min_length=1)
    """Generators of single pictures (`qwenvl data synth`), each with its weight."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Source -> what its generator is told; of scenes, the keys of its `scene`."""
    faults: dict[str, float] = EVEN
    """Fault -> weight; `missed_point` needs markup that has points (Qwen2.5-VL)."""
    tasks: tuple[str, ...] = Field(default=_ABOUT_SCENES, min_length=1)
    """What is asked about scenes. Without referring, find_text, refusal, grounded_caption and ocr_quad no pair has a box."""
    language: Literal["en", "zh", "both"] = "both"
    held_out: bool = False
    """Put questions in the one phrasing that training does not see."""

    @model_validator(mode="after")
    def _is_possible(self) -> PreferenceSpec:
        if unknown := set(self.faults) - set(FAULTS):
            raise ValueError(f"faults: no {', '.join(sorted(unknown))}; known: {', '.join(FAULTS)}")
        if unknown := set(self.tasks) - set(_ABOUT_SCENES):
            raise ValueError(f"tasks: no {', '.join(sorted(unknown))}; known: {', '.join(_ABOUT_SCENES)}")
        if not self.faults or min(self.faults.values()) < 0 or not sum(self.faults.values()):
            raise ValueError("faults: give at least one a weight above 0, and none one below")
        return self


def samples(spec: PreferenceSpec, seed: int, index: int) -> list[Sample]:
    """The pair about picture `index`, as a Sample; none where the picture allows no fault that is wanted."""
    rng = np.random.default_rng((_SALT, seed, index))
    language: Language = ("en", "zh")[int(rng.integers(2))] if spec.language == "both" else spec.language
    voice = Voice(language, "chat", rng, spec.held_out)
    name = draw(spec.sources, rng)
    settings = spec.settings.get(name, {})
    if name == SCENES:
        made = about_scene(validate(settings, SceneSpec, f"settings of {name!r}"), seed, index, voice, spec.tasks)
    else:
        generator = generator_named(name)
        told = settings | generator.told(language, spec.held_out)
        made = generator.samples(generator.read_spec(told, f"settings of {name!r}"), seed, index)
    pair = pair_about(made, spec.faults, voice)
    return [] if pair is None else [preference_to_sample(pair)]


def about_scene(spec: SceneSpec, seed: int, index: int, voice: Voice, tasks: Sequence[str] = _ABOUT_SCENES) -> list[Sample]:
    """Everything that is asked about a scene, of these tasks."""
    scene = generate_scene(spec, seed, index)
    found = [questions(scene, task, voice.language, "chat", voice.rng, voice.held_out) for task in tasks]
    return [sample for samples in found for sample in samples]


def pair_about(made: Sequence[Sample], faults: dict[str, float], voice: Voice) -> PreferenceSample | None:
    """A pair about one of the Samples, all of which show one picture; None where none allows a fault that is wanted."""
    known = list(truths(made))
    left = {name: weight for name, weight in faults.items() if weight}
    while left:
        name = draw(left, voice.rng)
        del left[name]
        for truth in voice.some(known, len(known)):
            wrong = FAULTS[name](truth, voice)
            if wrong is not None and wrong != truth.answer:
                return _pair(truth, wrong, name)
    return None


def _pair(truth: Truth, wrong: Sequence[Any], fault: str) -> PreferenceSample:
    sample = truth.sample
    extra = {**sample.extra, "fault": fault, "asked": sample.task}
    prompt = replace(sample, messages=sample.messages[:-1], id=f"{sample.id} {fault}", task=TASK, source=SOURCE, extra=extra)
    return PreferenceSample(prompt, sample.messages[-1], Message("assistant", tuple(wrong)))


def truths(made: Iterable[Sample]) -> Iterator[Truth]:
    """Samples of one question and its answer about a picture, each with all boxes that any of them tells."""
    found = [sample for sample in made if len(sample.images) == 1 == len(sample.visuals) and len(_turns(sample)) == 2]
    others: dict[tuple[str, Region], None] = {}
    for sample in found:
        for part in sample.messages[-1].parts:
            if isinstance(part, RegionPart) and part.phrase and len(part.regions) == 1 and part.regions[0].kind == "box":
                others[part.phrase, part.regions[0]] = None
    for sample in found:
        yield Truth(sample, sample.messages[-1].parts, tuple(others))


def _turns(sample: Sample) -> list[Message]:
    return [message for message in sample.messages if message.role != "system"]


def pairs_of(stream: Iterable[Sample], faults: dict[str, float], seed: int) -> Iterator[Sample]:
    """One pair for each picture of a stream that allows a fault; Samples of one picture follow each other."""
    single = (sample for sample in stream if len(sample.images) == 1 and sample.language in ("en", "zh"))
    for number, (_, together) in enumerate(groupby(single, key=lambda sample: _Picture(sample.images[0].image))):
        made = list(together)
        voice = Voice(cast(Language, made[0].language), "chat", np.random.default_rng((_SALT, seed, number)))
        pair = pair_about([sample for sample in made if sample.language == voice.language], faults, voice)
        if pair is not None:
            yield preference_to_sample(pair)


class _Picture:
    """A picture that is equal to another one of the same content or path."""

    def __init__(self, image: Any) -> None:
        self.image = image

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, _Picture)
        return self.image is other.image or (type(self.image) is type(other.image) and bool(self.image == other.image))
