"""What differs between two pictures: scenes with one change, and any picture beside a copy of it in which one thing is covered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import ImageDraw

from qwenvl.data.dialogues.turns import put, told
from qwenvl.data.pictured import referring_phrases
from qwenvl.data.shown import Named, Shown, in_picture
from qwenvl.data.synth.names import COLOUR_NAMES, COLOURS, article
from qwenvl.data.synth.scene_pair import ScenePair
from qwenvl.data.wording import Turn, Voice, a_thing, numbers, opened, region_of
from qwenvl.processing.image import open_image
from qwenvl.types import ImagePart, RegionPart

_COVERED = (0.005, 0.3)
"""Least and greatest area of what is covered, as parts of the picture."""
_WHOLE = 1e-6
"""Of a pixel: sides that are fractions of a picture come back as whole pixels but for so little."""
_DISTINCT = 120.0
"""Least distance of the patch's colour from the mean colour below it, in RGB."""


def covered_copy(shown: Shown, voice: Voice) -> tuple[ImagePart, str, RegionPart] | None:
    """A copy of the picture with a coloured patch over one thing that has one box, what to say of it, and the patch's place.

    None where no thing is of a size to be covered. Raises ImageError for a picture that cannot be opened.
    """
    able = [thing for thing in shown.things if len(thing.regions) == 1 and _COVERED[0] <= _area(thing) <= _COVERED[1]]
    if not able:
        return None
    thing = voice.pick(able)
    picture = open_image(shown.picture.image).copy()
    (left, top), (right, bottom) = thing.regions[0].pixels(*picture.size)
    first = math.floor(left + _WHOLE), math.floor(top + _WHOLE)
    box = (*first, math.ceil(right - _WHOLE), math.ceil(bottom - _WHOLE))
    below = np.asarray(picture.crop(box)).reshape(-1, 3).mean(axis=0)
    colours = [name for name, value in COLOURS.items() if np.linalg.norm(below - value) >= _DISTINCT]
    colour = voice.pick(colours)
    ImageDraw.Draw(picture).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), COLOURS[colour])
    word = COLOUR_NAMES[colour][voice.language]
    said = voice.say(
        f"In picture 2, {article(word)} {word} patch covers {thing.phrase}.", f"图2中，{thing.phrase}被一块{word}的色块遮住了。"
    )
    patch = voice.say(f"{word} patch", f"{word}的色块")
    return replace(shown.picture, image=picture), said, RegionPart(patch, thing.regions)


def _area(thing: Named) -> float:
    (left, top), (right, bottom) = thing.regions[0].points
    return (right - left) * (bottom - top)


def scene_difference(pair: ScenePair, voice: Voice) -> list[Turn]:
    """What changed from one scene to the next, and where; empty where the thing has no name of its own."""
    at = pair.after if pair.after is not None else pair.before
    assert at is not None
    number = 1 if pair.after is not None else 0
    scene = (pair.first, pair.second)[number]
    phrases = _names(pair, voice)
    if not phrases:
        return []
    phrase = voice.pick(phrases)
    said = _said(pair, phrase, voice)
    place = RegionPart(a_thing(scene.things[at], voice.language), (region_of(scene, scene.things[at]),))
    truth = {"change": pair.change, "regions": [numbers(region) for region in place.regions], "picture": number}
    (marked,) = in_picture([place], number)
    return [
        told("difference", put(voice, "difference"), said, **truth),
        told("difference_box", put(voice, "difference_box", n=number + 1), (marked,), phrase=place.phrase, **truth),
    ]


def _names(pair: ScenePair, voice: Voice) -> Sequence[str]:
    """How the thing that changed is called: by its first picture, and if it is not there, by its second."""
    if pair.before is not None:
        return referring_phrases(pair.first, pair.before, voice)
    assert pair.after is not None
    return [a_thing(pair.second.things[pair.after], voice.language)]


def _said(pair: ScenePair, phrase: str, voice: Voice) -> str:
    if pair.change == "removed":
        return voice.say(f"{opened(phrase)} is missing in picture 2.", f"图2里少了{phrase}。")
    if pair.change == "added":
        return voice.say(f"Picture 2 shows {phrase} that is not in picture 1.", f"图2比图1多了{phrase}。")
    assert pair.after is not None
    new = pair.second.things[pair.after]
    if pair.change == "recoloured":
        colour = COLOUR_NAMES[str(new.colour)][voice.language]
        return voice.say(f"{opened(phrase)} in picture 1 is {colour} in picture 2.", f"图1中的{phrase}在图2中变成了{colour}。")
    if pair.change == "replaced":
        other = a_thing(new, voice.language)
        return voice.say(f"In place of {phrase}, picture 2 has {other}.", f"{phrase}在图2中换成了{other}。")
    return voice.say(f"{opened(phrase)} is in another place in picture 2.", f"{phrase}在图2中换了位置。")
