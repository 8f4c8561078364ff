"""Scores of answers equal those of the official evaluations and of other harnesses, on thousands of generated cases.

Their outputs were made from scratch copies of their code, which is not here, and are kept in data/eval_answers.json: for each peer
its repository, commit and file. Python 2 code (the official VQA evaluation) ran under Python 3 with its print statements changed.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwenvl.eval.scorers import reading, vqa

DATA = json.loads((Path(__file__).parent / "data" / "eval_answers.json").read_text(encoding="utf-8"))
COUNT, SEED = 1500, 6


def pieces(text: str) -> list[str]:
    return text.split("|")


WORDS = pieces(
    "a|an|the|The|A|yes|no|Yes.|none|zero|one|two|Two|ten|2|10|1,000|1,000,000|3.5|.5|5.|5:30|12/25|$5|50%|don't|dont|Dont|doesnt|"
    "isnt|cant|its|it's|hes|she's|Im|Ive|somebody'd|somebodys|yall'd've|oclock|o'clock|ma'am|maam|man's|t-shirt|t shirt|(left)|"
    "left|red/white|red, white|red,white|a_b|c++|@home|what?|stop!|u.s.a.|mr. smith|mr.smith|st.|no.5|back\\slash|`tick`|"
    "\"quoted\"|café|Café|狗|½|one.two|x=y|<b>|{c}|[d]|semi;colon|new\nline|tab\there|  spaced  |unanswerable|grey|gray|"
    "black and white|skate board"
)
NUMBERS = pieces(
    "0|0.0|-0|00|1|1.0|1.04|1.05|1.06|0.95|0.94|-1|100|105|106|95|94|1e2|1e400|nan|inf|5%|0.05|5.2%|%|12,000|12000|1_000|"
    "abc|ABC| 7 |7"
)
READ = pieces(
    "invoice|Invoice|total amount|TOTAL  AMOUNT|$1,234.50|1234.5|Straße|STRASSE|ﬁve|İzmir|12/05/1998|dec 5, 1998|N/A||  | x"
)
GQA = pieces("is|are|a|an|the|of|The|It is|on|pizza|man|left of|top of|bus.|red, white|No!|yes|area|this is a|woman,|  |.")


GUISES: tuple[Callable[[str], str], ...] = (str, str, str.upper, str.title, " {}.".format, "the {}".format)


def answer_cases() -> list[tuple[str, list[str]]]:
    """(reply, ten answers): often alike, often the reply one of them in another guise."""
    draw, cases = random.Random(SEED), []
    for _ in range(COUNT):
        pool = [" ".join(draw.choices(WORDS, k=draw.choice((1, 1, 1, 2, 3)))) for _ in range(draw.choice((1, 1, 2, 3, 5)))]
        answers = [draw.choice(pool) for _ in range(10)]
        reply = draw.choice((draw.choice(answers), draw.choice(answers), draw.choice(WORDS)))
        cases.append((draw.choice(GUISES)(reply), answers))
    return cases


def reading_cases(words: list[str]) -> list[tuple[str, list[str]]]:
    """(reply, one to three answers)."""
    draw, cases = random.Random(SEED), []
    for _ in range(COUNT):
        answers = [" ".join(draw.choices(words, k=draw.choice((1, 1, 2)))) for _ in range(draw.choice((1, 1, 2, 3)))]
        reply = list(draw.choice((draw.choice(answers), draw.choice(words))))
        for _ in range(draw.choice((0, 0, 1, 2, 4))):
            reply.insert(draw.randrange(len(reply) + 1), draw.choice("ab 1."))
        cases.append(("".join(reply), answers))
    return cases


def gqa_cases() -> list[str]:
    draw = random.Random(SEED)
    return [" ".join(draw.choices(GQA, k=draw.randint(1, 6))) for _ in range(COUNT)]


CASES: dict[str, Any] = {
    "answers": answer_cases(), "read": reading_cases(READ), "numbers": reading_cases(NUMBERS), "gqa": gqa_cases(),
}  # fmt: skip


def digest() -> str:
    return hashlib.sha256(json.dumps(CASES).encode()).hexdigest()


def peer(name: str) -> Any:
    assert DATA["digest"] == digest(), "these are not the cases that the peers were given"
    assert " @ " in DATA["peers"][name]["source"]
    return DATA["peers"][name]["outputs"]


def thirtieths(accuracy: Callable[[str, list[str]], float]) -> list[float]:
    return [30 * accuracy(reply, answers) for reply, answers in CASES["answers"]]


@pytest.mark.parametrize("name", ["official", "textvqa", "script"])
def test_vqa_accuracy_equals_its_source(name: str) -> None:
    assert thirtieths(getattr(vqa, f"{name}_accuracy")) == pytest.approx(peer(name), abs=1e-6)
    assert 0.1 < sum(peer(name)) / 30 / COUNT < 0.9


def test_vizwiz_accuracy_differs_from_its_source_on_contractions_alone() -> None:
    """Its table of contractions has typographic apostrophes, in all copies that were found: "dont" becomes a "don't" that no answer
    is. Ours is that of the VQA evaluation."""
    theirs = peer("vizwiz")
    for (reply, _), found, expected in zip(CASES["answers"], thirtieths(vqa.vizwiz_accuracy), theirs, strict=True):
        if found != pytest.approx(expected, abs=1e-6):
            words = vqa.without_punctuation(vqa.one_line(reply)).lower().split()
            assert any(word in vqa.CONTRACTIONS for word in words)
    assert 0.1 < sum(theirs) / 30 / COUNT < 0.9


def test_lmms_eval_normalises_where_the_official_evaluation_does_not() -> None:
    """lmms-eval's VQAv2 normalises both sides even where all ten people agree: they differ on such questions alone."""
    ours, theirs = thirtieths(vqa.official_accuracy), peer("lmms vqav2")
    differ = [number for number in range(COUNT) if ours[number] != pytest.approx(theirs[number])]
    assert differ
    assert all(len({vqa.one_line(answer) for answer in CASES["answers"][number][1]}) == 1 for number in differ)


