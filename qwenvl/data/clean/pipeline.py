"""A cleaning run, by daft: embedded in this process, or on a Ray cluster, with the same outcome.

    1. every shard is put to the rules that look at one row (examine.py): state/verdicts/000000.parquet, ...
    2. duplicates are looked for among all rows that are left, rule by rule (duplicates.py): state/duplicates/DATASET-RULE.parquet
    3. every shard is read again, and the rows that stay are written: DATASET/part-00000.parquet, ..., one for each input file
    4. the report: report.html, report.json (report.py)

Each file is written whole or not at all and depends on nothing but the inputs and the settings, so a run that was killed goes on
from the files that are there, in any order and on any number of workers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl.data import formats
from qwenvl.data.clean.config import CleanConfig, Dataset, Duplicates
from qwenvl.data.clean.duplicates import COLUMNS, find_duplicates
from qwenvl.data.clean.engine import Engine, Work, on_workers, started
from qwenvl.data.clean.examine import Examiner, examine_shard
from qwenvl.data.clean.inputs import Pair, pairs
from qwenvl.data.clean.report import write_report
from qwenvl.data.clean.scorers import ScorerFactory
from qwenvl.data.clean.state import CleanError, Run, Shard, open_run
from qwenvl.data.shards import arrow, write_shard
from qwenvl.runtime import atomic_write
from qwenvl.types import Sample

if TYPE_CHECKING:
    import daft

Watch = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows progress: `with watch("reading", 12) as advance:`, then `advance(1)` after each of the 12."""

KEPT_COLUMNS = ("place", "verdict", "text", "language", "score")


def clean(
    config: CleanConfig, folder: Path, engine: Engine, make_scorer: ScorerFactory | None = None, watch: Watch | None = None
) -> dict[str, Any]:
    """Clean the datasets of `config` into `folder`, or go on with the run that was begun there; return the report's data.

    Raises QwenVLErrors of one line for settings, inputs or packages that will not do. Broken pictures and damaged files are no
    errors: they are counted and named in the report.
    """
    watch = watch or (lambda title, total: nullcontext(lambda count: None))
    with open_run(config, folder) as run, started(engine):
        unread = [shard.number for shard in run.shards if not run.verdicts(shard).exists()]
        _on_shards(functools.partial(_examining, run, make_scorer), unread, engine, watch, "rules")
        _find_all_duplicates(run, watch)
        unwritten = [shard.number for shard in run.shards if not shard.out.exists()]
        _on_shards(functools.partial(_writing, run), unwritten, engine, watch, "writing")
        return write_report(run)


def _on_shards(make: Callable[[], Work], numbers: Sequence[int], engine: Engine, watch: Watch, title: str) -> None:
    with watch(title, len(numbers)) as advance:
        for _ in on_workers(make, numbers, engine):
            advance(1)


def _examining(run: Run, make_scorer: ScorerFactory | None) -> Work:
    """Step 1, in a worker. The scorer is made once; rules are made ready for each dataset as it comes."""
    scorer = make_scorer() if make_scorer is not None else None
    examiner = functools.cache(
        lambda name: Examiner(next(dataset for dataset in run.config.datasets if dataset.name == name), scorer)
    )

    def work(number: int) -> None:
        shard = run.shards[number]
        examine_shard(shard.file, number, examiner(shard.dataset.name), run.verdicts(shard))

    return work


def _find_all_duplicates(run: Run, watch: Watch) -> None:
    """Step 2: the rules within each dataset, then those across, each among the rows that the earlier ones have left."""
    todo: list[tuple[Dataset | None, Duplicates]] = [
        (dataset, rule) for dataset in run.config.datasets for rule in dataset.ruleset().duplicates
    ]
    todo += [(None, rule) for rule in run.config.across]
    with watch("duplicates", len(todo)) as advance:
        for dataset, rule in todo:
            out = run.duplicates(dataset, rule)
            if not out.exists():
                found = find_duplicates(_rows_left(run, dataset, rule), rule)
                with atomic_write(out) as temporary:
                    arrow().parquet.write_table(found, temporary)
            advance(1)


def _rows_left(run: Run, dataset: Dataset | None, rule: Duplicates) -> daft.DataFrame:
    """The rows that a rule of duplicates looks at: those that no rule before it has dropped."""
    import daft

    col: Any = daft.col
    datasets = [dataset] if dataset else run.config.datasets
    files = [str(run.verdicts(shard)) for one in datasets for shard in run.of(one)]
    rows = daft.read_parquet(files).where(col("verdict") == "").select(*COLUMNS)
    earlier: dict[Path, None] = {}
    for one in datasets:
        for name, file in run.duplicate_files(one).items():
            if name == rule.name:
                break
            earlier[file] = None
    for file in earlier:
        rows = rows.join(daft.read_parquet(str(file)).select("place"), on="place", how="anti")
    return rows


def _writing(run: Run) -> Work:
    """Step 3, in a worker."""

    def work(number: int) -> None:
        shard = run.shards[number]
        write_shard(shard.out, kept_samples(run, shard))

    return work


def kept_samples(run: Run, shard: Shard) -> Iterator[Sample]:
    """The rows of a shard that no rule has dropped, as captions."""
    doubles = run.doubles(shard)
    rows = arrow().parquet.read_table(run.verdicts(shard), columns=list(KEPT_COLUMNS)).to_pylist()
    # The table first: a damaged file has no more rows than it, and must not be read past them.
    for row, pair in zip(rows, pairs(shard.file, shard.dataset), strict=False):
        if not row["verdict"] and row["place"] not in doubles:
            yield caption_sample(shard, pair, row)


def caption_sample(shard: Shard, pair: Pair, row: dict[str, Any]) -> Sample:
    """One pair that stays. The picture's bytes are passed on as they are. Raises CleanError for a picture that is gone by now."""
    extra = {name: value for name, value in (("url", pair.url), ("score", row["score"])) if value is not None}
    try:
        content = pair.content()
    except (OSError, ValueError) as error:
        raise CleanError(f"{shard.file}: the picture of {pair.key} is gone ({error}); put it back, or begin anew") from error
    return Sample(
        formats.caption(content, row["text"], row["language"]),
        id=f"{shard.dataset.name}/{shard.file.stem}/{pair.key}", task="caption", language=row["language"],
        source=shard.dataset.name, extra=extra,
    )  # fmt: skip
