"""The loop: a screenshot, the model's answer, its action, the next screenshot; and every reason to stop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwenvl.agent.actions import Action, ActionError, Terminate
from qwenvl.agent.dialogue import Dialogue, Past
from qwenvl.agent.environment import Done, Ended, Environment, EnvironmentLost
from qwenvl.agent.model import Model, Said
from qwenvl.agent.reading import ReadAction
from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Limits:
    steps: int = 20
    mistakes: int = 3
    """Answers in a row that are no action, or one that cannot be done."""
    repeats: int = 3
    """The same action in a row, none of which has changed the screen."""


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the loop. said: None where the model gave no answer. note: what it is told of its action. seconds: of the model,
    and of the action."""

    number: int
    screen: Image
    where: str
    said: Said | None
    read: ReadAction | None
    note: str
    seconds: tuple[float, float]


class Watcher:
    """Is told of every step as soon as it is over, and of the end, with the last screen if there still is one."""

    def step(self, step: Step) -> None: ...

    def end(self, ended: Ended, screen: Image | None) -> None: ...


def run(
    model: Model,
    environment: Environment,
    dialogue: Dialogue,
    goal: str,
    limits: Limits = Limits(),
    watcher: Watcher | None = None,
) -> Ended:
    """Let a model act until it says that it has ended, or a limit, the site's border or a loss ends it. KeyboardInterrupt goes on
    to the caller, once the watcher knows."""
    loop = _Loop(model, environment, dialogue, goal, limits, watcher or Watcher())
    try:
        ended = loop.run()
    except KeyboardInterrupt:
        loop.watcher.end(Ended("interrupted"), None)
        raise
    loop.watcher.end(ended, None if ended.status == "page lost" else loop.last_look())
    return ended


class _Loop:
    def __init__(
        self, model: Model, environment: Environment, dialogue: Dialogue, goal: str, limits: Limits, watcher: Watcher
    ) -> None:
        self.model, self.environment, self.dialogue, self.goal = model, environment, dialogue, goal
        self.limits, self.watcher = limits, watcher
        self.past: list[Past] = []
        self.mistakes = 0
        self.repeats = _Repeats()

    def run(self) -> Ended:
        for number in range(1, self.limits.steps + 1):
            try:
                ended = self.step(number)
            except EnvironmentLost as error:
                return Ended("page lost", str(error))
            if ended:
                return ended
        return Ended("step limit", f"{self.limits.steps} steps were not enough; --steps allows more")

    def step(self, number: int) -> Ended | None:
        """One step; why it was the last, if it was."""
        screen, where = self.environment.look(), self.environment.where
        if self.repeats.see(screen) >= self.limits.repeats:
            return Ended("stuck", f"the same action {self.limits.repeats} times, and the screen stays as it is")
        began = time.perf_counter()
        try:
            said = self.model.answer(self.dialogue.messages(self.goal, self.past, screen, self.model), self.dialogue.stop)
        except QwenVLError as error:
            return Ended("no answer", str(error))
        answered = time.perf_counter()
        read: ReadAction | None = None
        done, lost = Done(), None
        try:
            read = self.dialogue.read(said, self.past, screen.size, self.model)
            done = self._do(read)
            note = "; ".join(filter(None, (*read.notes, done.note)))
            self.mistakes = 0
        except ActionError as error:
            note = "; ".join((*(read.notes if read else ()), f"not done: {error}"))
            self.mistakes += 1
        except EnvironmentLost as error:
            note, lost = str(error), error
        self.repeats.did(read.action if read else None)
        self.past.append(Past(screen, said.text, read, note))
        seconds = (answered - began, time.perf_counter() - answered)
        self.watcher.step(Step(number, screen, where, said, read, note, seconds))
        if lost:
            raise lost
        if self.mistakes >= self.limits.mistakes:
            return Ended("too many mistakes", f"{self.mistakes} in a row, at last: {note}")
        return done.ended

    def _do(self, read: ReadAction) -> Done:
        action = read.action
        if isinstance(action, Terminate):
            return Done("", self.environment.judge(Ended("success" if action.success else "failure", action.said)))
        return self.environment.act(action)

    def last_look(self) -> Image | None:
        try:
            return self.environment.look()
        except QwenVLError:
            return None


class _Repeats:
    """Counts how often the last action was done without a change of the screen."""

    def __init__(self) -> None:
        self._screen: bytes | None = None
        self._last: Action | None = None
        self._new: Action | None = None
        self._count = 0

    def did(self, action: Action | None) -> None:
        self._new = action

    def see(self, screen: Image) -> int:
        """The count, with the action that led to this screen."""
        content = screen.tobytes()
        if self._new is None or content != self._screen:
            self._count = 0
        else:
            self._count = self._count + 1 if self._new == self._last else 1
        self._screen, self._last = content, self._new
        return self._count


