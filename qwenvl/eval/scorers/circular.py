"""MMBench's questions are asked with their options in every rotation, and counted once (arXiv 2307.06281, section 4.3).

`circular` counts a question that is right in all of its rotations: open-compass/VLMEvalKit @ e8e78f0,
vlmeval/dataset/utils/multiple_choice.py (mcq_circular_eval); QwenLM/Qwen-VL @ aa00ed0, eval_mm/mmbench/mmbench_evaluation.py.
`majority` counts one whose text chosen most often is right: the same, mmbench_evaluation_tricky.py. Of texts chosen equally often
that script draws one at random; here a right one among n of them earns 1 / n, which is what drawing earns on average.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

from qwenvl.eval.scorers.choices import Rule, by_likelihood, chosen
from qwenvl.eval.task import Pooled, Prediction

ROTATION = 1_000_000
"""A rotation's index is that of its question and so much more for each step: `index % 1e6` is the question's own."""


def majority(texts: Sequence[str | None], right: str) -> float:
    """What a question earns whose rotations chose these texts; None where no option was chosen, which is no vote."""
    votes = Counter(text for text in texts if text is not None)
    most = max(votes.values(), default=0)
    favoured = [text for text, count in votes.items() if count == most]
    return 1.0 / len(favoured) if right in favoured else 0.0


def rotations(predictions: Sequence[Prediction]) -> dict[int, list[Prediction]]:
    """The question's own index -> the predictions of its rotations, by index."""
    groups: dict[int, list[Prediction]] = {}
    for prediction in sorted(predictions, key=lambda prediction: int(prediction.truth["index"])):
        groups.setdefault(int(prediction.truth["index"]) % ROTATION, []).append(prediction)
    return groups


def chosen_text(prediction: Prediction, rule: Rule) -> str | None:
    """The text of the option that a prediction chooses; None for no letter, or one that is no option."""
    return prediction.truth["choices"].get(chosen(prediction, rule))


def circular_pool(predictions: Sequence[Prediction], rule: Rule) -> Mapping[str, Pooled]:
    """`circular` and `majority` over questions. A question some of whose rotations were not asked counts by the others."""
    circular, voted = [], []
    for group in rotations(predictions).values():
        if any("answer" not in prediction.truth for prediction in group):
            continue
        circular.append(float(all(chosen(prediction, rule) == prediction.truth["answer"] for prediction in group)))
        truth = group[0].truth
        voted.append(majority([chosen_text(prediction, rule) for prediction in group], truth["choices"][truth["answer"]]))
    return {"circular": Pooled(tuple(circular), fmean), "majority": Pooled(tuple(voted), fmean)}


def agreed_letters(predictions: Sequence[Prediction]) -> dict[int, str]:
    """Index of each rotation whose options were ranked -> the letter handed in, with the same text for all rotations of a question:
    the one chosen most often, of several the one chosen first (mmbench_predict_to_submission.py draws one of them)."""
    letters: dict[int, str] = {}
    for group in rotations(predictions).values():
        choices = [prediction.truth["choices"] for prediction in group]
        votes = Counter(own[by_likelihood(prediction.ranked)] for own, prediction in zip(choices, group, strict=True))
        text = votes.most_common(1)[0][0]
        for own, prediction in zip(choices, group, strict=True):
            letters[int(prediction.truth["index"])] = next(letter for letter, option in own.items() if option == text)
    return letters
