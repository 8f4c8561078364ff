"""The questions about scenes: true, balanced, unambiguous, in the paper's formats; and the page and vocabulary made of them."""

from __future__ import annotations

import copy
import re
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qwenvl.cli.main import main
from qwenvl.data import wording
from qwenvl.data.synth.names import CLDR_FOLDER, COLOUR_NAMES, COLOURS, EMOJI, SHAPES, Language, described, plural
from qwenvl.data.synth.scene import Scene, Thing
from qwenvl.data.tasks import LANGUAGES, TASKS, TaskError, chance, has_phrasings, questions, two_picture_dialogue
from qwenvl.data.text_only import imaginary_scene
from qwenvl.data.vocabulary import corpus
from qwenvl.data.vqa import VQA
from qwenvl.data.wording import Voice, centre, names_by_position
from qwenvl.families.spec import Markup
from qwenvl.processing.regions import parts_text
from qwenvl.types import ImagePart, RegionPart, Sample, Style, TextPart

pytestmark = pytest.mark.skipif(not CLDR_FOLDER.is_dir(), reason="names of things need the Debian package unicode-cldr-core")

STYLES: tuple[Style, ...] = ("raw", "chat")
SCENES = 2000


def scenes(count: int, seed: int = 0) -> Iterator[Scene]:
    rng = np.random.default_rng(seed)
    return (imaginary_scene(rng) for _ in range(count))


def thing(kind: str, name: str, box: tuple[float, float, float, float], colour: str | None = None) -> Thing:
    left, top, right, bottom = box
    return Thing(kind, name, colour, box, ((left, top), (right, top), (right, bottom), (left, bottom)), 0)  # type: ignore[arg-type]


def scene_of(*things: Thing) -> Scene:
    return Scene(Image.new("RGB", (100, 100)), things, "blue", 0, 0)


STREET = scene_of(
    thing("emoji", "dog", (5, 10, 30, 35)),
    thing("emoji", "dog", (70, 10, 95, 35)),
    thing("shape", "circle", (40, 60, 60, 80), "red"),
    thing("text", "AB12", (5, 80, 35, 95)),
)


def written(sample: Sample) -> tuple[str, str]:
    """The prompt and the answer of a single turn, with markup as the published models have it."""
    said = {"user": "", "assistant": ""}
    for message in sample.messages:
        said[message.role] += parts_text(message.parts, Markup())
    return said["user"], said["assistant"]


def everything(count: int, seed: int, **options: bool) -> Iterator[Sample]:
    rng = np.random.default_rng(seed)
    before: Scene | None = None
    for scene in scenes(count, seed):
        for language in LANGUAGES:
            for style in STYLES:
                for task in TASKS:
                    yield from questions(scene, task, language, style, rng, **options)
            yield two_picture_dialogue(before or scene, scene, language, rng, **options)
        before = scene


def meant(phrase: str, scene: Scene) -> list[Thing]:
    """The things that an English phrase may mean: this test's own reading of it, by its words."""
    words = phrase.removeprefix("the ").split(" ")
    side = words.pop(0) if words[0] in SIDES else None
    colour = words.pop(0) if words[0] in COLOURS else None
    if words[0] == "text":
        found = [thing for thing in scene.things if thing.kind == "text" and words[1:] in ([], thing.name.split())]
    else:
        found = [thing for thing in scene.things if thing.kind != "text" and thing.name == " ".join(words)]
        found = [thing for thing in found if colour in (None, thing.colour)]
    if side and found:
        axis, largest, alike = SIDES[side]
        assert alike is None or len(found) == alike
        # Right and bottom edges count as much as left and top ones: the middle decides.
        middles = [thing.box[axis] + thing.box[axis + 2] for thing in found]
        best = max(middles) if largest else min(middles)
        found = [thing for thing, middle in zip(found, middles, strict=True) if middle == best]
    return found


# Word -> axis, whether the largest is meant, and how many alike things it speaks of.
SIDES: dict[str, tuple[int, bool, int | None]] = {
    "left": (0, False, 2), "right": (0, True, 2), "upper": (1, False, 2), "lower": (1, True, 2),
    "leftmost": (0, False, None), "rightmost": (0, True, None), "topmost": (1, False, None), "lowest": (1, True, None),
}  # fmt: skip


