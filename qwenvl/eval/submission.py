"""Files that are handed in where a benchmark's answers are withheld."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qwenvl.eval.benchmark import Submit
from qwenvl.eval.task import Prediction


def json_list(name: str, row: Callable[[Prediction], Mapping[str, Any]]) -> Submit:
    """A JSON list with one object for each prediction, as most servers take it. `name` may say {split}."""

    def submit(predictions: Sequence[Prediction]) -> Mapping[str, bytes]:
        rows = [row(prediction) for prediction in predictions]
        split = predictions[0].condition if predictions else ""
        return {name.format(split=split): json.dumps(rows, ensure_ascii=False).encode()}

    return submit
