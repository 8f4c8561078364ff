"""Clips: the published sampling rule, the very frames it names, budgets, times, and one clear line for whatever is no clip."""

from __future__ import annotations

import math
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qwenvl.families import find_preset, get_family
from qwenvl.families.spec import VideoRules
from qwenvl.processing import video_file
from qwenvl.processing.clip_rules import draw_fps, frame_bounds, frame_count, frame_indices
from qwenvl.processing.patches import cut_patches
from qwenvl.processing.video import Clip, open_clip, ready_video
from qwenvl.processing.video_file import VideoError, VideoFile
from qwenvl.types import VideoPart
from tests.clips import number_of, numbered, write_clip, write_sound

UNIT = 28 * 28
PUBLISHED = VideoRules(
    fps=2.0, min_frames=4, max_frames=768, min_pixels=128 * UNIT, max_pixels=768 * UNIT, total_pixels=int(128000 * UNIT * 0.9)
)
SMALL = VideoRules(fps=2.0, min_frames=4, max_frames=24, min_pixels=UNIT, max_pixels=8 * UNIT, total_pixels=96 * UNIT)
"""Frames of a few tokens, so that tests are quick. 64 x 32 pixels become 56 x 28."""
CONFIG, SPEC = find_preset("qwen2.5-vl-3b").config, get_family("qwen2_5_vl")


def drawn(source: Any, rules: VideoRules = SMALL, **part: Any) -> Clip:
    return open_clip(CONFIG, replace(SPEC, videos=rules), VideoPart(source, **part))


def numbers(clip: Clip) -> list[int]:
    return [number_of(frame) for frame in clip.frames()]


def published_indices(total: int, video_fps: float, fps: float, min_frames: int = 4, max_frames: int | None = None) -> list[int]:
    """The rule of qwen-vl-utils, step by step; FRAME_FACTOR is 2."""
    least = math.ceil(min_frames / 2) * 2
    most = math.floor((max_frames or min(768, total)) / 2) * 2
    count = total / video_fps * fps
    count = min(max(count, least), most, total)
    count = math.floor(count / 2) * 2
    assert 2 <= count <= total
    return torch.linspace(0, total - 1, count).round().long().tolist()


def test_indices_are_those_of_the_published_rule() -> None:
    draw = random.Random(0)
    for _ in range(1000):
        total = draw.randint(2, draw.choice([10, 1000, 200_000]))
        native, fps = draw.choice([8.0, 23.976, 25.0, 29.97, 60.0, draw.uniform(1, 120)]), draw.uniform(0.1, 30)
        limit = draw.choice([None, None, draw.randint(4, 900)])
        count = frame_count(total, native, fps, 4, limit or 768, 2)
        assert frame_indices(total, count) == published_indices(total, native, fps, 4, limit and min(limit, total))


def test_bounds_of_a_frame_are_those_of_the_published_rule() -> None:
    part = VideoPart("")
    assert frame_bounds(part, PUBLISHED, 4, 2) == (128 * UNIT, 768 * UNIT), "few frames: the largest"
    assert frame_bounds(part, PUBLISHED, 768, 2) == (128 * UNIT, PUBLISHED.total_pixels / 768 * 2), "many share the total"
    assert frame_bounds(part, PUBLISHED, 2000, 2) == (128 * UNIT, int(128 * UNIT * 1.05)), "but hardly below the least"
    assert frame_bounds(VideoPart("", max_pixels=200 * UNIT), PUBLISHED, 4, 2) == (128 * UNIT, 200 * UNIT)
    assert frame_bounds(VideoPart("", max_pixels=9 * UNIT), PUBLISHED, 4, 2) == (9 * UNIT, 9 * UNIT)
    assert frame_bounds(VideoPart("", min_pixels=16 * UNIT), PUBLISHED, 9000, 2)[0] == 16 * UNIT


