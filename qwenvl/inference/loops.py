"""Answers that never end: a small model that reads a long page may write one line of it again and again."""

from __future__ import annotations

from collections.abc import Sequence

LOOP_TOKENS, LOOP_TIMES = 192, 6
"""What is repeated must fill so many tokens, and stand there so often, before it is a loop: an empty table may have many equal
cells, a list many equal lines."""
LONGEST = 128
"""Longest stretch, in tokens, whose repetition is looked for."""
EVERY = 8
"""Tokens between two looks."""


def loops(tokens: Sequence[int]) -> bool:
    """Whether a text ends in one stretch of tokens, repeated over and over. Looks at every eighth token only."""
    if len(tokens) < LOOP_TOKENS or len(tokens) % EVERY:
        return False
    tail = list(tokens[-LONGEST * LOOP_TIMES :])
    for period in range(1, LONGEST + 1):
        size = max(LOOP_TOKENS, period * LOOP_TIMES)
        if size > len(tail):
            return False
        if tail[-1] == tail[-1 - period] and tail[-size + period :] == tail[-size:-period]:
            return True
    return False
