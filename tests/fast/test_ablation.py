"""Ablations: variants differ in what they say and in nothing else, numbers are read rightly, verdicts follow from the numbers."""

from __future__ import annotations

import json
import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml

from qwenvl.cli.main import main
from qwenvl.config import ConfigError, apply_override, to_yaml
from qwenvl.data.synth.spec import SceneSpec
from qwenvl.models.attention import PackedLayout
from qwenvl.models.initialise import initialise
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.ablations import held_out
from qwenvl.train.ablations.ablation import Ablation, Budget, Claim, load_ablation, progress_of, write_recipes
from qwenvl.train.ablations.measures import Outcome, read_outcome, values_of
from qwenvl.train.ablations.table import find, judge, markdown, record, write_report
from qwenvl.train.build import build_trainer, export, row_source
from qwenvl.train.parallel import World
from qwenvl.train.recipe import Recipe
from qwenvl.types import IGNORE_INDEX
from qwenvl.weights.adapters import load_adapter
from tests.fast.test_recipes import NANOS, RECIPES

FILES = sorted((RECIPES / "ablations").glob("*.yaml"))

SMALL: dict[str, Any] = {
    "name": "small",
    "question": "Which?",
    "source": "nowhere",
    "minutes": 1,
    "deviations": ["It is small."],
    "measures": ["loss_last", "seconds"],
    "chart": ["loss_last"],
    "claims": [{"says": "a is better", "measure": "loss_last", "rising": ["a", "b"]}],
    "variants": {"a": {"published": {"loss": "1"}}, "b": {"changes": {"model.config.connector.num_queries": 16}}},
    "base": {
        "seed": 1,
        "model": {"preset": "qwen-vl-nano", "image_size": 56},
        "data": {"tasks": {"caption": 1}, "rows_per_step": 4, "row_tokens": 60},
        "optim": {"lr": 1e-3},
        "train": {"steps": 40},
        "evaluate": {"every": 10},
    },
}


def small(**changes: Any) -> Ablation:
    return Ablation.model_validate(SMALL | changes)


def line(step: int, loss: float, seconds: float = 1.0, waiting: float = 0.0) -> dict[str, Any]:
    return {
        "step": step - 1, "losses": {"next_token": loss, "patch_box": 9.0}, "step_seconds": seconds, "data_share": waiting,
        "images_per_s": 2.0, "visual_tokens_per_s": 72.0,
    }  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_variants_of_every_ablation_can_be_built_and_share_seed_pictures_and_start(path: Path, tmp_path: Path) -> None:
    ablation = load_ablation(path)
    assert ablation.name == path.stem
    recipes = write_recipes(ablation, tmp_path, Budget())
    assert len({recipe.seed for recipe in recipes.values()}) == 1
    for name, recipe in recipes.items():
        row_source(recipe)
        before = ablation.variants[name].after
        sources = {str(tmp_path / before)} if before else NANOS
        assert set(recipe.init_from.values()) <= sources, "one command, and no run of others"
        assert recipe.data.rows_per_step % 2 == 0 and recipe.run == str(tmp_path / name)
    trained = [recipe for name, recipe in recipes.items() if recipe.train.steps and not ablation.variants[name].after]
    assert len({f"{recipe.train.steps} {recipe.optim}" for recipe in trained}) == 1, "one budget"


def test_there_is_an_ablation_for_everything_that_the_papers_compare() -> None:
    assert {path.stem for path in FILES} == {"queries", "window", "text_only", "resolution", "stage1_curve"}
    queries = load_ablation(RECIPES / "ablations" / "queries.yaml").variants.values()
    shares = [int(str(variant.changes["model.config.connector.num_queries"])) / 64 for variant in queries]
    assert shares == [count / 256 for count in (64, 144, 256, 400)]


@pytest.mark.parametrize(
    "told, changes",
    [
        ("no row c", {"claims": [{"says": "x", "measure": "loss_last", "rising": ["a", "c"]}]}),
        ("give one of rising", {"claims": [{"says": "x", "measure": "loss_last", "rising": ["a", "b"], "lowest": "a"}]}),
        ("give one of rising", {"claims": [{"says": "x", "measure": "loss_last", "rising": ["a"]}]}),
        ("no measure 'los'", {"measures": ["los"]}),
        ("add reading", {"chart": ["reading"]}),
        ("must name a variant above", {"variants": {"a": {"after": "b"}, "b": {}}}),
        ("the curve of one variant", {"rows": "evaluations"}),
    ],
)
def test_an_ablation_that_contradicts_itself_is_refused(told: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=told):
        small(**changes)


