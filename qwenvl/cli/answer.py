"""What `ask` and `chat` share: options of the model, of pictures and of an answer; its text as it comes, what it names, in words;
and the picture with its boxes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import tyro

from qwenvl.cli.options import Device, DType, FramesPerSecond, Model, Number, PromptStyle, Quantize, UsageError, Whole
from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from PIL.Image import Image

    from qwenvl.families.spec import Markup
    from qwenvl.inference.model import QwenVL, Reply
    from qwenvl.inference.reply import PixelRegion
    from qwenvl.types import Style

DEFAULT_MODEL = "qwen-vl-nano-chat"
ENLARGE_TO = 640
"""Pictures much smaller than this are enlarged before boxes are drawn, or the labels would cover them."""


CLIP_SUFFIXES = frozenset({
    ".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv",
})  # fmt: skip
"""What is watched; any other file is looked at. A folder is a clip of its frames."""


@dataclass(frozen=True)
class Loading:
    model: Model = DEFAULT_MODEL
    """A built-in model, a folder, or a repository of the hub."""
    device: Device = None
    """A GPU is used where there is one."""
    dtype: DType = None
    """By default bfloat16 on a GPU, and on the CPU what the file holds."""
    quantize: Quantize = None
    """How the decoder's weights are kept in memory: int8 and int4 are smaller, and quicker for few answers at a time."""
    style: PromptStyle = None
    """How a question reaches the model: in turns, or raw, the whole prompt as it stands. By default as the checkpoint says."""

    def load(self) -> QwenVL:
        from qwenvl.inference.model import load

        model = load(self.model, device=self.device, dtype=self.dtype, quantize=self.quantize)
        model.style = self.style or model.style
        return model


@dataclass(frozen=True)
class Seeing:
    fps: FramesPerSecond = None
    """Frames to draw from a clip per second, or auto: by how much it changes. For a folder of frames: the rate of taking them."""
    max_frames: Whole = None
    """Most frames to draw from a clip; 768 for the published models if not given. Long clips get smaller frames, to fit."""
    min_pixels: Whole = None
    """Enlarge pictures and frames of fewer pixels (width times height), for models that keep the aspect ratio."""
    max_pixels: Whole = None
    """Reduce pictures and frames of more pixels, for the same models: fewer tokens."""

    def open(self, name: str) -> Seen:
        """A picture or a clip, as a part of a message. Raises QwenVLError for what is missing or cannot be read."""
        from qwenvl.processing.image import open_image

        bounds = {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}
        if not is_clip(name):
            picture = open_image(name)
            return Seen({"type": "image", "image": picture, **bounds}, picture)
        if not Path(name).exists():
            raise QwenVLError(f"{name}: no such file; check the path")
        if Path(name).is_dir() and not any(Path(name).iterdir()):
            raise QwenVLError(f"{name}: an empty folder; name a file in it, or a folder of frames")
        return Seen({"type": "video", "video": name, "fps": self.fps, "max_frames": self.max_frames, **bounds}, None)


@dataclass(frozen=True)
class Seen:
    """A part of a message, and its picture; None of a clip, on which nothing can be drawn."""

    part: dict[str, Any]
    picture: Image | None


def is_clip(name: str) -> bool:
    path = Path(name)
    try:
        return path.suffix.lower() in CLIP_SUFFIXES or path.is_dir()
    except (OSError, ValueError):  # too long for a file name, or with a zero byte
        return False


