"""The published Qwen-VL code, as an oracle: what it computed with weights drawn by a rule (tests/data/golden_small/README.md)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

import qwenvl
from qwenvl.models.layers import sincos_table
from qwenvl.processing.encode import visual_slots_of
from qwenvl.processing.image import image_to_patches
from qwenvl.processing.positions import positions_1d
from qwenvl.types import IGNORE_INDEX, Encoded
from qwenvl.weights.io import build_meta, read_config, save_model
from qwenvl.weights.maps import name_table

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def golden(data_folder: Path) -> dict[str, np.ndarray]:
    return load_file(data_folder / "golden_small" / "expected.safetensors")


@pytest.fixture(scope="module")
def model(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> qwenvl.QwenVL:
    source = data_folder / "golden_small"
    folder = tmp_path_factory.mktemp("golden_small")
    shutil.copy(source / "config.json", folder)
    save_file(draw_weights(folder, json.loads((source / "names.json").read_text())), folder / "model.safetensors")
    return qwenvl.load(folder, device="cpu", dtype="float32")


def draw_weights(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """One generator over the names in sorted order; the sin-cos table is computed, not drawn."""
    _, config, _ = read_config(folder)
    empty = {name: tuple(tensor.shape) for name, tensor in build_meta(config).state_dict().items()}
    shapes = {entry.published: entry.shape for entry in name_table(config, empty)}
    table = "transformer.visual.attn_pool.pos_embed"
    assert set(names) | {table} == set(shapes)
    generator = np.random.default_rng(3)
    weights = {table: sincos_table(16, config.connector.hidden_size, 10000.0).numpy()}
    for name in sorted(set(names) - {table}):
        x = generator.standard_normal(shapes[name]).astype(np.float32)
        if len(shapes[name]) > 1:
            weights[name] = x if name.endswith("wte.weight") else x * np.float32(1.2 / np.sqrt(shapes[name][-1]))
        else:
            weights[name] = x * np.float32(0.2) if name.endswith("bias") else 1 + np.float32(0.2) * x
    return weights


def pictures(golden: dict[str, np.ndarray]) -> list[Image.Image]:
    return [Image.fromarray(golden["image_0"]), Image.fromarray(golden["image_1"])]


def difference(ours: object, published: np.ndarray) -> float:
    return float(np.abs(np.asarray(ours) - published).max())


def test_visual_tokens_are_the_published_ones(model: qwenvl.QwenVL, golden: dict[str, np.ndarray]) -> None:
    visual = model.visual(pictures(golden)).unflatten(0, (2, 256))
    assert difference(visual[:, ::16], golden["visual"]) < TOLERANCE


def test_logits_of_two_pictures_are_the_published_ones(model: qwenvl.QwenVL, golden: dict[str, np.ndarray]) -> None:
    logits = model.logits(golden["input_ids"], pictures(golden))
    assert difference(logits[golden["rows"]], golden["logits"]) < TOLERANCE


def test_logits_of_text_are_the_published_ones(model: qwenvl.QwenVL, golden: dict[str, np.ndarray]) -> None:
    assert difference(model.logits(golden["short_ids"])[::4], golden["short_logits"]) < TOLERANCE


def test_logits_beyond_the_trained_length_are_the_published_ones(model: qwenvl.QwenVL, golden: dict[str, np.ndarray]) -> None:
    assert len(golden["long_ids"]) > model.config.decoder.trained_length
    assert difference(model.logits(golden["long_ids"])[::16], golden["long_logits"]) < TOLERANCE


# Largest differences seen, of logits whose standard deviation is 1.2: bfloat16 0.064, beyond the trained length 0.049; float16
# 0.0060 and 0.0077.
@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 0.13), ("float16", 0.016)])
def test_half_precision_on_the_cpu_stays_near_the_published_numbers(
    model: qwenvl.QwenVL, golden: dict[str, np.ndarray], tmp_path: Path, dtype: str, bound: float
) -> None:
    save_model(model.model, tmp_path / "half", dtype=getattr(torch, dtype))
    half = qwenvl.load(tmp_path / "half", device="cpu")
    assert half.dtype is getattr(torch, dtype)
    logits = half.logits(golden["input_ids"], pictures(golden))
    assert logits.dtype is torch.float32
    assert 1e-4 < difference(logits[golden["rows"]], golden["logits"]) < bound
    assert 1e-4 < difference(half.logits(golden["long_ids"])[::16], golden["long_logits"]) < bound
    prompt = Encoded(
        ids := golden["short_ids"].astype(np.int64), ids, positions_1d(len(ids)), np.zeros((0, 588), np.float32),
        np.zeros((0, 3), np.int64), np.zeros(0, np.int64),
    )  # fmt: skip
    assert half.generate([prompt], max_new_tokens=1)[0].tokens == model.generate([prompt], max_new_tokens=1)[0].tokens


def test_greedy_tokens_are_the_published_ones(model: qwenvl.QwenVL, golden: dict[str, np.ndarray]) -> None:
    """Decoding with a cache keeps the alpha of the prompt. The tokens are those of modeling_qwen.py (repository
    wangjl1993/extract_human_attri @ fc9525f, transformers 4.32) decoding this prompt first thing in a process: the published
    module keeps the alpha of whatever prompt it saw last, so a prompt run in between would change them."""
    ids = golden["input_ids"].astype(np.int64)
    ready = [image_to_patches(picture, model.config, model.spec) for picture in pictures(golden)]
    side = model.config.vision.image_size // model.config.vision.patch_size
    prompt = Encoded(
        input_ids=ids,
        labels=np.full_like(ids, IGNORE_INDEX),
        position_ids=positions_1d(len(ids)),
        patches=np.concatenate(ready),
        grids=np.array([[1, side, side]] * 2),
        visual_slots=visual_slots_of(ids, model.config),
    )
    reply = model.generate([prompt], max_new_tokens=16)[0]
    assert list(reply.tokens) == [54, 281, 266, 281, 266, 281, 266, 281, 266, 12, 281, 266, 281, 266, 281, 266]
