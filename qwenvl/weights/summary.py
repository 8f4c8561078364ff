"""What a model is made of: parameters per part and bytes per storage, counted on the meta device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwenvl.config import ModelConfig, ResamplerConfig
from qwenvl.weights.files import open_file, weight_files
from qwenvl.weights.io import build_meta, parameter_shapes
from qwenvl.weights.maps import Shape, name_table
from qwenvl.weights.quantize import int8_bytes

# The paper of Qwen-VL counts the connector's last norm and projection to the vision encoder (table 1: 1.9B), as the published code
# keeps them in its visual tower; the adapter is the cross-attention alone (0.08B).
RESAMPLER_PARTS = {
    "decoder.": "llm",
    "vision_tower.": "vision_encoder_vit",
    "connector.output_norm.": "vision_encoder_output",
    "connector.output_proj": "vision_encoder_output",
    "connector.": "adapter",
}
# That of Qwen2-VL counts the merger to it (table 1: 675M, the tower with the merger of the 7B).
MERGER_PARTS = {"decoder.": "llm", "vision_tower.": "vision_encoder_vit", "connector.": "vision_encoder_merger"}


def count_parameters(config: ModelConfig, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Parameters by part, from the `parameter_shapes` of the config's model, counted as the paper of the family does.

    llm + vision_encoder (+ adapter) = total; what vision_encoder consists of follows it.
    """
    parts = RESAMPLER_PARTS if isinstance(config.connector, ResamplerConfig) else MERGER_PARTS
    counts = dict.fromkeys(parts.values(), 0)
    for name, shape in shapes.items():
        # The first prefix that fits: the narrow ones stand before the wide one.
        counts[next(part for prefix, part in parts.items() if name.startswith(prefix))] += math.prod(shape)
    encoder = {part: count for part, count in counts.items() if part.startswith("vision_encoder")}
    rest = {part: count for part, count in counts.items() if part not in encoder and part != "llm"}
    return {
        "llm": counts["llm"], "vision_encoder": sum(encoder.values()), **encoder, **rest, "total": sum(counts.values()),
    }  # fmt: skip


def summarise(config: ModelConfig, folder: Path | None = None) -> dict[str, Any]:
    """Parameters, tensors of the published layout, bytes in bfloat16 and int8, the config, and what a folder's files hold."""
    shapes = parameter_shapes(build_meta(config))
    entries = name_table(config, shapes)
    parameters = count_parameters(config, shapes)
    return {
        "family": config.family,
        "parameters": parameters,
        "tensors": len(entries),
        "bytes": {"bfloat16": 2 * parameters["total"], "int8": sum(int8_bytes(entry.shape) for entry in entries)},
        "files": _files(folder) if folder else None,
        "config": config.model_dump(mode="json"),
    }


def _files(folder: Path) -> dict[str, Any]:
    """Weight files of a folder: how many, how large, in which dtypes. Raises WeightsError as loading would."""
    files = weight_files(folder)
    dtypes = {str(tensor.dtype).removeprefix("torch.") for file in files for tensor in open_file(file)}
    return {"count": len(files), "bytes": sum(file.stat().st_size for file in files), "dtypes": sorted(dtypes)}
