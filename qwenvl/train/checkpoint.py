"""Checkpoints of a run: one file each, written whole or not at all, and refused where they do not belong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qwenvl.types import QwenVLError

FILE = re.compile(r"step_(\d{8})\.pt")
FOLDER = "checkpoints"


class CheckpointError(QwenVLError):
    """A checkpoint that is missing, unreadable, or of another vocabulary, markup or world."""


def save_checkpoint(run: Path, state: Mapping[str, Any], keep: int) -> Path:
    """Write `state` (its `step` names the file), then drop all but the newest `keep`. A crash leaves the older ones whole."""
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{state['step']:08d}.pt"
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    for old in list_checkpoints(run)[:-keep]:
        old.unlink()
    return path


def list_checkpoints(run: Path) -> list[Path]:
    """Oldest first."""
    return sorted(path for path in (run / FOLDER).glob("step_*.pt") if FILE.fullmatch(path.name))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Raises CheckpointError where the file is not a checkpoint."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({type(error).__name__}); delete it to use an older one") from error
    return state


def latest(run: Path) -> dict[str, Any]:
    """The newest checkpoint of a run's folder."""
    found = list_checkpoints(run)
    if not found:
        raise CheckpointError(f"{run}: no checkpoint in it; train it first, or correct the path")
    return read_checkpoint(found[-1])


def check_fingerprint(saved: Mapping[str, str], now: Mapping[str, str], where: str, keys: tuple[str, ...]) -> None:
    """Raise CheckpointError if what the weights learnt to read and write is no longer what the code would feed them."""
    for key in keys:
        if saved.get(key) != now.get(key):
            raise CheckpointError(
                f"{where}: made with another {key} ({str(saved.get(key))[:12]}, now {str(now.get(key))[:12]}); train anew or restore that {key}"
            )


def load_parts(model: nn.Module, sources: Mapping[str, str], fingerprint: Mapping[str, str]) -> None:
    """Copy named parts from the folders of earlier runs, strictly: a missing, unknown or misshapen tensor is an error that names it.

    A decoder must have been trained with the same vocabulary and markup.
    """
    for part, folder in sources.items():
        state = latest(Path(folder))
        if part == "decoder":
            check_fingerprint(state["fingerprint"], fingerprint, folder, ("vocabulary", "markup"))
        weights = {name.removeprefix(f"{part}."): value for name, value in state["model"].items() if name.startswith(f"{part}.")}
        target = model.get_submodule(part)
        expected = target.state_dict()
        wrong = [name for name in sorted(set(weights) | set(expected)) if _shape(weights, name) != _shape(expected, name)]
        if wrong:
            name = wrong[0]
            raise CheckpointError(
                f"init_from.{part}: {folder}: {part}.{name} is {_shape(weights, name) or 'absent'} there, "
                f"{_shape(expected, name) or 'absent'} here ({len(wrong)} tensors differ)"
            )
        target.load_state_dict(weights)


def _shape(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None
