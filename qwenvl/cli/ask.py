"""`qwenvl ask IMAGE… QUESTION`: one question, one answer, streamed; its boxes drawn where asked."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qwenvl.cli.answer import DEFAULT_MODEL, Decoding, check_output, save_boxes, show, show_regions
from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from qwenvl.inference.model import Reply

USAGE = "usage: qwenvl ask [IMAGE…] QUESTION [--model M] [--boxes OUT.png] [--json]; more with --help"


@dataclass(frozen=True)
class Ask:
    """Ask a model one question about any number of pictures.

    A base model (qwen-vl-nano, Qwen-VL) continues the text as it stands: end the question as its training did, with " Answer:".
    """

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[IMAGE…] QUESTION")]
    """Picture files, then the question."""
    model: str = DEFAULT_MODEL
    """A built-in model, a folder, or a repository of the hub."""
    boxes: Path | None = None
    """Save the picture with the answer's boxes drawn."""
    json: bool = False
    """Print the answer as JSON: model, text, regions in pixels, usage, finish_reason."""
    raw: bool = False
    """Show the model's markup of places as it wrote it."""
    device: str | None = None
    """cpu or cuda; a GPU is used where there is one."""
    dtype: str | None = None
    """float32 or bfloat16; by default bfloat16 on a GPU, and on the CPU what the file holds."""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = field(default_factory=Decoding)


def main(arguments: list[str]) -> int:
    given = tyro.cli(Ask, args=arguments, prog="qwenvl ask", config=(tyro.conf.FlagCreatePairsOff,))
    if not given.inputs:
        print(USAGE, file=sys.stderr)
        return 2
    *images, question = given.inputs
    check_question(question)
    if given.boxes:
        check_output(given.boxes, images)
        if not images:
            raise QwenVLError("--boxes needs a picture: qwenvl ask IMAGE QUESTION --boxes OUT.png")

    # Everything that can be wrong with the pictures is found before a model is loaded.
    from qwenvl.processing.image import open_image

    pictures = [open_image(image) for image in images]

    from qwenvl.inference.model import load

    model = load(given.model, device=given.device, dtype=given.dtype)
    content: list[dict[str, Any]] = [{"type": "image", "image": picture} for picture in pictures]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
    if given.json:
        reply = model.chat(messages, **given.decoding.options())
        print(json.dumps(as_json(given.model, reply), ensure_ascii=False))
    else:
        reply = show(model.stream(messages, **given.decoding.options()), model.markup, given.raw, sys.stdout)
        show_regions(reply, sys.stdout)
    if given.boxes:
        saved = save_boxes(reply, pictures, given.boxes)
        message = f"boxes drawn: {saved}" if saved else f"no box in the answer, so {given.boxes} was not written"
        print(message, file=sys.stderr if given.json else sys.stdout)
    return 0


def check_question(question: str) -> None:
    """Raise QwenVLError for an empty question, and for a picture where the question should be."""
    if not question.strip():
        raise QwenVLError("the question is empty; put it in quotes after the pictures")
    try:
        is_file = Path(question).is_file()
    except (OSError, ValueError):  # too long for a file name, or with a zero byte
        is_file = False
    if is_file:
        raise QwenVLError(f"the question is missing: the last argument, {question!r}, is a file; put the question after it")


def as_json(model: str, reply: Reply) -> dict[str, Any]:
    return {
        "model": model,
        "text": reply.text,
        "regions": [region.as_json() for region in reply.pixels],
        "usage": asdict(reply.usage),
        "finish_reason": reply.finish_reason,
    }
