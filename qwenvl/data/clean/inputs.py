"""Image-text pairs as they lie on disk: tables with addresses, paths or bytes, and webdataset tars, row by row as `Pair`s.

Layouts known by their column names:
- img2dataset (writer.py of rom1504/img2dataset @ 0eed081): tars of KEY.jpg, KEY.txt, KEY.json with `url` and `caption` in the json;
  Parquet with `jpg`, `txt`, `url`, `key`, where `jpg` is null if the download failed;
- metadata without pictures: `URL` and `TEXT` of LAION (dataset_examples/laion5B.md there), `url` and `text` of COYO (README of
  kakaobrain/coyo-dataset @ 6ae67f3) and DataComp (baselines/apply_filter.py of mlfoundations/datacomp @ 274dbee);
- `image` as {bytes, path}, which the `datasets` library writes.

Nothing is ever fetched. A row with an address and no picture, or with the path of none, counts as not fetched, unless the picture
lies beside the input file where `wget --force-directories` puts it: in a folder named after the host, under the address's path.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from qwenvl.data.clean.config import Columns, Dataset
from qwenvl.data.sources import READERS, Record, records
from qwenvl.types import QwenVLError

TEXT_COLUMNS = ("top_caption", "txt", "text", "caption", "captions", "alt", "alt_text")
"""In the order in which they count: LAION-COCO's synthetic caption before the web's `TEXT`, a tar's file before its metadata."""
URL_COLUMNS = ("url", "image_url", "image_urls")
KEY_COLUMNS = ("__key__", "key", "uid", "id")
IMAGE_COLUMNS = (
    "image", "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "img", "bytes", "image_bytes",
    "path", "image_path", "file", "file_name", "filename",
)  # fmt: skip
TABLES = (".parquet", ".csv", ".tsv", ".tar", ".jsonl", ".json")


class InputError(QwenVLError, ValueError):
    """Inputs that are not there, or have no column for the text or the picture."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One row. `image` is the picture's bytes or file, None where there is neither; `url` its address, if the row has one."""

    row: int
    key: str
    text: str
    image: bytes | Path | None
    url: str | None

    def content(self) -> bytes:
        """The picture's bytes. Raises OSError for a file that cannot be read, ValueError where there is no picture."""
        if self.image is None:
            raise ValueError("the row has no picture")
        return self.image if isinstance(self.image, bytes) else self.image.read_bytes()


def shard_files(dataset: Dataset) -> list[Path]:
    """The files of a dataset in the order in which they count as earlier and later: as given, each folder or pattern by name.

    What img2dataset writes about a shard is none itself: 00000.parquet beside 00000.tar, and 00000_stats.json (logger.py, there).
    Raises InputError where there is none.
    """
    if dataset.images and not Path(dataset.images).is_dir():
        raise InputError(f"{dataset.images}: no folder that paths of pictures could start from; check images")
    found: dict[Path, None] = {}
    for given in dataset.inputs:
        path = Path(given)
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in TABLES and not file.name.startswith("."))
        else:
            files = [path] if path.exists() else [Path(name) for name in sorted(glob.glob(given))]
        if not files:
            raise InputError(f"{given}: no such file, or a folder without {', '.join(TABLES)} files; check the path")
        found |= dict.fromkeys(files)
    stems = {file.with_suffix("") for file in found if file.suffix.lower() in (".tar", ".parquet")}
    tars = {file.with_suffix("") for file in found if file.suffix.lower() == ".tar"}
    beside = {stem.with_suffix(".parquet") for stem in tars} | {stem.with_name(f"{stem.name}_stats.json") for stem in stems}
    kept = [file for file in found if file not in beside]
    if unknown := [file for file in kept if file.suffix.lower() not in READERS]:
        raise InputError(f"{unknown[0]}: not a kind of file that is read; give {', '.join(TABLES)}")
    return kept


def pairs(path: Path, dataset: Dataset) -> Iterator[Pair]:
    """The rows of one shard. Raises InputError for a file without the needed columns, SourceError for a damaged one."""
    folder = Path(dataset.images) if dataset.images else path.parent
    is_tar = path.suffix.lower() == ".tar"
    for row, record in enumerate(records(path)):
        fields = {name.lower(): value for name, value in (_with_metadata(record) if is_tar else record).items()}
        if not row and not is_tar:
            _check_columns(fields, dataset.columns, path)
        yield _pair(row, fields, dataset.columns, folder)


def _pair(row: int, fields: Mapping[str, Any], columns: Columns, folder: Path) -> Pair:
    text = _first(fields, columns.text, TEXT_COLUMNS)
    url = _first(fields, columns.url, URL_COLUMNS)
    url = url if isinstance(url, str) else None
    image = _image(_first(fields, columns.image, IMAGE_COLUMNS), folder)
    if url and not isinstance(image, bytes) and not _is_file(image):
        image = _saved(url, folder)
    key = _first(fields, columns.key, KEY_COLUMNS)
    return Pair(row, _text(row if key is None else key), _text(text), image, None if url is None else _text(url))


def _first(fields: Mapping[str, Any], given: str | None, known: Sequence[str]) -> Any:
    """The value of the column that was named, else of the first known one that has any."""
    if given is not None:
        return fields.get(given.lower())
    return next((value for name in known if (value := fields.get(name)) not in (None, "")), None)


def _check_columns(fields: Mapping[str, Any], columns: Columns, path: Path) -> None:
    there = ", ".join(fields)
    for given in (columns.text, columns.image, columns.url, columns.key):
        if given is not None and given.lower() not in fields:
            raise InputError(f"{path}: no column {given!r}; it has {there}")
    if columns.text is None and not fields.keys() & set(TEXT_COLUMNS):
        raise InputError(f"{path}: which column is the text? It has {there}; name one (columns.text)")
    if not (columns.image or columns.url) and not fields.keys() & {*IMAGE_COLUMNS, *URL_COLUMNS}:
        raise InputError(f"{path}: which column is the picture? It has {there}; name one (columns.image)")


def _with_metadata(record: Record) -> Record:
    """A webdataset record with the fields of its .json beside its files, of which the picture is one, whatever the .json says.

    Metadata that cannot be read are left out.
    """
    try:
        metadata = json.loads(record.get("json") or "{}")
    except ValueError:
        metadata = {}
    known = metadata if isinstance(metadata, dict) else {}
    return {name: value for name, value in known.items() if name.lower() not in IMAGE_COLUMNS} | record


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    # Half of a character, as JSON has it where a text was cut in an emoji, cannot be written: it becomes the sign for that, U+FFFD.
    return "" if value is None else str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _image(value: Any, folder: Path) -> bytes | Path | None:
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        return folder / value
    return value if isinstance(value, bytes) else None


def _saved(url: str, folder: Path) -> Path | None:
    """The file that `wget --force-directories` has made of an address, if it is there."""
    try:
        address = urlsplit(url)
    except ValueError:
        return None
    parts = PurePosixPath(unquote(address.path)).parts[1:]
    if not address.hostname or not parts or ".." in parts or "\0" in address.path:
        return None
    path = folder.joinpath(address.hostname, *parts)
    return path if _is_file(path) else None


def _is_file(path: Path | None) -> bool:
    try:
        return path is not None and path.is_file()
    except OSError:  # the name is too long, as addresses may be
        return False
