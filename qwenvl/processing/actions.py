"""Calls whose arguments are places, as parts of a message: each family writes them in the frame of the screen that it sees.

A Sample says where an action is as a Region; as text it would hold the pixels of one model. So a call is text around
CoordinatesParts, and `parts_text` gives what `tools.write_call` writes. The phone's tool is that of the agent
cookbook of Qwen2.5-VL, to the letter as cookbooks/mobile_agent.ipynb of QwenLM/Qwen3-VL @ 8cdcb85 prints it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qwenvl.families.spec import ChatRules
from qwenvl.processing.tools import CALL_TAGS, ToolCall, tools_text
from qwenvl.types import CoordinatesPart, Message, Part, Region, TextPart

PHONE = "mobile_use"
SCREEN = "{screen}"
"""Where the description of the tool tells the size of the screen."""

_ACTIONS = {
    "key": "Perform a key event on the mobile device.\n    - This supports adb's `keyevent` syntax.\n"
    '    - Examples: "volume_up", "volume_down", "power", "camera", "clear".',
    "click": "Click the point on the screen with coordinate (x, y).",
    "long_press": "Press the point on the screen with coordinate (x, y) for specified seconds.",
    "swipe": "Swipe from the starting point with coordinate (x, y) to the end point with coordinates2 (x2, y2).",
    "type": "Input the specified text into the activated input box.",
    "system_button": "Press the system button.",
    "open": "Open an app on the device.",
    "wait": "Wait specified seconds for the change to happen.",
    "terminate": "Terminate the current task and report its completion status.",
}
_POINT = (
    "(x, y): The x (pixels from the left edge) and y (pixels from the top edge) coordinates to move the mouse to. Required only by "
)

MOBILE_USE: Mapping[str, Any] = {
    "name_for_human": PHONE,
    "name": PHONE,
    "description": "Use a touchscreen to interact with a mobile device, and take screenshots.\n"
    "* This is an interface to a mobile device with touchscreen. You can perform actions like clicking, typing, swiping, etc.\n"
    "* Some applications may take time to start or process actions, so you may need to wait and take successive screenshots to see "
    f"the results of your actions.\n* The screen's resolution is {SCREEN}.\n"
    "* Make sure to click any buttons, links, icons, etc with the cursor tip in the center of the element. Don't click boxes on "
    "their edges unless asked.",
    "parameters": {
        "properties": {
            "action": {
                "description": "The action to perform. The available actions are:\n"
                + "\n".join(f"* `{name}`: {does}" for name, does in _ACTIONS.items()),
                "enum": list(_ACTIONS),
                "type": "string",
            },
            "coordinate": {"description": f"{_POINT}`action=click`, `action=long_press`, and `action=swipe`.", "type": "array"},
            "coordinate2": {"description": f"{_POINT}`action=swipe`.", "type": "array"},
            "text": {"description": "Required only by `action=key`, `action=type`, and `action=open`.", "type": "string"},
            "time": {
                "description": "The seconds to wait. Required only by `action=long_press` and `action=wait`.",
                "type": "number",
            },
            "button": {
                "description": "Back means returning to the previous interface, Home means returning to the desktop, Menu means "
                "opening the application background menu, and Enter means pressing the enter. Required only by "
                "`action=system_button`",
                "enum": ["Back", "Home", "Menu", "Enter"],
                "type": "string",
            },
            "status": {
                "description": "The status of the task. Required only by `action=terminate`.",
                "type": "string",
                "enum": ["success", "failure"],
            },
        },
        "required": ["action"],
        "type": "object",
    },
    "args_format": "Format the arguments as a JSON object.",
}


def phone_system(image: int = 0) -> Message:
    """The system turn that tells of the phone. The size of its screen is the place of its last corner in picture `image`."""
    before, after = f"{ChatRules().system}\n\n{tools_text([MOBILE_USE])}".split(SCREEN)
    corner = Region("point", ((1.0, 1.0),), image=image)
    return Message("system", (TextPart(before), CoordinatesPart(corner, "x"), TextPart(after)))


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
