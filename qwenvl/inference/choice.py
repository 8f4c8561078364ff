"""Which products of few rows are the fastest on this CPU: measured once, kept on disk, and applied to a model that is loaded.

What is kept is used by every later start, so that answers do not change from one to the next; `qwenvl doctor` measures anew and
tells. For the same reason nothing is measured where nothing can be kept: a fixed order decides then.
Models whose decoder fits in a CPU's caches are left as they are: for them there is nothing to win.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F

from qwenvl.inference.compiled import SOURCE, built_by, cpu_flags, few_rows
from qwenvl.inference.kept import can_keep, own_folder, tell_of_waiting
from qwenvl.models.few_rows import FewRows, Weight
from qwenvl.models.packed import GROUP, WIDE, PackedKind, PackedLinear
from qwenvl.models.packed_layout import half_block
from qwenvl.models.reordered import FewKind, Means, by_onednn, has_onednn, reorder_for_inference, reordered
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.runtime import atomic_write

KINDS = ("float32", "bfloat16", "int8", "int4")
LEAST_BYTES = 64 << 20
"""Of a decoder's parameters, below which nothing is measured or changed."""
COLUMNS, MANY = 1024, 64
ROWS = {"float32": 12288, "bfloat16": 24576, "int8": 49152, "int4": 81920}
"""Of the weights that are measured, some 50 MB each, larger than most caches. MANY: rows of activations that are many."""
ROUNDS = 5
CLEARLY = 1.1
"""How many times the fastest the first in order may take and still be chosen: a busy minute decides nothing."""

Ways = Mapping[str, Callable[[], object]]
Timer = Callable[[Ways], dict[str, float]]
Timings = dict[str, dict[str, float]]
"""Kind, or "many rows of float32" -> what computes it -> milliseconds."""
MANY_NAME = "float32, many rows"


def apply_choice(model: VisionLanguageModel) -> list[str]:
    """Have a finished model on the CPU computed by what is fastest here, in place; the names of the layers that are changed. A
    small model, or one that is elsewhere, stays as it is."""
    decoder = model.decoder
    tensors = [*decoder.parameters(), *decoder.buffers()]
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if held < LEAST_BYTES or any(tensor.device.type != "cpu" for tensor in tensors):
        return []
    return reorder_for_inference(model, means())


def means() -> Means:
    """What was chosen on this machine; measured where it has not been."""
    timings = told()
    few: list[tuple[str, FewKind]] = [(kind, chosen(timings[kind])) for kind in KINDS]  # type: ignore[misc]
    compiled = few_rows() if any(choice == "compiled" for _, choice in few) else None
    return Means(compiled, tuple(few), chosen(timings[MANY_NAME]) == "onednn")


def told(anew: bool = False) -> Timings:
    """The measurement behind the choice; made where it has not been, or `anew`, and kept. Where it could not be kept, nothing is
    measured, and all is said to take no time: the first in order is chosen."""
    timings = None if anew else _kept()
    if timings is not None:
        return timings
    if not can_keep(own_folder()):
        return measure(unmeasured)
    tell_of_waiting()
    timings = measure()
    other = None if anew else _kept()  # of a process that started at the same time
    return other or (timings if _keep(timings) else measure(unmeasured))


def chosen(times: Mapping[str, float]) -> str:
    """The first that is not clearly slower than the fastest; they stand in the order in which they are liked."""
    return next(name for name, value in times.items() if value <= CLEARLY * min(times.values()))


