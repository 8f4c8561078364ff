"""`qwenvl VERB …`: finds the verb's module, runs it, and turns errors into one line and an exit code.

This file is imported by every call of the command, so it imports nothing that is slow: no torch, no tyro, no pydantic.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys

# Verb -> its module, which has `main(arguments: list[str]) -> int`, and one line of help.
VERBS: dict[str, tuple[str, str]] = {
    "ask": ("qwenvl.cli.ask", "ask one question about pictures and clips; draw the boxes of the answer"),
    "chat": ("qwenvl.cli.chat", "talk about pictures and clips, turn by turn"),
    "serve": ("qwenvl.cli.serve", "answer over HTTP: a page in the browser, and the OpenAI API"),
    "agent": ("qwenvl.cli.agent", "have a model use a web page, or a robot in a drawn house, step by step"),
    "model": ("qwenvl.cli.model", "list models, compare several, check one, or count its parameters"),
    "data": ("qwenvl.cli.data", "make training data of raw files and of nothing; look at it, and at what is taught"),
    "train": ("qwenvl.cli.train", "train by a recipe, or resume a run"),
    "plan": ("qwenvl.cli.plan", "say what a training run will cost before it starts"),
    "ablate": ("qwenvl.cli.ablate", "train the variants of an ablation; print the paper's trend beside ours"),
    "eval": ("qwenvl.cli.eval", "measure a model on a task"),
    "bench": ("qwenvl.cli.bench", "measure how fast a model is here, and where the time goes"),
    "doctor": ("qwenvl.cli.doctor", "print versions, device and what else a bug report needs"),
}

# Packages outside the core that a verb may need, and the extra that brings them.
EXTRAS = {
    "matplotlib": "train", "pyarrow": "data", "daft": "data", "ray": "ray", "cv2": "synth", "pypdfium2": "documents",
    "playwright": "documents", "fastapi": "serve", "uvicorn": "serve", "starlette": "serve", "llguidance": "serve",
    "prometheus_client": "serve",
}  # fmt: skip

EXAMPLE = """\
examples:
  qwenvl ask photo.png "Where is the dog? Give its box." --boxes answer.png
  qwenvl chat photo.png
  qwenvl doctor
  qwenvl VERB --help    options and examples of one verb

QWENVL_OFFLINE=1 forbids downloads; QWENVL_DEBUG=1 shows the traceback of an error.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command line (sys.argv's by default) and return its exit code. Errors of the user become one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _make_streams_safe()
    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # tyro's, after its help or what is wrong with an option
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        # The reader (`| head`) is gone. Without this, Python's own flush at exit would complain once more.
        _discard_stdout()
        return 1
    except Exception as error:
        message = _one_line(error)
        if message is None or os.environ.get("QWENVL_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _discard_stdout()
        return _complain(message, getattr(error, "exit_code", 1))


def run(arguments: list[str]) -> int:
    """Help, version, or the verb: its module, and no other verb's, is imported."""
    if len(arguments) > 1 and arguments[0] == "help":
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version", "version"):
        from qwenvl import __version__

        print(f"qwenvl {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        return _complain(unknown_verb(verb), 2)
    code: int = importlib.import_module(VERBS[verb][0]).main(rest)
    return code


def help_text() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {summary}" for verb, (_, summary) in VERBS.items())
    return f"usage: qwenvl VERB [options]\n\nQwen-VL, from raw data to a served model.\n\nverbs:\n{verbs}\n\n{EXAMPLE}"


def unknown_verb(verb: str) -> str:
    import difflib

    close = difflib.get_close_matches(verb, VERBS, n=1)
    return f"unknown verb {verb!r}; " + (f"did you mean {close[0]!r}?" if close else f"known: {', '.join(VERBS)}")


def _one_line(error: Exception) -> str | None:
    """What to tell the user, or None where the error is a bug of ours and its traceback is wanted."""
    from qwenvl.types import QwenVLError

    if isinstance(error, QwenVLError):
        return " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        extra = EXTRAS.get(package)
        return f"{package} is not installed; install it with: pip install 'qwenvl[{extra}]'" if extra else None
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of a stream, which has no name
        return f"{error.strerror}; free some, or write elsewhere"
    return None


def _make_streams_safe() -> None:
    """A terminal without Chinese letters shows "?" for them; output into a closed stream (`>&-`) is lost, not an error."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (lives as long as the process)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _discard_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, code: int) -> int:
    several = os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ
    rank = f"rank {os.environ['RANK']}: " if several else ""
    print(f"qwenvl: {rank}{message}", file=sys.stderr)
    return code
