"""Long samples: as long as asked and no longer, true to their truth, and with one answer that is late."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from qwenvl.config import ConfigError, Strict, validate
from qwenvl.data.documents.blocks import Block
from qwenvl.data.documents.page import Line, Page
from qwenvl.data.length import Ruler
from qwenvl.data.synth.clip import ClipSpec, generate_clip
from qwenvl.data.synth.generators import GENERATORS, Generated
from qwenvl.data.synth.long import trajectory
from qwenvl.data.synth.long.book import PHRASES as BOOK_PHRASES
from qwenvl.data.synth.long.book import BookSpec, books, page_shown
from qwenvl.data.synth.long.haystack import HaystackSpec, _spec_of
from qwenvl.data.synth.long.reel import LATE, ReelSpec, joined, make_reel
from qwenvl.data.synth.long.reel import samples as reel_samples
from qwenvl.data.synth.long.trajectory import APPS, TrajectorySpec
from qwenvl.data.synth.names import described
from qwenvl.processing.image import picture_size
from qwenvl.processing.spans import read_spans
from qwenvl.processing.tools import read_calls
from qwenvl.types import CoordinatesPart, ImagePart, Message, RegionPart, Sample, TextPart, VideoPart
from tests.phrasebooks import check_book
from tests.round_trip import FAMILIES, check_round_trip

pytestmark = pytest.mark.usefixtures("scene_sources")

SHORT = (2000, 2600)
LONG_ONES = ("reel", "haystack", "trajectory")
SETTINGS: dict[str, dict[str, Any]] = {
    "reel": {"tokens": (3000, 6000)}, "haystack": {"tokens": SHORT, "sources": {"scenes": 1.0}},
    "trajectory": {"tokens": (2000, 6000), "width": (360, 400), "visits": (1, 4)},
}  # fmt: skip


@cache
def made(name: str, count: int = 8, seed: int = 3) -> tuple[Sample, ...]:
    generator = GENERATORS[name]
    spec = generator.read_spec(SETTINGS[name], name)
    return tuple(sample for index in range(count) for sample in generator.samples(spec, seed, index))


def said(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


# All of them


@pytest.mark.parametrize("name", LONG_ONES)
def test_the_same_numbers_give_the_same_sample(name: str) -> None:
    generator = GENERATORS[name]
    spec = generator.read_spec(SETTINGS[name], name)
    again = {sample.id: sample for sample in generator.samples(spec, 3, 2)}
    before = {sample.id: sample for sample in made(name)}
    assert again and all(before[id].extra == sample.extra for id, sample in again.items())
    assert all(_pixels(before[id]) == _pixels(sample) for id, sample in again.items())
    assert len(before) == len(made(name)) > 4, "an id for each"


def _pixels(sample: Sample) -> list[bytes]:
    frames = [frame for part in sample.visuals for frame in (part.video if isinstance(part, VideoPart) else [part.image])]
    return [frame.tobytes() for frame in frames]


@pytest.mark.parametrize("name", LONG_ONES)
def test_no_sample_is_longer_than_its_budget_and_some_nearly_fill_it(name: str) -> None:
    lengths = [Ruler().sample(sample) for sample in made(name)]
    most = SETTINGS[name]["tokens"][1]
    assert most / 3 < max(lengths) <= most


def test_samples_of_32k_tokens_can_be_had() -> None:
    """Reels are the quickest to make: minutes of video, whose every second costs 128 tokens at two frames a second."""
    spec = ReelSpec(tokens=(32768, 32768), kinds={"needle": 1.0}, clips=ClipSpec(seconds=(30.0, 30.0)))
    (sample,) = GENERATORS["reel"].samples(spec, 0, 0)
    assert 28_000 < Ruler().sample(sample) <= 32_768


def test_the_rule_of_thumb_gives_visual_tokens_exactly_and_text_generously() -> None:
    ruler = Ruler()
    assert ruler.part(ImagePart(Image.new("RGB", (280, 560)))) == 10 * 20 + 10
    assert Ruler("qwen-vl-7b").part(ImagePart(Image.new("RGB", (280, 560)))) == 256 + 10
    # Of a published tokenizer: a digit is a token, a usual word one or two.
    assert ruler.text("2018 and 33") == 4 + 1 + 2 and ruler.text("international") == 3 and ruler.text("你好，世界") == 5


@pytest.mark.parametrize("change", [{"tokens": [100, 200]}, {"tokens": [5000, 4000]}, {"preset": "gpt-4"}])
@pytest.mark.parametrize("spec", [ReelSpec, HaystackSpec, TrajectorySpec, BookSpec])
def test_an_impossible_setting_is_one_clear_line(spec: type[Strict], change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(change, spec, "options")
    assert "\n" not in str(caught.value)


def test_a_mixture_can_draw_them() -> None:
    source = Generated("haystack", SETTINGS["haystack"], seed=1)
    assert source.sample(0).task == "haystack"


# Reels


def test_clips_are_joined_without_a_gap_and_keep_their_truth() -> None:
    spec = ClipSpec(canvas=(84, 84))
    clips = [generate_clip(spec, 2, index) for index in range(4)]
    reel = joined(clips)
    assert len(reel.frames) == sum(len(clip.frames) for clip in clips) and reel.duration == sum(clip.duration for clip in clips)
    begin, number = 0.0, 0
    tracks = iter(reel.tracks)
    for clip in clips:
        for track in clip.tracks:
            moved = next(tracks)
            assert (moved.start, moved.end) == (begin + track.start, begin + track.end)
            assert moved.boxes[number : number + len(clip.frames)] == track.boxes and len(moved.boxes) == len(reel.frames)
            assert sum(box is not None for box in moved.boxes) == len(track.seen)
        assert reel.frames[number] is clip.frames[0]
        begin, number = begin + clip.duration, number + len(clip.frames)
    with pytest.raises(ValueError, match="several sizes"):
        joined([clips[0], generate_clip(ClipSpec(canvas=(90, 90)), 2, 0)])


def test_a_needle_in_a_reel_is_late_and_its_name_means_one_thing() -> None:
    checked = 0
    spec = ReelSpec(tokens=(3000, 6000), kinds={"needle": 1.0})
    for index in range(8):
        for sample in GENERATORS["reel"].samples(spec, 3, index):
            reel, extra = make_reel(spec, 3, index), sample.extra
            alike = [track for track in reel.tracks if (track.name, track.colour) == (extra["key"], extra["colour"])]
            assert len(alike) == 1 and alike[0].start >= LATE * reel.duration
            assert described(alike[0].name, sample.language, alike[0].colour) in extra["question"]  # type: ignore[arg-type]
            if "span" in extra:
                (span,) = read_spans(extra["answer"])
                assert (span.start, span.end) == (alike[0].start, alike[0].end)
            checked += 1
    assert checked > 4


def test_reels_are_told_event_by_event() -> None:
    spec = ReelSpec(tokens=(6000, 6000), kinds={"events": 1.0}, language="en")
    (sample,) = GENERATORS["reel"].samples(spec, 3, 1)
    reel = make_reel(spec, 3, 1)
    spans = read_spans(sample.extra["answer"])
    assert [(span.start, span.end) for span in spans] == [(track.start, track.end) for track in reel.tracks]
    assert len(spans) > 8 and max(span.end for span in spans) > 20


# Haystacks


def test_the_list_of_all_events_comes_last() -> None:
    """It would answer the other questions."""
    listed = 0
    for index in range(12):
        (sample,) = reel_samples(ReelSpec(tokens=(1500, 2500), kinds={"dialogue": 1.0}), 5, index) or (None,)
        kinds = [turn["kind"] for turn in sample.extra["turns"]] if sample is not None else []
        listed += "clip_events" in kinds
        assert "clip_events" not in kinds[:-1]
    assert listed


def test_the_question_of_a_haystack_is_about_a_late_picture() -> None:
    kinds: Counter[str] = Counter()
    for sample in made("haystack", count=12):
        (turn,) = sample.extra["turns"]
        place = turn["picture"] if "picture" in turn else int(turn["value"]) - 1
        assert place >= len(sample.images) * 2 / 3 - 1e-9 and len(sample.images) > 8
        regions = [region for part in sample.messages[-1].parts if isinstance(part, RegionPart) for region in part.regions]
        assert all(region.image == place for region in regions)
        kinds[turn["kind"]] += 1
    assert len(kinds) > 2


def test_the_pictures_of_a_held_out_haystack_are_asked_about_in_held_out_words() -> None:
    for name in ("icon", "scenes"):
        settings = _spec_of(HaystackSpec(tokens=SHORT, held_out=True), name, "zh").model_dump()
        assert settings["held_out"] and settings["language"] == "zh"


# Trajectories


def steps(sample: Sample) -> list[tuple[Message, Message]]:
    _, *turns = sample.messages
    return list(zip(turns[::2], turns[1::2], strict=True))


def test_a_trajectory_is_a_screen_and_a_call_by_turns_until_it_is_done() -> None:
    for sample in made("trajectory"):
        assert sample.messages[0].role == "system" and "mobile_use" in said(sample.messages[0])
        sizes = {part.image.size for part in sample.images}
        assert len(sizes) == 1, "one phone has one screen"
        calls = []
        for number, (asked, answer) in enumerate(steps(sample)):
            assert sum(isinstance(part, ImagePart) for part in asked.parts) == 1
            assert {part.region.image for part in answer.parts if isinstance(part, CoordinatesPart)} <= {number}
            text = "".join(part.text if isinstance(part, TextPart) else "1, 2" for part in answer.parts)
            (call,) = read_calls(text)  # type: ignore[arg-type]
            calls.append(call)
        assert [call.arguments["action"] for call in calls] == [told["arguments"]["action"] for told in sample.extra["calls"]]
        assert calls[-1].arguments == {"action": "terminate", "status": "success"}
        assert said(steps(sample)[0][0]).startswith("The user query:  ")


def test_every_click_lies_on_its_target_and_changes_the_screen() -> None:
    changed = 0
    for sample in made("trajectory"):
        screens = [np.asarray(part.image) for part in sample.images]
        for number, told in enumerate(sample.extra["calls"]):
            action, box = told["arguments"]["action"], told["box"]
            if action == "click":
                x, y = told["arguments"]["coordinate"]
                assert box[0] <= x <= box[2] and box[1] <= y <= box[3]
            if action == "type":
                height, width = screens[number].shape[:2]
                left, top, right, bottom = (round(side * scale) for side, scale in zip(box, (width, height) * 2, strict=True))
                differs = (screens[number] != screens[number + 1]).any(axis=2)
                assert differs[top:bottom, left:right].any(), "what was typed is seen"
                differs[top:bottom, left:right] = False
                assert not differs.any(), "and nothing else changes"
                changed += 1
    assert changed > 2


def test_what_is_wanted_is_what_is_done() -> None:
    """The goal names every text that is typed, and as many things as there are switches pressed."""
    for sample in made("trajectory"):
        goal = sample.extra["question"]
        typed = [told["arguments"]["text"] for told in sample.extra["calls"] if told["arguments"]["action"] == "type"]
        assert all(text in goal for text in typed)
        pressed = Counter(told["arguments"]["action"] for told in sample.extra["calls"])
        homes = pressed["system_button"]
        wants = len(re.findall(r"(?:turn o|tick |untick )|[打开关闭勾选取消]{2,4}", goal))
        if sample.language == "en":
            assert pressed["click"] - (homes + 1) - len(typed) == wants, goal


def test_a_screen_that_is_come_back_to_is_as_it_was_left() -> None:
    spec = TrajectorySpec(language="en")
    phone = trajectory.Phone(trajectory._screens(spec, "en", np.random.default_rng(1)), 5, 0, shown="settings")
    before = phone.look()
    switch = next(widget for widget in before.widgets if widget.element.kind == "switch")
    phone.change(switch.label, "off" if switch.state == "on" else "on")
    phone.shown = "chat"
    assert phone.look().layout == "chat"
    phone.shown = "settings"
    after = phone.look()
    now = {widget.label: widget.state for widget in after.widgets}
    assert now[switch.label] != switch.state
    assert {label: state for label, state in now.items() if label != switch.label} == {
        widget.label: widget.state for widget in before.widgets if widget.label != switch.label
    }
    differs = (np.asarray(before.image) != np.asarray(after.image)).any(axis=2)
    left, top, right, bottom = switch.element.box
    differs[top:bottom, left:right] = False
    assert not differs.any() and set(APPS.values()) <= {"settings", "chat", "form"}


# Books


@cache
def page(number: int, source: str = "manual.pdf", words: str = "alpha") -> Page:
    """A drawn page with a heading and five lines that no other page has."""
    image = Image.new("RGB", (280, 364), "white")
    pen = ImageDraw.Draw(image)
    lines, texts = [], [f"Chapter {number}", *(f"the {words} line {row} of page {number} is here" for row in range(5))]
    for row, text in enumerate(texts):
        top = 30 + 50 * row
        pen.text((28, top), text, "black")
        right = 28 + pen.textlength(text)
        lines.append(Line(text, ((28, top), (right, top), (right, top + 14), (28, top + 14)), 12.0))
    heading = Block("heading", (0.05, 0.05, 0.5, 0.1), texts[0], attributes={"level": "1"})
    return Page(image, tuple(lines), (heading,), source, number)


SIZES = (2000, 3000)
"""Of books in tests: six to a dozen pages."""


def made_books(count: int = 60, **settings: Any) -> list[Sample]:
    spec = BookSpec(**{"tokens": SIZES, **settings})
    return list(books((page(number) for number in range(1, count + 1)), spec, 0))


def test_pages_are_dealt_out_in_order_within_the_budget() -> None:
    found = made_books()
    names = [name for sample in found for name in sample.extra["pictures"]]
    assert names == [f"manual.pdf#{number}" for number in range(1, len(names) + 1)] and len(names) > 40
    assert all(len(sample.images) == len(sample.extra["pictures"]) >= 3 for sample in found)
    lengths = [Ruler().sample(sample) for sample in found]
    assert max(lengths) <= 3000 and len(found) > 3 and len({len(sample.images) for sample in found}) > 1
    assert len({sample.id for sample in found}) == len(found)


def test_a_book_ends_with_its_document() -> None:
    pages = (
        [page(number) for number in range(1, 5)]
        + [page(number, "other.pdf", "beta") for number in range(1, 5)]
        + [page(9, "z.pdf")]
    )
    found = list(books(pages, BookSpec(tokens=SIZES), 0))
    assert [{name.split("#")[0] for name in sample.extra["pictures"]} for sample in found] == [{"manual.pdf"}, {"other.pdf"}]


def test_the_first_question_is_about_a_late_page_and_all_answers_are_on_their_pages() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(4):
        for sample in books((page(number) for number in range(1, 41)), BookSpec(tokens=SIZES), seed):
            pages = [int(name.split("#")[1]) for name in sample.extra["pictures"]]
            turns = sample.extra["turns"]
            first = turns[0]
            place = first["picture"] if "picture" in first else int(first["value"]) - 1
            assert place >= len(pages) * 2 / 3 - 1e-9
            for turn, answer in zip(turns, sample.messages[1::2], strict=True):
                kinds[turn["kind"]] += 1
                if turn["kind"] == "spot_text":
                    number = re.search(r"page (\d+)|Chapter (\d+)", turn["question"])
                    assert number is None or int(number[1] or number[2]) == pages[int(turn["value"]) - 1]
                elif turn["kind"] == "first_heading":
                    assert said(answer) == f"Chapter {pages[turn['picture']]}"
                elif turn["kind"] == "contents":
                    assert said(answer).splitlines() == [f"Picture {n + 1}: Chapter {real}" for n, real in enumerate(pages)]
                elif turn["kind"] == "line_box":
                    (part,) = answer.parts
                    assert isinstance(part, RegionPart) and part.regions[0].image == turn["picture"]
                    assert f"page {pages[turn['picture']]}" in str(part.phrase) or "Chapter" in str(part.phrase)
    assert {"spot_text", "first_heading", "contents", "line_box", "next_line", "number_of_pictures"} <= set(kinds)


def test_a_page_is_made_smaller_and_its_places_stay() -> None:
    shown = page_shown(page(1), BookSpec(page_pixels=50_000))
    assert picture_size(shown.picture.image) == (196, 255)
    boxed = [part for asked in shown.asked for part in asked.answer if isinstance(part, RegionPart)]
    assert boxed and all(abs(region.points[0][0] - 0.1) < 1e-9 for part in boxed for region in part.regions)


def test_too_few_pages_are_no_book() -> None:
    assert not list(books([page(1), page(2)], BookSpec(), 0))


@pytest.mark.parametrize("path", [BOOK_PHRASES, trajectory.PHRASES], ids=lambda path: path.name)
def test_the_books_of_phrasings_are_whole(path: Path) -> None:
    check_book(path)


# To tokens and back


@pytest.mark.parametrize("family", FAMILIES)
def test_places_of_long_samples_are_in_the_frame_of_their_own_picture(family: str) -> None:
    for sample in (made("haystack")[0], made_books()[0], made("trajectory")[1]):
        encoded = check_round_trip(sample, family)
        assert len(encoded.grids) == len(sample.images)
