"""Rows from synthetic scenes: a picture, questions about it, encoded and packed to a row's budget."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from qwenvl.config import ConfigError
from qwenvl.data.loader import SCENES_PER_ROW, Row, row_generator
from qwenvl.data.mixture import DataRecipe, TokenWeights, draw, draw_language, draw_scenes, jitter_regions, tasks_of
from qwenvl.data.packing import interleave, isolate, prefix_length, share_prefix
from qwenvl.data.synth.dense import dense_targets
from qwenvl.data.synth.scene import Scene, generate_scene
from qwenvl.data.synth.spec import SceneSpec
from qwenvl.data.tasks import TASKS, questions, two_picture_dialogue
from qwenvl.processing.encode import Processor, ReadyPicture
from qwenvl.types import Encoded, ImagePart, Sample

MISSES = 4
"""Questions one after another that do not fit before a row counts as full."""


class SceneRows:
    """RowSource over scenes. `dense`: also give every patch its class and box."""

    def __init__(self, recipe: DataRecipe, processor: Processor, dense: bool = False) -> None:
        self.recipe, self.processor, self.dense = recipe, processor, dense
        self.tasks = tasks_of(recipe)
        _check_tasks(recipe, self.tasks)
        self.weights = TokenWeights(recipe.loss, processor.tokenizer, processor.markup)
        self.jitter = recipe.box_jitter / processor.config.vision.image_size
        self.grid = processor.config.vision.image_size // processor.config.vision.patch_size

    def row(self, seed: int, epoch: int, index: int) -> Row:
        rng = row_generator(seed, epoch, index)
        scenes = _Scenes(seed, index * SCENES_PER_ROW)
        kind = rng.random()
        if kind < self.recipe.text_rows:
            return self._finish([self._texts(rng)], [])
        if kind < self.recipe.text_rows + self.recipe.pair_rows:
            return self._pair(scenes, rng)
        if self.recipe.packing in ("interleave", "isolate"):
            return self._neighbours(scenes, rng)
        group = draw_scenes(self.recipe, rng)
        scene = scenes.next(group.spec)
        picture = self.processor.ready(ImagePart(scene.image))
        if self.recipe.packing == "pictures":
            return self._finish([_picture_alone(picture)], [scene])
        return self._finish([self._about(scene, picture, group.tasks or self.recipe.tasks, rng)], [scene])

    def _about(self, scene: Scene, picture: ReadyPicture, tasks: dict[str, float], rng: np.random.Generator) -> Encoded:
        """Questions about one picture, drawn by weight until nothing more fits behind it. The first one always fits, whatever its
        length, or long answers would never be taught."""
        taken: list[Encoded] = []
        asked: set[str] = set()
        room = {task: self.recipe.per_picture.get(task, 1) for task in tasks}
        left, misses = self.recipe.row_tokens, 0
        while misses < MISSES and (open_tasks := {task: tasks[task] for task in tasks if room[task]}):
            task = draw(open_tasks, rng)
            sample = self._question(scene, task, rng, asked)
            if sample is None:
                room[task] = 0
                continue
            encoded = self._encode(sample, rng, [picture])
            length = len(encoded) - prefix_length(encoded)
            if taken and length > left:
                misses += 1
                continue
            taken.append(self._weighted(encoded))
            asked.add(_said(sample))
            room[task] -= 1
            left, misses = left - length, 0
        if not taken:
            raise ConfigError(f"data.tasks: scene {scene.seed}/{scene.index} allows none of {', '.join(tasks)}; add caption")
        return share_prefix(taken)

    def _question(self, scene: Scene | None, task: str, rng: np.random.Generator, asked: Collection[str] = ()) -> Sample | None:
        """One of the task's questions that is not asked yet, or None where the scene has none (left)."""
        found = questions(scene, task, draw_language(self.recipe, rng), self.recipe.style, rng)
        return next((sample for sample in found if _said(sample) not in asked), None)

    def _encode(self, sample: Sample, rng: np.random.Generator, pictures: list[ReadyPicture]) -> Encoded:
        return self.processor.encode(jitter_regions(sample, self.jitter, rng), self.recipe.style, pictures=pictures)

    def _weighted(self, encoded: Encoded) -> Encoded:
        return encoded.with_(loss_weights=self.weights.of(encoded))

    def _neighbours(self, scenes: _Scenes, rng: np.random.Generator) -> Row:
        """One sample about each of several scenes: of one task and joined to one document (interleave), or of any (isolate)."""
        joins = self.recipe.packing == "interleave"
        group = draw_scenes(self.recipe, rng)
        tasks = group.tasks or self.recipe.tasks
        if joins:
            tasks = {draw(tasks, rng): 1.0}
        found: list[tuple[Scene, Encoded]] = []
        left = self.recipe.row_tokens
        while left > 0 and scenes.left:
            scene = scenes.next(group.spec)
            sample = self._question(scene, draw(tasks, rng), rng)
            if sample is not None:
                encoded = self._encode(sample, rng, [self.processor.ready(ImagePart(scene.image))])
                found.append((scene, self._weighted(encoded)))
                left -= len(encoded)
        if not found:
            raise ConfigError(f"data.tasks: {SCENES_PER_ROW} scenes allow none of {', '.join(tasks)}; change one of them")
        taken = isolate([encoded for _, encoded in found], self.recipe.row_tokens)
        documents = [interleave(taken, self.recipe.row_tokens)] if joins else taken
        return self._finish(documents, [scene for scene, _ in found[: len(taken)]])

    def _texts(self, rng: np.random.Generator) -> Encoded:
        """Texts without a picture, none of which sees another, until the next one does not fit."""
        found: list[Encoded] = []
        left = self.recipe.row_tokens
        while sample := self._question(None, "text", rng):
            encoded = self._encode(sample, rng, [])
            if found and len(encoded) > left:
                break
            found.append(self._weighted(encoded))
            left -= len(encoded)
        return share_prefix(found)

    def _pair(self, scenes: _Scenes, rng: np.random.Generator) -> Row:
        """A conversation about two pictures."""
        spec = draw_scenes(self.recipe, rng).spec
        first, second = scenes.next(spec), scenes.next(spec)
        sample = two_picture_dialogue(first, second, draw_language(self.recipe, rng), rng)
        pictures = [self.processor.ready(part) for part in sample.images]
        return self._finish([self._weighted(self._encode(sample, rng, pictures))], [first, second])

    def _finish(self, documents: list[Encoded], scenes: list[Scene]) -> Row:
        """`scenes`: those of the documents' pictures, in order."""
        if not self.dense:
            return Row(documents)
        dense = [dense_targets(scene, self.grid) for scene in scenes]
        classes = [np.empty(0, np.int64), *(classes for classes, _ in dense)]
        boxes = [np.empty((0, 4), np.float32), *(boxes for _, boxes in dense)]
        return Row(documents, {"patch_classes": np.concatenate(classes), "patch_boxes": np.concatenate(boxes)})


