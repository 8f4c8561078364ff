"""How good a document of text and pictures is, by four scores in [0, 1].

Section 2.2.1 of arXiv 2502.13923 scores interleaved documents by the quality of the text alone, by how relevant text and pictures
are to each other, by whether they complement each other, and by whether both carry information. It publishes neither formulas nor
thresholds: these are ours, pure functions of the text and of similarities, which any scorer of pictures and texts gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from qwenvl.config import Count, Strict
from qwenvl.data.clean.text import words
from qwenvl.processing.image import open_image
from qwenvl.types import ImagePart, Sample, TextPart

if TYPE_CHECKING:
    from qwenvl.data.clean.scorers import Scorer

Share = Annotated[float, Field(ge=0, le=1)]
Similarities = Sequence[Sequence[float]]
"""Of each picture (row) to each passage of text, both in the order of the document."""

BATCH = 64
"""Pairs that a scorer gets together."""
SENTENCE = 5
"""Passages of fewer words are headings, menus and buttons."""
WINDOW = 3
"""Words in a row whose repetition counts."""


class DocumentThresholds(Strict):
    """What a document needs at least of each score, and what the scores take for granted."""

    text_quality: Share = 0.5
    relevance: float = 0.2
    """In the scorer's unit: 0.2 is a usual cosine of CLIP between a picture and a text that fits it."""
    complementarity: Share = 0.3
    balance: Share = 0.1
    told: float = 0.3
    """A passage as similar to a picture as this only tells what the picture shows."""
    picture_words: Count = 100
    """Words of text that carry about as much as one picture."""


@dataclass(frozen=True, slots=True)
class Document:
    """`passages` of text, and after how many of them each picture stands, in reading order."""

    passages: tuple[str, ...]
    places: tuple[int, ...]


def text_quality(passages: Sequence[str]) -> float:
    """The share of characters that belong to words, times the share of words in passages of sentences, times the share of three
    words in a row that are not said again; 0 without words."""
    found = [words(passage) for passage in passages]
    total = sum(map(len, found))
    if not total:
        return 0.0
    characters = sum(not character.isspace() for passage in passages for character in passage)
    in_words = sum(len(word) for passage in found for word in passage) / characters
    in_sentences = sum(len(passage) for passage in found if len(passage) >= SENTENCE) / total
    windows = Counter(tuple(passage[n : n + WINDOW]) for passage in found for n in range(len(passage) - WINDOW + 1))
    new = len(windows) / windows.total() if windows else 1.0
    return in_words * in_sentences * new


def relevance(document: Document, similarities: Similarities) -> float:
    """Of each picture the similarity to the passage before or after it, whichever fits better; the mean of all."""
    best = []
    for place, row in zip(document.places, similarities, strict=True):
        best.append(max(row[max(place - 1, 0) : place + 1]))
    return sum(best) / len(best)


def complementarity(document: Document, similarities: Similarities, told: float) -> float:
    """The share of words that say more than any picture shows: those of passages less similar than `told` to every one."""
    counts = [len(words(passage)) for passage in document.passages]
    more = [all(row[number] < told for row in similarities) for number in range(len(counts))]
    return sum(count for count, says in zip(counts, more, strict=True) if says) / max(sum(counts), 1)


def balance(document: Document, picture_words: int) -> float:
    """Text and pictures by what they carry, the lesser as a part of the greater."""
    text = sum(len(words(passage)) for passage in document.passages)
    pictures = len(document.places) * picture_words
    return min(text, pictures) / max(text, pictures, 1)


def document_of(sample: Sample) -> Document:
    """The passages and pictures of a Sample; texts that follow each other are one passage."""
    passages: list[str] = []
    places: list[int] = []
    after_text = False
    for part in (part for message in sample.messages for part in message.parts):
        if isinstance(part, ImagePart):
            places.append(len(passages))
            after_text = False
        elif isinstance(part, TextPart):
            passages = [*passages[:-1], passages[-1] + part.text] if after_text else [*passages, part.text]
            after_text = True
    return Document(tuple(passages), tuple(places))


def similarities_by(scorer: Scorer, sample: Sample) -> list[list[float]]:
    """Of every picture to every passage of a Sample. Raises ImageError."""
    passages = document_of(sample).passages
    pictures = [open_image(part.image) for part in sample.images]
    pairs = list(product(pictures, passages))
    found: list[float] = []
    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        found += map(float, scorer.score([picture for picture, _ in batch], [text for _, text in batch]))
    return [found[number : number + len(passages)] for number in range(0, len(found), len(passages))]


def scores(sample: Sample, thresholds: DocumentThresholds, similarities: Similarities | None = None) -> dict[str, float]:
    """The four scores of a document, without relevance and complementarity where there are no similarities."""
    document = document_of(sample)
    found = {
        "text_quality": text_quality(document.passages),
        "balance": balance(document, thresholds.picture_words),
    }
    if similarities and document.passages:
        found["relevance"] = relevance(document, similarities)
        found["complementarity"] = complementarity(document, similarities, thresholds.told)
    return found


class DocumentJudge:
    """Scores documents and refuses the poor ones. Other Samples pass as they are.

    Similarities are those of the dataset (`extra["similarities"]`), or the scorer's if one is given.
    """

    def __init__(self, thresholds: DocumentThresholds, scorer: Scorer | None = None) -> None:
        self.thresholds, self.scorer = thresholds, scorer

    def __call__(self, sample: Sample) -> tuple[Sample, str | None]:
        """The Sample with its scores, and why it is refused, if it is. Raises ImageError where a scorer sees no picture."""
        if sample.task != "document" or not sample.images:
            return sample, None
        similarities: Any = similarities_by(self.scorer, sample) if self.scorer else sample.extra.get("similarities")
        found = scores(sample, self.thresholds, similarities)
        scored = replace(sample, extra={**sample.extra, "scores": {name: round(value, 4) for name, value in found.items()}})
        for name, value in found.items():
            least = getattr(self.thresholds, name)
            if value < least:
                return scored, f"{name} {value:.3f}, less than {least:g}"
        return scored, None
