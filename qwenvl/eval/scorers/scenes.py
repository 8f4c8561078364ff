"""From one prediction about a scene to its tallies, by task. The truth is `Sample.extra` of data/tasks.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from qwenvl.data.places import has_quads
from qwenvl.eval.scorers.boxes import box_iou, box_of, match, quad_iou, span_iou
from qwenvl.eval.scorers.text import Lexicon, is_exact, normalise, normalise_reading, phrase_overlap, similarity
from qwenvl.eval.task import EvaluationError, Prediction, Scorer, Tally, frame_of
from qwenvl.families.spec import Markup
from qwenvl.processing.regions import read_regions, strip_markup
from qwenvl.processing.spans import read_spans
from qwenvl.types import Region

FOUND = 0.5
"""Least intersection over union of a place that counts as found: the criterion of referring accuracy since RefCOCO."""

Tallies = dict[str, Tally]
Truth = Mapping[str, Any]


class SceneScorer:
    """The scorer of one run: its markup and lexicons, and a method for every task."""

    def __init__(self, markup: Markup, lexicons: Mapping[str, Lexicon]) -> None:
        self.markup = markup
        self.lexicons = lexicons
        closed = ("left_right", "above_below", "yes_no", "count", "colour", "where", "clip_direction")
        self._by_task: dict[str, Callable[[Prediction], Tallies]] = {
            "caption": self.caption,
            "grounded_caption": self.grounded_caption,
            "referring": self.place,
            "find_text": self.place,
            "naming": self.exact,
            "what": self.exact,
            "ocr_scene": self.reading,
            "ocr_text": self.reading,
            "ocr_quad": self.quads,
            "point": self.point,
            "clip_when": self.span,
            "clip_what": self.named,
            **dict.fromkeys(closed, self.choice),
        }

    def regions(self, prediction: Prediction, kind: str) -> list[Region]:
        """The places of that kind that a reply names, in [0, 1] of the picture."""
        found = read_regions(prediction.reply, self.markup, frame=frame_of(prediction.truth))
        return [region for region in found if region.kind == kind]

    def __call__(self, prediction: Prediction) -> Tallies:
        if prediction.task not in self._by_task:
            raise EvaluationError(f"{prediction.id}: no scorer for task {prediction.task!r}; known: {', '.join(self._by_task)}")
        return self._by_task[prediction.task](prediction)

    def caption(self, prediction: Prediction) -> Tallies:
        """Phrases of things. What is no phrase of the lexicon is not judged; a caption without any is left out of precision."""
        expected = [thing["phrase"] for thing in prediction.truth["things"] if thing["kind"] != "text"]
        words = strip_markup(prediction.reply, self.markup)
        right, wanted, said = phrase_overlap(words, expected, self.lexicons[prediction.language])
        return {"caption_recall": (right, wanted), "caption_precision": (right, said)}

    def grounded_caption(self, prediction: Prediction) -> Tallies:
        truths = [(tuple(box), normalise(thing["phrase"])) for thing in prediction.truth["things"] for box in thing["regions"]]
        said = self.regions(prediction, "box")
        overlaps = [[box_iou(box_of(region), box) for box, _ in truths] for region in said]
        labels = [normalise(region.label or "") for region in said]
        named = only_alike(overlaps, labels, [phrase for _, phrase in truths])
        return {
            "grounded_box": (len(match(overlaps, FOUND)), len(truths)),
            "grounded_phrase_box": (len(match(named, FOUND)), len(truths)),
        }

    def place(self, prediction: Prediction) -> Tallies:
        """The reply's first box against the one true box; no box has overlap 0."""
        boxes = [box_of(region) for region in self.regions(prediction, "box")]
        overlap = box_iou(boxes[0], tuple(prediction.truth["regions"][0])) if boxes else 0.0
        return {f"{prediction.task}_acc50": (float(overlap >= FOUND), 1), f"{prediction.task}_iou": (overlap, 1)}

    def point(self, prediction: Prediction) -> Tallies:
        """The reply's first point lies in the thing's box."""
        points = [region.points[0] for region in self.regions(prediction, "point")]
        left, top, right, bottom = prediction.truth["regions"][0]
        hit = bool(points) and left <= points[0][0] <= right and top <= points[0][1] <= bottom
        return {"point": (float(hit), 1)}

    def span(self, prediction: Prediction) -> Tallies:
        """The reply's first span of time against the true one; no span has overlap 0."""
        start, end = prediction.truth["span"]
        overlap = max((span_iou((said.start, said.end), (start, end)) for said in read_spans(prediction.reply)[:1]), default=0.0)
        return {f"{prediction.task}_acc50": (float(overlap >= FOUND), 1), f"{prediction.task}_iou": (overlap, 1)}

    def named(self, prediction: Prediction) -> Tallies:
        """Right if the reply names every thing that is there and no other phrase of the lexicon."""
        expected = [thing["phrase"] for thing in prediction.truth["things"]]
        right, wanted, said = phrase_overlap(prediction.reply, expected, self.lexicons[prediction.language])
        return {prediction.task: (float(right == wanted == said), 1)}

    def exact(self, prediction: Prediction) -> Tallies:
        return {prediction.task: (float(is_exact(prediction.reply, prediction.truth["accept"])), 1)}

    def choice(self, prediction: Prediction) -> Tallies:
        """Right if the reply is an accepted sentence, or names the true value and no other one of the closed list.

        Of what is asked about and is not there, the share that is denied is told apart: POPE's question (arXiv 2305.10355).
        """
        right = is_exact(prediction.reply, prediction.truth["accept"]) or named_values(prediction.reply, prediction.truth) == {
            prediction.truth["value"]
        }
        tallies: Tallies = {prediction.task: (float(right), 1)}
        if prediction.task == "yes_no" and prediction.truth["value"] == "no":
            tallies["absent_denied"] = (float(right), 1)
        return tallies

    def reading(self, prediction: Prediction) -> Tallies:
        """All strings, in any order; and how alike the characters are, in reading order."""
        expected = [normalise_reading(text) for text in prediction.truth["texts"]]
        said = split_strings(prediction.reply)
        return {
            f"{prediction.task}_exact": (float(sorted(said) == sorted(expected)), 1),
            f"{prediction.task}_similarity": (similarity(", ".join(said), ", ".join(expected)), 1),
        }

    def quads(self, prediction: Prediction) -> Tallies:
        """Quads; upright boxes around them of a markup that has no quads."""
        truths = [Region("quad", tuple(zip(quad[::2], quad[1::2], strict=True))) for quad in prediction.truth["quads"]]
        if has_quads(self.markup):
            said = self.regions(prediction, "quad")
            overlaps = [[quad_iou(region.points, quad.points) for quad in truths] for region in said]
        else:
            said = self.regions(prediction, "box")
            overlaps = [[box_iou(box_of(region), box_of(quad)) for quad in truths] for region in said]
        labels = [normalise_reading(region.label or "") for region in said]
        read = only_alike(overlaps, labels, [normalise_reading(text) for text in prediction.truth["texts"]])
        return {
            "ocr_quad": (len(match(overlaps, FOUND)), len(truths)),
            "ocr_quad_text": (len(match(read, FOUND)), len(truths)),
        }


