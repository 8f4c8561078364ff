"""A bar on a terminal for what takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def progress(label: str, total: int | None, hidden: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; the function it yields is told how many more are done. `total` None: only the number is shown.

    Nothing is written where stderr is no terminal: a log has no use for it. hidden: nor by a process that does not lead.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


def counted(items: Iterable[Item], advance: Callable[[int], None]) -> Iterator[Item]:
    """The items, each told to the bar once it is done with."""
    for item in items:
        yield item
        advance(1)
