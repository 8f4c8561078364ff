"""Questions and replies of every kind of OCRBench v2, drawn from a seed. The published scorer's scores lie in tests/oracle/data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from tests.oracle.reading_cases import CHINESE, ENGLISH, LATEX, near, some, soup, table

Made = tuple[str, dict[str, Any]]
"""A reply, and what belongs to the truth beside the kind."""


def markdown(rng: Random) -> str:
    rows = [[some(rng, ENGLISH, 2) for _ in range(3)] for _ in range(rng.randrange(1, 4))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [["a", "b", "c"], ["---"] * 3, *rows])


def outline(rng: Random) -> str:
    words = [*ENGLISH, "*x*", "a_b", ""]
    return "\n".join(rng.choice(("# ", "## ", "", "", "- ")) + some(rng, words, 4) for _ in range(rng.randrange(1, 8)))


def words_at(rng: Random) -> list[list[Any]]:
    found = []
    for _ in range(rng.randrange(1, 5)):
        left, top = rng.randrange(900), rng.randrange(900)
        text = rng.choice((*ENGLISH, "###", "'quoted'", "a, b", '"in"'))
        found.append([left, top, left + rng.randrange(1, 100), top + rng.randrange(1, 100), text])
    return found


def moved(rng: Random, words: list[list[Any]]) -> list[list[Any]]:
    shift = rng.choice((0, 0, 2, 30))
    changed = []
    for *box, text in words:
        changed.append([*(min(999, side + shift) for side in box), near(rng, text) if rng.random() < 0.4 else text])
    rng.shuffle(changed)
    return changed[rng.randrange(2) :] + (words_at(rng) if rng.random() < 0.3 else [])


def in_fence(rng: Random, text: str) -> str:
    return rng.choice((text, f"```json\n{text}\n```", f"```python\n{text}\n```", f"Here it is: {text}"))


def _answer(words: list[str]) -> Callable[[Random], Made]:
    def make(rng: Random) -> Made:
        how = rng.choice((None, None, "multiple choice", "case sensitive"))
        if how == "multiple choice":
            return rng.choice(("A", "A.", "(B)", "A B", "B")), {"answers": ["A"], "eval": how}
        answers = [some(rng, words, rng.choice((2, 9)), rng.choice((" ", ",", "\n"))) or "x" for _ in range(rng.randrange(1, 3))]
        return near(rng, rng.choice(answers)), {"answers": answers} | ({"eval": how} if how else {})

    return make


def _page(words: list[str]) -> Callable[[Random], Made]:
    def make(rng: Random) -> Made:
        truth = some(rng, words, 20, " " if words is ENGLISH else "") or "x"
        return near(rng, truth), {"answers": [truth]}

    return make


def _pairs(rng: Random) -> Made:
    truth = {name: rng.choice((some(rng, ENGLISH, 3) or "x", ["a b", "c"])) for name in rng.sample(["company", "date", "total"], 2)}
    said = {name: rng.choice((text if isinstance(text, str) else text[0], "other", "X")) for name, text in truth.items()}
    said |= {"more": "1"} if rng.random() < 0.2 else {}
    reply = rng.choice((json.dumps(said), str(said), "\n".join(f"{name}: {text}" for name, text in said.items()), "none"))
    return in_fence(rng, reply), {"answers": [json.dumps(truth)]}


def _chart(rng: Random) -> Made:
    truth = {some(rng, ENGLISH, 2) or "x": rng.choice((12, "3.5", {"a": 1})) for _ in range(rng.randrange(1, 4))}
    said = dict(list(truth.items())[rng.randrange(2) :]) | ({"new": 1} if rng.random() < 0.3 else {})
    return rng.choice((str(said), f"data = {said}", f"```python\n{said}\n```", f"{said}  # done", "no chart")), {"answers": [truth]}


def _table(form: str) -> Callable[[Random], Made]:
    def make(rng: Random) -> Made:
        if form == "html":
            truth = table(rng)
            reply = rng.choice(("", "Here:\n")) + soup(rng, truth, rng.randrange(3))
        else:
            truth = markdown(rng)
            reply = rng.choice((truth, markdown(rng), f"```markdown\n{truth}\n```"))
        return reply, {"answers": [truth], "question": f"Give the table in {form}."}

    return make


def _count(rng: Random) -> Made:
    true = rng.randrange(1, 12)
    reply = rng.choice(("There are {} of them", "{}", "none", "about {} or 20")).format(max(0, true + rng.randrange(-4, 5)))
    return reply, {"answers": [str(true)], "eval": rng.choice(("exact match", "regression"))}


def _place(rng: Random) -> Made:
    (word, *_), answer = words_at(rng), some(rng, ENGLISH, 3) or "x"
    said = str([side + rng.choice((0, 0, 5)) for side in word[:4]])
    reply = rng.choice((json.dumps({"answer": near(rng, answer), "bbox": said}), str({"answer": answer, "bbox": said}), answer))
    return in_fence(rng, reply), {"answers": [answer], "bbox": word[:4]}


def _grounding(rng: Random) -> Made:
    (word, *_) = words_at(rng)
    said = [side + rng.choice((0, 0, 5)) for side in word[:4]]
    round_brackets = f"({', '.join(map(str, said))})"
    reply = rng.choice((str(said), round_brackets, f"[1, 2, 3, 4] then {said}", "nowhere", "[1, 2, 3, 2000]"))
    return reply, {"answers": word[:4]}


def _spotting(rng: Random) -> Made:
    true = words_at(rng)
    said = moved(rng, true)
    plain = "[" + ", ".join(f"({', '.join(map(str, word))})" for word in said) + "]"
    corners = [[left, top, right, top, right, bottom, left, bottom] for left, top, right, bottom, _ in true]
    reply = rng.choice((str(said), str([tuple(word) for word in said]), plain))
    return reply, {"bbox": corners, "content": [word[4] for word in true], "answers": []}


def _formula(rng: Random) -> Made:
    answers = [some(rng, LATEX, 6) or "x"]
    return near(rng, answers[0]), {"answers": answers}


def _handwritten(rng: Random) -> Made:
    if rng.random() < 0.3:
        reply, truth = _page(CHINESE)(rng)
        return reply or "x", truth | {"question": "简答题"}
    truth = rng.choice(("ABC", "BD", "C", "√"))
    return rng.choice((truth, "、".join(truth), " ".join(truth), "; ".join(truth), "D")), {"answers": [truth]}


def _document(rng: Random) -> Made:
    truth = outline(rng)
    return rng.choice((truth, outline(rng), truth + "\n" + outline(rng))), {"answers": [truth]}


KINDS: dict[str, Callable[[Random], Made]] = {
    **dict.fromkeys(("APP agent en", "math QA en", "text recognition en", "document classification en"), _answer(ENGLISH)),
    **dict.fromkeys(("cognition VQA cn", "reasoning VQA cn"), _answer(CHINESE)),
    **dict.fromkeys(("full-page OCR en", "fine-grained text recognition en"), _page(ENGLISH)),
    **dict.fromkeys(("full-page OCR cn", "text translation cn"), _page(CHINESE)),
    **dict.fromkeys(("key information extraction en", "key information mapping en", "key information extraction cn"), _pairs),
    **dict.fromkeys(("document parsing en", "document parsing cn"), _document),
    **dict.fromkeys(("formula recognition en", "formula recognition cn"), _formula),
    "handwritten answer extraction cn": _handwritten, "text counting en": _count, "table parsing cn": _table("html"),
    "chart parsing en": _chart, "VQA with position en": _place, "text grounding en": _grounding, "text spotting en": _spotting,
}  # fmt: skip


def ocrbench_v2(seed: int, count: int) -> Iterator[Made]:
    """(reply, truth) of all kinds of rules of OCRBench v2."""
    rng = Random(seed)
    kinds = [*KINDS, "table parsing en"]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        make = KINDS.get(kind) or _table(rng.choice(("html", "markdown")))
        reply, truth = make(rng)
        yield reply, {"type": kind, "question": "What is it?"} | truth


def ocrbench(seed: int, count: int) -> Iterator[tuple[str, list[str], str]]:
    """(reply, answers, data set) of OCRBench."""
    rng = Random(seed)
    for number in range(count):
        dataset, words = ("HME100k", LATEX) if number % 3 == 0 else ("STVQA", ENGLISH + CHINESE)
        answers = [some(rng, words, 4, rng.choice((" ", "\n"))) or "x" for _ in range(rng.randrange(1, 3))]
        yield near(rng, rng.choice(answers)), answers, dataset
