"""To look at: scenes with their boxes drawn, every question that the tasks put about them, and what training reads of one."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from qwenvl.data.html_page import html_page
from qwenvl.data.places import for_markup, has_points
from qwenvl.data.synth.names import Language
from qwenvl.data.synth.scene import Scene
from qwenvl.data.tasks import POINTING, TASKS, questions, two_picture_dialogue
from qwenvl.families import family_of_preset
from qwenvl.families.spec import Preset
from qwenvl.processing.grid import frame_size, image_grid
from qwenvl.processing.regions import parts_text
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.types import IGNORE_INDEX, Encoded, Sample, Style

if TYPE_CHECKING:
    from rich.text import Text

_STYLE = """
section { display: flex; flex-wrap: wrap; gap: 1.5em; border-top: 1px solid var(--line); padding: 1em 0 }
svg { width: 22em; height: 22em; flex: none } polygon { fill: none; stroke: #f0f; stroke-width: .6 }
table { flex: 1; min-width: min(28em, 100%) }
td { padding: .1em .6em; vertical-align: top; border-bottom: 1px solid var(--line) }
td:first-child { color: var(--faint); white-space: nowrap } td:last-child { color: var(--bad); white-space: pre-wrap }
"""


def scene_page(scenes: Sequence[Scene], languages: Sequence[Language], styles: Sequence[Style], seed: int, preset: Preset) -> str:
    """An HTML page that stands alone. The answers, which training supervises, are red, as in the paper's Box B; places are written
    as the preset's model is taught to write them."""
    rng = np.random.default_rng(seed)
    tasks = (*TASKS, *POINTING) if has_points(preset.markup) else TASKS
    sections = ""
    for number, scene in enumerate(scenes):
        other = scenes[(number + 1) % len(scenes)]
        samples: list[Sample] = []
        for style, language in product(styles, languages):
            for task in tasks:
                samples += questions(scene, task, language, style, rng)
            if style == "chat" and len(scenes) > 1:
                samples.append(two_picture_dialogue(scene, other, language, rng))
        rows = "".join(_rows(for_markup(sample, preset.markup), preset) for sample in samples)
        title = f"<p>seed {scene.seed}, index {scene.index}: {len(scene.things)} things on {html.escape(scene.background)}</p>"
        sections += f"<section><div>{_drawing(scene)}{title}</div><table>{rows}</table></section>"
    return html_page("scenes", sections, _STYLE, width="75em")


def _drawing(scene: Scene) -> str:
    """The picture with the box and the quad of every thing over it."""
    file = io.BytesIO()
    scene.image.save(file, "png")
    data = base64.b64encode(file.getvalue()).decode()
    polygons = ""
    for thing in scene.things:
        for points in (thing.quad, _corners(thing.box)):
            corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            polygons += f'<polygon points="{corners}"><title>{html.escape(thing.name)}</title></polygon>'
    size = f'width="{scene.width}" height="{scene.height}"'
    return f'<svg viewBox="0 0 {scene.width} {scene.height}"><image {size} href="data:image/png;base64,{data}"/>{polygons}</svg>'


def _corners(box: tuple[float, float, float, float]) -> tuple[tuple[float, float], ...]:
    left, top, right, bottom = box
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _rows(sample: Sample, preset: Preset) -> str:
    """A table row for every turn; a sentence on its own has an empty question."""
    spec, patch = family_of_preset(preset), preset.config.vision.patch_size
    grids = [image_grid(preset.config, spec, *part.image.size) for part in sample.images]
    frames = {number: frame_size(grid, patch) for number, grid in enumerate(grids)}
    rows = asked = ""
    for message in sample.messages:
        said = html.escape(parts_text(message.parts, preset.markup, frames, picture="🖼"))
        if message.role == "user":
            asked = said
        else:
            rows += f"<tr><td>{sample.task} {sample.language}</td><td>{asked}</td><td>{said}</td></tr>"
    return rows


# Neighbouring tokens take turns at two shades, so that their borders show: supervised, and only read.
_SHADES = {True: ("#ffffff on #b00020", "#ffffff on #c93a52"), False: ("#222222 on #d8d8d8", "#222222 on #eeeeee")}


def tokens_view(encoded: Encoded, tokenizer: Tokenizer) -> Text:
    """Every token of one encoded sample as text, supervised ones on red. A picture's placeholders stand as one, with their number,
    and so do a clip's.

    A line ends after every line feed, shown as an arrow; bytes that are not a whole character are shown as hexadecimal numbers.
    """
    from rich.text import Text

    view = Text()
    visual = set(encoded.visual_slots.tolist())
    shown = placeholders = 0
    for place, (token, label) in enumerate(zip(encoded.input_ids.tolist(), encoded.labels.tolist(), strict=True)):
        placeholders += place in visual
        if place in visual and place + 1 in visual:
            continue
        if place in visual:
            written, placeholders = f"{tokenizer.decode([token])} x {placeholders}", 0
        else:
            written = _token_text(tokenizer.id_to_bytes(token))
        shades = _SHADES[label != IGNORE_INDEX]
        view.append(written, shades[shown % 2])
        shown += 1
        if written.endswith("⏎"):
            view.append("\n")
    return view


def _token_text(written: bytes) -> str:
    try:
        return written.decode("utf-8").replace("\n", "⏎")
    except UnicodeDecodeError:
        return "".join(f"⟨{byte:02X}⟩" for byte in written)


def contact_sheet(scenes: Sequence[Scene], columns: int = 6, side: int = 224, gap: int = 6) -> Image.Image:
    """The scenes side by side, each fitted into a square of one size, every thing's box drawn over it."""
    rows = -(-len(scenes) // columns)
    columns = min(columns, len(scenes))
    sheet = Image.new("RGB", (columns * (side + gap) - gap, rows * (side + gap) - gap), "white")
    for number, scene in enumerate(scenes):
        longest = max(scene.width, scene.height)
        fitted = (round(scene.width * side / longest), round(scene.height * side / longest))
        picture = scene.image.resize(fitted, Image.Resampling.LANCZOS)
        pen = ImageDraw.Draw(picture)
        for thing in scene.things:
            pen.rectangle([value * side / longest for value in thing.box], outline=(255, 0, 255))
        row, column = divmod(number, columns)
        sheet.paste(picture, (column * (side + gap), row * (side + gap)))
    return sheet
