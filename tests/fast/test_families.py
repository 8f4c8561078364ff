"""Families as data: config.json in every layout, presets, sizes of pictures and clips."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from qwenvl.config import ConfigError, ModelConfig
from qwenvl.families import FAMILIES, family_of_config, family_of_preset, find_preset, get_family
from qwenvl.families.preprocessor import BOTH, IMAGES, VIDEOS, read_rules, write_rules
from qwenvl.families.spec import Preset
from qwenvl.weights.io import build_meta, parameter_shapes
from qwenvl.weights.maps import Entry, name_table
from qwenvl.weights.summary import count_parameters

PRESETS = [preset for family in FAMILIES for preset in family.presets]
NATIVE = [preset for preset in PRESETS if preset.config.family != "qwen_vl"]
Raw = dict[str, Any]

# config.json in the layout of the hub, put together from public copies of it: the keys that matter and some that do not.
HUB_2B: Raw = {
    "architectures": ["Qwen2VLForConditionalGeneration"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645,
    "vision_start_token_id": 151652, "vision_end_token_id": 151653, "vision_token_id": 151654, "image_token_id": 151655,
    "video_token_id": 151656, "hidden_act": "silu", "hidden_size": 1536, "initializer_range": 0.02, "intermediate_size": 8960,
    "max_position_embeddings": 32768, "max_window_layers": 28, "model_type": "qwen2_vl", "num_attention_heads": 12,
    "num_hidden_layers": 28, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936,
    "vision_config": {
        "depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3, "hidden_size": 1536, "patch_size": 14,
        "spatial_merge_size": 2, "spatial_patch_size": 14, "temporal_patch_size": 2,
    },
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
}  # fmt: skip
HUB_3B: Raw = HUB_2B | {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "hidden_size": 2048,
    "intermediate_size": 11008, "max_position_embeddings": 128000, "max_window_layers": 70, "num_attention_heads": 16,
    "num_hidden_layers": 36, "num_key_value_heads": 2,
    "vision_config": {
        "depth": 32, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "in_chans": 3,
        "out_hidden_size": 2048, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14, "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2, "temporal_patch_size": 2,
    },
}  # fmt: skip
HUB = {"qwen2-vl-2b": HUB_2B, "qwen2.5-vl-3b": HUB_3B}
WHOLE = ("architectures", "model_type", "image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def parse(raw: Raw) -> ModelConfig:
    return family_of_config(raw).parse_config(raw)


def changed(raw: Raw, **changes: Any) -> Raw:
    """A copy with `changes`; a key of vision_config or rope_scaling is written vision_config__depth; None drops a key."""
    copy = json.loads(json.dumps(raw))
    for path, value in changes.items():
        *parents, last = path.split("__")
        here = copy
        for parent in parents:
            here = here[parent]
        here.pop(last, None)
        if value is not None:
            here[last] = value
    return copy


def nested(flat: Raw) -> Raw:
    """The same in the layout and spelling of transformers 5."""
    text = {key: value for key, value in flat.items() if key not in (*WHOLE, "vision_config", "rope_scaling", "rope_theta")}
    tied = text.pop("tie_word_embeddings")
    text |= {"model_type": f"{flat['model_type']}_text", "dtype": "float32"}
    text["rope_parameters"] = flat["rope_scaling"] | {"rope_type": "default", "rope_theta": flat["rope_theta"]}
    vision = {key: value for key, value in flat["vision_config"].items() if key not in ("in_chans", "spatial_patch_size")}
    vision |= {"in_channels": 3, "model_type": f"{flat['model_type']}_vision", "initializer_range": 0.02}
    whole = {key: flat[key] for key in WHOLE}
    return {**whole, "dtype": "float32", "tie_word_embeddings": tied, "text_config": text, "vision_config": vision}


@pytest.mark.parametrize("name", HUB)
def test_the_hub_config_is_the_preset_and_nothing_is_written_that_it_does_not_say(name: str) -> None:
    raw = HUB[name]
    assert parse(raw) == find_preset(name).config
    written = get_family(parse(raw).family).write_config(parse(raw))
    assert {key: raw[key] for key in written} == written


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_every_preset_is_read_back_from_what_is_written(preset: Preset) -> None:
    raw = get_family(preset.config.family).write_config(preset.config)
    assert parse(json.loads(json.dumps(raw))) == preset.config


@pytest.mark.parametrize("preset", NATIVE, ids=lambda preset: preset.name)
def test_nested_equals_flat(preset: Preset) -> None:
    flat = get_family(preset.config.family).write_config(preset.config)
    assert parse(nested(flat)) == preset.config


@pytest.mark.parametrize("raw", HUB.values(), ids=HUB)
def test_both_spellings_mean_the_same(raw: Raw) -> None:
    expected = parse(raw)
    assert parse(changed(raw, vision_config__in_chans=None, vision_config__in_channels=3)) == expected
    assert parse(changed(raw, vision_config__patch_size=None)) == expected
    assert parse(changed(raw, rope_scaling__rope_type="default")) == expected
    assert parse(changed(raw, rope_scaling__type="default")) == expected
    inside = raw["rope_scaling"] | {"rope_theta": raw["rope_theta"]}
    assert parse(changed(raw, rope_scaling=None, rope_theta=None, rope_parameters=inside)) == expected
    # The heads may be tied by either half of a nested file: saves before transformers 5 wrote it below.
    below = nested(raw)
    below["tie_word_embeddings"] = False
    below["text_config"]["tie_word_embeddings"] = True
    assert parse(below) == expected
    # A file may have both copies of the decoder's keys, one of them with the kind renamed; another kind still contradicts.
    twice = nested(raw) | {"rope_scaling": raw["rope_scaling"]}
    twice["text_config"]["rope_scaling"] = raw["rope_scaling"] | {"type": "default", "rope_type": "default"}
    assert parse(twice) == expected
    twice["text_config"]["rope_scaling"] |= {"type": "yarn", "rope_type": "yarn"}
    with pytest.raises(ConfigError, match=r"rope_scaling is .* at the top level but .*yarn.* in text_config"):
        parse(twice)
    # The ids of pictures are the published ones where a file does not say.
    assert parse(changed(raw, image_token_id=None, vision_end_token_id=None)) == expected


def test_hidden_size_of_the_vision_config_means_two_things() -> None:
    """The width of a visual token in Qwen2-VL, the tower's in Qwen2.5-VL."""
    two, five = find_preset("qwen2-vl-2b").config, find_preset("qwen2.5-vl-3b").config
    assert (two.vision.hidden_size, two.connector.hidden_size) == (1280, 1536)
    assert (five.vision.hidden_size, five.connector.hidden_size) == (1280, 2048)
    with pytest.raises(ConfigError, match=r"vision_config\.hidden_size is 1280 but hidden_size is 1536"):
        parse(changed(HUB_2B, vision_config__hidden_size=1280))


