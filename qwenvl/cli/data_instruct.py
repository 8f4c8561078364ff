"""`qwenvl data instruct`: conversations that a language model writes about pictures that are known from captions and boxes."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import tyro

from qwenvl.cli.options import Flag, FromOne, FromZero, Number, OutFolder, SomeOf

EXAMPLES = """
qwenvl data instruct shards/grit shards/instruct --url http://localhost:8000/v1 --model qwen2.5-72b-instruct
qwenvl data instruct shards/coco shards/written --url https://api.example.com/v1 --model big --price-out 1.2 --max-cost 20
"""


Kinds = Annotated[tuple[Literal["conversation", "detail", "reasoning"], ...], tyro.conf.arg(metavar="KIND…")]


@dataclass(frozen=True)
class Instruct:
    """Let a language model write conversations, descriptions and reasoning about pictures from what their Samples say of them.

    Any OpenAI-compatible address will do. Replies are kept on disk; the same command goes on where it was stopped.
    """

    shards: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SHARDS")]
    """A shard or a folder of shards with captions or places. Samples about one picture follow each other in them."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder for part-*.parquet and report.json."""
    url: str
    """The address before /chat/completions."""
    model: str
    """The model's name there."""
    kinds: Kinds = ("conversation", "detail", "reasoning")
    """What to ask for, of every picture: some of conversation, detail, reasoning."""
    language: Literal["en", "zh", "same"] = "same"
    """English, Chinese, or that of the picture's Samples."""
    with_pictures: Flag = False
    """Send the pictures too; the model must take them."""
    limit: SomeOf = None
    """Stop after so many pictures."""
    key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. It may be unset for a server without keys."""
    concurrency: int = 8
    """Requests at work at the same time."""
    temperature: float = 0.7
    """Of sampling: 0 takes the likeliest word."""
    max_tokens: FromOne = 1024
    """Of one reply."""
    timeout: float = 120.0
    """Seconds that one try may take. Ctrl-C waits for the replies that are on their way; they are kept."""
    cache: OutFolder = None
    """Where replies are kept, by default in OUT/replies."""
    price_in: float = 0.0
    """Per million tokens sent, for the cost in the report."""
    price_out: float = 0.0
    """Per million tokens received."""
    max_cost: Number = None
    """Stop before more than this is spent, counted from this start on; requests at work are finished."""
    retry_failed: Flag = False
    """Ask again what failed in earlier runs."""
    seed: FromZero = 0


def instruct(options: Instruct) -> int:
    from rich.console import Console

    from qwenvl.cli.addresses import spent
    from qwenvl.cli.options import UsageError
    from qwenvl.config import validate
    from qwenvl.data.instruct.api import Api, ApiError, Usage
    from qwenvl.data.instruct.cache import Cache
    from qwenvl.data.instruct.run import InstructSpec, forget_failures
    from qwenvl.data.instruct.run import instruct as write
    from qwenvl.data.shards import ShardReader

    if options.concurrency < 1:
        raise UsageError(f"--concurrency {options.concurrency}: give 1 or more")
    for name in ("temperature", "price_in", "price_out", "max_cost", "timeout"):
        value, may_be_zero = getattr(options, name), name != "timeout"
        if value is not None and not (0 < value < inf or (value == 0 and may_be_zero)):
            hint = "give a number above 0" + (", or 0" if may_be_zero else "")
            raise UsageError(f"--{name.replace('_', '-')} {value:g}: {hint}")
    asked = {name: getattr(options, name) for name in ("kinds", "language", "with_pictures", "limit", "seed")}
    spec = validate(asked, InstructSpec, "options")
    api = Api(
        options.url, options.model, os.environ.get(options.key_env), options.temperature, options.max_tokens, options.timeout,
        max_cost=options.max_cost, cache=Cache(options.cache or options.out / "replies"),
        usage=Usage(options.price_in, options.price_out),
    )  # fmt: skip
    reader, unread = ShardReader(options.shards), list[str]()
    if options.retry_failed:
        forget_failures(options.out)
    samples = reader.readable(unread)
    try:
        with Console(stderr=True).status(f"asking {options.model}") as status:
            outcome = write(samples, options.out, spec, api, options.concurrency, lambda count: status.update(f"{count} pictures"))
    except (ApiError, KeyboardInterrupt):
        print(f"qwenvl: {spent(api)}; the same command goes on from there", file=sys.stderr)
        raise
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.samples.items()))
    print(f"{options.out}: {sum(outcome.samples.values())} samples ({kinds or 'none'}) about {outcome.pictures} pictures")
    print(spent(api))
    for name in ("refused", "failed", "passed_over"):
        counts = getattr(outcome, name)
        if counts:
            print(f"{name.replace('_', ' ')}: " + ", ".join(f"{reason} {count}" for reason, count in counts.most_common()))
    if unread:
        print(f"not read: {len(unread)}, the first: {unread[0]}")
    if not outcome.samples:
        print(f"qwenvl: {options.shards}: no conversation was written; the counts above say why", file=sys.stderr)
    return 0 if outcome.samples else 1
