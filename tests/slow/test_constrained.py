"""Constrained answers always parse: 500 random schemas, answered by the nano, are valid JSON and obey their schema, also where the
limit of tokens is hardly enough."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from qwenvl.inference.constrain import Grammar, Grammars, MatchedGrammar
from qwenvl.inference.engine import Engine
from qwenvl.inference.model import QwenVL, load
from qwenvl.inference.reply import Reply
from qwenvl.inference.sampling import GenerationOptions
from qwenvl.types import Encoded

pytest.importorskip("llguidance")

SCHEMAS = 500
TOGETHER = 20
"""Answers that are decoded at once."""
PATTERNS = ("^[a-z]{2,6}$", "^#[0-9a-f]{6}$", "^(red|green|blue)( (dog|cat))?$", "^[A-Z][a-z]+, [0-9]{1,3}$", "^[xy]*z$")
QUESTIONS = (
    "What is in the picture?", "Describe the picture in English:", "Where is the dog?", "图中有什么?", "List everything as JSON.",
    "How many things are there?", "请用JSON回答。",
)  # fmt: skip


def random_schema(draws: random.Random, depth: int = 0) -> dict[str, Any]:
    """Of every kind of value, bounded, so that an answer ends; at the top an object."""
    simple = (random_string, random_number, random_choice, lambda draws: {"type": draws.choice(["boolean", "null"])})
    nested = (random_object, random_array, random_union)
    if depth == 0:
        return random_object(draws, depth)
    return draws.choice(simple)(draws) if depth > 2 or draws.random() < 0.6 else draws.choice(nested)(draws, depth)


def random_object(draws: random.Random, depth: int) -> dict[str, Any]:
    names = draws.sample(["name", "count", "box", "colour", "a b", "颜色", "x-1", 'say "it"', "n", "list"], draws.randint(1, 4))
    required = [name for name in names if draws.random() < 0.6]
    properties = {name: random_schema(draws, depth + 1) for name in names}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": draws.random() < 0.1}


def random_array(draws: random.Random, depth: int) -> dict[str, Any]:
    least = draws.randint(0, 2)
    array = {"type": "array", "minItems": least, "maxItems": least + draws.randint(0, 3)}
    if draws.random() < 0.2:
        rest = {"type": "integer", "minimum": 0, "maximum": 999}
        return array | {"prefixItems": [random_schema(draws, depth + 1)], "items": rest}
    return array | {"items": random_schema(draws, depth + 1)}


def random_union(draws: random.Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [random_schema(draws, depth + 1) for _ in range(draws.randint(1, 3))]}


def random_string(draws: random.Random) -> dict[str, Any]:
    if draws.random() < 0.3:
        return {"type": "string", "pattern": draws.choice(PATTERNS)}
    if draws.random() < 0.2:
        return {"type": "string", "format": draws.choice(["date", "uuid", "ipv4"])}
    least = draws.randint(0, 3)
    return {"type": "string", "minLength": least, "maxLength": least + draws.randint(0, 12)}


def random_number(draws: random.Random) -> dict[str, Any]:
    kind = draws.choice(["integer", "number"])
    number: dict[str, Any] = {"type": kind}
    low = draws.choice([-50, -1, 0, 3, 1000]) if kind == "integer" else draws.choice([-2.5, 0, 0.1, 7])
    if draws.random() < 0.7:
        number[draws.choice(["minimum", "exclusiveMinimum"])] = low
    if draws.random() < 0.7:
        room = draws.choice([2, 9, 4000] if kind == "integer" else [0.2, 3, 50])
        number[draws.choice(["maximum", "exclusiveMaximum"])] = round(low + room, 2)
    return number


def random_choice(draws: random.Random) -> dict[str, Any]:
    values = ["red", "图", 'a "quote"', "back\\slash", 3, -1.5, True, None, [1, 2], {"k": "v"}]
    return {"const": draws.choice(values)} if draws.random() < 0.2 else {"enum": draws.sample(values, draws.randint(1, 4))}


def answer(
    engine: Engine, prompts: list[Encoded], constraints: list[MatchedGrammar], limits: list[int], options: list[GenerationOptions]
) -> list[Reply]:
    """Answers that are decoded together, each by its own options and within its own limit."""
    tickets = [
        engine.submit(prompt, GenerationOptions.of(option, max_new_tokens=limit), constraint=constraint)
        for prompt, constraint, limit, option in zip(prompts, constraints, limits, options, strict=True)
    ]
    return [reply for ticket in tickets for reply in ticket if isinstance(reply, Reply)]


@pytest.fixture(scope="module")
def model() -> QwenVL:
    return load("qwen-vl-nano-chat", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def engine(model: QwenVL) -> Iterator[Engine]:
    engine = Engine(model)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def grammars(model: QwenVL) -> Grammars:
    assert model.tokenizer is not None
    return Grammars(model.tokenizer, model.stop_ids, model.config.decoder.vocab_size, model.markup)


@pytest.mark.parametrize("part", range(SCHEMAS // 100))
def test_constrained_answers_always_parse(engine: Engine, grammars: Grammars, part: int) -> None:
    """Half of the answers are greedy, half drawn at random; limits are from hardly enough to plenty."""
    draws = random.Random(part)
    schemas = [random_schema(draws) for _ in range(100)]
    cases = []
    for index, schema in enumerate(schemas):
        grammar = Grammar("json_schema", json.dumps(schema))
        constraint = grammars.start(grammar)
        shortest = grammars.shortest(grammar)
        assert shortest is not None, schema
        limit = shortest + draws.choice([0, 1, 5, 30, 200])
        options = GenerationOptions(seed=index, temperature=draws.choice([0.0, 1.5]))
        cases.append((engine.model.encode([{"role": "user", "content": draws.choice(QUESTIONS)}]), constraint, limit, options))
    replies: list[Reply] = []
    for start in range(0, len(cases), TOGETHER):
        replies += answer(engine, *map(list, zip(*cases[start : start + TOGETHER])))
    for schema, reply in zip(schemas, replies, strict=True):
        text = reply.text
        assert reply.finish_reason == "stop" and isinstance(json.loads(text), dict)
        # Numbers as they are written: a double would round 0.2999999999999999999 up to its bound.
        value, exact = (json.loads(written, parse_float=Decimal) for written in (text, json.dumps(schema)))
        jsonschema.Draft202012Validator(exact, format_checker=jsonschema.FormatChecker()).validate(value)
    assert len({reply.text for reply in replies}) > 60  # they are not all the shortest


def test_the_schemas_are_of_every_kind() -> None:
    """And would not be obeyed by chance."""
    written = json.dumps([random_schema(random.Random(part)) for part in range(SCHEMAS)])
    for keyword in ("pattern", "enum", "const", "anyOf", "prefixItems", "exclusiveMinimum", "maxLength", "format", "null"):
        assert f'"{keyword}"' in written
    refused = sum(
        not jsonschema.Draft202012Validator(random_schema(random.Random(part))).is_valid({"name": "red", "count": 3})
        for part in range(SCHEMAS)
    )
    assert refused > SCHEMAS / 2


def test_answers_about_a_picture_name_places(model: QwenVL, engine: Engine, grammars: Grammars, repository: Path) -> None:
    """What the grammar of boxes adds to a model that knows its markup is nothing: the greedy answer is the same."""
    picture = str(repository / "qwenvl" / "assets" / "samples" / "scene-1.png")
    question = [{"type": "image", "image": picture}, {"type": "text", "text": "Describe the picture in English with grounding:"}]
    prompt = model.encode([{"role": "user", "content": question}])
    free = model.generate([prompt], temperature=0.0, max_new_tokens=400)[0]
    bound = answer(engine, [prompt], [grammars.start(Grammar("boxes"))], [400], [GenerationOptions()])[0]
    assert free.regions and bound.text == free.text and bound.regions == free.regions
