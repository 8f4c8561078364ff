"""Who may import whom: read from the source with ast, so that imports inside functions count too."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from qwenvl.families import FAMILIES

PACKAGE = Path(__file__).resolve().parents[2] / "qwenvl"

BASE = {"types", "config", "runtime"}
TEXT_AND_PICTURES = BASE | {"families", "processing"}
ANSWERING = TEXT_AND_PICTURES | {"models", "weights", "inference"}

# Room -> the rooms below it. A room may always import itself. Rooms that are not built yet have their row already.
BELOW: dict[str, set[str]] = {
    "types": set(),
    "config": {"types"},
    "runtime": {"types"},
    "families": BASE,
    "processing": BASE | {"families"},
    "data": TEXT_AND_PICTURES,
    "models": {"types", "config"},
    "weights": BASE | {"families", "models"},
    "inference": ANSWERING,
    # Held-out scenes are drawn, not read from files, so the evaluation knows the generator.
    "eval": ANSWERING | {"data"},
    "serve": ANSWERING,
    "agent": ANSWERING | {"data"},  # steps are told in the words that data/formats.py trains on; the report is an html_page
    # Not eval: an evaluation during training is a callable that cli passes in.
    "train": ANSWERING | {"data"},
    "cli": ANSWERING | {"data", "eval", "serve", "agent", "train"},
    "__init__": {"types", "inference"},
    "__main__": {"cli"},
}

# A model is mathematics: it opens no file, URL or tokenizer, reads no environment variable and knows no process group.
FOREIGN_TO_MODELS = {
    "huggingface_hub", "io", "os", "pathlib", "PIL", "requests", "safetensors", "socket", "tokenizers",
    "torch.distributed", "urllib", "yaml",
}  # fmt: skip

# Heavy packages, and the only rooms whose modules may import them when they are themselves imported.
HEAVY_AT_IMPORT = {
    "torch": {"models", "weights", "inference", "train", "data", "processing", "eval"},
    "transformers": set(),
    "matplotlib": set(),
}


@dataclass(frozen=True)
class Import:
    """One imported module, as a dotted name, and where the statement is."""

    name: str
    file: Path
    line: int
    at_top: bool

    @property
    def where(self) -> str:
        return f"{self.file.relative_to(PACKAGE.parent)}:{self.line}"


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


@cache
def imports_of(file: Path) -> list[Import]:
    """Every import of a file, in functions and under TYPE_CHECKING too, with relative ones made absolute."""
    found: list[Import] = []
    package = ("qwenvl", *file.relative_to(PACKAGE).parent.parts)

    def visit(node: ast.AST, at_top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(Import(alias.name, file, child.lineno, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = ".".join(package[: len(package) - child.level + 1]) if child.level else ""
                module = ".".join(part for part in (base, child.module) if part)
                # `from qwenvl import models` names a room in the alias, not in the module.
                names = [f"{module}.{alias.name}" for alias in child.names] if module in ("qwenvl", "torch") else [module]
                found.extend(Import(name, file, child.lineno, at_top) for name in names)
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_type_checking(child)
            visit(child, at_top and not lazy)

    visit(tree_of(file), True)
    return found


def all_imports() -> list[Import]:
    return [found for file in sources() for found in imports_of(file)]


def upward(found: Import) -> bool:
    parts = found.name.split(".")
    if parts[0] != "qwenvl" or len(parts) < 2:
        return False
    target, room = parts[1], room_of(found.file)
    known_module = target in BELOW
    return known_module and target != room and target not in BELOW[room]


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {room_of(file) for file in sources()}
    assert rooms <= BELOW.keys(), f"say in BELOW what {sorted(rooms - BELOW.keys())} may import"


def test_the_order_has_no_circle() -> None:
    for room, below in BELOW.items():
        for other in below - {room}:
            assert room not in BELOW[other] - {other}, f"{room} and {other} may import each other"


def test_no_import_runs_upwards() -> None:
    wrong = [f"{found.where}: {room_of(found.file)} imports {found.name}" for found in all_imports() if upward(found)]
    assert not wrong, "\n".join(wrong)


def test_models_are_mathematics_only() -> None:
    foreign = tuple(f"{name}." for name in FOREIGN_TO_MODELS)
    of_models = [found for found in all_imports() if room_of(found.file) == "models"]
    wrong = [f"{found.where}: {found.name}" for found in of_models if f"{found.name}.".startswith(foreign)]
    assert of_models
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", HEAVY_AT_IMPORT)
def test_heavy_packages_are_imported_where_they_are_used(package: str) -> None:
    wrong = [
        found.where
        for found in all_imports()
        if found.name.split(".")[0] == package and found.at_top and room_of(found.file) not in HEAVY_AT_IMPORT[package]
    ]
    assert not wrong, f"import {package} inside the function that needs it: {', '.join(wrong)}"


def test_no_model_class_inherits_from_another() -> None:
    """A generation is data: one tower, one decoder, one model class."""
    classes = [node for file in sources() if room_of(file) == "models" for node in ast.walk(tree_of(file))]
    bases = {node.name: {ast.unparse(base) for base in node.bases} for node in classes if isinstance(node, ast.ClassDef)}
    assert {"VisionTower", "Decoder", "VisionLanguageModel"} <= bases.keys()
    assert not {name: found for name, of in bases.items() if (found := of & bases.keys())}


FAMILY_NAMES = {name for family in FAMILIES for name in (family.name, *family.model_types)}


def asks_for_family(tree: ast.AST) -> list[int]:
    """Lines that compare with a family's name, or compare something called a family."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            asked = [ast.unparse(side).rpartition(".")[2] in ("family", "model_type") for side in sides]
            named = [isinstance(part, ast.Constant) and part.value in FAMILY_NAMES for side in sides for part in ast.walk(side)]
            found += [node.lineno] * (any(asked) or any(named))
        elif isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant) and node.value.value in FAMILY_NAMES:
            found.append(node.value.lineno)
    return found


def test_nothing_outside_families_asks_which_family_it_has() -> None:
    others = [file for file in sources() if room_of(file) != "families"]
    wrong = [f"{file.relative_to(PACKAGE)}:{line}" for file in others for line in asks_for_family(tree_of(file))]
    assert not wrong, f"read a value from the FamilySpec instead: {', '.join(wrong)}"
    code = 'if config.family == "x": pass\nx = name in ("qwen2_vl", "y")\nmatch name:\n    case "qwen_vl": pass\n'
    assert asks_for_family(ast.parse(code)) == [1, 2, 4], "the checker can fail"


def test_files_stay_readable() -> None:
    long = {str(file.relative_to(PACKAGE)): lines for file in sources() if (lines := len(file.read_text().splitlines())) > 400}
    assert not long, f"a file over 400 lines is two rooms: {long}"
    assert not [file for file in sources() if file.name in ("utils.py", "helpers.py", "common.py", "misc.py")]


def test_the_checker_sees_a_lazy_upward_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of imports can fail: an upward import hidden in a function of a model is found."""
    package = tmp_path / "qwenvl"
    (package / "models").mkdir(parents=True)
    file = package / "models" / "bad.py"
    file.write_text("import torch\ndef f():\n    from qwenvl.processing.chat import render\n    from ..train import trainer\n")
    monkeypatch.setattr(f"{__name__}.PACKAGE", package)
    found = imports_of(file)
    assert [item.name for item in found] == ["torch", "qwenvl.processing.chat", "qwenvl.train"]
    assert [upward(item) for item in found] == [False, True, True]
    assert [item.at_top for item in found] == [True, False, False]
