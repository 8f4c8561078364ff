"""Strict configuration: pydantic models in which an unknown key is an error, to and from YAML, with dotted overrides.

The model configs carry the names of the published config.json. They say what is built, never where it came from.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from math import isqrt
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, Tag, ValidationError, model_validator

from qwenvl.types import QwenVLError


class ConfigError(QwenVLError, ValueError):
    """A configuration that cannot be used: unknown key, wrong type, unreadable file."""


class Strict(BaseModel):
    # No number of a setting may be infinite or none (YAML's .inf and .nan).
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


Count = Annotated[int, Field(gt=0)]


class VisionConfig(Strict):
    """The vision tower: a pre-norm ViT over flattened patches. What the generations differ in are choices here."""

    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    patch_size: Count = 14
    temporal_patch_size: Count = 1
    """Frames that one patch spans; a still picture is repeated to fill it."""
    in_channels: Count = 3
    image_size: Count | None = None
    """Side of the square that every picture is resized to, in pixels; None: native resolution."""
    position_grid: Count | None = None
    """Side of the learned position table, interpolated to the picture's grid at every forward; None: no table."""
    rotary_theta: float | None = None
    """Base of 2-D rotary positions in attention (row and column); None: no rotation."""
    input_norm: bool = False
    """A norm between patch embedding and blocks."""
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-6
    mlp: Literal["gelu", "quick_gelu", "swiglu"] = "gelu"
    merge_size: Count = 1
    """Side of the squares of patches that lie together on the packed axis and that the merger joins."""
    window_size: Count | None = None
    """Side in pixels of the windows that attention stays within; None: whole frames in every block."""
    full_attention_blocks: tuple[int, ...] = ()
    """Blocks that attend to the whole frame although there are windows."""
    qkv_layout: Literal["per_head", "stacked"] = "per_head"
    """Order of the fused projection's rows: [head][q|k|v] as Megatron and Qwen-VL's file, or [q|k|v][head]."""

    @property
    def patch_numbers(self) -> int:
        """Numbers in one flattened patch."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @model_validator(mode="after")
    def fits(self) -> VisionConfig:
        _divides("num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size)
        if self.image_size is not None:
            _divides("patch_size", self.patch_size, "image_size", self.image_size)
        if self.rotary_theta is not None:
            _divides("4 (halves of row and column)", 4, "the width of a head", self.hidden_size // self.num_attention_heads)
        if self.window_size is not None:
            _divides("patch_size * merge_size", self.patch_size * self.merge_size, "window_size", self.window_size)
        return self


class ResamplerConfig(Strict):
    """The position-aware cross-attention adapter: learned queries read the tower's patches."""

    kind: Literal["resampler"] = "resampler"
    num_queries: Count = 256
    hidden_size: Count
    num_attention_heads: Count
    layer_norm_eps: float = 1e-6
    position_base: float = 10000.0
    """Base of the sin-cos frequencies. A small grid needs a small base, or neighbours look alike."""
    initialisation: Literal["published", "aligned"] = "published"
    """`aligned` starts every query attending to its own place: what a model without a pretrained tower needs."""

    @model_validator(mode="after")
    def fits(self) -> ResamplerConfig:
        if isqrt(self.num_queries) ** 2 != self.num_queries:
            raise ValueError(f"num_queries is {self.num_queries}; queries stand on a square grid: give 64, 144, 256, ...")
        _divides("num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size)
        _divides("4 (sine and cosine of row and column)", 4, "hidden_size", self.hidden_size)
        return self


class MergerConfig(Strict):
    """Squares of merge_size x merge_size neighbouring patches become one visual token through a two-layer MLP."""

    kind: Literal["merger"] = "merger"
    hidden_size: Count
    """Width of a visual token: the decoder's."""
    merge_size: Count = 2
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-6


ConnectorConfig = Annotated[ResamplerConfig | MergerConfig, Field(discriminator="kind")]


class YarnConfig(Strict):
    """Rotary frequencies stretched for contexts beyond the trained length (YaRN, arXiv 2309.00071)."""

    factor: float = Field(gt=1)
    original_max_position_embeddings: Count
    beta_fast: float = 32.0
    beta_slow: float = 1.0


class DecoderConfig(Strict):
    """The language model: pre-norm RMSNorm, rotate-half RoPE, q/k/v bias, SwiGLU."""

    vocab_size: Count
    hidden_size: Count
    intermediate_size: Count
    """Width of each of gate and up (half of what Qwen-7B's config.json calls intermediate_size)."""
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Count
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    trained_length: Count = 2048
    """Positions seen in training (`seq_length`): beyond it dynamic NTK and logn act."""
    max_position_embeddings: Count = 8192
    use_dynamic_ntk: bool = True
    use_logn_attn: bool = True
    mrope_section: tuple[Count, Count, Count] | None = None
    """Rotary frequencies of a head that follow time, height and width, in this order; None: all follow one position."""
    yarn: YarnConfig | None = None
    tie_word_embeddings: bool = False

    @model_validator(mode="after")
    def fits(self) -> DecoderConfig:
        _divides("num_key_value_heads", self.num_key_value_heads, "num_attention_heads", self.num_attention_heads)
        _divides("2 (the halves that rotate)", 2, "head_dim", self.head_dim)
        if self.mrope_section is not None and sum(self.mrope_section) * 2 != self.head_dim:
            raise ValueError(f"mrope_section {list(self.mrope_section)} must sum to half of head_dim, {self.head_dim // 2}")
        return self


class ModelConfig(Strict):
    """A whole model: three parts, and the ids that tie pictures to text."""

    family: str
    vision: VisionConfig
    connector: ConnectorConfig
    decoder: DecoderConfig
    image_start_id: int
    image_end_id: int
    image_pad_id: int
    video_pad_id: int | None = None
    """Placeholder of a video's tokens, which stand between the same start and end; None: the family takes no video."""
    tokens_per_second: float | None = None
    """Positions on the time axis that a second of video takes; None: one position per temporal patch, whatever its length."""

    @model_validator(mode="after")
    def fits(self) -> ModelConfig:
        if self.connector.hidden_size != self.decoder.hidden_size:
            given, taken = self.connector.hidden_size, self.decoder.hidden_size
            raise ValueError(f"the connector's visual tokens have {given} numbers, the decoder's tokens {taken}")
        merge = self.connector.merge_size if isinstance(self.connector, MergerConfig) else 1
        if merge != self.vision.merge_size:
            raise ValueError(f"the tower lays out squares of {self.vision.merge_size} patches, the connector merges {merge}")
        for name in ("image_start_id", "image_end_id", "image_pad_id", "video_pad_id"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < self.decoder.vocab_size:
                raise ValueError(f"{name} is {getattr(self, name)}, outside the vocabulary of {self.decoder.vocab_size}")
        return self


def _divides(name: str, divisor: int, multiple: str, value: int) -> None:
    """Raise ValueError, which pydantic collects, unless `divisor` divides `value`."""
    if value % divisor:
        what = f"{name}, {divisor}," if name.isidentifier() else name
        raise ValueError(f"{multiple} is {value}, which {what} does not divide")


Config = TypeVar("Config", bound=BaseModel)


def load_yaml(path: str | Path, model: type[Config], overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read a YAML file as `model`, after applying overrides such as `optim.lr=1e-3`. Raises ConfigError, one line."""
    data = read_yaml(path)
    for override in overrides:
        apply_override(data, override)
    return validate(data, model, str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises ConfigError, one line."""
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of keys at the top level")
    return data


def validate(data: Any, model: type[Config], where: str) -> Config:
    """Build `model` from plain data. Raises ConfigError naming the first bad key, with a suggestion for a misspelt one."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        path, _ = _follow(model, first["loc"])
        message = first["msg"]
        if first["type"] == "extra_forbidden":
            _, parent = _follow(model, first["loc"][:-1])
            known = list(parent.model_fields) if parent else []
            close = difflib.get_close_matches(path[-1], known, n=1)
            message = "unknown key" + (f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}")
        raise ConfigError(f"{where}: {in_words('.'.join(path), message)}") from None


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `changes`, section by section. Neither is changed."""
    result = dict(base)
    for key, value in changes.items():
        here = result.get(key)
        result[key] = merged(here, value) if isinstance(here, dict) and isinstance(value, dict) else value
    return result


_YAML_WORDS = {"a valid tuple": "a list", "Tuple": "The list", "a valid dictionary": "a mapping", "Dictionary": "The mapping"}


def in_words(key: str, message: str) -> str:
    """One of pydantic's messages, in YAML's words. A check of a whole value, not of one key, has no key, and pydantic's prefix."""
    for python, yaml_word in _YAML_WORDS.items():
        message = message.replace(python, yaml_word)
    message = re.sub(r" or instance of \w+$", "", message.removeprefix("Value error, "))
    return ": ".join(filter(None, (key, message)))


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one dotted key in place: `train.steps=10`. The value is read as YAML."""
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r}: write it as dotted.key=value")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"override {override!r}: {value!r} is not valid YAML") from None
    # YAML 1.1 reads 1e-3 as text; a number written that way is meant as one.
    if isinstance(parsed, str):
        try:
            parsed = float(parsed)
        except ValueError:
            pass
    put(data, key, parsed, f"override {override!r}")


def put(data: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set one dotted key in place. Raises ConfigError, which begins with `where`, for a parent that is no section."""
    *parents, last = key.split(".")
    here: Any = data
    for parent in parents:
        here = here.setdefault(parent, {})
        if not isinstance(here, dict):
            raise ConfigError(f"{where}: {parent!r} is not a section")
    here[last] = value


def to_yaml(config: BaseModel) -> str:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _follow(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], type[BaseModel] | None]:
    """The keys of pydantic's `location` below `model` as the user wrote them, and the model found there, None where there is none.

    Of a field that may be one of several tagged models, pydantic names the tag too, which no user wrote.
    """
    here: type[BaseModel] | None = model
    tagged: dict[str, type[BaseModel]] = {}
    path = []
    for part in location:
        if part in tagged:
            here, tagged = tagged[str(part)], {}
            continue
        path.append(str(part))
        if isinstance(part, int):
            continue  # an entry of a list holds what the list holds
        field = here.model_fields.get(part) if here else None
        found = dict(_models_in(field.annotation, *field.metadata)) if field else {}
        here = found.pop("", None)
        tagged = found
    return path, here


def _models_in(annotation: Any, *metadata: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models that an annotation allows, each with its tag; "" for one without."""
    arguments = getattr(annotation, "__args__", ())
    if isinstance(annotation, type) and not arguments and issubclass(annotation, BaseModel):
        yield next((mark.tag for mark in metadata if isinstance(mark, Tag)), ""), annotation
    for argument in arguments:
        yield from _models_in(argument, *getattr(annotation, "__metadata__", ()))
