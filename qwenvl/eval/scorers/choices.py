"""Multiple choice: which option a reply chooses, by rule or by likelihood.

A rule takes a reply and the options {letter: text} and gives a letter, or None where it finds none: such a reply earns nothing.
Where a peer then guesses at random (MMMU, lmms-eval) or asks a judge (VLMEvalKit), these do not. The rules differ, and each
benchmark says which one is its own:

    by_mmmu            MMMU-Benchmark/MMMU @ bb0b95a, mmmu/utils/eval_utils.py (parse_multi_choice_response)
    by_mmmu_pro        the same, mmmu-pro/evaluate.py; lmms-eval has it for MMMU too, without its first step
    by_vlmevalkit      open-compass/VLMEvalKit @ e8e78f0, vlmeval/utils/matching_util.py (can_infer)
    by_lmms            EvolvingLMMs-Lab/lmms-eval @ 75571cf, lmms_eval/tasks/_task_utils/mcq_extract.py
    by_first_letter    the same, lmms_eval/tasks/longvideobench/utils.py; VLMEvalKit, vlmeval/dataset/utils/videomme.py
    by_first_word      OpenGVLab/Ask-Anything @ 4dd8210, video_chat2/mvbench.ipynb (check_ans)
    by_bracket         THUDM/LVBench @ f998d95, lvbench/utils/answer_util.py (polish_answer)
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence

from qwenvl.eval.task import Prediction, Tally
from qwenvl.families.spec import Markup

LETTERS = string.ascii_uppercase
DECLINED = "Z"
"""What by_vlmevalkit gives for a reply that says it cannot answer."""

Options = Mapping[str, str]
"""Letter -> the option's text."""
Rule = Callable[[str, Options], str | None]


def by_likelihood(ranked: Sequence[float]) -> str:
    """The letter of the most likely option; of equals the first, as argmin over losses in QwenLM/Qwen-VL @ aa00ed0,
    eval_mm/evaluate_multiple_choice.py."""
    return LETTERS[max(range(len(ranked)), key=ranked.__getitem__)]


def chosen(prediction: Prediction, rule: Rule) -> str | None:
    """The letter that a prediction chooses: its best ranked option, or by `rule` what was written."""
    if prediction.ranked:
        return by_likelihood(prediction.ranked)
    return rule(prediction.reply, prediction.truth["choices"])


