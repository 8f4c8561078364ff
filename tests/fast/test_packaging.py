"""What an install brings: nothing that breaks or bloats a machine without GPU, and everything that is imported."""

from __future__ import annotations

import ast
import importlib.metadata as metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
FORBIDDEN = ("torchvision", "torchaudio", "triton", "nvidia-", "xgrammar", "liger-kernel", "transformers", "opencv", "gradio")

# Distribution -> the name under which it is imported, where the two differ.
IMPORT_NAMES = {
    "pillow": "PIL", "pyyaml": "yaml", "huggingface-hub": "huggingface_hub", "opencv-python-headless": "cv2",
}  # fmt: skip
EXTRAS = ("train", "video", "data", "ray", "documents", "synth", "serve")
THEIRS = {"transformers", "open_clip"}
"""Imported only where a user names a model of theirs to score data with; cleaning says how to get them."""
BROUGHT = {"starlette", "h11", "pydantic_core"}
"""What fastapi, uvicorn and pydantic stand on, and give out objects of."""


def closure(requirements: list[str], without: frozenset[str] = frozenset()) -> set[str]:
    """Canonical names of all distributions that the requirements bring on this machine, from installed metadata."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or name in without:
            continue
        found.add(name)
        for text in metadata.requires(name) or []:
            child = Requirement(text)
            extras = {"", *requirement.extras}
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(child)
    return found


def beside_torch() -> set[str]:
    """What our own requirements bring in addition to torch and what torch brings itself."""
    return closure(PROJECT["dependencies"], frozenset(closure(["torch"])))


def test_r7_core_brings_no_torchvision_triton_or_nvidia() -> None:
    brought = beside_torch()
    assert {"numpy", "pydantic", "tokenizers"} <= brought
    assert not [name for name in brought if name.startswith(FORBIDDEN)]


def test_cpu_torch_brings_no_triton_or_nvidia() -> None:
    if "+cpu" not in metadata.version("torch"):
        pytest.skip("this torch is a CUDA build, which needs them")
    assert not [name for name in closure(["torch"]) if name.startswith(FORBIDDEN)]


def test_r7_core_stays_under_200_mb_beside_torch() -> None:
    sizes = {}
    for name in beside_torch():
        paths = [Path(str(file.locate())) for file in metadata.files(name) or []]
        sizes[name] = sum(path.stat().st_size for path in paths if path.exists()) / 1e6
    total = sum(sizes.values())
    assert total > 50, "the sizes were not found"
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    assert total < 200, f"{total:.0f} MB; largest: {largest}"


def test_r7_every_imported_package_is_declared() -> None:
    """A module that imports something undeclared works here and fails on a fresh machine."""
    extras = [requirement for group in EXTRAS for requirement in PROJECT["optional-dependencies"][group]]
    names = [canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"] + extras]
    known = {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names} | {"qwenvl"} | sys.stdlib_module_names
    known |= THEIRS | BROUGHT
    unknown = set()
    for file in sorted((ROOT / "qwenvl").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            unknown |= {(file.name, module) for module in modules if module.partition(".")[0] not in known}
    assert not unknown


def test_extras_are_offered_by_the_error_message() -> None:
    from qwenvl.cli.main import EXTRAS

    assert set(EXTRAS.values()) <= PROJECT["optional-dependencies"].keys()


def test_torch_range_holds_what_is_tested() -> None:
    [torch] = [Requirement(text) for text in PROJECT["dependencies"] if Requirement(text).name == "torch"]
    for version in ("2.11.0", "2.12.0", "2.13.0"):
        assert torch.specifier.contains(version)
    assert not torch.specifier.contains("2.14.0")
    assert torch.specifier.contains(Version(metadata.version("torch")).base_version)


def test_constraints_pin_all_of_the_core() -> None:
    lines = (ROOT / "constraints" / "cpu.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(str(pin.specifier).startswith("==") for pin in pins)
    pinned = {canonicalize_name(pin.name) for pin in pins}
    assert closure(PROJECT["dependencies"]) <= pinned


def test_every_code_folder_is_a_package() -> None:
    """setuptools leaves out a folder without __init__.py: it would be there in a checkout and missing from a wheel."""
    folders = {file.parent for file in (ROOT / "qwenvl").rglob("*.py")}
    assert not [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()]


def test_a_wheel_has_every_file(git: str, repository: Path) -> None:
    folder = repository / "qwenvl"
    taken = {path for pattern in SETUPTOOLS["package-data"]["qwenvl"] for path in folder.glob(pattern)}
    listed = subprocess.run([git, "ls-files", "-z", "qwenvl"], cwd=repository, capture_output=True, check=True, text=True).stdout
    files = [repository / name for name in listed.split("\0") if name and not name.endswith(".py")]
    assert files and not [str(path) for path in files if path.exists() and path not in taken]


def test_no_large_file_is_tracked(git: str, repository: Path) -> None:
    """Only the weights of the built-in models are large."""
    listed = subprocess.run([git, "ls-files", "-z"], cwd=repository, capture_output=True, check=True, text=True).stdout
    large = {
        name: path.stat().st_size
        for name in listed.split("\0")
        if name and (path := repository / name).exists() and path.stat().st_size > 500_000
    }
    weights = {name for name in large if name.startswith("qwenvl/assets/models/") and name.endswith(".safetensors")}
    assert not large.keys() - weights, large
    assert all(large[name] <= 8_000_000 for name in weights), large


def test_make_installs_what_data_is_drawn_with() -> None:
    from qwenvl.data.synth.fonts import ALL_FACES
    from qwenvl.data.synth.names import CLDR_PACKAGE
    from qwenvl.data.synth.text.scripts import packages

    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    variables = [line.partition(" = ")[::2] for line in makefile.splitlines() if line.startswith(("FONTS =", "PACKAGES ="))]
    listed = {name: names.split() for name, names in variables}
    assert set(listed["FONTS"]) == {face.package for face in ALL_FACES} | set(packages())
    assert {"$(FONTS)", CLDR_PACKAGE, "chromium", "libfribidi0"} <= set(listed["PACKAGES"])
