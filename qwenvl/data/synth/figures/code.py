"""Screenshots of source code in twelve languages, coloured as editors do; and questions about what is written and printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from qwenvl.data.documents.blocks import Block
from qwenvl.data.synth.draws import between, draw_language, pick, whole
from qwenvl.data.synth.figures.asking import Ask, Samples, put, voice_of
from qwenvl.data.synth.figures.canvas import Box, Canvas, Colour, union
from qwenvl.data.synth.figures.figure import Element, Figure, FigureSpec, generator
from qwenvl.data.synth.figures.lettering import Type, draw_family
from qwenvl.data.synth.figures.words import book
from qwenvl.types import Sample

STREAM = 6


class CodeSpec(FigureSpec):
    """What screenshots of code may be."""

    TASKS: ClassVar[tuple[str, ...]] = (
        "code_reading", "code_qa", "code_output", "document_parsing", "grounding", "reading",
    )  # fmt: skip

    text_size: tuple[float, float] = (13, 22)
    program_share: float = Field(default=0.25, ge=0, le=1)
    """Share of programs that are asked what they print."""

    @model_validator(mode="after")
    def _is_drawable(self) -> CodeSpec:
        low, high = self.text_size
        if not 8 <= low <= high:
            raise ValueError(f"text_size: needs 8 <= least <= greatest, not {low}, {high}")
        return self


@dataclass(frozen=True, slots=True)
class Code(Figure):
    """Source code. Elements: "line" (of the source, its ink), "number" beside it, "title". `prints`: what it prints, if known."""

    source: ClassVar[str] = "synth/code"

    key: str
    """Key of code.yaml's languages."""
    text: str
    numbered: bool
    prints: str = ""

    def block(self) -> Block:
        """The code as an element of a page that the picture fills."""
        return Block("code", (0.0, 0.0, 1.0, 1.0), self.text, attributes={"language": self.key})


