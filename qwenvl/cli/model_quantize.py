"""`qwenvl model quantize NAME`: what a model's weights cost in bfloat16, int8 and int4, beside float32."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from qwenvl.cli.options import Device, Flag

SAMPLES = Path(__file__).resolve().parents[1] / "assets" / "samples"


@dataclass(frozen=True)
class Quantize:
    """Measure what it costs to store the weights in fewer bits: error of the logits, agreement, perplexity and bytes."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """A built-in model, a folder, or a hub id. It is loaded in float32 too, which takes four bytes a parameter."""
    kinds: tuple[Literal["bfloat16", "int8", "int4"], ...] = ("bfloat16", "int8", "int4")
    """The kinds to measure: those that `--quantize` takes elsewhere."""
    images: tuple[str, ...] = ()
    """Pictures to ask about; the samples of the package if not given."""
    device: Device = None
    """A GPU is used where there is one."""
    json: Flag = False
    """Print JSON instead of a table."""


def quantize(given: Quantize) -> int:
    from qwenvl.inference.rounding import measure
    from qwenvl.processing.image import open_image

    pictures = [open_image(name) for name in given.images or map(str, sorted(SAMPLES.glob("*.png")))]
    costs = measure(given.name, pictures, given.kinds, given.device)
    if given.json:
        print(json.dumps({"model": given.name, "pictures": len(pictures), "kinds": [asdict(cost) for cost in costs]}))
        return 0
    print(f"{given.name}: {costs[0].tokens} tokens of answers about {len(pictures)} pictures, as the float32 model gives them\n")
    heads = f"{'error':>10}{'worst':>10}{'same top':>10}{'perplexity':>12}{'ms/token':>10}{'in company':>12}{'otherwise':>11}"
    print(f"{'':<10}{'size':>12}{heads}")
    for cost in costs:
        size = f"{cost.bytes / 1e9:.2f} GB" if cost.bytes >= 1e9 else f"{cost.bytes / 1e6:.2f} MB"
        numbers = f"{cost.error:>10.4f}{cost.worst:>10.4f}{cost.agreement:>9.1%} {cost.perplexity:>12.4f}{cost.milliseconds:>10.2f}"
        print(f"{cost.kind:<10}{size:>12}{numbers}{cost.company:>12.1e}{cost.diverged:>11.1%}")
    print("\nerror: of the logits, root mean square, as a share of their spread; ms/token: CPU time of one sequence; in company:")
    print("the worst error of all answers at once beside each alone; otherwise: answers that then come out another")
    return 0
