"""Markup in tags, of Qwen-VL and Qwen2-VL: special tokens around phrases and places, as in Box B of arXiv 2308.12966."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from qwenvl.families.spec import Markup
from qwenvl.processing.markup_style import Frame, Kind, MarkupStyle, Piece, Special, TokenRole, Written, markup_text
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.types import Part, Region, RegionError, RegionPart, TextPart

NUMBER = r"-?\d+(?:\.\d+)?"
# Between two coordinates models write commas (also full-width), spaces and brackets, in any order.
GAP = r"[\s,;()\[\]，；（）]+"
LEAD = r"[\s(\[（]*"
COORDINATES = {
    "box": re.compile(LEAD + GAP.join([NUMBER] * 4)),
    "quad": re.compile(LEAD + GAP.join([NUMBER] * 8)),
}


class Tags(MarkupStyle):
    """`<ref>phrase</ref><box>(x1,y1),(x2,y2)</box>...`; a quad's points are joined by `markup.quad_separator`."""

    kinds = ("box", "quad")
    inline = True
    in_pixels = False

    def __init__(self, markup: Markup) -> None:
        super().__init__(markup)
        self._places: dict[Kind, tuple[str, str]] = {"box": markup.box, "quad": markup.quad}
        self._ref, self._box, self._quad = (tuple(map(re.escape, pair)) for pair in (markup.ref, markup.box, markup.quad))
        self._any_tag = "|".join((*self._ref, *self._box, *self._quad))

    def write(self, parts: Sequence[RegionPart], frames: Mapping[int, Frame], where: str) -> list[Piece]:
        pieces: list[Piece] = []
        for part in parts:
            if part.phrase is not None:
                pieces += [Special(self.markup.ref[0]), part.phrase, Special(self.markup.ref[1])]
            for region in part.regions:
                values = self.numbers(self.check(region, where), frames, where)
                points = (f"({x},{y})" for x, y in zip(values[::2], values[1::2], strict=True))
                opening, closing = self._places[region.kind]
                separator = "," if region.kind == "box" else self.markup.quad_separator
                pieces += [Special(opening), separator.join(points), Special(closing)]
        return pieces

    def numbers(self, region: Region, frames: Mapping[int, Frame], where: str) -> list[str]:
        """min(scale - 1, round(scale * value)), padded with zeros to the markup's digits."""
        scale, digits = self.markup.scale, self.markup.digits
        return [f"{min(scale - 1, round(scale * value)):0{digits}d}" for point in region.check(where).points for value in point]

    def find(self, text: str) -> list[Written]:
        """A phrase labels every place up to the next phrase."""
        kinds = {opening: kind for kind, (opening, _) in self._places.items()}
        label: str | None = None
        places: list[Written] = []
        pieces = re.split(f"({self._any_tag})", text)
        for tag, content in zip(pieces[1::2], pieces[2::2], strict=True):
            if tag == self.markup.ref[0]:
                label = content.removeprefix(" ") or None
            elif tag in kinds and (found := COORDINATES[kinds[tag]].match(content)):
                numbers = tuple(float(value) for value in re.findall(NUMBER, found.group()))
                places.append(Written(kinds[tag], numbers, label))
        return places

    def split(self, text: str) -> tuple[Part, ...]:
        """Only what is exactly as `write` writes it becomes a RegionPart; anything else stays text."""
        ref, box, quad = self._ref, self._box, self._quad
        place = rf"(?:{box[0]}[\d(), ]*{box[1]}|{quad[0]}[\d(), ]*{quad[1]})"
        parts: list[Part] = []
        done = 0
        for found in re.finditer(rf"{ref[0]}(?P<phrase>[^<>]*){ref[1]}{place}*|{place}+", text):
            read = self.read(found.group()).regions
            part = RegionPart(found["phrase"], tuple(Region(region.kind, region.points) for region in read))
            try:
                written = markup_text(self.write([part], {}, "an earlier answer"))
            except RegionError:
                continue
            if written == found.group():
                parts += [TextPart(text[done : found.start()])] if found.start() > done else []
                parts.append(part)
                done = found.end()
        if done < len(text):
            parts.append(TextPart(text[done:]))
        return tuple(parts)

    def strip(self, text: str) -> str:
        """A phrase loses its tags and what follows them (the rule of the published TUTORIAL.md)."""
        ref, box, quad = self._ref, self._box, self._quad
        return re.sub(rf"{ref[0]}(.*?){ref[1]}(?:{box[0]}.*?{box[1]})*(?:{quad[0]}.*?{quad[1]})*", r"\1", text)

    def readable(self, text: str) -> str:
        """Also where the model forgot a phrase or a closing tag."""
        places = "|".join(f"{opening}.*?(?:{closing}|$)" for opening, closing in (self._box, self._quad))
        return re.sub(self._any_tag, "", re.sub(places, "", self.strip(text), flags=re.DOTALL))

    def token_roles(self, ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
        """Digits are counted from a number's last one, so that numbers that are not padded with zeros are understood too."""
        opens, closes = (np.isin(ids, list(map(tokenizer.special, tags))) for tags in zip(*self._places.values()))
        inside = ((np.cumsum(opens) > np.cumsum(closes)) & ~opens) | closes
        digits = np.isin(ids, [tokenizer.encode(digit)[0] for digit in "0123456789"])
        here, after, later = (np.append(digits & inside, [False, False])[shift : shift + len(ids)] for shift in range(3))
        roles = np.where(inside, TokenRole.PUNCTUATION, TokenRole.WORD)
        roles[here & ~after] = TokenRole.UNITS
        roles[here & after & ~later] = TokenRole.TENS
        roles[here & after & later] = TokenRole.HUNDREDS
        return roles
