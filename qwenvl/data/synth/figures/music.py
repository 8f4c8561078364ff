"""Sheets of music: short tunes engraved on staves, with their ABC notation; and questions about what is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import model_validator

from qwenvl.data.documents.blocks import Block
from qwenvl.data.synth.draws import between, draw_language, pick, whole
from qwenvl.data.synth.figures.asking import Ask, Samples, put, voice_of
from qwenvl.data.synth.figures.canvas import Box, Canvas
from qwenvl.data.synth.figures.engrave import Extent, Staff, needed, system
from qwenvl.data.synth.figures.figure import Element, Figure, FigureSpec, generator
from qwenvl.data.synth.figures.lettering import draw_family
from qwenvl.data.synth.figures.style import draw_theme
from qwenvl.data.synth.figures.tune import Tune, compose
from qwenvl.data.synth.figures.words import book, say
from qwenvl.types import Sample

STREAM = 8
_ABOVE, _BELOW = 4.6, 4.2
"""Spaces above and below a staff, for notes on ledger lines and their stems."""


class MusicSpec(FigureSpec):
    """What sheets of music may be."""

    TASKS: ClassVar[tuple[str, ...]] = (
        "music_abc", "music_qa", "document_parsing", "grounding",
    )  # fmt: skip

    bars: tuple[int, int] = (2, 12)
    bars_per_system: tuple[int, int] = (2, 4)
    space: tuple[float, float] = (7, 12)
    """Distance of the lines of a staff in pixels."""

    @model_validator(mode="after")
    def _is_drawable(self) -> MusicSpec:
        for name in ("bars", "bars_per_system", "space"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: needs 0 < least <= greatest, not {low}, {high}")
        if self.space[0] < 5:
            raise ValueError("space: needs 5 pixels at least")
        return self


@dataclass(frozen=True, slots=True)
class Music(Figure):
    """A sheet of music. Elements: "title", "system" (a line of it), "bar" (from bar line to bar line, with all
    its notes)."""

    source: ClassVar[str] = "synth/music"

    tune: Tune

    def block(self) -> Block:
        """The sheet as an element of a page that it fills."""
        return Block("music sheet", (0.0, 0.0, 1.0, 1.0), self.tune.abc())


def make_music(spec: MusicSpec, seed: int, index: int) -> Music:
    """Sheet number `index` of a stream. The same arguments give the same bytes, in any order and any process."""
    rng = generator(STREAM, seed, index)
    language = draw_language(rng, spec.language)
    title = say(pick(rng, book("screens")["songs"]), language)
    tune = compose(rng, title, whole(rng, *spec.bars), whole(rng, *spec.bars_per_system))
    space = between(rng, *spec.space)
    family, theme = draw_family(rng, "serif"), draw_theme(rng, 0.0)
    heading, digits = family.strong(space * 2.2), family.strong(space * 2.7)
    wanted = max(sum(needed(notes) for notes in bars) for bars in tune.systems) + 13
    margin = round(space * between(rng, 1.5, 3))
    top = margin + round(heading.line_height)
    row = round((4 + _ABOVE + _BELOW) * space)
    canvas = Canvas.blank(round(wanted * space) + 2 * margin, top + row * len(tune.systems) + margin // 2, theme.ground)
    width = canvas.image.width
    box = canvas.text(width / 2, margin, title, heading, theme.ink, "centre")
    elements = [Element("title", box, title, "the title" if language == "en" else "标题")]
    staff = Staff.blank(width, canvas.image.height, space)
    for number, bars in enumerate(tune.systems):
        staff.left, staff.base = margin, top + row * number + (4 + _ABOVE) * space
        last = number == len(tune.systems) - 1
        share = min(sum(needed(notes) for notes in bars) + 13, wanted) / wanted if last else 1.0
        extents = system(staff, tune, number, wanted * max(share, 0.5), digits)
        elements += _elements(staff, number, extents, len(elements) - number, language)
    canvas.stamp(staff.finished(), 0, 0, theme.ink)
    return Music(canvas.image, tuple(elements), language, seed, index, tune)


def _elements(staff: Staff, number: int, bars: list[Extent], first: int, language: str) -> list[Element]:
    """Line `number` of the music, and its bars, the first of which has the number `first`."""

    def box(extent: Extent) -> Box:
        left, right = staff.left + extent.left * staff.space, staff.left + extent.right * staff.space
        top, bottom = staff.base - (extent.high + 0.7) * staff.space, staff.base - (extent.low - 0.7) * staff.space
        return (round(left), round(top), round(right), round(bottom))

    # The clef hangs below the staff.
    whole_line = Extent(0, min(-2.0, *(bar.low for bar in bars)), bars[-1].right, max(5.8, *(bar.high for bar in bars)))
    name = f"line {number + 1} of the music" if language == "en" else f"第{number + 1}行乐谱"
    found = [Element("system", box(whole_line), name=name)]
    for place, bar in enumerate(bars, first):
        found.append(Element("bar", box(bar), name=f"bar {place}" if language == "en" else f"第{place}小节"))
    return found


def samples(spec: MusicSpec, seed: int, index: int) -> list[Sample]:
    """The Samples about one of them, as generators.py has it."""
    return spec.asked(music_samples(make_music(spec, seed, index), spec.held_out))


def _chinese_key(key: str) -> str:
    """A major key's name in Chinese: "降E大调" for Eb."""
    return f"{'降' * key.endswith('b') + '升' * key.endswith('#')}{key[0]}大调"


def music_samples(music: Music, held_out: bool = False, each: int = 2) -> list[Sample]:
    """What is asked about a sheet of music: its ABC notation, its signatures, its bars. `each`: at most so many of one task."""
    voice = voice_of(music, held_out)
    made = Samples(music, voice)
    tune = music.tune
    made.say("music_abc", put(voice, "abc"), tune.abc(), value=tune.abc())
    made.parse([music.block()])
    notes = [note for bar in tune.bars for note in bar if note.step is not None]
    key = voice.say(tune.key, _chinese_key(tune.key))
    asks = [
        Ask("bar_count", {}, str(len(tune.bars))),
        Ask("note_count", {}, str(len(notes))),
        Ask("time_signature", {}, tune.metre),
        Ask("key_signature", {}, key, accept=(tune.key, f"{tune.key} major", f"{tune.key}大调")),
        Ask("title", {}, tune.title),
    ]
    if notes:
        asks.append(Ask("first_note", {}, notes[0].letter))
    made.ask("music_qa", asks, each)
    made.find(music.of_kind("bar", "system"), each)
    return made.found
