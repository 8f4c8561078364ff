"""The command's promises that hold for every verb: quick help, lazy imports, one-line errors, exit codes."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qwenvl.cli import main as cli
from qwenvl.types import QwenVLError

HEAVY = ("torch", "numpy", "pydantic", "tyro", "rich", "PIL", "tokenizers", "safetensors", "huggingface_hub", "yaml", "matplotlib")


def run(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "qwenvl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def loaded_after(code: str) -> set[str]:
    """The top-level and qwenvl modules in sys.modules after running `code` in a fresh interpreter."""
    result = run(code=f"import sys, json\n{code}\njson.dump(sorted(sys.modules), sys.stderr)")
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stderr.splitlines()[-1]))


def test_import_qwenvl_imports_nothing_heavy() -> None:
    assert not loaded_after("import qwenvl").intersection(HEAVY)


def test_help_imports_nothing_heavy_and_no_verb() -> None:
    loaded = loaded_after("from qwenvl.cli.main import main; main(['--help'])")
    assert not loaded.intersection(HEAVY)
    assert {name for name in loaded if name.startswith("qwenvl.")} == {"qwenvl.cli", "qwenvl.cli.main"}


def test_only_the_called_verb_is_imported() -> None:
    code = (
        "import contextlib, io\n"
        "from qwenvl.cli.main import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(['doctor', '--help'])"
    )
    verbs = {module for module, _ in cli.VERBS.values()}
    assert loaded_after(code) & verbs == {"qwenvl.cli.doctor"}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself_without_torch(verb: str) -> None:
    code = (
        "from qwenvl.cli.main import main\n"
        f"try: code = main(['{verb}', '--help'])\n"
        "except SystemExit as stop: code = stop.code\n"
        "assert not code, code"
    )
    result = run(verb, "--help")
    assert result.returncode == 0, result.stderr
    assert "usage: qwenvl " + verb in result.stdout
    assert "examples:\n  qwenvl " + verb in result.stdout
    assert "None" not in result.stdout
    assert "torch" not in loaded_after(code)


HELP_OF_SUBCOMMANDS = """
import contextlib, io, json, sys
from qwenvl.cli.main import main
texts = {}
for command in COMMANDS:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try:
            code = main([VERB, command, "--help"])
        except SystemExit as stop:
            code = stop.code
    assert not code, (command, code)
    texts[command] = text.getvalue()
assert "torch" not in sys.modules
json.dump(texts, sys.stdout)
"""


@pytest.mark.parametrize("verb", ["model", "data", "eval"])
def test_every_subcommand_explains_itself_without_torch(verb: str) -> None:
    commands = re.findall(r"• (\w+)", run(verb, "--help").stdout)
    assert len(commands) >= 3
    result = run(code=f"VERB, COMMANDS = {verb!r}, {commands}\n{HELP_OF_SUBCOMMANDS}")
    assert result.returncode == 0, result.stderr
    for command, text in json.loads(result.stdout).items():
        assert f"usage: qwenvl {verb} {command}" in text and "None" not in text
        assert verb != "data" or f"examples:\n  qwenvl data {command}" in text
        options = re.findall(r"^│ (--[\w-]+)", text, flags=re.MULTILINE)
        described = re.sub(r"[│\n\s]+", " ", text)
        bare = [option for option in options if not re.search(rf"{option}(?: \S+)? [A-Z(]", described)]
        assert not bare, f"{command}: options without a word"


def test_help_takes_a_quarter_of_a_second_of_cpu() -> None:
    def cpu_seconds() -> float:
        before = os.times()
        assert run("--help").returncode == 0
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(cpu_seconds() for _ in range(5)) <= 0.25


def test_help_names_every_verb() -> None:
    text = cli.help_text()
    assert all(f"  {verb} " in text for verb in cli.VERBS)


def test_unknown_verb_is_wrong_usage_with_a_suggestion() -> None:
    result = run("aks")
    assert result.returncode == 2
    assert result.stderr == "qwenvl: unknown verb 'aks'; did you mean 'ask'?\n"
    assert run().returncode == 2


@pytest.mark.parametrize("verb", cli.VERBS)
def test_unknown_option_is_wrong_usage(verb: str) -> None:
    result = run(verb, "--no-such-option")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_version() -> None:
    import qwenvl

    assert run("--version").stdout == f"qwenvl {qwenvl.__version__}\n"


NO_MATPLOTLIB = "matplotlib is not installed; install it with: pip install 'qwenvl[train]'"


class Verb:
    """Stands in for a verb's module."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def main(self, arguments: list[str]) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (QwenVLError("photo.png: not a picture;\n give a PNG"), 1, "qwenvl: photo.png: not a picture; give a PNG\n"),
        (PermissionError(13, "Permission denied", "/out.png"), 1, "qwenvl: /out.png: Permission denied\n"),
        (ModuleNotFoundError("no", name="matplotlib.pyplot"), 1, f"qwenvl: {NO_MATPLOTLIB}\n"),
        (KeyboardInterrupt(), 130, "qwenvl: interrupted\n"),
    ],
)
def test_errors_of_the_user_are_one_line(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: Verb(error))
    assert cli.main(["ask"]) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [ValueError("bug"), ModuleNotFoundError("no", name="qwenvl.missing")])
def test_bugs_keep_their_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: Verb(error))
    with pytest.raises(type(error)):
        cli.main(["ask"])


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    """`qwenvl … | head -1` ends without a complaint, whatever is still to be printed."""
    code = (
        "import sys, types\n"
        "verb = types.ModuleType('qwenvl.cli.ask')\n"
        "verb.main = lambda arguments: [print('x' * 1000) for _ in range(1000)] and 0\n"
        "sys.modules['qwenvl.cli.ask'] = verb\n"
        "from qwenvl.cli.main import main\n"
        "sys.exit(main(['ask']))"
    )
    errors = tmp_path / "errors"
    with errors.open("w") as stderr:
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=stderr)
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
        child.wait(timeout=60)
    assert errors.read_text() == ""


@pytest.mark.parametrize("arguments", [["--help"], ["model", "--help"], ["model", "list"]])
def test_no_way_of_losing_the_output_gives_a_traceback(arguments: list[str]) -> None:
    command = " ".join([sys.executable, "-m", "qwenvl", *arguments])
    for output, code, line in ((">/dev/full", 1, "No space left on device"), (">&-", 0, ""), ("| true", 0, "")):
        result = subprocess.run(["bash", "-c", f"{command} {output}"], capture_output=True, text=True, timeout=120)
        assert result.returncode == code and line in result.stderr, (output, result.stderr)
        assert result.stderr.count("\n") == bool(line), result.stderr


def test_help_of_a_verb_in_both_orders() -> None:
    assert run("help", "model").stdout == run("model", "--help").stdout != ""
    assert run("help", "mdoel").returncode == 2


def test_a_terminal_without_chinese_letters_gets_question_marks() -> None:
    code = "from qwenvl.cli import main as cli; cli.run = lambda arguments: print('狗') or 0; raise SystemExit(cli.main([]))"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "?\n", "")


def test_r7_doctor_says_what_a_bug_report_needs() -> None:
    result = run("doctor", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    needed = "qwenvl python torch cpu cuda memory_gib default_device default_dtype offline packages models scenes"
    assert set(needed.split()) <= report.keys()
    assert report["packages"]["torch"] == report["torch"]
    assert report["default_dtype"] in ("float32", "bfloat16", "that of the file")
