"""`qwenvl plan`: what it says of a recipe adds up, what cannot fit is refused in one line, and what it proposes does fit."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from qwenvl.cli.main import main
from qwenvl.cli.plan import _bar, _hours, _short
from qwenvl.config import ConfigError
from qwenvl.data.packing import interleave, share_prefix
from qwenvl.data.shards import ShardWriter
from qwenvl.models.lora import is_adapter, plain_name
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.engine import adapt
from qwenvl.train.planning.cost import Counter, Flops, Work
from qwenvl.train.planning.inventory import take_inventory
from qwenvl.train.planning.plan import Machine, Plan, histogram, record
from qwenvl.train.planning.proposals import proposals
from qwenvl.train.planning.survey import Length, Survey, lengths_of, nominal_rows, survey
from qwenvl.train.recipe import load_recipe
from tests.fast.test_packed_rows import Captions
from tests.fast.test_packing import QUESTIONS, encoded
from tests.small_text import small_tokenizer

RECIPES = Path(__file__).parents[2] / "recipes" / "nano"
STAGE_2 = str(RECIPES / "qwen_vl" / "2_multitask.yaml")
STAGE_3 = str(RECIPES / "qwen_vl" / "3_sft.yaml")
PUBLISHED = ("model.preset=qwen-vl-7b", "model.image_size=448", "data.row_tokens=2048", "data.rows_per_step=128")
H200 = Machine(139 * 2**30, False, True, 989e12, 0.4)

needs_fonts = pytest.mark.usefixtures("scene_sources")


def plan_of(path: str, *sets: str, machine: Machine = H200, size: int = 1) -> Plan:
    """Of nominal rows, which need no data."""
    recipe = load_recipe(path, sets)
    return Plan(recipe, nominal_rows(recipe, recipe.model_config_of_stage(), "none"), machine, size)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["plan", *arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


@needs_fonts
def test_r2_a_plan_tells_tokens_worst_samples_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, STAGE_2, "--rows", "4", "--memory", "8", "--json")
    found = json.loads(out)
    assert (code, err, found["problem"], found["fits"]) == (0, "", None, [])
    parameters = found["parameters"]
    assert parameters["total"]["weights"] == sum(parameters[part]["weights"] for part in parameters if part != "total")
    flops, time, data = found["flops"], found["time"], found["data"]
    assert flops["step"] == pytest.approx(8 * sum(flops["row"].values()))
    assert flops["total"] == pytest.approx(240 * flops["step"])
    assert flops["sample"] == pytest.approx(flops["step"] / 8 / data["samples_a_row"])
    assert time["gpu_hours"] == pytest.approx(flops["total"] / (0.4 * 989e12) / 3600) == pytest.approx(time["hours"])
    assert sum(size for kind, size in found["memory"]["bytes"].items() if kind != "total") == found["memory"]["bytes"]["total"]
    assert found["memory"]["limit"] == 8 * 2**30
    assert 0.7 < data["fill"] <= 1 and data["tokens_a_row"] == pytest.approx(512 * data["fill"], abs=0.1)
    assert 0 < data["visual_share"] < 1 and 0 < data["supervised_share"] < 1
    assert sum(count for *_, count in data["tokens_of_a_sample"]) == round(4 * data["samples_a_row"])
    assert data["longest"][0]["name"].startswith("scene 203/")


@needs_fonts
@pytest.mark.parametrize("path", [STAGE_2, str(RECIPES / "shipped" / "0_tower.yaml")])
def test_the_table_is_short_and_says_the_same(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, path, "--rows", "4", "--ranks", "2", "--memory", "8")
    assert code == 0 and len(out.splitlines()) <= 42
    for words in ("that train", "of 8.00 on a GPU", "FLOPs: ", "on 2 ranks", "at 40 % of 989 TFLOP/s"):
        assert words in out
    assert "None" not in out and " nan" not in out


def test_hours_are_shared_by_ranks_and_flops_are_not() -> None:
    one, eight = (plan_of(STAGE_3, *PUBLISHED, size=size) for size in (1, 8))
    assert one.total_flops == pytest.approx(eight.total_flops)
    assert record(one)["time"]["hours"] == pytest.approx(8 * record(eight)["time"]["hours"])


def test_a_published_stage_that_is_too_large_is_refused_with_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    sets = [word for one in (*PUBLISHED, "train.micro_batch_rows=4") for word in ("--set", one)]
    code, out, err = said(capsys, STAGE_3, *sets, "--memory", "139")
    assert code == 1 and "no rows to look at" in out
    (line,) = err.splitlines()
    pattern = r"qwenvl: .*: a rank takes (.*) GiB of memory, and 139\.0 are there; this fits, with (.*) GiB: (.*)"
    refused = re.fullmatch(pattern, line)
    assert refused and float(refused[1]) > 139 > float(refused[2])
    code, out, err = said(capsys, STAGE_3, *sets, "--memory", "139", *shlex.split(refused[3]))
    assert (code, err) == (0, "") and f"{refused[2]}  of 139.0" in out
    # Exact AdamW for all of the decoder at 14 bytes a weight, and frozen bfloat16: 105 GiB last from the first step on.
    recipe = load_recipe(STAGE_3, [*PUBLISHED, "optim.masters=split"])
    memory = Plan(recipe, plan_of(STAGE_3, *PUBLISHED).survey, H200).memory
    assert (memory.weights + memory.gradients + memory.optimiser) / 2**30 == pytest.approx(105.1, rel=0.005)


@pytest.mark.parametrize("limit", [3, 24, 139])
def test_every_proposal_fits_when_it_is_taken(limit: int) -> None:
    machine = Machine(limit * 2**30, False, True, 989e12, 0.4)
    sets = (*PUBLISHED, "train.micro_batch_rows=8")
    plan = plan_of(STAGE_3, *sets, machine=machine)
    assert plan.problem()
    found = proposals(plan, lambda more: load_recipe(STAGE_3, [*sets, *more]))
    assert len(found) == {3: 0, 24: 2, 139: 3}[limit]
    for one in found:
        tried = Plan(load_recipe(STAGE_3, [*sets, *one.settings]), plan.survey, machine, one.ranks)
        assert tried.problem() is None and tried.memory.total == one.bytes <= limit * 2**30
    shared = [one for one in found if "parallel.data=fsdp" in one.settings]
    for one in shared:  # and on half as many ranks it would not
        before = Plan(load_recipe(STAGE_3, [*sets, *one.settings]), plan.survey, machine, one.ranks // 2)
        assert before.memory.total > limit * 2**30


def test_ranks_of_one_machine_share_its_memory() -> None:
    machine = Machine(8 * 2**30, True, False, 1e12, 0.4)
    assert plan_of(STAGE_2, machine=machine, size=4).limit == 2 * 2**30
    tight = plan_of(STAGE_2, machine=Machine(2**28, True, False, 1e12, 0.4))
    assert tight.problem() and not proposals(tight, lambda more: load_recipe(STAGE_2, [*more]))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "data.row_tokens=9000"], "data.row_tokens 9000: the context of qwen-vl-nano is"),
        (["--ranks", "3"], "data.rows_per_step 8 in 8 lanes: cannot be shared by 3 ranks"),
        (["--ranks", "4", "--set", "parallel={data: fsdp, tensor: 4}"], "parallel.tensor 4: does not divide 3 heads"),
        (["--ranks", "3", "--set", "parallel={data: fsdp, tensor: 2}"], "3 ranks are no multiple of it"),
        (["--set", "train.frozen=[decoder.layer.*]"], "'decoder.layer.*' names no weight of the model"),
        (["--set", "lora={targets: [decoder.q]}"], "'decoder.q' names no linear layer"),
    ],
)  # fmt: skip
def test_r2_what_cannot_be_is_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, STAGE_2, "--rows", "1", "--memory", "8", *arguments)
    assert code == 1 and told in err and len(err.splitlines()) == 1


def test_numbers_that_are_none_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--memory", "--mfu", "--peak"):
        code, _, err = said(capsys, STAGE_2, option, "0")
        assert code == 2 and f"{option} 0: give a number above 0" in err


def mixture_file(folder: Path, **data: Any) -> str:
    """A recipe over what a mixture has."""
    sources = [{"name": "captions", "shards": [str(folder / "shards")]}]
    section = {"source": "mixture", "style": "chat", "rows_per_step": 2, "row_tokens": 400, "pool": 4, "sources": sources} | data
    recipe = {"name": "a", "run": "a", "data": section, "optim": {"lr": 1e-3}, "train": {"steps": 30}}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return str(path)


def test_epochs_of_finite_sources_and_refusals_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ShardWriter(tmp_path / "shards") as writer:
        for number in range(40):
            writer.add(Captions().sample(number))
    path = mixture_file(tmp_path, row_tokens=60)
    found = survey(load_recipe(path), 6)
    assert found.refused.counts.total() and all("TooLong" in reason for reason in found.refused.counts)
    code, out, _ = said(capsys, path, "--rows", "6", "--memory", "4", "--json")
    (source,), run, data = (lambda whole: (whole["data"]["sources"], whole["run"], whole["data"]))(json.loads(out))
    assert code == 0 and source["size"] == 40 and source["share"] == 1
    assert source["epochs"] == pytest.approx(run["samples"] / 40, abs=0.02)
    assert run["samples"] == pytest.approx(30 * 2 * data["samples_a_row"], abs=1)
    # Samples that wait for a row are measured too: longest first would show the longest alone.
    assert sum(count for *_, count in data["tokens_of_a_sample"]) > round(6 * data["samples_a_row"])
    assert said(capsys, path, "--rows", "6", "--memory", "4")[1].count("refused: captions: TooLong") == 1


def test_without_its_shards_a_plan_takes_full_rows_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, mixture_file(tmp_path), "--memory", "4")
    assert (code, err) == (0, "")
    assert f"{tmp_path / 'shards'}: no such shards yet" in out and "rows are taken as full" in out
    recipe = load_recipe(mixture_file(tmp_path, row_patches=64))
    found = nominal_rows(recipe, recipe.model_config_of_stage(), "")
    assert found.mean.patches <= 64 and found.mean.tokens <= 400


def test_nominal_rows_are_half_of_pictures() -> None:
    for path in (STAGE_3, str(RECIPES / "qwen2_5_vl" / "3_sft.yaml")):
        recipe = load_recipe(path, ["data.row_tokens=2048"])
        mean = nominal_rows(recipe, recipe.model_config_of_stage(), "").mean
        assert 0.35 < mean.visual / mean.tokens <= 0.5 and 0.95 * 2048 < mean.tokens <= 2048
        assert 0 < mean.supervised <= (2048 - mean.visual) / 2


def test_lengths_of_samples_that_share_a_picture_or_a_document() -> None:
    alone = [encoded(question, answer, 1).with_(sample_id=f"s{n}") for n, (question, answer) in enumerate(QUESTIONS)]
    tokenizer = small_tokenizer()
    end = tokenizer.special("<|endoftext|>")
    visual = len(alone[0].visual_slots)
    expected = [Length(len(sample), visual, f"s{n}") for n, sample in enumerate(alone)]
    assert list(lengths_of(share_prefix(alone), end)) == expected
    assert list(lengths_of(interleave(alone, 10_000), end)) == expected
    assert list(lengths_of(alone[0], end)) == expected[:1]
    # Not to be told apart: one length for all of it.
    (whole,) = lengths_of(interleave(alone, 10_000), -1)
    assert whole == (sum(map(len, alone)), visual * len(alone), "+".join(one.name for one in expected))


def test_a_histogram_holds_every_value_once() -> None:
    values = [0, 3, 17, 17, 99, 250]
    bars = histogram(values)
    assert sum(count for *_, count in bars) == len(values) and len(bars) <= 8
    for low, high, count in bars:
        assert count == sum(low <= value < high for value in values)
    assert histogram([]) == []


def test_phases_of_thawing_add_up() -> None:
    plan = plan_of(STAGE_2, "train.unfreeze_after={vision_tower: 200, decoder.embed_tokens.*: 40, connector: 999}")
    phases = record(plan)["flops"]["phases"]
    assert [(one["from_step"], one["steps"]) for one in phases] == [(0, 40), (40, 160), (200, 40)]
    assert plan.total_flops == pytest.approx(sum(one["steps"] * one["step"] for one in phases))
    assert phases[0]["step"] < phases[1]["step"] <= phases[2]["step"]


def test_micro_batches_hold_rows_in_order_and_count_their_passes_once() -> None:
    recipe = load_recipe(STAGE_2, ["train.micro_batch_rows=3", "data.rows_per_step=6"])
    rows = [Work(tokens=n, patches=2 * n, passes=1, longest=n) for n in (5, 6, 7, 1, 2, 3, 100)]
    plan = Plan(recipe, Survey(rows), H200)
    assert plan.micro_batches == [Work(tokens=18, patches=36, passes=1, longest=7), Work(tokens=6, patches=12, passes=1, longest=3)]
    assert Plan(recipe, Survey(rows[:2]), H200).micro_batches[0].tokens == 5 + 6 + 5
    assert Plan(recipe, Survey(rows), H200, size=3).micro_batches[0].tokens == 5 + 6  # a rank has but two rows


def test_preference_optimisation_takes_a_forward_pass_more(tmp_path: Path) -> None:
    path = mixture_file(tmp_path)
    usual, pairs = plan_of(path), plan_of(path, "objective.kind=dpo")
    works = usual.micro_batches
    assert works == pairs.micro_batches
    forward = Counter(pairs.operations()).forward(works[0])
    assert pairs.flops().total - usual.flops().total == pytest.approx(forward.total, rel=1e-6)
    noted = plan_of(path, "objective.kind=dpo", "objective.reference=precomputed")
    assert pairs.memory.reference and not noted.memory.reference
    # Noted before the first step: no step takes it, and the run as a whole does, once.
    assert noted.flops() == usual.flops() and pairs.flops_before == 0
    assert noted.total_flops == pytest.approx(pairs.total_flops) and record(noted)["flops"]["before"] == noted.flops_before > 0


@pytest.mark.parametrize("base", ["full", "int8"])
@pytest.mark.parametrize("whole", ["*.bias", "decoder.layers.0.self_attn.q_proj", "connector.*", "decoder.*"])
def test_what_trains_beside_adapters_is_what_the_engine_trains(base: str, whole: str) -> None:
    recipe = load_recipe(STAGE_2, ["train.frozen=[]", f"lora={{targets: [decoder.layers.*], whole: ['{whole}'], base: {base}}}"])
    model = VisionLanguageModel(recipe.model_config_of_stage())
    adapt(model, recipe)
    trained = {plain_name(name) for name, weight in model.named_parameters() if weight.requires_grad and not is_adapter(name)}
    assert trained == take_inventory(recipe).ever_trained and trained
    assert all(weight.requires_grad for name, weight in model.named_parameters() if is_adapter(name))


def test_a_pattern_that_names_nothing_beside_adapters_is_one_line() -> None:
    for whole in ("decoder.nothing", "decoder.layers.0.self_attn.o_proj"):  # which is stored in int8, and has no bias
        told = f"lora.whole: '{whole}' names no layer of the model that can train"
        recipe = load_recipe(STAGE_2, ["train.frozen=[]", f"lora={{targets: [decoder.layers.*], whole: [{whole}], base: int8}}"])
        with pytest.raises(ConfigError, match=told):
            take_inventory(recipe)
        with pytest.raises(ConfigError, match=told):
            adapt(VisionLanguageModel(recipe.model_config_of_stage()), recipe)


def test_dense_stages_run_the_tower_alone() -> None:
    plan = plan_of(str(RECIPES / "shipped" / "0_tower.yaml"))
    flops = plan.flops()
    assert flops.tower > 0 and flops.head > 0 and flops == Flops(tower=flops.tower, head=flops.head)
    assert plan.memory.logits == 0


def test_numbers_for_people() -> None:
    shown = {0: "0", 999: "999", 1000: "1.00 k", 12_345: "12.3 k", 9.66e9: "9.66 G", 1.5e18: "1.50 E"}
    assert [_short(value) for value in shown] == list(shown.values())
    assert [_hours(hours) for hours in (1 / 3600, 0.5, 69.2, 2400)] == ["1.0 s", "30.0 min", "69.2 h", "100 days"]
    assert [len(_bar(share)) for share in np.linspace(0, 1, 5)] == [0, 6, 12, 18, 24]

