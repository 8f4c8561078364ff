"""Messages in the OpenAI shape -> Sample."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qwenvl.families.spec import Markup
from qwenvl.processing.regions import text_to_parts
from qwenvl.processing.tools import RESULT_TAGS, ToolCall, write_call
from qwenvl.types import ImagePart, Message, Part, QwenVLError, Sample, TextPart, VideoPart

ROLES = ("system", "user", "assistant", "tool")


class MessageError(QwenVLError, ValueError):
    """Messages of a shape that is not understood: the message says which one and what was expected."""


def messages_to_sample(messages: Sequence[Mapping[str, Any]] | str, markup: Markup | None = None, sample_id: str = "") -> Sample:
    """Read `[{"role": ..., "content": text | [part, ...]}, ...]`; a bare string is one user message.

    Parts are `{"type": "text", "text": ...}`, `{"type": "image", "image": path | bytes | data URL | PIL image}`,
    `{"type": "video", "video": file | folder of frames | [frame, ...]}`, and `image_url` and `video_url` with `{"url": ...}`.
    Pictures and videos take `min_pixels` and `max_pixels`, videos `fps` (a number or "auto") and `max_frames` too. What a user
    types is plain text; region markup in an assistant's message is read back as regions, because it is a model's own earlier
    answer; its `tool_calls` are written as text, and a message of the role "tool" is a user's that gives the result.
    Raises MessageError, one line.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or not messages:
        raise MessageError("messages: give a list with at least one {'role': ..., 'content': ...}")
    read = [_message(message, index, markup or Markup()) for index, message in enumerate(messages)]
    return Sample(_join_results(messages, read), id=sample_id)


def _join_results(messages: Sequence[Any], read: Sequence[Message]) -> tuple[Message, ...]:
    """Results of several tools in a row are one turn of the user's."""
    joined: list[Message] = []
    for index, message in enumerate(read):
        if index and _is_result(messages[index]) and _is_result(messages[index - 1]):
            joined[-1] = Message("user", (*joined[-1].parts, TextPart("\n"), *message.parts))
        else:
            joined.append(message)
    return tuple(joined)


def _is_result(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "tool"


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
    calls = _calls(message.get("tool_calls") or (), where) if role == "assistant" else []
    if content is None and calls:
        content = []
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise MessageError(f"{where}: content must be a text or a list of parts, not {type(content).__name__}")
    parts: list[Part] = []
    for number, part in enumerate(content):
        parts += _parts(part, f"{where}.content[{number}]", role, markup)
    if role == "user" and not any(map(_says_something, parts)):
        raise MessageError(f"{where}: the user's message is empty; write a question or give a picture")
    if role == "tool":
        return Message("user", (TextPart(f"{RESULT_TAGS[0]}\n"), *parts, TextPart(f"\n{RESULT_TAGS[1]}")))
    for call in calls:  # on a line of its own
        ended = not parts or (isinstance(parts[-1], TextPart) and parts[-1].text.endswith("\n"))
        parts.append(TextPart(("" if ended else "\n") + write_call(call)))
    return Message(role, tuple(parts))


def _calls(calls: Any, where: str) -> list[ToolCall]:
    """`[{"function": {"name", "arguments": JSON text or mapping}}, ...]`."""
    read = []
    for number, call in enumerate(calls if isinstance(calls, Sequence) else [calls]):
        function = call.get("function") if isinstance(call, Mapping) else None
        name, arguments = (function.get("name"), function.get("arguments", {})) if isinstance(function, Mapping) else (None, None)
        try:
            arguments = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
        except ValueError:
            arguments = None
        if not isinstance(name, str) or not isinstance(arguments, Mapping):
            raise MessageError(f"{where}.tool_calls[{number}]: expected {{'function': {{'name': ..., 'arguments': JSON object}}}}")
        read.append(ToolCall(name, dict(arguments)))
    return read


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
    return ImagePart(part["image"], _whole(part, "min_pixels", where), _whole(part, "max_pixels", where))


def _image_url(part: Mapping[str, Any], where: str) -> Part:
    return _image({**part, "image": _url(part, "image_url", where)}, where)


def _video(part: Mapping[str, Any], where: str) -> Part:
    video = part.get("video")
    if video is None or (isinstance(video, Sequence) and not len(video)):
        raise MessageError(f"{where}: a video part needs 'video': a file, a folder of frames or a list of pictures")
    fps = part.get("fps")
    if fps is not None and fps != "auto" and (isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < math.inf):
        raise MessageError(f"{where}: fps must be a number above 0 or 'auto', not {fps!r}")
    bounds = {key: _whole(part, key, where) for key in ("max_frames", "min_pixels", "max_pixels")}
    return VideoPart(video, fps, **bounds)


def _video_url(part: Mapping[str, Any], where: str) -> Part:
    return _video({**part, "video": _url(part, "video_url", where)}, where)


def _url(part: Mapping[str, Any], key: str, where: str) -> str:
    address = part.get(key)
    url = address.get("url") if isinstance(address, Mapping) else address
    if not isinstance(url, str):
        raise MessageError(f"{where}: a part of type {key} needs '{key}': {{'url': ...}}")
    return url


def _whole(part: Mapping[str, Any], key: str, where: str) -> int | None:
    value = part.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value <= 0):
        raise MessageError(f"{where}: {key} must be a positive whole number, not {value!r}")
    return value


READERS: dict[str, Callable[[Mapping[str, Any], str], Part]] = {
    "text": _text, "image": _image, "image_url": _image_url, "video": _video, "video_url": _video_url,
}  # fmt: skip
