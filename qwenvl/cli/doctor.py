"""`qwenvl doctor`: what a bug report needs, and whether the built-in models load here."""

from __future__ import annotations

import importlib.metadata as metadata
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenvl.cli.options import Flag, parse

PACKAGES = (
    "torch", "numpy", "pillow", "tokenizers", "safetensors", "huggingface_hub", "pydantic", "pyyaml", "tyro", "rich",
    "matplotlib", "transformers",
)  # fmt: skip


SUMMARY = "Print versions, device, default dtype and whether the built-in models load: what a bug report needs."
EXAMPLES = """
qwenvl doctor
qwenvl doctor --json > report.json
qwenvl doctor --measure      after a change of machine, compiler or torch
"""


@dataclass(frozen=True)
class Doctor:
    json: Flag = False
    """Print one JSON object instead of lines."""
    measure: Flag = False
    """Measure anew which of this CPU's products are the fastest, instead of telling what was measured before."""


def main(arguments: list[str]) -> int:
    options: Doctor = parse(Doctor, arguments, "qwenvl doctor", SUMMARY, EXAMPLES)
    report = examine(options.measure)
    print(json.dumps(report, indent=2, ensure_ascii=False) if options.json else "\n".join(lines(report)))
    return 0 if all(model["loads"] for model in report["models"].values()) else 1


def examine(measure: bool = False) -> dict[str, Any]:
    """The report as plain data. `models` maps each built-in model to {loads, seconds, error}; `scenes` maps what scenes are drawn
    with, Debian packages mostly, to versions; `products` maps a kind of weight to {chosen, milliseconds} of one product, measured
    now if it never was, or with `measure`."""
    from qwenvl import __version__
    from qwenvl.data.synth.fonts import versions
    from qwenvl.inference.choice import chosen, told
    from qwenvl.runtime import environment

    return {
        "qwenvl": __version__,
        **environment(),
        "packages": {name: installed(name) for name in PACKAGES},
        "models": {name: try_model(name) for name in built_in_models()},
        "scenes": versions(),
        "products": {kind: {"chosen": chosen(times), "milliseconds": times} for kind, times in told(measure).items()},
    }


def installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def built_in_models() -> list[str]:
    folder = Path(__file__).resolve().parents[1] / "assets" / "models"
    return sorted(path.parent.name for path in folder.glob("*/config.json"))


def try_model(name: str) -> dict[str, Any]:
    """Load a built-in model on the CPU and say how long that took, or why it failed."""
    from qwenvl.inference.model import load
    from qwenvl.types import QwenVLError

    start = time.perf_counter()
    try:
        load(name, device="cpu")
    except (QwenVLError, OSError) as error:
        return {"loads": False, "seconds": None, "error": " ".join(str(error).split())}
    return {"loads": True, "seconds": round(time.perf_counter() - start, 2), "error": None}


def lines(report: Mapping[str, Any]) -> list[str]:
    """The report as aligned lines."""
    cpu, packages = report["cpu"], report["packages"]
    missing = [name for name, version in report["scenes"].items() if version == "absent"]
    rows = [
        ("qwenvl", report["qwenvl"]),
        ("python", f"{report['python']} on {report['platform']}"),
        ("packages", ", ".join(f"{name} {version or '(absent)'}" for name, version in packages.items())),
        ("cpu", f"{cpu['model']}, {cpu['cores']} usable cores, {cpu['threads']} threads; {' '.join(cpu['flags'])}"),
        ("memory", f"{report['memory_gib']} GiB" if report["memory_gib"] else "unknown"),
        ("cuda", ", ".join(f"{device['name']} ({device['memory_gib']} GiB)" for device in report["cuda"]) or "none"),
        ("default", f"device {report['default_device']}, dtype {report['default_dtype']}"),
        ("offline", "yes (QWENVL_OFFLINE)" if report["offline"] else "no"),
        ("scenes", f"not drawable, missing: {' '.join(missing)}" if missing else "fonts and names are installed"),
    ]
    for kind, found in report["products"].items():
        measured = any(found["milliseconds"].values())  # not where nothing can be kept
        times = ", ".join(f"{name} {value:.2f} ms" for name, value in found["milliseconds"].items()) if measured else "not measured"
        rows.append(("product", f"{kind}: {found['chosen']} ({times})"))
    for name, model in report["models"].items():
        rows.append(("model", f"{name} loads in {model['seconds']} s" if model["loads"] else f"{name} FAILS: {model['error']}"))
    return [f"{key:<9} {value}" for key, value in rows]
