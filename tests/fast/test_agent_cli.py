"""`qwenvl agent`: what is wrong is one line, the exit code is the outcome, a run can be played again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwenvl.agent.dialogue import ToolDialogue
from qwenvl.agent.reading import TOOLS
from qwenvl.cli import agent
from qwenvl.cli.addresses import api_at
from qwenvl.cli.agent_remote import RemoteModel
from qwenvl.cli.options import UsageError
from qwenvl.processing.actions import PHONE
from qwenvl.processing.tools import ToolCall, write_call
from qwenvl.types import QwenVLError
from tests.fake_api import FakeApi, serve

TAKE = "take the red ball"


def test_the_shortest_way_succeeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert agent.main(["grid", TAKE, "--shortest", "--seed", "2", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"success: the goal is reached ({out}/report.html)"
    assert len(lines) == 1 + len((out / "steps.jsonl").read_text().splitlines()) and lines[-2].split()[1] == "Pickup"
    assert json.loads((out / "run.json").read_text())["model"] == "the shortest way"


def test_a_run_is_played_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again = str(tmp_path / "first"), str(tmp_path / "again")
    assert agent.main(["grid", TAKE, "--shortest", "--out", first]) == 0
    assert agent.main(["grid", TAKE, "--replay", first, "--out", again]) == 0
    rows = [[json.loads(line)["call"] for line in (Path(one) / "steps.jsonl").read_text().splitlines()] for one in (first, again)]
    assert rows[0] == rows[1]
    assert agent.main(["grid", TAKE, "--replay", f"{first}/steps.jsonl", "--seed", "1", "--out", str(tmp_path / "other")]) == 1
    assert "(" in capsys.readouterr().out.splitlines()[-1]


def test_calls_of_tools_are_replayed_in_pixels_of_the_screen() -> None:
    def written(x: int, y: int) -> str:
        call = ToolCall(PHONE, {"action": "click", "coordinate": [x, y]})
        return f"I tap.\n{write_call(call)}"

    call = {"name": PHONE, "arguments": {"action": "click", "coordinate": [206, 457]}}
    assert agent.replayed({"answer": written(500, 500), "call": call}) == written(206, 457)
    assert agent.replayed({"answer": "well"}) == "well"


def test_steps_and_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent.main(["grid", TAKE, "--shortest", "--steps", "1", "--out", str(tmp_path / "a")]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("step limit: 1 steps were not enough")


def test_the_models_plan_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").mkdir()
    said = {"answer": 'I go home.\n*FUNCTION*: Open *ARGS*: {"point": (0,0)}'}
    (tmp_path / "log/steps.jsonl").write_text(json.dumps(said) + "\n")
    agent.main(["grid", TAKE, "--replay", str(tmp_path / "log"), "--show-plan", "--out", str(tmp_path / "run")])
    assert "     I go home." in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    "arguments",
    [
        ["grid", " "],
        ["http://127.0.0.1:1/", "x", "--shortest"],
        ["grid", TAKE, "--shortest", "--replay", "x"],
        ["grid", TAKE, "--tool", "computer_use"],
        ["grid", TAKE, "--seconds", "0"],
        ["grid", TAKE, "--seconds", "nan"],
        ["grid", TAKE, "--out", "."],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        agent.main(arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["grid", "make tea"], "go to the mat"),
        (["ftp://example.com", "x"], "not the address of a page"),
        (["https://example.com", "x", "--allow", "a/b"], "give a host"),
        (["grid", TAKE, "--replay", "no/such/run"], "no/such/run/steps.jsonl: .*give the folder of an earlier run"),
        (["grid", TAKE, "--replay", "pyproject.toml"], "earlier run"),
        (["http://localhost:1/", "x", "--chromium", "no/such"], "no/such: no such program; on Debian: apt-get install chromium"),
    ],
)
def test_what_is_wrong_is_found_before_a_model_is_loaded(arguments: list[str], said: str) -> None:
    with pytest.raises(QwenVLError, match=said):
        agent.main(arguments)


def test_a_public_page_needs_the_network(tmp_path: Path) -> None:
    """QWENVL_OFFLINE is set in tests."""
    (tmp_path / "steps.jsonl").write_text("")
    (tmp_path / "run.json").write_text('{"tool": "computer_use"}')
    with pytest.raises(QwenVLError, match="QWENVL_OFFLINE"):
        agent.main(["https://example.com/", "x", "--replay", str(tmp_path), "--out", str(tmp_path / "out")])


def test_a_model_behind_an_address_is_asked() -> None:
    def answer(body: dict[str, object], number: int) -> str:
        return '<tool_call>\n{"name": "mobile_use", "arguments": {"action": "click", "coordinate": [210, 462]}}\n</tool_call>'

    from PIL import Image

    from qwenvl.agent.actions import Tap

    screen, dialogue = Image.new("RGB", (412, 915)), ToolDialogue(TOOLS[PHONE])
    with serve(FakeApi(answer)) as api:
        model = RemoteModel(api_at(f"{api.url}#m"), "qwen2_5_vl", 64)
        assert model.calls and not model.continues and model.frame(screen.size) == (420, 924)
        said = model.answer(dialogue.messages("Set an alarm", [], screen, model), ("*RESULT*",))
        [body] = api.bodies
    assert body["max_tokens"] == 64 and body["stop"] == ["*RESULT*"] and body["temperature"] == 0
    assert "resolution is 420x924." in body["messages"][0]["content"] and said.prompt_tokens == 100
    assert dialogue.read(said, [], screen.size, model).action == Tap((0.5, 0.5))


def test_an_address_without_an_answer_is_one_line() -> None:
    from PIL import Image

    def fail(body: dict[str, object], number: int) -> tuple[int, dict[str, str], bytes]:
        return 400, {}, b'{"error": {"message": "too long"}}'

    dialogue = ToolDialogue(TOOLS[PHONE])
    with serve(FakeApi(fail)) as api:
        model = RemoteModel(api_at(f"{api.url}#m"), "qwen2_5_vl", 64)
        with pytest.raises(QwenVLError, match="too long"):
            model.answer(dialogue.messages("x", [], Image.new("RGB", (412, 915)), model), ())
