"""DPO, LoRA, Q-LoRA, moving averages and split masters from one recipe, and what such runs leave."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import qwenvl
from qwenvl.cli.main import main
from qwenvl.data.preferences.build import PreferenceSpec, samples
from qwenvl.data.shards import write_shard
from qwenvl.models.lora import merge_lora
from qwenvl.weights.adapters import load_adapter
from qwenvl.weights.io import load_model

pytestmark = pytest.mark.usefixtures("scene_sources")

NANO = "qwen-vl-nano"


def write_recipe(folder: Path, run: str, **sections: Any) -> Path:
    """A short run that starts from the nano that ships with the package."""
    recipe: dict[str, Any] = {
        "name": "small", "run": str(folder / run), "seed": 5,
        "init_from": dict.fromkeys(("vision_tower", "connector", "decoder"), NANO),
        "data": {"style": "chat", "tasks": {"caption": 1, "referring": 2}, "rows_per_step": 4, "row_tokens": 256},
        "optim": {"lr": 3e-4, "warmup_steps": 1},
        "train": {"steps": 6, "micro_batch_rows": 2, "precision": "float32", "checkpoint_every": 3, "log_every": 1},
    }  # fmt: skip
    for section, values in sections.items():
        recipe[section] = values if section == "data" else recipe.get(section, {}) | values
    path = folder / f"{run}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The data section of eight pairs, over and over."""
    folder = tmp_path_factory.mktemp("pairs")
    spec = PreferenceSpec.model_validate({"sources": {"scenes": 1.0}})
    made = (pair for number in itertools.count() for pair in samples(spec, 3, number)[:1])
    assert write_shard(folder / "part-00000.parquet", itertools.islice(made, 8)) == 8
    sources = [{"name": "pairs", "shards": [str(folder)]}]
    return {"source": "mixture", "style": "chat", "rows_per_step": 4, "row_tokens": 320, "pool": 8, "sources": sources}


def train(recipe: Path, *more: str) -> Path:
    assert main(["train", str(recipe), *more]) == 0
    return recipe.with_suffix("")


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_dpo_starts_at_ln_2_and_prefers_the_chosen_answer(pairs: dict[str, Any], tmp_path: Path) -> None:
    run = train(write_recipe(tmp_path, "run", data=pairs, objective={"kind": "dpo", "beta": 0.5}, train={"steps": 7}))
    first, *_, last = records(run)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-4) and first["logged"]["margin"] == pytest.approx(0, abs=1e-3)
    assert last["loss"] < 0.5 and last["logged"]["margin"] > 0 and last["logged"]["accuracy"] > 0.9
    assert last["logged"]["margin"] == pytest.approx(
        last["logged"]["chosen_reward"] - last["logged"]["rejected_reward"], abs=1e-4
    )


def test_all_references_are_one(pairs: dict[str, Any], tmp_path: Path) -> None:
    lora = {"targets": ["decoder.layers.*"], "rank": 4, "alpha": 8.0, "dropout": 0.0}
    found = []
    for reference in ("copy", "precomputed", "adapters_off"):
        objective = {"kind": "dpo", "beta": 0.5, "reference": reference}
        # Rows made ahead: the pass that notes the reference's numbers must not leave any behind.
        data = pairs | {"workers": int(reference == "precomputed")}
        run = train(write_recipe(tmp_path, reference, data=data, objective=objective, lora=lora, train={"steps": 4}))
        found.append([one["loss"] for one in records(run)])
        assert (run / "reference.json").is_file() == (reference == "precomputed")
    assert found[0][-1] != pytest.approx(math.log(2), abs=1e-3)
    assert found[1] == pytest.approx(found[0], abs=1e-4) and found[2] == pytest.approx(found[0], abs=1e-4)


