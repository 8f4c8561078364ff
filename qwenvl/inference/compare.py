"""Several models on one picture: their answers one after the other, and their places in one picture, a panel per model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from qwenvl.inference.draw import draw_regions, find_fonts, wrap, write_runs
from qwenvl.inference.model import load
from qwenvl.inference.reply import Reply
from qwenvl.inference.sampling import GenerationOptions
from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 420
"""Longer side of the picture in every panel, in pixels."""
MARGIN = 18
COLUMNS = 4
ANSWER_LINES = 4
PAPER, INK, FAINT, ALARM = (255, 255, 255), (24, 24, 28), (110, 110, 118), (176, 24, 24)

Line = tuple[str, int, tuple[int, int, int], int]  # text, height of its letters, colour, most lines


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model answered, or, in one line, why it did not. seconds: of the answer, from the picture on; not of loading."""

    model: str
    reply: Reply | None = None
    seconds: float = 0.0
    error: str | None = None

    @property
    def cost(self) -> str:
        """Time and tokens for people."""
        if self.reply is None:
            return "no answer"
        usage = self.reply.usage
        tokens = f"{usage.prompt_tokens} tokens in ({usage.image_tokens} visual), {usage.completion_tokens} out"
        return f"{self.seconds:.2f} s, {tokens}"


def ask_each(
    models: Sequence[str], messages: Sequence[Any], options: GenerationOptions | None = None,
    device: str | None = None, dtype: str | None = None,
) -> Iterator[Outcome]:  # fmt: skip
    """Load each model, ask it, let it go, and yield its outcome. A model that cannot answer is an Outcome too."""
    for name in models:
        try:
            outcome = _ask(name, messages, options, device, dtype)
        except (QwenVLError, OSError, MemoryError, torch.OutOfMemoryError) as error:
            outcome = Outcome(name, error=" ".join(str(error).split()) or type(error).__name__)
        yield outcome


def _ask(name: str, messages: Sequence[Any], options: GenerationOptions | None, device: str | None, dtype: str | None) -> Outcome:
    """One answer. When this returns, nothing holds the model, and there is room for the next one."""
    model = load(name, device, dtype)
    start = time.perf_counter()
    reply = model.chat(messages, options=options)
    return Outcome(name, reply, time.perf_counter() - start)


def draw_comparison(picture: Image, question: str, outcomes: Sequence[Outcome]) -> Image:
    """A picture with a panel for each model: its name, the picture with its places, its answer, and what that cost."""
    from PIL import Image as Images

    columns = min(len(outcomes), COLUMNS)
    factor = SIDE / max(picture.size)
    size = max(round(picture.width * factor), 1), max(round(picture.height * factor), 1)
    small = picture.convert("RGB").resize(size, Images.Resampling.BICUBIC)
    width = max(size[0], SIDE // 2)
    panels = [_panel(small, outcome, width) for outcome in outcomes]
    head = _text([(question, 20, INK, 3)], columns * (width + MARGIN) - MARGIN)
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [max(panel.height for panel in row) for row in rows]
    whole = (MARGIN + columns * (width + MARGIN), head.height + sum(heights) + MARGIN * (2 + len(rows)))
    canvas = Images.new("RGB", whole, PAPER)
    canvas.paste(head, (MARGIN, MARGIN))
    top = 2 * MARGIN + head.height
    for row, height in zip(rows, heights):
        for column, panel in enumerate(row):
            canvas.paste(panel, (MARGIN + column * (width + MARGIN), top))
        top += height + MARGIN
    return canvas


def _panel(picture: Image, outcome: Outcome, width: int) -> Image:
    from PIL import Image as Images

    reply = outcome.reply
    drawn = picture if reply is None else draw_regions(picture, reply.regions)
    if reply is None:
        below: list[Line] = [(outcome.error or "", 15, ALARM, ANSWER_LINES)]
    else:
        said = reply.readable.strip() or ("(only a place)" if reply.regions else "(no answer)")
        below = [(said, 16, INK, ANSWER_LINES), (outcome.cost, 13, FAINT, 2)]
    # Of a path its end, which tells models apart.
    title = "/".join(Path(outcome.model).parts[-2:])
    name, words = _text([(title, 17, INK, 1)], width), _text(below, width)
    panel = Images.new("RGB", (width, name.height + drawn.height + words.height + 12), PAPER)
    panel.paste(name, (0, 0))
    panel.paste(drawn, (0, name.height + 4))
    panel.paste(words, (0, name.height + drawn.height + 12))
    return panel


def _text(lines: Sequence[Line], width: int) -> Image:
    """Lines of text on paper, wrapped to a width."""
    from PIL import Image as Images
    from PIL import ImageDraw as Draws

    canvas = Images.new("RGB", (width, sum(math.ceil(height * 1.4) * most for _, height, _, most in lines)), PAPER)
    draw, top = Draws.Draw(canvas), 0
    for text, height, colour, most in lines:
        for runs in wrap(text, find_fonts(height), width, most):
            write_runs(draw, runs, (0, top + height * 1.1), colour)
            top += math.ceil(height * 1.4)
    return canvas.crop((0, 0, width, max(top, 1)))
