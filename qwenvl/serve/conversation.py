"""A request's messages and media -> what a model encodes. Here places in pixels become places in [0, 1], and `detail` an area."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from qwenvl import types
from qwenvl.families.spec import FamilySpec
from qwenvl.processing.image import open_image
from qwenvl.processing.messages import messages_to_sample
from qwenvl.processing.tools import with_tools
from qwenvl.serve import parts
from qwenvl.serve.errors import ApiError
from qwenvl.serve.media import MediaBudget, decode_data_url, upright_size
from qwenvl.serve.parts import Bounded, ImageUrl, VideoUrl
from qwenvl.serve.schema import ChatRequest, CompletionRequest, TokenizeRequest, Tool
from qwenvl.serve.settings import MediaLimits
from qwenvl.types import Message, QwenVLError, Region, RegionError, Sample

LOW_DETAIL = 512 * 512
"""Area in pixels of `detail: low`, OpenAI's (platform.openai.com/docs/guides/images-vision)."""
WIDEST = 32
"""Characters of text for each token of the context, above which a text is not tried: prose and code have 2 to 8."""


@dataclass(slots=True)
class Medium:
    """A picture or clip of a request: where it stands in it, what is said of it, and its content once it is known."""

    param: str
    asked: ImageUrl | VideoUrl
    content: bytes | None = None

    @property
    def is_clip(self) -> bool:
        return isinstance(self.asked, VideoUrl)

    @property
    def is_data(self) -> bool:
        return self.asked.url[:5].lower() == "data:"

    def most_bytes(self, limits: MediaLimits) -> int:
        return limits.clip_bytes if self.is_clip else limits.picture_bytes


def media_of(request: ChatRequest | CompletionRequest | TokenizeRequest, limits: MediaLimits) -> list[Medium]:
    """The pictures and clips in the order of the conversation. Raises ApiError (400) for too many."""
    images = getattr(request, "images", None) or ()
    found = [Medium(f"images[{number}].url", image) for number, image in enumerate(images)]
    for index, message in enumerate(getattr(request, "messages", None) or ()):
        content = message.content or ()
        for number, part in enumerate(() if isinstance(content, str) else content):
            where = f"messages[{index}].content[{number}]"
            if isinstance(part, parts.ImagePart):
                found.append(Medium(f"{where}.image_url.url", part.image_url))
            elif isinstance(part, parts.VideoPart):
                found.append(Medium(f"{where}.video_url.url", part.video_url))
    if len(found) > limits.count:
        message = f"{len(found)} pictures and clips; send at most {limits.count}"
        raise ApiError(400, message, param="messages", code="too_many_media")
    return found


def check_text(request: ChatRequest | CompletionRequest | TokenizeRequest, context: int) -> None:
    """Refuse a text that is surely too long before seconds are spent on its tokens. Raises ApiError (400)."""
    count = sum(map(len, _texts(request)))
    if count > context * WIDEST:
        message = f"{count} characters of text are more than the context of {context} tokens can hold; shorten the text"
        raise ApiError(400, message, code="context_length_exceeded")


def _texts(request: Any) -> Iterator[str]:
    """Every text that becomes tokens."""
    prompt = getattr(request, "prompt", None) or ()
    yield from [prompt] if isinstance(prompt, str) else prompt
    for message in getattr(request, "messages", None) or ():
        content = message.content or ()
        yield from [content] if isinstance(content, str) else (part.text for part in content if isinstance(part, parts.TextPart))
        yield from (call.function.arguments for call in getattr(message, "tool_calls", None) or ())
    yield from (tool.model_dump_json() for tool in getattr(request, "tools", None) or ())


def open_media(media: Sequence[Medium], spec: FamilySpec, limits: MediaLimits) -> list[types.ImagePart | types.VideoPart]:
    """Every picture and clip as a part of a Sample, checked and not yet decoded; what they came in is let go. Raises ApiError
    (400)."""
    budget, opened = MediaBudget(limits), list[types.ImagePart | types.VideoPart]()
    for medium in media:
        content, medium.content = medium.content, None
        if content is None:
            content = decode_data_url(medium.asked.url, medium.most_bytes(limits), medium.param)
        medium.asked.url = ""  # the request lives as long as its answer, which needs no picture in base64
        least, most = bounds_of(medium.asked)
        if isinstance(medium.asked, VideoUrl):
            if spec.videos is None:
                raise ApiError(
                    400, f"{spec.name} takes no video; send its frames as pictures", param=medium.param, code="unsupported_media"
                )
            clip = budget.clip(content, medium.param)
            drawn = min(medium.asked.max_frames or spec.videos.max_frames, limits.drawn_frames)
            opened.append(types.VideoPart(clip, medium.asked.fps, drawn, least, most))
        else:
            opened.append(types.ImagePart(budget.picture(content, medium.param), least, most))
    return opened


def bounds_of(asked: Bounded) -> tuple[int | None, int | None]:
    """(min, max) area; what `detail` says gives way to bounds that are given."""
    least, most = asked.min_pixels, asked.max_pixels
    if isinstance(asked, ImageUrl) and asked.detail == "low" and most is None:
        most = max(LOW_DETAIL, least or 0)
    return least, most


