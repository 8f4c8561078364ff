"""`qwenvl chat [IMAGE…]`: a conversation about pictures and clips, turn by turn, at a terminal or from lines of a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from qwenvl.cli.answer import Decoding, Loading, Seeing, Seen, check_output, save_boxes, show, show_found
from qwenvl.cli.options import Flag, Functions, parse
from qwenvl.cli.tools import check_calling, read_tools
from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from qwenvl.inference.model import QwenVL, Reply
    from qwenvl.inference.sampling import GenerationOptions
    from qwenvl.processing.video import KeptClips

HELP = """\
/image PATH   add a picture or a clip to the next question
/boxes [OUT]  save the picture with the last answer's boxes drawn
/result TEXT  give the model what a function returned that it called
/reset        forget the conversation and its pictures
/help         this list
/quit         leave (Ctrl-D too); Ctrl-C stops an answer"""


SUMMARY = "Talk with a model about pictures and clips, at a terminal or from lines of a pipe. In it:\n" + HELP
EXAMPLES = """
qwenvl chat photo.png
printf 'What is this?\\nWhere is it?\\n/boxes answer.png\\n' | qwenvl chat photo.png
"""


@dataclass(frozen=True)
class Chat:
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[IMAGE|CLIP…]", help_behavior_hint="")] = ()
    """Pictures and clips that come with the first question."""
    loading: Annotated[Loading, tyro.conf.arg(name="")] = field(default_factory=Loading)
    raw: Flag = False
    """Show the model's markup of places as it wrote it."""
    seeing: Annotated[Seeing, tyro.conf.arg(name="")] = field(default_factory=Seeing)
    tools: Functions = None
    """Functions that the model may call: a list of {name, description, parameters}. Each call is printed as a line of JSON."""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = field(default_factory=Decoding)


def main(arguments: list[str]) -> int:
    given: Chat = parse(Chat, arguments, "qwenvl chat", SUMMARY, EXAMPLES)
    from qwenvl.inference.sampling import GenerationOptions
    from qwenvl.processing.video import KeptClips

    options = GenerationOptions.of(**given.decoding.options())
    functions = read_tools(given.tools)
    waiting = [given.seeing.open(name) for name in given.images]
    model = given.loading.load()
    model.need_processor()
    check_calling(model, functions)
    conversation = Conversation(model, options, KeptClips(), given.raw, given.seeing, functions, waiting=waiting)
    interactive = sys.stdin is not None and sys.stdin.isatty()
    if interactive:
        print(f"{given.loading.model}: {_counted(waiting)} waiting for the first question; /help lists the commands")
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
    """The history so far, the pictures in it, those that wait for the next question, and the clips, which are read once."""

    model: QwenVL
    options: GenerationOptions
    kept: KeptClips
    raw: bool = False
    seeing: Seeing = field(default_factory=Seeing)
    functions: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    shown: list[Seen] = field(default_factory=list)
    waiting: list[Seen] = field(default_factory=list)
    last: Reply | None = None

    def take(self, line: str) -> bool:
        """Obey one line; False to leave. Raises QwenVLError and stays as it was, if the line cannot be obeyed."""
        line = line.strip()
        if not line:
            return True
        if not line.startswith("/"):
            self.say("user", line)
            return True
        command, _, argument = line.partition(" ")
        argument = argument.strip()
        if command in ("/quit", "/exit"):
            return False
        if command == "/help":
            print(HELP)
        elif command == "/reset":
            self.messages, self.shown, self.waiting, self.last = [], [], [], None
            self.kept.forget()
            print("forgotten")
        elif command == "/result":
            self.give(argument)
        elif command == "/image":
            self.add(argument)
        elif command == "/boxes":
            self.draw(argument)
        else:
            raise QwenVLError(f"unknown command {command}; /help lists them")
        return True

    def add(self, path: str) -> None:
        if not path:
            raise QwenVLError("/image needs the path of a picture or a clip")
        seen = self.seeing.open(path.strip("\"'"))
        self.waiting.append(seen)
        what = f"{seen.picture.width} x {seen.picture.height}" if seen.picture else "a clip"
        print(f"{len(self.shown) + len(self.waiting)}: {what}, goes with the next question")

    def give(self, result: str) -> None:
        """Say what a function returned that the last answer called."""
        if self.last is None or not self.last.tool_calls:
            raise QwenVLError("the last answer called no function; ask a question, or start chat with --tools")
        if not result:
            raise QwenVLError("/result needs what the function returned")
        self.say("tool", result)

    def say(self, role: Literal["user", "tool"], text: str) -> None:
        """Go on with what waits and a text, and show the answer. Nothing changes where there is none."""
        from qwenvl.processing.encode import ContextError
        from qwenvl.processing.tools import with_tools

        seen = [item.part for item in self.waiting]
        asked = [*self.messages, {"role": role, "content": [*seen, {"type": "text", "text": text}]}]
        told = with_tools(asked, self.functions, self.model.spec.chat)
        try:
            chunks = self.model.stream(told, options=self.options, kept=self.kept)
            reply = show(chunks, self.model.markup, self.raw, sys.stdout)
            answer = reply.text
        except KeyboardInterrupt as interrupt:
            reply, answer = None, "".join(interrupt.args)
            print("(stopped)", file=sys.stderr)
        except ContextError as error:
            raise QwenVLError(f"{error}; /reset begins a new conversation") from None
        if reply is None and not answer:
            return  # nothing was said: the question was not asked
        self.messages = [*asked, {"role": "assistant", "content": answer}]
        self.shown, self.waiting, self.last = self.shown + self.waiting, [], reply
        if reply is not None:
            show_found(reply, sys.stdout, self.model.style)

    def draw(self, out: str) -> None:
        path = Path(out) if out else _free_name()
        check_output(path)
        if self.last is None:
            raise QwenVLError("there is no answer yet whose boxes could be drawn; ask where something is")
        if not self.last.regions:
            raise QwenVLError("the last answer has no box to draw; ask where something is")
        saved = save_boxes(self.last, [item.picture for item in self.shown], path)
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


def _counted(waiting: list[Seen]) -> str:
    clips = sum(item.picture is None for item in waiting)
    counts = [(clips, "clip"), (len(waiting) - clips, "picture")] if clips else [(len(waiting), "picture")]
    return " and ".join(f"{count or 'no'} {noun}{'s' * (count != 1)}" for count, noun in counts if count or not clips)
