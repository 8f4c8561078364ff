"""Checkpoints of a run whose ranks hold parts: a folder each, written by all ranks at once beside the training, read by any number.

torch.distributed.checkpoint keeps every tensor whole in its index, whichever way it was cut. What is not a tensor lies in state.pt.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from qwenvl.train.parallel import World

STATE = "state.pt"
TENSORS = "tensors"


class ShardedWriter:
    """Writes checkpoints while training goes on. One at a time: the next one waits for the last."""

    def __init__(self, world: World) -> None:
        self.world = world
        # Of its own: the threads that write must not mix their messages with those of the training.
        self.group = dist.new_group(backend="gloo") if world.size > 1 else None
        self.pending: tuple[Any, Path, int] | None = None
        self.where = Path()
        """What is written, or was last."""

    def save(self, path: Path, state: Mapping[str, Any], tensors: Mapping[str, Tensor], keep: int) -> None:
        """Start writing. The folder has its name once it is whole; a crash leaves the older ones."""
        self.finish()
        self.where = path
        partial = path.with_name(f"{path.name}.partial")
        if self.world.leads:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            torch.save(dict(state), partial / STATE)
        self.world.wait()
        future = dcp.async_save(dict(tensors), checkpoint_id=str(partial / TENSORS), process_group=self.group)
        assert isinstance(future, Future)
        self.pending = (future, path, keep)

    def poll(self) -> None:
        """Give a finished checkpoint its name. Cheap, for every step."""
        if self.pending is not None and self.pending[0].done():
            self._name()

    def finish(self) -> None:
        """Wait for the last checkpoint. Raises what its writing raised."""
        if self.pending is not None:
            self.pending[0].result()
            self._name()
        self.world.wait()

    def _name(self) -> None:
        # The first rank's future ends after its index is written, which is after all ranks have written their parts.
        assert self.pending is not None
        future, path, keep = self.pending
        future.result()
        self.pending = None
        if self.world.leads:
            shutil.rmtree(path, ignore_errors=True)
            path.with_name(f"{path.name}.partial").replace(path)
            drop_old(path.parent, keep)


def drop_old(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints of a folder."""
    whole = sorted(path for path in folder.glob("step_*") if path.suffix != ".partial")
    for old in whole[:-keep]:
        shutil.rmtree(old) if old.is_dir() else old.unlink()


def read_state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path / STATE, map_location="cpu", weights_only=True)
    return state


def read_into(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill the tensors, each rank its own part, in place."""
    dcp.load(dict(tensors), checkpoint_id=str(path / TENSORS), no_dist=not dist.is_initialized())


def read_whole(path: Path, prefix: str, part: str = "", suffix: str = "") -> dict[str, Tensor]:
    """Every tensor whose name begins with the prefix, without it and whole, on the CPU; no other rank is needed. part, suffix: how
    names must go on, and end."""
    reader = FileSystemReader(str(path / TENSORS))
    found = reader.read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in found.items()
        if name.startswith(prefix + part) and name.endswith(suffix) and isinstance(entry, TensorStorageMetadata)
    }
    dcp.load(tensors, storage_reader=reader, no_dist=True)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
