"""Scores of words: exact answers, phrases found in a caption, characters read.

Text is normalised before it is compared, in one stated way:
`normalise` (names, colours, counts, yes/no): Unicode NFKC, case folded, quotation marks removed, white space collapsed and
removed beside Chinese characters, sentence punctuation removed at both ends. `normalise_reading` (OCR): NFKC, white space
collapsed, quotation marks and sentence punctuation removed at both ends; case and everything inside count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence

SENTENCE_ENDS = " \t\n.,;:!?。、"  # NFKC has already turned full-width ，；：！？ into these
QUOTES = "\"'“”‘’«»「」『』`"
SPACE_BESIDE_CHINESE = re.compile(r"(?<=[\u3400-\u9fff]) +| +(?=[\u3400-\u9fff])")


def normalise(text: str) -> str:
    """The form in which names, colours, numbers and yes/no are compared (see the head of this file)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    unquoted = "".join(letter for letter in folded if letter not in QUOTES)
    return SPACE_BESIDE_CHINESE.sub("", " ".join(unquoted.split())).strip(SENTENCE_ENDS)


def normalise_reading(text: str) -> str:
    """The form in which text read from a picture is compared: case and inner characters count."""
    return " ".join(unicodedata.normalize("NFKC", text).split()).strip(SENTENCE_ENDS + QUOTES)


def is_exact(reply: str, accepted: Iterable[str]) -> bool:
    """True if the normalised reply equals one of the accepted answers; an empty reply never does."""
    said = normalise(reply)
    return bool(said) and said in {normalise(answer) for answer in accepted}


class Lexicon:
    """All phrases that a caption could use, ready to be found in text.

    At each place the longest phrase wins and is used up, so that "a red circle" is not found again as "red circle".
    A phrase that begins or ends in a Latin letter or digit must begin or end a word: "a cat" is not in "a caterpillar".
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self.phrases = frozenset(normalise(phrase) for phrase in phrases) - {""}
        longest_first = sorted(self.phrases, key=lambda phrase: (-len(phrase), phrase))
        self._pattern = re.compile("|".join(map(_whole_words, longest_first)) or "(?!)")

    def find(self, text: str) -> list[str]:
        """The phrases that `text` contains, in order, normalised."""
        return self._pattern.findall(normalise(text))


def phrase_overlap(reply: str, expected: Iterable[str], lexicon: Lexicon) -> tuple[int, int, int]:
    """(phrases both expected and said, phrases expected, phrases said); each phrase is counted once."""
    wanted = {normalise(phrase) for phrase in expected}
    said = set(lexicon.find(reply))
    return len(wanted & said), len(wanted), len(said)


def similarity(reply: str, expected: str) -> float:
    """1 - edit distance / length of the longer string, in [0, 1]; 1.0 for two empty strings."""
    longer = max(len(reply), len(expected))
    return 1.0 - edit_distance(reply, expected) / longer if longer else 1.0


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Levenshtein distance: the fewest insertions, deletions and replacements of one character, or of one item of a list.

    A whole column of the table of distances at a time, as the bits of an integer (Myers, J. ACM 46, 1999, in the form of Hyyrö,
    2003): two pages of 5000 characters take some hundredths of a second.
    """
    start, shorter = 0, min(len(first), len(second))
    while start < shorter and first[start] == second[start]:
        start += 1
    end = 0
    while end < shorter - start and first[-1 - end] == second[-1 - end]:
        end += 1
    down, across = first[start : len(first) - end], second[start : len(second) - end]
    if not down or not across:
        return len(down) or len(across)
    places: dict[Hashable, int] = {}
    for number, item in enumerate(down):
        places[item] = places.get(item, 0) | 1 << number
    full, last = (1 << len(down)) - 1, 1 << (len(down) - 1)
    # Where, down a column, a distance is one more (or one less) than the one above it.
    more, less, distance = full, 0, len(down)
    for item in across:
        same = places.get(item, 0)
        diagonal = ((((same & more) + more) ^ more) | same | less) & full
        grows, shrinks = less | (full & ~(diagonal | more)), diagonal & more
        distance += bool(grows & last) - bool(shrinks & last)
        grows = grows << 1 | 1
        more = (shrinks << 1 | ~(diagonal | grows)) & full
        less = grows & diagonal & full
    return distance


def _whole_words(phrase: str) -> str:
    latin = re.compile("[a-z0-9]")
    before = "(?<![a-z0-9])" if latin.match(phrase[0]) else ""
    after = "(?![a-z0-9])" if latin.match(phrase[-1]) else ""
    return before + re.escape(phrase) + after
