"""Answers that obey a grammar: which tokens may come next, from llguidance (extra `serve`).

    grammars = Grammars(model.tokenizer, stop_ids, model.config.decoder.vocab_size, model.markup)
    constraint = grammars.start(Grammar("json_schema", '{"type": "object", ...}'))
    logits.masked_fill_(~constraint.mask(), -inf); constraint.accept(token)

A grammar speaks of bytes, so an answer may be spelt in any tokens, but for text that must follow, which is spelt as the tokenizer
spells it. Special tokens are no bytes: they come only where a grammar names them. Of JSON only the white space that people write is
admitted: models loop on white space. What a schema means is JSON Schema's own (2020-12), and a keyword that cannot be obeyed is an
error, never passed over; keys come in the order of `properties`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qwenvl.families.spec import Markup
from qwenvl.inference.closing import Closing, JsonPlace
from qwenvl.inference.grammar_text import boxes_grammar, calls_grammar, markup_names
from qwenvl.inference.schema_text import MAX_TEXT, GrammarError, read_schema
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.processing.tools import CALL_TAGS

if TYPE_CHECKING:
    import torch
    from llguidance._lib import JsonCompileOptions

KEPT = 32
"""Compiled grammars."""
HORIZON = 512
"""Tokens before its limit from which on an answer is watched, so that it can still be closed."""
SEARCHED = 8192
"""Tokens that may be gone over to find ends of one answer, about a second: others wait meanwhile. After that the end that was
found last is written, which every change of mind of the model's would have looked for anew."""

JSON_RULES: JsonCompileOptions = {"whitespace_pattern": r" |\r?\n[ \t]{0,24}", "json_allowed_escapes": 'nrbtf\\"'}
"""llguidance's settings. Between the tokens of JSON stands a blank, or a new line and its indentation; characters are written as
they are, since half of a pair of escapes is no character."""

Kind = Literal["json_object", "json_schema", "boxes", "regex", "lark"]


@dataclass(frozen=True)
class Grammar:
    """What an answer has to be. `text`: a JSON Schema, a regular expression, or a grammar in llguidance's Lark; empty for others.

    json_object: any object. boxes: the family's own markup of regions, and nothing that is nearly so. An expression matches the
    whole answer.
    """

    kind: Kind
    text: str = ""