def test_the_same_generator_gives_the_same_samples() -> None:
    first, second, other = ([*everything(20, seed)] for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_every_task_speaks_both_languages_and_styles() -> None:
    spoken = {(sample.task, sample.language) for sample in everything(60, 3)}
    assert spoken == {(task, language) for task in TASKS for language in LANGUAGES}
    for sample in everything(20, 4):
        english = [part.text for message in sample.messages for part in message.parts if isinstance(part, TextPart)]
        if sample.language == "en" and sample.task != "text":
            assert not re.search("[。？，：、]", "".join(english)), english
        if sample.language == "zh" and sample.task != "text":
            assert not re.search("[a-z]{2}", "".join(english)), english


def test_places_can_be_taught_and_no_slot_stays_open() -> None:
    for sample in everything(40, 5):
        for message in sample.messages:
            for part in message.parts:
                if isinstance(part, RegionPart):
                    assert all(region.check(sample.id) for region in part.regions)
                elif isinstance(part, TextPart):
                    assert "{" not in part.text and "  " not in part.text and part.text


@pytest.mark.parametrize(("task", "value"), [("yes_no", "yes"), ("left_right", "left"), ("above_below", "above")])
@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_of_two_kinds_are_balanced(task: str, value: str, language: Language) -> None:
    rng = np.random.default_rng(6)
    samples = [sample for scene in scenes(SCENES) for sample in questions(scene, task, language, "raw", rng)]
    counted = Counter(sample.extra["value"] for sample in samples)
    assert set(counted) == set(samples[0].extra["choices"])
    assert counted[value] / counted.total() == pytest.approx(0.5, abs=0.05)


def test_yes_is_as_likely_for_shapes_as_for_other_things() -> None:
    """Else the question alone would give the answer away."""
    rng = np.random.default_rng(7)
    samples = [sample for scene in scenes(2 * SCENES) for sample in questions(scene, "yes_no", "en", "raw", rng)]
    for group in (lambda truth: truth["key"] in EMOJI, lambda truth: truth["key"] in SHAPES, lambda truth: truth["colour"]):
        values = [sample.extra["value"] for sample in samples if group(sample.extra)]
        assert values.count("yes") / len(values) == pytest.approx(0.5, abs=0.05)


def test_a_referring_phrase_means_one_thing_and_its_box() -> None:
    rng = np.random.default_rng(8)
    phrases = Counter[str]()
    for scene in scenes(SCENES):
        for task in ("referring", "find_text"):
            for sample in questions(scene, task, "en", "raw", rng):
                (found,) = meant(sample.extra["phrase"], scene)
                fractions = [edge / side for edge, side in zip(found.box, (scene.width, scene.height) * 2, strict=True)]
                assert sample.extra["regions"] == [pytest.approx(fractions)]
                phrases[sample.extra["phrase"].split()[1]] += 1
    assert {"left", "right", "upper", "lower", "text", "red", "circle"} <= set(phrases)


def test_position_words_are_used_only_where_places_stand_apart() -> None:
    assert names_by_position(STREET, 0, "en") == ["the left dog"]
    assert names_by_position(STREET, 1, "zh") == ["右边的狗"]
    close = scene_of(thing("emoji", "dog", (5, 10, 30, 35)), thing("emoji", "dog", (12, 40, 37, 65)))
    assert names_by_position(close, 0, "en") == ["the upper dog"]


def test_what_where_and_sides_are_true() -> None:
    """Recomputed from the things, by an own reading of the phrase."""
    rng = np.random.default_rng(9)
    seen = Counter[str]()
    axis_of = {"left_of": (0, -1), "right_of": (0, 1), "above": (1, -1), "below": (1, 1)}
    far_of = {"leftmost": (0, -1), "rightmost": (0, 1), "topmost": (1, -1), "bottommost": (1, 1)}
    for scene in scenes(SCENES):
        voice = Voice("en", "raw", rng)
        middles = {id(thing): centre(scene, thing) for thing in scene.things}
        for task in ("what", "where", "left_right", "above_below"):
            for ask in VQA[task](scene, voice):
                seen[ask.kind] += 1
                assert ask.focus is not None
                answer = scene.things[ask.focus]
                here = middles[id(answer)]
                if ask.kind in axis_of:
                    axis, sign = axis_of[ask.kind]
                    (named,) = meant(ask.slots["thing"], scene)
                    there = [other for other in scene.things if (middles[id(other)][axis] - middles[id(named)][axis]) * sign > 0]
                    assert there == [answer]
                elif ask.kind in far_of:
                    axis, sign = far_of[ask.kind]
                    assert here[axis] * sign == max(middle[axis] * sign for middle in middles.values())
                elif ask.kind in ("left_right", "above_below"):
                    axis = int(ask.kind == "above_below")
                    (one,), (two,) = meant(ask.slots["thing"], scene), meant(ask.slots["other"], scene)
                    assert one is answer
                    before = middles[id(one)][axis] < middles[id(two)][axis]
                    assert ask.value == (("left", "above") if before else ("right", "below"))[axis]
                else:
                    row = ("top ", "", "bottom ")[int(here[1] * 3)]
                    column = ("left", "", "right")[int(here[0] * 3)]
                    place = (row + column).strip() or "center"
                    assert (ask.value if ask.kind == "where" else ask.slots["place"].split("the ")[1]) == place
                if ask.kind in axis_of or ask.kind in far_of or ask.kind == "at_place":
                    assert ask.value == described(answer.name, "en", answer.colour) and ask.value in ask.choices
    assert set(seen) == {*axis_of, *far_of, "at_place", "where", "left_right", "above_below"}


def test_counts_colours_and_presence_are_true() -> None:
    rng = np.random.default_rng(10)
    named = {(key, colour) for key in SHAPES for colour in (None, *COLOURS)} | {(key, None) for key in EMOJI}
    plurals = {f"{colour} {plural(key)}" if colour else plural(key): (key, colour) for key, colour in named}
    counts = Counter[str]()
    for scene in scenes(SCENES):
        things = [thing for thing in scene.things if thing.kind != "text"]
        voice = Voice("en", "raw", rng)

        def matching(key: str, colour: str | None, things: list[Thing] = things) -> int:
            return sum(thing.name == key and colour in (None, thing.colour) for thing in things)

        for ask in VQA["count"](scene, voice):
            truth = len(things) if ask.kind.startswith("count_all") else matching(*plurals[ask.slots["things"]])
            assert ask.value == ask.short == str(truth)
            counts[ask.value] += 1
        for ask in VQA["colour"](scene, voice):
            shown = [scene.background] if ask.focus is None else [meant(ask.slots["thing"], scene)[0].colour]
            assert [ask.value] == shown and ask.short == COLOUR_NAMES[ask.value]["en"]
        for ask in VQA["yes_no"](scene, voice):
            assert (ask.value == "yes") == (matching(ask.about["key"], ask.about["colour"]) > 0)
            asked_for = described(ask.about["key"], "en", ask.about["colour"])
            assert ask.slots["a_thing"] == ("an " if asked_for[0] in "aeiou" else "a ") + asked_for
        for sample in questions(scene, "refusal", "en", "chat", rng):
            assert matching(sample.extra["key"], sample.extra["colour"]) == 0
    assert set("0123") <= set(counts)


def test_captions_name_everything_once_with_its_boxes() -> None:
    rng = np.random.default_rng(11)
    (sample,) = questions(STREET, "grounded_caption", "en", "raw", rng)
    regions = {part.phrase: len(part.regions) for part in sample.messages[1].parts if isinstance(part, RegionPart)}
    assert regions == {"two dogs": 2, "the text AB12": 1, "a red circle": 1}
    assert "on a blue background" in sample.extra["answer"] or "a blue background with" in sample.extra["answer"]
    for scene in scenes(300):
        for language in LANGUAGES:
            (sample,) = questions(scene, "caption", language, "chat", rng)
            assert sum(group["count"] for group in sample.extra["things"]) == len(scene.things)
            assert all(group["phrase"].lower() in sample.extra["answer"].lower() for group in sample.extra["things"])


def test_text_is_read_line_by_line_from_the_left() -> None:
    page = scene_of(
        thing("text", "THREE", (10, 60, 50, 80)),
        thing("text", "TWO", (55, 12, 90, 30)),
        thing("text", "ONE", (5, 15, 40, 33)),
    )
    rng = np.random.default_rng(0)
    assert questions(page, "ocr", "en", "raw", rng)[0].extra["answer"] == "ONE, TWO, THREE"
    assert questions(page, "ocr_quad", "zh", "chat", rng)[0].extra["texts"] == ["ONE", "TWO", "THREE"]
    assert questions(scene_of(STREET.things[0]), "ocr", "en", "raw", rng) == []


BOX, QUAD = r"<box>\(\d+,\d+\),\(\d+,\d+\)</box>", r"<quad>\(\d+,\d+\), \(\d+,\d+\), \(\d+,\d+\), \(\d+,\d+\)</quad>"


@pytest.mark.parametrize(
    ("task", "prompt", "answer"),
    [
        ("caption", "Generate the caption in English:", r" \S[^<]*\."),
        ("grounded_caption", "Generate the caption in English with grounding:", rf" [^<]*(<ref>[^<]+</ref>({BOX})+[^<]*)+\."),
        ("referring", "<ref>[^<]+</ref>", BOX),
        ("find_text", "<ref>the text AB12</ref>", BOX),
        ("naming", f"<ref>This</ref>{BOX}", " is (a|the) .+"),
        ("ocr", " .+ Answer:", " AB12"),
        ("ocr_quad", "OCR with grounding:", f" <ref>AB12</ref>{QUAD}"),
        *((task, " .+ Answer:", " [a-z0-9 ]+") for task in VQA),
    ],
)
def test_raw_formats_are_those_of_box_b(task: str, prompt: str, answer: str) -> None:
    """arXiv 2308.12966, Box B: what stands before the answer, and the answer with its leading space."""
    rng = np.random.default_rng(12)
    for _ in range(5):
        samples = questions(STREET, task, "en", "raw", rng)
        assert samples
        for sample in samples:
            asked, reply = written(sample)
            assert isinstance(sample.messages[0].parts[0], ImagePart)
            assert re.fullmatch(prompt, asked), asked
            assert re.fullmatch(answer, reply), reply


def test_raw_answers_are_those_of_the_paper_to_the_letter() -> None:
    box = "<box>(50,100),(300,350)</box>"
    dog = scene_of(STREET.things[0])
    rng = np.random.default_rng(13)
    assert written(questions(dog, "referring", "en", "raw", rng)[0]) == ("<ref>the dog</ref>", box)
    assert written(questions(dog, "naming", "en", "raw", rng)[0]) == (f"<ref>This</ref>{box}", " is a dog")
    assert written(questions(dog, "naming", "zh", "raw", rng)[0]) == (f"<ref>这</ref>{box}", "是一只狗")
    text = scene_of(STREET.things[3])
    quad = "<quad>(50,800), (350,800), (350,950), (50,950)</quad>"
    assert written(questions(text, "ocr_quad", "en", "raw", rng)[0]) == ("OCR with grounding:", f" <ref>AB12</ref>{quad}")


def test_the_held_out_phrasing_is_never_trained_and_always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    marked = copy.deepcopy(wording.phrasebook())
    for phrasings in (listed for languages in marked.values() for listed in languages.values()):
        assert len(phrasings) >= 7 and len(set(phrasings)) == len(phrasings)
        phrasings[-1] = "@" + phrasings[-1]
    monkeypatch.setattr(wording, "phrasebook", lambda *_: marked)

    def asked(sample: Sample) -> list[str]:
        return [turn["question"] for turn in sample.extra.get("turns", [sample.extra])]

    assert not any("@" in question for sample in everything(60, 14) for question in asked(sample))
    for language in LANGUAGES:
        for style in STYLES:
            for task in (task for task in TASKS if has_phrasings(task, style)):
                rng = np.random.default_rng(15)
                for scene in scenes(5):
                    for sample in questions(scene, task, language, style, rng, held_out_phrasing=True):
                        assert all("@" in question for question in asked(sample) if sample.extra["kind"] != "sentence"), sample


def test_chance_is_one_over_the_choices() -> None:
    for sample in everything(30, 16):
        level = chance(sample.task, "en")
        if sample.task in ("where", "colour", "yes_no", "left_right", "above_below"):
            assert level == pytest.approx(1 / len(sample.extra["choices"]))
            assert sample.extra["value"] in sample.extra["choices"]
    assert chance("caption", "en") is None


def test_the_value_is_spelt_in_the_answer_and_the_answer_is_accepted() -> None:
    for sample in everything(60, 17):
        if sample.task in VQA:
            reply = sample.extra["answer"]
            assert any(spelling in reply.lower() for spelling in sample.extra["choices"][sample.extra["value"]]), sample
            assert reply in sample.extra["accept"]


def test_conversations_show_pictures_once_and_take_turns() -> None:
    rng = np.random.default_rng(18)
    both = [scene for scene in scenes(80, 1) if scene.things]
    for first, second in pairwise(both):
        for language in LANGUAGES:
            pair = two_picture_dialogue(first, second, language, rng)
            for sample, pictures in ((pair, 2), *((alone, 1) for alone in questions(first, "dialogue", language, "chat", rng))):
                assert [message.role for message in sample.messages] == ["user", "assistant"] * len(sample.extra["turns"])
                assert 2 <= len(sample.extra["turns"]) <= 4
                shown = [sum(isinstance(part, ImagePart) for part in message.parts) for message in sample.messages]
                assert shown == [pictures] + [0] * (len(shown) - 1)


def test_tasks_that_cannot_be_asked() -> None:
    rng = np.random.default_rng(0)
    assert questions(STREET, "dialogue", "en", "raw", rng) == []
    assert questions(STREET, "two_pictures", "en", "chat", rng) == []
    with pytest.raises(TaskError, match="unknown; known: caption"):
        questions(STREET, "captoin", "en", "raw", rng)
    with pytest.raises(TaskError, match="needs a scene"):
        questions(None, "caption", "en", "raw", rng)


def test_text_without_a_picture_has_none_and_needs_none() -> None:
    rng = np.random.default_rng(19)
    samples = [questions(None, "text", language, style, rng)[0] for _ in range(200) for language in LANGUAGES for style in STYLES]
    assert not any(sample.images for sample in samples)
    kinds = {sample.extra["kind"] for sample in samples}
    assert {"sentence", "described", "sum", "difference", "next_number", "translate", "opposite", "spell", "greeting"} <= kinds
    for sample in samples:
        if sample.extra["kind"] == "sum":
            first, second = map(int, re.findall(r"\d+", sample.extra["question"]))
            assert sample.extra["value"] == str(first + second)


def test_questions_are_made_fast_enough_for_training() -> None:
    """8,000 Samples per core-second: an eighth of a millisecond each."""
    shown = [*scenes(60)]
    rng = np.random.default_rng(20)
    started, made = time.process_time(), 0
    for scene in shown:
        for task in TASKS:
            made += len(questions(scene, task, "en", "chat", rng))
    assert made / (time.process_time() - started) > 8000


def test_the_corpus_holds_every_character_of_the_tasks() -> None:
    texts = [*corpus(0, 60_000)]
    assert [*islice(corpus(0, 60_000), 2000)] == texts[:2000]
    characters = set("".join(texts))
    for sample in everything(30, 21):
        said = "".join(part.text for message in sample.messages for part in message.parts if isinstance(part, TextPart))
        assert set(said) <= characters, set(said) - characters
    assert any(re.fullmatch(r"\(\d{3},\d{3}\),\(\d{3},\d{3}\)", text) for text in texts)
    assert {"You are a helpful assistant.", "Picture 1: "} <= set(texts)
    assert not any(tag in text for text in texts for tag in ("<ref>", "<box>", "<img>", "<|"))


def test_the_vocabulary_verb_writes_a_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from qwenvl.processing.tokenizer import Tokenizer

    assert main(["data", "vocabulary", "--out", str(tmp_path / "v"), "--size", "600", "--texts", "3000"]) == 0
    assert "600 tokens" in capsys.readouterr().out
    tokenizer = Tokenizer.from_folder(tmp_path / "v")
    assert tokenizer.vocab_size == 600
    assert tokenizer.decode(tokenizer.encode("两只狗 and a red circle")) == "两只狗 and a red circle"


def test_the_scene_verb_writes_a_page_that_stands_alone(tmp_path: Path) -> None:
    from qwenvl.data.synth import fonts
    from qwenvl.types import QwenVLError

    try:
        fonts.require()
    except QwenVLError as error:
        pytest.skip(str(error))
    page = tmp_path / "scenes.html"
    assert main(["data", "scene", "--count", "2", "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 2 and "<polygon" in text and "Generate the caption in English:" in text
    assert not re.search(r'(src|href)="http', text)
