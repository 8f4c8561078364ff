"""Bytes of one rank, by kind: what is there from the first step to the last, and what a forward and backward pass add.

The first is exact. The second is what autograd keeps of each operation, as torch's kernels keep it, with the largest things that
come and go beside it: some per cent may be missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from qwenvl.models.attention import PLAIN_KEYS
from qwenvl.models.quantised import BLOCK
from qwenvl.train.head_loss import FLOATS, HEAD_BYTES
from qwenvl.train.objectives import HEAD_CHUNK
from qwenvl.train.planning.cost import Work
from qwenvl.train.planning.inventory import Inventory
from qwenvl.train.planning.operations import Activated, Attended, Normed, Operation, Product
from qwenvl.train.split_adamw import CHUNK

MOMENTS = 8
"""Bytes of AdamW's two moments of a weight."""
CUT_ALONG_HEADS = ("decoder.layers.", "vision_tower.blocks.")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a rank. copies: weights in the precision that computes, and those of a block brought together. logits: of as many
    supervised tokens as there are at a time, and the gradients that are made of them at once. passing: what comes and goes.
    runtime: Python, torch, the device's context, data workers."""

    weights: float = 0
    gradients: float = 0
    optimiser: float = 0
    average: float = 0
    reference: float = 0
    copies: float = 0
    activations: float = 0
    logits: float = 0
    passing: float = 0
    runtime: float = 0

    @property
    def total(self) -> float:
        return sum(getattr(self, kind.name) for kind in fields(self))


@dataclass(frozen=True, slots=True)
class Ranks:
    """`size` ranks, of which tensor x context compute one row together. fsdp: weights are cut."""

    size: int = 1
    tensor: int = 1
    fsdp: bool = False
    context: int = 1

    @property
    def data(self) -> int:
        """Ranks with rows of their own."""
        return self.size // (self.tensor * self.context)

    @property
    def cuts(self) -> int:
        """Parts of a weight that tensor parallel leaves whole."""
        return self.size // self.tensor if self.fsdp else 1


def state_memory(inventory: Inventory, ranks: Ranks, objective_weights: int = 0) -> Memory:
    """Weights, gradients, moments and what else lasts, as `train.engine` makes them. objective_weights: of heads of its own."""
    recipe, trained, quantised = inventory.recipe, inventory.ever_trained, inventory.quantised
    split = recipe.optim.masters == "split"
    stored = 2 if split else 4
    sizes = inventory.sizes
    # (weights, bytes of one, whether it trains, parts that it is cut into)
    tensors = [(sizes[name], float(stored), name in trained, _cuts(name, ranks)) for name in sizes if name not in quantised]
    # What is quantised is no parameter, and so is never cut.
    tensors += [(sizes[name], _quantised_bytes(inventory, name, stored), False, 1) for name in quantised]
    tensors += [(size, float(stored), True, _cuts(layer, ranks)) for layer, size in inventory.adapters.items()]
    low = 2 if split else 0  # the lower halves of masters
    ema = 0 if recipe.optim.ema is None else 4
    # Heads of the objective stay in float32.
    mine = Memory(
        weights=4 * objective_weights, gradients=4 * objective_weights, optimiser=MOMENTS * objective_weights,
        average=ema * objective_weights,
    )  # fmt: skip
    kept = sum(size * width / cut for size, width, _, cut in tensors)
    learning = sum(size / cut for size, _, trains, cut in tensors if trains)
    return Memory(
        weights=mine.weights + kept,
        gradients=mine.gradients + stored * learning,
        optimiser=mine.optimiser + (MOMENTS + low) * learning,
        average=mine.average + ema * learning,
        # Copied before anything is done to the model, and never cut.
        reference=4 * sum(sizes.values()) * (recipe.objective.kind == "dpo" and recipe.objective.reference == "copy"),
    )


def _cuts(name: str, ranks: Ranks) -> int:
    return ranks.cuts * (ranks.tensor if name.startswith(CUT_ALONG_HEADS) and "norm" not in name else 1)


def _quantised_bytes(inventory: Inventory, name: str, scale: int) -> float:
    """Of one weight, its share of the scales included."""
    lora = inventory.recipe.lora
    inner = inventory.layers[name.removesuffix(".weight")][0]
    return 1 + scale / inner if lora is not None and lora.base == "int8" else 0.5 + scale / BLOCK


