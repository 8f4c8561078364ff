"""Where to click on a screen: ScreenSpot and ScreenSpot-Pro.

Each family is asked in the words that it was published to be asked in: `chat` are Qwen2.5-VL's, which is told of a computer and
has its answer begun for it; `qwen2_vl` and `qwen_vl` ask those models for a box, whose middle is the click.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenvl.data.adapters.files import anywhere, find, picture
from qwenvl.data.adapters.screens import read_screenspot
from qwenvl.data.sources import records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.schema import of_schema
from qwenvl.eval.scorers.places import click
from qwenvl.eval.task import Decoding
from qwenvl.eval.tasks.grounding import boxed, clamped
from qwenvl.families.spec import ChatRules
from qwenvl.processing.actions import SCREEN
from qwenvl.processing.image import picture_size
from qwenvl.processing.tools import tools_text
from qwenvl.types import CoordinatesPart, ImagePart, Message, Region, TextPart

SEECLICK = "njucckevin/SeeClick @ 0ef37ac, pretrain/screenspot_test.py"
PRO = "likaixin2000/ScreenSpot-Pro-GUI-Grounding @ bd8bbbb"

_ACTIONS = {
    "key": "Performs key down presses on the arguments passed in order, then performs key releases in reverse order.",
    "type": "Type a string of text on the keyboard.",
    "mouse_move": "Move the cursor to a specified (x, y) pixel coordinate on the screen.",
    "left_click": "Click the left mouse button.",
    "left_click_drag": "Click and drag the cursor to a specified (x, y) pixel coordinate on the screen.",
    "right_click": "Click the right mouse button.",
    "middle_click": "Click the middle mouse button.",
    "double_click": "Double-click the left mouse button.",
    "scroll": "Performs a scroll of the mouse scroll wheel.",
    "wait": "Wait specified seconds for the change to happen.",
    "terminate": "Terminate the current task and report its completion status.",
}

COMPUTER_USE: Mapping[str, Any] = {
    "name_for_human": "computer_use",
    "name": "computer_use",
    "description": "Use a mouse and keyboard to interact with a computer, and take screenshots.\n"
    "* This is an interface to a desktop GUI. You do not have access to a terminal or applications menu. You must click on desktop "
    "icons to start applications.\n"
    "* Some applications may take time to start or process actions, so you may need to wait and take successive screenshots to see "
    "the results of your actions. E.g. if you click on Firefox and a window doesn't open, try wait and taking another screenshot.\n"
    f"* The screen's resolution is {SCREEN}.\n"
    "* Whenever you intend to move the cursor to click on an element like an icon, you should consult a screenshot to determine "
    "the coordinates of the element before moving the cursor.\n"
    "* If you tried clicking on a program or link but it failed to load, even after waiting, try adjusting your cursor position so "
    "that the tip of the cursor visually falls on the element that you want to click.\n"
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
            "keys": {"description": "Required only by `action=key`.", "type": "array"},
            "text": {"description": "Required only by `action=type`.", "type": "string"},
            "coordinate": {
                "description": "(x, y): The x (pixels from the left edge) and y (pixels from the top edge) coordinates to move the "
                "mouse to. Required only by `action=mouse_move` and `action=left_click_drag`.",
                "type": "array",
            },
            "pixels": {
                "description": "The amount of scrolling to perform. Positive values scroll up, negative values scroll down. "
                "Required only by `action=scroll`.",
                "type": "number",
            },
            "time": {"description": "The seconds to wait. Required only by `action=wait`.", "type": "number"},
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
"""The computer of Qwen2.5-VL's cookbook (cookbooks/utils/agent_function_call.py of QwenLM/Qwen2.5-VL @ f0af299)."""


