"""Answers that obey a grammar: masks are right to the byte, what is admitted is read back, and an answer is whole at its limit."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from qwenvl.families import get_family
from qwenvl.families.spec import Markup
from qwenvl.inference.closing import Closing
from qwenvl.inference.constrain import SEARCHED, Grammar, Grammars, MatchedGrammar
from qwenvl.inference.schema_text import GrammarError
from qwenvl.processing.markup_style import markup_text
from qwenvl.processing.regions import read_regions, write_parts
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.processing.tools import CALL_TAGS, ToolCall, read_calls, write_call
from qwenvl.types import Region, RegionPart
from tests.small_text import small_tokenizer

pytest.importorskip("llguidance")

MARKUPS = {
    "qwen_vl": Markup(digits=3),
    "qwen2_vl": get_family("qwen2_vl").read_markup({}),
    "qwen2_5_vl": get_family("qwen2_5_vl").read_markup({}),
}
SPARE_ROWS = 7
TOOLS = [
    {"type": "function", "function": {"name": "look", "parameters": {
        "type": "object", "properties": {"place": {"type": "string", "maxLength": 5}, "far": {"type": "boolean"}},
        "required": ["place"]}}},
    {"name": "stop"},
]  # fmt: skip


@lru_cache
def grammars(family: str = "qwen_vl") -> Grammars:
    tokenizer = small_tokenizer(family)
    return Grammars(tokenizer, stops(tokenizer), tokenizer.vocab_size + SPARE_ROWS, MARKUPS[family])


def stops(tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.special("<|im_end|>"), tokenizer.special("<|endoftext|>")]


def schema(**content: Any) -> Grammar:
    return Grammar("json_schema", json.dumps(content))


def admits(source: Grammars, grammar: Grammar, ids: list[int]) -> bool:
    """Whether the tokens are admitted one by one, and the text may end after them."""
    constraint = source.start(grammar)
    for token in ids:
        if not constraint.mask()[token]:
            return False
        constraint.accept(token)
    return bool(constraint.mask()[source.stop_ids[0]])


def admits_text(text: str, grammar: Grammar, source: Grammars | None = None) -> bool:
    source = source or grammars()
    return admits(source, grammar, source.tokenizer.encode(text))


def wander(source: Grammars, grammar: Grammar, seed: int, limit: int) -> tuple[str, MatchedGrammar]:
    """The text of a model that takes any admitted token as soon as another."""
    constraint, draws = source.start(grammar), np.random.default_rng(seed)
    tokens: list[int] = []
    while len(tokens) < limit and not constraint.done:
        token = int(draws.choice(np.flatnonzero(constraint.mask().numpy())))
        token = constraint.settle(token, limit - len(tokens))
        if token in source.stop_ids:
            break
        tokens.append(token)
    return source.tokenizer.decode(tokens), constraint


@pytest.mark.parametrize("seed", range(3))
def test_a_mask_admits_what_some_text_goes_on_with_and_nothing_else(seed: int) -> None:
    """The oracle is the list of all texts."""
    texts = [f"{word}{end}".encode() for word in ("the", "there", "Describe", "图", "dog dog", "a\n") for end in ("", " red", ".")]
    grammar = Grammar("regex", "(the|there|Describe|图|dog dog|a\\n)( red|\\.)?")
    source, draws = grammars(), np.random.default_rng(seed)
    constraint, text = source.start(grammar), b""
    while not constraint.done:
        goes_on = [
            bool(piece) and not source.tokenizer.is_special(index) and any(whole.startswith(text + piece) for whole in texts)
            for index, piece in enumerate(map(source.tokenizer.id_to_bytes, range(source.vocab_size)))
        ]
        for stop in source.stop_ids:
            goes_on[stop] = text in texts
        mask = constraint.mask()
        assert mask.dtype == torch.bool and mask.any()
        # Text that must follow is spelt as the tokenizer spells it, elsewhere in any tokens.
        forced = len({whole[len(text) : len(text) + 1] for whole in texts if whole.startswith(text)}) == 1
        assert not (mask & ~torch.tensor(goes_on)).any() if forced else mask.tolist() == goes_on
        token = int(draws.choice(np.flatnonzero(goes_on)))
        constraint.accept(token)
        text += b"" if token in source.stop_ids else source.tokenizer.id_to_bytes(token)
    assert text in texts
    assert np.flatnonzero(constraint.mask()).tolist() == list(source.stop_ids)


def test_what_is_not_admitted_is_not_taken() -> None:
    source = grammars()
    constraint = source.start(Grammar("json_object"))
    for token in (source.tokenizer.encode("a")[0], source.stop_ids[0], source.tokenizer.special("<ref>"), source.vocab_size - 1):
        with pytest.raises(GrammarError, match="not"):
            constraint.accept(token)
    constraint.accept(source.tokenizer.encode("{")[0])  # a refusal has changed nothing
    constraint.accept(source.tokenizer.encode("}")[0])
    assert constraint.done


def test_one_answer_does_not_move_another() -> None:
    first, second = (grammars().start(Grammar("json_object")) for _ in range(2))
    before = second.mask()
    first.accept(grammars().tokenizer.encode("{")[0])
    assert torch.equal(second.mask(), before)


def test_placeholders_and_padding_never_come() -> None:
    """Not even where a grammar names them."""
    source = grammars()
    anything = source.start(Grammar("lark", "start: <[*]>*")).mask()
    never = [source.tokenizer.special(name) for name in ("<img>", "</img>", "<imgpad>", "<|im_start|>")]
    assert not anything[[*never, *range(source.tokenizer.vocab_size, source.vocab_size)]].any()
    assert anything[source.tokenizer.special("<box>")]


def test_white_space_of_json_is_that_of_people() -> None:
    assert admits_text('{"a": [1, 2]}', Grammar("json_object"))
    assert admits_text(json.dumps({"a": [1, {"b": None}]}, indent=4), Grammar("json_object"))
    assert not admits_text('{"a":   1}', Grammar("json_object"))
    assert not admits_text('{\n\n"a": 1}', Grammar("json_object"))
    assert not admits_text("{" + " " * 3 + "}", schema(**{"type": "object", "x-guidance": {"whitespace_pattern": " *"}}))


@pytest.mark.parametrize(("text", "named"), [
    ('{"not": {"type": "string"}}', '"not"'),
    ('{"type": "array", "uniqueItems": true}', '"uniqueItems"'),
    ('{"type": "strange"}', "strange"),
    ('{"type": "string", "format": "zip"}', "zip"),
    ('{"$ref": "http://example.org/a"}', "example.org"),
    ('{"type": "string", "pattern": "(?=a)b"}', "look-around"),
    ('{"type": "string", "pattern": "^a{5}$", "maxLength": 3}', "Unsatisfiable"),
    ('{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}', "satisf"),
    ("{", "not valid JSON"),
    ('{"minimum": 1e999}', "not valid JSON"),
    ("[1]", "an object, not list"),
    ("[" * 60_000, "not valid JSON"),
    ('{"a":' * 80 + "1" + "}" * 80, "nested deeper"),
    (json.dumps({"enum": ["x" * 70_000]}), "at most 65,536"),
])  # fmt: skip
def test_a_schema_that_cannot_be_obeyed_is_told_in_one_line(text: str, named: str) -> None:
    with pytest.raises(GrammarError, match="json_schema: ") as raised:
        grammars().start(Grammar("json_schema", text))
    assert named in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(("kind", "text"), [("regex", "("), ("regex", "a(?!b)"), ("lark", "start: nothing"), ("lark", "")])
def test_other_grammars_fail_in_one_line_too(kind: Any, text: str) -> None:
    with pytest.raises(GrammarError, match=f"^{kind}: .+$"):
        grammars().start(Grammar(kind, text))


def test_a_grammar_that_costs_too_much_ends_in_an_error() -> None:
    with pytest.raises(GrammarError, match="regex: the answer cannot go on"):
        wander(grammars(), Grammar("regex", "a{1000000}"), 0, 200)


@pytest.mark.parametrize(("bounds", "admitted", "refused"), [
    ({"exclusiveMinimum": 0, "maximum": 0.25}, ["0.25", "0.001"], ["0", "0.0", "0.26", "-1"]),
    ({"exclusiveMaximum": 0, "minimum": -0.5}, ["-0.5", "-0.001"], ["0", "-0", "-0.51", "1"]),
    ({"exclusiveMinimum": 0, "type": "integer"}, ["1", "20"], ["0", "-1", "1.5"]),
    ({"exclusiveMinimum": -1, "maximum": 1}, ["0", "1", "-0.9"], ["-1", "1.1"]),
    ({"exclusiveMaximum": 0.3, "minimum": 0}, ["0.29", "0.299999999", "0"], ["0.3", "0.31"]),
    ({"exclusiveMinimum": 3, "maximum": 7.5}, ["3.5", "3.1", "7", "7.5"], ["3", "3.0", "7.6"]),
])  # fmt: skip
def test_bounds_hold_to_the_letter(bounds: dict[str, Any], admitted: list[str], refused: list[str]) -> None:
    grammar = schema(**{"type": "number", **bounds})
    assert [text for text in admitted + refused if admits_text(text, grammar)] == admitted


def test_a_property_may_be_called_as_a_keyword_is() -> None:
    grammar = schema(type="object", properties={"exclusiveMinimum": {"const": 0}}, required=["exclusiveMinimum"])
    assert admits_text('{"exclusiveMinimum": 0}', grammar)
    assert admits_text('{"exclusiveMinimum": 0}', schema(const={"exclusiveMinimum": 0}))


@pytest.mark.parametrize("family", MARKUPS)
def test_boxes_admit_what_the_family_writes(family: str) -> None:
    source, frames = grammars(family), {0: (800, 600)}
    kinds = [Region.box(0.1, 0.2, 0.5, 0.9), Region.box(0, 0, 0.999, 1)]
    kinds += [Region("point", ((0.5, 0.25),))] if family == "qwen2_5_vl" else [Region("quad", ((0.1, 0), (1, 0), (1, 1), (0, 1)))]
    groups = [[RegionPart("a red dog", tuple(kinds)), RegionPart("图", (kinds[0],))], [RegionPart(None, (kinds[0],))]]
    for parts in groups:
        ids: list[int] = []
        for piece in write_parts(parts, source.markup, frames):
            ids += source.tokenizer.encode(piece) if isinstance(piece, str) else [source.tokenizer.special(piece.name)]
        assert admits(source, Grammar("boxes"), ids)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("family", MARKUPS)
def test_boxes_admit_only_what_is_read_back(family: str, seed: int) -> None:
    """Every place that was opened is closed and read; corners that meet make no box, which the reader says by leaving it out."""
    source = grammars(family)
    text, constraint = wander(source, Grammar("boxes"), seed, 150)
    markup = source.markup
    if markup.style == "json":
        places = json.loads(text.removeprefix("```json").removesuffix("```"))
        assert all(set(place) - {"label"} in ({"bbox_2d"}, {"point_2d"}) for place in places)
        boxes = [place["bbox_2d"] for place in places if "bbox_2d" in place]
        points = len(places) - len(boxes)
        flat = sum(box[0] == box[2] or box[1] == box[3] for box in boxes)
        assert len(read_regions(text, markup, frame=(10**5, 10**5))) == len(boxes) + points - flat
        return
    for opening, closing in (markup.ref, markup.box, markup.quad):
        assert text.count(opening) == text.count(closing)
    assert constraint.mask()[source.stop_ids[0]]
    regions = read_regions(text, markup)
    assert len(regions) <= text.count(markup.box[0]) + text.count(markup.quad[0])
    for region in regions:
        assert markup_text(write_parts([RegionPart(None, (region,))], markup))  # within the picture


def test_boxes_wander_into_places() -> None:
    """The test above would pass on empty texts."""
    ref, end, box = map(grammars().tokenizer.special, ("<ref>", "</ref>", "<box>"))
    grammar = Grammar("lark", f"start: <[{ref}]> /[a-z]{{1,3}}/ <[{end}]> <[{box}]> /[0-9]{{2}}/")
    texts = [wander(grammars(), grammar, seed, 20)[0] for seed in range(3)]
    assert all(text.startswith("<ref>") and "</ref><box>" in text for text in texts)
    assert any("bbox_2d" in wander(grammars("qwen2_5_vl"), Grammar("boxes"), seed, 150)[0] for seed in range(20))


@pytest.mark.parametrize(("text", "special"), [
    ("<box>(001,002),(003,004)", True), ("<box>(1,2),(3,4)</box>", True), ("<box>(0001,002),(003,004)</box>", True),
    ("<ref>dog</ref>", True), ("<box></box>", True), ("</box>", True), ("<quad>(001,002),(003,004)</quad>", True),
    ("<box>(001,002),(003,004)</box>", False), ("a <ref>dog</ref>", False),
])  # fmt: skip
def test_boxes_refuse_what_is_nearly_a_region(text: str, special: bool) -> None:
    """Among it regions in letters, which would be read as if they were in tokens."""
    tokenizer = grammars().tokenizer
    ids: list[int] = []
    while text:
        name = next((name for name in tokenizer.specials if special and text.startswith(name)), None)
        ids.append(tokenizer.special(name) if name else tokenizer.encode(text[0])[0])
        text = text[len(name or text[0]) :]
    assert not admits(grammars(), Grammar("boxes"), ids)
    assert admits_text("3 < 4, and 5 <= 6: yes", Grammar("boxes"))


@pytest.mark.parametrize("tags", ["text", "special", "words"])
def test_calls_are_read_back_and_obey_their_parameters(tags: str) -> None:
    """Whether the vocabulary has the tags as special tokens, as words, or not at all."""
    source = grammars()
    if tags != "text":
        data = json.loads(source.tokenizer.to_json())
        first = source.tokenizer.vocab_size
        added = [{"id": first + n, "content": name, "special": tags == "special"} for n, name in enumerate(CALL_TAGS)]
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        data["added_tokens"] += [token | plain for token in added]
        tokenizer = Tokenizer.from_json(json.dumps(data))
        source = Grammars(tokenizer, stops(tokenizer), tokenizer.vocab_size, source.markup)
    names = set()
    for seed in range(10):
        text, _ = wander(source, source.calls(TOOLS), seed, 300)
        calls = read_calls(text)
        assert calls and text == "\n".join(map(_as_written, calls, text.split("\n</tool_call>")))
        for call in calls:
            jsonschema.validate(call.arguments, TOOLS[0]["function"]["parameters"] if call.name == "look" else {"maxProperties": 0})
        names |= {call.name for call in calls}
    assert names == {"look", "stop"}
    chosen, _ = wander(source, source.calls(TOOLS, "look", many=False), 0, 300)
    assert [call.name for call in read_calls(chosen)] == ["look"]


def _as_written(call: ToolCall, text: str) -> str:
    """The call as it stands in the text, whose white space is free within the arguments."""
    written = json.loads(text.strip().removeprefix(CALL_TAGS[0]).removesuffix(CALL_TAGS[1]))
    assert written == {"name": call.name, "arguments": call.arguments}
    return text.lstrip("\n") + "\n</tool_call>"


def test_calls_admit_what_is_written_in_prompts() -> None:
    source = grammars()
    text = write_call(ToolCall("look", {"place": "here", "far": True}))
    assert admits_text(text, source.calls(TOOLS))
    assert admits_text(text + "\n" + write_call(ToolCall("stop")), source.calls(TOOLS))
    assert not admits_text(text + "\n" + write_call(ToolCall("stop")), source.calls(TOOLS, many=False))
    assert not admits_text(write_call(ToolCall("stop")), source.calls(TOOLS, "look"))
    assert not admits_text(write_call(ToolCall("look", {"place": "here", "more": 1})), source.calls(TOOLS))
    with pytest.raises(GrammarError, match="no tool is called 'fly'; the tools are look, stop"):
        source.calls(TOOLS, "fly")


NESTED = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 9},
        "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.3},
        "tags": {"type": "array", "items": {"enum": ["red", "blue", None]}, "minItems": 2, "maxItems": 9},
        "more": {"type": "object", "properties": {"code": {"type": "string", "pattern": "^[xy]*z[0-9]{2}$"}}, "required": ["code"]},
    },
    "required": ["name", "share", "tags", "more"],
}  # fmt: skip


@pytest.mark.parametrize("limit", [110, 130, 200])
def test_an_answer_is_whole_at_its_limit(limit: int) -> None:
    for seed in range(15):
        text, constraint = wander(grammars(), schema(**NESTED), seed, limit)
        jsonschema.validate(json.loads(text), NESTED)
        assert constraint.done
        assert isinstance(json.loads(wander(grammars(), Grammar("json_object"), seed, limit // 4)[0]), dict)


def test_without_the_watch_it_would_not_be() -> None:
    """The test above would pass if random answers were short by nature."""
    source, cut = grammars(), 0
    for seed in range(15):
        constraint, draws = source.start(schema(**NESTED)), np.random.default_rng(seed)
        for _ in range(110):
            if constraint.done:
                break
            constraint.accept(int(draws.choice(np.flatnonzero(constraint.mask().numpy()))))
        cut += not constraint.done
    assert cut > 5


def test_a_limit_with_no_room_cuts_the_answer() -> None:
    text, constraint = wander(grammars(), schema(**NESTED), 0, 20)
    assert not constraint.done and text.startswith("{")


def test_a_text_without_end_is_cut_and_hangs_nowhere() -> None:
    endless = schema(type="object", properties={"a": {"$ref": "#"}}, required=["a"], additionalProperties=False)
    assert not wander(grammars(), endless, 0, 60)[1].done


def test_a_vocabulary_that_lacks_a_letter_ends_in_an_error() -> None:
    tokenizer = small_tokenizer()
    lacking = {
        index: tokenizer.id_to_bytes(index)
        for index in range(tokenizer.vocab_size)
        if not tokenizer.is_special(index) and b"}" not in tokenizer.id_to_bytes(index)
    }
    partial = Tokenizer(tokenizer._backend, tokenizer.specials, lacking)
    source = Grammars(partial, stops(partial), partial.vocab_size, Markup())
    constraint = source.start(schema(type="object", additionalProperties=False))
    constraint.accept(partial.encode("{")[0])
    with pytest.raises(GrammarError, match="json_schema: "):
        while True:
            constraint.settle(int(constraint.mask().nonzero()[0]), 100)


def test_a_model_that_cannot_end_an_answer_is_refused() -> None:
    with pytest.raises(GrammarError, match="no token that ends an answer"):
        Grammars(small_tokenizer(), [], 400, Markup())


def test_looking_for_an_end_costs_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every token that the model takes spoils the end that was found, it is not looked for for ever."""
    gone = 0
    walk = Closing._walk

    def counted(*arguments: Any) -> tuple[list[int], bool]:
        nonlocal gone
        end, ended = walk(*arguments)
        gone += len(end)
        return end, ended

    monkeypatch.setattr(Closing, "_walk", counted)
    choices = [first + second for first in "abcdefgh" for second in "abcdefgh"]
    grammar = schema(type="array", minItems=70, maxItems=90, items={"enum": choices})
    text, _ = wander(grammars(), grammar, 3, 480)
    assert 70 <= len(json.loads(text)) <= 90 and set(json.loads(text)) <= set(choices)
    assert SEARCHED < gone <= SEARCHED + 4 * 480
