"""Checkpoints of a run: written whole or not at all, and refused where they do not belong. Where every rank has all weights, one
file each; what several ranks write is a folder (`sharded_checkpoint`)."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException

from qwenvl.train.fingerprints import of_model
from qwenvl.train.sharded_checkpoint import drop_old, read_state, read_whole
from qwenvl.train.split_adamw import join
from qwenvl.types import QwenVLError
from qwenvl.weights.hub import ModelNotFound, builtin_models, resolve
from qwenvl.weights.io import CONFIG, load_model

FILE = re.compile(r"step_(\d{8})(\.pt)?")
FOLDER = "checkpoints"
TOKEN_TABLES = ("embed_tokens.weight", "lm_head.weight")
"""Of a decoder: one row per token."""


class CheckpointError(QwenVLError):
    """A checkpoint that is missing, unreadable, or of another vocabulary, markup or world."""


def lock_run(run: Path) -> IO[str]:
    """Hold the run's folder for as long as the file returned stays open; raise CheckpointError where another process holds it."""
    run.mkdir(parents=True, exist_ok=True)
    file = (run / "lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise CheckpointError(f"{run}: another process is training in this folder; wait for it, or --set run=FOLDER") from None
    return file


def save_checkpoint(run: Path, state: Mapping[str, Any], keep: int) -> Path:
    """Write `state` (its `step` names the file), then drop all but the newest `keep`. A crash leaves the older ones whole.

    Raises CheckpointError where the file cannot be written, as on a full disk.
    """
    path = checkpoint_path(run, state["step"])
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer has its own words for a write that failed
        partial.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
    drop_old(path.parent, keep)
    return path


def checkpoint_path(run: Path, step: int) -> Path:
    return run / FOLDER / f"step_{step:08d}.pt"


def cannot_write(path: Path, error: BaseException, rank: int | None = None) -> CheckpointError:
    """One line for a checkpoint that could not be written (by `rank`, if that is known), with what is still there."""
    older = list_checkpoints(path.parent.parent)
    left = f"{older[-1].name} is whole: --resume goes on from there" if older else "there is no older one"
    writer = "" if rank is None else f" by rank {rank}"
    return CheckpointError(f"{path}: cannot be written{writer} ({_reason(error)}); free some space; {left}")


def _reason(error: BaseException) -> str:
    """What the system said, where that is known: torch's writer tells of it in words of its own, or of its counts alone."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__context__
    told = str(error).partition("\n")[0]
    return "not all of it was taken" if "inline_container" in told else told


def list_checkpoints(run: Path) -> list[Path]:
    """Oldest first."""
    return sorted(path for path in (run / FOLDER).glob("step_*") if FILE.fullmatch(path.name))


def restarted(run: Path) -> bool:
    """Whether torchrun has started these ranks again after one of them died (--max-restarts), and there is a checkpoint to go on
    from."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0 and bool(list_checkpoints(run))


def read_checkpoint(path: Path, part: str = "") -> dict[str, Any]:
    """All of a file, whose tensors take memory as they are touched; of a folder that several ranks wrote, the model or that part of
    it, with the lower halves of split masters, and what is not a tensor. Raises CheckpointError where it is not a checkpoint."""
    try:
        if path.is_dir():
            model, low = read_whole(path, "model.", part), read_whole(path, "optimiser.", part, ".low")
            return read_state(path) | {"model": model, "optimiser": low, "objective": {}}
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (Exception, CheckpointException) as error:
        kind = type(error).__name__
        raise CheckpointError(f"{path}: not a readable checkpoint ({kind}); delete it to use an older one") from error
    return state


def latest(run: Path, part: str = "") -> dict[str, Any]:
    """The newest checkpoint of a run's folder, of its model perhaps only what begins with `part`."""
    return read_checkpoint(newest(run), part)


def newest(run: Path) -> Path:
    found = list_checkpoints(run)
    if not found:
        raise CheckpointError(f"{run}: no checkpoint in it; train it first, or correct the path")
    return found[-1]


def check_fingerprint(saved: Mapping[str, str], now: Mapping[str, str], where: str, keys: tuple[str, ...]) -> None:
    """Raise CheckpointError if what the weights learnt to read and write is no longer what the code would feed them."""
    for key in keys:
        if saved.get(key) != now.get(key):
            before, after = (str(prints.get(key, "unknown"))[:12] for prints in (saved, now))
            raise CheckpointError(f"{where}: made with another {key} ({before}, now {after}); restore that {key}, or train anew")


def load_parts(model: nn.Module, dense_heads: nn.Module | None, sources: Mapping[str, str], fingerprint: Mapping[str, str]) -> None:
    """Copy the model's named parts, and "dense_heads", each from an earlier run or from a finished model.

    A source is the folder of a run, the folder of a model, or the name of a model in the package. Strict: a missing, unknown or
    misshapen tensor is a CheckpointError that names it. A decoder must have been trained with the same vocabulary and markup, or
    with the vocabulary of which this one is a renaming (`renamed_from`). Then it is another generation's: its text is the same to
    the token, its markup of places is not. Its embedding, and its head, may have fewer rows: those beyond them, which are the
    tokens that it does not have, keep their initialisation.
    """
    for part, source in sources.items():
        where = f"init_from.{part}: {source}"
        state = latest(Path(source), part) if (Path(source) / FOLDER).is_dir() else _finished_model(source, where)
        if state.get("partial"):
            raise CheckpointError(f"{where}: that run trained adapters; name its finished model, {source}/model")
        renamed = part == "decoder" and state["fingerprint"].get("vocabulary") == fingerprint.get("renamed_from", "")
        if part == "decoder" and not renamed:
            check_fingerprint(state["fingerprint"], fingerprint, where, ("vocabulary", "markup"))
        if part == "dense_heads":
            if not state["objective"]:
                raise CheckpointError(f"{where}: has no dense heads; name a run that trained them, or leave the key out")
            # The whole of one objective, a part of the other.
            weights = {name.removeprefix("dense."): value for name, value in state["objective"].items()}
            target = dense_heads
        else:
            inside = f"{part}."
            weights = {name.removeprefix(inside): _master(state, name) for name in state["model"] if name.startswith(inside)}
            target = model.get_submodule(part)
        if target is None:
            raise CheckpointError(f"{where}: this objective has no dense heads; set objective.dense_weight, or leave the key out")
        _load_strictly(target, _with_new_rows(weights, target) if renamed else weights, where)


def _master(state: Mapping[str, Any], name: str) -> torch.Tensor:
    """A weight in float32 where the run had it so, though its model had it in bfloat16."""
    weight, low = state["model"][name], state.get("optimiser", {}).get(f"{name}.low")
    return weight if low is None else join(weight, low)


def _with_new_rows(weights: Mapping[str, torch.Tensor], target: nn.Module) -> dict[str, torch.Tensor]:
    """The weights with `target`'s own rows after theirs, in tables with a row per token. One of another width, or of more rows, is
    left as it is, to be refused."""
    completed, own = dict(weights), target.state_dict()
    for name in TOKEN_TABLES:
        if name in weights and name in own and weights[name].shape[1:] == own[name].shape[1:]:
            completed[name] = torch.cat([weights[name], own[name][len(weights[name]) :]])
    return completed


def _finished_model(source: str, where: str) -> dict[str, Any]:
    """A finished model as that part of a checkpoint that `load_parts` reads. It has no dense heads."""
    try:
        folder = resolve(Path(source))  # a path: a misspelt run is not asked for on the hub
    except ModelNotFound:
        known = ", ".join(builtin_models())
        problem = f"neither a run nor a model (built in: {known})"
        raise CheckpointError(f"{where}: {problem}; train it first, or correct the name") from None
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{where}: neither a run nor a model: no {FOLDER} and no {CONFIG} in it; correct the path")
    try:
        model = load_model(folder, device="cpu", dtype=torch.float32)
    except QwenVLError as error:
        raise CheckpointError(f"{where}: {error}") from None
    return {"model": model.state_dict(), "objective": {}, "fingerprint": _fingerprint_on_card(folder / "card.json", where)}


def _fingerprint_on_card(path: Path, where: str) -> dict[str, str]:
    """What a finished model was trained with; where it has no card, what its own files say."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return of_model(path.parent)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{where}: {path.name} cannot be read ({error}); restore it") from None
    found = card.get("fingerprint") if isinstance(card, dict) else None
    return found if isinstance(found, dict) else {}


def _load_strictly(target: nn.Module, weights: Mapping[str, torch.Tensor], where: str) -> None:
    expected = target.state_dict()
    wrong = [name for name in sorted(set(weights) | set(expected)) if _shape(weights, name) != _shape(expected, name)]
    if wrong:
        there, here = (_shape(tensors, wrong[0]) or "absent" for tensors in (weights, expected))
        raise CheckpointError(f"{where}: {wrong[0]} is {there} there, {here} here ({len(wrong)} tensors differ)")
    target.load_state_dict(weights)


def _shape(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None
