"""What Prometheus reads: requests, times to the first token and between tokens, and what the engines count."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
WHOLE = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """Counts of one server, in a registry of their own: two servers in a process do not mix."""

    def __init__(self, engines: Mapping[str, Any]) -> None:
        self.registry = CollectorRegistry()
        here: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("qwenvl_requests", "Requests that were answered.", ["path", "status"], **here)
        self.under_way = Gauge("qwenvl_requests_under_way", "Requests that are being answered.", **here)
        self.first_token = Histogram(
            "qwenvl_time_to_first_token_seconds", "From arrival to the first token.", ["model"], buckets=FIRST, **here
        )
        self.between_tokens = Histogram(
            "qwenvl_inter_token_seconds", "Between two tokens of an answer.", ["model"], buckets=BETWEEN, **here
        )
        self.whole = Histogram("qwenvl_answer_seconds", "From arrival to the last token.", ["model"], buckets=WHOLE, **here)
        self.tokens = Counter("qwenvl_tokens", "Tokens of answered requests.", ["model", "kind"], **here)
        self.registry.register(_Engines(engines))

    def count(self, model: str, usage: Mapping[str, Any]) -> None:
        """Add a request's `usage` (see `answers.usage`)."""
        details = usage["prompt_tokens_details"]
        kinds = {
            "prompt": usage["prompt_tokens"], "completion": usage["completion_tokens"],
            "image": details["image_tokens"], "cached": details["cached_tokens"],
        }  # fmt: skip
        for kind, number in kinds.items():
            self.tokens.labels(model, kind).inc(number)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Engines(Collector):
    """The fields of each engine's `stats()`, whatever they are: numbers, and numbers by name (`prefix`: hits, misses, bytes)."""

    def __init__(self, engines: Mapping[str, Any]) -> None:
        self._engines = engines

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for model, engine in self._engines.items():
            for name, value in dataclasses.asdict(engine.stats()).items():
                inner = value.items() if isinstance(value, Mapping) else [("", value)]
                for part, number in inner:
                    if isinstance(number, int | float):
                        full = "_".join(filter(None, ("qwenvl_engine", name, part)))
                        family = families.setdefault(
                            full, GaugeMetricFamily(full, f"The engine's {name} {part}".strip(), labels=["model"])
                        )
                        family.add_metric([model], float(number))
        yield from families.values()
