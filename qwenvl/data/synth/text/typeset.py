"""One line of text: which words it takes, in which order they stand, and every letter's mask at its place."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from qwenvl.data.synth import fonts
from qwenvl.data.synth.draws import pick
from qwenvl.data.synth.fonts import Face, FontError
from qwenvl.data.synth.ink import Colour
from qwenvl.data.synth.text.corpus import Word
from qwenvl.data.synth.text.scripts import RIGHT_TO_LEFT, UNSPACED, Family, Script, is_wide
from qwenvl.data.synth.text.typecase import PixelBox, TypeCase, Written, lay

_LOOK_AHEAD = 60
"""Words that a font must be able to write before it is taken for a block."""
_MOST_LACKING = 100
"""Words in a row that the font lacks, after which a line ends."""
_MOST_REFUSALS = 3
"""Lines in a row that may be too narrow for a word, after which it is dropped."""

# Marks that may not begin or end a line: of those that ISO/IEC 29500-1, 17.3.1.16 (kinsoku), lists for simplified Chinese and for
# Japanese, the ones that are met with; small kana and the mark of a long vowel are ours.
_NOT_FIRST = frozenset("，。！？；：、…」』）》】”’％·ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ,.!?;:)%]}")
_NOT_LAST = frozenset("「『（《【“‘([{")


class TakenWord(NamedTuple):
    """A word that has a line but no place yet."""

    word: Word
    written: Written


@dataclass(frozen=True, slots=True)
class PlacedWord:
    """A word on a paper: its ink and the ink's box; `spaced`: a space stands before it."""

    text: str
    spaced: bool
    mask: np.ndarray
    box: PixelBox


@dataclass(frozen=True, slots=True)
class Line:
    """A line on a paper: its words in the order of reading."""

    words: tuple[PlacedWord, ...]
    face: Face
    colour: Colour
    block: int

    @property
    def text(self) -> str:
        return "".join((" " if word.spaced and number else "") + word.text for number, word in enumerate(self.words))

    @property
    def box(self) -> PixelBox:
        """Of its ink."""
        lefts, tops, rights, bottoms = zip(*(word.box for word in self.words), strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)

    def lay_ink(self, ink: np.ndarray, origin: tuple[int, int] = (0, 0)) -> np.ndarray:
        """The line's ink on a mask (height, width) uint8 whose top left corner is at `origin`."""
        for word in self.words:
            lay(ink, word.mask, word.box[0] - origin[0], word.box[1] - origin[1])
        return ink

    def moved(self, across: int, down: int) -> Line:
        return replace(self, words=tuple(replace(word, box=_moved(word.box, across, down)) for word in self.words))


def _moved(box: PixelBox, across: int, down: int) -> PixelBox:
    left, top, right, bottom = box
    return left + across, top + down, right + across, bottom + down


