"""A run as files, each written as soon as its step is over: pictures, steps.jsonl, and a report that stands alone.

    run.json          goal, tool, model, start, and how it ended
    steps.jsonl       a line a step: answer, call, places in pixels of the screen, what came of it, seconds
    step-001.png ...  the screen before the step, its action drawn on it
    end.png           the last screen
    report.html       all of it
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl.agent.actions import in_words, pixel_of, points_of
from qwenvl.agent.environment import Ended
from qwenvl.agent.loop import Step, Watcher
from qwenvl.agent.marks import draw_action
from qwenvl.agent.report import Shown, picture_url, report
from qwenvl.agent.site import AgentError
from qwenvl.runtime import atomic_write, make_folder
from qwenvl.types import Region

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class Log(Watcher):
    """Writes into `folder`, which must be new or empty. about: what run.json and the head of the report say of the run."""

    folder: Path
    about: dict[str, Any]
    _shown: list[Shown] = field(default_factory=list)
    _seen: bytes = b""

    def __post_init__(self) -> None:
        make_folder(self.folder)
        if any(self.folder.iterdir()):
            raise AgentError(f"{self.folder}: not empty; give another folder with --out")
        self.about = {"begun": datetime.now().astimezone().isoformat(timespec="seconds"), **self.about}
        self._write_run(None)

    def step(self, step: Step) -> None:
        drawn = draw_action(step.screen, step.read.action if step.read else None)
        name = f"step-{step.number:03d}.png"
        _save(drawn, self.folder / name)
        row = row_of(step) | {"screen": name}
        with (self.folder / "steps.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._shown.append(Shown(row, picture_url(drawn)))
        self._seen = step.screen.tobytes()
        self._write_report(None, None)

    def end(self, ended: Ended, screen: Image | None) -> None:
        if screen is not None:
            _save(screen, self.folder / "end.png")
        self._write_run(ended)
        changed = screen is not None and screen.tobytes() != self._seen  # the last step may have been to say that it is done
        self._write_report(ended, screen if changed else None)

    def _write_run(self, ended: Ended | None) -> None:
        told = self.about | ({"status": ended.status, "reason": ended.reason, "steps": len(self._shown)} if ended else {})
        with atomic_write(self.folder / "run.json") as temporary:
            temporary.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def _write_report(self, ended: Ended | None, screen: Image | None) -> None:
        page = report(self.about, self._shown, ended, picture_url(screen) if screen is not None else None)
        with atomic_write(self.folder / "report.html") as temporary:
            temporary.write_text(page, encoding="utf-8")


def row_of(step: Step) -> dict[str, Any]:
    """A step as a line of steps.jsonl. Places are whole pixels of the screen as it was."""
    size, read, said = step.screen.size, step.read, step.said
    row: dict[str, Any] = {"step": step.number, "where": step.where, "size": list(size), "answer": said.text if said else ""}
    if read is not None:
        arguments = {key: _plain(value, size) for key, value in read.call.arguments.items()}
        row["call"] = {"name": read.call.name, "arguments": arguments}
        row["action"] = in_words(read.action, size)
        row["points"] = [list(pixel_of(point, size)) for point in points_of(read.action)]
    if said is not None and said.prompt_tokens:
        row["tokens"] = {"prompt": said.prompt_tokens, "answer": said.tokens}
    row["note"] = step.note
    row["seconds"] = {"model": round(step.seconds[0], 3), "action": round(step.seconds[1], 3)}
    return row


def _plain(value: Any, size: tuple[int, int]) -> Any:
    return list(pixel_of(value.points[0], size)) if isinstance(value, Region) else value


def _save(picture: Image, path: Path) -> None:
    with atomic_write(path) as temporary:
        picture.save(temporary, compress_level=3)
