"""The effects on a page, all of them, in the order in which they act."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from qwenvl.config import Strict
from qwenvl.data.synth.text.effects_of_colour import (
    Blur,
    Brightness,
    Contrast,
    Light,
    MotionBlur,
    Noise,
    Photometric,
    Resolution,
    Shadow,
    Tint,
)
from qwenvl.data.synth.text.effects_of_place import Curl, Elastic, Geometric, Perspective, Rotation, Wave
from qwenvl.data.synth.text.warp import Map

Streams = Callable[[str], np.random.Generator]
"""Name of an effect -> its own random numbers: switching one off leaves all others as they are."""


class Effects(Strict):
    """All effects, in the order in which they act: those that move ink and `noise` on the document, the others on the picture.

    The last one is JPEG, whose quality is the spec's.
    """

    elastic: Elastic = Elastic(share=1.0)
    curl: Curl = Curl()
    wave: Wave = Wave()
    rotation: Rotation = Rotation()
    perspective: Perspective = Perspective(share=1.0)
    noise: Noise = Noise(share=1.0)
    tint: Tint = Tint(share=0.2)
    shadow: Shadow = Shadow(share=1.0)
    light: Light = Light()
    contrast: Contrast = Contrast(share=1.0)
    brightness: Brightness = Brightness(share=1.0)
    motion_blur: MotionBlur = MotionBlur(share=0.5)
    blur: Blur = Blur(share=1.0)
    resolution: Resolution = Resolution()

    ON_PAPER: ClassVar[tuple[str, ...]] = ("noise",)
    """Effects of colour that act on the document before it is moved."""

    def draw_maps(self, streams: Streams, size: tuple[int, int]) -> tuple[tuple[str, ...], tuple[Map, ...]]:
        """The names of the effects that move this page's ink, and their maps, one after another."""
        names: list[str] = []
        maps: list[Map] = []
        for name, effect in self:
            rng = streams(name)
            if isinstance(effect, Geometric) and rng.random() < effect.share:
                drawn = effect.draw_map(rng, size)
                names.append(name)
                maps += drawn if isinstance(drawn, tuple) else (drawn,)
        return tuple(names), tuple(maps)

    def paint(self, streams: Streams, picture: np.ndarray, on_paper: bool) -> tuple[tuple[str, ...], np.ndarray]:
        """The names of the effects of colour on the paper, or on the whole picture, and the picture that they give."""
        names: list[str] = []
        for name, effect in self:
            if isinstance(effect, Photometric) and (name in self.ON_PAPER) == on_paper:
                rng = streams(name)
                if rng.random() < effect.share:
                    names.append(name)
                    picture = effect.paint(rng, picture)
        return tuple(names), picture


NO_EFFECTS: dict[str, dict[str, Any]] = {name: {"share": 0.0} for name in Effects.model_fields}

PHOTO_EFFECTS: dict[str, dict[str, Any]] = {
    "elastic": {"share": 0.5, "pixels": (0.0, 2.0), "wavelength": (64.0, 192.0)},
    "curl": {"share": 0.35},
    "wave": {"share": 0.35},
    "rotation": {"share": 0.5},
    "perspective": {"share": 0.7, "sides": (0.8, 1.0)},
    "light": {"share": 0.5},
    "shadow": {"share": 0.5},
    "resolution": {"share": 0.3},
}
"""A page as a camera sees it (ours). What is not named is SynthDoG's."""
