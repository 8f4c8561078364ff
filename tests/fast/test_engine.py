"""The engine: many at once are what each is alone; what is shared is read once; who fails, leaves or is late disturbs nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import qwenvl
from qwenvl.inference.check_served import Said
from qwenvl.inference.engine import Engine
from qwenvl.inference.features import TensorCache, looks_of, visual_tokens
from qwenvl.inference.loops import loops
from qwenvl.inference.prefixes import BLOCK, block_names
from qwenvl.inference.reply import Reply
from qwenvl.inference.requests import Cancelled, DeadlineError, Draining, EngineLimits, Overloaded, RequestError
from qwenvl.inference.sampling import GenerationOptions, choose_token, new_generator
from qwenvl.inference.session import Piece, Session, alpha_of
from qwenvl.processing.encode import ContextError
from qwenvl.types import Encoded, QwenVLError
from tests.fast.engines import FAMILIES, answers, build, ended, held, prompts_of
from tests.fast.tiny import CONTEXT, Visual, document, random_prompt


@pytest.fixture
def model() -> qwenvl.QwenVL:
    return build("qwen_vl")


@pytest.fixture
def engine(model: qwenvl.QwenVL) -> Iterator[Engine]:
    with Engine(model, EngineLimits(cache_bytes=2**28)) as engine:
        yield engine


@pytest.mark.parametrize("chunk", [5, 512])
@pytest.mark.parametrize("family", FAMILIES)
def test_r5_many_at_once_answer_as_each_alone(family: str, chunk: int) -> None:
    model = build(family)
    prompts = prompts_of(model)
    alone = [model.generate([prompt], max_new_tokens=9)[0].tokens for prompt in prompts]
    assert len(set(alone)) > 4  # the answers differ, or the test would say nothing
    with Engine(model, EngineLimits(running=3, prefill_chunk=chunk, cache_bytes=2**28)) as engine:
        first = answers(engine, prompts, max_new_tokens=9)
        assert [reply.tokens for reply in first] == alone
        again = answers(engine, prompts, max_new_tokens=9)
        assert [reply.tokens for reply in again] == alone
        assert sum(reply.usage.cached_tokens for reply in again) > sum(reply.usage.cached_tokens for reply in first)
        stats = engine.stats()
    assert stats.finished == 2 * len(prompts) and stats.running == stats.queued == stats.failed == 0
    assert stats.steps < stats.tokens_out / (1 if chunk == 5 else 2)  # several sequences moved in a step


def test_a_seeded_sample_is_the_same_in_company(model: qwenvl.QwenVL, engine: Engine) -> None:
    prompts = prompts_of(model)
    options = {"max_new_tokens": 6, "temperature": 1.5, "seed": 4}
    expected = [model.generate([prompt], **options)[0].tokens for prompt in prompts]
    assert [reply.tokens for reply in answers(engine, prompts, **options)] == expected


def test_the_next_turn_reads_only_what_is_new_unless_its_length_changes_alpha(model: qwenvl.QwenVL, engine: Engine) -> None:
    first = random_prompt(model.config, BLOCK - 8)
    reply = answers(engine, [first], max_new_tokens=20)[0]
    assert reply.usage.cached_tokens == 0 and len(reply.tokens) == 20
    for more, cached in ((3, BLOCK), (40, 0)):  # the block holds some of the answer; alpha grows with each doubling
        ids = np.concatenate([first.input_ids, reply.tokens, np.arange(more) + 7])
        turn = first.with_(input_ids=ids, labels=ids, position_ids=np.tile(np.arange(len(ids)), (3, 1)))
        assert (alpha_of(model.model, len(turn)) == alpha_of(model.model, len(first))) == bool(cached)
        second = answers(engine, [turn], max_new_tokens=5)[0]
        assert second.tokens == model.generate([turn], max_new_tokens=5)[0].tokens
        assert second.usage.cached_tokens == cached


def test_a_block_s_name_follows_from_ids_positions_pictures_and_alpha(model: qwenvl.QwenVL) -> None:
    side = model.config.vision.image_size // model.config.vision.patch_size  # type: ignore[operator]
    mix = (3, Visual((1, side, side)), 2 * BLOCK)
    one, other = document(model.config, mix, 1), document(model.config, mix, 2)
    other = one.with_(patches=other.patches)

    def names(prompt: Encoded, alpha: float = 1.0) -> list[bytes]:
        looks = looks_of(model.model, prompt)
        return block_names(prompt.input_ids, prompt.position_ids, prompt.visual_slots, looks, alpha)

    base = names(one)
    assert len(base) == len(one) // BLOCK == len(set(base)) == 2
    assert names(one) == base
    later = one.input_ids.copy()
    later[BLOCK] += 1
    changed = one.with_(input_ids=later)
    assert names(changed)[0] == base[0] and names(changed)[1] != base[1]
    for different in (names(other), names(one, 3.0), names(one.with_(position_ids=one.position_ids + 1))):
        assert not set(different) & set(base)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_is_looked_at_once(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(family)
    prompt = next(prompt for prompt in prompts_of(model) if len(prompt.grids) == 2)
    looks, seen = looks_of(model.model, prompt), []
    inner = model.model.visual

    def counted(patches: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        seen.append(len(patches))
        return inner(patches, *rest, **more)

    monkeypatch.setattr(model.model, "visual", counted)
    kept = TensorCache(2**20)
    first = visual_tokens(model.model, prompt, looks, kept)
    assert sum(seen) == len(prompt.patches) and kept.misses == 2
    assert torch.equal(visual_tokens(model.model, prompt, looks, kept), first)
    assert sum(seen) == len(prompt.patches) and kept.hits == 2
    second = visual_tokens(model.model, prompt, looks[1:], TensorCache(0))
    torch.testing.assert_close(second, first[looks[1].tokens], atol=1e-5, rtol=0)


def test_many_pictures_of_one_prompt_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked at as the prompt's pieces need them, with steps of the others between."""
    model = build("qwen2_vl")
    talking = random_prompt(model.config, 9)
    pictures = document(model.config, tuple(part for _ in range(4) for part in (6, Visual((1, 4, 4)))), 1)
    expected = model.generate([pictures], max_new_tokens=3)[0].tokens
    happened: list[str] = []
    inner, step = model.model.visual, Session.step

    def look(*given: Any, **more: Any) -> torch.Tensor:
        happened.append("look")
        return inner(*given, **more)

    def stepped(self: Session, tokens: Sequence[int]) -> torch.Tensor:
        happened.append("step")
        return step(self, tokens)

    monkeypatch.setattr(model.model, "visual", look)
    monkeypatch.setattr(Session, "step", stepped)
    with Engine(model, EngineLimits(prefill_chunk=11, cache_bytes=2**28)) as engine:
        long = engine.submit(talking, GenerationOptions(max_new_tokens=200))
        next(iter(long))
        assert answers(engine, [pictures], max_new_tokens=3)[0].tokens == expected
        long.cancel()
    looks = [index for index, what in enumerate(happened) if what == "look"]
    assert len(looks) >= 3
    assert all("step" in happened[one:other] for one, other in pairwise(looks))