@dataclass(frozen=True, slots=True)
class Precision:
    """Bytes of what products read (`compute`) and of what runs between blocks (`stream`). casts: float32 is made bfloat16 before
    each product. plain: short rows are attended to by plain products, as on the CPU."""

    compute: int
    stream: int
    casts: bool
    plain: bool

    @classmethod
    def of(cls, inventory: Inventory, ranks: Ranks, gpu: bool) -> Precision:
        recipe = inventory.recipe
        if recipe.train.precision == "float32":
            return cls(4, 4, False, False)
        halves = recipe.optim.masters == "split" or ranks.fsdp
        return cls(2, 2 if halves else 4, not halves, not gpu)


def pass_memory(found: Iterable[Operation], inventory: Inventory, ranks: Ranks, work: Work, gpu: bool) -> Memory:
    """What a forward and backward pass over one micro-batch adds."""
    precision, found = Precision.of(inventory, ranks, gpu), list(found)
    kept, again = activations(found, work, precision, inventory, ranks.tensor, ranks.context)
    batch = 4 * work.patches * inventory.config.vision.patch_numbers
    return Memory(
        copies=_copies(found, inventory, ranks, precision),
        activations=kept + again + batch,
        logits=_logits(found, inventory, ranks, work, precision, gpu),
        passing=_passing(found, inventory, ranks, work, precision),
    )


def _vocabulary(op: Operation) -> bool:
    return isinstance(op, Product) and op.piece == "head" and op.name.startswith("decoder.") and not op.adapter


def _made_forward(op: Operation, inventory: Inventory) -> bool:
    """Whether the product with the vocabulary goes through `head_loss`, which makes its gradients on the way forward."""
    if not isinstance(op, Product) or not _vocabulary(op) or inventory.recipe.objective.kind != "next_token":
        return False
    return f"{op.name}.weight" not in inventory.quantised and op.name not in inventory.adapted


