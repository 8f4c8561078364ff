"""Synthetic figures at length: the same bytes in another process, many of them without a fault, and how fast they are drawn."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.figures import KINDS

pytestmark = pytest.mark.usefixtures("scene_sources")

ROOT = Path(__file__).resolve().parents[2]
FLOOR = {
    "chart": 15, "table": 15, "form": 10, "screen": 12, "icon": 30, "code": 15, "formula": 5, "music": 10, "chemistry": 40,
    "page": 1.5,
}  # fmt: skip
"""Pictures a second of CPU time, a tenth to a fifth of what an idle core does (docs/data_figures.md)."""

PROGRAM = """
import hashlib
from tests.figures import KINDS
for name in reversed(KINDS):
    figure = KINDS[name].make(KINDS[name].spec, 3, 5)
    told = repr(figure.elements) + repr([sample.extra for sample in KINDS[name].samples(figure)])
    print(name, hashlib.sha256(figure.image.tobytes() + told.encode()).hexdigest())
"""


def test_another_process_draws_the_same() -> None:
    """With other hashes of strings, and the kinds in another order."""
    pytest.importorskip("matplotlib")
    lines = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
        )
        lines.append(done.stdout.splitlines())
    here = []
    for name, kind in KINDS.items():
        figure = kind.make(kind.spec, 3, 5)
        told = repr(figure.elements) + repr([sample.extra for sample in kind.samples(figure)])
        here.append(f"{name} {hashlib.sha256(figure.image.tobytes() + told.encode()).hexdigest()}")
    assert lines[0] == lines[1] == here[::-1]


@pytest.mark.parametrize("name", KINDS)
def test_a_long_stream_has_no_fault(name: str) -> None:
    """Default specs: every box is inside and has an area, every place can be taught, every answer says something."""
    if name == "formula":
        pytest.importorskip("matplotlib")
    kind = KINDS[name]
    for index in range(10 if name == "page" else 60):
        figure = kind.make(type(kind.spec)(), 21, index)
        width, height = figure.image.size
        for element in figure.elements:
            left, top, right, bottom = element.box
            assert 0 <= left < right <= width and 0 <= top < bottom <= height, (index, element)
        for sample in kind.samples(figure):
            assert sample.extra["answer"] or sample.task in ("point", "gui_click"), sample.id
            assert all(
                region.check(sample.id)
                for message in sample.messages
                for part in message.parts
                for region in getattr(part, "regions", ())
            )


@pytest.mark.alone
@pytest.mark.parametrize("name", KINDS)
def test_drawing_is_fast_enough_to_feed_a_trainer(name: str) -> None:
    if name == "formula":
        pytest.importorskip("matplotlib")
    kind = KINDS[name]
    spec = type(kind.spec)()
    count = 8 if name == "page" else 40
    for index in range(count):
        kind.make(spec, 22, index)
    start = time.process_time()
    for index in range(count, 2 * count):
        kind.make(spec, 22, index)
    assert count / (time.process_time() - start) >= FLOOR[name]
