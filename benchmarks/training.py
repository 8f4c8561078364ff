"""C9: a training step of ragged samples with pictures: ours, packed, against transformers' Qwen2.5-VL, padded and packed. And
attention as training runs it, alone (attention.py).

All have the same weights (the very same tensors), so losses and gradients are compared too. Weights are float32, products bfloat16
by autocast; the tower is frozen, everything behind it trains. Only tokens that are not padding count. transformers' packed form is
its own: positions [4, 1, T], of which the first row starts again with every sample, and no mask (modeling_qwen2_5_vl.py, 5.23).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks import attention, reference
from benchmarks.harness import Against, Bound, Case, Floor
from benchmarks.reference import Size, ours_over
from qwenvl.config import ModelConfig
from qwenvl.families import get_family
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.processing.grid import window_plan
from qwenvl.processing.positions import positions_of
from qwenvl.train.objectives import NextToken
from qwenvl.train.planning.cost import Counter, work_of_batch
from qwenvl.types import IGNORE_INDEX, Batch, Encoded

SIZE = Size(layers=4, depth=2, vision_heads=8, full_blocks=(1,))


class Ask(NamedTuple):
    """A sample: patches along the sides of its picture, tokens of the question, tokens of the answer."""

    rows: int
    columns: int
    question: int
    answer: int


# 960 tokens, 60 % of 8 times the longest one.
RAGGED = (
    Ask(16, 16, 56, 78), Ask(12, 16, 50, 64), Ask(12, 12, 42, 68), Ask(10, 12, 36, 52), Ask(8, 10, 34, 48), Ask(8, 8, 30, 44),
    Ask(6, 8, 28, 34), Ask(4, 6, 22, 26),
)  # fmt: skip


TINY_SIZE = Size(
    hidden=64, layers=2, heads=4, key_values=2, intermediate=96, vocabulary=600, width=80, depth=2, vision_heads=1,
    vision_intermediate=96, full_blocks=(1,), sections=(2, 3, 3),
)  # fmt: skip
AT_TINY_SIZE = {"size": TINY_SIZE, "samples": (Ask(8, 8, 9, 6), Ask(4, 6, 5, 4), Ask(4, 4, 3, 2))}


def cases(quick: bool, size: Size | None = None, samples: Sequence[Ask] = RAGGED) -> Iterator[Case]:
    size = size or (Size(vocabulary=32000, layers=2, depth=2, vision_heads=8, full_blocks=(1,)) if quick else SIZE)
    peer = reference.build_peer(size)
    model = ours_over(peer)
    freeze_towers(model, peer)
    yield of_step(model, peer, samples)
    del model, peer
    yield from attention.cases(quick)


def of_step(model: VisionLanguageModel, peer: Any, samples: Sequence[Ask]) -> Case:
    """Forward and backward pass; answers are learnt."""
    documents = picture_documents(model.config, samples)
    batch = collate(documents)
    padded, packed = (given(model.config, documents) for given in (padded_inputs, packed_inputs))
    tokens, places = len(batch.input_ids), sum(map(len, documents)) / len(documents) / max(map(len, documents))
    losses: dict[str, float] = {}

    def run(name: str, step: Any) -> None:
        losses[name] = step()

    def apart() -> float:
        mine, *others = losses.values()
        return max(abs(other / mine - 1) for other in others)

    def figures() -> dict[str, float]:
        """The last run was the packed peer's, whose gradients are still there, as ours are."""
        pairs = zip(*gradients(model, peer), strict=True)
        worst = max(float((a - b).norm() / b.norm()) for a, b in pairs)
        supervised = float((batch.labels != IGNORE_INDEX).sum())
        return {
            "tokens": tokens, "of them supervised": supervised, "share that is not padding": places, "losses apart": apart(),
            "gradients apart": worst,
        }  # fmt: skip

    variants = {
        "qwenvl": partial(run, "qwenvl", partial(our_step, model, batch)),
        "transformers padded": partial(run, "transformers padded", partial(their_step, peer, padded)),
        "transformers packed": partial(run, "transformers packed", partial(their_step, peer, packed)),
    }
    flops = Counter.of(model, model.config).training(work_of_batch(model.config, batch)).total
    return Case(
        f"train step, {len(samples)} samples, answers learnt, bfloat16", "token", variants, tokens, rounds=2, agreement=apart,
        figures=figures, floors={"qwenvl": Floor(flops=flops / tokens)}, bounds=[Bound("losses apart", at_most=1e-3)],
        against=[Against("qwenvl", "transformers padded", 1.6), Against("qwenvl", "transformers packed", 1.1)],
    )  # fmt: skip


