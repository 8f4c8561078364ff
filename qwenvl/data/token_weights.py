"""How much the loss of each token counts, from its task and from where it stands in the markup of places."""

from __future__ import annotations

import re

import numpy as np

from qwenvl.data.mixture import LossWeights
from qwenvl.families.spec import Markup
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.types import Encoded

_LIST = re.compile(rb"```json\n.*?```", re.DOTALL)
_LABEL = re.compile(rb'"label": "((?:[^"\\]|\\.)*)"')
_PLACE = re.compile(rb"\[[\d, ]+\]")
_NUMBER = re.compile(rb"\d+.")
"""With what ends it."""

_OTHER, _DIGIT, _OPENS, _CLOSES = range(4)
"""What a token is to tags."""


class TokenWeights:
    """Loss weights of an encoded sample."""

    def __init__(self, recipe: LossWeights, tokenizer: Tokenizer, markup: Markup) -> None:
        self.recipe, self.tokenizer, self.markup = recipe, tokenizer, markup
        self.plain = recipe.coordinate_digits == (1.0, 1.0, 1.0) and recipe.box_punctuation == 1.0
        self.kind = np.full(tokenizer.vocab_size, _OTHER, np.int8)
        self.kind[[tokenizer.encode(digit)[0] for digit in "0123456789"]] = _DIGIT
        self.kind[[tokenizer.special(pair[0]) for pair in (markup.box, markup.quad)]] = _OPENS
        self.kind[[tokenizer.special(pair[1]) for pair in (markup.box, markup.quad)]] = _CLOSES

    def of(self, encoded: Encoded) -> np.ndarray:
        """(T,) float32, aligned with input_ids as labels are."""
        task = np.float32(self.recipe.tasks.get(encoded.task, 1.0))
        if self.plain:
            return np.full(len(encoded), task)
        return self._in_json(encoded, task) if self.markup.style == "json" else self._in_tags(encoded, task)

    def _in_tags(self, encoded: Encoded, task: np.float32) -> np.ndarray:
        weights = np.full(len(encoded), task)
        kind = self.kind[encoded.input_ids]
        opens, closes = kind == _OPENS, kind == _CLOSES
        inside = ((np.cumsum(opens) > np.cumsum(closes)) & ~opens) | closes
        weights[inside] = self.recipe.box_punctuation * task
        digit = np.append((kind == _DIGIT) & inside, [False, False])
        # Counted from a number's last digit, so that numbers that are not padded with zeros are weighted right too.
        units = digit[:-2] & ~digit[1:-1]
        tens = digit[:-2] & digit[1:-1] & ~digit[2:]
        hundreds = digit[:-2] & digit[1:-1] & digit[2:]
        for place, weight in zip((hundreds, tens, units), self.recipe.coordinate_digits, strict=True):
            weights[place] = weight * task
        return weights

    def _in_json(self, encoded: Encoded, task: np.float32) -> np.ndarray:
        """By byte, since JSON is plain text; a token has the weight of its first byte. A label counts as the words it is.

        What ends a number weighs as its units: it says that no further digit follows.
        """
        pieces = [self.tokenizer.id_to_bytes(index) for index in encoded.input_ids.tolist()]
        text = b"".join(pieces)
        weights = np.ones(len(text) + 1, np.float32)
        hundreds, tens, units = self.recipe.coordinate_digits
        for found in _LIST.finditer(text):
            weights[found.start() : found.end()] = self.recipe.box_punctuation
            for label in _LABEL.finditer(text, *found.span()):
                weights[label.start(1) : label.end(1)] = 1.0
            for place in _PLACE.finditer(text, *found.span()):
                for number in _NUMBER.finditer(text, *place.span()):
                    first, end = number.span()
                    weights[first:end] = hundreds
                    weights[max(end - 3, first)] = tens
                    weights[end - 2 : end] = units
        starts = np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
        return weights[starts] * task
