"""Memory, which a process that has held it does not give back: a run that is measured for it is a process of its own.

`run_alone("benchmarks.head", ...)` starts `python -m benchmarks.head ...` and reads the line of JSON that it prints last.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any


def run_alone(module: str, *arguments: str) -> dict[str, Any]:
    """What the process printed. Raises RuntimeError with the end of what it said where it failed."""
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[1]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def restart_peak() -> float:
    """Give freed memory back and forget the peak so far, where the system can (Linux); MiB in use."""
    from qwenvl.train.parallel import give_back_memory

    give_back_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return peak()
    return _status("VmRSS")


def peak() -> float:
    """MiB that the process has held at most."""
    try:
        return _status("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024
