"""The weight files of a model folder: which there are, and what each holds, without reading the data.

`.safetensors` and `.bin`, whole or in shards with an index. Tensors come as views of a private memory map: pages are read when
first touched, and writing to one never reaches the file.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl.weights.maps import Shape, WeightsError
from qwenvl.weights.quantize import SCALE_SUFFIX, dequantize_rows

if TYPE_CHECKING:
    import torch

WHOLE_SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
WHOLE_BIN = "pytorch_model.bin"
BIN_INDEX = "pytorch_model.bin.index.json"
SEARCHED = (SAFETENSORS_INDEX, WHOLE_SAFETENSORS, BIN_INDEX, WHOLE_BIN)
"""In order of preference: where a folder has several, the first is read."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file. `read` gives a view of the mapped file; an int8 one comes dequantised, in float32."""

    name: str
    file: Path
    shape: Shape
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]
    quantized: bool = False


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the folder's weights. Raises WeightsError if there are none or a shard is missing."""
    found = next((folder / name for name in SEARCHED if (folder / name).is_file()), None)
    if found is None:
        raise WeightsError(f"{folder}: no weight file; looked for {', '.join(SEARCHED)}")
    if found.suffix != ".json":
        return [found]
    shards = sorted({folder / name for name in _weight_map(found).values()})
    for shard in shards:
        if not shard.is_file():
            raise WeightsError(f"{shard}: this shard is missing, but {found.name} names it; download it again")
    return shards


def open_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder's weight files by its published name. Opens the files, reads no data.

    Raises WeightsError for unreadable files, an index that contradicts its shards, and int8 tensors without scales.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in weight_files(folder):
        for tensor in open_file(file):
            if tensor.name in tensors:
                raise WeightsError(f"{file}: tensor {tensor.name!r} is also in {tensors[tensor.name].file.name}; keep one of them")
            tensors[tensor.name] = tensor
    for index in (folder / SAFETENSORS_INDEX, folder / BIN_INDEX):
        if index.is_file() and tensors and next(iter(tensors.values())).file.name in _weight_map(index).values():
            for name, file_name in _weight_map(index).items():
                if name not in tensors:
                    raise WeightsError(f"{folder / file_name}: tensor {name!r} is missing, but {index.name} says it is there")
    return _join_scales(tensors)


def open_file(file: Path) -> list[StoredTensor]:
    """The tensors of one file, `.safetensors` or (anything else) a torch pickle, loaded with weights_only."""
    return _open_safetensors(file) if file.suffix == ".safetensors" else _open_pickle(file)


def _open_safetensors(file: Path) -> list[StoredTensor]:
    import torch
    from safetensors import SafetensorError, safe_open

    dtypes = {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
        "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    }  # fmt: skip
    try:
        with safe_open(str(file), framework="pt"):
            header, start = _safetensors_header(file)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file}: not a whole safetensors file ({_one_line(error)}); download or save it again") from None
    # The library's own get_tensor reads a page of every tensor, and the kernel up to 16 MB around it: most of a checkpoint.
    data = torch.from_file(str(file), shared=False, size=file.stat().st_size, dtype=torch.uint8)
    tensors = []
    for name, entry in header.items():
        dtype, shape = dtypes.get(entry["dtype"]), tuple(entry["shape"])
        if dtype is None:
            raise WeightsError(f"{file}: tensor {name!r} has the dtype {entry['dtype']}; known: {', '.join(dtypes)}")
        tensors.append(StoredTensor(name, file, shape, dtype, _view(data, start + entry["data_offsets"][0], shape, dtype)))
    return tensors


def _safetensors_header(file: Path) -> tuple[dict[str, Any], int]:
    """Tensor name -> {dtype, shape, data_offsets}, and where in the file the data begin. The library has checked the file."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return header, 8 + length


def _view(data: torch.Tensor, begin: int, shape: Shape, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    """A reader of `shape` numbers from byte `begin` of a mapped file (bytes,): no copy, unless a writer has not aligned them."""
    numbers = data[begin : begin + math.prod(shape) * dtype.itemsize]
    return lambda: (numbers.clone() if begin % dtype.itemsize else numbers).view(dtype).view(shape)


def _open_pickle(file: Path) -> list[StoredTensor]:
    import torch

    try:
        state = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{file}: not a whole file of tensors ({_one_line(error)}); download it again") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise WeightsError(f"{file}: holds a {type(state).__name__}, not a mapping of names to tensors")
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise WeightsError(f"{file}: entry {name!r} is a {type(tensor).__name__}, not a tensor")
    return [
        StoredTensor(name, file, tuple(tensor.shape), tensor.dtype, lambda tensor=tensor: tensor)  # type: ignore[misc]
        for name, tensor in state.items()
    ]


def _join_scales(tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Fold each int8 tensor and its scales into one that reads as float32."""
    import torch

    joined = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype != torch.int8:
            continue
        scale = joined.pop(name + SCALE_SUFFIX, None)
        if scale is None or scale.shape != tensor.shape[:1]:
            found = f"has the shape {scale.shape}" if scale else "is missing"
            raise WeightsError(f"{tensor.file}: {name + SCALE_SUFFIX!r} {found}; int8 {name!r} needs {tensor.shape[0]} scales")
        read = _dequantizing_reader(tensor, scale)
        joined[name] = StoredTensor(name, tensor.file, tensor.shape, torch.float32, read, quantized=True)
    return joined


def _dequantizing_reader(tensor: StoredTensor, scale: StoredTensor) -> Callable[[], torch.Tensor]:
    return lambda: dequantize_rows(tensor.read(), scale.read())


def _weight_map(index: Path) -> dict[str, str]:
    try:
        mapping = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{index}: not a readable index ({_one_line(error)}); download it again") from None
    for name, file in mapping.items() if isinstance(mapping, dict) else [("weight_map", None)]:
        # A name with a folder in it could reach outside the model's own.
        if not isinstance(file, str) or Path(file).name != file:
            raise WeightsError(f"{index}: {name!r} points to {file!r}, which is not a file name")
    return mapping


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
