"""Caption scores equal pycocoevalcap's, whose tokenizer is a Java program: where there is no Java, its words for some captions,
kept in data/eval_captions.json, stand in.

pip install pycocoevalcap==1.2; apt-get install default-jre-headless (here: OpenJDK 17).
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from qwenvl.eval.scorers import captions as scorer
from qwenvl.eval.scorers.ptb import tokenize
from tests.oracle.captions_cases import captions, plain

DATA = json.loads((Path(__file__).parent / "data" / "eval_captions.json").read_text(encoding="utf-8"))
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="apt-get install default-jre-headless")


def java_words(written: list[str]) -> list[str]:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    found = PTBTokenizer().tokenize({number: [{"caption": text}] for number, text in enumerate(written)})
    return [found[number][0] for number in range(len(written))]


def shortened(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:8]


def test_words_equal_those_kept_of_the_java_tokenizer() -> None:
    written = captions(DATA["count"], DATA["seed"])
    assert shortened("\n".join(written)) == DATA["captions"], "these are not the captions that the peer was given"
    assert [shortened(words) for words in tokenize(written)] == DATA["words"]


def test_words_depend_on_what_follows_as_in_the_java_tokenizer() -> None:
    """On the beginning of the next caption, or that the text ends; an empty caption has no words, and does not shift the next."""
    assert len(DATA["texts"]) > 5
    for written, words in DATA["texts"]:
        assert tokenize(written) == words


@needs_java
def test_words_equal_the_java_tokenizer() -> None:
    written = [*captions(5000, 17), "", "Washington, etc.5"]
    assert tokenize(written) == java_words(written)


def sets(count: int) -> tuple[list[str], list[list[str]]]:
    """Captions and one to six references each, in words."""
    draw = random.Random(5)
    references = [[plain(draw) for _ in range(draw.randint(1, 6))] for _ in range(count)]
    said = [draw.choice((draw.choice(own), plain(draw), draw.choice(own)[: draw.randint(0, 60)], "")) for own in references]
    words = tokenize([*said, *(text for own in references for text in own)])
    rest = iter(words[count:])
    return words[:count], [[next(rest) for _ in own] for own in references]


def peer_scores(said: list[str], references: list[list[str]]) -> dict[str, Any]:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    truth, replies = dict(enumerate(references)), {number: [text] for number, text in enumerate(said)}
    return {
        "cider": Cider().compute_score(truth, replies)[1], "bleu": Bleu(4).compute_score(truth, replies, verbose=0)[0],
        "rouge": Rouge().compute_score(truth, replies)[1],
    }  # fmt: skip


def test_scores_equal_pycocoevalcap() -> None:
    said, references = sets(1200)
    expected = peer_scores(said, references)
    assert scorer.cider(said, references) == pytest.approx(expected["cider"].tolist(), abs=1e-6)
    rouge = [scorer.rouge_l(*pair) for pair in zip(said, references, strict=True)]
    assert rouge == pytest.approx(expected["rouge"].tolist(), abs=1e-6)
    counts = [scorer.bleu_counts(*pair) for pair in zip(said, references, strict=True)]
    assert scorer.bleu(counts) == pytest.approx(expected["bleu"], abs=1e-6)
    assert expected["cider"].mean() > 1


def test_scores_of_few_captions_equal_pycocoevalcap() -> None:
    """Small sets, where n-grams are as common as captions, and sets in which nothing is right."""
    said, references = sets(60)
    for size in (1, 2, 3):
        for start in range(0, 60, size):
            part, own = said[start : start + size], references[start : start + size]
            expected = peer_scores(part, own)
            assert scorer.cider(part, own) == pytest.approx(expected["cider"].tolist(), abs=1e-6)
            counts = [scorer.bleu_counts(*pair) for pair in zip(part, own, strict=True)]
            assert scorer.bleu(counts) == pytest.approx(expected["bleu"], abs=1e-6)
