"""R10: a ten-minute clip is sampled within a bound on memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
from tests.clips import numbered, write_clip

MEASURE = """
import resource, sys
import av, torch
from PIL import Image
from qwenvl.families import get_family
from qwenvl.processing.video import open_clip
from qwenvl.types import VideoPart
rules = get_family("qwen2_5_vl").videos
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
torch.linspace(0, 1, 2).round()
before = peak()
clip = open_clip(VideoPart(sys.argv[1]), rules, 28, 2, 200)
print(len(clip.times), clip.pixels.nbytes / 2**20, peak() - before)
"""


def test_r10_ten_minutes_are_sampled_in_less_than_300_mb(tmp_path: Path, repository: Path) -> None:
    """All 15,000 frames would take 0.9 GB at their own 160 x 120 pixels, 4.9 GB at the size that the model sees.

    By the published rules 768 are drawn, each enlarged to 392 x 280: 241 MB of pixels, and little may come beside them.
    """
    backgrounds = np.random.default_rng(0).integers(0, 256, (50, 120, 160, 3), dtype=np.uint8)
    frames = (np.where(numbered(n, (160, 120)) > 127, 255, backgrounds[n % 50] // 4) for n in range(15_000))
    path = write_clip(tmp_path / "clip.mp4", frames, fps=25, gop=50, preset="ultrafast")
    command = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=600, check=True)
    count, pixels, grown = map(float, done.stdout.split())
    print(f"{count:.0f} frames, {pixels:.0f} MB of pixels, memory grew by {grown:.0f} MB")
    assert count == 768
    assert grown < 300
