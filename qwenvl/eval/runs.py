"""A run of a benchmark: what its folder says of it, and how it is scored again from that alone."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from qwenvl.data.places import markup_record
from qwenvl.eval.asking import Answerer
from qwenvl.eval.benchmark import Benchmark, Shots, prompt_hash
from qwenvl.eval.judge import read_verdicts, with_verdicts
from qwenvl.eval.runner import SCORES, read_predictions, read_run, told, write_json
from qwenvl.eval.scoring import score_benchmark, score_groups
from qwenvl.eval.task import EvaluationError, Prediction, Question, Score, Tally
from qwenvl.eval.tasks import benchmark_named
from qwenvl.families.spec import Markup

PUBLISHED = Path(__file__).with_name("published.yaml")


def settings(
    benchmark: Benchmark, split: str, version: str, asked: Sequence[Question], answerer: Answerer, shots: Shots, limit: int | None
) -> dict[str, Any]:
    """What run.json says: enough to repeat the run, to compare two of them, and to score without a model.

    `key` is a hash of all that decides a score: wording, decoding, pixel budget, examples, data and benchmark version; with the
    weights' own it names the run.
    """
    prompt = benchmark.prompts[version]
    decided = {
        "task": benchmark.name,
        "version": benchmark.version,
        "split": split,
        "prompt": {"version": version, "hash": prompt_hash(prompt), "text": prompt.text, "source": prompt.source},
        "decoding": told(prompt.decoding),
        "style": prompt.style,
        "shots": {"count": shots.count, "seed": shots.seed},
        "pixels": pixel_budget(answerer, asked),
        "data": data_hash(asked),
    }
    key = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:12]
    cut = None if limit is None or len(asked) < limit else limit
    return decided | {"key": key, "limit": cut, "questions": len(asked), "markup": markup_record(answerer.markup)}


def pixel_budget(answerer: Answerer, asked: Sequence[Question]) -> dict[str, Any]:
    """How the model sees pictures, and clips where some are asked about: its family's rules, or those of its own files."""
    images, videos = answerer.spec.images, answerer.spec.videos
    rules: dict[str, Any] = {name: value for name, value in asdict(images).items() if isinstance(value, int | float | str)}
    if images.kind == "square":
        rules["size"] = list(answerer.frame((1000, 1000)))
    clips = any(len(question.sample.visuals) > len(question.sample.images) for question in asked)
    return rules | ({"videos": asdict(videos)} if clips and videos is not None else {})


def data_hash(asked: Sequence[Question]) -> str:
    """Of all items that were asked, in any order."""
    return hashlib.sha256("".join(sorted(question.digest for question in asked)).encode()).hexdigest()[:12]


def markup_of(run: Mapping[str, Any]) -> Markup:
    saved: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in run["markup"].items()}
    return Markup(**saved)


@dataclass(frozen=True)
class ScoredRun:
    """A run's folder, read and scored."""

    folder: Path
    run: Mapping[str, Any]
    predictions: Sequence[Prediction]
    scores: Mapping[str, Score]
    groups: Mapping[str, Mapping[str, Score]]

    @property
    def benchmark(self) -> Benchmark:
        return benchmark_named(self.run["task"])

    @property
    def name(self) -> str:
        """The benchmark's; another where only its form is, so that nothing published stands beside the number."""
        return f"{self.benchmark.name} (drawn)" if self.run.get("drawn") else self.benchmark.name

    @property
    def called(self) -> str:
        """The model, and how many examples it was shown."""
        shots = self.run["shots"]["count"]
        return f"{self.run['model']}, {shots} shot{'s' * (shots > 1)}" if shots else str(self.run["model"])

    @property
    def main(self) -> Score | None:
        """The measure that stands beside the published number; None where answers are withheld."""
        return self.scores.get(self.benchmark.measure)

    @property
    def published(self) -> float | None:
        return published_score(self.run["model"], self.name, self.run["split"])

    @cached_property
    def points(self) -> dict[str, Tally]:
        """Prediction id -> what it earned of what it could under the benchmark's measure. Empty where answers are withheld, and for
        a measure that is no sum over replies."""
        if not self.benchmark.splits[self.run["split"]].answers:
            return {}
        markup, measure = markup_of(self.run), self.benchmark.measure
        found = {one.id: self.benchmark.score(one, markup).get(measure) for one in self.predictions}
        return {name: tally for name, tally in found.items() if tally is not None}

    @property
    def complete(self) -> bool:
        return len(self.predictions) == self.run["questions"]

    @property
    def failed(self) -> int:
        return sum(bool(prediction.error) for prediction in self.predictions)

    def to_json(self) -> dict[str, Any]:
        scale = self.benchmark.scale
        return {
            **{name: value for name, value in self.run.items() if name != "markup"},
            "measure": self.benchmark.measure,
            "scale": scale,
            "answered": len(self.predictions),
            "failed": self.failed,
            "published": self.published,
            "scores": _plain(self.scores),
            "groups": {group: _plain(found) for group, found in self.groups.items()},
        }


