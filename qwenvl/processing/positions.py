"""Position ids as plain data, made before the model. Rows are time, height, width; in 1-D families the three are equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from qwenvl.config import ModelConfig
from qwenvl.families.spec import FamilySpec


def positions_of(
    config: ModelConfig,
    spec: FamilySpec,
    length: int,
    visual_slots: np.ndarray,
    grids: np.ndarray,
    seconds_per_grid: Sequence[float | None] | None = None,
    branch_ids: np.ndarray | None = None,
) -> np.ndarray:
    """(3, length) int64 by the family's rule; arguments as for `mrope_positions`."""
    if spec.positions == "line":
        return positions_1d(length, branch_ids)
    seconds = [None] * len(grids) if seconds_per_grid is None else seconds_per_grid
    merge = config.vision.merge_size
    return mrope_positions(length, visual_slots, grids, merge, seconds, config.tokens_per_second, branch_ids)


def positions_1d(length: int, branch_ids: np.ndarray | None = None) -> np.ndarray:
    """(3, length) int64: 0, 1, 2, ...

    With `branch_ids` (length,), where 0 is the shared prefix, which comes first, every branch starts again right after the
    prefix, so that a branch has the positions that it would have alone.
    """
    none = np.empty((0, 3), dtype=np.int64)
    return mrope_positions(length, none[:, 0], none, 1, (), None, branch_ids)


def mrope_positions(
    length: int,
    visual_slots: np.ndarray,
    grids: np.ndarray,
    merge_size: int,
    seconds_per_grid: Sequence[float | None],
    tokens_per_second: float | None,
    branch_ids: np.ndarray | None = None,
) -> np.ndarray:
    """M-RoPE: (3, length) int64, rows time, height, width.

    A text token has one position on all three axes, the next one. A picture or video of `grids` (n, 3), patches in time, height,
    width, spreads its visual tokens (the next of `visual_slots`) over the axes from there on: time by frame, height by row, width
    by column. What follows continues after the largest position on any axis (section 2.1 of arXiv 2409.12191, as transformers
    4.45 to 4.57 do; 5.x leaves time out, so that text may start inside a long video).

    Time counts temporal patches, or, where `tokens_per_second` and the video's `seconds_per_grid` are given, seconds: the whole
    part of patch * seconds_per_grid * tokens_per_second (2.1.3 of arXiv 2502.13923). The product is taken in float32, in which the
    published code has it, and cut to a whole number last: patches closer than one position apart share one, but not all become 0.

    With `branch_ids` (length,), where 0 is the shared prefix, which comes first, every branch starts again at the prefix's next
    position, so that a branch has the positions that it would have alone; a picture must not be split between branches.
    Raises ValueError where slots and grids do not fit.
    """
    grids = np.asarray(grids, dtype=np.int64).reshape(-1, 3)
    visual_slots = np.asarray(visual_slots, dtype=np.int64)
    counts = grids.prod(axis=1) // merge_size**2
    if counts.sum() != len(visual_slots) or len(seconds_per_grid) != len(grids):
        raise ValueError(
            f"{len(visual_slots)} visual slots, {len(seconds_per_grid)} durations, but {len(grids)} grids of {counts.sum()} tokens"
        )
    owner = np.full(length, -1, dtype=np.int64)
    owner[visual_slots] = np.repeat(np.arange(len(grids)), counts)
    positions = np.empty((3, length), dtype=np.int64)
    start = 0
    for branch, own in enumerate(_branches(length, branch_ids)):
        cursor = start
        for picture, run in _runs(owner, own):
            if picture < 0:
                block = np.broadcast_to(np.arange(len(run)), (3, len(run)))
            else:
                block = _spread(grids[picture], merge_size, seconds_per_grid[picture], tokens_per_second)
                if len(run) != counts[picture]:
                    raise ValueError(f"picture {picture + 1} has {counts[picture]} tokens, but {len(run)} of them lie together")
            positions[:, run] = cursor + block
            cursor += int(block.max()) + 1
        start = cursor if branch == 0 else start
    return positions


def next_position(position_ids: np.ndarray) -> int:
    """The position of the first token decoded after a prompt with `position_ids` (3, T): one more than the largest of all axes."""
    return int(position_ids.max()) + 1 if position_ids.size else 0


def _spread(grid: np.ndarray, merge: int, seconds: float | None, tokens_per_second: float | None) -> np.ndarray:
    """(3, tokens) of one picture or video from 0 on, in the order of its tokens: time, row, column."""
    frames, height, width = int(grid[0]), int(grid[1]) // merge, int(grid[2]) // merge
    time = np.arange(frames)
    if seconds is not None and tokens_per_second is not None:
        time = (time.astype(np.float32) * np.float32(seconds) * np.float32(tokens_per_second)).astype(np.int64)
    axes = (time[:, None, None], np.arange(height)[:, None], np.arange(width))
    return np.stack([np.broadcast_to(axis, (frames, height, width)).ravel() for axis in axes])


def _branches(length: int, branch_ids: np.ndarray | None) -> Iterator[np.ndarray]:
    """Indices of the shared prefix, then of every branch."""
    if branch_ids is None:
        yield np.arange(length)
        return
    branch_ids = np.asarray(branch_ids)
    if branch_ids.shape != (length,):
        raise ValueError(f"branch_ids has shape {branch_ids.shape}, expected ({length},)")
    prefix = int((branch_ids == 0).sum())
    if (branch_ids[:prefix] != 0).any():
        raise ValueError("the shared prefix (branch 0) must come before every branch")
    yield np.arange(prefix)
    for branch in np.unique(branch_ids[prefix:]):
        yield np.flatnonzero(branch_ids == branch)


def _runs(owner: np.ndarray, own: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The tokens `own` cut where another picture, or text (-1), begins: (owner, indices)."""
    if not len(own):
        return
    cuts = np.flatnonzero(np.diff(owner[own])) + 1
    for run in np.split(own, cuts):
        yield int(owner[run[0]]), run
