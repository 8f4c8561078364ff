"""What is evaluated while a run goes on: the questions of `qwenvl eval run`, put to the model in memory and scored alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwenvl.config import ConfigError

if TYPE_CHECKING:
    from qwenvl.eval.asking import Answerer
    from qwenvl.eval.task import Prediction, Question, Scorer
    from qwenvl.families.spec import Markup
    from qwenvl.models.vlm import VisionLanguageModel
    from qwenvl.processing.encode import Processor
    from qwenvl.train.parallel import World
    from qwenvl.train.recipe import Recipe
    from qwenvl.train.sections import EvaluateRecipe
    from qwenvl.train.sight.evaluations import Evaluation, ShownAnswer
    from qwenvl.train.sight.watch import Evaluate

SEED = 2
"""Held-out scenes, others than those of `qwenvl eval run` (seed 1): recipes are not chosen by what they are measured by."""
BATCH = 64
SHOWN_TASKS = ("grounded_caption", "referring", "ocr_quad", "caption", "find_text", "count", "naming", "yes_no")
"""What is shown in the report, in this order: answers with places first."""


def evaluation_of(recipe: Recipe, processor: Processor, world: World) -> Evaluate | None:
    """What recipe.evaluate asks for, None where it asks for nothing; the model's processor is `processor`.

    Ranks that have the whole model share the questions out; ranks that have a part of it each answer all of them together. Raises
    ConfigError for an unknown task, for one whose files are missing and for layers that are cut among ranks, FontError where
    pictures cannot be drawn.
    """
    settings = recipe.evaluate
    if settings is None:
        return None
    if world.tensor > 1:
        raise ConfigError("evaluate: layers cut by parallel.tensor write no answers; leave evaluate out, or set parallel.tensor: 1")
    for name in settings.tasks:
        _check(name, settings)
    return InMemoryEvaluation(recipe, processor, world)


def _check(name: str, settings: EvaluateRecipe) -> None:
    from qwenvl.data.synth import fonts
    from qwenvl.eval.check_data import missing_files
    from qwenvl.eval.task import EvaluationError
    from qwenvl.eval.tasks import SCENES, benchmark_named

    if name == SCENES:
        fonts.require()
        return
    try:
        benchmark = benchmark_named(name)
    except EvaluationError as error:
        raise ConfigError(f"evaluate.tasks: {error}") from None
    split = benchmark.split(None)
    if missing := missing_files(benchmark, split, Path(settings.data) / name):
        raise ConfigError(f"evaluate.tasks: {missing}; see: qwenvl eval check {name} --data {settings.data}")
    if not benchmark.splits[split].answers:
        raise ConfigError(f"evaluate.tasks: {name} withholds the answers of {split}; take another")


@dataclass(frozen=True)
class Asked:
    """The questions of one task, in every evaluation the same, and how their predictions are scored: {measure: share}."""

    questions: Sequence[Question]
    score: Callable[[Sequence[Prediction]], Mapping[str, float]]
    chance: Callable[[Sequence[Prediction]], Mapping[str, float]]
    shown: Sequence[Question]


class InMemoryEvaluation:
    """The tasks of a recipe. Their questions are drawn or read once, at the first call."""

    def __init__(self, recipe: Recipe, processor: Processor, world: World) -> None:
        assert recipe.evaluate is not None
        self.recipe, self.settings, self.processor, self.world = recipe, recipe.evaluate, processor, world
        self.tasks: list[Asked] = []
        self.chance: dict[str, float] = {}

    def __call__(self, model: VisionLanguageModel, step: int) -> Evaluation:
        from qwenvl.eval.asking import ModelAnswerer
        from qwenvl.eval.tasks import SCENES
        from qwenvl.inference.model import QwenVL
        from qwenvl.train.build import CHAT_FORMATS
        from qwenvl.train.sight.evaluations import Evaluation

        parts, settings = self.processor, self.settings
        style = {"chat_format": CHAT_FORMATS[self.recipe.data.style]}
        answerer = ModelAnswerer(QwenVL(model, parts.spec, parts.markup, parts.tokenizer, style, self.recipe.name))
        if not self.tasks:
            self.tasks = [
                asked_of_scenes(settings, answerer) if name == SCENES else asked_of(name, settings, answerer)
                for name in settings.tasks
            ]
        first = not self.chance
        scores: dict[str, float] = {}
        answers: list[ShownAnswer] = []
        for task in self.tasks:
            predictions = self._ask(task.questions, answerer)
            if not self.world.leads:
                continue
            scores |= task.score(predictions)
            if first:
                self.chance |= task.chance(predictions)
            answered = {prediction.id: prediction for prediction in predictions}
            answers += [shown_answer(question, answered[question.id], parts.markup) for question in task.shown]
        return Evaluation(scores, self.chance, tuple(answers))

    def _ask(self, questions: Sequence[Question], answerer: Answerer) -> list[Prediction]:
        """The predictions of all ranks."""
        import torch

        from qwenvl.eval.runner import ask

        world, kind = self.world, self.world.device.type
        bf16 = self.recipe.train.precision == "bf16"
        with torch.autocast(kind, torch.bfloat16) if bf16 else nullcontext():
            if self.recipe.parallel.data == "fsdp":
                # Every forward pass brings weights together, so all ranks make the same ones.
                return ask(questions, answerer, BATCH)
            mine = ask(questions[world.data_rank :: world.data_size], answerer, BATCH)
        return [prediction for of_rank in world.gather(mine) for prediction in of_rank]


def asked_of_scenes(settings: EvaluateRecipe, answerer: Answerer) -> Asked:
    """The task `scenes` under its main condition, about pictures."""
    from qwenvl.eval.scorers.scenes import make_scorer
    from qwenvl.eval.tasks import scenes

    # Two languages are asked about every scene.
    limit = max(settings.limit // 2, 1)
    questions = scenes.main_questions(limit, SEED, answerer)
    scorer = make_scorer(scenes.settings(questions, limit, SEED, answerer))
    return Asked(
        questions,
        lambda predictions: mean_scores(predictions, scorer),
        lambda predictions: mean_chance(predictions, scorer),
        chosen(questions, settings.shown),
    )


def asked_of(name: str, settings: EvaluateRecipe, answerer: Answerer) -> Asked:
    """The first questions of a benchmark's first split, in the wording that fits the model. Measures are called NAME/MEASURE."""
    from qwenvl.eval.benchmark import questions
    from qwenvl.eval.scoring import score_benchmark
    from qwenvl.eval.tasks import benchmark_named
    from qwenvl.types import ImagePart

    benchmark = benchmark_named(name)
    version = benchmark.prompt(None, answerer.style)
    folder, split = Path(settings.data) / name, benchmark.split(None)
    asked = list(questions(benchmark, folder, split, version, answerer, limit=settings.limit))
    pictured = [question for question in asked if any(isinstance(part, ImagePart) for part in question.sample.images)]

    def score(predictions: Sequence[Prediction]) -> dict[str, float]:
        found = score_benchmark(benchmark, predictions, answerer.markup)
        return {f"{name}/{measure}": score.value for measure, score in found.items()}

    return Asked(asked, score, lambda predictions: {}, pictured[: settings.shown])


