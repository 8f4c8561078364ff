"""Promises of the scene generator: determinism, exact boxes, what training never sees, dense labels, names, clear errors."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qwenvl.config import ConfigError, validate
from qwenvl.data.synth import dense, fonts, ink, names
from qwenvl.data.synth import scene as scenes
from qwenvl.data.synth.dense import NUM_DENSE_CLASSES, dense_targets
from qwenvl.data.synth.scene import Scene, SceneSpec, Thing, generate_scene, spec_hash
from qwenvl.data.synth.spec import drawable, is_held_out_pair
from qwenvl.types import QwenVLError

pytestmark = pytest.mark.usefixtures("scene_sources")

MIXED = SceneSpec()
TEXT = SceneSpec(kind="text", turned_share=0.5)


def _digest(scene: Scene) -> str:
    content = scene.image.tobytes() + repr((scene.things, scene.background)).encode()
    return hashlib.sha256(content).hexdigest()


def _changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    """(height, width) bool: where two pictures differ."""
    return (np.asarray(before) != np.asarray(after)).any(axis=2)


def _ink_of(thing: ink.Ink, colour: tuple[int, int, int]) -> np.ndarray:
    """Pixels that a thing changes on black or on white: with both, no colour can hide."""
    margin = 5
    size = (thing.width + 2 * margin, thing.height + 2 * margin)
    found = np.zeros(size[::-1], bool)
    for ground in ("black", "white"):
        before = Image.new("RGB", size, ground)
        after = before.copy()
        thing.paint(after, margin, margin, colour)
        found |= _changed(before, after)
    return found


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# Determinism and streams


def test_scene_depends_on_nothing_but_spec_seed_and_index() -> None:
    forwards = [_digest(generate_scene(MIXED, 11, index)) for index in range(8)]
    backwards = [_digest(generate_scene(MIXED, 11, index)) for index in reversed(range(8))]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 8
    assert _digest(generate_scene(MIXED, 12, 0)) != forwards[0]


def test_another_process_draws_the_same_scene_without_torch() -> None:
    code = (
        "import sys; from qwenvl.data.synth.scene import *; s = generate_scene(SceneSpec(), 11, 3);"
        "import hashlib; print(hashlib.sha256(s.image.tobytes() + repr((s.things, s.background)).encode()).hexdigest());"
        "assert 'torch' not in sys.modules"
    )
    here = {**os.environ, "PYTHONHASHSEED": "77"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=here, check=True).stdout.strip()
    assert found == _digest(generate_scene(MIXED, 11, 3))


def test_train_and_held_out_streams_share_no_scene() -> None:
    train = {_digest(generate_scene(MIXED, 1, index)) for index in range(150)}
    held_out = {_digest(generate_scene(SceneSpec(split="held_out"), 1, index)) for index in range(150)}
    assert len(train) == len(held_out) == 150
    assert not train & held_out


# The digest of scenes 0..19 of MIXED and TEXT, and what it was drawn from. A change of pixels or labels needs a new WORLD_VERSION.
FROZEN = {"world": 1, "files": "a53e5bb1a2423e05", "pillow": "13.0.0", "freetype": "2.14.3", "digest": "168a5f771517b90c"}


def test_world_is_frozen_at_its_version() -> None:
    found = fonts.versions()
    if any(found[part] != FROZEN[part] for part in ("files", "pillow", "freetype")):
        pytest.skip("drawn from other fonts, names or libraries than the digest was taken from")
    digests = [_digest(generate_scene(spec, 5, index)) for spec in (SceneSpec(), SceneSpec(kind="text")) for index in range(20)]
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
    assert (scenes.WORLD_VERSION, digest) == (FROZEN["world"], FROZEN["digest"]), "pictures changed: raise WORLD_VERSION"


# Boxes match the ink


@pytest.mark.parametrize("size", [21, 34, 60])
def test_boxes_of_emoji_and_shapes_are_the_ink(size: int) -> None:
    drawn = [ink.emoji(name, size) for name in names.EMOJI] + [ink.shape(name, size) for name in names.SHAPES]
    for thing in drawn:
        assert _bounds(_ink_of(thing, (120, 60, 200))) == (5, 5, 5 + thing.width, 5 + thing.height)
        assert size - 2 <= max(thing.width, thing.height) <= size


@pytest.mark.parametrize("degrees", [0.0, 7.5, -4.0])
def test_boxes_of_lettering_and_of_each_character_are_the_ink(degrees: float) -> None:
    for face, text in ((fonts.LATIN[0][0], "QJ07"), (fonts.LATIN[3][2], "AVW1"), (fonts.CHINESE[0], "蝴蝶")):
        drawn = ink.lettering(text, face, 25, degrees)
        assert _bounds(_ink_of(drawn, (200, 30, 30))) == (5, 5, 5 + drawn.width, 5 + drawn.height)
        for stamp, box in zip(drawn.stamps, drawn.glyphs, strict=True):
            alone = ink.Ink(drawn.width, drawn.height, (stamp,), drawn.quad)
            found = _bounds(_ink_of(alone, (200, 30, 30)))
            assert tuple(value - 5 for value in found) == box


@pytest.mark.parametrize("degrees", [0.0, 8.0, -8.0])
def test_quad_of_lettering_hugs_its_ink(degrees: float) -> None:
    drawn = ink.lettering("HOUSE", fonts.LATIN[0][1], 30, degrees)
    rows, columns = np.nonzero(_ink_of(drawn, (0, 0, 0)))
    points = np.stack([columns - 5 + 0.5, rows - 5 + 0.5], axis=1)
    quad = np.array(drawn.quad)
    for start, end in zip(quad, np.roll(quad, -1, axis=0), strict=True):
        along = (end - start) / np.linalg.norm(end - start)
        # Clockwise in a frame whose y grows downwards: the inside lies to the right of each side, at a positive distance.
        distance = along[0] * (points[:, 1] - start[1]) - along[1] * (points[:, 0] - start[0])
        assert -1.0 <= distance.min() <= 1.5
    (x0, y0), (x1, y1) = quad[:2]
    assert math.degrees(math.atan2(y0 - y1, x1 - x0)) == pytest.approx(degrees, abs=1e-6)


@pytest.mark.parametrize("spec", [MIXED, TEXT], ids=["mixed", "text"])
def test_scene_shows_things_in_their_boxes_and_nowhere_else(spec: SceneSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [generate_scene(spec, 2, index) for index in range(80)]
    monkeypatch.setattr(scenes, "arrange", lambda *_: [])
    tight = total = 0
    for scene in drawn:
        changed = _changed(generate_scene(spec, 2, scene.index).image, scene.image)
        for thing in scene.things:
            left, top, right, bottom = (int(value) for value in thing.box)
            inside = changed[top:bottom, left:right]
            assert 0 <= left < right <= scene.width and 0 <= top < bottom <= scene.height
            # A faint edge may have the very colour of the noise behind it.
            found = _bounds(inside)
            slack = max(found[0], found[1], right - left - found[2], bottom - top - found[3])
            assert slack <= 2
            tight, total = tight + (slack == 0), total + 1
            changed[top:bottom, left:right] = False
        assert not changed.any()
    assert tight > 0.97 * total


def test_things_do_not_overlap() -> None:
    for index in range(300):
        boxes = [thing.box for thing in generate_scene(MIXED, 4, index).things]
        for place, a in enumerate(boxes):
            for b in boxes[place + 1 :]:
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


# What a spec asks for


def test_mixed_scenes_keep_their_shares() -> None:
    drawn = [generate_scene(MIXED, 6, index) for index in range(600)]
    counts = np.bincount([sum(thing.kind != "text" for thing in scene.things) for scene in drawn], minlength=5)
    assert counts[0] == 0 and counts[1:].min() > 100
    assert 0.33 < np.mean([any(thing.kind == "text" for thing in scene.things) for scene in drawn]) < 0.47
    assert {scene.background for scene in drawn} == set(names.COLOURS)
    assert {thing.name for scene in drawn for thing in scene.things if thing.kind == "emoji"} == set(names.EMOJI)
    sides = {scene.width for scene in drawn}
    assert min(sides) == 112 and max(sides) == 160
    assert all(scene.width == scene.height for scene in drawn)
    turned = [thing.quad[0][1] != thing.quad[1][1] for scene in drawn for thing in scene.things if thing.kind == "text"]
    assert 0.1 < np.mean(turned) < 0.3


def test_text_pictures_hold_one_to_three_different_strings() -> None:
    for index in range(200):
        strings = [thing.name for thing in generate_scene(TEXT, 6, index).things]
        assert 1 <= len(strings) <= 3 and len(set(strings)) == len(strings)
        assert all(len(thing.glyphs) == len(thing.name) for thing in generate_scene(TEXT, 6, index).things)


def test_training_never_shows_held_out_pairs_and_the_option_shows_nothing_else() -> None:
    def pairs(spec: SceneSpec) -> list[bool]:
        drawn = (generate_scene(spec, 3, index) for index in range(250))
        return [is_held_out_pair(t.name, t.colour, scene.background) for scene in drawn for t in scene.things if t.kind != "text"]

    assert not any(pairs(MIXED))
    assert not any(pairs(SceneSpec(split="held_out")))
    assert all(pairs(SceneSpec(split="held_out", pairs="held_out")))


def test_about_one_pair_in_twenty_is_held_out_and_every_background_has_some() -> None:
    held = {background: sum(len(part) for part in drawable(background, "held_out")) for background in names.COLOURS}
    assert min(held.values()) >= 3
    assert 0.03 < sum(held.values()) / (len(names.COLOURS) * (60 + 36)) < 0.07


def test_shapes_never_have_the_colour_of_their_background() -> None:
    for index in range(300):
        scene = generate_scene(MIXED, 8, index)
        assert scene.background not in [thing.colour for thing in scene.things]


def test_held_out_family_is_seen_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    families: set[str] = set()
    write = ink.lettering

    def note(text: str, face: fonts.Face, *rest: Any) -> ink.Ink:
        families.add(face.family)
        return write(text, face, *rest)

    monkeypatch.setattr(ink, "lettering", note)
    for index in range(300):
        generate_scene(TEXT, 9, index)
    assert families == {family[0].family for family in fonts.LATIN} | {"Droid Sans Fallback"}
    families.clear()
    for index in range(50):
        generate_scene(SceneSpec(kind="text", split="held_out", font="held_out"), 9, index)
    assert families == {fonts.HELD_OUT[0].family} == {"DejaVu Serif"}


@pytest.mark.parametrize("change", [{"font": "held_out"}, {"pairs": "held_out"}, {"canvas": [160, 112]}, {"colour": "red"}])
def test_impossible_spec_is_one_clear_line(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(change, SceneSpec, "scenes.yaml")
    assert str(caught.value).startswith("scenes.yaml: ") and "\n" not in str(caught.value)


def test_spec_hash_changes_with_whatever_changes_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [SceneSpec(), SceneSpec(split="held_out"), SceneSpec(text_share=0.5), SceneSpec(canvas=(112, 112)), TEXT]
    hashes = [spec_hash(spec) for spec in specs]
    assert len(set(hashes)) == len(specs) and spec_hash(SceneSpec()) == hashes[0]
    monkeypatch.setitem(names.COLOURS, "red", (221, 30, 35))
    assert spec_hash(SceneSpec()) != hashes[0]
    monkeypatch.setattr("qwenvl.data.synth.spec.WORLD_VERSION", 999)
    assert spec_hash(SceneSpec()) not in hashes


# Sources


def test_missing_font_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {name: path for name, path in fonts._installed().items() if not name.startswith("Lato")}
    monkeypatch.setattr(fonts, "_installed", lambda: installed)
    with pytest.raises(QwenVLError, match=r"Lato.*run: apt-get install fonts-lato$") as caught:
        fonts.require()
    assert "\n" not in str(caught.value)


def test_missing_cldr_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(names, "CLDR_FOLDER", tmp_path)
    names._cldr_names.cache_clear()
    names.noun.cache_clear()
    try:
        with pytest.raises(QwenVLError, match=r"en\.xml.*run: apt-get install unicode-cldr-core$") as caught:
            names.noun("dog", "en")
        assert "\n" not in str(caught.value)
    finally:
        names._cldr_names.cache_clear()


def test_every_font_has_every_character_it_may_be_asked_for() -> None:
    latin = dense.CHARACTERS[: -len(names.HAN)]
    for face in (*(face for family in fonts.LATIN for face in family), *fonts.HELD_OUT):
        assert [character for character in latin if not fonts.has(face, character)] == [], face.file
    assert [character for character in names.HAN if not fonts.has(fonts.CHINESE[0], character)] == []


def test_font_without_a_character_refuses_it() -> None:
    with pytest.raises(QwenVLError, match=r"Droid Sans Fallback has no glyph for 'T' \(U\+0054\)"):
        ink.lettering("T恤", fonts.CHINESE[0], 20)
    with pytest.raises(QwenVLError, match="no glyph"):
        ink.lettering("猫", fonts.LATIN[0][0], 20)


def test_versions_name_every_package_and_the_files() -> None:
    found = fonts.versions()
    assert {face.package for face in fonts.ALL_FACES} | {"unicode-cldr-core", "pillow", "freetype", "files"} == set(found)
    assert all(found.values())


# Dense labels


def _scene(*things: Thing) -> Scene:
    return Scene(Image.new("RGB", (80, 80)), things, "red", 0, 0)


def _thing(box: tuple[float, float, float, float], class_id: int, glyphs: Any = ()) -> Thing:
    return Thing("text" if glyphs else "emoji", "dog", None, box, (), class_id, glyphs)


def test_dense_labels_follow_the_box_that_covers_most() -> None:
    glyphs = ((101, (40, 0, 50, 10)), (102, (50, 0, 58, 10)))
    scene = _scene(_thing((0, 0, 26, 20), 7), _thing((26, 0, 40, 20), 8), _thing((40, 0, 58, 10), 0, glyphs))
    classes, boxes = dense_targets(scene, 8)
    assert classes.dtype == np.int64 and boxes.dtype == np.float32 and boxes.shape == (64, 4)
    assert classes.reshape(8, 8)[0].tolist() == [7, 7, 7, 8, 101, 102, 0, 0]
    assert classes.reshape(8, 8)[2:].sum() == 0
    assert boxes[2].tolist() == pytest.approx([0, 0, 26 / 80, 20 / 80])
    assert boxes[5].tolist() == pytest.approx([50 / 80, 0, 58 / 80, 10 / 80])
    assert not boxes[classes == 0].any()


def test_dense_labels_leave_barely_touched_patches_to_the_background() -> None:
    classes, _ = dense_targets(_scene(_thing((0, 0, 12, 10), 5)), 8)
    assert classes.reshape(8, 8)[0, :2].tolist() == [5, 0]


def test_dense_labels_of_scenes_are_classes_and_boxes_of_their_things() -> None:
    seen: set[int] = set()
    for spec in (MIXED, TEXT):
        for index in range(150):
            scene = generate_scene(spec, 10, index)
            classes, boxes = dense_targets(scene, 8)
            known = [glyph for thing in scene.things for glyph in thing.glyphs] + [(t.class_id, t.box) for t in scene.things]
            for class_id, box in zip(classes[classes > 0], boxes[classes > 0], strict=True):
                assert any(class_id == c and np.allclose(np.array(b) / scene.width, box, atol=1e-6) for c, b in known)
            shown = {thing.class_id for thing in scene.things if thing.kind != "text"}
            assert shown <= set(classes.tolist())
            seen |= set(classes.tolist())
    assert max(seen) < NUM_DENSE_CLASSES


def test_dense_classes_are_distinct_and_named() -> None:
    ids = [dense.thing_class("emoji", name, None) for name in names.EMOJI]
    ids += [dense.thing_class("shape", shape, colour) for shape in names.SHAPES for colour in names.COLOURS]
    ids += [dense.character_class(character) for character in dense.CHARACTERS]
    assert sorted(ids) == list(range(1, NUM_DENSE_CLASSES))
    called = dense.class_names()
    assert len(called) == NUM_DENSE_CLASSES
    assert called[dense.thing_class("shape", "star", "red")] == "red star" and called[dense.character_class("猫")] == "猫"


# Names


def test_names_are_what_people_say() -> None:
    assert names.counted("dog", 2, "en") == "two dogs" and names.counted("dog", 2, "zh") == "两只狗"
    assert names.counted("apple", 1, "en") == "an apple" and names.counted("book", 1, "zh") == "一本书"
    assert names.counted("star", 3, "en", "orange") == "three orange stars"
    assert names.counted("circle", 1, "en", "orange") == "an orange circle"
    assert names.counted("circle", 2, "zh", "red") == "两个红色的圆形"
    assert [names.plural(key) for key in ("fox", "butterfly", "fish", "snowman", "bus", "monkey", "key")] == [
        *("foxes", "butterflies", "fish", "snowmen", "buses", "monkeys", "keys")
    ]
    assert names.article("owl") == "an" and names.article("umbrella") == "an" and names.article("house") == "a"


def test_every_thing_has_one_name_of_its_own_in_each_language() -> None:
    keys = [*names.EMOJI, *names.SHAPES]
    assert len(names.EMOJI) == 60
    for language in ("en", "zh"):
        called = [names.noun(key, language) for key in keys]
        assert len(set(called)) == len(keys) and all(called)
    assert [names.noun(key, "en") for key in keys] == keys
    with pytest.raises(QwenVLError, match="unicorn"):
        names.noun("unicorn", "en")


def test_chinese_characters_of_the_labels_are_those_of_the_names() -> None:
    assert "".join(sorted({character for key in names.EMOJI for character in names.noun(key, "zh")})) == names.HAN


# Speed


def test_scenes_are_drawn_fast_enough_to_feed_a_training_run() -> None:
    for index in range(300):
        generate_scene(MIXED, 20, index)
    started = time.process_time()
    for index in range(300):
        generate_scene(MIXED, 21, index)
    rate = 300 / (time.process_time() - started)
    # About 1900 a second on an idle core here; a third of that still feeds a run, and less means a cache broke.
    assert rate > 500
