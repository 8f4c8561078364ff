"""How long a model takes to look, read and write, and where the time goes: a trace to open in a browser, and a table.

Random ids are read and decoded, so that nothing but the model and its Session is measured. B sequences, T tokens.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from qwenvl.inference.model import QwenVL
from qwenvl.inference.session import Session
from qwenvl.runtime import atomic_write
from qwenvl.types import Encoded, QwenVLError

WARM = 2
"""Steps that are not counted."""


@dataclass(frozen=True)
class Work:
    """What is measured: B sequences of `prompt` tokens, `tokens` more of each, one picture if given."""

    prompt: int = 128
    tokens: int = 32
    sequences: int = 1
    image: str | None = None


@dataclass
class Times:
    """Wall milliseconds: of the picture (None without one), of all prompts together, of one step (median), and of every step."""

    look: float | None
    read: float
    step: float
    steps: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Share:
    """A part of a phase: what the time was spent in, milliseconds without what it called, and how often."""

    phase: str
    name: str
    milliseconds: float
    calls: int


def measure(model: QwenVL, work: Work) -> Times:
    """Raises QwenVLError for more tokens than the context holds, ImageError for what is no picture."""
    look = None
    if work.image is not None:
        model.visual([work.image])  # once unmeasured
        look = _milliseconds(lambda: model.visual([work.image]))
    session = _session(model, work)
    _session(model, work).prefill()  # once unmeasured
    read = _milliseconds(session.prefill)
    steps = [_milliseconds(lambda: _step(session, work)) for _ in range(WARM + work.tokens)][WARM:]
    return Times(look, read, statistics.median(steps), steps)


def trace(model: QwenVL, work: Work, path: Path) -> list[Share]:
    """Do the work once under torch's profiler: a trace in Chrome's format at `path` (chrome://tracing, ui.perfetto.dev), and the
    parts of each phase, the longest first. Layers stand in both under their names and classes."""
    phases: list[tuple[str, Callable[[], object]]] = []
    if work.image is not None:
        phases.append(("look", lambda: model.visual([work.image])))
    session = _session(model, work)
    phases += [("read", session.prefill), (f"write {work.tokens}", lambda: _steps(session, work))]
    shares: list[Share] = []
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (model.device.type == "cuda")
    with _named_layers(model.model), profile(activities=activities) as whole:
        for name, run in phases:
            with record_function(f"phase {name}"):
                run()
    for name, _ in phases:
        shares += _shares(whole, name)
    with atomic_write(path) as temporary:
        whole.export_chrome_trace(str(temporary))
    return shares


def _shares(whole: Any, phase: str) -> list[Share]:
    """Self times of all that ran within a phase, summed by name."""
    events = whole.events()
    own = next(event for event in events if event.name == f"phase {phase}").time_range
    sums: dict[str, tuple[float, int]] = {}
    for event in events:
        if own.start <= event.time_range.start and event.time_range.end <= own.end:
            spent, calls = sums.get(event.name, (0.0, 0))
            sums[event.name] = (spent + event.self_cpu_time_total / 1e3, calls + 1)
    found = [Share(phase, name, spent, calls) for name, (spent, calls) in sums.items()]
    return sorted(found, key=lambda share: -share.milliseconds)


@contextmanager
def _named_layers(model: nn.Module) -> Iterator[None]:
    """Have every layer without layers of its own, and the head, marked in the profile."""
    with ExitStack() as stack:
        for name, layer in model.named_modules():
            if next(layer.children(), None) is None:
                label, open_ranges = f"{name.rpartition('.')[2]} ({type(layer).__name__})", []  # type: ignore[var-annotated]

                def enter(*_: Any, label: str = label, ranges: list[Any] = open_ranges) -> None:
                    ranges.append(record_function(label).__enter__())

                def leave(*_: Any, ranges: list[Any] = open_ranges) -> None:
                    ranges.pop().__exit__(None, None, None)

                for handle in (layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)):
                    stack.callback(handle.remove)
        inner = model.logits

        def logits(hidden: torch.Tensor) -> torch.Tensor:
            with record_function("logits"):
                found: torch.Tensor = inner(hidden)  # type: ignore[operator]
                return found

        model.logits = logits  # type: ignore[assignment]
        stack.callback(delattr, model, "logits")
        yield


def _session(model: QwenVL, work: Work) -> Session:
    longest = model.config.decoder.max_position_embeddings
    if (wanted := work.prompt + work.tokens + WARM) > longest:
        raise QwenVLError(f"{wanted} tokens are more than the context of {longest}; give a shorter prompt or fewer tokens")
    ids = np.random.default_rng(0).integers(0, min(model.config.decoder.vocab_size, 1000), work.prompt)
    none = np.zeros((0, 3), np.int64)
    width = model.config.vision.patch_size
    prompt = Encoded(ids, ids, np.tile(np.arange(work.prompt), (3, 1)), np.zeros((0, width), np.float32), none, none[:, 0])
    return Session(model.model, [prompt] * work.sequences, room=work.tokens + WARM)


def _steps(session: Session, work: Work) -> None:
    for _ in range(work.tokens):
        _step(session, work)


def _step(session: Session, work: Work) -> None:
    """The likeliest token is looked for, as greedy decoding does, but a given one is taken."""
    session.step([5] * work.sequences).argmax(dim=-1).tolist()


def _milliseconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3
