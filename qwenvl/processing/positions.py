"""Position ids as plain data, made before the model. Rows are time, height, width; in 1-D families the three are equal."""

from __future__ import annotations

import numpy as np


def positions_1d(length: int, branch_ids: np.ndarray | None = None) -> np.ndarray:
    """(3, length) int64: 0, 1, 2, ...

    With `branch_ids` (length,), where 0 is the shared prefix, which comes first, every branch starts again right after the
    prefix, so that a branch has the positions that it would have alone.
    """
    positions = np.arange(length, dtype=np.int64)
    if branch_ids is not None:
        branch_ids = np.asarray(branch_ids)
        if branch_ids.shape != (length,):
            raise ValueError(f"branch_ids has shape {branch_ids.shape}, expected ({length},)")
        prefix = int((branch_ids == 0).sum())
        if (branch_ids[:prefix] != 0).any():
            raise ValueError("the shared prefix (branch 0) must come before every branch")
        for branch in np.unique(branch_ids[prefix:]):
            own = branch_ids == branch
            positions[own] = prefix + np.arange(own.sum())
    return np.broadcast_to(positions, (3, length)).copy()


def next_position(position_ids: np.ndarray) -> int:
    """The position of the first token decoded after a prompt with `position_ids` (3, T)."""
    return int(position_ids.max()) + 1 if position_ids.size else 0
