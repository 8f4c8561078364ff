"""The rules that drop a pair: each a statistic of its text or picture and a decision on it, configured by its own fields.

Steps 1 to 6 of the paper's stage-1 cleaning (arXiv 2308.12966, A.1), its rule for academic captions, and pictures that cannot be
read. The paper gives no thresholds. Those of pictures and lengths are what two of its sources were built with: COYO (README of
kakaobrain/coyo-dataset @ 6ae67f3) and DataComp's basic filter (baselines/apply_filter.py of mlfoundations/datacomp @ 274dbee).
"""

from __future__ import annotations

import math
import re
from functools import cached_property
from typing import Any, Protocol

from pydantic import Field, field_validator, model_validator

from qwenvl.config import Strict
from qwenvl.data.clean.text import words
from qwenvl.data.clean.unicode import Range, Ranges, Scripts, one_of, parse_range, ranges_of, script_of


class Rule(Protocol):
    """What every rule has: a statistic of what it looks at (a text, or a picture's size), a decision, and words for the report."""

    def statistic(self, value: Any, /) -> Any: ...

    def drops(self, statistic: Any, /) -> bool: ...

    def in_words(self, statistic: Any, /) -> str: ...


# Characters that print beside English and Chinese, of no script of their own.
_PUNCTUATION = (
    "20-7E", "A0-BF", "D7", "F7",
    "2B9-2BC", "2C6", "2DC",  # modifier letters: primes and apostrophes
    "2010-2027", "2030-205E", "2070-209C",  # dashes, quotes, superscripts
    "20A0-20C0", "2100-214F", "2150-218B", "2190-21FF", "2200-22FF",  # currency, ℃ №, fractions, arrows, mathematics
    "2460-24FF", "2500-25FF", "2605-2606", "2660-2667", "266A-266F",  # enclosed, boxes, stars, suits, notes
    "2713-2718", "2776-27BE",  # ticks, numbers in circles, arrows
    "3001-303F", "3220-3247", "3250-325F", "3280-32BF", "32C0-32CF", "3358-33FF",  # of Chinese print
    "FE10-FE1F", "FE30-FE6B", "FF01-FF60", "FFE0-FFE6",  # vertical, small and full width
)  # fmt: skip
# Joiners and selectors that only change how the character before them looks: the emoji rule judges them.
_SELECTORS = ("200D", "20E3", "FE00-FE0F")


class Characters(Strict):
    """Drops text with characters of other languages. The statistic: those characters, each as often as it stands there.

    Emoji are not counted: they are another rule's.
    """

    scripts: Scripts = ("Han", "Bopomofo")
    """Scripts, by the standard's names, all of whose characters may stand."""
    letters: str = "àáâãäåæçèéêëìíîïñòóôõöøùúûüœāēīōūǎěǐǒǔǖǘǚǜ"
    """Letters beyond a to z that English borrows (café, São Paulo), and the vowels of Pinyin (nǐ hǎo); their capitals too."""
    ranges: Ranges = _PUNCTUATION
    """What may stand besides, as hexadecimal code points."""
    maximum: int = Field(default=0, ge=0)
    """How many other characters a text may have."""

    @cached_property
    def _foreign(self) -> re.Pattern[str]:
        allowed: list[Range] = [parse_range(text) for text in (*self.ranges, *_SELECTORS)]
        for name in (*self.scripts, "Emoji"):
            allowed += ranges_of(name)
        allowed += [(ord(letter), ord(letter)) for letter in self.letters + self.letters.upper()]
        return re.compile(f"[^{one_of(allowed)}]+")

    def statistic(self, text: str) -> str:
        return "".join(self._foreign.findall(text))

    def drops(self, statistic: str) -> bool:
        return len(statistic) > self.maximum

    def in_words(self, statistic: str) -> str:
        return f"{', '.join(sorted({script_of(character) for character in statistic}))}: {statistic}"


