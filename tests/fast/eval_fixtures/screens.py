"""ScreenSpot's three files, and ScreenSpot-Pro's annotations."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import SIZE, save

BEST = {"accuracy": 1.0, "accuracy_text": 1.0, "accuracy_icon": 1.0}
WORST = dict.fromkeys(BEST, 0.0)


def screenspot(folder: Path) -> None:
    for platform, source, element in (("mobile", "ios", "text"), ("desktop", "windows", "icon"), ("web", "shop", "text")):
        save(folder / "screenspot_imgs" / f"{platform}_1.png")
        row = {
            "img_filename": f"{platform}_1.png", "bbox": [20, 10, 40, 20], "instruction": "view the previous photo",
            "data_type": element, "data_source": source,
        }  # fmt: skip
        (folder / f"screenspot_{platform}.json").write_text(json.dumps([row]), encoding="utf-8")


def pro(folder: Path) -> None:
    save(folder / "images" / "vscode_mac" / "1.png")
    rows = [
        {
            "img_filename": "vscode_mac/1.png", "bbox": [20, 10, 60, 30], "instruction": "close the panel",
            "instruction_cn": "关闭面板", "id": f"vscode_macos_{number}", "application": "vscode", "platform": "macos",
            "img_size": list(SIZE), "ui_type": element, "group": "Dev",
        }
        for number, element in enumerate(("icon", "text"))
    ]  # fmt: skip
    (folder / "annotations").mkdir()
    (folder / "annotations" / "vscode_macos.json").write_text(json.dumps(rows), encoding="utf-8")


FIXTURES = {
    "screenspot": Fixture(screenspot, "test", BEST, WORST, questions=3),
    "screenspot_pro": Fixture(pro, "test", BEST, WORST, questions=2),
}
