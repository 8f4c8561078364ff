"""The Ray Serve application, with two replicas on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from openai import AuthenticationError, OpenAI

ROOT = Path(__file__).resolve().parents[2]
MODEL = "qwen-vl-nano-chat"
STARTS = 240
"""Seconds that a Ray cluster and two models may take on a busy machine."""

PROGRAM = """
import sys, time
import ray
from ray import serve
from deploy.ray_app import Settings, app

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(app(Settings(model="qwen-vl-nano-chat", replicas=2, cpus=0.5)), blocking=False)
print("ready", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "QWENVL_API_KEY": "first, second", "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", PROGRAM, str(port)]
    cluster = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert cluster.stdout is not None and "ready" in iter(cluster.stdout.readline, "").__next__()
        yield f"http://127.0.0.1:{port}"
    finally:
        assert cluster.stdin is not None
        cluster.stdin.close()
        try:
            cluster.wait(60)
        except subprocess.TimeoutExpired:
            cluster.kill()


def test_two_replicas_answer_as_one_server(address: str) -> None:
    deadline = time.monotonic() + STARTS
    while time.monotonic() < deadline:
        try:
            with urlopen(f"{address}/health", timeout=5) as health:
                assert health.status == 200
                break
        except URLError:
            time.sleep(0.5)
    client = OpenAI(base_url=f"{address}/v1", api_key="second", max_retries=0)
    assert [model.id for model in client.models.list()] == [MODEL]
    replicas, texts = set(), set()
    for _ in range(12):
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": "What colour is the sky?"}], max_tokens=8
        )
        replicas.add(raw.headers["x-replica"])
        texts.add(raw.parse().choices[0].message.content)
    assert len(replicas) == 2 and len(texts) == 1
    chunks = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "What colour is the sky?"}], max_tokens=8, stream=True
    )
    streamed = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert {"".join(streamed).strip()} == texts and len(streamed) > 2
    with pytest.raises(AuthenticationError):
        OpenAI(base_url=f"{address}/v1", api_key="third", max_retries=0).models.list()
