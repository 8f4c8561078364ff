"""Models by name: folders, built-in names, and a hub that is served on loopback, then taken away."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from qwenvl.config import DecoderConfig, ModelConfig, ResamplerConfig, VisionConfig
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.weights import hub
from qwenvl.weights.hub import ModelNotFound, resolve
from qwenvl.weights.io import load_model, save_model

COMMIT = "c" * 40
MODEL_ID = "team/tiny-vl"


class LoopbackHub(ThreadingHTTPServer):
    """The few requests that a snapshot needs: what a revision is, which files it has, and each file."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), HubRequest)
        self.folder = folder
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubRequest(BaseHTTPRequestHandler):
    server: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silent: pytest's output is not a server's log."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        files = {file.name: file for file in self.server.folder.iterdir()}
        api = f"/api/models/{MODEL_ID}"
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in files]
            self.reply(json.dumps({"id": MODEL_ID, "modelId": MODEL_ID, "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith(f"{api}/tree/"):
            listing = [
                {"type": "file", "path": name, "oid": git_blob_id(file.read_bytes()), "size": file.stat().st_size}
                for name, file in files.items()
            ]
            self.reply(json.dumps(listing).encode())
        elif path.startswith(f"{api}/revision/"):
            self.reply(b"{}", 404, {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith(f"/{MODEL_ID}/resolve/") and path.rpartition("/")[2] in files:
            body = files[path.rpartition("/")[2]].read_bytes()
            self.reply(body, headers={"ETag": f'"{git_blob_id(body)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"})
        else:
            self.reply(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

    def reply(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in the published layout, with files that must not travel."""
    config = ModelConfig(
        family="qwen_vl",
        vision=VisionConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=28, position_grid=2,
            input_norm=True,
        ),
        connector=ResamplerConfig(num_queries=4, hidden_size=16, num_attention_heads=2),
        decoder=DecoderConfig(
            vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, head_dim=8,
        ),
        image_start_id=37, image_end_id=38, image_pad_id=39,
    )  # fmt: skip
    model = VisionLanguageModel(config)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("hub") / "repository"
    save_model(model, folder, max_shard_bytes=10_000)
    (folder / "modeling_qwen.py").write_text("raise SystemExit('code of a repository was run')\n")
    (folder / "demo.jpeg").write_bytes(b"not needed")
    return folder


@contextmanager
def serving(folder: Path) -> Iterator[LoopbackHub]:
    server = LoopbackHub(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def served(published: Path) -> Iterator[LoopbackHub]:
    with serving(published) as server:
        yield server


def resolve_elsewhere(name: str, cache: Path, endpoint: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`resolve` in a process of its own."""
    code = "import sys; from qwenvl.weights.hub import resolve; print(resolve(sys.argv[1]))"
    return python_elsewhere(["-c", code, name], cache, endpoint, **environment)


def python_elsewhere(
    arguments: list[str], cache: Path, endpoint: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A process of its own: huggingface_hub reads its environment when it is first imported."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "QWENVL_"))}
    # A proxy of the machine would otherwise be asked for loopback.
    kept |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "HF_HOME": str(cache), "HF_ENDPOINT": endpoint, **environment}
    return subprocess.run([sys.executable, *arguments], env=kept, capture_output=True, text=True, timeout=120)


def last_line(process: subprocess.CompletedProcess[str]) -> str:
    assert process.returncode == 1
    return process.stderr.strip().splitlines()[-1]


def test_r14_a_hub_id_is_downloaded_once_then_used_offline(served: LoopbackHub, published: Path, tmp_path: Path) -> None:
    """R14: from the hub with a connection, from the cache without one; one clear line where neither has it."""
    first = resolve_elsewhere(MODEL_ID, tmp_path, served.address)
    assert first.returncode == 0, first.stderr
    folder = Path(first.stdout.strip())
    wanted = {file.name for file in published.iterdir()} - {"modeling_qwen.py", "demo.jpeg"}
    assert {file.name for file in folder.iterdir()} == wanted
    loaded, original = load_model(folder, device="cpu").state_dict(), load_model(published, device="cpu").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in original.items())

    served.requests.clear()
    for variable in ("QWENVL_OFFLINE", "HF_HUB_OFFLINE"):
        again = resolve_elsewhere(MODEL_ID, tmp_path, served.address, **{variable: "1"})
        assert (again.returncode, Path(again.stdout.strip())) == (0, folder), again.stderr
        missing = resolve_elsewhere("team/other", tmp_path, served.address, **{variable: "1"})
        assert "team/other: not whole in the local cache, and QWENVL_OFFLINE" in last_line(missing)
    assert not served.requests, "offline, nothing is asked"

    unreachable = resolve_elsewhere(MODEL_ID, tmp_path, "http://127.0.0.1:9")
    assert (unreachable.returncode, Path(unreachable.stdout.strip())) == (0, folder), "without a connection the cache serves too"
    nowhere = resolve_elsewhere("team/other", tmp_path, "http://127.0.0.1:9")
    assert "cannot be reached; check the connection" in last_line(nowhere)


def test_a_hub_without_the_model_or_the_revision_says_so(served: LoopbackHub, tmp_path: Path) -> None:
    unknown = resolve_elsewhere("team/other", tmp_path, served.address)
    assert f"team/other: no such folder here, and {served.address} has no such model" in last_line(unknown)
    revision = resolve_elsewhere(f"{MODEL_ID}@v9", tmp_path, served.address)
    assert f"{MODEL_ID}: {served.address} has no revision 'v9' of it" in last_line(revision)


def test_an_interrupted_download_is_not_taken_for_a_model(served: LoopbackHub, tmp_path: Path) -> None:
    first = resolve_elsewhere(MODEL_ID, tmp_path, served.address)
    (Path(first.stdout.strip()) / "config.json").unlink()
    offline = resolve_elsewhere(MODEL_ID, tmp_path, served.address, QWENVL_OFFLINE="1")
    assert "not whole in the local cache" in last_line(offline)


def test_a_built_in_model_loads_in_under_two_seconds() -> None:
    """Of this process's own time, after torch is imported; the machine may be busy with something else."""
    code = """
import sys, time
import torch, qwenvl
from qwenvl.weights.hub import builtin_models
for name in builtin_models():
    start = time.process_time()
    model = qwenvl.load(name, device="cpu")
    print(name, time.process_time() - start, model.dtype, "sympy" in sys.modules)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    lines = process.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(hub.builtin_models())
    for line in lines:
        _, seconds, dtype, slow_import = line.split()
        assert float(seconds) < 2, line
        assert (dtype, slow_import) == ("torch.float32", "False")


def test_a_folder_wins_over_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "team" / "tiny-vl").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("team/tiny-vl") == Path("team/tiny-vl")
    assert resolve(tmp_path / "team") == tmp_path / "team"


def test_built_in_names_are_found_and_misspelt_ones_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "builtin_models", lambda: {"qwen-vl-nano": tmp_path, "qwen-vl-nano-chat": tmp_path})
    assert resolve("qwen-vl-nano") == tmp_path
    with pytest.raises(ModelNotFound) as caught:
        resolve("qwen-vl-nano-chatt")
    assert "did you mean 'qwen-vl-nano-chat'? built in: qwen-vl-nano, qwen-vl-nano-chat; or give" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "unknown model ''"),
        ("nothing-like-it", "give a folder or a hub id"),
        ("qwen-vl-7b", "a configuration without weights"),
        ("./models/mine", "no such folder"),
        ("/models/mine", "no such folder"),
        ("a/b/c", "no such folder"),
        ("https://example.org/model", "no such folder"),
        (Path("team/tiny-vl"), "no such folder"),
        ("team/tiny-vl", "not whole in the local cache"),
    ],
)
def test_a_name_that_is_nothing_gives_one_clear_line(name: str | Path, message: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(ModelNotFound, match="is a file; give the folder"):
        resolve(str(file))
