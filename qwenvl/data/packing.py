"""Three ways of putting several encoded samples into one row: questions about one picture, same-task neighbours, strangers.

`share_prefix`  several questions about one picture behind one copy of it; no question sees another
                (multi-annotation packing of Molmo, arXiv 2409.17146, section 3).
`interleave`    one document, attention across its samples: what Qwen-VL's second stage does with samples of one task
                (arXiv 2308.12966, section 3.2).
`isolate`       several documents that share a row's budget and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwenvl.processing.collate import join_windows
from qwenvl.processing.patches import join_patches
from qwenvl.types import IGNORE_INDEX, Encoded, QwenVLError


class PackingError(QwenVLError, ValueError):
    """Samples that cannot share a row."""


def prefix_length(encoded: Encoded) -> int:
    """Tokens up to and including the one that closes the last picture; 0 without a picture."""
    return int(encoded.visual_slots[-1]) + 2 if len(encoded.visual_slots) else 0


def share_prefix(samples: Sequence[Encoded]) -> Encoded:
    """One row for several samples that begin with the same pictures: the common prefix once, then one branch a sample. Samples
    without a picture share nothing: their row is branches alone.

    `branch_ids` is 0 on the prefix and 1, 2, … on the samples' own tokens, each at the positions that it has alone: they all start
    again at the one that follows the prefix, which after a picture is one more than the largest on any axis.
    Raises PackingError where the prefixes or the pictures differ, or where the prefix or a branch's first token is supervised
    (the prefix has one next token, the branches have several first ones).
    """
    first = samples[0]
    length = prefix_length(first)
    for sample in samples:
        _check_same_start(first, sample, length)
    tails = [slice(length, len(sample)) for sample in samples]

    def joined(name: str) -> np.ndarray:
        own = [getattr(sample, name)[..., tail] for sample, tail in zip(samples, tails, strict=True)]
        return np.concatenate([getattr(first, name)[..., :length], *own], axis=-1)

    branch_ids = np.repeat(np.arange(len(samples) + 1), [length, *(len(sample) - length for sample in samples)])
    weighted = any(sample.loss_weights is not None for sample in samples)
    return first.with_(
        input_ids=joined("input_ids"),
        labels=joined("labels"),
        position_ids=joined("position_ids"),
        branch_ids=branch_ids,
        loss_weights=_joined_weights(samples, length) if weighted else None,
        sample_id="+".join(sample.sample_id for sample in samples),
        task="+".join(sample.task for sample in samples),
    )


def interleave(samples: Sequence[Encoded], budget: int) -> Encoded:
    """One document of whole samples in order, each attending to those before it; positions run on. See `isolate` for the budget."""
    taken = isolate(samples, budget)
    positions: list[np.ndarray] = []
    slots: list[np.ndarray] = []
    next_position = offset = 0
    for sample in taken:
        positions.append(sample.position_ids + next_position)
        slots.append(sample.visual_slots + offset)
        next_position += int(sample.position_ids.max()) + 1
        offset += len(sample)
    weighted = any(sample.loss_weights is not None for sample in taken)
    return Encoded(
        input_ids=np.concatenate([sample.input_ids for sample in taken]),
        labels=np.concatenate([sample.labels for sample in taken]),
        position_ids=np.concatenate(positions, axis=1),
        patches=join_patches([sample.patches for sample in taken]),
        grids=np.concatenate([sample.grids for sample in taken]),
        visual_slots=np.concatenate(slots),
        image_sizes=tuple(size for sample in taken for size in sample.image_sizes),
        windows=join_windows(taken),
        loss_weights=np.concatenate([_weights(sample) for sample in taken]) if weighted else None,
        sample_id="+".join(sample.sample_id for sample in taken),
        task=taken[0].task,
    )


def isolate(samples: Sequence[Encoded], budget: int) -> list[Encoded]:
    """The samples in order up to the first that would pass `budget` tokens in all; an encoded sample is never cut.

    Raises PackingError if not even the first one fits.
    """
    totals = np.cumsum([len(sample) for sample in samples])
    taken = list(samples[: int(np.searchsorted(totals, budget, side="right"))])
    if not taken:
        raise PackingError(
            f"{samples[0].sample_id}: {len(samples[0])} tokens exceed the row's budget of {budget}; raise data.row_tokens"
        )
    return taken


def _check_same_start(first: Encoded, sample: Encoded, length: int) -> None:
    where = f"{first.sample_id} and {sample.sample_id}"
    if not np.array_equal(sample.input_ids[:length], first.input_ids[:length]):
        raise PackingError(f"{where}: the text up to the end of the picture differs, so they cannot share it")
    same_pixels = sample.patches is first.patches or np.array_equal(sample.patches, first.patches)
    if prefix_length(sample) != length or not same_pixels or not np.array_equal(sample.grids, first.grids):
        raise PackingError(f"{where}: the pictures differ, so they cannot share one")
    if len(sample) <= length or (length and (sample.labels[: length + 1] != IGNORE_INDEX).any()):
        raise PackingError(f"{sample.sample_id}: nothing before the branch's second token may be supervised")


def _joined_weights(samples: Sequence[Encoded], length: int) -> np.ndarray:
    return np.concatenate([_weights(samples[0])[:length], *(_weights(sample)[length:] for sample in samples)])


def _weights(sample: Encoded) -> np.ndarray:
    return np.ones(len(sample), np.float32) if sample.loss_weights is None else sample.loss_weights
