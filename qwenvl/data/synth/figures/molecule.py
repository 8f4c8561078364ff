"""Small molecules as graphs: made at random from rings, chains and groups; their SMILES and molecular formula.

Only atoms of the organic subset without charge are used, so that hydrogens are always implicit (opensmiles.org, 3.1.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qwenvl.data.synth.draws import pick, whole

VALENCE = {"C": 4, "N": 3, "O": 2, "S": 2, "F": 1, "Cl": 1, "Br": 1}


@dataclass(frozen=True, slots=True)
class Bond:
    """`order` is that of the drawn (Kekule) form; aromatic bonds are those of an aromatic ring."""

    first: int
    second: int
    order: int
    aromatic: bool = False

    def other(self, atom: int) -> int:
        return self.second if atom == self.first else self.first


@dataclass(slots=True)
class Molecule:
    """Atoms by symbol, bonds, and the rings as lists of atoms in order."""

    atoms: list[str] = field(default_factory=list)
    bonds: list[Bond] = field(default_factory=list)
    rings: list[list[int]] = field(default_factory=list)

    def of(self, atom: int) -> list[Bond]:
        return [bond for bond in self.bonds if atom in (bond.first, bond.second)]

    def neighbours(self, atom: int) -> list[int]:
        return [bond.other(atom) for bond in self.of(atom)]

    def is_aromatic(self, atom: int) -> bool:
        return any(bond.aromatic for bond in self.of(atom))

    def hydrogens(self, atom: int) -> int:
        """Those that are not written."""
        return VALENCE[self.atoms[atom]] - sum(bond.order for bond in self.of(atom))

    def ring_of(self, bond: Bond) -> list[int] | None:
        """The ring that a bond is part of."""
        return next((ring for ring in self.rings if bond.first in ring and bond.second in ring), None)

    def add(self, symbol: str, to: int | None = None, order: int = 1) -> int:
        """A new atom, bonded to an earlier one; returns its number."""
        self.atoms.append(symbol)
        if to is not None:
            self.bonds.append(Bond(to, len(self.atoms) - 1, order))
        return len(self.atoms) - 1

    def formula(self) -> str:
        """Carbon and hydrogen first, the others by the alphabet (the Hill system)."""
        counts = {symbol: self.atoms.count(symbol) for symbol in set(self.atoms)}
        counts["H"] = sum(map(self.hydrogens, range(len(self.atoms))))
        order = [symbol for symbol in ("C", "H") if counts.get(symbol)] + sorted(set(counts) - {"C", "H"})
        return "".join(symbol + (str(counts[symbol]) if counts[symbol] > 1 else "") for symbol in order)

    def smiles(self) -> str:
        return _Smiles(self).written()


# Rings: the symbols around them, and the orders of the bonds from each atom to the next; whether they are aromatic.
RINGS: dict[str, tuple[str, tuple[int, ...], bool]] = {
    "benzene": ("CCCCCC", (2, 1, 2, 1, 2, 1), True),
    "pyridine": ("NCCCCC", (1, 2, 1, 2, 1, 2), True),
    "furan": ("OCCCC", (1, 2, 1, 2, 1), True),
    "thiophene": ("SCCCC", (1, 2, 1, 2, 1), True),
    "cyclohexane": ("CCCCCC", (1,) * 6, False),
    "cyclohexene": ("CCCCCC", (2, 1, 1, 1, 1, 1), False),
    "cyclopentane": ("CCCCC", (1,) * 5, False),
    "cyclobutane": ("CCCC", (1,) * 4, False),
    "cyclopropane": ("CCC", (1,) * 3, False),
    "oxane": ("OCCCCC", (1,) * 6, False),
    "piperidine": ("NCCCCC", (1,) * 6, False),
}
# Groups that end a chain: (symbol, index of the atom that it is bonded to: -1 for where the group begins, order of that bond).
GROUPS: dict[str, tuple[tuple[str, int, int], ...]] = {
    "hydroxyl": (("O", -1, 1),),
    "amine": (("N", -1, 1),),
    "fluoride": (("F", -1, 1),),
    "chloride": (("Cl", -1, 1),),
    "bromide": (("Br", -1, 1),),
    "thiol": (("S", -1, 1),),
    "acid": (("C", -1, 1), ("O", 0, 2), ("O", 0, 1)),
    "aldehyde": (("C", -1, 1), ("O", 0, 2)),
    "amide": (("C", -1, 1), ("O", 0, 2), ("N", 0, 1)),
    "nitrile": (("C", -1, 1), ("N", 0, 3)),
    "ketone": (("C", -1, 1), ("O", 0, 2), ("C", 0, 1)),
    "ether": (("O", -1, 1), ("C", 0, 1)),
    "ester": (("C", -1, 1), ("O", 0, 2), ("O", 0, 1), ("C", 2, 1)),
    "vinyl": (("C", -1, 1), ("C", 0, 2)),
    "alkyne": (("C", -1, 1), ("C", 0, 3)),
    "methyl": (("C", -1, 1),),
    "isopropyl": (("C", -1, 1), ("C", 0, 1), ("C", 0, 1)),
}


def draw_molecule(rng: np.random.Generator, rings: tuple[int, int], groups: tuple[int, int]) -> Molecule:
    """A molecule of some rings joined by bonds or short chains, or of a chain, with groups at free places."""
    molecule = Molecule()
    count = whole(rng, *rings)
    if count == 0:
        _chain(rng, molecule, None, whole(rng, 2, 6))
    for number in range(count):
        start: int | None = None
        if number:
            start = pick(rng, _free(molecule))
            for _ in range(whole(rng, 0, 2)):
                start = molecule.add("C", start)
        _ring(rng, molecule, pick(rng, _ring_names(count)), start)
    for _ in range(whole(rng, *groups)):
        free = _free(molecule)
        if free:
            _group(rng, molecule, pick(rng, free))
    return molecule


def _ring_names(count: int) -> list[str]:
    """Benzene is as likely as all others together."""
    return ["benzene"] * len(RINGS) + list(RINGS) if count else []


def _free(molecule: Molecule) -> list[int]:
    """Carbon atoms, and nitrogen in rings, with a hydrogen to give and no more than two neighbours."""
    kinds = ("C", "N") if molecule.rings else ("C",)
    return [
        atom
        for atom, symbol in enumerate(molecule.atoms)
        if symbol in kinds
        and molecule.hydrogens(atom)
        and len(molecule.of(atom)) <= 2
        and (symbol == "C" or _in_ring(molecule, atom))
    ]


def _in_ring(molecule: Molecule, atom: int) -> bool:
    return any(atom in ring for ring in molecule.rings)


def _ring(rng: np.random.Generator, molecule: Molecule, name: str, start: int | None) -> None:
    """A ring, bonded to `start` by one of its carbon atoms."""
    symbols, orders, aromatic = RINGS[name]
    first = len(molecule.atoms)
    ring = [molecule.add(symbol) for symbol in symbols]
    for place, order in enumerate(orders):
        molecule.bonds.append(Bond(ring[place], ring[(place + 1) % len(ring)], order, aromatic))
    molecule.rings.append(ring)
    if start is not None:
        molecule.bonds.append(Bond(start, first + symbols.rindex("C") - whole(rng, 0, 1), 1))


def _chain(rng: np.random.Generator, molecule: Molecule, start: int | None, length: int) -> None:
    """Carbon atoms one after the other, with a double bond among them now and then."""
    for place in range(length):
        order = 2 if start is not None and place > 1 and molecule.hydrogens(start) >= 3 and rng.random() < 0.2 else 1
        start = molecule.add("C", start, order)


def _group(rng: np.random.Generator, molecule: Molecule, at: int) -> None:
    """A group at the end of up to three carbon atoms."""
    for _ in range(pick(rng, (0, 0, 0, 1, 2, 3))):
        at = molecule.add("C", at)
    made: list[int] = []
    names = [name for name in GROUPS if molecule.atoms[at] == "C" or name in ("methyl", "isopropyl")]
    for symbol, to, order in GROUPS[pick(rng, names)]:
        made.append(molecule.add(symbol, at if to < 0 else made[to], order))


class _Smiles:
    """Writes a molecule from one end: side branches first, shorter ones before longer ones, and on along a ring last. Atoms are
    ranked by their surroundings alone, so that the same molecule is written in the same way however it was made (but for ties that
    surroundings do not break)."""

    def __init__(self, molecule: Molecule) -> None:
        self.molecule = molecule
        self.rank = _ranks(molecule)
        self.tree: dict[int, list[Bond]] = {}
        self.closures: dict[int, list[Bond]] = {}
        self.digits: dict[Bond, int] = {}

    def written(self) -> str:
        atoms = range(len(self.molecule.atoms))
        start = min(atoms, key=lambda atom: (len(self.molecule.of(atom)), self.rank[atom], atom))
        self._grow(start, None)
        return self._atom(start)

    def _grow(self, atom: int, came: Bond | None) -> None:
        """Find the tree of bonds that is written, and the bonds that close rings."""
        self.tree[atom] = []
        for bond in sorted(self.molecule.of(atom), key=lambda bond: (self.rank[bond.other(atom)], bond.other(atom))):
            other = bond.other(atom)
            if bond is came or bond in self.closures.get(atom, []):
                continue
            if other in self.tree:
                for end in (atom, other):
                    self.closures.setdefault(end, []).append(bond)
            else:
                self.tree[atom].append(bond)
                self._grow(other, bond)

    def _size(self, atom: int) -> int:
        return 1 + sum(self._size(bond.other(atom)) for bond in self.tree[atom])

    def _atom(self, atom: int) -> str:
        symbol = self.molecule.atoms[atom]
        text = symbol.lower() if self.molecule.is_aromatic(atom) else symbol
        text += "".join(self._closure(bond) for bond in self.closures.get(atom, []))

        def late(bond: Bond) -> tuple[bool, int, int]:
            other = bond.other(atom)
            return (self.molecule.ring_of(bond) is not None, self._size(other), self.rank[other])

        branches = sorted(self.tree[atom], key=late)
        for place, bond in enumerate(branches):
            said = self._sign(bond) + self._atom(bond.other(atom))
            text += said if place == len(branches) - 1 else f"({said})"
        return text

    def _closure(self, bond: Bond) -> str:
        """The digit of a ring's bond: the lowest free one where it is opened, the same where it is closed."""
        if bond in self.digits:
            return str(self.digits.pop(bond))
        self.digits[bond] = next(digit for digit in range(1, 10) if digit not in self.digits.values())
        return self._sign(bond) + str(self.digits[bond])

    def _sign(self, bond: Bond) -> str:
        """What stands between two atoms: nothing for a single or an aromatic bond; "-" for a single one between aromatic atoms."""
        if bond.aromatic:
            return ""
        if bond.order == 1:
            both = self.molecule.is_aromatic(bond.first) and self.molecule.is_aromatic(bond.second)
            return "-" if both else ""
        return {2: "=", 3: "#"}[bond.order]


def _ranks(molecule: Molecule) -> list[int]:
    """Atoms in the order of what they are and what is around them, further and further out."""
    colours = [
        (symbol, len(molecule.of(atom)), molecule.is_aromatic(atom), molecule.hydrogens(atom))
        for atom, symbol in enumerate(molecule.atoms)
    ]
    ranks = _dense(colours)
    for _ in molecule.atoms:
        around = [
            (ranks[atom], sorted((bond.order if not bond.aromatic else 0, ranks[bond.other(atom)]) for bond in molecule.of(atom)))
            for atom in range(len(molecule.atoms))
        ]
        refined = _dense(around)
        if len(set(refined)) == len(set(ranks)):
            break
        ranks = refined
    return ranks


def _dense(keys: Sequence[object]) -> list[int]:
    """The place of each key among the different ones."""
    order = {text: place for place, text in enumerate(sorted(set(map(repr, keys))))}
    return [order[repr(key)] for key in keys]
