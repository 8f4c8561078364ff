"""Self-instruction: shards of Samples in, shards of conversations that a language model wrote about their pictures out.

Pictures are taken in blocks, each of which becomes one shard with its counts beside it (part-00000.json). A run that was stopped
goes on with the first block that has no shard, and what was asked before comes from the cache; so the outcome does not depend on
where it stopped. Section 3.3 of arXiv 2308.12966 names the step; the form of it is ours (see prompts.yaml).
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import Field

from qwenvl.config import ConfigError, Count, Strict
from qwenvl.data.instruct.api import Api, RequestFailed
from qwenvl.data.instruct.prompts import KINDS, Kind, has_facts, questions, request
from qwenvl.data.instruct.replies import Exchange, check_turns, read_turns
from qwenvl.data.shards import write_shard
from qwenvl.data.shown import Shown, gather
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import plain
from qwenvl.processing.image import ImageError
from qwenvl.runtime import atomic_write, make_folder
from qwenvl.types import Message, Sample

SOURCE = "instruct"
_AHEAD = 2
"""Requests waiting for each one at work."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class InstructSpec(Strict):
    """What is asked about each picture."""

    kinds: tuple[Kind, ...] = Field(default=KINDS, min_length=1)
    language: Literal["en", "zh", "same"] = "same"
    """Of the conversations: that of the picture's Samples, or always this one."""
    with_pictures: bool = False
    """Send the pictures too, to a model that sees."""
    limit: Count | None = None
    """Pictures at most."""
    block: Count = 256
    """Pictures that become one shard."""
    seed: int = 0
    """Of the questions that we put ourselves."""


@dataclass(slots=True)
class Outcome:
    """What became of the requests: Samples by kind, exchanges, and by reason what was refused, failed or passed over."""

    pictures: int = 0
    samples: Counter[str] = field(default_factory=Counter)
    exchanges: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)

    def add(self, other: Outcome) -> None:
        self.pictures += other.pictures
        self.exchanges += other.exchanges
        for name in ("samples", "refused", "failed", "passed_over"):
            getattr(self, name).update(getattr(other, name))

    def as_json(self) -> dict[str, Any]:
        counts = {name: dict(sorted(getattr(self, name).items())) for name in ("samples", "refused", "failed", "passed_over")}
        return {"pictures": self.pictures, "exchanges": self.exchanges, **counts}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Outcome:
        counts = {name: Counter(stored[name]) for name in ("samples", "refused", "failed", "passed_over")}
        return cls(stored["pictures"], exchanges=stored["exchanges"], **counts)


def instruct(
    samples: Iterable[Sample],
    out: Path,
    spec: InstructSpec,
    api: Api,
    workers: int = 8,
    progress: Callable[[int], None] = lambda pictures: None,
) -> Outcome:
    """Write the conversations of all blocks that have no shard yet, and report.json over all blocks.

    Raises ApiError where nothing more can be asked: the blocks before are written, and the same call goes on there. Raises
    ConfigError for a folder that another run's shards are in.
    """
    total = Outcome()
    pictures = islice(gather(samples, total.passed_over), spec.limit)
    make_folder(out)
    asked = {"model": api.model, "temperature": api.temperature, "max_tokens": api.max_tokens}
    _check_same_run(out / "run.json", {**spec.model_dump(mode="json"), **asked})
    with ThreadPoolExecutor(workers) as pool, _no_more_tries(api):
        for number in range(2**31):
            block = list(islice(pictures, spec.block))
            if not block:
                break
            shard = out / f"part-{number:05d}.parquet"
            about = shard.with_suffix(".json")
            if shard.exists() and about.exists():
                stored = json.loads(about.read_text(encoding="utf-8"))
                if stored["first"] != block[0].name:
                    raise ConfigError(f"{shard}: begins with {stored['first']}, not {block[0].name}; give another folder")
                total.add(Outcome.from_json(stored))
            else:
                made = _block(block, number * spec.block, spec, api, pool, workers, shard)
                _write(about, {"first": block[0].name, **made.as_json()})
                total.add(made)
            progress(total.pictures)
    _write(out / "report.json", {"model": api.model, **total.as_json(), "usage": api.usage.as_json()})
    return total


