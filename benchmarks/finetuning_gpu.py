"""Finetuning of Qwen2.5-VL-3B on ragged samples with pictures, on one GPU: ours, packed, against transformers, padded.

Both have the same weights and frozen towers, and add up the gradients of 64 samples before one step of AdamW. Ours keeps exact
float32 masters (14 bytes a weight); weights, gradients and moments of the peer are all bfloat16 (8 bytes), so that its AdamW has
less to do. Times of both parts are told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_steps import BETAS, CLIP, RATE, Steps, checkpoint_blocks, clock, forget, layers_to_keep, peak_gib
from benchmarks.reference import ours_over
from benchmarks.training import Ask, freeze_towers, padded_inputs, picture_documents
from qwenvl.data.bins import pack_lengths
from qwenvl.families import find_preset, get_family
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.runtime import resolve_device
from qwenvl.train.objectives import NextToken
from qwenvl.types import IGNORE_INDEX, Batch

STEPS = 4
AT_ONCE, ROW = 4, 4096
"""Samples of a padded micro-batch, and tokens of a packed one: about as many."""


def compare(tiny: bool) -> dict[str, Any]:
    device = resolve_device()
    preset = find_preset("qwen2.5-vl-nano" if tiny else "qwen2.5-vl-3b")
    peer = build_peer(get_family(preset.config.family).write_config(preset.config), device)
    model = ours_over(peer)
    freeze_towers(model, peer)
    documents = picture_documents(model.config, ragged(8 if tiny else 64, tiny))
    lengths = [len(document) for document in documents]
    groups = [documents[start : start + AT_ONCE] for start in range(0, len(documents), AT_ONCE)]
    rows = pack_lengths(lengths, max(*lengths, 0 if tiny else ROW))
    batches = [collate([documents[index] for index in row]) for row in rows]
    before = loss_of(model, batches, device)

    padded = [padded_inputs(model.config, group) for group in groups]
    theirs = peer_steps(peer, padded, sum(lengths), device)
    peer.zero_grad(set_to_none=True)
    forget(device)
    kept = layers_to_keep(model, batches, 12)
    checkpoint_blocks(model, kept)
    ours = Steps(model, batches, rate=RATE).run(STEPS)
    return {
        **ours, "layers_kept": kept, "rows": len(rows), "transformers": theirs,
        "share_not_padding": sum(lengths) / sum(given["input_ids"].numel() for given in padded),
        "loss_apart": abs(before / theirs["losses"][0] - 1),
        "times_peer": theirs["step_s"] / ours["step_s"],
        "times_peer_forward_backward": theirs["forward_backward_s"] / ours["forward_backward_s"],
    }  # fmt: skip


@torch.no_grad()
def loss_of(model: VisionLanguageModel, batches: Sequence[Batch], device: torch.device) -> float:
    """The mean over supervised tokens."""
    objective = NextToken()
    count = sum(objective.counts(batch)["next_token"] for batch in batches)
    with torch.autocast(device.type, torch.bfloat16):
        return sum(float(objective(model, batch.to(device)).sums["next_token"]) for batch in batches) / count


def ragged(count: int, tiny: bool) -> list[Ask]:
    """Pictures of 8 to 40 patches a side (at 14 pixels: 112 to 560), text of 30 to 900 tokens with a long tail."""
    random = np.random.default_rng(0)
    sides = 2 * random.integers(2, 5, (count, 2)) if tiny else 2 * random.integers(4, 21, (count, 2))
    text = np.clip(random.lognormal(2.5 if tiny else 5.0, 0.9, count), 4, 40 if tiny else 900).astype(int)
    return [Ask(int(a), int(b), int(t) // 2, int(t) - int(t) // 2) for (a, b), t in zip(sides, text)]


def build_peer(config: dict[str, Any], device: torch.device) -> Any:
    """transformers' model in bfloat16, its weights drawn on the device."""
    import transformers

    known = transformers.Qwen2_5_VLConfig.from_dict(config)
    torch.manual_seed(0)
    with torch.device(device):
        peer = transformers.Qwen2_5_VLForConditionalGeneration._from_config(known, dtype=torch.bfloat16)
    return peer.to(device)


def peer_steps(peer: Any, padded: Sequence[dict[str, Tensor]], tokens: int, device: torch.device) -> dict[str, Any]:
    """Each of `padded` is a micro-batch; `tokens` of all of them are no padding."""
    inputs = [{name: value.to(device) for name, value in given.items()} for given in padded]
    supervised = [int((given["labels"][:, 1:] != IGNORE_INDEX).sum()) for given in padded]
    trained = [parameter for parameter in peer.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, betas=BETAS, fused=True)
    losses, passes, updates = [], [], []
    for _ in range(STEPS):
        start, loss = clock(device), 0.0
        for given, count in zip(inputs, supervised, strict=True):
            peer.model.rope_deltas = None
            part = peer(**given, use_cache=False).loss * (count / sum(supervised))
            part.backward()
            loss += float(part.detach())
        middle = clock(device)
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimiser.step()
        optimiser.zero_grad()
        passes.append(middle - start)
        updates.append(clock(device) - middle)
        losses.append(loss)
    seconds = median(passes[1:]) + median(updates[1:])
    return {
        "step_s": seconds, "forward_backward_s": median(passes[1:]), "optimiser_s": median(updates[1:]),
        "tokens_per_s": tokens / seconds, "peak_gib": peak_gib(device), "losses": losses,
    }  # fmt: skip
