"""Where elements are on a phone's screen, out of the accessibility trees of AndroidControl.

A tree is a protobuf message: AndroidAccessibilityForest.windows = 1; of a window bounds_in_screen = 1 and tree = 11, whose nodes
= 1; of a node bounds_in_screen = 2; a ProtoRect has left, top, right, bottom = 1 to 4 (android_env/proto/a11y/*.proto of
google-deepmind/android_env @ 60db435).
"""

from __future__ import annotations

from qwenvl.data.adapters.tfrecord import BYTES, VARINT, fields

Bounds = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""


def bounds_in_screen(forest: bytes) -> list[Bounds]:
    """Of all windows and nodes, in the order of the message's text form, which data/process_ac.py of xiaomi-research/guievalkit
    @ d5e954e goes through: each window, then its nodes. Raises EOFError or ValueError for no such message."""
    found: list[Bounds] = []
    for window in _messages(forest, 1):
        found += map(_rectangle, _messages(window, 1))
        for tree in _messages(window, 11):
            for node in _messages(tree, 1):
                found += map(_rectangle, _messages(node, 2))
    return found


def _messages(content: bytes, number: int) -> list[bytes]:
    return [value for found, wire, value in fields(content) if found == number and wire == BYTES]


def _rectangle(content: bytes) -> Bounds:
    sides = {number: _int32(value) for number, wire, value in fields(content) if wire == VARINT}
    return sides.get(1, 0), sides.get(2, 0), sides.get(3, 0), sides.get(4, 0)


def _int32(value: int) -> int:
    """A negative number is written as if it had 64 bits."""
    return value - (1 << 64) if value >> 63 else value
