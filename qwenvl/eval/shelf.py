"""Pictures that a benchmark's own files hold: laid aside on disk, since all of its questions are in memory together."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from functools import partial
from threading import Lock

from qwenvl.eval.task import EvaluationError
from qwenvl.types import StoredPicture


class Shelf:
    """A file without a name in the system's folder for such (TMPDIR), which is gone with the last of its pictures.

    Files of pictures themselves cannot be read from the middle: they are packed, or cut into lines of base64.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="qwenvl-")  # noqa: SIM115 (closed when nobody holds the shelf any more)
        self._lock = Lock()  # a server is asked by several threads
        weakref.finalize(self, self._file.close)

    def keep(self, content: bytes) -> StoredPicture:
        """The picture, of which only its place on the shelf stays in memory. Raises EvaluationError where the disk is full."""
        try:
            with self._lock:
                start = self._file.seek(0, os.SEEK_END)
                self._file.write(content)
                self._file.flush()
        except OSError as error:
            where = f"{tempfile.gettempdir()}: no room for the pictures of a benchmark"
            raise EvaluationError(f"{where} ({error.strerror}); let TMPDIR name another folder") from None
        digest = hashlib.sha256(content).hexdigest()
        return StoredPicture(len(content), digest, partial(self._read, start, len(content)))

    def _read(self, start: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(start)
            return self._file.read(size)
