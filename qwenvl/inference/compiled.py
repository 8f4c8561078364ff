"""The kernels of few_rows.cpp, compiled once for this very CPU and kept in a cache folder; None where they are not to be had.

A compiler (g++, or what CXX names, with arguments) and a CPU with AVX-512, VNNI and VBMI are wanted; without them nothing is said
and torch's kernels do the work. The compiler takes two to four seconds.

A library that was kept is loaded only if nobody else can have written it and it is whole: its digest is part of its name, as a file
that was cut off ends the process when it is loaded. Where nothing can be kept it is built in a private folder at every start.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from qwenvl.inference.kept import can_keep, is_own, own_folder, tell_of_waiting
from qwenvl.inference.trial import is_right
from qwenvl.models.few_rows import FewRows

SOURCE = Path(__file__).with_name("few_rows.cpp")
WANTED = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512vbmi"})
FLAGS = ("-O3", "-std=c++17", "-march=native", "-fopenmp", "-shared", "-fPIC", "-w")
SECONDS, ASKED_SECONDS = 120, 5
"""That the compiler may take, and its answer to which it is."""


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
        kernels = FewRows(_library(), few_rows_or_none)
        return kernels if is_right(kernels) else None
    # No compiler, no place for what it writes, no such function, a CXX that cannot be read, a product that cannot be tried.
    except (OSError, AttributeError, RuntimeError, ValueError, AssertionError, subprocess.SubprocessError):
        return None


def few_rows_or_none() -> FewRows:
    """The kernels of this process, for a model that was pickled in another; where there are none, what leaves all to torch."""
    return few_rows() or FewRows(None)


def built_by() -> str:
    """The compiler of the kernels, path and version; "no kernels" where there are none."""
    return "no kernels" if few_rows() is None else " ".join(_compiler())


def _compiler() -> tuple[str, ...]:
    """Its command, path first, and at the end its version. Raises OSError where there is none, SubprocessError for no answer."""
    named = shlex.split(os.environ.get("CXX") or "g++")
    path = shutil.which(named[0]) if named else None
    if path is None:
        raise FileNotFoundError("no C++ compiler")
    command = (path, *named[1:])
    return *command, _version(command)


@cache
def _version(command: tuple[str, ...]) -> str:
    return _run([*command, "--version"], ASKED_SECONDS)  # which both g++ and clang know, and a ccache before them passes on


def _library() -> ctypes.CDLL:
    """The shared library of this source, compiler and CPU, compiled if it is not there. Raises OSError, SubprocessError."""
    *command, version = _compiler()
    key = "\n".join([SOURCE.read_text(encoding="utf-8"), *command, version, *FLAGS, *sorted(cpu_flags())])
    name, folder = f"few_rows-{hashlib.sha256(key.encode()).hexdigest()[:16]}", own_folder()
    for path in () if folder is None else sorted(folder.glob(f"{name}-*.so")):
        if is_own(path) and path.name == _name_of(name, path):
            try:
                return ctypes.CDLL(str(path))
            except OSError:  # on a disk from which nothing may be run
                folder = None
                break
    tell_of_waiting()
    keeps = can_keep(folder)
    with tempfile.TemporaryDirectory(prefix=".few_rows-", dir=folder if keeps else None) as scratch:  # for its owner alone
        built = Path(scratch) / "few_rows.so"
        _run([*command, *FLAGS, str(SOURCE), "-o", str(built)], SECONDS)
        library = ctypes.CDLL(str(built))  # may be removed or renamed from now on
        if keeps and folder is not None:
            built.chmod(0o700)
            for old in folder.glob(f"{name}-*.so"):  # damaged, or not ours
                old.unlink(missing_ok=True)
            built.replace(folder / _name_of(name, built))
    return library


def _name_of(name: str, path: Path) -> str:
    return f"{name}-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.so"


def _run(command: Sequence[str], seconds: float) -> str:
    """What a command says. It is ended, with all that it started, when its time is over: SubprocessError, as where it fails."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace", start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return said
