"""Dialogues about several pictures say what is true of them, of the right picture, whatever the Samples came from."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qwenvl.cli.data_dialogues import Dialogues
from qwenvl.cli.data_dialogues import dialogues as run_command
from qwenvl.config import ConfigError, validate
from qwenvl.data import wording
from qwenvl.data.dialogues.build import DialogueSpec, Tally, dialogues
from qwenvl.data.dialogues.difference import covered_copy
from qwenvl.data.dialogues.strategies import STRATEGIES
from qwenvl.data.dialogues.turns import PHRASES, sentence
from qwenvl.data.places import upright
from qwenvl.data.shards import ShardReader, write_shard
from qwenvl.data.shown import Shown, gather, head
from qwenvl.data.synth.generators import GENERATORS
from qwenvl.data.synth.scene import Scene, SceneSpec, generate_scene
from qwenvl.data.tasks import LANGUAGES, questions
from qwenvl.data.wording import Voice, region_of
from qwenvl.processing.image import open_image
from qwenvl.types import ImagePart, Message, Region, RegionPart, Sample, TextPart, VideoPart
from tests.phrasebooks import check_book
from tests.round_trip import FAMILIES, check_round_trip

pytestmark = pytest.mark.usefixtures("scene_sources")

COUNT = 18
ASKED = ("caption", "grounded_caption", "referring", "naming", "count", "colour", "ocr_quad")


def scene(index: int) -> Scene:
    return generate_scene(SceneSpec(), 0, index)


def stream(count: int = COUNT) -> Iterator[Sample]:
    """Samples about scenes, raw and chat by turns, as shards hold them."""
    rng = np.random.default_rng(0)
    for index in range(count):
        shown = scene(index)
        for language in LANGUAGES:
            for task in ASKED:
                yield from questions(shown, task, language, "chat" if index % 2 else "raw", rng)


@pytest.fixture(scope="module")
def made() -> list[Sample]:
    return list(dialogues(stream(), DialogueSpec(rounds=4), 7))


def scenes_of(sample: Sample) -> list[Scene]:
    """The scenes that a dialogue is about, by the names of its pictures."""
    numbers = [int(re.search(r"scene \d+/(\d+)", name)[1]) for name in sample.extra["pictures"]]  # type: ignore[index]
    return [scene(number) for number in numbers]


# What Samples say


def test_samples_of_one_picture_are_joined_by_language() -> None:
    passed_over: Counter[str] = Counter()
    picture = ImagePart(Image.new("RGB", (8, 8)))
    clip = Sample((Message("user", (VideoPart([picture.image]),)), Message.of("assistant", "a")), "clip", "vqa", "en")
    two = Sample((Message("user", (picture, picture)), Message.of("assistant", "a")), "two", "vqa", "en")
    russian = Sample((Message("user", (picture, TextPart("?"))), Message.of("assistant", "a")), "ru", "vqa", "ru")
    found = list(gather([*stream(4), clip, two, russian], passed_over))
    assert [(shown.language, shown.name.split()[1]) for shown in found] == [
        (language, f"0/{index}") for index in range(4) for language in LANGUAGES
    ]
    assert passed_over == {"a clip": 1, "several pictures": 1, "neither English nor Chinese": 1}
    for shown in found:
        truth = scene(int(shown.name.split()[1].split("/")[1]))
        assert len(shown.captions) == 2 and not shown.caption.startswith(" ")
        boxes = {region_of(truth, thing) for thing in truth.things}
        assert shown.things and {region for thing in shown.things for region in thing.regions} <= boxes
        assert {text.phrase for text in shown.texts} == {thing.name for thing in truth.things if thing.kind == "text"}
        assert all("{" not in asked.question and "Answer:" not in asked.question for asked in shown.asked)


def test_bytes_and_paths_are_one_picture_as_long_as_they_are_equal() -> None:
    def about(image: Any) -> Sample:
        return Sample((Message("user", (ImagePart(image), TextPart("What?"))), Message.of("assistant", "A dog.")), "x", "vqa", "en")

    samples = [about(bytes([1, 2])), about(bytes([1, 2])), about(bytes([3])), about("a.png"), about("a.png"), about("b.png")]
    assert [len(shown.asked) for shown in gather(samples)] == [2, 1, 2, 1]


def test_descriptions_in_conversations_are_captions() -> None:
    """As in LLaVA's files, where a turn has no task of its own."""
    picture = ImagePart(b"one")
    asked = [Message("user", (picture, TextPart("What is it?"))), Message.of("user", "Describe the image in detail.")]
    said = [Message.of("assistant", "A dog."), Message.of("assistant", "A brown dog on a lawn.")]
    (shown,) = gather([Sample((asked[0], said[0], asked[1], said[1]), "x", "conversation", "en")])
    assert shown.caption == "A brown dog on a lawn." and [one.question for one in shown.asked] == ["What is it?"]


