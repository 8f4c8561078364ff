"""`qwenvl eval` from the command line, with a shipped nano model or a server that is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwenvl.cli.main import main
from qwenvl.eval.runner import PREDICTIONS, RUN
from qwenvl.eval.task import Prediction
from qwenvl.weights.hub import resolve
from tests.fake_api import FakeApi, serve
from tests.fast.test_eval_pages import Page
from tests.fast.test_eval_runs import files_of

BENCHMARKS = ("vqav2", "refcoco", "refcoco_plus", "touchstone", "grit_refexp", "mmlu")
Command = Callable[..., tuple[int, str, str]]
"""Arguments after `qwenvl eval` -> exit code, what it printed, what it said on stderr."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in BENCHMARKS:
        files_of(name, folder)
    return folder


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["eval", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def asked(command: Command, data: Path) -> Command:
    """`qwenvl eval run` of tasks, with what is the same in every test."""
    return lambda *arguments: command("run", *arguments, "--data", data, "--device", "cpu")


def folders() -> list[Path]:
    return sorted(path.parent for path in Path("runs/eval").glob(f"*/{RUN}"))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / PREDICTIONS).read_text(encoding="utf-8").splitlines()]


def test_two_benchmarks_are_asked_scored_reported_and_compared(command: Command, asked: Command) -> None:
    code, out, err = asked("vqav2", "refcoco")
    assert (code, err) == (0, "")
    assert all(words in out for words in ("vqav2 val", "refcoco val", "vqa_accuracy", "acc_iou_50", "qwen-vl-nano"))
    refcoco, vqav2 = folders()
    assert refcoco.name.startswith("refcoco-qwen-vl-nano-") and str(vqav2) in out and len(lines(vqav2)) == 2

    before = (vqav2 / PREDICTIONS).read_bytes()
    assert asked("vqav2")[0] == 0 and (vqav2 / PREDICTIONS).read_bytes() == before, "asked once: it has its seconds of then"

    code, out, err = command("score", vqav2, "--json")
    scores = json.loads(out)
    assert (code, err, scores["answered"], scores["task"]) == (0, "", 2, "vqav2")
    assert set(scores["scores"]) == {"vqa_accuracy", "vqa_accuracy_script"}
    assert scores == json.loads((vqav2 / "scores.json").read_text())
    assert [run["task"] for run in json.loads(command("score", refcoco, vqav2, "--json")[1])] == ["refcoco", "vqav2"]
    code, out, _ = command("score", vqav2, "--markdown")
    assert code == 0 and "| VQAv2 | val | qwen-vl-nano | vqa_accuracy |" in out

    assert asked("vqav2", "--prompt", "chat")[0] == 0 and len(folders()) == 3
    chat = next(folder for folder in folders() if folder not in (refcoco, vqav2))
    code, out, err = command("explain", vqav2, chat)
    assert code == 0 and "prompt.version: paper | chat" in out and "style: raw | chat" in out and "data" not in out
    assert "vqa_accuracy over 2 shared questions: " in out and "questions with other points:" in out
    code, _, err = command("explain", refcoco, vqav2)
    assert code == 1 and "asked refcoco val and vqav2 val; compare runs of one benchmark and split" in err

    code, out, err = command("report", "runs/eval", "--out", "pages/report.html")
    assert (code, err) == (0, "") and "pages/report.html" in out
    page = Page(Path("pages/report.html").read_text(encoding="utf-8"))
    assert len(page.named("image")) == 6 and "Paired bootstrap" in page.text and "RefCOCO" in page.text
    assert Path("pages/report.md").read_text(encoding="utf-8").count("\n| ") == 3
    assert len(json.loads(Path("pages/report.json").read_text(encoding="utf-8"))["runs"]) == 3


def test_the_first_prompts_are_shown_before_anything_is_asked(asked: Command) -> None:
    code, out, err = asked("vqav2", "--dry-run")
    assert (code, err) == (0, "") and not folders()
    assert "--- val/262148000 (greedy max=10 min=1)\n<img><imgpad></img>Where is he looking? Answer:" in out
    page = Page(Path("runs/eval/dry_run_vqav2.html").read_text(encoding="utf-8"))
    assert len(page.named("img")) == 2 and "Is it red? Answer:" in page.text and '"yes"' not in page.text


