"""`qwenvl serve` as a process: it starts, answers, is told to stop, and ends with 0 and no answer lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest

from tests.scripted_engine import ask, data_url, image, picture

QUESTION: Any = ask(image(data_url(picture(200, 150, colour="green"))), "What is in the picture?")["messages"]
CHAT = "/v1/chat/completions"


@dataclass
class Process:
    process: subprocess.Popen[str]
    url: str

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = 40) -> tuple[int, str, str]:
        out, error = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, error


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[Process]:
    command = [sys.executable, "-m", "qwenvl", "serve", "--port", "0", *arguments]
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "QWENVL_API_KEY": "", **environment}
    )
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        assert "serving at http://" in line, line + (started.stderr.read() if started.stderr else "")
        yield Process(started, line.split()[-1])
    finally:
        if started.poll() is None:
            started.kill()
            started.communicate()


def test_it_answers_and_stops_when_told() -> None:
    with serving("--model", "qwen-vl-nano-chat", "qwen-vl-nano") as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any")
        assert [model.id for model in client.models.list()] == ["qwen-vl-nano-chat", "qwen-vl-nano"]
        first = client.chat.completions.create(model="qwen-vl-nano-chat", messages=QUESTION)
        again = client.chat.completions.create(model="qwen-vl-nano-chat", messages=QUESTION)
        assert first.choices[0].message.content == again.choices[0].message.content
        assert again.usage and again.usage.prompt_tokens_details.cached_tokens > 0
        assert client.completions.create(model="qwen-vl-nano", prompt=" What is this? Answer:", max_tokens=5).choices[0].text
        server.signal()
        code, out, error = server.end()
        assert code == 0 and out.endswith("stopped\n") and "Traceback" not in error


def test_sigterm_lets_answers_end_and_turns_new_requests_away() -> None:
    with serving("--grace", "120") as server:
        got: list[str] = []
        lines: list[str] = []

        def follow() -> None:
            # The answer may not end early, nor be a loop: a schema of many numbers keeps the nano busy.
            schema = {"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 999}, "minItems": 30, "maxItems": 30}
            form = {"type": "json_schema", "json_schema": {"name": "numbers", "schema": schema}}
            body = {"messages": QUESTION, "stream": True, "response_format": form, "max_tokens": 700}
            with httpx.stream("POST", server.url + CHAT, json=body, timeout=100) as answer:
                for line in answer.iter_lines():
                    lines.append(line)
                    if line.startswith("data: {"):
                        choices = json.loads(line[6:])["choices"]
                        got.extend(choice["delta"].get("content", "") for choice in choices)

        thread = threading.Thread(target=follow)
        thread.start()
        while len(got) < 5:
            time.sleep(0.01)
        server.signal()
        time.sleep(0.2)
        refused = httpx.post(server.url + CHAT, json=ask("x"))
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "shutting_down"
        assert httpx.get(server.url + "/health").status_code == 503
        thread.join(100)
        assert [line for line in lines if line][-1] == "data: [DONE]"
        assert len(json.loads("".join(got))) == 30
        code, _, error = server.end()
        assert code == 0 and "Traceback" not in error
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url + "/health")


def test_answers_that_take_longer_than_the_grace_are_told_and_it_ends() -> None:
    with serving("--grace", "1") as server:
        ended: list[str] = []

        def follow() -> None:
            body = {"messages": QUESTION, "stream": True, "min_tokens": 1900, "max_tokens": 1900, "temperature": 2.0, "n": 8}
            with httpx.stream("POST", server.url + CHAT, json=body, timeout=100) as answer:
                ended.extend(line for line in answer.iter_lines() if line)

        thread = threading.Thread(target=follow)
        thread.start()
        time.sleep(1.5)
        began = time.monotonic()
        server.signal(signal.SIGINT)
        code, _, error = server.end()
        thread.join(20)
        assert code == 0 and time.monotonic() - began < 15 and "Traceback" not in error
        assert "error" in json.loads(ended[-1].removeprefix("data: ")), ended[-1]


def test_a_second_signal_stops_it_at_once() -> None:
    with serving("--grace", "60") as server:
        body = {"messages": QUESTION, "stream": True, "min_tokens": 1900, "max_tokens": 1900, "temperature": 2.0, "n": 8}
        with httpx.stream("POST", server.url + CHAT, json=body, timeout=100) as answer:
            lines = answer.iter_lines()  # kept: without it the connection is closed, and the answer with it
            next(lines)
            server.signal()
            time.sleep(0.3)
            began = time.monotonic()
            server.signal()
            code, _, error = server.end()
        assert code == 0 and time.monotonic() - began < 10 and "Traceback" not in error


def test_an_output_that_takes_nothing_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "qwenvl", "serve", "--port", "0"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("qwenvl: ")


def test_it_goes_on_after_it_ran_out_of_files() -> None:
    """Too many connections for its limit wait; that is said in a line, and they are answered once others end."""
    few = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"
    few += "; from qwenvl.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", few, "serve", "--port", "0"]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            port = int(url.rpartition(":")[2])
            held = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(100)]
            time.sleep(1.5)
            for connection in held:
                connection.close()
            assert httpx.get(f"{url}/health", timeout=20).status_code == 200
            server.terminate()
            assert server.wait(40) == 0
            errors.seek(0)
            told = errors.read()
            assert told.count("too many open files") == 1 and "Traceback" not in told, told[-2000:]
        finally:
            server.kill()


def test_a_key_of_the_environment_is_asked_for() -> None:
    with serving(QWENVL_API_KEY="right") as server:
        assert httpx.get(server.url + "/v1/models").status_code == 401
        assert httpx.get(server.url + "/v1/models", headers={"Authorization": "Bearer right"}).status_code == 200
        assert httpx.get(server.url + "/health").status_code == 200
        assert httpx.get(server.url + "/health", headers={"Host": "evil.example"}).status_code == 403
        server.signal()
        code, out, error = server.end()
        assert code == 0 and "right" not in out + error
