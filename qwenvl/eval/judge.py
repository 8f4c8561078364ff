"""A judge: a language model behind an address that says how good replies are, where no rule can.

What it is asked, and in which order, is a benchmark's own (`Rubric`). Verdicts are saved beside predictions and scored from there;
a round without a usable verdict is counted, and never scored. Requests and their replies are kept on disk by the client, so that
the same question is paid for once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from qwenvl.data.instruct.api import Api, RequestFailed
from qwenvl.data.instruct.run import in_order
from qwenvl.eval.task import EvaluationError, Prediction, Tally
from qwenvl.runtime import atomic_write

VERDICTS, JUDGE = "verdicts.jsonl", "judge.json"
AHEAD = 2
"""Requests waiting for each one at work."""
Messages = Sequence[dict[str, Any]]


class BadVerdict(ValueError):
    """What a judge said is no verdict: its message says why, without a number in it that would part alike ones."""


@dataclass(frozen=True, slots=True)
class Rubric:
    """How a judge is asked about one reply.

    rounds: a prediction -> the messages of each round; asked in several orders, a judge's liking for the first answer cancels out.
    read: (its words, the number of the round) -> the score of the model's reply; raises BadVerdict. options: fields of the request.
    """

    source: str
    rounds: Callable[[Prediction], Sequence[Messages]]
    read: Callable[[str, int], float]
    options: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one prediction: the score of each round, None where there is none; what the judge said; and why a round failed."""

    id: str
    scores: tuple[float | None, ...]
    said: tuple[str, ...]
    errors: tuple[str, ...] = ()


def judge(
    predictions: Sequence[Prediction],
    rubric: Rubric,
    api: Api,
    workers: int = 8,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Verdict]:
    """The verdicts in the order of the predictions. `advance` is told of each that is done.

    Raises ApiError where nothing more can be asked; what was asked until then is in the client's cache.
    """
    verdicts = []
    api.stopped.clear()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for verdict in in_order(pool, lambda prediction: _ask(prediction, rubric, api), predictions, workers * AHEAD):
                verdicts.append(verdict)
                advance(1)
        finally:
            api.stopped.set()  # what is at work is not tried again
    return verdicts


def _ask(prediction: Prediction, rubric: Rubric, api: Api) -> Verdict:
    scores: list[float | None] = []
    said, errors = [], []
    for number, messages in enumerate(rubric.rounds(prediction)):
        words = ""
        try:
            words = api.ask(messages, rubric.options).text
            scores.append(rubric.read(words, number))
        except (RequestFailed, BadVerdict) as error:
            scores.append(None)
            errors.append(error.reason if isinstance(error, RequestFailed) else str(error))
        said.append(words)
    return Verdict(prediction.id, tuple(scores), tuple(said), tuple(errors))


def save_verdicts(folder: Path, verdicts: Sequence[Verdict], rubric: Rubric, api: Api) -> dict[str, Any]:
    """Write verdicts.jsonl and, beside it, who judged, by which rubric, what failed and what it cost; returns the latter."""
    failed = Counter(error for verdict in verdicts for error in verdict.errors)
    about: dict[str, Any] = {
        "model": api.model, "url": api.url, "source": rubric.source, "options": dict(rubric.options), "judged": len(verdicts),
        "rounds": sum(len(verdict.scores) for verdict in verdicts), "failed": dict(sorted(failed.items())),
        "usage": api.usage.as_json(),
    }  # fmt: skip
    with atomic_write(folder / VERDICTS) as temporary:
        lines = (json.dumps(asdict(verdict), ensure_ascii=False) + "\n" for verdict in verdicts)
        temporary.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    with atomic_write(folder / JUDGE) as temporary:
        temporary.write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return about


def read_verdicts(folder: Path) -> dict[str, Verdict]:
    """The verdicts of a folder by the ids of predictions; none without a file. Raises EvaluationError naming file and line."""
    path, found = folder / VERDICTS, dict[str, Verdict]()
    if not path.exists():
        return {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            found[row["id"]] = Verdict(row["id"], tuple(row["scores"]), tuple(row["said"]), tuple(row["errors"]))
        except (ValueError, TypeError, KeyError) as error:
            raise EvaluationError(f"{path}:{number}: not a verdict ({error}); remove the file and judge again") from None
    return found


def with_verdicts(predictions: Sequence[Prediction], verdicts: Mapping[str, Verdict]) -> list[Prediction]:
    """The predictions, those that were judged with their scores in truth["verdict"]."""
    return [
        replace(prediction, truth=prediction.truth | {"verdict": list(verdicts[prediction.id].scores)})
        if prediction.id in verdicts
        else prediction
        for prediction in predictions
    ]


def verdict_tallies(prediction: Prediction, measure: str = "judge") -> dict[str, Tally]:
    """What a judged prediction earned: the sum of its rounds' scores over how many there are, and beside it the rounds that failed.
    Nothing where nobody judged it."""
    scores = prediction.truth.get("verdict")
    if not scores:
        return {}
    given = [score for score in scores if score is not None]
    failed = {f"{measure}_failed": (float(len(scores) - len(given)), float(len(scores)))}
    return ({measure: (sum(given), float(len(given)))} if given else {}) | failed
