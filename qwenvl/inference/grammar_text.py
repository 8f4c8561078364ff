"""Grammars of ours, in llguidance's Lark: regions as a family writes them, and calls of tools.

Where a vocabulary has a tag as a special token it is named by its id, elsewhere it is text. That corners are in order is not
asked for: it is no matter of grammar, and whoever reads the markup puts them in order (`processing.markup_style`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qwenvl.families.spec import Markup
from qwenvl.processing.json_list import KEYS
from qwenvl.processing.tools import CALL_TAGS

JSON_STRING = r"/\"([^\"\\\x00-\x1f\x7f]|\\[\"\\\/bfnrt])*\"/"


def markup_names(markup: Markup) -> tuple[str, ...]:
    return (*markup.ref, *markup.box, *markup.quad)


def boxes_grammar(markup: Markup, special_ids: Mapping[str, int]) -> str:
    """Text in which every region is one that the family's reader takes for one."""
    return _tags(markup, special_ids) if markup.style == "tags" else _json_list()


def _tags(markup: Markup, special_ids: Mapping[str, int]) -> str:
    """Words, and phrases with one place or more, or places alone. No word begins like a tag, since `<box>` in letters would be
    read as one; a phrase has no `<` and no `>`."""
    ref, box, quad = ([_tag(name, special_ids) for name in pair] for pair in (markup.ref, markup.box, markup.quad))
    longest = len(str(markup.scale - 1))
    padded = f"[0-9]{{{markup.digits}}}"
    more = f"|[1-9][0-9]{{{markup.digits},{longest - 1}}}" if markup.digits < longest else ""
    return f"""\
start: (WORDS | region)*
region: ({ref[0]} PHRASE {ref[1]})? place+
place: box | quad
box: {box[0]} POINT "," POINT {box[1]}
quad: {quad[0]} POINT {" ".join([json.dumps(markup.quad_separator), "POINT"] * 3)} {quad[1]}
POINT: "(" NUMBER "," NUMBER ")"
NUMBER: /{padded}{more}/
PHRASE: /[^<>]+/
WORDS: /([^<]|<+[^<a-zA-Z\\/|])+/
"""


def _json_list() -> str:
    """One fenced list, written as `processing.json_list` writes it; an empty one where there is nothing."""
    box, point = (json.dumps(json.dumps(KEYS[kind]) + ": [") for kind in ("box", "point"))
    return f"""\
start: "```json\\n[\\n" (place (",\\n" place)* "\\n")? "]\\n```"
place: "\\t{{" (box | point) (", \\"label\\": " STRING)? "}}"
box: {box} NUMBER ", " NUMBER ", " NUMBER ", " NUMBER "]"
point: {point} NUMBER ", " NUMBER "]"
NUMBER: /0|[1-9][0-9]{{0,4}}/
STRING: {JSON_STRING}
"""


def calls_grammar(signatures: Mapping[str, Any], special_ids: Mapping[str, int], many: bool, rules: Mapping[str, Any]) -> str:
    """Calls as `processing.tools.write_call` writes them. signatures: a function's name -> the schema of its arguments; rules:
    llguidance's settings of JSON."""
    opening, closing = (_tag(name, special_ids) for name in CALL_TAGS)
    bodies, lines = [], []
    for index, (name, parameters) in enumerate(signatures.items()):
        schema = {"type": "object", "additionalProperties": False, **(parameters if isinstance(parameters, dict) else {})}
        schema["x-guidance"] = dict(rules)
        head = json.dumps('{"name": ' + json.dumps(name, ensure_ascii=False) + ', "arguments": ', ensure_ascii=False)
        bodies.append(f'{head} arguments_{index} "}}"')
        lines.append(f"arguments_{index}: %json {json.dumps(schema)}")
    more = ' ("\\n" call)*' if many else ""
    return "\n".join((f"start: call{more}", f'call: {opening} "\\n" ({" | ".join(bodies)}) "\\n" {closing}', *lines))


def _tag(name: str, special_ids: Mapping[str, int]) -> str:
    return f"<[{special_ids[name]}]>" if name in special_ids else json.dumps(name)
