"""How alike two long texts are in words: BLEU, METEOR, words in common, edits.

As OCRBench v2 scores pages (eval_scripts/page_ocr_metric.py, OCRBench_v2 of Yuliang-Liu/MultimodalOCR @ 794c36d), with nltk 3.10's
formulas.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from qwenvl.eval.scorers.editing import distance_share
from qwenvl.eval.task import EvaluationError

CHINESE = re.compile("[\u4e00-\u9fa5]")
ORDERS = 4


def page_likeness(reply: str, truth: str, wordnet: Any = None) -> float:
    """The mean of BLEU, METEOR, the F1 of the sets of words, and 1 - the share of edits; 0.0 for two texts without a letter.

    Words are parted by white space, or by jieba where either text has Chinese. Raises EvaluationError where a package is missing.
    """
    if not (reply or truth):
        return 0.0
    chinese = CHINESE.search(truth) or CHINESE.search(reply)
    said, meant = (jieba_words(reply), jieba_words(truth)) if chinese else (reply.split(), truth.split())
    shares = [bleu(said, meant), meteor(said, meant, wordnet), words_f1(said, meant), 1 - distance_share(reply, truth)]
    return sum(shares) / len(shares)


def bleu(said: Sequence[str], meant: Sequence[str]) -> float:
    """BLEU of one sentence, up to four words in a row, against one reference (Papineni et al., ACL 2002).

    As in nltk, a length of which nothing is right counts as the least number above 0, not as 0; without any right word it is 0.
    """
    logs = []
    for order in range(1, ORDERS + 1):
        ours, theirs = (Counter(tuple(words[n : n + order]) for n in range(len(words) - order + 1)) for words in (said, meant))
        right = (ours & theirs).total()
        if order == 1 and not right:
            return 0.0
        logs.append(math.log(right / ours.total()) if right else math.log(sys.float_info.min))
    brief = min(0.0, 1 - len(meant) / len(said))
    return math.exp(brief + math.fsum(logs) / ORDERS)


def words_f1(said: Sequence[str], meant: Sequence[str]) -> float:
    """F1 of the sets of words; 0.0 where either is empty."""
    ours, theirs = set(said), set(meant)
    return 2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours and theirs else 0.0


def meteor(said: Sequence[str], meant: Sequence[str], wordnet: Any = None) -> float:
    """METEOR with stems and synonyms (Banerjee and Lavie, 2005) by nltk. `wordnet`: what gives the synsets of a word, by default
    nltk's. Raises EvaluationError where nltk or its WordNet is not installed."""
    try:
        score: Any = import_module("nltk.translate.meteor_score")
        wordnet = wordnet or import_module("nltk.corpus").wordnet
    except ImportError:
        raise EvaluationError(
            "METEOR of pages needs nltk; run: pip install 'qwenvl[eval]', then python -m nltk.downloader wordnet"
        ) from None
    try:
        return float(score.meteor_score([list(meant)], list(said), wordnet=wordnet))
    except LookupError:
        raise EvaluationError("METEOR of pages needs nltk's WordNet; run: python -m nltk.downloader wordnet") from None


def jieba_words(text: str) -> list[str]:
    """Chinese cut into words. Raises EvaluationError where jieba is not installed."""
    try:
        jieba: Any = import_module("jieba")
    except ImportError:
        raise EvaluationError("pages in Chinese are cut into words by jieba; run: pip install 'qwenvl[eval]'") from None
    jieba.setLogLevel("WARNING")
    return list(jieba.lcut(text))
