"""What a checkpoint holds of a run beside its tensors: with it a run that was killed and resumed tells what it would have told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qwenvl.data.loader import Refused
from qwenvl.train.metrics import write_refused

if TYPE_CHECKING:
    from qwenvl.train.trainer import Trainer


def remembered(trainer: Trainer) -> dict[str, Any]:
    """Numbers, texts and lists; of tensors only the sums for the log. All ranks must call this."""
    world, left_out = trainer.world, Refused()
    lanes = world.gather(trainer.stream.states())
    for of_rank in world.gather(trainer.stream.refused):
        left_out.join(of_rank)
    if world.leads:
        write_refused(trainer.run, left_out)
    return {
        "step": trainer.step,
        "refused": trainer.refused,
        "lanes": {lane: state for states in lanes for lane, state in states.items()},
        "fingerprint": trainer.fingerprint,
        "recipe": trainer.recipe.model_dump(mode="json"),
        "partial": trainer.state.partial,
        "watch": trainer.watch.state(),
        "window": trainer.window.state(world),
        "left_out": {"counts": dict(left_out.counts), "named": left_out.named},
    }


def remember(trainer: Trainer, saved: Mapping[str, Any]) -> None:
    """Be where that was written, on however many ranks. What checkpoints of older versions do not hold begins anew."""
    trainer.step, trainer.refused = saved["step"], saved["refused"]
    trainer.stream.seek(trainer.step, saved.get("lanes"))
    if "watch" in saved:
        trainer.watch.remember(saved["watch"])
        trainer.window_kept = saved["window"]
    if trainer.world.leads:
        kept = saved.get("left_out", {"counts": {}, "named": []})
        trainer.stream.refused = Refused(Counter(kept["counts"]), list(kept["named"]))
