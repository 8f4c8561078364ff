"""Pages of text that one core draws in a second: `python -m benchmarks.pages`. There is no peer to compare with.

CPU time of the process, best of some rounds: what else a machine does can only add to it. Every round draws pages that were not
drawn before, after some that are not measured, so that a process that goes on for long is measured and not its first seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from qwenvl.data.synth.text.effects import NO_EFFECTS
from qwenvl.data.synth.text.page import make_page
from qwenvl.data.synth.text.scripts import Script
from qwenvl.data.synth.text.spec import TextSpec

LINES = 40
SIZE = (768, 1024)
WARPS = ("perspective", "rotation", "wave", "curl", "elastic")

FULL_PAGE = {
    "margin": (0.03, 0.03), "text_scale": (0.0325, 0.0325), "rows": (LINES, LINES), "columns": (1, 1), "fill": (1.0, 1.0),
    "stack_fill": (1.0, 1.0), "line_fill": (1.0, 1.0),
}  # fmt: skip


def full_page(script: Script, effects: Mapping[str, Any]) -> TextSpec:
    """Papers of 768 x 1024 pixels that are full of text: 40 lines."""
    aspect = SIZE[1] / SIZE[0]
    return TextSpec.model_validate({
        "languages": (script,), "landscape": 0.0, "short_size": (SIZE[0], SIZE[0]), "aspect_ratio": (aspect, aspect),
        "paper": {"fullscreen": 1.0}, "layout": FULL_PAGE, "effects": {**NO_EFFECTS, **effects},
    })  # fmt: skip


def pages_per_second(spec: TextSpec, warm_up: int = 100, rounds: int = 5, pages: int = 20) -> float:
    """Pages per CPU second of the best round, on one thread."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for index in range(warm_up):
            make_page(spec, 0, index)
        best = 0.0
        for number in range(rounds):
            start = time.process_time()
            for index in range(pages):
                page = make_page(spec, 1, number * pages + index)
                assert len(page.lines) == LINES and page.picture.size == SIZE
            best = max(best, pages / (time.process_time() - start))
        return best
    finally:
        cv2.setNumThreads(threads)


SCRIPTS: tuple[tuple[Script, str, int], ...] = (("en", "English", 100), ("zh", "Chinese", 400))
"""And the pages that warm up: Chinese letters are more."""


def main() -> None:
    print("| pages of 40 lines, 768 x 1024 | per second and core |\n|---|---|")
    for script, name, warm_up in SCRIPTS:
        print(f"| {name}, plain | {pages_per_second(full_page(script, {}), warm_up):.0f} |")
    for warp in WARPS:
        print(f"| English, {warp} | {pages_per_second(full_page('en', {warp: {'share': 1.0}})):.0f} |")
    print(f"| English, all of SynthDoG | {pages_per_second(full_page('en', TextSpec().effects.model_dump())):.0f} |")


if __name__ == "__main__":
    main()
