"""What a user can get wrong, through the command itself: one clear line, exit code 1 or 2, and nothing half-written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from qwenvl.cli.main import main
from tests.fast.tiny import make_it_say, picture, write_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one good picture."""
    monkeypatch.chdir(tmp_path)
    picture(1).save("good.png")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command line; an exception other than SystemExit is a traceback to the user."""
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail with one line, write nothing and answer nothing; return that line."""
    before = sorted(Path().rglob("*"))
    code, out, err = run(capsys, *arguments)
    assert code in (1, 2), (code, out, err)
    assert out == ""
    assert err.endswith("\n") and err.count("\n") == 1, err
    assert sorted(Path().rglob("*")) == before
    return err


def broken_pictures(folder: Path) -> dict[str, str]:
    """File -> a word that its error must have."""
    (folder / "text.png").write_text("this is not a picture")
    (folder / "empty.jpg").touch()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    noise.save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "folder.png").mkdir()
    return {
        "missing.png": "no such file", "text.png": "not a picture", "empty.jpg": "not a picture",
        "truncated.jpg": "truncated", "folder.png": "folder", "https://example.org/a.png": "network",
    }  # fmt: skip


def test_a_picture_that_cannot_be_read_is_named(here: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, word in broken_pictures(here).items():
        for pictures in ([name], ["good.png", name]):
            line = fails(capsys, "ask", *pictures, "What is this?", "--model", str(model), "--boxes", "out.png")
            assert name in line and word in line, line
        line = fails(capsys, "chat", name, "--model", str(model))
        assert name in line


def odd_pictures(folder: Path) -> list[str]:
    """Pictures that are unusual, but pictures."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    colours.resize((1, 1)).save(folder / "one.png")
    colours.resize((30000, 10)).save(folder / "wide.png")
    Image.fromarray(rng.integers(0, 65536, (20, 30), dtype=np.uint16)).save(folder / "deep.png")
    colours.convert("CMYK").save(folder / "print.jpg")
    layer = colours.convert("RGBA")
    layer.putalpha(100)
    layer.save(folder / "alpha.png")
    colours.save(folder / "moving.gif", save_all=True, append_images=[colours.rotate(180)])
    turned = Image.Exif()
    turned[0x0112] = 6
    colours.save(folder / "turned.jpg", exif=turned)
    colours.convert("P").save(folder / "palette.png")
    colours.convert("1").save(folder / "bits.png")
    return ["one.png", "wide.png", "deep.png", "print.jpg", "alpha.png", "moving.gif", "turned.jpg", "palette.png", "bits.png"]


def test_an_unusual_picture_is_answered_about_and_drawn_on(
    here: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = odd_pictures(here)
    make_it_say(monkeypatch, *["<ref>dog</ref><box>(0,0),(999,999)</box>"] * len(names))
    for name in names:
        arguments = ["ask", name, "Where?", "--model", str(model), "--json", "--boxes", "out.png", "--max-new-tokens", "200"]
        code, out, err = run(capsys, *arguments)
        assert code == 0, (name, err)
        width, height = Image.open(name).size if name != "turned.jpg" else (20, 30)
        assert json.loads(out)["regions"][0]["pixels"] == pytest.approx([0, 0, width * 0.999, height * 0.999], abs=0.06)
        drawn = Image.open("out.png")
        assert abs(drawn.width / drawn.height - width / height) < 1e-6 * width


@pytest.mark.parametrize("arguments", [[], ["good.png"], ["good.png", ""], ["good.png", "  \n"], [""]])
def test_a_missing_or_empty_question(
    here: Path, model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    line = fails(capsys, "ask", *arguments, "--model", str(model))
    assert "question" in line.lower()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Where is it?", "good.png"], "the question comes last: qwenvl ask good.png 'Where is it?'"),
        (["good.png", "Where", "is", "it?"], "quotes"),
        (["good.png", "good.png"], "is a file"),
        (["Where?", "--boxes", "out.png"], "--boxes needs a picture"),
    ],
)
def test_arguments_in_disorder_are_wrong_usage_with_the_way_out(
    here: Path, model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert words in fails(capsys, "ask", *arguments, "--model", str(model))
    assert main(["ask", *arguments, "--model", str(model)]) == 2


def test_a_prompt_beyond_the_context_is_told_with_counts(
    here: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, "ask", "good.png", "word " * 500, "--model", str(model), "--boxes", "out.png")
    assert {"2555", "4", "320"} <= set(re.findall(r"\d+", line))


def test_a_model_that_is_not_there_or_not_whole_is_named(
    here: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(model / "model.safetensors")
    (here / "bare").mkdir()
    shutil.copytree(model, here / "bent")
    name = "transformer.h.1.mlp.w1.weight"
    save_file(weights | {name: weights[name][:-1].contiguous()}, here / "bent" / "model.safetensors")
    shutil.copytree(model, here / "cut")
    (here / "cut" / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:-100])
    shutil.copytree(model, here / "json")
    (here / "json" / "config.json").write_text("{")
    shutil.copytree(model, here / "mute")
    (here / "mute" / "tokenizer.json").unlink()
    shutil.copytree(model, here / "endless")
    (here / "endless" / "generation_config.json").write_text('{"max_new_tokens": "many"}')
    expected = {
        "no-such-model": ["no-such-model"], "./none": ["none"], "nobody/nothing": ["nobody/nothing"], "bare": ["config.json"],
        "bent": [name, "shape"], "cut": ["model.safetensors"], "json": ["config.json"], "mute": ["tokenizer"],
        "endless": ["generation_config.json", "max_new_tokens"],
    }  # fmt: skip
    for folder, words in expected.items():
        line = fails(capsys, "ask", "good.png", "What is this?", "--model", folder, "--boxes", "out.png")
        assert all(word in line for word in words), line
        assert all(word in fails(capsys, "chat", "--model", folder) for word in words)


@pytest.mark.parametrize("out", ["good.png", ".", "out.docx", "out", "good.png/out.png"])
def test_a_place_where_no_picture_can_be_saved_is_told_before_the_answer(
    here: Path, model: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    good = Path("good.png").read_bytes()
    assert out in fails(capsys, "ask", "good.png", "Where?", "--model", str(model), "--boxes", out)
    assert Path("good.png").read_bytes() == good


@pytest.mark.parametrize(
    "options",
    [
        ["--temperature", "-1"], ["--top-p", "2"], ["--max-new-tokens", "0"], ["--seed", "-1"], ["--seed", "99999999999999999999"],
        ["--device", "toaster"], ["--dtype", "int3"],
    ],
)  # fmt: skip
def test_an_option_out_of_range_is_named(
    here: Path, model: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    for verb in (["ask", "good.png", "Where?"], ["chat"]):
        line = fails(capsys, *verb, "--model", str(model), *options)
        assert options[0].strip("-").replace("-", "_") in line and options[1] in line


def test_an_unknown_option_is_wrong_usage(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "ask", "good.png", "Where?", "--colour", "red")
    assert code == 2 and out == "" and "--colour" in err
