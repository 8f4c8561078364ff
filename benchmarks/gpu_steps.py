"""Steps of training at full size on one device: a model of random weights made there, what it keeps, and how long a step takes."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qwenvl.config import ModelConfig
from qwenvl.models.layers import sincos_table
from qwenvl.models.resampler import Resampler
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.runtime import peak_flops
from qwenvl.train.objectives import HEAD_CHUNK, NextToken
from qwenvl.train.parallel import GradientBuffer
from qwenvl.train.planning.cost import Counter, Work, work_of_batch
from qwenvl.train.split_adamw import SplitAdamW
from qwenvl.types import IGNORE_INDEX, Batch

RATE, BETAS, CLIP = 1e-5, (0.9, 0.95), 1.0
MARGIN = 10 << 30
"""Bytes that are planned for nothing: what the allocator cannot use, and one block whose activations are made again."""


@dataclass(frozen=True)
class Benchmark:
    """limit: seconds. run(tiny) returns what is kept."""

    limit: float
    about: str
    run: Callable[[bool], dict[str, Any]]


def build(config: ModelConfig, device: torch.device) -> VisionLanguageModel:
    """Random bfloat16 weights, drawn on the device from a fixed seed."""
    with torch.device("meta"):
        model = VisionLanguageModel(config).to(torch.bfloat16)
    assert not list(model.buffers()), "a buffer would have no value"
    return fill(model.to_empty(device=device)).train()


@torch.no_grad()
def fill(model: VisionLanguageModel) -> VisionLanguageModel:
    generator = torch.Generator(next(model.parameters()).device).manual_seed(0)
    residual = 0.02 / (2 * model.config.decoder.num_hidden_layers) ** 0.5
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            std = residual if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
            parameter.normal_(0.0, std, generator=generator)
    if isinstance(connector := model.connector, Resampler):
        settings = connector.config
        side = int(settings.num_queries**0.5)
        connector.position_table.copy_(sincos_table(side, settings.hidden_size, settings.position_base))
    return model


def layers_that_fit(config: ModelConfig, trains: Sequence[str], bytes_each: float, device: torch.device) -> ModelConfig:
    """The configuration with as many layers in its decoder as leave a fifth of the device free, at so many bytes for a weight that
    trains and two for any other. All of them on the CPU."""
    if device.type != "cuda":
        return config
    with torch.device("meta"):
        model = VisionLanguageModel(config)
    train_alone(model, trains)
    needed = sum(p.numel() * (bytes_each if p.requires_grad else 2) for p in model.parameters())
    layer = sum(p.numel() * (bytes_each if p.requires_grad else 2) for p in model.decoder.layers[0].parameters())
    over = needed - 0.8 * torch.cuda.get_device_properties(device).total_memory
    layers = max(config.decoder.num_hidden_layers - max(math.ceil(over / layer), 0), 1)
    return config.model_copy(update={"decoder": config.decoder.model_copy(update={"num_hidden_layers": layers})})


def checkpoint_blocks(model: VisionLanguageModel, kept: int) -> None:
    """Make activations again in the backward pass: of all blocks of a tower that trains, and of the decoder's layers but `kept`."""
    tower = [block for block in model.vision_tower.blocks if any(p.requires_grad for p in block.parameters())]
    for block in (*tower, *list(model.decoder.layers)[kept:]):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def layers_to_keep(model: VisionLanguageModel, batches: Sequence[Batch], state_bytes: float) -> int:
    """Layers of the decoder whose activations there is room for, once gradients and moments (so many bytes for every weight that
    trains) and the head's logits are there. One on the CPU, so that both kinds are run."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return 1
    decoder, longest = model.config.decoder, max(len(batch.input_ids) for batch in batches)
    supervised = max(int((batch.labels != IGNORE_INDEX).sum()) for batch in batches)
    states = state_bytes * sum(p.numel() for p in model.parameters() if p.requires_grad)
    logits = min(supervised, HEAD_CHUNK) * decoder.vocab_size * 16
    layer = longest * 2 * (12 * decoder.hidden_size + 4.5 * decoder.intermediate_size)
    room = torch.cuda.mem_get_info(device)[0] - states - logits - MARGIN
    return int(min(max(room // layer, 0), decoder.num_hidden_layers))


@dataclass
class Steps:
    """Steps on the same batches again and again, timed in two parts."""

    model: VisionLanguageModel
    batches: Sequence[Batch]
    in_backward: bool = False
    """Each weight's step as soon as its gradient is there, which is then let go: two bytes a weight less, and no clipping."""
    rate: float = RATE
    losses: list[float] = field(default_factory=list)
    passes: list[float] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.device = next(self.model.parameters()).device
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.objective = NextToken()
        self.on_device = [batch.to(self.device) for batch in self.batches]
        self.count = sum(self.objective.counts(batch)["next_token"] for batch in self.batches)
        config = self.model.config
        self.work = sum((work_of_batch(config, batch) for batch in self.batches), Work())
        self.flops = Counter.of(self.model, config).training(self.work).total
        self.buffer = None if self.in_backward else GradientBuffer(self.trained)
        groups = [[parameter] for parameter in self.trained] if self.in_backward else [self.trained]
        self.optimisers = [SplitAdamW(group, lr=self.rate, betas=BETAS) for group in groups]
        if self.in_backward:
            for parameter, optimiser in zip(self.trained, self.optimisers, strict=True):
                parameter.register_post_accumulate_grad_hook(partial(_step_alone, optimiser))

    def run(self, steps: int) -> dict[str, Any]:
        for _ in range(steps):
            self._one()
        return self.record()

    def _one(self) -> None:
        start = clock(self.device)
        if self.buffer is not None:
            self.buffer.clear()
        loss = 0.0
        for batch in self.on_device:
            with torch.autocast(self.device.type, torch.bfloat16):
                part = self.objective(self.model, batch).sums["next_token"] / self.count
            part.backward()
            loss += float(part.detach())
        middle = clock(self.device)
        if self.buffer is not None:
            torch.nn.utils.clip_grad_norm_(self.trained, CLIP)
            for optimiser in self.optimisers:
                optimiser.step()
        self.passes.append(middle - start)
        self.updates.append(clock(self.device) - middle)
        self.losses.append(loss)

    def record(self) -> dict[str, Any]:
        """Medians without the first step, in which memory is taken and kernels are chosen."""
        passes, updates = median(self.passes[1:] or self.passes), median(self.updates[1:] or self.updates)
        seconds, peak = passes + updates, peak_flops(self.device)
        return {
            "parameters": sum(p.numel() for p in self.model.parameters()), "trained": sum(p.numel() for p in self.trained),
            "decoder_layers": self.model.config.decoder.num_hidden_layers, "tokens": int(self.work.tokens),
            "samples": sum(len(batch.sample_ids) for batch in self.batches), "supervised": int(self.work.supervised),
            "step_s": seconds, "forward_backward_s": passes, "optimiser_s": updates, "steps": len(self.passes),
            "tokens_per_s": self.work.tokens / seconds, "model_tflops": self.flops / 1e12,
            "mfu": None if peak is None else self.flops / seconds / peak,
            "mfu_forward_backward": None if peak is None else self.flops / passes / peak,
            "peak_gib": peak_gib(self.device), "losses": self.losses, "loss_falls": self.losses[-1] < self.losses[0],
        }  # fmt: skip


def _step_alone(optimiser: torch.optim.Optimizer, parameter: Tensor) -> None:
    optimiser.step()
    parameter.grad = None


def train_alone(model: nn.Module, patterns: Iterable[str]) -> None:
    """Let only those parameters train whose names begin so; tables that never train stay so."""
    starts = tuple(patterns)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(starts) and not name.endswith("position_table"))


def clock(device: torch.device) -> float:
    """Seconds, once everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_gib(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def forget(device: torch.device) -> None:
    """Give back what is no longer used, and begin to look for the peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
