"""Promises of the fonts of pages: what is listed is what is installed, writes its language, and refuses what it lacks."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qwenvl.data.synth import fonts
from qwenvl.data.synth.fonts import FontError
from qwenvl.data.synth.text import scripts
from qwenvl.data.synth.text.corpus import Word, clean, open_corpus, split
from qwenvl.data.synth.text.scripts import FAMILIES, LICENCES, SCRIPTS, Script
from qwenvl.data.synth.text.typecase import type_case
from qwenvl.data.synth.text.typeset import Flow, Line, set_line, visual_order
from tests.text_pages import alphabet, need_fonts


@pytest.fixture(autouse=True, scope="module")
def _fonts() -> None:
    need_fonts()


def test_as_many_families_as_the_paper_used_or_more() -> None:
    assert len(FAMILIES["en"]) == 41 and len(FAMILIES["zh"]) >= 11
    for families in FAMILIES.values():
        names = [{face.family for face in family} for family in families]
        assert all(len(one) == 1 for one in names) and len(set(map(frozenset, names))) == len(families) >= 6
        assert fonts.HELD_OUT not in families, "no training picture shows the family that scenes hold out"


def test_every_face_is_the_family_that_it_says() -> None:
    """A wrong place in a collection would give another language's forms of the same characters."""
    for face in {face for family in chain(*FAMILIES.values()) for face in family}:
        assert fonts.font(face, 20).getname()[0] == face.family


