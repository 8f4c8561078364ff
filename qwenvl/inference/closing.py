"""The shortest way to the end of a text that a grammar has begun: found so that an answer is whole when its tokens run out.

A grammar's matcher says only whether a token may come next. The end is looked for one byte at a time, always taking first what
closes something; what cannot be closed so within the limit is said to have no end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwenvl.processing.tokenizer import Tokenizer

IN_STRING = b'"'
BETWEEN = b"}],:"  # then a value: a string, a number or a word before what has to be closed again
LINES = b"}]\n,:"  # where a line's end, not its comma, leads out of a list
OPENERS = b"[{"
LAST = b" \t\r\n\\"
TRIES = ((BETWEEN, 1, 0), (BETWEEN, -1, 0), (LINES, 1, 0), (BETWEEN, 1, 37))
"""What comes first between strings; in which direction all other bytes are gone through; and by how many they move on with each
step: where they stand still, `a` may be taken for ever and only `b` lead out."""


@dataclass(frozen=True, slots=True)
class JsonPlace:
    """Whether a JSON text has come to the inside of a string, and there to the character after a backslash."""

    in_string: bool = False
    escaped: bool = False

    def after(self, text: bytes) -> JsonPlace:
        in_string, escaped = self.in_string, self.escaped
        for byte in text:
            if escaped:
                escaped = False
            elif in_string and byte == ord("\\"):
                escaped = True
            elif byte == ord('"'):
                in_string = not in_string
        return JsonPlace(in_string, escaped)


class Closing:
    """Finds ends in one vocabulary. special_ids: those that grammars name, closing ones among them."""

    def __init__(self, tokenizer: Tokenizer, special_ids: Mapping[str, int], stop_id: int) -> None:
        self.tokenizer, self.stop_id = tokenizer, stop_id
        self.of_byte: dict[int, int] = {}
        for index in range(tokenizer.vocab_size):
            if len(tokenizer.id_to_bytes(index)) == 1 and not tokenizer.is_special(index):
                self.of_byte.setdefault(tokenizer.id_to_bytes(index)[0], index)
        closers = [index for name, index in special_ids.items() if name.startswith("</") or name.endswith("_end|>")]
        self.specials = [*closers, *(index for index in special_ids.values() if index not in closers)]
        self.inside = bytes(byte for byte in range(256) if byte not in b'"\\')
        self.between = bytes(byte for byte in range(256) if byte not in IN_STRING + BETWEEN + OPENERS + LAST)

    def find(self, matcher: Any, place: JsonPlace, limit: int) -> tuple[list[int] | None, int]:
        """Tokens after which the text may end, none where it may end already; None where no end was found in `limit` tokens. And
        how many tokens were gone over to find it."""
        gone = 0
        for how in TRIES:
            end, ended = self._walk(matcher.deep_copy(), place, limit, *how)
            gone += len(end)
            if ended:
                return end, gone
        return None, gone

    def still(self, matcher: Any, end: Sequence[int]) -> bool:
        """Whether what closed the text before its last token closes it now: inside a string it does."""
        return bool(matcher.validate_tokens([*end, self.stop_id]) == len(end) + 1)

    def _walk(self, matcher: Any, place: JsonPlace, limit: int, first: bytes, direction: int, step: int) -> tuple[list[int], bool]:
        """The tokens that were taken, and whether the text may end after them."""
        end: list[int] = []
        while not matcher.is_accepting():
            if len(end) >= limit or matcher.is_error():
                return end, False
            tokens = matcher.compute_ff_tokens() or self._next(matcher, place, first, direction, step * len(end))
            if not tokens or not matcher.consume_tokens(tokens):
                return end, False
            end += tokens
            for token in tokens:
                place = place.after(self.tokenizer.id_to_bytes(token))
        return end, True

    def _next(self, matcher: Any, place: JsonPlace, first: bytes, direction: int, turn: int) -> list[int]:
        """One token that may come next, the first in the order of what closes; [] if there is none of one byte."""
        others = self.inside if place.in_string else self.between
        turn %= len(others)
        others = (others[turn:] + others[:turn])[::direction]
        order = IN_STRING + others if place.in_string else first + IN_STRING + others
        tokens = (self.of_byte[byte] for byte in order + OPENERS + LAST if byte in self.of_byte)
        for token in (*self.specials, *tokens):
            if matcher.validate_tokens([token]) == 1:
                return [token]
        return []
