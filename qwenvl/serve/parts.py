"""What messages are made of, as requests write them: text, pictures and clips by address, places that the user points at."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

LONGEST_TEXT = 1_000_000  # characters
AREA = 1 << 31
"""Most pixels that a bound may name; far beyond what any context holds."""


class Form(BaseModel):
    """A strict piece of a request: an unknown field is an error, a number is no string, nothing is infinite."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=(), hide_input_in_errors=True)


Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Area = Annotated[int, Field(gt=0, le=AREA)]
Address = Annotated[str, Field(min_length=1)]
"""A data URL, or an address on a host that the server may fetch from."""


def one_or_many(name: str, one: Any = str) -> Discriminator:
    """Tells a single value from a list by its type, so that an error speaks of the form that was meant."""
    return Discriminator(lambda value: name if isinstance(value, one) else "list")


class TextPart(Form):
    type: Literal["text"]
    text: Text


class Bounded(Form):
    min_pixels: Area | None = None
    """Smallest area that the picture, or each frame, is seen at: width times height."""
    max_pixels: Area | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Bounded:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels, {self.min_pixels}, is more than max_pixels, {self.max_pixels}")
        return self


class ImageUrl(Bounded):
    url: Address
    detail: Literal["low", "high", "auto"] | None = None
    """low: seen at 512 x 512 pixels of area at most. Pixel bounds win over it."""


class ImagePart(Form):
    type: Literal["image_url"]
    image_url: ImageUrl


class VideoUrl(Bounded):
    url: Address
    fps: Annotated[float, Field(gt=0, le=240)] | Literal["auto"] | None = None
    """Frames to see of each second; auto: by how much changes."""
    max_frames: Annotated[int, Field(gt=0, le=100_000)] | None = None


class VideoPart(Form):
    type: Literal["video_url"]
    video_url: VideoUrl


Number = Annotated[float, Field(ge=-1e9, le=1e9)]
Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]
NUMBERS = {"box": 4, "point": 2, "quad": 8}


class RegionPart(Form):
    """A place that the user points at."""

    type: Literal["region"]
    kind: Literal["box", "point", "quad"]
    pixels: Annotated[list[Number | Pair], Field(min_length=1, max_length=8)]
    """In pixels of the picture as it was sent: left, top, right, bottom of a box; x, y of a point; four corners of a quad,
    clockwise from the top left. Corners may be pairs."""
    image: Annotated[int, Field(ge=0, lt=10_000)] = 0
    """Which picture of the conversation, counted from 0."""
    label: Annotated[str, Field(max_length=1000)] | None = None

    @property
    def numbers(self) -> list[float]:
        return [number for item in self.pixels for number in (item if isinstance(item, list) else [item])]

    @model_validator(mode="after")
    def _complete(self) -> RegionPart:
        if len(self.numbers) != NUMBERS[self.kind]:
            raise ValueError(f"pixels of a {self.kind} are {NUMBERS[self.kind]} numbers, not {len(self.numbers)}")
        return self


Part = Annotated[TextPart | ImagePart | VideoPart | RegionPart, Field(discriminator="type")]
Texts = Annotated[Annotated[Text, Tag("text")] | Annotated[list[TextPart], Field(max_length=256), Tag("list")], one_or_many("text")]
Content = Annotated[
    Annotated[Text, Tag("text")] | Annotated[list[Part], Field(min_length=1, max_length=256), Tag("list")], one_or_many("text")
]


class SystemMessage(Form):
    role: Literal["system", "developer"]
    content: Texts
    name: Annotated[str, Field(max_length=256)] | None = None


class UserMessage(Form):
    role: Literal["user"]
    content: Content
    name: Annotated[str, Field(max_length=256)] | None = None


class CalledFunction(Form):
    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: Text


class CalledTool(Form):
    id: Annotated[str, Field(max_length=256)]
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None
    """Of a streamed call; says nothing here."""


class AssistantMessage(Form):
    """An earlier answer. What our answers carry beside its text is taken and not read: they can be sent back as they came."""

    role: Literal["assistant"]
    content: Texts | None = None
    name: Annotated[str, Field(max_length=256)] | None = None
    tool_calls: Annotated[list[CalledTool], Field(max_length=128)] | None = None
    regions: list[Any] | None = None
    readable: Any = None
    spans: list[Any] | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: list[Any] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> AssistantMessage:
        if self.content is None and not self.tool_calls:
            raise ValueError("an assistant's message needs content or tool_calls")
        return self


class ToolMessage(Form):
    role: Literal["tool"]
    content: Texts
    tool_call_id: Annotated[str, Field(max_length=256)]
    name: Annotated[str, Field(max_length=256)] | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]
