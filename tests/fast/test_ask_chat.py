"""`qwenvl ask` and `qwenvl chat`, through the command's own main: text, boxes, JSON, history, and Ctrl-C."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qwenvl.cli import chat as chat_verb
from qwenvl.cli.answer import Loading, show_found
from qwenvl.cli.main import main
from qwenvl.families.spec import Markup
from qwenvl.inference.model import QwenVL
from qwenvl.inference.reply import Reply, Usage
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
    assert list(answer) == [
        "model", "text", "regions", "clamped", "spans", "tool_calls", "usage", "finish_reason"
    ]  # fmt: skip
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


def test_ask_says_what_was_clamped_and_called(
    model: str, image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = '<box>(-5,0),(500,1200)</box>\n<tool_call>\n{"name": "tap", "arguments": {"at": [1, 2], "why": "狗"}}\n</tool_call>'
    make_it_say(monkeypatch, answer, answer)
    assert ask(image, "Tap the dog.", "--max-new-tokens", "200", model=model) == 0
    captured = capsys.readouterr()
    call = '{"name": "tap", "arguments": {"at": [1, 2], "why": "狗"}}'
    assert captured.out.strip().endswith(f"here: box (0, 0)-(300, 500)\n{call}")
    assert "(2 coordinates outside of the picture, moved to its edge)" in captured.err
    assert ask(image, "Tap the dog.", "--json", "--max-new-tokens", "200", model=model) == 0
    answered = json.loads(capsys.readouterr().out)
    assert answered["clamped"] == 2 and answered["spans"] == []
    assert answered["tool_calls"] == [{"name": "tap", "arguments": {"at": [1, 2], "why": "狗"}}]


def test_times_are_shown_in_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    text = 'The dog appears in 64.0 - 72.0 seconds.'
    show_found(Reply.read(text, Markup(), [(28, 28)], [(9, 9)], Usage(1, 1, 1), "stop", video=True), sys.stdout)
    assert capsys.readouterr() == ("  then: 64.00 s to 72.00 s\n", "")


def test_ask_takes_clips_and_bounds(
    model: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[dict[str, object]]] = []

    def answer(self: QwenVL, messages: list[dict[str, object]], **_: object) -> Reply:
        asked.append(messages)
        return Reply.read("at 1 - 2 s", self.markup, [(28, 28)], [(9, 9)], Usage(1, 1, 1), "stop", video=True)

    clip, frames = tmp_path / "clip.mp4", tmp_path / "frames"
    clip.touch()
    frames.mkdir()
    assert ask(str(frames), "When?", model=model) == 1
    assert "an empty folder" in capsys.readouterr().err
    picture(0).save(frames / "1.png")
    monkeypatch.setattr(QwenVL, "chat", answer)
    bounds = ("--fps", "auto", "--max-frames", "8", "--max-pixels", "7840")
    assert ask(str(clip), str(frames), image, "When?", "--json", *bounds, model=model) == 0
    assert json.loads(capsys.readouterr().out)["spans"] == [{"start": 1.0, "end": 2.0, "label": None}]
    first, second, third, question = asked[0][0]["content"]  # type: ignore[misc]
    watched = {"type": "video", "fps": "auto", "max_frames": 8, "min_pixels": None, "max_pixels": 7840}
    assert (first, second) == (watched | {"video": str(clip)}, watched | {"video": str(frames)})
    assert (third["type"], third["max_pixels"], question["text"]) == ("image", 7840, "When?")
    assert ask("none.mp4", "When?", model=model) == 1
    assert "none.mp4: no such file" in capsys.readouterr().err
    assert ask(str(clip), "When?", "--boxes", str(tmp_path / "out.png"), model=model) == 2
    assert "--boxes needs a picture" in capsys.readouterr().err


def test_a_family_without_video_says_so(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip.mp4").touch()
    assert ask(str(tmp_path / "clip.mp4"), "When?", model=model) == 1
    assert "qwen_vl takes no video" in capsys.readouterr().err


def test_ask_in_tiles_gives_boxes_of_the_whole_picture(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wide.png"
    picture(1, (56, 28)).save(path)
    make_it_say(monkeypatch, ANSWER)
    assert ask(str(path), "Where is the dog?", "--tiles", "12", "--json", model=model) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["usage"]["image_tokens"] == 3 * 4, "two tiles and the whole picture"
    assert answer["regions"] == [{"label": "a dog", "kind": "box", "pixels": [5.6, 5.6, 28.0, 25.2], "image": 0}]
    picture(1, (560, 560)).save(path)
    monkeypatch.undo()
    assert ask(str(path), "word " * 300, "--tiles", "12", model=model) == 1
    assert "do not fit in the context of 320" in capsys.readouterr().err


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


def test_chat_takes_a_clip_for_the_next_question(
    model: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.mp4").touch()
    code, asked = chat(f"/image {tmp_path / 'clip.mp4'}\nWhen?\n", model, monkeypatch, image)
    captured = capsys.readouterr()
    assert code == 1 and "qwen_vl takes no video" in captured.err and "2: a clip, goes with" in captured.out
    assert [part["type"] for part in asked[0][0]["content"]] == ["image", "video", "text"]  # type: ignore[attr-defined]


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


def test_a_base_model_without_a_chat_format_can_be_asked_in_its_own_style() -> None:
    assert Loading("qwen-vl-nano").load().style == "raw"
    assert Loading("qwen-vl-nano", style="chat").load().style == "chat"
