"""`qwenvl data inspect|stats`: look at what a model is taught, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from qwenvl.cli.options import FromOne, FromZero, Text
from qwenvl.cli.progress import counted, progress

if TYPE_CHECKING:
    from qwenvl.data.packed_rows import PackedRows
    from qwenvl.processing.encode import Processor
    from qwenvl.types import QwenVLError, Sample, Style

Shown = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SHARDS|MIXTURE.yaml")]

DEFAULT_MODEL = "qwen-vl-nano"
YAML = (".yaml", ".yml")

EXAMPLES = """
qwenvl data inspect shards/chartqa --out chartqa.html --count 20
qwenvl data inspect recipe.yaml --out taught.html
qwenvl data stats shards/chartqa --model qwen-vl-nano-chat --out chartqa.png
"""


@dataclass(frozen=True)
class Inspect:
    """Write an HTML page of samples as a model is taught them: pictures as it sees them, places read back from its tokens."""

    source: Shown
    """Parquet shards, a mixture, or a recipe that has one."""
    out: Annotated[Path, tyro.conf.arg(metavar="OUT.html")] = Path("samples.html")
    """The page to write."""
    count: FromOne = 24
    """How many samples."""
    start: FromZero = 0
    """Number of the first one; of a mixture, in the order of training."""
    model: Annotated[Text, tyro.conf.arg(metavar="NAME|FOLDER|HUB_ID")] = None
    """Whose pictures, markup and vocabulary are used: that of the recipe, or qwen-vl-nano."""
    style: Annotated[Literal["raw", "chat"] | None, tyro.conf.arg(help_behavior_hint="")] = None
    """The paper's pre-training formats, or chat: that of the mixture, or chat."""


@dataclass(frozen=True)
class Stats:
    """Print token counts and sizes of samples, and draw them as histograms. Only the headers of pictures are read."""

    source: Shown
    """Parquet shards, a mixture, or a recipe that has one."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="OUT.png", help_behavior_hint="")] = None
    """A picture of the histograms; the numbers stand beside it in OUT.json."""
    count: FromOne = 10_000
    """Look at no more than so many."""
    rows: FromZero = 32
    """Of a mixture, pack so many rows as a worker of a trainer does, and say how full they are and how fast it is; 0: none."""
    model: Annotated[Text, tyro.conf.arg(metavar="NAME|FOLDER|HUB_ID")] = None
    """Whose pictures and vocabulary decide the counts: that of the recipe, or qwen-vl-nano."""
    style: Annotated[Literal["raw", "chat"] | None, tyro.conf.arg(help_behavior_hint="")] = None
    """The paper's pre-training formats, or chat: that of the mixture, or chat."""


def inspect(options: Inspect) -> int:
    from collections import Counter

    from qwenvl.data.inspect_samples import samples_page
    from qwenvl.runtime import atomic_write
    from qwenvl.types import QwenVLError

    if options.out.is_dir():
        raise QwenVLError(f"--out {options.out}: is a folder; give the name of a file")
    samples, processor, style = _open(options)
    counts: Counter[str] = Counter()
    with progress("reading", options.count) as advance:
        page = samples_page(str(options.source), counted(islice(samples, options.count), advance), processor, style, counts)
    if not counts.total():
        raise QwenVLError(f"{options.source}: no sample from number {options.start} on; give other shards, or another --start")
    with atomic_write(options.out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    refused = f", and {counts['refused']} refused, with the reasons" if counts["refused"] else ""
    print(f"{options.out}: {counts['samples']} samples of {options.source}{refused}")
    return 0 if counts["samples"] else 1


def stats(options: Stats) -> int:
    import json
    import sys

    from qwenvl.data.stats import gather, loading
    from qwenvl.runtime import atomic_write
    from qwenvl.types import QwenVLError

    if options.out is not None and options.out.is_dir():
        raise QwenVLError(f"--out {options.out}: is a folder; give the name of a file")
    samples, processor, style = _open(options)
    with progress("measuring", options.count) as advance:
        found = gather(counted(islice(samples, options.count), advance), processor, style)
    if not found.tokens and not found.refused:
        raise QwenVLError(f"{options.source}: has no samples; give other shards")
    summary = found.record()
    if options.rows and found.tokens and options.source.suffix in YAML:
        summary["loading"] = loading(_rows(options.source, processor), options.rows)
    record = json.dumps(summary, indent=1, ensure_ascii=False)
    print(record)
    if found.refused:
        print(f"qwenvl: refused: {found.refused.total()}, the first: {found.first_refusal}", file=sys.stderr)
    if options.out is not None:
        with atomic_write(options.out) as temporary:
            found.draw(temporary, str(options.source))
        with atomic_write(options.out.with_suffix(".json")) as temporary:
            temporary.write_text(record + "\n", encoding="utf-8")
    return 0 if found.tokens else 1


def _open(options: Inspect | Stats) -> tuple[Iterator[Sample | QwenVLError], Processor, Style]:
    """The samples in order, as far as they can be read, and what they are encoded by."""
    from qwenvl.data.mixture import read_mixture, stream_of
    from qwenvl.data.sources import Shards

    start = options.start if isinstance(options, Inspect) else 0
    if options.source.suffix in YAML:
        taught = read_mixture(options.source)
        stream = stream_of(taught.mixture, taught.seed)
        processor = open_processor(options.model or taught.preset or DEFAULT_MODEL)
        return _each(stream.sample, count(start), processor), processor, options.style or taught.mixture.style
    shards = Shards(options.source)
    processor = open_processor(options.model or DEFAULT_MODEL)
    return _each(shards.sample, range(start, shards.size or 0), processor), processor, options.style or "chat"


def _rows(path: Path, processor: Processor) -> PackedRows:
    from qwenvl.data.mixture import mixture_rows, read_mixture

    taught = read_mixture(path)
    return mixture_rows(taught.mixture, processor, taught.seed)


def _each(sample: Callable[[int], Sample], numbers: Iterable[int], processor: Processor) -> Iterator[Sample | QwenVLError]:
    from qwenvl.data.places import for_markup
    from qwenvl.types import QwenVLError

    for number in numbers:
        try:
            yield for_markup(sample(number), processor.markup)
        except QwenVLError as error:
            yield error


def open_processor(model: str) -> Processor:
    """Of a built-in model, a folder or a hub id; or of a small preset that has no weights yet, with the vocabulary that ships."""
    from qwenvl.families import family_of_preset, find_preset
    from qwenvl.processing.encode import Processor
    from qwenvl.processing.tokenizer import Tokenizer
    from qwenvl.weights.hub import builtin_models, resolve
    from qwenvl.weights.io import read_config

    if model.endswith("-nano") and model not in builtin_models():
        preset = find_preset(model)
        spec = family_of_preset(preset)
        return Processor(preset.config, spec, Tokenizer.from_folder(resolve(DEFAULT_MODEL)).of_family(spec), preset.markup)
    folder = resolve(model)
    raw, config, spec = read_config(folder)
    return Processor(config, spec, Tokenizer.from_folder(folder), spec.read_markup(raw))
