"""Every letter of every language in every font of its pages: a minute of drawing."""

from __future__ import annotations

from itertools import chain

import pytest

from qwenvl.data.synth import fonts
from qwenvl.data.synth.text.scripts import FAMILIES, Script
from tests.text_pages import alphabet, need_fonts


@pytest.fixture(autouse=True, scope="module")
def _fonts() -> None:
    need_fonts()


@pytest.mark.parametrize("script", FAMILIES)
def test_families_write_the_whole_alphabet_of_their_language(script: Script) -> None:
    letters = alphabet(script)
    assert not [(face, missing) for face in chain(*FAMILIES[script]) if (missing := fonts.lacking(face, letters))]


@pytest.mark.parametrize("script", ["ru", "vi"])
def test_no_english_family_that_could_write_a_language_is_left_out(script: Script) -> None:
    letters = alphabet(script)
    able = {family[0].family for family in FAMILIES["en"] if not any(fonts.lacking(face, letters) for face in family)}
    assert able == {family[0].family for family in FAMILIES[script]}
