"""Formulas: LaTeX drawn by matplotlib's mathtext, known ones and random ones, alone or several with numbers beside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import model_validator

from qwenvl.data.documents.blocks import Block
from qwenvl.data.synth import fonts
from qwenvl.data.synth.draws import between, draw_language, pick, whole
from qwenvl.data.synth.figures.asking import Samples, put, voice_of
from qwenvl.data.synth.figures.canvas import Canvas
from qwenvl.data.synth.figures.figure import Element, Figure, FigureError, FigureSpec, generator
from qwenvl.data.synth.figures.lettering import draw_family
from qwenvl.data.synth.figures.style import draw_theme
from qwenvl.data.synth.figures.words import book
from qwenvl.data.wording import fill, numbers
from qwenvl.types import RegionPart, Sample

STREAM = 7
MathFont = Literal["dejavusans", "dejavuserif", "stix", "cm"]
"""Fonts that matplotlib brings along: DejaVu (Bitstream Vera licence), STIX (OFL-1.1), Computer Modern (BaKoMa licence)."""
_DPI = 72.0
"""At which a size in points is one in pixels."""


class FormulaSpec(FigureSpec):
    """What pictures of formulas may be."""

    TASKS: ClassVar[tuple[str, ...]] = (
        "formula_latex", "document_parsing", "grounding", "point",
    )  # fmt: skip

    count: tuple[int, int] = (1, 4)
    text_size: tuple[float, float] = (18, 40)
    known_share: float = 0.35
    """Share of formulas from the list of known ones; the others are random."""
    dark_share: float = 0.1

    @model_validator(mode="after")
    def _is_drawable(self) -> FormulaSpec:
        for name in ("count", "text_size"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: needs 0 < least <= greatest, not {low}, {high}")
        if self.text_size[0] < 10:
            raise ValueError("text_size: needs 10 pixels at least")
        return self


@dataclass(frozen=True, slots=True)
class Formula(Figure):
    """Formulas below each other. Elements: "formula" (text = its LaTeX, named by its number if there are several), "number"."""

    source: ClassVar[str] = "synth/formula"

    latex: tuple[str, ...]


@cache
def _parser() -> Any:
    try:
        from matplotlib.mathtext import MathTextParser
    except ImportError:
        raise FigureError("formulas are drawn by matplotlib, which is not installed; run: pip install 'qwenvl[synth]'") from None
    return MathTextParser("agg")


@lru_cache(maxsize=256)
def formula_mask(latex: str, size: int, font: MathFont = "stix") -> tuple[Image.Image, int]:
    """A formula as a mask (L) cropped to its ink, and how far its top lies from the baseline (negative: above).

    Raises FigureError for LaTeX that mathtext cannot draw.
    """
    from matplotlib.font_manager import FontProperties

    try:
        drawn = _parser().parse(f"${latex}$", dpi=_DPI, prop=FontProperties(size=size, math_fontfamily=font))
    except ValueError as error:
        raise FigureError(f"formula {latex!r}: mathtext cannot draw it ({str(error).splitlines()[0]})") from None
    mask = fonts.clean(Image.fromarray(np.asarray(drawn.image, np.uint8)))
    box = mask.getbbox()
    if box is None:
        raise FigureError(f"formula {latex!r} has no ink; leave it out")
    return mask.crop(box), box[1] - round(drawn.height - drawn.depth)


# A grammar of formulas within what mathtext draws. Every argument is in braces, so that one formula has one spelling.
_LETTERS = "abcdefghkmnpqrstuvwxyz"
_GREEK = ("alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "pi", "rho", "sigma", "phi", "omega")
_FUNCTIONS = ("sin", "cos", "tan", "log", "ln", "exp")
_OPERATORS = (" + ", " - ", " + ", " - ", r" \cdot ", r" \times ", r" \pm ")
_RELATIONS = (" = ", " = ", " = ", " = ", r" \leq ", r" \geq ", " < ", " > ", r" \neq ", r" \approx ", r" \equiv ")


def write_formula(rng: np.random.Generator, known_share: float) -> str:
    """LaTeX of one formula."""
    if rng.random() < known_share:
        known: str = pick(rng, book("formulas")["known"])
        return known
    left = pick(rng, (_symbol, _named, _big))(rng)
    return left + pick(rng, _RELATIONS) + _sum(rng, 2)


def _symbol(rng: np.random.Generator) -> str:
    if rng.random() < 0.25:
        return "\\" + pick(rng, _GREEK)
    letter = pick(rng, _LETTERS)
    return letter.upper() if rng.random() < 0.2 else letter


def _named(rng: np.random.Generator) -> str:
    """f(x), or a symbol with an index or a sign above it."""
    kind = rng.random()
    if kind < 0.4:
        return f"{pick(rng, 'fghFG')}({pick(rng, 'xyzt')})"
    if kind < 0.7:
        return f"{_symbol(rng)}_{{{pick(rng, ('0', '1', 'n', 'i', 'k', 'max'))}}}"
    return rf"\{pick(rng, ('hat', 'bar', 'vec', 'dot'))}{{{pick(rng, _LETTERS)}}}"


def _big(rng: np.random.Generator) -> str:
    """A sum, product, integral or limit."""
    index, last = pick(rng, "ijk"), pick(rng, ("n", "m", "N", r"\infty", "10"))
    kind = pick(rng, ("sum", "prod", "int", "lim"))
    if kind == "int":
        low, high = pick(rng, (("0", "1"), ("a", "b"), ("0", r"\infty"), (r"-\infty", r"\infty"), ("0", r"\pi")))
        variable = pick(rng, "xtu")
        return rf"\int_{{{low}}}^{{{high}}} {_factor(rng, 1)} \, d{variable}"
    if kind == "lim":
        return rf"\lim_{{{pick(rng, 'xn')} \to {pick(rng, ('0', 'a', chr(92) + 'infty'))}}} {_factor(rng, 1)}"
    return rf"\{kind}_{{{index}={pick(rng, '01')}}}^{{{last}}} {_symbol(rng)}_{{{index}}}"


def _sum(rng: np.random.Generator, depth: int) -> str:
    text = _term(rng, depth)
    for _ in range(whole(rng, 0, 2)):
        text += pick(rng, _OPERATORS) + _term(rng, depth)
    return text


def _term(rng: np.random.Generator, depth: int) -> str:
    return _factor(rng, depth) if rng.random() < 0.6 else f"{whole(rng, 2, 12)} {_factor(rng, depth)}"


def _factor(rng: np.random.Generator, depth: int) -> str:
    kind = rng.random()
    if depth == 0 or kind < 0.25:
        return _symbol(rng)
    if kind < 0.40:
        return f"{_symbol(rng)}^{{{pick(rng, ('2', '3', 'n', 'k', '-1', 'n+1', '2n'))}}}"
    if kind < 0.50:
        return f"{_symbol(rng)}_{{{pick(rng, ('0', '1', '2', 'i', 'n', 'ij'))}}}"
    if kind < 0.70:
        return rf"\frac{{{_sum(rng, depth - 1)}}}{{{_sum(rng, depth - 1)}}}"
    if kind < 0.82:
        root = "" if rng.random() < 0.75 else "[3]"
        return rf"\sqrt{root}{{{_sum(rng, depth - 1)}}}"
    if kind < 0.92:
        return rf"\{pick(rng, _FUNCTIONS)} {_symbol(rng)}"
    return rf"\left( {_sum(rng, depth - 1)} \right)"


def make_formula(spec: FormulaSpec, seed: int, index: int) -> Formula:
    """Picture number `index` of a stream. The same arguments give the same bytes, in any order and any process.

    Raises FigureError where matplotlib is not installed.
    """
    rng = generator(STREAM, seed, index)
    language = draw_language(rng, spec.language)
    size, font = round(between(rng, *spec.text_size)), pick(rng, ("dejavusans", "dejavuserif", "stix", "stix", "cm", "cm"))
    latex: list[str] = []
    for _ in range(whole(rng, *spec.count) if rng.random() < 0.6 else 1):
        written = write_formula(rng, spec.known_share)
        if written not in latex:
            latex.append(written)
    masks = [formula_mask(text, size, font) for text in latex]
    theme, kind = draw_theme(rng, spec.dark_share), draw_family(rng, "serif").plain(size * 0.8)
    margin, gap = round(size * between(rng, 0.6, 1.4)), round(size * between(rng, 0.9, 1.6))
    tag = round(kind.width("(9)") + size * 1.5) if len(latex) > 1 else 0
    widest = max(mask.width for mask, _ in masks)
    height = sum(mask.height for mask, _ in masks) + gap * (len(masks) - 1)
    width, height = max(widest + tag + 2 * margin, 112), max(height + 2 * margin, 112)
    canvas = Canvas.blank(width, height, theme.ground)
    elements, y = [], (height - sum(mask.height for mask, _ in masks) - gap * (len(masks) - 1)) // 2
    for number, (text, (mask, rise)) in enumerate(zip(latex, masks, strict=True), 1):
        box = canvas.stamp(mask, (width - tag - mask.width) // 2, y, theme.ink)
        name = "" if not tag else f"formula ({number})" if language == "en" else f"公式({number})"
        elements.append(Element("formula", box, text, name))
        if tag:
            place = canvas.text(width - margin, y - rise, f"({number})", kind, theme.ink, "right", "baseline")
            elements.append(Element("number", place, f"({number})"))
        y += mask.height + gap
    return Formula(canvas.image, tuple(elements), language, seed, index, tuple(latex))


def samples(spec: FormulaSpec, seed: int, index: int) -> list[Sample]:
    """The Samples about one of them, as generators.py has it."""
    return spec.asked(formula_samples(make_formula(spec, seed, index), spec.held_out))


def formula_samples(formula: Formula, held_out: bool = False, each: int = 2) -> list[Sample]:
    """What is asked about formulas: their LaTeX, of the one there is, by number, by place; where a number stands."""
    voice = voice_of(formula, held_out)
    made = Samples(formula, voice)
    drawn = formula.of_kind("formula")
    made.parse([Block("formula", formula.share(element.box), element.text) for element in drawn])
    if len(drawn) == 1:
        made.say("formula_latex", put(voice, "formula_latex"), drawn[0].text, value=drawn[0].text)
        return made.found
    for element in voice.some(drawn, each):
        made.say("formula_latex", put(voice, "formula_named", name=element.name), element.text, value=element.text)
    element = voice.pick(drawn)
    region = formula.region(element.box)
    question = fill(put(voice, "formula_box"), RegionPart(None, (region,)))
    made.say("formula_latex", question, element.text, value=element.text, regions=[numbers(region)])
    made.find(drawn, 1, points=1)
    return made.found
