"""`qwenvl bench MODEL`: how fast a model looks, reads and writes here, and with --profile where the time goes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qwenvl.cli.options import Device, DType, Flag, FromOne, Model, Quantize, Text, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwenvl.inference.profiling import Share, Times, Work

SUMMARY = "Measure how fast a model looks at a picture, reads a prompt and writes, on this machine."
EXAMPLES = """
qwenvl bench qwen-vl-nano-chat
qwenvl bench Qwen/Qwen2.5-VL-3B-Instruct --quantize int8 --prompt 512 --image photo.jpg
qwenvl bench ./model --dtype bfloat16 --sequences 8 --profile
"""
TOP = 12
"""Rows of a phase in the table."""


@dataclass(frozen=True)
class Bench:
    model: Annotated[Model, tyro.conf.Positional]
    """A built-in model, a folder, or a repository of the hub."""
    prompt: FromOne = 128
    """Tokens of every prompt, drawn at random."""
    tokens: FromOne = 32
    """Tokens that are written after each."""
    sequences: FromOne = 1
    """Prompts that are read and continued together."""
    image: Text = None
    """A picture to look at too."""
    profile: Flag = False
    """Do it once more under torch's profiler; write a trace, and a table of where the time goes."""
    out: Path = Path("runs/profile")
    """Folder of trace.json and profile.json, with --profile."""
    device: Device = None
    """cpu, cuda or cuda:N. If not given: the first GPU if there is one, else the CPU."""
    dtype: DType = None
    """The dtype to compute in. If not given: bfloat16 on a GPU, that of the file on the CPU."""
    quantize: Quantize = None
    """How the decoder's weights are kept in memory."""
    json: Flag = False
    """Print one JSON object instead of lines."""


def main(arguments: list[str]) -> int:
    options: Bench = parse(Bench, arguments, "qwenvl bench", SUMMARY, EXAMPLES)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or torch's profiler writes lines of its own between ours
    from qwenvl.inference.model import load
    from qwenvl.inference.profiling import Work, measure, trace
    from qwenvl.runtime import atomic_write, environment, set_threads

    set_threads()
    model = load(options.model, options.device, options.dtype, options.quantize)
    work = Work(options.prompt, options.tokens, options.sequences, options.image)
    times = measure(model, work)
    report: dict[str, Any] = {"model": options.model, "work": asdict(work), "milliseconds": asdict(times), **environment()}
    shares: list[Share] = []
    if options.profile:
        shares = trace(model, work, options.out / "trace.json")
        report["profile"] = [asdict(share) for share in shares]
        with atomic_write(options.out / "profile.json") as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1) if options.json else "\n".join([*told(work, times), *table(shares)]))
    if options.profile and not options.json:
        print(f"\n{options.out / 'trace.json'}: open it at ui.perfetto.dev; {options.out / 'profile.json'}: all rows")
    return 0


def told(work: Work, times: Times) -> list[str]:
    """The times as aligned lines."""
    rate = 1e3 / times.step * work.sequences
    lines = [] if times.look is None else [f"look   {times.look:9.1f} ms"]
    read = work.prompt * work.sequences
    return [
        *lines,
        f"read   {times.read:9.1f} ms for {read} tokens: {read / times.read * 1e3:.0f} tokens/s",
        f"write  {times.step:9.2f} ms a step of {work.sequences} sequence{'s' * (work.sequences > 1)}: {rate:.1f} tokens/s",
    ]


def table(shares: Sequence[Share]) -> list[str]:
    """Where the time went, the TOP of each phase."""
    lines: list[str] = []
    for phase in dict.fromkeys(share.phase for share in shares):
        own = [share for share in shares if share.phase == phase]
        whole = sum(share.milliseconds for share in own) or 1.0
        lines += ["", f"{phase:<44} {'ms':>9} {'share':>6} {'calls':>7}"]
        lines += [f"  {s.name:<42.42} {s.milliseconds:9.2f} {s.milliseconds / whole:6.1%} {s.calls:7d}" for s in own[:TOP]]
    return lines
