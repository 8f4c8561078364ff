"""What drawn molecules and tunes are said to be, read by RDKit and music21."""

from __future__ import annotations

import numpy as np
import pytest
from music21 import converter
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from qwenvl.data.synth.figures.molecule import draw_molecule
from qwenvl.data.synth.figures.tune import METRES, compose, signature

SHARP = {"^": 1, "_": -1, "=": 0}


def test_rdkit_reads_every_smiles_as_the_drawn_molecule() -> None:
    spellings: dict[str, str] = {}
    for index in range(1500):
        molecule = draw_molecule(np.random.default_rng(index), (0, 2), (1, 3))
        read = Chem.MolFromSmiles(molecule.smiles())
        assert read is not None, molecule.smiles()
        assert rdMolDescriptors.CalcMolFormula(read) == molecule.formula(), molecule.smiles()
        # One spelling for one molecule: what RDKit holds to be the same is written the same.
        assert spellings.setdefault(Chem.MolToSmiles(read), molecule.smiles()) == molecule.smiles()
    assert len(spellings) > 750


# On paper an accidental holds to the bar line for its line of the staff; by ABC's standard (2.1, section 11.3) for all octaves.
@pytest.mark.parametrize("holds_for", ["octave", "pitch"])
def test_music21_reads_every_note_as_it_is_drawn(holds_for: str) -> None:
    for index in range(40):
        tune = compose(np.random.default_rng(index), "A tune", bars=6, bars_per_system=3)
        part = converter.parse(f"%abc-2.1\n%%propagate-accidentals {holds_for}\n{tune.abc()}", format="abc").parts[0]
        raised = signature(tune.key)
        notes = part.recurse().notesAndRests
        read = [(float(note.quarterLength), None if note.isRest else note.pitch.midi) for note in notes]
        drawn: list[tuple[float, int | None]] = []
        for bar in tune.bars:
            assert sum(note.length for note in bar) == METRES[tune.metre][0]
            signs: dict[int, str] = {}  # of this bar, by step
            for note in bar:
                if note.step is None:
                    drawn.append((note.length / 2, None))
                    continue
                if note.accidental:
                    signs[note.step] = note.accidental
                sign = signs.get(note.step, raised.get(note.letter, "="))
                drawn.append((note.length / 2, 60 + 12 * (note.step // 7) + (0, 2, 4, 5, 7, 9, 11)[note.step % 7] + SHARP[sign]))
        assert read == drawn, tune.abc()
