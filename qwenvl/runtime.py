"""The machine: which device and dtype to use, how many threads, how to write a file whole, what a bug report needs.

torch is imported inside the functions that need it.
"""

from __future__ import annotations

import errno
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    import torch

DTYPES = {
    "float32": "float32", "fp32": "float32", "bfloat16": "bfloat16", "bf16": "bfloat16", "float16": "float16", "fp16": "float16",
}  # fmt: skip

# CPU flags (/proc/cpuinfo) that decide which kernels torch picks.
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")


# Dense products in bfloat16, FLOP/s, by what torch calls the GPU: NVIDIA's data sheets of the A100, H100 (PCIe and SXM) and H200.
PEAKS = {"A100": 312e12, "H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12}


class DeviceError(QwenVLError, ValueError):
    """A device or dtype that this machine or this build of torch does not have."""


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """The device to run on: the given one, else the first CUDA device, else the CPU. Raises DeviceError if it is absent."""
    import torch

    if device is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"device {device!r} is not one that torch knows; give cpu, cuda or cuda:N") from None
    if resolved.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (resolved.index or 0) >= count:
            raise DeviceError(f"device {device!r} is not there: torch {torch.__version__} sees {count} CUDA devices; use cpu")
        return torch.device("cuda", resolved.index or 0)
    try:
        torch.empty(1, device=resolved).item()
    except (RuntimeError, NotImplementedError, AssertionError):  # each backend has its own way to be absent
        raise DeviceError(f"device {device!r} is not there, or computes nothing; use cpu") from None
    return resolved


def peak_flops(device: torch.device) -> float | None:
    """What the device could compute in a second, in bfloat16; None for a CPU, or a GPU that PEAKS does not have."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for known, peak in PEAKS.items() if known in name), None)


def resolve_dtype(dtype: str | torch.dtype | None = None, device: str | torch.device | None = None) -> torch.dtype | None:
    """The dtype of the weights: the given one, else bfloat16 where a GPU computes in it, else None: what the file holds.

    Keeping the file's dtype on the CPU leaves its tensors memory-mapped: a published checkpoint loads without being copied.
    """
    import torch

    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        return dtype
    if dtype is not None:
        if dtype not in DTYPES:
            raise DeviceError(f"dtype {str(dtype)!r} is not supported; give one of {', '.join(sorted(set(DTYPES.values())))}")
        return getattr(torch, DTYPES[dtype])
    if resolve_device(device).type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return None


def set_threads(count: int | None = None) -> int:
    """Let torch's kernels use `count` threads, or as many as this process has cores; return the number in force."""
    import torch

    if count is not None and count < 1:
        raise DeviceError(f"{count} threads: give at least 1")
    torch.set_num_threads(count or usable_cores())
    return torch.get_num_threads()


def usable_cores() -> int:
    """Cores that this process may run on, which a container or taskset may have made fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(device: torch.device | None = None) -> int:
    """Bytes that a GPU can still give; without one, that this machine can, or the container that it is."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        most, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text(encoding="utf-8")) for name in ("max", "current"))
    except (OSError, ValueError):  # no container, or one without a limit
        return free
    return min(free, most - used)


def offline() -> bool:
    """Whether QWENVL_OFFLINE forbids downloads."""
    return os.environ.get("QWENVL_OFFLINE", "").lower() not in ("", "0", "false", "no")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` when the block ends well and vanishes when it does not.

        with atomic_write("scores.json") as temporary:
            temporary.write_text(...)

    The temporary name keeps the suffix, so that a library that tells a format by it (Pillow, say) works. Missing parent
    folders are made. Raises OSError as writing to `path` itself would, and names it.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    make_folder(path.parent)
    temporary = path.parent / f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}{path.suffix}"
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless it is there. Raises NotADirectoryError where a file is in the way, and names it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(place for place in (path, *path.parents) if os.path.lexists(place))
        raise NotADirectoryError(errno.ENOTDIR, "a file, not a folder; give another place", str(file)) from None


def environment() -> dict[str, Any]:
    """Machine, Python and torch as plain data: what a report or a bug report says about where it ran."""
    import torch

    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": {
            "model": _proc_field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
            "flags": [flag for flag in CPU_FLAGS if flag in (_proc_field("/proc/cpuinfo", "flags") or "").split()],
            "cores": usable_cores(),
            "threads": torch.get_num_threads(),
        },
        "memory_gib": _memory_gib(),
        "cuda": _cuda_devices(),
        "default_device": str(resolve_device()),
        "default_dtype": str(resolve_dtype() or "that of the file").removeprefix("torch."),
        "offline": offline(),
    }


def _cuda_devices() -> list[dict[str, Any]]:
    import torch

    if not torch.cuda.is_available():
        return []
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [{"name": device.name, "memory_gib": round(device.total_memory / 2**30, 1)} for device in devices]


def _memory_gib() -> float | None:
    total = _proc_field("/proc/meminfo", "MemTotal")  # "24689012 kB"
    return round(int(total.split()[0]) / 2**20, 1) if total else None


def _proc_field(file: str, name: str) -> str | None:
    """The first `name: value` of a /proc file, or None where there is no such file (not Linux) or field."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _flush(path: Path) -> None:
    """Wait until the file's bytes are on the disk, so that a power cut cannot leave an empty file under the final name."""
    with path.open("rb") as file:
        os.fsync(file.fileno())

