"""What a model is really taught, to look at: pictures as it sees them, places read back from its tokens, tokens by supervision.

Nothing here is drawn from the Sample: pictures come out of the patches and places out of the ids, so that a frame or an order that
is wrong anywhere on the way shows.
"""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from qwenvl.data.html_page import html_page, marks
from qwenvl.data.outlines import regions_of
from qwenvl.processing.encode import Processor
from qwenvl.processing.grid import frame_size
from qwenvl.processing.patches import uncut_patches
from qwenvl.processing.regions import read_places
from qwenvl.types import IGNORE_INDEX, Encoded, QwenVLError, Region, Sample, Style

MOST_FRAMES = 8
"""Frames of a clip that are shown."""

_STYLE = """
section { border-top: 1px solid var(--line); padding: 1em 0; display: flex; gap: 1.5em; align-items: flex-start; flex-wrap: wrap }
.pictures { flex: none; max-width: min(34em, 100%) }
svg { max-width: min(34em, 100%); max-height: 34em; display: block; margin-bottom: .5em }
.said { flex: 1; min-width: min(26em, 100%) } h2 { font-size: 1em; margin: 0 }
polygon, circle { fill: none; stroke: #f0f; stroke-width: 2; vector-effect: non-scaling-stroke }
.tokens { white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.7 ui-monospace, monospace; margin-top: .6em }
.tokens span { padding: 0 1px; border-radius: 2px; background: #eee; color: #222 } .tokens span:nth-child(2n) { background: #ddd }
.tokens .s { background: #b00020; color: #fff } .tokens .s:nth-child(2n) { background: #cf4a5c }
.tokens .v, .tokens .v:nth-child(2n) { background: #cfe3ff; color: #234 } .bad { color: var(--bad) }
td { padding: .1em 1.2em .1em 0; border-bottom: 1px solid var(--line) }
td + td { text-align: right; font-variant-numeric: tabular-nums }
"""
_LEGEND = (
    '<p class="tokens">tokens: <span class="s">supervised</span> <span>read only</span> <span class="v">of a picture</span></p>'
)


@dataclass(frozen=True, slots=True)
class Place:
    """A place read back from the tokens, in fractions of a picture, and how far it is from where the Sample has it, in pixels of
    the resized picture; None where the two cannot be told to be the same."""

    region: Region
    error: float | None


def samples_page(
    title: str, samples: Iterable[Sample | QwenVLError], processor: Processor, style: Style, counts: Counter[str] | None = None
) -> str:
    """An HTML page that stands alone: a summary, then every sample. One that cannot be encoded stands there with the reason.

    `counts` is given what the summary says: `samples`, `refused`, and what they hold.
    """
    sections: list[str] = []
    counts = Counter() if counts is None else counts
    for sample in samples:
        try:
            if isinstance(sample, QwenVLError):
                raise sample
            encoded = processor.encode(sample, style)
        except QwenVLError as error:
            sections.append(f'<section><p class="bad">{html.escape(str(error))}</p></section>')
            counts["refused"] += 1
            continue
        places = read_back(sample, encoded, processor)
        _count(counts, encoded, places)
        sections.append(_section(sample, encoded, places, processor))
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{count:,}</td></tr>" for name, count in counts.items())
    body = f"<h1>{html.escape(title)}</h1><table>{rows}</table>{_LEGEND}{''.join(sections)}"
    return html_page(title, body, _STYLE, width="82em")


def read_back(sample: Sample, encoded: Encoded, processor: Processor) -> list[Place]:
    """The places that the ids name, told which picture they lie in by the Sample's own, which come in the same order."""
    written = [region for message in sample.messages for part in message.parts for region in regions_of(part)]
    sides = [frame_size(grid, processor.config.vision.patch_size) for grid in encoded.grids.tolist()]
    images = [side for side, is_image in zip(sides, _are_images(sample), strict=True) if is_image]
    text = _text(encoded, processor)
    places: list[Place] = []
    for image, frame in enumerate(images):
        regions = read_places(text, processor.markup, image=image, frame=frame).regions
        if len(regions) == len(written):
            pairs = zip(regions, written, strict=True)
            places += [Place(read, _distance(read, meant, frame)) for read, meant in pairs if meant.image == image]
        elif len(images) == 1:  # places within other text, as an action's arguments: no pairs to be made
            places += [Place(region, None) for region in regions]
    return places


