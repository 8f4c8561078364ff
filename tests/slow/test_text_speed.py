"""How fast pages of text are drawn, in CPU seconds of one core."""

from __future__ import annotations

import pytest

from benchmarks.pages import WARPS, full_page, pages_per_second
from qwenvl.data.synth.text.spec import TextSpec
from tests.text_pages import need_fonts

pytestmark = pytest.mark.alone

PLAIN, WARPED = 40, 15
"""Pages of 768 x 1024 pixels with 40 lines that a core draws in a second, at least."""


@pytest.fixture(autouse=True, scope="module")
def _fonts() -> None:
    need_fonts("en")


def best(spec: TextSpec, wanted: float) -> float:
    """Of three tries, where the first ones fall short: a shared machine is slow now and then."""
    found = 0.0
    for _ in range(3):
        found = max(found, pages_per_second(spec))
        if found >= wanted:
            break
    return found


def test_plain_pages_are_drawn_fast_enough() -> None:
    assert best(full_page("en", {}), PLAIN) >= PLAIN


@pytest.mark.parametrize("warp", WARPS)
def test_warped_pages_are_drawn_fast_enough(warp: str) -> None:
    assert best(full_page("en", {warp: {"share": 1.0}}), WARPED) >= WARPED