def _logits(
    found: list[Operation], inventory: Inventory, ranks: Ranks, work: Work, precision: Precision, gpu: bool
) -> float:
    for op in found:
        if isinstance(op, Product) and _made_forward(op, inventory):
            rows = min(work.supervised, max(HEAD_BYTES // (op.outer * precision.compute), 1))
            floats = rows if gpu else min(rows, max(FLOATS // op.outer, 1))
            gradients = op.inner * (work.supervised * 4 * op.reads + op.outer * precision.stream * op.learns)
            return op.outer * (rows * precision.compute + 8 * floats) + gradients
        if isinstance(op, Product) and _vocabulary(op):
            # Logits, their float32, and the gradient of the log-softmax that is kept.
            return min(work.supervised, HEAD_CHUNK) * op.outer * (8 + precision.compute)
    return 0.0


def activations(
    found: Iterable[Operation], work: Work, precision: Precision, inventory: Inventory, tensor: int = 1, context: int = 1
) -> tuple[float, float]:
    """Bytes that autograd keeps of a forward pass; and those of the largest block, which the backward pass makes again where
    activation checkpointing keeps no more of it than what goes in, else 0."""
    blocks: dict[str, float] = {}
    enters: dict[str, float] = {}
    shared: set[tuple[str, str]] = set()
    dropout = inventory.recipe.lora is not None and inventory.recipe.lora.dropout > 0
    for op in found:
        size = 0.0 if _made_forward(op, inventory) else _kept(op, work, precision, shared, dropout)
        cut = tensor if op.block and not isinstance(op, Normed) and getattr(op, "source", "") not in ("norm1", "norm2") else 1
        if op.block.startswith("decoder."):
            size /= context
        blocks[op.block] = blocks.get(op.block, 0.0) + size / cut
        if op.block and isinstance(op, Normed) and op.block not in enters:
            pieces = context if op.block.startswith("decoder.") else 1
            enters[op.block] = getattr(work, op.rows) * op.width * precision.stream / pieces
    if not inventory.recipe.train.activation_checkpointing:
        return sum(blocks.values()), 0.0
    outside = blocks.pop("", 0.0)
    return outside + sum(enters[block] for block, size in blocks.items() if size), max(blocks.values(), default=0.0)


def _kept(op: Operation, work: Work, precision: Precision, shared: set[tuple[str, str]], dropout: bool) -> float:
    rows, compute, stream = getattr(work, op.rows), precision.compute, precision.stream
    match op:
        case Product():
            return rows * op.times * _input_kept(op, precision, shared, dropout)
        case Normed():
            if not op.rms:
                return rows * op.width * stream * (op.reads or op.learns)
            # In float32 before the weight is multiplied with it, and what the weight is multiplied with.
            return rows * op.width * (4 * op.reads + stream * op.learns)
        case Activated():
            return rows * op.width * compute * ACTIVATED[op.kind] * op.reads
        case Attended() if op.q or op.k or op.v:
            return _attention_kept(op, work, precision)
    return 0.0


ACTIVATED = {"gelu": 1, "quick_gelu": 2, "swiglu": 3}
"""Tensors as wide as the hidden layer of an MLP that its activation keeps."""


def _input_kept(op: Product, precision: Precision, shared: set[tuple[str, str]], dropout: bool) -> float:
    """Bytes of a row of what goes into a product whose weight trains."""
    compute = precision.compute
    if not op.learns:
        return 0.0
    if op.adapter:
        reads = 4 if precision.casts and op.source.startswith("norm") else compute
        masked = reads if dropout and op.name.endswith("lora_a") else 0
        return op.inner * (compute + masked)
    if op.source == "kept" or (op.source == "patches" and compute == 4):
        return 0.0
    if op.source and not precision.casts:
        if (op.block, op.source) in shared:
            return 0.0
        shared.add((op.block, op.source))
    return op.inner * compute


def _attention_kept(op: Attended, work: Work, precision: Precision) -> float:
    """q, k, v, what comes out, and the sums of the softmax; or, of plain products, all probabilities."""
    rows, asking = getattr(work, op.rows), getattr(work, op.asking or op.rows)
    width = (5 if op.rotated else 3) * op.queries * rows if op.fused else op.queries * asking + 2 * op.keys * rows
    pairs = getattr(work, op.pairs) * op.times * (2 if op.pairs == "pairs" else 1)
    longest = {"pairs": work.longest, "frame_pairs": work.longest_frame}.get(op.pairs, 0)
    if precision.plain and longest <= PLAIN_KEYS and not op.asking:
        return precision.compute * (4 * op.queries * rows + op.heads * pairs) + pairs * (op.pairs == "pairs")
    return precision.compute * (width + op.queries * asking) + 4 * op.heads * asking


def _copies(found: list[Operation], inventory: Inventory, ranks: Ranks, precision: Precision) -> float:
    """Weights that a pass makes of those that are kept."""
    if ranks.fsdp:
        return _gathered(inventory, ranks, precision)
    if not precision.casts:
        return 0.0
    quantised, again = inventory.quantised, inventory.recipe.train.activation_checkpointing
    wanted = {
        (op.name, op.inner * op.outer * (3 if op.name == "connector.attention" else 1))
        for op in found
        if isinstance(op, Product)
        and not _made_forward(op, inventory)
        and (op.learns or (op.reads and not (again and op.block)))
        and f"{op.name}.weight" not in quantised
    }
    return sum(2 * size for _, size in wanted)


def _gathered(inventory: Inventory, ranks: Ranks, precision: Precision) -> float:
    """Of FSDP2: the root's weights, whole from forward to backward, with their gradients; a block, the next one, and its gradients
    in the precision that computes and in float32, in which they are added up."""
    trained, width = inventory.ever_trained, precision.compute
    root = [0, 0]
    blocks: dict[str, list[int]] = {}
    for name, size in inventory.sizes.items():
        if name in inventory.quantised:
            continue
        key = ".".join(name.split(".")[:3]) if name.startswith(CUT_ALONG_HEADS) else ""
        here = blocks.setdefault(key, [0, 0]) if key else root
        here[0] += size
        here[1] += size * (name in trained)
    whole, learning = max(blocks.values(), default=[0, 0])
    return width * sum(root) + (2 * width * whole + (width + 4) * learning) / ranks.tensor


def _passing(found: list[Operation], inventory: Inventory, ranks: Ranks, work: Work, precision: Precision) -> float:
    """The largest of what comes and goes: gradients inside of one block, a weight's gradient before it is added to the others, a
    quantised weight in full, chunks of the optimiser, a frozen block that keeps nothing."""
    trained, recipe = inventory.ever_trained, inventory.recipe
    weight = max((size for name, size in inventory.sizes.items() if name in trained), default=0)
    gradient = 0 if ranks.fsdp else weight * (precision.compute + 4 * precision.casts)
    step = 5 * 4 * min(CHUNK, math.ceil(weight / ranks.cuts)) if recipe.optim.masters == "split" else 0
    # Numbers in int64, levels in float32, and the codes twice.
    unpacked = 19 * max((inventory.sizes[name] for name in inventory.quantised), default=0)
    rows = [(op, getattr(work, op.rows)) for op in found if isinstance(op, Normed | Activated)]
    through = max((count * op.width * (8 + 2 * precision.compute) for op, count in rows if isinstance(op, Normed)), default=0.0)
    inside = max((count * op.width * 2 * precision.compute for op, count in rows if isinstance(op, Activated)), default=0.0)
    return max(through + inside / ranks.tensor + max(gradient, unpacked), step)
