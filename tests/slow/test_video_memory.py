"""R10: a long clip is prepared, from its file to the model's input, within a bound on memory, and fits the context."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")
from tests.clips import numbered, write_clip
from tests.small_text import small_tokenizer

MEASURE = """
import json, resource, sys
import av, torch
from PIL import Image
from qwenvl.families import find_preset, get_family
from qwenvl.processing.encode import Processor
from qwenvl.processing.messages import messages_to_sample
from qwenvl.processing.tokenizer import Tokenizer

clip, tokenizer, preset = sys.argv[1:]
tokenizer, config = Tokenizer.from_folder(tokenizer), find_preset(preset).config
spec = get_family(config.family)
names = {"image_start": "start", "image_end": "end", "image_pad": "pad", "video_pad": "video_pad"}
ids = {f"{key}_id": tokenizer.special(getattr(spec.image_tokens, name)) for key, name in names.items()}
processor = Processor(config.model_copy(update=ids), spec, tokenizer)
question = [{"type": "video", "video": clip}, {"type": "text", "text": "What happens?"}]
sample = messages_to_sample([{"role": "user", "content": question}])
torch.linspace(0, 1, 2).round()

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
encoded = processor.encode(sample, "chat", for_generation=True)
print(json.dumps({
    "grid": encoded.grids[0].tolist(), "tokens": len(encoded), "context": config.decoder.max_position_embeddings,
    "patches": encoded.patches.nbytes / 2**20, "grown": peak() - before,
}))
"""


def prepared(clip: Path, preset: str, folder: Path, repository: Path) -> dict[str, Any]:
    """What a question about a clip becomes in a process of its own, and by how many MB the process grew for it."""
    small_tokenizer("qwen2_vl").save(folder)
    command = [sys.executable, "-c", MEASURE, str(clip), str(folder), preset]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    print(preset, found)
    return found


def test_r10_an_hour_is_prepared_in_less_than_300_mb(tmp_path: Path, repository: Path) -> None:
    """With nothing asked for. By the published least it would be 49,152 tokens, and 0.9 GB."""
    path = write_clip(tmp_path / "hour.mp4", 3600, fps=1, codec="mpeg4", gop=12)
    found = prepared(path, "qwen2-vl-2b", tmp_path, repository)
    assert found["grid"][0] == 768 / 2, "no frame is lost"
    assert found["tokens"] < found["context"] * 0.9
    assert found["grown"] < 300


@pytest.fixture(scope="module")
def ten_minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15,000 frames of 160 x 120 pixels, each spelling its number on noise."""
    backgrounds = np.random.default_rng(0).integers(0, 256, (50, 120, 160, 3), dtype=np.uint8)
    frames = (np.where(numbered(n, (160, 120)) > 127, 255, backgrounds[n % 50] // 4) for n in range(15_000))
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames, fps=25, gop=50, preset="ultrafast")


@pytest.mark.parametrize(("preset", "most"), [("qwen2-vl-2b", 300), ("qwen2.5-vl-3b", 1100)])
def test_r10_ten_minutes_take_little_more_than_their_patches(
    preset: str, most: int, ten_minutes: Path, tmp_path: Path, repository: Path
) -> None:
    """All frames would take 0.9 GB at their own size. 768 are drawn; Qwen2.5-VL's rule enlarges them to 392 x 280."""
    found = prepared(ten_minutes, preset, tmp_path, repository)
    assert found["grid"][0] == 768 / 2
    assert found["grown"] < found["patches"] + 100
    assert found["grown"] < most
