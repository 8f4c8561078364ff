"""The edit distance of two ordered trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar


class Tree(Protocol):
    """Anything with children in order."""

    @property
    def children(self) -> Sequence[Tree]: ...


Node = TypeVar("Node", bound=Tree)


class _Walked(Generic[Node]):
    """A tree in postorder: its nodes, the number of each one's leftmost leaf, and the roots that a table is made for: of all nodes
    with one leftmost leaf the highest."""

    def __init__(self, root: Node) -> None:
        self.nodes: list[Node] = []
        self.first: list[int] = []
        waiting: list[tuple[Node, int | None]] = [(root, None)]
        while waiting:  # no recursion: a reply may be nested a thousand deep
            node, start = waiting.pop()
            if start is None:
                waiting.append((node, len(self.nodes)))
                waiting += [(child, None) for child in reversed(node.children)]  # type: ignore[misc]
            else:
                self.nodes.append(node)
                self.first.append(start)
        self.roots = sorted({first: number for number, first in enumerate(self.first)}.values())


def tree_distance(
    first: Node,
    second: Node,
    rename: Callable[[Node, Node], float],
    insert: Callable[[Node], float] = lambda node: 1.0,
    delete: Callable[[Node], float] = lambda node: 1.0,
) -> float:
    """What it costs to make the second tree of the first: nodes are renamed, inserted, or deleted, when their children take their
    place (Zhang and Shasha, SIAM J. Comput. 18, 1989). Time is the product of both trees' sizes and of what of them is deep."""
    ours, theirs = _Walked(first), _Walked(second)
    gone, new = [delete(node) for node in ours.nodes], [insert(node) for node in theirs.nodes]
    done = [[0.0] * len(theirs.nodes) for _ in ours.nodes]
    for left in ours.roots:
        for right in theirs.roots:
            if ours.first[left] == left and theirs.first[right] == right:  # two leaves, as most pairs of cells are
                done[left][right] = min(rename(ours.nodes[left], theirs.nodes[right]), gone[left] + new[right])
            else:
                _forests(ours, theirs, left, right, gone, new, rename, done)
    return done[-1][-1]


def _forests(
    ours: _Walked[Node], theirs: _Walked[Node], left: int, right: int, gone: Sequence[float], new: Sequence[float],
    rename: Callable[[Node, Node], float], done: list[list[float]],
) -> None:  # fmt: skip
    """Fill in the distances of all subtrees that begin at the leftmost leaves of two nodes."""
    top, start = ours.first[left], theirs.first[right]
    above = [0.0]
    for column in range(start, right + 1):
        above.append(above[-1] + new[column])
    table = [above]
    for row in range(top, left + 1):
        line = [table[-1][0] + gone[row]]
        whole = ours.first[row] == top
        for column in range(start, right + 1):
            cheapest = min(table[-1][column - start + 1] + gone[row], line[-1] + new[column])
            if whole and theirs.first[column] == start:
                cheapest = min(cheapest, table[-1][column - start] + rename(ours.nodes[row], theirs.nodes[column]))
                done[row][column] = cheapest
            else:
                before = table[ours.first[row] - top][theirs.first[column] - start]
                cheapest = min(cheapest, before + done[row][column])
            line.append(cheapest)
        table.append(line)
