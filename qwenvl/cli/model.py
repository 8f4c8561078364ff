"""`qwenvl model list|info|convert|compare|parity|quantize`: which models there are, what one is made of, what its storage costs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from qwenvl.cli.compare import Compare, compare
from qwenvl.cli.model_quantize import Quantize, quantize
from qwenvl.cli.options import Flag, Number, UsageError, Whole, parse
from qwenvl.cli.parity import Parity, parity

if TYPE_CHECKING:
    from qwenvl.config import ModelConfig
    from qwenvl.families.spec import FamilySpec


SUMMARY = "See which models there are and what one is made of; compare several, compare one's paths, write one in another storage."
EXAMPLES = """
qwenvl model list
qwenvl model info qwen2.5-vl-7b
qwenvl model info qwen2.5-vl-7b --picture 1920x1080 --max-pixels 1003520
qwenvl model compare photo.png "Where is the dog? Give its box." --models qwen-vl-nano-chat path/to/model
qwenvl model parity path/to/model
qwenvl model quantize path/to/model
qwenvl model convert path/to/model path/to/new --store bfloat16
qwenvl model convert --help
"""


@dataclass(frozen=True)
class List:
    """Show the models in the package and the configurations that can be built or loaded."""

    json: Flag = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class Info:
    """Count a model's parameters and bytes without loading it."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """A built-in model, a configuration (see `list`), a folder, or a hub id."""
    json: Flag = False
    """Print JSON instead of a table."""
    picture: Annotated[str | None, tyro.conf.arg(metavar="WIDTHxHEIGHT", help_behavior_hint="")] = None
    """Say instead what a picture of this size becomes, and its visual tokens; with --seconds, those of a clip of such frames."""
    min_pixels: Whole = None
    """Enlarge the picture or frames if they have fewer pixels, as for `ask`."""
    max_pixels: Whole = None
    """Reduce them if they have more."""
    seconds: Number = None
    """Length of the clip."""
    fps: Number = None
    """Frames to draw from the clip per second; the model's own rate if not given."""


@dataclass(frozen=True)
class Convert:
    """Write a model again: published names in safetensors, another dtype, or int8; and print what the storage costs."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """A built-in model, a folder, or a hub id."""
    target: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The folder to write."""
    store: Literal["as-is", "float32", "bfloat16", "float16", "int8"] = "as-is"
    """How numbers are kept. int8: matrices with one scale per row, vectors in float32."""
    shard_gb: float = 5.0
    """Largest size of one weight file, in 10^9 bytes."""


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Parity, tyro.conf.subcommand("parity")]
    | Annotated[Quantize, tyro.conf.subcommand("quantize")]
)


def main(arguments: list[str]) -> int:
    command: List | Info | Convert | Compare | Parity | Quantize = parse(Command, arguments, "qwenvl model", SUMMARY, EXAMPLES)
    if isinstance(command, List):
        return list_models(command)
    if isinstance(command, Info):
        return info(command)
    if isinstance(command, Compare):
        return compare(command)
    if isinstance(command, Quantize):
        return quantize(command)
    return parity(command) if isinstance(command, Parity) else convert(command)


def list_models(options: List) -> int:
    from qwenvl.families import FAMILIES
    from qwenvl.weights.hub import builtin_models

    rows = [
        {"name": name, "kind": "built-in", "summary": _card_summary(folder), "path": str(folder)}
        for name, folder in builtin_models().items()
    ]
    # A preset whose weights are in the package is listed once, as what can be asked.
    names = {row["name"] for row in rows}
    rows += [
        {"name": preset.name, "kind": "config", "summary": preset.summary, "path": ""}
        for family in FAMILIES
        for preset in family.presets
        if preset.name not in names
    ]
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['kind']:<8}  {row['summary']}")
    print("\nbuilt-in: weights in the package; config: give --model a folder with weights, or a hub id such as Qwen/Qwen-VL-Chat")
    return 0


def info(options: Info) -> int:
    from qwenvl.cli.cost import cost
    from qwenvl.weights.summary import summarise

    config, spec, folder = _find(options.name)
    if options.picture is not None:
        return cost(options, config, spec)
    if options.seconds is not None or options.min_pixels or options.max_pixels or options.fps is not None:
        raise UsageError("of which size? give --picture WIDTHxHEIGHT too")
    summary = {"name": options.name, "source": str(folder or "preset"), **summarise(config, folder)}
    if options.json:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        _print_summary(summary)
    return 0


