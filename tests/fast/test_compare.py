"""`qwenvl model compare`: every model's answer, one picture with a panel for each, and models that cannot answer in theirs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qwenvl.cli.compare import chat_models
from qwenvl.cli.main import main
from qwenvl.families.spec import Markup
from qwenvl.inference.compare import MARGIN, SIDE, Outcome, draw_comparison
from qwenvl.inference.draw import COLOURS, find_fonts, length_of, wrap
from qwenvl.inference.reply import Reply, Usage
from qwenvl.weights.hub import builtin_models
from tests.fast.tiny import make_it_say, picture, write_tiny, write_tiny_native

TAGS = "There is <ref>a dog</ref><box>(100,200),(500,900)</box> here."


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The first and the third generation."""
    folder = tmp_path_factory.mktemp("models")
    first, third = write_tiny(folder / "first", max_new_tokens=100), write_tiny_native(folder / "third", "qwen2_5_vl")
    return [str(first), str(third)]


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    picture(1, (40, 24)).save(path)
    return str(path)


def compare(*arguments: str) -> int:
    return main(["model", "compare", *arguments, "--device", "cpu"])


def test_generations_answer_each_in_its_markup_and_are_drawn_side_by_side(
    models: list[str], image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = '```json\n[{"bbox_2d": [4, 8, 20, 16], "label": "a dog"}]\n```'
    make_it_say(monkeypatch, TAGS, written)
    out = tmp_path / "new" / "side.png"
    limit = ("--max-new-tokens", "100")
    assert compare(image, "Where is the dog?", "--models", *models, "--out", str(out), "--json", *limit) == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said) == ["image", "question", "out", "answers"]
    first, third = said["answers"]
    assert [one["model"] for one in said["answers"]] == models and first["error"] is third["error"] is None
    assert first["regions"] == [{"label": "a dog", "kind": "box", "pixels": [4.0, 4.8, 20.0, 21.6], "image": 0}]
    # 40 x 24 keeps its size here: multiples of 4, 960 pixels of at most 1024.
    assert third["regions"] == [{"label": "a dog", "kind": "box", "pixels": [4.0, 8.0, 20.0, 16.0], "image": 0}]
    assert all(one["seconds"] > 0 and one["usage"]["completion_tokens"] > 0 for one in said["answers"])
    drawn = Image.open(out)
    assert drawn.width == MARGIN + 2 * (SIDE + MARGIN)
    boxes = (np.asarray(drawn) == COLOURS[0]).all(axis=2)
    assert boxes[:, : SIDE + MARGIN].any() and boxes[:, SIDE + 2 * MARGIN :].any(), "a box in every panel"


