"""A robot in a drawn house: it walks, takes, carries and opens, by the keywords of section 3.2.7 of arXiv 2409.12191.

The paper's robots act in AI2-THOR; this world is ours, small enough to be judged exactly: a wall with a door, a few things, a mat.
A place is a cell. The robot walks straight along a row or column as far as it is free, and reaches the four cells beside its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from qwenvl.agent.actions import ActionError, Deed
from qwenvl.agent.keywords import POINT, Keyword
from qwenvl.agent.site import AgentError

Cell = tuple[int, int]  # column, row

COLOURS = ("red", "blue", "green", "yellow")
SHAPES = ("ball", "box", "cone")
COLUMNS, ROWS = 9, 7
THINGS = 4
BLOCKS = 4
"""Cells of wall in the rooms."""

GOTO, PICKUP, PUTDOWN, OPEN, CLOSE = "GotoLocation", "Pickup", "PutDown", "Open", "Close"


def _deed(verb: str, description: str) -> Keyword:
    return Keyword(description, (POINT,), lambda given: Deed(verb, given.point("point")))


ROBOT_KEYWORDS: Mapping[str, Keyword] = {
    GOTO: _deed(GOTO, "Walk to a place in the robot's own row or column, if nothing stands between."),
    PICKUP: _deed(PICKUP, "Take the thing at a place beside the robot."),
    PUTDOWN: _deed(PUTDOWN, "Put what the robot holds down at a free place beside it."),
    OPEN: _deed(OPEN, "Open the door at a place beside the robot."),
    CLOSE: _deed(CLOSE, "Close the door at a place beside the robot."),
}
"""Keywords as the paper has them for ALFRED; it has Clean, Heat, Cool and Slice too, for which this house has nothing."""


@dataclass(frozen=True, slots=True)
class Thing:
    """cell: None while the robot holds it."""

    colour: str
    shape: str
    cell: Cell | None

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Goal:
    """thing: the name of what is to be taken, or brought to the mat; without one the robot is to stand on the mat itself."""

    thing: str | None
    to_mat: bool

    @classmethod
    def read(cls, text: str) -> Goal:
        """A goal in words. Raises AgentError for one that names nothing of this world."""
        words = re.findall(r"[a-z]+", text.lower())
        found = [f"{colour} {shape}" for colour, shape in pairwise(words) if colour in COLOURS and shape in SHAPES]
        if not found and "mat" not in words:
            known = f"{', '.join(COLOURS)}; {', '.join(SHAPES)}"
            raise AgentError(f'{text!r}: say "take the red ball", "bring the red ball to the mat" or "go to the mat" ({known})')
        return cls(found[0] if found else None, "mat" in words)


@dataclass(frozen=True, slots=True)
class World:
    """All that there is. `act` gives the world after a deed."""

    walls: frozenset[Cell]
    door: Cell
    is_open: bool
    mat: Cell
    things: tuple[Thing, ...]
    robot: Cell

    @property
    def held(self) -> Thing | None:
        return next((thing for thing in self.things if thing.cell is None), None)

    def thing_at(self, cell: Cell) -> Thing | None:
        return next((thing for thing in self.things if thing.cell == cell), None)

    def reached(self, goal: Goal) -> bool:
        if goal.thing is None:
            return self.robot == self.mat
        thing = next(one for one in self.things if one.name == goal.thing)
        return thing.cell == (self.mat if goal.to_mat else None)

    def obstacle(self, cell: Cell) -> str:
        """What keeps the robot out of a cell, in words; nothing where it is free."""
        if cell in self.walls:
            return "a wall"
        if cell == self.door and not self.is_open:
            return "a closed door"
        thing = self.thing_at(cell)
        return f"the {thing.name}" if thing else ""

    def act(self, verb: str, cell: Cell) -> World:
        """Raises ActionError for what cannot be done, and nothing has changed."""
        return self._walk(cell) if verb == GOTO else self._handle(verb, cell)

    def _walk(self, cell: Cell) -> World:
        if cell == self.robot:
            raise ActionError("the robot is there already")
        if cell[0] != self.robot[0] and cell[1] != self.robot[1]:
            raise ActionError("the robot walks straight: name a place in its own row or column")
        for passed in _line(self.robot, cell):
            if what := self.obstacle(passed):
                raise ActionError(f"{what} is in the way")
        return replace(self, robot=cell)

    def _handle(self, verb: str, cell: Cell) -> World:
        if abs(cell[0] - self.robot[0]) + abs(cell[1] - self.robot[1]) != 1:
            raise ActionError("the robot reaches only what is beside it")
        if verb in (OPEN, CLOSE):
            if cell != self.door:
                raise ActionError("there is no door")
            if self.is_open == (verb == OPEN):
                raise ActionError(f"the door is {'open' if self.is_open else 'closed'} already")
            if verb == CLOSE and self.obstacle(cell):
                raise ActionError(f"{self.obstacle(cell)} is in the way")
            return replace(self, is_open=not self.is_open)
        held, there = self.held, self.thing_at(cell)
        if verb == PICKUP:
            if there is None:
                raise ActionError("there is nothing to take")
            if held:
                raise ActionError(f"the robot holds the {held.name} already")
            return self._moved(there, None)
        if held is None:
            raise ActionError("the robot holds nothing")
        if what := self.obstacle(cell):
            raise ActionError(f"{what} is in the way")
        return self._moved(held, cell)

    def _moved(self, thing: Thing, cell: Cell | None) -> World:
        return replace(self, things=tuple(replace(one, cell=cell) if one == thing else one for one in self.things))


def _line(start: Cell, end: Cell) -> Iterator[Cell]:
    """The cells after the first, up to the last."""
    dx, dy = ((b > a) - (b < a) for a, b in zip(start, end, strict=True))
    while start != end:
        start = (start[0] + dx, start[1] + dy)
        yield start