def convert(options: Convert) -> int:
    from qwenvl.runtime import resolve_dtype
    from qwenvl.types import QwenVLError
    from qwenvl.weights.hub import resolve
    from qwenvl.weights.repack import repack

    source = resolve(options.source)
    if source.resolve() == options.target.resolve():
        raise QwenVLError(f"{options.target}: is the source itself; give another folder")
    if options.target.exists() and not options.target.is_dir():
        raise QwenVLError(f"{options.target}: is a file; give the name of a folder")
    dtype = None if options.store in ("as-is", "int8") else resolve_dtype(options.store)
    report = repack(source, options.target, dtype=dtype, int8=options.store == "int8", max_shard_bytes=int(options.shard_gb * 1e9))
    print(f"{options.target}: {report.tensors} tensors, {_size(report.bytes)}")
    worst = f" ({report.worst})" if report.worst else ""
    print(f"error of a tensor (RMS, relative to {report.source_dtype}): mean {report.mean_error:.2e}, ", end="")
    print(f"largest {report.worst_error:.2e}{worst}")
    if report.bfloat16_error is not None:
        print(f"for comparison, bfloat16: mean {report.bfloat16_error:.2e}")
    return 0


def _find(name: str) -> tuple[ModelConfig, FamilySpec, Path | None]:
    """The config of a model, its family with its own rules, and its folder, or None for a configuration without weights."""
    from qwenvl.families import FAMILIES, family_of_preset
    from qwenvl.weights.hub import builtin_models, resolve
    from qwenvl.weights.io import read_config

    presets = {preset.name: preset for family in FAMILIES for preset in family.presets}
    if name in presets and name not in builtin_models() and not Path(name).is_dir():
        return presets[name].config, family_of_preset(presets[name]), None
    folder = resolve(name)
    _, config, spec = read_config(folder)
    return config, spec, folder


def _card_summary(folder: Path) -> str:
    """The one line about a built-in model from its card.json."""
    try:
        return str(json.loads((folder / "card.json").read_text(encoding="utf-8")).get("summary", ""))
    except FileNotFoundError:
        return ""


PARTS = {
    "llm": "LLM",
    "vision_encoder": "vision encoder",
    "vision_encoder_vit": "  ViT",
    "vision_encoder_output": "  output norm and projection",
    "vision_encoder_merger": "  merger",
    "adapter": "adapter",
    "total": "total",
}
"""Part of a model in `count_parameters` -> its label."""


def _print_summary(summary: dict[str, Any]) -> None:
    config = summary["config"]
    print(f"{summary['name']}  ({summary['family']}, {summary['source']})\n")
    for key, count in summary["parameters"].items():
        print(f"{PARTS[key]:<30}{count:>16,}")
    sizes = f"{_size(summary['bytes']['bfloat16'])} in bfloat16, {_size(summary['bytes']['int8'])} in int8"
    print(f"\nsize      {sizes}; {summary['tensors']} tensors")
    if summary["files"]:
        files = summary["files"]
        print(f"files     {files['count']}, {_size(files['bytes'])}, {' and '.join(files['dtypes'])}")
    print(f"vision    {_tower(config['vision'])}")
    print(_connector(config["connector"]))
    print(f"decoder   {_decoder(config['decoder'])}")


def _tower(vision: dict[str, Any]) -> str:
    shape = f"{vision['num_hidden_layers']} layers of {vision['hidden_size']}, {vision['num_attention_heads']} heads"
    pixels = f"{vision['image_size']} px" if vision["image_size"] else "native resolution"
    windows = ""
    if vision["window_size"]:
        blocks = ", ".join(map(str, vision["full_attention_blocks"])) or "none"
        windows = f", windows of {vision['window_size']} px (whole frames in blocks {blocks})"
    return f"{shape}, {pixels} in patches of {vision['patch_size']}{windows}"


def _connector(connector: dict[str, Any]) -> str:
    if connector["kind"] == "merger":
        side = connector["merge_size"]
        return f"merger    {side} x {side} patches to a visual token of {connector['hidden_size']}"
    return f"adapter   {connector['num_queries']} queries of {connector['hidden_size']}, {connector['num_attention_heads']} heads"


def _decoder(decoder: dict[str, Any]) -> str:
    heads, shared = decoder["num_attention_heads"], decoder["num_key_value_heads"]
    keys = "" if shared == heads else f" (keys and values: {shared})"
    return (
        f"{decoder['num_hidden_layers']} layers of {decoder['hidden_size']}, {heads} heads{keys}, "
        f"vocabulary {decoder['vocab_size']:,}, trained on {decoder['trained_length']:,} positions"
    )


def _size(count: int) -> str:
    """Bytes for people, in powers of ten as disks and downloads are sold."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