def choice_score(rule: Rule, measure: str = "accuracy") -> Callable[[Prediction, Markup], Mapping[str, Tally]]:
    """A `Score`: whether the right letter (truth["answer"], of truth["choices"]) is chosen. `decided`, of what was written: whether
    the rule found a letter in it at all. Nothing where the answer is withheld."""

    def score(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
        if "answer" not in prediction.truth:
            return {}
        letter = chosen(prediction, rule)
        right: dict[str, Tally] = {measure: (float(letter == prediction.truth["answer"]), 1.0)}
        return right if prediction.ranked else right | {"decided": (float(letter is not None), 1.0)}

    return score


def by_mmmu(reply: str, options: Options) -> str | None:
    """(A); else A between blanks; else, in more than five words, the text of an option. Of several the one that comes last."""
    return _by_forms(reply, options, (("({})", "({})"), (" {} ", " {} ")))


def by_mmmu_pro(reply: str, options: Options) -> str | None:
    """The only option's letter behind the last "Answer:"; else as by_mmmu, but A before a blank, in a word too ("DNA is" says A),
    and A before a full stop, where of several the last between blanks counts, and without such the first option."""
    if "Answer:" in reply:
        said = [letter for letter in options if letter in reply.rpartition("Answer:")[2]]
        if len(said) == 1:
            return said[0]
    return _by_forms(reply, options, (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")))


def _by_forms(reply: str, options: Options, forms: Sequence[tuple[str, str]]) -> str | None:
    """forms: how a letter is written that counts, and how it must be written for its place to count."""
    for mark in ",.!?;:'":
        reply = reply.strip(mark)
    reply = f" {reply} "
    ways = [(reply, {letter: [form.format(letter) for form in pair] for letter in options}) for pair in forms]
    if len(reply.split()) > 5:
        ways.append((reply.lower(), {letter: [text.lower()] * 2 for letter, text in options.items()}))
    for text, marks in ways:
        places = {letter: text.rfind(place) for letter, (there, place) in marks.items() if there in text}
        if places:
            return max(places, key=places.__getitem__)
    return None


UNREADABLE = (
    "Sorry, I can't help with images of people yet.", "I can't process this file.", "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)  # fmt: skip
SAID = re.compile(r"answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)
"""As there: "the answer is a cat" says A."""
LAST_WORDS = 5
"""A lone letter counts if it stands among the last so many words."""


def by_vlmevalkit(reply: str, options: Options) -> str | None:
    """The only letter that stands alone, among the last words; else what "answer is" says; else the only option whose text is
    quoted. DECLINED for a refusal. What is left over is a judge's there."""
    if any(words in reply for words in UNREADABLE):
        return DECLINED
    words = reply.translate({ord(mark): " " for mark in ".()[],:;!*#{}"}).split()
    alone = [letter for letter in options if letter in words]
    if len(alone) == 1 and words.index(alone[0]) > len(words) - LAST_WORDS:
        return alone[0]
    if not alone and DECLINED in words:
        return DECLINED
    said = SAID.search(reply)
    if said and said[1].upper() in options:
        return said[1].upper()
    if len(reply.lower()) > 2 * sum(map(len, options.values())):
        return None
    quoted = [letter for letter, text in options.items() if text.lower() in reply.lower()]
    return quoted[0] if len(quoted) == 1 else None


PHRASES = (
    "the answer is", "answer is", "the correct answer is", "correct answer is", "the best answer is", "best answer is",
    "the correct option is", "correct option is", "the best option is", "best option is", "the choice is", "choice is",
    "the correct choice is", "correct choice is", "i choose", "i select", "i pick", "my answer is", "my choice is",
    "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは",
)  # fmt: skip


def by_lmms(reply: str, options: Options) -> str | None:
    """Every place where a letter stands in some form; the surest form wins, and of it the last place."""
    bare = reply.strip()
    for mark in ",.!?;:'\"":
        bare = bare.strip(mark)
    text = f" {bare} "
    found: list[tuple[int, int, str]] = []
    for sureness, form in ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} ")):
        found += [(sureness, text.rfind(form.format(letter)), letter) for letter in options if form.format(letter) in text]
    for phrase in PHRASES:
        behind = text.lower().find(phrase) + len(phrase)
        if behind >= len(phrase):
            found += [(7, text.find(letter, behind), letter) for letter in options if letter in text[behind:]]
    bare = bare.strip()
    found += [(10, 0, letter) for letter in options if bare.startswith(letter) and not bare[1:2].isalpha()]
    found += [(9, len(text) - 1, letter) for letter in options if bare.endswith(letter) and not bare[:-1][-1:].isalpha()]
    found = found or [(0, text.rfind(letter), letter) for letter in options if letter in text]
    return max(found, key=lambda one: one[:2])[2] if found else None


PREFIXES = (
    "The best answer is", "The correct answer is", "The answer is", "The answer", "The best option is", "The correct option is",
    "Best answer:", "Best option:", "Answer:", "Option:",
)  # fmt: skip
"""All of both sources. VLMEvalKit's list lacks two commas, so that "Best answer: C" reads B there."""


def by_first_letter(reply: str, options: Options) -> str | None:
    """The first capital that names an option, wherever it stands ("Based on…" says B), behind the usual introductions."""
    for prefix in PREFIXES:
        reply = reply.replace(prefix, "")
    found = re.search(f"[{''.join(options)}]", reply)
    return found[0] if found else None


def by_first_word(reply: str, options: Options) -> str | None:
    """The first word, without full stops, is a part of "(a)" or has it in it. There a reply without a word, or with a bracket for
    it, agrees with every option; here with none."""
    word = reply.strip().lower().split(" ")[0]
    if not word.strip("().\n\t"):
        return None
    matching = [letter for letter in options if word.replace(".", "") in f"({letter.lower()})" or f"({letter.lower()})" in word]
    return matching[0] if len(matching) == 1 else None


def by_bracket(reply: str, options: Options) -> str | None:
    """The first character of what stands before the first ")", and in it behind "("; of its first word."""
    said = reply.strip().split(")")[0].strip()
    if "(" in said:
        said = said.split("(")[1].strip()
    letter = said[:1]
    return letter if letter in options else None
