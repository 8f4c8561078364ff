"""What the small vocabulary is trained on: every task, language and style, over imaginary scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from qwenvl.data.synth.names import COLOURS, EMOJI, SHAPES, counted
from qwenvl.data.tasks import LANGUAGES, TASKS, questions, two_picture_dialogue
from qwenvl.data.text_only import imaginary_scene
from qwenvl.families import find_preset, get_family
from qwenvl.families.spec import Markup
from qwenvl.processing.regions import write_parts
from qwenvl.types import Part, RegionPart, Sample, Style, TextPart

PRESET = "qwen-vl-nano"
_CHARACTER_SHARE = 20
"""Each character of a name stands alone once for so many texts."""


def corpus(seed: int, n: int) -> Iterator[str]:
    """At least `n` pieces of plain text that hold everything a task can say, as they stand between special tokens."""
    preset = find_preset(PRESET)
    chat = get_family(preset.config.family).chat
    frame = ("system", "user", "assistant", "\n", chat.system, *(chat.picture.format(n=count) for count in range(1, 5)))
    yield from _characters(n // _CHARACTER_SHARE)
    rng = np.random.default_rng(seed)
    produced = 0
    styles: tuple[Style, ...] = ("raw", "chat")
    while produced < n:
        yield from frame  # it stands in every dialogue
        scene, other = imaginary_scene(rng), imaginary_scene(rng)
        for language in LANGUAGES:
            samples = [two_picture_dialogue(scene, other, language, rng)]
            for style in styles:
                for task in TASKS:
                    samples += questions(scene, task, language, style, rng)
            for sample in samples:
                for piece in _pieces(sample, preset.markup):
                    produced += 1
                    yield piece


def _characters(times: int) -> Iterator[str]:
    """Every Chinese character of the names, alone, so often that it is merged from its bytes before it is merged with a neighbour.

    Otherwise a common phrase swallows the first byte of what follows it ("一个" and a third of "紫"), and the model would have to
    choose half of a colour too early.
    """
    keys = [(key, colour) for key in (*EMOJI, *SHAPES) for colour in (None, *COLOURS)]
    phrases = (counted(key, count, "zh", colour) for key, colour in keys for count in range(1, 5))
    for character in sorted(set("".join(phrases))):
        yield "\n".join(character * times)


def _pieces(sample: Sample, markup: Markup) -> Iterator[str]:
    for message in sample.messages:
        yield from _plain_pieces(message.parts, markup)


def _plain_pieces(parts: Sequence[Part], markup: Markup) -> Iterator[str]:
    """Runs of plain text between special tokens, neighbours joined as the renderer joins them."""
    run = ""
    for part in parts:
        if isinstance(part, TextPart):
            run += part.text
        elif isinstance(part, RegionPart):
            yield from (run,) if run else ()
            run = ""
            yield from (piece for piece in write_parts([part], markup) if isinstance(piece, str))
    if run:
        yield run
