"""`qwenvl model compare IMAGE QUESTION`: several models on one picture, their boxes next to each other."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qwenvl.cli.answer import Decoding, check_output, is_clip, show_found
from qwenvl.cli.ask import as_json
from qwenvl.cli.options import Device, DType, Flag, UsageError, Whole
from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from qwenvl.inference.compare import Outcome


@dataclass(frozen=True)
class Compare:
    """Ask several models the same about one picture; print their answers, and draw their boxes side by side. Exit code 1 where a
    model gave no answer."""

    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    """A picture file."""
    question: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="QUESTION")]
    """The question, in quotes. Base models continue it as it stands."""
    models: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME…", help_behavior_hint="")] = ()
    """Built-in models, folders and hub ids, one after the other. If not given: every chat model in the package."""
    out: Annotated[Path, tyro.conf.arg(metavar="OUT.png")] = Path("compare.png")
    """The picture to save: a panel for each model."""
    json: Flag = False
    """Print one JSON object instead of lines."""
    min_pixels: Whole = None
    """Enlarge the picture if it has fewer pixels, for models that keep the aspect ratio."""
    max_pixels: Whole = None
    """Reduce the picture if it has more pixels, for the same models."""
    device: Device = None
    """A GPU is used where there is one."""
    dtype: DType = None
    """By default bfloat16 on a GPU, and on the CPU what the file holds."""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = field(default_factory=Decoding)


def compare(given: Compare) -> int:
    from qwenvl.inference.compare import ask_each, draw_comparison
    from qwenvl.inference.sampling import GenerationOptions
    from qwenvl.processing.image import open_image
    from qwenvl.runtime import atomic_write

    if not given.question.strip():
        raise UsageError("the question is empty; put it in quotes after the picture")
    if is_clip(given.image):
        raise UsageError(f"{given.image}: a clip; give a picture here, and ask about a clip with `qwenvl ask`")
    check_output(given.out, [given.image])
    options = GenerationOptions.of(**given.decoding.options())
    picture = open_image(given.image)
    models = given.models or chat_models()
    if not models:
        raise QwenVLError("the package has no chat model; name some with --models")

    part = {"type": "image", "image": picture, "min_pixels": given.min_pixels, "max_pixels": given.max_pixels}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": given.question}]}]
    outcomes = []
    for outcome in ask_each(models, messages, options, given.device, given.dtype):
        outcomes.append(outcome)
        if not given.json:
            show(outcome)
    drawn = draw_comparison(picture, given.question, outcomes)
    try:
        with atomic_write(given.out) as temporary:
            drawn.save(temporary)
    except OSError as error:
        raise QwenVLError(f"{given.out}: cannot be written ({error.strerror or error})") from None
    if given.json:
        print(json.dumps(everything(given, outcomes), ensure_ascii=False))
    else:
        print(f"side by side: {given.out}")
    return 1 if any(outcome.error for outcome in outcomes) else 0


def chat_models() -> tuple[str, ...]:
    """The models in the package that answer questions; base models continue a text."""
    from qwenvl.weights.hub import builtin_models

    def answers(folder: Path) -> bool:
        path = folder / "generation_config.json"
        return not path.is_file() or json.loads(path.read_text(encoding="utf-8")).get("chat_format", "chatml") == "chatml"

    return tuple(name for name, folder in builtin_models().items() if answers(folder))


def show(outcome: Outcome) -> None:
    """One model's answer, places and cost, or its one line on stderr."""
    if outcome.reply is None:
        print(f"{outcome.model}\n  no answer: {outcome.error}\n", file=sys.stderr)
        return
    print(f"{outcome.model}  ({outcome.cost})")
    if outcome.reply.readable.strip():
        print(outcome.reply.readable)
    sys.stdout.flush()  # before what show_found explains on stderr
    show_found(outcome.reply, sys.stdout)
    print()


def everything(given: Compare, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    rows = []
    for outcome in outcomes:
        said = {"model": outcome.model} if outcome.reply is None else as_json(outcome.model, outcome.reply)
        rows.append({**said, "seconds": round(outcome.seconds, 3), "error": outcome.error})
    return {"image": given.image, "question": given.question, "out": str(given.out), "answers": rows}
