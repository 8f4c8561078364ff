"""What is evaluated while a run goes on: the questions of `qwenvl eval run`, put to the model in memory and scored alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
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
    from qwenvl.train.sight.evaluations import Evaluation, ShownAnswer
    from qwenvl.train.sight.watch import Evaluate

TASKS = ("scenes",)
SEED = 2
"""Held-out scenes, others than those of `qwenvl eval run` (seed 1): recipes are not chosen by what they are measured by."""
BATCH = 64
SHOWN_TASKS = ("grounded_caption", "referring", "ocr_quad", "caption", "find_text", "count", "naming", "yes_no")
"""What is shown in the report, in this order: answers with places first."""


def evaluation_of(recipe: Recipe, processor: Processor, world: World) -> Evaluate | None:
    """What recipe.evaluate asks for, None where it asks for nothing; the model's processor is `processor`.

    Ranks that have the whole model share the questions out; ranks that have a part of it each answer all of them together. Raises
    ConfigError for an unknown task and for layers that are cut among ranks, FontError where pictures cannot be drawn.
    """
    settings = recipe.evaluate
    if settings is None:
        return None
    if unknown := set(settings.tasks) - set(TASKS):
        raise ConfigError(f"evaluate.tasks: no task {', '.join(sorted(unknown))}; known: {', '.join(TASKS)}")
    if world.tensor > 1:
        raise ConfigError("evaluate: layers cut by parallel.tensor write no answers; leave evaluate out, or set parallel.tensor: 1")
    from qwenvl.data.synth import fonts

    fonts.require()
    return SceneEvaluation(recipe, processor, world)


class SceneEvaluation:
    """The task `scenes` under its main condition, about pictures. The questions are drawn once, at the first call."""

    def __init__(self, recipe: Recipe, processor: Processor, world: World) -> None:
        assert recipe.evaluate is not None
        self.recipe, self.settings, self.processor, self.world = recipe, recipe.evaluate, processor, world
        self.questions: list[Question] = []
        self.chance: dict[str, float] = {}
        self.scorer: Scorer | None = None

    def __call__(self, model: VisionLanguageModel, step: int) -> Evaluation:
        from qwenvl.eval.asking import ModelAnswerer
        from qwenvl.inference.model import QwenVL
        from qwenvl.train.build import CHAT_FORMATS
        from qwenvl.train.sight.evaluations import Evaluation

        parts = self.processor
        style = {"chat_format": CHAT_FORMATS[self.recipe.data.style]}
        answerer = ModelAnswerer(QwenVL(model, parts.spec, parts.markup, parts.tokenizer, style, self.recipe.name))
        if not self.questions:
            self._draw(answerer)
        predictions = self._ask(answerer)
        if not self.world.leads:
            return Evaluation({})
        assert self.scorer is not None
        self.chance = self.chance or mean_chance(predictions, self.scorer)
        shown = chosen(self.questions, self.settings.shown)
        answered = {prediction.id: prediction for prediction in predictions}
        return Evaluation(
            mean_scores(predictions, self.scorer),
            self.chance,
            tuple(shown_answer(question, answered[question.id], parts.markup) for question in shown),
        )

    def _draw(self, answerer: Answerer) -> None:
        from qwenvl.eval.scorers.scenes import make_scorer
        from qwenvl.eval.tasks import scenes

        # Two languages are asked about every scene.
        limit = max(self.settings.limit // 2, 1)
        self.questions = scenes.main_questions(limit, SEED, answerer)
        self.scorer = make_scorer(scenes.settings(self.questions, limit, SEED, answerer))

    def _ask(self, answerer: Answerer) -> list[Prediction]:
        """The predictions of all ranks."""
        import torch

        from qwenvl.eval.runner import ask

        world, kind = self.world, self.world.device.type
        bf16 = self.recipe.train.precision == "bf16"
        with torch.autocast(kind, torch.bfloat16) if bf16 else nullcontext():
            if self.recipe.parallel.data == "fsdp":
                # Every forward pass brings weights together, so all ranks make the same ones.
                return ask(self.questions, answerer, BATCH)
            mine = ask(self.questions[world.data_rank :: world.data_size], answerer, BATCH)
        return [prediction for of_rank in world.gather(mine) for prediction in of_rank]


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
