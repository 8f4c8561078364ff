"""The order of the slow tests: the files that take longest are begun first, so that two workers end at about the same time."""

from __future__ import annotations

import pytest

LONGEST = (
    "test_docs", "test_clean", "test_train_parallel", "test_recipes_run", "test_ablate", "test_train_sight", "test_train",
    "test_train_adapt", "test_documents", "test_train_restart", "test_benchmark_training_run", "test_train_mixture",
    "test_agent_browser", "test_page_look", "test_page_serve", "test_page_chat", "test_lmms_eval", "test_deploy_ray",
)  # fmt: skip
"""By CPU seconds, `/usr/bin/time`; the others take less."""


def pytest_configure(config: pytest.Config) -> None:
    # xdist would begin with the files that have the most tests.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
