"""Asking and scoring, apart: replies are saved as they come, and scored from what was saved.

A run's folder holds run.json (what was asked of what, with hashes and versions), predictions.jsonl (one `Prediction` a line; while
it goes on, one file of each process) and scores.json. Started again with the same settings, a run asks only what has no line yet;
scoring needs no model.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from qwenvl.eval.asking import Answerer
from qwenvl.eval.report import summary
from qwenvl.eval.task import Answer, Decoding, EvaluationError, Prediction, Question, Scorer, chance_levels, frame_of, score_all
from qwenvl.families.preprocessor import RULE_FILES
from qwenvl.families.spec import Markup
from qwenvl.processing.regions import parts_text
from qwenvl.runtime import atomic_write
from qwenvl.types import Message

PREDICTIONS, RUN, SCORES = "predictions.jsonl", "run.json", "scores.json"
PART = "predictions.part"
RUNTIME_KEYS = ("versions", "folder")
"""Parts of run.json that may differ when a run is taken up again: they are recorded, not compared."""

FINGERPRINT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Share:
    """Which of the questions are this process's own. `wait` returns when all processes have come to it."""

    rank: int = 0
    size: int = 1
    wait: Callable[[], None] = lambda: None


def predict(
    questions: Sequence[Question], model: Answerer, folder: Path, batch: int, advance: Callable[[int], None] = lambda count: None,
    share: Share = Share(),
) -> list[Prediction]:  # fmt: skip
    """Ask what has no saved reply yet, or an error in its place, and return all predictions in the order of `questions`.

    Each batch is written as soon as it is answered, to a file of this process's own, so that an interrupted run loses one batch at
    most. When all is answered the first process joins the files into one, in the order of `questions`, whatever was asked when and
    by whom. `advance` is told how many questions have just been settled, the ones found saved first.
    """
    if len({question.id for question in questions}) != len(questions):
        raise EvaluationError("two questions have the same id; their predictions would be mistaken for each other")
    saved = {prediction.id for prediction in read_predictions(folder) if not prediction.error}
    own = questions[share.rank :: share.size]
    advance(sum(question.id in saved for question in own))
    left = [question for question in own if question.id not in saved]
    share.wait()  # nobody writes while another still reads
    if left:
        part = folder / f"{PART}{share.rank}.jsonl"
        _cut_torn_line(part)
        with open(part, "a", encoding="utf-8") as file:
            for group in batches(left, batch, model.markup):
                for prediction in _answer(group, model):
                    file.write(json.dumps(prediction.to_json(), ensure_ascii=False) + "\n")
                file.flush()
                advance(len(group))
    share.wait()
    if share.rank == 0:
        join_parts(folder, questions)
    share.wait()
    found = {prediction.id: prediction for prediction in read_predictions(folder)}
    return [found[question.id] for question in questions]


def join_parts(folder: Path, questions: Sequence[Question]) -> None:
    """Make one file of what all processes wrote. Predictions of other questions than these are kept, behind them."""
    parts = sorted(folder.glob(f"{PART}*.jsonl"))
    if not parts:
        return
    found = {prediction.id: prediction for prediction in read_predictions(folder)}
    order = dict.fromkeys([*(question.id for question in questions if question.id in found), *found])
    with atomic_write(folder / PREDICTIONS) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for name in order:
            file.write(json.dumps(found[name].to_json(), ensure_ascii=False) + "\n")
    for part in parts:
        part.unlink()


def ask(questions: Sequence[Question], model: Answerer, batch: int) -> list[Prediction]:
    """Like `predict`, saving nothing."""
    groups = batches(questions, batch, model.markup)
    answered = {prediction.id: prediction for group in groups for prediction in _answer(group, model)}
    return [answered[question.id] for question in questions]


def _answer(group: Sequence[Question], model: Answerer) -> list[Prediction]:
    return [to_prediction(question, answer, model.markup) for question, answer in zip(group, model.answer(group), strict=True)]


def batches(questions: Sequence[Question], size: int, markup: Markup | None = None) -> Iterator[list[Question]]:
    """Batches of one way of decoding each, of questions and expected answers of like length, so that short ones do not wait."""
    if size < 1:
        raise EvaluationError(f"batch size {size}: give 1 or more")

    def alike(question: Question) -> tuple[str, str]:
        return repr(question.decoding), f"{question.style} {question.numbered}"

    def length(question: Question) -> tuple[int, tuple[str, str], str, int, str]:
        words = plain_text(question.sample.messages, markup, frame_of(question.truth))
        return question.decoding.max_new_tokens, alike(question), question.task, len(words), question.id

    pending: list[Question] = []
    for question in sorted(questions, key=length):
        if pending and (len(pending) == size or alike(pending[0]) != alike(question)):
            yield pending
            pending = []
        pending.append(question)
    if pending:
        yield pending


def to_prediction(question: Question, answer: Answer, markup: Markup) -> Prediction:
    *asked, reference = question.sample.messages
    frame = frame_of(question.truth)
    return Prediction(
        id=question.id,
        task=question.task,
        condition=question.condition,
        language=question.language,
        question=plain_text(asked, markup, frame).strip(),
        reference=plain_text([reference], markup, frame).strip(),
        reply=answer.text,
        finish_reason=answer.finish_reason,
        truth=question.truth,
        decoding=told(question.decoding),
        **{name: getattr(answer, name) for name in OF_ANSWERS},
    )