class Emoji(Strict):
    """Drops text with emoji. The statistic: the emoji, each as often as it stands there.

    An emoji is a character that is shown as one by default, or any that a selector (U+FE0F) or a keycap (U+20E3) turns into one
    (UTS #51). Those that are shown as text by default are emoji too, unless they stand in `ordinary`.
    """

    ordinary: Ranges = (
        "23", "2A", "30-39", "A9", "AE", "203C", "2049", "2122", "2139", "2194-2199", "21A9-21AA", "24C2", "25AA-25AB", "25B6",
        "25C0", "25FB-25FC", "260E", "2611", "2640", "2642", "2660", "2663", "2665-2666", "2714", "2716", "27A1", "2934-2935",
        "2B05-2B07",
    )  # fmt: skip
    """Characters that Unicode counts as emoji and print uses as signs: digits, © ® ™, arrows, ☎, the suits of cards, ticks, ..."""

    @cached_property
    def _emoji(self) -> re.Pattern[str]:
        every, shown = one_of(ranges_of("Emoji")), one_of(ranges_of("Emoji_Presentation"))
        ordinary = f"(?![{one_of(map(parse_range, self.ordinary))}])" if self.ordinary else ""
        return re.compile(f"[{shown}]\ufe0f?|[{every}](?:\ufe0f?\u20e3|\ufe0f)|{ordinary}[{every}]")

    def statistic(self, text: str) -> str:
        return "" if text.isascii() else "".join(self._emoji.findall(text))

    def drops(self, statistic: str) -> bool:
        return bool(statistic)

    def in_words(self, statistic: str) -> str:
        return statistic


class TextLength(Strict):
    """Drops text that is too short or too long. The statistic: words, and characters.

    A Han character is a word, and counts as two characters, as wide as it prints: three of them say as much as a short English
    phrase. COYO keeps texts of 6 to 1000 characters and 3 to 256 words; DataComp's basic filter texts of 6 characters, 3 words.
    """

    min_words: int = Field(default=3, ge=0)
    max_words: int = Field(default=256, gt=0)
    min_characters: int = Field(default=6, ge=0)
    max_characters: int = Field(default=1000, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> TextLength:
        if self.min_words > self.max_words or self.min_characters > self.max_characters:
            raise ValueError("the least must not be above the greatest")
        return self

    def statistic(self, text: str) -> tuple[int, int]:
        found = words(text)
        han = 0 if text.isascii() else sum(len(word) == 1 and word > "\u2e7f" for word in found)
        return len(found), len(text) + han

    def drops(self, statistic: tuple[int, int]) -> bool:
        count, characters = statistic
        return not (self.min_words <= count <= self.max_words and self.min_characters <= characters <= self.max_characters)

    def in_words(self, statistic: tuple[int, int]) -> str:
        return f"{statistic[0]} words, {statistic[1]} characters"


class SpecialTags(Strict):
    """Drops captions with a tag that stands for what was taken out. The statistic: the tags found.

    CC12M has <PERSON> in place of names (arXiv 2102.08981). The paper names no tag of SBU: in its preset any word in angle brackets
    that is not HTML counts.
    """

    tags: tuple[str, ...] = (r"<PERSON>",)
    """Regular expressions, upper and lower case alike."""

    @cached_property
    def _tags(self) -> re.Pattern[str]:
        return re.compile("|".join(f"(?:{tag})" for tag in self.tags), re.IGNORECASE)

    @field_validator("tags")
    @classmethod
    def _compile(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        for tag in tags:
            try:
                re.compile(tag)
            except re.error as error:
                raise ValueError(f"{tag!r} is not a regular expression: {error}") from None
        return tags

    def statistic(self, text: str) -> list[str]:
        return [found[0] for found in self._tags.finditer(text)] if self.tags else []

    def drops(self, statistic: list[str]) -> bool:
        return bool(statistic)

    def in_words(self, statistic: list[str]) -> str:
        return " ".join(statistic)


class AspectRatio(Strict):
    """Drops a picture that is too long or too tall. The statistic: its longer side by its shorter one."""

    maximum: float = Field(default=3.0, ge=1)

    def statistic(self, size: tuple[int, int]) -> float:
        return max(size) / min(size)

    def drops(self, statistic: float) -> bool:
        return statistic > self.maximum

    def in_words(self, statistic: float) -> str:
        return f"{statistic:.3g} to 1"


class SmallImage(Strict):
    """Drops a picture that is too small. The statistic: its shorter side in pixels."""

    minimum: int = Field(default=200, ge=1)

    def statistic(self, size: tuple[int, int]) -> int:
        return min(size)

    def drops(self, statistic: int) -> bool:
        return statistic < self.minimum

    def in_words(self, statistic: int) -> str:
        return f"{statistic} pixels"


class ImageTextScore(Strict):
    """Drops a pair whose text does not fit its picture. The statistic: the scorer's number, the higher the better.

    The threshold depends on dataset and scorer, and the paper publishes none. LAION-5B was collected with a cosine of at least 0.28
    of CLIP ViT-B/32 (its announcement at laion.ai); what is harsher has to be chosen by looking at the report's quantiles.
    """

    minimum: float

    def drops(self, statistic: float) -> bool:
        return not statistic >= self.minimum

    def in_words(self, statistic: float) -> str:
        return f"{statistic:.4g}" if math.isfinite(statistic) else "the scorer does not take the pair"
