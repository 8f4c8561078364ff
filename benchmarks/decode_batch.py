"""C7: eight answers decoded together after prompts of different lengths, against transformers, which pads on the left, and
llama.cpp with eight sequences in one batch."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import reference
from benchmarks.decode import STEPS, OurSteps, TheirSteps, floor, llama_steps, load, name_of, prompt, relative_difference
from benchmarks.harness import Against, Case, Floor, Run
from benchmarks.reference import SIZE, Size, random_ids

LENGTHS = (128, 40, 96, 64, 112, 24, 80, 56)
AT_TINY_SIZE = {"size": reference.TINY}
AGAINST = (
    Against("qwenvl", "transformers", 1.8), Against("qwenvl", "llama.cpp bf16", 1.5), Against("qwenvl int8", "transformers"),
    Against("qwenvl int8", "llama.cpp q8_0"), Against("qwenvl int4", "transformers"), Against("qwenvl int4", "llama.cpp q4_0"),
)  # fmt: skip


def cases(quick: bool, size: Size = SIZE) -> Iterator[Case]:
    storages = ("bfloat16",) if quick else ("bfloat16", "int8", "int4")
    prompts = [random_ids(length, size, seed) for seed, length in enumerate(LENGTHS)]
    tokens = prompts[0].tolist()
    ours = {name_of(storage): OurSteps(load(storage, size), [prompt(ids) for ids in prompts], tokens) for storage in storages}
    theirs = TheirSteps(reference.theirs(size=size), prompts, tokens)
    variants: dict[str, Run] = {**ours, "transformers": theirs, **llama_steps(prompts, storages, size)}
    count = len(prompts)

    def figures() -> dict[str, float]:
        others = {name: steps for name, steps in ours.items() if name != "qwenvl"}
        mine = ours["qwenvl"].last
        return {f"logits of {name} from bfloat16": relative_difference(steps.last, mine) for name, steps in others.items()}

    def per_token(storage: str) -> Floor:
        """The weights are read once for all sequences; the products of each are its own."""
        whole = floor(storage, sum(LENGTHS), size)
        return Floor(bytes=whole.bytes / count, flops=2 * size.text_weights)

    yield Case(
        f"decode of {count} answers after {min(LENGTHS)} to {max(LENGTHS)} tokens", "token", variants, STEPS * count,
        agreement=lambda: relative_difference(ours["qwenvl"].last, theirs.last), figures=figures,
        floors={name_of(storage): per_token(storage) for storage in storages},
        against=[pair for pair in AGAINST if pair.ours in variants and pair.peer in variants],
    )  # fmt: skip
