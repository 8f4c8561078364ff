"""Every path that must agree, on the same conversations: a training row and a chat prompt, packed and alone, in a batch and single,
with a cache and without.

An answer that depends on the path it took is a bug that no single path shows. What is compared is what the model would answer
next: its logits where the answer is predicted.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qwenvl.inference.model import QwenVL
from qwenvl.inference.session import Session, alpha_of, run_model
from qwenvl.models.attention import PackedLayout
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.types import (
    IGNORE_INDEX,
    Batch,
    Encoded,
    ImagePart,
    Message,
    Part,
    Region,
    RegionPart,
    Sample,
    TextPart,
    VideoPart,
)

if TYPE_CHECKING:
    from PIL.Image import Image

LIMITS = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest difference of logits, as a share of the largest of them: what the order of sums may change in each dtype."""

STEPS = 8
"""Tokens of an answer that are decoded one by one."""
THUMBNAIL = 448

TrainerLoss = Callable[[VisionLanguageModel, Batch], float]
"""Mean loss of a batch as training takes it; cli passes it in, since this room does not know the trainer."""


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. difference: what was found, None where it could not be made; limit: what is allowed."""

    what: str
    compared: str
    difference: float | None
    limit: float

    @property
    def ok(self) -> bool:
        return self.difference is None or self.difference <= self.limit


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation as training reads it, answered, and as chat reads it, to be answered with the ids `said`; and the messages
    that a client sends for that."""

    row: Encoded
    prompt: Encoded
    said: tuple[int, ...]
    messages: list[dict[str, Any]]

    @property
    def answer(self) -> Tensor:
        """Where in the row the answer's first tokens are predicted."""
        return torch.arange(len(self.said)) + len(self.prompt) - 1


def check_model(model: QwenVL, picture: Image, trainer_loss: TrainerLoss) -> tuple[list[Talk], list[Check]]:
    """Compare the paths on conversations about a picture. Raises QwenVLError for a model without tokenizer, and for a picture that
    does not fit in its context."""
    talks = [talk(model, sample) for sample in conversations(model, picture)]
    checks = list(same_inputs(talks))
    same = all(check.ok for check in checks)
    with torch.inference_mode():
        # Other inputs give other answers; that is one fault, and it has been named.
        checks += same_answers(model, talks, trainer_loss) if same else []
    return talks, checks


