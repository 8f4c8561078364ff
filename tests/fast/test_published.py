"""The file of published scores: every number belongs to a model with a source, a benchmark of ours and one of its splits."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from qwenvl.eval.runs import PUBLISHED, published, published_score
from qwenvl.eval.tasks import NAMES, benchmark_named

EXTRA = {"four_shot"}
"""Keys that are no benchmark: benchmark -> number, with so many examples."""
SETTINGS = {
    "mme": {"perception", "cognition", "total"},
    "ocrbench_v2": {"english", "chinese"},
    "omnidocbench": {"overall_en", "overall_zh"},
    "aitz": {"exact_match", "type_match"},
    "mmmu_pro": {"overall"},
    "tempcompass": {"overall"},
}
"""Keys that are no split: measures of ours, and what no split of ours is."""
OWN = {
    "Qwen-VL": "Qwen/Qwen-VL",
    "Qwen-VL-Chat": "Qwen/Qwen-VL-Chat",
    **{f"Qwen2-VL-{size}": f"Qwen/Qwen2-VL-{size}-Instruct" for size in ("2B", "7B", "72B")},
    **{f"Qwen2.5-VL-{size}": f"Qwen/Qwen2.5-VL-{size}-Instruct" for size in ("3B", "7B", "32B", "72B")},
}
"""Name in the file -> on the hub."""


def entries() -> Iterator[tuple[str, str, str | None, float]]:
    """(model, benchmark, split or setting, number)."""
    for model, scores in published().items():
        for name, found in scores.items():
            yield from ((model, name, key, value) for key, value in (found if isinstance(found, dict) else {None: found}).items())


def test_every_model_has_a_source_and_every_source_is_named() -> None:
    text = PUBLISHED.read_text(encoding="utf-8")
    file: dict[str, Any] = yaml.safe_load(text)
    assert file.keys() == {"sources", "scores"}
    assert list(file["sources"]) == list(file["scores"])
    assert all(file["scores"].values())
    named = set(re.findall(r"^#   ([A-Z]+\d*) ", text, re.MULTILINE))
    assert {source for told in file["sources"].values() for source in told.split(", ")} == named
    keys = re.findall(r"^  (\S.*): *$", text, re.MULTILINE)  # no model is there twice: YAML would keep its last entry alone
    assert keys == list(file["scores"])


def test_every_number_is_of_a_split() -> None:
    splits = {name: set(benchmark_named(name).splits) for name in NAMES}
    for model, name, key, _ in entries():
        if name in EXTRA:
            assert key in NAMES, (model, name, key)
        elif key is None:
            assert len(splits[name]) == 1, f"{model}: {name} has several splits; say of which the number is"
        else:
            assert key in splits[name] | SETTINGS.get(name, set()), (model, name, key)


def test_numbers_are_within_their_scale() -> None:
    most = {"mme": 2800.0, "touchstone": 1000.0, "nocaps": 200.0, "flickr30k": 200.0}
    for model, name, key, value in entries():
        assert isinstance(value, int | float) and not isinstance(value, bool), (model, name, key)
        limit = most.get(name, 100.0 if name in EXTRA else benchmark_named(name).scale)
        assert math.isfinite(value) and 0 < value <= limit, (model, name, key, value)


@pytest.mark.parametrize(("model", "benchmark", "key", "value"), [
    ("Qwen-VL", "vqav2", "testdev", 79.5),
    ("Qwen-VL-Chat", "mme", "cognition", 360.71),
    ("Qwen2-VL-72B", "aitz", "type_match", 89.6),
    ("Qwen2.5-VL-3B", "omnidocbench", "overall_zh", 0.543),
    ("Qwen2.5-VL-72B", "androidcontrol", "high", 67.36),
    ("UNINEXT-H", "refcoco_plus", "testB", 79.79),
    ("PaLI-X-55B", "docvqa", "test", 80.0),
    ("InternVL2-76B", "refcocog", "test", 90.3),
    ("GPT-4o (Qwen2-VL)", "docvqa", "test", 92.8),
    ("GPT-4o (Qwen2.5-VL)", "docvqa", "test", 91.1),
    ("Aguvis-72B", "screenspot_pro", "test", 23.6),
])  # fmt: skip
def test_some_of_the_numbers(model: str, benchmark: str, key: str, value: float) -> None:
    assert published()[model][benchmark][key] == value


@pytest.mark.parametrize("model", OWN)
def test_each_number_of_ours_is_found_under_the_name_on_the_hub(model: str) -> None:
    for name, found in published()[model].items():
        if name in EXTRA:
            continue
        benchmark = benchmark_named(name)
        told = found if isinstance(found, dict) else dict.fromkeys(benchmark.splits, found)
        expected = {split: told.get(split, told.get(benchmark.measure)) for split in benchmark.splits}
        assert {split: published_score(OWN[model], name, split) for split in benchmark.splits} == expected


def test_a_number_stands_beside_its_own_split_alone() -> None:
    assert published_score("Qwen/Qwen2-VL-7B-Instruct", "docvqa", "test") == 94.5
    assert published_score("Qwen/Qwen2-VL-7B-Instruct", "docvqa", "val") == 93.89
    assert published_score("Qwen/Qwen2.5-VL-7B-Instruct", "docvqa", "val") is None
    assert published_score("qwen-vl", "vqav2", "val") is None
    assert published_score("Qwen/Qwen-VL-Chat", "mme", "test") == 1487.58
    assert published_score("Qwen/Qwen2-VL-7B-Instruct", "mme", "test") is None  # the sum alone is published
    assert published_score("Qwen/Qwen2.5-VL-72B-Instruct", "ocrbench_v2", "test") == 61.5
    assert published_score("Qwen/Qwen2.5-VL-72B-Instruct", "mmmu_pro", "standard") is None
    assert published_score("no-such-model", "docvqa", "test") is None
