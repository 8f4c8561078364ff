"""Where the atoms of a molecule are drawn: rings as regular polygons, chains as zigzags. A bond is one unit long."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qwenvl.data.synth.figures.molecule import Molecule

Point = tuple[float, float]

_NEAREST = 0.7
"""Two atoms that are not bonded to each other are at least so far apart."""


def lay_out(molecule: Molecule, turn: float) -> list[Point] | None:
    """The place of every atom, the whole turned by an angle; None where atoms or bonds would meet."""
    places: dict[int, Point] = {}
    if molecule.rings:
        _place_ring(molecule, molecule.rings[0], places, molecule.rings[0][0], (0.0, 0.0), turn)
        pending = list(molecule.rings[0])
    else:
        ends = [atom for atom in range(len(molecule.atoms)) if len(molecule.of(atom)) == 1]
        places[ends[0]] = (0.0, 0.0)
        pending = [ends[0]]
        first = molecule.neighbours(ends[0])[0]
        places[first] = (math.cos(turn), math.sin(turn))
        pending.append(first)
    bend = 1
    while pending:
        atom = pending.pop(0)
        left = [other for other in molecule.neighbours(atom) if other not in places]
        angles = _directions(molecule, atom, places, len(left), bend) if left else []
        for other, angle in zip(left, angles, strict=True):
            x, y = places[atom]
            spot = (x + math.cos(angle), y + math.sin(angle))
            ring = next((ring for ring in molecule.rings if other in ring), None)
            if ring:
                _place_ring(molecule, ring, places, other, spot, angle)
                pending += ring
            else:
                places[other] = spot
                pending.append(other)
            bend = -bend
    found = [places[atom] for atom in range(len(molecule.atoms))]
    return found if _is_clear(molecule, found) else None


def _place_ring(molecule: Molecule, ring: Sequence[int], places: dict[int, Point], entry: int, spot: Point, angle: float) -> None:
    """A regular polygon with the atom `entry` at a spot and its middle further on in that direction."""
    count = len(ring)
    radius = 0.5 / math.sin(math.pi / count)
    centre = (spot[0] + radius * math.cos(angle), spot[1] + radius * math.sin(angle))
    first = ring.index(entry)
    for step in range(count):
        at = angle + math.pi + math.tau * step / count
        places[ring[(first + step) % count]] = (centre[0] + radius * math.cos(at), centre[1] + radius * math.sin(at))


def _directions(molecule: Molecule, atom: int, places: dict[int, Point], count: int, bend: int) -> list[float]:
    """The angles at which `count` further atoms leave one: away from those that are there, straight on from a triple bond."""
    x, y = places[atom]
    there = [math.atan2(places[other][1] - y, places[other][0] - x) for other in molecule.neighbours(atom) if other in places]
    if len(there) == 1:
        away = there[0] + math.pi
        linear = any(bond.order == 3 for bond in molecule.of(atom)) or [bond.order for bond in molecule.of(atom)] == [2, 2]
        if count == 1:
            return [away if linear else away + bend * math.pi / 3]
        if count == 2:
            return [away + bend * math.pi / 3, away - bend * math.pi / 3]
        return [away, away + math.pi / 2, away - math.pi / 2]
    outward = math.atan2(-sum(map(math.sin, there)), -sum(map(math.cos, there)))
    if count == 1:
        return [outward]
    return [outward + math.pi / 6, outward - math.pi / 6]


def _is_clear(molecule: Molecule, places: Sequence[Point]) -> bool:
    bonded = {frozenset((bond.first, bond.second)) for bond in molecule.bonds}
    for a in range(len(places)):
        for b in range(a):
            if frozenset((a, b)) not in bonded and math.dist(places[a], places[b]) < _NEAREST:
                return False
    for number, first in enumerate(molecule.bonds):
        for second in molecule.bonds[:number]:
            ends = {first.first, first.second, second.first, second.second}
            if len(ends) == 4 and _cross(*(places[atom] for atom in (first.first, first.second, second.first, second.second))):
                return False
    return True


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the lines a-b and c-d meet."""

    def side(p: Point, q: Point, r: Point) -> bool:
        return (q[0] - p[0]) * (r[1] - p[1]) > (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) != side(a, b, d) and side(c, d, a) != side(c, d, b)
