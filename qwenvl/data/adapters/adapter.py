"""What an adapter is: a published schema, how its files are read, and how a record becomes Samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwenvl.data.adapters.frames import Box, Convention
from qwenvl.data.sources import BadSample, Record
from qwenvl.types import QwenVLError, Sample


@dataclass(frozen=True, slots=True)
class Adapter:
    """One published schema.

    `files` is how it is distributed; `source` where its schema was read, as public repository @ commit and file or as a page.
    `read` gives the records of a folder of those files, joined where a record lies in several; `from_record` the Samples of one.
    `boxes` gives the boxes of a record as they are written, by `convention`, for the check of the whole dataset.
    """

    name: str
    description: str
    files: str
    source: str
    read: Callable[[Path], Iterator[Record]]
    from_record: Callable[[Record, Path], list[Sample]]
    tasks: tuple[str, ...]
    convention: Convention | None = None
    boxes: Callable[[Record], Sequence[Box]] | None = None

    def samples(self, record: Record, root: Path, number: int) -> list[Sample]:
        """The Samples of a record. Raises BadSample, or another QwenVLError of one line, for one that is refused; a record that is
        not of the schema is called by its number."""
        try:
            return self.from_record(record, root)
        except QwenVLError:
            raise
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise BadSample(f"{self.name} record {number}", f"not of the schema ({what})") from error