class Grammars:
    """Compiles grammars for one vocabulary. Threads may share it.

    stop_ids: the tokens that end an answer; vocab_size: rows of the model's head, of which those that the tokenizer does not know
    never come. Raises GrammarError where llguidance is not installed.
    """

    def __init__(self, tokenizer: Tokenizer, stop_ids: Collection[int], vocab_size: int, markup: Markup) -> None:
        self.tokenizer, self.markup, self.vocab_size = tokenizer, markup, vocab_size
        self.known = min(tokenizer.vocab_size, vocab_size)
        self.stop_ids = tuple(sorted(index for index in stop_ids if index < self.known))
        if not self.stop_ids:
            raise GrammarError("this model has no token that ends an answer; write eos_token_id into its generation_config.json")
        named = {name for name in (*markup_names(markup), *CALL_TAGS) if name in tokenizer.specials}
        self.special_ids = {name: tokenizer.special(name) for name in named}
        self._possible = np.array([bool(tokenizer.id_to_bytes(index)) for index in range(self.known)])
        never = set(tokenizer.specials.values()) - set(self.special_ids.values()) - set(self.stop_ids)
        self._possible[[index for index in never if index < self.known]] = False
        self._backend = _backend(tokenizer, self.stop_ids)
        self._closing = Closing(tokenizer, self.special_ids, self.stop_ids[0])
        self._compiled = lru_cache(KEPT)(self._compile)

    def start(self, grammar: Grammar) -> MatchedGrammar:
        """The constraint of a new answer. Raises GrammarError, one line, for a grammar that cannot be obeyed."""
        return MatchedGrammar(self._compiled(grammar).deep_copy(), self, grammar.kind)

    def shortest(self, grammar: Grammar) -> int | None:
        """Tokens of a short answer in the grammar, of which there may be shorter ones still: with so many, `settle` brings every
        answer to its end. None where none was found in HORIZON tokens. Raises as `start`."""
        end, _ = self._closing.find(self._compiled(grammar), JsonPlace(), HORIZON)
        return None if end is None else len(end)

    def calls(self, tools: Sequence[Mapping[str, Any]], name: str | None = None, many: bool = True) -> Grammar:
        """The grammar of an answer that calls one of the tools, or the one of this name; `many`: one after the other if it likes.

        tools as `processing.tools.tools_text` takes them. Arguments obey the tool's parameters, and a name that these do not list
        is none of them. Raises GrammarError for a name that is not there, and for parameters that are no schema.
        """
        functions = {str(function.get("name")): function for function in (tool.get("function", tool) for tool in tools)}
        if not functions or (name is not None and name not in functions):
            raise GrammarError(f"tool_choice: no tool is called {name!r}; the tools are {', '.join(functions) or 'none'}")
        signatures = {
            known: read_schema(json.dumps(function.get("parameters") or {}), f"parameters of {known}")
            for known, function in functions.items()
            if name in (None, known)
        }
        return Grammar("lark", calls_grammar(signatures, self.special_ids, many, JSON_RULES))

    def mask_of(self, bits: bytes, ends: bool) -> torch.Tensor:
        """llguidance's bit per token as (vocab,) bool; `ends`: whether the text may end here."""
        import torch

        mask = np.zeros(self.vocab_size, dtype=bool)
        admitted = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little", count=self.known).view(bool)
        np.logical_and(admitted, self._possible, out=mask[: self.known])
        mask[list(self.stop_ids)] = ends
        return torch.from_numpy(mask)

    def _compile(self, grammar: Grammar) -> Any:
        from llguidance import LLMatcher

        matcher = LLMatcher(self._backend, self._source(grammar), log_level=0, limits=_limits())
        if not matcher.is_error():
            matcher.compute_bitmask()  # the work of the first step is done once
        if matcher.is_error() or (matcher.is_stopped() and not matcher.is_accepting()):
            raise GrammarError(f"{grammar.kind}: {_reason(matcher)}")
        return matcher

    def _source(self, grammar: Grammar) -> str:
        """What llguidance reads."""
        from llguidance import LLMatcher

        if len(grammar.text) > MAX_TEXT:
            raise GrammarError(f"{grammar.kind}: {len(grammar.text):,} characters; give at most {MAX_TEXT:,}")
        if grammar.kind in ("json_object", "json_schema"):
            schema = read_schema(grammar.text if grammar.kind == "json_schema" else '{"type": "object"}', grammar.kind)
            return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=JSON_RULES))
        if grammar.kind == "regex":
            return str(LLMatcher.grammar_from_regex(grammar.text))
        lark = boxes_grammar(self.markup, self.special_ids) if grammar.kind == "boxes" else grammar.text
        return str(LLMatcher.grammar_from_lark(lark))


