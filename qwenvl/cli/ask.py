"""`qwenvl ask IMAGE… QUESTION`: one question about pictures or clips, one answer, streamed; its boxes drawn where asked."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qwenvl.cli.answer import Decoding, Loading, Seeing, Seen, check_output, save_boxes, show, show_found
from qwenvl.cli.options import Flag, Functions, OutPicture, UsageError, Whole, parse
from qwenvl.cli.tools import check_calling, read_tools

if TYPE_CHECKING:
    from qwenvl.inference.model import QwenVL, Reply
    from qwenvl.processing.tiles import Tile
    from qwenvl.types import Sample

SUMMARY = """\
Ask a model one question about any number of pictures and clips.

A base model (qwen-vl-nano, Qwen-VL) continues the text as it stands:
write the question as its training did, with a space before and " Answer:" after.\
"""
EXAMPLES = """
qwenvl ask photo.png "Where is the dog? Give its box." --boxes answer.png
qwenvl ask photo.png "图里有什么？" --json
qwenvl ask first.png second.png "What is in the second picture?"
qwenvl ask clip.mp4 "When does the dog appear?" --fps 2 --model qwen2.5-vl-nano
qwenvl ask photo.png "What is this?" --temperature 0.7 --seed 1
qwenvl ask photo.png "How warm is it there?" --tools functions.json --model Qwen/Qwen2.5-VL-3B-Instruct
qwenvl ask photo.png " What is this? Answer:" --model qwen-vl-nano
"""


@dataclass(frozen=True)
class Ask:
    inputs: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[IMAGE|CLIP…] QUESTION", help_behavior_hint="")
    ]
    """Picture files, clips or folders of frames, then the question in quotes."""
    loading: Annotated[Loading, tyro.conf.arg(name="")] = field(default_factory=Loading)
    boxes: OutPicture = None
    """Save the picture with the answer's boxes drawn."""
    json: Flag = False
    """Print the answer as JSON: model, text, regions in pixels, spans in seconds, tool calls, usage, finish_reason."""
    raw: Flag = False
    """Show the model's markup of places as it wrote it."""
    seeing: Annotated[Seeing, tyro.conf.arg(name="")] = field(default_factory=Seeing)
    tiles: Whole = None
    """Show each picture as up to this many tiles too, at most 12, for models that resize every picture to one square."""
    tools: Functions = None
    """Functions that the model may call: a list of {name, description, parameters}. Each call is printed as a line of JSON."""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = field(default_factory=Decoding)


def main(arguments: list[str]) -> int:
    given: Ask = parse(Ask, arguments, "qwenvl ask", SUMMARY, EXAMPLES)
    names, question = split_inputs(given.inputs)

    from qwenvl.inference.sampling import GenerationOptions
    from qwenvl.processing.tools import with_tools

    options = GenerationOptions.of(**given.decoding.options())
    if given.boxes is not None:
        check_output(given.boxes, names)

    # Everything that can be wrong with the files is found before a model is loaded.
    functions = read_tools(given.tools)
    seen = [given.seeing.open(name) for name in names]
    pictures = [item.picture for item in seen]
    if given.boxes is not None and not any(pictures):
        raise UsageError("--boxes needs a picture: qwenvl ask IMAGE QUESTION --boxes OUT.png")

    model = given.loading.load()
    check_calling(model, functions)
    messages: Any = [{"role": "user", "content": [*(item.part for item in seen), {"type": "text", "text": question}]}]
    messages = with_tools(messages, functions, model.spec.chat)
    tiles: tuple[Tile, ...] = ()
    if given.tiles is not None:
        messages, tiles = cut(model, messages, given.tiles)
    if given.json:
        reply = model.chat(messages, options=options)
        reply = untile(reply, tiles, seen) if tiles else reply
        print(json.dumps(as_json(given.loading.model, reply), ensure_ascii=False))
    else:
        reply = show(model.stream(messages, options=options), model.markup, given.raw, sys.stdout)
        reply = untile(reply, tiles, seen) if tiles else reply
        show_found(reply, sys.stdout, model.style)
    if given.boxes is not None:
        saved = save_boxes(reply, pictures, given.boxes)
        message = f"boxes drawn: {saved}" if saved else f"no box in the answer, so {given.boxes} was not written"
        print(message, file=sys.stderr if given.json else sys.stdout)
    return 0


def cut(model: QwenVL, messages: Sequence[Any], most: int) -> tuple[Sample, tuple[Tile, ...]]:
    """The messages with every picture in tiles. Raises UsageError for a model that takes pictures at their own size."""
    from qwenvl.processing.messages import messages_to_sample
    from qwenvl.processing.tiles import cut_pictures

    side = model.config.vision.image_size
    if side is None:
        raise UsageError("--tiles is for models that resize every picture to one square; here --max-pixels sets the detail")
    return cut_pictures(messages_to_sample(messages, model.markup), side, most)


def untile(reply: Reply, tiles: Sequence[Tile], seen: Sequence[Seen]) -> Reply:
    """The reply with its places in the pictures as they were given, whichever of their tiles it named."""
    from qwenvl.processing.tiles import to_whole

    sizes = tuple(item.picture.size for item in seen if item.picture is not None)
    return replace(reply, regions=to_whole(reply.regions, tiles), image_sizes=sizes)


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
        "clamped": reply.clamped,
        "spans": [asdict(span) for span in reply.spans],
        "tool_calls": [asdict(call) for call in reply.tool_calls],
        "usage": asdict(reply.usage),
        "finish_reason": reply.finish_reason,
    }
