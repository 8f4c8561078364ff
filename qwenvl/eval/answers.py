"""A page of answers drawn at random, right and wrong ones alike, with the pictures on one contact sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl.eval.task import EvaluationError, Prediction, Question, Scorer
from qwenvl.runtime import atomic_write

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = 8
SIDES = (112, 96, 80, 64)
SHEET_BYTES = 400_000
"""A page's pictures must stay small in a repository."""
MARGIN, CAPTION = 6, 14


def draw_questions(questions: Sequence[Question], count: int, seed: int) -> list[Question]:
    """`count` different questions, each as likely as any other, in the order of the drawing."""
    import numpy as np

    if count > len(questions):
        raise EvaluationError(f"{count} answers wanted, but only {len(questions)} questions to draw from; ask for fewer")
    ordered = sorted(questions, key=lambda question: question.id)
    return [ordered[index] for index in np.random.default_rng(seed).permutation(len(ordered))[:count]]


def page_heading(settings: Mapping[str, Any], command: str) -> list[str]:
    """The lines above the table: what was asked of what, and the command that wrote the page."""
    prints = settings["fingerprint"]
    return [
        f"# {settings['questions']} answers of {settings['model']}, drawn at random",
        "",
        "Nothing was picked: every question of the benchmark was as likely as any other, and every answer drawn is shown.",
        "The scenes are held out from training; the answer is greedy.",
        "The last column says what the answer earned of its task's first measure.",
        "",
        f"Written by `{command}`; weights `{prints['weights']}`, vocabulary `{prints['vocabulary']}`,"
        f" questions `{settings['hashes']['questions']}`, qwenvl {settings['versions'].get('qwenvl', 'unknown')}.",
    ]


def write_page(
    out: Path, predictions: Sequence[Prediction], pictures: Sequence[Any], scorer: Scorer, heading: Sequence[str]
) -> Path:
    """Write the Markdown page and its contact sheet (images/<name>.png beside it); returns the sheet's path.

    `pictures` are PIL images, one per prediction; `heading` the lines above the table.
    """
    sheet = out.parent / "images" / f"{out.stem}.png"
    marks = [mark(scorer, prediction) for prediction in predictions]
    rows = [
        f"| {number} | {_cell(prediction.question)} | {_cell(prediction.reply)} | {_cell(prediction.reference)} | {sign} |"
        for number, (prediction, sign) in enumerate(zip(predictions, marks, strict=True), start=1)
    ]
    lines = [
        *heading,
        "",
        f"![The pictures, numbered](images/{sheet.name})",
        "",
        "| | asked | answered | true answer | earned |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
    data = contact_sheet(pictures)
    with atomic_write(sheet) as temporary:
        temporary.write_bytes(data)
    with atomic_write(out) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    return sheet


def mark(scorer: Scorer, prediction: Prediction) -> str:
    """What the answer earned of its task's first measure: "yes", "no", or a share such as "2/3"."""
    tallies = [tally for tally in scorer(prediction).values() if tally[1] > 0]
    if not tallies:
        return "–"
    earned, possible = tallies[0]
    if earned in (0, possible):
        return "yes" if earned else "no"
    return f"{earned:g}/{possible:g}"


def contact_sheet(pictures: Sequence[Image]) -> bytes:
    """A PNG of at most 400 kB: the pictures in rows of eight, numbered from 1, as large as the limit allows."""
    for side in SIDES:
        data = _sheet(pictures, side)
        if len(data) <= SHEET_BYTES:
            return data
    raise EvaluationError(f"{len(pictures)} pictures do not fit into {SHEET_BYTES} bytes at {SIDES[-1]} pixels; ask for fewer")


def _sheet(pictures: Sequence[Image], side: int) -> bytes:
    from PIL import Image, ImageDraw

    rows = math.ceil(len(pictures) / COLUMNS)
    columns = min(len(pictures), COLUMNS)
    sheet = Image.new("RGB", (columns * (side + MARGIN) + MARGIN, rows * (side + MARGIN + CAPTION) + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for place, picture in enumerate(pictures):
        left = MARGIN + place % COLUMNS * (side + MARGIN)
        top = MARGIN + place // COLUMNS * (side + MARGIN + CAPTION)
        draw.text((left, top), str(place + 1), fill="black")
        sheet.paste(picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (left, top + CAPTION))
    # A palette makes the noisy backgrounds a third of their size, and shows no difference at this scale.
    buffer = BytesIO()
    sheet.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _cell(text: str) -> str:
    """Text for one cell of a Markdown table: markup is shown, not interpreted."""
    if not text.strip():
        return "*(nothing)*"
    flat = " ".join(text.split())
    for character in ("&", "<", ">", "|"):
        flat = flat.replace(character, f"&#{ord(character)};")
    return flat
