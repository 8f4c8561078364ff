"""Promises of pages of text: determinism, quads around ink after every effect, the text as it stands, all languages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qwenvl.config import ConfigError, validate
from qwenvl.data.synth.names import CLDR_FOLDER
from qwenvl.data.synth.text.background import BackgroundError
from qwenvl.data.synth.text.corpus import CorpusError, open_corpus
from qwenvl.data.synth.text.effects import Effects
from qwenvl.data.synth.text.effects_of_place import Geometric
from qwenvl.data.synth.text.page import make_page
from qwenvl.data.synth.text.scripts import SCRIPTS, UNSPACED, Script
from qwenvl.data.synth.text.spec import PRESETS, TextSpec
from qwenvl.types import QwenVLError
from tests.text_pages import digest, inside, need_fonts, small, with_and_without_ink

EFFECTS = list(Effects.model_fields)
SPREADING = ("motion_blur", "blur", "resolution")
"""Effects that smear ink itself; half of its strength stays within a pixel of where it was."""


@pytest.fixture(autouse=True, scope="module")
def _fonts() -> None:
    need_fonts()
    if not CLDR_FOLDER.exists():
        pytest.skip("CLDR is not installed")


# Determinism


@pytest.mark.parametrize("preset", PRESETS)
def test_a_page_depends_on_nothing_but_spec_seed_and_index(preset: str) -> None:
    kind = PRESETS[preset].get("kind", "pages")
    spec = small(effects=PRESETS[preset].get("effects"), kind=kind).model_copy(update={"languages": SCRIPTS})
    forwards = [digest(make_page(spec, 1, index)) for index in range(4)]
    backwards = [digest(make_page(spec, 1, index)) for index in reversed(range(4))]
    assert forwards == backwards[::-1]
    assert len({*forwards, digest(make_page(spec, 2, 0))}) == 5


def test_another_process_draws_the_same_page_without_torch() -> None:
    code = (
        "import sys; from tests.text_pages import *; from qwenvl.data.synth.text.page import make_page\n"
        "print(digest(make_page(small('ar', {'curl': {'share': 1}}), 1, 3))); assert 'torch' not in sys.modules"
    )
    here = {**os.environ, "PYTHONHASHSEED": "77"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=here, check=True).stdout.strip()
    assert found == digest(make_page(small("ar", {"curl": {"share": 1}}), 1, 3))


def test_an_effect_changes_nothing_else() -> None:
    plain, noisy = (make_page(small(effects=effects), 1, 0) for effects in (None, {"noise": {"share": 1.0, "scale": (8.0, 8.0)}}))
    assert noisy.lines == plain.lines and noisy.effects == ("noise",) and plain.effects == ()
    difference = np.asarray(noisy.picture).astype(int) - np.asarray(plain.picture)
    assert 3 < difference[: difference.shape[0] // 4].std() < 9


# Places


@pytest.mark.parametrize("effect", EFFECTS)
def test_quads_hold_their_ink_after_every_effect(effect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the ink changes in the picture lies in the quads of the lines, and in those of their words."""
    spec = small(effects={effect: {"share": 1.0}})
    checked = 0
    for index in range(4):
        page, drawn, empty = with_and_without_ink(spec, index, monkeypatch)
        assert page.effects == (effect,)
        changed = np.abs(drawn - empty).max(axis=2)
        ink = changed >= (changed.max() / 2 if effect in SPREADING else 24)
        for texts in (page.lines, [word for line in page.lines for word in line.words]):
            held = np.zeros(ink.shape, bool)
            for text in texts:
                covered = inside(text.quad, ink.shape, 1.0 if effect in SPREADING else 0.0)
                assert changed[covered].max() >= 24, text
                held |= covered
                checked += 1
            assert not (ink & ~held).any()
    assert checked > 20


