"""The robot's house: the same for a seed, always to be solved, judged exactly, and drawn as it is."""

from __future__ import annotations

import numpy as np
import pytest

from qwenvl.agent.actions import ActionError, Click, Deed
from qwenvl.agent.environment import Ended
from qwenvl.agent.grid_environment import GridEnvironment, make_world, shortest_answers, solve
from qwenvl.agent.gridworld import (
    CLOSE,
    COLUMNS,
    GOTO,
    OPEN,
    PICKUP,
    PUTDOWN,
    ROBOT_KEYWORDS,
    ROWS,
    Cell,
    Goal,
    Thing,
    World,
)  # fmt: skip
from qwenvl.agent.keywords import KeywordDialogue
from qwenvl.agent.loop import Limits, run
from qwenvl.agent.model import ScriptedModel
from qwenvl.agent.site import AgentError

GOALS = ("take the red ball", "bring the blue cone to the mat", "go to the mat")
EDGE = frozenset((x, y) for x in range(COLUMNS) for y in range(ROWS) if x in (0, COLUMNS - 1) or y in (0, ROWS - 1))
ROOM = World(
    walls=EDGE | {(4, y) for y in range(1, ROWS - 1) if y != 3},
    door=(4, 3), is_open=False, mat=(7, 5), things=(Thing("red", "ball", (1, 1)), Thing("blue", "cone", (6, 3))), robot=(2, 3),
)  # fmt: skip


@pytest.mark.parametrize("goal", GOALS)
def test_the_shortest_way_solves_every_world(goal: str) -> None:
    dialogue = KeywordDialogue("grid", ROBOT_KEYWORDS)
    for seed in range(12):
        world = GridEnvironment(goal, seed)
        answers = shortest_answers(world.world, world.goal)
        ended = run(ScriptedModel(answers), world, dialogue, goal, Limits(steps=len(answers)))
        assert ended == Ended("success", "the goal is reached") and world.world.reached(world.goal)


def test_a_seed_is_one_world() -> None:
    goal = Goal.read(GOALS[0])
    assert make_world(3, goal) == make_world(3, goal)
    assert len({make_world(seed, goal) for seed in range(10)}) == 10
    assert all("red ball" in [thing.name for thing in make_world(seed, goal).things] for seed in range(10))


@pytest.mark.parametrize(
    ("world", "verb", "cell", "said"),
    [
        (ROOM, GOTO, (2, 3), "there already"),
        (ROOM, GOTO, (3, 4), "straight"),
        (ROOM, GOTO, (0, 3), "a wall is in the way"),
        (ROOM, GOTO, (5, 3), "a closed door is in the way"),
        (ROOM, PICKUP, (1, 1), "beside"),
        (ROOM, PICKUP, (2, 2), "nothing to take"),
        (ROOM, PUTDOWN, (2, 2), "holds nothing"),
        (ROOM, OPEN, (2, 2), "no door"),
        (ROOM.act(GOTO, (3, 3)), CLOSE, (4, 3), "closed already"),
        (ROOM.act(GOTO, (3, 3)).act(OPEN, (4, 3)), OPEN, (4, 3), "open already"),
        (ROOM.act(GOTO, (3, 3)).act(OPEN, (4, 3)), GOTO, (6, 3), "the blue cone is in the way"),
        (ROOM.act(GOTO, (1, 3)).act(GOTO, (1, 2)).act(PICKUP, (1, 1)), PUTDOWN, (0, 2), "a wall is in the way"),
        (ROOM.act(GOTO, (1, 3)).act(GOTO, (1, 2)).act(PICKUP, (1, 1)), PICKUP, (1, 1), "nothing to take"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(world: World, verb: str, cell: Cell, said: str) -> None:
    with pytest.raises(ActionError, match=said):
        world.act(verb, cell)


def test_things_are_carried() -> None:
    held = ROOM.act(GOTO, (1, 3)).act(GOTO, (1, 2)).act(PICKUP, (1, 1))
    assert held.held == Thing("red", "ball", None) and held.reached(Goal("red ball", False))
    down = held.act(GOTO, (1, 5)).act(PUTDOWN, (2, 5))
    assert down.held is None and down.thing_at((2, 5)) == Thing("red", "ball", (2, 5))
    assert not down.reached(Goal("red ball", True))
    with pytest.raises(ActionError, match="holds the red ball already"):
        held.act(GOTO, (1, 3)).act(GOTO, (3, 3)).act(OPEN, (4, 3)).act(GOTO, (5, 3)).act(PICKUP, (6, 3))


def test_the_way_is_the_shortest() -> None:
    assert solve(ROOM, Goal("red ball", False)) == [(GOTO, (2, 1)), (PICKUP, (1, 1))]
    shut_in = World(EDGE | {(1, 2), (2, 1)}, (4, 3), True, (7, 5), ROOM.things, (2, 3))
    assert solve(shut_in, Goal("red ball", False)) is None


@pytest.mark.parametrize(
    ("words", "goal"),
    [
        ("Take the red ball.", Goal("red ball", False)),
        ("Bring the yellow box to the mat", Goal("yellow box", True)),
        ("go to the mat", Goal(None, True)),
    ],
)
def test_goals_are_read(words: str, goal: Goal) -> None:
    assert Goal.read(words) == goal


def test_a_goal_that_is_not_of_this_world_is_refused() -> None:
    with pytest.raises(AgentError, match="go to the mat"):
        Goal.read("make tea")


def test_a_claim_is_judged() -> None:
    world = GridEnvironment(GOALS[0], 0)
    assert world.judge(Ended("success")).status == "failure" and world.judge(Ended("failure")).status == "failure"
    with pytest.raises(ActionError, match="knows no Click"):
        world.act(Click(None))


def test_the_picture_shows_what_changes() -> None:
    world = GridEnvironment(GOALS[0], 0)
    before = np.asarray(world.look())
    assert before.shape == (ROWS * 56, COLUMNS * 56, 3)
    verb, (column, row) = (solve(world.world, world.goal) or [])[0]
    assert world.act(Deed(verb, ((column + 0.5) / COLUMNS, (row + 0.5) / ROWS))).note == ""
    after = np.asarray(world.look())
    changed = {tuple(cell) for cell in np.argwhere((before != after).any(axis=2)) // 56}
    assert 1 <= len(changed) <= 3  # the robot's old and new place, and the row above for its antenna