def only_alike(overlaps: Sequence[Sequence[float]], said: Sequence[str], true: Sequence[str]) -> list[list[float]]:
    """The overlaps of predictions (rows) with truths (columns), 0 where their words differ."""
    return [
        [overlap if word == other else 0.0 for overlap, other in zip(row, true, strict=True)]
        for row, word in zip(overlaps, said, strict=True)
    ]


def named_values(reply: str, truth: Truth) -> set[str]:
    """The values of the closed list `truth["choices"]` that the reply names, by the longest spelling at each place."""
    values = {normalise(spelling): value for value, spellings in truth["choices"].items() for spelling in spellings}
    return {values[spelling] for spelling in _lexicon_of(tuple(values)).find(reply)}


@cache
def _lexicon_of(spellings: tuple[str, ...]) -> Lexicon:
    return Lexicon(spellings)


def split_strings(reply: str) -> list[str]:
    """The strings of a reading, which commas part; scenes never write a comma."""
    return [string for piece in re.split("[,，、]", reply) if (string := normalise_reading(piece))]


def make_scorer(run: Mapping[str, Any]) -> Scorer:
    """The scorer of a run, from its run.json alone."""
    saved: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in run["markup"].items()}
    markup = Markup(**saved)
    return SceneScorer(markup, {language: Lexicon(phrases) for language, phrases in run["lexicon"].items()})