class MatchedGrammar:
    """What one answer may become (`sampling.Constraint`): llguidance's matcher, and the place in a JSON text, which tells how to
    close it."""

    def __init__(self, matcher: Any, grammars: Grammars, kind: str) -> None:
        self._matcher, self._grammars, self._kind = matcher, grammars, kind
        self._place = JsonPlace()
        self._end: list[int] | None = None
        self._look_at = HORIZON
        self._searched = 0
        self._ended = False

    @property
    def done(self) -> bool:
        """Nothing but the end may follow."""
        return self._ended or bool(self._matcher.is_stopped() and self._matcher.is_accepting())

    def mask(self) -> torch.Tensor:
        """(vocab,) bool: where the next token may be; stop ids exactly where the text may end. Raises GrammarError where nothing
        may follow, and where finding out would cost more than the limits."""
        if self.done:
            return self._grammars.mask_of(b"\0" * (self._grammars.known // 8 + 1), ends=True)
        bits = self._matcher.compute_bitmask()
        self._check()
        mask = self._grammars.mask_of(bits, ends=bool(self._matcher.is_accepting()))
        if not mask.any():
            raise GrammarError(f"{self._kind}: nothing in the model's vocabulary can go on from here; loosen the grammar")
        return mask

    def accept(self, token: int) -> None:
        """Raises GrammarError for a token that the mask does not admit."""
        self._end = None
        self._take(token)

    def settle(self, token: int, left: int) -> int:
        """Take a token, of `left` that may still be taken with it, or another where the text could not be brought to its end
        otherwise: it is whole wherever the limit leaves room for that. Returns the one that was taken. Raises as `accept`."""
        stop_ids = self._grammars.stop_ids
        if left > self._look_at or token in stop_ids or self.done:
            self.accept(token)
            return token
        end = self._end if self._end is not None else self._find(left)
        if end is None:  # too far away, or there is no end at all; looking costs too much to do it again at once
            self._look_at = left // 2
            self.accept(token)
            return token
        place = self._place
        self._take(token)
        self._end = end[1:] if end[:1] == [token] else self._renew(end, left - 1)
        if self._end is not None and len(self._end) < left:
            return token
        self._matcher.rollback(1)
        self._place = place
        token, self._end = (end[0], end[1:]) if end else (stop_ids[0], [])
        self._take(token)
        return token

    def _find(self, left: int) -> list[int] | None:
        if self._searched > SEARCHED:
            return None
        end, gone = self._grammars._closing.find(self._matcher, self._place, left)
        self._searched += gone
        return end

    def _renew(self, end: Sequence[int], left: int) -> list[int] | None:
        return list(end) if self._grammars._closing.still(self._matcher, end) else self._find(left)

    def _take(self, token: int) -> None:
        if token in self._grammars.stop_ids:
            if not self.done and not self._matcher.is_accepting():
                raise GrammarError(f"{self._kind}: the text may not end here; token {token} is not admitted")
            self._ended = True
            return
        if self.done or token >= self._grammars.known or not self._matcher.validate_tokens([token]):
            self._check()
            raise GrammarError(f"{self._kind}: token {token} is not admitted; take one that the mask has")
        self._matcher.consume_token(token)
        self._place = self._place.after(self._grammars.tokenizer.id_to_bytes(token))

    def _check(self) -> None:
        if self._matcher.is_error() or (self._matcher.is_stopped() and not self._matcher.is_accepting()):
            raise GrammarError(f"{self._kind}: the answer cannot go on, {_reason(self._matcher)}")


def _backend(tokenizer: Tokenizer, stop_ids: Sequence[int]) -> Any:
    """llguidance's tokenizer from the bytes of ours."""
    try:
        from llguidance import LLTokenizer, TokenizerWrapper
    except ImportError:
        raise GrammarError("grammars need llguidance; pip install 'qwenvl[serve]'") from None

    return LLTokenizer(TokenizerWrapper(_Vocabulary(tokenizer, stop_ids)), eos_token=list(stop_ids))


class _Vocabulary:
    """Our tokenizer with the names that llguidance asks for."""

    def __init__(self, tokenizer: Tokenizer, stop_ids: Sequence[int]) -> None:
        self.eos_token_id, self.bos_token_id = stop_ids[0], None
        self.tokens = [tokenizer.id_to_bytes(index) for index in range(tokenizer.vocab_size)]
        self.special_token_ids = sorted({*tokenizer.specials.values(), *stop_ids})
        self._encode = tokenizer.encode

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text.decode() if isinstance(text, bytes) else text)


def _limits() -> Any:
    """What a grammar may cost, in llguidance's own units of work and not in time, so that it fails on every machine or on none.
    Building one takes 0.2 s at most, a step 0.1 s (152 thousand tokens, one core of a Zen 5)."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=200_000, step_lexer_fuel=100_000, step_max_items=50_000, max_items_in_row=1000,
        max_lexer_states=20_000, max_grammar_size=100_000, verbose_errors=False,
    )  # fmt: skip


def _reason(matcher: Any) -> str:
    """Why a matcher stopped, in one line; keywords that llguidance does not know are named."""
    message = matcher.get_error()
    unknown = re.search(r"Unimplemented keys: \[(.*?)\]", message)
    if unknown:
        return f"{unknown[1]} cannot be obeyed; leave it out"
    if "NoExtension" in message or not message:
        return "nothing in the vocabulary satisfies it"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    shown = [line for line in lines if line.startswith("error:")] or lines[:1]
    return shown[0].removeprefix("error: ")[:300]