def test_a_phrase_that_begins_a_sentence_stands_within_one_with_a_small_letter() -> None:
    box = Region.box(0.1, 0.1, 0.5, 0.5)
    answer = Message("assistant", (RegionPart("A clock", (box,)), TextPart(" beside "), RegionPart("Anna", (box,))))
    (shown,) = gather([Sample((Message.of("user", "?", ImagePart(b"one")), answer), "x", "grounded_caption", "en")])
    assert [thing.phrase for thing in shown.things] == ["a clock", "Anna"]


def test_the_head_of_a_phrase_is_what_it_is_about() -> None:
    heads = {"a red circle": "circle", "two red circles": "circle", "The dog.": "dog", "three buses": "bus"}
    assert {phrase: head(phrase, "en") for phrase in heads} == heads
    assert head("一个红色的圆形", "zh") == "圆形"
    shown = Shown(ImagePart(None), "x", "en", said="Some circles on a table.")
    assert shown.may_show("a blue circle") and not shown.may_show("a star")


# What is said of several


def test_all_strategies_are_used_in_both_languages_and_every_picture_equally_often() -> None:
    tally = Tally()
    found = list(dialogues(stream(), DialogueSpec(rounds=3, pictures=(3, 3)), 7, tally))
    usual = set(STRATEGIES) - {"needle"}
    assert {(sample.extra["kind"], sample.language) for sample in found} == {(k, lang) for k in usual for lang in LANGUAGES}
    assert sum(tally.dialogues.values()) == len(found) == len({sample.id for sample in found}) and not tally.bad
    assert len(found) + tally.fruitless == 2 * 3 * COUNT // 3
    uses = Counter(name for sample in found if sample.extra["kind"] != "difference" for name in sample.extra["pictures"])
    assert max(uses.values()) <= 3 and len(uses) > COUNT


def test_the_same_seed_gives_the_same_dialogues(made: list[Sample]) -> None:
    again = list(dialogues(stream(), DialogueSpec(rounds=4), 7))
    assert [(sample.id, sample.extra) for sample in again] == [(sample.id, sample.extra) for sample in made]
    assert [part.image.tobytes() for sample in again[:9] for part in sample.images] == [
        part.image.tobytes() for sample in made[:9] for part in sample.images
    ]
    other = list(dialogues(stream(), DialogueSpec(rounds=3), 8))
    assert [sample.extra for sample in other] != [sample.extra for sample in made]


def test_places_are_in_the_picture_that_has_the_thing(made: list[Sample]) -> None:
    checked = 0
    for sample in made:
        shown = scenes_of(sample)
        for message in sample.messages:
            for part in message.parts:
                for region in part.regions if isinstance(part, RegionPart) else ():
                    if sample.extra["kind"] == "difference":
                        assert region.image == 1, "a patch is in the copy"
                        continue
                    truth = shown[region.image]
                    boxes = {region_of(truth, thing).points for thing in truth.things}
                    assert replace(upright(region), image=0).points in boxes or region.kind == "quad"
                    checked += 1
    assert checked >= 20


