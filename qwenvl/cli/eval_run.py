"""What `qwenvl eval run` does: tasks x models, each in a folder of its own, resumable, on one process or several."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from qwenvl.cli.addresses import api_at, is_address
from qwenvl.cli.options import Device, Flag, FromOne, FromZero, OutFolder, SomeOf, Text, UsageError
from qwenvl.cli.progress import progress

if TYPE_CHECKING:
    from qwenvl.eval.asking import Answerer
    from qwenvl.eval.benchmark import Benchmark
    from qwenvl.eval.runner import Share
    from qwenvl.eval.task import Question

SCENES_LIMIT = 500
ROOT = Path("data/eval")


@dataclass(frozen=True)
class Run:
    """Ask models the questions of tasks, save their answers, score them.

    Interrupted, it loses one batch: the same command goes on from there.
    """

    tasks: tyro.conf.Positional[tuple[str, ...]]
    """What to measure: `scenes` (drawn pictures with known contents, made on the spot), or benchmarks of `qwenvl eval tasks`."""
    model: tuple[str, ...] = ("qwen-vl-nano",)
    """Built-in models' names, folders, hub ids, or addresses of OpenAI-compatible servers (http://HOST:PORT/v1#MODEL)."""
    data: Path = ROOT
    """The folder in which each benchmark has one of its own: DATA/vqav2, ... (`qwenvl eval check` says what must lie there)."""
    split: Text = None
    """The split to ask, by default a benchmark's first."""
    prompt: Text = None
    """The wording: paper (for base models) or chat; by default what fits the model."""
    shots: tuple[FromZero, ...] = (0,)
    """Examples before each question, never from the split that is asked. Of several numbers each is a run of its own."""
    limit: SomeOf = None
    """The first so many questions of a benchmark; scenes of each kind, by default 500."""
    seed: FromZero = 1
    """Which held-out scenes, none of which is ever trained on; which examples."""
    batch: FromOne = 64
    """Questions answered at a time, at most."""
    batch_tokens: FromOne = 16384
    """Tokens of these, prompts padded and answers included, at most; a longer question is asked alone."""
    processes: FromOne = 1
    """Processes on this machine that share the questions out."""
    out: OutFolder = None
    """Folder for answers and scores of one task and model; by default one named after both, under runs/eval."""
    like: str = "qwen2_5_vl"
    """How the model at an address writes places and sees pictures: a family (qwen_vl, qwen2_vl, qwen2_5_vl) or a preset's name."""
    concurrency: FromOne = 8
    """Requests at work at the same time, at an address."""
    dry_run: Flag = False
    """Ask nothing: print the first prompts, and write them with their pictures to OUT/dry_run.html."""
    json: Flag = False
    """Print JSON instead of a table."""
    device: Device = None
    """By default CUDA where there is one."""


def run(options: Run, arguments: list[str]) -> int:
    from qwenvl.cli.eval_score import show
    from qwenvl.eval.task import EvaluationError
    from qwenvl.eval.tasks import SCENES

    if not options.tasks:
        raise UsageError("name a task: scenes, or benchmarks of `qwenvl eval tasks`")
    several = len(options.tasks) * len(options.model) * len(options.shots)
    for task in options.tasks:
        check_task(task, options)  # before a model is loaded
    if options.out is not None and several > 1:
        raise EvaluationError(f"--out is for one task, model and number of examples, and these are {several}; leave it out")
    if options.processes > 1 and "WORLD_SIZE" not in os.environ:
        from qwenvl.train.parallel import start_ranks

        return start_ranks(options.processes, ["eval", *arguments])
    with shared() as share:
        folders = []
        for model in options.model:
            answerer = answerer_of(model, options)
            for task in options.tasks:
                # Scenes come without examples.
                for count in options.shots if task != SCENES else (0,):
                    folders.append(run_one(task, model, answerer, options, share, count))
        if share.rank == 0 and not options.dry_run:
            show(folders, options.json)
    return 0


def check_task(task: str, options: Run) -> None:
    """Raises EvaluationError for a task, split or wording that there is not, and for files that do not lie where they must."""
    from qwenvl.eval.check_data import missing_files
    from qwenvl.eval.task import EvaluationError
    from qwenvl.eval.tasks import SCENES, benchmark_named

    if task == SCENES:
        return
    benchmark, folder = benchmark_named(task), options.data / task
    benchmark.prompt(options.prompt, "raw")
    if missing := missing_files(benchmark, benchmark.split(options.split), folder):
        raise EvaluationError(f"{missing}; see: qwenvl eval check {task} --data {options.data}")


