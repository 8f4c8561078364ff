"""FamilySpec: everything that differs between generations, as data and a few pure functions.

Nothing outside `families/` asks which family it has: it reads a value from the spec, or calls one of its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qwenvl.config import ModelConfig

# OpenAI CLIP's statistics, as in Qwen/Qwen-VL visual.py (repository wangjl1993/extract_human_attri @ fc9525f, Qwen-VL/visual.py).
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImageRules:
    """How a picture becomes patches. `kind` is "square": resized to side x side, aspect ratio not kept."""

    kind: str = "square"
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD


@dataclass(frozen=True)
class Markup:
    """The special tokens around phrases and places, and the frame of coordinates (integers in [0, scale))."""

    ref: tuple[str, str] = ("<ref>", "</ref>")
    box: tuple[str, str] = ("<box>", "</box>")
    quad: tuple[str, str] = ("<quad>", "</quad>")
    scale: int = 1000
    quad_separator: str = ", "
    digits: int = 1
    """Coordinates are padded with zeros to this many digits. Published checkpoints: 1, no padding."""


@dataclass(frozen=True)
class ChatRules:
    """ChatML, and what numbers a picture in a conversation."""

    turn_start: str = "<|im_start|>"
    turn_end: str = "<|im_end|>"
    document_end: str = "<|endoftext|>"
    system: str = "You are a helpful assistant."
    picture: str = "Picture {n}: "
    """Written before the n-th picture of a conversation in chat style."""
    after_picture: str = "\n"
    """Written after each picture in chat style."""


@dataclass(frozen=True)
class ImageTokens:
    start: str
    end: str
    pad: str


@dataclass(frozen=True)
class Preset:
    """A model that can be built by name."""

    name: str
    config: ModelConfig
    markup: Markup = field(default_factory=Markup)
    summary: str = ""


@dataclass(frozen=True)
class FamilySpec:
    name: str
    model_types: tuple[str, ...]
    """Values of config.json's `model_type` that mean this family."""
    images: ImageRules
    image_tokens: ImageTokens
    chat: ChatRules
    parse_config: Callable[[Mapping[str, Any]], ModelConfig]
    """config.json's content -> ModelConfig. Raises ConfigError naming what is missing."""
    write_config: Callable[[ModelConfig], dict[str, Any]]
    """ModelConfig -> config.json's content, from which parse_config gives the same back."""
    visual_tokens: Callable[[ModelConfig, tuple[int, int, int]], int]
    """Visual tokens that one picture of a grid (patches in time, height, width) becomes."""
    read_markup: Callable[[Mapping[str, Any]], Markup]
    """The markup that a checkpoint was trained with, from its config.json."""
    presets: tuple[Preset, ...]