def mean_scores(predictions: Sequence[Prediction], scorer: Scorer) -> dict[str, float]:
    """Measure -> mean of the languages' scores."""
    from qwenvl.eval.report import MAIN
    from qwenvl.eval.task import score_all

    measures = score_all(predictions, scorer).get(MAIN, {})
    return {name: sum(score.value for score in of.values()) / len(of) for name, of in measures.items()}


def mean_chance(predictions: Sequence[Prediction], scorer: Scorer) -> dict[str, float]:
    """Measure -> mean over the languages of what one fixed answer earns. It depends on the questions alone."""
    from qwenvl.eval.report import MAIN
    from qwenvl.eval.task import chance_levels

    measures = chance_levels(predictions, scorer).get(MAIN, {})
    return {name: sum(of.values()) / len(of) for name, of in measures.items()}


def chosen(questions: Sequence[Question], count: int) -> list[Question]:
    """So many questions to show: of different tasks and scenes, in both languages by turns; the same in every evaluation."""

    def candidates() -> Iterator[Question]:
        for place in range(count):
            task, language = SHOWN_TASKS[place % len(SHOWN_TASKS)], ("en", "zh")[place % 2]
            alike = [question for question in questions if question.task == task and question.language == language]
            yield from alike[place % len(alike) :][:1] if alike else ()

    return list({question.id: question for question in candidates()}.values())


def shown_answer(question: Question, prediction: Prediction, markup: Markup) -> ShownAnswer:
    from qwenvl.data.outlines import regions_of
    from qwenvl.eval.task import frame_of
    from qwenvl.processing.image import open_image
    from qwenvl.processing.regions import read_regions
    from qwenvl.train.sight.evaluations import ShownAnswer

    *asked, reference = question.sample.messages
    return ShownAnswer(
        name=question.id,
        question=prediction.question,
        answer=prediction.reply,
        truth=prediction.reference,
        picture=open_image(question.sample.images[0].image),
        asked=tuple(region for message in asked for part in message.parts for region in regions_of(part)),
        true=tuple(region for part in reference.parts for region in regions_of(part)),
        answered=tuple(read_regions(prediction.reply, markup, frame=frame_of(prediction.truth))),
    )
