"""A short tune, before it is drawn: notes and rests in bars, and the same in ABC notation.

The notation is that of abcnotation.com's standard 2.1: fields X, T, M, L, K, notes C to b', lengths in units of an eighth, ^ _ =
for sharp, flat and natural, z for a rest; eighths written together are beamed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qwenvl.data.synth.draws import pick, whole

LETTERS = "CDEFGAB"
# Major keys by their signature: sharps (positive) or flats (negative), at most four.
KEYS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "F": -1, "Bb": -2, "Eb": -3, "Ab": -4}
SHARPS, FLATS = "FCGDAEB", "BEADGCF"
"""The order in which letters are raised and lowered."""
# Time signatures with the eighths of a bar, and of a beat.
METRES = {"2/4": (4, 2), "3/4": (6, 2), "4/4": (8, 2), "6/8": (6, 3)}
LOWEST, HIGHEST = -1, 12
"""The steps that are written: from B below middle C (0) to A above the staff."""


@dataclass(frozen=True, slots=True)
class Note:
    """`step` counts the white keys from middle C, None for a rest; `length` in eighths; `accidental` is ^, _ or = before the note;
    `beamed`: joined to the next one."""

    step: int | None
    length: int
    accidental: str = ""
    beamed: bool = False

    @property
    def letter(self) -> str:
        return "" if self.step is None else LETTERS[self.step % 7]

    def abc(self) -> str:
        length = "" if self.length == 1 else str(self.length)
        if self.step is None:
            return f"z{length}"
        octave = self.step // 7
        name = self.letter if octave < 1 else self.letter.lower()
        return self.accidental + name + ("," * -octave if octave < 0 else "'" * (octave - 1)) + length


@dataclass(frozen=True, slots=True)
class Tune:
    """`systems` are the lines of the sheet, each of bars, each of notes."""

    title: str
    metre: str
    key: str
    systems: tuple[tuple[tuple[Note, ...], ...], ...]

    @property
    def bars(self) -> list[tuple[Note, ...]]:
        return [bar for system in self.systems for bar in system]

    def abc(self) -> str:
        lines = ["X:1", f"T:{self.title}", f"M:{self.metre}", "L:1/8", f"K:{self.key}"]
        for number, system in enumerate(self.systems, 1):
            end = " |]" if number == len(self.systems) else " |"
            lines.append(" | ".join(_written(bar) for bar in system) + end)
        return "\n".join(lines)


def _written(bar: tuple[Note, ...]) -> str:
    text = ""
    for note in bar:
        text += note.abc() + ("" if note.beamed else " ")
    return text.rstrip()


def signature(key: str) -> dict[str, str]:
    """The letters that a key raises or lowers, in the order in which the signs are written."""
    count = KEYS[key]
    return dict.fromkeys(SHARPS[:count], "^") if count > 0 else dict.fromkeys(FLATS[:-count], "_")


def compose(rng: np.random.Generator, title: str, bars: int, bars_per_system: int) -> Tune:
    """A random walk over the scale, in bars that are full."""
    metre, key = pick(rng, tuple(METRES)), pick(rng, tuple(KEYS))
    step = whole(rng, 2, 8)
    written: list[tuple[Note, ...]] = []
    for number in range(bars):
        bar, step = _bar(rng, metre, key, step, last=number == bars - 1)
        written.append(bar)
    systems = [tuple(written[first : first + bars_per_system]) for first in range(0, bars, bars_per_system)]
    return Tune(title, metre, key, tuple(systems))


def _bar(rng: np.random.Generator, metre: str, key: str, step: int, last: bool) -> tuple[tuple[Note, ...], int]:
    """One bar from a step on, and the step it ends on."""
    full, beat = METRES[metre]
    notes: list[Note] = []
    left = full
    lengths = _lengths(rng, full, beat, last)
    for length in lengths:
        for place in range(beat if length == 1 else 1):
            step = _next(rng, step)
            if length != 1 and not last and rng.random() < 0.12 and length in (2, 4):
                notes.append(Note(None, length))
                continue
            beamed = length == 1 and place < beat - 1
            accidental = _accidental(rng, key, step, notes) if rng.random() < 0.08 else ""
            notes.append(Note(step, length, accidental, beamed))
        left -= length * (beat if length == 1 else 1)
    assert left == 0, f"a bar of {metre} with {full - left} eighths"
    return tuple(notes), step


def _next(rng: np.random.Generator, step: int) -> int:
    """The next note's step: near by, and back from the ends of the range."""
    leap = pick(rng, (-3, -2, -1, -1, 0, 1, 1, 2, 3))
    if not LOWEST <= step + leap <= HIGHEST or rng.random() < abs(step - 5) / 14:
        leap = -abs(leap) if step > 5 else abs(leap)
    return step + leap


def _lengths(rng: np.random.Generator, full: int, beat: int, last: bool) -> list[int]:
    """Lengths that fill a bar; 1 stands for a whole beat of eighths."""
    if last and rng.random() < 0.6:
        return [full]
    found: list[int] = []
    left = full
    while left:
        options = [length for length in (1, 2, 2, 4, 6) if (beat if length == 1 else length) <= left]
        if beat == 3:
            options = [length for length in (1, 1, 3, 6) if (beat if length == 1 else length) <= left]
        length = pick(rng, options)
        found.append(length)
        left -= beat if length == 1 else length
    return found


def _accidental(rng: np.random.Generator, key: str, step: int, before: list[Note]) -> str:
    """A sign that changes the note, for the first note of its step in the bar."""
    if any(note.step is not None and note.step % 7 == step % 7 for note in before):
        return ""
    return "=" if LETTERS[step % 7] in signature(key) else pick(rng, "^_")
