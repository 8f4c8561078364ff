"""To look at: clips as film strips, with the boxes of their things, and below when each is there on a line of time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from PIL import Image, ImageDraw, ImageFont

from qwenvl.data.clip_wording import deed
from qwenvl.data.synth.clip import Clip, Track
from qwenvl.data.synth.ink import Colour
from qwenvl.data.synth.names import described

# Of the palette of Okabe and Ito (2008), told apart by colour-blind eyes too: one for each thing of a clip, from the first again
# where there are more.
COLOURS: tuple[Colour, ...] = ((0, 114, 178), (213, 94, 0), (0, 158, 115))
_INK, _FAINT, _RULE, _PAPER = (34, 34, 34), (120, 120, 120), (225, 225, 225), (255, 255, 255)
_LETTERS = 13
"""Height of letters in pixels."""
_LINE = 20
"""Height of a line of text, and of a bar with what stands beside it."""
_BAR = 12
_GAP = 4


def film_sheet(clips: Sequence[Clip], columns: int = 12, side: int = 80) -> Image.Image:
    """The strips of several clips, one below the other, of one width."""
    strips = [film_strip(clip, columns, side) for clip in clips]
    sheet = Image.new("RGB", (strips[0].width, sum(strip.height + _LINE for strip in strips) - _LINE), _PAPER)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height + _LINE
    return sheet


def film_strip(clip: Clip, columns: int = 12, side: int = 80) -> Image.Image:
    """A title, `columns` frames of `side` pixels, a bar for every thing, and the seconds.

    Frames and bars share one line of time: a column shows the frame that is on screen at its middle, so that a box and the bar of
    its colour are seen above one another.
    """
    width = columns * (side + _GAP) - _GAP
    bars = _LINE + side + _GAP
    strip = Image.new("RGB", (width, bars + _LINE * (len(clip.tracks) + 1)), _PAPER)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(_LETTERS)
    title = f"seed {clip.seed}, index {clip.index}: {clip.duration:g} seconds on {clip.background}"
    pen.text((0, _LINE / 2), title, _INK, font, anchor="lm")
    for column, number in enumerate(_shown(clip, columns)):
        strip.paste(_frame(clip, number, side), (column * (side + _GAP), _LINE))
    axis = bars + _LINE * len(clip.tracks)
    per_second = (width - 1) / clip.duration
    for second in range(int(clip.duration) + 1):
        x = second * per_second
        pen.line([x, bars, x, axis + 3], _RULE)
        anchor = "lt" if second == 0 else "rt" if second == clip.duration else "mt"
        pen.text((x, axis + 5), f"{second} s", _FAINT, font, anchor=anchor)
    pen.line([0, axis, width, axis], _FAINT)
    for row, (track, colour) in enumerate(zip(clip.tracks, cycle(COLOURS), strict=False)):
        middle = bars + row * _LINE + _LINE / 2
        left, right = track.start * per_second, track.end * per_second
        pen.rectangle([left, middle - _BAR / 2, right, middle + _BAR / 2], colour)
        said = _said(track)
        fits = right + 6 + pen.textlength(said, font) <= width
        place, anchor = (right + 6, "lm") if fits else (left - 6, "rm")
        pen.text((place, middle), said, _INK, font, anchor=anchor, stroke_width=2, stroke_fill=_PAPER)
    return strip


def _shown(clip: Clip, columns: int) -> list[int]:
    """Numbers of the frames that are on screen in the middle of each column."""
    moments = [(column + 0.5) / columns * clip.duration for column in range(columns)]
    return [min(int(moment * clip.fps), len(clip.frames) - 1) for moment in moments]


def _frame(clip: Clip, number: int, side: int) -> Image.Image:
    picture = clip.frames[number].resize((side, side), Image.Resampling.LANCZOS)
    pen, scale = ImageDraw.Draw(picture), side / clip.width
    for track, colour in zip(clip.tracks, cycle(COLOURS), strict=False):
        box = track.boxes[number]
        if box is not None:
            left, top, right, bottom = (round(value * scale) for value in box)
            # White around it, or it would be lost on a background of its colour.
            pen.rectangle([left - 3, top - 3, right + 2, bottom + 2], outline=_PAPER, width=1)
            pen.rectangle([left - 2, top - 2, right + 1, bottom + 1], outline=colour, width=2)
    return picture


def _said(track: Track) -> str:
    return f"{described(track.name, 'en', track.colour)} {deed(track, 'en')}, {track.start:.1f} - {track.end:.1f} s"