def test_withheld_answers_are_handed_in(command: Command, asked: Command) -> None:
    code, out, _ = asked("grit_refexp")
    (folder,) = folders()
    assert code == 0 and f"grit_refexp test: answers are withheld; hand in {folder}/refexp.json\n" in out
    assert len(json.loads((folder / "refexp.json").read_text())) == 2
    (folder / "refexp.json").unlink()
    code, out, err = command("score", folder, "--json")
    assert code == 0 and json.loads(out)["scores"] == {} and "hand in" in err and (folder / "refexp.json").is_file()
    kept = (folder / PREDICTIONS).read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / PREDICTIONS).write_text(kept[0], encoding="utf-8")
    code, _, err = command("score", folder)
    assert code == 1 and "1 of 2 questions are answered" in err and "1 questions have no answer yet" in err
    code, out, _ = asked("grit_refexp", "--limit", 1, "--out", "one")
    assert code == 0 and "it has 1 questions alone" in out


def test_a_folder_holds_one_run_of_one_model(command: Command, asked: Command, data: Path) -> None:
    code, _, err = asked("vqav2", "refcoco", "--out", "here")
    assert code == 1 and "--out is for one task, model and number of examples, and these are 2" in err and not Path("here").exists()
    assert asked("vqav2", "--out", "here")[0] == 0
    code, _, err = asked("vqav2", "--out", "here", "--model", "qwen2-vl-nano")
    assert code == 1 and err.startswith("qwenvl: here holds another evaluation (") and "give another --out" in err
    code, _, err = asked("vqav2", "--out", "here", "--shots", 1)
    assert code == 1 and "here holds another evaluation (" in err
    shutil.copytree(data, "moved")
    Path("here", PREDICTIONS).unlink()
    moved = command("run", "vqav2", "--out", "here", "--data", "moved", "--device", "cpu")
    assert moved[0] == 0 and Path("here", PREDICTIONS).is_file(), "the same files elsewhere are the same data"


def test_examples_of_several_numbers_are_runs_of_their_own(asked: Command) -> None:
    assert asked("vqav2", "--shots", 0, 2)[0] == 0
    shots = {json.loads((folder / RUN).read_text())["shots"]["count"]: lines(folder)[0]["prompt"] for folder in folders()}
    assert set(shots) == {0, 2} and [shots[count].count("<img>") for count in (0, 2)] == [1, 3]
    assert shots[2].endswith(shots[0]) and shots[2].count("Answer: ") == 2, "each example with its answer"
    code, _, err = asked("vqav2", "--shots", 3)
    assert code == 1 and "train has 2 examples for" in err and "give fewer --shots" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("vqav3",), 1, "no benchmark 'vqav3'; known: scenes, vqav2"),
        (("vqav2", "--split", "tset"), 1, "vqav2 has no split 'tset'; known: val, testdev, test, train"),
        (("vqav2", "--prompt", "poem"), 1, "vqav2 has no prompt 'poem'; known: paper, chat"),
        (("refcoco", "--shots", "1"), 1, "refcoco: no split to take examples from for val; leave --shots out"),
        (("okvqa",), 1, "okvqa val: no OpenEnded_mscoco_val2014_questions.json"),
        (("vqav2", "--split", "test"), 1, "vqav2 test: no **/v2_OpenEnded_mscoco_test2015_questions.json in "),
        (("vqav2", "--model", "no-such-model"), 1, "no-such-model"),
        (("vqav2", "--limit", "0"), 2, "0 is too small"),
        ((), 2, "name a task: scenes, or benchmarks of `qwenvl eval tasks`"),
    ],
)  # fmt: skip
def test_what_there_is_not_is_one_line_before_anything_is_asked(
    arguments: tuple[str, ...], code: int, said: str, asked: Command
) -> None:
    found, out, err = asked(*arguments)
    assert (found, out) == (code, "") and said in err and not folders()
    if "small" not in said:  # what is wrong with an option stands in a box
        assert err.startswith("qwenvl: ") and err.count("\n") == 1


def test_a_split_without_a_question_is_told(asked: Command) -> None:
    """Of RefCOCO+ one file has all splits, and the fixture's has testB alone."""
    code, _, err = asked("refcoco_plus", "--split", "testA")
    assert code == 1 and err.count("\n") == 1 and not folders()
    assert "refcoco_plus holds no question of testA; see: qwenvl eval check refcoco_plus --data " in err


def test_files_are_checked_without_a_model(command: Command, data: Path) -> None:
    code, out, _ = command("check", "refcoco", "vqav2", "--data", data)
    told = out.splitlines()
    assert code == 1 and "vqav2 val: ready" in told and "refcoco val: ready" in told
    assert any(line.startswith("vqav2 test: no **/v2_OpenEnded_mscoco_test2015") for line in told)
    assert sum(line.startswith("  where to get ") for line in told) == 2
    code, out, _ = command("check", "touchstone", "--data", data)
    assert (code, out) == (0, "touchstone en: ready\ntouchstone zh: ready\n")
    code, out, _ = command("check", "--data", "nowhere")
    assert code == 1 and out.count("  where to get ") > 40 and "Traceback" not in out
    assert "scenes are drawn on the spot" in command("check", "scenes")[2]