@dataclass(slots=True)
class _Scenes:
    """The scenes of one row: numbers that no other row has."""

    seed: int
    number: int
    left: int = SCENES_PER_ROW

    def next(self, spec: SceneSpec) -> Scene:
        scene = generate_scene(spec, self.seed, self.number)
        self.number += 1
        self.left -= 1
        return scene


def _check_tasks(recipe: DataRecipe, drawn: Collection[str]) -> None:
    """Raise ConfigError for a name that is no task of scenes, or where nothing could be drawn."""
    for key, names in (("tasks", drawn), ("per_picture", recipe.per_picture), ("loss.tasks", recipe.loss.tasks)):
        for name in names:
            if name not in TASKS:
                close = get_close_matches(name, TASKS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(TASKS)}"
                raise ConfigError(f"data.{key}: {name!r} is not a task of scenes; {hint}")
    if recipe.packing == "pictures" or recipe.text_rows + recipe.pair_rows >= 1:
        return
    if not all(sum((scenes.tasks or recipe.tasks).values()) for scenes in recipe.scenes):
        raise ConfigError("data.tasks: name at least one task with a weight above 0")


def _said(sample: Sample) -> str:
    """What a question says, so that it is not put twice."""
    return f"{sample.task} {sample.extra.get('question')} {sample.extra.get('answer')}"


def _picture_alone(picture: ReadyPicture) -> Encoded:
    patches, grid, size = picture
    none = np.empty(0, np.int64)
    grids = np.array([grid], np.int64)
    return Encoded(none, none, np.empty((3, 0), np.int64), patches, grids, none, image_sizes=(size,))
