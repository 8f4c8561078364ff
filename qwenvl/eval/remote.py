"""A model behind an OpenAI-compatible address as an Answerer: pictures as data URLs, clips as their frames, examples as turns.

The address gives text alone: nothing can be put into the mouth of the model, and options cannot be ranked by likelihood.
"""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from qwenvl.data.instruct.api import Api, RequestFailed
from qwenvl.data.instruct.run import in_order
from qwenvl.eval.asking import begin_of
from qwenvl.eval.benchmark import Benchmark
from qwenvl.eval.task import Answer, Decoding, EvaluationError, Question
from qwenvl.families import FAMILIES, family_of_preset, find_preset
from qwenvl.families.spec import FamilySpec, Markup, Preset
from qwenvl.processing.grid import frame_size, image_grid
from qwenvl.processing.image import open_image, picture_size
from qwenvl.processing.markup_style import Frame
from qwenvl.processing.regions import parts_text, style_of
from qwenvl.processing.video import open_clip
from qwenvl.types import ImagePart, Message, Part, Sample, StoredPicture, Style, VideoPart

PICTURE = "<image>"
"""What stands for a picture where a reader sees a prompt."""
AHEAD = 2
"""Requests waiting for each one at work."""
SIGNATURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
MIN_TOKENS = "min_tokens"
"""The field by which vLLM takes a least length; it is not one of OpenAI's."""
OTHER = "take a wording for chat models (--prompt), or give the model as a folder"


@dataclass(frozen=True, slots=True)
class _Picture:
    url: str = field(repr=False)
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sent:
    """A question as messages of the API, as a reader sees them, and (width, height) of each picture that was sent."""

    messages: list[dict[str, Any]]
    words: str
    pixels: tuple[tuple[int, int], ...]