def test_a_benchmark_is_told_with_its_wordings_and_their_sources(command: Command) -> None:
    code, out, _ = command("tasks")
    assert code == 0 and len(out.splitlines()) > 40 and "vqav2" in out
    code, out, _ = command("tasks", "refcoco")
    assert code == 0 and "split testA: " in out and "measure: acc_iou_50" in out
    assert "prompt paper (raw; QwenLM/Qwen-VL @ aa00ed0" in out
    code, _, err = command("tasks", "refcocoo")
    assert code == 1 and "no benchmark 'refcocoo'" in err


def test_runs_that_have_no_answers_yet_are_left_out_of_a_report(command: Command, asked: Command) -> None:
    assert asked("vqav2")[0] == 0
    (folder,) = folders()
    shutil.copytree(folder, folder.with_name("zz"))
    Path(folder.with_name("zz"), PREDICTIONS).unlink()
    code, _, err = command("report", "runs/eval", "--out", "report.html")
    assert code == 0 and "left out: runs/eval/zz: no predictions there yet" in err
    code, _, err = command("report", folder.with_name("zz"), "--out", "report.html")
    assert code == 1 and "no predictions there yet" in err
    for arguments in (("report",), ("report", "nowhere"), ("score", "nowhere"), ("score",), ("explain", folder, "nowhere")):
        code, _, err = command(*arguments)
        assert code == 1 and err.startswith("qwenvl: ") and err.count("\n") == 1


def in_words(body: dict[str, Any], number: int) -> str | tuple[int, dict[str, str], bytes]:
    words = json.dumps(body["messages"][-1]["content"])
    return (400, {}, b'{"error": {"message": "too red"}}') if "red" in words and number < 2 else "down"


def test_a_model_at_an_address_is_asked_in_the_wording_for_chat(command: Command, asked: Command) -> None:
    with serve(FakeApi(in_words)) as fake:
        model = f"{fake.url}#org/m"
        code, _, err = asked("vqav2", "--model", model)
        (folder,) = folders()
        assert code == 0 and folder.name.startswith("vqav2-org-m-remote-val-")
        assert f"{folder}: 1 questions got no answer and earned nothing; the same `eval run` asks them again" in err
        assert all(body["model"] == "org/m" and body["path"] == "/v1/chat/completions" for body in fake.bodies)
        asked_words = [body["messages"][-1]["content"][-1]["text"] for body in fake.bodies]
        assert all(words.endswith("\nAnswer the question using a single word or phrase.") for words in asked_words)
        run = json.loads((folder / RUN).read_text())
        assert (run["prompt"]["version"], run["style"], run["fingerprint"]) == ("chat", "chat", {"address": fake.url})
        assert {line["id"]: (line["reply"], line.get("error", "")) for line in lines(folder)} == {
            "val/262148000": ("down", ""), "val/42001": ("", "HTTP 400: too red"),
        }  # fmt: skip
        code, _, err = asked("vqav2", "--model", model)
        assert (code, err, len(fake.bodies)) == (0, "", 3), "only what failed is asked again"
        assert [line.get("error") for line in lines(folder)] == [None, None]
        assert asked("vqav2", "--model", model)[0] == 0 and len(fake.bodies) == 3

        for arguments in (("mmlu",), ("refcoco", "--prompt", "paper")):
            code, _, err = asked(*arguments, "--model", model)
            assert code == 1 and f"{arguments[0]}: no wording asks for an answer in words; give the model as a folder" in err
        code, _, err = asked("vqav2", "--model", model, "--prompt", "poem")
        assert code == 1 and "vqav2 has no prompt 'poem'" in err
        code, _, err = asked("vqav2", "--model", model, "--like", "gpt")
        assert code == 1 and "unknown model 'gpt'" in err
    code, _, err = asked("vqav2", "--model", fake.url)
    assert code == 2 and "give address and model, as in http://localhost:8000/v1#MODEL" in err


def liking_red(body: dict[str, Any], number: int) -> str:
    words = body["messages"][1]["content"]
    return "no scores" if "poem" in words and "Assistant 1's Answer]\nRed is" in words else "9 3"


