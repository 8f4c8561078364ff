"""How a run is kept: in one file that the first rank writes, or in a folder that all ranks write while training goes on."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.distributed.checkpoint.api import CheckpointException

from qwenvl.train.checkpoint import CheckpointError, cannot_write, checkpoint_path, newest, read_checkpoint, save_checkpoint
from qwenvl.train.meeting import another_ended
from qwenvl.train.parallel import World
from qwenvl.train.sharded_checkpoint import ShardedWriter, read_into, read_state
from qwenvl.train.state import RunState, flat


class Keeper(Protocol):
    """Called by every rank alike. `plain` is what a checkpoint holds beside tensors: numbers, texts, lists."""

    def save(self, run: Path, plain: Mapping[str, Any], state: RunState, keep: int) -> None: ...

    def read_plain(self, run: Path) -> dict[str, Any]:
        """What is beside the tensors in the newest checkpoint. Raises CheckpointError."""
        ...

    def restore(self, state: RunState) -> None:
        """Read the tensors of the checkpoint that `read_plain` opened."""

    def poll(self) -> None:
        """After every step."""

    def finish(self) -> None:
        """All that was saved is on the disk."""


class FileKeeper:
    def __init__(self, world: World) -> None:
        self.world = world
        self._opened: dict[str, Any] = {}

    def save(self, run: Path, plain: Mapping[str, Any], state: RunState, keep: int) -> None:
        if self.world.leads:
            save_checkpoint(run, {**plain, **state.tensors()}, keep)

    def read_plain(self, run: Path) -> dict[str, Any]:
        path = newest(run)
        if path.is_dir():
            raise CheckpointError(f"{path}: written with parallel.data fsdp; resume it so, on any number of processes")
        self._opened = read_checkpoint(path)
        return self._opened

    def restore(self, state: RunState) -> None:
        state.load(self._opened)
        self._opened = {}

    def poll(self) -> None:
        pass

    def finish(self) -> None:
        self.world.wait()


class FolderKeeper:
    def __init__(self, world: World) -> None:
        self.writer = ShardedWriter(world)
        self._opened = Path()

    def save(self, run: Path, plain: Mapping[str, Any], state: RunState, keep: int) -> None:
        tensors = state.tensors()
        path = checkpoint_path(run, plain["step"]).with_suffix("")
        with _one_line(path):
            self.writer.save(path, {**plain, "states_of": list(tensors["optimiser"])}, flat(tensors), keep)

    def read_plain(self, run: Path) -> dict[str, Any]:
        self._opened = newest(run)
        if not self._opened.is_dir():
            raise CheckpointError(f"{self._opened}: written with parallel.data replicate; resume it so, or start another run")
        with _readable(self._opened):
            return read_state(self._opened)

    def restore(self, state: RunState) -> None:
        with torch.no_grad(), _readable(self._opened):
            state.make_blank(read_state(self._opened)["states_of"])
            read_into(self._opened, flat(state.tensors()))

    def poll(self) -> None:
        with _one_line(self.writer.where):
            self.writer.poll()

    def finish(self) -> None:
        with _one_line(self.writer.where):
            self.writer.finish()


# torch's CheckpointException, which every rank raises for the fault of one, is no Exception.
FAULTS = (CheckpointException, OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError)


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except FAULTS as error:
        if another_ended(error):
            raise
        raise cannot_write(path, *_origin(error)) from error


def _origin(error: BaseException) -> tuple[BaseException, int | None]:
    """What went wrong, and on which rank: torch's own text of it is a page."""
    for rank, (cause, _) in sorted(getattr(error, "failures", {}).items()):
        return cause, rank
    return error, None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FAULTS as error:
        kind = type(error).__name__
        raise CheckpointError(f"{path}: not a readable checkpoint ({kind}); delete it to use an older one") from error