def run_one(task: str, model: str, answerer: Answerer, options: Run, share: Share, shown: int) -> Path:
    """Ask and save, or show what would be asked; the folder of the run."""
    from qwenvl.eval.runner import open_run, predict
    from qwenvl.eval.tasks import SCENES, benchmark_named

    if task == SCENES:
        questions, settings = scenes_of(model, answerer, options)
    else:
        questions, settings = benchmark_of(benchmark_named(task), model, answerer, options, shown)
    folder = options.out or default_folder(settings, options.seed)
    if options.dry_run:
        if share.rank == 0:
            dry_run(questions, answerer, folder.parent)
        return folder
    if share.rank == 0:
        open_run(folder, settings)
    share.wait()
    try:
        own = len(questions[share.rank :: share.size])
        with progress(f"asking {task}", own, hidden=share.rank > 0) as advance:
            predict(questions, answerer, folder, options.batch, advance, share)
    except KeyboardInterrupt:
        if share.rank == 0:
            print(f"qwenvl: the answers so far are in {folder}; the same command goes on from there", file=sys.stderr)
        raise
    return folder


@contextmanager
def shared() -> Iterator[Share]:
    """This process's part of the questions, among those that `--processes` or torchrun started."""
    from qwenvl.eval.runner import Share

    if "WORLD_SIZE" not in os.environ:
        yield Share()
        return
    from qwenvl.train.parallel import joined

    with joined() as world:
        yield Share(world.rank, world.size, world.wait)


def answerer_of(model: str, options: Run) -> Answerer:
    if is_address(model):
        from qwenvl.eval.remote import RemoteAnswerer

        return RemoteAnswerer(api_at(model), options.like, options.concurrency, options.seed)
    from qwenvl.eval.asking import ModelAnswerer
    from qwenvl.inference.model import load

    device = options.device
    if device is None and "WORLD_SIZE" in os.environ:
        from qwenvl.train.parallel import World

        device = str(World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])).device)  # each has a GPU of its own
    return ModelAnswerer(load(model, device=device), options.batch_tokens)


def scenes_of(model: str, answerer: Answerer, options: Run) -> tuple[list[Question], dict[str, Any]]:
    from qwenvl.eval.tasks import scenes

    limit = options.limit or SCENES_LIMIT
    with progress("drawing scenes", scenes.scene_count(limit, answerer)) as advance:
        questions = scenes.questions(limit, options.seed, answerer, advance)
    return questions, describe(model) | scenes.settings(questions, limit, options.seed, answerer)


def benchmark_of(
    benchmark: Benchmark, model: str, answerer: Answerer, options: Run, shown: int
) -> tuple[list[Question], dict[str, Any]]:
    from qwenvl.eval.benchmark import Shots, questions
    from qwenvl.eval.drawn import MARK
    from qwenvl.eval.runs import settings
    from qwenvl.eval.task import EvaluationError

    split = benchmark.split(options.split)
    if is_address(model):
        from qwenvl.eval.remote import wording_for_chat

        version = wording_for_chat(benchmark, options.prompt)
    else:
        version = benchmark.prompt(options.prompt, answerer.style)
    shots, folder = Shots(shown, options.seed), options.data / benchmark.name
    with progress(f"reading {benchmark.name}", None) as advance:
        asked = []
        for question in questions(benchmark, folder, split, version, answerer, shots, options.limit):
            asked.append(question)
            advance(1)
    if not asked:
        see = f"qwenvl eval check {benchmark.name} --data {options.data}"
        raise EvaluationError(f"{folder} holds no question of {split}; see: {see}")
    told = settings(benchmark, split, version, asked, answerer, shots, options.limit)
    drawn = {"drawn": True} if (folder / MARK).exists() else {}
    return asked, describe(model) | told | {"folder": str(folder)} | drawn


def describe(model: str) -> dict[str, Any]:
    """What was measured: the model by its name as given, and by what its files hold."""
    from qwenvl.eval.runner import fingerprint, versions
    from qwenvl.weights.hub import resolve

    told = {"versions": versions("qwenvl", "torch", "numpy", "pillow")}
    if is_address(model):
        address, _, name = model.partition("#")
        return {"model": name or address, "fingerprint": {"address": address}, **told}
    name = Path(model).resolve().name if Path(model).is_dir() else model
    return {"model": name, "fingerprint": fingerprint(resolve(model)), **told}


def default_folder(settings: Mapping[str, Any], seed: int) -> Path:
    name = settings["model"].replace("/", "-").replace(":", "-")
    start = f"{settings['task']}-{name}-{settings['fingerprint'].get('weights', 'remote')[:8]}"
    if "key" in settings:
        return Path("runs/eval") / f"{start}-{settings['split']}-{settings['key'][:8]}"
    return Path("runs/eval") / f"{start}-n{settings['n']}-seed{seed}"


FIRST = 3


def dry_run(questions: list[Question], answerer: Answerer, folder: Path) -> None:
    """Print the first prompts; write them with their pictures as a page."""
    from qwenvl.eval.dry_run import write_dry_run
    from qwenvl.eval.runner import told

    shown = [(question, answerer.written(question)) for question in questions[:FIRST]]
    for question, text in shown:
        print(f"--- {question.id} ({told(question.decoding)})\n{text}")
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"dry_run_{questions[0].task}.html"
    page.write_text(write_dry_run(shown), encoding="utf-8")
    print(f"{len(questions)} questions; the first {len(shown)} with their pictures: {page}")
