"""The sections of a recipe: what is built, what is minimised, how weights move, how ranks share the work."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from qwenvl.config import Strict

PARTS = ("vision_tower", "connector", "decoder")


def _one_of(*known: str) -> AfterValidator:
    def check(name: str) -> str:
        if name not in known:
            raise ValueError(f"unknown part {name!r}; known: {', '.join(known)}")
        return name

    return AfterValidator(check)


Part = Annotated[str, _one_of(*PARTS)]
Source = Annotated[str, _one_of(*PARTS, "dense_heads")]
Pattern = str
"""A part, or names of its weights as fnmatch patterns: decoder.embed_tokens.*, vision_tower.blocks.[01].*, *.bias."""


class ModelRecipe(Strict):
    preset: str = "qwen-vl-nano"
    image_size: int | None = Field(default=None, gt=0)
    """Side of the picture in pixels for this stage, in families that make all pictures one square; none keeps the preset's."""
    min_pixels: int | None = Field(default=None, gt=0)
    """Least area of a picture as the model sees it, in families of native resolution; none keeps the preset's."""
    max_pixels: int | None = Field(default=None, gt=0)
    tokenizer: str | None = None
    """Folder with tokenizer.json; none means the one that ships with the package. Its special tokens may have Qwen-VL's names."""
    config: dict[str, Any] = Field(default_factory=dict)
    """What differs from the preset's configuration, in its own words: {connector: {num_queries: 64}}."""


class ObjectiveRecipe(Strict):
    kind: Literal["next_token", "dense_patches", "dpo"] = "next_token"
    """dpo reads pairs of a chosen and a rejected answer (`qwenvl data preferences`)."""
    dense_weight: float = Field(default=0.0, ge=0)
    """Weight of the dense patch loss beside next-token prediction."""
    box_loss_weight: float = Field(default=2.0, ge=0)
    """Within the dense loss: weight of the box error beside the class error."""
    beta: float = Field(default=0.1, gt=0)
    """dpo: how dear it is to leave the reference (arXiv 2305.18290, appendix B)."""
    chosen_weight: float = Field(default=0.0, ge=0)
    """dpo: weight of the chosen answer's own loss, per token, beside that of the pair (arXiv 2404.19733); 0 is plain DPO."""
    reference: Literal["copy", "adapters_off", "precomputed"] = "copy"
    """dpo: what rewards are measured from. copy: the weights of the start, kept beside the others. adapters_off: the model under
    its adapters, for runs with lora. precomputed: log-probabilities of all answers, taken before the first step."""


class LoraRecipe(Strict):
    """Low-rank adapters train, and the layers of `whole`; everything else stands still."""

    targets: tuple[Pattern, ...] = Field(default=("decoder.layers.*",), min_length=1)
    """Names of linear layers, as fnmatch patterns."""
    rank: int = Field(default=64, gt=0)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Of what goes into adapters. What is dropped is drawn by seed, step and rank, one micro-batch after the other: unlike all else
    in a step it depends on the number of ranks and on train.micro_batch_rows."""
    base: Literal["full", "int8", "nf4"] = "full"
    """How the weights under the adapters are stored: Q-LoRA with int8 or nf4."""
    whole: tuple[Pattern, ...] = ()
    """Layers or weights beside the adapters that train themselves, such as the embedding and the head of a base model."""


class OptimRecipe(Strict):
    lr: float = Field(gt=0)
    min_lr: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = Field(default=0.05, ge=0)
    clip: float = Field(default=1.0, gt=0)
    schedule: Literal["cosine", "trapezoid"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    decay_fraction: float = Field(default=0.25, gt=0, le=1)
    """Trapezoid only: the last part of the steps, over which the rate falls linearly to min_lr."""
    lr_multipliers: dict[Part, float] = Field(default_factory=dict)
    tower_layer_decay: float = Field(default=1.0, gt=0, le=1)
    masters: Literal["whole", "split"] = "whole"
    """Where float32 weights are kept. split: in two halves, the upper one of which is the bfloat16 weight that computes: 14 bytes a
    weight with its gradient (bfloat16) and moments, in place of 16 or more; the step taken is the same. Gradients are bfloat16 too:
    those of a step's micro-batches are added up in it (8 of a rank: off by 0.4 %, 32: 0.7 %, 128: 1.4 %; beyond some hundreds the
    sum comes out too small), those of ranks in float32."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of a moving average of the weights, which is what is exported; none: no average."""


class TrainRecipe(Strict):
    steps: int = Field(ge=0)
    micro_batch_rows: int = Field(default=16, gt=0)
    """Rows in one forward pass of one process; the rest of its share of data.rows_per_step is accumulated."""
    precision: Literal["float32", "bf16"] = "bf16"
    frozen: tuple[Pattern, ...] = ()
    unfreeze_after: dict[Pattern, int] = Field(default_factory=dict)
    """Parts frozen for their first so many steps."""
    activation_checkpointing: bool = False
    """Make the activations inside of blocks again in the backward pass instead of keeping them."""
    compile: bool = False
    """Compile every block with torch.compile; worth its minutes on a GPU alone."""
    not_finite: Literal["skip", "stop"] = "skip"
    """What a step with an infinite or undefined loss or gradient leads to. Either way trouble.jsonl names its samples."""
    spike: float | None = Field(default=3.0, gt=1)
    """A loss so many times the running one is a spike: trouble.jsonl names its samples. None: nobody looks."""
    checkpoint_every: int = Field(default=200, gt=0)
    keep_checkpoints: int = Field(default=2, gt=0)
    log_every: int = Field(default=10, gt=0)
    curve_every: int = Field(default=200, gt=0)
    """Steps between new pictures of the loss and new report.html."""
    threads: int = Field(default=1, gt=0)
    """Threads of each process."""


class ParallelRecipe(Strict):
    """How the ranks share model and data. Their number is what `--processes` or torchrun says."""

    data: Literal["replicate", "fsdp"] = "replicate"
    """replicate: every rank has all weights, and gradients are summed. fsdp: weights, gradients and moments are cut among the
    ranks, and brought together block by block."""
    tensor: int = Field(default=1, gt=0)
    """Ranks that compute one forward pass together, each with its heads and its part of every MLP. More than 1 needs fsdp."""

    context: int = Field(default=1, gt=0)
    """Ranks that have the same rows together, each a piece of their tokens, and inside of attention a part of the decoder's heads:
    for rows so long that what one rank keeps of them does not fit. A divisor of the decoder's key-value heads."""

    @model_validator(mode="after")
    def fits(self) -> ParallelRecipe:
        if self.tensor > 1 and self.data != "fsdp":
            raise ValueError(f"parallel.tensor {self.tensor}: needs parallel.data: fsdp")
        return self


class EvaluateRecipe(Strict):
    """Scores and shown answers while the run goes on."""

    every: int = Field(gt=0)
    """Steps between evaluations; one more is made before the first step, and one at the end."""
    tasks: tuple[str, ...] = ("scenes",)
    """`scenes`, or benchmarks of `qwenvl eval tasks`, whose first split is asked."""
    data: str = "data/eval"
    """The folder in which each benchmark has one of its own."""
    limit: int = Field(default=48, gt=0)
    """Samples of each task."""
    shown: int = Field(default=4, ge=0)
    """Answers that the report shows with their pictures and boxes."""
