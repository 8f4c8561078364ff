"""Where to click on a screen: ScreenSpot and ScreenSpot-Pro.

Each family is asked in the words that it was published to be asked in: `chat` are Qwen2.5-VL's, which is told of a computer and
has its answer begun for it; `qwen2_vl` and `qwen_vl` ask those models for a box, whose middle is the click.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from qwenvl.processing.actions import COMPUTER_USE, around_screen
from qwenvl.processing.image import picture_size
from qwenvl.processing.tools import tools_text
from qwenvl.types import ImagePart, Message

SEECLICK = "njucckevin/SeeClick @ 0ef37ac, pretrain/screenspot_test.py"
PRO = "likaixin2000/ScreenSpot-Pro-GUI-Grounding @ bd8bbbb"

@dataclass(frozen=True, slots=True)
class ComputerPrompt(Prompt):
    """A wording whose system turn tells of the computer and the size of its screen as the model sees it.

    As the published script has it: two blank lines before the tools, and line breaks within the JSON as they are, not escaped.
    """

    def opening(self, item: Item) -> list[Message]:
        told = f"{ChatRules().system}\n\n\n{tools_text([COMPUTER_USE])}".replace("\\n", "\n")
        return [Message("system", around_screen(told))]


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
