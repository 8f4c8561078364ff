"""What a model acts in: it shows a screen, and does an action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from qwenvl.agent.actions import Action
from qwenvl.agent.site import AgentError

if TYPE_CHECKING:
    from PIL.Image import Image

Status = Literal[
    "success", "failure", "step limit", "stuck", "too many mistakes", "left the site", "page lost", "no answer", "interrupted"
]
"""How a run ended. The first two are the model's own word, or the world's where it can judge."""


class EnvironmentLost(AgentError):
    """The screen is gone: a crashed page, a browser that does not answer."""


@dataclass(frozen=True, slots=True)
class Ended:
    status: Status
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an action: `note` is what the model is told of it, nothing where it went as usual. `ended`: the run is over."""

    note: str = ""
    ended: Ended | None = None


class Environment(Protocol):
    @property
    def where(self) -> str:
        """The place that the screen shows, for the log."""

    def look(self) -> Image:
        """The screen as it is now. Raises EnvironmentLost."""

    def act(self, action: Action) -> Done:
        """Raises ActionError for what cannot be done here, EnvironmentLost where there is no longer a screen."""

    def judge(self, claim: Ended) -> Ended:
        """What is true of the model's word that it has ended."""
