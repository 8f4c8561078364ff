"""The kernels of few_rows.cpp, compiled once for this very CPU and kept in a cache folder; None where they are not to be had.

A compiler (g++, or what CXX names) and a CPU with AVX-512, VNNI and VBMI are wanted; without them nothing is said and torch's
kernels do the work. The compiler takes two to four seconds.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

import torch

from qwenvl.models.few_rows import FewRows, Weight
from qwenvl.models.packed import PackedLinear
from qwenvl.runtime import atomic_write

SOURCE = Path(__file__).with_name("few_rows.cpp")
WANTED = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512vbmi"})
FLAGS = ("-O3", "-std=c++17", "-march=native", "-fopenmp", "-shared", "-fPIC", "-w")
SECONDS = 120
"""That the compiler may take."""


def cache_folder() -> Path:
    """Where what was found out about this machine is kept: QWENVL_CACHE, else qwenvl in the user's cache folder."""
    named = os.environ.get("QWENVL_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwenvl"


def cpu_flags() -> frozenset[str]:
    """Of /proc/cpuinfo; none on other systems than Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


@cache
def few_rows() -> FewRows | None:
    """The kernels, built now unless an earlier process did; None where they cannot be built or loaded, or are wrong."""
    if platform.machine() not in ("x86_64", "AMD64") or not cpu_flags() >= WANTED:
        return None
    try:
        kernels = FewRows(ctypes.CDLL(str(_library())))
    except (OSError, AttributeError, RuntimeError, subprocess.SubprocessError):  # no compiler, no cache folder, no such function
        return None
    return kernels if is_right(kernels) else None


def _library() -> Path:
    """The shared library of this source, compiler and CPU, compiled if it is not there. Raises OSError, SubprocessError."""
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        raise FileNotFoundError("no C++ compiler")
    version = subprocess.run([compiler, "-dumpfullversion"], capture_output=True, text=True, timeout=SECONDS, check=False).stdout
    key = "\n".join([SOURCE.read_text(encoding="utf-8"), compiler, version, *FLAGS, *sorted(cpu_flags())])
    path = cache_folder() / f"few_rows-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not path.is_file():
        with atomic_write(path) as temporary:
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(temporary)]
            subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
    return path


def is_right(kernels: FewRows) -> bool:
    """Whether their products are those of float64 up to rounding, tried on small ones of odd sizes."""
    generator = torch.Generator().manual_seed(0)
    weight, bias, x = (torch.randn(*size, generator=generator) for size in ((70, 160), (70,), (3, 160)))
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
        own = [part.to(dtype) for part in (weight, bias, x)]
        right = own[2].double() @ own[0].double().t() + own[1].double()
        if not _near(kernels.product(own[2], Weight.plain(own[0], own[1])), right, bound):
            return False
    linear = torch.nn.Linear(160, 70).bfloat16()
    for kind in ("int8", "int4"):
        layer = PackedLinear.of(linear, kind)
        rows = x.bfloat16()
        layer.use(kernels)
        assert layer.bias is not None
        if not _near(layer(rows), rows.double() @ layer.weight.double().t() + layer.bias.double(), 1e-2):
            return False
    return True


def _near(y: torch.Tensor, right: torch.Tensor, bound: float) -> bool:
    return bool((y.double() - right).norm() < bound * right.norm())
