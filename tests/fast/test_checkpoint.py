"""A run may start from parts of finished models: they arrive as they are, and what does not belong is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from qwenvl.families import find_preset
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.train.build import TOKENIZER, fingerprint, tokenizer_of
from qwenvl.train.checkpoint import CheckpointError, load_parts
from qwenvl.train.fingerprints import of_model
from qwenvl.train.recipe import load_recipe
from qwenvl.train.sections import PARTS
from qwenvl.weights.hub import builtin_models
from qwenvl.weights.io import load_model
from tests.fast.tiny import tiny_config, tiny_model, write_tiny

BUILT_IN = "qwen-vl-nano"
NOW = {"vocabulary": "ours", "markup": "ours too"}


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a finished model, as `export` leaves it beside a run's checkpoints."""
    folder = write_tiny(tmp_path / "model", seed=1)
    (folder / "card.json").write_text(json.dumps({"recipe": "3_sft", "fingerprint": NOW}), encoding="utf-8")
    return folder


def refusal(sources: dict[str, str], model: nn.Module | None = None, dense_heads: nn.Module | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_parts(model or tiny_model(), dense_heads, sources, NOW)
    told = str(caught.value)
    assert told.startswith("init_from.") and len(told.splitlines()) == 1
    return told


@pytest.mark.parametrize("taken", [PARTS, *[(part,) for part in PARTS]], ids="+".join)
def test_the_named_parts_of_a_finished_model_arrive_exactly_and_no_others(taken: tuple[str, ...], finished: Path) -> None:
    ours, before, theirs = tiny_model(), tiny_model().state_dict(), tiny_model(seed=1).state_dict()
    load_parts(ours, None, {part: str(finished) for part in taken}, NOW)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, (theirs if name.partition(".")[0] in taken else before)[name]), name


def test_a_model_in_the_package_is_taken_by_its_name(repository: Path) -> None:
    """Its decoder too: the card that ships holds the hashes that training makes today."""
    recipe = load_recipe(repository / "recipes" / "nano" / "qwen_vl" / "1_pretrain.yaml")
    ours = VisionLanguageModel(find_preset(BUILT_IN).config)
    load_parts(ours, None, dict.fromkeys(PARTS, BUILT_IN), fingerprint(recipe, Tokenizer.from_folder(TOKENIZER)))
    theirs = load_model(builtin_models()[BUILT_IN], device="cpu", dtype=torch.float32).state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl"])
def test_a_decoder_of_another_generation_is_taken_where_its_text_is_the_same(family: str, repository: Path) -> None:
    """qwen-vl-nano's: the same ids for the same text, special tokens under other names. Rows of tokens that it does not have, and
    nothing else, keep what they were drawn as."""
    recipe = load_recipe(repository / "recipes" / "nano" / family / "1_align.yaml")
    ours = VisionLanguageModel(recipe.model_config_of_stage())
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    load_parts(ours, None, {"decoder": BUILT_IN}, fingerprint(recipe, tokenizer_of(recipe)))
    theirs = load_model(builtin_models()[BUILT_IN], device="cpu", dtype=torch.float32).state_dict()
    rows = len(theirs["decoder.embed_tokens.weight"])
    assert rows < len(before["decoder.embed_tokens.weight"])
    for name, value in ours.state_dict().items():
        if name == "decoder.embed_tokens.weight":
            assert torch.equal(value[:rows], theirs[name]) and torch.equal(value[rows:], before[name][rows:])
        else:
            assert torch.equal(value, theirs[name] if name.startswith("decoder.") else before[name]), name


