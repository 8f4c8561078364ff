"""`qwenvl ask IMAGE… QUESTION`: one question, one answer, streamed; its boxes drawn where asked."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qwenvl.cli.answer import DEFAULT_MODEL, Decoding, check_output, save_boxes, show, show_regions
from qwenvl.cli.options import Device, DType, Flag, Model, OutPicture, UsageError, parse

if TYPE_CHECKING:
    from qwenvl.inference.model import Reply

SUMMARY = """\
Ask a model one question about any number of pictures.

A base model (qwen-vl-nano, Qwen-VL) continues the text as it stands:
write the question as its training did, with a space before and " Answer:" after.\
"""
EXAMPLES = """
qwenvl ask photo.png "Where is the dog? Give its box." --boxes answer.png
qwenvl ask photo.png "图里有什么？" --json
qwenvl ask first.png second.png "What is in the second picture?"
qwenvl ask photo.png "What is this?" --temperature 0.7 --seed 1
qwenvl ask photo.png " What is this? Answer:" --model qwen-vl-nano
"""


@dataclass(frozen=True)
class Ask:
    inputs: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[IMAGE…] QUESTION", help_behavior_hint="")
    ]
    """Picture files, then the question in quotes."""
    model: Model = DEFAULT_MODEL
    """A built-in model, a folder, or a repository of the hub."""
    boxes: OutPicture = None
    """Save the picture with the answer's boxes drawn."""
    json: Flag = False
    """Print the answer as JSON: model, text, regions in pixels, usage, finish_reason."""
    raw: Flag = False
    """Show the model's markup of places as it wrote it."""
    device: Device = None
    """A GPU is used where there is one."""
    dtype: DType = None
    """By default bfloat16 on a GPU, and on the CPU what the file holds."""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = field(default_factory=Decoding)


def main(arguments: list[str]) -> int:
    given: Ask = parse(Ask, arguments, "qwenvl ask", SUMMARY, EXAMPLES)
    images, question = split_inputs(given.inputs)

    from qwenvl.inference.sampling import GenerationOptions

    options = GenerationOptions.of(**given.decoding.options())
    if given.boxes is not None:
        check_output(given.boxes, images)
        if not images:
            raise UsageError("--boxes needs a picture: qwenvl ask IMAGE QUESTION --boxes OUT.png")

    # Everything that can be wrong with the pictures is found before a model is loaded.
    from qwenvl.processing.image import open_image

    pictures = [open_image(image) for image in images]

    from qwenvl.inference.model import load

    model = load(given.model, device=given.device, dtype=given.dtype)
    content: list[dict[str, Any]] = [{"type": "image", "image": picture} for picture in pictures]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
    if given.json:
        reply = model.chat(messages, options=options)
        print(json.dumps(as_json(given.model, reply), ensure_ascii=False))
    else:
        reply = show(model.stream(messages, options=options), model.markup, given.raw, sys.stdout)
        show_regions(reply, sys.stdout, model.style)
    if given.boxes is not None:
        saved = save_boxes(reply, pictures, given.boxes)
        message = f"boxes drawn: {saved}" if saved else f"no box in the answer, so {given.boxes} was not written"
        print(message, file=sys.stderr if given.json else sys.stdout)
    return 0


def split_inputs(inputs: tuple[str, ...]) -> tuple[list[str], str]:
    """Pictures and question. Raises UsageError where the question is missing, empty, first, or not in quotes."""
    if not inputs:
        raise UsageError('the question is missing: qwenvl ask [IMAGE…] "QUESTION"; more with --help')
    *images, question = inputs
    if not question.strip():
        raise UsageError("the question is empty; put it in quotes after the pictures")
    if _is_file(question):
        if images and not _is_file(images[0]):
            raise UsageError(f"the question comes last: qwenvl ask {shlex.quote(question)} {shlex.quote(images[0])}")
        raise UsageError(
            f"the question is missing: the last argument, {question!r}, is a file; "
            "put the question after it (or, if this is the question, a space)"
        )
    for image in images[1:]:
        # `ask photo.png Where is the dog?`
        if not Path(image).suffix and ":" not in image and not Path(image).exists():
            raise UsageError(f"{image}: no such file; if it belongs to the question, put the whole question in quotes")
    return images, question


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long for a file name, or with a zero byte
        return False


def as_json(model: str, reply: Reply) -> dict[str, Any]:
    return {
        "model": model,
        "text": reply.text,
        "regions": [region.as_json() for region in reply.pixels],
        "usage": asdict(reply.usage),
        "finish_reason": reply.finish_reason,
    }
