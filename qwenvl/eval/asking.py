"""Who is asked: anything that answers questions, and a loaded model as such."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from qwenvl.eval.task import Answer, Decoding, EvaluationError, Question
from qwenvl.families.spec import FamilySpec, Markup
from qwenvl.processing.grid import frame_size, image_grid
from qwenvl.types import Style

if TYPE_CHECKING:
    from qwenvl.inference.model import QwenVL
    from qwenvl.processing.tokenizer import Tokenizer
    from qwenvl.types import Encoded


class Answerer(Protocol):
    """What is evaluated: anything that answers questions, in the style that it was trained in unless they say otherwise. `spec`
    says what it can take."""

    style: Style
    markup: Markup
    spec: FamilySpec

    def frame(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) that it resizes a picture of `size` to: what places in pixels count in."""

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers in the order of `questions`, all of one `decoding`. The last message of a sample, the reference answer, must not
        be looked at."""

    def written(self, question: Question) -> str:
        """The prompt as the model gets it, for a reader: a picture is one slot."""


BATCH_TOKENS = 16384
"""Of all prompts answered at once with their answers: what a cache of keys and values has to hold."""


class ModelAnswerer:
    """A loaded model as an Answerer, each question in its own context. Of the questions that it is given at once it answers so many
    together as take `batch_tokens`, padding and answers counted; a longer one alone."""

    def __init__(self, model: QwenVL, batch_tokens: int = BATCH_TOKENS) -> None:
        self.model, self.batch_tokens = model, batch_tokens
        self.style: Style = model.style
        self.markup = model.markup
        self.spec = model.spec

    def frame(self, size: tuple[int, int]) -> tuple[int, int]:
        config = self.model.config
        return frame_size(image_grid(config, self.spec, *size), config.vision.patch_size)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        decoding = questions[0].decoding
        began, answers = time.perf_counter(), list[Answer]()
        if decoding.rank:
            groups: Iterable[list[Answer]] = ([self._rank(question)] for question in questions)
        else:
            prompts = within(map(self._prompt, questions), decoding.max_new_tokens, self.batch_tokens)
            groups = (self._write(together, decoding) for together in prompts)
        for group in groups:
            share = round((time.perf_counter() - began) / len(group), 4)
            answers += [replace(answer, seconds=share) for answer in group]
            began = time.perf_counter()
        return answers

    def written(self, question: Question) -> str:
        return self._asked(self._prompt(question)).prompt

    def _write(self, prompts: Sequence[Encoded], decoding: Decoding) -> list[Answer]:
        replies = self.model.generate(
            prompts,
            max_new_tokens=decoding.max_new_tokens,
            min_new_tokens=decoding.min_new_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            stop=decoding.stop,
            stop_loops=False,  # the published scores were had without
            # Drawn, not greedy, an answer is the same again however questions are batched.
            seed=None if decoding.temperature is None and decoding.top_p is None else 0,
        )
        return [
            replace(
                self._asked(prompt), text=begin_of(decoding, self.markup) + reply.text, finish_reason=reply.finish_reason,
                reply_tokens=len(reply.tokens),
            )
            for prompt, reply in zip(prompts, replies, strict=True)
        ]

    def _prompt(self, question: Question) -> Encoded:
        sample = replace(question.sample, messages=question.sample.messages[:-1])
        encoded = self.model.encode(sample, question.style, question.numbered)
        begin = begin_of(question.decoding, self.markup)
        return self._begun(encoded, begin) if begin else encoded

    def _begun(self, encoded: Encoded, begin: str) -> Encoded:
        """The prompt with the first tokens of the answer behind it."""
        import numpy as np

        from qwenvl.processing.positions import next_position
        from qwenvl.types import IGNORE_INDEX

        ids = np.array(with_specials(self.model.need_processor().tokenizer, begin), dtype=encoded.input_ids.dtype)
        start = next_position(encoded.position_ids)
        positions = np.tile(np.arange(start, start + len(ids), dtype=encoded.position_ids.dtype), (3, 1))
        return encoded.with_(
            input_ids=np.concatenate([encoded.input_ids, ids]),
            labels=np.concatenate([encoded.labels, np.full(len(ids), IGNORE_INDEX, dtype=encoded.labels.dtype)]),
            position_ids=np.concatenate([encoded.position_ids, positions], axis=1),
        )

    def _rank(self, question: Question) -> Answer:
        if not question.options:
            raise EvaluationError(f"{question.id}: its options are to be ranked, and it has none")
        prompt = self._prompt(question)
        means = self._mean_log_likelihoods(prompt, question.options)
        best = max(range(len(means)), key=means.__getitem__)
        return replace(self._asked(prompt), text=question.options[best], ranked=tuple(means))

    def _mean_log_likelihoods(self, prompt: Encoded, options: Sequence[str]) -> list[float]:
        """Of each option's own tokens after the prompt, as the model would go on writing; not of what ends an answer."""
        tokenizer = self.model.need_processor().tokenizer
        tokens = [with_specials(tokenizer, option) for option in options]
        if all(len(own) == 1 for own in tokens):
            # One pass does for all of them: letters, mostly.
            log_probs = self.model.forward(prompt)[-1].log_softmax(-1)
            return [float(log_probs[own[0]]) for own in tokens]
        means = []
        for option, own in zip(options, tokens, strict=True):
            log_probs = self.model.forward(self._begun(prompt, option))[-len(own) - 1 : -1].log_softmax(-1)
            means.append(float(sum(log_probs[place, token] for place, token in enumerate(own)) / len(own)))
        return means

    def _asked(self, prompt: Encoded) -> Answer:
        """What is known of a question before it is answered."""
        side = self.model.config.vision.patch_size
        sizes = tuple(frame_size(grid, side) for grid in prompt.grids.tolist())
        text = self.model.need_processor().tokenizer.decode(folded(prompt, self.model.config))
        return Answer("", prompt=text, prompt_tokens=len(prompt), image_tokens=len(prompt.visual_slots), pixels=sizes)


def within(prompts: Iterable[Encoded], answer: int, budget: int) -> Iterator[list[Encoded]]:
    """The prompts in their order, so many at a time as take `budget` tokens with an answer of `answer` each and all as long as the
    longest; a longer one alone. No more are made ready than are answered next."""
    together: list[Encoded] = []
    for prompt in prompts:
        longest = max(map(len, (*together, prompt))) + answer
        if together and longest * (len(together) + 1) > budget:
            yield together
            together = []
        together.append(prompt)
    if together:
        yield together


BOX = "<box>"


def begin_of(decoding: Decoding, markup: Markup) -> str:
    """What an answer begins with, in the markup of the model that is asked; nothing where its markup has no tag for it."""
    if BOX in decoding.begin and markup.style != "tags":
        return ""
    return decoding.begin.replace(BOX, markup.box[0])


def with_specials(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text in which the names of special tokens are these tokens."""
    names = sorted((name for name in tokenizer.specials if name in text), key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, names))})", text) if names else [text]
    ids: list[int] = []
    for piece in pieces:
        ids += [tokenizer.special(piece)] if piece in names else tokenizer.encode(piece)
    return ids


def folded(prompt: Encoded, config: Any) -> list[int]:
    """The ids with one placeholder for each picture, as a reader wants to see them."""
    import numpy as np

    slots = prompt.visual_slots
    if not len(slots):
        return list(prompt.input_ids.tolist())
    repeated = slots[1:][np.diff(slots) == 1]
    return list(np.delete(prompt.input_ids, repeated).tolist())
