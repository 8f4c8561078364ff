"""Two scenes that are the same but for one thing: what changed is known exactly. A pure function of (spec, seed, index)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qwenvl.data.synth import ink
from qwenvl.data.synth.background import jitter
from qwenvl.data.synth.draws import pick
from qwenvl.data.synth.scene import SPLITS, WORLD_VERSION, Layout, Plan, Scene, free_place, lay_out
from qwenvl.data.synth.spec import SceneSpec, drawable

_KIND = 4
"""Apart from the kinds of scenes and clips, so that changes share no stream of random numbers with them."""
_APART = 0.25
"""A thing has moved where its corner is this part of the picture's sides away."""
_CLEAR = 2
"""Pixels that stay free around what takes another thing's place."""

Change = Literal["removed", "added", "recoloured", "replaced", "moved"]
Placed = tuple[Plan, int, int]


@dataclass(frozen=True, slots=True)
class ScenePair:
    """The second scene is the first one with one `change`. `before` and `after` are the thing's numbers in the two scenes, None
    where it is not there."""

    first: Scene
    second: Scene
    change: Change
    before: int | None
    after: int | None


def generate_pair(spec: SceneSpec, seed: int, index: int) -> ScenePair | None:
    """Scene number `index` of a stream and a changed one; None for a scene without things, or with none that could change.

    Raises as `generate_scene`.
    """
    layout = lay_out(spec, seed, index)
    rng = np.random.default_rng((WORLD_VERSION, SPLITS[spec.split], _KIND, seed, index))
    things = [number for number, (plan, _, _) in enumerate(layout.placed) if plan.kind != "text"]
    for number in rng.permutation(things).tolist():
        for place in rng.permutation(len(_CHANGES)).tolist():
            change, changed = _CHANGES[place]
            thing = changed(layout, number, spec, rng)
            if thing is not None:
                return _pair(layout, number, change, thing)
    return None


def _pair(layout: Layout, number: int, change: Change, thing: Placed | Literal["gone"]) -> ScenePair:
    placed = list(layout.placed)
    if thing == "gone":
        del placed[number]
        full, lacking = layout.painted(), replace(layout, placed=tuple(placed)).painted()
        if change == "removed":
            return ScenePair(full, lacking, change, number, None)
        return ScenePair(lacking, full, change, None, number)
    placed[number] = thing
    return ScenePair(layout.painted(), replace(layout, placed=tuple(placed)).painted(), change, number, number)


def _gone(layout: Layout, number: int, spec: SceneSpec, rng: np.random.Generator) -> Literal["gone"] | None:
    return "gone" if len(layout.placed) > 1 else None


def _recoloured(layout: Layout, number: int, spec: SceneSpec, rng: np.random.Generator) -> Placed | None:
    plan, left, top = layout.placed[number]
    _, shapes = drawable(layout.background, spec.pairs)
    colours = [colour for name, colour in shapes if name == plan.name and colour != plan.colour]
    if plan.kind != "shape" or not colours:
        return None
    colour = pick(rng, colours)
    return replace(plan, colour=colour, paint=jitter(colour, rng)), left, top


def _replaced(layout: Layout, number: int, spec: SceneSpec, rng: np.random.Generator) -> Placed | None:
    """Another thing of its size, around the same middle, where that leaves its neighbours free."""
    plan, left, top = layout.placed[number]
    emoji, shapes = drawable(layout.background, spec.pairs)
    present = {other.name for other, _, _ in layout.placed}
    size = max(plan.ink.width, plan.ink.height)
    if plan.kind == "emoji":
        names = [name for name in emoji if name not in present]
    else:
        names = [name for name, colour in shapes if colour == plan.colour and name not in present]
    if not names:
        return None
    name = pick(rng, names)
    drawn = ink.emoji(name, size) if plan.kind == "emoji" else ink.shape(name, size)
    left, top = left + (plan.ink.width - drawn.width) // 2, top + (plan.ink.height - drawn.height) // 2
    moved = replace(plan, name=name, ink=drawn), left, top
    return moved if _fits(layout, number, moved) else None


def _fits(layout: Layout, number: int, thing: Placed) -> bool:
    plan, left, top = thing
    width, height = layout.ground.size
    right, bottom = left + plan.ink.width, top + plan.ink.height
    others = [entry for place, entry in enumerate(layout.placed) if place != number]
    return (
        left >= 1 and top >= 1 and right < width and bottom < height
        and all(
            right + _CLEAR <= x or x + other.ink.width + _CLEAR <= left
            or bottom + _CLEAR <= y or y + other.ink.height + _CLEAR <= top
            for other, x, y in others
        )
    )  # fmt: skip


def _moved(layout: Layout, number: int, spec: SceneSpec, rng: np.random.Generator) -> Placed | None:
    plan, left, top = layout.placed[number]
    width, height = layout.ground.size
    place = free_place(rng, layout.ground.size, plan.ink, list(layout.placed))
    if place is None or max(abs(place[0] - left) / width, abs(place[1] - top) / height) < _APART:
        return None
    return plan, *place


Changer = Callable[[Layout, int, SceneSpec, np.random.Generator], "Placed | Literal['gone'] | None"]
_CHANGES: tuple[tuple[Change, Changer], ...] = (
    ("removed", _gone),
    ("added", _gone),
    ("recoloured", _recoloured),
    ("replaced", _replaced),
    ("moved", _moved),
)