class Flow:
    """Running text that is taken line by line. `dropped` counts words that no line could take."""

    def __init__(self, words: Iterator[Word], script: Script, families: Sequence[Family]) -> None:
        self.script, self.families, self.dropped = script, families, 0
        self._words = words
        self._waiting: deque[Word] = deque()
        self._refusals = 0
        self._written: dict[tuple[TypeCase, str], Written] = {}

    def choose_face(self, rng: np.random.Generator) -> Face:
        """A face that can write what comes next, or the one that lacks the fewest characters of it."""
        while len(self._waiting) < _LOOK_AHEAD:
            self._waiting.append(next(self._words))
        coming = "".join(word.text for word in self._waiting)
        faces = [pick(rng, self.families[number]) for number in rng.permutation(len(self.families))]
        missing = []
        for face in faces:
            missing.append(len(fonts.lacking(face, coming)))
            if not missing[-1]:
                return face
        return faces[missing.index(min(missing))]

    def take_line(self, case: TypeCase, width: float, most: int | None = None) -> list[TakenWord]:
        """As many words as fit into a width, or `most`; where a line may end within a word, a part of the last one.

        None where the first word is too wide: it waits for a wider line, but not for more than a few.
        """
        taken: list[TakenWord] = []
        used, lacking = 0.0, 0
        while lacking < _MOST_LACKING and len(taken) != most:
            word = self._waiting.popleft() if self._waiting else next(self._words)
            try:
                written = self._write(case, word.text)
            except FontError:
                lacking += 1
                continue
            before = used + (case.space if taken and word.spaced else 0.0)
            if before + written.advance <= width:
                used = before + written.advance
                taken.append(TakenWord(word, written))
                continue
            head = self._head(word.text, written, width - before)
            if head:
                taken.append(TakenWord(Word(word.text[:head], word.spaced), self._write(case, word.text[:head])))
                word = Word(word.text[head:], False)
            self._put_back(word, fitted=bool(taken))
            break
        self.dropped += lacking
        return taken

    def _put_back(self, word: Word, fitted: bool) -> None:
        """A word that the line has no room for waits for the next one, or is dropped if no line has had room for it."""
        self._refusals = 0 if fitted else self._refusals + 1
        if self._refusals <= _MOST_REFUSALS:
            self._waiting.appendleft(word)
        else:
            self._refusals = 0
            self.dropped += 1

    def _write(self, case: TypeCase, text: str) -> Written:
        """A word, drawn once for each page."""
        written = self._written.get((case, text))
        if written is None:
            written = case.write_leftwards(text) if self.script in RIGHT_TO_LEFT else case.write(text)
            self._written[case, text] = written
        return written

    def _head(self, text: str, written: Written, width: float) -> int:
        """How many characters of a word may stay when the rest goes to the next line; 0: it cannot be parted."""
        if self.script not in UNSPACED:
            return 0
        count = bisect_right(written.pens, width) - 1
        while count > 0 and not _may_break(text[count - 1], text[count]):
            count -= 1
        return max(count, 0)


def _may_break(before: str, after: str) -> bool:
    """Whether a line may end between two characters."""
    if after in _NOT_FIRST or before in _NOT_LAST:
        return False
    return is_wide(before) or is_wide(after)


def set_line(
    taken: Sequence[TakenWord], space: float, script: Script, place: tuple[float, float, float], align: str
) -> tuple[PlacedWord, ...]:
    """Words at their places, in the order of reading. `place`: left end, baseline and width of the line.

    `align` is left (where the language begins), right, center or justify; `space` the width of a space.
    """
    left, baseline, width = place
    backwards = script in RIGHT_TO_LEFT
    gaps = [space if number and word.spaced else 0.0 for number, (word, _) in enumerate(taken)]
    spare = max(width - sum(gaps) - sum([written.advance for _, written in taken]), 0.0)
    stretched = sum([gap > 0 for gap in gaps])
    if align == "justify" and stretched and spare < width / 3:
        gaps = [gap + (spare / stretched if gap else 0.0) for gap in gaps]
        spare = 0.0
    share = {"left": 0.0, "justify": 0.0, "center": 0.5, "right": 1.0}[align]
    pen = left + spare * (1.0 - share if backwards else share)
    placed: dict[int, PlacedWord] = {}
    order = visual_order([word.text for word, _ in taken]) if backwards else range(len(taken))
    for position, number in enumerate(order):
        # The gap belongs to the later of two neighbours, which in Arabic is the one on the left.
        pen += gaps[max(number, order[position - 1])] if position else 0.0
        word, written = taken[number]
        placed[number] = PlacedWord(word.text, word.spaced, written.mask, _moved(written.box, round(pen), round(baseline)))
        pen += written.advance
    return tuple([placed[number] for number in range(len(taken))])


def visual_order(words: Sequence[str]) -> list[int]:
    """The words of a right-to-left line from left to right: backwards, but runs of foreign words forwards.

    Numbers alone count as words of the line. This is what the Unicode bidirectional algorithm (UAX 9) makes of whole words; a test
    compares it with FriBidi.
    """
    order: list[int] = []
    run: list[int] = []
    for number, word in enumerate(words):
        if any(unicodedata.bidirectional(character) == "L" for character in word):
            run.append(number)
        else:
            order = [number, *run, *order]
            run = []
    return run + order
