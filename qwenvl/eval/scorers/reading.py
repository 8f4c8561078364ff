"""Answers read from documents and charts: similarity by edits (ANLS) and relaxed accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from qwenvl.eval.scorers.text import edit_distance

LEAST = 0.5
"""ANLS below it counts nothing."""
TOLERANCE = 0.05
"""Of a number in a chart, relative to it (Masry et al., 2022, section 5.1)."""


def anls(reply: str, answers: Sequence[str]) -> float:
    """Average normalised Levenshtein similarity of one reply: that to the most similar answer, or 0 below one half.

    Case and runs of space do not count as edits, but do count for the length that edits are divided by.
    The challenge's own script, as eval_mm/infographicsvqa_eval.py in QwenLM/Qwen-VL @ aa00ed0; the same in `anls` of
    lmms_eval/api/metrics.py, EvolvingLMMs-Lab/lmms-eval @ 75571cf.
    """
    best = max(1 - _edits(reply, answer) for answer in answers)
    return best if best >= LEAST else 0.0


def _edits(reply: str, answer: str) -> float:
    length = max(len(answer.upper()), len(reply.upper()))
    return edit_distance(" ".join(answer.lower().split()), " ".join(reply.lower().split())) / length if length else 0.0


def number(text: str) -> float | None:
    """The value of a number or a percentage; None for anything else."""
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


def is_close(reply: str, target: str) -> bool:
    """Numbers within 5 % of the target, other texts equal but for case. A target of 0 is only met by 0 in whatever form.

    Peers compare a target of 0 as text, and so refuse "0.0" for "0": `relaxed_correctness` in lmms_eval/tasks/chartqa/utils.py,
    EvolvingLMMs-Lab/lmms-eval @ 75571cf, and in vlmeval/dataset/utils/vqa_eval.py, open-compass/VLMEvalKit @ e8e78f0.
    """
    said, wanted = number(reply), number(target)
    if said is None or wanted is None:
        return reply.lower() == target.lower()
    return said == wanted if not wanted else abs(said - wanted) / abs(wanted) <= TOLERANCE


def is_close_by_script(reply: str, target: str) -> bool:
    """As in Qwen-VL's script (eval_mm/evaluate_vqa.py, QwenLM/Qwen-VL @ aa00ed0), which hands the two over in the wrong order.

    5 % are of the reply, not of the target; and a reply of 0 is compared as text.
    """
    said, wanted = number(reply.strip()), number(target)
    if wanted is not None and said:
        return abs(wanted - said) / abs(said) <= TOLERANCE
    return reply.strip().lower() == target.lower()


def relaxed_accuracy(reply: str, answers: Sequence[str]) -> float:
    """1.0 if the reply is close to any of the answers."""
    return float(any(is_close(reply.strip(), answer) for answer in answers))


def relaxed_accuracy_by_script(reply: str, answers: Sequence[str]) -> float:
    """The same by the script's rule."""
    return float(any(is_close_by_script(reply, answer) for answer in answers))
