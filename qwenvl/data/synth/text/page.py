"""Pages of text as pictures with the place of every line and word, each a pure function of (spec, seed, index).

After SynthDoG (clovaai/donut @ 4cfcf97, synthdog/): paper with blocks of text, bent and tilted, on a background, as a camera sees
it. Unlike there, lines break between words, and every line and word has its four corners.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
from PIL import Image

from qwenvl.data.synth.draws import between, pick, whole
from qwenvl.data.synth.text import scripts
from qwenvl.data.synth.text.background import backdrop, paper
from qwenvl.data.synth.text.corpus import open_corpus, words
from qwenvl.data.synth.text.effects import Streams
from qwenvl.data.synth.text.layout import lay_out, print_lines
from qwenvl.data.synth.text.signs import paint_signs
from qwenvl.data.synth.text.spec import PAGE_VERSION, PaperSpec, TextSpec
from qwenvl.data.synth.text.truth import Page, TextLine, placed_lines
from qwenvl.data.synth.text.typeset import Flow
from qwenvl.data.synth.text.warp import Chain, fitted, follow, rectangles, resample, sources_of
from qwenvl.types import QwenVLError


def make_page(spec: TextSpec, seed: int, index: int) -> Page:
    """Page number `index` of a stream. The same arguments give the same bytes, in any order and any process.

    Raises QwenVLError, one line, if fonts, texts or pictures that the spec names are missing.
    """
    streams = streams_of(seed, index)
    rng = streams("layout")
    script = pick(rng, spec.languages)
    scripts.require(script, spec.publishable)
    canvas = _sides(spec.landscape, spec.short_size, spec.aspect_ratio, rng)
    quality = whole(rng, *spec.quality)
    flow = Flow(words(open_corpus(spec.text_folder), script, rng), script, scripts.families(script, spec.publishable))
    if spec.kind == "signs":
        picture = backdrop(spec.background, canvas, streams("background"))
        picture, lines = paint_signs(spec.signs, picture, flow, rng)
        moved: tuple[str, ...] = ()
    else:
        picture, lines, moved = _photographed(spec, canvas, flow, streams, rng)
    lit, picture = spec.effects.paint(streams, picture, on_paper=False)
    return Page(Image.fromarray(picture), lines, script, seed, index, quality, moved + lit, flow.dropped)


def streams_of(seed: int, index: int) -> Streams:
    """Name of a part of a page -> its own random numbers. Raises QwenVLError for a seed or index below 0."""
    if seed < 0 or index < 0:
        raise QwenVLError(f"page (seed {seed}, index {index}): seed and index count from 0")
    return lambda name: np.random.default_rng((PAGE_VERSION, crc32(name.encode()), seed, index))


def _sides(landscape: float, short: tuple[int, int], aspect: tuple[float, float], rng: np.random.Generator) -> tuple[int, int]:
    """(width, height) of a picture."""
    lying = rng.random() < landscape
    side = whole(rng, *short)
    longer = int(side * between(rng, *aspect))
    return (longer, side) if lying else (side, longer)


def _paper_sides(spec: PaperSpec, canvas: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """(width, height) of a paper that is no larger than the canvas."""
    if rng.random() < spec.fullscreen:
        return canvas
    lying = rng.random() < spec.landscape
    side = whole(rng, *(min(*canvas, limit) for limit in spec.short_size))
    room = canvas[0 if lying else 1] / side
    longer = int(side * between(rng, *(min(room, limit) for limit in spec.aspect_ratio)))
    return (longer, side) if lying else (side, longer)


def _photographed(
    spec: TextSpec, canvas: tuple[int, int], flow: Flow, streams: Streams, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[TextLine, ...], tuple[str, ...]]:
    """Printed paper on its background, its lines, and the names of the effects on it."""
    size = _paper_sides(spec.paper, canvas, rng)
    lines = lay_out(spec.layout, size, flow, rng)
    printed = print_lines(paper(spec.paper, size, streams("paper")), lines)
    names, maps = spec.effects.draw_maps(streams, size)
    painted, printed = spec.effects.paint(streams, printed, on_paper=True)
    place = streams("place").random(2)
    boxes = [box for line in lines for box in (line.box, *(word.box for word in line.words))]
    if maps:
        moved = fitted(Chain(maps), size, canvas, place)
        sources = sources_of(moved, canvas)
        seen = resample(printed, sources, repeat_edge=True)
        covered = resample(np.full(size[::-1], 255, np.uint8), sources)
        quads = follow(boxes, moved)
    elif size == canvas:
        return printed, placed_lines(lines, rectangles(boxes), canvas), names + painted
    else:
        left, top = (int(room) for room in place * np.subtract(canvas, size))
        seen, covered = np.zeros((canvas[1], canvas[0], 3), np.uint8), np.zeros(canvas[::-1], np.uint8)
        seen[top : top + size[1], left : left + size[0]] = printed
        covered[top : top + size[1], left : left + size[0]] = 255
        quads = rectangles(boxes) + (left, top)
    picture = Image.fromarray(backdrop(spec.background, canvas, streams("background")))
    picture.paste(Image.fromarray(seen), (0, 0), Image.fromarray(covered))
    return np.asarray(picture), placed_lines(lines, quads, canvas), names + painted