@dataclass(frozen=True, slots=True)
class ComputerPrompt(Prompt):
    """A wording whose system turn tells of the computer and the size of its screen as the model sees it.

    As the published script has it: two blank lines before the tools, and line breaks within the JSON as they are, not escaped.
    """

    def opening(self, item: Item) -> list[Message]:
        told = f"{ChatRules().system}\n\n\n{tools_text([COMPUTER_USE])}".replace("\\n", "\n")
        before, after = told.split(SCREEN)
        corner = CoordinatesPart(Region("point", ((1.0, 1.0),)), "x")
        return [Message("system", (TextPart(before), corner, TextPart(after)))]


PROMPTS: dict[str, Prompt] = {
    "chat": ComputerPrompt(
        "{instruction}",
        f"{PRO}, models/qwen2_5vl.py",
        Decoding(
            max_new_tokens=100,
            begin='<tool_call>\n{"name": "computer_use", "arguments": {"action": "left_click", "coordinate": [',
        ),
        style="chat",
    ),
    # Both are given 2048 tokens in all by the script; a box takes about thirty.
    "qwen2_vl": Prompt(
        'Output the bounding box in the image corresponding to the instruction "{instruction}" with grounding.',
        f"{PRO}, models/qwen2vl.py",
        Decoding(max_new_tokens=128),
        style="chat",
    ),
    "qwen_vl": Prompt(
        'Generate the bounding box of "{instruction}".', f"{PRO}, models/qwen1vl.py", Decoding(max_new_tokens=128), style="chat"
    ),
}


def _item(id: str, instruction: str, box: tuple[float, ...], size: tuple[int, int], screen: str, **about: Any) -> Item:
    """box: left, top, right, bottom in pixels."""
    fractions = clamped(box, size)
    truth = {"box": list(fractions), "element": about.pop("element")}
    return Item(id, {"instruction": instruction}, (ImagePart(screen),), boxed(instruction, fractions), truth, **about)


def _read_screenspot(folder: Path, split: str) -> Iterator[Item]:
    for row in read_screenspot(folder):
        id = f"{row['platform']}/{row['number']}"
        with of_schema(f"{folder}, screenspot_{id}"):
            screen, (left, top, width, height) = anywhere(folder, row["img_filename"], id), row["bbox"]
            about = {"element": row["data_type"], "group": row["platform"]}
            item = _item(id, row["instruction"], (left, top, left + width, top + height), picture_size(screen), screen, **about)
        yield item


def _read_pro(folder: Path, split: str) -> Iterator[Item]:
    for file in find(folder, "annotations/*.json"):
        for number, row in enumerate(records(file)):
            with of_schema(f"{file}, row {number}"):
                screen = picture(folder, f"images/{row['img_filename']}", id=row["id"])
                instruction, language = (row["instruction_cn"], "zh") if split == "test_cn" else (row["instruction"], "en")
                about = {"element": row["ui_type"], "group": row.get("group") or row["platform"], "language": language}
                item = _item(row["id"], instruction, tuple(row["bbox"]), tuple(row["img_size"]), screen, **about)
            yield item


BENCHMARKS: dict[str, Benchmark] = {
    "screenspot": Benchmark(
        name="screenspot",
        title="ScreenSpot",
        get="screenspot_mobile.json, screenspot_desktop.json, screenspot_web.json and screenspot_imgs/ of njucckevin/SeeClick.",
        source=SEECLICK,
        splits={"test": Split(("**/screenspot_mobile.json", "**/screenspot_desktop.json", "**/screenspot_web.json"))},
        prompts=PROMPTS,
        read=_read_screenspot,
        score=click,
        measure="accuracy",
    ),
    "screenspot_pro": Benchmark(
        name="screenspot_pro",
        title="ScreenSpot-Pro",
        get="The folders annotations and images of likaixin/ScreenSpot-Pro on the hub.",
        source=f"{PRO}, eval_screenspot_pro.py",
        splits={split: Split(("annotations/*.json", "images")) for split in ("test", "test_cn")},
        prompts=PROMPTS,
        read=_read_pro,
        score=click,
        measure="accuracy",
    ),
}
