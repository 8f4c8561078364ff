"""What the README shows, on every picture that ships: the built-in model names a thing that is there, and its box lies on it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qwenvl.cli.main import main
from qwenvl.eval.scorers.boxes import box_iou

SAMPLES = Path(__file__).resolve().parents[2] / "qwenvl" / "assets" / "samples"
TRUTH: dict[str, dict[str, Any]] = json.loads((SAMPLES / "truth.json").read_text(encoding="utf-8"))
ENOUGH = 0.5


def phrase(thing: dict[str, Any]) -> str:
    return f"the {thing['colour']} {thing['name']}" if thing["colour"] else f"the {thing['name']}"


def size(thing: dict[str, Any]) -> float:
    left, top, right, bottom = thing["box"]
    return float((right - left) * (bottom - top))


def largest_unique(things: list[dict[str, Any]]) -> dict[str, Any]:
    """The largest emoji or shape whose name no other thing of the picture has, so that "the dog" says which."""
    named = [thing for thing in things if thing["kind"] != "text"]
    often = Counter(phrase(thing) for thing in named)
    return max((thing for thing in named if often[phrase(thing)] == 1), key=size)


def verdict(answer: dict[str, Any], thing: dict[str, Any]) -> str:
    """Empty where the answer names the thing and a box of it overlaps the thing, else what is wrong, with the numbers."""
    boxes = [region for region in answer["regions"] if region["kind"] == "box"]
    if not boxes:
        return f"no box in {answer['text']!r}"
    labels = [str(region["label"] or answer["text"]) for region in boxes]
    overlaps = [box_iou(region["pixels"], thing["box"]) for region in boxes]
    if not any(thing["name"] in label and overlap > ENOUGH for label, overlap in zip(labels, overlaps)):
        return f"{phrase(thing)} at {thing['box']}: answered {answer['text']!r}, overlap {max(overlaps):.2f}"
    return ""


def check(name: str, thing: dict[str, Any], out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ask through the command; the answer must be right, and the picture written with something drawn on it."""
    question = f"Where is {phrase(thing)}? Give its box."
    assert main(["ask", str(SAMPLES / name), question, "--boxes", str(out), "--json", "--device", "cpu"]) == 0
    wrong = verdict(json.loads(capsys.readouterr().out), thing)
    assert not wrong, f"{name}: {wrong}"
    drawn = Image.open(out).convert("RGB")
    assert np.any(np.asarray(drawn) != np.asarray(Image.open(SAMPLES / name).convert("RGB").resize(drawn.size)))


@pytest.mark.parametrize("name", TRUTH)
def test_the_answer_names_a_thing_that_is_there_and_its_box_lies_on_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(name, largest_unique(TRUTH[name]["things"]), tmp_path / "boxes.png", capsys)


def test_make_demo_asks_about_a_thing_that_is_there_and_finds_it(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (repository / "Makefile").read_text(encoding="utf-8").splitlines()
    values = dict(line.split(" ?= ", 1) for line in lines if line.startswith("DEMO_"))
    asked = {f"Where is {phrase(thing)}? Give its box.": thing for thing in TRUTH[values["DEMO_PICTURE"]]["things"]}
    assert values["DEMO_QUESTION"] in asked
    check(values["DEMO_PICTURE"], asked[values["DEMO_QUESTION"]], tmp_path / "boxes.png", capsys)


DOG = {"kind": "emoji", "name": "dog", "colour": None, "box": [10.0, 10.0, 110.0, 110.0]}


def said(label: str | None, *pixels: float) -> dict[str, Any]:
    return {"text": "the dog", "regions": [{"label": label, "kind": "box", "pixels": list(pixels), "image": 0}]}


def test_the_verdict_wants_the_name_and_the_overlap() -> None:
    assert verdict(said("the dog", 10, 10, 110, 100), DOG) == ""
    assert verdict(said(None, 10, 10, 110, 100), DOG) == ""
    assert "overlap 0.90" in verdict(said("the cat", 10, 10, 110, 100), DOG)
    assert "overlap 0.40" in verdict(said("the dog", 10, 10, 110, 50), DOG)
    assert "no box" in verdict({"text": "a dog", "regions": []}, DOG)


def test_the_question_is_about_the_largest_thing_that_is_named_once() -> None:
    twins = [DOG | {"name": "whale", "box": [0, 0, 300, 300]}] * 2
    text = {"kind": "text", "name": "HELLO", "colour": None, "box": [0, 0, 400, 400]}
    small = {"kind": "shape", "name": "star", "colour": "red", "box": [0, 0, 5, 5]}
    assert largest_unique([*twins, text, small, DOG]) is DOG
    assert phrase(small) == "the red star"
