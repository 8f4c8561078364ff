"""`qwenvl data dialogues`: conversations about several pictures, from shards of Samples about single ones."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from qwenvl.cli.options import Flag, FromZero

EXAMPLES = """
qwenvl data dialogues shards/grit shards/dialogues
qwenvl data dialogues shards/vqa shards/dialogues --pictures 2 6 --rounds 3 --seed 1
qwenvl data dialogues shards/vqa shards/needles --strategy needle --pictures 20 40
"""


@dataclass(frozen=True)
class Dialogues:
    """Join Samples about single pictures to conversations about several: describe, compare, which, where, a story, the difference.

    What is said comes from the Samples: their captions, phrases with places, lettering and questions.
    """

    shards: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SHARDS")]
    """A shard or a folder of shards. Samples about one picture follow each other in them."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder for part-*.parquet."""
    pictures: tuple[int, int] = (2, 4)
    """Least and greatest number of pictures of a conversation."""
    strategy: Literal["usual", "together", "in_turn", "difference", "needle"] = "usual"
    """How pictures come together. usual: mostly all first or one after the other, now and then a difference to find. needle: one
    question about one of many pictures; give --pictures 20 40, say."""
    rounds: int = 1
    """How often each picture is used."""
    seed: FromZero = 0
    held_out_phrasing: Flag = False
    """Put every question in the one phrasing that training never shows."""


def dialogues(options: Dialogues) -> int:
    from qwenvl.cli.progress import progress
    from qwenvl.config import validate
    from qwenvl.data.dialogues.build import DialogueSpec, Tally
    from qwenvl.data.dialogues.build import dialogues as make
    from qwenvl.data.shards import ShardReader, ShardWriter

    settings: dict[str, Any] = {"pictures": options.pictures, "rounds": options.rounds}
    if options.strategy != "usual":
        settings["strategies"] = {options.strategy: 1.0}
    spec = validate(settings, DialogueSpec, "options")
    reader, tally = ShardReader(options.shards), Tally()
    with ShardWriter(options.out) as writer, progress("joining", None) as advance:
        for sample in make(reader.readable(tally.bad), spec, options.seed, tally, options.held_out_phrasing):
            writer.add(sample)
            advance(1)
    made = ", ".join(f"{name} {count}" for name, count in sorted(tally.dialogues.items()))
    print(f"{options.out}: {writer.written} dialogues ({made or 'none'}) about {sum(tally.pictures.values())} pictures")
    if tally.passed_over:
        print("passed over: " + ", ".join(f"{reason} {count}" for reason, count in sorted(tally.passed_over.items())))
    if tally.fruitless:
        print(f"{tally.fruitless} groups of pictures gave none: too little is said of them, or a picture cannot be read")
    if tally.bad:
        print(f"refused: {len(tally.bad)}, the first: {tally.bad[0]}")
    if not writer.written:
        wanted = "give captions or places of at least two pictures of a language, or lower --pictures"
        print(f"qwenvl: {options.shards}: no dialogue can be made of it; {wanted}", file=sys.stderr)
    return 0 if writer.written else 1
