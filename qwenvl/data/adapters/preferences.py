"""Pairs of a chosen and a rejected answer: RLHF-V, RLAIF-V, and the datasets that TRL trains on.

Each gives one Sample, stored as `data.record` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.files import as_mapping, find, picture
from qwenvl.data.sources import BadSample, Record, records
from qwenvl.types import ImagePart, Message, Part, Sample, TextPart


def read_pairs(folder: Path) -> Iterator[Record]:
    """Rows of Parquet or .jsonl files, in the folder or in data/."""
    for file in find(folder, "*.parquet", "data/*.parquet", "*.jsonl"):
        yield from ({**row, "file": file.stem, "number": number} for number, row in enumerate(records(file)))


def from_rlhf_v(record: Record, root: Path) -> list[Sample]:
    """`text` is JSON with question, chosen and rejected."""
    return _pair(record, as_mapping(record["text"]), root, f"rlhf_v {record['idx']}", "rlhf_v")


def from_rlaif_v(record: Record, root: Path) -> list[Sample]:
    return _pair(record, record, root, f"rlaif_v {record['idx']}", "rlaif_v")


def _pair(record: Record, texts: Any, root: Path, id: str, source: str) -> list[Sample]:
    shown = ImagePart(_image(record["image"], root, id))
    prompt = [Message("user", (shown, TextPart(samples.said(texts["question"], "question", id))))]
    chosen, rejected = ([TextPart(samples.said(texts[name], name, id))] for name in ("chosen", "rejected"))
    return [samples.preference(prompt, chosen, rejected, id=id, source=source, part=record.get("origin_dataset"))]


def _image(stored: Any, root: Path, id: str) -> bytes | str:
    """A picture as `datasets` stores it: {bytes, path}, or a path alone."""
    about = stored if isinstance(stored, dict) else {"path": stored}
    if about.get("bytes") is not None:
        return bytes(about["bytes"])
    if not isinstance(about.get("path"), str):
        raise BadSample(id, "its picture has neither bytes nor a path")
    return picture(root, about["path"], f"images/{about['path']}", id=id)


def from_trl(record: Record, root: Path) -> list[Sample]:
    """`prompt`, `chosen` and `rejected` are messages, or plain texts; `images` are the pictures of the prompt, in order."""
    id = f"trl {record['file']} {record['number']}"
    images = [ImagePart(_image(image, root, id)) for image in record.get("images") or []]
    waiting: list[Part] = list(images)
    prompt = [Message(role, tuple(_parts(content, waiting, id))) for role, content in _messages(record["prompt"], "user")]
    if waiting:
        raise BadSample(id, f"{len(waiting)} of {len(images)} pictures are not in its prompt")
    answers = []
    for name in ("chosen", "rejected"):
        said = _messages(record[name], "assistant")
        if [role for role, _ in said] != ["assistant"]:
            raise BadSample(id, f"its {name} answer is not one message of the assistant's")
        answers.append(_parts(said[0][1], [], id))
    return [samples.preference(prompt, *answers, id=id, source="trl")]


def _messages(stored: Any, role: str) -> list[tuple[Any, Any]]:
    """(role, content) of messages, or of a text that is one."""
    return [(role, stored)] if isinstance(stored, str) else [(message["role"], message["content"]) for message in stored]


def _parts(content: str | Sequence[Record], images: list[Part], id: str) -> list[Part]:
    """A message's content; {"type": "image"} takes the next picture. Raises BadSample where there is none left."""
    if isinstance(content, str):
        return [TextPart(content)]
    parts: list[Part] = []
    for part in content:
        if part["type"] == "text":
            parts.append(TextPart(part["text"]))
        elif part["type"] != "image" or not images:
            raise BadSample(id, f"a part {part['type']!r} in its messages, for which there is no picture")
        else:
            parts.append(images.pop(0))
    return parts
