"""Training at full size on one GPU, benchmarks G7 to G10 of gpu.py. MFU counts model FLOPs, the tower's included, and nothing twice
that is computed twice, of what the data sheet gives for dense bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.gpu_steps import Benchmark


def qwen_vl(tiny: bool) -> Any:
    from qwenvl.families import find_preset

    return find_preset("qwen-vl-nano" if tiny else "qwen-vl-7b").config


def qwen_vl_documents(config: Any, count: int, length: int) -> list[Any]:
    """Documents of so many tokens: a picture and text, half of which is answered."""
    from benchmarks.training import Ask, picture_documents

    side = config.vision.image_size // config.vision.patch_size
    text = length - 2 - config.connector.num_queries
    return picture_documents(config, [Ask(side, side, text // 2, text - text // 2)] * count)


def qwen_vl_stage(
    tiny: bool, *, trains: Sequence[str], count: int, length: int, pixels: int, state_bytes: float,
    in_backward: bool = False,
) -> dict[str, Any]:
    """One packed row of `count` documents of `length` tokens, six steps."""
    from benchmarks.gpu_steps import Steps, build, checkpoint_blocks, layers_that_fit, layers_to_keep, train_alone
    from qwenvl.processing.collate import collate
    from qwenvl.runtime import resolve_device

    device, config = resolve_device(), qwen_vl(tiny)
    if not tiny:
        config = config.model_copy(update={"vision": config.vision.model_copy(update={"image_size": pixels})})
    config = layers_that_fit(config, trains, state_bytes + 2, device)
    model = build(config, device)
    train_alone(model, trains)
    batch = collate(qwen_vl_documents(config, 3 if tiny else count, 62 if tiny else length))
    kept = layers_to_keep(model, [batch], state_bytes)
    checkpoint_blocks(model, kept)
    record = Steps(model, [batch], in_backward, rate=1e-3 if tiny else 1e-5).run(6)
    return {**record, "layers_kept": kept, "samples_per_s": record["samples"] / record["step_s"]}


def stage_3(tiny: bool) -> dict[str, Any]:
    """14 bytes a weight: itself, its gradient, two moments, and the low half of its master."""
    return qwen_vl_stage(tiny, trains=("connector", "decoder"), count=16, length=512, pixels=448, state_bytes=12)


def stage_1(tiny: bool) -> dict[str, Any]:
    return qwen_vl_stage(tiny, trains=("vision_tower", "connector"), count=16, length=512, pixels=224, state_bytes=12)


def stage_2(tiny: bool) -> dict[str, Any]:
    """12 bytes a weight: no gradient is kept."""
    everything = ("vision_tower", "connector", "decoder")
    return qwen_vl_stage(tiny, trains=everything, count=4, length=2048, pixels=448, state_bytes=10, in_backward=True)


def lora(tiny: bool) -> dict[str, Any]:
    """As the public finetuning of Qwen-VL-Chat: rank 64 on all layers of the decoder, one sample at a time, eight to a step
    (finetune.py and finetune_lora_single_gpu.sh of QwenLM/Qwen-VL). Activations made again, as there; and kept."""
    found = {f"{length}, {how}": lora_steps(tiny, length, keep) for length in (384, 2048) for how, keep in LORA_WAYS.items()}
    return {"parts": found}


LORA_WAYS = {"activations made again": 0, "activations kept": 1 << 10}


def lora_steps(tiny: bool, length: int, keep: int) -> dict[str, Any]:
    from benchmarks.gpu_steps import Steps, build, checkpoint_blocks, forget
    from qwenvl.models.lora import add_lora
    from qwenvl.processing.collate import collate
    from qwenvl.runtime import resolve_device

    config, device = qwen_vl(tiny), resolve_device()
    forget(device)
    model = build(config, device)
    add_lora(model, ("decoder.layers.*",), rank=4 if tiny else 64, alpha=16, dropout=0.05)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith(("lora_a", "lora_b")))
    checkpoint_blocks(model, keep)
    documents = qwen_vl_documents(config, 2 if tiny else 8, 40 + length // 64 if tiny else length)
    batches = [collate([document]) for document in documents]
    return Steps(model, batches, rate=1e-4).run(4)


def supervised_finetuning(tiny: bool) -> dict[str, Any]:
    from benchmarks.finetuning_gpu import compare

    return compare(tiny)


BENCHMARKS = {
    "G7": Benchmark(150, "Qwen-VL stage 3, tower frozen, split masters, packed 8,192 tokens a step", stage_3),
    "G9": Benchmark(130, "Qwen2.5-VL-3B finetuning, 64 ragged samples a step, tower frozen, packed", supervised_finetuning),
    "G10": Benchmark(120, "Qwen-VL LoRA of rank 64, eight samples a step", lora),
    "G8 stage 1": Benchmark(70, "Qwen-VL stage 1, 224 pixels, decoder frozen, 16 samples of 512 tokens", stage_1),
    "G8 stage 2": Benchmark(100, "Qwen-VL stage 2, all trains, steps within the backward pass, 4 samples of 2,048", stage_2),
}  # fmt: skip
