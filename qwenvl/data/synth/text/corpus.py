"""Running text to print: from a folder of the user's files, or, when there is none, sentences of words that Unicode CLDR names.

Words come with whether a space stands before them. Languages without spaces have clauses instead, up to a punctuation mark.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol
from xml.etree import ElementTree

import numpy as np

from qwenvl.data.synth.draws import pick, whole
from qwenvl.data.synth.names import CLDR_FOLDER, CLDR_PACKAGE
from qwenvl.data.synth.text.scripts import SCRIPTS, UNSPACED, Script
from qwenvl.types import QwenVLError

_WINDOW = 16384
"""Bytes of a file that one passage takes at most."""
_MOST_EMPTY = 50
"""Passages without a word, after which a corpus is given up."""
_SENTENCES = 40
"""Sentences in a passage of CLDR's words."""


class CorpusError(QwenVLError, ValueError):
    """Text that is missing: no such folder, no .txt file, nothing in the language."""


class Word(NamedTuple):
    """`spaced`: a space stands before it."""

    text: str
    spaced: bool


class Corpus(Protocol):
    """Text in several languages."""

    name: str

    def passage(self, script: Script, rng: np.random.Generator) -> str:
        """Some running text. Raises CorpusError if there is none in the language."""
        ...


@cache
def open_corpus(folder: str | None) -> Corpus:
    """The texts of a folder, or CLDR's words. Raises CorpusError for a folder without any."""
    return CldrWords() if folder is None else TextFolder(folder)


def words(corpus: Corpus, script: Script, rng: np.random.Generator) -> Iterator[Word]:
    """Words without end: passage after passage. Raises CorpusError where many in a row have none."""
    empty = 0
    while empty < _MOST_EMPTY:
        found = split(clean(corpus.passage(script, rng)), script)
        empty = 0 if found else empty + 1
        yield from found
    raise CorpusError(f"{corpus.name}: no words for language {script} in {_MOST_EMPTY} passages; give other texts")


# Control and formatting characters, marks of direction, private use, and what is not text at all.
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f"
                       "\ud800-\uf8ff\ufe00-\ufe0f\ufeff\ufff0-\uffff\U000e0000-\U0010ffff]")  # fmt: skip


def clean(text: str) -> str:
    """Text in composed form (NFC), without characters that are never seen."""
    return _UNWANTED.sub("", unicodedata.normalize("NFC", text))


_CLAUSE = re.compile("[^，。！？；：、…」』）》”]*[，。！？；：、…」』）》”]*")


def split(text: str, script: Script) -> list[Word]:
    """The words of a text; of Chinese and Japanese its clauses."""
    if script not in UNSPACED:
        return [Word(word, True) for word in text.split()]
    return [
        Word(clause, number == 0)
        for chunk in text.split()
        for number, clause in enumerate(found for found in _CLAUSE.findall(chunk) if found)
    ]


class TextFolder:
    """UTF-8 files that end in .txt, in a folder and those below it; if it has folders of languages (`en`, `zh`), in the language's.

    A passage begins anywhere, each byte of all files as likely, so that long files are read as often as many short ones.
    """

    def __init__(self, folder: str) -> None:
        self.folder, self.name = Path(folder), folder
        if not self.folder.is_dir():
            raise CorpusError(f"{folder}: no such folder; give one of .txt files")

    def passage(self, script: Script, rng: np.random.Generator) -> str:
        files, ends = _text_files(self.folder, script)
        place = int(rng.random() * ends[-1])
        number = int(np.searchsorted(ends, place, side="right"))
        start = place - (ends[number - 1] if number else 0)
        with files[number].open("rb") as file:
            file.seek(start)
            read = file.read(_WINDOW)
            if len(read) < _WINDOW:  # on from the beginning of a short file
                file.seek(0)
                read += b"\n" + file.read(min(_WINDOW - len(read), start))
        text = read.decode("utf-8", errors="ignore").removeprefix("\ufeff")
        if script in UNSPACED:
            return text
        # Where a passage begins and ends amid a file, its first and last words may have lost a part.
        found = text.split()
        return " ".join(found[start > 0 : len(found) - (start > 0 or len(read) >= _WINDOW)] or found)


@cache
def _text_files(folder: Path, script: Script) -> tuple[list[Path], np.ndarray]:
    """The files with text, and where each ends were they one after another."""
    own = folder / script
    by_language = any((folder / other).is_dir() for other in SCRIPTS)
    kept = [path for path in sorted((own if by_language else folder).rglob("*.txt")) if _has_text(path)]
    if not kept:
        raise CorpusError(f"{folder}: no .txt file with text in it for language {script}; add some to {own}")
    return kept, np.cumsum([path.stat().st_size for path in kept])


def _has_text(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(file.read(_WINDOW).strip())


# How sentences are put together: between phrases, a comma now and then, at the end.
_MARKS: dict[Script, tuple[str, str, str]] = {
    "en": (" ", ", ", ".?!."), "vi": (" ", ", ", ".?!."), "ru": (" ", ", ", ".?!."), "ko": (" ", ", ", ".?!."),
    "ar": (" ", "، ", ".؟!."), "zh": ("", "，", "。？！。"), "ja": ("", "、", "。？！。"),
}  # fmt: skip


class CldrWords:
    """Sentences of the names and keywords that Unicode CLDR gives to emoji, and of countries, languages and the like, with numbers.

    They say nothing, but every language has thousands of words, under a licence (Unicode-DFS-2016) that lets weights be published.
    """

    name = CLDR_PACKAGE

    def passage(self, script: Script, rng: np.random.Generator) -> str:
        joint, comma, ends = _MARKS[script]
        sentences = []
        for _ in range(_SENTENCES):
            said = ""
            for number in range(whole(rng, 2, 7)):
                said += "" if number == 0 else comma if rng.random() < 0.2 else joint
                said += _number(rng) if rng.random() < 0.1 else pick(rng, _phrases(script))
            sentences.append(said[:1].upper() + said[1:] + pick(rng, ends))
        return joint.join(sentences)


def _number(rng: np.random.Generator) -> str:
    """A count, price, share, time or date."""
    kind, value = whole(rng, 0, 5), rng.random()
    if kind == 0:
        return f"{int(10 ** (value * 6)):,}"
    if kind == 1:
        return f"{10 ** (value * 4):.2f}"
    if kind == 2:
        return f"{100 * value:.1f}%"
    if kind == 3:
        return f"{int(24 * value):02d}:{whole(rng, 0, 59):02d}"
    if kind == 4:
        return f"{whole(rng, 1900, 2040)}-{whole(rng, 1, 12):02d}-{whole(rng, 1, 28):02d}"
    return str(int(1000 * value))


_NAMED = ("language", "territory", "unitPattern", "month", "day")


@cache
def _phrases(script: Script) -> tuple[str, ...]:
    """What CLDR names in a language, each once and in the order of its files."""
    found: dict[str, None] = {}
    for path in (CLDR_FOLDER / f"{script}.xml", CLDR_FOLDER.parent / "main" / f"{script}.xml"):
        try:
            root = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError) as error:
            raise CorpusError(f"{path}: words cannot be read ({error}); run: apt-get install {CLDR_PACKAGE}") from None
        for tag in ("annotation", *_NAMED):
            for node in root.iter(tag):
                found |= dict.fromkeys(part.strip() for part in (node.text or "").split("|"))
    return tuple(phrase for phrase in found if phrase and not set(phrase) & set("{}<>↑"))
