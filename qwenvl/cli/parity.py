"""`qwenvl model parity MODEL [IMAGE]`: whether training, chat, engine and server give the same on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from qwenvl.cli.options import Device, DType, Flag

if TYPE_CHECKING:
    from qwenvl.inference.check import Check as Comparison
    from qwenvl.inference.check import Talk
    from qwenvl.inference.model import QwenVL
    from qwenvl.models.vlm import VisionLanguageModel
    from qwenvl.types import Batch

SAMPLE = Path(__file__).resolve().parents[1] / "assets" / "samples" / "scene-4.png"


@dataclass(frozen=True)
class Parity:
    """Compare the paths that must agree: training row and chat prompt, packed and alone, cached and not, batched and single, the
    engine, and a server over HTTP, which needs the extra `serve`. Exit code 1 where they differ."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """A built-in model, a folder, or a hub id."""
    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[IMAGE]", help_behavior_hint="")] = str(SAMPLE)
    """A picture to talk about; a sample of the package if not given."""
    json: Flag = False
    """Print JSON instead of a table."""
    device: Device = None
    """A GPU is used where there is one."""
    dtype: DType = None
    """By default bfloat16 on a GPU, and on the CPU what the file holds."""


def parity(given: Parity) -> int:
    from qwenvl.inference.check import check_model
    from qwenvl.inference.check_served import engine_agrees
    from qwenvl.inference.model import load
    from qwenvl.processing.image import open_image

    picture = open_image(given.image)
    model = load(given.name, given.device, given.dtype)
    talks, checks = check_model(model, picture, trainer_loss)
    if same := any(one.what == "logits" for one in checks):
        checks += [*engine_agrees(model, talks), *served(model, given.name, talks)]
    ok = all(one.ok for one in checks)
    head = {
        "model": given.name, "conversations": len(talks), "tokens": sum(len(talk.row) for talk in talks),
        "visual_tokens": sum(len(talk.row.visual_slots) for talk in talks),
        "dtype": str(model.dtype).removeprefix("torch."), "device": str(model.device),
    }  # fmt: skip
    if given.json:
        rows = [{**asdict(one), "ok": one.ok} for one in checks]
        print(json.dumps({**head, "checks": rows, "ok": ok}, ensure_ascii=False))
        return 0 if ok else 1
    counted = f"{head['conversations']} conversations, {head['tokens']} tokens ({head['visual_tokens']} visual)"
    print(f"{given.name}: {counted}, {head['dtype']} on {head['device']}\n")
    print_table(checks)
    if not same:
        print("\nwhat is read differs, so that the answers were not compared")
    return 0 if ok else 1


def served(model: QwenVL, name: str, talks: Sequence[Talk]) -> list[Comparison]:
    """The comparisons with a server on a free port of this machine; none, and a line about it, where its packages are missing."""
    from importlib.util import find_spec

    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        print("the server is not compared: pip install 'qwenvl[serve]'", file=sys.stderr)
        return []
    from qwenvl.inference.check_served import server_agrees
    from qwenvl.inference.engine import Engine
    from qwenvl.serve.run import in_background

    with Engine(model) as engine, in_background({name: engine}) as address:
        return list(server_agrees(model, name, talks, address))


def trainer_loss(model: VisionLanguageModel, batch: Batch) -> float:
    """Mean loss of a batch by the trainer's own objective."""
    from qwenvl.train.objectives import NextToken

    objective = NextToken()
    return float(objective(model, batch).sums["next_token"]) / objective.counts(batch)["next_token"]


def print_table(checks: Sequence[Comparison]) -> None:
    """Ids, positions, pixels, tokens: how many differ. Logits, loss, log p: largest difference as a share of the largest value."""
    width = max(len(one.compared) for one in checks)
    print(f"{'what':<10} {'compared':<{width}} {'differ by':>10} {'allowed':>8}")
    for one in checks:
        found = "too long" if one.difference is None else f"{one.difference:.2g}"
        print(f"{one.what:<10} {one.compared:<{width}} {found:>10} {one.limit:>8.2g}  {'OK' if one.ok else 'FAIL'}")
