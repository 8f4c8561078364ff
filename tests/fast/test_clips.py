"""Clips are true to their truth: who is where in which frame, from when to when; and the questions ask for what is seen."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from qwenvl.config import ConfigError, validate
from qwenvl.data import wording
from qwenvl.data.clip_events import EVENTS
from qwenvl.data.clips import CLIP_TASKS, ClipTaskError, clip_questions
from qwenvl.data.synth import clip as clips
from qwenvl.data.synth import clip_spec
from qwenvl.data.synth.clip import Clip, ClipSpec, clip_hash, clip_targets, generate_clip
from qwenvl.data.synth.names import described
from qwenvl.data.synth.spec import is_held_out_pair
from qwenvl.data.tasks import LANGUAGES
from qwenvl.families import family_of_preset, find_preset
from qwenvl.processing.spans import read_spans
from qwenvl.processing.video import open_clip
from qwenvl.types import QwenVLError, Sample, Style, TextPart, VideoPart

pytestmark = pytest.mark.usefixtures("scene_sources")

SPEC = ClipSpec()
STYLES: tuple[Style, ...] = ("raw", "chat")
TASKS = tuple(task for task in CLIP_TASKS if task not in EVENTS)
"""Those about events have tests of their own."""


def drawn(count: int, fps: float = 2.0, spec: ClipSpec = SPEC) -> list[Clip]:
    return [generate_clip(spec, 5, index, fps) for index in range(count)]


def content(clip: Clip) -> tuple[bytes, str]:
    return b"".join(frame.tobytes() for frame in clip.frames), repr((clip.tracks, clip.background, clip.duration))


def samples(count: int, style: Style, fps: float = 2.0, **options: bool) -> Iterator[tuple[Clip, Sample]]:
    rng = np.random.default_rng(1)
    for clip in drawn(count, fps):
        for language in LANGUAGES:
            for task in TASKS:
                yield from ((clip, sample) for sample in clip_questions(clip, task, language, style, rng, **options))


# What is shown


def test_a_clip_depends_on_nothing_but_spec_seed_and_index() -> None:
    forwards = [content(clip) for clip in drawn(5)]
    assert forwards == [content(generate_clip(SPEC, 5, index)) for index in reversed(range(5))][::-1]
    assert len({frames for frames, _ in forwards}) == 5
    held_out = {content(generate_clip(ClipSpec(split="held_out"), 5, index)) for index in range(5)}
    assert not held_out & set(forwards)


def test_the_rate_only_says_how_often_the_same_clip_is_looked_at() -> None:
    for index in range(10):
        once, twice = generate_clip(SPEC, 5, index, 1.0), generate_clip(SPEC, 5, index, 2.0)
        assert [frame.tobytes() for frame in twice.frames[::2]] == [frame.tobytes() for frame in once.frames]
        world = [[(track.name, track.start, track.end, track.direction) for track in clip.tracks] for clip in (once, twice)]
        assert world[0] == world[1] and once.duration == twice.duration
        assert len(twice.frames) == round(twice.duration * 2)


def test_things_are_in_their_boxes_from_start_to_end_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = drawn(30)
    monkeypatch.setattr(clips, "draw_paths", lambda *_: [])
    for clip in shown:
        (empty, *_) = generate_clip(SPEC, 5, clip.index).frames
        for number, frame in enumerate(clip.frames):
            changed = (np.asarray(frame) != np.asarray(empty)).any(axis=2)
            for track in clip.tracks:
                box = track.boxes[number]
                assert (box is not None) == (track.start <= number / clip.fps < track.end)
                if box is None:
                    continue
                left, top, right, bottom = (int(edge) for edge in box)
                assert 0 <= left < right <= clip.width and 0 <= top < bottom <= clip.height
                inside = changed[top:bottom, left:right]
                assert inside.any(axis=0)[2:-2].all() and inside.any(axis=1)[2:-2].all()
                changed[top:bottom, left:right] = False
            assert not changed.any()


def test_things_never_hide_each_other_and_move_as_their_direction_says() -> None:
    ways: Counter[str] = Counter()
    for clip in drawn(60):
        for number in range(len(clip.frames)):
            boxes = [box for track in clip.tracks if (box := track.boxes[number]) is not None]
            for place, a in enumerate(boxes):
                assert all(a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for b in boxes[place + 1 :])
        for track in clip.tracks:
            first, last = track.seen[0], track.seen[-1]
            across, down = last[0] - first[0], last[1] - first[1]
            axis, other = (across, down) if track.direction in ("left", "right") else (down, across)
            assert other == 0 and (axis > 0) == (track.direction in ("right", "down")) and axis
            ways[track.direction] += 1
        assert len({(track.name, track.colour) for track in clip.tracks}) == len(clip.tracks)
        assert [track.start for track in clip.tracks] == sorted(track.start for track in clip.tracks)
    assert set(ways) == {"left", "right", "up", "down"} and min(ways.values()) > 10


def test_clips_keep_to_their_spec() -> None:
    shown = drawn(80)
    assert {len(clip.tracks) for clip in shown} == {1, 2, 3}
    assert all(4 <= clip.duration <= 8 and 84 <= clip.width == clip.height <= 112 for clip in shown)
    for clip in shown:
        assert all(1 <= track.end - track.start <= 2 and 0 <= track.start < track.end <= clip.duration for track in clip.tracks)
        assert not any(is_held_out_pair(track.name, track.colour, clip.background) for track in clip.tracks)
    for clip in drawn(20, spec=ClipSpec(split="held_out", pairs="held_out", things=(1, 2))):
        assert all(is_held_out_pair(track.name, track.colour, clip.background) for track in clip.tracks)


@pytest.mark.parametrize(
    "change",
    [
        {"pairs": "held_out"}, {"canvas": [40, 90]}, {"things": [1, 4]}, {"stay": [1, 0.5]}, {"stay": [5, 6]}, {"patterns": []},
        {"fps": 2},
    ],
)
def test_an_impossible_spec_is_one_clear_line(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(change, ClipSpec, "clips.yaml")
    assert str(caught.value).startswith("clips.yaml: ") and "\n" not in str(caught.value)


def test_a_clip_that_cannot_be_drawn_is_refused() -> None:
    for seed, index, fps in ((-1, 0, 2.0), (0, -1, 2.0), (0, 0, 0.0)):
        with pytest.raises(QwenVLError, match="numbers count from 0, fps is above 0"):
            generate_clip(SPEC, seed, index, fps)


def test_the_hash_changes_with_whatever_changes_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = [clip_hash(spec) for spec in (SPEC, ClipSpec(split="held_out"), ClipSpec(things=(1, 2)))]
    assert len(set(hashes)) == 3 and clip_hash(ClipSpec()) == hashes[0]
    monkeypatch.setattr(clip_spec, "CLIP_VERSION", 999)
    assert clip_hash(SPEC) not in hashes


def test_dense_labels_follow_the_things_through_the_patches_in_time() -> None:
    for clip in drawn(12, fps=3.0):
        moments = -(-len(clip.frames) // 2)
        classes, boxes = clip_targets(clip, (moments, 8, 8), span=2)
        assert classes.shape == (moments * 64,) and boxes.shape == (moments * 64, 4)
        for moment, shown in enumerate(classes.reshape(moments, 64)):
            frames = range(2 * moment, min(2 * moment + 2, len(clip.frames)))
            seen = {track.class_id for track in clip.tracks if any(track.boxes[frame] for frame in frames)}
            assert set(shown.tolist()) - {0} == seen
        for track in clip.tracks:
            lefts = boxes.reshape(moments, 64, 4)[..., 0][classes.reshape(moments, 64) == track.class_id] * clip.width
            edges = [box[0] for box in track.seen]
            assert lefts.min() >= min(edges) - 1e-3 and lefts.max() <= max(edges) + 1e-3


def test_dense_labels_follow_the_frames_that_were_sampled() -> None:
    ours = find_preset("qwen2-vl-nano")
    for clip in drawn(6, fps=4.0):
        video = open_clip(ours.config, family_of_preset(ours), VideoPart(list(clip.frames), clip.fps, max_frames=6))
        numbers = [round(time * clip.fps) for time in video.times]
        assert video.grid[0] == 3 and len(numbers) == 6 and numbers[-1] == len(clip.frames) - 1 > 6
        seen = clip.sampled(video.times)
        assert seen.frames == tuple(clip.frames[number] for number in numbers) and seen.fps == pytest.approx(video.fps)
        classes, _ = clip_targets(seen, (3, 8, 8), span=2)
        for pair, shown in zip((numbers[:2], numbers[2:4], numbers[4:]), classes.reshape(3, 64), strict=True):
            there = {track.class_id for track in clip.tracks if any(track.boxes[number] for number in pair)}
            assert set(shown.tolist()) - {0} == there
        with pytest.raises(ValueError, match="sample the clip first"):
            clip_targets(clip, (3, 8, 8), span=2)


# What is asked


@pytest.mark.parametrize("style", STYLES)
def test_every_task_is_asked_in_both_languages_and_answered_with_the_truth(style: Style) -> None:
    asked: Counter[tuple[str, str]] = Counter()
    for clip, sample in samples(25, style):
        truth, tracks = sample.extra, {(track.name, track.colour): track for track in clip.tracks}
        asked[sample.task, sample.language] += 1
        (question, reply) = sample.messages
        assert isinstance(question.parts[0], VideoPart) and len(question.parts[0].video) == len(clip.frames)
        assert question.parts[0].fps == clip.fps
        if sample.task == "clip_when":
            track = tracks[truth["key"], truth["colour"]]
            (span,) = read_spans(truth["answer"])
            assert [span.start, span.end] == truth["span"] == [track.start, track.end]
            assert described(track.name, sample.language, track.colour) in truth["question"]
        elif sample.task == "clip_direction":
            assert truth["value"] == tracks[truth["key"], truth["colour"]].direction and truth["value"] in truth["choices"]
            assert any(spelling in truth["answer"] for spelling in truth["choices"][truth["value"]])
        else:
            assert [(thing["key"], thing["colour"]) for thing in truth["things"]] == list(tracks)
            places = [truth["answer"].lower().index(thing["phrase"].lower()) for thing in truth["things"]]
            assert places == sorted(places)
        said = "".join(part.text for message in sample.messages for part in message.parts if isinstance(part, TextPart))
        assert "{" not in said and "  " not in said
        assert not re.search("[。？，：、]" if sample.language == "en" else "[a-z]{2}", said), said
        assert isinstance(reply.parts[0], TextPart)
        assert reply.parts[0].text.startswith(" ") == (style == "raw" and sample.language == "en")
    assert set(asked) == {(task, language) for task in TASKS for language in LANGUAGES}


def test_a_time_is_asked_for_in_the_published_words_and_in_ours() -> None:
    shown = generate_clip(ClipSpec(things=(1, 1)), 5, 0)
    rng = np.random.default_rng(0)
    found = [sample.extra for _ in range(80) for sample in clip_questions(shown, "clip_when", "en", "chat", rng)]
    track, name = shown.tracks[0], "the " + described(shown.tracks[0].name, "en", shown.tracks[0].colour)
    published = f"Give the query: '{name} appears', when does the described content occur in the video?"
    answers = {truth["answer"] for truth in found if truth["question"] == published}
    assert answers == {f"The given query happens in {track.start:.1f} - {track.end:.1f} seconds."}
    assert {truth["kind"] for truth in found} == {"clip_query", "clip_when"}


def test_only_what_the_frames_show_is_asked_for() -> None:
    """At one frame in two seconds, a thing that stays for one may come and go unseen, and none is seen to move."""
    hidden = 0
    for clip, sample in samples(40, "chat", fps=0.5):
        seen = {track.name for track in clip.tracks if track.seen}
        hidden += len(clip.tracks) - len(seen)
        named = {thing["key"] for thing in sample.extra["things"]} if "things" in sample.extra else {sample.extra["key"]}
        assert named <= seen and sample.task != "clip_direction"
    assert hidden


def test_the_held_out_phrasing_is_never_trained_and_always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    marked = copy.deepcopy(wording.phrasebook())
    for phrasings in (listed for languages in marked.values() for listed in languages.values()):
        phrasings[-1] = "@" + phrasings[-1]
    monkeypatch.setattr(wording, "phrasebook", lambda *_: marked)
    assert not any("@" in sample.extra["question"] for _, sample in samples(20, "chat"))
    assert all("@" in sample.extra["question"] for _, sample in samples(4, "chat", held_out_phrasing=True))


def test_a_task_that_is_not_about_clips_is_refused() -> None:
    with pytest.raises(ClipTaskError, match="'caption': not about clips; known: clip_when"):
        clip_questions(drawn(1)[0], "caption", "en", "chat", np.random.default_rng(0))
