"""A model cut among ranks by torch's own engine, from outside: tensor parallel, activation checkpointing, compile, FSDP2, in this
order. Source of the order: arXiv 2410.06511, section 2.1.

Every rank runs the same collectives in every micro-batch: the stream gives all of them as many, and a batch without a picture runs
the tower on the least picture there is (VisionLanguageModel.forward).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module
from torch.utils.checkpoint import checkpoint

from qwenvl.config import ConfigError, ModelConfig
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.parallel import World, give_back_memory, norm64
from qwenvl.train.split_adamw import on_local, split

DATA, TENSOR = "data", "tensor"


def blocks_of(model: VisionLanguageModel) -> list[nn.Module]:
    """The blocks of the tower and the layers of the decoder: what is made again, compiled and gathered one at a time."""
    return [*model.vision_tower.blocks, *model.decoder.layers]


def checkpoint_activations(model: VisionLanguageModel) -> None:
    """Keep what goes into every block, and make what is inside again in the backward pass. Names of weights stay as they are."""
    for block in blocks_of(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compile_blocks(model: VisionLanguageModel) -> None:
    """Compile each block by itself: blocks of one kind share what is compiled, and lengths of rows may change."""
    for block in blocks_of(model):
        block.compile(dynamic=True)


def mesh_of(world: World) -> DeviceMesh:
    """The ranks as a table (data, tensor)."""
    # Ranks with pieces of the same rows hold different parts of the weights, like those with other rows.
    return init_device_mesh(world.device.type, (world.size // world.tensor, world.tensor), mesh_dim_names=(DATA, TENSOR))


def shard(model: VisionLanguageModel, mesh: DeviceMesh, bf16: bool) -> None:
    """Cut weights, gradients and what the optimiser keeps along the mesh's data axis, block by block, in place. bf16: blocks
    compute in bfloat16, gradients are added up in float32."""
    # What goes into a block stays as it is: tables of rotations are float32, and autocast sees to the rest.
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if bf16:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks_of(model):
        fully_shard(block, mesh=mesh[DATA], mp_policy=policy)
    # The root's own weights, embedding and head, stay whole between forward and backward: the head is used after the forward pass.
    fully_shard(model, mesh=mesh[DATA], mp_policy=policy, reshard_after_forward=False)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Losses are divided by global counts already, so gradients are added up, not averaged; by a plain sum, as gloo has it.
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)


@torch.no_grad()
def fill(model: nn.Module, source: nn.Module | None, device: torch.device, halved: Collection[str]) -> dict[str, Tensor]:
    """Give a model that is cut, and has room on `device`, the first rank's weights: one after the other they are sent to all ranks,
    each of which keeps its part. `source`: the whole model there, which loses its weights, None on the others.

    halved: names of weights that are bfloat16 here; their lower halves (`split`), as this rank has them, are returned.
    """
    theirs = {} if source is None else {**dict(source.named_parameters()), **dict(source.named_buffers())}
    low: dict[str, Tensor] = {}
    for name, mine in model.state_dict().items():
        dtype = torch.float32 if mine.is_floating_point() else mine.dtype
        if source is None:
            whole = torch.empty(mine.shape, dtype=dtype, device=device)
        else:
            whole = theirs[name].detach().to(device, dtype)
            theirs[name].data = torch.empty(0)
        if dist.get_world_size() > 1:
            dist.broadcast(whole, 0)
        part = whole
        if isinstance(mine, DTensor):
            # Without a rank that it comes from, every rank cuts what it has.
            part = distribute_tensor(whole, mine.device_mesh, mine.placements, src_data_rank=None)
        high = on_local(part)
        if name in halved:
            high, low[name] = split(high)
        on_local(mine).copy_(high)
    give_back_memory()
    return low


def share_layers(model: VisionLanguageModel, mesh: DeviceMesh) -> None:
    """Give each rank along the mesh's tensor axis its heads and its part of every MLP, in tower and decoder (arXiv 1909.08053,
    section 3). Embedding, head and connector stay whole. Raises ConfigError for heads that cannot be shared out."""
    _check_heads(model.config, mesh[TENSOR].size())
    mesh = mesh[TENSOR]
    for layer in model.decoder.layers:
        plan: dict[str, ParallelStyle] = {f"self_attn.{name}_proj": ColwiseParallel() for name in "qkv"}
        plan |= {"mlp.gate_proj": ColwiseParallel(), "mlp.up_proj": ColwiseParallel()}
        plan |= {"self_attn.o_proj": RowwiseParallel(), "mlp.down_proj": RowwiseParallel()}
        parallelize_module(layer, mesh, plan)
    for block in model.vision_tower.blocks:
        # Rows that go head by head can be cut; those that go q, k, v first cannot, so their product is cut instead.
        fused: ParallelStyle = ColwiseParallel() if model.config.vision.qkv_layout == "per_head" else _HeadsOfWhole(model.config)
        plan = {"attention.qkv": fused, "attention.proj": RowwiseParallel(), "mlp.down": RowwiseParallel()}
        plan |= {f"mlp.{name}": ColwiseParallel() for name in ("gate", "up") if getattr(block.mlp, name) is not None}
        parallelize_module(block, mesh, plan)


class _HeadsOfWhole(ParallelStyle):
    """A fused projection whose weight every rank has whole; of what comes out, [q|k|v][head], each keeps its heads."""

    def __init__(self, config: ModelConfig) -> None:
        self.heads = config.vision.num_attention_heads

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        from torch.distributed.tensor import distribute_module

        def enter(_: nn.Module, inputs: tuple[Any, ...], mesh: DeviceMesh) -> tuple[Any, ...]:
            return (DTensor.from_local(inputs[0], mesh, [Replicate()], run_check=False), *inputs[1:])

        def leave(_: nn.Module, output: Any, mesh: DeviceMesh) -> Tensor:
            by_head = output.unflatten(-1, (3, self.heads, -1)).redistribute(mesh, [Shard(2)])
            local: Tensor = by_head.to_local().flatten(1)
            return local

        distributed: nn.Module = distribute_module(module, device_mesh, None, enter, leave)  # type: ignore[arg-type]
        return distributed


def _check_heads(config: ModelConfig, tensor: int) -> None:
    counts = {
        "attention heads of the tower": config.vision.num_attention_heads,
        "attention heads of the decoder": config.decoder.num_attention_heads,
        "key-value heads of the decoder": config.decoder.num_key_value_heads,
    }
    for what, count in counts.items():
        if count % tensor:
            raise ConfigError(f"parallel.tensor {tensor}: the {count} {what} are no multiple of it; choose a divisor")


class ShardedGradients:
    """Gradients that FSDP2 has already summed over the ranks, each rank holding its part."""

    def __init__(self, parameters: Iterable[nn.Parameter], mesh: DeviceMesh) -> None:
        self.parameters, self.mesh = list(parameters), mesh

    def clear(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def sum_over(self, world: World) -> None:
        """Nothing is left to do."""

    def clip(self, limit: float) -> float:
        norm = self._norm()
        if limit < norm < float("inf"):
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(limit / norm)
        return norm

    def _norm(self) -> float:
        """Parts of a gradient are added up over the mesh axes that it is cut along, and over no other."""
        axes = [(), (DATA,), (TENSOR,), (DATA, TENSOR)]
        squares = torch.zeros(len(axes), dtype=torch.float64, device=self.mesh.device_type)
        for parameter in self.parameters:
            if (gradient := parameter.grad) is None:
                continue
            cut: tuple[str, ...] = ()
            if isinstance(gradient, DTensor):
                names = gradient.device_mesh.mesh_dim_names or ()
                # Of a weight that is cut twice along one dimension, torch says neither "shard" nor "replicate" of one of the cuts.
                places = zip(names, gradient.placements, strict=True)
                cut = tuple(sorted(name for name, place in places if not place.is_replicate()))
            squares[axes.index(cut)] += norm64(on_local(gradient).reshape(-1)).square()
        for axis in (DATA, TENSOR):
            inside = [index for index, cut in enumerate(axes) if axis in cut]
            part = squares[inside]
            dist.all_reduce(part, group=self.mesh[axis].get_group())
            squares[inside] = part
        return float(squares.sum().sqrt())
