"""TFRecord files of tf.train.Example, packed by gzip, read without TensorFlow.

A file is a row of (uint64 length, uint32 checksum, content, uint32 checksum), little endian
(https://www.tensorflow.org/tutorials/load_data/tfrecord, "TFRecords format details"). An Example is a protobuf message:
Example.features = 1, Features.feature = 1 (a map: key = 1, value = 2), Feature.bytes_list = 1, float_list = 2, int64_list = 3, of
which each has value = 1 (tensorflow/core/example/example.proto and feature.proto). A damaged file shows by gzip's own checksum, so
the CRC-32C of records is not computed.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwenvl.data.sources import SourceError

HEAD = struct.Struct("<QI")
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf."""


def examples(path: Path) -> Iterator[dict[str, list[Any]]]:
    """Every Example of a packed file as {feature: list of bytes, floats or ints}. Raises SourceError for one that is cut off or
    none of these."""
    try:
        if not path.stat().st_size:
            raise EOFError("it is empty")
        with gzip.open(path, "rb") as file:
            yield from map(_example, _contents(file))
    except (OSError, EOFError, zlib.error, struct.error, IndexError, ValueError, OverflowError) as error:
        raise SourceError(f"{path}: not a whole TFRecord file, packed by gzip ({error}); fetch it again") from error


def _contents(file: gzip.GzipFile) -> Iterator[bytes]:
    while head := file.read(HEAD.size):
        length, _ = HEAD.unpack(head)
        content = file.read(length)
        if len(content) < length or len(file.read(4)) < 4:
            raise EOFError("it ends within a record")
        yield content


def _example(content: bytes) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for features in _all(content, 1):
        for entry in _all(features, 1):
            [key], [value] = _all(entry, 1), _all(entry, 2)
            found[key.decode("utf-8")] = _values(value)
    return found


def _values(feature: bytes) -> list[Any]:
    """What a Feature holds: one of three lists."""
    for number, _, content in fields(feature):
        if number == 1:
            return _all(content, 1)
        if number == 2:
            packed = b"".join(value for _, _, value in fields(content))
            return list(struct.unpack(f"<{len(packed) // 4}f", packed))
        if number == 3:
            return [
                _signed(value) for _, wire, item in fields(content) for value in ([item] if wire == VARINT else _varints(item))
            ]
    return []


def _all(content: bytes, number: int) -> list[bytes]:
    return [value for found, wire, value in fields(content) if found == number and wire == BYTES]


def fields(content: bytes) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, value) of a message."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, place = _varint(content, place)
            yield number, wire, value
            continue
        if wire == BYTES:
            length, place = _varint(content, place)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} is none of protobuf's")
        if place + length > len(content):
            raise EOFError("a field ends after its message")
        yield number, wire, content[place : place + length]
        place += length


def _varints(content: bytes) -> Iterator[int]:
    place = 0
    while place < len(content):
        value, place = _varint(content, place)
        yield value


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
