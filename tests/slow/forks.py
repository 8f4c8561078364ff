"""`qwenvl` commands in processes of their own that start at once: forked from a server that has imported torch and other packages.

A new interpreter takes four seconds for that. The server has imported nothing of ours, computed nothing and started no thread, so
what is forked from it is as good as new. The ranks of `--processes N`, and the workers of `data.workers`, are forks of the process
that starts them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

LOADED = (
    "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont", "matplotlib.backends.backend_agg", "matplotlib.figure", "numpy",
    "pyarrow.parquet", "pydantic", "rich.console", "rich.progress", "rich.table", "safetensors.torch", "tokenizers", "torch",
    "torch._dynamo", "torch.distributed.checkpoint", "torch.distributed.fsdp", "torch.distributed.tensor.parallel", "tyro", "yaml",
)  # fmt: skip
"""What is not there is passed over."""


@cache
def server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    return context


class Command:
    """`qwenvl ARGUMENTS`, running; with the methods of `subprocess.Popen`. What it writes to stderr is in the file `log`."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.arguments, self.log = [*arguments], log
        self._process = server().Process(target=_run, args=(self.arguments, str(log)))
        self._process.start()
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self.arguments, timeout)
        return code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def run(arguments: Sequence[str], log: Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` does. It is killed, with its ranks, where it does not come to one."""
    command = Command(arguments, log)
    try:
        code = command.wait(timeout)
    finally:
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command.arguments, code, stderr=log.read_text(encoding="utf-8"))


def _run(arguments: list[str], log: str) -> None:
    """The body of a command."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background, it is ignored
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _main(arguments)


def _main(arguments: list[str]) -> NoReturn:
    from qwenvl.cli.main import main

    _renew_streams()
    if arguments[:1] in (["train"], ["ablate"], ["eval"]):
        start, fork = subprocess.Popen, multiprocessing.get_context("fork")
        subprocess.Popen = lambda *a, **k: Rank(*a, **k) if "qwenvl" in a[0] else start(*a, **k)  # type: ignore[assignment,misc]
        multiprocessing.get_context = lambda _=None: fork  # type: ignore[assignment]
    code = main(arguments)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of what is behind the command
    sys.exit(code)


def _renew_streams() -> None:
    """Those that are there were opened on other files."""
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, 1, closefd=False) for n, mode in enumerate("rww"))  # noqa: SIM115


class Rank:
    """What `start_ranks` uses of `subprocess.Popen`, for a copy of this process in place of a new interpreter. It stays in the
    command's session, so that it ends with it."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], start_new_session: bool) -> None:
        arguments = command[command.index("qwenvl") + 1 :]
        self._process = multiprocessing.get_context("fork").Process(target=self._run, args=(arguments, env))
        self._process.start()

    @staticmethod
    def _run(arguments: list[str], env: Mapping[str, str]) -> None:
        os.environ.update(env)
        _main(arguments)

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()


PROGRAM = """\
#!{python} -ES
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    asked = json.dumps([sys.argv, os.getcwd(), dict(os.environ)])
    socket.send_fds(server, [asked.encode() + b"\\n"], [0, 1, 2])
    sys.exit((server.recv(1) or b"\\1")[0])
"""


@contextmanager
def program(folder: Path) -> Iterator[Path]:
    """A program `qwenvl` in `folder`, for a shell that has it first in its PATH: it hands what it is given to a fork. And a program
    `python-fork`, which runs a file, or with -m a module, as Python does."""
    address = folder / "asked"
    for name in ("qwenvl", "python-fork"):
        (folder / name).write_text(PROGRAM.format(python=sys.executable, address=str(address)), encoding="utf-8")
        (folder / name).chmod(0o755)
    process = server().Process(target=_serve, args=(str(address),))
    process.start()
    while not address.exists():
        assert process.exitcode is None
        time.sleep(0.01)
    try:
        yield folder
    finally:
        process.kill()
        process.join()


def _serve(address: str) -> None:
    """Answer every program that connects with the exit code of the fork that ran its command."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            asker, _ = listener.accept()
            with asker:
                if os.fork() == 0:  # one that waits for the command: two may run at a time, with a pipe between them
                    listener.close()
                    if os.fork() == 0:  # nobody's child, so that nobody needs to wait for it
                        _answer(asker)
                    os._exit(0)
                os.wait()


def _answer(asker: socket.socket) -> None:
    asked, numbers, _, _ = socket.recv_fds(asker, 1 << 20, 3)
    while not asked.endswith(b"\n"):
        asked += asker.recv(1 << 20)
    process = multiprocessing.get_context("fork").Process(target=_run_asked, args=(json.loads(asked), numbers))
    process.start()
    process.join()
    assert process.exitcode is not None
    code = process.exitcode
    asker.send(bytes([code if code >= 0 else 128 - code]))
    os._exit(0)


def _run_asked(asked: tuple[list[str], str, dict[str, str]], numbers: Sequence[int]) -> None:
    (called, *arguments), folder, environment = asked
    for place, number in enumerate(numbers):
        os.dup2(number, place)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if Path(called).name == "qwenvl":
        _main(arguments)
    _renew_streams()
    if arguments[0] == "-m":
        sys.executable, sys.argv = called, arguments[1:]  # what it starts is forked too
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
