"""The generations. This is the only place that turns a name or a config.json into a FamilySpec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qwenvl.config import ConfigError
from qwenvl.families.qwen2_5_vl import QWEN2_5_VL
from qwenvl.families.qwen2_vl import QWEN2_VL
from qwenvl.families.qwen_vl import QWEN_VL
from qwenvl.families.spec import FamilySpec, Preset

FAMILIES: tuple[FamilySpec, ...] = (QWEN_VL, QWEN2_VL, QWEN2_5_VL)


def get_family(name: str) -> FamilySpec:
    """The family of that name (`ModelConfig.family`). Raises ConfigError listing those that there are."""
    for family in FAMILIES:
        if family.name == name:
            return family
    raise ConfigError(f"unknown family {name!r}; known: {', '.join(family.name for family in FAMILIES)}")


def family_of_config(raw: Mapping[str, Any], where: str = "config.json") -> FamilySpec:
    """The family a config.json belongs to, by its `model_type`, never by a folder's name. Raises ConfigError naming `where`."""
    model_type = raw.get("model_type")
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(kind for family in FAMILIES for kind in family.model_types)
    raise ConfigError(f"{where}: model_type {model_type!r} is not supported; supported: {known}")


def find_preset(name: str) -> Preset:
    """The preset of that name, of any family. Raises ConfigError listing those that there are."""
    presets = [preset for family in FAMILIES for preset in family.presets]
    for preset in presets:
        if preset.name == name:
            return preset
    raise ConfigError(f"unknown model {name!r}; known: {', '.join(preset.name for preset in presets)}")


def family_of_preset(preset: Preset) -> FamilySpec:
    """The preset's family, with the preset's own rules for pictures and clips where it has any."""
    family = get_family(preset.config.family)
    return replace(family, images=preset.images or family.images, videos=preset.videos or family.videos)