@pytest.mark.parametrize("effect", [name for name, effect in Effects() if not isinstance(effect, Geometric)])
def test_effects_of_colour_move_nothing(effect: str) -> None:
    spec, plain = small(effects={effect: {"share": 1.0}}), small()
    assert all(make_page(spec, 5, index).lines == make_page(plain, 5, index).lines for index in range(3))


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_language_has_quads_around_its_ink(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    fonts = set()
    for index in range(3):
        page, drawn, empty = with_and_without_ink(small(script, {"perspective": {"share": 1.0}}), index, monkeypatch)
        assert page.script == script and len(page.lines) > 3
        ink = np.abs(drawn - empty).max(axis=2) >= 24
        held = np.zeros(ink.shape, bool)
        for line in page.lines:
            for word in line.words:
                covered = inside(word.quad, ink.shape)
                assert (ink & covered).any(), word
                held |= covered
        assert not (ink & ~held).any()
        fonts |= {line.font for line in page.lines}
    assert len(fonts) > 1


def test_lines_are_their_words_and_stay_in_the_picture() -> None:
    for index in range(6):
        page = make_page(small(SCRIPTS[index], {"curl": {"share": 1.0}, "rotation": {"share": 1.0}}), 2, index)
        joint = "" if page.script in UNSPACED else " "
        assert page.lines
        for line in page.lines:
            assert joint.join(word.text for word in line.words).replace(" ", "") == line.text.replace(" ", "")
            for text in (line, *line.words):
                corners = np.asarray(text.quad)
                assert corners.min() >= 0 and (corners <= page.picture.size).all()
                x, y = corners.T
                area = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
                assert area > 4, "clockwise as seen, where y grows downwards"


def test_arabic_runs_from_right_to_left() -> None:
    page = make_page(small("ar"), 3, 0)
    for line in page.lines:
        foreign = any(character.isascii() and character.isalpha() for character in line.text)
        lefts = [word.quad[0][0] for word in line.words]
        assert foreign or lefts == sorted(lefts, reverse=True)
    assert max(len(line.words) for line in page.lines) > 1


def test_lines_do_not_overlap() -> None:
    """Fonts whose own metrics are too small (Lemonada) are set as high as their letters are."""
    for script in SCRIPTS:
        page = make_page(small(script), 4, 1)
        inked = np.zeros(page.picture.size[::-1], int)
        for line in page.lines:
            inked += inside(line.quad, inked.shape, -1.5)
        assert inked.max() == 1, script


# Text


def test_a_page_says_what_its_file_says(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(400))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    for index in range(3):
        page = make_page(small(text_folder=str(tmp_path)), 1, index)
        said = " ".join(line.text for line in page.lines)
        assert page.dropped == 0 and said in f"{text}\n{text}".replace("\n", " ")


def test_no_word_of_a_passage_has_lost_a_part(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(4000)]
    (tmp_path / "a.txt").write_text(" ".join(words), encoding="utf-8")
    (tmp_path / "b.txt").write_text("short words stand here", encoding="utf-8")
    known, rng = {*words, "short", "words", "stand", "here"}, np.random.default_rng(0)
    passages = [open_corpus(str(tmp_path)).passage("en", rng).split() for _ in range(60)]
    assert all(passages) and {word for passage in passages for word in passage} <= known
    assert len({passage[0] for passage in passages}) > 40


def test_chinese_lines_go_on_where_the_last_one_ended(tmp_path: Path) -> None:
    text = "一丁七万丈三上下不与且世丘丙业丛东丝丢两" * 30
    (tmp_path / "zh").mkdir()
    (tmp_path / "zh" / "a.txt").write_text(text, encoding="utf-8")
    page = make_page(small("zh", text_folder=str(tmp_path)), 1, 0)
    said = "".join(line.text for line in page.lines)
    assert len(said) > 20 and said in text * 3


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no such folder"):
        make_page(small(text_folder=str(tmp_path / "none")), 0, 0)
    with pytest.raises(CorpusError, match=r"no \.txt file with text in it for language en; add some to .*en"):
        make_page(small(text_folder=str(tmp_path)), 0, 0)
    (tmp_path / "zh").mkdir()
    (tmp_path / "zh" / "a.txt").write_text("中文", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"for language en; add some to"):
        open_corpus(str(tmp_path)).passage("en", np.random.default_rng(0))
    (tmp_path / "zh" / "a.txt").write_bytes(b"\x01\x02")
    with pytest.raises(CorpusError, match=r"no words for language zh in 50 passages"):
        make_page(small("zh", text_folder=str(tmp_path)), 0, 0)
    with pytest.raises(BackgroundError, match=r"no pictures there"):
        make_page(small(background={"folder": str(tmp_path)}, paper={"fullscreen": 0.0, "short_size": (100, 200)}), 0, 0)
    with pytest.raises(QwenVLError, match=r"page \(seed -1, index 0\): seed and index count from 0"):
        make_page(small(), -1, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"effects": {"curl": {"bend": [2, 1]}}}, r"effects\.curl: bend: needs least <= greatest"),
        ({"languages": ["xx"]}, r"languages\.0: Input should be"),
        ({"languages": []}, r"languages, tasks and layout\.align: name at least one each"),
        ({"layout": {"row": 3}}, r"layout\.row: unknown key; did you mean 'rows'"),
        ({"preset": "foto"}, r"preset: Input should be 'synthdog'"),
        ({"short_size": [10, 20]}, r"sides of at least 64 pixels"),
    ],
)
def test_a_wrong_spec_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(settings, TextSpec, "spec")


def test_a_preset_holds_where_nothing_else_is_said() -> None:
    photo = validate({"preset": "photo", "effects": {"curl": {"share": 1.0}}, "layout": {"rows": [2, 3]}}, TextSpec, "spec")
    assert photo.effects.curl.share == 1.0 and photo.effects.curl.bend == Effects().curl.bend
    assert photo.effects.rotation.share == PRESETS["photo"]["effects"]["rotation"]["share"]
    assert photo.layout.rows == (2, 3) and "justify" in photo.layout.align
    assert TextSpec().effects == Effects(), "what the paper used: SynthDoG's own"
    assert validate({"effects": {"perspective": {"sides": [0.9, 1.0]}}}, TextSpec, "spec").effects.perspective.share == 1.0


# Backgrounds


def test_pictures_of_a_folder_lie_behind_and_are_the_paper(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "deep").mkdir()
    Image.new("RGB", (90, 60), (10, 200, 30)).save(tmp_path / "deep" / "green.png")
    aside = {"fullscreen": 0.0, "short_size": (100, 120), "aspect_ratio": (1, 1)}
    page = make_page(small(background={"folder": str(tmp_path)}, paper=aside), 0, 0)
    colours = np.asarray(page.picture).reshape(-1, 3)
    assert (np.abs(colours.astype(int) - (10, 200, 30)).max(axis=1) <= 1).mean() > 0.5
    paper = make_page(small(paper={"folder": str(tmp_path), "fullscreen": 1.0, "strength": (0.2, 0.2)}), 0, 0)
    grey = np.asarray(paper.picture)[0, 0]
    assert np.ptp(grey) == 0 and 220 < grey[0] < 250


def test_the_file_is_a_jpeg_of_the_drawn_quality_or_a_png() -> None:
    lossy, lossless = (make_page(small(quality=pair), 0, 0) for pair in ((60, 60), (100, 100)))
    assert lossy.file()[:2] == b"\xff\xd8" and lossless.file()[1:4] == b"PNG"
    assert len(make_page(small(quality=(20, 20)), 0, 0).file()) < len(lossy.file())
