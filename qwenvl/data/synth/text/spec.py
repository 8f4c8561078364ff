"""What a stream of pages of text may look like.

The defaults are the published hyper-parameters of SynthDoG (clovaai/donut @ 4cfcf97, synthdog/config_en.yaml; config_zh.yaml
differs in corpus and fonts alone), which the paper used as they are (arXiv 2308.12966, appendix A.4). Fields marked "ours" go
beyond it and are off by default. Pairs are the least and greatest value, between which one is drawn for each page.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from qwenvl.data.synth.text.effects import NO_EFFECTS, PHOTO_EFFECTS, Effects
from qwenvl.data.synth.text.ranges import Range, Ranged, Share, Whole
from qwenvl.data.synth.text.scripts import Script

PAGE_VERSION = 1
"""Raised by every change that moves a pixel or a label: every random choice depends on it."""

Align = Literal["left", "right", "center", "justify"]
_LEAST_SIDE = 64
_MOST_PIXELS = 2**26
"""Of a page. Larger ones take minutes each, and what reads pictures takes them for an attack."""


class BackgroundSpec(Ranged):
    """What lies behind the paper."""

    folder: str | None = None
    """A folder of pictures, searched with the folders in it; None: drawn patterns."""
    blur: Range = (0.0, 10.0)
    """Standard deviation of a Gaussian, in pixels."""


class PaperSpec(Ranged):
    """What the text is printed on: white, under a texture in grey."""

    folder: str | None = None
    """A folder of pictures of paper; None: drawn fibres and stains."""
    strength: Range = (0.0, 0.2)
    """How much of the texture is seen."""
    fullscreen: Share = 0.5
    """Share of pages that fill the picture before perspective shrinks them; of the others the next three fields hold."""
    landscape: Share = 0.5
    short_size: Whole = (480, 1024)
    aspect_ratio: Range = (1.0, 2.0)
    """Long side by short side."""


class LayoutSpec(Ranged):
    """Blocks of text below each other, each of some columns of some lines."""

    margin: Range = (0.0, 0.1)
    """Of the paper's width and height."""
    text_scale: Range = (0.0334, 0.1)
    """Height of a line, of the shorter side of what is inside the margins."""
    rows: Whole = (1, 10)
    columns: Whole = (1, 3)
    fill: Range = (0.5, 1.0)
    """How much of the width the columns take."""
    full: Share = 0.1
    """Share of pages whose columns take all of it."""
    align: tuple[Align, ...] = ("left", "right", "center")
    """Drawn for each column. "left" is where lines begin: of Arabic, the right. "justify" is ours."""
    stack_spacing: Range = (0.0334, 0.0334)
    """Least gap between blocks, of the same shorter side."""
    stack_fill: Range = (0.5, 1.0)
    stack_full: Share = 0.1
    """The same as fill and full, of the height."""
    line_fill: Range = (0.5, 1.0)
    """How much of its column's width a line takes at most."""
    line_colour_share: Share = 0.2
    page_colour_share: Share = 0.2
    """Chance of a line, and of a page, to be in a dark colour and not in black."""
    darkness: Whole = (0, 64)
    """Luminance of such a colour."""


class SignSpec(Ranged):
    """Lettering on the picture itself, as on signs and covers (ours; of kind "signs" alone)."""

    count: Whole = (2, 8)
    words: Whole = (1, 4)
    text_scale: Range = (0.03, 0.12)
    """Font size, of the picture's shorter side."""
    turn: Range = (-25.0, 25.0)
    """Degrees."""
    tilt: Range = (0.0, 0.15)
    """How much a side shrinks in perspective."""
    plate_share: Share = 0.4
    """Chance of a coloured plate behind the text."""


Preset = Literal["synthdog", "plain", "photo", "signs"]
TextTask = Literal["ocr_quad", "ocr_words", "ocr_spotting", "ocr", "find_text", "read_place", "reading_order"]

PRESETS: dict[str, dict[str, Any]] = {
    "synthdog": {},
    "plain": {"paper": {"fullscreen": 1.0}, "effects": NO_EFFECTS},
    "photo": {
        "layout": {"align": ("left", "right", "center", "justify"), "rows": (1, 16), "text_scale": (0.022, 0.08)},
        "effects": PHOTO_EFFECTS,
    },
    "signs": {"kind": "signs", "background": {"blur": (0.0, 3.0)}, "effects": PHOTO_EFFECTS},
}
"""Settings to begin with: SynthDoG's; pages as a screen shows them; as a camera sees them; lettering in the wild (the last three
are ours)."""


class TextSpec(Ranged):
    """Pages of text, or lettering in the wild, and what is asked about them."""

    preset: Preset = "synthdog"
    """What holds where this spec says nothing."""
    kind: Literal["pages", "signs"] = "pages"
    languages: tuple[Script, ...] = ("en", "zh")
    """One is drawn for each page; name one twice to draw it twice as often."""
    tasks: tuple[TextTask, ...] = ("ocr_quad", "ocr_words", "ocr", "find_text", "read_place", "reading_order")
    """The paper's OCR is `ocr_quad`; `ocr_spotting` is for families that answer in JSON. See samples.py."""
    text_folder: str | None = None
    """A folder of UTF-8 .txt files, or one that has a folder of them for each language (`en`, `zh`, ...); None: words of CLDR."""
    publishable: bool = False
    """Only fonts whose pictures may be trained on where the weights are published (ours)."""
    landscape: Share = 0.5
    short_size: Whole = (720, 1024)
    aspect_ratio: Range = (1.0, 2.0)
    quality: Whole = (50, 95)
    """JPEG quality of the file; (100, 100) writes PNG."""
    background: BackgroundSpec = BackgroundSpec()
    paper: PaperSpec = PaperSpec()
    layout: LayoutSpec = LayoutSpec()
    signs: SignSpec = SignSpec()
    effects: Effects = Effects()

    @model_validator(mode="before")
    @classmethod
    def _on_the_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return _merged(_merged(defaults, PRESETS.get(given.get("preset", "synthdog"), {})), given)

    @model_validator(mode="after")
    def _is_drawable(self) -> TextSpec:
        if not self.languages or not self.tasks or not self.layout.align:
            raise ValueError("languages, tasks and layout.align: name at least one each")
        if min(self.short_size[0], self.paper.short_size[0]) < _LEAST_SIDE:
            raise ValueError(f"short_size: pictures and papers have sides of at least {_LEAST_SIDE} pixels")
        if min(self.aspect_ratio[0], self.paper.aspect_ratio[0]) < 1:
            raise ValueError("aspect_ratio: long side by short side, from 1 on; `landscape` says which is which")
        if max(side.short_size[1] ** 2 * side.aspect_ratio[1] for side in (self, self.paper)) > _MOST_PIXELS:
            raise ValueError(f"short_size, aspect_ratio: a picture or paper may have {_MOST_PIXELS:,} pixels; give smaller ones")
        return self


def _merged(base: Any, given: Any) -> Any:
    """What is given, key by key, and the base's where nothing is."""
    if isinstance(base, Ranged | Effects):
        base = dict(base)
    if not isinstance(base, dict) or not isinstance(given, dict):
        return given
    return base | {key: _merged(base.get(key), value) for key, value in given.items()}