def test_engines_of_one_process_share_its_memory() -> None:
    limits = EngineLimits(cache_bytes=900)
    each = limits.shared(3)
    assert (each.cache_bytes, each.prefix_bytes, each.running) == (300, limits.prefix_bytes // 3, limits.running)
    assert EngineLimits().shared(2).cache_bytes is None


def test_what_is_longest_unused_goes_first() -> None:
    kept = TensorCache(3 * 4)
    for name in "abc":
        kept.put(name, torch.ones(1))
    assert kept.get("a") is not None
    kept.put("d", torch.ones(1))
    kept.put("large", torch.ones(4))
    assert [name in kept for name in "abcd"] == [True, False, True, True] and "large" not in kept and kept.bytes == 12


# Who leaves, fails or is late


def test_a_client_that_leaves_frees_its_place(model: qwenvl.QwenVL) -> None:
    with Engine(model, EngineLimits(running=1, cache_bytes=2**28)) as engine:
        reached, go = held(engine)
        options = GenerationOptions(max_new_tokens=400)
        first, second, third = (engine.submit(random_prompt(model.config, length), options) for length in (5, 6, 7))
        assert reached.wait(20)
        first.cancel()
        third.cancel()
        go.set()
        for ticket in (first, third):
            with pytest.raises(Cancelled):
                list(ticket)
        assert ended(second).usage.completion_tokens > 0
        stats = engine.stats()
        assert (stats.cancelled, stats.finished, stats.running) == (2, 1, 0) and stats.tokens_out < 810


def test_a_late_answer_is_given_up(model: qwenvl.QwenVL) -> None:
    with Engine(model, EngineLimits(running=1, cache_bytes=2**28)) as engine:
        reached, go = held(engine)
        late = engine.submit(random_prompt(model.config, 5), GenerationOptions(max_new_tokens=50), deadline=0.2)
        never = engine.submit(random_prompt(model.config, 5), deadline=0.1)
        assert reached.wait(20)
        time.sleep(0.3)
        go.set()
        with pytest.raises(DeadlineError, match=r"not finished in time; \d+ tokens were written"):
            list(late)
        with pytest.raises(DeadlineError, match="it was still waiting"):
            list(never)


def test_more_than_may_wait_is_refused_with_a_time(model: qwenvl.QwenVL) -> None:
    with Engine(model, EngineLimits(running=1, queued=2, cache_bytes=2**28)) as engine:
        reached, go = held(engine)
        tickets = [engine.submit(random_prompt(model.config, 5), GenerationOptions(max_new_tokens=3))]
        assert reached.wait(20)
        tickets += [engine.submit(random_prompt(model.config, 5), GenerationOptions(max_new_tokens=3)) for _ in range(2)]
        with pytest.raises(Overloaded, match="2 requests wait already") as refused:
            engine.submit(random_prompt(model.config, 5))
        assert 1 <= refused.value.retry_after <= 60
        go.set()
        assert all(ended(ticket).tokens for ticket in tickets)


def test_the_cache_s_memory_decides_who_runs(model: qwenvl.QwenVL) -> None:
    with Engine(model, EngineLimits(cache_bytes=2**28)) as engine:
        three = engine._bytes(3, 30)
    with Engine(model, EngineLimits(cache_bytes=three)) as engine:
        rows: list[int] = []
        step = engine._session.step
        engine._session.step = lambda tokens: rows.append(len(tokens)) or step(tokens)  # type: ignore[func-returns-value, method-assign]
        prompts = [random_prompt(model.config, 20, seed) for seed in range(8)]
        alone = [model.generate([prompt], max_new_tokens=10)[0].tokens for prompt in prompts]
        assert [reply.tokens for reply in answers(engine, prompts, max_new_tokens=10)] == alone
        assert max(rows) == 3
        with pytest.raises(QwenVLError, match=r"MB of keys and values, but there are .*; set max_tokens to 30 or less"):
            engine.submit(random_prompt(model.config, 60), GenerationOptions(max_new_tokens=200))
        with pytest.raises(ContextError):
            engine.submit(random_prompt(model.config, CONTEXT))


def test_one_long_answer_does_not_make_every_row_long(model: qwenvl.QwenVL) -> None:
    with Engine(model, EngineLimits(cache_bytes=2**28)) as engine:
        budget = engine._bytes(1, 300)
    with Engine(model, EngineLimits(cache_bytes=budget, prefix_bytes=0)) as engine:
        long = random_prompt(model.config, 200)
        short = [random_prompt(model.config, 8, seed) for seed in range(12)]
        for prompts in ([long], short, [long], [*short, long, *short]):
            alone = [model.generate([prompt], max_new_tokens=12)[0].tokens for prompt in prompts]
            assert [reply.tokens for reply in answers(engine, prompts, max_new_tokens=12)] == alone
            assert engine.stats().cache_bytes <= budget


def test_one_that_fails_takes_nobody_with_it(model: qwenvl.QwenVL, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [random_prompt(model.config, 12, seed) for seed in range(5)]
    expected = [model.generate([prompt], max_new_tokens=8)[0].tokens for prompt in prompts]
    poisoned = prompts[2].with_(input_ids=np.full(12, 77))
    with torch.no_grad():
        model.model.decoder.embed_tokens.weight[77] = float("nan")
    prompts[2] = poisoned
    for _ in range(2):  # the second time in rows that held what is not finite
        tickets = [engine.submit(prompt, GenerationOptions(max_new_tokens=8)) for prompt in prompts]
        for index, ticket in enumerate(tickets):
            if index == 2:
                with pytest.raises(QwenVLError, match="logits are not finite"):
                    list(ticket)
            else:
                assert ended(ticket).tokens == expected[index]

    inner = engine._session.step

    def small(tokens: Sequence[int]) -> torch.Tensor:
        if len(tokens) > 1:
            raise MemoryError("no room")
        return inner(tokens)

    monkeypatch.setattr(engine._session, "step", small)
    tickets = [engine.submit(prompts[index], GenerationOptions(max_new_tokens=8)) for index in (0, 1)]
    told: list[object] = []
    for ticket in tickets:
        try:
            told.append(ended(ticket).tokens)
        except RequestError as error:
            told.append(str(error))
    assert told[0] == expected[0] and told[1] in (expected[1], "the request failed: no room")
    assert engine.stats().running == 0


def test_a_listener_that_breaks_ends_only_its_own_request(model: qwenvl.QwenVL, engine: Engine) -> None:
    def broken(event: object) -> None:
        raise ValueError("nobody home")

    prompt = random_prompt(model.config, 12)
    engine.submit(prompt, GenerationOptions(max_new_tokens=8), deliver=broken)
    assert answers(engine, [prompt], max_new_tokens=8)[0].tokens == model.generate([prompt], max_new_tokens=8)[0].tokens
    assert engine.stats().failed == 1


def test_draining_finishes_what_was_begun_and_takes_nothing_new(model: qwenvl.QwenVL) -> None:
    engine = Engine(model, EngineLimits(cache_bytes=2**28))
    tickets = [engine.submit(random_prompt(model.config, 9, seed), GenerationOptions(max_new_tokens=20)) for seed in range(3)]
    assert engine.drain(20)
    with pytest.raises(Draining):
        engine.submit(random_prompt(model.config, 9))
    assert all(ended(ticket).tokens for ticket in tickets)
    engine.close()
    engine = Engine(model, EngineLimits(cache_bytes=2**28))
    reached, go = held(engine)
    ticket = engine.submit(random_prompt(model.config, 9), GenerationOptions(max_new_tokens=400))
    assert reached.wait(20)
    assert not engine.drain(0.05)
    threading.Timer(0.1, go.set).start()
    engine.close()
    with pytest.raises(Draining):
        list(ticket)


# How an answer is drawn


def test_events_tell_token_by_token_with_their_likelihoods(model: qwenvl.QwenVL, engine: Engine) -> None:
    prompt = random_prompt(model.config, 12)
    *pieces, reply = engine.submit(prompt, GenerationOptions(max_new_tokens=5), logprobs=3)
    assert isinstance(reply, Reply) and tuple(piece.token for piece in pieces if isinstance(piece, Piece)) == reply.tokens
    logits = model.forward(prompt)[-1]
    first = pieces[0]
    assert isinstance(first, Piece)
    assert [index for index, _ in first.top] == logits.topk(3).indices.tolist()
    assert first.top[0] == (first.token, pytest.approx(float(logits.log_softmax(0).max()), abs=1e-4))
    assert first.logprob == pytest.approx(first.top[0][1])


def test_presence_and_frequency_are_taken_off_the_scores() -> None:
    logits = torch.tensor([2.0, 1.9, 1.0, 0.9])
    generator = new_generator(0)

    def chosen(**options: float) -> int:
        return choose_token(logits, (), GenerationOptions(**options), generator, (), None, [0, 0, 1])

    assert chosen() == 0
    assert chosen(presence_penalty=0.05) == 0  # both were said
    assert chosen(frequency_penalty=0.2) == 1  # 2.0 - 0.4 < 1.9 - 0.2
    assert chosen(presence_penalty=0.9) == 0 and chosen(presence_penalty=1.1) == 2  # 2.0 - 1.1 < 1.0
    assert chosen(frequency_penalty=-1.0) == 0


def test_a_constraint_is_kept_to_and_ends_the_answer(model: qwenvl.QwenVL, engine: Engine) -> None:
    size = model.config.decoder.vocab_size
    ticket = engine.submit(random_prompt(model.config, 12), constraint=Said([5, 6, 7], size))
    reply = ended(ticket)
    assert (reply.tokens, reply.finish_reason) == ((5, 6, 7), "stop")

    class Nothing(Said):
        def mask(self) -> torch.Tensor:
            return torch.zeros(self.vocab_size, dtype=torch.bool)

    with pytest.raises(QwenVLError, match="no token of the model's vocabulary fits the format"):
        ended(engine.submit(random_prompt(model.config, 12), constraint=Nothing([5], size)))


def test_a_format_that_admits_only_its_end_wins_over_a_least_length() -> None:
    logits, allowed = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([False, False, True])
    assert choose_token(logits, (), GenerationOptions(), new_generator(0), {2}, allowed) == 2
    assert choose_token(logits, (), GenerationOptions(), new_generator(0), {2}, torch.tensor([False, True, True])) == 1


def test_r13_endless_repetition_is_stopped_and_said() -> None:
    assert not loops([1] * 191)
    assert loops([1] * 192) and loops([9, 8, 7] * 64) and loops([*range(100), *list(range(40)) * 7][:376])
    assert not loops(list(range(192))) and not loops([1] * 184 + [2] * 8)
    assert not loops(list(range(100)) * 4)  # a hundred tokens, four times: a refrain


def test_r13_the_reason_is_given(model: qwenvl.QwenVL, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwenvl.inference.session.choose_token", lambda *_: 5)
    prompts = [random_prompt(model.config, 12)]
    for reply in (*answers(engine, prompts, max_new_tokens=250), *model.generate(prompts, max_new_tokens=250)):
        assert (reply.finish_reason, len(reply.tokens)) == ("repetition", 192)
    whole = model.generate(prompts, max_new_tokens=250, stop_loops=False)[0]
    assert (whole.finish_reason, len(whole.tokens)) == ("length", 250)