def our_step(model: VisionLanguageModel, batch: Batch) -> float:
    """The loss; gradients are left in the weights."""
    objective = NextToken()
    model.zero_grad()
    with torch.autocast(batch.input_ids.device.type, torch.bfloat16):
        total = objective(model, batch).sums["next_token"]
    loss = total / objective.counts(batch)["next_token"]
    loss.backward()
    return float(loss.detach())


def their_step(peer: Any, given: dict[str, Tensor]) -> float:
    peer.zero_grad()
    peer.model.rope_deltas = None  # the peer keeps what an earlier call left there
    with torch.autocast(given["input_ids"].device.type, torch.bfloat16):
        loss = peer(**given, use_cache=False).loss
    loss.backward()
    return float(loss.detach())


def gradients(model: VisionLanguageModel, peer: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Of the projection of keys in the first layer and that of values in the last, ours and theirs: far from the loss."""

    def of(layers: Any) -> list[Tensor]:
        return [layers[0].self_attn.k_proj.weight.grad, layers[-1].self_attn.v_proj.weight.grad]

    return of(model.decoder.layers), of(peer.model.language_model.layers)


def picture_documents(config: ModelConfig, samples: Sequence[Ask]) -> list[Encoded]:
    """A picture of random patches, then random ids; what is supervised is the answer."""
    random, spec = np.random.default_rng(0), get_family(config.family)
    documents = []
    for sample in samples:
        grids = np.array([(1, sample.rows, sample.columns)], dtype=np.int64)
        pads = spec.visual_tokens(config, (1, sample.rows, sample.columns))
        text = random.integers(0, config.image_start_id - 300, sample.question + sample.answer)
        ids = np.concatenate([[config.image_start_id], np.full(pads, config.image_pad_id), [config.image_end_id], text])
        labels = ids.copy()
        labels[: pads + 2 + sample.question] = IGNORE_INDEX
        slots = np.flatnonzero(ids == config.image_pad_id)
        patches = random.standard_normal((sample.rows * sample.columns, config.vision.patch_numbers), np.float32)
        positions, windows = positions_of(config, spec, len(ids), slots, grids), window_plan(grids, config.vision)
        documents.append(Encoded(ids, labels, positions, patches, grids, slots, windows=windows))
    return documents


def padded_inputs(config: ModelConfig, documents: Sequence[Encoded]) -> dict[str, Tensor]:
    """One row a sample, as long as the longest; positions are the peer's own."""
    longest = max(map(len, documents))

    def padded(rows: Sequence[np.ndarray[Any, Any]], value: int) -> Tensor:
        return torch.from_numpy(np.stack([np.pad(row, (0, longest - len(row)), constant_values=value) for row in rows]))

    ids = padded([one.input_ids for one in documents], 0)
    return {
        "input_ids": ids, "labels": padded([one.labels for one in documents], IGNORE_INDEX),
        "attention_mask": padded([np.ones(len(one), np.int64) for one in documents], 0), **_pictures(config, documents, ids),
    }  # fmt: skip


def packed_inputs(config: ModelConfig, documents: Sequence[Encoded]) -> dict[str, Tensor]:
    """One row for all samples. The peer moves labels to the next token, so a sample's first one must not be learnt."""

    def joined(rows: Sequence[np.ndarray[Any, Any]]) -> Tensor:
        return torch.from_numpy(np.concatenate(rows, axis=-1))

    labels = joined([np.concatenate([[IGNORE_INDEX], one.labels[1:]]) for one in documents])
    own, axes = joined([np.arange(len(one)) for one in documents]), joined([one.position_ids for one in documents])
    ids = joined([one.input_ids for one in documents])[None]
    positions = torch.cat([own[None], axes])[:, None]
    return {"input_ids": ids, "labels": labels[None], "position_ids": positions, **_pictures(config, documents, ids)}


def _pictures(config: ModelConfig, documents: Sequence[Encoded], ids: Tensor) -> dict[str, Tensor]:
    patches, grids = (np.concatenate([getattr(one, name) for one in documents]) for name in ("patches", "grids"))
    return {
        "pixel_values": torch.from_numpy(patches), "image_grid_thw": torch.from_numpy(grids),
        "mm_token_type_ids": (ids == config.image_pad_id).int(),
    }  # fmt: skip


def freeze_towers(model: VisionLanguageModel, peer: Any) -> None:
    """Put both into training; mergers train, what lies before them does not."""
    model.train()
    peer.train()
    for tower, merger in ((model.vision_tower, model.connector), (peer.model.visual, peer.model.visual.merger)):
        tower.requires_grad_(False)
        merger.requires_grad_(True)
