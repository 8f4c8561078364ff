"""`qwenvl data clean`: image-text pairs from the web or from caption sets, cleaned as in the paper's first stage."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from qwenvl.cli.options import Number, Text, Whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from PIL.Image import Image

    from qwenvl.data.clean.config import CleanConfig

EXAMPLES = """
qwenvl data clean laion/00000.tar laion/00001.tar --out cleaned --preset laion-en
qwenvl data clean pairs.csv --out cleaned --images pictures --set rules.small_image.minimum=100
qwenvl data clean shards --out cleaned --scorer clip:models/clip-vit-base-patch32 --min-score 0.28
qwenvl data clean --config clean.yaml --out cleaned --runner ray --address auto
"""


@dataclass(frozen=True)
class Clean:
    """Clean image-text pairs by named rules, drop duplicates, and write Parquet shards with a report of what was dropped and why.

    Ctrl-C or a crash loses the files at work: the same command goes on from there. Addresses are never fetched.
    """

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT", help_behavior_hint="")] = ()
    """Parquet, CSV, TSV or JSON files with a text and an address, path or bytes; webdataset tars; folders of them; or patterns."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(required)")] = None
    """Where shards, report.html and report.json go: one shard for each input file."""
    preset: str = "web"
    """Rules after a source of the paper: web, laion-en, laion-coco, datacomp, coyo, cc12m, cc3m, sbu, coco or laion-zh."""
    name: Text = None
    """What the dataset is called; by default as the preset."""
    images: Annotated[str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """The folder that paths of pictures start from; by default that of the input file."""
    scorer: Annotated[str | None, tyro.conf.arg(metavar="clip:FOLDER|open_clip:FOLDER|model:NAME", help_behavior_hint="")] = None
    """What measures how well text and picture fit: a CLIP, or the likelihood that one of our models gives the text."""
    min_score: Number = None
    """Drop pairs below it. Without it scores are only measured, and the report shows their quantiles."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE", help_behavior_hint="")] = ()
    """Change a rule: --set rules.text_length.min_words=2, --set rules.emoji=null. May be given again."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="CONFIG.yaml", help_behavior_hint="")] = None
    """Several datasets and their rules in a file, in place of INPUT and the options above."""
    runner: Literal["native", "ray"] = "native"
    """This machine alone, or a Ray cluster; the outcome is the same."""
    address: Text = None
    """Of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT; without it one is started on this machine."""
    workers: Whole = None
    """Processes that read files; by default one for each core."""
    gpus: float = 0
    """GPUs for each of them, for a scorer; 0.5: two share one."""


def clean(options: Clean) -> int:
    from qwenvl.cli.progress import progress
    from qwenvl.data.clean.engine import Engine
    from qwenvl.data.clean.pipeline import clean as clean_datasets
    from qwenvl.data.clean.scorers import scorer_factory

    config, out = read_config(options), _folder(options)
    factory = scorer_factory(config.scorer, ModelLikelihood) if config.scorer else None
    engine = Engine(options.runner, options.address, options.workers, options.gpus)
    try:
        data = clean_datasets(config, out, engine, factory, progress)
    except KeyboardInterrupt:
        print(f"qwenvl: what is done so far is in {out}; the same command goes on from there", file=sys.stderr)
        raise
    show(data)
    print(f"{out / 'report.html'}: drops by rule, with examples to look at")
    if not any(row["original"] for row in data["datasets"]):
        print("qwenvl: there is no row in the inputs; give other files", file=sys.stderr)
        return 1
    return 0


def read_config(options: Clean) -> CleanConfig:
    """The run that the options describe. Raises UsageError where they contradict each other, ConfigError for wrong settings."""
    from qwenvl.cli.options import UsageError
    from qwenvl.config import apply_override, load_yaml, validate
    from qwenvl.data.clean.config import CleanConfig

    if options.config is not None:
        if options.inputs:
            raise UsageError(f"{options.inputs[0]}: with --config the inputs stand in the file")
        return load_yaml(options.config, CleanConfig, options.set)
    if not options.inputs:
        raise UsageError("nothing to clean: give files or folders, or --config")
    dataset: dict[str, Any] = {"name": options.name or options.preset, "preset": options.preset, "inputs": options.inputs}
    if options.images is not None:
        dataset["images"] = options.images
    if options.min_score is not None:
        dataset["rules"] = {"image_text_score": {"minimum": options.min_score}}
    for override in options.set:
        apply_override(dataset, override)
    return validate({"datasets": [dataset], "scorer": options.scorer}, CleanConfig, "options")


def _folder(options: Clean) -> Path:
    from qwenvl.cli.options import UsageError

    if options.out is None:
        raise UsageError("--out: give the folder to write into")
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers {options.workers}: give 1 or more")
    if not 0 <= options.gpus < math.inf:
        raise UsageError(f"--gpus {options.gpus:g}: give 0 or more")
    return options.out


def show(data: dict[str, Any]) -> None:
    """The counts on stdout; on stderr what was not read."""
    from rich.console import Console
    from rich.table import Table

    table = Table("dataset", "rule", box=None)
    for heading in ("rows", "remaining"):
        table.add_column(heading, justify="right")
    for row in data["datasets"]:
        table.add_row(row["dataset"], "original", f"{row['original']:,}", "")
        for rule in row["rules"]:
            table.add_row("", rule["rule"], f"-{rule['dropped']:,}" if rule["dropped"] else "0", "")
        remaining = row["remaining_percent"]
        table.add_row("", "cleaned", f"{row['cleaned']:,}", "" if remaining is None else f"{remaining:g} %")
        if row["not_fetched"]:
            line = f"rows with only an address, not fetched: {row['not_fetched']:,} (fetch pictures with img2dataset)"
            print(f"qwenvl: {row['dataset']}: {line}", file=sys.stderr)
        for damage in row["damaged_files"]:
            print(f"qwenvl: damaged, rows before the damage are used: {damage}", file=sys.stderr)
    Console().print(table)


class ModelLikelihood:
    """Scorer: the mean log-likelihood that a model of ours gives the tokens of the text as the picture's caption."""

    def __init__(self, name: str) -> None:
        from qwenvl.inference.model import load
        from qwenvl.runtime import set_threads

        self.model = load(name)
        if self.model.device.type == "cpu":
            set_threads(1)  # workers share the cores, and sums have one order

    def score(self, pictures: Sequence[Image], texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        return np.array([self._score(picture, text) for picture, text in zip(pictures, texts, strict=True)], dtype=np.float32)

    def _score(self, picture: Image, text: str) -> float:
        """NaN for a text that is longer than the model's context, or a picture of a shape that the family refuses."""
        import torch
        from torch.nn.functional import cross_entropy

        from qwenvl.data.clean.text import language_of
        from qwenvl.data.formats import caption
        from qwenvl.processing.encode import ContextError
        from qwenvl.processing.grid import SizeError
        from qwenvl.types import Sample

        try:
            encoded = self.model.encode(Sample(caption(picture, text, language_of(text))), style="raw")
        except (ContextError, SizeError):
            return math.nan
        labels = torch.from_numpy(encoded.labels)[1:].to(self.model.device)
        with torch.inference_mode():
            return -float(cross_entropy(self.model.forward(encoded)[:-1], labels))
