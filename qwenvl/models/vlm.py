"""The vision-language model: three built parts, and the one place where vision meets text.

T packed tokens, P patches, V visual tokens, D hidden size, n pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qwenvl.config import ConnectorConfig, ModelConfig, ResamplerConfig
from qwenvl.models.attention import LayerCache, Layout
from qwenvl.models.decoder import Decoder
from qwenvl.models.merger import Merger
from qwenvl.models.resampler import Resampler
from qwenvl.models.rope import Rotary, rotary
from qwenvl.models.vision_tower import VisionTower
from qwenvl.types import Windows


def build_connector(config: ConnectorConfig, vision_width: int) -> Resampler | Merger:
    """The one place where a connector is chosen."""
    return Resampler(config, vision_width) if isinstance(config, ResamplerConfig) else Merger(config, vision_width)


class VisionLanguageModel(nn.Module):
    """Tower, connector and decoder of one configuration. Nothing of a call outlives it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_tower = VisionTower(config.vision)
        self.connector = build_connector(config.connector, config.vision.hidden_size)
        self.decoder = Decoder(config.decoder)

    def visual(
        self, patches: Tensor, grids: Tensor, patch_features: Tensor | None = None, windows: Windows | None = None
    ) -> Tensor:
        """Visual tokens (V, D) of pictures and clips packed as patches (P, ...), as the tower takes them, with grids (n, 3).

        patch_features: the tower's output, where a caller has it already (an auxiliary loss on it, a feature cache).
        windows: those of all pictures, for a tower whose attention stays within them.
        """
        if patch_features is None:
            patch_features = self.vision_tower(patches, grids, windows)
        return self.connector(patch_features, grids)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        layout: Layout,
        *,
        patches: Tensor | None = None,
        grids: Tensor | None = None,
        visual_slots: Tensor | None = None,
        patch_features: Tensor | None = None,
        windows: Windows | None = None,
        visual: Tensor | None = None,
        cache: LayerCache | None = None,
        ntk_alpha: Tensor | None = None,
        logn: bool = False,
    ) -> Tensor:
        """input_ids (T,), position_ids (3, T) -> hidden states (T, D) after the final norm.

        visual_slots (V,) say which rows of the sequence the visual tokens replace: those of the patches, or `visual` (V, D), where
        a caller has them already (a cache of features, the rest of a picture whose beginning was fed before). ntk_alpha (T,) and
        logn belong to evaluation beyond the trained length, never to training. Raises ValueError if slots and visual tokens differ
        in number.
        """
        x = self.decoder.embed(input_ids)
        if visual is None and patches is not None and grids is not None and len(grids):
            visual = self.visual(patches, grids, patch_features, windows)
        if visual is not None and visual_slots is not None:
            if len(visual) != len(visual_slots):
                raise ValueError(f"{len(visual_slots)} placeholders in the text, {len(visual)} visual tokens")
            x = x.index_copy(0, visual_slots, visual.to(x.dtype))
        elif self.training:
            x = x + 0.0 * self._dummy_visual().mean().to(x.dtype)
        return self.decoder(x, self.rotary(position_ids, ntk_alpha, logn), layout, cache)

    def rotary(self, position_ids: Tensor, ntk_alpha: Tensor | None = None, logn: bool = False) -> Rotary:
        """The decoder's tables for positions (3, T); the others as in `forward`."""
        decoder = self.config.decoder
        return rotary(
            position_ids,
            decoder.head_dim,
            decoder.rope_theta,
            sections=decoder.mrope_section,
            yarn=decoder.yarn,
            ntk_alpha=ntk_alpha,
            logn_length=decoder.trained_length if logn and decoder.use_logn_attn else None,
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., vocab)"""
        return self.decoder.logits(hidden)

    def _dummy_visual(self) -> Tensor:
        """Visual tokens of the least picture, a single square of patches: a text-only batch runs the tower too, so that sharded
        ranks stay in step."""
        weight, side = self.vision_tower.patch_embed.weight, self.config.vision.merge_size
        patches = weight.new_zeros(side * side, weight.shape[1])
        only = Windows(torch.tensor([0]), torch.tensor([side * side]))
        return self.visual(patches, torch.tensor([[1, side, side]]), windows=only)
