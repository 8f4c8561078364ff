"""Small pages of text that tests share."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from qwenvl.data.synth.names import CLDR_FOLDER
from qwenvl.data.synth.text import page as pages
from qwenvl.data.synth.text.effects import NO_EFFECTS
from qwenvl.data.synth.text.scripts import SCRIPTS, Script, require
from qwenvl.data.synth.text.spec import TextSpec
from qwenvl.data.synth.text.truth import Page
from qwenvl.types import QwenVLError


def need_fonts(*scripts: Script) -> None:
    """Skip a test on a machine without OpenCV, or without the fonts of some languages."""
    pytest.importorskip("cv2")
    try:
        for script in scripts or SCRIPTS:
            require(script)
    except QwenVLError as error:
        pytest.skip(str(error))


def small(script: Script = "en", effects: Any = None, **settings: Any) -> TextSpec:
    """Pages of about 400 x 300 pixels, without effects but those that are given."""
    paper = {"short_size": (200, 300), "aspect_ratio": (1.0, 1.3)}
    layout = {"text_scale": (0.06, 0.12), "stack_fill": (0.8, 1.0)}
    return TextSpec(
        languages=(script,), short_size=(280, 320), aspect_ratio=(1.0, 1.4), effects={**NO_EFFECTS, **(effects or {})},
        **{"paper": paper, "layout": layout, **settings},
    )  # fmt: skip


def digest(page: Page) -> str:
    content = page.picture.tobytes() + repr((page.lines, page.script, page.quality, page.effects)).encode()
    return hashlib.sha256(content).hexdigest()


def with_and_without_ink(spec: TextSpec, index: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Page, np.ndarray, np.ndarray]:
    """A page; its picture; and the picture that it would be if nothing were printed, both (height, width, 3) int."""
    page = pages.make_page(spec, 5, index)
    with monkeypatch.context() as patched:
        blank = pages.print_lines
        patched.setattr(pages, "print_lines", lambda paper, lines: blank(paper, []))
        empty = pages.make_page(spec, 5, index)
    assert empty.lines == page.lines
    return page, np.asarray(page.picture).astype(int), np.asarray(empty.picture).astype(int)


def inside(quad: Any, shape: tuple[int, ...], grown: float = 0.0) -> np.ndarray:
    """(height, width) bool: the pixels whose middles lie in a clockwise quad, or at most `grown` pixels outside a side of it."""
    corners = np.asarray(quad, float)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    found = np.ones(shape[:2], bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        length = np.hypot(x1 - x0, y1 - y0)
        found &= ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) >= -grown * length
    return found


def alphabet(script: Script) -> str:
    """What a font of a language must have: CLDR's main letters, in both cases; of Chinese and Korean the characters of the national
    standards (GB 2312, level 1; KS X 1001)."""
    if script == "zh":
        rows = [bytes((row, cell)) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF)]
        return "".join(code.decode("gb2312", errors="ignore") for code in rows)
    if script == "ko":
        rows = [bytes((row, cell)) for row in range(0xB0, 0xC9) for cell in range(0xA1, 0xFF)]
        return "".join(code.decode("euc_kr") for code in rows)
    root = ElementTree.parse(CLDR_FOLDER.parent / "main" / f"{script}.xml").getroot()
    [main] = [node.text or "" for node in root.iter("exemplarCharacters") if node.get("type") is None]
    main = re.sub(r"\\u([0-9A-F]{4})", lambda match: chr(int(match[1], 16)), main.strip("[]"))
    main = re.sub(r"(.)-(.)", lambda match: "".join(map(chr, range(ord(match[1]), ord(match[2]) + 1))), main)
    letters = "".join(set(main) - set(" {}"))
    return letters + letters.upper() if script in ("en", "vi", "ru") else letters
