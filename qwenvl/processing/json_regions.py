"""Places in the texts of Qwen2.5-VL: JSON lists, XML points and document HTML, all in pixels of the resized picture.

Formats as the cookbooks of QwenLM/Qwen2.5-VL (2025-02-10) print them, and section 2.2.1 of arXiv 2502.13923 (HTML).
Models stray from them in every way that is read here: other names of the same key, lists in lists, numbers in
strings, quads instead of boxes, texts that end in the middle.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

from qwenvl.processing.loose_json import find_json
from qwenvl.processing.markup_style import Kind, Written

# Names of keys, without case and punctuation (`bbox_2d` and `point_2d` are the published ones), and what so many numbers are.
BOX_KEYS = frozenset({"bbox2d", "bbox", "box2d", "box", "boundingbox", "bndbox"})
POINT_KEYS = frozenset({"point2d", "point", "points2d", "points"})
BOX_KINDS: dict[int, Kind] = {4: "box", 8: "quad"}
POINT_KINDS: dict[int, Kind] = {2: "point"}
LABEL_KEYS = ("label", "text_content", "text", "name", "description", "category", "object", "caption", "phrase", "class", "title")
SIDE_KEYS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"), ("x", "y"))

NUMBER = r"[-+]?\d+(?:\.\d+)?"
POINTS = re.compile(r"<points?\b(?P<attributes>[^<>]*)(?:>(?:(?P<text>[^<]*)</points?\s*>)?|$)")
ALT = re.compile(r"""\balt\s*=\s*(?:"([^"]*)"?|'([^']*)'?)""")
# The character after the number shows that it is whole, not the beginning of a longer one that was cut off.
COORDINATE = re.compile(rf"""\b([xy])(\d*)\s*=\s*["']?\s*({NUMBER})(?=[^\d.])""")
TAG = re.compile(r"<(?P<closing>/?)(?P<name>[A-Za-z][\w-]*)(?P<attributes>[^<>]*)>")
DATA_BBOX = re.compile(r"""\s*\bdata-bbox\s*=\s*(?:"([^"<>]*)"?|'([^'<>]*)'?|([\d.\s,-]+))""")
CLASS = re.compile(r"""\bclass\s*=\s*["']([^"'<>]*)""")
VOID_TAGS = frozenset({"img", "br", "hr", "input", "meta", "link"})  # they have no closing tag


def find_places(text: str) -> list[Written]:
    """Every place that a text names as JSON, XML points or HTML, in order. Any text is read; what is no place is passed over."""
    places = [place for found in find_json(text) for place in _json_places(found.value, found.start)]
    places += [place for found in POINTS.finditer(text) for place in _xml_points(found)]
    places += _html_places(text)
    return sorted(places, key=lambda place: place.start)


def strip_places(text: str) -> str:
    """The text with every list of places, its fence included, replaced by the labels; XML points by theirs; HTML without boxes."""
    pieces, done = [], 0
    for found in find_json(text):
        places = list(_json_places(found.value, 0))
        if places:
            opening = re.search(r"```\w*\s*$", text[done : found.start])
            closing = re.compile(r"\s*```").match(text, found.end)
            start = done + opening.start() if opening else found.start
            pieces += [text[done:start], ", ".join(dict.fromkeys(place.label for place in places if place.label))]
            done = closing.end() if closing and opening else found.end
    stripped = "".join((*pieces, text[done:]))
    stripped = POINTS.sub(lambda found: _points_label(found) or "", stripped)
    return TAG.sub(lambda found: DATA_BBOX.sub("", found.group()), stripped)


def _json_places(value: Any, start: int) -> Iterator[Written]:
    """The places of a list or object and of all that is in it."""
    if isinstance(value, list):
        for item in value:
            yield from _json_places(item, start)
    elif isinstance(value, dict):
        for key, member in value.items():
            name = re.sub(r"[^a-z0-9]", "", key.lower())
            if name in BOX_KEYS or name in POINT_KEYS:
                kinds = BOX_KINDS if name in BOX_KEYS else POINT_KINDS
                groups = [group for group in _groups(member, pairs=name in POINT_KEYS) if len(group) in kinds]
                for group, label in zip(groups, _labels(value, len(groups))):
                    yield Written(kinds[len(group)], tuple(group), label, start)
            else:
                yield from _json_places(member, start)


