"""How many patches a picture becomes: pure integers, no pixels."""

from __future__ import annotations

from qwenvl.config import ModelConfig
from qwenvl.families.spec import FamilySpec
from qwenvl.types import QwenVLError


def image_side(config: ModelConfig, spec: FamilySpec) -> int:
    """Side in pixels of the square that every picture is resized to."""
    if spec.images.kind != "square":
        raise QwenVLError(f"{spec.name}: pictures of kind {spec.images.kind!r} are not supported")
    return config.vision.image_size


def image_grid(config: ModelConfig, spec: FamilySpec, width: int, height: int) -> tuple[int, int, int]:
    """Patches in time, height and width of a picture of width x height pixels (the same for all where pictures become squares)."""
    side = image_side(config, spec) // config.vision.patch_size
    return (1, side, side)
