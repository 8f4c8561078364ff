"""Which texts of a reply are meant for which texts of a page: the quick match of OmniDocBench.

match_gt2pred_quick and match_gt2pred_simple of vlmeval/dataset/OmniDocBench/utils.py, open-compass/VLMEvalKit @ e8e78f0, without
its limit of 30 seconds, behind which a page was matched in another way on a slower machine. What looks like an oversight stays:
scores are only comparable if it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from qwenvl.eval.scorers.assignment import assign
from qwenvl.eval.scorers.editing import distance_share, nearest_window
from qwenvl.eval.scorers.text import edit_distance

CERTAIN = 0.25
"""Lines less apart than this belong together."""
PART = 0.6
"""A line of the reply less apart than this from a stretch of a true line may be a part of it."""
APART = 0.7
"""Lines further apart than this do not belong together."""
INSIDE = 0.4
"""A true line less apart than this from a stretch of the reply's stands in it."""

Match = tuple[list[int], list[int]]
"""Numbers of true lines and of the reply's that belong together; one of both may be empty."""
Run = list[int]
"""Lines of a reply that follow each other."""


def match_in_pairs(truths: Sequence[str], said: Sequence[str]) -> list[Match]:
    """Each true line with one of the reply or none, so that they are least apart all in all; then what is left of the reply."""
    if not truths:
        return [([], list(range(len(said))))]
    pairs = dict(assign([[distance_share(true, line) for line in said] for true in truths])) if said else {}
    matches: list[Match] = [([number], [pairs[number]] if number in pairs else []) for number in range(len(truths))]
    left = [number for number in range(len(said)) if number not in pairs.values()]
    return matches + ([([], left)] if left else [])


def match_lines(truths: Sequence[str], said: Sequence[str]) -> list[Match]:
    """True lines with lines of the reply: a true line may be several of the reply's that follow each other, and a line of the reply
    several true ones."""
    if not truths:
        return [([], [number]) for number in range(len(said))]
    if not said:
        return [([number], []) for number in range(len(truths))]
    if len(truths) == len(said) == 1:
        return [([0], [0])]
    matched, unmatched = _pair(truths, said)
    groups = _with_inner(matched, _standing_in(truths, said, unmatched))
    return _gathered(_leftovers(groups, truths, said), len(truths))


def _pair(truths: Sequence[str], said: Sequence[str]) -> tuple[dict[int, Run], list[int]]:
    """True line -> its run of lines, and the true lines that have none."""
    runs = _runs(truths, said)
    costs = [[distance_share(true, " ".join(said[number] for number in run)) for run in runs] for true in truths]
    pairs = dict(assign(costs))
    matched, unmatched = {}, []
    for number in range(len(truths)):
        if number in pairs and costs[number][pairs[number]] <= APART:
            matched[number] = runs[pairs[number]]
        else:
            unmatched.append(number)
    return matched, unmatched


def _runs(truths: Sequence[str], said: Sequence[str]) -> list[Run]:
    """The reply's lines, those joined that together are nearer to one true line than the first of them is."""
    costs = [[distance_share(true, line) for line in said] for true in truths]
    sure = {column for row in costs for column, cost in enumerate(row) if cost < CERTAIN}
    candidates: list[tuple[Run, float]] = []
    for true, row in zip(truths, costs, strict=True):
        if any(cost < CERTAIN for cost in row):
            continue
        joined = [_joined(true, said, start, sure) for start in range(len(said)) if start not in sure]
        if joined:
            apart = [distance_share(true, " ".join(said[number] for number in run)) for run in joined]
            best = apart.index(min(apart))
            candidates.append((joined[best], apart[best]))
    runs = [[number] for number in range(len(said))]
    for run in _compatible(candidates):
        place = runs.index([run[0]]) if len(run) > 1 else None
        if place is not None:
            runs[place : place + len(run)] = [run]
    return runs


def _joined(true: str, said: Sequence[str], start: int, sure: set[int]) -> Run:
    run = [start]
    for following in count(start + 1):
        if following in sure or following >= len(said):
            break
        wider = [*run, following]
        if not _fits(true, [said[number] for number in wider]):
            break
        run = wider
        if len(" ".join(said[number] for number in run)) > len(true):
            break
    return run


def _fits(true: str, lines: Sequence[str]) -> bool:
    """Whether the last line makes the others nearer to the true one, of which all of them are parts."""
    if distance_share(true, " ".join(lines)) > distance_share(true, " ".join(lines[:-1])):
        return False
    return all(_is_part(true, line, last=False) for line in lines[:-1]) and _is_part(true, lines[-1], last=True)