def test_one_that_fails_gets_its_line_and_does_not_stop_the_others(
    models: list[str], image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it_say(monkeypatch, TAGS)
    out = tmp_path / "side.png"
    assert compare(image, "Where?", "--models", "qwen9-vl", models[0], "--out", str(out)) == 1
    captured = capsys.readouterr()
    assert "no answer: unknown model 'qwen9-vl'" in captured.err
    assert f"{models[0]}  (" in captured.out and "There is a dog here.\n  a dog: box (4, 5)-(20, 22)" in captured.out
    assert captured.out.endswith(f"side by side: {out}\n")
    pixels = np.asarray(Image.open(out)).astype(int)
    red = (pixels[..., 0] - pixels[..., 1] > 100) & (pixels[..., 1] < 60) & (pixels[..., 2] < 60)
    below = MARGIN * 2 + SIDE * 24 // 40
    assert red[below:, : SIDE + MARGIN].any(), "its line stands in its panel"


def test_a_mistake_of_ours_is_no_answer_of_a_model(
    models: list[str], image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("qwenvl.inference.session.choose_token", broken)
    with pytest.raises(ZeroDivisionError):
        compare(image, "Where?", "--models", models[0], "--out", str(tmp_path / "out.png"))


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["photo.png", " "], 2, "the question is empty"),
        (["clip.mp4", "Where?"], 2, "a clip; give a picture here"),
        (["gone.png", "Where?"], 1, "gone.png: no such file"),
        (["photo.png", "Where?", "--out", "photo.png"], 2, "is the picture asked about"),
        (["photo.png", "Where?", "--out", "out.docx"], 2, ".docx is not a picture format"),
    ],
)
def test_what_cannot_be_compared_is_told_before_a_model_is_loaded(
    arguments: list[str], code: int, line: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qwenvl.inference.compare.load", lambda *_: pytest.fail("a model was loaded"))
    assert compare(*arguments) == code
    assert line in capsys.readouterr().err


def test_the_chat_models_of_the_package_are_compared_by_default() -> None:
    assert set(chat_models()) <= set(builtin_models())
    assert "qwen-vl-nano-chat" in chat_models() and "qwen-vl-nano" not in chat_models()


def reply(text: str) -> Reply:
    return Reply.read(text, Markup(), [(28, 28)], [(100, 50)], Usage(9, 3, 4), "stop")


@pytest.mark.parametrize("size", [(1, 1), (2000, 10), (10, 2000), (640, 480)])
def test_any_picture_number_and_length_can_be_drawn(size: tuple[int, int]) -> None:
    answers = ["", "<box>(0,0),(999,999)</box>", "一只狗" * 200, "x" * 1000, TAGS]
    outcomes = [*(Outcome(f"/a/model-{number}", reply(text), 1.0) for number, text in enumerate(answers)), Outcome("b", error="no")]
    drawn = draw_comparison(Image.new("RGB", size, "gray"), "Where is the dog? " * 30, outcomes)
    assert drawn.mode == "RGB" and drawn.width <= 4 * (SIDE + MARGIN) + MARGIN
    assert (np.asarray(drawn)[:, -MARGIN:] == 255).all() and (np.asarray(drawn)[-MARGIN:] == 255).all(), "nothing at the edges"


@pytest.mark.parametrize("text", ["", "one", "one two three four five six seven", "字" * 60, "averyveryverylongwordindeed" * 4])
def test_wrapped_lines_fit_and_lose_nothing_but_what_is_cut_off(text: str) -> None:
    fonts = find_fonts(16)
    lines = wrap(text, fonts, 120, 99)
    assert all(length_of(line) <= 120 for line in lines)
    written = "".join(words for line in lines for _, words in line)
    spelt = "".join(words for _, words in [run for line in wrap(text, fonts, 10**6, 1) for run in line])
    assert written.replace(" ", "") == spelt.replace(" ", "")
    assert len(wrap(text, fonts, 120, 2)) <= 2


def test_the_cost_of_a_picture_and_of_a_clip_can_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    def cost(*arguments: str) -> dict[str, object]:
        assert main(["model", "info", *arguments, "--json"]) == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    assert cost("qwen2.5-vl-7b", "--picture", "224x28")["visual_tokens"] == 8
    assert cost("qwen2.5-vl-7b", "--picture", "1920X1080", "--max-pixels", str(100 * 784))["visual_tokens"] == 91  # 13 x 7
    assert cost("qwen-vl-7b", "--picture", "1920x1080")["visual_tokens"] == 256
    clip = cost("qwen2-vl-7b", "--picture", "280x280", "--seconds", "10", "--fps", "1")
    assert (clip["frames"], clip["width"], clip["visual_tokens"]) == (10, 336, 5 * 144)  # enlarged to at least 128 tokens
    assert cost("qwen2-vl-7b", "--picture", "280x280", "--seconds", "10")["frames"] == 20


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["qwen2-vl-7b", "--picture", "big"], 2, "write width and height in pixels, as 1920x1080"),
        (["qwen2-vl-7b", "--picture", "3000x10"], 1, "300 times the other, and 200 is the limit"),
        (["qwen2-vl-7b", "--max-pixels", "9"], 2, "give --picture WIDTHxHEIGHT too"),
        (["qwen-vl-7b", "--picture", "10x10", "--seconds", "1"], 1, "qwen_vl takes no video"),
        (["qwen2-vl-7b", "--picture", "10x10", "--seconds", "0"], 2, "above 0"),
    ],
)
def test_a_cost_that_cannot_be_told_is_one_line(
    arguments: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "info", *arguments]) == code
    assert line in capsys.readouterr().err
