"""Visual tokens by the content of pictures: a picture that was seen before is not looked at again.

P patches, V visual tokens, D hidden size of the decoder.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qwenvl.families import get_family
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.grid import window_plan
from qwenvl.processing.patches import one_frame
from qwenvl.types import Encoded, Windows

TOGETHER = 16_384
"""Patches that the tower looks at in one call: what the published max_pixels allows one picture."""


class TensorCache:
    """Tensors by key, the longest unused let go first once they hold more than `budget` bytes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = self.hits = self.misses = 0
        self._held: OrderedDict[Hashable, Tensor] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._held

    def get(self, key: Hashable) -> Tensor | None:
        """The tensor, which counts as used now; None where there is none."""
        found = self._held.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._held.move_to_end(key)
        return found

    def put(self, key: Hashable, value: Tensor) -> None:
        """Keep a tensor, which must not be a view of a larger one. One that is larger than the whole budget is not kept."""
        if key in self._held or value.nbytes > self.budget:
            return
        self._held[key] = value
        self.bytes += value.nbytes
        while self.bytes > self.budget:
            self.bytes -= self._held.popitem(last=False)[1].nbytes

    def counts(self) -> dict[str, int]:
        return {"hits": self.hits, "misses": self.misses, "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class Look:
    """A picture or clip of a prompt: a digest of what is seen, its grid (3,), its patches, and its tokens among the prompt's V."""

    digest: bytes
    grid: np.ndarray
    patches: slice
    tokens: slice


def looks_of(model: VisionLanguageModel, prompt: Encoded) -> list[Look]:
    """The pictures and clips of a prompt, in order."""
    config = model.config
    spec = get_family(config.family)
    looks, patch, token = [], 0, 0
    for grid in prompt.grids:
        patches = slice(patch, patch := patch + int(grid.prod()))
        tokens = slice(token, token := token + spec.visual_tokens(config, (int(grid[0]), int(grid[1]), int(grid[2]))))
        seen = hashlib.blake2b(grid.tobytes(), digest_size=16)
        seen.update(np.ascontiguousarray(one_frame(prompt.patches[patches])).data)
        looks.append(Look(seen.digest(), grid, patches, tokens))
    return looks


def visual_tokens(model: VisionLanguageModel, prompt: Encoded, looks: Sequence[Look], kept: TensorCache) -> Tensor:
    """Visual tokens (V, D) of these pictures of a prompt, in the model's dtype: what `kept` holds, else the tower's."""
    found = {look.digest: kept.get(look.digest) for look in looks}
    missing = {look.digest: look for look in looks if found[look.digest] is None}
    for group in _together(list(missing.values())):
        for look, made in zip(group, _look(model, prompt, group)):
            found[look.digest] = made
            kept.put(look.digest, made)
    whole = [tokens for look in looks if (tokens := found[look.digest]) is not None]
    weight = model.decoder.embed_tokens.weight
    return torch.cat(whole) if whole else torch.zeros(0, weight.shape[1], dtype=weight.dtype, device=weight.device)


def _together(missing: Sequence[Look]) -> list[list[Look]]:
    """Pictures in groups of at most TOGETHER patches, a larger one alone: what the tower needs beside its weights stays bounded."""
    groups: list[list[Look]] = []
    room = 0
    for look in missing:
        size = look.patches.stop - look.patches.start
        if not groups or size > room:
            groups.append([])
            room = TOGETHER
        groups[-1].append(look)
        room -= size
    return groups


def _look(model: VisionLanguageModel, prompt: Encoded, group: Sequence[Look]) -> list[Tensor]:
    """The tower's and connector's tokens of each picture, none of them a view of another's."""
    device = model.decoder.embed_tokens.weight.device
    parts = [prompt.patches[look.patches] for look in group]
    patches = np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts))
    grids = np.stack([look.grid for look in group])
    windows = window_tensors(window_plan(grids, model.config.vision), device)
    with torch.no_grad():
        tokens = model.visual(torch.from_numpy(patches).to(device), torch.from_numpy(grids), windows=windows)
    counts = [look.tokens.stop - look.tokens.start for look in group]
    return [tokens] if len(counts) == 1 else [part.clone() for part in tokens.split(counts)]


def window_tensors(windows: Windows | None, device: torch.device) -> Windows | None:
    """The windows of an Encoded as the model takes them."""
    if windows is None:
        return None
    return Windows(torch.from_numpy(windows.order).to(device), torch.from_numpy(windows.lengths).to(device))
