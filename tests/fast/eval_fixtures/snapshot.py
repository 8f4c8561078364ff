"""Writes the prompts of benchmarks as they are now: python -m tests.fast.eval_fixtures.snapshot NAME…

Look at the difference before it is kept: a changed prompt is another benchmark, whose version must be raised.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.fast.test_benchmarks import SNAPSHOTS, prompts_of

for name in sys.argv[1:]:
    with tempfile.TemporaryDirectory() as folder:
        found = prompts_of(name, Path(folder))
    SNAPSHOTS.mkdir(exist_ok=True)
    (SNAPSHOTS / f"{name}.json").write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(SNAPSHOTS / f"{name}.json")
