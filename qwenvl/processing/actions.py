"""The tools that move a computer and a phone, and calls whose arguments are places, as parts of a message.

Each family writes places in the frame of the screen that it sees. A Sample says where an action is as a Region; as text it would
hold the pixels of one model. So a call is text around CoordinatesParts, and `parts_text` gives what `tools.write_call` writes.
The tools are those of Qwen2.5-VL's agent cookbooks, to the letter: the computer's as cookbooks/utils/agent_function_call.py of
QwenLM/Qwen2.5-VL @ f0af299 tells it, the phone's as cookbooks/mobile_agent.ipynb of QwenLM/Qwen3-VL @ 8cdcb85 prints it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qwenvl.families.spec import ChatRules
from qwenvl.processing.tools import CALL_TAGS, ToolCall, tools_text
from qwenvl.types import CoordinatesPart, Message, Part, Region, TextPart

COMPUTER, PHONE = "computer_use", "mobile_use"
SCREEN = "{screen}"
"""Where the description of a tool tells the size of the screen."""

_WAIT = "Wait specified seconds for the change to happen."
_TERMINATE = "Terminate the current task and report its completion status."
_MANY_STEPS = (
    "* Some applications may take time to start or process actions, so you may need to wait and take successive screenshots to see "
    "the results of your actions."
)
_RESOLUTION = f"* The screen's resolution is {SCREEN}."
_CENTRE = (
    "* Make sure to click any buttons, links, icons, etc with the cursor tip in the center of the element. Don't click boxes on "
    "their edges unless asked."
)
_POINT = (
    "(x, y): The x (pixels from the left edge) and y (pixels from the top edge) coordinates to move the mouse to. Required only by "
)
_STATUS = {
    "description": "The status of the task. Required only by `action=terminate`.",
    "type": "string",
    "enum": ["success", "failure"],
}


def _tool(name: str, description: tuple[str, ...], actions: Mapping[str, str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A function that has one argument for what to do, `action`, and others for how. description: its lines."""
    action = {
        "description": "The action to perform. The available actions are:\n"
        + "\n".join(f"* `{action}`: {does}" for action, does in actions.items()),
        "enum": list(actions),
        "type": "string",
    }
    return {
        "name_for_human": name,
        "name": name,
        "description": "\n".join(description),
        "parameters": {"properties": {"action": action, **arguments}, "required": ["action"], "type": "object"},
        "args_format": "Format the arguments as a JSON object.",
    }


COMPUTER_USE: Mapping[str, Any] = _tool(
    COMPUTER,
    (
        "Use a mouse and keyboard to interact with a computer, and take screenshots.",
        "* This is an interface to a desktop GUI. You do not have access to a terminal or applications menu. You must click on "
        "desktop icons to start applications.",
        f"{_MANY_STEPS} E.g. if you click on Firefox and a window doesn't open, try wait and taking another screenshot.",
        _RESOLUTION,
        "* Whenever you intend to move the cursor to click on an element like an icon, you should consult a screenshot to "
        "determine the coordinates of the element before moving the cursor.",
        "* If you tried clicking on a program or link but it failed to load, even after waiting, try adjusting your cursor "
        "position so that the tip of the cursor visually falls on the element that you want to click.",
        _CENTRE,
    ),
    {
        "key": "Performs key down presses on the arguments passed in order, then performs key releases in reverse order.",
        "type": "Type a string of text on the keyboard.",
        "mouse_move": "Move the cursor to a specified (x, y) pixel coordinate on the screen.",
        "left_click": "Click the left mouse button.",
        "left_click_drag": "Click and drag the cursor to a specified (x, y) pixel coordinate on the screen.",
        "right_click": "Click the right mouse button.",
        "middle_click": "Click the middle mouse button.",
        "double_click": "Double-click the left mouse button.",
        "scroll": "Performs a scroll of the mouse scroll wheel.",
        "wait": _WAIT,
        "terminate": _TERMINATE,
    },
    {
        "keys": {"description": "Required only by `action=key`.", "type": "array"},
        "text": {"description": "Required only by `action=type`.", "type": "string"},
        "coordinate": {"description": f"{_POINT}`action=mouse_move` and `action=left_click_drag`.", "type": "array"},
        "pixels": {
            "description": "The amount of scrolling to perform. Positive values scroll up, negative values scroll down. "
            "Required only by `action=scroll`.",
            "type": "number",
        },
        "time": {"description": "The seconds to wait. Required only by `action=wait`.", "type": "number"},
        "status": _STATUS,
    },
)