def _are_images(sample: Sample) -> Iterator[bool]:
    images = {id(part) for part in sample.images}
    return (id(part) in images for part in sample.visuals)


def _distance(read: Region, meant: Region, frame: tuple[int, int]) -> float | None:
    if read.kind != meant.kind:
        return None
    offsets = (np.asarray(read.points) - np.asarray(meant.points)) * frame
    return float(np.abs(offsets).max())


def _text(encoded: Encoded, processor: Processor) -> str:
    """The text without the placeholders of pictures."""
    visual = set(encoded.visual_slots.tolist())
    return processor.tokenizer.decode([token for place, token in enumerate(encoded.input_ids.tolist()) if place not in visual])


def _count(counts: Counter[str], encoded: Encoded, places: Sequence[Place]) -> None:
    counts["samples"] += 1
    counts["tokens"] += len(encoded)
    counts["supervised tokens"] += int((encoded.labels != IGNORE_INDEX).sum())
    counts["visual tokens"] += len(encoded.visual_slots)
    counts["patches"] += len(encoded.patches)
    counts["pictures and clips"] += len(encoded.grids)
    counts["places"] += len(places)


def _section(sample: Sample, encoded: Encoded, places: Sequence[Place], processor: Processor) -> str:
    supervised = int((encoded.labels != IGNORE_INDEX).sum())
    facts = [f"{len(encoded)} tokens, {supervised} supervised, {len(encoded.visual_slots)} of pictures"]
    errors = [place.error for place in places if place.error is not None]
    if errors:
        facts.append(f"{len(errors)} places, read back within {max(errors):.2f} pixels")
    about = " · ".join(filter(None, (sample.task, sample.language, sample.source)))
    head = f"<h2>{html.escape(sample.id or 'sample')}</h2><small>{html.escape(about)}<br>{'<br>'.join(facts)}</small>"
    pictures = "".join(_pictures(sample, encoded, places, processor))
    return f'<section><div class="pictures">{pictures}</div><div class="said">{head}{_tokens(encoded, processor)}</div></section>'


def _pictures(sample: Sample, encoded: Encoded, places: Sequence[Place], processor: Processor) -> Iterator[str]:
    start = image = 0
    sizes = zip(encoded.grids.tolist(), encoded.image_sizes, _are_images(sample), strict=True)
    for (time, rows, columns), (width, height), is_image in sizes:
        count = time * rows * columns
        grid = (time, rows, columns)
        frames = uncut_patches(encoded.patches[start : start + count], grid, processor.config, processor.spec)
        start += count
        shown = frames[:1] if is_image else frames[:: max(1, len(frames) // MOST_FRAMES)]
        drawn = [place.region for place in places if is_image and place.region.image == image]
        image += is_image
        for frame in shown:
            yield drawing(frame, drawn)
        seen = f"{frames.shape[2]} x {frames.shape[1]}" + ("" if is_image else f", {len(frames)} frames")
        yield f"<small>{width} x {height}, seen as {seen}, {count} patches</small>"


def drawing(frame: np.ndarray, regions: Sequence[Region]) -> str:
    """A picture (height, width, 3) with places drawn over it, as SVG."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "png")
    height, width, _ = frame.shape
    data = base64.b64encode(file.getvalue()).decode()
    picture = f'<image width="{width}" height="{height}" href="data:image/png;base64,{data}"/>'
    return f'<svg viewBox="0 0 {width} {height}" width="{max(width, 320)}">{picture}{marks(regions, width, height)}</svg>'


def _tokens(encoded: Encoded, processor: Processor) -> str:
    """Every token as a span, a picture's placeholders as one."""
    visual = set(encoded.visual_slots.tolist())
    spans, run = "", 0
    weights = encoded.loss_weights
    for place, (token, label) in enumerate(zip(encoded.input_ids.tolist(), encoded.labels.tolist(), strict=True)):
        if place in visual:
            run += 1
            if place + 1 not in visual:
                spans += f'<span class="v">{html.escape(processor.tokenizer.decode([token]))} × {run}</span>'
                run = 0
            continue
        kind = ' class="s"' if label != IGNORE_INDEX else ""
        weight = "" if weights is None or label == IGNORE_INDEX else f", weight {weights[place]:g}"
        written = html.escape(processor.tokenizer.decode([token])).replace("\n", "⏎\n") or "∅"
        spans += f'<span{kind} title="{token}{weight}">{written}</span>'
    return f'<div class="tokens">{spans}</div>'
