"""Small models of every family for an engine, prompts for them, and what their requests end with."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch

import qwenvl
from qwenvl.families import get_family
from qwenvl.families.spec import Markup
from qwenvl.inference.engine import Engine
from qwenvl.inference.prefixes import BLOCK
from qwenvl.inference.reply import Reply
from qwenvl.inference.requests import Ticket
from qwenvl.inference.sampling import GenerationOptions
from qwenvl.types import Encoded
from tests.fast.tiny import NATIVE, TRAINED_LENGTH, Visual, document, native_config, random_prompt, tiny_model

FAMILIES = ("qwen_vl", *NATIVE)


def build(family: str) -> qwenvl.QwenVL:
    config = None if family == "qwen_vl" else native_config(family)
    return qwenvl.QwenVL(tiny_model(config), get_family(family), Markup(), name=family)


def prompts_of(model: qwenvl.QwenVL) -> list[Encoded]:
    """Text of many lengths, some beyond the trained one, and pictures between words."""
    texts = [random_prompt(model.config, length, seed=length) for length in (1, 2, 9, TRAINED_LENGTH + 3, 2 * BLOCK + 5, BLOCK)]
    if model.config.vision.image_size is not None:
        side = model.config.vision.image_size // model.config.vision.patch_size
        seen = [Visual((1, side, side)), Visual((1, side, side))]
    else:
        seen = [Visual((1, 6, 10)), Visual((7, 4, 2), 1.0)]  # a picture, and a clip
    pictures = [document(model.config, (3, seen[0], 4, seen[1], 5), seed) for seed in (1, 2)]
    return [one for pair in zip(texts, (pictures * 3)) for one in pair]


def answers(engine: Engine, prompts: Sequence[Encoded], **options: Any) -> list[Reply]:
    tickets = [engine.submit(prompt, GenerationOptions.of(**options)) for prompt in prompts]
    return [ended(ticket) for ticket in tickets]


def ended(ticket: Ticket) -> Reply:
    *_, reply = ticket
    assert isinstance(reply, Reply)
    return reply


def held(engine: Engine) -> tuple[threading.Event, threading.Event]:
    """Stop the engine's thread before its next step; set the second to let it go on."""
    reached, go = threading.Event(), threading.Event()
    step = engine._session.step

    def waiting(tokens: Sequence[int]) -> torch.Tensor:
        reached.set()
        assert go.wait(20)
        return step(tokens)

    engine._session.step = waiting  # type: ignore[method-assign]
    return reached, go
