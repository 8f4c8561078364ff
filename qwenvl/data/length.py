"""How long a Sample will be for a published model whose vocabulary is not at hand: visual tokens exactly, text by a rule of thumb.

Generators of long samples fill a budget of tokens by it. Where a model's tokenizer is there, `processing.measure` counts.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

from qwenvl.config import ModelConfig
from qwenvl.families import family_of_preset, find_preset
from qwenvl.families.spec import FamilySpec
from qwenvl.processing.grid import image_grid
from qwenvl.processing.image import picture_size
from qwenvl.processing.video import open_clip
from qwenvl.types import ImagePart, Part, Region, RegionPart, Sample, TextPart, VideoPart

# The published vocabularies split digits one by one (their pattern has \p{N} alone); a word of a usual text is one token, a longer
# or rarer one several; Chinese takes less than a token a character. So this is more than the text will take, not less.
_PIECES = re.compile(r"[A-Za-z]+|[\u3400-\u9fff]|\S")
_LETTERS = 5
"""Letters of a Latin word to a token."""
_PICTURE = 10
"""Tokens around a picture: its tags and "Picture 12: "."""
_MESSAGE = 5
"""Tokens around a message: its tags and role."""
_SYSTEM = 16
"""Tokens of the system turn that a chat is given where it has none."""
_NUMBER = 5
"""Tokens of a coordinate with what follows it: four digits and a comma."""
_PLACE = 20
"""Tokens around the coordinates of a place: its tags, or its keys in JSON."""


@dataclass(frozen=True)
class Ruler:
    """Lengths for a preset, as tokens."""

    preset: str = "qwen2.5-vl-7b"

    def text(self, text: str) -> int:
        return sum(math.ceil(len(piece) / _LETTERS) for piece in _PIECES.findall(text))

    def part(self, part: Part) -> int:
        """Raises ImageError or VideoError for a picture or clip that cannot be read."""
        if isinstance(part, ImagePart):
            grid = image_grid(self._config, self._family, *picture_size(part.image), part.min_pixels, part.max_pixels)
        elif isinstance(part, VideoPart):
            grid = open_clip(self._config, self._family, part).grid
        elif isinstance(part, RegionPart):
            return self.text(part.phrase or "") + sum(_PLACE + _numbers(region) for region in part.regions)
        else:
            return self.text(part.text) if isinstance(part, TextPart) else _numbers(part.region)
        return self._family.visual_tokens(self._config, grid) + _PICTURE

    def sample(self, sample: Sample) -> int:
        return _SYSTEM + sum(_MESSAGE + sum(map(self.part, message.parts)) for message in sample.messages)

    @cached_property
    def _config(self) -> ModelConfig:
        return find_preset(self.preset).config

    @cached_property
    def _family(self) -> FamilySpec:
        return family_of_preset(find_preset(self.preset))


def _numbers(region: Region) -> int:
    return 2 * _NUMBER * len(region.points)
