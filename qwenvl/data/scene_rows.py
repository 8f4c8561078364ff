"""Rows from synthetic scenes and clips: a picture, questions about it, encoded and packed to a row's budget."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from qwenvl.config import ConfigError, VisionConfig
from qwenvl.data.clips import CLIP_TASKS, clip_questions
from qwenvl.data.jitter import jitter_regions
from qwenvl.data.loader import SCENES_PER_ROW, Row, row_generator
from qwenvl.data.packing import interleave, isolate, prefix_length, share_prefix
from qwenvl.data.places import for_markup, has_points
from qwenvl.data.scene_recipe import SceneRecipe, draw, draw_language, draw_scenes, tasks_of
from qwenvl.data.synth.clip import Clip, ClipSpec, clip_targets, generate_clip
from qwenvl.data.synth.dense import dense_targets
from qwenvl.data.synth.scene import Scene, generate_scene
from qwenvl.data.synth.spec import SceneSpec
from qwenvl.data.tasks import POINTING, TASKS, questions, two_picture_dialogue
from qwenvl.data.token_weights import TokenWeights
from qwenvl.processing.clip_rules import draw_fps
from qwenvl.processing.encode import Processor, ReadyPicture
from qwenvl.processing.grid import frame_size, window_plan
from qwenvl.processing.video import Clip as VideoClip
from qwenvl.processing.video import open_clip
from qwenvl.types import Encoded, ImagePart, Sample, VideoPart

MISSES = 4
"""Questions one after another that do not fit before a row counts as full."""


class SceneRows:
    """RowSource over scenes and clips. `dense`: also give every patch its class and box."""

    def __init__(self, recipe: SceneRecipe, processor: Processor, dense: bool = False) -> None:
        self.recipe, self.processor, self.dense = recipe, processor, dense
        self.tasks = tasks_of(recipe)
        _check_tasks(recipe)
        _check_family(recipe, self.tasks, processor)
        self.weights = TokenWeights(recipe.loss, processor.tokenizer, processor.markup)

    def row(self, seed: int, epoch: int, index: int) -> Row:
        rng = row_generator(seed, epoch, index)
        scenes = _Scenes(seed, index * SCENES_PER_ROW)
        kind = rng.random()
        if kind < self.recipe.text_rows:
            return self._finish([self._texts(rng)], [])
        if kind < self.recipe.text_rows + self.recipe.pair_rows:
            return self._pair(scenes, rng)
        if kind < self.recipe.text_rows + self.recipe.pair_rows + self.recipe.clip_rows:
            return self._clip(scenes, rng)
        if self.recipe.packing in ("interleave", "isolate"):
            return self._neighbours(scenes, rng)
        group = draw_scenes(self.recipe, rng)
        scene = scenes.next(group.spec)
        picture = self.processor.ready(ImagePart(scene.image))
        return self._alone(scene, picture, group.tasks or self.recipe.tasks, rng)

    def _alone(self, shown: Scene | Clip, picture: ReadyPicture, tasks: dict[str, float], rng: np.random.Generator) -> Row:
        if self.recipe.packing == "pictures":
            return self._finish([_picture_alone(picture, self.processor.config.vision)], [shown])
        return self._finish([self._about(shown, picture, tasks, rng)], [shown])

    def _about(self, shown: Scene | Clip, picture: ReadyPicture, tasks: dict[str, float], rng: np.random.Generator) -> Encoded:
        """Questions about one picture, drawn by weight until nothing more fits behind it. The first one always fits, whatever its
        length, or long answers would never be taught."""
        taken: list[Encoded] = []
        asked: set[str] = set()
        room = {task: self.recipe.per_picture.get(task, 1) for task in tasks}
        left, misses = self.recipe.row_tokens, 0
        while misses < MISSES and (open_tasks := {task: tasks[task] for task in tasks if room[task]}):
            task = draw(open_tasks, rng)
            sample = self._question(shown, task, rng, asked)
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
            what = type(shown).__name__.lower()
            raise ConfigError(f"data.tasks: {what} {shown.seed}/{shown.index} allows none of {', '.join(tasks)}; add a caption")
        return share_prefix(taken)

    def _question(
        self, shown: Scene | Clip | None, task: str, rng: np.random.Generator, asked: Collection[str] = ()
    ) -> Sample | None:
        """One of the task's questions that is not asked yet, or None where the scene or clip has none (left)."""
        language = draw_language(self.recipe, rng)
        if isinstance(shown, Clip):
            found = clip_questions(shown, task, language, self.recipe.style, rng)
        else:
            found = questions(shown, task, language, self.recipe.style, rng)
        return next((sample for sample in found if _said(sample) not in asked), None)

    def _encode(self, sample: Sample, rng: np.random.Generator, pictures: list[ReadyPicture]) -> Encoded:
        """`pictures`: the sample's, made ready. Places are written as the family writes them."""
        frames = [frame_size(picture.grid, self.processor.config.vision.patch_size) for picture in pictures]
        moved = jitter_regions(for_markup(sample, self.processor.markup), self.recipe.box_jitter, frames, rng)
        return self.processor.encode(moved, self.recipe.style, pictures=pictures)

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

    def _clip(self, scenes: _Scenes, rng: np.random.Generator) -> Row:
        """Questions about one clip, as its sampled frames show it. Nothing may happen to be in them: then the next one is taken."""
        fps = draw_fps(rng) if self.recipe.clip_fps == "drawn" else self.recipe.clip_fps
        clip, video = self._sampled(scenes, fps)
        while scenes.left and not any(track.seen for track in clip.tracks):
            clip, video = self._sampled(scenes, fps)
        return self._alone(clip, video.read(), self.recipe.clip_tasks, rng)

    def _sampled(self, scenes: _Scenes, fps: float) -> tuple[Clip, VideoClip]:
        """The next clip with those of its frames that the family's rules leave, and the same as it is going to be read."""
        clip = scenes.next_clip(self.recipe.clips, fps)
        video = open_clip(self.processor.config, self.processor.spec, VideoPart(list(clip.frames), fps=clip.fps))
        return clip.sampled(video.times), video

    def _finish(self, documents: list[Encoded], shown: Sequence[Scene | Clip]) -> Row:
        """`shown`: what the documents' pictures and clips show, in order."""
        if not self.dense:
            return Row(documents)
        grids = [grid for document in documents for grid in document.grids.tolist()]
        dense = [_targets(what, grid, self.processor.config.vision) for what, grid in zip(shown, grids, strict=True)]
        classes = [np.empty(0, np.int64), *(classes for classes, _ in dense)]
        boxes = [np.empty((0, 4), np.float32), *(boxes for _, boxes in dense)]
        return Row(documents, {"patch_classes": np.concatenate(classes), "patch_boxes": np.concatenate(boxes)})


