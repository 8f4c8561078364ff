"""The cheapest way to pair rows with columns."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf


def assign(costs: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """(row, column) of each pair, by row: as many as there are rows or columns, whichever are fewer, of the least sum of costs.

    Shortest augmenting paths (Crouse, IEEE Trans. Aerosp. Electron. Syst. 52, 2016). Of several solutions it finds the one that
    scipy 1.17's linear_sum_assignment does: columns are looked at from the last to the first, and among equals one that is free.
    """
    if not costs or not costs[0]:
        return []
    if len(costs) > len(costs[0]):
        return sorted((row, column) for column, row in assign(list(zip(*costs, strict=True))))
    width = len(costs[0])
    of_row, of_column = [0.0] * len(costs), [0.0] * width  # the duals
    column_of: list[int | None] = [None] * len(costs)
    row_of: list[int | None] = [None] * width
    for new in range(len(costs)):
        came, shortest, left = [-1] * width, [inf] * width, list(range(width - 1, -1, -1))
        rows, columns, row, least = [new], [], new, 0.0
        while True:
            chosen, lowest = -1, inf
            for place, column in enumerate(left):
                length = least + costs[row][column] - of_row[row] - of_column[column]
                if length < shortest[column]:
                    came[column], shortest[column] = row, length
                if shortest[column] < lowest or (shortest[column] == lowest and row_of[column] is None):
                    chosen, lowest = place, shortest[column]
            least, end = lowest, left[chosen]
            columns.append(end)
            left[chosen] = left[-1]
            left.pop()
            taken = row_of[end]
            if taken is None:
                break
            rows.append(taken)
            row = taken
        of_row[new] += least
        for row in rows[1:]:
            reached = column_of[row]
            assert reached is not None
            of_row[row] += least - shortest[reached]
        for column in columns:
            of_column[column] -= least - shortest[column]
        while True:  # along the path, each row takes the column that it was reached by
            row = came[end]
            row_of[end] = row
            before, column_of[row] = column_of[row], end
            if row == new:
                break
            assert before is not None
            end = before
    return [(row, column) for row, column in enumerate(column_of) if column is not None]