# What the programs of code.yaml print, worked out from their numbers.
PRINTS: dict[str, Callable[[int, int], int]] = {
    "sum_of_multiples": lambda n, m: m * n * (n + 1) // 2,
    "count_down": lambda n, m: -(-10 * n // m),
    "smaller_of_two": lambda n, m: n if n % m < (n + 4) % m else n + 4,
}


@dataclass(frozen=True, slots=True)
class Colours:
    """An editor's colours."""

    ground: Colour
    text: Colour
    keyword: Colour
    string: Colour
    number: Colour
    comment: Colour
    call: Colour
    bar: Colour


_THEMES = (
    Colours(
        (30, 30, 34),
        (214, 214, 214),
        (197, 134, 192),
        (206, 145, 120),
        (181, 206, 168),
        (110, 156, 88),
        (220, 220, 150),
        (50, 50, 56),
    ),
    Colours(
        (40, 44, 52),
        (190, 196, 206),
        (198, 120, 221),
        (152, 195, 121),
        (209, 154, 102),
        (120, 130, 146),
        (97, 175, 239),
        (33, 37, 43),
    ),
    Colours(
        (0, 43, 54), (160, 175, 176), (180, 190, 30), (60, 180, 170), (225, 80, 60), (110, 135, 140), (60, 160, 230), (7, 54, 66)
    ),
    Colours((255, 255, 255), (30, 30, 30), (0, 0, 220), (163, 21, 21), (9, 134, 88), (0, 128, 0), (121, 94, 38), (232, 232, 236)),
    Colours(
        (250, 250, 250),
        (56, 58, 66),
        (166, 38, 164),
        (80, 140, 60),
        (175, 100, 0),
        (150, 150, 156),
        (64, 120, 242),
        (230, 230, 232),
    ),
    Colours(
        (253, 246, 227),
        (88, 110, 117),
        (113, 133, 0),
        (42, 140, 132),
        (203, 75, 22),
        (140, 150, 150),
        (38, 120, 190),
        (238, 232, 213),
    ),
    Colours((255, 255, 255), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (90, 90, 90), (0, 0, 0), (225, 225, 225)),
)


def write_source(rng: np.random.Generator, program_share: float) -> tuple[str, str, str]:
    """A language's key, a source in it, and what it prints where that is known."""
    sources = book("code")
    numbers = {"n": whole(rng, 3, 40), "m": whole(rng, 2, 9)}
    prints = ""
    if rng.random() < program_share:
        name = pick(rng, tuple(sources["programs"]))
        key = pick(rng, tuple(sources["programs"][name]))
        template = sources["programs"][name][key]
        prints = str(PRINTS[name](numbers["n"], numbers["m"]))
    else:
        key = pick(rng, tuple(sources["snippets"]))
        template = pick(rng, sources["snippets"][key])
    filled: dict[str, Any] = {slot: pick(rng, names) for slot, names in sources["names"].items()}
    text = re.sub(r"@(\w+)@", lambda slot: str({**filled, **numbers}[slot[1]]), template)
    return key, text.rstrip("\n"), prints


@cache
def _grammar(key: str) -> re.Pattern[str]:
    """The pieces that editors colour; the first that fits wins."""
    language = book("code")["languages"][key]
    comment = {"<!--": r"<!--.*?-->", "/*": r"/\*.*?\*/"}.get(language["comment"], re.escape(language["comment"]) + r".*")
    keywords = "|".join(re.escape(word) for word in sorted(language["keywords"], key=len, reverse=True))
    return re.compile(
        rf"(?P<keyword>(?<![\w\"'.])(?:{keywords})(?![\w\"']))|(?P<comment>{comment})"
        r"|(?P<string>\"\"\".*?\"\"\"|\"[^\"]*\"|'[^']*'|`[^`]*`)|(?P<number>\b\d+\b)|(?P<call>\b\w+(?=\())"
    )


def coloured(line: str, key: str, colours: Colours) -> list[tuple[str, int, Colour]]:
    """The visible pieces of a line with the column that each begins in and its colour."""
    pieces: list[tuple[str, int, Colour]] = []
    done = 0
    for found in [*_grammar(key).finditer(line), None]:
        start, end = found.span() if found else (len(line), len(line))
        for plain in re.finditer(r"\S+(?: \S+)*", line[done:start]):
            pieces.append((plain.group(), done + plain.start(), colours.text))
        if found and found.lastgroup:
            pieces.append((found.group(), start, getattr(colours, found.lastgroup)))
        done = end
    return pieces


def make_code(spec: CodeSpec, seed: int, index: int) -> Code:
    """Screenshot number `index` of a stream. The same arguments give the same bytes, in any order and any process."""
    rng = generator(STREAM, seed, index)
    language = draw_language(rng, spec.language)
    key, text, prints = write_source(rng, spec.program_share)
    kind = draw_family(rng, "mono").plain(between(rng, *spec.text_size))
    colours, numbered, framed = pick(rng, _THEMES), rng.random() < 0.55, rng.random() < 0.45
    lines = text.split("\n")
    margin, step = round(kind.size * between(rng, 0.8, 1.8)), round(kind.size * between(rng, 1.3, 1.65))
    gutter = round(kind.width("00")) + margin if numbered else 0
    bar = round(kind.size * 2.2) if framed else 0
    width = max(round(max(kind.width(line) for line in lines)) + gutter + 2 * margin, 112)
    canvas = Canvas.blank(width, max(bar + 2 * margin + step * len(lines), 112), colours.ground)
    elements = []
    if framed:
        title = f"{book('code')['names']['word'][whole(rng, 0, 9)]}.{book('code')['languages'][key]['suffix']}"
        elements.append(_window_bar(canvas, colours, bar, title, kind))
    for row, line in enumerate(lines):
        middle = bar + margin + step * (row + 0.5)
        if numbered:
            box = canvas.text(margin + kind.width("00"), middle, str(row + 1), kind, colours.comment, "right", "middle")
            elements.append(Element("number", box, str(row + 1)))
        if line.strip():
            box = _draw_line(canvas, line, margin + gutter, middle, key, colours, kind)
            name = f"line {row + 1}" if language == "en" else f"第{row + 1}行"
            elements.append(Element("line", box, line.strip(), name))
    return Code(canvas.image, tuple(elements), language, seed, index, key, text, numbered, prints)


def _draw_line(canvas: Canvas, line: str, left: float, middle: float, key: str, colours: Colours, kind: Type) -> Box:
    advance = kind.width("0")
    boxes = [
        canvas.text(left + column * advance, middle, piece, kind, colour, "left", "middle")
        for piece, column, colour in coloured(line, key, colours)
    ]
    return union(*boxes)


def _window_bar(canvas: Canvas, colours: Colours, height: int, title: str, kind: Type) -> Element:
    """A title bar with three round buttons."""
    width = canvas.image.width
    canvas.rectangle((0, 0, width, height), colours.bar)
    radius = height * 0.15
    for place, colour in enumerate(((240, 95, 90), (245, 190, 80), (100, 200, 100))):
        x = height * (0.45 + 0.45 * place)
        canvas.ellipse((x - radius, height / 2 - radius, x + radius, height / 2 + radius), colour)
    box = canvas.text(max(width / 2, height * 1.8), height / 2, title, kind.sized(kind.size * 0.85), colours.text, "left", "middle")
    return Element("title", box, title)


def samples(spec: CodeSpec, seed: int, index: int) -> list[Sample]:
    """The Samples about one of them, as generators.py has it."""
    return spec.asked(code_samples(make_code(spec, seed, index), spec.held_out))


def code_samples(code: Code, held_out: bool = False, each: int = 2) -> list[Sample]:
    """What is asked about code: all of it, single lines and their places, its language, what it prints."""
    voice = voice_of(code, held_out)
    made = Samples(code, voice)
    made.say("code_reading", put(voice, "code_read"), f"```{code.key}\n{code.text}\n```", value=code.text)
    made.parse([code.block()])
    name = book("code")["languages"][code.key]["name"]
    lines = code.text.split("\n")
    asks = [Ask("code_language", {}, name), Ask("code_lines", {}, str(len(lines)))]
    for number, line in enumerate(lines, 1):
        defined = re.search(r"(?:\bdef|\bfunction|\bfn|\bfunc|\bint|\bdouble|\bvoid|\basync)(?: \(.*?\))? (\w+)\(", line)
        if defined and defined[1] != "main":
            asks.append(Ask("code_defined", {"name": defined[1]}, str(number)))
    made.ask("code_qa", asks, each)
    if code.prints:
        made.ask("code_output", [Ask("code_prints", {}, code.prints)], 1)
    drawn = code.of_kind("line")
    if code.numbered:
        made.find(drawn, each)
    made.name([line for line in drawn if any(map(str.isalnum, line.text))], each, written=True)  # not a brace alone
    return made.found
