"""Sample -> Encoded in one call: pictures, grids, rendered ids, positions, and the one check that text and pictures agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qwenvl.config import ModelConfig
from qwenvl.families import get_family
from qwenvl.families.spec import FamilySpec, Markup
from qwenvl.processing.chat import PlaceholderError, render
from qwenvl.processing.grid import image_grid
from qwenvl.processing.image import ImageError, image_to_patches, open_image
from qwenvl.processing.positions import positions_1d
from qwenvl.processing.tokenizer import Tokenizer, TokenizerError
from qwenvl.types import Encoded, ImagePart, QwenVLError, Sample, Style, name_of

ReadyPicture = tuple[np.ndarray, tuple[int, int, int], tuple[int, int]]
"""Patches (P, C * patch * patch), grid (time, height, width), original (width, height)."""


class ContextError(QwenVLError, ValueError):
    """More tokens than the model's context holds. Nothing is ever cut."""


class Processor:
    """Turns Samples into Encoded for one model. Holds no state besides its arguments."""

    def __init__(self, config: ModelConfig, spec: FamilySpec, tokenizer: Tokenizer, markup: Markup | None = None) -> None:
        tokens = spec.image_tokens
        expected = {tokens.start: config.image_start_id, tokens.end: config.image_end_id, tokens.pad: config.image_pad_id}
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

    def encode(
        self, sample: Sample, style: Style, for_generation: bool = False, pictures: Sequence[ReadyPicture] | None = None
    ) -> Encoded:
        """Encode at the exact length. `for_generation` ends with what precedes the answer (see `chat.render`).

        `pictures`, if given, are those of the sample made ready before: several questions about one picture then share its patches.
        Raises ContextError, PlaceholderError, ImageError, RegionError or RenderError, each naming the sample.
        """
        where = name_of(sample.id)
        if pictures is None:
            pictures = [self.ready(part, number, where) for number, part in enumerate(sample.images, start=1)]
        grids = [grid for _, grid, _ in pictures]
        counts = [self.spec.visual_tokens(self.config, grid) for grid in grids]
        rendered = render(sample, self.tokenizer, self.spec, style, counts, for_generation, self.markup)
        check_placeholders(len(rendered.visual_slots), sum(counts), where)
        encoded = Encoded(
            input_ids=np.array(rendered.input_ids, dtype=np.int64),
            labels=np.array(rendered.labels, dtype=np.int64),
            position_ids=positions_1d(len(rendered.input_ids)),
            patches=join_patches(self.config, pictures),
            grids=np.array(grids, dtype=np.int64).reshape(-1, 3),
            visual_slots=np.array(rendered.visual_slots, dtype=np.int64),
            image_sizes=tuple(size for _, _, size in pictures),
            sample_id=sample.id,
            task=sample.task,
        )
        check_context(self.config, encoded, answering=for_generation)
        return encoded

    def ready(self, part: ImagePart, number: int = 1, where: str = "the prompt") -> ReadyPicture:
        """One picture as `encode` takes it. Raises ImageError saying which: picture `number`, counted from 1, of `where`."""
        return ready_picture(self.config, self.spec, part.image, f"{where}, picture {number}")


def ready_picture(config: ModelConfig, spec: FamilySpec, source: Any, where: str) -> ReadyPicture:
    """Patches, grid and original (width, height) of anything `open_image` takes. Raises ImageError naming `where`."""
    try:
        picture = open_image(source)
    except ImageError as error:
        raise ImageError(f"{where}: {error}") from error
    return image_to_patches(picture, config, spec), image_grid(config, spec, *picture.size), picture.size


def join_patches(config: ModelConfig, pictures: Sequence[ReadyPicture]) -> np.ndarray:
    """Patches (P, C * patch * patch) float32 of all pictures, one after the other; P is 0 without pictures."""
    if len(pictures) == 1:
        return pictures[0][0]
    none = np.empty((0, config.vision.in_channels * config.vision.patch_size**2), dtype=np.float32)
    return np.concatenate([none, *(patches for patches, _, _ in pictures)])


def check_context(config: ModelConfig, encoded: Encoded, answering: bool) -> None:
    """The one check that a sequence fits in the context; with `answering`, the first token of an answer too.

    Raises ContextError with all the numbers.
    """
    length, pictures, limit = len(encoded), len(encoded.grids), config.decoder.max_position_embeddings
    if length + answering <= limit:
        return
    share = f" ({len(encoded.visual_slots)} of them for {_pictures(pictures)})" if pictures else ""
    fits = "leave no room for an answer" if length == limit else "do not fit"
    advice = "shorten the text or leave out pictures" if pictures else "shorten the text"
    raise ContextError(f"{name_of(encoded.sample_id)}: {length} tokens{share} {fits} in the context of {limit}; {advice}")


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"


def check_placeholders(placeholders: int, visual_tokens: int, where: str) -> None:
    """The one check that text and pictures agree. Raises PlaceholderError with the sample and both numbers."""
    if placeholders != visual_tokens:
        raise PlaceholderError(f"{where}: {placeholders} placeholders in the text but {visual_tokens} visual tokens to put there")


def visual_slots_of(
    input_ids: Sequence[int] | np.ndarray, config: ModelConfig, counts: Sequence[int] | None = None, where: str = "input_ids"
) -> np.ndarray:
    """Where the visual tokens go (V,) int64: every index between an image-start and its image-end id.

    What stands between them does not matter: the published tokenizer writes the bytes of the picture's path there, we write pads.
    `counts` are the visual tokens of each picture; by default each has what the config gives. Raises PlaceholderError for a span
    that is not closed or has another length.
    """
    ids = np.asarray(input_ids)
    starts = np.flatnonzero(ids == config.image_start_id)
    ends = np.flatnonzero(ids == config.image_end_id)
    if len(starts) != len(ends) or (starts >= ends).any() or (starts[1:] < ends[:-1]).any():
        raise PlaceholderError(f"{where}: {len(starts)} image starts and {len(ends)} image ends do not pair up; close every span")
    if counts is None:
        side = config.vision.image_size // config.vision.patch_size
        counts = [get_family(config.family).visual_tokens(config, (1, side, side))] * len(starts)
    if len(counts) != len(starts):
        found = "1 image span" if len(starts) == 1 else f"{len(starts)} image spans"
        raise PlaceholderError(f"{where}: {found} in the text but {_pictures(len(counts))}")
    for number, (start, end, count) in enumerate(zip(starts, ends, counts, strict=True), start=1):
        check_placeholders(int(end - start - 1), count, f"{where}, picture {number}")
    spans = [np.arange(start + 1, end, dtype=np.int64) for start, end in zip(starts, ends, strict=True)]
    return np.concatenate([np.empty(0, dtype=np.int64), *spans])
