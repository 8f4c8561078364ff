"""The published 9.6B checkpoint's 853 real shapes, as sparse files: names, memory and time of loading, without its 19 GB."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qwenvl.families import find_preset, get_family
from qwenvl.weights.io import build_meta, load_model, parameter_shapes
from qwenvl.weights.maps import Shape, WeightsError, name_table

pytestmark = pytest.mark.alone

SHARD_BYTES = 2 * 10**9
TOTAL_BYTES = 19_313_870_336  # metadata.total_size of the published index

LOAD = """
import json, sys, time
import torch
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.weights.io import load_model, parameter_shapes
from qwenvl.weights.maps import name_table

def memory(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

before, start = memory("VmRSS"), time.monotonic()
model = load_model(sys.argv[1], device="cpu")
seconds, peak = time.monotonic() - start, memory("VmHWM")
touched = float(model.decoder.layers[31].self_attn.v_proj.weight.float().sum())
print(json.dumps({
    "growth": peak - before, "seconds": seconds, "touched": touched, "after_touch": memory("VmRSS") - before,
    "names": [entry.published for entry in name_table(model.config, parameter_shapes(model))],
    "bytes": sum(parameter.nbytes for parameter in model.parameters()),
    "meta": [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta],
}))
"""


def published_shapes() -> dict[str, Shape]:
    model = build_meta(find_preset("qwen-vl-7b").config)
    return {entry.published: entry.shape for entry in name_table(model.config, parameter_shapes(model))}


def write_sparse(file: Path, shapes: dict[str, Shape]) -> None:
    """A safetensors file of bfloat16 zeros whose data takes no place on the disk."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + offset)


def write_checkpoint(folder: Path, shapes: dict[str, Shape]) -> None:
    shards: list[dict[str, Shape]] = [{}]
    filled = 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        if shards[-1] and filled + size > SHARD_BYTES:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += size
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_sparse(folder / name, shard)
        weight_map |= dict.fromkeys(shard, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.fixture
def folder(tmp_path: Path, data_folder: Path) -> Path:
    """The published configuration and shapes. The names come from the published index, not from our table."""
    shapes = published_shapes()
    names = (data_folder / "qwen_vl_keys.txt").read_text().split()
    write_checkpoint(tmp_path, {name: shapes[name] for name in names})
    (tmp_path / "config.json").write_text(json.dumps(get_family("qwen_vl").write_config(find_preset("qwen-vl-7b").config)))
    apparent = sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    on_disk = sum(file.stat().st_blocks * 512 for file in tmp_path.glob("*.safetensors"))
    assert apparent > TOTAL_BYTES
    if on_disk > 10**9:
        shutil.rmtree(tmp_path)
        pytest.skip("this file system has no sparse files")
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_published_shapes_load_without_their_memory(folder: Path, data_folder: Path) -> None:
    process = subprocess.run([sys.executable, "-c", LOAD, str(folder)], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout)
    assert report["names"] == (data_folder / "qwen_vl_keys.txt").read_text().split()
    assert report["bytes"] == TOTAL_BYTES
    assert report["growth"] < 2e9
    assert report["touched"] == 0.0
    assert report["after_touch"] < 2e9
    assert not report["meta"]


def test_one_name_missing_or_extra_fails(folder: Path) -> None:
    shapes = published_shapes()
    name = "transformer.visual.transformer.resblocks.47.attn.in_proj.bias"
    write_checkpoint(folder, {key: shape for key, shape in shapes.items() if key != name})
    with pytest.raises(WeightsError, match=rf"missing tensor '{name}', wanted with the shape \(4992,\)"):
        load_model(folder, device="cpu")
    write_checkpoint(folder, shapes | {"transformer.h.32.ln_1.weight": (4096,)})
    with pytest.raises(WeightsError, match=r"unknown tensor 'transformer\.h\.32\.ln_1\.weight'"):
        load_model(folder, device="cpu")
    write_checkpoint(folder, shapes | {name: (4991,)})
    with pytest.raises(WeightsError, match=rf"{name}.*\(4991,\).*\(4992,\)"):
        load_model(folder, device="cpu")