def _is_part(true: str, line: str, last: bool) -> bool:
    nearest = nearest_window(true, line, int(PART * len(line)) + 2)
    if nearest is None:
        return False
    share = nearest / len(line)
    return share < PART if last else share <= PART


def _compatible(candidates: Sequence[tuple[Run, float]]) -> list[Run]:
    """Of runs that overlap, those that go together and are nearest on average."""
    chosen: list[Run] = []
    groups: list[list[tuple[Run, float]]] = []
    for candidate in sorted(candidates, key=lambda candidate: candidate[0][0]):
        if groups and any(set(candidate[0]) & set(other) for other, _ in groups[-1]):
            groups[-1].append(candidate)
        else:
            groups.append([candidate])
    for group in groups:
        ways: list[list[tuple[Run, float]]] = []
        for candidate in group:
            _add(ways, candidate)
        best = min(ways, key=lambda way: sum(cost for _, cost in way) / len(way))
        chosen += [run for run, _ in best]
    return chosen


def _add(ways: list[list[tuple[Run, float]]], candidate: tuple[Run, float]) -> None:
    """Into every way that it does not overlap with; the cheaper of two that are the same run; else a way of its own."""
    placed = False
    for way in ways:
        overlaps = same = False
        place = 0
        while place < len(way):  # the list changes meanwhile, and what takes a removed one's place is passed over, as published
            other = way[place]
            if other[0] == candidate[0]:
                overlaps = same = True
                if other[1] > candidate[1]:
                    way.remove(other)
                    way.append(candidate)
            elif set(other[0]) & set(candidate[0]):
                overlaps = True
            place += 1
        if not overlaps:
            way.append(candidate)
        placed = placed or same or not overlaps
    if not placed:
        ways.append([candidate])


def _standing_in(truths: Sequence[str], said: Sequence[str], unmatched: Sequence[int]) -> dict[int, list[int]]:
    """Line of the reply -> unmatched true lines that stand in it."""
    found: dict[int, list[int]] = {}
    for number, line in enumerate(said):
        for true in unmatched:
            length = len(truths[true])
            nearest = nearest_window(line, truths[true], int(INSIDE * length) + 2)
            if nearest is not None and nearest / length < INSIDE:
                found.setdefault(number, []).append(true)
    return found


def _with_inner(matched: dict[int, Run], inner: dict[int, list[int]]) -> dict[tuple[int, ...], list[int]]:
    """Run of the reply -> its true lines; of those that stand in several, the first run has it."""
    groups: dict[tuple[int, ...], list[int]] = {}
    taken: set[int] = set()
    for true, run in matched.items():
        groups.setdefault(tuple(run), []).append(true)
        taken.add(true)
    for line, trues in inner.items():
        group = groups.setdefault((line,), [])
        group += [true for true in trues if true not in taken]
        taken |= set(trues)
    return groups


def _leftovers(groups: dict[tuple[int, ...], list[int]], truths: Sequence[str], said: Sequence[str]) -> list[Match]:
    """One match for each true line, then what is left: as many as can be in pairs, whatever they say; then what is left of the true
    lines. What is left of the reply is one match of its own where no true line is left, and else forgotten."""
    matches: list[Match] = [([true], list(run)) for run, trues in groups.items() for true in sorted(set(trues))]
    # Sets of numbers, in whose order the published code looks at them.
    true_left = set(range(len(truths))) - {true for trues in groups.values() for true in trues}
    said_left = set(range(len(said))) - {number for run in groups for number in run}
    trues, lines = list(true_left), list(said_left)
    if lines and trues:
        costs = [[edit_distance(truths[true], said[line]) for line in lines] for true in trues]
        matches += [([trues[row]], [lines[column]]) for row, column in assign(costs)]
    elif lines:
        matches.append(([], lines))
    else:
        matches += [([true], []) for true in trues]
    return matches


def _gathered(matches: Sequence[Match], count_of_truths: int) -> list[Match]:
    """One match for each run of the reply. As published, a true line that has none is there twice where nothing of the reply is
    left."""
    runs: dict[tuple[int, ...], list[int]] = {}
    alone: list[Match] = []
    for trues, run in matches:
        if run:
            runs.setdefault(tuple(run), []).extend(trues)
        else:
            alone.append((trues, run))
    gathered = [(trues, list(run)) for run, trues in runs.items()]
    used = {true for trues in runs.values() for true in trues}
    return [*gathered, *alone, *(([number], []) for number in range(count_of_truths) if number not in used)]
