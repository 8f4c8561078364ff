"""config.json of Qwen2-VL and Qwen2.5-VL: the decoder's half, the two layouts, and the reading that checks the writing.

On the hub the file is flat: the decoder's keys stand at the top level. Transformers 5 nests them in `text_config`, and spells some
keys anew. `flatten` makes the first of either; the flat one is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qwenvl.config import ConfigError, DecoderConfig, MergerConfig, ModelConfig, VisionConfig, YarnConfig, validate
from qwenvl.families.qwen2 import PUBLISHED_IDS, VISION_NORM_EPS, VISION_ROTARY_THETA

FILE = "config.json"

DECODER_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling",
)  # fmt: skip
"""Keys that a checkpoint must have: the defaults of transformers' classes are those of no checkpoint."""

DECODER_ACTIVATION = "silu"

ID_KEYS = {
    "vision_start_token_id": "image_start_id",
    "vision_end_token_id": "image_end_id",
    "image_token_id": "image_pad_id",
    "video_token_id": "video_pad_id",
}
"""The file's name of a special id -> ours."""

UNUSED = "decoder.trained_length"
"""Says where dynamic NTK and logn begin, which this family has not."""

PLAIN_KINDS = (None, "mrope", "default")
"""Of rope_scaling: M-RoPE and nothing more. Transformers writes "rope_type" beside the hub's "type", and "default" for "mrope"."""

VISION_SPELLINGS = (("in_chans", "in_channels"), ("patch_size", "spatial_patch_size"))
"""One thing, two names: the hub's and another."""


# Reading


