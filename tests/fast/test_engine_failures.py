"""The engine when something breaks: memory that runs out at the worst place, a library that panics, a listener that is gone.

Whatever it is, the others' answers are right, everybody hears how their own request ended, and the next one is answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import qwenvl
from qwenvl.inference.cache import KVCache
from qwenvl.inference.check_served import Said
from qwenvl.inference.engine import Engine
from qwenvl.inference.requests import Draining, EngineLimits, Overloaded, RequestError
from qwenvl.inference.sampling import GenerationOptions, choose_token, new_generator
from qwenvl.inference.session import Session
from qwenvl.types import QwenVLError
from tests.fast.engines import answers, build, ended, held
from tests.fast.tiny import Visual, document, native_config, random_prompt, tiny_model

TOKENS = GenerationOptions(max_new_tokens=8)


class Panic(BaseException):
    """As libraries in Rust raise theirs: no Exception."""


@pytest.fixture
def model() -> qwenvl.QwenVL:
    return build("qwen_vl")


@pytest.fixture
def engine(model: qwenvl.QwenVL) -> Iterator[Engine]:
    with Engine(model, EngineLimits(cache_bytes=2**28)) as engine:
        yield engine


def failing(function: Callable[..., Any], which: int, error: BaseException) -> Callable[..., Any]:
    """The function, whose call number `which`, counted from 1, fails."""
    calls = 0

    def call(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == which:
            raise error
        return function(*arguments, **more)

    return call


def alone(model: qwenvl.QwenVL, seed: int) -> tuple[int, ...]:
    return model.generate([random_prompt(model.config, 12, seed)], TOKENS)[0].tokens


def outcomes(engine: Engine, count: int) -> list[object]:
    """Of `count` prompts at once: the tokens of each, or its error."""
    tickets = [engine.submit(random_prompt(engine.model.config, 12, seed), TOKENS) for seed in range(count)]
    told: list[object] = []
    for ticket in tickets:
        try:
            told.append(ended(ticket).tokens)
        except QwenVLError as error:
            told.append(str(error))
    return told


@pytest.mark.parametrize("error", [MemoryError("no room"), Panic("no room")])
@pytest.mark.parametrize(
    ("owner", "name", "which"),
    [("cache", "write", 2), ("cache", "open", 2), ("cache", "reserve", 3), ("model", "logits", 6), ("model", "logits", 9)],
)
def test_memory_that_runs_out_costs_one_answer_and_no_other_a_token(
    model: qwenvl.QwenVL, engine: Engine, monkeypatch: pytest.MonkeyPatch, owner: str, name: str, which: int, error: BaseException
) -> None:
    expected = [alone(model, seed) for seed in range(4)]
    target = engine._session.cache if owner == "cache" else model.model
    monkeypatch.setattr(target, name, failing(getattr(target, name), which, error))
    told = outcomes(engine, 4)
    assert told.count("the request failed: no room") == 1
    assert all(one in (right, "the request failed: no room") for one, right in zip(told, expected))
    assert outcomes(engine, 4) == expected
    assert engine.stats().running == 0


def test_nothing_of_a_poisoned_row_is_left_where_a_shorter_one_moves(model: qwenvl.QwenVL) -> None:
    """Attention multiplies what is hidden by zero, which leaves a NaN as it is."""
    prompts = [random_prompt(model.config, length, length) for length in (30, 20, 6)]
    session, kept = Session(model.model, prompts, room=4), Session(model.model, prompts[1:], room=4)
    session.prefill(), kept.prefill()
    for whole in (*session.cache.keys, *session.cache.values):
        whole[0] = float("nan")
    session.leave(0, spoiled=True)  # the last row, of six tokens, takes its place
    both = session.step([7, 8])
    torch.testing.assert_close(both, kept.step([8, 7]).flip(0), atol=1e-5, rtol=0)


def test_a_cache_that_cannot_grow_holds_what_it_held(model: qwenvl.QwenVL, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = KVCache(model.config.decoder, 0, 0, dtype=torch.float32)
    cache.open(4)
    block = torch.randn(len(cache.keys), 2, *cache.keys[0].shape[1:2], 3, cache.keys[0].shape[3])
    cache.write(0, block)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "new_zeros", failing(torch.Tensor.new_zeros, 3, MemoryError("no room")))
        with pytest.raises(MemoryError):
            cache.reserve(5, 40)
    assert len({held.shape for held in (*cache.keys, *cache.values)}) == 1 and cache.capacity >= 3
    assert torch.equal(cache.read(0, 0, 3), block)
    cache.reserve(5, 40)
    assert cache.rows >= 5 and cache.capacity >= 40 and torch.equal(cache.read(0, 0, 3), block)


def test_a_cache_near_its_limit_is_not_copied_at_every_step(model: qwenvl.QwenVL) -> None:
    cache = KVCache(model.config.decoder, 0, 0, dtype=torch.float32)
    for _ in range(3):
        cache.lengths[cache.open(40, 3 * 100)] = 40
    made = set()
    for length in range(41, 101):
        cache.reserve(3, length, 3 * 100)
        assert cache.rows * cache.capacity <= 3 * 100
        made.add(cache.keys[0].data_ptr())
        cache.lengths = [length] * 3
    assert len(made) <= 3


def test_what_cannot_be_kept_for_others_is_answered_all_the_same(
    model: qwenvl.QwenVL, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("no room for a copy")

    monkeypatch.setattr(engine._prefixes, "take", full)
    assert outcomes(engine, 3) == [alone(model, seed) for seed in range(3)]


def test_an_error_outside_of_all_requests_is_told_to_those_that_run(
    model: qwenvl.QwenVL, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._session, "leave", failing(engine._session.leave, 1, Panic("the device is gone")))
    told = outcomes(engine, 3)
    assert "the request failed: the device is gone" in told
    assert outcomes(engine, 3) == [alone(model, seed) for seed in range(3)]


def test_a_grammar_that_panics_ends_its_own_answer(model: qwenvl.QwenVL, engine: Engine) -> None:
    class Broken(Said):
        def mask(self) -> torch.Tensor:
            raise Panic("index out of bounds")

    prompt = random_prompt(model.config, 12, 0)
    other = engine.submit(prompt, TOKENS)
    broken = engine.submit(prompt, TOKENS, constraint=Broken([5], 1))
    with pytest.raises(RequestError, match="index out of bounds"):
        ended(broken)
    assert ended(other).tokens == alone(model, 0)


def test_at_the_end_all_hear_of_it_though_one_does_not_listen(model: qwenvl.QwenVL) -> None:
    def broken(event: object) -> None:
        raise ValueError("nobody home")

    engine = Engine(model, EngineLimits(running=1, cache_bytes=2**28))
    reached, go = held(engine)
    prompt = random_prompt(model.config, 9)
    engine.submit(prompt, GenerationOptions(max_new_tokens=400))
    assert reached.wait(20)
    engine.submit(prompt, deliver=broken)
    last = engine.submit(prompt)
    threading.Timer(0.1, go.set).start()
    engine.close()
    assert isinstance(last._events.get(timeout=5), Draining)


def test_draining_waits_for_a_prompt_whose_pictures_are_being_looked_at(
    model: qwenvl.QwenVL, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go = threading.Event(), threading.Event()
    begin = engine._begin

    def slowly(*arguments: Any) -> Any:
        reached.set()
        assert go.wait(20)
        return begin(*arguments)

    monkeypatch.setattr(engine, "_begin", slowly)
    ticket = engine.submit(random_prompt(model.config, 12, 0), TOKENS)
    assert reached.wait(20)
    assert not engine.drain(0.1)
    go.set()
    assert engine.drain(20) and ended(ticket).tokens == alone(model, 0)


def test_pictures_that_wait_have_a_limit_in_bytes() -> None:
    model = qwenvl.QwenVL(tiny_model(native_config("qwen2_vl")), build("qwen2_vl").spec, build("qwen2_vl").markup)
    prompt = document(model.config, (3, Visual((1, 6, 10)), 4), 1)
    other = prompt.with_(patches=prompt.patches.copy())
    limits = EngineLimits(running=1, queued_bytes=int(prompt.patches.nbytes * 1.5), cache_bytes=2**28)
    with Engine(model, limits) as engine:
        reached, go = held(engine)
        tickets = [engine.submit(random_prompt(model.config, 9), TOKENS)]
        assert reached.wait(20)
        tickets += [engine.submit(prompt, TOKENS), engine.submit(prompt, TOKENS)]  # two answers to one prompt
        with pytest.raises(Overloaded, match="2 requests wait already"):
            engine.submit(other, TOKENS)
        tickets.append(engine.submit(random_prompt(model.config, 9), TOKENS))
        go.set()
        assert all(ended(ticket).tokens for ticket in tickets)
        assert answers(engine, [other], max_new_tokens=2)[0].tokens


def test_a_penalty_close_to_nothing_still_draws_a_token() -> None:
    options = GenerationOptions(temperature=1.0, repetition_penalty=1e-300)
    scores = torch.from_numpy(np.linspace(-1, 1, 8)).float()
    assert choose_token(scores, [6, 7], options, new_generator(0)) in (6, 7)
