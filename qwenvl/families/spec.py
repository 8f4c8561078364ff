"""FamilySpec: everything that differs between generations, as data and a few pure functions.

Nothing outside `families/` asks which family it has: it reads a value from the spec, or calls one of its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from qwenvl.config import ModelConfig

# OpenAI CLIP's statistics, as in Qwen/Qwen-VL visual.py (repository wangjl1993/extract_human_attri @ fc9525f, Qwen-VL/visual.py).
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImageRules:
    """How a picture becomes patches.

    `square`: resized to side x side, aspect ratio not kept. `native`: to the nearest multiples of a visual token's side, within the
    bounds on its area in pixels (width * height), aspect ratio kept.
    """

    kind: Literal["square", "native"] = "square"
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    min_pixels: int | None = None
    max_pixels: int | None = None
    max_ratio: float | None = None
    """Longest side by shortest side from which on a picture is refused."""


@dataclass(frozen=True)
class VideoRules:
    """How frames are drawn from a clip, and how large they may be; pixels are areas (width * height) of one frame."""

    fps: float
    min_frames: int
    max_frames: int
    min_pixels: int
    max_pixels: int
    total_pixels: int
    """Of all frames together."""


@dataclass(frozen=True)
class Markup:
    """How phrases and places are written in text.

    `tags`: special tokens around phrases and places, integers in [0, scale) of the picture's sides. `json`: a list of objects with
    `bbox_2d` or `point_2d` and `label`, in pixels of the resized picture.
    """

    style: Literal["tags", "json"] = "tags"
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
    """Written before the n-th picture of a conversation in chat style, where pictures are numbered."""
    video: str = "Video {n}: "
    after_picture: str = "\n"
    """Written after each picture in chat style."""
    numbered: bool = True
    """Whether pictures and videos are numbered when the caller does not say (`add_vision_id` of the published template)."""
    joined_header: bool = False
    """Role, newline and the text after it are tokenised as one text, as a template that writes one string does."""
    tools: bool = False
    """Whether the family was trained to call functions that are told to it in the words of `processing.tools`."""


@dataclass(frozen=True)
class ImageTokens:
    start: str
    end: str
    pad: str
    video_pad: str | None = None


@dataclass(frozen=True)
class SpecialTokens:
    """Names of the special tokens in the order of their ids, which follow those of the text."""

    trained: tuple[str, ...]
    """Of a small trained vocabulary: those that `used_tokens` gives."""
    published: tuple[str, ...]
    """Of the published vocabulary, which has unused ones between them."""


def used_tokens(chat: ChatRules, markup: Markup, pictures: ImageTokens) -> tuple[str, ...]:
    """The special tokens that a family writes. Every family's stand in this one order, a token that only some have at the end: a
    vocabulary of one family is another's as soon as its special tokens are renamed in place."""
    ends = (chat.document_end, chat.turn_start, chat.turn_end)
    places = (*markup.ref, *markup.box, *markup.quad)
    return (*ends, *places, pictures.start, pictures.end, pictures.pad, *filter(None, [pictures.video_pad]))


@dataclass(frozen=True)
class Preset:
    """A model that can be built by name."""

    name: str
    config: ModelConfig
    markup: Markup = field(default_factory=Markup)
    summary: str = ""
    images: ImageRules | None = None
    """None: the family's."""
    videos: VideoRules | None = None
    """None: the family's."""


def _as_it_is(raw: Mapping[str, Any]) -> dict[str, Any]:
    return dict(raw)


@dataclass(frozen=True)
class FamilySpec:
    name: str
    model_types: tuple[str, ...]
    """Values of config.json's `model_type` that mean this family."""
    images: ImageRules
    image_tokens: ImageTokens
    chat: ChatRules
    special_tokens: SpecialTokens
    videos: VideoRules | None
    """None: pictures only."""
    positions: Literal["line", "mrope"]
    """`line`: 0, 1, 2, ... on all three axes. `mrope`: pictures and videos spread over height, width and time."""
    parse_config: Callable[[Mapping[str, Any]], ModelConfig]
    """config.json's content -> ModelConfig. Raises ConfigError naming what is missing."""
    write_config: Callable[[ModelConfig], dict[str, Any]]
    """ModelConfig -> config.json's content, from which parse_config gives the same back."""
    visual_tokens: Callable[[ModelConfig, tuple[int, int, int]], int]
    """Visual tokens that one picture of a grid (patches in time, height, width) becomes."""
    read_markup: Callable[[Mapping[str, Any]], Markup]
    """The markup that a checkpoint was trained with, from its config.json."""
    presets: tuple[Preset, ...]
    flatten: Callable[[Mapping[str, Any]], dict[str, Any]] = _as_it_is
    """config.json's content in any layout the family has had -> the one that write_config gives. Raises ConfigError for a
    content that contradicts itself."""
