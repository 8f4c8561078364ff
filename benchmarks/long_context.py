"""C8: decode after 4,096 tokens, against transformers with its growing cache: time, and what a process holds at most.

`python -m benchmarks.long_context VARIANT` loads a model, reads the prompt, decodes some tokens and prints the memory that took.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import reference
from benchmarks.alone import peak, restart_peak, run_alone
from benchmarks.decode import STEPS, OurSteps, TheirSteps, floor, load, prompt, relative_difference
from benchmarks.harness import Against, Case, Item, Result, pin_to_one_core
from benchmarks.reference import SIZE, Size, random_ids

CONTEXT = 4096
AT_TINY_SIZE = {"size": reference.TINY, "context": 64}
VARIANTS = ("qwenvl", "transformers")


def cases(quick: bool, size: Size = SIZE, context: int = CONTEXT) -> Iterator[Item]:
    context = context // 4 if quick else context
    ids = random_ids(context, size)
    ours, theirs = build("qwenvl", ids, size), build("transformers", ids, size)
    yield Case(
        f"decode after {context} tokens", "token", {"qwenvl": ours, "transformers": theirs}, STEPS,
        against=[Against("qwenvl", "transformers", 2.0)], floors={"qwenvl": floor("bfloat16", context, size)},
        agreement=lambda: relative_difference(ours.last, theirs.last),
    )  # fmt: skip
    yield lambda _: [memory(context, size)]


def build(variant: str, ids: Any, size: Size) -> Any:
    if variant == "qwenvl":
        return OurSteps(load("bfloat16", size), [prompt(ids)], ids[:64].tolist())
    return TheirSteps(reference.theirs(size=size), [ids], ids[:64].tolist())


def memory(context: int, size: Size) -> Result:
    """Once: it hardly differs from run to run."""
    reference.folder(size)  # whoever measures need not write it
    tiny = ["--tiny"] if size == reference.TINY else []
    found = {variant: run_alone("benchmarks.long_context", variant, "--context", str(context), *tiny) for variant in VARIANTS}
    held = {variant: [one["mib"]] for variant, one in found.items()}
    told = {f"MiB of it for the model, {variant}": one["loaded"] for variant, one in found.items()}
    return Result(f"memory to decode after {context} tokens", "process", held, None, told, "MiB")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_context", description="Memory of one long answer.")
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--context", type=int, default=CONTEXT)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(arguments)
    size = reference.TINY if options.tiny else SIZE
    pin_to_one_core()
    if options.variant == "qwenvl":
        load("bfloat16", size)
    else:
        reference.theirs(size=size)
    loaded = peak()
    restart_peak()
    build(options.variant, random_ids(options.context, size), size)()
    print(json.dumps({"mib": peak(), "loaded": loaded}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