OF_ANSWERS = ("ranked", "prompt", "prompt_tokens", "image_tokens", "reply_tokens", "pixels", "seconds", "error")


def told(decoding: Decoding) -> str:
    """How answers were drawn, in a few words."""
    if decoding.rank:
        return "options ranked by mean log-likelihood"
    drawn: dict[str, Any] = {"temperature": decoding.temperature, "top_p": decoding.top_p, "min": decoding.min_new_tokens or None}
    drawn |= {"begin": decoding.begin or None, "stop": list(decoding.stop) or None}
    how = "greedy" if decoding.temperature is None and decoding.top_p is None else "sampled"
    more = [f"{name}={value}" for name, value in drawn.items() if value is not None]
    return " ".join([how, f"max={decoding.max_new_tokens}", *more])


def plain_text(messages: Sequence[Message], markup: Markup | None = None, frame: tuple[int, int] | None = None) -> str:
    """The messages' words; regions as `markup` writes them (in pixels of `frame`, where it does), pictures left out."""
    frames = {0: frame} if frame else {}
    return "".join(parts_text(message.parts, markup or Markup(), frames) for message in messages)


def open_run(folder: Path, settings: dict[str, Any]) -> None:
    """Write run.json, or check that the one there asks the same of the same model. Raises EvaluationError if it does not."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUN
    if path.exists():
        before = read_run(folder)
        now = json.loads(json.dumps(settings))
        for key in sorted((now.keys() | before.keys()) - set(RUNTIME_KEYS)):
            if now.get(key) != before.get(key):
                raise EvaluationError(f"{folder} holds another evaluation ({key} differs); give another --out, or remove it")
    elif read_predictions(folder):
        raise EvaluationError(f"{folder} holds predictions but no {RUN}; give another --out, or remove it")
    else:
        write_json(path, settings)


def score_run(folder: Path, make_scorer: Callable[[dict[str, Any]], Scorer]) -> dict[str, Any]:
    """Score the predictions of a folder and save the summary as scores.json there; returns the summary (see report.py)."""
    run, predictions = read_run(folder), read_predictions(folder)
    if not predictions:
        raise EvaluationError(f"{folder}: no predictions there yet; run the evaluation first")
    scorer = make_scorer(run)
    result = summary(run, score_all(predictions, scorer), chance_levels(predictions, scorer)) | {"answered": len(predictions)}
    write_json(folder / SCORES, result)
    return result


def read_run(folder: Path) -> dict[str, Any]:
    try:
        run: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EvaluationError(f"{folder}: no {RUN} there; give the folder of an evaluation") from None
    except json.JSONDecodeError as error:
        raise EvaluationError(f"{folder / RUN}: not valid JSON ({error})") from None
    return run


def read_predictions(folder: Path) -> list[Prediction]:
    """The saved predictions, those of all processes, one of each id; none where there is no file."""
    paths = [path for path in (folder / PREDICTIONS, *sorted(folder.glob(f"{PART}*.jsonl"))) if path.exists()]
    return list({prediction.id: prediction for path in paths for prediction in _read(path)}.values())


def _cut_torn_line(path: Path) -> None:
    """Remove a last line that a kill has torn. Only for who writes the file: what looks torn to another may be half written."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _read(path: Path) -> list[Prediction]:
    """Without a last line that a kill has torn: it is asked again."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    predictions = []
    for number, line in enumerate(whole.decode("utf-8").split("\n")[:-1], start=1):
        try:
            predictions.append(Prediction(**json.loads(line)))
        except (json.JSONDecodeError, TypeError) as error:
            raise EvaluationError(f"{path}:{number}: not a prediction ({error}); remove the line to have it asked again") from None
    return predictions


def write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def fingerprint(folder: Path) -> dict[str, str]:
    """Short SHA-256 of a model folder's files that decide its answers: {"config", "vocabulary", "weights"}.

    Of each weight file its name, size, first and last MiB: enough to tell two trainings apart, quick on a 20 GB checkpoint.
    """
    groups = {
        "config": ("config.json", "generation_config.json", *RULE_FILES),
        "vocabulary": ("tokenizer.json", "qwen.tiktoken", "vocab.json", "merges.txt", "tokenizer_config.json"),
        "weights": ("*.safetensors", "*.bin"),
    }
    prints = {}
    for group, patterns in groups.items():
        digest = hashlib.sha256()
        for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
            size = path.stat().st_size
            digest.update(f"{path.name}:{size}".encode())
            with open(path, "rb") as file:
                digest.update(file.read(FINGERPRINT_BYTES))
                file.seek(max(size - FINGERPRINT_BYTES, 0))
                digest.update(file.read(FINGERPRINT_BYTES))
        prints[group] = digest.hexdigest()[:12]
    return prints


def versions(*packages: str) -> dict[str, str]:
    """Of Python and of packages; a package that is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
