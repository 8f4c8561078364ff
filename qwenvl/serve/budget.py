"""A prompt that is too long for its model: found before a picture is decoded, and told with a pixel budget that would fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qwenvl.processing.chat import render
from qwenvl.processing.clip_rules import clip_size
from qwenvl.processing.grid import SizeError, image_grid, unit_side
from qwenvl.processing.image import ImageError, picture_size
from qwenvl.processing.video import Clip, clip_room, open_clip
from qwenvl.serve.errors import ApiError
from qwenvl.types import ImagePart, Sample, Style, VideoPart

ANSWER = 256
"""Tokens left for an answer by the budget that is proposed, where the request does not say how many it wants."""


def check_pictures(model: Any, sample: Sample, style: Style, answer: int | None) -> None:
    """Raise ApiError (400) where the pictures alone are more than the context, or one has no size: nothing was decoded yet."""
    context, seen = model.config.decoder.max_position_embeddings, 0
    for number, part in enumerate(sample.images, start=1):
        try:
            seen += _tokens(model, part, picture_size(part.image), None)
        except (ImageError, SizeError) as error:
            raise ApiError(400, f"picture {number}: {error}", param="messages", code="invalid_media") from error
    if seen >= context:
        raise too_long(model, sample, style, answer)


def too_long(model: Any, sample: Sample, style: Style, answer: int | None) -> ApiError:
    """What to tell of a prompt that does not fit: how long it is, what for, and the pixels per picture with which it would."""
    context = model.config.decoder.max_position_embeddings
    looks = [_Look(model, part) for part in sample.visuals]
    seen = sum(look.tokens(None) for look in looks)
    text = _text_tokens(model, sample, style)
    noun = "pictures and clips" if len(sample.images) < len(looks) else "picture" if len(looks) == 1 else "pictures"
    share = f" ({seen} of them for {len(looks)} {noun})" if looks else ""
    message = f"the prompt: {text + seen} tokens{share} do not fit in the context of {context}; "
    wanted = min(answer or ANSWER, context // 4)
    budget = _budget(model, looks, context - text - wanted) if looks else None
    if budget is not None:
        message += f"max_pixels {budget} for each would fit, with room for an answer of {wanted}"
    elif not looks or text + wanted >= context:
        message += "shorten the text"
    else:
        most = max(0, int((context - text - wanted) / max(seen / len(looks), 1)))
        message += f"send fewer: {most} of this kind would fit"
    return ApiError(400, message, param="messages", code="context_length_exceeded")


class _Look:
    """A picture or clip, and how many tokens it would be at another pixel budget. Its header is read once."""

    def __init__(self, model: Any, part: ImagePart | VideoPart) -> None:
        self.model, self.part = model, part
        self.clip: Clip | None = open_clip(model.config, model.spec, part) if isinstance(part, VideoPart) else None
        self.size = self.clip.size if self.clip else picture_size(part.image)  # type: ignore[union-attr]

    def tokens(self, most: int | None) -> int:
        if self.clip is None:
            assert isinstance(self.part, ImagePart)
            return _tokens(self.model, self.part, self.size, most)
        if most is None:
            return self.clip.tokens
        config, count = self.model.config, len(self.clip.indices)
        shown = clip_size(config, self.model.spec, _within(self.part, most), count, self.size, clip_room(config))
        return replace(self.clip, shown=shown).tokens


def _tokens(model: Any, part: ImagePart, size: tuple[int, int], most: int | None) -> int:
    bounds = part if most is None else _within(part, most)
    return int(
        model.spec.visual_tokens(model.config, image_grid(model.config, model.spec, *size, bounds.min_pixels, bounds.max_pixels))
    )


def _within(part: Any, most: int) -> Any:
    """The part with no more than so many pixels, its own bounds giving way."""
    least = None if part.min_pixels is None else min(part.min_pixels, most)
    return replace(part, min_pixels=least, max_pixels=min(part.max_pixels or most, most))


def _budget(model: Any, looks: Sequence[_Look], room: int) -> int | None:
    """The most pixels per picture with which all of them have at most `room` tokens; None where no budget does."""
    if model.config.vision.image_size is not None or room <= 0:
        return None
    unit = unit_side(model.config.vision) ** 2

    def fits(units: int) -> bool:
        return sum(look.tokens(units * unit) for look in looks) <= room

    low, high = 0, room + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * unit if low else None


def _text_tokens(model: Any, sample: Sample, style: Style) -> int:
    """Tokens of everything but the insides of pictures."""
    count = len(sample.visuals)
    frames = [(1000, 1000)] * count
    processor = model.need_processor()
    rendered = render(
        sample, processor.tokenizer, model.spec, style, [1] * count, for_generation=True, markup=model.markup, frames=frames
    )
    return len(rendered.input_ids) - count
