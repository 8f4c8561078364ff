"""Qwen2-VL's action keywords: actions told as headings, called by *FUNCTION* and *ARGS*, answered by *RESULT* with the new screen.

The form is that of the box "Visual Agent" in section 2.2.1 of arXiv 2409.12191: its system turn, a whole task in one turn of the
assistant's, all screens kept (section 3.2.7), and an answer without a keyword at the end. The box prints two actions, Tap and Home,
and says what tasks like AITZ ("tap, input and swipe") and ALFRED ("GotoLocation, Pickup, PutDown, Open, Close, Clean, Heat, Cool,
Slice") are given (section 3.2.7); descriptions and parameters of all but Tap and Home are ours. As in Qwen-Agent, which the paper
names (qwen_agent/llm/fncall_prompts/qwen_fncall_prompt.py of QwenLM/Qwen-Agent @ 2f7415f), an answer ends before *RESULT* and
*RETURN*, and the model goes on after a bare *RETURN*.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qwenvl.agent.actions import ActionError, Button, Swipe, Tap, Terminate, Type, Wait
from qwenvl.agent.dialogue import Past
from qwenvl.agent.model import Model, Said
from qwenvl.agent.reading import Arguments, Build, ReadAction
from qwenvl.families.spec import ChatRules
from qwenvl.processing.loose_json import find_json
from qwenvl.processing.regions import text_to_parts
from qwenvl.processing.tools import ToolCall
from qwenvl.types import ImagePart, Message, Part, TextPart

if TYPE_CHECKING:
    from PIL.Image import Image

FUNCTION, ARGS, RESULT, RETURN = "*FUNCTION*", "*ARGS*", "*RESULT*", "*RETURN*"
SCALE = (1000, 1000)
"""The paper's words tell every model that places range from 0 to 1000, whatever its markup counts in."""
KEPT = 8
"""The latest screens that a prompt shows: a context is not endless. The paper keeps all, in 32 thousand tokens."""

SYSTEM = """\
{system}
# Actions
## You have the following actions.
{actions}
## Continuously take action until the task is completed.
*FUNCTION*: The action to take, should be one of {names}.
*ARGS*: The input of the action.
*RESULT*: Action results.
*RETURN*: Reply based on action results."""

POINT = {
    "name": "point",
    "description": "The specific spot of interest on the monitor, denoted by the coordinates (x, y) where x and y range from 0 to "
    "1000.",
    "required": True,
}


@dataclass(frozen=True, slots=True)
class Keyword:
    """An action: what is said of it, and what its arguments make."""

    description: str
    parameters: tuple[Mapping[str, Any], ...]
    build: Build = field(repr=False)


def parameter(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "description": description, "required": True}


PHONE_KEYWORDS: Mapping[str, Keyword] = {
    "Tap": Keyword(
        "A gentle tap that commands, chooses, or navigates through a smartphone\u2019s user interface.",
        (POINT,),
        lambda given: Tap(given.point("point")),
    ),
    "Home": Keyword("Go to phone\u2019s home screen.", (), lambda given: Button("Home")),
    "Back": Keyword("Go back to the previous screen.", (), lambda given: Button("Back")),
    "Swipe": Keyword(
        "Move a finger over the screen, from one point to another.",
        (POINT | {"name": "start"}, POINT | {"name": "end"}),
        lambda given: Swipe(given.point("start"), given.point("end")),
    ),
    "Input": Keyword(
        "Type a text into the field that has the focus.",
        (parameter("text", "The text."),),
        lambda given: Type(given.text("text")),
    ),
    "Enter": Keyword("Press the enter key.", (), lambda given: Button("Enter")),
    "Wait": Keyword("Wait for the screen to change.", (), lambda given: Wait(1.0)),
}


