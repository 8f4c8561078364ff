"""`--tools` of `ask` and `chat`: functions told to the model, its calls as lines of JSON; and a chat reads a clip once."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwenvl.cli.main import main
from qwenvl.inference.model import QwenVL
from qwenvl.processing.tools import tools_text
from tests.fast.tiny import make_it_say, picture, write_tiny, write_tiny_native

WEATHER = {"name": "weather", "description": "The weather of a city", "parameters": {"type": "object", "properties": {}}}
CALL = {"name": "weather", "arguments": {"city": "北京", "days": 2}}
ANSWER = f"Let me look.\n<tool_call>\n{json.dumps(CALL, ensure_ascii=False)}\n</tool_call>"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_native(tmp_path_factory.mktemp("models") / "native", "qwen2_5_vl", max_new_tokens=200))


@pytest.fixture
def tools(tmp_path: Path) -> str:
    path = tmp_path / "functions.json"
    path.write_text(json.dumps([WEATHER]), encoding="utf-8")
    return str(path)


def run(verb: str, *arguments: str) -> int:
    return main([verb, *arguments, "--device", "cpu"])


def told(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, Any]]]:
    """The messages of every question from now on."""
    asked: list[list[dict[str, Any]]] = []
    original = QwenVL.stream

    def stream(self: QwenVL, messages: list[dict[str, Any]], **options: Any) -> Iterator[object]:
        asked.append(messages)
        return original(self, messages, **options)

    monkeypatch.setattr(QwenVL, "stream", stream)
    return asked


def test_calls_are_lines_of_json(
    model: str, tools: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = told(monkeypatch)
    make_it_say(monkeypatch, ANSWER, ANSWER, ANSWER)
    assert run("ask", "How warm is it?", "--tools", tools, "--model", model) == 0
    words, *lines = filter(None, capsys.readouterr().out.splitlines())
    assert words == "Let me look."
    assert [json.loads(line) for line in lines] == [CALL]
    system, question = asked[0]
    assert (system["role"], question["role"]) == ("system", "user")
    assert system["content"].endswith(tools_text([WEATHER]))
    assert run("ask", "How warm is it?", "--tools", tools, "--model", model, "--raw") == 0
    assert "<tool_call>\n" in capsys.readouterr().out
    assert run("ask", "How warm is it?", "--tools", tools, "--model", model, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["tool_calls"] == [CALL] and answer["text"] == ANSWER


def test_a_chat_gives_results_back(
    model: str, tools: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(0).save(tmp_path / "map.png")
    asked = told(monkeypatch)
    make_it_say(monkeypatch, ANSWER, "Two degrees.")
    lines = f"/result early\nHow warm is it?\n/result\n/image {tmp_path / 'map.png'}\n/result 2 degrees\n/result late\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert run("chat", "--tools", tools, "--model", model) == 1
    captured = capsys.readouterr()
    assert [line.partition(";")[0] for line in captured.err.splitlines()] == [
        "qwenvl: the last answer called no function",
        "qwenvl: /result needs what the function returned",
        "qwenvl: the last answer called no function",
    ]
    assert json.dumps(CALL, ensure_ascii=False) in captured.out and captured.out.endswith("Two degrees.\n")
    assert [message["role"] for message in asked[1]] == ["system", "user", "assistant", "tool"]
    assert [part["type"] for part in asked[1][3]["content"]] == ["image", "text"]
    assert asked[1][3]["content"][1]["text"] == "2 degrees" and asked[1][2]["content"] == ANSWER


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "not valid JSON (Expecting value: line 1 column 1 (char 0)); write a list of functions"),
        ("\xff", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a list of functions; write [{"),
        (json.dumps(WEATHER), "not a list of functions"),
        ("[1]", "tools[0]: give a mapping with a name, a description and parameters"),
        (json.dumps([WEATHER, {"type": "function", "function": {}}]), "tools[1]: give a mapping"),
        (json.dumps([{"name": "weather", "parameters": "a city"}]), "tools[0]: give a mapping"),
        (None, "cannot be read (No such file or directory); check the path"),
    ],
)
@pytest.mark.parametrize("verb", ["ask", "chat"])
def test_a_bad_file_of_tools_is_one_clear_line(
    verb: str, content: str | None, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found before the model is looked for, which does not exist either."""
    path = tmp_path / "functions.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    question = ["How warm is it?"] if verb == "ask" else []
    assert run(verb, *question, "--tools", str(path), "--model", str(tmp_path / "no model")) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"qwenvl: {path}: {line}") and error.count("\n") == 1


@pytest.mark.parametrize("family", ["qwen_vl", "qwen2_vl"])
def test_a_family_that_calls_no_functions_says_so(
    family: str, tools: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny(tmp_path / "model") if family == "qwen_vl" else write_tiny_native(tmp_path / "model", family)
    line = f"qwenvl: --tools: {family} was not trained to call functions as they are told here; qwen2_5_vl was\n"
    assert run("ask", "How warm is it?", "--tools", tools, "--model", str(folder)) == 2
    assert capsys.readouterr().err == line
    monkeypatch.setattr("sys.stdin", io.StringIO("How warm is it?\n"))
    assert run("chat", "--tools", tools, "--model", str(folder)) == 2
    assert capsys.readouterr().err == line


def test_a_chat_reads_a_clip_once_until_it_is_reset(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    from qwenvl.processing.video_file import VideoFile
    from tests.clips import write_clip

    clip = str(write_clip(tmp_path / "clip.mp4", 30, fps=10))
    opened: list[str] = []
    original = VideoFile._open

    def counted(self: VideoFile) -> Any:
        opened.append(self.name)
        return original(self)

    monkeypatch.setattr(VideoFile, "_open", counted)
    make_it_say(monkeypatch, "a dog", "blue", "two", "a cat")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"What is it?\nWhich colour?\n/reset\n/image {clip}\nHow many?\nAnd now?\n"))
    asked = told(monkeypatch)
    assert run("chat", clip, "--model", model) == 0, capsys.readouterr().err
    assert [len(messages) for messages in asked] == [1, 3, 1, 3]
    # Once for the times, once for the size, once for the frames; and all that again after /reset.
    assert len(opened) == 2 * 3
