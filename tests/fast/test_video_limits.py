"""R10: no clip hangs, and none takes the memory: what is broken, cut off, endless or huge ends in one line within seconds.

In a process of its own, with a time-out: a hang in FFmpeg would not heed a timer of Python's. More cases are in test_video.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av")
from qwenvl.processing import clip_source, image, video_file
from qwenvl.processing.video_file import VideoError
from tests.clips import write_clip
from tests.fast.test_video import SMALL, drawn

SECONDS = 120
"""For all clips together, on a machine that does other work too; alone they take under 5."""
MEGABYTES = 400

WATCH = """
import resource, sys
from dataclasses import replace
import av, torch
from qwenvl.families import find_preset, get_family
from qwenvl.processing.video import open_clip
from qwenvl.processing.video_file import VideoError
from qwenvl.types import VideoPart
nano = find_preset("qwen2.5-vl-nano")
torch.linspace(0, 1, 2).round()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        clip = open_clip(nano.config, replace(get_family(nano.config.family), videos=nano.videos), VideoPart(path)).read()
        print(path, "gives", clip.grid, clip.patches.shape, flush=True)
    except VideoError as error:
        print(error, flush=True)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def watch(paths: list[Path], repository: Path) -> tuple[list[str], int]:
    """What comes of each clip, and by how many MB the process grew."""
    command = [sys.executable, "-c", WATCH, *map(str, paths)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    *lines, grown = done.stdout.splitlines()
    assert len(lines) == len(paths), "one line each"
    return lines, int(grown)


def test_r10_no_clip_hangs_or_takes_the_memory(tmp_path: Path, repository: Path) -> None:
    whole = write_clip(tmp_path / "whole.ts", 60, fps=10).read_bytes()
    (tmp_path / "cut.ts").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(1 << 20))
    (tmp_path / "zeros.mp4").write_bytes(bytes(1 << 20))
    # A header alone: 400 million pixels a frame are promised.
    (tmp_path / "huge.y4m").write_bytes(b"YUV4MPEG2 W20000 H20000 F25:1 Ip A1:1 C420\nFRAME\n" + bytes(1 << 16))
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "itself.mp4").symlink_to(tmp_path / "itself.mp4")
    playlist = tmp_path / "list.ffconcat"
    playlist.write_text("ffconcat version 1.0\n" + f"file '{tmp_path / 'whole.ts'}'\n" * 100_000)
    names = ["cut.ts", "noise.mp4", "zeros.mp4", "huge.y4m", "pipe.mp4", "itself.mp4", "list.ffconcat"]
    paths = [*(tmp_path / name for name in names), Path("/dev/zero")]
    lines, grown = watch(paths, repository)
    found = dict(zip([path.name for path in paths], lines))
    assert "gives" in found["cut.ts"] or "damaged" in found["cut.ts"]
    assert "a pipe or device, which may never end" in found["pipe.mp4"]
    assert "a pipe or device, which may never end" in found["zero"]
    # A playlist could name any file, and go on for ever.
    for name in ("noise.mp4", "zeros.mp4", "huge.y4m", "list.ffconcat"):
        assert "not a video, or damaged" in found[name], name
    assert "itself.mp4" in found["itself.mp4"] and "gives" not in found["itself.mp4"]
    assert grown < MEGABYTES, f"{grown} MB"


def test_r10_a_folder_of_very_many_frames_is_drawn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a file, only the frames that are drawn are opened."""
    opened: list[Path] = []
    read = clip_source.open_image
    monkeypatch.setattr(clip_source, "open_image", lambda path: opened.append(path) or read(tmp_path / "frame-0.png"))
    Image.new("RGB", (56, 28)).save(tmp_path / "frame-0.png")
    for number in range(1, 3000):
        (tmp_path / f"frame-{number}.png").touch()  # empty: opening one would be an error
    clip = drawn(tmp_path)
    assert opened == [tmp_path / "frame-0.png"], "for the size"
    opened.clear()
    assert len(list(clip.frames())) == len(opened) == SMALL.max_frames
    assert opened[-1].name == "frame-2999.png"


def test_r10_frames_beyond_the_limit_on_pixels_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "clip.mp4", 10)
    assert len(drawn(path).indices) == 4
    monkeypatch.setattr(video_file, "MAX_PIXELS", 64 * 32 - 1)
    with pytest.raises(VideoError, match=r"clip\.mp4: frames of 64x32 are more than 2047 pixels; make it smaller"):
        drawn(path)


def test_r10_the_limits_are_those_of_pictures_and_of_nine_hours() -> None:
    assert (video_file.MAX_FRAMES, video_file.MAX_PIXELS) == (1_000_000, image.MAX_PIXELS)