MOBILE_USE: Mapping[str, Any] = _tool(
    PHONE,
    (
        "Use a touchscreen to interact with a mobile device, and take screenshots.",
        "* This is an interface to a mobile device with touchscreen. You can perform actions like clicking, typing, swiping, etc.",
        _MANY_STEPS,
        _RESOLUTION,
        _CENTRE,
    ),
    {
        "key": "Perform a key event on the mobile device.\n    - This supports adb's `keyevent` syntax.\n"
        '    - Examples: "volume_up", "volume_down", "power", "camera", "clear".',
        "click": "Click the point on the screen with coordinate (x, y).",
        "long_press": "Press the point on the screen with coordinate (x, y) for specified seconds.",
        "swipe": "Swipe from the starting point with coordinate (x, y) to the end point with coordinates2 (x2, y2).",
        "type": "Input the specified text into the activated input box.",
        "system_button": "Press the system button.",
        "open": "Open an app on the device.",
        "wait": _WAIT,
        "terminate": _TERMINATE,
    },
    {
        "coordinate": {"description": f"{_POINT}`action=click`, `action=long_press`, and `action=swipe`.", "type": "array"},
        "coordinate2": {"description": f"{_POINT}`action=swipe`.", "type": "array"},
        "text": {"description": "Required only by `action=key`, `action=type`, and `action=open`.", "type": "string"},
        "time": {"description": "The seconds to wait. Required only by `action=long_press` and `action=wait`.", "type": "number"},
        "button": {
            "description": "Back means returning to the previous interface, Home means returning to the desktop, Menu means "
            "opening the application background menu, and Enter means pressing the enter. Required only by "
            "`action=system_button`",
            "enum": ["Back", "Home", "Menu", "Enter"],
            "type": "string",
        },
        "status": _STATUS,
    },
)


def tool_system(tool: Mapping[str, Any], image: int = 0) -> Message:
    """The system turn that tells of a computer or a phone. The size of its screen is the place of its last corner in picture
    `image`."""
    return Message("system", around_screen(f"{ChatRules().system}\n\n{tools_text([tool])}", image))


def phone_system(image: int = 0) -> Message:
    """The system turn that tells of the phone, as `tool_system`."""
    return tool_system(MOBILE_USE, image)


def around_screen(text: str, image: int = 0) -> tuple[Part, ...]:
    """A text with the size of picture `image` in place of SCREEN, as the model that reads it counts."""
    before, after = text.split(SCREEN)
    corner = Region("point", ((1.0, 1.0),), image=image)
    return TextPart(before), CoordinatesPart(corner, "x"), TextPart(after)


def json_parts(call: ToolCall) -> tuple[Part, ...]:
    """A call as JSON on one line; an argument that is a Region is the list of its coordinates. Raises TypeError for no JSON."""
    parts: list[Part] = []
    written = f'{{"name": {_json(call.name)}, "arguments": {{'
    for number, (key, value) in enumerate(call.arguments.items()):
        written += f"{', ' if number else ''}{_json(key)}: "
        if isinstance(value, Region):
            parts += [TextPart(written + "["), CoordinatesPart(value, ", ")]
            written = "]"
        else:
            written += _json(value)
    return (*parts, TextPart(written + "}}"))


def call_parts(call: ToolCall) -> tuple[Part, ...]:
    """A call as the model writes it, with its tags."""
    return (TextPart(f"{CALL_TAGS[0]}\n"), *json_parts(call), TextPart(f"\n{CALL_TAGS[1]}"))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
