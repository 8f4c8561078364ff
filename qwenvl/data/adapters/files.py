"""Finding what a dataset is distributed as: annotation files by their names, pictures and videos by where archives put them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from qwenvl.data.sources import BadSample, Record, SourceError, records
from qwenvl.types import VideoPart

CLIPS = (".mp4", ".mkv", ".webm", ".avi", ".mov")
"""Suffixes of videos where annotations name them without."""


def find(folder: Path, *patterns: str) -> list[Path]:
    """The files of a folder that match the first pattern that any does, sorted. Raises SourceError where none does."""
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if found:
            return found
    raise SourceError(f"{folder}: no {' or '.join(patterns)} there; give the folder that the files were unpacked into")


def whole(path: Path) -> Record:
    """A JSON file that is one object. Raises SourceError."""
    for record in records(path):
        return record
    raise SourceError(f"{path}: empty; fetch it again")


def rows(path: Path, key: str) -> list[Record]:
    """The list of records under a key of a JSON file. Raises SourceError."""
    found = whole(path).get(key)
    if not isinstance(found, list):
        raise SourceError(f"{path}: has no list {key!r}; give the file as it is distributed")
    return found


def picture(root: Path, *names: str, id: str, what: str = "picture") -> str:
    """The path of the first of these files under `root` that is there. Raises BadSample naming them and `what` they are."""
    for name in names:
        with suppress(OSError):  # the name is too long
            if (root / name).is_file():
                return str(root / name)
    shown = " or ".join(name if len(name) <= 200 else f"{name[:200]}..." for name in names)
    raise BadSample(id, f"its {what} is not there: {shown} under {root}")


def clip(root: Path, *stems: str, id: str) -> VideoPart:
    """The video of one of these names without suffix, in `root` or a folder in it. Raises BadSample naming them."""
    for stem in stems:
        for folder in (root, *_folders(root)):
            for suffix in CLIPS:
                if (found := folder / f"{stem}{suffix}").is_file():
                    return VideoPart(str(found))
    raise BadSample(id, f"its video is not there: {' or '.join(stems)} ({', '.join(CLIPS)}) in {root} or a folder in it")


def anywhere(root: Path, name: str, id: str) -> str:
    """The picture of this name, in `root` or a folder in it. Raises BadSample."""
    return picture(root, name, *(f"{folder.name}/{name}" for folder in _folders(root)), id=id)


@lru_cache(maxsize=64)
def _folders(root: Path) -> tuple[Path, ...]:
    """Kept: a folder may hold a hundred thousand files, and is asked for each."""
    return tuple(sorted(path for path in root.iterdir() if path.is_dir())) if root.is_dir() else ()


def joined(left: Sequence[Record], right: Sequence[Record], key: str, names: tuple[str, str]) -> Iterator[Record]:
    """Records of both lists that agree in a key, as {names[0]: left, names[1]: right}; `right` has one record for each key.

    What has no partner comes alone, for the adapter to refuse.
    """
    partners = {record.get(key): record for record in right}
    for record in left:
        partner = partners.get(record.get(key))
        yield {names[0]: record} | ({names[1]: partner} if partner is not None else {})


def decoded(value: Any) -> Any:
    """A member of a tar (bytes) as text."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def as_mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object that is still text or bytes, or already a mapping. Raises ValueError."""
    value = json.loads(value) if isinstance(value, str | bytes) else value
    if not isinstance(value, Mapping):
        raise ValueError(f"a {type(value).__name__} where an object is expected")
    return value
