"""Which lengths share a row: whole items into rows of a budget, as full as they can be had.

`pack_lengths` knows all lengths. `fill_row` fills one row from a pool of waiting ones, for a stream whose end is not known.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwenvl.types import QwenVLError


class BinError(QwenVLError, ValueError):
    """A length that no row of the budget can hold."""


def pack_lengths(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Rows of indices into `lengths`, each row's sum at most `budget`: best fit, longest first.

    Indices within a row ascend, rows come in the order of their first index. Raises BinError for a length above the budget.
    """
    by_length = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    if by_length and lengths[by_length[0]] > budget:
        raise BinError(f"item {by_length[0]} has {lengths[by_length[0]]} tokens, a row {budget}; reject it before")
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(budget + 1)]
    rooms = 0  # bit r is set where with_room[r] has a row: the smallest room that is enough is the lowest bit from the length on
    for index in by_length:
        length = lengths[index]
        enough = rooms >> length
        if enough:
            room = length + (enough & -enough).bit_length() - 1
            row = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, row = budget, len(rows)
            rows.append([])
        rows[row].append(index)
        with_room[room - length].append(row)
        rooms |= 1 << (room - length)
    return sorted(map(sorted, rows))


def fill_row(
    lengths: Sequence[int], budget: int, slack: float = 0.01, patches: Sequence[int] | None = None, limit: int | None = None
) -> list[int]:
    """Indices, ascending, of waiting items that fill a row of `budget`: the first item, and what goes well with it.

    Taken longest first; where that leaves more than `slack` of the row empty, the fullest choice there is. Items that are longer
    than the row are never taken; raises BinError where the first is.

    With `patches` of each item and their `limit`, a row stays within both. The fullest choice is that of the tokens alone, and is
    dropped where its patches are too many: looking for the best of two budgets at once would take a hundred times as long.
    """
    second = [0] * len(lengths) if patches is None or limit is None else patches
    most = 0 if patches is None or limit is None else limit
    if lengths[0] > budget or second[0] > most:
        over = f"{lengths[0]} tokens, a row {budget}" if lengths[0] > budget else f"{second[0]} patches, a row {most}"
        raise BinError(f"item 0 has {over}; reject it before")
    order = sorted(range(1, len(lengths)), key=lengths.__getitem__, reverse=True)
    room = left = budget - lengths[0]
    spare = most - second[0]
    taken = [0]
    for index in order:
        if lengths[index] <= left and second[index] <= spare:
            taken.append(index)
            left -= lengths[index]
            spare -= second[index]
    if left > slack * budget:
        fullest = [0, *(order[place] for place in _fullest([lengths[index] for index in order], room))]
        if sum(second[index] for index in fullest) <= most:
            taken = fullest
    return sorted(taken)


def _fullest(lengths: Sequence[int], room: int) -> list[int]:
    """Places of the items whose sum comes closest to `room` without passing it; of equal sums the one with the first items.

    The sums that some of the items reach are the bits of one whole number, so that adding an item to all of them is a shift.
    """
    within = (1 << (room + 1)) - 1
    sums = [1]  # sums[n]: what the last n items reach
    for length in reversed(lengths):
        sums.append((sums[-1] | (sums[-1] << length)) & within)
    left, taken = sums[-1].bit_length() - 1, []
    for place, length in enumerate(lengths):
        rest = sums[len(lengths) - 1 - place]
        if length <= left and (rest >> (left - length)) & 1:
            taken.append(place)
            left -= length
    return taken
