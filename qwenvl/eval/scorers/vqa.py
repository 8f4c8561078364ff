"""Answers to questions about pictures, against the ten that people gave: VQA accuracy in its variants, and exact match.

An answer that three of the other nine people gave is right, averaged over which person is left out. The variants differ in what is
normalised before answers are compared, and a benchmark's measures say which is theirs:

    official    GT-Vision-Lab/VQA @ a013f00, PythonEvaluationTools/vqaEvaluation/vqaEval.py: nothing, where all ten people agree;
                else both sides
    textvqa     facebookresearch/mmf @ b0ffc7f, mmf/utils/m4c_evaluators.py: both sides, and commas, question marks and 's before
    vizwiz      the VizWiz API: the reply alone; the answers are distributed normalised
    script      QwenLM/Qwen-VL @ aa00ed0, eval_mm/vqa_eval.py (after LAVIS): the reply, and of the answers only the punctuation,
                unless all agree. An answer "two" or "the bear" can then never be met, as a reply becomes "2" and "bear"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from qwenvl.eval.task import Prediction, Tally
from qwenvl.families.spec import Markup

ENOUGH = 3
"""So many of the others make an answer right."""

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
PERIOD = re.compile(r"\.(?!\d)")
"""Not before a digit. (The published pattern's part for a digit before it is spelled wrong and has no effect.)"""
MOST_PERIODS = int(re.UNICODE)
"""So many are removed at most: the published code passes this flag where the count belongs."""
NUMERIC_COMMA = re.compile(r"\d,\d")
DIGITS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
ARTICLES = ("a", "an", "the")
CONTRACTED = (
    "'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've "
    "o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've "
    "someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've "
    "they'll they're they've wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd "
    "who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've "
    "you'll you're you've"
)
CONTRACTIONS = {
    word[:at] + word[at + 1 :]: word for word in CONTRACTED.split() for at, letter in enumerate(word) if letter == "'"
} | {"somebody'd": "somebodyd"}  # fmt: skip
"""A contraction with one apostrophe missing -> with it; and one that goes the other way. (Those of I are listed with a capital
there, and are never found in lower case.)"""


def without_punctuation(text: str) -> str:
    """And without full stops, but in numbers."""
    return PERIOD.sub("", without_marks(text), count=MOST_PERIODS)


def without_marks(text: str) -> str:
    """A mark becomes a space; nothing, if it stands beside a space anywhere in the text, or where there is a number like 1,000."""
    together = NUMERIC_COMMA.search(text) is not None
    written = text
    for mark in PUNCTUATION:
        written = written.replace(mark, "" if together or f"{mark} " in text or f" {mark}" in text else " ")
    return written


def without_articles(text: str) -> str:
    """In lower case, number words as digits, no articles, contractions with their apostrophe."""
    words = (DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def normalise_answer(text: str) -> str:
    """All of it."""
    return without_articles(without_punctuation(one_line(text)))


def leave_one_out(reply: str, answers: Sequence[str]) -> float:
    """In [0, 1], of strings as they are."""
    alike = sum(answer == reply for answer in answers)
    shares = [min(1.0, (alike - (answer == reply)) / ENOUGH) for answer in answers]
    return sum(shares) / len(shares)


def official_accuracy(reply: str, answers: Sequence[str]) -> float:
    """See the head of this file."""
    reply, answers = one_line(reply), [one_line(answer) for answer in answers]
    if len(set(answers)) > 1:
        reply, answers = normalise_answer(reply), [normalise_answer(answer) for answer in answers]
    return leave_one_out(reply, answers)


def textvqa_accuracy(reply: str, answers: Sequence[str]) -> float:
    """See the head of this file."""
    return leave_one_out(_for_textvqa(reply), [_for_textvqa(answer) for answer in answers])


def _for_textvqa(text: str) -> str:
    return normalise_answer(text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip())


def vizwiz_accuracy(reply: str, answers: Sequence[str]) -> float:
    """See the head of this file."""
    return leave_one_out(normalise_answer(reply), answers)


def script_accuracy(reply: str, answers: Sequence[str]) -> float:
    """See the head of this file."""
    agreed = len(set(answers)) == 1
    return leave_one_out(normalise_answer(reply), answers if agreed else [without_punctuation(answer) for answer in answers])


def is_exact(reply: str, answers: Sequence[str]) -> bool:
    """Whether a reply is one of the answers, but for case and space around it: evaluate_exact_match_accuracy in
    eval_mm/evaluate_vqa.py, QwenLM/Qwen-VL @ aa00ed0, and process_line of method `accuracy` in vlmeval/dataset/utils/vqa_eval.py,
    open-compass/VLMEvalKit @ e8e78f0."""
    return reply.strip().lower() in {answer.strip().lower() for answer in answers}


def gqa_answer(reply: str) -> str:
    """What Qwen-VL's script takes for the answer in a reply to GQA: the first clause, what follows is, are, a, an or the, and what
    comes before of. (These are searched for anywhere: of "pizza on it" the word on is left, as it comes after "a ".)

    QwenLM/Qwen-VL @ aa00ed0, eval_mm/evaluate_vqa.py.
    """
    answer = reply.strip()
    for mark in ".,!":
        answer = answer.split(mark)[0]
    answer = answer.lower()
    for word in ("is ", "are ", "a ", "an ", "the "):
        if word in answer:
            answer = answer.split(word)[1]
    return answer.split(" of")[0].strip()


Accuracy = Callable[[str, Sequence[str]], float]


def answer_score(**measures: Accuracy) -> Callable[[Prediction, Markup], Mapping[str, Tally]]:
    """A `Score`: measure -> what a reply earns by it, against truth["answers"]."""

    def score(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
        answers = prediction.truth["answers"]
        return {name: (float(measure(prediction.reply, answers)), 1.0) for name, measure in measures.items()}

    return score
