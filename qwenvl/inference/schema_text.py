"""JSON Schemas from outside: within limits, and so written that llguidance obeys them to the letter."""

from __future__ import annotations

import json
from typing import Any, TypeGuard

from qwenvl.types import QwenVLError

MAX_TEXT = 1 << 16
"""Characters of a schema, an expression or a grammar."""
MAX_DEPTH = 64
"""Brackets within brackets of a schema."""
NEAREST = 1e-9

NOT_SCHEMAS = ("enum", "const", "default", "examples")
"""Keywords whose values are data."""


class GrammarError(QwenVLError, ValueError):
    """A grammar that cannot be obeyed, or an answer that cannot be gone on with in it."""


def read_schema(text: str, where: str) -> dict[str, Any] | bool:
    """The schema that a text is. Raises GrammarError naming `where` for what is no schema, too long or nested too deep.

    llguidance 1.9 admits 7 itself for `exclusiveMinimum: 7` where the maximum is below 8, and -7 likewise: there the bound becomes
    an inclusive one NEAREST to it. Its private settings are taken out: white space is not the caller's to choose.
    """
    if len(text) > MAX_TEXT:
        raise GrammarError(f"{where}: {len(text):,} characters; give at most {MAX_TEXT:,}")
    try:
        schema = json.loads(text)
        json.dumps(schema, allow_nan=False)  # no JSON, but Python reads them
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(schema, dict | bool):
        raise GrammarError(f"{where}: a JSON Schema is an object, not {type(schema).__name__}")
    _check_depth(schema, where)
    if isinstance(schema, dict):
        schema.pop("x-guidance", None)
    return _without_open_integers(schema)


def _check_depth(schema: Any, where: str) -> None:
    level, depth = [schema], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise GrammarError(f"{where}: nested deeper than {MAX_DEPTH}; give a flatter schema")
        members = (value.values() if isinstance(value, dict) else value for value in level if isinstance(value, dict | list))
        level = [inner for values in members for inner in values]


def _without_open_integers(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_open_integers(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: inner if key in NOT_SCHEMAS else _without_open_integers(inner) for key, inner in value.items()}
    for exclusive, inclusive, sign, others in (
        ("exclusiveMinimum", "minimum", 1, ("maximum", "exclusiveMaximum")),
        ("exclusiveMaximum", "maximum", -1, ("minimum", "exclusiveMinimum")),
    ):
        bound = changed.get(exclusive)
        ends = [end for name in others if _is_number(end := changed.get(name))]
        if _is_number(bound) and bound % 1 == 0 and any(abs(end - bound) < 1 for end in ends):
            inner, given = bound + sign * NEAREST, changed.get(inclusive)
            changed[inclusive] = sign * max(sign * inner, sign * given) if _is_number(given) else inner
            del changed[exclusive]
    return changed


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
