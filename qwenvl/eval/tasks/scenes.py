"""The benchmark of synthetic scenes: what is asked about which pictures, and how the replies are scored.

Pictures come from the held-out stream of the generator, which training never draws from. `main` has 500 (`limit`) scenes of
things and as many of lettering alone; reported apart are things on backgrounds that training never pairs them with (`pairs`),
lettering in a font that it never shows (`font`), and questions in words that it never uses (`phrasings`). Models that see pictures
at their own aspect are also shown long ones (`aspect`), and those that take video clips, two frames a second.
Each task asks one question a scene and language; scenes that do not allow one (no text, no two things apart) are passed over.
The measures, by task (`text` is normalised as scorers/text.py says; boxes count as found from an IoU of 0.5):

    caption            recall, precision of the things' phrases, with article or count and colour; lettering is left out
    grounded_caption   boxes found; boxes found whose phrase is right too
    referring          the one box found; its mean IoU. find_text: the same for a string
    naming             the thing in a box, by its full phrase. what: likewise
    left_right, above_below, yes_no    balanced: each answer is the right one in half the questions
    count, colour, where               the one value named
    ocr                all strings exact, in any order; similarity of characters; in scenes of things, in lettering alone
    ocr_quad           quads found; quads found whose string is exact too. Of models that write boxes alone, boxes
    point              the first point lies in the thing's box (models that write points)
    clip_when          the span of time: intersection over union, mean, and found from 0.5
    clip_what          all things named, and no other. clip_direction: the one value named
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qwenvl.data.clips import clip_questions
from qwenvl.data.places import for_markup, has_points, markup_record
from qwenvl.data.synth.clip import Clip, ClipSpec, clip_hash, generate_clip
from qwenvl.data.synth.fonts import versions as font_versions
from qwenvl.data.synth.names import COLOURS, EMOJI, SHAPES, counted
from qwenvl.data.synth.scene import Scene, SceneSpec, generate_scene, spec_hash
from qwenvl.data.tasks import LANGUAGES, POINTING, has_phrasings
from qwenvl.data.tasks import questions as draw_samples
from qwenvl.eval.asking import Answerer
from qwenvl.eval.report import MAIN
from qwenvl.eval.runner import plain_text
from qwenvl.eval.task import Decoding, EvaluationError, Question, frame_of
from qwenvl.processing.regions import style_of
from qwenvl.types import Sample, Style

if TYPE_CHECKING:
    from qwenvl.data.synth.names import Language

NAME = "scenes"

# Task here -> (task of data/tasks.py, most tokens of a reply). A box costs the nano about 20 tokens, a quad twice as many.
TASKS: dict[str, tuple[str, int]] = {
    "caption": ("caption", 96),
    "grounded_caption": ("grounded_caption", 208),
    "referring": ("referring", 48),
    "naming": ("naming", 24),
    "what": ("what", 24),
    "left_right": ("left_right", 24),
    "above_below": ("above_below", 24),
    "yes_no": ("yes_no", 24),
    "count": ("count", 24),
    "colour": ("colour", 24),
    "where": ("where", 24),
    "ocr_scene": ("ocr", 48),
    "ocr_text": ("ocr", 48),
    "ocr_quad": ("ocr_quad", 208),
    "find_text": ("find_text", 48),
    "point": ("point", 48),
    "clip_when": ("clip_when", 48),
    "clip_what": ("clip_what", 48),
    "clip_direction": ("clip_direction", 24),
}
PLACED = ("grounded_caption", "referring", "ocr_quad", "find_text", "point")
JSON_ROOM = 2
"""A box in a JSON list takes so many times the tokens of one between tags."""

BALANCED = {"left_right": ("left", "right"), "above_below": ("above", "below"), "yes_no": ("yes", "no")}
"""Tasks with two answers: scenes take turns at which one is right, so that always saying one of them is worth one half."""
REDRAWS = 16
"""How often a question is drawn again to have the wanted answer."""

IN_SCENES = ("naming", "what", "left_right", "above_below", "yes_no", "count", "colour", "where")


@dataclass(frozen=True, slots=True)
class Block:
    """Tasks asked about one kind of scene, under one condition."""

    condition: str
    spec: SceneSpec | ClipSpec
    tasks: tuple[str, ...]
    held_out_phrasing: bool = False
    share: float = 1.0
    """How many scenes, as a part of the limit."""


THINGS = SceneSpec(split="held_out")
LETTERING = SceneSpec(split="held_out", kind="text")
LONG = SceneSpec(split="held_out", aspect=(0.5, 2.0))
CLIPS = ClipSpec(split="held_out")
CLIP_FPS = 2.0

BLOCKS = (
    Block(MAIN, THINGS, ("caption", "grounded_caption", "referring", *IN_SCENES, "ocr_scene", "point")),
    Block(MAIN, LETTERING, ("ocr_text", "ocr_quad", "find_text")),
    Block("pairs", THINGS.model_copy(update={"pairs": "held_out"}), ("caption", "referring", "naming", "yes_no"), share=0.5),
    Block("font", LETTERING.model_copy(update={"font": "held_out"}), ("ocr_text",), share=0.5),
    Block("phrasings", THINGS, ("caption", "referring", *IN_SCENES, "ocr_scene", "point"), held_out_phrasing=True, share=0.5),
    Block("aspect", LONG, ("caption", "referring", "naming", "left_right", "above_below", "ocr_scene"), share=0.5),
    Block(MAIN, CLIPS, ("clip_when", "clip_what", "clip_direction"), share=0.5),
)


def blocks_of(answerer: Answerer) -> list[Block]:
    """The blocks that a model can be asked, with the tasks that its markup can answer."""
    left_out = () if has_points(answerer.markup) else POINTING
    blocks = [replace(block, tasks=tuple(task for task in block.tasks if task not in left_out)) for block in BLOCKS]
    if answerer.spec.images.kind == "square":
        blocks = [block for block in blocks if block.spec != LONG]
    return blocks if answerer.spec.videos is not None else [block for block in blocks if not isinstance(block.spec, ClipSpec)]


def scene_count(limit: int, answerer: Answerer) -> int:
    """Scenes and clips drawn in all, for a progress bar."""
    return sum(_scenes_of(block, limit) for block in blocks_of(answerer))


def questions(
    limit: int,
    seed: int,
    answerer: Answerer,
    advance: Callable[[int], None] = lambda count: None,
    blocks: Sequence[Block] | None = None,
) -> list[Question]:
    """All questions to a model, a pure function of limit, seed, and the model's style, markup and family; of the blocks that it can
    be asked, unless others are given. `advance` is told of every scene drawn.

    Raises EvaluationError for a limit or seed that draws nothing, FontError or NamesError where a Debian package is missing.
    """
    if limit < 1 or seed < 0:
        raise EvaluationError(f"limit {limit}, seed {seed}: give a limit of 1 or more and a seed of 0 or more")
    asked: list[Question] = []
    for block in blocks_of(answerer) if blocks is None else blocks:
        for index in range(_scenes_of(block, limit)):
            asked += _about(_shown(block.spec, seed, index), block, answerer)
            advance(1)
    return asked


def main_questions(limit: int, seed: int, answerer: Answerer) -> list[Question]:
    """Those of the main condition about pictures only."""
    blocks = [block for block in blocks_of(answerer) if block.condition == MAIN and isinstance(block.spec, SceneSpec)]
    return questions(limit, seed, answerer, blocks=blocks)


def settings(asked: Sequence[Question], limit: int, seed: int, answerer: Answerer) -> dict[str, Any]:
    """What run.json says of this benchmark: enough to repeat it, to compare two runs, and to score without a model."""
    digest = hashlib.sha256()
    for question in sorted(asked, key=lambda question: question.id):
        words = plain_text(question.sample.messages, answerer.markup, frame_of(question.truth))
        digest.update(f"{question.id}\t{question.decoding.max_new_tokens}\t{words}\n".encode())
    specs = dict(_spec_of(block) for block in blocks_of(answerer))
    return {
        "task": NAME, "n": limit, "seeds": [seed], "questions": len(asked), "style": answerer.style, "decoding": "greedy",
        "hashes": {"questions": digest.hexdigest()[:16], "specs": specs},
        "markup": markup_record(answerer.markup), "lexicon": lexicon(),
        "sources": font_versions(),
    }  # fmt: skip


def lexicon(most: int = 8) -> dict[str, list[str]]:
    """language -> every phrase that a caption may use for things, in every count up to `most`."""
    things: list[tuple[str, str | None]] = [(key, None) for key in (*EMOJI, *SHAPES)]
    things += [(shape, colour) for shape in SHAPES for colour in COLOURS]
    counts = range(1, most + 1)
    return {language: [counted(key, n, language, colour) for key, colour in things for n in counts] for language in LANGUAGES}


def _scenes_of(block: Block, limit: int) -> int:
    return max(round(limit * block.share), 1)


def _shown(spec: SceneSpec | ClipSpec, seed: int, index: int) -> Scene | Clip:
    return generate_clip(spec, seed, index, CLIP_FPS) if isinstance(spec, ClipSpec) else generate_scene(spec, seed, index)


def _spec_of(block: Block) -> tuple[str, str]:
    """The name and the hash of what a block shows."""
    if isinstance(block.spec, ClipSpec):
        return f"{block.condition}-clip", clip_hash(block.spec)
    return f"{block.condition}-{block.spec.kind}", spec_hash(block.spec)


def _about(shown: Scene | Clip, block: Block, answerer: Answerer) -> Iterator[Question]:
    """The block's questions about one scene or clip: one of each task and language, where it allows one."""
    pixels = style_of(answerer.markup).in_pixels and isinstance(shown, Scene)
    frame = {"frame": list(answerer.frame((shown.width, shown.height)))} if pixels else {}
    for task in block.tasks:
        source, max_new_tokens = TASKS[task]
        if block.held_out_phrasing and not has_phrasings(source, answerer.style):
            continue
        limit = max_new_tokens * (JSON_ROOM if pixels and task in PLACED else 1)
        for language in LANGUAGES:
            sample = _draw(shown, task, language, answerer.style, block.held_out_phrasing)
            if sample is not None:
                identity = f"{block.condition}/{task}/{language}/{shown.index:05d}"
                sample = replace(for_markup(sample, answerer.markup), id=identity)
                yield Question(identity, task, block.condition, language, sample, {**sample.extra, **frame}, Decoding(limit))


def _draw(shown: Scene | Clip, task: str, language: Language, style: Style, held_out_phrasing: bool) -> Sample | None:
    source, _ = TASKS[task]
    stream = [shown.seed, shown.index, zlib.crc32(f"{task}/{language}/{style}".encode())]
    rng = np.random.default_rng(stream)
    if isinstance(shown, Clip):
        return next(iter(clip_questions(shown, source, language, style, rng, held_out_phrasing)), None)
    first: Sample | None = None
    for _ in range(REDRAWS if task in BALANCED else 1):
        drawn = draw_samples(shown, source, language, style, rng, held_out_phrasing)
        samples = [sample for sample in drawn if _is_asked(shown, task, sample)]
        first = first or next(iter(samples), None)
        if task not in BALANCED:
            break
        wanted = BALANCED[task][shown.index % 2]
        for sample in samples:
            if sample.extra["value"] == wanted:
                return sample
    return first


def _is_asked(scene: Scene, task: str, sample: Sample) -> bool:
    """Naming is of things here: reading what a box holds is another skill, and `ocr` measures it."""
    return task != "naming" or scene.things[sample.extra["focus"]].kind != "text"
