"""One shard through the rules that look at one row alone: a table of verdicts, with every statistic that was taken.

The table says for each row which rule drops it (an empty verdict: none so far) and which others would; it holds the clean text and
what later finds duplicates, and no pictures. It is a pure function of the shard and the rules.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl.data.clean.config import BROKEN, NOT_FETCHED, SCORE, Dataset
from qwenvl.data.clean.images import decode, perceptual_hash, size_of
from qwenvl.data.clean.inputs import InputError, Pair, pairs
from qwenvl.data.clean.rules import Rule
from qwenvl.data.clean.scorers import BATCH, Scorer
from qwenvl.data.clean.state import ROW_BITS
from qwenvl.data.clean.text import TextCleaner, compared, language_of
from qwenvl.data.shards import arrow
from qwenvl.data.sources import SourceError
from qwenvl.processing.image import ImageError

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image


@dataclass(slots=True)
class Row:
    """What is known of a row. Statistics stay None where an earlier rule made them needless."""

    place: int
    verdict: str = ""
    failed: list[str] = field(default_factory=list)
    """Every rule of the stage (text, size, ...) at which the row was dropped; the first of them is the verdict."""
    reason: str = ""
    """The statistic of the verdict, or why a picture could not be read."""
    changed: list[str] = field(default_factory=list)
    """What has changed the text: `html`, or names of irregular patterns."""
    text: str | None = None
    """The clean text, of rows that no rule has dropped."""
    language: str | None = None
    text_length: int | None = None
    """Characters of the clean text."""
    width: int | None = None
    height: int | None = None
    score: float | None = None
    image_key: str | None = None
    """The first 32 hexadecimal digits of the file's SHA-256. Not binary: daft 0.7.26 joins binary columns wrongly."""
    image_hash: int | None = None
    text_key: str | None = None
    """The same of the clean text."""
    compared: str | None = None
    """The text as near duplicates compare it."""

    def drop(self, failed: dict[str, str]) -> bool:
        """Take the verdict from the rules that failed, in their order, with their reasons; return whether there was any."""
        if failed:
            self.failed = list(failed)
            self.verdict = self.failed[0]
            self.reason = failed[self.verdict]
            self.text = self.compared = None
        return bool(failed)


class Examiner:
    """The rules of one dataset, ready for use. `scorer` is asked where there is one, whether or not a rule judges by it."""

    def __init__(self, dataset: Dataset, scorer: Scorer | None = None) -> None:
        self.dataset = dataset
        self.rules = dataset.ruleset()
        self.scorer = scorer
        self._cleaner = TextCleaner(self.rules.html, self.rules.irregular)
        self._text_rules = list(self.rules.text_rules.items())
        self._size_rules = list(self.rules.size_rules.items())
        length = self.rules.text_length
        self._longest = 20 * length.max_characters if length else None

    def rows(self, path: Path, shard: int) -> Iterator[Row]:
        """Every row of a shard in order. Raises SourceError where the file is damaged, after the rows before the damage."""
        waiting: list[tuple[Row, Image | None]] = []
        scoring = 0
        try:
            for pair in pairs(path, self.dataset):
                if pair.row >> ROW_BITS:
                    raise InputError(f"{path}: more than {1 << ROW_BITS} rows; split the file")
                row = Row(shard << ROW_BITS | pair.row)
                picture = self.look(pair, row)
                waiting.append((row, picture))
                scoring += picture is not None
                if self.scorer is None or scoring == BATCH:
                    yield from self._scored(waiting)
                    waiting, scoring = [], 0
        except SourceError:
            yield from self._scored(waiting)
            raise
        yield from self._scored(waiting)

    def look(self, pair: Pair, row: Row) -> Image | None:
        """Judge text and picture of one pair; the picture, if a scorer still has to see it."""
        if pair.image is None and pair.url is not None:
            row.drop({NOT_FETCHED: pair.url})
            return None
        if not self.judge_text(pair.text, row):
            return None
        picture = self._judge_picture(pair, row)
        if picture is None:
            return None
        row.text_key = hashlib.sha256((row.text or "").encode()).hexdigest()[:32]
        row.compared = compared(row.text or "")
        return picture if self.scorer is not None else None

    def judge_text(self, raw: str, row: Row) -> bool:
        """Clean the text and put it to its rules; whether it may stay."""
        if self._longest is not None and len(raw) > self._longest:
            # Not worth cleaning: patterns take their time, and no cleaning makes it short enough.
            return not row.drop({"text_length": f"{len(raw)} characters"})
        text, changed = self._cleaner.clean(raw)
        row.text, row.changed = text, list(changed)
        row.language = language_of(text)
        row.text_length = len(text)
        return not row.drop(failures(self._text_rules, text))

    def _judge_picture(self, pair: Pair, row: Row) -> Image | None:
        """The header is read first; only a picture of a good size and shape is decoded, once."""
        try:
            content = pair.content()
            row.width, row.height = size = size_of(content)
            if row.drop(failures(self._size_rules, size)):
                return None
            picture = decode(content)
        except (ImageError, OSError, ValueError) as error:
            row.drop({BROKEN: str(error) or type(error).__name__})
            return None
        row.image_key = hashlib.sha256(content).hexdigest()[:32]
        row.image_hash = perceptual_hash(picture)
        return picture

    def _scored(self, waiting: list[tuple[Row, Image | None]]) -> Iterator[Row]:
        asked = [(row, picture) for row, picture in waiting if picture is not None]
        if self.scorer is not None and asked:
            scores = self.scorer.score([picture for _, picture in asked], [row.text or "" for row, _ in asked])
            rule = self.rules.image_text_score
            for (row, _), score in zip(asked, scores, strict=True):
                row.score = float(score) if math.isfinite(score) else None
                if rule is not None and rule.drops(score):
                    row.drop({SCORE: rule.in_words(score)})
        yield from (row for row, _ in waiting)


def failures(rules: Sequence[tuple[str, Rule]], value: Any) -> dict[str, str]:
    """The rules that drop a value, with what they say of it."""
    statistics = [(name, rule, rule.statistic(value)) for name, rule in rules]
    return {name: rule.in_words(statistic) for name, rule, statistic in statistics if rule.drops(statistic)}


def schema() -> pa.Schema:
    pa = arrow()
    kinds = {
        "place": pa.int64(), "verdict": pa.string(), "failed": pa.list_(pa.string()), "reason": pa.string(),
        "changed": pa.list_(pa.string()), "text": pa.string(), "language": pa.string(), "text_length": pa.int32(),
        "width": pa.int32(), "height": pa.int32(), "score": pa.float32(), "image_key": pa.string(), "image_hash": pa.uint64(),
        "text_key": pa.string(), "compared": pa.string(),
    }  # fmt: skip
    return pa.schema([(item.name, kinds[item.name]) for item in fields(Row)])


def examine_shard(path: Path, shard: int, examiner: Examiner, out: Path) -> None:
    """Write the table of verdicts of a shard, whole or not at all. A file that is damaged keeps the rows before the damage.

    The damage is noted in the file's metadata under `damage`. Raises InputError for a file without the needed columns.
    """
    from qwenvl.runtime import atomic_write

    pa = arrow()
    columns: dict[str, list[Any]] = {item.name: [] for item in fields(Row)}
    damage = ""
    try:
        for row in examiner.rows(path, shard):
            for name, values in columns.items():
                values.append(getattr(row, name))
    except SourceError as error:
        damage = str(error)
    table = pa.table(columns, schema=schema().with_metadata({"damage": damage}))
    with atomic_write(out) as temporary:
        pa.parquet.write_table(table, temporary, compression="zstd")
