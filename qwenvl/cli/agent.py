"""`qwenvl agent URL GOAL`: a model acts on a web page, or as a robot in a drawn house, step by step, with a log in pictures."""

from __future__ import annotations

import json
import math
import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

import tyro

from qwenvl.cli.addresses import api_at, is_address
from qwenvl.cli.options import Device, DType, Flag, FromOne, FromZero, OutFolder, UsageError, Whole, parse
from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from PIL.Image import Image

    from qwenvl.agent.browser import BrowserEnvironment
    from qwenvl.agent.dialogue import Dialogue
    from qwenvl.agent.environment import Ended
    from qwenvl.agent.grid_environment import GridEnvironment
    from qwenvl.agent.loop import Step
    from qwenvl.agent.model import Model
    from qwenvl.agent.site import Site

COMPUTER, PHONE, KEYWORDS, GRID = "computer_use", "mobile_use", "keywords", "grid"
DEFAULT_MODEL = "qwen2-vl-nano-chat"
SUMMARY = """\
Let a model act: screenshot, model, action, screenshot, until it says that it is done.

A web page is shown by a headless Chromium, which stays on the page's own site:
the run ends before it would leave. `grid` in place of an address is a drawn house
with a robot. The models in the package are far too small for it; --shortest and
--replay show what a run looks like.\
"""
EXAMPLES = """
qwenvl agent http://localhost:8080/shop.html "Buy the red teapot" --model Qwen/Qwen2.5-VL-7B-Instruct
qwenvl agent https://example.com "Find the page on reserved domains" --model http://localhost:8000/v1#MODEL --show-plan
qwenvl agent https://example.com "Open the first link" --tool mobile_use --allow www.iana.org
qwenvl agent grid "bring the red ball to the mat" --shortest
qwenvl agent grid "take the blue cone" --seed 3 --model Qwen/Qwen2-VL-7B-Instruct
"""


@dataclass(frozen=True)
class Agent:
    start: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="URL|grid")]
    """The page to begin on, or `grid`."""
    goal: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="GOAL")]
    """What is to be done, in quotes."""
    model: Annotated[str, tyro.conf.arg(metavar="NAME|FOLDER|HUB_ID|ADDRESS#MODEL")] = DEFAULT_MODEL
    """A built-in model, a folder, a repository of the hub, or an OpenAI-compatible address (http://HOST:PORT/v1#MODEL)."""
    tool: Annotated[Literal["computer_use", "mobile_use", "keywords"] | None, tyro.conf.arg(help_behavior_hint="")] = None
    """How it acts on a page: Qwen2.5-VL's computer or its phone (412x915, touched), or the phone by Qwen2-VL's action keywords. By
    default the computer, or the keywords for models that were not trained to call functions."""
    steps: FromOne = 20
    """Steps at most."""
    out: OutFolder = None
    """Folder of the log; by default a new one under runs/agent."""
    allow: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="HOST[:PORT]")] = ()
    """A further host that the page may reach; may be given several times."""
    show_plan: Flag = False
    """Print what the model writes around its calls."""
    allow_passwords: Flag = False
    """Let it type into fields for passwords."""
    seconds: float = 20.0
    """Time for a page to load, and for an action."""
    max_pixels: Whole = None
    """Show the model smaller screens, for models that keep the aspect ratio: fewer tokens."""
    max_new_tokens: FromOne = 256
    """Longest answer in tokens."""
    seed: FromZero = 0
    """Which house, for `grid`."""
    shortest: Flag = False
    """In place of a model, for `grid`: the shortest way, worked out."""
    replay: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """In place of a model: the answers in the log of an earlier run."""
    like: str = "qwen2_5_vl"
    """How the model at an address writes places and sees pictures: a family (qwen_vl, qwen2_vl, qwen2_5_vl) or a preset's name."""
    device: Device = None
    """A GPU is used where there is one."""
    dtype: DType = None
    """By default bfloat16 on a GPU, and on the CPU what the file holds."""
    chromium: str = "/usr/bin/chromium"
    """The browser to run."""


def main(arguments: list[str]) -> int:
    given: Agent = parse(Agent, arguments, "qwenvl agent", SUMMARY, EXAMPLES)
    check(given)
    from qwenvl.agent.log import Log
    from qwenvl.agent.loop import Limits, Watcher, run
    from qwenvl.agent.site import Site

    # What is wrong with the address, the goal or the browser is found before a model is loaded.
    site = None if given.start == GRID else Site.of(given.start, given.allow)
    if site is not None:
        check_page(site, given.chromium)
    grid = house(given) if site is None else None
    model = model_of(given, grid)
    tool = tool_of(given, model)
    folder = given.out or new_folder(given.start)

    class Watching(Watcher):
        def step(self, step: Step) -> None:
            log.step(step)
            show(step, given.show_plan)

        def end(self, ended: Ended, screen: Image | None) -> None:
            log.end(ended, screen)

    with nullcontext(grid) if site is None else browser(given, site, tool) as environment:
        assert environment is not None
        log = Log(folder, {"goal": given.goal, "start": given.start, "tool": tool, "model": name_of(given)})
        try:
            ended = run(model, environment, dialogue_of(tool), given.goal, Limits(steps=given.steps), Watching())
        except KeyboardInterrupt:
            print(f"qwenvl: the steps so far: {folder / 'report.html'}", file=sys.stderr)
            raise
    reason = f": {ended.reason}" if ended.reason else ""
    print(f"{ended.status}{reason} ({folder / 'report.html'})")
    return 0 if ended.status == "success" else 1


