"""The rules that drop a page: each a statistic of it and a decision on it, configured by its own fields.

Steps 3 to 6 of the paper's A.4 for PDF, 3 to 5 for HTML (arXiv 2308.12966), which gives no thresholds: those here are ours, and so
are the rules that say so.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from pydantic import Field, model_validator

from qwenvl.config import Strict
from qwenvl.data.clean.rules import SmallImage
from qwenvl.data.clean.unicode import Ranges, Scripts, one_of, parse_range, ranges_of
from qwenvl.data.documents.page import Page

LATIN_EXTENDED = ("100-17F", "180-24F")
"""Latin Extended-A and -B."""
PRIVATE_USE = ("E000-F8FF", "F0000-FFFFD", "100000-10FFFD")
"""The Private Use Area and its two supplements."""


class CharacterCount(Strict):
    """Drops a page with too few or too many characters. The statistic: those that it shows, blanks not counted."""

    minimum: int = Field(default=30, ge=0)
    maximum: int = Field(default=6000, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> CharacterCount:
        if self.minimum > self.maximum:
            raise ValueError("the least must not be above the greatest")
        return self

    def statistic(self, page: Page) -> int:
        return sum(not letter.isspace() for line in page.lines for letter in line.text)

    def drops(self, statistic: int) -> bool:
        return not self.minimum <= statistic <= self.maximum


class CharacterBlocks(Strict):
    """Drops a page with characters of some blocks of Unicode. The statistic: those characters, each as often as it is there."""

    blocks: Ranges
    """As hexadecimal code points, `100-17F`."""

    @cached_property
    def _found(self) -> re.Pattern[str]:
        return re.compile(f"[{one_of(map(parse_range, self.blocks))}]")

    def statistic(self, page: Page) -> str:
        return "".join(self._found.findall(page.characters))

    def drops(self, statistic: str) -> bool:
        return bool(statistic)


class OtherScripts(Strict):
    """Drops a page in another script. The statistic: the part of its letters, in per cent, that are of none of `scripts`."""

    scripts: Scripts = ("Latin", "Han")
    maximum: float = Field(default=10.0, ge=0, le=100)

    @cached_property
    def _known_letters(self) -> re.Pattern[str]:
        return re.compile(f"[{one_of(span for name in self.scripts for span in ranges_of(name))}]")

    def statistic(self, page: Page) -> float:
        letters = [letter for letter in page.text if letter.isalpha()]
        others = sum(self._known_letters.match(letter) is None for letter in letters)
        return round(100 * others / len(letters), 1) if letters else 0.0

    def drops(self, statistic: float) -> bool:
        return statistic > self.maximum


class Noted(Strict):
    """Drops a page of which a reader has noted too much. The statistic: its count."""

    note: str
    maximum: int = Field(default=0, ge=0)

    def statistic(self, page: Page) -> int:
        return page.notes.get(self.note, 0)

    def drops(self, statistic: int) -> bool:
        return statistic > self.maximum


class PageRules(Strict):
    """All rules, in the order in which they are asked; null for one leaves it out."""

    small_image: SmallImage | None = SmallImage(minimum=224)
    characters: CharacterCount | None = CharacterCount()
    latin_extended: CharacterBlocks | None = CharacterBlocks(blocks=LATIN_EXTENDED)
    private_use: CharacterBlocks | None = CharacterBlocks(blocks=PRIVATE_USE)
    other_script: OtherScripts | None = OtherScripts()
    """Ours: what is asked is English or Chinese, and so is what is read."""
    no_code: Noted | None = Noted(note="characters without a code")
    """Ours: a font that does not say what its glyphs mean leaves the truth with gaps."""
    no_line: Noted | None = Noted(note="text ink outside of lines, per mille", maximum=20)
    """Ours: text that is seen and stands in no line, such as that of form fields and frames."""

    def judge(self, page: Page) -> dict[str, Any]:
        """The rules that the page fails, in order, each with its statistic."""
        failed: dict[str, Any] = {}
        for name in type(self).model_fields:
            rule = getattr(self, name)
            if rule is not None:
                statistic = rule.statistic(page.image.size if name == "small_image" else page)
                if rule.drops(statistic):
                    failed[name] = statistic
        return failed


PDF_RULES = PageRules()
HTML_RULES = PageRules(latin_extended=None)
"""The paper drops Latin Extended from PDF alone."""