def conversations(model: QwenVL, picture: Image) -> Iterator[Sample]:
    """A question about the picture; two rounds about it, with a place; two pictures; text alone; a clip, where clips are taken."""
    small = picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    upright = small.crop((0, 0, max(small.width // 2, 1), small.height))
    place = RegionPart("thing", (Region.box(0.125, 0.25, 0.625, 0.75),))
    seen = ImagePart(small)
    yield _sample([ImagePart(picture), TextPart(" What is in the picture? Answer:")], [TextPart("A thing.")])
    yield _sample(
        [seen, TextPart(" Where is the thing? Answer:")], [place], [TextPart(" How many? 有几个？ Answer:")], [TextPart("12 个")]
    )
    yield _sample([seen, ImagePart(upright), TextPart(" Which one is wider? Answer:")], [TextPart("The first.")])
    yield _sample([TextPart(" What is 2 + 2? Answer:")], [TextPart("4, as everyone knows.")])
    if model.spec.videos is not None:
        clip = VideoPart([small.rotate(angle) for angle in (0, 5, 10, 15, 20, 25)], fps=2.0)
        yield _sample([seen, clip, TextPart(" When does it turn? Answer:")], [TextPart("0.5 - 1.5 seconds")])


def _sample(*turns: list[Part]) -> Sample:
    return Sample(tuple(Message("assistant" if number % 2 else "user", tuple(turn)) for number, turn in enumerate(turns)))


def talk(model: QwenVL, sample: Sample) -> Talk:
    """A Sample as a training row, and the same conversation as a client sends it: pictures as files, earlier answers as text."""
    row = model.need_processor().encode(sample, model.style)
    places = np.flatnonzero(row.labels != IGNORE_INDEX)
    answers = [row.input_ids[span].tolist() for span in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)]
    earlier = iter(answers)
    messages: list[dict[str, Any]] = [
        {"role": message.role, "content": _as_text(model, next(earlier))}
        if message.role == "assistant"
        else {"role": message.role, "content": [_as_sent(part) for part in message.parts]}
        for message in sample.messages[:-1]
    ]
    return Talk(row, model.encode(messages), tuple(answers[-1][:STEPS]), messages)


def _as_text(model: QwenVL, ids: Sequence[int]) -> str:
    """An answer's ids as the text that a client was given, without the token that ended it."""
    return model.need_processor().tokenizer.decode(ids[:-1])


def _as_sent(part: Part) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        return {"type": "image", "image": _png(part.image)}
    if isinstance(part, VideoPart):
        return {"type": "video", "video": [_png(frame) for frame in part.video], "fps": part.fps}
    assert isinstance(part, TextPart)
    return {"type": "text", "text": part.text}


def _png(picture: Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def same_inputs(talks: Sequence[Talk]) -> Iterator[Check]:
    """Whether chat reads what training read: counts of what differs, over all conversations."""
    ids = positions = patches = 0
    for one in talks:
        row, prompt, length = one.row, one.prompt, len(one.prompt)
        ids += _differing(row.input_ids[:length], prompt.input_ids)
        positions += _differing(row.position_ids[:, :length], prompt.position_ids)
        patches += _differing(row.patches, prompt.patches) + _differing(row.grids, prompt.grids)
    compared = "training row, chat prompt"
    yield Check("ids", compared, ids, 0)
    yield Check("positions", compared, positions, 0)
    yield Check("pixels", compared, patches, 0)


def _differing(one: np.ndarray, other: np.ndarray) -> int:
    return max(one.size, other.size) if one.shape != other.shape else int((one != other).sum())


def same_answers(model: QwenVL, talks: Sequence[Talk], trainer_loss: TrainerLoss) -> Iterator[Check]:
    """Whether the answers do not depend on the path. Training knows neither dynamic NTK nor logn, so that rows beyond the trained
    length are left out where it takes part."""
    limit = LIMITS[model.dtype]
    decoder = model.config.decoder
    reach = decoder.trained_length if decoder.use_dynamic_ntk or decoder.use_logn_attn else decoder.max_position_embeddings
    trained = [one for one in talks if len(one.row) <= reach]
    alone = [_as_trained(model, [one])[0] for one in talks]
    uncached = [_uncached(model, one, one.answer) for one in talks]
    short = [(alone[index], uncached[index]) for index, one in enumerate(talks) if len(one.row) <= reach]
    yield Check("logits", "training row, chat without a cache", _largest(short), limit)
    yield Check("logits", "rows packed, each alone", _largest(zip(_as_trained(model, talks), alone)), limit)
    single = [_decoded(model, [one])[0] for one in talks]
    yield Check("logits", "with a cache, without", _largest(zip(single, uncached)), limit)
    yield Check("logits", "in a batch, single", _largest(zip(_decoded(model, talks), single)), limit)
    loss = abs(_packed_loss(model, trained, trainer_loss) / _chat_loss(model, trained) - 1) if trained else None
    yield Check("loss", "trainer, packed; chat's logits", loss, limit)


def _as_trained(model: QwenVL, talks: Sequence[Talk]) -> list[Tensor]:
    """Logits of each answer, from one packed batch as training makes it."""
    batch = collate([one.row for one in talks]).to(model.device)
    hidden = model.model(
        batch.input_ids, batch.position_ids, PackedLayout.of(batch.document_ids, batch.branch_ids), patches=batch.patches,
        grids=batch.grids, visual_slots=batch.visual_slots, windows=batch.windows,
    )  # fmt: skip
    starts = np.cumsum([0, *(len(one.row) for one in talks)])
    return [model.model.logits(hidden[one.answer.to(hidden.device) + int(start)]).float() for one, start in zip(talks, starts)]


def _uncached(model: QwenVL, one: Talk, places: Tensor) -> Tensor:
    """Logits at some places of a whole conversation; dynamic NTK's alpha is that of the prompt, which decoding keeps."""
    layout = PackedLayout.of(torch.zeros(len(one.row), dtype=torch.long, device=model.device))
    hidden = run_model(model.model, [one.row], [alpha_of(model.model, len(one.prompt))], layout)
    return model.model.logits(hidden[places.to(hidden.device)]).float()


def _decoded(model: QwenVL, talks: Sequence[Talk]) -> list[Tensor]:
    """Logits of each answer as chat decodes it: prefill, then token by token, all conversations together."""
    session = Session(model.model, [one.prompt for one in talks], room=STEPS)
    rounds = [session.prefill()]
    for step in range(max(len(one.said) for one in talks) - 1):
        # Who has said everything says its last token again; that is not looked at.
        rounds.append(session.step([one.said[min(step, len(one.said) - 1)] for one in talks]))
    return [torch.stack([logits[index] for logits in rounds[: len(one.said)]]) for index, one in enumerate(talks)]


def _packed_loss(model: QwenVL, talks: Sequence[Talk], trainer_loss: TrainerLoss) -> float:
    return trainer_loss(model.model, collate([one.row for one in talks]).to(model.device))


def _chat_loss(model: QwenVL, talks: Sequence[Talk]) -> float:
    """Mean cross entropy of everything supervised, from what the model says when it is asked."""
    total, count = 0.0, 0
    for one in talks:
        places = torch.from_numpy(np.flatnonzero(one.row.labels[1:] != IGNORE_INDEX))
        labels = torch.from_numpy(one.row.labels)[places + 1].to(model.device)
        total += float(F.cross_entropy(_uncached(model, one, places), labels, reduction="sum"))
        count += len(places)
    return total / count


def _largest(pairs: Iterable[tuple[Tensor, Tensor]]) -> float | None:
    """Largest difference, as a share of the largest logit; None for no pairs. A nan, which `max` might pass over, is kept."""
    found = [float((one - other).abs().max() / other.abs().max()) for one, other in pairs]
    return float(np.max(found)) if found else None