def _groups(value: Any, pairs: bool) -> list[list[float]]:
    """The numbers of each place in the value of a box or point key. `pairs`: every pair is a place of its own."""
    if isinstance(value, str):
        return [[float(number) for number in re.findall(NUMBER, value)]]
    if isinstance(value, dict):
        keys = next((keys for keys in SIDE_KEYS if all(_is_number(value.get(key)) for key in keys)), ())
        return [[float(value[key]) for key in keys]]
    if not isinstance(value, list):
        return []
    if all(map(_is_number, value)):
        return [[float(number) for number in value]]
    groups = [group for item in value for group in _groups([item] if _is_number(item) else item, pairs)]
    if not pairs and all(len(group) == 2 for group in groups):  # corners, each in brackets of its own
        return [[number for group in groups for number in group]]
    return groups


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(NUMBER, value.strip()) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _labels(members: Mapping[str, Any], count: int) -> list[str | None]:
    """The label of each of an object's places: the same for all, unless it is a list of as many."""
    found = next((members[key] for key in LABEL_KEYS if isinstance(members.get(key), str | int | float | list)), None)
    if isinstance(found, list):
        words = [str(item) for item in found if isinstance(item, str | int | float)]
        return [word or None for word in words] if len(words) == count else [", ".join(words) or None] * count
    return [None if found is None else str(found).strip() or None] * count


def _xml_points(found: re.Match[str]) -> Iterator[Written]:
    """The points of one tag: x1, y1, x2, y2, ..., or x, y."""
    attributes = ALT.sub("", found["attributes"]) + (">" if found.end("attributes") < len(found.string) else "")
    values = {axis + number: float(value) for axis, number, value in COORDINATE.findall(attributes)}
    for name in values:
        if name[0] == "x" and "y" + name[1:] in values:
            yield Written("point", (values[name], values["y" + name[1:]]), _points_label(found), found.start())


def _points_label(found: re.Match[str]) -> str | None:
    alt = ALT.search(found["attributes"])
    words = (alt and (alt[1] or alt[2])) or found["text"] or ""
    return html.unescape(words).strip() or None


def _html_places(text: str) -> list[Written]:
    """Elements with a data-bbox, each labelled by its text, else by its class (`image`, `chart`)."""
    opened: list[tuple[str, int, Written | None]] = []  # name, where its text begins in `plain`, its place
    places: list[Written] = []
    plain, end = "", 0

    def close(place: Written | None, begin: int) -> None:
        words = " ".join(html.unescape(plain[begin:]).split())
        if place is not None:
            places.append(Written("box", place.numbers, words or place.label, place.start))

    for tag in TAG.finditer(text):
        plain, end = plain + text[end : tag.start()] + " ", tag.end()
        name = tag["name"].lower()
        if tag["closing"]:
            while any(name == opening for opening, _, _ in opened):  # whatever was left open inside ends here too
                opening, begin, place = opened.pop()
                close(place, begin)
                if opening == name:
                    break
            continue
        place = _html_place(tag)
        if name not in VOID_TAGS:
            opened.append((name, len(plain), place))
        elif place is not None and not (opened and opened[-1][2] and opened[-1][2].numbers == place.numbers):
            places.append(place)  # an img with its parent's box is the parent
    plain += text[end:]
    for _, begin, place in reversed(opened):
        close(place, begin)
    return places


def _html_place(tag: re.Match[str]) -> Written | None:
    found = DATA_BBOX.search(tag["attributes"])
    numbers = re.findall(NUMBER, found[1] or found[2] or found[3] or "") if found else []
    named = CLASS.search(tag["attributes"])
    label = named[1].strip() or None if named else None
    return Written("box", tuple(map(float, numbers)), label, tag.start()) if len(numbers) == 4 else None
