"""An answer: its text, the places it names, and what it cost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from qwenvl.families.spec import Markup
from qwenvl.processing.regions import strip_markup
from qwenvl.types import Point, Region

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts; image_tokens are those prompt tokens that are visual tokens."""

    prompt_tokens: int
    completion_tokens: int
    image_tokens: int


@dataclass(frozen=True, slots=True)
class PixelRegion:
    """A region in pixels of the picture that it was found in, as the picture came (turned upright by its EXIF), clamped to it."""

    kind: Literal["box", "quad", "point"]
    points: tuple[Point, ...]
    label: str | None
    image: int

    def as_json(self) -> dict[str, Any]:
        """{label, kind, pixels, image}: pixels is [left, top, right, bottom] of a box, else a list of [x, y]."""
        pairs = [[round(x, 1), round(y, 1)] for x, y in self.points]
        pixels = [value for pair in pairs for value in pair] if self.kind == "box" else pairs
        return {"label": self.label, "kind": self.kind, "pixels": pixels, "image": self.image}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model answered.

    text is as the model wrote it, markup included; `readable` has the markup taken out. regions are in [0, 1] of the original
    pictures, whose (width, height) are image_sizes; `pixels` gives them in pixels. The markup does not say which picture it
    means: it is taken to be the last one of the conversation, as the published drawing code does. finish_reason is "stop" where
    the model ended its answer or met a stop string, "length" where a limit cut it. tokens are the ids of the answer.
    """

    text: str
    readable: str
    regions: tuple[Region, ...]
    usage: Usage
    finish_reason: FinishReason
    tokens: tuple[int, ...] = ()
    image_sizes: tuple[tuple[int, int], ...] = ()

    @property
    def pixels(self) -> tuple[PixelRegion, ...]:
        """The regions in pixels of the original pictures; none of a conversation without a picture."""
        return tuple(
            PixelRegion(region.kind, region.pixels(*self.image_sizes[region.image]), region.label, region.image)
            for region in self.regions
            if region.image < len(self.image_sizes)
        )


def readable(text: str, markup: Markup) -> str:
    """A model's text for people: phrases without tags, no places, also where the model forgot a phrase or a closing tag."""
    places = "|".join(f"{re.escape(opening)}.*?(?:{re.escape(closing)}|$)" for opening, closing in (markup.box, markup.quad))
    tags = "|".join(re.escape(tag) for tag in (*markup.ref, *markup.box, *markup.quad))
    return re.sub(tags, "", re.sub(places, "", strip_markup(text, markup), flags=re.DOTALL))