@pytest.mark.parametrize("base", ["full", "int8", "nf4"])
def test_lora_trains_adapters_alone_and_leaves_them_apart_and_merged(base: str, tmp_path: Path) -> None:
    lora = {"targets": ["decoder.layers.*"], "rank": 4, "alpha": 8.0, "base": base, "whole": ["decoder.norm"]}
    run = train(write_recipe(tmp_path, base, lora=lora, optim={"lr": 3e-3}))
    before, after = records(run)[0]["loss"], records(run)[-1]["loss"]
    assert after < before
    held = torch.load(sorted((run / "checkpoints").glob("*.pt"))[-1], weights_only=True)["model"]
    assert {name.rpartition(".")[2] for name in held if name != "decoder.norm.weight"} == {"lora_a", "lora_b"}
    merged = load_file(run / "model" / "model.safetensors")
    start = load_file(qwenvl.__path__[0] + f"/assets/models/{NANO}/model.safetensors")
    same = [name for name in merged if name in start and start[name].dtype == torch.float32]
    assert any(torch.equal(merged[name], start[name]) for name in same)

    model = load_model(NANO_FOLDER, device="cpu", dtype=torch.float32)
    load_adapter(model, run / "adapter")
    merge_lora(model)
    mine, theirs = model.state_dict(), load_model(run / "model", device="cpu", dtype=torch.float32).state_dict()
    greatest = max(float((mine[name] - theirs[name]).abs().max()) for name in mine)
    # Over a rounded base the merged model has the rounding in it; the adapter does not. The nano's weights are in int8 already.
    assert greatest < {"full": 1e-5, "int8": 1e-3, "nf4": 0.2}[base] and (greatest > 1e-2) == (base == "nf4")


NANO_FOLDER = Path(qwenvl.__path__[0]) / "assets" / "models" / NANO


def test_adapters_over_split_masters_are_merged_too(tmp_path: Path) -> None:
    lora = {"targets": ["decoder.layers.*"], "rank": 4, "alpha": 8.0}
    run = train(write_recipe(tmp_path, "run", lora=lora, optim={"masters": "split", "lr": 3e-3}, train={"precision": "bf16"}))
    assert records(run)[-1]["loss"] < records(run)[0]["loss"]
    assert load_file(run / "model" / "model.safetensors")["transformer.h.0.attn.c_attn.weight"].dtype == torch.bfloat16


def test_an_interrupted_lora_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    lora = {"targets": ["decoder.layers.*"], "rank": 4, "alpha": 8.0, "dropout": 0.0, "base": "int8"}
    whole = train(write_recipe(tmp_path, "whole", lora=lora))
    parts = write_recipe(tmp_path, "parts", lora=lora)
    train(parts, "--set", "train.steps=3")
    # With six steps the schedule is another one; the first three are warm-up and the beginning of the same cosine.
    resumed = train(parts, "--resume")
    assert len(records(resumed)) == 6 and records(resumed)[5]["step"] == 5
    assert records(whole)[0]["loss"] == records(resumed)[0]["loss"]


def test_split_masters_take_the_same_steps_and_the_average_is_what_is_exported(tmp_path: Path) -> None:
    length = {"precision": "bf16", "steps": 20}
    data = {"style": "chat", "tasks": {"caption": 1, "referring": 2}, "rows_per_step": 2, "row_tokens": 256}
    masters = train(write_recipe(tmp_path, "split", data=data, optim={"masters": "split", "lr": 1e-3}, train=length))
    plain = train(write_recipe(tmp_path, "plain", data=data, optim={"lr": 1e-3}, train=length))
    # That the steps are the same is told by tests/fast/test_split_adamw.py; here one model computes in bfloat16 throughout, the
    # other where autocast does.
    ends = [sum(record["loss"] for record in records(run)[-5:]) / 5 for run in (masters, plain)]
    assert ends[0] == pytest.approx(ends[1], abs=0.15) and max(ends) < records(plain)[0]["loss"] - 1
    averaged = train(write_recipe(tmp_path, "averaged", optim={"ema": 0.9}))
    state = torch.load(sorted((averaged / "checkpoints").glob("*.pt"))[-1], weights_only=True)
    name = "decoder.norm.weight"
    exported = load_model(averaged / "model", device="cpu", dtype=torch.float32).state_dict()[name]
    assert torch.equal(exported, state["ema"][name]) and not torch.equal(exported, state["model"][name])
