"""Decode steps on fixed tensors, as a CUDA graph replays them: what the plain steps give. Capturing itself needs a GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import qwenvl
from qwenvl.inference import graphs
from qwenvl.inference.engine import Engine
from qwenvl.inference.graphs import StepGraphs
from qwenvl.inference.requests import EngineLimits
from qwenvl.inference.session import Session
from qwenvl.types import QwenVLError
from tests.fast.engines import FAMILIES, answers, build, prompts_of


class Recorded:
    """Captures nothing: the step is run as it is, on the tensors that it was made for. The capture number `fails` fails."""

    def __init__(self) -> None:
        self.made = self.replayed = self.fails = 0

    def __call__(self, body: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.made += 1
        body()  # as capturing does, which writes to the cache
        if self.made == self.fails:
            raise RuntimeError("out of memory")

        def replay() -> Tensor:
            self.replayed += 1
            return body()

        return replay


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Graphs on a CPU."""
    recorder = Recorded()
    monkeypatch.setattr(StepGraphs, "of", classmethod(lambda cls, model: cls(model, recorder)))
    monkeypatch.setattr(graphs, "BUCKET", 16)
    return recorder


def both(model: qwenvl.QwenVL, steps: int) -> list[tuple[Tensor, Tensor]]:
    """Logits (N, vocab) of each of so many steps: plain, and by graphs."""
    prompts, pairs = prompts_of(model), []
    ways = (None, StepGraphs.of(model.model))
    sessions = [Session(model.model, prompts, room=steps + 1, graphs=graphs) for graphs in ways]
    for session in sessions:
        session.prefill()
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        tokens = torch.randint(0, model.config.decoder.vocab_size, (len(prompts),), generator=generator).tolist()
        pairs.append((sessions[0].step(tokens), sessions[1].step(tokens)))
    assert sessions[0].cache.lengths == sessions[1].cache.lengths
    return pairs


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_are_those_of_the_plain_path(family: str, recorded: Recorded) -> None:
    """Rows of many lengths, some beyond the trained one, where dynamic NTK and logn change the tables."""
    for plain, replayed in both(build(family), 20):
        torch.testing.assert_close(replayed, plain, atol=2e-5, rtol=1e-5)
    assert recorded.replayed == 20 and 1 < recorded.made < 20, "a graph is used again, until more slots are seen"


@pytest.mark.parametrize(("family", "fails"), [*((family, 0) for family in FAMILIES), *(("qwen_vl", n) for n in (1, 2, 3, 4))])
def test_answers_of_the_engine_are_those_of_each_alone(family: str, fails: int, recorded: Recorded) -> None:
    """Sequences join and leave, the cache moves as it grows, and rows are filled up to a power of two. Where a graph cannot be
    made, it goes on without, and nobody's answer is another."""
    model = build(family)
    recorded.fails = fails
    prompts = prompts_of(model)
    alone = [model.generate([prompt], max_new_tokens=9)[0].tokens for prompt in prompts]
    with Engine(model, EngineLimits(running=3, prefill_chunk=5, cache_bytes=2**28), cuda_graphs=True) as engine:
        assert [reply.tokens for reply in answers(engine, prompts, max_new_tokens=9)] == alone
        assert engine.stats().failed == 0
    assert recorded.made == fails if fails else recorded.replayed > 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("family", FAMILIES)
def test_captured_steps_are_those_of_the_plain_path(family: str) -> None:
    model = build(family)
    model.model.cuda()
    for plain, replayed in both(model, 20):
        torch.testing.assert_close(replayed, plain, atol=1e-3, rtol=1e-3)


def test_a_full_cache_is_refused_and_the_session_is_as_it_was(recorded: Recorded) -> None:
    model = build("qwen_vl")
    session = Session(model.model, prompts_of(model)[:1], room=1, graphs=StepGraphs.of(model.model))
    session.prefill()
    session.step([1])
    held = list(session.cache.lengths)
    with pytest.raises(ValueError, match="the cache holds"):
        session.step([1])
    assert session.cache.lengths == held


def test_graphs_are_few(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST", 2)
    model = build("qwen2_vl")
    session = Session(model.model, prompts_of(model)[:1], room=80, graphs=StepGraphs.of(model.model))
    session.prefill()
    for _ in range(70):
        session.step([1])
    assert session.graphs is not None and len(session.graphs._held) == 2


def test_without_a_gpu_graphs_are_refused() -> None:
    with pytest.raises(QwenVLError, match="CUDA graphs need a GPU"):
        Engine(build("qwen_vl"), cuda_graphs=True)