class RemoteAnswerer:
    """Asks `api`, `workers` questions at a time.

    like: a preset's or family's name ("qwen2.5-vl-7b", "qwen2_5_vl"), which says in what markup and frame the model writes places.
    Where that is pixels, pictures are sent at the size that the family would make them, so that both sides count the same pixels.
    min_tokens: whether the server knows this field, without which no least length can be asked for. Raises ConfigError for a name
    that there is none of.
    """

    style: Style = "chat"

    def __init__(self, api: Api, like: str, workers: int = 8, seed: int = 0, min_tokens: bool = False) -> None:
        self.api, self.workers, self.seed, self.min_tokens = api, workers, seed, min_tokens
        self.preset = preset_like(like)
        self.markup: Markup = self.preset.markup
        self.spec: FamilySpec = family_of_preset(self.preset)
        self._in_pixels = style_of(self.markup).in_pixels

    def frame(self, size: tuple[int, int]) -> tuple[int, int]:
        config = self.preset.config
        return frame_size(image_grid(config, self.spec, *size), config.vision.patch_size)

    def written(self, question: Question) -> str:
        return self._sent(question).words

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Raises EvaluationError for what no address can do, ApiError where nothing more can be asked. A single question that gets
        no reply has an answer with its error."""
        options = self._options(questions[0].decoding, questions[0].task)
        self.api.stopped.clear()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                return list(in_order(pool, lambda question: self._ask(question, options), questions, self.workers * AHEAD))
            finally:
                self.api.stopped.set()  # what is at work is not tried again

    def _options(self, decoding: Decoding, task: str) -> dict[str, Any]:
        """The decoding in the fields of the API. Raises EvaluationError."""
        least = decoding.min_new_tokens
        if decoding.rank:
            raise EvaluationError(f"{task}: its wording ranks options by likelihood, which no address tells; {OTHER}")
        if begin_of(decoding, self.markup):
            raise EvaluationError(f"{task}: its wording begins the answer with {decoding.begin}, which no address does; {OTHER}")
        if least > 1 and not self.min_tokens:
            raise EvaluationError(f"{task}: its wording asks for {least} tokens at least, which is no field of the API; {OTHER}")
        greedy = decoding.temperature is None and decoding.top_p is None
        fields: dict[str, Any] = {
            "max_tokens": decoding.max_new_tokens,
            "temperature": 0 if greedy else 1 if decoding.temperature is None else decoding.temperature,
            "top_p": decoding.top_p,
            "stop": list(decoding.stop) or None,
            "seed": self.seed,
            MIN_TOKENS: least if least > 1 else None,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _ask(self, question: Question, options: Mapping[str, Any]) -> Answer:
        sent, began = self._sent(question), time.perf_counter()
        try:
            reply = self.api.ask(sent.messages, options)
        except RequestFailed as error:
            return Answer("", "error", prompt=sent.words, pixels=sent.pixels, error=str(error))
        return Answer(
            reply.text,
            "stop" if reply.finished else "length",
            prompt=sent.words,
            prompt_tokens=reply.prompt_tokens,
            reply_tokens=reply.completion_tokens,
            pixels=sent.pixels,
            seconds=round(time.perf_counter() - began, 4),
        )

    def _sent(self, question: Question) -> Sent:
        """All messages but the last, which is the reference answer. Raises ImageError and VideoError."""
        sample = replace(question.sample, messages=question.sample.messages[:-1])
        frames = self._frames(sample)
        messages: list[dict[str, Any]] = []
        words: list[str] = []
        pixels: list[tuple[int, int]] = []
        for message in sample.messages:
            content = list(self._content(message, frames))
            pixels += [piece.size for piece in content if isinstance(piece, _Picture)]
            words.append(f"{message.role}: " + "".join(PICTURE if isinstance(piece, _Picture) else piece for piece in content))
            only = content[0] if len(content) == 1 and isinstance(content[0], str) else None
            messages.append({"role": message.role, "content": list(map(_as_field, content)) if only is None else only})
        return Sent(messages, "\n".join(words), tuple(pixels))

    def _frames(self, sample: Sample) -> dict[int, Frame]:
        """The sizes that places are written in, of each picture, where they are written in pixels."""
        if not self._in_pixels:
            return {}
        return {number: self.frame(picture_size(part.image)) for number, part in enumerate(sample.images)}

    def _content(self, message: Message, frames: Mapping[int, Frame]) -> Iterator[str | _Picture]:
        """Texts and pictures in turn, no two texts beside each other."""
        words: list[Part] = []
        for part in message.parts:
            if isinstance(part, ImagePart | VideoPart):
                if words:
                    yield parts_text(words, self.markup, frames)
                    words = []
                yield from [self._picture(part)] if isinstance(part, ImagePart) else self._clip(part)
            else:
                words.append(part)
        if words or not message.parts:
            yield parts_text(words, self.markup, frames)

    def _picture(self, part: ImagePart) -> _Picture:
        size = picture_size(part.image)
        if self._in_pixels and self.frame(size) != size:
            picture = open_image(part.image).resize(self.frame(size), Image.Resampling.BICUBIC)
            return _Picture(_url(picture), picture.size)
        return _Picture(_untouched(part.image) or _url(open_image(part.image)), size)

    def _clip(self, part: VideoPart) -> Iterator[_Picture]:
        """The frames that the family would look at, as pictures."""
        for frame in open_clip(self.preset.config, self.spec, part).frames():
            picture = Image.fromarray(frame)
            yield _Picture(_url(picture, "JPEG"), picture.size)


def preset_like(name: str) -> Preset:
    """The preset of that name, or the first published one of the family of that name. Raises ConfigError."""
    for family in FAMILIES:
        if family.name == name:
            return next((preset for preset in family.presets if "nano" not in preset.name), family.presets[0])
    return find_preset(name)


def wording_for_chat(benchmark: Benchmark, version: str | None = None) -> str:
    """The version that an address can be asked in: the one that is wanted, or else the first that neither ranks options nor begins
    the answer. Raises EvaluationError where the benchmark has none."""
    wanted = benchmark.prompt(version, "chat")
    names = [wanted] if version is not None else [wanted, *benchmark.prompts]
    for name in names:
        decoding = benchmark.prompts[name].decoding
        if not decoding.rank and not decoding.begin:
            return name
    raise EvaluationError(f"{benchmark.name}: no wording asks for an answer in words; give the model as a folder")


def _as_field(piece: str | _Picture) -> dict[str, Any]:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    return {"type": "image_url", "image_url": {"url": piece.url}}


def _untouched(source: Any) -> str | None:
    """A PNG or JPEG file as it is, where nothing has to be done to it before it is seen; else None."""
    source = source.read() if isinstance(source, StoredPicture) else source
    content = source if isinstance(source, bytes) else b""
    if isinstance(source, str | os.PathLike) and not os.fspath(source).startswith(("data:", "file:")):
        content = Path(source).read_bytes()
    kind = next((name for start, name in SIGNATURES if content.startswith(start)), None)
    if kind is None:
        return None
    with Image.open(io.BytesIO(content)) as picture:
        if picture.mode not in ("RGB", "L") or picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            return None
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _url(picture: Image.Image, form: str = "PNG") -> str:
    file = io.BytesIO()
    picture.save(file, form, **({"quality": 95} if form == "JPEG" else {}))
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"

