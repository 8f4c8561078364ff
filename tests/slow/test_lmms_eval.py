"""lmms-eval, a peer's evaluation, asks our server as it asks any OpenAI address; its answers are those that chat gives.

It is not among the development packages, because what it requires would bring torchvision: its own code and what that imports are
put into a folder beside, without their requirements.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qwenvl.inference.engine import Engine
from qwenvl.inference.model import load
from qwenvl.serve.run import in_background

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "qwenvl" / "assets" / "samples"
MODEL = "qwen-vl-nano-chat"
LMMS_EVAL = "lmms-eval==0.7.3"
IMPORTED = (
    "datasets", "evaluate", "loguru", "sacrebleu", "pytablewriter", "jsonlines", "tenacity", "python-dotenv", "dill", "xxhash",
    "multiprocess", "portalocker", "tabulate", "colorama", "sqlitedict", "lxml", "pytz", "DataProperty", "mbstrdecoder", "typepy",
    "tabledata", "tcolorpy", "pathvalidate", "tqdm-multiprocess",
)  # fmt: skip
TASK = """\
task: scenes
dataset_path: parquet
dataset_kwargs: {data_files: {test: FOLDER/scenes.parquet}}
test_split: test
output_type: generate_until
doc_to_visual: !function reading.visual
doc_to_text: !function reading.text
doc_to_target: answer
process_results: !function reading.results
generation_kwargs: {max_new_tokens: 24, temperature: 0, do_sample: false}
metric_list: [{metric: same, aggregation: mean, higher_is_better: true}]
metadata: [{version: 0.0}]
"""
READING = """\
import io
from PIL import Image

def visual(row):
    return [Image.open(io.BytesIO(row["image"])).convert("RGB")]

def text(row, lmms_eval_specific_kwargs=None):
    return row["question"]

def results(row, results):
    return {"same": float(results[0].strip() == row["answer"])}
"""
QUESTIONS = ("Where is the donut? Give its box.", "How many things are there?")


@pytest.fixture(scope="module")
def packages() -> Path:
    """Kept from run to run, since it takes half a minute."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "qwenvl-tests" / LMMS_EVAL.replace("==", "-")
    if not (folder / "complete").is_file():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
        done = subprocess.run([*command, LMMS_EVAL, *IMPORTED], capture_output=True, text=True)
        assert done.returncode == 0, f"lmms-eval could not be installed: {done.stderr[-500:]}"
        (folder / "complete").touch()
    return folder


def test_lmms_eval_cannot_tell(packages: Path, tmp_path: Path) -> None:
    model = load(MODEL)
    rows = []
    for number, question in enumerate(QUESTIONS * 2, start=1):
        picture = (SAMPLES / f"scene-{number}.png").read_bytes()
        content = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
        answer = model.chat([{"role": "user", "content": content}], max_new_tokens=24).text
        rows.append({"image": picture, "question": question, "answer": answer})
    assert len({row["answer"] for row in rows}) > 2
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "scenes.parquet")
    (tmp_path / "scenes.yaml").write_text(TASK.replace("FOLDER", str(tmp_path)))
    (tmp_path / "reading.py").write_text(READING)
    with Engine(model) as engine, in_background({MODEL: engine}) as address:
        command = [
            sys.executable, "-m", "lmms_eval", "--model", "openai", "--model_args", f"model_version={MODEL},base_url={address}/v1",
            "--tasks", "scenes", "--include_path", str(tmp_path), "--batch_size", "1", "--output_path", str(tmp_path / "out"),
        ]  # fmt: skip
        environment = {
            **os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}", "OPENAI_API_KEY": "none", "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        assert engine.stats().finished == len(rows)
    [found] = (tmp_path / "out").rglob("*_results.json")
    assert json.loads(found.read_text())["results"]["scenes"]["same,none"] == 1.0
