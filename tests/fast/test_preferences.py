"""Preference pairs: the chosen answer is the truth, the rejected one is near it and wrong, in words and in places."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qwenvl.cli.data_preferences import Preferences
from qwenvl.cli.data_preferences import preferences as run_command
from qwenvl.config import ConfigError, validate
from qwenvl.data.pairs import encode_pair
from qwenvl.data.places import for_markup
from qwenvl.data.preferences.build import EVEN, FAULTS, PreferenceSpec, pairs_of, samples
from qwenvl.data.preferences.faults import Truth
from qwenvl.data.preferences.places import OVERLAP, overlap, shifted
from qwenvl.data.preferences.words import wrong_choice, wrong_number, wrong_text
from qwenvl.data.record import preference_to_sample, sample_to_preference
from qwenvl.data.shards import ShardReader, write_shard
from qwenvl.data.synth.names import counted, described
from qwenvl.data.synth.scene import Scene, SceneSpec, generate_scene
from qwenvl.data.tasks import questions
from qwenvl.data.wording import Voice, plain, region_of
from qwenvl.types import IGNORE_INDEX, ImagePart, Message, PreferenceSample, Region, RegionPart, Sample, Style, TextPart
from tests.fast.test_packed_rows import NANOS, processor
from tests.round_trip import FAMILIES, check_round_trip

pytestmark = pytest.mark.usefixtures("scene_sources")

SCENES = {"sources": {"scenes": 1.0}}


@cache
def stored(count: int = 110) -> tuple[Sample, ...]:
    spec = PreferenceSpec(sources={"scenes": 1.0})
    return tuple(sample for index in range(count) for sample in samples(spec, 4, index))


def pairs() -> list[tuple[str, PreferenceSample, Scene]]:
    """Fault, pair, and the scene that it is about."""
    found = []
    for sample in stored():
        index = int(re.search(r"scene 4/(\d+)", sample.id)[1])  # type: ignore[index]
        found.append((sample.extra["fault"], sample_to_preference(sample), generate_scene(SceneSpec(), 4, index)))
    return found


def boxes(message: Message) -> list[tuple[str | None, Region]]:
    return [(part.phrase, region) for part in message.parts if isinstance(part, RegionPart) for region in part.regions]


def test_every_fault_is_made_in_both_languages() -> None:
    made = Counter((sample.extra["fault"], sample.language) for sample in stored())
    of_figures = {"missed_point", "wrong_number"}  # though a text in a scene may be a number
    assert {fault for fault, _ in made} - of_figures == set(FAULTS) - of_figures
    assert {language for _, language in made} == {"en", "zh"}
    assert len(stored()) == 110 and len({sample.id for sample in stored()}) == 110


def test_the_same_numbers_give_the_same_pair() -> None:
    spec = PreferenceSpec(sources={"scenes": 1.0})
    (again,) = samples(spec, 4, 7)
    (before,) = (sample for sample in stored() if sample.id == again.id)
    assert again.extra == before.extra and again.messages[1:] == before.messages[1:]
    assert samples(spec, 5, 7)[0].extra != again.extra


def test_the_chosen_answer_is_the_one_of_the_question_and_the_rejected_one_another() -> None:
    for fault, pair, scene in pairs():
        assert pair.prompt.task == "preference" and pair.prompt.messages[-1].role == "user"
        (picture,) = pair.prompt.images
        assert picture.image.tobytes() == scene.image.tobytes()
        assert plain(pair.chosen.parts) == pair.prompt.extra["answer"] and pair.chosen != pair.rejected, fault
        assert pair.rejected.role == "assistant" and not any(isinstance(part, ImagePart) for part in pair.rejected.parts)
        said = plain(pair.rejected.parts)
        assert said and "{" not in said and not re.search(r"\b(a [aeio]|an [^aeiou])", said), said


def test_wrong_places_are_wrong_by_intersection_over_union() -> None:
    checked: Counter[str] = Counter()
    for fault, pair, scene in pairs():
        if fault not in ("shifted_box", "other_box"):
            continue
        right, wrong = boxes(pair.chosen), boxes(pair.rejected)
        assert [phrase for phrase, _ in right] == [phrase for phrase, _ in wrong], "only places differ"
        (moved,) = [(one, other) for (_, one), (_, other) in zip(right, wrong, strict=True) if one != other]
        if fault == "shifted_box":
            assert OVERLAP[0] <= overlap(*moved) <= OVERLAP[1]
        else:
            assert overlap(*moved) <= 0.3
            assert moved[1].points in {region_of(scene, thing).points for thing in scene.things}
        moved[1].check(pair.prompt.id)
        checked[fault] += 1
    assert min(checked.values()) > 5


def test_wrong_words_are_not_true_of_the_scene() -> None:
    """What is said of counts, colours and presence is false; what is said to be there is not, or not so often."""
    told: Counter[tuple[str, str]] = Counter()
    for fault, pair, scene in pairs():
        extra, said = pair.prompt.extra, plain(pair.rejected.parts)
        language: Any = pair.prompt.language
        told[fault, extra["kind"]] += 1
        if fault == "absent_affirmed" and extra["kind"] == "refusal":
            assert not any(thing.name == extra["key"] and thing.colour == extra["colour"] for thing in scene.things)
            assert boxes(pair.rejected) and not boxes(pair.chosen)
            assert described(extra["key"], language, extra["colour"]) in said
        elif fault == "present_denied" and extra["kind"] == "referring":
            assert boxes(pair.chosen) and not boxes(pair.rejected)
            assert extra["phrase"].removeprefix("the ") in said and said.startswith(("There is no ", "图中没有"))
        elif fault in ("absent_affirmed", "present_denied"):
            assert extra["value"] == ("no" if fault == "absent_affirmed" else "yes")
            there = any(thing.name == extra["key"] and extra["colour"] in (None, thing.colour) for thing in scene.things)
            assert there == (extra["value"] == "yes")
            assert said.lower().startswith(("no", "没有") if there else ("yes", "有"))
        elif fault == "wrong_count" and extra["kind"] == "count_of":
            assert said != extra["answer"] and not said.startswith(extra["value"])
        elif fault == "wrong_choice":
            spelt = [(len(word), value) for value, words in extra["choices"].items() for word in words if word in said.lower()]
            assert max(spelt)[1] != extra["value"], (said, extra["value"])
        elif fault == "wrong_thing" and extra["kind"] in ("caption", "grounded_caption"):
            phrases = [thing["phrase"] for thing in extra["things"]]
            assert sum(phrase.lower() in said.lower() for phrase in phrases) < len(phrases) or len(set(phrases)) < len(phrases)
        elif fault == "thing_left_out":
            phrases = [thing["phrase"].lower() for thing in extra["things"]]
            assert said.lower().count("、") + said.lower().count(", ") <= max(len(phrases) - 3, 0) + ("，" in said)
            assert len(said) < len(plain(pair.chosen.parts)) and phrases[0] in said.lower()
            assert sum(phrase in said.lower() for phrase in set(phrases)) >= len(set(phrases)) - 1
    assert set(told) >= {
        ("thing_left_out", "caption"), ("absent_affirmed", "refusal"), ("absent_affirmed", "is_there"),
        ("present_denied", "referring"), ("present_denied", "is_there"),
    }  # fmt: skip


def test_wrong_text_is_off_by_one_character() -> None:
    checked = 0
    for fault, pair, _ in pairs():
        if fault == "wrong_text":
            right, wrong = plain(pair.chosen.parts), plain(pair.rejected.parts)
            assert abs(len(right) - len(wrong)) <= 1 and right != wrong
            same = sum(a == b for a, b in zip(right, wrong, strict=False)) + sum(
                a == b for a, b in zip(right[::-1], wrong[::-1], strict=False)
            )
            assert same >= len(right) - 1
            checked += 1
    assert checked > 5


def truth(answer: str, **extra: Any) -> Truth:
    parts = (TextPart(answer),)
    sample = Sample(
        (Message("user", (ImagePart(None), TextPart("?"))), Message("assistant", parts)), "x", extra.pop("task", "vqa"), "en"
    )
    return Truth(Sample(sample.messages, "x", sample.task, "en", "", extra), parts)


def voice(seed: int = 0, language: Any = "en") -> Voice:
    return Voice(language, "chat", np.random.default_rng(seed))


def test_a_wrong_thing_has_its_own_article_and_measure_word() -> None:
    choices = {"cat": ["cat"], "owl": ["owl"]}
    said = wrong_choice(truth("It is a cat.", kind="left_of", value="cat", choices=choices), voice())
    assert said == (TextPart("It is an owl."),)
    chinese = {"book": ["书"], "balloon": ["气球"]}
    said = wrong_choice(truth("是一本书。", kind="at_place", task="what", value="book", choices=chinese), voice(language="zh"))
    assert said == (TextPart(f"是{counted('balloon', 1, 'zh')}。"),)


def test_a_wrong_number_is_wrong_wherever_the_answer_says_it() -> None:
    for seed in range(20):
        found = wrong_number(truth("12 + 30 = 42. The answer is 42.", value="42"), voice(seed))
        assert found is not None
        (part,) = found
        first, second = re.findall(r"(?:= |is )(\d+)", part.text)  # type: ignore[union-attr]
        assert first == second != "42" and len(first) == 2 and part.text.startswith("12 + 30 =")  # type: ignore[union-attr]
    assert wrong_number(truth("March", value="March"), voice()) is None
    assert wrong_number(truth("3", value="3", choices={"3": ["3"]}), voice()) is None, "a count is another fault's"


def test_digits_are_misread_as_digits_where_there_are_no_letters() -> None:
    for seed in range(40):
        (part,) = wrong_text(truth("2018", task="ocr"), voice(seed)) or (TextPart(""),)
        assert re.fullmatch(r"\d{3,5}", part.text) and part.text != "2018"  # type: ignore[union-attr]
    assert wrong_text(truth("2018", task="vqa"), voice()) is None


def test_a_shifted_box_stays_in_the_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y, wide, high = rng.uniform(0, 0.7), rng.uniform(0, 0.7), rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.3)
        box = Region.box(x, y, x + wide, y + high)
        moved = shifted(box, rng)
        assert moved is not None and OVERLAP[0] <= overlap(box, moved.check("x")) <= OVERLAP[1]


def test_figures_give_points_that_miss_and_wrong_numbers() -> None:
    spec = PreferenceSpec(sources={"chart": 1.0, "screen": 1.0}, faults={"missed_point": 1.0, "wrong_number": 1.0})
    made: Counter[str] = Counter()
    for index in range(12):
        for sample in samples(spec, 1, index):
            pair = sample_to_preference(sample)
            made[sample.extra["fault"]] += 1
            if sample.extra["fault"] == "missed_point":
                ((_, point),) = boxes(pair.rejected)
                (left, top, right, bottom) = sample.extra["regions"][0]
                ((x, y),) = point.points
                assert not (left <= x <= right and top <= y <= bottom)
    assert set(made) == {"missed_point", "wrong_number"}


@pytest.mark.parametrize("family", FAMILIES)
def test_both_answers_go_to_tokens_and_back(family: str) -> None:
    """`answered` are two Samples that any family encodes; places of both are where they should be."""
    for _, pair, _ in pairs()[::9]:
        for answered in pair.answered:
            check_round_trip(answered, family)


def test_shards_of_any_samples_give_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    about = [
        sample
        for index in range(8)
        for task in ("referring", "grounded_caption")
        for sample in questions(generate_scene(SceneSpec(), 0, index), task, "en", "raw", rng)
    ]
    write_shard(tmp_path / "in" / "part-00000.parquet", about)
    made = list(pairs_of(about, {"shifted_box": 1.0}, 0))
    assert len(made) == 8 and len({sample.id.split()[1] for sample in made}) == 8, "one for each picture"
    assert run_command(Preferences(tmp_path / "out", shards=tmp_path / "in", faults=("shifted_box",))) == 0
    reader = ShardReader(tmp_path / "out")
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: 8 pairs (shifted_box 8)\n" and len(reader) == 8
    assert json.dumps(sample_to_preference(reader.sample(3)).prompt.extra)
    assert run_command(Preferences(tmp_path / "drawn", count=5, sources=("scenes",))) == 0


@pytest.mark.parametrize("change", [{"faults": {"nonsense": 1}}, {"faults": {}}, {"faults": {"wrong_text": 0}}, {"sources": {}}])
def test_an_impossible_setting_is_one_clear_line(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(change, PreferenceSpec, "options")
    assert "\n" not in str(caught.value) and set(EVEN) == set(FAULTS) - {"missed_point"}


def test_a_generator_of_many_languages_is_asked_for_the_pairs_language() -> None:
    spec = PreferenceSpec(sources={"text": 1.0}, faults={"shifted_box": 1.0}, language="zh", settings={"text": {"preset": "plain"}})
    [pair] = samples(spec, 0, 0) or samples(spec, 0, 1)
    assert pair.language == "zh"


def test_a_command_that_makes_no_pair_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "in" / "part-00000.parquet", [])
    assert run_command(Preferences(tmp_path / "out", shards=tmp_path / "in")) == 1
    assert "no picture allows any of these faults" in capsys.readouterr().err


@pytest.mark.parametrize("style", ["raw", "chat"])
@pytest.mark.parametrize("preset", NANOS)
def test_of_several_turns_the_last_answers_alone_are_supervised(preset: str, style: Style) -> None:
    """A picture in a later turn too: what comes before it is shared, and nothing that is shared can be supervised."""
    ours, where = processor(preset), Region.box(0.1, 0.2, 0.6, 0.7)
    picture = ImagePart(Image.new("RGB", (90, 60), "red"))
    for late in (False, True):
        turns = (
            Message.of("user", *([] if late else [picture]), "Where is the dog?"),
            Message.of("assistant", "It is ", RegionPart("here", (where,)), "."),
            Message.of("user", *([picture] if late else []), "And its colour?"),
        )
        answers = [Message.of("assistant", text) for text in ("It is red.", "Blue, I think.")]
        pair = PreferenceSample(Sample(turns, "p"), *answers)
        encoded = encode_pair(ours, preference_to_sample(pair), style)
        assert encoded.branch_ids is not None
        for branch, answered in zip((1, 2), pair.answered, strict=True):
            taught = encoded.labels[(encoded.branch_ids == branch) & (encoded.labels != IGNORE_INDEX)]
            alone = ours.encode(replace(answered, messages=(turns[2], answered.messages[-1])), style)
            np.testing.assert_array_equal(taught, alone.labels[alone.labels != IGNORE_INDEX])
            whole = ours.encode(for_markup(answered, ours.markup), style)
            np.testing.assert_array_equal(encoded.input_ids[np.isin(encoded.branch_ids, (0, branch))], whole.input_ids)


def test_pairs_of_some_tasks_are_about_these_alone_and_have_no_box() -> None:
    spec = PreferenceSpec(sources={"scenes": 1.0}, tasks=("yes_no", "count"))
    made = [sample_to_preference(sample) for index in range(12) for sample in samples(spec, 4, index)]
    assert {pair.prompt.extra["asked"] for pair in made} == {"yes_no", "count"}
    assert not any(boxes(answer) for pair in made for answer in (pair.chosen, pair.rejected))
    with pytest.raises(ConfigError, match="no flying"):
        validate({"tasks": ["flying"]}, PreferenceSpec, "spec")
