"""A checkpoint's own rules for pictures and clips, in the words of transformers' preprocessor_config.json and its neighbours.

`shortest_edge` and `longest_edge` hold areas, for all their names. The longest ratio of sides is in no file: the family's stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qwenvl.config import ConfigError, ModelConfig
from qwenvl.families.spec import FamilySpec, ImageRules, VideoRules

IMAGES, VIDEOS, BOTH = "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"
RULE_FILES = (BOTH, IMAGES, VIDEOS)
"""BOTH is what transformers 5 writes, with the other two nested in it; it wins where a folder has several."""

BICUBIC = 3
"""PIL's number of the filter that pictures are resized with."""

CLIP_SHARE = 0.9
"""Of `max_video_tokens`, the share that frames may fill (qwen-vl-utils; Qwen2VLVideoProcessor of transformers 5.23)."""


def read_rules(files: Mapping[str, Mapping[str, Any]], spec: FamilySpec, config: ModelConfig) -> FamilySpec:
    """The family with the rules of a folder's files (name -> content) in place of its own; what they do not say stays.

    A family whose pictures are all one square has no such files. Raises ConfigError naming file and key where the files contradict
    the tower or are no rules at all.
    """
    if spec.images.kind != "native":
        return spec
    together = files.get(BOTH, {})
    images, where = together.get("image_processor"), f"{BOTH}, image_processor"
    if images is None:
        images, where = files.get(IMAGES), IMAGES
    videos, video_where = together.get("video_processor"), f"{BOTH}, video_processor"
    if videos is None:
        videos, video_where = files.get(VIDEOS), VIDEOS
    if images is not None:
        spec = replace(spec, images=_images(images, spec.images, config, where))
    if videos is not None and spec.videos is not None:
        spec = replace(spec, videos=_videos(videos, spec.videos, config, video_where))
    return spec


def write_rules(spec: FamilySpec, config: ModelConfig) -> dict[str, dict[str, Any]]:
    """File name -> content, from which `read_rules` gives the rules back; none for a family of one square."""
    rules, clips = spec.images, spec.videos
    if rules.kind != "native":
        return {}
    shared: dict[str, Any] = {
        "do_convert_rgb": True,
        "do_resize": True,
        "resample": BICUBIC,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(rules.mean),
        "image_std": list(rules.std),
        **_tower_keys(config),
    }
    kind = {"image_processor_type": "Qwen2VLImageProcessor"}
    files = {IMAGES: {**kind, "min_pixels": rules.min_pixels, "max_pixels": rules.max_pixels, **shared}}
    if clips is not None:
        files[VIDEOS] = {
            "video_processor_type": "Qwen2VLVideoProcessor",
            "size": {"shortest_edge": clips.min_pixels, "longest_edge": clips.max_pixels},
            "fps": clips.fps,
            "min_frames": clips.min_frames,
            "max_frames": clips.max_frames,
            "do_sample_frames": True,
            "cap_pixels_per_frame": True,
            "max_video_tokens": round(clips.total_pixels / CLIP_SHARE / _unit(config)),
            **shared,
        }
    return files


def _tower_keys(config: ModelConfig) -> dict[str, int]:
    vision = config.vision
    return {"patch_size": vision.patch_size, "temporal_patch_size": vision.temporal_patch_size, "merge_size": vision.merge_size}


def _unit(config: ModelConfig) -> int:
    """Pixels of one visual token."""
    return (config.vision.patch_size * config.vision.merge_size) ** 2


def _images(raw: Any, rules: ImageRules, config: ModelConfig, where: str) -> ImageRules:
    _check(raw, config, where)
    smallest, largest = _areas(raw, where)
    return replace(
        rules,
        mean=_triple(raw, "image_mean", rules.mean, where),
        std=_triple(raw, "image_std", rules.std, where),
        min_pixels=smallest or rules.min_pixels,
        max_pixels=largest or rules.max_pixels,
    )


def _videos(raw: Any, rules: VideoRules, config: ModelConfig, where: str) -> VideoRules:
    _check(raw, config, where)
    smallest, largest = _areas(raw, where)
    fps, tokens = _positive(raw, "fps", where), _positive(raw, "max_video_tokens", where)
    return replace(
        rules,
        fps=fps or rules.fps,
        min_frames=int(_positive(raw, "min_frames", where) or rules.min_frames),
        max_frames=int(_positive(raw, "max_frames", where) or rules.max_frames),
        min_pixels=smallest or rules.min_pixels,
        max_pixels=largest or rules.max_pixels,
        total_pixels=int(tokens * _unit(config) * CLIP_SHARE) if tokens else rules.total_pixels,
    )


def _check(raw: Any, config: ModelConfig, where: str) -> None:
    """Raise ConfigError unless patches are cut as the tower takes them."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: expected a JSON object")
    for key, value in _tower_keys(config).items():
        if raw.get(key, value) != value:
            raise ConfigError(f"{where}: {key} is {raw[key]}, but {value} in config.json; they belong to two models")


def _areas(raw: Mapping[str, Any], where: str) -> tuple[int | None, int | None]:
    """Smallest and largest area of a picture in pixels; None for what is not said."""
    size = raw.get("size")
    size = size if isinstance(size, Mapping) else {}
    pairs = (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge"))
    found = [_positive(raw, key, where) or _positive(size, edge, where) or _positive(size, key, where) for key, edge in pairs]
    smallest, largest = (None if area is None else int(area) for area in found)
    if smallest and largest and smallest > largest:
        raise ConfigError(f"{where}: min_pixels is {smallest}, more than max_pixels, {largest}")
    return smallest, largest


def _positive(raw: Mapping[str, Any], key: str, where: str) -> float | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"{where}: {key} is {value!r}; expected a number above 0")
    return value


def _triple(raw: Mapping[str, Any], key: str, default: tuple[float, float, float], where: str) -> tuple[float, float, float]:
    value = raw.get(key)
    if value is None:
        return default
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(part, int | float) for part in value):
        raise ConfigError(f"{where}: {key} is {value!r}; expected three numbers, for red, green and blue")
    return (float(value[0]), float(value[1]), float(value[2]))