def test_a_change_that_no_recipe_has_is_one_line_with_a_suggestion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = SMALL | {"variants": {"a": {}, "b": {"changes": {"optim.warmup": 3}}}}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    assert main(["ablate", str(tmp_path / "wrong.yaml"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "optim.warmup: unknown key; did you mean 'warmup_steps'?" in said and len(said.strip().splitlines()) == 1
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(SMALL | {"base": {"data": {"tasks": {"caption": 1}}, "optim": {"lr": 1}}}))
    assert main(["ablate", str(tmp_path / "wrong.yaml"), "--out", str(tmp_path / "out")]) == 1
    assert "train: Field required" in capsys.readouterr().err
    assert main(["ablate", str(tmp_path / "none.yaml")]) == 1
    assert "no such ablation" in capsys.readouterr().err


def test_an_ablation_without_matplotlib_is_refused_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("qwenvl.cli.ablate.train", lambda *_: pytest.fail("it trains"))
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    assert main(["ablate", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "qwenvl: matplotlib is not installed; install it with: pip install 'qwenvl[train]'\n"


def test_a_change_below_what_is_no_section_is_one_line(tmp_path: Path) -> None:
    for key, parent in {"seed.x": "seed", "optim.lr.peak.x": "lr"}.items():
        with pytest.raises(ConfigError, match=f"^change '{key}': '{parent}' is not a section$"):
            write_recipes(small(variants={"a": {}, "b": {"changes": {key: 1}}}), tmp_path, Budget())
        with pytest.raises(ConfigError, match=f"^override '{key}=1': '{parent}' is not a section$"):
            apply_override({"seed": 1, "optim": {"lr": 1e-3}}, f"{key}=1")


def test_a_smaller_budget_keeps_the_number_of_evaluations_and_what_does_not_train(tmp_path: Path) -> None:
    variants = {"a": {}, "b": {"changes": {"train.steps": 0}}}
    whole, half, quick = (
        write_recipes(small(variants=variants), tmp_path, budget) for budget in (Budget(), Budget(steps=20), Budget(quick=True))
    )
    assert [recipes["a"].train.steps for recipes in (whole, half, quick)] == [40, 20, 2]
    assert [recipes["b"].train.steps for recipes in (whole, half, quick)] == [0, 0, 0]
    assert [recipes["a"].evaluate.every for recipes in (whole, half, quick) if recipes["a"].evaluate] == [10, 5, 1]
    assert quick["a"].data.rows_per_step == 2 and whole["a"].data.rows_per_step == 4


def test_a_finished_variant_is_known_and_one_of_another_recipe_is_refused(tmp_path: Path) -> None:
    recipe = write_recipes(small(), tmp_path, Budget())["a"]
    run = Path(recipe.run)
    assert progress_of(recipe) == "new"
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.yaml").write_text(to_yaml(recipe))
    assert progress_of(recipe) == "new"
    (run / "checkpoints" / "step_00000005.pt").touch()
    assert progress_of(recipe) == "begun"
    (run / "model").mkdir()
    (run / "model" / "card.json").touch()
    assert progress_of(recipe) == "done"
    with pytest.raises(ConfigError, match=r"another evaluate, train; remove it, or give another --out"):
        progress_of(write_recipes(small(), tmp_path, Budget(steps=4))["a"])


def test_measures_are_means_of_what_was_logged() -> None:
    records = [line(5, 4.0, 9.0), line(20, 2.0, 3.0, 0.5), line(40, 1.0, 2.0, 0.25), line(85, 0.5, 4.0), line(100, 0.3, 1.0)]
    evaluations = [{"step": 50, "scores": {"naming": 0.1}}, {"step": 100, "scores": {"naming": 0.4, "what": 1.0, "count": 0.5}}]
    outcome = Outcome(records, evaluations, {"text": math.log(8), "held_out": 0.7})
    names = ["loss_first", "loss_last", "held_out", "perplexity", "seconds", "visual_tokens", "naming", "questions"]
    found = values_of(outcome, names)
    assert found["loss_first"] == 3.0 and found["loss_last"] == pytest.approx(0.4) and found["held_out"] == 0.7
    assert found["perplexity"] == pytest.approx(8) and found["visual_tokens"] == 36
    assert found["seconds"] == pytest.approx(1.5), "median of 1.5, 1.5, 4, 1: without the first line, and without waiting for rows"
    assert found["naming"] == 0.4 and found["questions"] == 0.75
    assert values_of(Outcome([], []), ["loss_last", "seconds", "perplexity", "naming"]) == dict.fromkeys(
        ("loss_last", "seconds", "perplexity", "naming")
    )


@pytest.mark.parametrize(
    "claim, holds",
    [
        ({"rising": ["a", "b", "c"]}, True),
        ({"rising": ["a", "c", "b"]}, False),
        ({"rising": ["a", "d"]}, False),
        ({"lowest": "a"}, False),
        ({"highest": "c"}, True),
        ({"highest": "b"}, False),
        ({"rising": ["first", "second"]}, True),
        ({"rising": ["last", "second"]}, True),
        ({"rising": ["a", "missing"]}, None),
    ],
)
def test_a_verdict_follows_from_the_numbers(claim: dict[str, Any], holds: bool | None) -> None:
    losses = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 1.0}
    rows: dict[str, dict[str, float | None]] = {name: {"loss_last": loss} for name, loss in losses.items()}
    verdict = judge(Claim(says="x", measure="loss_last", **claim), rows)
    assert verdict.holds is holds
    first = (claim.get("rising") or [claim.get("lowest") or claim.get("highest")])[0]
    assert verdict.numbers.startswith(f"{first} ")


def test_a_verdict_without_a_number_is_none() -> None:
    empty: dict[str, float | None] = {"loss_last": None}
    assert judge(Claim(says="x", measure="loss_last", lowest="a"), {"a": {"loss_last": 1.0}, "b": empty}).holds is None
    assert judge(Claim(says="x", measure="loss_last", rising=("first", "last")), {}).word == "not measured"


def test_the_report_has_the_papers_numbers_beside_ours_and_says_no_where_we_differ(tmp_path: Path) -> None:
    outcomes = {"a": Outcome([line(10, 2.0), line(40, 1.5)], []), "b": Outcome([line(10, 2.0), line(40, 1.25)], [])}
    findings = find(small(), outcomes, quick=False)
    text = markdown(findings)
    assert "| a | 1 | 1.500 |" in text and "| b | – | 1.250 |" in text
    assert "| a is better | a 1.500, b 1.250 | no |" in text and "It is small." in text
    write_report(findings, tmp_path)
    kept = json.loads((tmp_path / "table.json").read_text())
    assert kept["claims"][0]["holds"] is False and kept["rows"]["b"]["loss_last"] == 1.25 and kept["steps"] == {"a": 40, "b": 40}
    assert (tmp_path / "curve.png").stat().st_size > 5000 and (tmp_path / "table.md").read_text() == text
    assert "its numbers say nothing" in markdown(find(small(), outcomes, quick=True))


def test_a_curve_has_a_row_for_every_evaluation() -> None:
    ablation = small(
        rows="evaluations", variants={"a": {}}, measures=["loss_last", "naming"], chart=["naming"],
        claims=[{"says": "x", "measure": "naming", "rising": ["first", "last"]}],
    )  # fmt: skip
    evaluations = [{"step": step, "scores": {"naming": score}} for step, score in ((0, 0.1), (20, 0.2), (40, 0.6))]
    findings = find(ablation, {"a": Outcome([line(10, 3.0), line(20, 2.0), line(40, 1.0)], evaluations)}, quick=False)
    assert list(findings.rows) == ["step 0", "step 20", "step 40"]
    assert [row["naming"] for row in findings.rows.values()] == [0.1, 0.2, 0.6]
    assert [row["loss_last"] for row in findings.rows.values()] == [None, 2.0, 1.0]
    assert record(findings)["claims"][0]["holds"] is True


def recipe_in(folder: Path) -> Recipe:
    return write_recipes(small(), folder, Budget())["b"]


def test_rows_for_the_losses_are_held_out_scenes_and_texts_of_one_language(scene_sources: None, tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path)
    scenes = held_out.held_out_scenes(recipe)
    assert {one.spec for one in scenes.scenes} == {SceneSpec(split="held_out")}
    for kind, chinese in (("text_en", 0), ("text_zh", 1)):
        documents = [document for row in held_out.rows_of(recipe, held_out.KINDS[kind](recipe), 3) for document in row.documents]
        assert not any(len(document.grids) for document in documents) and sum(map(len, documents)) > 500
        assert held_out.KINDS[kind](recipe).chinese == chinese


def test_the_loss_on_kept_out_rows_is_the_mean_over_single_documents(scene_sources: None, tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path).model_copy(update={"train": recipe_in(tmp_path).train.model_copy(update={"precision": "float32"})})
    model = VisionLanguageModel(recipe.model_config_of_stage()).eval()
    initialise(model, 3)
    data = held_out.KINDS["text_en"](recipe).model_copy(update={"row_tokens": 80})
    rows = list(held_out.rows_of(recipe, data, 2))
    losses = []
    for row in rows:
        (joined,) = row.documents
        assert joined.branch_ids is not None
        for branch in range(1, int(joined.branch_ids.max()) + 1):
            mine = joined.branch_ids == branch
            ids, labels = torch.from_numpy(joined.input_ids[mine]), torch.from_numpy(joined.labels[mine])
            positions = torch.arange(len(ids)).expand(3, -1)
            with torch.no_grad():
                logits = model.logits(model(ids, positions, PackedLayout.of(torch.zeros(len(ids), dtype=torch.long))))
            asked = labels[1:] != IGNORE_INDEX
            losses.append(F.cross_entropy(logits[:-1][asked], labels[1:][asked], reduction="none"))
    assert held_out.mean_loss(model, recipe, rows) == pytest.approx(float(torch.cat(losses).mean()), abs=1e-5)


@pytest.mark.parametrize("section", [{"lora": {"rank": 2, "whole": ["connector", "*.bias"]}}, {"optim": {"lr": 1e-2, "ema": 0.5}}])
def test_the_model_that_is_measured_is_the_one_that_the_run_left(
    scene_sources: None, section: dict[str, Any], tmp_path: Path
) -> None:
    shallow = {"config": {"vision": {"num_hidden_layers": 1}, "decoder": {"num_hidden_layers": 1}}}
    data = SMALL["base"] | {"train": {"steps": 2, "precision": "float32"}, "optim": {"lr": 1e-2}, "evaluate": None} | section
    data["model"] = data["model"] | shallow
    recipe = Recipe.model_validate({"name": "a", "run": str(tmp_path / "a"), **data})
    trainer, processor = build_trainer(recipe, World())
    trainer.start(False)
    assert trainer.fit() == "finished"
    trainer.close()
    rows = list(held_out.rows_of(recipe, held_out.KINDS["held_out"](recipe), 2))
    with trainer.average.in_place() if trainer.average else nullcontext():
        expected = held_out.mean_loss(trainer.model.eval(), recipe, rows)
    with pytest.raises(ConfigError, match="a/model: no such folder"):
        held_out.trained_model(recipe)
    export(trainer, processor)
    assert held_out.mean_loss(held_out.trained_model(recipe), recipe, rows) == pytest.approx(expected, abs=1e-4)
    raw = held_out.mean_loss(trainer.model.eval(), recipe, rows)
    assert trainer.average is None or abs(raw - expected) > 1e-3, "the average is another model"
    if recipe.lora is not None:
        start = VisionLanguageModel(recipe.model_config_of_stage())
        initialise(start, recipe.seed)
        load_adapter(start, tmp_path / "a" / "adapter")
        assert held_out.mean_loss(start.eval(), recipe, rows) == pytest.approx(expected, abs=1e-4), "all that trained is in it"


def test_losses_are_measured_once(scene_sources: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_in(tmp_path)
    Path(recipe.run).mkdir(parents=True)
    asked: list[str] = []
    monkeypatch.setattr(held_out, "trained_model", lambda recipe: asked.append("model"))
    monkeypatch.setattr(held_out, "mean_loss", lambda model, recipe, rows: 0.5)
    for names in (["text_en"], ["text_en", "text_zh"], ["text_zh"]):
        assert held_out.mean_losses(recipe, names, 2) == dict.fromkeys(names, 0.5)
    assert len(asked) == 2, "text_en, then text_zh"
    assert read_outcome(Path(recipe.run), {"text_en": 1.0, "text_zh": 2.0}).losses["text"] == 1.5