@contextmanager
def _no_more_tries(api: Api) -> Iterator[None]:
    """What ends the run waits for the requests at work, whose replies are paid for, but tries none of them again."""
    api.stopped.clear()
    try:
        yield
    finally:
        api.stopped.set()


def _check_same_run(path: Path, settings: dict[str, Any]) -> None:
    if not path.exists():
        if other := next(path.parent.glob("part-*"), None):
            raise ConfigError(f"{other}: is of no run of `qwenvl data instruct`; give another folder")
        _write(path, settings)
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    changed = [name for name in settings if settings[name] != stored.get(name)]
    if changed:
        name = changed[0]
        raise ConfigError(f"{path.parent}: begun with {name} {stored.get(name)}, not {settings[name]}; give another folder")


def forget_failures(out: Path) -> int:
    """Delete the shards of blocks in which requests failed, so that the next run asks again; return how many."""
    count = 0
    for about in sorted(out.glob("part-*.json")):
        if json.loads(about.read_text(encoding="utf-8"))["failed"]:
            about.with_suffix(".parquet").unlink(missing_ok=True)
            about.unlink()
            count += 1
    return count


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _block(
    block: Sequence[Shown], first: int, spec: InstructSpec, api: Api, pool: ThreadPoolExecutor, workers: int, shard: Path
) -> Outcome:
    outcome = Outcome(pictures=len(block))
    jobs = []
    for number, shown in enumerate(block, start=first):
        if has_facts(shown):
            jobs += [(shown, kind, number) for kind in spec.kinds]
        else:
            outcome.passed_over["too little is said of it"] += 1
    written = []
    for sample, part in in_order(pool, lambda job: one(*job, spec, api), jobs, workers * _AHEAD):
        outcome.add(part)
        written += [sample] if sample is not None else []
    write_shard(shard, written)
    return outcome


def in_order(pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Results in the order of the items, at most `ahead` of them begun. What one raises ends all; those not begun are dropped."""
    waiting: deque[Future[Result]] = deque()
    source = iter(items)
    try:
        while True:
            for item in islice(source, ahead - len(waiting)):
                waiting.append(pool.submit(work, item))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def one(shown: Shown, kind: Kind, number: int, spec: InstructSpec, api: Api) -> tuple[Sample | None, Outcome]:
    """One request about picture `number`, and the Sample made of the reply, None where nothing of it can be used."""
    outcome = Outcome()
    language: Language = shown.language if spec.language == "same" else spec.language
    try:
        reply = api.ask(request(shown, kind, language, spec.with_pictures))
    except RequestFailed as error:
        outcome.failed[error.reason] += 1
        return None, outcome
    except ImageError:
        outcome.failed["a picture that cannot be opened"] += 1
        return None, outcome
    ours = questions(kind, language)
    if ours:
        rng = np.random.default_rng((spec.seed, number))
        said = reply.text.strip() if reply.finished else ""
        turns = [(ours[int(rng.integers(len(ours) - 1))], said)] if said else []
    else:
        turns = read_turns(reply.text, reply.finished)
    if not turns:
        outcome.refused["no question and answer in it" if reply.finished else "cut off"] += 1
        return None, outcome
    exchanges, reason = check_turns(turns, shown.things, language)
    if reason is not None:
        outcome.refused[reason] += 1
    outcome.exchanges = len(exchanges)
    if not exchanges:
        return None, outcome
    outcome.samples[kind] += 1
    return _sample(shown, kind, language, exchanges, api.model), outcome


def _sample(shown: Shown, kind: Kind, language: Language, exchanges: Sequence[Exchange], model: str) -> Sample:
    messages: list[Message] = []
    for exchange in exchanges:
        before = () if messages else (shown.picture,)
        messages += [Message("user", (*before, *exchange.question)), Message("assistant", exchange.answer)]
    turns = [{"kind": kind, "question": plain(turn.question), "answer": plain(turn.answer)} for turn in exchanges]
    extra = {"kind": kind, "turns": turns, "written_by": model, "about": shown.name}
    return Sample(tuple(messages), f"{shown.name} {kind}", f"instruct_{kind}", language, SOURCE, extra)
