"""Two runs side by side: how sure their difference is, on which questions they part, and what else differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenvl.eval.compare_runs import changed_answers, paired, what_differs
from qwenvl.eval.runs import ScoredRun
from qwenvl.eval.task import RESAMPLES, EvaluationError, Prediction
from tests.fast.test_benchmarks import Babbler
from tests.fast.test_eval_runs import files_of, run_of


def made_up(folder: str, replies: Sequence[str], task: str = "gqa", first: int = 0, **run: Any) -> ScoredRun:
    """A run of GQA whose right answer is always yes."""
    known = {"task": task, "split": "testdev", "markup": {}, "questions": len(replies), "model": folder}
    predictions = [
        Prediction(f"testdev/{number:04d}", task, "testdev", "en", "Is it?", "yes", reply, "stop", {"answers": ["yes"]})
        for number, reply in enumerate(replies, start=first)
    ]
    return ScoredRun(Path(folder), known | run, predictions, {}, {})


def test_the_paired_bootstrap_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(5)
    ours, theirs = (rng.random(30) < share for share in (0.5, 0.7))
    found = paired(*(made_up("x", ["yes" if right else "no" for right in side]) for side in (ours, theirs)), seed=3)
    drawn, spread = np.random.default_rng(3), []
    for _ in range(RESAMPLES):
        places = drawn.integers(0, 30, size=30)
        spread.append(sum(int(theirs[place]) for place in places) / 30 - sum(int(ours[place]) for place in places) / 30)
    assert (found.n, found.measure) == (30, "cleaned_exact_match")
    assert found.value == pytest.approx(theirs.mean() - ours.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(spread, (0.025, 0.975))))
    other_sign = min(sum(value <= 0 for value in spread), sum(value >= 0 for value in spread)) / RESAMPLES
    assert found.p == pytest.approx(2 * other_sign)


def test_the_paired_bootstrap_of_known_differences() -> None:
    yes, no = ["yes"] * 50, ["no"] * 50
    sure = paired(made_up("a", no), made_up("b", yes))
    assert (sure.first, sure.second, sure.low, sure.high, sure.p) == (0.0, 1.0, 1.0, 1.0, 0.0)
    none = paired(made_up("a", yes), made_up("b", yes))
    assert (none.value, none.low, none.high, none.p) == (0.0, 0.0, 0.0, 1.0)
    # 40 questions only B has right, 20 only A, of 400: the difference's standard error is that of McNemar's table.
    ours = ["yes"] * 20 + ["no"] * 40 + ["yes"] * 340
    theirs = ["no"] * 20 + ["yes"] * 380
    found = paired(made_up("a", ours), made_up("b", theirs))
    error = ((60 - 20**2 / 400) ** 0.5) / 400
    assert found.value == pytest.approx(0.05)
    assert (found.low, found.high) == pytest.approx((0.05 - 1.96 * error, 0.05 + 1.96 * error), abs=0.006)
    assert 0.002 < found.p < 0.025, "0.0095 by the normal distribution"
    swapped = paired(made_up("b", theirs), made_up("a", ours))
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_only_questions_that_both_answered_are_compared() -> None:
    ours, theirs = made_up("a", ["yes"] * 10), made_up("b", ["no"] * 10, first=6)
    assert (paired(ours, theirs).n, paired(ours, theirs).value) == (4, -1.0)
    assert [row[0].id for row in changed_answers(ours, theirs)] == [f"testdev/{number:04d}" for number in range(6, 10)]
    with pytest.raises(EvaluationError, match="a and c share no answered question"):
        paired(ours, made_up("c", ["no"], first=50))
    with pytest.raises(EvaluationError, match="a and b asked gqa testdev and vqav2 testdev; compare runs of one benchmark"):
        paired(ours, made_up("b", ["no"], task="vqav2"))
    with pytest.raises(EvaluationError, match="asked gqa testdev and gqa train"):
        changed_answers(ours, made_up("b", ["no"], split="train"))


def test_changed_answers_are_those_that_earned_something_else_the_most_different_first(tmp_path: Path) -> None:
    files = files_of("vqav2", tmp_path)
    right = run_of("vqav2", files, tmp_path / "a")
    half = run_of("vqav2", files, tmp_path / "b", Babbler("yes"))
    ((first, second, ours, theirs),) = changed_answers(right, half)
    assert (first.id, first.reply, second.reply, theirs) == ("val/262148000", "down", "yes", 0.0) and ours > 0.9
    assert changed_answers(right, right) == []
    rows = changed_answers(run_of("vqav2", files, tmp_path / "c", Babbler("zzz")), right)
    assert [abs(row[2] - row[3]) for row in rows] == sorted((abs(row[2] - row[3]) for row in rows), reverse=True) and len(rows) == 2


def test_what_is_known_of_no_single_question_is_compared_by_replies(tmp_path: Path) -> None:
    """Withheld answers, and measures of all replies together."""
    for name, split in (("vqav2", "testdev"), ("odinw13", "valid")):
        files = files_of(name, tmp_path)
        ours = run_of(name, files, tmp_path / f"{name} a", split=split)
        theirs = run_of(name, files, tmp_path / f"{name} b", Babbler("zzz"), split=split)
        with pytest.raises(EvaluationError, match=f"{name}: .* is known of no single question"):
            paired(ours, theirs)
        assert len(changed_answers(ours, theirs)) == len(ours.predictions) and changed_answers(ours, ours) == []


def test_what_differs_between_two_runs_is_told_by_its_parts() -> None:
    one = {"model": "a", "prompt": {"version": "paper", "text": "x"}, "shots": {"count": 0}, "pixels": {"size": [4, 4]}}
    other = {"model": "b", "prompt": {"version": "paper", "text": "y"}, "shots": {"count": 0}, "pixels": {"max_pixels": 9}}
    assert what_differs(one, one) == []
    assert what_differs(one, other) == [
        ("model", "a", "b"), ("prompt.text", "x", "y"), ("pixels.max_pixels", None, 9), ("pixels.size", [4, 4], None),
    ]  # fmt: skip
