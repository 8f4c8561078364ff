"""Encoded -> Batch: documents one after another on one token axis. The only place where labels move to the next token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwenvl.processing.patches import join_patches
from qwenvl.types import IGNORE_INDEX, Batch, Encoded, Windows


def collate(documents: Sequence[Encoded]) -> Batch:
    """Pack documents into a Batch.

    The label at t becomes the token at t + 1 if that token is in the same document and branch, else IGNORE_INDEX. Loss weights
    move with the labels; they are 1 where a document gives none, 0 where nothing is supervised.
    """
    import torch

    if not documents:
        raise ValueError("collate needs at least one document")
    aligned = [_next_token(document) for document in documents]
    offsets = np.cumsum([0, *(len(document) for document in documents[:-1])])
    branches = None
    if any(document.branch_ids is not None for document in documents):
        branches = [np.zeros(len(one), dtype=np.int64) if one.branch_ids is None else one.branch_ids for one in documents]

    windows = join_windows(documents)

    def joined(arrays: Sequence[np.ndarray], axis: int = 0) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.concatenate(arrays, axis=axis)))

    return Batch(
        input_ids=joined([document.input_ids for document in documents]),
        labels=joined([labels for labels, _ in aligned]),
        loss_weights=joined([weights for _, weights in aligned]),
        position_ids=joined([document.position_ids for document in documents], axis=1),
        document_ids=joined([np.full(len(document), index, dtype=np.int64) for index, document in enumerate(documents)]),
        branch_ids=None if branches is None else joined(branches),
        patches=torch.from_numpy(np.ascontiguousarray(join_patches([document.patches for document in documents]))),
        grids=joined([document.grids for document in documents]),
        visual_slots=joined([document.visual_slots + offset for document, offset in zip(documents, offsets, strict=True)]),
        windows=None if windows is None else Windows(joined([windows.order]), joined([windows.lengths])),
        sample_ids=tuple(document.sample_id for document in documents),
    )


def join_windows(documents: Sequence[Encoded]) -> Windows | None:
    """The windows of documents whose patches are packed one after the other; None where no document has any.

    Raises ValueError for a document whose pictures lack the windows that another's have.
    """
    pictured = [document for document in documents if len(document.grids)]
    parts = [document.windows for document in pictured if document.windows is not None]
    if not parts:
        return None
    if len(parts) != len(pictured):
        raise ValueError(f"{len(parts)} of {len(pictured)} documents with pictures have windows: they belong to two models")
    starts = np.cumsum([0, *(len(part.order) for part in parts[:-1])])
    order = [part.order + start for part, start in zip(parts, starts, strict=True)]
    return Windows(np.concatenate(order), np.concatenate([part.lengths for part in parts]))


def _next_token(document: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """Labels (T,) and weights (T,) float32 of the token that follows each one."""
    labels = np.full_like(document.labels, IGNORE_INDEX)
    labels[:-1] = document.labels[1:]
    if document.branch_ids is not None:
        labels[:-1][document.branch_ids[1:] != document.branch_ids[:-1]] = IGNORE_INDEX
    weights = np.zeros(len(document), dtype=np.float32)
    weights[:-1] = 1.0 if document.loss_weights is None else document.loss_weights[1:]
    weights[labels == IGNORE_INDEX] = 0.0
    return labels, weights
