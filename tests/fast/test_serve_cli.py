"""`qwenvl serve`: what can be wrong on its command line is one line, before a model is loaded."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from qwenvl.cli import serve
from qwenvl.cli.main import main
from qwenvl.cli.options import UsageError
from qwenvl.types import QwenVLError


def given(**changes: object) -> serve.Serve:
    return serve.Serve(**changes)  # type: ignore[arg-type]


LOAD_MODELS = serve.load_models


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_models(*_: object) -> None:
        raise AssertionError("loads a model")

    monkeypatch.setattr(serve, "load_models", load_models)
    monkeypatch.delenv("QWENVL_API_KEY", raising=False)


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["serve", *arguments])
    error = capsys.readouterr().err
    assert error.count("\n") == 1 or code == 2, error
    return code, error


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, error = failed(capsys, "--port", str(port))
    assert code == 1 and f"127.0.0.1:{port}: address already in use" in error and "--port" in error


@pytest.mark.parametrize(
    ("arguments", "word", "code"),
    [
        (["--host", "no.such.name.invalid"], "no.such.name.invalid", 1),
        (["--host", "192.0.2.1"], "192.0.2.1", 1),  # of a documentation network: no machine has it
        (["--port", "70000"], "65535", 1),
        (["--port", "-1"], "-1", 2),
        (["--port", "http"], "http", 2),
        (["--adapter", "signs"], "NAME=FOLDER", 2),
        (["--adapter", "signs="], "NAME=FOLDER", 2),
        (["--adapter", "signs=/no/such/folder"], "/no/such/folder", 1),
        (["--adapter", "a=/tmp", "a=/tmp"], "already", 2),
        (["--adapter", "qwen-vl-nano-chat=/tmp"], "already", 2),
        (["--model", "qwen-vl-nano", "qwen-vl-nano"], "twice", 2),
        (["--model"], "no name", 2),
        (["--api-key", "a\nb"], "API key", 1),
        (["--api-key", "é"], "API key", 1),
        (["--allow-media", "https://example.org"], "no host for media", 1),
        (["--allow-media", "example.org:0"], "no host for media", 1),
        (["--max-running", "0"], "0", 2),
    ],
)
def test_wrong_arguments_are_told(capsys: pytest.CaptureFixture[str], arguments: list[str], word: str, code: int) -> None:
    found, error = failed(capsys, *arguments)
    assert found == code and word in error


def test_a_server_on_the_loopback_address_answers_to_its_own_names_only() -> None:
    assert serve.settings_of(given()).hosts == ("localhost", "127.0.0.1", "[::1]", "127.0.0.1")
    assert "proxy.example" in (serve.settings_of(given(allow_name=("Proxy.example",))).hosts or ())
    assert serve.settings_of(given(host="0.0.0.0")).hosts is None


def test_keys_come_from_the_command_line_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENVL_API_KEY", "one, two,")
    assert serve.settings_of(given()).api_keys == ("one", "two")
    assert serve.settings_of(given(api_key=("three",))).api_keys == ("three",)
    assert "one" not in repr(serve.settings_of(given())), "a log of the settings shows no key"


def test_adapters_have_names(tmp_path: Path) -> None:
    assert serve.read_adapters([f"a={tmp_path}"], ["m"]) == {"a": tmp_path}
    with pytest.raises(UsageError):
        serve.read_adapters([f"m={tmp_path}"], ["m"])
    with pytest.raises(QwenVLError, match="no folder"):
        serve.read_adapters([f"a={tmp_path / 'x'}"], ["m"])


def test_an_adapter_is_a_model_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    from qwenvl.inference.model import load
    from qwenvl.models.lora import adapters, add_lora
    from qwenvl.weights.adapters import save_adapter

    model = load("qwen-vl-nano-chat")
    add_lora(model.model, ["decoder.layers.*.self_attn.o_proj"], rank=2, alpha=4)
    for layer in adapters(model.model).values():
        torch.nn.init.normal_(layer.lora_b)
    save_adapter(model.model, tmp_path / "signs", "qwen-vl-nano-chat")
    loaded = LOAD_MODELS(given(), {"signs": tmp_path / "signs"})
    assert list(loaded) == ["qwen-vl-nano-chat", "signs"]
    ids = torch.arange(20)
    plain, adapted = (loaded[name].logits(ids) for name in loaded)
    assert torch.equal(adapted, model.logits(ids)) and not torch.allclose(plain, adapted)
    assert "loading signs" in capsys.readouterr().err
