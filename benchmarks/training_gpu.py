"""Training at full size on one GPU: `python -m benchmarks --gpu-training --out FOLDER`, about ten minutes. Without a GPU only with
--tiny, which shows that all of it runs.

Weights are random and made on the device; nothing is downloaded. Every benchmark is a process with a time limit of its own
(`python -m benchmarks.training_gpu NAME` runs one), so that the next one finds the memory free. training_gpu.json is written after
each: what is done stays if the rest is not. MFU counts model FLOPs, the tower's included, and nothing twice that is computed twice,
of what the data sheet gives for dense bfloat16.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Benchmark:
    """limit: seconds. run(tiny) returns what is kept."""

    limit: float
    about: str
    run: Callable[[bool], dict[str, Any]]


def ceilings(tiny: bool) -> dict[str, Any]:
    """What the device can do: a product of two matrices, and a copy."""
    import torch

    from benchmarks.gpu_steps import clock
    from qwenvl.runtime import resolve_device

    device, side, size = resolve_device(), 256 if tiny else 8192, 1 << (16 if tiny else 32)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def best(run: Callable[[], object]) -> float:
        seconds = []
        for _ in range(12):
            start = clock(device)
            run()
            seconds.append(clock(device) - start)
        return min(seconds)

    product, copy = best(lambda: torch.mm(a, b)), best(lambda: target.copy_(source))
    return {"gemm_tflops": 2 * side**3 / product / 1e12, "copy_tb_s": 2 * size / copy / 1e12}


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
    return {"by_length": found}


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
    "G0": Benchmark(30, "bfloat16 product of 8192 x 8192 matrices, copy of 4 GiB", ceilings),
    "G7": Benchmark(150, "Qwen-VL stage 3, tower frozen, split masters, packed 8,192 tokens a step", stage_3),
    "G9": Benchmark(130, "Qwen2.5-VL-3B finetuning, 64 ragged samples a step, tower frozen, packed", supervised_finetuning),
    "G10": Benchmark(120, "Qwen-VL LoRA of rank 64, eight samples a step", lora),
    "G8 stage 1": Benchmark(70, "Qwen-VL stage 1, 224 pixels, decoder frozen, 16 samples of 512 tokens", stage_1),
    "G8 stage 2": Benchmark(100, "Qwen-VL stage 2, all trains, steps within the backward pass, 4 samples of 2,048", stage_2),
}  # fmt: skip


def run_all(out: Path, tiny: bool, note: str = "") -> int:
    """Each benchmark in turn; 1 if one of them failed."""
    import torch

    from qwenvl.runtime import atomic_write, environment

    if not (tiny or torch.cuda.is_available()):
        print("--gpu-training: no GPU here; add --tiny to run all of it at a size of seconds", file=sys.stderr)
        return 2
    command = " ".join(["python -m benchmarks --gpu-training", *(["--tiny"] if tiny else [])])
    report: dict[str, Any] = {"command": command, "commit": commit(), "environment": environment(), "note": note, "results": {}}
    for name, benchmark in BENCHMARKS.items():
        report["results"][name] = {"about": benchmark.about, **run_alone(name, tiny, benchmark.limit)}
        with atomic_write(out / "training_gpu.json") as path:
            path.write_text(json.dumps(report, indent=1), encoding="utf-8")
        print(f"{name}: {summary(report['results'][name])}", file=sys.stderr)
    with atomic_write(out / "training_gpu.md") as path:
        path.write_text(markdown(report), encoding="utf-8")
    print(markdown(report))
    return int(any("error" in result for result in report["results"].values()))


def run_alone(name: str, tiny: bool, limit: float) -> dict[str, Any]:
    """What a process of its own measured, or its error."""
    command = [sys.executable, "-m", "benchmarks.training_gpu", name, *(["--tiny"] if tiny else [])]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {limit:.0f} seconds"}
    wall = {"wall_s": time.perf_counter() - start}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else f"ended with {done.returncode}", **wall}
    return {**json.loads(done.stdout.splitlines()[-1]), **wall}


def summary(result: Mapping[str, Any]) -> str:
    """One line."""
    if "error" in result:
        return f"failed: {result['error']}"
    if "by_length" in result:
        return "; ".join(f"{name}: {summary(found)}" for name, found in result["by_length"].items())
    parts = [
        f"{result[key]:.4g} {unit}"
        for key, unit in (
            ("gemm_tflops", "TFLOP/s"), ("copy_tb_s", "TB/s"), ("step_s", "s a step"), ("tokens_per_s", "tokens/s"),
            ("samples_per_s", "samples/s"), ("mfu", "MFU"), ("peak_gib", "GiB at most"),
            ("times_peer", "times transformers, padded"),
        )
        if result.get(key) is not None
    ]  # fmt: skip
    return ", ".join(parts)


def markdown(report: Mapping[str, Any]) -> str:
    devices = ", ".join(device["name"] for device in report["environment"]["cuda"]) or "no GPU"
    where = f"{devices}, torch {report['environment']['torch']}"
    head = f"`{report['command']}` at commit {report['commit']}; {where}. {report['note']}"
    rows = [f"| {name} | {result['about']} | {summary(result)} |" for name, result in report["results"].items()]
    return "\n".join([head.strip(), "", "| | what | measured |", "|---|---|---|", *rows, ""])


def commit() -> str:
    from benchmarks.__main__ import commit as described

    return described()


def main(arguments: Sequence[str] | None = None) -> int:
    about = "One benchmark of training on a GPU, as JSON."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_gpu", description=about)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--tiny", action="store_true", help="at a size of seconds, without a GPU too")
    options = parser.parse_args(arguments)
    print(json.dumps(BENCHMARKS[options.name].run(options.tiny)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
