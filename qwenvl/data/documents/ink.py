"""The ink of text on a picture: the pixels that change when the text is taken away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from qwenvl.data.documents.page import Pixels

FAINT = 12
"""Levels of a colour below which a pixel's change is no ink that anyone sees."""
REACH = 0.2
"""Parts of a line's height that its ink may stick out of the box that its font says."""


@dataclass(frozen=True, slots=True)
class Ink:
    """mask (height, width) bool: the pixels of text."""

    mask: np.ndarray

    @classmethod
    def between(cls, with_text: Image.Image, without: Image.Image) -> Ink:
        """Both pictures of one size and mode."""
        a, b = (np.asarray(picture, dtype=np.int16).reshape(picture.height, picture.width, -1) for picture in (with_text, without))
        return cls(np.abs(a - b).max(axis=2) > FAINT)

    def part(self, box: Pixels) -> np.ndarray:
        """The mask of the pixels that a box touches."""
        left, top, right, bottom = box
        return self.mask[max(math.floor(top), 0) : max(math.ceil(bottom), 0), max(math.floor(left), 0) : max(math.ceil(right), 0)]

    def shows(self, box: Pixels) -> bool:
        return bool(self.part(box).any())

    def fitted(self, boxes: Sequence[Pixels]) -> list[Pixels | None]:
        """Each box drawn in, or out by up to REACH of its height, to the ink that is in it; None where there is none.

        Ink in another box is that box's.
        """
        height, width = self.mask.shape
        owner = np.zeros((height, width), dtype=np.int32)
        for number, (left, top, right, bottom) in enumerate(boxes, start=1):
            owner[max(round(top), 0) : max(round(bottom), 0), max(round(left), 0) : max(round(right), 0)] = number
        fitted: list[Pixels | None] = []
        for number, (left, top, right, bottom) in enumerate(boxes, start=1):
            reach = REACH * (bottom - top)
            x, y = max(math.floor(left - reach), 0), max(math.floor(top - reach), 0)
            rows, columns = slice(y, max(math.ceil(bottom + reach), 0)), slice(x, max(math.ceil(right + reach), 0))
            own = self.mask[rows, columns] & ((owner[rows, columns] == number) | (owner[rows, columns] == 0))
            down, across = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
            if len(down):
                fitted.append((float(x + across[0]), float(y + down[0]), float(x + across[-1] + 1), float(y + down[-1] + 1)))
            else:
                fitted.append(None)
        return fitted

    def missed(self, boxes: Sequence[Pixels]) -> float:
        """The part of all ink that no box holds."""
        left = self.mask.copy()
        for x, y, right, bottom in boxes:
            left[max(math.floor(y), 0) : math.ceil(bottom), max(math.floor(x), 0) : math.ceil(right)] = False
        total = int(self.mask.sum())
        return int(left.sum()) / total if total else 0.0
