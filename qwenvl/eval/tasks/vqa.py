"""Questions about photographs with short answers (arXiv 2308.12966, Table 4)."""

from __future__ import annotations

from qwenvl.eval.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark] = {}
