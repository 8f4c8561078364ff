"""The ranks that train together, and their gradients where each of them has all weights: one buffer, summed once a step.

Works under torchrun (RANK and WORLD_SIZE in the environment) and under `qwenvl train --processes N`, which starts the ranks itself.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from qwenvl.config import ConfigError
from qwenvl.runtime import resolve_device
from qwenvl.train.meeting import RankLost, another_ended, meet, says_first
from qwenvl.train.sections import ParallelRecipe
from qwenvl.train.split_adamw import CHUNK
from qwenvl.types import QwenVLError


@dataclass(frozen=True, slots=True)
class World:
    """This process among `size` that train together. `tensor` neighbours compute the same tokens, each a part of every layer;
    `context` such groups next to each other have the same rows, each a piece of their tokens."""

    rank: int = 0
    size: int = 1
    tensor: int = 1
    context: int = 1
    store: dist.Store | None = field(default=None, compare=False, repr=False)
    """Texts that all ranks can read."""

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def data_rank(self) -> int:
        """This rank's place among those that read different rows."""
        return self.rank // (self.tensor * self.context)

    @property
    def data_size(self) -> int:
        return self.size // (self.tensor * self.context)

    @property
    def context_rank(self) -> int:
        """Which piece of its rows' tokens is this rank's."""
        return self.rank // self.tensor % self.context

    @property
    def device(self) -> torch.device:
        """Where this rank computes: its GPU, shared in turn where there are fewer GPUs than ranks; the CPU where there is none."""
        device = resolve_device()
        if device.type != "cuda":
            return device
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the ranks that read different rows, or different pieces of them, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values.div_(self.tensor) if self.tensor > 1 else values

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks that read different rows, in their order."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values[:: self.tensor * self.context]

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()


def join_world(recipe: ParallelRecipe | None = None) -> World:
    """Join the ranks that torchrun or `start_ranks` launched; alone without them. Raises ConfigError if they cannot be shared out
    as the recipe says."""
    recipe = recipe or ParallelRecipe()
    size, together = int(os.environ.get("WORLD_SIZE", "1")), recipe.tensor * recipe.context
    if size % together:
        told = f"parallel.tensor {recipe.tensor} times parallel.context {recipe.context}"
        raise ConfigError(f"{told}: {size} processes are no multiple of it; start as many with --processes")
    if size == 1:
        if recipe.data == "fsdp" and not dist.is_initialized():
            dist.init_process_group(_backend(1), store=dist.HashStore(), rank=0, world_size=1)
        return World()
    if torch.cuda.is_available():
        # torch's engine works on the current GPU, whatever tensors are given to it.
        torch.cuda.set_device(World(int(os.environ["RANK"]), size).device)
    store = None
    if not dist.is_initialized():
        store = meet(_backend(int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))))
    return World(dist.get_rank(), size, recipe.tensor, recipe.context, store)


def _backend(on_this_machine: int) -> str:
    """NCCL wants a GPU for every rank; gloo carries what lies on the CPU, and all of it where ranks share a GPU."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.device_count() >= on_this_machine else "gloo"


def leave_world(world: World) -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def joined(recipe: ParallelRecipe | None = None) -> Iterator[World]:
    """`join_world`, and leaving it. A mistake in recipe or command, which every rank meets, is said by one of them; the others end
    with exit code 1. What a rank sees when another one has gone becomes RankLost."""
    world = join_world(recipe)
    try:
        yield world
    except QwenVLError as error:
        if says_first(world.store, str(error), world.rank, world.size):
            raise
        raise SystemExit(1) from None
    except RuntimeError as error:
        if another_ended(error):
            raise RankLost(error) from error
        raise
    finally:
        leave_world(world)


class Gradients(Protocol):
    """What the trainer does with the gradients of a step, wherever they lie."""

    def clear(self) -> None:
        """Before the first backward pass."""

    def sum_over(self, world: World) -> None:
        """After the last one: the sum over all ranks that read different data."""

    def clip(self, limit: float) -> float:
        """Scale the gradients to a norm of at most `limit`. Returns the norm before, the same on every rank; if that is inf or nan,
        nothing is done."""
        ...


class GradientBuffer:
    """All gradients of a dtype in one flat tensor, which the parameters' `.grad` are views of: summing over ranks needs no copy."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.flat: dict[torch.dtype, Tensor] = {}
        self.views: list[Tensor] = []
        for dtype in {p.dtype: None for p in self.parameters}:
            size = sum(p.numel() for p in self.parameters if p.dtype == dtype)
            self.flat[dtype] = torch.zeros(size, dtype=dtype, device=self.parameters[0].device)
        used = dict.fromkeys(self.flat, 0)
        for p in self.parameters:
            start = used[p.dtype]
            self.views.append(self.flat[p.dtype][start : start + p.numel()].view_as(p))
            used[p.dtype] += p.numel()

    def clear(self) -> None:
        """Zero the buffer. Parameters that do not train now get no gradient, so the optimiser passes them over."""
        for flat in self.flat.values():
            flat.zero_()
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view if parameter.requires_grad else None

    def sum_over(self, world: World) -> None:
        for flat in self.flat.values():
            if flat.dtype == torch.float32 or world.size == 1:
                world.sum(flat)
                continue
            for piece in flat.split(CHUNK):  # of bfloat16 sums would be rounded once a rank
                piece.copy_(world.sum(piece.float()))

    def clip(self, limit: float) -> float:
        norm = float(torch.stack([norm64(flat) for flat in self.flat.values()]).norm())
        if limit < norm < float("inf"):
            for flat in self.flat.values():
                flat.mul_(limit / norm)
        return norm


