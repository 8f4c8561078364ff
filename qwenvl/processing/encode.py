"""Sample -> Encoded in one call: pictures, grids, rendered ids, positions, and the one check that text and pictures agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from qwenvl.config import ModelConfig
from qwenvl.families import get_family
from qwenvl.families.spec import FamilySpec, Markup
from qwenvl.processing.chat import PlaceholderError, render
from qwenvl.processing.grid import SizeError, frame_size, image_grid, window_plan
from qwenvl.processing.image import ImageError, ReadyPicture, describe, image_to_patches, open_image
from qwenvl.processing.patches import join_patches
from qwenvl.processing.positions import positions_of
from qwenvl.processing.tokenizer import Tokenizer, TokenizerError
from qwenvl.processing.video import Clip, KeptClips, clip_room, fit_clips, ready_video
from qwenvl.types import IGNORE_INDEX, Encoded, ImagePart, QwenVLError, Sample, Style, VideoPart, name_of


class ContextError(QwenVLError, ValueError):
    """More tokens than the model's context holds. Nothing is ever cut."""


class Processor:
    """Turns Samples into Encoded for one model. Holds no state besides its arguments.

    pixels: whether patches are pixels, which are made sooner and are small, for a tower that is told how to read them.
    """

    def __init__(
        self, config: ModelConfig, spec: FamilySpec, tokenizer: Tokenizer, markup: Markup | None = None, pixels: bool = False
    ) -> None:
        tokens = spec.image_tokens
        expected = {tokens.start: config.image_start_id, tokens.end: config.image_end_id, tokens.pad: config.image_pad_id}
        if tokens.video_pad is not None and config.video_pad_id is not None:
            expected[tokens.video_pad] = config.video_pad_id
        for name, index in expected.items():
            if tokenizer.special(name) != index:
                raise TokenizerError(
                    f"{name} is id {tokenizer.special(name)} in the tokenizer but {index} in the config; they belong to two models"
                )
        if tokenizer.vocab_size > config.decoder.vocab_size:
            raise TokenizerError(
                f"the tokenizer has {tokenizer.vocab_size} ids, the model's vocabulary {config.decoder.vocab_size}; "
                "they belong to two models"
            )
        self.config = config
        self.spec = spec
        self.tokenizer = tokenizer
        self.markup = markup or Markup()
        self.pixels = pixels

    def encode(
        self,
        sample: Sample,
        style: Style,
        for_generation: bool = False,
        pictures: Sequence[ReadyPicture] | None = None,
        numbered: bool | None = None,
        kept: KeptClips | None = None,
    ) -> Encoded:
        """Encode at the exact length. `for_generation` ends with what precedes the answer; `numbered` is as for `chat.render`.

        `pictures`, if given, are the pictures and videos of the sample made ready before: several questions about one picture then
        share its patches. `kept`, if given, remembers the clips from one call to the next. That a sample is too long is found
        before a clip is decoded.
        Raises ContextError, PlaceholderError, ImageError, VideoError, SizeError, RegionError or RenderError, naming the sample.
        """
        where = name_of(sample.id)
        kept = kept or KeptClips()
        visuals = self._look(sample, where, kept) if pictures is None else pictures
        counts = [self.spec.visual_tokens(self.config, visual.grid) for visual in visuals]
        frames = [frame_size(visual.grid, self.config.vision.patch_size) for visual in visuals]
        rendered = render(
            sample, self.tokenizer, self.spec, style, counts, for_generation, self.markup, numbered=numbered, frames=frames
        )
        check_placeholders(len(rendered.visual_slots), sum(counts), where)
        ids, labels, slots = (
            np.array(values, dtype=np.int64) for values in (rendered.input_ids, rendered.labels, rendered.visual_slots)
        )
        check_length(self.config, ids, slots, where, answering=for_generation)
        pictures = [kept.read(visual, self.pixels) if isinstance(visual, Clip) else visual for visual in visuals]
        return assemble(self.config, self.spec, ids, slots, pictures, labels).with_(sample_id=sample.id, task=sample.task)

    def ready(self, part: ImagePart | VideoPart, number: int = 1, where: str = "the prompt") -> ReadyPicture:
        """One picture or video as `encode` takes it.

        Raises ImageError, VideoError or SizeError saying which: picture or video `number`, each counted from 1, of `where`.
        """
        if isinstance(part, VideoPart):
            return ready_video(self.config, self.spec, part, f"{where}, video {number}", self.pixels)
        where = f"{where}, picture {number}"
        return ready_picture(self.config, self.spec, part.image, where, part.min_pixels, part.max_pixels, self.pixels)

    def _look(self, sample: Sample, where: str, kept: KeptClips) -> list[ReadyPicture | Clip]:
        """All pictures made ready and all clips opened, in order; numbered apart in errors as they are in the text.

        The clips share what the pictures leave of the context.
        """
        numbers: dict[type, int] = {ImagePart: 0, VideoPart: 0}
        seen: list[ReadyPicture | Clip] = []
        for part in sample.visuals:
            numbers[type(part)] += 1
            if isinstance(part, VideoPart):
                seen.append(kept.open(self.config, self.spec, part, f"{where}, video {numbers[VideoPart]}"))
            else:
                seen.append(self.ready(part, numbers[ImagePart], where))
        taken = sum(self.spec.visual_tokens(self.config, item.grid) for item in seen if isinstance(item, ReadyPicture))
        fitted = iter(fit_clips([item for item in seen if isinstance(item, Clip)], clip_room(self.config, taken)))
        return [next(fitted) if isinstance(item, Clip) else item for item in seen]


