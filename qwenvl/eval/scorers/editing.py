"""Texts and lists by how many edits part them: shares, error rates, and a text found inside another."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from qwenvl.eval.scorers.text import edit_distance
from qwenvl.eval.task import Tally


def distance_share(reply: Sequence[Hashable], truth: Sequence[Hashable]) -> float:
    """Edit distance by the length of the longer, in [0, 1]; 0.0 for two that are empty.

    The `Edit_dist` of a sample in OmniDocBench (vlmeval/dataset/OmniDocBench/metrics.py, open-compass/VLMEvalKit @ e8e78f0).
    """
    longer = max(len(reply), len(truth))
    return edit_distance(reply, truth) / longer if longer else 0.0


def character_errors(reply: str, truth: str) -> Tally:
    """(edits, characters of the truth): summed over replies, their ratio is the character error rate, which may exceed 1.

    As Morris, Maier and Green (Interspeech 2004) have it of words: substitutions, deletions and insertions by what was to be said.
    """
    return float(edit_distance(reply, truth)), float(len(truth))


def word_errors(reply: str, truth: str) -> Tally:
    """(edits, words of the truth): the same of words, which white space parts."""
    said, meant = reply.split(), truth.split()
    return float(edit_distance(said, meant)), float(len(meant))


def nearest_window(text: str, pattern: str, enough: int) -> int | None:
    """The least edit distance of `pattern` to a stretch of `text` of its own length; None where the text is shorter, or the pattern
    empty. Where it is `enough` or more, some number that is `enough` or more."""
    if not pattern or len(text) < len(pattern):
        return None
    best, start = enough, 0
    while start <= len(text) - len(pattern):
        distance = edit_distance(text[start : start + len(pattern)], pattern)
        best = min(best, distance)
        # The next stretch is one deletion and one insertion away: those in between cannot be nearer than the best.
        start += max(distance - best, 0) // 2 + 1
    return best