@dataclass(slots=True)
class _Scenes:
    """The scenes and clips of one row: numbers that no other row has."""

    seed: int
    number: int
    left: int = SCENES_PER_ROW

    def next(self, spec: SceneSpec) -> Scene:
        scene = generate_scene(spec, self.seed, self.number)
        self._count()
        return scene

    def next_clip(self, spec: ClipSpec, fps: float) -> Clip:
        clip = generate_clip(spec, self.seed, self.number, fps)
        self._count()
        return clip

    def _count(self) -> None:
        self.number += 1
        self.left -= 1


def _targets(shown: Scene | Clip, grid: Sequence[int], vision: VisionConfig) -> tuple[np.ndarray, np.ndarray]:
    """Classes (P,) and boxes (P, 4) of the patches of one picture or clip."""
    time, rows, columns = grid
    if isinstance(shown, Clip):
        return clip_targets(shown, (time, rows, columns), vision.temporal_patch_size, vision.merge_size)
    return dense_targets(shown, (rows, columns), vision.merge_size)


def _check_tasks(recipe: SceneRecipe) -> None:
    """Raise ConfigError for a name that is no task of scenes or clips, or where nothing could be drawn."""
    scenes = (*TASKS, *POINTING)
    named = [*recipe.tasks, *(name for group in recipe.scenes for name in group.tasks or ())]
    asked: tuple[tuple[str, Collection[str], Collection[str], str], ...] = (
        ("tasks", named, scenes, "scenes"),
        ("clip_tasks", recipe.clip_tasks, CLIP_TASKS, "clips"),
        ("per_picture", recipe.per_picture, (*scenes, *CLIP_TASKS), "scenes"),
        ("loss.tasks", recipe.loss.tasks, (*scenes, *CLIP_TASKS), "scenes"),
    )
    for key, names, known, kind in asked:
        for name in names:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
                raise ConfigError(f"data.{key}: {name!r} is not a task of {kind}; {hint}")
    if recipe.packing == "pictures":
        return
    if recipe.clip_rows and not sum(recipe.clip_tasks.values()):
        raise ConfigError("data.clip_tasks: name at least one task with a weight above 0")
    if recipe.text_rows + recipe.pair_rows + recipe.clip_rows >= 1:
        return
    if not all(sum((scenes.tasks or recipe.tasks).values()) for scenes in recipe.scenes):
        raise ConfigError("data.tasks: name at least one task with a weight above 0")


def _check_family(recipe: SceneRecipe, drawn: Collection[str], processor: Processor) -> None:
    """Raise ConfigError for what the family cannot see or write."""
    name = processor.spec.name
    if recipe.clip_rows and processor.spec.videos is None:
        raise ConfigError(f"data.clip_rows: {name} takes no video; set it to 0")
    pointing = [task for task in drawn if task in POINTING]
    if pointing and not has_points(processor.markup):
        raise ConfigError(f"data.tasks: {', '.join(pointing)}: the markup of {name} has no points; leave it out")


def _said(sample: Sample) -> str:
    """What a question says, so that it is not put twice."""
    return f"{sample.task} {sample.extra.get('question')} {sample.extra.get('answer')}"


def _picture_alone(picture: ReadyPicture, vision: VisionConfig) -> Encoded:
    none = np.empty(0, np.int64)
    grids = np.array([picture.grid], np.int64)
    windows = window_plan(grids, vision)
    return Encoded(none, none, np.empty((3, 0), np.int64), picture.patches, grids, none, (picture.size,), windows)
