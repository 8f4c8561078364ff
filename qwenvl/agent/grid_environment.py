"""The robot's worlds by their numbers, the shortest way in them, and a world as an environment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qwenvl.agent.actions import Action, ActionError, Deed
from qwenvl.agent.environment import Done, Ended
from qwenvl.agent.gridworld import (
    BLOCKS,
    COLOURS,
    COLUMNS,
    GOTO,
    OPEN,
    PICKUP,
    PUTDOWN,
    ROWS,
    SHAPES,
    THINGS,
    Cell,
    Goal,
    Thing,
    World,
)  # fmt: skip
from qwenvl.agent.keywords import SCALE, write_keyword
from qwenvl.agent.site import AgentError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


def make_world(seed: int, goal: Goal) -> World:
    """The world of that number in which the goal can be reached, and is not yet."""
    import numpy as np

    for attempt in range(200):
        world = _draw(np.random.default_rng((seed, attempt)), goal)
        if not world.reached(goal) and solve(world, goal) is not None:
            return world
    raise AgentError(f"world {seed}: none was found in which the goal can be reached; give another --seed")


def _draw(rng: np.random.Generator, goal: Goal) -> World:
    edge = {(x, y) for x in range(COLUMNS) for y in range(ROWS) if x in (0, COLUMNS - 1) or y in (0, ROWS - 1)}
    middle = int(rng.integers(3, COLUMNS - 3))
    door = (middle, int(rng.integers(1, ROWS - 1)))
    walls = edge | {(middle, y) for y in range(ROWS)} - {door}
    beside = {(middle - 1, door[1]), (middle + 1, door[1])}
    free = [(x, y) for x in range(1, COLUMNS - 1) for y in range(1, ROWS - 1) if (x, y) not in walls | beside | {door}]
    places = [free[int(index)] for index in rng.permutation(len(free))]
    walls |= set(places[:BLOCKS])
    rest = iter(places[BLOCKS:])
    names = [(colour, shape) for colour in COLOURS for shape in SHAPES if f"{colour} {shape}" != goal.thing]
    drawn = [names[int(index)] for index in rng.permutation(len(names))[:THINGS]]
    if goal.thing is not None:
        colour, shape = goal.thing.split()
        drawn[0] = (colour, shape)
    things = tuple(Thing(colour, shape, next(rest)) for colour, shape in drawn)
    return World(frozenset(walls), door, False, next(rest), things, next(rest))


def solve(world: World, goal: Goal) -> list[tuple[str, Cell]] | None:
    """The fewest deeds that reach a goal, breadth first; None where nothing does. Only the goal's own thing is taken."""
    before: dict[World, tuple[World, tuple[str, Cell]] | None] = {world: None}
    queue = deque([world])
    while queue:
        current = queue.popleft()
        if current.reached(goal):
            deeds: list[tuple[str, Cell]] = []
            while step := before[current]:
                current, deed = step
                deeds.append(deed)
            return deeds[::-1]
        for verb, cell in _possible(current, goal):
            try:
                after = current.act(verb, cell)
            except ActionError:
                continue
            if after not in before:
                before[after] = (current, (verb, cell))
                queue.append(after)
    return None


def _possible(world: World, goal: Goal) -> Iterator[tuple[str, Cell]]:
    x, y = world.robot
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        beside = (x + dx, y + dy)
        thing = world.thing_at(beside)
        if thing and thing.name == goal.thing:
            yield PICKUP, beside
        if beside == world.door and not world.is_open:
            yield OPEN, beside
        if beside == world.mat and world.held:
            yield PUTDOWN, beside
        while not world.obstacle(beside):
            yield GOTO, beside
            beside = (beside[0] + dx, beside[1] + dy)


def shortest_answers(world: World, goal: Goal) -> list[str]:
    """The answers of a model that knows the way, as the paper prints them."""
    wide, high = SCALE

    def point(cell: Cell) -> tuple[int, int]:
        return round((cell[0] + 0.5) / COLUMNS * wide), round((cell[1] + 0.5) / ROWS * high)

    return [write_keyword(verb, point=point(cell)) for verb, cell in solve(world, goal) or []]


class GridEnvironment:
    """The world of a seed and a goal; it ends where the goal is reached."""

    def __init__(self, goal: str, seed: int = 0) -> None:
        self.goal = Goal.read(goal)
        self.world = make_world(seed, self.goal)
        self.seed = seed

    @property
    def where(self) -> str:
        return f"world {self.seed}, column {self.world.robot[0] + 1}, row {self.world.robot[1] + 1}"

    def look(self) -> Image:
        from qwenvl.agent.grid_picture import draw_world

        return draw_world(self.world)

    def act(self, action: Action) -> Done:
        if not isinstance(action, Deed) or action.at is None:
            raise ActionError(f"the robot knows no {type(action).__name__}")
        column, row = (min(int(value * count), count - 1) for value, count in zip(action.at, (COLUMNS, ROWS), strict=True))
        self.world = self.world.act(action.verb, (column, row))
        return Done("", Ended("success", "the goal is reached") if self.world.reached(self.goal) else None)

    def judge(self, claim: Ended) -> Ended:
        if claim.status == "success" and not self.world.reached(self.goal):
            return Ended("failure", "the model says that it is done, but the goal is not reached")
        return claim
