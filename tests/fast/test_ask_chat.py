"""`qwenvl ask` and `qwenvl chat`, through the command's own main: text, boxes, JSON, history, and Ctrl-C."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qwenvl.cli import chat as chat_verb
from qwenvl.cli.main import main
from qwenvl.inference.model import QwenVL
from tests.fast.tiny import make_it_say, picture, write_tiny

ANSWER = "There is <ref>a dog</ref><box>(100,200),(500,900)</box> here."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny(tmp_path_factory.mktemp("models") / "tiny", max_new_tokens=100))


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    picture(1, (600, 500)).save(path)
    return str(path)


def ask(*arguments: str, model: str) -> int:
    return main(["ask", *arguments, "--model", model, "--device", "cpu"])


def test_ask_shows_a_readable_answer_and_its_places(
    model: str, image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it_say(monkeypatch, ANSWER, ANSWER)
    assert ask(image, "Where is the dog?", model=model) == 0
    assert capsys.readouterr().out == "There is a dog here.\n  a dog: box (60, 100)-(300, 450)\n"
    assert ask(image, "Where is the dog?", "--raw", model=model) == 0
    assert capsys.readouterr().out.startswith(ANSWER)


def test_ask_json_is_one_object_with_pixels_of_the_original(
    model: str, image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it_say(monkeypatch, ANSWER)
    assert ask(image, "Where is the dog?", "--json", model=model) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["model", "text", "regions", "usage", "finish_reason"]
    assert answer["text"] == ANSWER and answer["model"] == model
    assert answer["regions"] == [{"label": "a dog", "kind": "box", "pixels": [60.0, 100.0, 300.0, 450.0], "image": 0}]
    assert answer["usage"]["image_tokens"] == 4 and answer["finish_reason"] == "stop"


def test_ask_saves_the_picture_with_its_boxes_and_says_where(
    model: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it_say(monkeypatch, ANSWER)
    out = tmp_path / "new" / "out.png"
    assert ask(image, "Where is the dog?", "--boxes", str(out), model=model) == 0
    assert f"boxes drawn: {out}" in capsys.readouterr().out
    changed = np.any(np.asarray(Image.open(out)) != np.asarray(Image.open(image)), axis=2)
    assert changed[450, 200] and changed[300, 60] and not changed[300, 200]
    assert [path.name for path in out.parent.iterdir()] == ["out.png"]


def test_ask_without_a_box_writes_no_picture_and_says_so(
    model: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it_say(monkeypatch, "no dog")
    assert ask(image, "Where is the dog?", "--boxes", str(tmp_path / "out.png"), model=model) == 0
    assert "no box" in capsys.readouterr().out
    assert not (tmp_path / "out.png").exists()


def test_an_empty_answer_is_said_to_be_one(
    model: str, image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it_say(monkeypatch, "", "<box>(1,2)")
    assert ask(image, "Where is the dog?", model=model) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "(the model gave no answer)\n"
    assert ask(image, "Where is the dog?", model=model) == 0
    assert "--raw" in capsys.readouterr().err


def test_ask_takes_no_picture_and_several(
    model: str, image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it_say(monkeypatch, "two", ANSWER)
    assert ask("one and one?", model=model) == 0
    assert capsys.readouterr().out == "two\n"
    assert ask(image, image, "Where is the dog?", model=model) == 0
    assert "in picture 2" in capsys.readouterr().out


def test_ask_obeys_limits_and_stops(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it_say(monkeypatch, "a dog and a circle")
    assert ask("What?", "--stop", "and", "--stop", "circle", model=model) == 0
    assert capsys.readouterr().out.strip() == "a dog"
    monkeypatch.undo()
    assert ask("What?", "--max-new-tokens", "2", "--temperature", "1.5", "--seed", "1", "--json", model=model) == 0
    assert json.loads(capsys.readouterr().out)["usage"]["completion_tokens"] <= 2


def chat(
    lines: str, model: str, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, list[list[dict[str, object]]]]:
    """Run the verb on piped lines; return its exit code and the messages of every question."""
    asked: list[list[dict[str, object]]] = []
    original = QwenVL.stream

    def stream(self: QwenVL, messages: list[dict[str, object]], **options: object) -> Iterator[object]:
        asked.append(messages)
        return original(self, messages, **options)

    monkeypatch.setattr(QwenVL, "stream", stream)
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return main(["chat", *arguments, "--model", model, "--device", "cpu"]), asked


def test_chat_keeps_history_and_sends_pictures_once(model: str, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_it_say(monkeypatch, ANSWER, "blue", "two")
    code, asked = chat(f"Where is the dog?\n/image {image}\nWhich colour?\nHow many?\n", model, monkeypatch, image)
    assert code == 0
    roles = [[message["role"] for message in messages] for messages in asked]
    assert roles == [["user"], ["user", "assistant", "user"], ["user", "assistant"] * 2 + ["user"]]
    assert asked[2][1]["content"] == ANSWER and asked[2][3]["content"] == "blue"
    kinds = [[part["type"] for part in message["content"]] for message in asked[2][::2]]
    assert kinds == [["image", "text"], ["image", "text"], ["text"]]


def test_chat_draws_the_last_answer_s_boxes_and_forgets_on_reset(
    model: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_it_say(monkeypatch, ANSWER, "two")
    code, asked = chat("Where?\n/boxes\n/boxes mine.jpg\n/reset\nWhere?\n/help\n/quit\nnever asked\n", model, monkeypatch, image)
    assert code == 0
    assert Image.open("boxes-1.png").size == Image.open("mine.jpg").size == (600, 500)
    assert [len(messages) for messages in asked] == [1, 1]
    assert [part["type"] for part in asked[1][0]["content"]] == ["text"]
    assert "/image PATH" in capsys.readouterr().out


def test_chat_reports_a_bad_line_and_goes_on(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it_say(monkeypatch, "two")
    code, asked = chat("/image none.png\n/boxes\n/dance\n\nHow many?\n", model, monkeypatch)
    captured = capsys.readouterr()
    assert code == 1  # a script has to be told
    assert [line[:8] for line in captured.err.splitlines()] == ["qwenvl: "] * 3
    assert captured.out == "two\n" and len(asked) == 1


def test_chat_says_how_to_go_on_when_the_context_is_full(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it_say(monkeypatch, "two")
    code, asked = chat("word " * 400 + "\nHow many?\n", model, monkeypatch)
    assert code == 1 and len(asked) == 2 and len(asked[1]) == 1
    assert "320" in (error := capsys.readouterr().err) and "/reset" in error


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it_say(monkeypatch, "two")
    original = QwenVL.stream
    asked: list[list[dict[str, object]]] = []

    def interrupted(self: QwenVL, messages: list[dict[str, object]], **options: object) -> Iterator[object]:
        asked.append(messages)
        if len(asked) == 1:
            yield "a dog and "
            raise KeyboardInterrupt
        yield from original(self, messages, **options)

    monkeypatch.setattr(QwenVL, "stream", interrupted)
    monkeypatch.setattr("sys.stdin", io.StringIO("Tell me.\nHow many?\n"))
    assert main(["chat", "--model", model]) == 0
    captured = capsys.readouterr()
    assert captured.out == "a dog and \ntwo\n" and "stopped" in captured.err
    assert [message["content"] for message in asked[1][1:2]] == ["a dog and "]


def test_at_a_terminal_ctrl_c_clears_the_line_and_ctrl_d_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    typed: Iterator[object] = iter(["one", KeyboardInterrupt(), "two", EOFError()])

    def fake_input(prompt: str) -> str:
        item = next(typed)
        if isinstance(item, BaseException):
            raise item
        return str(item)

    monkeypatch.setattr("builtins.input", fake_input)
    assert list(chat_verb.typed_lines()) == ["one", "two"]
