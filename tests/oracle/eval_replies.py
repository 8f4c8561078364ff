"""Replies as models give them, drawn by seed: what scorers and their peers are compared on."""

from __future__ import annotations

import json
import random
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = 6
COUNT = 1500
DATA = Path(__file__).parent / "data"


def recorded(name: str) -> Any:
    """What peers said, in data/NAME.json."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


TEXTS = (
    "a cat", "a dog", "Yellow", "Red", "blue", "12", "12 cm", "120", "3.5", "yes", "no", "The left one.", "the right one",
    "None of the above", "Apples are red", "It increases", "It decreases", "$\\frac{1}{2}$", "C", "a big red square", "DNA",
    "vitamin A",
    "both A and B", "Option 1", "moving towards the camera", "左边", "蓝色的房子", "Berlin", "New York", "No, it is not",
)  # fmt: skip

LETTER_FORMS = (
    "{L}", "({L})", "{L}.", "{L})", "{L}:", "{L}: {t}", "{L}. {t}", "({L}) {t}", "{L}) {t}", " {L} ", "\n{L}\n", "{l}", "({l})",
    "{l}. {t}",
    "**{L}**", "**{L}. {t}**", "\\boxed{{{L}}}", "The answer is {L}", "The answer is {L}.", "The answer is ({L}).",
    "the answer is {l}",
    "The correct answer is **{L}**. Here is why: {t}.", "The correct answer is {L}: {t}", "The best answer is: {L}",
    "Best answer: {L}",
    "The best option is {L}", "The correct option is {L}.", "Best option: {L}", "Answer: {L}", "Answer: ({L}) {t}",
    "Option: {L}", "ANSWER {L}",
    "I choose {L}", "I would say {L}", "I pick option {L}.", "My answer is {L}!", "{L}, because {t} is shown", "{L} is right",
    "It is {L} or {M}", "It could be ({M}), but ({L}) is right", "({L}) and ({M})", "{M}. {u} is wrong, so {L}. {t}",
    "Not {M} but {L}", "答案是{L}", "选{L}。", "正确答案：{L}", "정답은 {L}", "Based on the picture, the answer is {L}",
    "Final answer: {L}.",
    "Comparing all options, {L}", "{L}{L}", "{L}-{t}", "Option {L}", "option ({L}) {t}",
)  # fmt: skip
TEXT_FORMS = (
    "{t}", "{t}.", "I think that it is {t}", "The picture clearly shows {t} in the middle of the scene", "{t} or {u}",
    "It is not {u} but {t}",
    "A person walks by and sees {t}", "Look: {t}, as far as I can see from this picture here", "THE ANSWER IS {T}", "{u}, {t}",
    "There is a cat and {t} beside an apple tree near the house.", "a {t}",
)  # fmt: skip
OTHER = (
    "", " ", ".", "(", ")", "I do not know", "Cannot determine the answer", "Z", "E", "None",
    "Sorry, I can't help with images of people yet.",
    "The DNA is shown in the middle of this picture", "A", "A cat sits on the mat", "An apple a day",
    "I'm sorry, but without the image provided I cannot",
    "All of them", "yes", "No", "zzz", "Because of B", "???", "The answer", "A B C D", "(A) (B) (C) (D)",
)  # fmt: skip


@dataclass(frozen=True)
class ChoiceCase:
    """options: letter -> text. right: a letter."""

    reply: str
    options: dict[str, str]
    right: str


def choice_cases(seed: int = SEED, count: int = COUNT, most: int = 5) -> list[ChoiceCase]:
    draw = random.Random(seed)
    cases = []
    for _ in range(count):
        letters = string.ascii_uppercase[: draw.randint(2, most)]
        options = dict(zip(letters, draw.sample(TEXTS, len(letters)), strict=True))
        meant, other = draw.sample(letters, 2)
        kind = draw.random()
        form = draw.choice(LETTER_FORMS) if kind < 0.6 else draw.choice(TEXT_FORMS) if kind < 0.85 else draw.choice(OTHER)
        reply = form if kind >= 0.85 else form.format(
            L=meant, l=meant.lower(), M=other, t=options[meant], T=options[meant].upper(), u=options[other]
        )  # fmt: skip
        before, behind = ("", "", "", "", "\n", "Well, ", "Looking at the picture, "), ("", "", "", ".", "!", "\n", " ;")
        reply = draw.choice(before) + reply + draw.choice(behind)
        cases.append(ChoiceCase(reply, options, draw.choice(letters)))
    return cases


YES_NO_FORMS = (
    "Yes", "No", "yes", "no", "Yes.", "No.", "Yes, there is.", "No, there is not.", "YES", "NO!", " yes", "\nno",
    "The answer is yes.",
    "The answer is no", "There is a dog, yes", "I see no dog", "There is not a dog in it.", "Not at all", "Nothing is there",
    "know", "eyes",
    "yes/no", "yes or no", "It is unclear", "", ".", "y", "n", "Y.", "N", "maybe", "Yes-it is", "no-one", "3.5, yes",
    "1,000 (yes)", "(no)",
    "\"Yes\"", "Yes it is. No doubt.", "No. Yes.", "There are 2,000 of them; yes", "Of course", "是", "否", "noyes", "yes?no",
)  # fmt: skip


def yes_no_replies(seed: int = SEED, count: int = COUNT) -> list[tuple[str, str]]:
    """(reply, the truth)."""
    draw = random.Random(seed)
    tails = ("", "", "", " The picture shows it.", ", I think", " ...", "\n")
    return [(draw.choice(YES_NO_FORMS) + draw.choice(tails), draw.choice(("yes", "no"))) for _ in range(count)]


OPEN_FORMS = (
    "{a}", "{a}.", "The answer is {a}", "so the result is {a}.", "x = {a}", "x = {b} + 1\nthus x = {a}", "It could be {a}",
    "final answer {a}",
    "We get {b}. So the value is {a}", "{a} watts", "about {a}, so {b}", "The answer is: {a}\nThis is because of {b}", "is ",
    "so :", "{b}",
    "therefore {a}\nfinal {b}", "1,234.5 is {a}", "-{a}", "{a}e3", "answer is {b}; result is {a}", "thus", "={a}",
    "Tampa, Florida is {a}!",
)  # fmt: skip
OPEN_ANSWERS = (
    "1.06", "Transformation", "1/64", "12.97", "4", "-120", "1,360", "0.9965", "x", "MgS", "$MgS$", "24.32", "3.429", "2.00",
    "1e3", "nan",
    "Florida", "trans-1-Chloro-4-methylcyclohexane", "360", ".5",
)  # fmt: skip


def open_cases(seed: int = SEED, count: int = COUNT) -> list[tuple[str, list[str]]]:
    """(reply, accepted answers)."""
    draw = random.Random(seed)
    cases = []
    for _ in range(count):
        said, other, wanted = (draw.choice(OPEN_ANSWERS) for _ in range(3))
        accepted = [said if draw.random() < 0.5 else wanted]
        accepted += [draw.choice(OPEN_ANSWERS)] if draw.random() < 0.2 else []
        cases.append((draw.choice(OPEN_FORMS).format(a=said, b=other), accepted))
    return cases


FORMULAS = (
    "60", "-3", "0.5", "2.50", "\\frac{1}{2}", "\\frac12", "1/2", "3\\sqrt{2}", "\\sqrt2", "2\\pi", "\\frac{3 \\pi}{4}",
    "10^{2}", "2^3", "(1,2)",
    "(0.5, \\frac{1}{3})", "[1, 2]", "12\\text{ cm}", "45^{\\circ}", "50\\%", "x", "7 units", "\\dfrac{3}{4}",
    "-\\frac{24}{25}", "6+\\pi", "1:4",
    "2 \\cdot 3", "(3)(4)", "\\infty", "\\sqrt{-1}", "0.333", "100", "1.414",
)  # fmt: skip
MATH_FORMS = (
    "{f}", "\\boxed{{{f}}}", "So the answer is \\boxed{{{f}}}.", "The answer is {f}.", "the final answer is {f}",
    "Therefore, x = {f}",
    "First \\boxed{{{g}}}, then \\boxed{{{f}}}", "The correct answer is ({L}).", "({L})\nbecause of {f}",
    "The answer is ({L}) {f}.",
    "{L}", "{L}.", "\\boxed{{{L}}}", "We have ${f}$.", "\\[x \\approx {f}\\]", "It is {f}",
    "The answer should be {f}. It is not {g}.",
    "${g} = {f}$", "\\boxed{{({L})}}", "the value is 12.", "\\boxed{{{f} \\text{{ cm}}}}", "",
)  # fmt: skip


def math_cases(seed: int = SEED, count: int = COUNT) -> list[tuple[str, str, list[str]]]:
    """(reply, the key, options or none)."""
    draw = random.Random(seed)
    cases = []
    for _ in range(count):
        said, other, letter = draw.choice(FORMULAS), draw.choice(FORMULAS), draw.choice("ABCDE")
        reply = draw.choice(MATH_FORMS).format(f=said, g=other, L=letter)
        options = [f"${each}$" for each in draw.sample(FORMULAS, 5)] if draw.random() < 0.5 else []
        key = draw.choice("ABCDE") if options else draw.choice((said, other, draw.choice(FORMULAS)))
        cases.append((reply, key, options))
    return cases


NUMBERS = (
    "1", "-3", "1.2", "1.25", "2.675", "0.045", "12 cm", "", "1,000", "1e3", "7.", ".5", "[1, 2]", "nan", " 4 ", "3.999",
)  # fmt: skip


def extractions(seed: int = SEED, count: int = COUNT) -> list[tuple[str, list[str], str, int | None]]:
    """(extraction, choices, kind of answer, decimals) of MathVista."""
    draw = random.Random(seed)
    cases: list[tuple[str, list[str], str, int | None]] = []
    for _ in range(count):
        kind = draw.choice(("text", "integer", "float", "list"))
        if kind == "text":
            choices = draw.sample(TEXTS, draw.randint(2, 5))
            first, last = choices[0], choices[-1]
            forms = ("A", "(b)", "(C) x", "D", "E", first, last.upper(), first[:3], "", "(A) or (B)", "the " + last)
            cases.append((draw.choice(forms), choices, kind, None))
        else:
            cases.append((draw.choice(NUMBERS), [], kind, draw.choice((1, 2)) if kind == "float" else None))
    return cases


def hallusion_rows(seed: int) -> list[dict[str, str | bool]]:
    """Questions about figures of some sets, each asked of some of them, right or not."""
    draw = random.Random(seed)
    rows: list[dict[str, str | bool]] = []
    for matter in range(draw.randint(1, 8)):
        for figure in range(draw.randint(1, 4)):
            for question in draw.sample(range(4), draw.randint(1, 4)):
                names = {"set_id": str(matter), "figure_id": str(figure), "question_id": str(question)}
                rows.append({**names, "right": draw.random() < 0.8})
    # A question's first figure is the one that the others are compared with there.
    firsts = {(row["set_id"], row["question_id"]) for row in rows if row["figure_id"] == "0"}
    return [row for row in rows if (row["set_id"], row["question_id"]) in firsts]


def tempcompass_cases(task: str, seed: int = SEED, count: int = 500) -> list[tuple[str, str, str]]:
    """(reply, question, answer) of a task of TempCompass."""
    draw = random.Random(f"{seed}/{task}")
    cases = []
    for _ in range(count):
        texts = draw.sample([text for text in TEXTS if ":" not in text], 3)
        if task == "yes_no":
            cases.append((draw.choice(YES_NO_FORMS), "Is it so?", draw.choice(("yes", "no"))))
            continue
        if task == "multi-choice":
            names, joint = "ABC", ". "
        else:
            kind = draw.choice(("Option", "Sentence", "Caption"))
            names, joint, texts = [f"{kind} {name}" for name in ("12" if kind == "Option" else "AB")], ": ", texts[:2]
        options = [f"{name}{joint}{text}" for name, text in zip(names, texts, strict=True)]
        answer, said = draw.choice(options), draw.choice(options)
        name, _, text = said.partition(joint)
        short = name.rpartition(" ")[2]
        forms = (
            said, name, f"{name}.", short, f"{short}.", f"{short})", f"{short}) {text}", text, f"{text}.", f"({short})",
            f"{name}: x",
            f"The answer is {said}", "", f"{short} is right", name.lower(),
        )  # fmt: skip
        reply = draw.choice(forms)
        cases.append((reply.strip(), "What is it?\n" + "\n".join(options), answer))
    return cases


@dataclass(frozen=True)
class Rotation:
    """options in this rotation's order; said, right: numbers of options."""

    index: int
    options: tuple[str, ...]
    said: int
    right: int


def rotation_cases(seed: int = SEED, count: int = 400) -> list[Rotation]:
    """So many questions of 2 to 4 options in all their rotations, as MMBench numbers them."""
    draw = random.Random(seed)
    cases = []
    for question in range(1, count + 1):
        options = draw.sample([text for text in TEXTS if not text[0].isdigit()], draw.randint(2, 4))
        right, sure = draw.choice(options), draw.random()
        for turn in range(len(options)):
            turned = tuple(options[turn:] + options[:turn])
            said = right if draw.random() < sure else draw.choice(options)
            cases.append(Rotation(question + turn * 1_000_000, turned, turned.index(said), turned.index(right)))
    return cases
