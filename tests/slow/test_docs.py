"""What the pages say holds: every command and every snippet runs, links lead somewhere, and numbers are the measured ones.

A fenced block of kind console (lines that start with "$ " are commands), bash or python is run, the blocks of one page in order
in one folder. A block is passed over where `<!-- not run: reason -->` stands right above it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from qwenvl.data.synth import fonts
from qwenvl.eval.report import markdown
from qwenvl.weights.hub import builtin_models
from tests.slow import forks

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "README_zh.md", *sorted((ROOT / "docs").glob("*.md"))]
COPIED = ("recipes", "docs", "qwenvl/assets/samples")
"""What commands in the pages read, and write, by its place in the checkout."""

FENCE = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n+)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(?:#[^)]*)?\)")
MODELS = builtin_models()
CHAT_MODELS = [name for name in MODELS if name.endswith("-chat")]
SCORE_ROW = re.compile(rf"^\| `(\w+)`[^|]*((?:\|[^|\n]*){{{2 * len(CHAT_MODELS) + 1}}})\|$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    line: int
    kind: str
    text: str
    reason: str | None

    @property
    def commands(self) -> str:
        """What a shell is given: the prompts taken away, and output left out."""
        if self.kind != "console":
            return self.text
        return "\n".join(line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ "))


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, found.start("text")), found["kind"], found["text"], found["reason"])
        for found in FENCE.finditer(text)
        if found["kind"] in ("console", "bash", "python")
    ]


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run(block: Block, folder: Path, programs: Path | None = None) -> subprocess.CompletedProcess[str]:
    """With the programs of `forks.program` in a folder, or, without one, those that are installed."""
    own = [] if programs is None else [str(programs)]
    path = os.pathsep.join([*own, str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "QWENVL_OFFLINE": "1", "COLUMNS": "200"}
    if block.kind == "python":
        # A file elsewhere: the folder has a part of qwenvl/, which must not be imported.
        script = folder.parent / "block.py"
        script.write_text(block.text, encoding="utf-8")
        command = [sys.executable if programs is None else str(programs / "python-fork"), str(script)]
    else:
        command = ["bash", "-euo", "pipefail", "-c", block.commands]
    return subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900
    )


# The Chinese README has the commands of the English one, as another test checks.
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page) and page.name != "README_zh.md"], ids=relative)
def test_every_command_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    try:
        fonts.require()
    except fonts.FontError as error:
        pytest.skip(str(error))
    folder = tmp_path / "checkout"
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name)
    # What a user sees first runs as it is installed, and so does a server, which is sent signals; a hundred more starts would take
    # ten minutes of CPU.
    with nullcontext() if page.name in ("README.md", "serving.md") else forks.program(tmp_path) as programs:
        for block in blocks(page):
            if block.reason is None:
                result = run(block, folder, programs)
                assert result.returncode == 0, f"{relative(page)}:{block.line}\n{block.text}\n{result.stdout}\n{result.stderr}"


def test_a_wrong_command_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    page = tmp_path / "page.md"
    shell = "```console\n$ qwenvl no-such-verb\n```\n\n<!-- not run: too long -->\n```bash\nfalse\n```\n\n"
    page.write_text(f"{shell}```python\n1 / 0\n```\n", encoding="utf-8")
    wrong, passed_over, python = blocks(page)
    assert run(wrong, folder).returncode == 2
    assert passed_over.reason == "too long"
    assert "ZeroDivisionError" in run(python, folder).stderr


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_no_page_has_a_gap_to_fill(page: Path) -> None:
    assert "@@" not in page.read_text(encoding="utf-8")


def scores(model: str) -> dict[str, dict[str, dict[str, float]]]:
    result: dict[str, dict[str, dict[str, float]]] = json.loads((ROOT / f"docs/results/{model}.json").read_text(encoding="utf-8"))
    return result


@pytest.mark.parametrize("page", PAGES[:2], ids=relative)
def test_numbers_of_the_readme_are_the_measured_ones(page: Path) -> None:
    results = [scores(model) for model in CHAT_MODELS]
    rows = SCORE_ROW.findall(page.read_text(encoding="utf-8"))
    assert len(rows) >= 9
    for measure, cells in rows:
        # Not every generation is asked everything: Qwen-VL takes no clips.
        measured = [result["scores"].get(measure, {}).get(language) for result in results for language in ("en", "zh")]
        chance = max(float(result["chance"].get(measure, 0)) for result in results)  # type: ignore[arg-type]
        said = [cell.strip() for cell in cells.split("|")[1:]]
        assert said == ["–" if value is None else f"{100 * value:.0f}" for value in (*measured, chance)], measure


def test_the_page_of_scores_is_that_of_the_results() -> None:
    sections = [markdown(scores(model)) for model in MODELS]
    page = (ROOT / "docs/nano_scores.md").read_text(encoding="utf-8")
    assert all(section.strip() in page for section in sections)


def test_both_readmes_run_the_same_commands_and_show_the_same_scores() -> None:
    def commands(page: Path) -> list[str]:
        """Without comments, and snippets of Python without their texts."""
        shell = [re.sub(r" +#.*", "", block.commands) for block in blocks(page) if block.kind != "python"]
        return shell + [re.sub(r'"[^"]*"| +#.*', "", block.text) for block in blocks(page) if block.kind == "python"]

    english, chinese = PAGES[:2]
    assert commands(english) == commands(chinese)
    rows = [SCORE_ROW.findall(page.read_text(encoding="utf-8")) for page in (english, chinese)]
    assert rows[0] and rows[0] == rows[1]