def test_the_norm_of_a_checkpoint_is_its_own() -> None:
    assert parse(changed(HUB_2B, rms_norm_eps=1e-5)).decoder.rms_norm_eps == 1e-5
    assert parse(changed(HUB_2B, rms_norm_eps=1e-5)).vision.norm_eps == 1e-6


def test_yarn_is_read_and_gives_the_longer_context() -> None:
    yarn = {"type": "yarn", "mrope_section": [16, 24, 24], "factor": 4, "original_max_position_embeddings": 32768}
    flat = changed(HUB_2B, rope_scaling=yarn)
    below = nested(flat)
    below["text_config"]["rope_parameters"]["rope_type"] = "yarn"
    for config in (parse(flat), parse(below)):
        assert config.decoder.yarn is not None and config.decoder.yarn.factor == 4
        assert config.decoder.mrope_section == (16, 24, 24)
        assert (config.decoder.trained_length, config.decoder.max_position_embeddings) == (32768, 131072)
        assert parse(get_family("qwen2_vl").write_config(config)) == config


WRONG: dict[str, tuple[Raw, str]] = {
    "two missing": (
        changed(HUB_3B, rms_norm_eps=None, vision_config__window_size=None),
        "missing rms_norm_eps, vision_config.window_size; a Qwen2.5-VL checkpoint",
    ),
    "no tower": (changed(HUB_2B, vision_config=None), "vision_config.depth"),
    "no sections": (changed(HUB_2B, rope_scaling__mrope_section=None), "missing rope_scaling.mrope_section"),
    "no rope": (changed(HUB_2B, rope_scaling=None), "missing rope_scaling"),
    "sections too long": (changed(HUB_2B, rope_scaling__mrope_section=[16, 24, 32]), "mrope_section [16, 24, 32] must sum to"),
    "other rope": (changed(HUB_2B, rope_scaling__type="linear"), "rope_scaling.type is 'linear'; supported: mrope, default, yarn"),
    "yarn without factor": (changed(HUB_2B, rope_scaling__type="yarn"), "rope_scaling: factor: Field required"),
    "yarn with more": (
        changed(HUB_2B, rope_scaling__type="yarn", rope_scaling__attention_factor=2.0),
        "rope_scaling.attention_factor is 2.0; only None is supported",
    ),
    "two channels": (changed(HUB_2B, vision_config__in_channels=4), "in_chans is 3 but vision_config.in_channels is 4"),
    "two widths": (
        changed(HUB_2B, text_config={"hidden_size": 8}), "hidden_size is 1536 at the top level but 8 in text_config",
    ),
    "other activation": (changed(HUB_3B, vision_config__hidden_act="gelu"), "vision_config.hidden_act is 'gelu'; only 'silu'"),
    "other decoder": (changed(HUB_2B, hidden_act="gelu"), "hidden_act is 'gelu'; only 'silu' is supported"),
    "sliding window": (changed(HUB_2B, use_sliding_window=True), "use_sliding_window is True; only False is supported"),
    "uneven heads": (changed(HUB_2B, vision_config__num_heads=7), "vision_config: hidden_size is 1280, which num_attention_heads,"),
    "uneven windows": (changed(HUB_3B, vision_config__window_size=100), "window_size is 100, which patch_size * merge_size"),
    "id outside": (changed(HUB_2B, video_token_id=151936), "video_pad_id is 151936, outside the vocabulary of 151936"),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_a_bad_config_gives_one_line_that_names_the_key(how: str) -> None:
    raw, message = WRONG[how]
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("config.json")


def test_what_config_json_cannot_say_is_not_written() -> None:
    """Else the file would be read back as another model."""
    config = find_preset("qwen2.5-vl-nano").config
    for change in ({"qkv_layout": "per_head"}, {"norm": "layer"}, {"rotary_theta": 100.0}, {"mlp": "gelu"}, {"position_grid": 8}):
        other = config.model_copy(update={"vision": config.vision.model_copy(update=change)})
        with pytest.raises(ConfigError, match=rf"qwen2_5_vl: vision\.{next(iter(change))} is .* config\.json can only say"):
            get_family("qwen2_5_vl").write_config(other)


# Presets


def test_presets_have_names_of_their_own_and_their_family() -> None:
    names = [preset.name for preset in PRESETS]
    assert len(set(names)) == len(names) == 11
    assert all(preset in get_family(preset.config.family).presets for preset in PRESETS)


def counted(name: str) -> dict[str, int]:
    config = find_preset(name).config
    return count_parameters(config, parameter_shapes(build_meta(config)))


def table(preset: Preset) -> list[Entry]:
    return name_table(preset.config, parameter_shapes(build_meta(preset.config)))


def test_published_sizes() -> None:
    """Table 1 of arXiv 2409.12191: a vision encoder of 675M, which has the merger of the 7B in it."""
    counts = {name: counted(name) for name in ("qwen2-vl-2b", "qwen2-vl-7b", "qwen2.5-vl-3b")}
    assert counts["qwen2-vl-7b"] == {
        "llm": 7_615_616_512, "vision_encoder": 675_759_104, "vision_encoder_vit": 631_183_360, "vision_encoder_merger": 44_575_744,
        "total": 8_291_375_616,
    }  # fmt: skip
    assert counts["qwen2-vl-2b"]["vision_encoder_vit"] == 631_183_360
    assert counts["qwen2-vl-2b"]["total"] == 2_208_985_600
    assert counts["qwen2.5-vl-3b"]["total"] == 3_754_622_976


def test_nano_members_are_of_one_size() -> None:
    one, two, five = (counted(f"qwen{kind}-vl-nano") for kind in ("", "2", "2.5"))
    assert abs(two["total"] - five["total"]) < 1_000
    assert one["total"] < two["total"] < 1.08 * one["total"]
    decoders = [find_preset(f"qwen{kind}-vl-nano").config.decoder for kind in ("2", "2.5")]
    assert decoders[0] == decoders[1]


@pytest.mark.parametrize("name", ["qwen2-vl-2b", "qwen2.5-vl-3b"])
def test_names_are_the_hub_s(name: str) -> None:
    shapes = {entry.published: entry.shape for entry in table(find_preset(name))}
    kind = {"qwen2-vl-2b": ("mlp.fc1", (5120, 1280), True), "qwen2.5-vl-3b": ("mlp.gate_proj", (3420, 1280), False)}
    mlp, shape, has_bias = kind[name]
    assert shapes["visual.patch_embed.proj.weight"] == (1280, 3, 2, 14, 14)
    assert shapes["visual.blocks.31.attn.qkv.bias"] == (3840,)
    assert shapes[f"visual.blocks.7.{mlp}.weight"] == shape
    assert ("visual.blocks.0.norm1.bias" in shapes) is ("visual.merger.ln_q.bias" in shapes) is has_bias
    assert shapes["visual.merger.mlp.0.weight"] == (5120, 5120)
    assert shapes["model.layers.0.self_attn.k_proj.bias"] == (256,)
    assert "model.layers.0.self_attn.o_proj.bias" not in shapes
    assert "lm_head.weight" not in shapes  # tied to model.embed_tokens


# Pictures and clips


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_rules_are_read_back_from_what_is_written(preset: Preset) -> None:
    spec = family_of_preset(preset)
    written = json.loads(json.dumps(write_rules(spec, preset.config)))
    assert read_rules(written, get_family(preset.config.family), preset.config) == spec


def test_published_bounds() -> None:
    spec = get_family("qwen2_vl")
    assert (spec.images.min_pixels, spec.images.max_pixels, spec.images.max_ratio) == (3136, 12_845_056, 200)
    assert spec.videos is not None and spec.videos.total_pixels == 90_316_800
    nano = family_of_preset(find_preset("qwen2.5-vl-nano"))
    assert nano.images.max_pixels == 64 * 28 * 28
    assert nano.visual_tokens(find_preset("qwen2.5-vl-nano").config, (1, 16, 16)) == 64


def test_rules_are_read_in_every_spelling() -> None:
    spec, config = get_family("qwen2_vl"), find_preset("qwen2-vl-2b").config
    tower = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    edges = {"size": {"shortest_edge": 1568, "longest_edge": 78400}}
    areas = {"min_pixels": 1568, "max_pixels": 78400}
    both = {BOTH: {"image_processor": edges}, IMAGES: {"min_pixels": 1}}
    for files in ({IMAGES: areas}, {IMAGES: edges | tower}, {IMAGES: {"size": areas}}, both):
        images = read_rules(files, spec, config).images
        assert (images.min_pixels, images.max_pixels, images.mean) == (1568, 78400, spec.images.mean)
    clips = read_rules({VIDEOS: edges | {"fps": 1, "max_frames": 16}}, spec, config).videos
    assert clips is not None and (clips.min_pixels, clips.max_pixels, clips.fps, clips.max_frames) == (1568, 78400, 1, 16)
    assert clips.min_frames == 4 and clips.total_pixels == 90_316_800
    # Those of a picture say nothing of a clip.
    assert read_rules({IMAGES: areas}, spec, config).videos == spec.videos
    assert read_rules({IMAGES: areas}, get_family("qwen_vl"), find_preset("qwen-vl-7b").config) == get_family("qwen_vl")


BAD_RULES: list[tuple[Raw, str]] = [
    ({"patch_size": 16}, "preprocessor_config.json: patch_size is 16, but 14 in config.json"),
    ({"max_pixels": "many"}, "preprocessor_config.json: max_pixels is 'many'; expected a number above 0"),
    ({"size": {"shortest_edge": 0}}, "shortest_edge is 0; expected a number above 0"),
    ({"min_pixels": 10, "max_pixels": 9}, "min_pixels is 10, more than max_pixels, 9"),
    ({"image_mean": [0.5]}, "image_mean is [0.5]; expected three numbers"),
]


@pytest.mark.parametrize(("content", "message"), BAD_RULES)
def test_bad_rules_give_one_line(content: Raw, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_rules({IMAGES: content}, get_family("qwen2_vl"), find_preset("qwen2-vl-2b").config)
    assert message in str(caught.value)


def test_every_family_has_what_the_renderer_asks_for() -> None:
    checks: dict[str, Callable[[Preset], bool]] = {
        "video": lambda preset: (preset.config.video_pad_id is None) == (get_family(preset.config.family).videos is None),
        "video token": lambda preset: (get_family(preset.config.family).image_tokens.video_pad is None)
        == (get_family(preset.config.family).videos is None),
        "positions": lambda preset: (preset.config.decoder.mrope_section is None)
        == (get_family(preset.config.family).positions == "line"),
    }
    for what, check in checks.items():
        assert all(check(preset) for preset in PRESETS), what