@pytest.mark.parametrize("script", SCRIPTS)
def test_families_write_the_alphabet_of_their_language(script: Script) -> None:
    """A sample of it, in one face of each family; all of it in tests/slow."""
    letters = sorted(alphabet(script))
    step = max(len(letters) // 40, 1)
    for number, family in enumerate(FAMILIES[script]):
        assert not fonts.lacking(family[0], "".join(letters[number % step :: step])), family[0]


def test_a_chinese_font_refuses_a_character_that_it_lacks() -> None:
    [kaiti] = [family[0] for family in FAMILIES["zh"] if family[0].family == "AR PL KaitiM GB"]
    assert type_case(kaiti, 20).write("龙").advance > 10
    with pytest.raises(FontError, match=r"AR PL KaitiM GB has no glyph for '龍' \(U\+9F8D\); draw it with another font"):
        type_case(kaiti, 20).write("龙龍")
    with pytest.raises(FontError, match=r"Amiri has no glyph for '龍'"):
        type_case(FAMILIES["ar"][0][0], 20).write_leftwards("龍")


def test_words_that_no_font_has_are_left_out_and_counted() -> None:
    [kaiti] = [family for family in FAMILIES["zh"] if family[0].family == "AR PL KaitiM GB"]
    words = iter([Word("龍", True), Word("龙", False), Word("馬", True), Word("马", True)] + [Word("中", False)] * 200)
    flow = Flow(words, "zh", [kaiti])
    face = flow.choose_face(np.random.default_rng(0))
    line = flow.take_line(type_case(face, 20), 100.0)
    assert [word.text for word, _ in line] == ["龙", "马", "中", "中"] and flow.dropped == 2


def test_the_font_that_has_most_of_a_text_is_taken() -> None:
    rng = np.random.default_rng(0)
    for text, able in (("говорить", "ru"), ("Tiếng Việt", "vi")):
        names = {family[0].family for family in FAMILIES[able]}
        chosen = {Flow(iter([Word(text, True)] * 500), "en", FAMILIES["en"]).choose_face(rng).family for _ in range(12)}
        assert chosen <= names and len(chosen) > 3


def test_publishable_fonts_are_those_without_the_gpl() -> None:
    faces = {face for family in chain(*FAMILIES.values()) for face in family}
    assert {face.package for face in faces} == set(LICENCES), "every package has its licence"
    barred = {face.family for face in faces if not scripts.publishable(face)}
    assert {"FreeSans", "Liberation Sans", "Nimbus Roman", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"} <= barred
    for script in SCRIPTS:
        kept = {family[0].family for family in scripts.families(script, publishable_only=True)}
        assert kept and not kept & barred


def test_licences_are_those_of_the_packages() -> None:
    """Each package's copyright file names the licence that it is listed under."""
    words = {
        "OFL-1.1": "OFL|Open Font License", "Apache-2.0": "Apache", "IPA-1.0": "IPA", "Arphic-1999": "ARPHIC PUBLIC LICENSE",
        "Bitstream-Vera": "itstream", "GUST-Font-License": "GUST Font License",
    }  # fmt: skip
    checked = 0
    for package, licence in LICENCES.items():
        path = Path(f"/usr/share/doc/{package}/copyright")
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            assert re.search(words.get(licence, "GPL|GNU General Public"), text), package
            checked += 1
    if not checked:
        pytest.skip("no copyright files on this machine")


# Lines


def test_arabic_words_stand_as_fribidi_sets_them() -> None:
    """A whole line by raqm (FriBidi and HarfBuzz), with foreign words and numbers in it, against ours, word by word."""
    [dejavu] = [family[0] for family in FAMILIES["ar"] if family[0].family == "DejaVu Sans"]
    case = type_case(dejavu, 24)
    text = "مرحبا بكم 12 34 في hello big world كلمة 5"
    flow = Flow(iter(split(text, "ar")), "ar", [])
    placed = set_line(flow.take_line(case, 1e6, most=len(text.split())), case.space, "ar", (0.0, 40.0, 0.0), "left")
    ours = Line(placed, dejavu, (0, 0, 0), 0)
    left, top, right, bottom = ours.box
    ink = ours.lay_ink(np.zeros((bottom - top, right - left), np.uint8), (left, top))
    mask, _ = fonts.font(dejavu, 24, shaped=True).getmask2(text, "L", direction="rtl", anchor="ls")
    whole = fonts.clean(Image.frombytes("L", mask.size, bytes(mask)))
    whole = np.asarray(whole.crop(whole.getbbox()))
    assert abs(ink.shape[1] - whole.shape[1]) <= 6 and ink.shape[0] == whole.shape[0], "pens are rounded for each word"
    amounts = [np.convolve((mask > 0).sum(axis=0), np.ones(7), "same") for mask in (ink, whole)]
    stretched = np.interp(np.linspace(0, 1, 400), np.linspace(0, 1, ink.shape[1]), amounts[0])
    expected = np.interp(np.linspace(0, 1, 400), np.linspace(0, 1, whole.shape[1]), amounts[1])
    assert np.corrcoef(stretched, expected)[0, 1] > 0.95
    backwards = np.interp(np.linspace(0, 1, 400), np.linspace(0, 1, ink.shape[1]), amounts[0][::-1])
    assert np.corrcoef(backwards, expected)[0, 1] < 0.7


def test_foreign_words_of_an_arabic_line_keep_their_own_order() -> None:
    assert visual_order(["ا", "ب", "ج"]) == [2, 1, 0]
    assert visual_order(["ا", "one", "two", "ب"]) == [3, 1, 2, 0]
    assert visual_order(["1", "2", "ب"]) == [2, 1, 0]


def test_letters_of_arabic_words_are_joined() -> None:
    amiri = FAMILIES["ar"][0][0]
    joined = fonts.draw(amiri, 40, "سلام", "rtl").advance
    assert joined < 0.8 * sum(fonts.draw(amiri, 40, letter, "rtl").advance for letter in "سلام")


def test_lines_of_chinese_break_anywhere_but_at_punctuation() -> None:
    face = FAMILIES["zh"][0][0]
    case = type_case(face, 20)
    flow = Flow(iter(split("一二三四五，六「七八」", "zh")), "zh", [])
    lines = ["".join(word.text for word, _ in flow.take_line(case, width)) for width in (105.0, 85.0)]
    assert lines == ["一二三四", "五，六"], "no line begins with a comma or ends with an opening bracket"


def test_a_word_that_is_too_wide_waits_for_a_wider_line() -> None:
    face = FAMILIES["en"][0][0]
    case = type_case(face, 20)
    flow = Flow(iter(split("extraordinary a b c d", "en")), "en", [])
    assert flow.take_line(case, 40.0) == []
    assert [word.text for word, _ in flow.take_line(case, 400.0, most=2)] == ["extraordinary", "a"]
    flow = Flow(iter(split("extraordinary a b c d", "en")), "en", [])
    narrow = [flow.take_line(case, 40.0) for _ in range(5)]
    assert flow.dropped == 1 and narrow[-1][0].word.text == "a"


@pytest.mark.parametrize("align", ["left", "center", "right", "justify"])
def test_lines_are_aligned(align: str) -> None:
    face = FAMILIES["en"][0][0]
    case = type_case(face, 20)
    flow = Flow(iter(split("some words stand here in a row", "en")), "en", [])
    taken = flow.take_line(case, 400.0, most=6)
    box = Line(set_line(taken, case.space, "en", (100.0, 50.0, 380.0), align), face, (0, 0, 0), 0).box
    gaps = box[0] - 100, 480 - box[2]
    assert (abs(gaps[0]) < 4) == (align in ("left", "justify")) and (abs(gaps[1]) < 4) == (align in ("right", "justify"))
    assert align != "center" or abs(gaps[0] - gaps[1]) < 5


# Text


def test_text_is_composed_and_loses_what_is_never_seen() -> None:
    assert clean("e\u0301\u200bx\ufeff\x07y\ue000") == "éxy"
    assert [word.text for word in split("a  b\nc", "en")] == ["a", "b", "c"]
    assert split("你好，世界。再见 了", "zh") == [
        Word("你好，", True), Word("世界。", False), Word("再见", False), Word("了", True),
    ]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_a_folder_every_language_has_words_that_its_fonts_can_write(script: Script) -> None:
    text = clean(open_corpus(None).passage(script, np.random.default_rng(0)))
    said = split(text, script)
    assert len(said) > 40 and text == clean(open_corpus(None).passage(script, np.random.default_rng(0)))
    face = FAMILIES[script][0][0]
    assert sum(bool(fonts.lacking(face, word.text)) for word in said) < 0.05 * len(said)