def test_a_judge_is_asked_once_and_its_failures_are_counted(command: Command, asked: Command) -> None:
    code, out, err = asked("touchstone")
    (folder,) = folders()
    assert code == 0 and "overlap" in out
    assert f"nobody judged 2 of these answers yet; let a model do so: qwenvl eval score {folder} --judge " in err
    with serve(FakeApi(liking_red)) as fake:
        judge = ("score", folder, "--judge", f"{fake.url}#gpt", "--price-in", "10", "--price-out", "30")
        code, out, err = command(*judge)
        assert code == 0 and len(fake.bodies) == 4 and "4 requests (0 retries), 0 replies from disk" in err and "cost 0.0064" in err
        assert "1 of 4 verdicts failed: no two scores in its first line 1" in err and "nobody judged" not in err
        assert "judge" in out and "judge_failed" in out
        code, again, err = command(*judge)
        assert code == 0 and len(fake.bodies) == 4 and "4 replies from disk" in err and again == out
    code, out, err = command("score", folder, "--json")
    scores = json.loads(out)["scores"]
    assert (code, err) == (0, "") and scores["judge_failed"]["value"] == 0.25 and scores["judge"]["n"] == 2
    about = json.loads((folder / "judge.json").read_text())
    assert (about["model"], about["judged"], about["rounds"]) == ("gpt", 2, 4)
    verdicts = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
    assert [verdict["id"] for verdict in verdicts] == [line["id"] for line in lines(folder)]

    assert asked("vqav2", "--out", "rules")[0] == 0
    code, _, err = command("score", "rules", "--judge", "http://127.0.0.1:9/v1#gpt")
    assert code == 1 and "rules: vqav2 is scored by rules, without a judge; leave --judge out" in err


def test_r4_prompt_pixels_decoding_split_and_scorer_are_pinned_saved_hashed_and_shown_with_interval_and_published_number(
    command: Command, asked: Command, data: Path
) -> None:
    """Requirement R4. That the hash follows each of these is in test_eval_runs.py."""
    shutil.copytree(resolve("qwen-vl-nano"), "Qwen-VL")
    code, out, _ = asked("refcoco", "--model", "Qwen-VL", "--json")
    (folder,) = folders()
    run, scores = json.loads((folder / RUN).read_text()), json.loads(out)
    assert code == 0 and run.items() <= (scores | {"markup": run["markup"]}).items()
    # pinned and saved, with what was asked of what
    assert (run["task"], run["split"], run["version"], run["model"]) == ("refcoco", "val", 1, "Qwen-VL")
    assert run["prompt"]["text"] and "QwenLM/Qwen-VL @ aa00ed0" in run["prompt"]["source"] and len(run["prompt"]["hash"]) == 12
    assert run["decoding"].startswith("greedy max=") and run["pixels"] == {"kind": "square", "size": [112, 112]}
    assert all(len(run[part]) == 12 for part in ("key", "data")) and set(run["fingerprint"]) == {"config", "vocabulary", "weights"}
    assert run["key"][:8] == folder.name[-8:] and {"python", "qwenvl", "torch"} <= run["versions"].keys()
    for line in lines(folder):
        assert {"prompt", "prompt_tokens", "image_tokens", "pixels", "decoding", "seconds", "truth"} <= line.keys() <= fields()
        assert line["pixels"] == [[112, 112]] and line["decoding"] == run["decoding"] and "<imgpad>" in line["prompt"]
    # shown with its interval, and beside the published number
    score = scores["scores"][scores["measure"]]
    assert score["low"] <= score["value"] <= score["high"] and score["interval"] == "wilson" and score["n"] == 2
    assert scores["published"] == 89.36
    ours = f"{100 * score['value']:.1f} ({100 * score['low']:.1f}–{100 * score['high']:.1f})"
    assert command("report", folder, "--out", "report.html")[0] == 0
    page, table = Page(Path("report.html").read_text(encoding="utf-8")), Path("report.md").read_text(encoding="utf-8")
    apart = f"{100 * score['value'] - 89.36:+.1f}"
    assert f"RefCOCO val Qwen-VL acc_iou_50 {ours} 89.36 {apart}" in page.text and f"| {ours} | 89.36 | {apart} | " in table
    assert f"key {run['key']}, {run['prompt']['source']}" in page.text
    # and a run that asks anything else is another one
    code, _, err = asked("refcoco", "--model", "Qwen-VL", "--out", folder, "--prompt", "chat")
    assert code == 1 and "holds another evaluation" in err


def fields() -> set[str]:
    return set(Prediction.__dataclass_fields__)
