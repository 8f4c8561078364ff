"""Samples in Parquet files: written whole or not at all, read in any order without reading all.

A folder holds `part-00000.parquet`, `part-00001.parquet`, …; the schema is that of data/record.py. Rows lie in small groups, the
unit that is read at once; a file's footer knows how many there are, so opening a thousand shards reads a thousand footers.
"""

from __future__ import annotations

import bisect
import errno
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qwenvl.data.record import RecordError, record_to_sample, sample_to_record
from qwenvl.processing.image import ImageError, picture_size
from qwenvl.runtime import atomic_write, make_folder
from qwenvl.types import QwenVLError, Sample

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_SHARD = 4096
ROWS_PER_GROUP = 64
LONG: dict[str, Any] = {"rows_per_shard": 64, "rows_per_group": 4}
"""For samples of megabytes: a writer keeps a shard of them in memory, a reader some groups."""
GROUPS_KEPT = 16
"""Row groups that a reader keeps decoded."""


class ShardError(QwenVLError, ValueError):
    """Shards that are missing, unreadable or of another schema; or pyarrow is not installed."""


def arrow() -> Any:
    """pyarrow, or one line that says how to get it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ShardError("Parquet files need pyarrow: pip install 'qwenvl[data]'") from None
    return pyarrow


def schema() -> pa.Schema:
    """Columns of a shard; pictures carry what the `datasets` library needs to show them as pictures."""
    import json

    pa = arrow()
    media = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    fields = [
        *((name, pa.string()) for name in ("id", "task", "language", "source", "messages")),
        ("images", media), ("image_sizes", pa.list_(pa.list_(pa.int32()))), ("videos", media), ("extra", pa.string()),
    ]  # fmt: skip
    # Without this key `datasets` (5.2.0) shows pictures as bytes. It writes the same one: src/datasets/features/features.py,
    # `Features.arrow_schema`, huggingface/datasets @ 42c11f5.
    features: dict[str, Any] = {name: {"dtype": "string", "_type": "Value"} for name, kind in fields if kind == pa.string()}
    features["images"] = {"feature": {"_type": "Image"}, "_type": "List"}
    features["image_sizes"] = {"feature": {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"}, "_type": "List"}
    plain = {"bytes": {"dtype": "binary", "_type": "Value"}, "path": {"dtype": "string", "_type": "Value"}}
    features["videos"] = {"feature": plain, "_type": "List"}
    ordered = {name: features[name] for name, _ in fields}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": ordered}})})


def write_shard(path: str | Path, samples: Iterable[Sample], embed: bool = True, rows_per_group: int = ROWS_PER_GROUP) -> int:
    """Write one Parquet file of Samples, whole or not at all, group by group; return how many there were.

    `embed`: pictures and videos are stored in it; otherwise their paths are.
    """
    pa = arrow()
    count, rows = 0, []
    with atomic_write(path) as temporary, pa.parquet.ParquetWriter(temporary, schema(), compression="zstd") as writer:
        for sample in samples:
            rows.append(sample_to_record(sample, embed))
            if len(rows) == rows_per_group:
                writer.write_table(pa.Table.from_pylist(rows, schema()), row_group_size=rows_per_group)
                count, rows = count + len(rows), []
        if rows or not count:
            writer.write_table(pa.Table.from_pylist(rows, schema()), row_group_size=rows_per_group)
    return count + len(rows)


class ShardWriter:
    """Samples to numbered shards of a folder: `with ShardWriter(folder) as writer: writer.add(sample)`.

    A shard appears when it is full, the last one when the block ends well; a block that ends badly leaves the full ones, and one
    that adds nothing no shard. `first` numbers the first shard, for a run that goes on. Raises ShardError where a shard of that
    number is there already, OSError where the folder cannot be written, both before anything is made for it.
    """

    def __init__(
        self,
        folder: str | Path,
        rows_per_shard: int = ROWS_PER_SHARD,
        embed: bool = True,
        first: int = 0,
        rows_per_group: int = ROWS_PER_GROUP,
    ) -> None:
        self.folder, self.rows_per_shard, self.embed, self.rows_per_group = Path(folder), rows_per_shard, embed, rows_per_group
        self.shard, self.written = first, 0
        self._waiting: list[Sample] = []

    def __enter__(self) -> ShardWriter:
        self._check_free()
        make_folder(self.folder)
        if not os.access(self.folder, os.W_OK):
            raise PermissionError(errno.EACCES, "cannot be written to; give another folder", str(self.folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._waiting:
            self._flush()

    def add(self, sample: Sample) -> None:
        self._waiting.append(sample)
        if len(self._waiting) == self.rows_per_shard:
            self._flush()

    def _flush(self) -> None:
        self._check_free()
        self.written += write_shard(self._path(), self._waiting, self.embed, self.rows_per_group)
        self.shard += 1
        self._waiting = []

    def _path(self) -> Path:
        return self.folder / f"part-{self.shard:05d}.parquet"

    def _check_free(self) -> None:
        if self._path().exists():
            raise ShardError(f"{self._path()}: there already; delete the folder's shards or give another folder")


class ShardReader:
    """Samples of a Parquet file, a folder of them, or several. Sample i is the i-th of all in the order of file names.

    Raises ShardError where there is none, or one is not of the schema.
    """

    def __init__(self, *paths: str | Path, groups_kept: int = GROUPS_KEPT) -> None:
        self.files = [file for path in paths for file in _parquet_files(Path(path))]
        self.group_rows: list[int] = []
        self._groups: list[tuple[int, int]] = []
        for number, file in enumerate(self.files):
            footer = _footer(file)
            for group in range(footer.num_row_groups):
                self.group_rows.append(footer.row_group(group).num_rows)
                self._groups.append((number, group))
        self._starts = [0]
        for rows in self.group_rows:
            self._starts.append(self._starts[-1] + rows)
        self._kept: OrderedDict[int, list[dict[str, Any]]] = OrderedDict()
        self._groups_kept = groups_kept

    def __len__(self) -> int:
        return self._starts[-1]

    def sample(self, index: int) -> Sample:
        """Raises IndexError past the end, ShardError for a damaged file, RecordError for a record that is no Sample."""
        return record_to_sample(self.record(index))

    def readable(self, refused: list[str]) -> Iterator[Sample]:
        """All samples in order. What is no Sample, or has a picture whose header cannot be read, is named in `refused` instead."""
        for index in range(len(self)):
            try:
                sample = self.sample(index)
                for part in sample.images:
                    picture_size(part.image)
            except RecordError as error:
                refused.append(str(error))
            except ImageError as error:
                refused.append(f"sample {sample.id!r}: {error}")
            else:
                yield sample

    def record(self, index: int) -> Mapping[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index}: there are {len(self)}")
        group = bisect.bisect_right(self._starts, index) - 1
        return self._rows(group)[index - self._starts[group]]

    def _rows(self, group: int) -> list[dict[str, Any]]:
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        number, inside = self._groups[group]
        file = self.files[number]
        try:
            with arrow().parquet.ParquetFile(file) as opened:
                rows = opened.read_row_group(inside).to_pylist()
        except Exception as error:  # pyarrow has many classes for damage
            raise ShardError(f"{file}: row group {inside} is damaged ({_first_line(error)}); make the shard again") from error
        self._kept[group] = rows
        while len(self._kept) > self._groups_kept:
            self._kept.popitem(last=False)
        return rows


def _parquet_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    # A dot begins the name of what is still being written, and of what macOS leaves beside copied files.
    found = sorted(file for file in path.glob("*.parquet") if not file.name.startswith(".")) if path.is_dir() else []
    if not found:
        raise ShardError(f"{path}: no Parquet file there; give a shard or a folder of part-*.parquet")
    return found


def _footer(file: Path) -> Any:
    try:
        footer = arrow().parquet.read_metadata(file)
    except ShardError:
        raise
    except Exception as error:
        raise ShardError(f"{file}: not a readable Parquet file ({_first_line(error)}); make the shard again") from error
    columns = set(footer.schema.to_arrow_schema().names)
    if missing := {"id", "messages", "images"} - columns:
        raise ShardError(f"{file}: no column {', '.join(sorted(missing))}: not Samples; `qwenvl data convert` makes them")
    return footer


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
