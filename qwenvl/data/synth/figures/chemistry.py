"""Structural formulas of small molecules, drawn as chemists draw them, with their SMILES; and questions about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from PIL import Image, ImageDraw
from pydantic import model_validator

from qwenvl.data.documents.blocks import Block
from qwenvl.data.synth import fonts
from qwenvl.data.synth.draws import between, draw_language, pick
from qwenvl.data.synth.figures.asking import Ask, Samples, put, voice_of
from qwenvl.data.synth.figures.canvas import OVERSAMPLING, Box, Canvas, Colour, union
from qwenvl.data.synth.figures.figure import Element, Figure, FigureSpec, generator
from qwenvl.data.synth.figures.lettering import Type, draw_family
from qwenvl.data.synth.figures.molecule import Bond, Molecule, draw_molecule
from qwenvl.data.synth.figures.molecule_layout import Point, lay_out
from qwenvl.data.synth.figures.style import draw_theme
from qwenvl.data.wording import Voice
from qwenvl.types import Sample

STREAM = 9
_COLOURS: dict[str, Colour] = {
    "O": (210, 30, 30), "N": (35, 70, 200), "S": (170, 130, 0), "F": (30, 140, 60), "Cl": (30, 140, 60), "Br": (140, 60, 30),
}  # fmt: skip
ATOM_NAMES = {
    "C": ("carbon", "碳"), "N": ("nitrogen", "氮"), "O": ("oxygen", "氧"), "S": ("sulphur", "硫"), "F": ("fluorine", "氟"),
    "Cl": ("chlorine", "氯"), "Br": ("bromine", "溴"),
}  # fmt: skip


class ChemistrySpec(FigureSpec):
    """What structural formulas may be."""

    TASKS: ClassVar[tuple[str, ...]] = (
        "chemistry_smiles", "chemistry_qa", "document_parsing", "grounding", "point",
    )  # fmt: skip

    rings: tuple[int, int] = (0, 2)
    groups: tuple[int, int] = (1, 3)
    bond: tuple[float, float] = (30, 52)
    """Length of a bond in pixels."""

    @model_validator(mode="after")
    def _is_drawable(self) -> ChemistrySpec:
        for name, floor in (("rings", 0), ("groups", 0), ("bond", 20)):
            low, high = getattr(self, name)
            if not floor <= low <= high:
                raise ValueError(f"{name}: needs {floor} <= least <= greatest, not {low}, {high}")
        return self


@dataclass(frozen=True, slots=True)
class Chemistry(Figure):
    """A structural formula. Elements: "molecule" (all of it) and "atom" (a symbol that is written, with its hydrogens)."""

    source: ClassVar[str] = "synth/chemistry"

    molecule: Molecule
    smiles: str

    def block(self) -> Block:
        """The drawing as an element of a page that it fills."""
        return Block("chemical formula", (0.0, 0.0, 1.0, 1.0), self.smiles)


def make_chemistry(spec: ChemistrySpec, seed: int, index: int) -> Chemistry:
    """Structure number `index` of a stream. The same arguments give the same bytes, in any order and any process."""
    rng = generator(STREAM, seed, index)
    language = draw_language(rng, spec.language)
    places = None
    while places is None:
        molecule = draw_molecule(rng, spec.rings, spec.groups)
        turn = math.radians(pick(rng, (0, 30, 60, 90, 150, 210, 330)))
        places = lay_out(molecule, turn) if len(molecule.atoms) > 2 else None
    theme, family = draw_theme(rng, 0.0), draw_family(rng, "sans")
    bond = between(rng, *spec.bond)
    kind = family.plain(bond * between(rng, 0.42, 0.55))
    margin = round(bond * between(rng, 1.0, 1.6))
    left, top = min(x for x, _ in places), min(y for _, y in places)
    spots = [((x - left) * bond + margin, (y - top) * bond + margin) for x, y in places]
    width = max(round(max(x for x, _ in spots)) + margin, 112)
    height = max(round(max(y for _, y in spots)) + margin, 112)
    dx, dy = (width - max(x for x, _ in spots) - margin) / 2, (height - max(y for _, y in spots) - margin) / 2
    spots = [(x + dx, y + dy) for x, y in spots]
    canvas = Canvas.blank(width, height, theme.ground)
    drawing = _Drawing(canvas, molecule, spots, bond, kind, theme.ink, rng.random() < 0.35, rng.random() < 0.4)
    elements = drawing.draw(between(rng, 0.045, 0.07))
    name = "the molecule" if language == "en" else "分子"
    whole_box = Element("molecule", union(*(element.box for element in elements)), name=name)
    atoms = tuple(element for element in elements if element.kind == "atom")
    return Chemistry(canvas.image, (whole_box, *atoms), language, seed, index, molecule, molecule.smiles())


@dataclass(frozen=True, slots=True)
class _Drawing:
    """Draws a molecule: bonds through one mask, then the symbols of atoms that are not carbon. `circles`: aromatic rings of six
    have a circle in place of their double bonds."""

    canvas: Canvas
    molecule: Molecule
    spots: list[Point]
    bond: float
    kind: Type
    ink: Colour
    coloured: bool
    circles: bool

    def draw(self, width: float) -> list[Element]:
        size = self.canvas.image.size
        mask = Image.new("L", (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING))
        pen = ImageDraw.Draw(mask)
        thick = max(round(width * self.bond * OVERSAMPLING), 2)
        for bond in self.molecule.bonds:
            for begin, end in self._strokes(bond):
                pen.line([(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in (begin, end)], 255, thick)
        for atom, (x, y) in enumerate(self.spots):
            if not self._text(atom):  # round joints
                radius = thick / 2
                x, y = x * OVERSAMPLING, y * OVERSAMPLING
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        for ring in self.molecule.rings:
            if self._has_circle(ring):
                (x, y), radius = self._centre(ring), self.bond * 0.55
                around = (
                    (x - radius) * OVERSAMPLING,
                    (y - radius) * OVERSAMPLING,
                    (x + radius) * OVERSAMPLING,
                    (y + radius) * OVERSAMPLING,
                )
                pen.ellipse(around, outline=255, width=thick)
        lines = self.canvas.stamp(fonts.clean(mask.reduce(OVERSAMPLING)), 0, 0, self.ink)
        symbols = [self._symbol(atom) for atom in range(len(self.spots)) if self._text(atom)]
        return [Element("bonds", lines), *symbols]

    def _text(self, atom: int) -> str:
        """The symbol that is written: none for carbon."""
        symbol = self.molecule.atoms[atom]
        return "" if symbol == "C" else symbol

    def _has_circle(self, ring: list[int]) -> bool:
        inside = [bond for bond in self.molecule.bonds if bond.first in ring and bond.second in ring]
        return self.circles and len(ring) == 6 and all(bond.aromatic for bond in inside)

    def _centre(self, ring: list[int]) -> Point:
        return (sum(self.spots[atom][0] for atom in ring) / len(ring), sum(self.spots[atom][1] for atom in ring) / len(ring))

    def _strokes(self, bond: Bond) -> list[tuple[Point, Point]]:
        """The lines of a bond, shortened at symbols; the second line of a double bond lies inside its ring."""
        begin, end = self._cut(bond.first, bond.second), self._cut(bond.second, bond.first)
        length = math.dist(begin, end)
        along = ((end[0] - begin[0]) / length, (end[1] - begin[1]) / length)
        across = (-along[1], along[0])

        def moved(offset: float, trim: float = 0.0) -> tuple[Point, Point]:
            dx, dy = across[0] * offset * self.bond, across[1] * offset * self.bond
            tx, ty = along[0] * trim * self.bond, along[1] * trim * self.bond
            return (begin[0] + dx + tx, begin[1] + dy + ty), (end[0] + dx - tx, end[1] + dy - ty)

        ring = self.molecule.ring_of(bond)
        if bond.order == 1 or (ring and bond.aromatic and self._has_circle(ring)):
            return [(begin, end)]
        if bond.order == 3:
            return [(begin, end), moved(0.14), moved(-0.14)]
        if ring:
            centre = self._centre(ring)
            inwards = (centre[0] - begin[0]) * across[0] + (centre[1] - begin[1]) * across[1]
            return [(begin, end), moved(0.17 if inwards > 0 else -0.17, 0.14)]
        return [moved(0.085), moved(-0.085)]

    def _cut(self, atom: int, towards: int) -> Point:
        """The end of a bond at an atom: short of its symbol, if it has one."""
        (x, y), (tx, ty) = self.spots[atom], self.spots[towards]
        text = self._text(atom)
        if not text:
            return (x, y)
        gap = self.kind.size * (0.62 if len(text) == 1 else 0.8)
        return (x + (tx - x) * gap / self.bond, y + (ty - y) * gap / self.bond)

    def _symbol(self, atom: int) -> Element:
        """A symbol with its hydrogens: "OH", or "HO" where the bond comes from the right."""
        x, y = self.spots[atom]
        symbol, hydrogens = self._text(atom), self.molecule.hydrogens(atom)
        colour = _COLOURS[symbol] if self.coloured else self.ink
        boxes: list[Box] = [self.canvas.text(x, y, symbol, self.kind, colour, "centre", "middle")]
        if hydrogens:
            leans = sum(self.spots[other][0] - x for other in self.molecule.neighbours(atom))
            small = self.kind.sized(self.kind.size * 0.68)
            number = str(hydrogens) if hydrogens > 1 else ""
            gap = self.kind.size * 0.06
            if leans > self.bond * 0.3:
                edge = x - self.kind.width(symbol) / 2 - gap
                if number:
                    boxes.append(self.canvas.text(edge, y + self.kind.size * 0.3, number, small, colour, "right", "middle"))
                    edge -= small.width(number)
                boxes.append(self.canvas.text(edge, y, "H", self.kind, colour, "right", "middle"))
            else:
                edge = x + self.kind.width(symbol) / 2 + gap
                boxes.append(self.canvas.text(edge, y, "H", self.kind, colour, "left", "middle"))
                if number:
                    edge += self.kind.width("H")
                    boxes.append(self.canvas.text(edge, y + self.kind.size * 0.3, number, small, colour, "left", "middle"))
            text = symbol + "H" + number
        else:
            text = symbol
        return Element("atom", union(*boxes), text)


def samples(spec: ChemistrySpec, seed: int, index: int) -> list[Sample]:
    """The Samples about one of them, as generators.py has it."""
    return spec.asked(chemistry_samples(make_chemistry(spec, seed, index), spec.held_out))


def chemistry_samples(chemistry: Chemistry, held_out: bool = False, each: int = 2) -> list[Sample]:
    """What is asked about a molecule: its SMILES, its formula, how many atoms, rings and double bonds. `each`: at most so many."""
    voice = voice_of(chemistry, held_out)
    made = Samples(chemistry, voice)
    made.say("chemistry_smiles", put(voice, "smiles"), chemistry.smiles, value=chemistry.smiles)
    made.parse([chemistry.block()])
    made.ask("chemistry_qa", _asks(chemistry.molecule, voice), each)
    named = _named(chemistry)
    made.find(named, 1, points=1)
    return made.found


def _asks(molecule: Molecule, voice: Voice) -> list[Ask]:
    double = sum(bond.order == 2 and not bond.aromatic for bond in molecule.bonds)
    found = [
        Ask("molecular_formula", {}, molecule.formula()),
        Ask("ring_count", {}, str(len(molecule.rings))),
        Ask("double_bonds", {}, str(double)),
    ]
    for symbol in dict.fromkeys(molecule.atoms):
        english, chinese = ATOM_NAMES[symbol]
        found.append(Ask("atom_count", {"atom": voice.say(english, chinese)}, str(molecule.atoms.count(symbol))))
    return found


def _named(chemistry: Chemistry) -> list[Element]:
    """The symbols, called by their atom; those that occur once can be asked for."""
    elements = []
    for element in chemistry.of_kind("atom"):
        symbol = element.text.split("H")[0]
        english, chinese = ATOM_NAMES[symbol]
        name = f"the {english} atom" if chemistry.language == "en" else f"{chinese}原子"
        elements.append(Element("atom", element.box, element.text, name))
    return elements