def check(given: Agent) -> None:
    """Raises UsageError for options that contradict each other."""
    if not given.goal.strip():
        raise UsageError("the goal is empty; put it in quotes after the address")
    if given.start == GRID and given.tool is not None:
        raise UsageError("--tool is for pages; the robot of `grid` has its own keywords")
    if given.shortest and (given.start != GRID or given.replay is not None):
        raise UsageError("--shortest knows the way in `grid` alone, and goes without --replay")
    if given.out is not None and given.out.is_dir() and any(given.out.iterdir()):
        raise UsageError(f"{given.out}: not empty; give another folder with --out")
    if not 0 < given.seconds < math.inf:  # nor is it no number
        raise UsageError(f"--seconds is {given.seconds:g}; give more than 0")


def house(given: Agent) -> GridEnvironment:
    from qwenvl.agent.grid_environment import GridEnvironment

    return GridEnvironment(given.goal, given.seed)


def check_page(site: Site, chromium: str) -> None:
    from qwenvl.agent.browser import check_browser

    check_browser(site, chromium)


def browser(given: Agent, site: Site, tool: str) -> BrowserEnvironment:
    from qwenvl.agent.browser import DESKTOP, PHONE_SCREEN, BrowserEnvironment

    screen = DESKTOP if tool == COMPUTER else PHONE_SCREEN
    return BrowserEnvironment(site, screen, given.seconds, given.allow_passwords, given.chromium)


def tool_of(given: Agent, model: Model) -> str:
    """What is asked for, or was replayed, or else what the model was trained on."""
    if given.start == GRID:
        return GRID
    if given.tool is not None:
        return given.tool
    if given.replay is not None:
        told = json.loads((log_folder(given.replay) / "run.json").read_text(encoding="utf-8"))["tool"]
        if told not in (COMPUTER, PHONE, KEYWORDS):
            raise UsageError(f"{given.replay}: a run in {told}, not on a page")
        return str(told)
    return COMPUTER if model.calls else KEYWORDS


def dialogue_of(tool: str) -> Dialogue:
    from qwenvl.agent.dialogue import ToolDialogue
    from qwenvl.agent.gridworld import ROBOT_KEYWORDS
    from qwenvl.agent.keywords import PHONE_KEYWORDS, KeywordDialogue
    from qwenvl.agent.reading import TOOLS

    if tool in TOOLS:
        return ToolDialogue(TOOLS[tool])
    return KeywordDialogue(tool, ROBOT_KEYWORDS if tool == GRID else PHONE_KEYWORDS)


def model_of(given: Agent, grid: GridEnvironment | None) -> Model:
    from qwenvl.agent.model import LoadedModel, ScriptedModel

    if grid is not None and given.shortest:
        from qwenvl.agent.grid_environment import shortest_answers

        return ScriptedModel(shortest_answers(grid.world, grid.goal))
    if given.replay is not None:
        return ScriptedModel(answers_in(log_folder(given.replay)))
    if is_address(given.model):
        from qwenvl.cli.agent_remote import RemoteModel

        return RemoteModel(api_at(given.model), given.like, given.max_new_tokens)
    from qwenvl.inference.model import load

    return LoadedModel(load(given.model, device=given.device, dtype=given.dtype), given.max_pixels, given.max_new_tokens)


def log_folder(given: Path) -> Path:
    """The folder of a log, of which a file may be named."""
    return given.parent if given.is_file() else given


def answers_in(folder: Path) -> list[str]:
    """The answers of a log. Raises QwenVLError."""
    file = folder / "steps.jsonl"
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [replayed(row) for row in rows]
    except OSError as error:
        raise QwenVLError(f"{file}: {error.strerror}; give the folder of an earlier run") from None
    except (ValueError, KeyError, TypeError):
        raise QwenVLError(f"{file}: not the steps of a run; give the folder of an earlier one") from None


def replayed(row: dict[str, Any]) -> str:
    """An answer as it was; that of a tool with its places in pixels of the screen, whatever the model counted in."""
    from qwenvl.agent.report import thought_of
    from qwenvl.processing.tools import ToolCall, write_call

    answer = str(row["answer"])
    if "call" not in row or "<tool_call>" not in answer:
        return answer
    call = ToolCall(row["call"]["name"], row["call"]["arguments"])
    return "\n".join(filter(None, (thought_of(answer), write_call(call))))


def name_of(given: Agent) -> str:
    if given.shortest:
        return "the shortest way"
    return f"replay of {given.replay}" if given.replay is not None else given.model


def new_folder(start: str) -> Path:
    host = urlsplit(start).hostname or start
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", host).strip("-")[:40] or "page"
    return Path("runs/agent") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"


def show(step: Step, plan: bool) -> None:
    """One line a step; the model's own words below it where they are wanted."""
    from qwenvl.agent.actions import in_words
    from qwenvl.agent.report import thought_of

    words = in_words(step.read.action, step.screen.size) if step.read else "no action"
    note = f" [{step.note}]" if step.note else ""
    print(f"{step.number:3}  {words}{note}  ({sum(step.seconds):.1f} s)", flush=True)
    if plan and step.said and (thought := thought_of(step.said.text)):
        print("".join(f"     {line}\n" for line in thought.splitlines()), end="", flush=True)
