"""The loop ends for the right reason, tells the model of its mistakes, and writes every step down as it happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qwenvl.agent.actions import Action, ActionError, Click, Swipe, Wait
from qwenvl.agent.dialogue import ToolDialogue
from qwenvl.agent.environment import Done, Ended, EnvironmentLost
from qwenvl.agent.log import Log
from qwenvl.agent.loop import Limits, Watcher, run
from qwenvl.agent.marks import draw_action
from qwenvl.agent.model import ScriptedModel
from qwenvl.agent.reading import TOOLS
from qwenvl.agent.report import thought_of
from qwenvl.agent.site import AgentError
from qwenvl.processing.actions import COMPUTER
from qwenvl.processing.tools import ToolCall, write_call
from qwenvl.types import Message, TextPart

DIALOGUE = ToolDialogue(TOOLS[COMPUTER])
ABOUT = {"goal": "Press <it>", "start": "nowhere", "tool": COMPUTER, "model": "a script"}


def call(action: str, thought: str = "", **arguments: Any) -> str:
    return f"{thought}\n" * bool(thought) + write_call(ToolCall(COMPUTER, {"action": action, **arguments}))


CLICK, DONE = call("left_click", coordinate=[10, 20]), call("terminate", status="success")


class Fake:
    """A screen of one colour, which changes with every action unless it is `still`."""

    where = "nowhere"

    def __init__(self, act: Callable[[Action], Done] | None = None, still: bool = False) -> None:
        self.actions: list[Action] = []
        self._act, self._still = act, still
        self.looks = 0

    def look(self) -> Image.Image:
        self.looks += 1
        return Image.new("RGB", (100, 50), (0 if self._still else len(self.actions), 0, 0))

    def act(self, action: Action) -> Done:
        done = self._act(action) if self._act else Done()
        self.actions.append(action)
        return done

    def judge(self, claim: Ended) -> Ended:
        return claim


def told(messages: Sequence[Message]) -> str:
    return "".join(part.text for part in messages[-1].parts if isinstance(part, TextPart))


def test_it_ends_when_the_model_says_so() -> None:
    fake = Fake()
    assert run(ScriptedModel([CLICK, DONE]), fake, DIALOGUE, "x") == Ended("success")
    assert fake.actions == [Click((0.1, 0.4))]
    assert run(ScriptedModel([call("terminate", status="failure")]), Fake(), DIALOGUE, "x") == Ended("failure")


def test_steps_are_limited() -> None:
    fake = Fake()
    assert run(ScriptedModel(lambda messages: CLICK), fake, DIALOGUE, "x", Limits(steps=7)).status == "step limit"
    assert len(fake.actions) == 7


def test_mistakes_are_told_and_end_it_when_nothing_else_comes() -> None:
    asked: list[str] = []

    def answer(messages: Sequence[Message]) -> str:
        asked.append(told(messages))
        return "I do not know."

    ended = run(ScriptedModel(answer), Fake(), DIALOGUE, "x", Limits(mistakes=3))
    assert ended.status == "too many mistakes" and "makes no call" in ended.reason
    assert len(asked) == 3 and "Step 1: [not done: the answer makes no call" in asked[1]


def test_mistakes_are_counted_in_a_row() -> None:
    bad = call("left_click", coordinate="here")
    answers = [bad, bad, CLICK, bad, bad, CLICK, DONE]
    assert run(ScriptedModel(answers), Fake(), DIALOGUE, "x", Limits(mistakes=3)).status == "success"


def test_what_cannot_be_done_is_a_mistake() -> None:
    def refuse(action: Action) -> Done:
        raise ActionError("it is nailed down")

    ended = run(ScriptedModel(lambda messages: CLICK), Fake(refuse), DIALOGUE, "x", Limits(mistakes=2))
    assert ended == Ended("too many mistakes", "2 in a row, at last: not done: it is nailed down")


def test_an_action_without_effect_is_not_repeated_for_ever() -> None:
    fake = Fake(still=True)
    assert run(ScriptedModel(lambda messages: CLICK), fake, DIALOGUE, "x", Limits(repeats=3)).status == "stuck"
    assert len(fake.actions) == 3


def test_other_actions_or_a_changed_screen_are_not_stuck() -> None:
    limits = Limits(steps=8, repeats=3)
    others = [call("left_click", coordinate=[number, 1]) for number in range(8)]
    assert run(ScriptedModel(others), Fake(still=True), DIALOGUE, "x", limits).status == "step limit"
    assert run(ScriptedModel(lambda messages: CLICK), Fake(), DIALOGUE, "x", limits).status == "step limit"
    between = [CLICK, CLICK, call("wait"), CLICK, CLICK, call("wait"), CLICK, CLICK]
    assert run(ScriptedModel(between), Fake(still=True), DIALOGUE, "x", limits).status == "step limit"


def test_the_environment_may_end_it() -> None:
    fake = Fake(lambda action: Done("", Ended("left the site", "elsewhere")))
    assert run(ScriptedModel([CLICK, DONE]), fake, DIALOGUE, "x") == Ended("left the site", "elsewhere")


def test_a_lost_page_is_said_and_not_looked_at_again() -> None:
    def crash(action: Action) -> Done:
        raise EnvironmentLost("the page has crashed")

    fake = Fake(crash)
    assert run(ScriptedModel([CLICK, DONE]), fake, DIALOGUE, "x") == Ended("page lost", "the page has crashed")
    assert fake.looks == 1


def test_a_model_without_an_answer_ends_it() -> None:
    ended = run(ScriptedModel([CLICK]), Fake(), DIALOGUE, "x")
    assert ended.status == "no answer" and "no further answer" in ended.reason


def test_notes_of_the_screen_reach_the_model() -> None:
    asked: list[str] = []

    def answer(messages: Sequence[Message]) -> str:
        asked.append(told(messages))
        return CLICK if len(asked) < 2 else DONE

    run(ScriptedModel(answer), Fake(lambda action: Done("the page said 'Hello'")), DIALOGUE, "x")
    assert "[the page said 'Hello']" in asked[1]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_log_holds_every_step(tmp_path: Path) -> None:
    answers = [call("left_click", "The <button> is here.", coordinate=[10, 20]), "well", DONE]
    run(ScriptedModel(answers), Fake(), DIALOGUE, "Press <it>", watcher=Log(tmp_path / "log", ABOUT))
    folder = tmp_path / "log"
    rows = rows_of(folder)
    assert [row["step"] for row in rows] == [1, 2, 3] and rows[0]["answer"] == answers[0]
    assert rows[0]["points"] == [[10, 20]] and rows[0]["call"]["arguments"]["coordinate"] == [10, 20]
    assert rows[1]["note"].startswith("not done: the answer makes no call") and "call" not in rows[1]
    assert {one.name for one in folder.iterdir()} == {
        "run.json", "steps.jsonl", "report.html", "end.png", "step-001.png", "step-002.png", "step-003.png",
    }  # fmt: skip
    told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert told == ABOUT | {"begun": told["begun"], "status": "success", "reason": "", "steps": 3}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 3 and "the last screen" not in page  # it is that of step 3
    assert "http" not in page
    assert "Press &lt;it&gt;" in page and "The &lt;button&gt; is here." in page and "Press <it>" not in page
    drawn = np.asarray(Image.open(folder / "step-001.png"))
    assert (drawn != 0).any() and not (np.asarray(Image.open(folder / "step-003.png"))[..., 1:]).any()


def test_the_report_ends_with_the_last_screen(tmp_path: Path) -> None:
    run(ScriptedModel([CLICK, CLICK]), Fake(), DIALOGUE, "x", Limits(steps=2), Log(tmp_path, ABOUT))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 3 and "the last screen" in page


def test_an_interrupted_run_is_written_down(tmp_path: Path) -> None:
    def answer(messages: Sequence[Message]) -> str:
        if "Step 2" in told(messages):
            raise KeyboardInterrupt
        return CLICK

    with pytest.raises(KeyboardInterrupt):
        run(ScriptedModel(answer), Fake(), DIALOGUE, "x", watcher=Log(tmp_path, ABOUT))
    assert len(rows_of(tmp_path)) == 2
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "interrupted"
    assert ">interrupted<" in (tmp_path / "report.html").read_text()


def test_steps_are_there_before_the_next_begins(tmp_path: Path) -> None:
    def answer(messages: Sequence[Message]) -> str:
        done = len(list(tmp_path.glob("step-*.png")))
        assert done == told(messages).count("Step ") and (done == 0 or len(rows_of(tmp_path)) == done)
        assert done == 0 or ">running<" in (tmp_path / "report.html").read_text()
        return CLICK if done < 3 else DONE

    assert run(ScriptedModel(answer), Fake(), DIALOGUE, "x", watcher=Log(tmp_path, ABOUT)).status == "success"


def test_a_log_does_not_write_over_another(tmp_path: Path) -> None:
    (tmp_path / "steps.jsonl").write_text("")
    with pytest.raises(AgentError, match="not empty"):
        Log(tmp_path, ABOUT)


def test_places_are_drawn_where_they_are() -> None:
    screen = Image.new("RGB", (400, 300), "white")
    assert draw_action(screen, Wait(1)).tobytes() == screen.tobytes() == draw_action(screen, None).tobytes()
    changed = np.argwhere((np.asarray(draw_action(screen, Click((0.5, 0.5)))) != 255).any(axis=2))
    assert np.abs(changed.mean(axis=0) - (150, 200)).max() < 2
    swiped = np.argwhere((np.asarray(draw_action(screen, Swipe((0.25, 0.5), (0.75, 0.5)))) != 255).any(axis=2))
    assert swiped[:, 1].min() < 100 and swiped[:, 1].max() > 290


def test_thoughts_are_what_is_written_around_calls() -> None:
    assert thought_of(CLICK) == "" and thought_of(f"I click.\n{CLICK}") == "I click."
    assert thought_of(': I go.\n*FUNCTION*: Tap *ARGS*: {"point": (1,2)}') == "I go."


def test_a_watcher_may_do_nothing() -> None:
    assert run(ScriptedModel([DONE]), Fake(), DIALOGUE, "x", watcher=Watcher()) == Ended("success")
