"""What a stream of clips may show, and its hash."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field, model_validator

from qwenvl.config import Strict
from qwenvl.data.synth.background import Pattern
from qwenvl.data.synth.spec import SceneSpec, spec_hash

CLIP_VERSION = 1
"""Raised by every change that moves a pixel or a time of a clip: it is part of clip_hash."""

STEP = 0.5
"""Things appear and leave at whole multiples of so many seconds."""
_MOST_THINGS = 20
_ADDED = ("acts", "visits")
"""Fields that are younger than the first weights: they enter clip_hash only where they are not at their default."""

Act = Literal["move", "stay", "grow", "shrink"]


class ClipSpec(Strict):
    """What may be filmed. Sizes are pixels on a canvas of 112 and grow with the canvas."""

    split: Literal["train", "held_out"] = "train"
    """Two streams without a common clip."""
    canvas: tuple[int, int] = (84, 112)
    """Least and greatest side of the square frames."""
    seconds: tuple[float, float] = (4.0, 8.0)
    """Length of a clip."""
    stay: tuple[float, float] = (1.0, 2.0)
    """How long a thing is to be seen."""
    things: tuple[int, int] = (1, 3)
    thing_size: tuple[float, float] = (28, 46)
    """Smaller where three lanes leave less room."""
    shape_share: float = Field(default=0.4, ge=0, le=1)
    """Chance of a thing to be a coloured shape and not an emoji."""
    acts: tuple[Act, ...] = ("move",)
    """What things may do, each as likely."""
    visits: tuple[int, int] = (1, 1)
    """Least and greatest number of things that follow each other in a lane; fewer where the clip is too short for them."""
    patterns: tuple[Pattern, ...] = ("flat", "gradient", "stripe", "checker")
    pairs: Literal["trained", "held_out"] = "trained"
    """As for scenes: which pairs of thing and background colour may be shown."""

    @model_validator(mode="after")
    def _is_drawable(self) -> ClipSpec:
        if self.split == "train" and self.pairs == "held_out":
            raise ValueError("held-out pairs belong to split held_out; training must not see them")
        for name in ("canvas", "seconds", "stay", "things", "thing_size", "visits"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: needs 0 < least <= greatest, not {low}, {high}")
        if self.canvas[0] < 56 or self.canvas[1] > 224 or self.things[1] > 3 or self.thing_size[1] > 80:
            raise ValueError("frames have sides of 56 to 224, up to 3 things, and things of up to 80 pixels")
        if not STEP <= self.stay[0] <= self.seconds[0] or self.seconds[1] > 60:
            raise ValueError(f"stay: at least {STEP} seconds and no longer than the shortest clip; a clip lasts up to 60")
        if not self.patterns or not self.acts:
            raise ValueError("patterns and acts: name at least one of each")
        if self.things[1] * self.visits[1] > _MOST_THINGS:
            raise ValueError(f"things times visits: at most {_MOST_THINGS} things are told apart in one clip")
        return self


def clip_hash(spec: ClipSpec) -> str:
    """16 hex digits that change with anything that changes frames or times: the spec, the versions, the tables of scenes."""
    unused = {name for name in _ADDED if getattr(spec, name) == ClipSpec.model_fields[name].default}
    world = [CLIP_VERSION, spec_hash(SceneSpec()), spec.model_dump(mode="json", exclude=unused)]
    return hashlib.sha256(json.dumps(world).encode()).hexdigest()[:16]
