"""Messages in the OpenAI shape -> Sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qwenvl.families.spec import Markup
from qwenvl.processing.regions import text_to_parts
from qwenvl.types import ImagePart, Message, Part, QwenVLError, Sample, TextPart

ROLES = ("system", "user", "assistant")


class MessageError(QwenVLError, ValueError):
    """Messages of a shape that is not understood: the message says which one and what was expected."""


def messages_to_sample(messages: Sequence[Mapping[str, Any]] | str, markup: Markup | None = None, sample_id: str = "") -> Sample:
    """Read `[{"role": ..., "content": text | [part, ...]}, ...]`; a bare string is one user message.

    Parts are `{"type": "text", "text": ...}`, `{"type": "image", "image": path | bytes | data URL | PIL image}` and
    `{"type": "image_url", "image_url": {"url": ...}}`; pictures take `min_pixels` and `max_pixels`. What a user types is plain
    text; region markup in an assistant's message is read back as regions, because it is a model's own earlier answer.
    Raises MessageError, one line.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or not messages:
        raise MessageError("messages: give a list with at least one {'role': ..., 'content': ...}")
    return Sample(tuple(_message(message, index, markup or Markup()) for index, message in enumerate(messages)), id=sample_id)


def _message(message: Any, index: int, markup: Markup) -> Message:
    where = f"messages[{index}]"
    if isinstance(message, Message):
        return message
    if not isinstance(message, Mapping):
        raise MessageError(f"{where}: expected a mapping with role and content, not {type(message).__name__}")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise MessageError(f"{where}: role {role!r} is not one of {', '.join(ROLES)}")
    if role == "system" and index:
        raise MessageError(f"{where}: a system message must come first")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise MessageError(f"{where}: content must be a text or a list of parts, not {type(content).__name__}")
    parts: list[Part] = []
    for number, part in enumerate(content):
        parts += _parts(part, f"{where}.content[{number}]", role, markup)
    if role == "user" and not any(isinstance(part, ImagePart) or _says_something(part) for part in parts):
        raise MessageError(f"{where}: the user's message is empty; write a question or give a picture")
    return Message(role, tuple(parts))


def _says_something(part: Part) -> bool:
    return not isinstance(part, TextPart) or bool(part.text.strip())


def _parts(part: Any, where: str, role: str, markup: Markup) -> tuple[Part, ...]:
    if isinstance(part, str):
        part = {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        raise MessageError(f"{where}: expected a mapping with a type, not {type(part).__name__}")
    kind = part.get("type")
    if kind not in READERS:
        raise MessageError(f"{where}: type {kind!r} is not one of {', '.join(READERS)}")
    read = READERS[kind](part, where)
    if isinstance(read, TextPart) and role == "assistant":
        return text_to_parts(read.text, markup)
    return (read,)


def _text(part: Mapping[str, Any], where: str) -> Part:
    text = part.get("text")
    if not isinstance(text, str):
        raise MessageError(f"{where}: a text part needs 'text', a string")
    return TextPart(text)


def _image(part: Mapping[str, Any], where: str) -> Part:
    if part.get("image") is None:
        raise MessageError(f"{where}: an image part needs 'image': a path, bytes, a data URL or a PIL image")
    return ImagePart(part["image"], _pixels(part, "min_pixels", where), _pixels(part, "max_pixels", where))


def _image_url(part: Mapping[str, Any], where: str) -> Part:
    address = part.get("image_url")
    url = address.get("url") if isinstance(address, Mapping) else address
    if not isinstance(url, str):
        raise MessageError(f"{where}: an image_url part needs 'image_url': {{'url': ...}}")
    return _image({**part, "image": url}, where)


def _pixels(part: Mapping[str, Any], key: str, where: str) -> int | None:
    value = part.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value <= 0):
        raise MessageError(f"{where}: {key} must be a positive whole number, not {value!r}")
    return value


READERS: dict[str, Callable[[Mapping[str, Any], str], Part]] = {"text": _text, "image": _image, "image_url": _image_url}
