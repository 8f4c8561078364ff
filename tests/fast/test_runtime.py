"""Writing whole files, and choosing device and dtype."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from qwenvl.runtime import DeviceError, atomic_write, make_folder, offline, resolve_device, resolve_dtype, set_threads


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "scores.json"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["scores.json"]


def test_a_finished_write_replaces_the_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "answer.png"
    for content in ("first", "second"):
        with atomic_write(target) as temporary:
            assert temporary.suffix == ".png" and temporary.parent == target.parent
            temporary.write_text(content)
        assert target.read_text() == content
    assert os.listdir(target.parent) == ["answer.png"]
    plain = tmp_path / "plain"
    plain.touch()
    assert target.stat().st_mode == plain.stat().st_mode


def test_what_cannot_be_written_is_named_as_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong = {tmp_path: tmp_path, tmp_path / "file" / "deep" / "a.png": tmp_path / "file", Path("/proc/a.png"): Path("/proc/a.png")}
    for given, named in wrong.items():
        with pytest.raises(OSError) as error, atomic_write(given):
            pass
        assert error.value.filename == str(named)
    with pytest.raises(NotADirectoryError, match="a file, not a folder; give another place"):
        make_folder(tmp_path / "file")


@pytest.mark.parametrize("name", ["cuda:99", "nonsense", "cuda:-1", "meta", "mps", "xpu"])
def test_an_absent_device_is_one_clear_line(name: str) -> None:
    with pytest.raises(DeviceError, match=name) as error:
        resolve_device(name)
    assert "\n" not in str(error.value)


def test_defaults_of_the_cpu() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_dtype(None, "cpu") is None
    assert resolve_dtype("bf16") is resolve_dtype(torch.bfloat16) is torch.bfloat16
    with pytest.raises(DeviceError, match="int3"):
        resolve_dtype("int3")
    with pytest.raises(DeviceError, match="int32"):
        resolve_dtype(torch.int32)


def test_threads_are_set_and_reported() -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(1) == 1
        with pytest.raises(DeviceError):
            set_threads(0)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_offline_is_obeyed(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENVL_OFFLINE", value)
    assert offline() is expected
