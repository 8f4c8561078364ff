"""`qwenvl data preferences`: pairs of a right and a wrong answer, for DPO."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from qwenvl.cli.options import Flag, FromZero

if TYPE_CHECKING:
    from qwenvl.data.preferences.build import PreferenceSpec
    from qwenvl.types import Sample

EXAMPLES = """
qwenvl data preferences shards/pairs --count 1000
qwenvl data preferences shards/pairs --count 1000 --sources scenes chart --faults shifted_box absent_affirmed
qwenvl data preferences shards/pairs --count 1000 --shards shards/refcoco --faults shifted_box other_box
"""


@dataclass(frozen=True)
class Preferences:
    """Make pairs of a right answer and one with a fault that the picture shows: another thing, a shifted box, a misread text.

    About drawn pictures, or about those of shards. Pairs are Samples with the right answer; the wrong one is in `extra`.
    """

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder for part-*.parquet."""
    count: int = 1000
    """How many pairs; of shards at most, one for each picture."""
    shards: Annotated[Path | None, tyro.conf.arg(metavar="SHARDS", help_behavior_hint="")] = None
    """Shards whose Samples are the right answers, in place of drawn pictures."""
    sources: Annotated[tuple[str, ...], tyro.conf.arg(metavar="GENERATOR…", help_behavior_hint="")] = ()
    """Generators of `qwenvl data synth` to draw from, by default scenes, charts, screens and tables."""
    faults: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FAULT…", help_behavior_hint="")] = ()
    """What may be wrong: shifted_box, other_box, missed_point, wrong_choice, wrong_count, wrong_thing, wrong_text, wrong_number,
    absent_affirmed, present_denied; by default all but missed_point, for which most markup has no points."""
    language: Literal["en", "zh", "both"] = "both"
    seed: FromZero = 0
    held_out_phrasing: Flag = False
    """Put every question in the one phrasing that training never shows."""


def preferences(options: Preferences) -> int:
    from itertools import islice

    from qwenvl.cli.options import UsageError
    from qwenvl.cli.progress import progress
    from qwenvl.data.shards import ShardWriter

    if options.count < 1:
        raise UsageError(f"--count {options.count}: ask for at least one pair")
    made: Counter[str] = Counter()
    refused: list[str] = []
    pairs = _pairs(options, refused)
    with ShardWriter(options.out) as writer, progress("drawing", options.count) as advance:
        for sample in islice(pairs, options.count):
            made[sample.extra["fault"]] += 1
            writer.add(sample)
            advance(1)
    faults = ", ".join(f"{fault} {count}" for fault, count in sorted(made.items()))
    print(f"{options.out}: {writer.written} pairs ({faults or 'none'})")
    if refused:
        print(f"refused: {len(refused)}, the first: {refused[0]}")
    if not writer.written:
        print("qwenvl: no picture allows any of these faults; give other --faults, --sources or --shards", file=sys.stderr)
    return 0 if writer.written else 1


def _pairs(options: Preferences, refused: list[str]) -> Iterator[Sample]:
    """The pairs one after another; what the options ask wrongly is said at once."""
    from qwenvl.config import validate
    from qwenvl.data.preferences.build import EVEN, PreferenceSpec, pairs_of
    from qwenvl.data.shards import ShardReader

    faults = dict.fromkeys(options.faults or EVEN, 1.0)
    settings = {"faults": faults, "language": options.language, "held_out": options.held_out_phrasing}
    if options.sources:
        settings["sources"] = dict.fromkeys(options.sources, 1.0)
    spec = validate(settings, PreferenceSpec, "options")
    if options.shards is not None:
        return pairs_of(ShardReader(options.shards).readable(refused), spec.faults, options.seed)
    return _drawn(spec, options.seed)


def _drawn(spec: PreferenceSpec, seed: int) -> Iterator[Sample]:
    from itertools import count

    from qwenvl.data.preferences.build import samples

    fruitless = 0
    for number in count():
        found = samples(spec, seed, number)
        yield from found
        fruitless = 0 if found else fruitless + 1
        if fruitless == FRUITLESS:
            return


FRUITLESS = 1000
"""Pictures one after another that allow no fault before the run ends: these sources have none of these faults."""