class KeywordDialogue:
    """A set of keywords as a Dialogue."""

    stop: tuple[str, ...] = (RESULT, RETURN)

    def __init__(self, name: str, keywords: Mapping[str, Keyword], kept: int = KEPT) -> None:
        self.name, self.keywords, self.kept = name, keywords, kept

    @property
    def system(self) -> str:
        told = ((name, one.description, _parameters(one.parameters)) for name, one in self.keywords.items())
        actions = "\n".join(f"### {name}\n{name}: {does} Parameters: {given}" for name, does, given in told)
        return SYSTEM.format(system=ChatRules().system, actions=actions, names=", ".join(self.keywords))

    def messages(self, goal: str, past: Sequence[Past], screen: Image, model: Model) -> tuple[Message, ...]:
        """As the paper has it, one turn of the assistant's from the first action on. What cannot go on with a turn of its own, a
        model behind an address, is given every result as a turn of the user's; that is ours."""
        screens = [*(step.screen for step in past), screen]
        hidden = len(screens) - self.kept
        pictures = [() if number < hidden else (ImagePart(one),) for number, one in enumerate(screens)]
        opening = (Message.of("system", self.system), Message("user", (TextPart(f"{goal} "), *pictures[0])))
        if not past:
            return opening
        turns: list[Message] = []
        said: list[Part] = []
        for number, (step, shown) in enumerate(zip(past, pictures[1:], strict=True)):
            said += text_to_parts(_continued(step.answer, bool(number) and model.continues), model.markup)
            result = (TextPart(f"{RESULT}: {step.note}{' ' if step.note and shown else ''}"), *shown)
            if model.continues:
                said += [TextPart("\n"), *result, TextPart(f"\n{RETURN}")]
            else:
                turns += [Message("assistant", tuple(said)), Message("user", result)]
                said = []
        return (*opening, *turns, *([Message("assistant", tuple(said))] if said else []))

    def read(self, said: Said, past: Sequence[Past], size: tuple[int, int], model: Model) -> ReadAction:
        """The first action of an answer; without one it is the last word, if any action came before. Raises ActionError."""
        _, keyword, called = said.text.partition(FUNCTION)
        if not keyword:
            last = said.text.strip(" :\n")
            if not last or said.cut or not any(step.read for step in past):
                how = "too long" if said.cut else "no action" if last else "empty"
                raise ActionError(f"the answer is {how}: write {FUNCTION}: one of {', '.join(self.keywords)}")
            return ReadAction(ToolCall("answer", {}), Terminate(True, last))
        name, _, rest = called.partition(ARGS)
        name = name.strip(" :\n")
        found = next((key for key in self.keywords if key.lower() == name.lower()), None)
        if found is None:
            raise ActionError(f"there is no action {name[:40]!r}: {FUNCTION} is one of {', '.join(self.keywords)}")
        given = _arguments(re.split(re.escape(RESULT) + "|" + re.escape(RETURN) + "|" + re.escape(FUNCTION), rest)[0], model)
        arguments = Arguments(given, SCALE)
        try:
            action = self.keywords[found].build(arguments)
        except ActionError as error:
            raise ActionError(f"{found}: {error}") from None
        return ReadAction(ToolCall(found, given | arguments.places), action, tuple(arguments.notes))


def write_keyword(name: str, thought: str = "", **arguments: Any) -> str:
    """An answer as the paper prints it; a point is a pair of whole numbers."""
    values = {key: f"({value[0]},{value[1]})" if isinstance(value, tuple) else f'"{value}"' for key, value in arguments.items()}
    written = ", ".join(f'"{key}": {value}' for key, value in values.items())
    return f"{thought}{' ' if thought else ''}{FUNCTION}: {name} {ARGS}: {{{written}}}"


def _parameters(parameters: Sequence[Mapping[str, Any]]) -> str:
    """As the paper prints them: JSON but for its True."""
    written = [
        "{" + ", ".join(f'"{key}": ' + (f'"{value}"' if isinstance(value, str) else str(value)) for key, value in one.items()) + "}"
        for one in parameters
    ]
    return f"[{', '.join(written)}]"


def _continued(answer: str, after_return: bool) -> str:
    """An answer as what follows a bare *RETURN*, which a colon begins."""
    return answer if not after_return or answer.startswith(":") else f": {answer}"


def _arguments(text: str, model: Model) -> dict[str, Any]:
    """What stands behind *ARGS*: an object in which points are pairs in parentheses, with or without the markup's tags around."""
    for tag in model.markup.box:
        text = text.replace(tag, "")
    text = re.sub(r'"(?:[^"\\]|\\.)*"|\(([\d\s.,-]*)\)', lambda found: f"[{found[1]}]" if found[1] is not None else found[0], text)
    objects = [found.value for found in find_json(text) if found.complete and isinstance(found.value, dict)]
    if not objects:
        if text.strip(" :\n"):
            raise ActionError(f"{ARGS} is {text.strip(' :')[:60]!r}: write an object, as in {{}} or {{\"point\": (500,500)}}")
        return {}
    return dict(objects[0])
