"""`qwenvl data synth`: samples of a generator as Parquet shards, and as pictures to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qwenvl.cli.options import Flag, FromZero, OutPicture

if TYPE_CHECKING:
    from PIL.Image import Image

    from qwenvl.data.synth.generators import Generator

EXAMPLES = """
qwenvl data synth
qwenvl data synth text shards/text --count 1000 --languages en zh
qwenvl data synth text shards/signs --count 200 --set preset=signs background.folder=/usr/share/backgrounds
qwenvl data synth chart shards/charts --count 200 --sheet charts.png
"""

_SHOWN = 12
"""Pictures on a sheet."""


@dataclass(frozen=True)
class Synth:
    """Draw samples of a generator and write them as Parquet shards. Without a name: list the generators.

    Sample i depends on the seed and on i alone, so a large set may be drawn in parts, each with its own --index and folder.
    """

    generator: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="GENERATOR", help_behavior_hint="")] = ""
    """Its name in the list."""
    out: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="OUT", help_behavior_hint="")] = None
    """The folder for part-*.parquet, and for synth.json, which says what they were drawn from."""
    count: int = 1000
    """How many samples."""
    index: FromZero = 0
    """Number of the first one."""
    seed: FromZero = 0
    languages: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LANGUAGE…", help_behavior_hint="")] = ()
    """Of the text: en and zh; of generator text also ja, ko, vi, ru and ar."""
    spec: Annotated[Path | None, tyro.conf.arg(metavar="FILE.yaml", help_behavior_hint="")] = None
    """Settings of the generator."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE…", help_behavior_hint="")] = ()
    """Single settings, such as effects.curl.share=1."""
    pictures: Flag = False
    """Also write every picture as PNG, with the places that it is asked about, below OUT/pictures."""
    sheet: OutPicture = None
    """Also write the first twelve of these pictures side by side."""


def synth(options: Synth) -> int:
    from qwenvl.cli.options import UsageError
    from qwenvl.data.synth.generators import GENERATORS, Generated, generator_named

    if not options.generator:
        width = max(map(len, GENERATORS))
        for generator in GENERATORS.values():
            print(f"{generator.name:<{width}}  {generator.summary}")
        return 0
    if options.out is None:
        raise UsageError("give the folder to write into: qwenvl data synth GENERATOR OUT")
    if options.count < 1 or options.index < 0:
        raise UsageError(f"--count {options.count} --index {options.index}: ask for at least one sample; numbers count from 0")
    if options.sheet is not None and options.sheet.is_dir():
        raise UsageError(f"--sheet {options.sheet}: is a folder; give the name of a file")
    source = Generated(options.generator, _settings(options, generator_named(options.generator)), options.seed)
    return _write(options, options.out, source)


def _settings(options: Synth, generator: Generator) -> dict[str, Any]:
    from qwenvl.cli.options import UsageError
    from qwenvl.config import apply_override, read_yaml

    settings = read_yaml(options.spec) if options.spec is not None else {}
    for override in options.set:
        apply_override(settings, override)
    if options.languages:
        known = generator.spec_type().model_fields
        if "languages" in known:
            settings["languages"] = list(options.languages)
        elif "language" in known and set(options.languages) <= {"en", "zh"}:
            settings["language"] = options.languages[0] if len(set(options.languages)) == 1 else "both"
        else:
            raise UsageError(f"--languages {' '.join(options.languages)}: not a choice of generator {generator.name}")
    return settings


def _write(options: Synth, out: Path, source: Any) -> int:
    import json
    import sys
    from collections import Counter

    from qwenvl.cli.progress import progress
    from qwenvl.data.shards import LONG, ShardWriter
    from qwenvl.data.sources import BadSample
    from qwenvl.runtime import atomic_write

    tasks: Counter[str] = Counter()
    refused: list[str] = []
    shown: list[Image] = []
    stored, left = 0, options.index
    try:
        with (
            ShardWriter(out, **(LONG if source.generator.long else {})) as writer,
            progress("drawing", options.count) as advance,
        ):
            for number in range(options.index, options.index + options.count):
                advance(1)
                try:
                    sample = source.sample(number)
                except BadSample as error:
                    refused.append(str(error))
                    continue
                writer.add(sample)
                tasks[sample.task] += 1
                if options.pictures or (options.sheet and len(shown) < _SHOWN):
                    shown += _draw(options, out, number, sample)
                if writer.written > stored:
                    stored, left = writer.written, number + 1
    except KeyboardInterrupt:
        if stored:
            print(f"qwenvl: {stored} samples are in {out}; the others begin at --index {left}, in another folder", file=sys.stderr)
        raise
    made = {"generator": options.generator, "spec": source.spec.model_dump(mode="json"), "seed": options.seed}
    made |= {"index": options.index, "count": options.count, "tasks": dict(tasks), "refused": refused}
    with atomic_write(out / "synth.json") as temporary:
        temporary.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.sheet is not None and shown:
        _save_sheet(shown[:_SHOWN], options.sheet)
    print(f"{out}: {writer.written} samples ({', '.join(f'{task} {count}' for task, count in sorted(tasks.items())) or 'none'})")
    if refused:
        complaint = f"refused: {len(refused)}, named in {out / 'synth.json'}; the first: {refused[0]}"
        print(complaint if writer.written else f"qwenvl: {complaint}", file=sys.stdout if writer.written else sys.stderr)
    return 0 if writer.written else 1


def _draw(options: Synth, out: Path, number: int, sample: Any) -> list[Image]:
    """The sample's pictures with its places; saved where pictures are wanted."""
    from qwenvl.data.outlines import outlined
    from qwenvl.runtime import atomic_write

    drawn = outlined(sample)
    for place, picture in enumerate(drawn) if options.pictures else ():
        with atomic_write(out / "pictures" / f"{number:06d}-{place}-{sample.task}.png") as temporary:
            picture.save(temporary, format="png")
    return drawn[:_SHOWN] if options.sheet else []


def _save_sheet(pictures: list[Image], path: Path) -> None:
    from qwenvl.data.outlines import sheet
    from qwenvl.runtime import atomic_write

    with atomic_write(path) as temporary:
        sheet(pictures).quantize(128).save(temporary, format="png", optimize=True)  # half the bytes, as for sheets of scenes
    print(f"{path}: {len(pictures)} pictures")
