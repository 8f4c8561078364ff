"""Markup in JSON, of Qwen2.5-VL: fenced lists of `bbox_2d` or `point_2d` and `label`, in pixels of the resized picture.

As the cookbooks of QwenLM/Qwen2.5-VL (2025-02-10) print them. What models make of them is read in `json_regions`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import numpy as np

from qwenvl.processing.json_regions import find_places, strip_places
from qwenvl.processing.markup_style import Frame, MarkupStyle, Piece, TokenRole, Written
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.types import Part, Region, RegionError, RegionPart, TextPart

KEYS = {"box": "bbox_2d", "point": "point_2d"}

LIST = re.compile(rb"```json\n.*?```", re.DOTALL)
LABEL = re.compile(rb'"label": "((?:[^"\\]|\\.)*)"')
PLACE = re.compile(rb"\[[\d, ]+\]")
NUMBER = re.compile(rb"\d+.")
"""With what ends it."""


class JsonList(MarkupStyle):
    """Places that follow each other are one list; a phrase without places is plain text."""

    kinds = ("box", "point")
    inline = False
    in_pixels = True

    def write(self, parts: Sequence[RegionPart], frames: Mapping[int, Frame], where: str) -> list[Piece]:
        if all(part.regions for part in parts):
            return [self._list(parts, frames, where)]
        return [self._list([part], frames, where) if part.regions else part.phrase or "" for part in parts]

    def _list(self, parts: Sequence[RegionPart], frames: Mapping[int, Frame], where: str) -> str:
        lines = []
        for part in parts:
            label = {} if part.phrase is None else {"label": part.phrase}
            for region in part.regions:
                numbers = self.numbers(self.check(region, where), frames, where)
                place = {KEYS[region.kind]: list(map(int, numbers))}
                lines.append("\t" + json.dumps(place | label, ensure_ascii=False))
        return "```json\n[\n" + ",\n".join(lines) + "\n]\n```"

    def numbers(self, region: Region, frames: Mapping[int, Frame], where: str) -> list[str]:
        """Whole pixels of the frame."""
        if region.image not in frames:
            place = f"a {region.kind} in picture {region.image + 1}"
            raise RegionError(f"{where}: {place}, which is not there; places are written in pixels of a picture")
        width, height = frames[region.image]
        return [str(round(value)) for x, y in region.check(where).points for value in (x * width, y * height)]

    def find(self, text: str) -> list[Written]:
        """XML points and HTML are places too."""
        return find_places(text)

    def split(self, text: str) -> tuple[Part, ...]:
        """JSON is plain text, which is tokenised as it was."""
        return (TextPart(text),) if text else ()

    def strip(self, text: str) -> str:
        """The labels remain of a list of places."""
        return strip_places(text)

    def token_roles(self, ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
        """By byte, since JSON is plain text; a token has the role of its first byte. A label's words are words, and so is what
        opens the list: there, as with <box>, a model says that a place follows and not words.

        What ends a number has the role of its units: it says that no further digit follows.
        """
        pieces = [tokenizer.id_to_bytes(index) for index in ids.tolist()]
        text = b"".join(pieces)
        roles = np.full(len(text) + 1, TokenRole.WORD)
        for found in LIST.finditer(text):
            roles[found.start() + 1 : found.end()] = TokenRole.PUNCTUATION
            for label in LABEL.finditer(text, *found.span()):
                roles[label.start(1) : label.end(1)] = TokenRole.WORD
            for place in PLACE.finditer(text, *found.span()):
                for number in NUMBER.finditer(text, *place.span()):
                    first, end = number.span()
                    roles[first:end] = TokenRole.HUNDREDS
                    roles[max(end - 3, first)] = TokenRole.TENS
                    roles[end - 2 : end] = TokenRole.UNITS
        starts = np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
        return roles[starts]