FILES = {
    "h264.mp4": {"codec": "libx264"}, "mpeg4.avi": {"codec": "mpeg4"}, "ffv1.mkv": {"codec": "ffv1"},
    "vp9.webm": {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": "8"}, "h264.ts": {"codec": "libx264"},
    "bare.h264": {"codec": "libx264"}, "open_gop.mov": {"codec": "libx264", "x264-params": "open-gop=1:bframes=3"},
    "b_frames.mp4": {"codec": "mpeg4", "bf": "2"}, "mpeg2.mpg": {"codec": "mpeg2video", "bf": "2", "fps": 25},
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_frames_are_the_very_ones_of_the_rule(name: str, tmp_path: Path) -> None:
    """Densely and sparsely, with frames that depend on later ones, in containers with and without an index or times."""
    options = {"fps": 10, **FILES[name]}
    path = write_clip(tmp_path / name, 90, **options)
    rate = 25 if name == "bare.h264" else options["fps"]  # a bare stream does not say; 25 is assumed
    for fps in (100, 2, 0.7):
        clip = drawn(path, fps=fps, max_frames=90)
        assert numbers(clip) == published_indices(90, rate, fps, 4, 90)
        np.testing.assert_allclose(clip.times, np.array(numbers(clip)) / rate, atol=2e-3)
        assert clip.fps == pytest.approx(len(clip.times) / 90 * rate)
        assert clip.source.duration == pytest.approx(90 / rate, abs=0.1)
        assert clip.size == (64, 32)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The stamps of all frames that are decoded from now on."""
    seen: list[int] = []
    decoded = VideoFile._decoded

    def counted(self: VideoFile, *arguments: Any) -> Iterator[tuple[int, Any]]:
        for stamp, frame in decoded(self, *arguments):
            seen.append(stamp)
            yield stamp, frame

    monkeypatch.setattr(VideoFile, "_decoded", counted)
    return seen


def test_r10_sparse_sampling_decodes_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "clip.mp4", 600, gop=10)
    seen = counting(monkeypatch)
    assert numbers(drawn(path, fps=0.1)) == published_indices(600, 10, 0.1)
    assert len(seen) <= 6 * 12
    seen.clear()
    clip = drawn(path, fps=10, max_frames=600)
    assert len(seen) == 1, "for the size"
    seen.clear()
    assert len(list(clip.frames())) == len(seen) == 600, "dense sampling decodes every frame once"


def test_a_seek_that_lands_late_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transport stream has no index; were it thought to have one, its seeks miss."""
    path = write_clip(tmp_path / "clip.ts", 300)
    monkeypatch.setattr(video_file, "INDEXED", {"mpegts"})
    seen = counting(monkeypatch)
    assert numbers(drawn(path, fps=0.3)) == published_indices(300, 10, 0.3)
    assert len(seen) > len(set(seen)), "no seek was tried"


def test_times_of_uneven_frames_are_kept(tmp_path: Path) -> None:
    times = [0, 100, 150, 900, 1000, 2500, 2600, 4000]
    clip = drawn(write_clip(tmp_path / "clip.mkv", 8, times=times, codec="mpeg4"), fps=100)
    assert numbers(clip) == list(range(8))
    np.testing.assert_allclose(np.array(clip.times) * 1000, times, atol=2)


def test_bytes_and_urls_of_a_file_give_the_same(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a clip.mp4", 20)
    expected = drawn(path)
    for source in (str(path), path.as_uri(), path.read_bytes(), memoryview(path.read_bytes())):
        found = drawn(source)
        np.testing.assert_array_equal(list(found.frames()), list(expected.frames()))
        assert found.times == expected.times


def test_a_turned_clip_is_upright(tmp_path: Path) -> None:
    """As phones write it: the picture lies, and a matrix in the header says how to turn it."""
    path = write_clip(tmp_path / "clip.mp4", 6)
    content = bytearray(path.read_bytes())
    one, none, last = (value.to_bytes(4, "big", signed=True) for value in (0x10000, 0, 0x40000000))
    minus = (-0x10000).to_bytes(4, "big", signed=True)
    place = content.index(one + none * 3 + one + none * 3 + last, content.index(b"tkhd"))
    for rows, turns in (((none, one, none, minus, none, none), -1), ((minus, none, none, none, minus, none), 2)):
        content[place : place + 24] = b"".join(rows)
        clip = drawn(bytes(content), max_frames=4)
        assert clip.size == ((32, 64) if turns == -1 else (64, 32))
        assert number_of(np.rot90(list(clip.frames())[-1], -turns)) == 5


def test_a_folder_of_frames_is_in_natural_order(tmp_path: Path) -> None:
    for number in (1, 2, 9, 10, 11):
        Image.fromarray(numbered(number)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    clip = drawn(tmp_path)
    assert numbers(clip) == [1, 2, 9, 10, 11]
    assert (clip.fps, clip.times) == (2.0, (0.0, 0.5, 1.0, 1.5, 2.0))
    clip = drawn(str(tmp_path), fps=10, max_frames=2)
    assert numbers(clip) == [1, 11]
    assert (clip.fps, clip.times, clip.source.duration) == (4.0, (0.0, 0.4), 0.5)


def test_a_list_of_pictures_is_a_clip_without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    clip = drawn([Image.fromarray(numbered(number)) for number in range(5)])
    assert numbers(clip) == list(range(5))
    assert [frame.shape for frame in clip.frames()] == [(28, 56, 3)] * 5
    assert numbers(drawn((Image.fromarray(numbered(3)),))) == [3]


def test_frames_become_patches_and_seconds() -> None:
    """An odd number of frames: the last one fills its pair. 4 fps: two frames are half a second."""
    frames = [Image.fromarray(numbered(number, (64, 64))) for number in range(5)]
    ready = ready_video(CONFIG, SPEC, VideoPart(frames, fps=4, max_pixels=4 * UNIT), "sample 's', video 1")
    assert ready.grid == (3, 4, 4)
    assert (ready.size, ready.seconds_per_grid) == ((64, 64), 0.5)
    pixels = np.stack([np.asarray(frame.resize((56, 56), Image.Resampling.BICUBIC)) for frame in frames])
    np.testing.assert_array_equal(ready.patches, cut_patches(pixels, CONFIG, SPEC))
    assert ready.patches.shape == (3 * 16, 1176)
    last = ready.patches[32:].reshape(16, 3, 2, 196)
    np.testing.assert_array_equal(last[:, :, 0], last[:, :, 1])


def test_a_clip_of_one_frame_works(tmp_path: Path) -> None:
    clip = drawn(write_clip(tmp_path / "clip.mp4", 1))
    assert (numbers(clip), clip.times) == ([0], (0.0,))


def test_long_clips_share_the_pixel_budget(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", (np.zeros((96, 160, 3), np.uint8) for _ in range(60)))
    areas = {}
    for count in (4, 24, 60):
        clip = drawn(path, fps=10, max_frames=count)
        areas[count] = clip.shown[0] * clip.shown[1]
        assert len(clip.times) == count
        assert areas[count] * count / 2 <= SMALL.total_pixels
    assert areas[4] > areas[60]


def moving(pace: int, count: int = 40) -> Iterator[np.ndarray]:
    """Coloured noise that moves by `pace` pixels a frame."""
    noise = np.random.default_rng(0).integers(0, 2, (8, 8, 3), dtype=np.uint8) * 255
    wide = np.asarray(Image.fromarray(noise).resize((64, 64), Image.Resampling.NEAREST))
    for number in range(count):
        yield np.roll(wide, number * pace, axis=1)


def test_auto_fps_follows_change_within_the_budget(tmp_path: Path) -> None:
    still = write_clip(tmp_path / "still.mp4", moving(0))
    fast = write_clip(tmp_path / "fast.mp4", moving(5))
    rates = {path.stem: drawn(path, PUBLISHED, fps="auto").fps for path in (still, fast)}
    assert rates == {"still": 1.0, "fast": 4.0}, "of the still one, the least of 4 frames in 4 seconds"
    assert drawn(fast, PUBLISHED, fps="auto", max_frames=8).fps == 2.0
    assert drawn(fast, PUBLISHED, fps="auto").fps == 4.0, "the same every time"
    long = write_clip(tmp_path / "long.mp4", moving(5, 300))
    assert drawn(long, SMALL, fps="auto", max_frames=100).fps == pytest.approx(1.0), "SMALL has room for 36 frames of 64 x 64"


def test_rates_for_training_cover_half_to_four() -> None:
    rates = [draw_fps(np.random.default_rng(seed)) for seed in range(300)]
    assert 0.5 <= min(rates) < 0.6
    assert 3.5 < max(rates) <= 4
    assert 0.9 < float(np.median(rates)) < 2.2
    assert rates[0] == draw_fps(np.random.default_rng(0))


def one_line(source: Any, **part: Any) -> str:
    with pytest.raises(VideoError) as caught:
        drawn(source, **part).read()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.mp4", "nowhere.mp4: no such file; check the path"),
        ("https://example.org/clip.mp4", "read from files only; download it"),
        ("rtsp://example.org/live", "read from files only"),
        (b"plain text, no video", "video of 20 bytes: not a video, or damaged"),
        (b"", "not a video"),
        ([], "list of 0 frames: holds no pictures"),
        (["gone.png"], "list of 1 frames, frame 1: gone.png: no such file"),
        ([Image.new("RGB", (30, 30)), Image.new("RGB", (31, 30))], "frame 2: 31x30, but the first is 30x30"),
        ([Image.new("RGB", (1000, 2))], "at 1000x2 pixels one side is 500 times the other, and 200 is the limit; crop or split it"),
        (None, "not a video; give a file, a folder of frames or a list of pictures"),
        (17, "not a video"),
        ("nul\0byte.mp4", "no such file"),
        ("x" * 10_000, "cannot be opened"),
    ],
)
def test_r10_what_is_no_clip_is_one_clear_line(source: Any, message: str) -> None:
    assert message in one_line(source)


def test_r10_a_broken_empty_or_silent_file_is_one_clear_line(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "clip.mp4: not a video, or damaged (Invalid data found" in one_line(path)
    path.write_bytes(b"")
    assert "clip.mp4: not a video" in one_line(path)
    assert "has no pictures in it (audio only?)" in one_line(write_sound(tmp_path / "sound.mp4"))
    (tmp_path / "folder").mkdir()
    assert "folder: holds no pictures" in one_line(tmp_path / "folder")
    Image.new("RGB", (30, 30)).save(tmp_path / "picture.png")
    assert "picture.png: not a video" in one_line(tmp_path / "picture.png")


def test_r10_frames_that_cannot_be_decoded_are_not_made_up(tmp_path: Path) -> None:
    """The container counts all frames, but after 3 s there is nothing in them."""
    path = write_clip(tmp_path / "clip.avi", 120, codec="mjpeg", strict="-1")
    content = bytearray(path.read_bytes())
    places = [place for place in range(len(content)) if content[place : place + 4] == b"00dc"]
    for place in places[30:120]:
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        content[place + 8 : place + 8 + size] = bytes(size)
    assert "damaged" in one_line(bytes(content), fps=10)
    assert numbers(drawn(path, fps=10, max_frames=10)) == published_indices(120, 10, 10, 4, 10)


def test_r10_an_endless_clip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare stream names no duration; a pipe and a playlist may go on for ever."""
    path = write_clip(tmp_path / "clip.h264", 40)
    monkeypatch.setattr(video_file, "MAX_FRAMES", 30)
    assert "clip.h264: no end within 30 frames; cut a shorter clip out of it" in one_line(path)
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "pipe.mp4: a pipe or device, which may never end" in one_line(tmp_path / "pipe.mp4")
    playlist = tmp_path / "live.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{path.name}\n")
    assert "live.m3u8: not a video" in one_line(playlist)


@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4.avi", "vp9.webm", "h264.ts", "bare.h264"])
def test_r10_a_damaged_file_is_a_clip_or_one_clear_line(name: str, tmp_path: Path) -> None:
    content = write_clip(tmp_path / name, 30, **{"fps": 10, **FILES[name]}).read_bytes()
    draw = random.Random(0)
    for _ in range(25):
        damaged = bytearray(content[: draw.choice([len(content), draw.randint(1, len(content))])])
        for _ in range(draw.randint(1, 20)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            assert {frame.dtype for frame in drawn(bytes(damaged)).frames()} == {np.dtype(np.uint8)}
        except VideoError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"fps": 0}, "fps is 0; give frames per second, above 0, or 'auto'"),
        ({"fps": -1.0}, "fps is -1.0"),
        ({"fps": math.nan}, "fps is nan"),
        ({"fps": "fast"}, "fps is 'fast'"),
        ({"max_frames": 0}, "max_frames is 0; give at least 1"),
        ({"fps": "auto"}, "fps='auto' is for video files; give the rate at which these frames were taken"),
        ({"min_pixels": 9000, "max_pixels": 900}, "min_pixels is 9000, more than max_pixels, 900"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(part: dict[str, Any], message: str) -> None:
    assert message in one_line([Image.new("RGB", (30, 30))], **part)


def test_without_pyav_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"any")
    monkeypatch.setitem(sys.modules, "av", None)
    assert one_line(tmp_path / "clip.mp4") == "reading video files needs PyAV; run: pip install 'qwenvl[video]'"


def test_a_family_without_video_says_so_and_errors_name_the_sample() -> None:
    nano = find_preset("qwen-vl-nano").config
    with pytest.raises(VideoError, match=r"sample 's', video 1: qwen_vl takes no video; pass its frames as pictures"):
        ready_video(nano, get_family("qwen_vl"), VideoPart("clip.mp4"), "sample 's', video 1")
    with pytest.raises(VideoError, match=r"sample 's', video 2: gone.mp4: no such file"):
        ready_video(CONFIG, SPEC, VideoPart("gone.mp4"), "sample 's', video 2")


@given(st.integers(1, 5000), st.floats(0.5, 120), st.floats(0.01, 60), st.integers(1, 900), st.integers(1, 4))
def test_frame_counts_are_whole_patches_within_the_bounds(total: int, native: float, fps: float, most: int, step: int) -> None:
    count = frame_count(total, native, fps, 4, most, step)
    assert 1 <= count <= max(min(total, most), 1)
    assert count == 1 or not count % step
    indices = frame_indices(total, count)
    assert (indices[0], len(indices)) == (0, count)
    assert indices == sorted(indices) and indices[-1] <= total - 1
