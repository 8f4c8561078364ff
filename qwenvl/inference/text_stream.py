"""Tokens become text as they come: no half characters, nothing after a stop string, markup held back for people."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence


class TextStream:
    """Turns token ids into chunks of text, one call of `push` per token.

    Bytes of an unfinished character wait for the rest of it; so does text that may be the beginning of a stop string.
    `stopped` is true once a stop string was met: text from it on is dropped. The chunks joined are `text`.
    """

    def __init__(self, id_to_bytes: Callable[[int], bytes], stops: Sequence[str] = ()) -> None:
        self._id_to_bytes = id_to_bytes
        self._stops = tuple(stops)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._given: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        return "".join(self._given)

    def push(self, token: int) -> str:
        """The text that this token completes, possibly empty."""
        return self._release(self._decoder.decode(self._id_to_bytes(token)), final=False)

    def finish(self) -> str:
        """What was still held back; an unfinished character becomes U+FFFD."""
        return self._release(self._decoder.decode(b"", final=True), final=True)

    def _release(self, new: str, final: bool) -> str:
        if self.stopped:
            return ""
        self._held += new
        met = [place for place in (self._held.find(stop) for stop in self._stops) if place >= 0]
        if met:
            self.stopped = True
            chunk, self._held = self._held[: min(met)], ""
        else:
            keep = 0 if final else begun(self._held, self._stops)
            cut = len(self._held) - keep
            chunk, self._held = self._held[:cut], self._held[cut:]
        self._given.append(chunk)
        return chunk


def begun(text: str, strings: Sequence[str]) -> int:
    """Length of the longest tail of a text that begins one of the strings."""
    longest = 0
    for string in strings:
        for size in range(min(len(string) - 1, len(text)), longest, -1):
            if text.endswith(string[:size]):
                longest = size
                break
    return longest


class ReadableStream:
    """Passes chunks on with the markup made readable, holding back a phrase or place until its closing tag has come.

    `strip` makes a text whose tags are closed readable; `pairs` are the (opening, closing) tags.
    """

    def __init__(self, strip: Callable[[str], str], pairs: Sequence[tuple[str, str]]) -> None:
        self._strip = strip
        self._pairs = tuple(pairs)
        self._seen = ""
        self._shown = 0

    def push(self, chunk: str) -> str:
        self._seen += chunk
        return self._show(self._seen[: self._closed()])

    def finish(self) -> str:
        return self._show(self._seen)

    def _closed(self) -> int:
        """End of the text whose every opening tag is whole and closed."""
        end = len(self._seen) - begun(self._seen, [opening for opening, _ in self._pairs])
        for opening, closing in self._pairs:
            start = self._seen.rfind(opening)
            if start >= 0 and self._seen.find(closing, start) < 0:
                end = min(end, start)
        return end

    def _show(self, text: str) -> str:
        readable = self._strip(text)
        new, self._shown = readable[self._shown :], max(self._shown, len(readable))
        return new
