"""`qwenvl chat [IMAGE…]`: a conversation about pictures, turn by turn, at a terminal or from lines of a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qwenvl.cli.answer import DEFAULT_MODEL, Decoding, check_output, save_boxes, show, show_regions
from qwenvl.cli.options import Device, DType, Flag, Model, parse
from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from PIL.Image import Image

    from qwenvl.inference.model import QwenVL, Reply
    from qwenvl.inference.sampling import GenerationOptions

HELP = """\
/image PATH   add a picture to the next question
/boxes [OUT]  save the picture with the last answer's boxes drawn
/reset        forget the conversation and its pictures
/help         this list
/quit         leave (Ctrl-D too); Ctrl-C stops an answer"""


SUMMARY = "Talk with a model about pictures, at a terminal or from lines of a pipe. In it:\n" + HELP
EXAMPLES = """
qwenvl chat photo.png
printf 'What is this?\\nWhere is it?\\n/boxes answer.png\\n' | qwenvl chat photo.png
"""


@dataclass(frozen=True)
class Chat:
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[IMAGE…]", help_behavior_hint="")] = ()
    """Pictures that come with the first question."""
    model: Model = DEFAULT_MODEL
    """A built-in model, a folder, or a repository of the hub."""
    raw: Flag = False
    """Show the model's markup of places as it wrote it."""
    device: Device = None
    """A GPU is used where there is one."""
    dtype: DType = None
    """By default bfloat16 on a GPU, and on the CPU what the file holds."""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = field(default_factory=Decoding)


def main(arguments: list[str]) -> int:
    given: Chat = parse(Chat, arguments, "qwenvl chat", SUMMARY, EXAMPLES)
    from qwenvl.inference.sampling import GenerationOptions
    from qwenvl.processing.image import open_image

    options = GenerationOptions.of(**given.decoding.options())
    pictures = [open_image(image) for image in given.images]

    from qwenvl.inference.model import load

    model = load(given.model, device=given.device, dtype=given.dtype)
    model.need_processor()
    conversation = Conversation(model, options, given.raw, waiting=pictures)
    interactive = sys.stdin is not None and sys.stdin.isatty()
    if interactive:
        print(f"{given.model}: {_counted(len(pictures))} waiting for the first question; /help lists the commands")
    failed = False
    for line in typed_lines() if interactive else piped_lines():
        try:
            if not conversation.take(line):
                break
        except QwenVLError as error:
            failed = True
            print(f"qwenvl: {' '.join(str(error).split())}", file=sys.stderr)
    # At a terminal the user has seen the error and mended it; a script has to be told.
    return 1 if failed and not interactive else 0


@dataclass
class Conversation:
    """The history so far, the pictures in it, and those that wait for the next question."""

    model: QwenVL
    options: GenerationOptions
    raw: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[Image] = field(default_factory=list)
    waiting: list[Image] = field(default_factory=list)
    last: Reply | None = None

    def take(self, line: str) -> bool:
        """Obey one line; False to leave. Raises QwenVLError and stays as it was, if the line cannot be obeyed."""
        line = line.strip()
        if not line:
            return True
        if not line.startswith("/"):
            self.ask(line)
            return True
        command, _, argument = line.partition(" ")
        argument = argument.strip()
        if command in ("/quit", "/exit"):
            return False
        if command == "/help":
            print(HELP)
        elif command == "/reset":
            self.messages, self.pictures, self.waiting, self.last = [], [], [], None
            print("forgotten")
        elif command == "/image":
            self.add(argument)
        elif command == "/boxes":
            self.draw(argument)
        else:
            raise QwenVLError(f"unknown command {command}; /help lists them")
        return True

    def add(self, path: str) -> None:
        from qwenvl.processing.image import open_image

        if not path:
            raise QwenVLError("/image needs the path of a picture")
        picture = open_image(path.strip("\"'"))
        self.waiting.append(picture)
        print(f"picture {len(self.pictures) + len(self.waiting)}: {picture.width} x {picture.height}, goes with the next question")

    def ask(self, question: str) -> None:
        from qwenvl.processing.encode import ContextError

        content: list[dict[str, Any]] = [{"type": "image", "image": picture} for picture in self.waiting]
        asked = [*self.messages, {"role": "user", "content": [*content, {"type": "text", "text": question}]}]
        try:
            reply = show(self.model.stream(asked, options=self.options), self.model.markup, self.raw, sys.stdout)
            answer = reply.text
        except KeyboardInterrupt as interrupt:
            reply, answer = None, "".join(interrupt.args)
            print("(stopped)", file=sys.stderr)
        except ContextError as error:
            raise QwenVLError(f"{error}; /reset begins a new conversation") from None
        if reply is None and not answer:
            return  # nothing was said: the question was not asked
        self.messages = [*asked, {"role": "assistant", "content": answer}]
        self.pictures, self.waiting, self.last = self.pictures + self.waiting, [], reply
        if reply is not None:
            show_regions(reply, sys.stdout, self.model.style)

    def draw(self, out: str) -> None:
        path = Path(out) if out else _free_name()
        check_output(path)
        if self.last is None:
            raise QwenVLError("there is no answer yet whose boxes could be drawn; ask where something is")
        if not self.last.regions:
            raise QwenVLError("the last answer has no box to draw; ask where something is")
        saved = save_boxes(self.last, self.pictures, path)
        print(f"boxes drawn: {saved}" if saved else "the conversation has no picture to draw on")


def typed_lines() -> Iterator[str]:
    """Lines typed at the terminal, with line editing and history where Python has readline. Ctrl-D ends, Ctrl-C clears the line."""
    try:
        import readline  # noqa: F401  (importing it is what gives input() its editing)
    except ImportError:
        pass
    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            print()
        except EOFError:
            print()
            return


def piped_lines() -> Iterator[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    yield from sys.stdin or ()


def _free_name() -> Path:
    """boxes-1.png, or the first number that no file has yet."""
    number = 1
    while (path := Path(f"boxes-{number}.png")).exists():
        number += 1
    return path


def _counted(pictures: int) -> str:
    return "1 picture" if pictures == 1 else f"{pictures or 'no'} pictures"
