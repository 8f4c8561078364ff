"""Weights of a model that starts from nothing, drawn from one seed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qwenvl.models.decoder import Decoder
from qwenvl.models.layers import RMSNorm, sincos_table
from qwenvl.models.merger import Merger
from qwenvl.models.resampler import Resampler
from qwenvl.models.vision_tower import VisionTower
from qwenvl.models.vlm import VisionLanguageModel

STD = 0.02  # initializer_range of the published config.json


@torch.no_grad()
def initialise(model: VisionLanguageModel, seed: int) -> None:
    """Draw every parameter in place, as functions of `seed` alone.

    Decoder and resampler follow the published modeling_qwen.py and visual.py (repository wangjl1993/extract_human_attri @ fc9525f),
    but for the resampler's joint projection, left there to torch's default and drawn here like any matrix. The tower, which the
    paper takes from OpenCLIP, follows the same normal draw with its patch embedding scaled to its inputs. Both projections of the
    merger are scaled to theirs, so that visual tokens start near unit size, as the resampler's do.
    """
    generator = torch.Generator().manual_seed(seed)
    _tower(model.vision_tower, generator)
    if isinstance(model.connector, Resampler):
        _resampler(model.connector, generator)
    else:
        _merger(model.connector, generator)
    _decoder(model.decoder, generator)


def _normal(parameter: Tensor, generator: torch.Generator, std: float = STD) -> None:
    parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def _linears(module: nn.Module, generator: torch.Generator, std: float = STD) -> None:
    for child in module.modules():
        if isinstance(child, nn.Linear):
            _normal(child.weight, generator, std)
            if child.bias is not None:
                child.bias.zero_()
        elif isinstance(child, nn.LayerNorm):
            child.weight.fill_(1.0)
            child.bias.zero_()
        elif isinstance(child, RMSNorm):
            child.weight.fill_(1.0)


def _tower(tower: VisionTower, generator: torch.Generator) -> None:
    _linears(tower, generator)
    _normal(tower.patch_embed.weight, generator, tower.patch_embed.in_features**-0.5)
    if tower.position_embedding is not None:
        _normal(tower.position_embedding, generator)


def _decoder(decoder: Decoder, generator: torch.Generator) -> None:
    _linears(decoder, generator)
    _normal(decoder.embed_tokens.weight, generator)
    residual = STD / (2 * decoder.config.num_hidden_layers) ** 0.5
    for name, weight in decoder.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            _normal(weight, generator, residual)


def _merger(merger: Merger, generator: torch.Generator) -> None:
    _linears(merger, generator)
    for linear in (merger.up, merger.down):
        _normal(linear.weight, generator, linear.in_features**-0.5)


def _resampler(connector: Resampler, generator: torch.Generator) -> None:
    config = connector.config
    size = config.hidden_size
    _linears(connector, generator)
    side = int(config.num_queries**0.5)
    connector.position_table.copy_(sincos_table(side, size, config.position_base))
    _normal(connector.query, generator)
    _normal(connector.attention.in_proj_weight, generator)
    connector.attention.in_proj_bias.zero_()
    _normal(connector.output_proj, generator, size**-0.5)
    if config.initialisation == "aligned":
        _align(connector, generator)


def _align(connector: Resampler, generator: torch.Generator) -> None:
    """Make every query read its own place from the first step.

    With a random projection and the published gains, attention starts nearly uniform, and a tower that is not pretrained gets no
    useful gradient through it. Sharing one orthogonal projection between queries and keys keeps the inner product of positions;
    small gains on the contents let positions lead; values are scaled up to make up for their gain. Only the start differs.
    """
    size = connector.config.hidden_size
    q, k, v = connector.attention.in_proj_weight.chunk(3)
    orthogonal, _ = torch.linalg.qr(torch.randn(size, size, generator=generator))
    q.copy_(3.0 * orthogonal)
    k.copy_(3.0 * orthogonal)
    v.mul_(4.0)
    connector.query_norm.weight.fill_(0.1)
    connector.key_value_norm.weight.fill_(0.25)