def test_the_picture_that_is_named_is_the_only_one_that_fits(made: list[Sample]) -> None:
    kinds: Counter[str] = Counter()
    for sample in made:
        if sample.extra["kind"] == "difference":
            continue
        shown = scenes_of(sample)
        for turn in sample.extra["turns"]:
            if "phrase" not in turn or turn["kind"] != "spot":
                continue
            kinds[turn["kind"]] += 1
            (left, top, right, bottom), *_ = turn["regions"]
            here = shown[turn["picture"]]
            thing = next(t for t in here.things if region_of(here, t).points == ((left, top), (right, bottom)))
            others = [other for number, other in enumerate(shown) if number != turn["picture"]]
            assert not any(t.name == thing.name and t.colour == thing.colour for other in others for t in other.things)
            assert turn["value"] == str(turn["picture"] + 1) and turn["value"] in turn["choices"]
    assert kinds["spot"] >= 4


def test_nothing_is_asked_twice_and_pictures_come_when_they_are_asked_about(made: list[Sample]) -> None:
    for sample in made:
        texts = [part.text for message in sample.messages for part in message.parts if isinstance(part, TextPart)]
        assert not any("{" in text or "Answer:" in text for text in texts), texts
        asked = [turn["question"] for turn in sample.extra["turns"]]
        assert len(set(asked)) == len(asked) == len(sample.messages) // 2
        pictures = [sum(isinstance(part, ImagePart) for part in message.parts) for message in sample.messages]
        if sample.extra["kind"] == "in_turn":
            assert pictures == [1, 0] * len(sample.extra["pictures"]) + [0, 0]
        else:
            assert pictures[0] == len(sample.images) >= 2 and not any(pictures[1:])


def test_no_question_has_its_answer_in_the_conversation_already(made: list[Sample]) -> None:
    """Neither which picture a caption fits nor where a thing is, after an answer that has said it."""
    asked = 0
    for sample in made:
        said = ""
        for turn in sample.extra["turns"] if sample.extra["kind"] in ("together", "in_turn") else ():
            caption = plain_caption(turn["question"]) if turn["kind"] == "match" else turn.get("phrase", "")
            if turn["kind"] in ("match", "spot", "spot_text"):
                assert caption.lower() not in said, (said, turn)
                asked += 1
            said += turn["answer"].lower()
    assert asked >= 10


def plain_caption(question: str) -> str:
    """What a question of kind match quotes: all behind its colon or question mark."""
    return re.split(r"[?:？：]\s*", question, maxsplit=1)[1].rstrip(".。")


def test_a_needle_is_one_question_about_a_late_picture() -> None:
    spec = DialogueSpec(pictures=(9, 9), strategies={"needle": 1}, rounds=8)
    found = list(dialogues(stream(), spec, 2))
    kinds = Counter(turn["kind"] for sample in found for turn in sample.extra["turns"])
    assert len(found) > 20 and {"spot", "spot_text", "match"} <= set(kinds)
    for sample in found:
        (turn,) = sample.extra["turns"]
        place = turn["picture"] if "picture" in turn else int(turn["value"]) - 1
        assert len(sample.images) == 9 and len(sample.messages) == 2 and place >= 6
        if turn["kind"] == "spot_text":
            named = [number for number, shown in enumerate(scenes_of(sample)) if turn["question"].count("“")
                     and any(thing.name in turn["question"] for thing in shown.things if thing.kind == "text")]  # fmt: skip
            assert named == [place]


def test_a_covered_copy_differs_in_the_patch_alone() -> None:
    checked = 0
    for shown in gather(stream(12)):
        found = covered_copy(shown, Voice(shown.language, "chat", np.random.default_rng(3)))
        if found is None:
            continue
        copy_, said, place = found
        before, after = np.asarray(open_image(shown.picture.image)), np.asarray(copy_.image)
        ((left, top), (right, bottom)) = place.regions[0].pixels(*copy_.image.size)
        box = (slice(round(top), round(bottom)), slice(round(left), round(right)))
        assert len(np.unique(after[box].reshape(-1, 3), axis=0)) == 1
        outside = np.ones(before.shape[:2], bool)
        outside[box] = False
        assert (before[outside] == after[outside]).all() and (before[box] != after[box]).any()
        assert any(thing.phrase in said for thing in shown.things)
        checked += 1
    assert checked > 10


