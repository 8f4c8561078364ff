"""C15: pages of 768 x 1024 pixels with 40 lines and all their places, as `qwenvl data synth text` draws them.

Plain ones are compared with what Pillow alone does: as many lines of the same length by `ImageDraw.text`, with the box of each.
Warped ones have no peer; how many a core draws is what counts. `python -m benchmarks.pages` tells of more kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from PIL import Image, ImageDraw

from benchmarks.harness import Against, Bound, Case, Item, Result, Run, measure
from benchmarks.pages import LINES, SIZE, WARPS, full_page
from qwenvl.data.synth.text.page import make_page
from qwenvl.data.synth.text.spec import TextSpec

PAGES, WARM_UP = 10, 100
"""Of a run; and drawn before, since a process meets most letters for the first time on its first pages."""
AT_TINY_SIZE = {"pages": 1, "warm_up": 0, "warps": WARPS[:1]}
PLAIN, WARPED = 40.0, 15.0
"""Pages that a core should draw in a second."""


def cases(quick: bool, pages: int = PAGES, warm_up: int = WARM_UP, warps: Sequence[str] = WARPS) -> Iterator[Item]:
    yield lambda rounds: [of_kind("plain", full_page("en", {}), PLAIN, rounds, pages, warm_up)]
    for warp in warps[:1] if quick else warps:
        spec = full_page("en", {warp: {"share": 1.0}})
        yield lambda rounds, warp=warp, spec=spec: [of_kind(warp, spec, WARPED, rounds, pages, 0)]  # type: ignore[misc]


def of_kind(kind: str, spec: TextSpec, wanted: float, rounds: int, pages: int, warm_up: int) -> Result:
    import cv2

    numbers = count()

    def ours() -> None:
        """Pages that were not drawn before."""
        for _ in range(pages):
            page = make_page(spec, 1, next(numbers))
            assert len(page.lines) == LINES and page.picture.size == SIZE

    variants: dict[str, Run] = {"qwenvl": ours}
    if kind == "plain":
        variants["Pillow alone"] = pillow(spec, pages)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for index in range(warm_up):
            make_page(spec, 0, index)
        found = measure(Case("", "", variants, pages), rounds)
    finally:
        cv2.setNumThreads(threads)
    rate = {"pages a second": 1e3 / found.medians["qwenvl"]}
    against = [Against("qwenvl", peer) for peer in variants if peer != "qwenvl"]
    return Result(
        f"page of {LINES} lines, {kind}", "page", found.times, figures=rate, against=against,
        bounds=[Bound("pages a second", at_least=wanted)],
    )  # fmt: skip


def pillow(spec: TextSpec, pages: int) -> Run:
    """The texts of pages of ours, printed again by Pillow in one size."""
    from qwenvl.data.synth import fonts

    texts = [[line.text for line in make_page(spec, 2, index).lines] for index in range(pages)]
    face: Any = fonts.font(fonts.LATIN[0][0], 18)

    def run() -> None:
        for lines in texts:
            picture = Image.new("RGB", SIZE, "white")
            draw, boxes = ImageDraw.Draw(picture), []
            for number, text in enumerate(lines):
                place = (24, 20 + number * 25)
                draw.text(place, text, "black", face)
                boxes.append(draw.textbbox(place, text, face))

    return run
