"""Two scenes with one change: nothing else differs by a pixel, and what is said of the change is true."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from qwenvl.data.dialogues.difference import scene_difference
from qwenvl.data.synth.names import COLOUR_NAMES, described
from qwenvl.data.synth.scene import Scene, SceneSpec, Thing, generate_scene
from qwenvl.data.synth.scene_pair import ScenePair, generate_pair
from qwenvl.data.synth.spec import is_held_out_pair
from qwenvl.data.tasks import LANGUAGES
from qwenvl.data.wording import Voice, numbers, region_of
from qwenvl.types import RegionPart

pytestmark = pytest.mark.usefixtures("scene_sources")

SPEC = SceneSpec()


def pairs(count: int = 60) -> list[ScenePair]:
    return [pair for index in range(count) if (pair := generate_pair(SPEC, 3, index)) is not None]


def changed(pair: ScenePair) -> list[tuple[Scene, Thing]]:
    """The thing that changed, in each scene that has it."""
    found = ((pair.first, pair.before), (pair.second, pair.after))
    return [(scene, scene.things[number]) for scene, number in found if number is not None]


def test_a_pair_depends_on_nothing_but_spec_seed_and_index() -> None:
    one, again = generate_pair(SPEC, 3, 5), generate_pair(SPEC, 3, 5)
    assert one is not None and again is not None and one.second.image.tobytes() == again.second.image.tobytes()
    scene = generate_scene(SPEC, 3, 5)
    assert scene.image.tobytes() in (one.first.image.tobytes(), one.second.image.tobytes())


def test_nothing_differs_but_the_one_thing() -> None:
    kinds: Counter[str] = Counter()
    for pair in pairs():
        kinds[pair.change] += 1
        differs = (np.asarray(pair.first.image) != np.asarray(pair.second.image)).any(axis=2)
        assert differs.any()
        for _, thing in changed(pair):
            left, top, right, bottom = (int(side) for side in thing.box)
            differs[top:bottom, left:right] = False
        assert not differs.any()
        rest = [
            [thing for place, thing in enumerate(scene.things) if place != number]
            for scene, number in ((pair.first, pair.before), (pair.second, pair.after))
        ]
        assert rest[0] == rest[1] and pair.first.background == pair.second.background
        for scene, thing in changed(pair):
            assert not is_held_out_pair(thing.name, thing.colour, scene.background)
            others = [other.box for other in scene.things if other is not thing]
            assert all(thing.box[2] <= b[0] or b[2] <= thing.box[0] or thing.box[3] <= b[1] or b[3] <= thing.box[1] for b in others)
    assert set(kinds) == {"removed", "added", "recoloured", "replaced", "moved"} and min(kinds.values()) >= 3


def test_what_is_said_of_a_change_is_true_and_its_place_is_right() -> None:
    said: Counter[str] = Counter()
    for pair in pairs():
        for language in LANGUAGES:
            turns = scene_difference(pair, Voice(language, "chat", np.random.default_rng(1)))
            if not turns:
                continue
            told, marked = turns
            answer = told.extra["answer"]
            things = [described(thing.name, language, thing.colour) for _, thing in changed(pair)]
            if pair.change == "replaced":
                assert things[1] in answer and things[0].split("的")[-1].split(" ")[-1] in answer
            elif pair.change == "recoloured":
                assert COLOUR_NAMES[str(changed(pair)[1][1].colour)][language] in answer
            else:
                assert described(changed(pair)[0][1].name, language) in answer
            (part,) = marked.answer
            assert isinstance(part, RegionPart) and {region.image for region in part.regions} == {marked.extra["picture"]}
            scene, thing = changed(pair)[-1]
            assert marked.extra["picture"] == (0 if pair.change == "removed" else 1)
            assert numbers(region_of(scene, thing)) == numbers(part.regions[0])
            assert f"{marked.extra['picture'] + 1}" in marked.extra["question"]
            said[pair.change] += 1
    assert set(said) == {"removed", "added", "recoloured", "replaced", "moved"}


def test_a_scene_without_things_has_no_pair() -> None:
    assert generate_pair(SceneSpec(kind="text"), 3, 0) is None