def measure(times: Timer | None = None) -> Timings:
    """Milliseconds of one product with one row, or MANY, for all that can do it here, in turns, each at its fastest; or what
    `times` says of them."""
    kernels, times = few_rows(), times or in_turns
    timings = {"float32": _plain(torch.float32, kernels, times), "bfloat16": _plain(torch.bfloat16, kernels, times)}
    timings |= {"int8": _codes("int8", kernels, times), "int4": _codes("int4", kernels, times)}
    with torch.inference_mode():
        weight, x = torch.full((ROWS["float32"] // 4, COLUMNS), 0.5), torch.full((MANY, COLUMNS), 0.5)
        ways: dict[str, Callable[[], object]] = {"plain": lambda: F.linear(x, weight)}
        if has_onednn(torch.float32):
            ways = {"onednn": lambda: by_onednn(x, weight, None), **ways}
        return timings | {MANY_NAME: times(ways)}


@torch.inference_mode()
def _plain(dtype: torch.dtype, kernels: FewRows | None, times: Timer) -> dict[str, float]:
    rows = ROWS[str(dtype).removeprefix("torch.")]
    weight, x = torch.full((rows, COLUMNS), 0.5, dtype=dtype), torch.full((1, COLUMNS), 0.5, dtype=dtype)
    ways: dict[str, Callable[[], object]] = {}
    if kernels is not None:
        ways["compiled"] = lambda: kernels.product(x, Weight.plain(weight, None))
    if dtype == torch.bfloat16 and has_onednn(dtype):  # float32 gains nothing by it over oneDNN's plain product
        packed = reordered(weight)
        ways["reordered"] = lambda: by_onednn(x, packed, None)
    ways["plain"] = lambda: F.linear(x, weight)
    return times(ways)


@torch.inference_mode()
def _codes(kind: PackedKind, kernels: FewRows | None, times: Timer) -> dict[str, float]:
    x, size = torch.full((1, COLUMNS), 0.5, dtype=torch.bfloat16), (ROWS[kind], COLUMNS)
    if kind == "int8":
        codes, scales = torch.full(size, 3, dtype=torch.int8), torch.ones(ROWS[kind], dtype=x.dtype)
    else:
        codes = torch.full((ROWS[kind], COLUMNS // 2), 0x33, dtype=torch.uint8)
        scales = torch.ones(COLUMNS // GROUP, ROWS[kind], 2, dtype=x.dtype)
    layer, fast = (PackedLinear(kind, size, codes, scales) for _ in range(2))
    ways: dict[str, Callable[[], object]] = {}
    if kernels is not None and (kind == "int8" or half_block()[0] == WIDE // 2):
        fast.use(kernels)
        ways["compiled"] = lambda: fast(x)
    ways["plain"] = lambda: layer(x)
    return times(ways)


def unmeasured(ways: Ways) -> dict[str, float]:
    return dict.fromkeys(ways, 0.0)


def in_turns(ways: Ways) -> dict[str, float]:
    best = dict.fromkeys(ways, float("inf"))
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter  # with one thread others' work can be left out
    for _ in range(ROUNDS + 1):  # the first warms up, and is never the fastest
        for name, run in ways.items():
            start = clock()
            run()
            best[name] = min(best[name], (clock() - start) * 1e3)
    return {name: round(value, 3) for name, value in best.items()}


def _file(folder: Path) -> Path:
    """Where a choice for this CPU, torch, number of threads, source of kernels and their compiler is kept."""
    source = SOURCE.read_text(encoding="utf-8") if SOURCE.is_file() else ""
    key = "\n".join([torch.__version__, str(torch.get_num_threads()), source, built_by(), *sorted(cpu_flags())])
    return folder / f"products-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _kept() -> Timings | None:
    folder = own_folder()
    if folder is None:
        return None
    try:
        timings: Timings = json.loads(_file(folder).read_text(encoding="utf-8"))
        whole = all(chosen(timings[name]) for name in (*KINDS, MANY_NAME))
        return timings if whole and (few_rows() is None or "compiled" in timings["float32"]) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keep(timings: Timings) -> bool:
    """Whether it could be written."""
    folder = own_folder()
    if folder is None:
        return False
    try:
        with atomic_write(_file(folder)) as temporary:
            temporary.write_text(json.dumps(timings, indent=1) + "\n", encoding="utf-8")
    except OSError:
        return False
    return True
