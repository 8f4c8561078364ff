"""`qwenvl eval run` as a process of its own: killed and taken up again, on two ranks, in batches, the answers are the same; and its
page is opened by a real browser."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.documents import second_browser
from qwenvl.cli.main import main
from qwenvl.data.documents.html import CHROMIUM
from qwenvl.eval.asking import ModelAnswerer
from qwenvl.eval.benchmark import questions
from qwenvl.eval.tasks import benchmark_named
from qwenvl.inference.model import load
from tests.fast.eval_fixtures.drawn import drawn
from tests.fast.eval_fixtures.vqa import HEAD, ten, vqa_answers, write
from tests.fast.test_eval_runs import files_of
from tests.slow import forks

COUNT = 80
WORDS = ("Is it red?", "What colour is the box?", "How many boxes are there in the picture, and where are they?", "What is it?")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VQAv2 with many questions, of several lengths, about pictures of several sizes."""
    folder = tmp_path_factory.mktemp("data")
    files = files_of("vqav2", folder)
    asked, answers = [], []
    for number in range(COUNT):
        image, size = 100 + number % 7, (80 + 40 * (number % 7), 200 - 20 * (number % 7))
        asked.append({"image_id": image, "question": WORDS[number % len(WORDS)], "question_id": 1000 + number})
        answers.append((1000 + number, image, "other", ten("red", "yes")))
        drawn(size, (10, 10, size[0] // 2, size[1] // 2)).save(files / "val2014" / f"COCO_val2014_{image:012d}.jpg")
    write(files / "v2_OpenEnded_mscoco_val2014_questions.json", {**HEAD, "data_subtype": "val2014", "questions": asked})
    vqa_answers(files, "v2_mscoco_val2014_annotations.json", "val2014", answers)
    return folder


def command(data: Path, out: Path, *more: str) -> tuple[list[str], Path]:
    """Of `qwenvl`, and where it writes what it says."""
    arguments = ["eval", "run", "vqav2", "--data", str(data), "--device", "cpu", "--batch", "4", "--out", str(out), *more]
    return arguments, out.with_suffix(".log")


def lines(out: Path) -> list[dict[str, Any]]:
    """What the run has written, without the seconds that it took."""
    found = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(line.pop("seconds") > 0 for line in found)
    return found


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], list[dict[str, Any]]]:
    @cache
    def run() -> list[dict[str, Any]]:
        out = tmp_path_factory.mktemp("whole") / "out"
        assert forks.run(*command(data, out), timeout=120).returncode == 0
        return lines(out)

    return run


