"""Benchmarks by name. Each is a `Benchmark` in one of the modules here, read when it is asked for."""

from __future__ import annotations

from importlib import import_module

from qwenvl.eval.benchmark import Benchmark
from qwenvl.eval.task import EvaluationError

SCENES = "scenes"
"""Not among the others: its pictures are drawn on the spot."""

MODULES: dict[str, tuple[str, ...]] = {
    "vqa": ("vqav2", "okvqa", "vizwiz", "gqa"),
    "text_vqa": ("textvqa", "docvqa", "infovqa", "chartqa", "ocrvqa", "ai2d"),
    "captions": ("nocaps", "flickr30k", "flickr30k_cn", "coco_cn"),
    "grounding": ("refcoco", "refcoco_plus", "refcocog", "grit_refexp"),
    "detection": ("odinw13",),
    "pointing": ("countbench", "pointbench"),
    "choices": ("scienceqa_img", "seed_bench", "mmbench", "mmbench_v11", "mmmu_val", "mmmu_pro", "mmstar", "realworldqa"),
    "maths": ("mathvista", "mathvision"),
    "truthfulness": ("mme", "hallusionbench", "pope"),
    "text_only": ("mmlu", "cmmlu", "ceval"),
    "reading": ("ocrbench", "ocrbench_v2", "cc_ocr"),
    "documents": ("omnidocbench",),
    "judged": ("touchstone",),
    "videos": (
        "videomme", "mvbench", "egoschema", "lvbench", "perception_test", "mlvu", "longvideobench", "tempcompass",
    ),
    "temporal": ("charades_sta",),
    "screens": ("screenspot", "screenspot_pro"),
    "agents": ("aitz", "androidcontrol"),
}  # fmt: skip
"""Module -> the benchmarks that its dictionary BENCHMARKS holds."""

NAMES = tuple(name for names in MODULES.values() for name in names)


def benchmark_named(name: str) -> Benchmark:
    """Raises EvaluationError with the names that there are."""
    for module, names in MODULES.items():
        if name in names:
            found: Benchmark = import_module(f"qwenvl.eval.tasks.{module}").BENCHMARKS[name]
            return found
    if name == SCENES:
        raise EvaluationError(f"{SCENES} are drawn on the spot and have no files; only `qwenvl eval run` and `score` know them")
    raise EvaluationError(f"no benchmark {name!r}; known: {SCENES}, {', '.join(NAMES)}")
