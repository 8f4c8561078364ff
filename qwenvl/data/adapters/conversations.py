"""Conversations whose pictures and clips are placeholders: ShareGPT, LLaVA, LLaVA-Video, the fine-tuning JSON of Qwen2.5-VL.

The text around a placeholder loses the space at its ends: how a picture is set off is the renderer's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.files import find, picture
from qwenvl.data.sources import BadSample, Record, records
from qwenvl.types import ImagePart, Message, Part, Role, Sample, TextPart, VideoPart

ROLES: dict[str, Role] = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}

PLACEHOLDER = re.compile("(<image>|<video>)")

ReadText = Callable[[str, int, str], Sequence[Part]]
"""Text, how many pictures were shown before its end, and the id -> parts."""


def read_conversations(folder: Path) -> Iterator[Record]:
    """Every conversation of .json or .jsonl files. `file` is where it stands: pictures lie beside it, or in the folder."""
    for file in find(folder, "*.json*", "*/*.json*", "**/*.json*"):
        name = str(file.relative_to(folder))
        yield from ({**row, "file": name, "number": number} for number, row in enumerate(records(file)))


def turns(record: Record, id: str) -> list[tuple[Role, str]]:
    """Who says what. What an assistant says before any question is left out, as finetune.py of QwenLM/Qwen-VL @ aa00ed0 and
    fastchat/train/train.py of lm-sys/FastChat @ 047b6e4 do. Raises BadSample for another role."""
    said: list[tuple[Role, str]] = []
    for turn in record["conversations"]:
        if turn["from"] not in ROLES:
            raise BadSample(id, f"a turn of {turn['from']!r}; known are {', '.join(ROLES)}")
        said.append((ROLES[turn["from"]], turn["value"]))
    first = next((number for number, (role, _) in enumerate(said) if role != "system"), 0)
    return said[:first] + said[first + 1 :] if said and said[first][0] == "assistant" else said


def name_of(record: Record, source: str) -> str:
    """By file and number: ids of these files are not unique, or missing."""
    return f"{source} {Path(record['file']).with_suffix('')} {record['number']}"


def media(record: Record, root: Path, name: str, id: str, what: str = "picture") -> str:
    """Where a picture or video of a conversation lies: its name may be a path from the file's folder, or from the dataset's."""
    beside = Path(record["file"]).parent
    return picture(root, str(beside / name), name, f"images/{name}", f"videos/{name}", id=id, what=what)


def with_placeholders(record: Record, root: Path, source: str, read: ReadText = lambda text, shown, id: [TextPart(text)]) -> Sample:
    """The conversation of a record with `image`, `images`, `video` or `videos`, a name or several.

    `<image>` is the next picture, or the next clip where there are no pictures, as in LLaVA-Video; `<video>` the next clip. Raises
    BadSample where placeholders and files do not match, or an answer holds one.
    """
    id = name_of(record, source)
    pictures, clips = names(record, "image"), names(record, "video")
    all_clips, shown = not pictures, 0
    messages: list[Message] = []
    for role, text in turns(record, id):
        parts: list[Part] = []
        for piece in PLACEHOLDER.split(text):
            if not PLACEHOLDER.fullmatch(piece):
                parts += read(piece.strip(), shown, id) if piece.strip() else []
                continue
            is_clip = piece == "<video>" or all_clips
            waiting = clips if is_clip else pictures
            if role != "user" or not waiting:
                why = "for which there is no file" if role == "user" else "which is no user's"
                raise BadSample(id, f"{piece} in turn {len(messages) + 1}, {why}")
            name = media(record, root, waiting.pop(0), id, "video" if is_clip else "picture")
            parts.append(VideoPart(name) if is_clip else ImagePart(name))
            shown += not is_clip
        messages.append(Message(role, tuple(parts)))
    if pictures or clips:
        raise BadSample(id, f"no placeholder for {', '.join(pictures + clips)}")
    return samples.conversation(messages, id=id, source=source, record=record.get("id"))


def names(record: Record, key: str) -> list[str]:
    """Names under `key` or its plural, in which form the README of qwen-vl-finetune shows several pictures."""
    value: Any = record.get(key) or record.get(f"{key}s") or []
    return [value] if isinstance(value, str) else list(value)


def from_sharegpt(record: Record, root: Path) -> list[Sample]:
    """Words alone, which may well speak of "<image>"."""
    id = name_of(record, "sharegpt")
    messages = [Message.of(role, text) for role, text in turns(record, id)]
    return [samples.conversation(messages, id=id, source="sharegpt", record=record.get("id"))]


def from_llava(record: Record, root: Path) -> list[Sample]:
    return [with_placeholders(record, root, "llava")]


def from_llava_video(record: Record, root: Path) -> list[Sample]:
    return [with_placeholders(record, root, "llava_video")]
