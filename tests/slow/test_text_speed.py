"""How fast pages of text are drawn, in CPU seconds of one core."""

from __future__ import annotations

import pytest

from benchmarks.pages import WARPS, full_page, pages_per_second
from tests.text_pages import need_fonts

pytestmark = pytest.mark.alone

PLAIN, WARPED = 40, 15
"""Pages of 768 x 1024 pixels with 40 lines that a core draws in a second, at least."""


@pytest.fixture(autouse=True, scope="module")
def _fonts() -> None:
    need_fonts("en")


def test_plain_pages_are_drawn_fast_enough() -> None:
    assert pages_per_second(full_page("en", {})) >= PLAIN


@pytest.mark.parametrize("warp", WARPS)
def test_warped_pages_are_drawn_fast_enough(warp: str) -> None:
    assert pages_per_second(full_page("en", {warp: {"share": 1.0}})) >= WARPED