def conversation(
    request: ChatRequest | TokenizeRequest, visuals: Sequence[types.ImagePart | types.VideoPart], model: Any
) -> Sample:
    """The messages as a Sample, with the tools told in the system turn. Raises ApiError or another QwenVLError, one line."""
    reader = _Reader(visuals)
    messages: list[Any] = [reader.message(message, f"messages[{index}]") for index, message in enumerate(request.messages or ())]
    tools = list(request.tools or ())
    if getattr(request, "tool_choice", None) == "none":
        tools = []
    if tools and not model.spec.chat.tools:
        raise ApiError(
            400, f"{model.spec.name} was not trained to call functions; leave tools out", param="tools", code="unsupported_tools"
        )
    told: list[Mapping[str, Any]] = with_tools(messages, [tool_as_dict(tool) for tool in tools], model.spec.chat)
    return messages_to_sample(told, model.markup)


def prompt_sample(prompt: str, visuals: Sequence[types.ImagePart | types.VideoPart]) -> Sample:
    """A text to be continued, its pictures before it."""
    return Sample((Message.of("user", *visuals, prompt),))


def tool_as_dict(tool: Tool) -> dict[str, Any]:
    """As `processing.tools` takes it; fields that were not given are not told."""
    return {"type": "function", "function": tool.function.model_dump(exclude_none=True, exclude={"strict"})}


class _Reader:
    """Turns messages into what `messages_to_sample` takes, taking the opened media in order."""

    def __init__(self, visuals: Sequence[types.ImagePart | types.VideoPart]) -> None:
        self.visuals = list(visuals)
        self._next = iter(visuals)
        self._sizes: dict[int, tuple[int, int]] = {}

    def message(self, message: Any, where: str) -> Any:
        if isinstance(message, parts.UserMessage):
            return self._user(message, where)
        content = message.content
        if not isinstance(content, str) and content is not None:
            content = "".join(part.text for part in content)
        if isinstance(message, parts.AssistantMessage):
            calls = [call.model_dump(include={"function": True}) for call in message.tool_calls or ()]
            return {"role": "assistant", "content": content, "tool_calls": calls}
        return {"role": "tool" if message.role == "tool" else "system", "content": content}

    def _user(self, message: parts.UserMessage, where: str) -> Message:
        given = [parts.TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
        read: list[types.Part] = []
        for number, part in enumerate(given):
            if isinstance(part, parts.TextPart):
                read.append(types.TextPart(part.text))
            elif isinstance(part, parts.RegionPart):
                read.append(self._region(part, f"{where}.content[{number}]"))
            else:
                read.append(next(self._next))
        if not any(not isinstance(part, types.TextPart) or part.text.strip() for part in read):
            raise ApiError(
                400, f"{where}: the user's message is empty; write a question or send a picture", param=f"{where}.content"
            )
        return Message("user", tuple(read))

    def _region(self, part: parts.RegionPart, where: str) -> types.RegionPart:
        width, height = self._size(part.image, where)
        numbers = part.numbers
        pairs = list(zip(numbers[::2], numbers[1::2]))
        if not all(0 <= x <= width and 0 <= y <= height for x, y in pairs):
            shown = ", ".join(f"{number:g}" for number in numbers)
            raise ApiError(400, f"{where}: {part.kind} {shown} leaves picture {part.image} of {width}x{height} pixels",
                           param=f"{where}.pixels", code="invalid_region")  # fmt: skip
        region = Region(part.kind, tuple((x / width, y / height) for x, y in pairs), part.label, part.image)
        try:
            return types.RegionPart(part.label, (region.check(where),))
        except RegionError:
            wanted = {"box": "its left, top, right, bottom", "quad": "its corners clockwise from the top left", "point": "x, y"}
            message = f"{where}: a {part.kind} without area, or swapped; give {wanted[part.kind]}"
            raise ApiError(400, message, param=f"{where}.pixels", code="invalid_region") from None

    def _size(self, image: int, where: str) -> tuple[int, int]:
        """(width, height) of a picture as it was sent and as people see it."""
        if image >= len(self.visuals):
            raise ApiError(400, f"{where}: there is no picture {image}; the request has {len(self.visuals)}, counted from 0",
                           param=f"{where}.image", code="invalid_region")  # fmt: skip
        visual = self.visuals[image]
        if not isinstance(visual, types.ImagePart):
            raise ApiError(400, f"{where}: {image} is a clip; point at pictures", param=f"{where}.image", code="invalid_region")
        if image not in self._sizes:
            picture: Image.Image = visual.image
            # Some writers of PNG put behind the pixels that the picture lies on its side.
            if picture.format == "PNG":
                picture = _decoded(picture, where)
            self._sizes[image] = upright_size(picture, where)
        return self._sizes[image]


def _decoded(picture: Image.Image, where: str) -> Image.Image:
    try:
        return open_image(picture)
    except QwenVLError as error:
        raise ApiError(400, f"{where}: {error}", param=where, code="invalid_media") from error
