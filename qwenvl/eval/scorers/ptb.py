"""Captions as words, equal to what pycocoevalcap's Java tokenizer makes of them: Stanford's PTBTokenizer 3.4.1 in lower case,
without the tokens that pycocoevalcap leaves out.

As there, captions are read as lines of one text: whether a full stop belongs to a single letter ("vitamin C.") depends on how the
next caption begins. A caption with a line end of another kind (U+2028, a bare carriage return) stays one caption here; there, all
that follow are shifted by one.
Behaviour read in src/edu/stanford/nlp/process/PTB{Tokenizer.java,Lexer.flex}, stanfordnlp/CoreNLP @ v3.4.1, and in
tokenizer/ptbtokenizer.py, salaniz/pycocoevalcap @ ad63453.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from qwenvl.eval.scorers.lexer import Lexer
from qwenvl.eval.scorers.ptb_rules import KINDS, PARTS, RULES

LEFT_OUT = frozenset(("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
"""By pycocoevalcap. The brackets stay in fact: by then they are in lower case."""

NO_BREAK = "\u00a0"
"""Stands for a space within a token (a phone number, a fraction, a tag)."""
CURRENCY = {"\u00a2": "cents", "\u00a3": "#", "\u0080": "$", "\u00a4": "$", "\u20a0": "$", "\u20ac": "$"}
FRACTIONS = {"\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
ROUND = {"(": "-LRB-", ")": "-RRB-"}
BRACKETS = {**ROUND, "{": "-LCB-", "}": "-RCB-", "[": "-LSB-", "]": "-RSB-"}
QUOTES = str.maketrans(
    dict.fromkeys("\u0091\u2018\u201b\u2039", "`") | dict.fromkeys("\u0092\u2019\u203a", "'")
    | dict.fromkeys("\u0093\u201c\u00ab", "``") | dict.fromkeys("\u0094\u201d\u00bb", "''")
)  # fmt: skip
SOFT_HYPHEN = "\u00ad"


def tokenize(captions: Sequence[str]) -> list[str]:
    """The words of each caption, joined by spaces."""
    lines = [caption.replace("\n", " ") for caption in captions]
    text, lexer = "\n".join(lines), _lexer()
    found: list[str] = []
    place = 0
    for line in lines:
        tokens: list[str] = []
        end = place + len(line)
        while place < end:
            number, after = lexer.match(text, place)
            token, place = _written(RULES[number][0], text[place:after], after)
            if token:
                tokens.append(token.lower())
        # A space of another kind at the very end, which an address may end in, is cut off as there.
        found.append(" ".join(word for word in " ".join(tokens).rstrip().split(" ") if word not in LEFT_OUT))
        place = max(place, end + 1)
    return found


@cache
def _lexer() -> Lexer:
    return Lexer([rule for _, rule in RULES], PARTS, KINDS)


def _written(way: str, text: str, end: int) -> tuple[str, int]:
    """(the token as it is written, empty for none; where the next begins)."""
    match way:
        case "keep":
            return text, end
        case "soft":
            return text.replace(SOFT_HYPHEN, "") or "-", end
        case "drop":
            return "", end
        case "back 2" | "back 3":
            cut = int(way[-1])
            return text[:-cut], end - cut
        case "again":
            return text, end - 1
        case "acronym":
            # Of a single letter the full stop is the sentence's.
            return (text[:-1], end - 1) if len(text) == 2 else (text, end)
        case "spaced":
            return text.replace(" ", NO_BREAK), end
        case "phone":
            return "".join(ROUND.get(char, char) for char in text).replace(" ", NO_BREAK), end
        case "ampersand":
            return _without_entity(text), end
        case "quotes":
            return text.replace("&apos;", "'").translate(QUOTES), end
        case "fraction":
            return FRACTIONS.get(text, text), end
        case "currency":
            return CURRENCY.get(text, text), end
        case "less":
            return "<", end
        case "greater":
            return ">", end
        case "brackets":
            return "".join((BRACKETS if len(text) == 1 else ROUND).get(char, char) for char in text), end
        case "dashes":
            return text if len(text) > 4 else "", end
    raise AssertionError(way)


def _without_entity(text: str) -> str:
    """With & for &amp; in any case of its letters."""
    place = text.lower().find("&amp;")
    return text if place < 0 else text[:place] + "&" + _without_entity(text[place + len("&amp;") :])
