"""What a model is made of: parameters per part and bytes per storage, counted on the meta device."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from qwenvl.config import ModelConfig
from qwenvl.weights.files import open_file, weight_files
from qwenvl.weights.io import build_meta, parameter_shapes
from qwenvl.weights.maps import name_table
from qwenvl.weights.quantize import int8_bytes

# The paper counts the connector's last norm and projection to the vision encoder (table 1: 1.9B), as the published code keeps
# them in its visual tower; the adapter is the cross-attention alone (0.08B).
OUTPUT_STEP = ("connector.output_norm.", "connector.output_proj")


def count_parameters(config: ModelConfig) -> dict[str, int]:
    """Parameters by part, with the parts of the paper's table 1: vision_encoder + adapter + llm = total."""
    shapes = parameter_shapes(build_meta(config))
    counts = dict.fromkeys(("llm", "vit", "output_norm_and_projection", "adapter"), 0)
    for name, shape in shapes.items():
        counts[_part(name)] += math.prod(shape)
    vision_encoder = counts["vit"] + counts["output_norm_and_projection"]
    total = counts["llm"] + vision_encoder + counts["adapter"]
    return {
        "llm": counts["llm"],
        "vision_encoder": vision_encoder,
        "vision_encoder_vit": counts["vit"],
        "vision_encoder_output": counts["output_norm_and_projection"],
        "adapter": counts["adapter"],
        "total": total,
    }


def _part(name: str) -> str:
    if name.startswith("decoder."):
        return "llm"
    if name.startswith("vision_tower."):
        return "vit"
    return "output_norm_and_projection" if name.startswith(OUTPUT_STEP) else "adapter"


def summarise(config: ModelConfig, folder: Path | None = None) -> dict[str, Any]:
    """Parameters, tensors of the published layout, bytes in bfloat16 and int8, the config, and what a folder's files hold."""
    entries = name_table(config, parameter_shapes(build_meta(config)))
    parameters = count_parameters(config)
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
