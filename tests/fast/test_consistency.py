"""R5: the same question gives the same answer on every path. The shipped command says so, and sees where it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qwenvl
from qwenvl.cli.main import main
from qwenvl.cli.parity import trainer_loss
from qwenvl.inference import check as checking
from qwenvl.inference.cache import KVCache
from qwenvl.inference.check import Check, Talk, check_model
from qwenvl.inference.prefixes import BLOCK
from qwenvl.inference.sampling import GenerationOptions
from qwenvl.inference.session import Session
from qwenvl.processing.encode import Processor
from qwenvl.serve import prepare as preparing
from qwenvl.types import Batch, Encoded, Sample
from tests.fast.checkpoints import edit_config
from tests.fast.tiny import CONTEXT, NATIVE, TRAINED_LENGTH, picture, write_tiny, write_tiny_native

FAMILIES = ("qwen_vl", *NATIVE)
PATHS = ["ids", "positions", "pixels", "logits", "logits", "logits", "logits", "loss", "log p", "log p", "ids", "tokens", "log p"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    first = write_tiny(root / "qwen_vl")
    edit_config(first, seq_length=CONTEXT)  # no conversation here is longer than what was trained
    return {"qwen_vl": first, **{family: write_tiny_native(root / family, family) for family in NATIVE}}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("pictures") / "photo.png"
    picture(3, (36, 20)).save(path)
    return str(path)


def check(folder: Path, image: str, *arguments: str) -> int:
    return main(["model", "parity", str(folder), image, "--device", "cpu", *arguments])


def paths_of(folder: Path) -> tuple[list[Talk], list[Check]]:
    return check_model(qwenvl.load(folder, device="cpu"), picture(3, (36, 20)), trainer_loss)


@pytest.mark.parametrize("family", FAMILIES)
def test_r5_training_chat_cache_packing_and_batch_agree(
    family: str, folders: dict[str, Path], image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = check(folders[family], image, "--json")
    found = json.loads(capsys.readouterr().out)
    assert code == 0 and found["ok"], found
    assert [one["what"] for one in found["checks"]] == PATHS
    assert found["conversations"] == (4 if family == "qwen_vl" else 5), "a clip, where clips are taken"
    assert [one["difference"] for one in found["checks"][:3]] == [0, 0, 0]
    assert all(one["difference"] is not None for one in found["checks"])


@pytest.mark.parametrize("family", FAMILIES)
def test_r5_the_base_style_agrees_too(family: str, tmp_path: Path) -> None:
    if family == "qwen_vl":
        folder = write_tiny(tmp_path / "base", chat_format="raw")
    else:
        folder = write_tiny_native(tmp_path / "base", family, chat_format="raw")
    _, checks = paths_of(folder)
    assert all(one.ok for one in checks), checks


def test_r5_conversations_reach_every_kind_of_input(folders: dict[str, Path]) -> None:
    """A comparison of nothing would agree: places, history, several pictures, text alone and a clip are all in it."""
    talks, checks = paths_of(folders["qwen2_5_vl"])
    assert [len(one.row.grids) for one in talks] == [1, 1, 2, 0, 2]
    assert max(one.row.grids[:, 0].max() for one in talks if len(one.row.grids)) > 1, "a clip"
    assert all(one.said and len(one.prompt) < len(one.row) for one in talks)
    assert len({len(one.prompt) for one in talks}) == len(talks), "lengths that a batch has to pad"
    assert all(one.difference is not None for one in checks)


def found_wrong(folder: Path) -> set[str]:
    return {one.compared for one in paths_of(folder)[1] if not one.ok}


def test_r5_another_prompt_in_chat_is_seen(
    folders: dict[str, Path], image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encode = Processor.encode

    def with_a_space(self: Processor, sample: Sample, style: Any, for_generation: bool = False, **options: Any) -> Encoded:
        encoded = encode(self, sample, style, for_generation, **options)
        if not for_generation:
            return encoded
        return encoded.with_(input_ids=np.append(encoded.input_ids[:-1], encoded.input_ids[-1] - 1))

    monkeypatch.setattr(Processor, "encode", with_a_space)
    assert check(folders["qwen2_vl"], image) == 1
    table = capsys.readouterr().out
    assert "FAIL" in table.splitlines()[3] and "the answers were not compared" in table


@pytest.mark.parametrize("family", FAMILIES)
def test_r5_a_path_that_goes_wrong_is_named(family: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault is one that a peer of ours has had."""
    folder = folders[family]
    collate, step, run_model = checking.collate, Session.step, checking.run_model

    def without_borders(documents: Any) -> Batch:
        batch = collate(documents)
        return replace(batch, document_ids=torch.zeros_like(batch.document_ids))

    def one_place_on(self: Session, tokens: Any) -> torch.Tensor:
        self.next_positions = [position + 1 for position in self.next_positions]
        return step(self, tokens)

    def other_pixels(model: Any, pieces: Any, *rest: Any) -> torch.Tensor:
        return run_model(model, [piece.with_(patches=piece.patches // 2) for piece in pieces], *rest)

    packed, cached, trained = "rows packed, each alone", "with a cache, without", "training row, chat without a cache"
    with monkeypatch.context() as patch:
        patch.setattr(checking, "collate", without_borders)
        assert packed in found_wrong(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "step", one_place_on)
        assert found_wrong(folder) == {cached}
    with monkeypatch.context() as patch:
        patch.setattr(checking, "run_model", other_pixels)
        assert {cached, trained} <= found_wrong(folder)


def test_beyond_the_trained_length_only_what_training_takes_part_in_is_left_out(tmp_path: Path) -> None:
    """Dynamic NTK and logn act there, and training knows neither."""
    talks, checks = paths_of(write_tiny(tmp_path / "short"))
    assert all(one.ok for one in checks), checks
    assert min(len(one.row) for one in talks) > TRAINED_LENGTH
    assert [one.difference is None for one in checks] == [False] * 3 + [True, False, False, False, True]


def test_what_is_not_a_number_is_no_agreement(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run_model = checking.run_model
    monkeypatch.setattr(checking, "run_model", lambda *given: run_model(*given) * float("nan"))
    assert "with a cache, without" in found_wrong(folders["qwen2_vl"])


def test_a_model_that_cannot_be_checked_is_one_line(tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny(tmp_path / "ids", tokenizer=False)
    assert check(folder, image) == 1
    assert "its folder has no tokenizer" in capsys.readouterr().err
    assert check(tmp_path / "gone", image) == 1
    assert check(folder, "gone.png") == 1
    assert "gone.png: no such file" in capsys.readouterr().err


def test_r5_an_engine_or_a_server_that_goes_wrong_is_named(
    folders: dict[str, Path], image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys taken for values in what was kept; a server with options of its own; a server that renders in its own way."""
    write, options_of, encode = KVCache.write, preparing.options_of, preparing.encode

    def other_block(self: KVCache, row: int, block: torch.Tensor) -> None:
        write(self, row, block.flip(1) if block.shape[3] == BLOCK else block)

    def with_a_penalty(*given: Any) -> GenerationOptions:
        return replace(options_of(*given), presence_penalty=2.0)

    def with_a_word(served: Any, sample: Sample, *rest: Any) -> Encoded:
        encoded = encode(served, sample, *rest)
        return encoded.with_(input_ids=np.append(encoded.input_ids[:-1], encoded.input_ids[-1] - 1))

    faults = {
        "engine, from its caches; chat": lambda patch: patch.setattr(KVCache, "write", other_block),
        "server's greedy answers, chat's": lambda patch: patch.setattr(preparing, "options_of", with_a_penalty),
        "server, chat prompt": lambda patch: patch.setattr(preparing, "encode", with_a_word),
    }
    for compared, fault in faults.items():
        with monkeypatch.context() as patch:
            fault(patch)
            assert check(folders["qwen2_vl"], image, "--json") == 1
        checks = json.loads(capsys.readouterr().out)["checks"]
        wrong = {one["compared"] for one in checks if not one["ok"]}
        assert compared in wrong and not any("row" in one for one in wrong), wrong