def written(out: Path) -> int:
    """Lines, also torn ones, of all processes."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("predictions.part*.jsonl"))


def stopped(arguments: list[str], log: Path, out: Path, least: int, number: signal.Signals, ranks: bool = False) -> int:
    """Start the command, send the signal once so many answers are there, and return the exit code."""
    process = forks.Command(arguments, log)
    deadline = time.monotonic() + 60
    while written(out) < least:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.002)
    started = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split() if ranks else []
    for pid in (process.pid, *map(int, started)):
        os.kill(pid, number)
    return process.wait(60)


def test_killed_and_interrupted_and_taken_up_again_it_writes_what_an_unbroken_run_does(
    data: Path, unbroken: Callable[[], list[dict[str, Any]]], tmp_path: Path
) -> None:
    whole = unbroken()
    assert len(whole) == COUNT and len({line["reply"] for line in whole}) > 1
    out = tmp_path / "out"
    arguments, log = command(data, out)
    assert stopped(arguments, log, out, 9, signal.SIGKILL) == -signal.SIGKILL
    kept = written(out)
    assert 9 <= kept < COUNT and not (out / "predictions.jsonl").exists()
    part = out / "predictions.part0.jsonl"
    with part.open("a", encoding="utf-8") as file:
        file.write('{"id": "val/1000", "task": "vqav2", "torn')  # as a kill within a write leaves it
    assert stopped(arguments, log, out, kept + 17, signal.SIGINT) == 130
    said = log.read_text(encoding="utf-8").splitlines()
    assert said == [f"qwenvl: the answers so far are in {out}; the same command goes on from there", "qwenvl: interrupted"]
    assert kept + 17 <= written(out) < COUNT
    before = part.read_bytes()
    assert forks.run(arguments, log, timeout=120).returncode == 0
    assert lines(out) == whole and not part.exists() and log.read_text(encoding="utf-8") == ""
    asked_before = [json.loads(line)["id"] for line in before.splitlines()]
    assert len(set(asked_before)) == len(asked_before), "nothing was asked twice"


def test_two_ranks_write_what_one_process_does_also_when_they_are_killed(
    data: Path, unbroken: Callable[[], list[dict[str, Any]]], tmp_path: Path
) -> None:
    out = tmp_path / "two"
    assert forks.run(*command(data, out, "--processes", "2"), timeout=120).returncode == 0
    assert lines(out) == unbroken() and json.loads((out / "scores.json").read_text())["answered"] == COUNT
    out = tmp_path / "killed"
    assert stopped(*command(data, out, "--processes", "2"), out, 12, signal.SIGINT) == 130
    assert "Traceback" not in (log := out.with_suffix(".log").read_text(encoding="utf-8"))
    assert log.count("the same command goes on from there") == 1
    kept = written(out)
    stopped(*command(data, out, "--processes", "2"), out, kept + 12, signal.SIGKILL, ranks=True)
    assert kept + 12 <= written(out) < COUNT and len(list(out.glob("predictions.part*.jsonl"))) == 2
    assert forks.run(*command(data, out), timeout=120).returncode == 0
    assert lines(out) == unbroken()


def test_what_is_wrong_on_two_ranks_is_no_traceback(data: Path, tmp_path: Path) -> None:
    """What the first alone meets is said by it, and by the other that it ended for that."""
    both = forks.run(*command(data, tmp_path / "a", "--processes", "2", "--shots", "5"), timeout=120)
    said = both.stderr.splitlines()
    assert both.returncode == 1 and len(said) == 1, "one says what both have met"
    assert said[0].startswith("qwenvl: rank ") and "give fewer --shots" in said[0]
    arguments = (data, tmp_path / "b", "--limit", "4")
    assert forks.run(*command(*arguments), timeout=120).returncode == 0
    first = forks.run(*command(*arguments, "--prompt", "chat", "--processes", "2"), timeout=120)
    assert first.returncode == 1 and f"qwenvl: rank 0: {tmp_path / 'b'} holds another evaluation (" in first.stderr
    assert all(line.startswith("qwenvl: rank ") for line in first.stderr.splitlines())


@pytest.mark.parametrize("name", ["qwen-vl-nano", "qwen2-vl-nano"])
@pytest.mark.parametrize("version", ["paper", "chat"])
def test_a_batch_of_eight_is_answered_as_each_alone(name: str, version: str, data: Path) -> None:
    """Token for token, in float32."""
    model = load(name, device="cpu", dtype="float32")
    answerer = ModelAnswerer(model)
    asked = list(questions(benchmark_named("vqav2"), data / "vqav2", "val", version, answerer, limit=16))
    prompts = [answerer._prompt(question) for question in asked]
    assert len({len(prompt) for prompt in prompts}) > (1 if name == "qwen-vl-nano" else 4)
    length = {"max_new_tokens": 12, "min_new_tokens": 8}  # longer than its answers are, so that more can differ
    together = [reply for begin in (0, 8) for reply in model.generate(prompts[begin : begin + 8], **length)]
    alone = [model.generate([prompt], **length)[0] for prompt in prompts]
    assert [reply.tokens for reply in together] == [reply.tokens for reply in alone]
    assert len({tuple(reply.tokens) for reply in alone}) > 4 and all(len(reply.tokens) >= 8 for reply in alone)


def test_a_run_in_batches_of_eight_writes_what_one_by_one_does(data: Path, tmp_path: Path) -> None:
    for name in ("qwen-vl-nano", "qwen2-vl-nano"):
        for batch in ("1", "8"):
            more = ("--model", name, "--limit", "24", "--batch", batch)
            assert main(command(data, tmp_path / f"{name} {batch}", *more)[0]) == 0
        assert lines(tmp_path / f"{name} 1") == lines(tmp_path / f"{name} 8")


def test_the_report_opens_in_a_browser_without_an_error(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium: apt-get install chromium")
    monkeypatch.chdir(tmp_path)
    for name in ("refcoco", "gqa"):
        if not (data / name).exists():
            files_of(name, data)
    run = ["eval", "run", "--data", str(data), "--device", "cpu", "--limit", "20"]
    assert main([*run, "vqav2", "refcoco", "gqa", "--model", "qwen-vl-nano", "qwen2-vl-nano"]) == 0
    assert main(["eval", "report", "runs/eval", "--out", "report.html"]) == 0
    wrong: list[str] = []
    asked: list[str] = []
    with second_browser() as browser:
        for scheme in ("light", "dark"):
            view = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
            view.on("console", lambda message: wrong.append(message.text))
            view.on("pageerror", lambda error: wrong.append(str(error)))
            view.on("request", lambda request: asked.append(request.url))
            view.goto((tmp_path / "report.html").as_uri())
            view.wait_for_load_state("load")
            assert view.locator("table").count() >= 3 and view.locator("figure svg polygon.true").count() >= 4
            box = view.locator("figure svg polygon.true").first.bounding_box()
            assert box is not None and box["width"] > 20 and box["height"] > 20, "a box is drawn"
            assert view.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
            assert view.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
            view.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
            view.set_viewport_size({"width": 400, "height": 800})
            assert view.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nor on a phone"
    assert not wrong and all(address.startswith(("file:", "data:")) for address in asked)
    paper = {scheme: np.asarray(Image.open(tmp_path / f"{scheme}.png").convert("L"))[5, 5] for scheme in ("light", "dark")}
    assert paper["light"] > 240 and paper["dark"] < 60