def flatten(raw: Mapping[str, Any]) -> dict[str, Any]:
    """config.json in the hub's layout, of two spellings of a key the hub's first one.

    Raises ConfigError where two keys that mean one thing differ.
    """
    nested = raw.get("text_config")
    flat = {key: value for key, value in raw.items() if key != "text_config"}
    if isinstance(nested, Mapping):
        for key, value in nested.items():
            if key in DECODER_KEYS and _kindless(flat.get(key, value)) != _kindless(value):
                raise ConfigError(f"{FILE}: {key} is {flat[key]} at the top level but {value} in text_config; keep one of them")
            # What names the decoder alone (its model_type) is outranked by what names the whole.
            if flat.get(key) is None:
                flat[key] = value
        # Saves of transformers before 5 may say it in text_config alone, beside a default at the top.
        flat["tie_word_embeddings"] = bool(raw.get("tie_word_embeddings") or nested.get("tie_word_embeddings"))
    rope = flat.pop("rope_parameters", None) or flat.get("rope_scaling")
    if isinstance(rope, Mapping):
        flat["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
        flat["rope_theta"] = rope.get("rope_theta", flat.get("rope_theta"))
    if isinstance(flat.get("vision_config"), Mapping):
        flat["vision_config"] = _hub_spelling(flat["vision_config"])
    return flat


def _kindless(value: Any) -> Any:
    """A rope_scaling without the names of the plain kind, which transformers before 5 renames in one of two copies of it."""
    if not isinstance(value, Mapping):
        return value
    return {key: kind for key, kind in value.items() if key not in ("type", "rope_type") or kind not in PLAIN_KINDS}


def _hub_spelling(vision: Mapping[str, Any]) -> dict[str, Any]:
    spelt = dict(vision)
    for hub, other in VISION_SPELLINGS:
        if other in spelt:
            value = spelt.pop(other)
            if spelt.setdefault(hub, value) != value:
                both = f"vision_config.{hub} is {spelt[hub]} but vision_config.{other} is {value}"
                raise ConfigError(f"{FILE}: {both}; they mean one thing")
    return spelt


def require(flat: Mapping[str, Any], vision_keys: Sequence[str], kind: str) -> Mapping[str, Any]:
    """`vision_config`, once nothing is missing there or among the decoder's keys. Raises ConfigError naming all that is."""
    vision = flat.get("vision_config")
    vision = vision if isinstance(vision, Mapping) else {}
    missing = [key for key in DECODER_KEYS if flat.get(key) is None]
    missing += [f"vision_config.{key}" for key in vision_keys if vision.get(key) is None]
    if missing:
        raise ConfigError(f"{FILE}: missing {', '.join(missing)}; a {kind} checkpoint has them")
    return vision


def expect(raw: Mapping[str, Any], key: str, wanted: Any, parent: str = "") -> None:
    """Raise ConfigError where a key is given and asks for something else than what is built."""
    if raw.get(key) not in (None, wanted):
        raise ConfigError(f"{FILE}: {parent}{key} is {raw[key]!r}; only {wanted!r} is supported")


def parse_decoder(flat: Mapping[str, Any]) -> DecoderConfig:
    """The decoder of a flat config.json. With YaRN the context grows to what the stretched frequencies reach."""
    expect(flat, "hidden_act", DECODER_ACTIVATION)
    expect(flat, "use_sliding_window", False)
    rope, trained, heads = flat["rope_scaling"], flat["max_position_embeddings"], flat["num_attention_heads"]
    yarn = _parse_yarn(rope)
    reach = int(yarn.factor * yarn.original_max_position_embeddings) if yarn else 0
    return validate(
        {
            "vocab_size": flat["vocab_size"],
            "hidden_size": flat["hidden_size"],
            "intermediate_size": flat["intermediate_size"],
            "num_hidden_layers": flat["num_hidden_layers"],
            "num_attention_heads": heads,
            "num_key_value_heads": flat["num_key_value_heads"],
            "head_dim": flat["hidden_size"] // max(heads, 1),
            "rms_norm_eps": flat["rms_norm_eps"],
            "rope_theta": flat["rope_theta"],
            "trained_length": trained,
            "max_position_embeddings": max(trained, reach),
            "use_dynamic_ntk": False,
            "use_logn_attn": False,
            "mrope_section": rope["mrope_section"],
            "yarn": yarn,
            "tie_word_embeddings": flat.get("tie_word_embeddings") or False,
        },
        DecoderConfig,
        FILE,
    )


def _parse_yarn(rope: Mapping[str, Any]) -> YarnConfig | None:
    """What rope_scaling says beyond M-RoPE's sections. Raises ConfigError for a kind or a setting that is not built."""
    if rope.get("mrope_section") is None:
        raise ConfigError(f"{FILE}: missing rope_scaling.mrope_section, how many frequencies follow time, height and width")
    kinds = [kind for kind in (rope.get("type"), rope.get("rope_type")) if kind not in PLAIN_KINDS]
    if not kinds:
        return None
    if kinds[0] != "yarn":
        raise ConfigError(f"{FILE}: rope_scaling.type is {kinds[0]!r}; supported: mrope, default, yarn")
    for key in ("attention_factor", "mscale", "mscale_all_dim", "truncate"):
        expect(rope, key, True if key == "truncate" else None, "rope_scaling.")
    settings = {key: rope[key] for key in YarnConfig.model_fields if rope.get(key) is not None}
    return validate(settings, YarnConfig, f"{FILE}, rope_scaling")


def assemble(
    family: str, flat: Mapping[str, Any], vision: Mapping[str, Any], width: int, width_key: str, seconds: float | None = None
) -> ModelConfig:
    """The model of a flat config.json around the tower's settings `vision`.

    width, under vision_config.`width_key`: numbers of a visual token. seconds: positions that a second of video takes.
    Raises ConfigError, one line.
    """
    if width != flat["hidden_size"]:
        both = f"vision_config.{width_key} is {width} but hidden_size is {flat['hidden_size']}"
        raise ConfigError(f"{FILE}: {both}; in this family both are the width of a token of the decoder")
    tower = validate(
        {"rotary_theta": VISION_ROTARY_THETA, "norm_eps": VISION_NORM_EPS, "qkv_layout": "stacked", **vision},
        VisionConfig, f"{FILE}, vision_config",
    )
    given = {ours: flat[key] for key, ours in ID_KEYS.items() if flat.get(key) is not None}
    whole = {
        "family": family,
        "vision": tower,
        "connector": MergerConfig(hidden_size=width, merge_size=tower.merge_size, norm=tower.norm, norm_eps=tower.norm_eps),
        "decoder": parse_decoder(flat),
        "tokens_per_second": seconds,
        **PUBLISHED_IDS,
        **given,
    }
    return validate(whole, ModelConfig, FILE)


# Writing


def write_flat(
    config: ModelConfig, architecture: str, vision: Mapping[str, Any], parse: Callable[[Mapping[str, Any]], ModelConfig]
) -> dict[str, Any]:
    """config.json as the hub has it, which transformers and vLLM load.

    Raises ConfigError for a config that these keys cannot say: a file that reads back as another model must not be written.
    """
    decoder = config.decoder
    raw = {
        "architectures": [architecture],
        "model_type": config.family,
        "vocab_size": decoder.vocab_size,
        "hidden_size": decoder.hidden_size,
        "intermediate_size": decoder.intermediate_size,
        "num_hidden_layers": decoder.num_hidden_layers,
        "num_attention_heads": decoder.num_attention_heads,
        "num_key_value_heads": decoder.num_key_value_heads,
        "hidden_act": DECODER_ACTIVATION,
        "max_position_embeddings": decoder.max_position_embeddings if decoder.yarn is None else decoder.trained_length,
        "rms_norm_eps": decoder.rms_norm_eps,
        "rope_theta": decoder.rope_theta,
        "rope_scaling": _write_rope(decoder),
        "use_sliding_window": False,
        "tie_word_embeddings": decoder.tie_word_embeddings,
        **{key: getattr(config, ours) for key, ours in ID_KEYS.items()},
        "vision_config": dict(vision),
    }
    ours, read = _dotted(config.model_dump()), _dotted(parse(raw).model_dump())
    for key, value in ours.items():
        if value != read.get(key) and key != UNUSED:
            raise ConfigError(f"{config.family}: {key} is {value}, but config.json can only say {read.get(key)} here")
    return raw


def _write_rope(decoder: DecoderConfig) -> dict[str, Any]:
    sections = list(decoder.mrope_section or ())
    if decoder.yarn is None:
        return {"type": "mrope", "mrope_section": sections}
    return {"type": "yarn", "mrope_section": sections, **decoder.yarn.model_dump()}


def _dotted(data: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """{"decoder": {"yarn": None}} -> {"decoder.yarn": None}"""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _dotted(value, f"{parent}{key}.") if isinstance(value, Mapping) else {f"{parent}{key}": value}
    return flat


def whole_number(value: float) -> float:
    """An int where the number is one: transformers refuses 2.0 where it expects 2."""
    return int(value) if value == int(value) else value
