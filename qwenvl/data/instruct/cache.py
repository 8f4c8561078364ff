"""Replies on disk, one file each, by the hash of what was asked. Any number of processes may share a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qwenvl.runtime import atomic_write


class Cache:
    """Answers of an API as it gave them, whole files or none."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def get(self, key: str) -> dict[str, Any] | None:
        """None for what was not asked yet, and for a file that is damaged: it is then asked again."""
        try:
            answer = json.loads(self._path(key).read_text(encoding="utf-8"))
            return answer if isinstance(answer["choices"][0]["message"]["content"], str) else None
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return None

    def put(self, key: str, answer: dict[str, Any]) -> None:
        with atomic_write(self._path(key)) as temporary:
            # Half of a character, in a field that is not read, becomes JSON's own escape.
            temporary.write_text(json.dumps(answer, ensure_ascii=False), encoding="utf-8", errors="backslashreplace")

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
