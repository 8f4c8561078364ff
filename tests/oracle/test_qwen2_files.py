"""Folders that transformers writes load here, and folders that we write load there, with equal logits.

Random weights, drawn large: with transformers' own 0.02 the logits are nearly constant, and a wrong tensor would not show.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from qwenvl.families.preprocessor import IMAGES
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.types import Encoded
from qwenvl.weights.io import load_model, read_config, save_model
from qwenvl.weights.repack import repack
from tests.fast.tiny import NATIVE, Visual, document

transformers = pytest.importorskip("transformers")

IDS = {"vision_start_token_id": 90, "vision_end_token_id": 91, "image_token_id": 92, "video_token_id": 93}
KINDS = {
    "qwen2_vl": ("Qwen2VLConfig", "Qwen2VLForConditionalGeneration"),
    "qwen2_5_vl": ("Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration"),
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


def peer_of(family: str, tied: bool = False, yarn: bool = False) -> Any:
    """A tiny model of transformers, with a tower of width 32 before a decoder of width 48."""
    rope = {"rope_theta": 1e4, "mrope_section": [1, 1, 2], **(YARN if yarn else {"rope_type": "default"})}
    text = {
        "vocab_size": 96, "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 6,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 128, "rope_parameters": rope,
        "bos_token_id": 80, "eos_token_id": 81,
    }  # fmt: skip
    vision: dict[str, Any] = {"depth": 3, "num_heads": 2}
    if family == "qwen2_vl":
        vision |= {"embed_dim": 32, "hidden_size": 48, "mlp_ratio": 2}
    else:
        vision |= {"hidden_size": 32, "out_hidden_size": 48, "intermediate_size": 44, "fullatt_block_indexes": [1]}
        vision |= {"window_size": 56, "tokens_per_second": 2}
    config_kind, model_kind = (getattr(transformers, name) for name in KINDS[family])
    peer = model_kind(config_kind(text_config=text, vision_config=vision, tie_word_embeddings=tied, **IDS)).eval()
    generator = torch.Generator().manual_seed(5)
    for name, parameter in peer.named_parameters():
        centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2 + centre
    return peer


def prompt(model: VisionLanguageModel) -> Encoded:
    """Text around two pictures, one of which windows of 4 x 4 patches do not divide."""
    return document(model.config, (4, Visual((1, 6, 10)), 3, Visual((1, 4, 4)), 5), seed=3)


@torch.no_grad()
def our_logits(model: VisionLanguageModel) -> Tensor:
    from qwenvl.inference.session import run_model
    from qwenvl.models.attention import PackedLayout

    encoded = prompt(model)
    layout = PackedLayout.of(torch.zeros(len(encoded), dtype=torch.long))
    return model.logits(run_model(model, [encoded], [1.0], layout))


@torch.no_grad()
def peer_logits(peer: Any, model: VisionLanguageModel) -> Tensor:
    """`model` only says how the prompt is made."""
    encoded = prompt(model)
    ids = torch.from_numpy(encoded.input_ids)[None]
    return peer(
        input_ids=ids,
        position_ids=torch.from_numpy(encoded.position_ids)[:, None],
        mm_token_type_ids=(ids == IDS["image_token_id"]).int(),
        pixel_values=torch.from_numpy(encoded.patches),
        image_grid_thw=torch.from_numpy(encoded.grids),
    ).logits[0]


def assert_equal_logits(model: VisionLanguageModel, peer: Any) -> None:
    expected = peer_logits(peer, model)
    assert expected.std() > 0.5, "weights too small for a wrong path to show"
    torch.testing.assert_close(our_logits(model), expected, atol=1e-4, rtol=1e-4)


def load_peer(family: str, folder: Path) -> Any:
    """What transformers makes of a folder; nothing may be missing, left over or of another shape."""
    kind = getattr(transformers, KINDS[family][1])
    peer, report = kind.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    assert not any(report[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    return peer.eval()


@pytest.fixture(scope="module", params=NATIVE)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    """A family, a model of transformers, and the folder that its save_pretrained wrote."""
    folder = tmp_path_factory.mktemp(request.param)
    peer = peer_of(request.param)
    peer.save_pretrained(folder)
    return request.param, peer, folder


def test_what_transformers_saves_loads_here(saved: tuple[str, Any, Path]) -> None:
    family, peer, folder = saved
    assert "visual.merger.ln_q.weight" in load_file(folder / "model.safetensors")
    assert "text_config" in json.loads((folder / "config.json").read_text())
    model = load_model(folder, device="cpu")
    assert (model.config.family, model.config.decoder.rms_norm_eps) == (family, 1e-5)
    assert (model.config.vision.hidden_size, model.config.connector.hidden_size) == (32, 48)
    assert_equal_logits(model, peer)


def test_names_of_memory_and_a_flat_config_load_too(saved: tuple[str, Any, Path], tmp_path: Path) -> None:
    _, peer, folder = saved
    state = {name: tensor.contiguous() for name, tensor in peer.state_dict().items()}
    assert "model.visual.merger.ln_q.weight" in state and "model.language_model.norm.weight" in state
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    spec = read_config(folder)[2]
    (tmp_path / "config.json").write_text(json.dumps(spec.write_config(read_config(folder)[1])))
    ours, theirs = load_model(tmp_path, device="cpu"), load_model(folder, device="cpu")
    assert ours.config == theirs.config
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())


def test_what_we_save_loads_in_transformers(saved: tuple[str, Any, Path], tmp_path: Path) -> None:
    family, peer, folder = saved
    model = load_model(folder, device="cpu")
    save_model(model, tmp_path / "one")
    save_model(model, tmp_path / "shards", max_shard_bytes=40_000)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    for name in ("one", "shards"):
        again = load_peer(family, tmp_path / name)
        state = peer.state_dict()
        assert all(torch.equal(tensor, state[key]) for key, tensor in again.state_dict().items())
        torch.testing.assert_close(peer_logits(again, model), our_logits(model), atol=1e-4, rtol=1e-4)


def test_a_repacked_folder_keeps_what_the_model_does_not_need(saved: tuple[str, Any, Path], tmp_path: Path) -> None:
    family, _, folder = saved
    repack(folder, tmp_path / "flat")
    raw = json.loads((tmp_path / "flat" / "config.json").read_text())
    assert "text_config" not in raw and (raw["bos_token_id"], raw["eos_token_id"]) == (80, 81)
    assert raw["torch_dtype"] == "float32" and "dtype" not in raw
    config = load_peer(family, tmp_path / "flat").config
    assert (config.text_config.bos_token_id, config.text_config.eos_token_id) == (80, 81)


@pytest.mark.parametrize("family", NATIVE)
def test_tied_heads_and_yarn_mean_the_same_on_both_sides(family: str, tmp_path: Path) -> None:
    peer = peer_of(family, tied=True, yarn=True)
    peer.save_pretrained(tmp_path / "theirs")
    assert "lm_head.weight" not in load_file(tmp_path / "theirs" / "model.safetensors")
    model = load_model(tmp_path / "theirs", device="cpu")
    assert model.config.decoder.tie_word_embeddings and model.config.decoder.yarn is not None
    assert_equal_logits(model, peer)
    save_model(model, tmp_path / "ours")
    torch.testing.assert_close(peer_logits(load_peer(family, tmp_path / "ours"), model), our_logits(model), atol=1e-4, rtol=1e-4)


def test_sizes_of_pictures_mean_the_same_on_both_sides(saved: tuple[str, Any, Path], tmp_path: Path) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    model = load_model(saved[2], device="cpu")
    save_model(model, tmp_path)
    theirs = Qwen2VLImageProcessorPil.from_pretrained(tmp_path)
    images = read_config(tmp_path)[2].images
    assert (theirs.size["shortest_edge"], theirs.size["longest_edge"]) == (images.min_pixels, images.max_pixels)
    np.testing.assert_allclose(theirs.image_mean, images.mean)
    # What that processor saves is read here.
    Qwen2VLImageProcessorPil(min_pixels=1568, max_pixels=50176).save_pretrained(tmp_path)
    assert "size" in json.loads((tmp_path / IMAGES).read_text())
    images = read_config(tmp_path)[2].images
    assert (images.min_pixels, images.max_pixels) == (1568, 50176)
