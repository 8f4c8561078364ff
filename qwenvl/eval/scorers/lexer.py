"""Scanning by rules as generated lexers do it: the rule that matches most of the text wins, of equals the first.

A pattern is written like a regular expression, of literals, [classes], (groups), |, *, +, ?, {m,n}; {name} stands for a named part.
Letters match both cases, but within classes only their own. What a rule asks to follow counts for its length, and is left to be
scanned again. (Python's `re` takes the first alternative that leads on, not the longest, and would need every rule tried apart.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Test = Callable[[str], bool]
"""Of one character."""
QUANTIFIERS = {"*": (0, None), "+": (1, None), "?": (0, 1)}


@dataclass(frozen=True, slots=True)
class Rule:
    """What a token is made of, and what must come after it."""

    body: str
    follow: str = ""


@dataclass(slots=True)
class _State:
    """A set of places in the patterns. rule: the first one that is complete there, -1 for none.

    after: filled as text is seen, by character, and by which tests a character passes.
    """

    places: frozenset[int]
    rule: int
    after: dict[str | int, _State | None] = field(default_factory=dict)


class Lexer:
    """Rules over `parts` (name -> pattern) and `kinds` (name -> test of a character). Raises ValueError for a bad pattern."""

    def __init__(self, rules: Sequence[Rule], parts: Mapping[str, str], kinds: Mapping[str, Test]) -> None:
        self.rules, self._make = rules, (parts, kinds)
        self._tests: dict[str, Test] = {}
        self._passed: dict[str, int] = {}
        self._moves: list[list[tuple[int, int]]] = []
        self._free: list[list[int]] = []
        self._ends: dict[int, int] = {}
        self._states: dict[frozenset[int], _State] = {}
        self._pieces: dict[str, Lexer] = {}
        builder, start = _Builder(parts, kinds, self._tests, self._moves, self._free), []
        for number, rule in enumerate(rules):
            begin, end = builder.pattern(rule.body)
            if rule.follow:
                after, end_of_follow = builder.pattern(rule.follow)
                self._free[end].append(after)
                end = end_of_follow
            self._ends[end] = number
            start.append(begin)
        self._first = self._state(start)

    def match(self, text: str, start: int) -> tuple[int, int]:
        """(number of the rule, end of its token) at a place of the text. Raises ValueError where no rule matches."""
        number, end = -1, start
        state: _State | None = self._first
        place, length = start, len(text)
        while state is not None:
            if state.rule >= 0:
                number, end = state.rule, place
            if place == length:
                break
            char = text[place]
            state = state.after[char] if char in state.after else self._step(state, char)
            place += 1
        if number < 0:
            raise ValueError(f"no rule matches {text[start : start + 10]!r}")
        return number, self._end_of_body(self.rules[number], text, start, end) if self.rules[number].follow else end

    def _end_of_body(self, rule: Rule, text: str, start: int, end: int) -> int:
        """Where the token ends, if token and follower together end at `end`: as late as may be."""
        body, follow = self._piece(rule.body), self._piece(rule.follow)
        return max(place for place in body._all_ends(text, start, end) if end in follow._all_ends(text, place, end))

    def _piece(self, pattern: str) -> Lexer:
        if pattern not in self._pieces:
            self._pieces[pattern] = Lexer([Rule(pattern)], *self._make)
        return self._pieces[pattern]

    def _all_ends(self, text: str, start: int, stop: int) -> list[int]:
        state: _State | None = self._first
        found = []
        for place in range(start, stop + 1):
            if state is None:
                break
            if state.rule >= 0:
                found.append(place)
            if place < stop:
                state = state.after[text[place]] if text[place] in state.after else self._step(state, text[place])
        return found

    def _step(self, state: _State, char: str) -> _State | None:
        if char not in self._passed:
            self._passed[char] = sum(1 << number for number, test in enumerate(self._tests.values()) if test(char))
        passed = self._passed[char]
        if passed not in state.after:
            reached = [target for place in state.places for test, target in self._moves[place] if passed >> test & 1]
            state.after[passed] = self._state(reached) if reached else None
        state.after[char] = state.after[passed]
        return state.after[char]

    def _state(self, reached: Sequence[int]) -> _State:
        seen, left = set(reached), list(reached)
        while left:
            for target in self._free[left.pop()]:
                if target not in seen:
                    seen.add(target)
                    left.append(target)
        places = frozenset(seen)
        if places not in self._states:
            self._states[places] = _State(places, min((self._ends[place] for place in places if place in self._ends), default=-1))
        return self._states[places]


class _Builder:
    """Patterns -> places joined by moves over a character and by free ones (Thompson, 1968)."""

    def __init__(
        self, parts: Mapping[str, str], kinds: Mapping[str, Test], tests: dict[str, Test], moves: list[list[tuple[int, int]]],
        free: list[list[int]],
    ) -> None:  # fmt: skip
        self.parts, self.kinds, self.tests, self.moves, self.free = parts, kinds, tests, moves, free

    def pattern(self, text: str) -> tuple[int, int]:
        """(first place, last place)."""
        begin, end, rest = self._either(text, 0)
        if rest != len(text):
            raise ValueError(f"{text!r}: {text[rest]!r} at {rest} closes nothing")
        return begin, end

    def _place(self) -> int:
        self.moves.append([])
        self.free.append([])
        return len(self.moves) - 1

    def _either(self, text: str, at: int) -> tuple[int, int, int]:
        begin, end = self._place(), self._place()
        while True:
            first, last, at = self._sequence(text, at)
            self.free[begin].append(first)
            self.free[last].append(end)
            if at == len(text) or text[at] != "|":
                return begin, end, at
            at += 1

    def _sequence(self, text: str, at: int) -> tuple[int, int, int]:
        begin = end = self._place()
        while at < len(text) and text[at] not in "|)":
            stop = self._atom_end(text, at)
            least, most, after = _quantifier(text, stop)
            for index in range(max(least, most or least + (most is None))):
                first, last = self._atom(text[at:stop])
                if most is None and index >= max(least - 1, 0):
                    self.free[last].append(first)
                self.free[end].append(first)
                if index >= least:
                    skip = self._place()
                    self.free[end].append(skip)
                    self.free[last].append(skip)
                    last = skip
                end = last
                if most is None and index >= max(least - 1, 0):
                    break
            at = after
        return begin, end, at

    def _atom_end(self, text: str, at: int) -> int:
        if text[at] == "\\":
            return at + 2
        if text[at] == "[":
            at += 2 if text[at + 1 : at + 2] == "^" else 1
            while text[at] != "]":
                at += 2 if text[at] == "\\" else 1
            return at + 1
        if text[at] == "(":
            depth, at = 1, at + 1
            while depth:
                if text[at] in "\\[":
                    at = self._atom_end(text, at)
                    continue
                depth += {"(": 1, ")": -1}.get(text[at], 0)
                at += 1
            return at
        return text.index("}", at) + 1 if text[at] == "{" else at + 1

    def _atom(self, text: str) -> tuple[int, int]:
        if text[0] == "(":
            return self.pattern(text[1:-1])
        if text[0] == "{" and text[1:-1] in self.parts:
            return self.pattern(self.parts[text[1:-1]])
        if text not in self.tests:
            self.tests[text] = self._test(text)
        begin, end = self._place(), self._place()
        self.moves[begin].append((list(self.tests).index(text), end))
        return begin, end

    def _test(self, text: str) -> Test:
        if text[0] == "{":
            return self.kinds[text[1:-1]]
        if text[0] == "[":
            return class_test(text[1:-1])
        letter = text[-1]
        return {letter.lower(), letter.upper()}.__contains__


def _quantifier(text: str, at: int) -> tuple[int, int | None, int]:
    """(least, most, place after it); (1, 1) where there is none."""
    if at < len(text) and text[at] in QUANTIFIERS:
        least, most = QUANTIFIERS[text[at]]
        return least, most, at + 1
    if at + 1 < len(text) and text[at] == "{" and text[at + 1].isdigit():
        end = text.index("}", at)
        numbers = [int(number) for number in text[at + 1 : end].split(",")]
        return numbers[0], numbers[-1], end + 1
    return 1, 1, at


def class_test(text: str) -> Test:
    """Of what stands between the brackets of a class: characters, ranges, escapes, ^ first for all but these."""
    negated = text.startswith("^")
    chars, ranges, at = set[str](), list[tuple[str, str]](), int(negated)
    while at < len(text):
        at += text[at] == "\\"
        if text[at + 1 : at + 2] == "-" and at + 2 < len(text):
            ranges.append((text[at], text[at + 2]))
            at += 3
        else:
            chars.add(text[at])
            at += 1
    return lambda char: (char in chars or any(low <= char <= high for low, high in ranges)) != negated
