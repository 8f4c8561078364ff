"""Rows of files that are not of the form that a benchmark's reader expects: one clear line instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qwenvl.data.sources import SourceError
from qwenvl.types import QwenVLError


@contextmanager
def of_schema(where: str) -> Iterator[None]:
    """Raises SourceError naming `where`, a file and a row, for whatever a missing field or another type makes go wrong inside."""
    try:
        yield
    except QwenVLError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, SyntaxError, RecursionError) as error:
        what = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{where}: not of the benchmark's form ({what}); fetch the file again") from error