def test_lmms_eval_scores_textvqa_as_its_authors_do() -> None:
    assert thirtieths(vqa.textvqa_accuracy) == pytest.approx(peer("lmms textvqa"), abs=1e-6)


@pytest.mark.parametrize("name", ["anls", "lmms anls"])
def test_anls_equals_its_source(name: str) -> None:
    assert [reading.anls(*case) for case in CASES["read"]] == pytest.approx(peer(name), abs=1e-6)


def test_relaxed_accuracy_by_script_equals_it() -> None:
    found = "".join(str(int(reading.relaxed_accuracy_by_script(*case))) for case in CASES["numbers"])
    assert found == peer("relaxed script")


@pytest.mark.parametrize("name", ["lmms relaxed", "vlmevalkit relaxed"])
def test_relaxed_accuracy_differs_from_peers_on_zero_alone(name: str) -> None:
    """They compare a target of 0 as text: 0.0 is not 0, and nan, which is no number within 5 % of it, neither."""
    theirs = peer(name)
    # lmms-eval has one answer for each question; the first stands for it here.
    cases = [(reply, answers if "vlm" in name else answers[:1]) for reply, answers in CASES["numbers"]]
    if "lmms" in name:
        found = [float(reading.is_close(reply, answers[0])) for reply, answers in cases]
    else:
        found = [reading.relaxed_accuracy(reply, answers) for reply, answers in cases]
    differ = [cases[number] for number in range(COUNT) if found[number] != int(theirs[number])]
    assert differ
    assert all(0 in [reading.number(answer) for answer in answers] and reading.number(reply) == 0 for reply, answers in differ)


def test_gqa_answers_are_cleaned_up_as_by_the_script() -> None:
    assert [vqa.gqa_answer(reply) for reply in CASES["gqa"]] == peer("gqa")


@pytest.mark.parametrize("name", ["exact script", "vlmevalkit exact"])
def test_exact_match_equals_its_source(name: str) -> None:
    assert "".join(str(int(vqa.is_exact(*case))) for case in CASES["answers"]) == peer(name)
