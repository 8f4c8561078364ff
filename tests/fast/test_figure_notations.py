"""Notations of figures say what is drawn: code, LaTeX, ABC and SMILES."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from qwenvl.data.synth.figures.code import PRINTS, Colours, coloured
from qwenvl.data.synth.figures.figure import FigureError
from qwenvl.data.synth.figures.formula import formula_mask, write_formula
from qwenvl.data.synth.figures.molecule import Bond, Molecule, draw_molecule
from qwenvl.data.synth.figures.music import MusicSpec, make_music, music_samples
from qwenvl.data.synth.figures.tune import METRES, Note, compose, signature
from qwenvl.data.synth.figures.words import book

# Code and formulas


def test_programs_print_what_is_said() -> None:
    programs = book("code")["programs"]
    assert set(programs) == set(PRINTS)
    for name, sources in programs.items():
        for n, m in ((3, 2), (17, 4), (40, 9), (12, 7)):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(sources["python"].replace("@n@", str(n)).replace("@m@", str(m)), {})
            assert printed.getvalue().strip() == str(PRINTS[name](n, m)), (name, n, m)


def test_colouring_keeps_every_character() -> None:
    colours = Colours(*[(value, value, value) for value in range(8)])
    for key, snippets in book("code")["snippets"].items():
        for line in "\n".join(snippets).split("\n"):
            drawn = [" "] * len(line)
            for piece, column, _ in coloured(line, key, colours):
                drawn[column : column + len(piece)] = piece
            assert "".join(drawn).rstrip() == line.rstrip()
    pieces = coloured("def f(x): return 2  # two", "python", colours)
    assert [piece for piece, _, colour in pieces if colour == colours.keyword] == ["def", "return"]


def test_known_and_random_formulas_can_be_drawn() -> None:
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(5)
    for latex in (*book("formulas")["known"], *(write_formula(rng, 0.0) for _ in range(6))):
        mask, rise = formula_mask(latex, 16)
        assert mask.getbbox() == (0, 0, *mask.size) and rise < 0
        assert latex.count("{") == latex.count("}")
    with pytest.raises(FigureError, match=r"formula '\\\\frac\{1\}'") as caught:
        formula_mask(r"\frac{1}", 16)
    assert "\n" not in str(caught.value)


# Music


def parse_abc(text: str) -> list[list[tuple[str, int]]]:
    """Bars of (note, length in eighths)."""
    body = "".join(line for line in text.split("\n") if not re.match(r"[XTMLK]:", line))
    bars = [bar.strip() for bar in body.replace("|]", "|").split("|") if bar.strip()]
    note = r"([_^=]?[A-Ga-gz][,']*)(\d*)"
    assert all(re.fullmatch(rf"(?:{note}\s*)+", bar) for bar in bars)
    return [[(name, int(length or 1)) for name, length in re.findall(note, bar)] for bar in bars]


def test_abc_has_full_bars_and_all_notes() -> None:
    for seed in range(60):
        tune = compose(np.random.default_rng(seed), "Air", 6, 3)
        bars = parse_abc(tune.abc())
        assert len(bars) == len(tune.bars) == 6
        assert all(sum(length for _, length in bar) == METRES[tune.metre][0] for bar in bars)
        for parsed, notes in zip(bars, tune.bars, strict=True):
            assert [length for _, length in parsed] == [note.length for note in notes]
            for (name, _), note in zip(parsed, notes, strict=True):
                letter = name.strip("_^=,'")
                octave = letter.islower() + name.count("'") - name.count(",")
                assert note.step == (None if letter == "z" else "CDEFGAB".index(letter.upper()) + 7 * octave)


def test_notes_and_keys_are_written_as_the_standard_says() -> None:
    assert [Note(step, 2).abc() for step in (-1, 0, 6, 7, 14)] == ["B,2", "C2", "B2", "c2", "c'2"]
    assert Note(3, 1, "^").abc() == "^F" and Note(None, 4).abc() == "z4"
    assert signature("D") == {"F": "^", "C": "^"} and signature("Eb") == {"B": "_", "E": "_", "A": "_"} and signature("C") == {}


# Molecules


def parse_smiles(text: str) -> Counter[str]:
    """The atoms of a SMILES string with their hydrogens, by a reading of its own."""
    atoms: list[list[Any]] = []
    stack, rings, previous, order = [], {}, None, None
    for token in re.findall(r"Cl|Br|[BCNOPSFcnos]|[-=#()]|\d", text):
        if token == "(":
            stack.append(previous)
        elif token == ")":
            previous = stack.pop()
        elif token in "-=#":
            order = {"-": 1, "=": 2, "#": 3}[token]
        elif token.isdigit():
            if token in rings:
                other, opened = rings.pop(token)
                _join(atoms, other, previous, opened or order)
            else:
                rings[token] = (previous, order)
            order = None
        else:
            atoms.append([token, 0.0])
            if previous is not None:
                _join(atoms, previous, len(atoms) - 1, order)
            previous, order = len(atoms) - 1, None
    assert not stack and not rings
    counts = Counter(symbol.capitalize() for symbol, _ in atoms)
    for symbol, used in atoms:
        valence = {"C": 4, "N": 3, "O": 2, "S": 2}.get(symbol.upper(), 1)
        counts["H"] += max(int(valence - used - (1 if symbol in "cn" and symbol.islower() else 0)), 0)
    return +counts


def _join(atoms: list[list[Any]], first: int, second: int, order: int | None) -> None:
    """An aromatic bond counts as one here; the electron that an aromatic c or n gives to its ring is taken off in the end."""
    atoms[first][1] += order or 1
    atoms[second][1] += order or 1


def test_keys_are_named_in_the_language_of_the_question() -> None:
    said = {
        (sample.language, sample.extra["value"])
        for index in range(30)
        for sample in music_samples(make_music(MusicSpec(bars=(2, 2)), 1, index), each=9)
        if sample.extra["kind"] == "key_signature"
    }
    assert {value[-2:] for language, value in said if language == "zh"} == {"大调"}
    assert ("zh", "降E大调") in said and ("en", "Eb") in said


def test_smiles_and_formula_agree() -> None:
    rng = np.random.default_rng(11)
    for _ in range(150):
        molecule = draw_molecule(rng, (0, 2), (1, 3))
        counts = parse_smiles(molecule.smiles())
        formula = Counter({symbol: int(number or 1) for symbol, number in re.findall(r"([A-Z][a-z]?)(\d*)", molecule.formula())})
        assert counts == formula, molecule.smiles()
        assert all(molecule.hydrogens(atom) >= 0 for atom in range(len(molecule.atoms)))


def test_known_molecules_have_their_smiles() -> None:
    ethanol = Molecule()
    ethanol.add("O", ethanol.add("C", ethanol.add("C")))
    assert (ethanol.smiles(), ethanol.formula()) == ("CCO", "C2H6O")
    nitrile = Molecule()
    nitrile.add("N", nitrile.add("C", nitrile.add("C")), 3)
    assert (nitrile.smiles(), nitrile.formula()) == ("CC#N", "C2H3N")
    biphenyl = Molecule()
    for start in (0, 6):
        for _ in range(6):
            biphenyl.add("C")
        ring = list(range(start, start + 6))
        biphenyl.rings.append(ring)
        biphenyl.bonds += [Bond(ring[k], ring[(k + 1) % 6], 2 - k % 2, True) for k in range(6)]
    biphenyl.bonds.append(Bond(0, 6, 1))
    assert (biphenyl.smiles(), biphenyl.formula()) == ("c1ccc(-c2ccccc2)cc1", "C12H10")


def test_a_molecule_has_one_smiles_however_it_was_made() -> None:
    rng = np.random.default_rng(12)
    for _ in range(30):
        molecule = draw_molecule(rng, (0, 2), (1, 3))
        order = [int(place) for place in rng.permutation(len(molecule.atoms))]
        new = {old: place for place, old in enumerate(order)}
        bonds = [Bond(new[bond.second], new[bond.first], bond.order, bond.aromatic) for bond in molecule.bonds]
        rings = [[new[atom] for atom in ring] for ring in molecule.rings]
        renamed = Molecule([molecule.atoms[old] for old in order], [bonds[int(k)] for k in rng.permutation(len(bonds))], rings)
        assert renamed.smiles() == molecule.smiles()
