"""What a stream of scenes may show, its hash, and what training never sees."""

from __future__ import annotations

import hashlib
import json
import math
from functools import cache
from typing import Literal

from pydantic import Field, model_validator

from qwenvl.config import Strict
from qwenvl.data.synth import fonts, names
from qwenvl.data.synth.background import MAX_SIDE, Pattern

WORLD_VERSION = 1
"""Raised by every change of this package that moves a pixel or a label: it is part of spec_hash."""

_HELD_OUT_EVERY = 20
_LARGEST_TEXT, _LARGEST_THING = 48, 80
_LONGEST = 4.0
"""Greatest ratio of a canvas's sides: what is narrower has no room for a text."""

_ADDED = ("aspect",)
"""Fields that are younger than the first weights. They enter spec_hash only where they are not at their default, so that specs
which do not use them keep their hashes."""


class SceneSpec(Strict):
    """What may be drawn. Sizes are pixels on a canvas of 112 and grow with the canvas."""

    kind: Literal["mixed", "text"] = "mixed"
    """`mixed`: things, with a text in some scenes. `text`: one to three strings alone."""
    split: Literal["train", "held_out"] = "train"
    """Two streams without a common scene."""
    canvas: tuple[int, int] = (112, 160)
    """Least and greatest side of the square canvas, drawn per scene; of another aspect it has the area of that square."""
    aspect: tuple[float, float] = (1.0, 1.0)
    """Least and greatest width by height, drawn per scene, every ratio and its inverse as likely."""
    things: tuple[int, int] = (1, 4)
    thing_size: tuple[float, float] = (21, 42)
    shape_share: float = Field(default=0.3, ge=0, le=1)
    """Chance of a thing to be a coloured shape and not an emoji."""
    duplicate_share: float = Field(default=0.2, ge=0, le=1)
    """Chance of a thing to be another one of an earlier kind, for counting."""
    text_share: float = Field(default=0.4, ge=0, le=1)
    """Share of mixed scenes with a text."""
    text_size: tuple[float, float] = (20, 28)
    """Font size."""
    turned_share: float = Field(default=0.2, ge=0, le=1)
    """Share of texts that are turned, by up to `turn` degrees either way."""
    turn: float = 8.0
    patterns: tuple[Pattern, ...] = ("flat", "gradient", "stripe", "checker")
    font: Literal["trained", "held_out"] = "trained"
    pairs: Literal["trained", "held_out"] = "trained"
    """Which pairs of thing and background colour may be drawn: those of training, or only those that it never shows."""

    @model_validator(mode="after")
    def _is_drawable(self) -> SceneSpec:
        if self.split == "train" and "held_out" in (self.font, self.pairs):
            raise ValueError("a held-out font or held-out pairs belong to split held_out; training must not see them")
        for name in ("canvas", "aspect", "things", "thing_size", "text_size"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: needs 0 < least <= greatest, not {low}, {high}")
        longest = max(self.aspect[1], 1 / self.aspect[0])
        if longest > _LONGEST:
            raise ValueError(f"aspect: must lie between {1 / _LONGEST:g} and {_LONGEST:g}")
        if self.canvas[0] < 56 or self.canvas[1] * math.sqrt(longest) > MAX_SIDE:
            raise ValueError(f"canvas: sides must lie between 56 and {MAX_SIDE}, with the aspect too")
        if self.text_size[1] > _LARGEST_TEXT or self.thing_size[1] > _LARGEST_THING:
            raise ValueError(f"text_size up to {_LARGEST_TEXT} and thing_size up to {_LARGEST_THING} fit a canvas of 112")
        if not self.patterns:
            raise ValueError("patterns: name at least one")
        return self


def spec_hash(spec: SceneSpec) -> str:
    """16 hex digits that change with anything that changes pictures or labels: the spec, the tables of the world, its version.

    The versions of fonts and names that Debian installed are not in it; record fonts.versions() beside it.
    """
    faces = [[face.family, face.file] for face in fonts.ALL_FACES]
    labels = [names.OVERRIDES, names.HAN, list(names.SHAPES), names.COLOUR_NAMES]
    unused = {name for name in _ADDED if getattr(spec, name) == SceneSpec.model_fields[name].default}
    drawn = spec.model_dump(mode="json", exclude=unused)
    world = [WORLD_VERSION, list(names.EMOJI.items()), list(names.COLOURS.items()), labels, faces, drawn]
    return hashlib.sha256(json.dumps(world, ensure_ascii=False).encode()).hexdigest()[:16]


def is_held_out_pair(name: str, colour: str | None, background: str) -> bool:
    """Whether training never shows this thing on this background colour: one pair in twenty, by a hash of its names."""
    digest = hashlib.sha256(f"{name}|{colour or ''}|{background}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _HELD_OUT_EVERY == 0


@cache
def drawable(background: str, pairs: Literal["trained", "held_out"]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The emoji, and the (shape, colour) pairs, that may stand on a background. A shape never has the background's colour."""
    wanted = pairs == "held_out"
    emoji = tuple(name for name in names.EMOJI if is_held_out_pair(name, None, background) == wanted)
    shapes = tuple(
        (name, colour)
        for name in names.SHAPES
        for colour in names.COLOURS
        if colour != background and is_held_out_pair(name, colour, background) == wanted
    )
    return emoji, shapes