def ready_picture(
    config: ModelConfig, spec: FamilySpec, source: Any, where: str, min_pixels: int | None = None, max_pixels: int | None = None,
    pixels: bool = False,
) -> ReadyPicture:  # fmt: skip
    """Patches, grid and original (width, height) of anything `open_image` takes; pixel bounds as in `image_grid`, patches as in
    `image_to_patches`.

    Raises ImageError or SizeError naming `where` and, if it has a name, the picture.
    """
    try:
        picture = open_image(source)
        grid = image_grid(config, spec, *picture.size, min_pixels, max_pixels)
    except ImageError as error:
        raise ImageError(f"{where}: {error}") from error
    except SizeError as error:
        name = "" if isinstance(source, Image.Image) else f"{describe(source)}: "
        raise SizeError(f"{where}: {name}{error}") from error
    return ReadyPicture(image_to_patches(picture, config, spec, grid, pixels), grid, picture.size)


def assemble(
    config: ModelConfig,
    spec: FamilySpec,
    input_ids: np.ndarray,
    visual_slots: np.ndarray,
    pictures: Sequence[ReadyPicture],
    labels: np.ndarray | None = None,
    position_ids: np.ndarray | None = None,
) -> Encoded:
    """An Encoded of ids (T,) int64 and the pictures and videos whose visual tokens stand at visual_slots (V,), in order.

    labels (T,): nothing is supervised if not given; position_ids (3, T): by the family's rule if not given.
    """
    grids = np.array([picture.grid for picture in pictures], dtype=np.int64).reshape(-1, 3)
    if position_ids is None:
        seconds = [picture.seconds_per_grid for picture in pictures]
        position_ids = positions_of(config, spec, len(input_ids), visual_slots, grids, seconds)
    return Encoded(
        input_ids=input_ids,
        labels=np.full_like(input_ids, IGNORE_INDEX) if labels is None else labels,
        position_ids=position_ids,
        patches=all_patches(config, pictures),
        grids=grids,
        visual_slots=visual_slots,
        image_sizes=tuple(picture.size for picture in pictures),
        windows=window_plan(grids, config.vision),
    )


def all_patches(config: ModelConfig, pictures: Sequence[ReadyPicture]) -> np.ndarray:
    """The patches of all pictures, one after the other; without pictures no numbers (0, C * T * patch * patch)."""
    if not pictures:
        return np.empty((0, config.vision.patch_numbers), dtype=np.float32)
    return join_patches([picture.patches for picture in pictures])


def check_context(config: ModelConfig, encoded: Encoded, answering: bool) -> None:
    """`check_length` of an Encoded."""
    check_length(config, encoded.input_ids, encoded.visual_slots, name_of(encoded.sample_id), answering)