@dataclass(frozen=True)
class Decoding:
    max_new_tokens: Whole = None
    """Longest answer in tokens; the model's own limit if not given."""
    temperature: Number = None
    """Sample with this temperature. Without temperature, top-p and top-k the answer is greedy, the same every time."""
    top_p: Number = None
    """Sample from the most likely tokens that hold this share of the probability."""
    top_k: Whole = None
    """Sample from this many most likely tokens."""
    repetition_penalty: float = 1.0
    """More than 1 makes tokens that came before less likely."""
    stop: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """End the answer before this string; may be given several times."""
    seed: Whole = None
    """Draw the same sample again."""

    def options(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def show(chunks: Iterable[str | Reply], markup: Markup, raw: bool, out: TextIO) -> Reply:
    """Write an answer as it comes, its markup made readable unless `raw`, and return it. JSON is shown as it is written.

    A KeyboardInterrupt carries what was shown so far in its `args`, so that a conversation can go on from there.
    """
    from qwenvl.inference.reply import readable
    from qwenvl.inference.text_stream import ReadableStream
    from qwenvl.processing.regions import style_of
    from qwenvl.processing.tools import CALL_TAGS, strip_calls

    if style_of(markup).inline:
        people = ReadableStream(lambda text: readable(text, markup), (markup.ref, markup.box, markup.quad, CALL_TAGS))
    else:
        people = ReadableStream(strip_calls, (CALL_TAGS,))
    shown: list[str] = []

    def write(text: str) -> None:
        # An answer never begins with white space, whatever token it came from.
        text = text if shown else text.lstrip()
        if text:
            shown.append(text)
            out.write(text)
            out.flush()

    try:
        for chunk in chunks:
            if not isinstance(chunk, str):
                write("" if raw else people.finish())
                if shown:
                    out.write("\n")
                    out.flush()
                return chunk
            write(chunk if raw else people.push(chunk))
    except KeyboardInterrupt:
        out.write("\n")
        raise KeyboardInterrupt("".join(shown)) from None
    raise AssertionError("a stream ends with its Reply")


def describe(region: PixelRegion, pictures: int) -> str:
    """One line for a person: `dog: box (12, 30)-(50, 80)`, with the picture's number where there are several."""
    points = "-".join(f"({x:.0f}, {y:.0f})" for x, y in region.points)
    where = f" in picture {region.image + 1}" if pictures > 1 else ""
    return f"{region.label or 'here'}: {region.kind} {points}{where}"


def show_found(reply: Reply, out: TextIO, style: Style = "chat") -> None:
    """The places, times and calls of an answer, one a line, calls as JSON; on stderr why an answer is empty, clamped or cut."""
    for region in reply.pixels:
        print("  " + describe(region, len(reply.image_sizes)), file=out)
    for span in reply.spans:
        print(f"  {span.label or 'then'}: {span.start:.2f} s to {span.end:.2f} s", file=out)
    for call in reply.tool_calls:
        print(json.dumps(asdict(call), ensure_ascii=False), file=out)
    if not reply.readable.strip() and not (reply.pixels or reply.tool_calls):
        print(f"({_why_nothing(reply, style)})", file=sys.stderr)
    if reply.clamped:
        numbers = "1 coordinate" if reply.clamped == 1 else f"{reply.clamped} coordinates"
        print(f"({numbers} outside of the picture, moved to its edge)", file=sys.stderr)
    if reply.finish_reason == "length":
        print(f"(cut after {reply.usage.completion_tokens} tokens; --max-new-tokens allows more)", file=sys.stderr)
    if reply.finish_reason == "repetition":
        print("(stopped: the answer went on repeating itself; --repetition-penalty 1.1 may help)", file=sys.stderr)


def _why_nothing(reply: Reply, style: Style) -> str:
    if reply.text:
        return "the model wrote only markup that names no place; --raw shows it"
    hint = '; a base model continues a text: write " QUESTION Answer:"' if style == "raw" else ""
    return f"the model gave no answer{hint}"


def check_output(path: Path, inputs: Sequence[str] = ()) -> None:
    """Raise QwenVLError, before a model is loaded, if a picture cannot be saved there or one of the inputs would be lost."""
    from PIL import Image

    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the name of a file")
    formats = Image.registered_extensions()
    if formats.get(path.suffix.lower()) not in Image.SAVE:
        raise UsageError(f"{path}: {path.suffix or 'no suffix'} is not a picture format that can be written; use .png or .jpg")
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise QwenVLError(f"{path} cannot be written: {existing} is not a folder that may be written to")
    if any(Path(name).exists() and path.exists() and path.samefile(name) for name in inputs):
        raise UsageError(f"{path} is the picture asked about; give another name, or it would be lost")


def save_boxes(reply: Reply, pictures: Sequence[Image | None], path: Path) -> Path | None:
    """Save the picture that the answer's places are in, with them drawn; None, and no file, where there are none.

    `pictures` are those of the conversation in order, None in the place of a clip.
    """
    from qwenvl.inference.draw import draw_regions
    from qwenvl.runtime import atomic_write

    regions = [region for region in reply.regions if region.image < len(pictures) and pictures[region.image] is not None]
    if not regions:
        return None
    image = regions[-1].image
    picture = pictures[image]
    assert picture is not None
    drawn = draw_regions(picture, [region for region in regions if region.image == image], ENLARGE_TO)
    try:
        with atomic_write(path) as temporary:
            drawn.save(temporary)
    except OSError as error:
        raise QwenVLError(f"{path}: cannot be written ({error.strerror or error})") from None
    return path