def norm64(values: Tensor) -> Tensor:
    """The norm of a flat tensor, in float64 and without a copy of it: in float32 a sum over millions of squares is off by parts in
    ten thousand, and with it the step that is clipped."""
    # On the CPU torch's kernel of two dtypes is not vectorised: pieces that fit the cache, made float64 first, take a sixth of it.
    pieces = values.split(CHUNK if values.device.type != "cpu" else 1 << 18)
    return torch.stack([piece.double().norm() for piece in pieces]).norm()


# Without these, glibc hands every large activation back to the kernel and faults it in again: 30,000 page faults a step of stage
# 0 of the nano, 2,000 with them.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 33), "MALLOC_TRIM_THRESHOLD_": str(1 << 33)}

# oneDNN, and torch's layer over it, each keep the last 1024 products in bf16 that they prepared, about 0.3 MB for every shape.
# Packed rows bring new shapes with every step: without a bound a rank grows by several MB a step, up to several GB
# (the same in github.com/pytorch/pytorch/issues/98688). A step of the nano prepares fewer than 100.
BOUND_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "256"}


def bound_caches() -> None:
    """Limit what the matrix library remembers. Read at its first product, so this must come before; what the user set stays."""
    for name, capacity in BOUND_CACHES.items():
        os.environ.setdefault(name, capacity)


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library is glibc; elsewhere do nothing.

    Rows of ever new lengths leave holes in the heap that KEEP_MEMORY keeps: they grow by a MB a step while what is in use does not.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


GRACE = 5.0
"""Seconds that ranks have to end by themselves after one of them failed."""


def start_ranks(processes: int, arguments: Sequence[str]) -> int:
    """Run `qwenvl ARGUMENTS` as `processes` ranks on this machine and return their exit code, or that of one that failed.

    An interrupt is passed on, so that every rank ends its step and saves. If one rank dies, the others are ended too.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {**KEEP_MEMORY, **os.environ, "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    # -P: a folder called qwenvl where the user stands is not the package.
    command = [sys.executable, "-P", "-m", "qwenvl", *arguments]
    ranks = [
        # A session of its own: a Ctrl-C on the terminal then arrives once, through the handler below.
        subprocess.Popen(command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, start_new_session=True)
        for rank in range(processes)
    ]

    def pass_on(number: int, frame: object) -> None:
        for process in ranks:
            if process.poll() is None:
                process.send_signal(number)

    handlers = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(ranks)
    finally:
        for process in ranks:
            if process.poll() is None:
                process.kill()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _wait(ranks: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all ranks. Once one fails the others, which may wait for it for ever, get GRACE seconds to say what they know."""
    deadline = float("inf")
    while time.monotonic() < deadline:
        codes = [process.poll() for process in ranks]
        if None not in codes:
            break
        if deadline == float("inf") and any(code not in (None, 0, 130) for code in codes):
            deadline = time.monotonic() + GRACE
        time.sleep(0.1)
    codes = [process.poll() for process in ranks]
    failed = [code for code in codes if code not in (None, 0, 130)]
    if failed:
        return failed[0] if failed[0] > 0 else 128 - failed[0]
    return max(code for code in codes if code is not None)
