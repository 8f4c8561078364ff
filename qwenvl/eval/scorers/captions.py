"""Scores of captions against several references: CIDEr-D, BLEU-1 to -4 and ROUGE-L, equal to pycocoevalcap's.

All take captions as words joined by spaces: `ptb.tokenize`, or `chinese.py`. A CIDEr of 1.2 is published as 120.
Read in cider/cider_scorer.py, bleu/bleu_scorer.py and rouge/rouge.py, salaniz/pycocoevalcap @ ad63453.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from qwenvl.eval.benchmark import Pool
from qwenvl.eval.scorers.ptb import tokenize
from qwenvl.eval.task import EvaluationError, Pooled, Prediction
from qwenvl.families.spec import Markup

LONGEST = 4
"""n-grams of one to so many words."""
SIGMA = 6.0
"""Of the penalty on a difference of length, in words (Vedantam et al., 2015, section 6: CIDEr-D)."""
BETA = 1.2
"""How much more recall counts than precision in ROUGE-L."""

Gram = tuple[str, ...]


def grams(caption: str) -> Counter[Gram]:
    """How often each run of one to four words occurs."""
    words = caption.split()
    return Counter(tuple(words[at : at + n]) for n in range(1, LONGEST + 1) for at in range(len(words) - n + 1))


@dataclass(frozen=True, slots=True)
class _Weighted:
    """n-grams of a caption by their length, weighted by how rare they are; `pairs` is how many runs of two words there are."""

    weights: tuple[dict[Gram, float], ...]
    norms: tuple[float, ...]
    pairs: int


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each caption, from 0 to 10; the score of the set is their mean.

    How rare an n-gram is, is counted over the references of this very set: a caption has no score of its own, and a set of one
    caption scores 0. (The code that all papers use calls it CIDEr, and takes the number of pairs of words for the length.)
    """
    counted = [[grams(reference) for reference in own] for own in references]
    spread = Counter(gram for own in counted for gram in set().union(*own))
    every = math.log(len(counted)) if counted else 0.0

    def weighted(counts: Counter[Gram]) -> _Weighted:
        weights: tuple[dict[Gram, float], ...] = tuple({} for _ in range(LONGEST))
        for gram, count in counts.items():
            weights[len(gram) - 1][gram] = count * (every - math.log(max(1.0, spread[gram])))
        norms = tuple(math.sqrt(sum(weight * weight for weight in part.values())) for part in weights)
        return _Weighted(weights, norms, sum(count for gram, count in counts.items() if len(gram) == 2))

    scores = []
    for caption, own in zip(captions, counted, strict=True):
        said = weighted(grams(caption))
        alike = [_alike(said, weighted(reference)) for reference in own]
        scores.append(10.0 * sum(alike) / len(alike))
    return scores


def _alike(said: _Weighted, reference: _Weighted) -> float:
    """Cosine of the weights, no n-gram counted more often than the reference has it, less for another length."""
    total = 0.0
    for weights, others, norm, other in zip(said.weights, reference.weights, said.norms, reference.norms, strict=True):
        shared = sum(min(weight, others[gram]) * others[gram] for gram, weight in weights.items() if gram in others)
        total += shared / (norm * other) if norm and other else shared
    return total / LONGEST * math.exp(-((said.pairs - reference.pairs) ** 2) / (2 * SIGMA**2))


BleuCounts = tuple[int, ...]
"""Of one caption: its words, the words of the closest reference, and for each n the n-grams that are right, then all of them."""


def bleu_counts(caption: str, references: Sequence[str]) -> BleuCounts:
    """The closest reference is the one of the most similar length, of two the shorter."""
    most: Counter[Gram] = Counter()
    for reference in references:
        most |= grams(reference)
    right, words = [0] * LONGEST, len(caption.split())
    for gram, count in grams(caption).items():
        right[len(gram) - 1] += min(count, most[gram])
    lengths = (len(reference.split()) for reference in references)
    closest = min((abs(length - words), length) for length in lengths)[1]
    return words, closest, *right, *(max(0, words - n) for n in range(LONGEST))


def bleu(counts: Sequence[BleuCounts]) -> tuple[float, ...]:
    """BLEU-1 to BLEU-4 of a set of captions, in [0, 1]."""
    small, tiny = 1e-9, 1e-15  # as there: a score of 0 for no n-gram, rather than an error
    length, reference, *others = map(sum, zip(*counts, strict=True))
    scores, product = [], 1.0
    for n, (right, said) in enumerate(zip(others[:LONGEST], others[LONGEST:], strict=True)):
        product *= (right + tiny) / (said + small)
        scores.append(product ** (1 / (n + 1)))
    ratio = (length + tiny) / (reference + small)
    return tuple(score * math.exp(1 - 1 / ratio) if ratio < 1 else score for score in scores)


def _bleu(n: int, counts: Sequence[BleuCounts]) -> float:
    return bleu(counts)[n]


def rouge_l(caption: str, references: Sequence[str]) -> float:
    """F-measure of the longest common subsequence of words, in [0, 1]: the best precision and the best recall of any reference."""
    # Split at single spaces, as there: an empty caption is one empty word, and a token with a space in it stays whole.
    said = caption.split(" ")
    precision = recall = 0.0
    for reference in references:
        words = reference.split(" ")
        common = _common(said, words)
        precision, recall = max(precision, common / len(said)), max(recall, common / len(words))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for at, other in enumerate(second, start=1):
            diagonal, row[at] = row[at], diagonal + 1 if word == other else max(row[at], row[at - 1])
    return row[-1]


Words = Callable[[Sequence[str], Sequence[Sequence[str]]], tuple[Sequence[str], Sequence[Sequence[str]]]]
"""Captions and their references -> the same in words."""


def english_words(captions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Captions and references each as the lines of one text, as there."""
    rest = iter(tokenize([reference for own in references for reference in own]))
    return tokenize(captions), [[next(rest) for _ in own] for own in references]


def caption_scores(to_words: Words = english_words) -> Pool:
    """Of predictions with truth["references"], in the order of truth["place"]: `cider` (a mean of 0 to 10), `bleu_1` to `bleu_4`,
    `rouge_l`. For an interval of CIDEr captions are resampled, but not how rare n-grams are.

    Raises EvaluationError where references are withheld."""

    def pool(predictions: Sequence[Prediction], markup: Markup) -> Mapping[str, Pooled]:
        if lacking := [prediction.id for prediction in predictions if "references" not in prediction.truth]:
            raise EvaluationError(f"{lacking[0]}: its captions are withheld; hand the predictions in")
        ordered = sorted(predictions, key=lambda prediction: prediction.truth["place"])
        replies = [prediction.reply.strip() for prediction in ordered]
        said, references = to_words(replies, [prediction.truth["references"] for prediction in ordered])
        counts = tuple(bleu_counts(*pair) for pair in zip(said, references, strict=True))
        rouge = tuple(rouge_l(*pair) for pair in zip(said, references, strict=True))
        bleus = {f"bleu_{n + 1}": Pooled(counts, partial(_bleu, n)) for n in range(LONGEST)}
        return {"cider": Pooled(tuple(cider(said, references)), fmean), **bleus, "rouge_l": Pooled(rouge, fmean)}

    return pool
