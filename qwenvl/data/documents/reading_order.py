"""In which order boxes of a page are read: down each column, columns from left to right, what spans them in its place."""

from __future__ import annotations

from collections.abc import Sequence

from qwenvl.data.documents.page import Pixels

Span = tuple[float, float]

MIN_SIDE = 0.18
"""Part of its region's width that a column has at least: page numbers and labels are no columns."""
MIN_LINES = 3
FILL = 0.6
"""Part of a column's width that its lines have in the middle; below it columns that stand on common lines are a table's."""
ALIGNED = 0.6


def reading_order(boxes: Sequence[Pixels], gutter: float) -> list[tuple[int, float]]:
    """Indices of the boxes as they are read, each with the right edge of its column. `gutter`: pixels between columns at least."""
    return _Order(boxes, gutter).of(list(range(len(boxes))))


class _Order:
    """Cuts a region into bands, which no box reaches out of, and bands that share a free strip into columns."""

    def __init__(self, boxes: Sequence[Pixels], gutter: float) -> None:
        self.boxes, self.gutter = boxes, gutter

    def of(self, indices: list[int]) -> list[tuple[int, float]]:
        if not indices:
            return []
        bands = self._bands(indices)
        left, right = min(self.boxes[one][0] for one in indices), max(self.boxes[one][2] for one in indices)
        result: list[tuple[int, float]] = []
        start = 0
        while start < len(bands):
            end, column = self._columns(bands, start, (left, right))
            if column is None:
                result += [(one, right) for one in self._rows(bands[start])]
                start += 1
            else:
                members = [one for band in bands[start:end] for one in band]
                result += self.of([one for one in members if self.boxes[one][2] <= column])
                result += self.of([one for one in members if self.boxes[one][2] > column])
                start = end
        return result

    def _bands(self, indices: list[int]) -> list[list[int]]:
        bands: list[list[int]] = []
        bottom = 0.0
        for one in sorted(indices, key=lambda one: self.boxes[one][1]):
            if not bands or self.boxes[one][1] >= bottom:
                bands.append([])
                bottom = self.boxes[one][3]
            bands[-1].append(one)
            bottom = max(bottom, self.boxes[one][3])
        return bands

    def _columns(self, bands: list[list[int]], start: int, region: Span) -> tuple[int, float | None]:
        """The longest run of bands from `start` on that share a free strip, and where that strip begins if it parts columns."""
        free = self._free(bands[start], region)
        end = start + 1
        best: tuple[int, float | None] = (end, None)
        while free:
            members = [one for band in bands[start:end] for one in band]
            strip = max(free, key=lambda span: span[1] - span[0])
            if self._parts_columns(members, strip, region):
                best = (end, strip[0])
            if end == len(bands):
                break
            free = _common(free, self._free(bands[end], region), self.gutter)
            end += 1
        return best

    def _free(self, band: list[int], region: Span) -> list[Span]:
        """Strips within the region that no box of the band stands in."""
        strips: list[Span] = []
        here = region[0]
        for left, _, right, _ in sorted(self.boxes[one] for one in band):
            if left - here >= self.gutter:
                strips.append((here, left))
            here = max(here, right)
        return strips if region[1] - here < self.gutter else [*strips, (here, region[1])]

    def _parts_columns(self, members: list[int], strip: Span, region: Span) -> bool:
        sides = [[self.boxes[one] for one in members if (self.boxes[one][2] <= strip[0]) == left] for left in (True, False)]
        if min(map(len, sides)) < MIN_LINES:
            return False
        fills = []
        for side in sides:
            left, right = min(box[0] for box in side), max(box[2] for box in side)
            if right - left < MIN_SIDE * (region[1] - region[0]):
                return False
            widths = sorted(box[2] - box[0] for box in side)
            fills.append(widths[len(widths) // 2] / (right - left))
        return min(fills) >= FILL or _aligned(*sides) < ALIGNED

    def _rows(self, band: list[int]) -> list[int]:
        """Boxes of a band line by line, each from left to right."""
        rows: list[list[int]] = []
        for one in sorted(band, key=lambda one: self.boxes[one][1] + self.boxes[one][3]):
            middle = (self.boxes[one][1] + self.boxes[one][3]) / 2
            if rows and middle < self.boxes[rows[-1][0]][3]:
                rows[-1].append(one)
            else:
                rows.append([one])
        return [one for row in rows for one in sorted(row, key=lambda one: self.boxes[one][0])]


def _common(first: list[Span], second: list[Span], least: float) -> list[Span]:
    common = [(max(a[0], b[0]), min(a[1], b[1])) for a in first for b in second]
    return [span for span in common if span[1] - span[0] >= least]


def _aligned(left: list[Pixels], right: list[Pixels]) -> float:
    """The part of the fewer boxes that stand on a line with one of the others."""
    fewer, more = sorted((left, right), key=len)
    middles = [(box[1] + box[3]) / 2 for box in more]
    return sum(any(box[1] < middle < box[3] for middle in middles) for box in fewer) / len(fewer)
