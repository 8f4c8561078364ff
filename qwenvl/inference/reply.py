"""An answer: its text, the places, times and calls that it names, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qwenvl.families.spec import Markup
from qwenvl.processing.regions import read_places, style_of
from qwenvl.processing.spans import read_spans
from qwenvl.processing.tools import ToolCall, read_calls, strip_calls
from qwenvl.types import Point, Region, TimeSpan

FinishReason = Literal["stop", "length", "repetition"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts; image_tokens are those prompt tokens that are visual tokens, cached_tokens those that were read earlier, for
    another prompt with the same beginning."""

    prompt_tokens: int
    completion_tokens: int
    image_tokens: int
    cached_tokens: int = 0


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
    pictures and videos, whose (width, height) are image_sizes; `pixels` gives them in pixels. The markup does not say which
    picture it means: it is taken to be the last one of the conversation, as the published drawing code does. `clamped` counts the
    numbers that lay outside of it and were moved to its edge. spans are the times that an answer about a video names, in seconds;
    tool_calls the functions that the model wants called. finish_reason is "stop" where the model ended its answer or met a stop
    string, "length" where a limit cut it, "repetition" where it would have repeated itself for ever. tokens are the answer's ids.
    """

    text: str
    readable: str
    regions: tuple[Region, ...]
    usage: Usage
    finish_reason: FinishReason
    tokens: tuple[int, ...] = ()
    image_sizes: tuple[tuple[int, int], ...] = ()
    clamped: int = 0
    spans: tuple[TimeSpan, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()

    @classmethod
    def read(
        cls,
        text: str,
        markup: Markup,
        frames: Sequence[tuple[int, int]],
        image_sizes: Sequence[tuple[int, int]],
        usage: Usage,
        finish_reason: FinishReason,
        tokens: Sequence[int] = (),
        video: bool = False,
    ) -> Reply:
        """The reply that a text is, with all that it names read from it.

        frames: (width, height) that each picture was resized to, which markup in pixels counts in; image_sizes those of the
        originals. Time spans are looked for in a conversation with a `video` only: elsewhere "12:30 - 14:00" is read off a picture.
        """
        # A number at which an answer was cut may be the beginning of another one, and its place somewhere else.
        whole = text.rstrip("0123456789.") if finish_reason == "length" else text
        places = read_places(whole, markup, image=max(len(frames) - 1, 0), frame=frames[-1] if frames else None)
        return cls(
            text=text,
            readable=readable(text, markup).strip(),
            regions=places.regions,
            usage=usage,
            finish_reason=finish_reason,
            tokens=tuple(tokens),
            image_sizes=tuple(image_sizes),
            clamped=places.clamped,
            spans=tuple(read_spans(whole)) if video else (),
            tool_calls=tuple(read_calls(text)),
        )

    @property
    def pixels(self) -> tuple[PixelRegion, ...]:
        """The regions in pixels of the original pictures; none of a conversation without a picture."""
        return tuple(
            PixelRegion(region.kind, region.pixels(*self.image_sizes[region.image]), region.label, region.image)
            for region in self.regions
            if region.image < len(self.image_sizes)
        )


def readable(text: str, markup: Markup) -> str:
    """A model's text for people: phrases without tags, no places, also where the model forgot a phrase or a closing tag.

    Of JSON the labels remain; calls of tools are left out.
    """
    return style_of(markup).readable(strip_calls(text))
