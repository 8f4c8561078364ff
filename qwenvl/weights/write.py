"""Writing weights: which tensor goes to which shard, in which form, and a folder that appears whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qwenvl.weights.files import SAFETENSORS_INDEX, WHOLE_SAFETENSORS
from qwenvl.weights.maps import Entry, WeightsError
from qwenvl.weights.quantize import SCALE_SUFFIX, int8_bytes, is_quantized_shape, quantize_rows

if TYPE_CHECKING:
    import torch

Quantization = Literal["int8"]
MAX_SHARD_BYTES = 5 * 10**9


def write_shards(
    entries: list[Entry], parameters: Mapping[str, torch.Tensor], scratch: Path,
    quantize: Quantization | None, dtype: torch.dtype | None, max_shard_bytes: int,
) -> None:
    """Write the entries under their published names into `scratch`: one file, or shards with an index, one in memory at a time."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    sizes = [_stored_bytes(entry, parameters, quantize, dtype) for entry in entries]
    shards = _plan_shards(entries, sizes, max_shard_bytes)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = WHOLE_SAFETENSORS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors: dict[str, torch.Tensor] = {}
        for entry in shard:
            tensors |= _to_store(entry.published, entry.to_published(parameters), quantize, dtype)
        try:
            save_file(tensors, str(scratch / name), metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, say
            raise WeightsError(f"{name}: cannot be written ({error}); make room or give another folder") from None
        # The library writes for the owner alone. The folder was made under the umask, so its bits say what others may do.
        (scratch / name).chmod(scratch.stat().st_mode & 0o666)
        weight_map |= dict.fromkeys(tensors, name)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes)}, "weight_map": dict(sorted(weight_map.items()))}
        (scratch / SAFETENSORS_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _stored_bytes(
    entry: Entry, parameters: Mapping[str, torch.Tensor], quantize: Quantization | None, dtype: torch.dtype | None
) -> int:
    if quantize:
        return int8_bytes(entry.shape)
    return sum(parameters[name].numel() * (dtype or parameters[name].dtype).itemsize for name in entry.ours)


def _plan_shards(entries: list[Entry], sizes: list[int], limit: int) -> list[list[Entry]]:
    shards: list[list[Entry]] = [[]]
    filled = 0
    for entry, size in zip(entries, sizes, strict=True):
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(entry)
        filled += size
    return shards


def _to_store(
    name: str, tensor: torch.Tensor, quantize: Quantization | None, dtype: torch.dtype | None
) -> dict[str, torch.Tensor]:
    import torch

    if not quantize:
        return {name: tensor.to(device="cpu", dtype=dtype).contiguous()}
    if not torch.isfinite(tensor).all():
        raise WeightsError(f"tensor {name!r} holds values that are not finite; it cannot be stored in int8")
    if not is_quantized_shape(tensor.shape):
        return {name: tensor.to(device="cpu", dtype=torch.float32).contiguous()}
    quantized, scale = quantize_rows(tensor.cpu())
    return {name: quantized, name + SCALE_SUFFIX: scale}


@contextmanager
def whole_or_nothing(folder: Path) -> Iterator[Path]:
    """A scratch folder beside `folder` whose files move there in the end: all of them, or none if the body raises."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
        scratch.mkdir()
    except OSError as error:
        raise WeightsError(f"{folder}: cannot be written ({error.strerror})") from None
    try:
        yield scratch
        for path in scratch.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if not folder.exists():
            scratch.rename(folder)
            return
        written = {path.name for path in scratch.iterdir()}
        for path in sorted(scratch.iterdir()):
            os.replace(path, folder / path.name)
        # Weights of an earlier save would be read instead of, or beside, the new ones.
        for stale in [*folder.glob("model-*-of-*.safetensors"), folder / SAFETENSORS_INDEX, folder / WHOLE_SAFETENSORS]:
            if stale.name not in written:
                stale.unlink(missing_ok=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