def test_a_decoder_is_taken_from_no_vocabulary_but_the_very_one_that_was_renamed(finished: Path) -> None:
    """And never back: a table with more rows is refused, as everything of another shape is."""
    renamed = NOW | {"vocabulary": "renamed", "markup": "another", "renamed_from": "ours"}
    config = tiny_config()
    wider = config.model_copy(update={"decoder": config.decoder.model_copy(update={"vocab_size": config.decoder.vocab_size + 8})})
    load_parts(tiny_model(wider), None, {"decoder": str(finished)}, renamed)
    with pytest.raises(CheckpointError, match="made with another vocabulary"):
        load_parts(tiny_model(wider), None, {"decoder": str(finished)}, renamed | {"renamed_from": "theirs"})
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight is \(320, 32\) there, \(328, 32\) here"):
        load_parts(tiny_model(wider), None, {"decoder": str(finished)}, NOW)
    narrower = config.model_copy(update={"decoder": config.decoder.model_copy(update={"vocab_size": 319})})
    narrower = narrower.model_copy(update={"image_pad_id": 318})
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight is \(320, 32\) there, \(319, 32\) here"):
        load_parts(tiny_model(narrower), None, {"decoder": str(finished)}, renamed)


def test_a_finished_model_has_no_dense_heads_to_give(finished: Path) -> None:
    told = refusal({"dense_heads": str(finished)}, dense_heads=nn.Linear(16, 4))
    assert told == f"init_from.dense_heads: {finished}: has no dense heads; name a run that trained them, or leave the key out"


@pytest.mark.parametrize("source", ["qwen-vl-nan0", "runs/nowhere", "runs/nano/nowhere", "."])
def test_what_is_neither_a_run_nor_a_model_is_told_without_asking_the_hub(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """runs/nowhere could be a hub id by its form."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qwenvl.weights.hub._from_hub", lambda *_: pytest.fail("asked the hub"))
    told = refusal({"vision_tower": source})
    assert told.startswith(f"init_from.vision_tower: {source}: neither a run nor a model")
    assert (BUILT_IN in told) == (source != ".")


def test_a_decoder_of_another_vocabulary_is_refused_by_its_card(finished: Path) -> None:
    card = {"fingerprint": NOW | {"vocabulary": "theirs"}}
    (finished / "card.json").write_text(json.dumps(card), encoding="utf-8")
    assert "made with another vocabulary (theirs, now ours)" in refusal({"decoder": str(finished)})
    load_parts(tiny_model(), None, {"vision_tower": str(finished), "connector": str(finished)}, NOW)


def test_a_published_model_without_a_card_is_told_by_its_own_files(finished: Path) -> None:
    (finished / "card.json").unlink()
    found = of_model(finished)
    load_parts(tiny_model(), None, {"decoder": str(finished)}, found)
    assert "made with another vocabulary" in refusal({"decoder": str(finished)})
    (finished / "tokenizer.json").unlink()
    assert of_model(finished) == {}


@pytest.mark.parametrize("card", ["{}", "[]", '{"fingerprint": null}'])
def test_a_model_whose_card_does_not_say_gives_any_part_but_the_decoder(card: str, finished: Path) -> None:
    (finished / "card.json").write_text(card, encoding="utf-8")
    assert "made with another vocabulary (unknown, now ours)" in refusal({"decoder": str(finished)})
    load_parts(tiny_model(), None, {"vision_tower": str(finished)}, NOW)


def test_what_is_broken_is_named(finished: Path) -> None:
    (finished / "card.json").write_bytes(b'{"fingerprint": \xff')
    assert f"{finished}: card.json cannot be read" in refusal({"decoder": str(finished)})
    (finished / "model.safetensors").write_bytes(b"not weights")
    assert "model.safetensors" in refusal({"vision_tower": str(finished)})


def test_a_part_of_another_shape_is_named(finished: Path) -> None:
    config = tiny_config()
    wider = tiny_model(config.model_copy(update={"vision": config.vision.model_copy(update={"intermediate_size": 40})}))
    told = refusal({"vision_tower": str(finished)}, wider)
    assert "blocks.0.mlp.down.weight is (16, 32) there, (16, 40) here (3 tensors differ)" in told
