"""Promises of the maps that bend pages: exact inverses, and quads that hold all ink and little else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenvl.data.synth.fonts import INK
from qwenvl.data.synth.text.effects import Effects
from qwenvl.data.synth.text.effects_of_place import Geometric
from qwenvl.data.synth.text.ranges import Ranged
from qwenvl.data.synth.text.warp import Chain, Cylinder, Homography, Map, Shear, fitted, follow, rectangles, resample, sources_of

cv2 = pytest.importorskip("cv2")

SIZE = (300, 220)
CANVAS = (320, 240)
MOVING = [name for name, effect in Effects() if isinstance(effect, Geometric)]


def points_of(width: float, height: float) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, width, 9), np.linspace(0, height, 7))
    return np.stack([x.ravel(), y.ravel()], axis=1)


@pytest.mark.parametrize(
    "moved",
    [
        Homography.turned(17.0),
        Homography.between(rectangles([(0, 0, *SIZE)])[0], np.array([[9.0, 4], [280, 21], [291, 190], [30, 219]])),
        Shear(33.0, ((4.0, 60.0, 0.3), (2.5, 35.0, 2.0))),
        Cylinder((0.0, 110.0), 400.0, 0.3),
        Cylinder((150.0, 110.0), 120.0, 0.2),
    ],
    ids=["turn", "perspective", "shear", "spine at the side", "spine in the middle"],
)
def test_maps_have_exact_inverses(moved: Map) -> None:
    points = points_of(*SIZE)
    chain = Chain((moved, Homography.scaled(0.8, 5.0, -3.0)))
    for one in (moved, chain):
        assert np.abs(one.inverse(one.forward(points)) - points).max() < 1e-9
        assert np.abs(one.forward(points) - points).max() > 1


def test_a_homography_takes_corners_to_corners_and_turns_counter_clockwise() -> None:
    corners = np.array([[9.0, 4], [280, 21], [291, 190], [30, 219]])
    moved = Homography.between(rectangles([(0, 0, *SIZE)])[0], corners)
    assert np.allclose(moved.forward(rectangles([(0, 0, *SIZE)])[0]), corners)
    assert np.allclose(Homography.turned(90.0).forward(np.array([[1.0, 0.0]])), [[0.0, -1.0]])


def ink_in(quad: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Distances (4, n) of the middles of ink pixels inwards from each side of a clockwise quad."""
    rows, columns = np.nonzero(ink)
    middles = np.stack([columns + 0.5, rows + 0.5])
    sides = np.roll(quad, -1, axis=0) - quad
    inwards = np.stack([-sides[:, 1], sides[:, 0]], axis=1) / np.linalg.norm(sides, axis=1, keepdims=True)
    return inwards @ middles - (inwards * quad).sum(axis=1, keepdims=True)


def strokes(rng: np.random.Generator) -> list[tuple[tuple[int, int, int, int], np.ndarray]]:
    """Boxes of words and of lines, each with a mask of ink that touches all four sides of its box."""
    made = []
    for width, height in ((4, 20), (12, 9), (40, 12), (250, 14), (280, 30)):
        left, top = int(rng.integers(0, SIZE[0] - width + 1)), int(rng.integers(0, SIZE[1] - height + 1))
        ink = np.zeros(SIZE[::-1], np.uint8)
        inside = ink[top : top + height, left : left + width]
        inside[...] = np.where(rng.random(inside.shape) < 0.3, 255, 0)
        inside[0, rng.integers(width)] = inside[-1, rng.integers(width)] = 255
        inside[rng.integers(height), 0] = inside[rng.integers(height), -1] = 255
        made.append(((left, top, left + width, top + height), ink))
    return made


def drawn(effect: str, seed: int) -> Chain:
    """The map of one effect, or of all together, with ranges as they are; inside the canvas."""
    effects = Effects.model_validate({name: {"share": float(effect in (name, "all"))} for name in MOVING})
    names, maps = effects.draw_maps(lambda name: np.random.default_rng((seed, len(name), ord(name[0]))), SIZE)
    assert set(names) == (set(MOVING) if effect == "all" else {effect})
    return fitted(Chain(maps), SIZE, CANVAS, (0.3, 0.7))


@pytest.mark.parametrize("effect", [*MOVING, "all"])
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_quads_hold_their_ink_after_every_effect_that_moves_it(effect: str, seed: int) -> None:
    moved = drawn(effect, seed)
    sources = sources_of(moved, CANVAS)
    made = strokes(np.random.default_rng(seed))
    for (_, ink), quad in zip(made, follow([box for box, _ in made], moved), strict=True):
        seen = resample(ink, sources) >= INK
        assert seen.any()
        distances = ink_in(quad, seen)
        assert distances.min() >= 0, distances.min(axis=1)
        if moved.straight:  # a box's moved side is a line, and its ink lies along all of it
            assert distances.min(axis=1).max() <= 3.0


@pytest.mark.parametrize("effect", [*MOVING, "all"])
def test_a_moved_page_lies_inside_the_picture(effect: str) -> None:
    for seed in range(20):
        corners = drawn(effect, seed).forward(points_of(*SIZE))
        assert corners.min() >= -1e-6 and (corners <= np.array(CANVAS) + 1e-6).all()


def test_what_is_drawn_lies_where_the_map_says() -> None:
    """Single dots, resampled, have their centres of mass where the map takes their middles."""
    for effect in (*MOVING, "all"):
        moved = drawn(effect, 3)
        dot = np.zeros(SIZE[::-1], np.uint8)
        dot[100:103, 200:203] = 255
        seen = resample(dot, sources_of(moved, CANVAS)).astype(float)
        rows, columns = np.mgrid[: CANVAS[1], : CANVAS[0]] + 0.5
        centre = [(seen * columns).sum() / seen.sum(), (seen * rows).sum() / seen.sum()]
        assert np.abs(moved.forward(np.array([[201.5, 101.5]]))[0] - centre).max() < 0.15, effect


def test_a_pair_out_of_order_is_refused() -> None:
    class Pair(Ranged):
        sides: tuple[float, float] = (0.0, 1.0)

    with pytest.raises(ValueError, match=r"sides: needs least <= greatest, not 2\.0, 1\.0"):
        Pair(sides=(2.0, 1.0))