@pytest.mark.parametrize("family", FAMILIES)
def test_dialogues_go_to_tokens_and_back(made: list[Sample], family: str) -> None:
    for sample in made[::4]:
        encoded = check_round_trip(sample, family)
        assert len(encoded.grids) == len(sample.images)


def test_scenes_give_every_strategy_and_changed_ones() -> None:
    generator = GENERATORS["dialogue"]
    spec = generator.read_spec({}, "dialogue")
    found = [sample for index in range(40) for sample in generator.samples(spec, 2, index)]
    assert {sample.extra["kind"] for sample in found} >= {"together", "in_turn", "changed"}
    assert len({sample.id for sample in found}) == len(found) == 40
    again = generator.samples(spec, 2, 11)[0]
    assert again.extra == found[11].extra and again.messages[1:] == found[11].messages[1:]
    for sample in found:
        if sample.extra["kind"] == "changed":
            first, second = (np.asarray(part.image) for part in sample.images)
            assert first.shape == second.shape and (first != second).any()


def test_a_sentence_ends_as_one() -> None:
    assert sentence(" a dog on grass", "en") == "A dog on grass." and sentence("A dog!", "en") == "A dog!"
    assert sentence("草地上有一只狗", "zh") == "草地上有一只狗。"


# Phrasings, settings, command


def test_the_book_has_both_languages_and_the_last_phrasing_is_never_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    check_book(PHRASES)
    marked = copy.deepcopy(wording.phrasebook(PHRASES))
    for phrasings in (listed for languages in marked.values() for listed in languages.values()):
        phrasings[-1] = "@" + phrasings[-1]
    usual = wording.phrasebook()
    monkeypatch.setattr(wording, "phrasebook", lambda path=None: marked if path == PHRASES else usual)

    def across(sample: Sample) -> list[str]:
        return [turn["question"] for turn in sample.extra["turns"] if turn["kind"] in marked]

    trained = [question for sample in dialogues(stream(8), DialogueSpec(), 1) for question in across(sample)]
    held_out = [q for sample in dialogues(stream(8), DialogueSpec(), 1, held_out_phrasing=True) for q in across(sample)]
    assert trained and not any("@" in question for question in trained)
    assert held_out and all("@" in question for question in held_out)


@pytest.mark.parametrize(
    "change", [{"pictures": [1, 2]}, {"pictures": [3, 2]}, {"strategies": {"nonsense": 1}}, {"strategies": {}}]
)
def test_an_impossible_setting_is_one_clear_line(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(change, DialogueSpec, "options")
    assert "\n" not in str(caught.value)


def test_a_picture_that_cannot_be_opened_is_named_and_nothing_takes_its_place() -> None:
    tally = Tally()
    gone = [
        replace(sample, messages=(Message("user", (ImagePart(f"/no/such-{index}.png"),)), *sample.messages[1:]))
        for index in range(3)
        for sample in questions(scene(index), "grounded_caption", "en", "chat", np.random.default_rng(0))
    ]
    assert not list(dialogues(gone, DialogueSpec(strategies={"difference": 1}), 0, tally))
    assert tally.bad and "/no/such-" in tally.bad[0] and tally.fruitless == 1


def test_the_command_makes_shards_of_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "in" / "part-00000.parquet", stream(6))
    assert run_command(Dialogues(tmp_path / "in", tmp_path / "out", pictures=(2, 3))) == 0
    reader = ShardReader(tmp_path / "out")
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'out'}: {len(reader)} dialogues (")
    sample = reader.sample(0)
    assert sample.task == "multi_picture" and len(sample.images) >= 2 and sample.messages[-1].role == "assistant"
