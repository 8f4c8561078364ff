"""Cleaning at size: 20,000 pairs with known faults; of fewer, on Ray, killed at random and resumed; and the scorers."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qwenvl.data.clean.state import open_run
from qwenvl.data.shards import ShardReader
from qwenvl.types import TextPart
from tests.clean_corpus import ACADEMIC, WEB, Case, Maker, config_of, rows_of, unfetched, write_corpus

pytest.importorskip("daft")
pq: Any = pytest.importorskip("pyarrow.parquet")

ROOT = Path(__file__).resolve().parents[2]
ROWS, SHARDS = {"web": 18_000, "academic": 2_000}, {"web": 20, "academic": 4}
FEW, OF_FEW = {"web": 3_000, "academic": 600}, {"web": 8, "academic": 2}
Corpus = tuple[Path, dict[str, list[Case]]]


def made(folder: Path, rows: dict[str, int], shards: dict[str, int], lost: int) -> Corpus:
    cases = {"web": rows_of(WEB, rows["web"], seed=0), "academic": rows_of(ACADEMIC, rows["academic"], seed=1)}
    unfetched(cases["web"], shards["web"], lost)
    for name, of_name in cases.items():
        write_corpus(folder / name, of_name, shards[name])
    return folder, cases


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return made(tmp_path_factory.mktemp("corpus"), ROWS, SHARDS, 200)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("few"), FEW, OF_FEW, 40)[0]


def start(corpus: Path, out: Path, runner: str = "native", workers: int = 2) -> subprocess.Popen[str]:
    """A cleaning process in a group of its own, so that a signal reaches its workers too, as Ctrl-C in a terminal does."""
    command = [sys.executable, "-m", "tests.clean_corpus", str(corpus), str(out), runner, str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=3000)
    assert process.returncode == 0, said


def contents(out: Path) -> dict[str, str]:
    """Digest of every file of a run."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def cleaned(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embedded, in one go."""
    out = tmp_path_factory.mktemp("cleaned") / "out"
    finish(start(corpus[0], out))
    return out