def _plain(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {measure: score.to_json() for measure, score in scores.items()}


def told_apart(runs: Sequence[ScoredRun]) -> dict[Path, str]:
    """Folder -> what its run is called among these: the model and its examples; where two of one split share that, the wording too;
    where they share this as well, the folder's name."""
    names = {run.folder: run.called for run in runs}
    for longer in (lambda run: f"{run.called}, {run.run['prompt']['version']}", lambda run: run.folder.name):
        alike = Counter((run.name, run.run["split"], names[run.folder]) for run in runs)
        names |= {run.folder: longer(run) for run in runs if alike[run.name, run.run["split"], names[run.folder]] > 1}
    return names


def score_folder(folder: Path) -> ScoredRun:
    """Score what a run's folder holds and write scores.json there. Raises EvaluationError for a folder that holds no run, or none
    of the questions answered."""
    run = read_run(folder)
    benchmark, predictions = benchmark_named(run["task"]), with_verdicts(read_predictions(folder), read_verdicts(folder))
    if not predictions:
        raise EvaluationError(f"{folder}: no predictions there yet; run the evaluation first")
    if run["version"] != benchmark.version:
        made = f"made by version {run['version']} of {benchmark.name}, scored by {benchmark.version}"
        raise EvaluationError(f"{folder}: {made}; ask it again in another folder")
    withheld = not benchmark.splits[run["split"]].answers
    markup = markup_of(run)
    scores = {} if withheld else score_benchmark(benchmark, predictions, markup)
    groups = {} if withheld else score_groups(benchmark, predictions, markup)
    scored = ScoredRun(folder, run, predictions, scores, groups)
    write_json(folder / SCORES, scored.to_json())
    return scored


def write_submission(scored: ScoredRun) -> list[Path]:
    """The files that the benchmark's server takes, where it withholds the answers. Raises EvaluationError before all are there."""
    benchmark = scored.benchmark
    if benchmark.submit is None:
        return []
    if not scored.complete:
        left = scored.run["questions"] - len(scored.predictions)
        raise EvaluationError(f"{scored.folder}: {left} questions have no answer yet; go on with the run before it is handed in")
    written = []
    for name, content in benchmark.submit(scored.predictions).items():
        path = scored.folder / name
        path.write_bytes(content)
        written.append(path)
    return written


@cache
def published() -> dict[str, dict[str, Any]]:
    """Model -> benchmark -> number, or split, measure or setting -> number."""
    scores: dict[str, dict[str, Any]] = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))["scores"]
    return scores


def published_score(model: str, benchmark: str, split: str) -> float | None:
    """Of a model by its published name, whatever stands before the name ("Qwen/Qwen2-VL-7B-Instruct" is Qwen2-VL-7B): that of the
    split, or, where a benchmark of one split has several measures published, that of its main one."""
    known = published()
    name = model.rsplit("/", 1)[-1].lower()
    name = name.removesuffix("-instruct")
    found = next((scores for label, scores in known.items() if label.lower() == name), {}).get(benchmark)
    if isinstance(found, dict):
        found = found[split] if split in found else found.get(benchmark_named(benchmark).measure)
    return None if found is None else float(found)