def check_length(config: ModelConfig, input_ids: np.ndarray, visual_slots: np.ndarray, where: str, answering: bool) -> None:
    """The one check that a sequence fits in the context; with `answering`, the first token of an answer too.

    Raises ContextError with all the numbers.
    """
    length, limit = len(input_ids), config.decoder.max_position_embeddings
    if length + answering <= limit:
        return
    firsts = visual_slots[input_ids[visual_slots - 1] == config.image_start_id]
    videos = int((input_ids[firsts] == config.video_pad_id).sum()) if config.video_pad_id is not None else 0
    pictures = len(firsts) - videos
    seen = " and ".join(filter(None, (_counted(pictures, "picture"), _counted(videos, "video"))))
    share = f" ({len(visual_slots)} of them for {seen})" if seen else ""
    fits = "leave no room for an answer" if length == limit else "do not fit"
    advice = "shorten the text"
    if seen:
        smaller = "give a smaller max_pixels" + (" or fps" if videos else "")
        fewer = "leave out " + " or ".join(["pictures"] * bool(pictures) + ["videos"] * bool(videos))
        advice += f" or {fewer}" if config.vision.image_size is not None else f", {smaller}, or {fewer}"
    raise ContextError(f"{where}: {length} tokens{share} {fits} in the context of {limit}; {advice}")


def _counted(count: int, noun: str) -> str:
    """A number with its noun, "2 pictures"; nothing for none."""
    return "" if not count else f"{count} {noun}" + "s" * (count > 1)


def check_placeholders(placeholders: int, visual_tokens: int, where: str) -> None:
    """The one check that text and pictures agree. Raises PlaceholderError with the sample and both numbers."""
    if placeholders != visual_tokens:
        raise PlaceholderError(f"{where}: {placeholders} placeholders in the text but {visual_tokens} visual tokens to put there")


class VisualSpan(NamedTuple):
    """A picture or video in a row of ids: its visual tokens stand in [start, end)."""

    start: int
    end: int
    is_video: bool


def visual_spans(input_ids: Sequence[int] | np.ndarray, config: ModelConfig, where: str = "input_ids") -> list[VisualSpan]:
    """What stands between every image-start and its image-end id, in order.

    Where pictures are squares of one size, what stands between does not matter: the published Qwen-VL tokenizer writes the bytes
    of the picture's path there, we write pads. Where their number of tokens varies, it must be the pads of a picture or of a video.
    Raises PlaceholderError for a span that is not closed or not of pads.
    """
    ids = np.asarray(input_ids)
    starts = np.flatnonzero(ids == config.image_start_id)
    ends = np.flatnonzero(ids == config.image_end_id)
    if len(starts) != len(ends) or (starts >= ends).any() or (starts[1:] < ends[:-1]).any():
        raise PlaceholderError(f"{where}: {len(starts)} image starts and {len(ends)} image ends do not pair up; close every span")
    spans = []
    for number, (start, end) in enumerate(zip((starts + 1).tolist(), ends.tolist(), strict=True), start=1):
        inside = ids[start:end]
        is_video = config.video_pad_id is not None and bool(len(inside)) and bool(inside[0] == config.video_pad_id)
        pad = config.video_pad_id if is_video else config.image_pad_id
        if config.vision.image_size is None and (inside != pad).any():
            raise PlaceholderError(f"{where}, picture {number}: between start and end stands another id than the pad, {pad}")
        spans.append(VisualSpan(start, end, is_video))
    return spans


def visual_slots_of(
    input_ids: Sequence[int] | np.ndarray, config: ModelConfig, counts: Sequence[int] | None = None, where: str = "input_ids"
) -> np.ndarray:
    """Where the visual tokens go (V,) int64: every index between an image-start and its image-end id (see `visual_spans`).

    `counts` are the visual tokens of each picture and video in order; by default each has what the config gives, or, where that
    depends on the picture, what stands there. Raises PlaceholderError for a span that is not closed or has another length.
    """
    spans = visual_spans(input_ids, config, where)
    if counts is None:
        counts = [span.end - span.start for span in spans]
        if config.vision.image_size is not None:
            side = config.vision.image_size // config.vision.patch_size
            counts = [get_family(config.family).visual_tokens(config, (1, side, side))] * len(spans)
    if len(counts) != len(spans):
        given = _counted(len(counts), "picture") or "no picture"
        raise PlaceholderError(f"{where}: {_counted(len(spans), 'image span') or 'no image span'} in the text but {given}")
    for number, (span, count) in enumerate(zip(spans, counts, strict=True), start=1):
        check_placeholders(span.end - span.start, count, f"{where}, picture {number}")
    return np.concatenate([np.empty(0, dtype=np.int64), *(np.arange(span.start, span.end, dtype=np.int64) for span in spans)])