@pytest.fixture(scope="module")
def few_cleaned(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("few_cleaned") / "out"
    finish(start(few, out))
    return out


@pytest.mark.parametrize("name", ROWS)
def test_precision_and_recall_of_every_rule_are_one(corpus: Corpus, cleaned: Path, name: str) -> None:
    folder, cases = corpus[0], corpus[1][name]
    found: list[tuple[str, str]] = []
    with open_run(config_of(folder), cleaned) as run:
        [dataset] = [dataset for dataset in run.config.datasets if dataset.name == name]
        for shard in run.of(dataset):
            doubles = run.doubles(shard)
            for row in pq.read_table(run.verdicts(shard)).to_pylist():
                found.append((doubles[row["place"]][0] if row["place"] in doubles else row["verdict"], row["text"]))
        rules = dataset.ruleset().names + (["not_fetched"] if name == "web" else [])
    assert len(found) == len(cases)
    for rule in rules:
        truth = {number for number, case in enumerate(cases) if case.verdict == rule}
        claimed = {number for number, (verdict, _) in enumerate(found) if verdict == rule}
        assert len(truth) >= 20, f"the corpus has faults for {rule}"
        missed, wrong = truth - claimed, claimed - truth
        said = [(cases[number].kind, cases[number].text[:80]) for number in sorted(missed | wrong)[:5]]
        assert not missed and not wrong, f"{rule}: recall and precision are not 1: {len(missed)} missed, {len(wrong)} wrong: {said}"
    near = {case.kind.removeprefix("not ") for case in cases if case.kind.startswith("not ")}
    assert near >= set(rules) - {"not_fetched"}, "and near-misses"
    assert [text for verdict, text in found if not verdict] == [case.clean for case in cases if not case.verdict]


def test_what_is_written_is_what_stays(corpus: Corpus, cleaned: Path) -> None:
    for name, cases in corpus[1].items():
        kept = [case for case in cases if not case.verdict]
        reader = ShardReader(cleaned / name)
        assert len(reader.files) == SHARDS[name] and len(reader) == len(kept)
        for number in random.Random(0).sample(range(len(kept)), 200):
            sample = reader.sample(number)
            assert sample.images[0].image == kept[number].image
            said = "".join(part.text for part in sample.messages[-1].parts if isinstance(part, TextPart))
            assert said.strip() == kept[number].clean
    report = json.loads((cleaned / "report.json").read_text())
    assert report["total"]["rows"] == sum(ROWS.values()) and report["total"]["not_fetched"] == 200
    assert report["total"]["cleaned"] == sum(not case.verdict for cases in corpus[1].values() for case in cases)


def test_ray_and_embedded_give_the_same_files(few: Path, few_cleaned: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    for _ in range(5):  # Ray gives its node 30 seconds to start, which a busy machine may not keep
        process = start(few, tmp_path / "out", "ray")
        said, _ = process.communicate(timeout=3000)
        if "timed out during startup" not in said:
            break
    assert process.returncode == 0, said
    assert contents(tmp_path / "out") == contents(few_cleaned)


def done(out: Path) -> int:
    """Files that a run has finished."""
    return sum(path.suffix == ".parquet" and not path.name.startswith(".") for path in out.rglob("*"))


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_stopped_at_random_and_started_again_gives_the_same_files(
    few: Path, few_cleaned: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    out, rng = tmp_path / "out", random.Random(stop)
    files = done(few_cleaned)
    # In every stage: among the verdicts, the duplicates, and the shards that are written.
    shards = sum(OF_FEW.values())
    for moment in (rng.randrange(1, shards), rng.randrange(shards, files - shards), rng.randrange(files - shards, files - 1)):
        process = start(few, out, workers=rng.choice([1, 2]))
        while done(out) < moment and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.random() / 4)
        if process.poll() is None:
            os.killpg(process.pid, stop)
        process.communicate(timeout=120)
    finish(start(few, out))
    assert contents(out) == contents(few_cleaned)


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of transformers with random weights, as a folder."""
    transformers: Any = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(number) for number in range(33, 127)]
    vocabulary = {
        token: number
        for number, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"])
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**size, "vocab_size": len(vocabulary), "eos_token_id": len(vocabulary) - 1, "bos_token_id": len(vocabulary) - 2}
    config = transformers.CLIPConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 8}, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(folder)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def test_a_clip_of_transformers_scores_by_the_cosine(tiny_clip: Path) -> None:
    import torch
    from transformers import CLIPModel, CLIPProcessor

    from qwenvl.data.clean.scorers import scorer_factory

    make = Maker(0)
    pictures, texts = [make.picture() for _ in range(3)], ["a dog", "two cats and a very long story", "x"]
    scores = scorer_factory(f"clip:{tiny_clip}")().score(pictures, texts)
    model, processor = CLIPModel.from_pretrained(tiny_clip).eval(), CLIPProcessor.from_pretrained(tiny_clip)
    for picture, text, score in zip(pictures, texts, scores, strict=True):
        with torch.inference_mode():
            logit = model(**processor(text=[text], images=[picture], return_tensors="pt")).logits_per_image
            # CLIP's own logit is the cosine times its temperature.
            assert score == pytest.approx((logit / model.logit_scale.exp()).item(), abs=1e-5)
    assert len(set(scores.tolist())) == 3


def captions_of(scenes: Sequence[str]) -> list[tuple[Image.Image, str]]:
    truth = json.loads((ROOT / "qwenvl/assets/samples/truth.json").read_text(encoding="utf-8"))
    pairs = []
    for name in scenes:
        things = [thing for thing in truth[name]["things"] if thing["kind"] != "text"]
        said = " and ".join(f"a {thing['colour'] + ' ' if thing['colour'] else ''}{thing['name']}" for thing in things)
        pairs.append(
            (
                Image.open(ROOT / "qwenvl/assets/samples" / name).convert("RGB"),
                f"{said} on a {truth[name]['background']} background.",
            )
        )
    return pairs


def test_our_own_model_finds_its_own_caption_more_likely_than_that_of_another_picture() -> None:
    from qwenvl.cli.data_clean import ModelLikelihood

    pairs = captions_of([f"scene-{number}.png" for number in range(1, 7)])
    scorer = ModelLikelihood("qwen-vl-nano")
    pictures, texts = [picture for picture, _ in pairs], [text for _, text in pairs]
    own = scorer.score(pictures, texts)
    other = scorer.score(pictures, texts[1:] + texts[:1])
    assert np.isfinite(own).all() and (own < 0).all()
    assert (own > other).all()
