"""TempCompass' rules for three of its four tasks, without the judge that its scripts ask for what they do not match. The fourth,
captioning, has no rule.

Source: llyx97/TempCompass @ e1b4631, eval_multi-choice.py, eval_yes_no.py, eval_caption_matching.py, run with --disable_llm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qwenvl.eval.task import Prediction, Tally
from qwenvl.families.spec import Markup

Judged = bool | None
"""None where no rule matches."""


def multi_choice(reply: str, question: str, answer: str) -> Judged:
    """The answer word for word, or a letter alone or before "." or ")"."""
    if reply == answer:
        return True
    letter = reply[:1]
    alone = len(reply) == 1 or reply[1:2] in (".", ")")
    return letter == answer[0] if letter and letter in "ABCD" and alone else None


def yes_no(reply: str, question: str, answer: str) -> Judged:
    said = next((word for word in ("yes", "no") if reply.lower().startswith(word)), None)
    return None if said is None else said == answer


def caption_matching(reply: str, question: str, answer: str) -> Judged:
    """An option, its sentence (behind ") " too), or its name ("Option 1", "1"), word for word; the last that matches, names first.

    There the rest of a sentence behind a second ": " is not looked at.
    """
    options = question.split("\n")[1:]
    names = [option.split(": ")[0] for option in options]
    sentences = [option.split(": ")[1] for option in options]
    short = [name.replace("Sentence ", "").replace("Option ", "").replace("Caption ", "") for name in names]
    behind = reply.split(") ")[1] if ") " in reply else reply
    said = None
    for forms, replies in ((options, (reply,)), (sentences, (reply, behind)), (names + short, (reply, reply.replace(".", "")))):
        said = next((form for form in reversed(forms) if form in replies), said)
    name = answer.split(": ")[0]
    return None if said is None else said in (answer, answer.split(":")[0], answer.split(": ")[1], name.split()[1])


RULES: Mapping[str, Callable[[str, str, str], Judged]] = {
    "multi-choice": multi_choice, "yes_no": yes_no, "caption_matching": caption_matching,
}  # fmt: skip


def tempcompass_score(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
    """`accuracy` of all, `decided`, and `accuracy` of the task by its name."""
    truth = prediction.truth
    reply = prediction.reply.replace("</s>", "").strip()
    judged = RULES[truth["task"]](reply, truth["question"], truth["answer"])
    right: Tally = (float(judged is True), 1.0)
    return {"accuracy": right, "decided": (float(judged is not None), 1.0), truth["task"]: right}
