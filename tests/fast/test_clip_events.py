"""Clips with more in them, and what is asked about events: times, order and counts are those of the frames."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from qwenvl.config import ConfigError, validate
from qwenvl.data.clip_events import EVENTS
from qwenvl.data.clip_wording import deed
from qwenvl.data.clips import clip_questions
from qwenvl.data.formats import EVENTS_PROMPT
from qwenvl.data.synth import clip as clips
from qwenvl.data.synth.clip import Clip, ClipSpec, clip_hash, generate_clip
from qwenvl.data.synth.generators import GENERATORS
from qwenvl.data.synth.names import described
from qwenvl.data.tasks import LANGUAGES
from qwenvl.processing.spans import read_spans
from qwenvl.types import Sample, Style

pytestmark = pytest.mark.usefixtures("scene_sources")

RICH = ClipSpec(seconds=(8.0, 12.0), visits=(1, 3), acts=("move", "stay", "grow", "shrink"))


def drawn(count: int, spec: ClipSpec = RICH, fps: float = 2.0) -> list[Clip]:
    return [generate_clip(spec, 6, index, fps) for index in range(count)]


def asked(task: str, count: int, style: Style = "chat") -> Iterator[tuple[Clip, Sample]]:
    rng = np.random.default_rng(2)
    for clip in drawn(count):
        for language in LANGUAGES:
            yield from ((clip, sample) for sample in clip_questions(clip, task, language, style, rng))


# What is shown


def test_things_follow_each_other_and_never_meet() -> None:
    counts: Counter[int] = Counter()
    for clip in drawn(40):
        counts[len(clip.tracks)] += 1
        assert len({(track.name, track.colour) for track in clip.tracks}) == len(clip.tracks)
        assert all(0 <= track.start < track.end <= clip.duration for track in clip.tracks)
        for number in range(len(clip.frames)):
            boxes = [box for track in clip.tracks if (box := track.boxes[number]) is not None]
            for place, a in enumerate(boxes):
                assert all(a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for b in boxes[place + 1 :])
    assert max(counts) > 5 and min(counts) >= 1


def test_things_do_what_their_act_says(monkeypatch: pytest.MonkeyPatch) -> None:
    acts: Counter[str] = Counter()
    for clip in drawn(30, fps=4.0):
        for track in clip.tracks:
            acts[track.act] += 1
            areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in track.seen]
            middles = np.array([((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in track.seen])
            assert (track.direction is not None) == (track.act == "move")
            if track.act in ("move", "stay"):
                assert len(set(areas)) == 1
            else:
                assert areas == sorted(areas, reverse=track.act == "shrink") and max(areas) > 1.5 * min(areas)
            wander = np.abs(middles - middles[0]).max()
            assert wander > 4 if track.act == "move" else wander <= 1.5
    assert set(acts) == {"move", "stay", "grow", "shrink"} and min(acts.values()) > 10


def test_boxes_hold_the_ink_of_what_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = drawn(8, ClipSpec(acts=("grow", "shrink")))
    monkeypatch.setattr(clips, "draw_paths", lambda *_: [])
    for clip in shown:
        (empty, *_) = generate_clip(ClipSpec(acts=("grow", "shrink")), 6, clip.index).frames
        for number, frame in enumerate(clip.frames):
            changed = (np.asarray(frame) != np.asarray(empty)).any(axis=2)
            for track in clip.tracks:
                if (box := track.boxes[number]) is not None:
                    left, top, right, bottom = (int(edge) for edge in box)
                    assert changed[top:bottom, left:right].any(axis=0)[2:-2].all()
                    changed[top:bottom, left:right] = False
            assert not changed.any()


def test_the_hash_of_older_specs_is_what_it_was() -> None:
    assert clip_hash(ClipSpec()) == "9ad4a2cd2421e04a", "weights of the first recipes carry it"
    assert len({clip_hash(spec) for spec in (ClipSpec(), RICH, ClipSpec(visits=(1, 2)), ClipSpec(acts=("stay",)))}) == 4


@pytest.mark.parametrize("change", [{"acts": []}, {"acts": ["fly"]}, {"visits": [0, 1]}, {"visits": [3, 9]}])
def test_an_impossible_spec_is_one_clear_line(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(change, ClipSpec, "clips.yaml")
    assert str(caught.value).startswith("clips.yaml: ") and "\n" not in str(caught.value)


# What is asked


def test_every_event_is_told_with_its_time_in_json() -> None:
    prompts: Counter[bool] = Counter()
    for clip, sample in asked("clip_events", 12):
        prompts[sample.extra["question"] == EVENTS_PROMPT[sample.language]] += 1
        answer = sample.extra["answer"]
        events = json.loads(re.fullmatch(r"```json\n(.*)\n```", answer, re.DOTALL)[1])  # type: ignore[index]
        assert all(re.fullmatch(r"\d\d:\d\d\.\d\d", event[key]) for event in events for key in ("start_time", "end_time"))
        spans = read_spans(answer)
        assert [(span.start, span.end) for span in spans] == [(track.start, track.end) for track in clip.tracks]
        for event, track in zip(events, clip.tracks, strict=True):
            assert described(track.name, sample.language, track.colour).lower() in event["description"].lower()
            assert deed(track, sample.language) in event["description"]
    assert min(prompts[True], prompts[False]) > 3, "in the published words and in ours"


def test_order_and_what_comes_next_are_those_of_the_frames() -> None:
    checked: Counter[str] = Counter()
    for clip, sample in asked("clip_order", 30):
        starts = [track.start for track in clip.tracks]
        assert len(set(starts)) == len(starts), "no order is asked for where two appear together"
        told = [(thing["key"], thing["colour"]) for thing in sample.extra["things"]]
        assert told == [(track.name, track.colour) for track in sorted(clip.tracks, key=lambda track: track.start)]
        places = [sample.extra["answer"].lower().index(thing["phrase"].lower()) for thing in sample.extra["things"]]
        assert places == sorted(places)
        checked["order"] += 1
    for clip, sample in asked("clip_next", 30):
        first = next(t for t in clip.tracks if (t.name, t.colour) == (sample.extra["key"], sample.extra["colour"]))
        later = sorted({track.start for track in clip.tracks if track.start > first.start})
        following = [track for track in clip.tracks if track.start == later[0]]
        assert [described(track.name, "en", track.colour) for track in following] == [sample.extra["value"]]
        assert described(first.name, sample.language, first.colour) in sample.extra["question"]
        checked["next"] += 1
    assert min(checked["order"], checked["next"]) > 10


def test_what_is_there_at_a_moment_is_what_a_frame_shows() -> None:
    checked = 0
    for clip, sample in asked("clip_at", 15):
        moment = sample.extra["seconds"]
        there = [track for track in clip.tracks if track.start <= moment < track.end]
        assert [(thing["key"], thing["colour"]) for thing in sample.extra["things"]] == [(t.name, t.colour) for t in there]
        assert f"{moment:.1f}" in sample.extra["question"]
        changes = [time for track in clip.tracks for time in (track.start, track.end)]
        assert min(abs(moment - change) for change in changes) >= 0.19
        checked += 1
    assert checked > 60


def test_counts_are_of_what_is_seen() -> None:
    for clip, sample in asked("clip_count", 20):
        assert sample.extra["value"] == str(len(clip.tracks)) and sample.extra["value"] in sample.extra["choices"]


@pytest.mark.parametrize("style", ["raw", "chat"])
def test_every_task_has_both_languages_and_fills_its_slots(style: Style) -> None:
    found = Counter((task, sample.language) for task in EVENTS for _, sample in asked(task, 12, style))
    assert set(found) == {(task, language) for task in EVENTS for language in LANGUAGES}
    for task in EVENTS:
        for _, sample in asked(task, 4, style):
            said = sample.extra["question"] + ("" if task == "clip_events" else sample.extra["answer"])
            assert "{" not in said and "  " not in said
            assert not re.search("[。？，、]" if sample.language == "en" else "[A-Za-z]{5}", said.replace("start_time", "").replace(
                "end_time", "").replace("description", "")), said  # fmt: skip


def test_a_mixture_can_draw_clips() -> None:
    generator = GENERATORS["clip"]
    spec = generator.read_spec({"tasks": {"clip_events": 1.0, "clip_order": 1.0}}, "clip")
    found = [sample for index in range(12) for sample in generator.samples(spec, 1, index)]
    assert {sample.task for sample in found} == {"clip_events", "clip_order"} and len({sample.id for sample in found}) == len(found)
    assert [sample.extra for sample in generator.samples(spec, 1, 5)] == [sample.extra for sample in generator.samples(spec, 1, 5)]
    with pytest.raises(ConfigError, match="clip_nonsense: not a task of clips"):
        generator.read_spec({"tasks": {"clip_nonsense": 1.0}}, "clip")


def test_a_thing_that_no_frame_shows_is_no_event() -> None:
    """At one frame in two seconds a thing may come and go unseen."""
    hidden = 0
    for clip in drawn(30, fps=0.5):
        seen = sum(bool(track.seen) for track in clip.tracks)
        hidden += len(clip.tracks) - seen
        for sample in clip_questions(clip, "clip_events", "en", "chat", np.random.default_rng(0)):
            assert len(sample.extra["spans"]) == seen
    assert hidden
