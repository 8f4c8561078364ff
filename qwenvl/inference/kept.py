"""Where what was found out about this machine is kept between starts, and whether what lies there may be trusted."""

from __future__ import annotations

import os
import stat
import sys
from functools import cache
from pathlib import Path


def cache_folder() -> Path | None:
    """QWENVL_CACHE, else qwenvl in the user's cache folder; None for a user without a home, who keeps nothing."""
    named = os.environ.get("QWENVL_CACHE")
    if named:
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwenvl"
    except RuntimeError:  # no home folder
        return None


def own_folder() -> Path | None:
    """The cache folder, made where it is missing, for its owner alone; None where it cannot be made, or belongs to somebody else,
    or somebody else may write there: code is loaded from it."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if folder.is_dir() and is_own(folder) else None


def is_own(path: Path) -> bool:
    """Whether it belongs to this user, who alone may write to it."""
    try:
        status = path.stat()
    except OSError:
        return False
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def can_keep(folder: Path | None) -> bool:
    return folder is not None and os.access(folder, os.W_OK)


@cache
def tell_once(line: str) -> None:
    """To the standard error stream, why the start takes longer than it will."""
    print(f"qwenvl: {line}", file=sys.stderr, flush=True)


def tell_of_waiting() -> None:
    if can_keep(own_folder()):
        tell_once("measuring once what is fastest on this CPU ...")
    else:
        tell_once(
            "compiling for this CPU, at every start, as nothing can be kept; "
            f"make {cache_folder() or 'QWENVL_CACHE'} a folder that you alone can write to ..."
        )
