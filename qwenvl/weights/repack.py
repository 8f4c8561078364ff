"""A model folder written again: published names in safetensors, another dtype or int8, with the error that it costs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwenvl.families.preprocessor import RULE_FILES
from qwenvl.weights.io import load_model, open_published, read_config, save_model
from qwenvl.weights.quantize import relative_error
from qwenvl.weights.write import MAX_SHARD_BYTES, Quantization

if TYPE_CHECKING:
    import torch

COMPANIONS = (
    "tokenizer.json", "tokenizer_config.json", "qwen.tiktoken", "vocab.json", "merges.txt", "chat_template.json",
    "chat_template.jinja", "generation_config.json", "card.json", *RULE_FILES,
)  # fmt: skip
"""What travels with the weights: text, sizes of pictures, defaults of generation."""

NOT_KEPT = ("torch_dtype", "dtype", "transformers_version", "quantization_config")
"""Keys of config.json that speak of the file it was."""


@dataclass(frozen=True, slots=True)
class RepackReport:
    """Errors: root mean squares relative to the source's tensors. `bfloat16_error`, for int8: the mean that bfloat16 would have."""

    tensors: int
    bytes: int
    source_dtype: str
    mean_error: float
    worst_error: float
    worst: str
    bfloat16_error: float | None


def repack(
    source: Path, target: Path, *, dtype: torch.dtype | None = None, int8: bool = False, max_shard_bytes: int = MAX_SHARD_BYTES
) -> RepackReport:
    """Load `source` strictly, write it to `target`, read that back and compare tensor by tensor.

    Keys of config.json that the model does not need are kept. Raises as loading and saving do.
    """
    raw, _, spec = read_config(source)
    model = load_model(source, device="cpu")
    written = spec.write_config(model.config)
    extra = {key: value for key, value in raw.items() if key not in written and key not in NOT_KEPT}
    quantize: Quantization | None = "int8" if int8 else None
    save_model(model, target, spec=spec, extra_config=extra, quantize=quantize, dtype=dtype, max_shard_bytes=max_shard_bytes)
    for name in COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    return _compare(source, target, spec.name, int8)


def _compare(source: Path, target: Path, family: str, int8: bool) -> RepackReport:
    import torch

    before, after = open_published(source, family), open_published(target, family)
    errors: dict[str, float] = {}
    bfloat16 = []
    for name, stored in after.items():
        original = before[name].read()
        errors[name] = relative_error(original, stored.read())
        if int8:
            bfloat16.append(relative_error(original, original.to(torch.bfloat16)))
    worst = max(errors, key=lambda name: errors[name])
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in before.values()}
    return RepackReport(
        tensors=len(after),
        bytes=sum(file.stat().st_size for file in {tensor.file for tensor in after.values()}),
        source_dtype=" and ".join(sorted(dtypes)),
        mean_error=sum(errors.values()) / len(errors),
        worst_error=errors[worst],
        worst=worst if errors[worst] else "",
        bfloat16_error=sum(bfloat16) / len(bfloat16) if int8 else None,
    )
