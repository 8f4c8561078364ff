"""How much the loss of each token counts, from its task and from where it stands in the markup of places."""

from __future__ import annotations

import numpy as np

from qwenvl.data.row_recipe import LossWeights
from qwenvl.families.spec import Markup
from qwenvl.processing.regions import style_of
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.types import Encoded


class TokenWeights:
    """Loss weights of an encoded sample."""

    def __init__(self, recipe: LossWeights, tokenizer: Tokenizer, markup: Markup) -> None:
        self.tasks, self.tokenizer, self.style = recipe.tasks, tokenizer, style_of(markup)
        self.of_role = np.array([1.0, recipe.box_punctuation, *recipe.coordinate_digits], np.float32)
        """By TokenRole."""

    def of(self, encoded: Encoded) -> np.ndarray:
        """(T,) float32, aligned with input_ids as labels are."""
        task = np.float32(self.tasks.get(encoded.task, 1.0))
        if (self.of_role == 1.0).all():
            return np.full(len(encoded), task)
        return self.of_role[self.style.token_roles(encoded.input_ids, self.tokenizer)] * task
