"""Direct preference optimisation (DPO, arXiv 2305.18290): of two answers to one prompt the chosen one is to become likelier.

A pair is one document of a batch: branch 1 is the chosen answer, branch 2 the rejected one, behind the pictures that they share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from qwenvl.data.loader import RowStream
from qwenvl.models.lora import adapters, without_lora
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.runtime import atomic_write
from qwenvl.train.objectives import DensePatches, Objective, Terms, hidden_states, token_losses
from qwenvl.train.parallel import World
from qwenvl.train.recipe import Recipe
from qwenvl.types import IGNORE_INDEX, Batch, QwenVLError

FILE = "reference.json"
SAME = 0.5
"""Log-probabilities of one answer may differ by so much from row to row, in bfloat16."""


class PreferenceError(QwenVLError):
    """Pairs that cannot be compared with their reference."""


class Preference(Objective):
    """Loss of a pair: -log sigmoid(margin), the margin being the chosen reward less the rejected one, and the reward of an answer
    beta times what the policy has added to its log-probability over the reference's (equation 7).

    The reference is, in this order: what `precompute` noted; the copy that `keep_reference` made; the model without its adapters.
    Logged, per pair: margin, accuracy (how often the chosen reward is the greater), both rewards, and kl: how much less likely than
    under the reference both answers are, on average. Had the reference written them it would be an estimate of the divergence
    KL(reference || policy) of an answer.

    With `chosen_weight`, beside it: the mean loss of a token of the chosen answer (arXiv 2404.19733, equation 1). A margin can grow
    while both answers become less likely, in favour of what no pair speaks of; this term holds the chosen one up.
    """

    logged = ("margin", "accuracy", "chosen_reward", "rejected_reward", "kl")

    def __init__(self, beta: float, chosen_weight: float = 0.0) -> None:
        super().__init__()
        self.beta = beta
        self.coefficients = {"dpo": 1.0} | ({"chosen": chosen_weight} if chosen_weight else {})
        self._copy: tuple[VisionLanguageModel, ...] = ()  # in a tuple it is no part of this module, and so of no checkpoint
        self._noted: dict[str, tuple[float, float]] = {}

    @property
    def dense_heads(self) -> DensePatches | None:
        return None

    def keep_reference(self, model: VisionLanguageModel, device: torch.device | None = None) -> None:
        """The model as it is now is what later rewards are measured from."""
        self._copy = (deepcopy(model).eval().requires_grad_(False).to(device),)

    def counts(self, batch: Batch) -> dict[str, float]:
        return dict.fromkeys(self.coefficients, float(_pairs(batch)))

    def forward(self, model: VisionLanguageModel, batch: Batch) -> Terms:
        policy = answer_log_probs(model, batch)
        reference = self._reference_log_probs(model, batch)
        added = policy - reference
        rewards = self.beta * added
        margins = rewards[:, 0] - rewards[:, 1]
        with torch.no_grad():
            logged = {"margin": margins.sum(), "accuracy": (margins > 0).float().sum(), "kl": -added.mean(1).sum()}
            logged |= {"chosen_reward": rewards[:, 0].sum(), "rejected_reward": rewards[:, 1].sum()}
        sums = {"dpo": -F.logsigmoid(margins).sum()}
        if "chosen" in self.coefficients:
            sums["chosen"] = -(policy / answer_lengths(batch))[:, 0].sum()
        return Terms(sums, logged={name: value.detach() for name, value in logged.items()})

    def note(self, batch: Batch, log_probs: Tensor) -> None:
        """Take (pairs, 2) as those of the reference for the pairs of the batch, by their samples' names from now on.

        Raises PreferenceError where two pairs have one name.
        """
        for name, pair in zip(batch.sample_ids, log_probs.tolist(), strict=True):
            self._note(name, (pair[0], pair[1]))

    def _note(self, name: str, pair: tuple[float, float]) -> None:
        known = self._noted.setdefault(name, pair)
        if max(abs(one - other) for one, other in zip(known, pair, strict=True)) > SAME:
            raise PreferenceError(f"{name}: two pairs have this name, so their references cannot be told apart; rename one")

    def precompute(self, model: VisionLanguageModel, stream: RowStream, recipe: Recipe, world: World, resume: bool) -> None:
        """Note the log-probabilities of all answers of the run under the model as it is before the first step, in reference.json.

        A resumed run reads them there. All ranks must call this, and the stream is where it was afterwards. Raises PreferenceError
        where a resumed run has no such file, or more steps than were noted.
        """
        path = Path(recipe.run) / FILE
        if resume:
            self._read(path, recipe.train.steps)
            return
        bf16 = recipe.train.precision == "bf16"
        for step in range(recipe.train.steps):
            for batch in stream.batches(step, world.data_rank, world.data_size, recipe.train.micro_batch_rows):
                with torch.no_grad(), torch.autocast(world.device.type, torch.bfloat16, enabled=bf16):
                    found = answer_log_probs(model, batch.to(world.device))
                self.note(batch, found)
        stream.seek(0)
        for of_rank in world.gather(self._noted):
            for name, pair in of_rank.items():
                self._note(name, pair)
        if world.leads:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps({"steps": recipe.train.steps, "log_probs": self._noted}), encoding="utf-8")

    def _read(self, path: Path, steps: int) -> None:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PreferenceError(f"{path}: cannot be read ({error}); restore it, or start the run anew") from None
        if steps > found["steps"]:
            raise PreferenceError(f"{path}: made for {found['steps']} steps, not {steps}; start a new run for more")
        self._noted = {name: (pair[0], pair[1]) for name, pair in found["log_probs"].items()}

    def _reference_log_probs(self, model: VisionLanguageModel, batch: Batch) -> Tensor:
        if self._noted:
            return torch.tensor([self._noted[name] for name in batch.sample_ids], device=batch.input_ids.device)
        with torch.no_grad(), self._reference(model) as other:
            return answer_log_probs(other, batch)

    @contextmanager
    def _reference(self, model: VisionLanguageModel) -> Iterator[VisionLanguageModel]:
        if self._copy:
            yield self._copy[0]
            return
        if not adapters(model):
            raise ValueError("no reference: neither adapters nor a copy; call keep_reference before training")
        with without_lora(model):
            yield model


def answer_log_probs(model: VisionLanguageModel, batch: Batch) -> Tensor:
    """(pairs, 2): the log-probability of all supervised tokens of the chosen answer, and of the rejected one."""
    places, answers = _supervised(batch)
    losses = token_losses(model, hidden_states(model, batch).index_select(0, places), batch.labels[places])
    return -losses.new_zeros(2 * _pairs(batch)).index_add(0, answers, losses).view(-1, 2)


def answer_lengths(batch: Batch) -> Tensor:
    """(pairs, 2): the supervised tokens of the chosen answer, and of the rejected one."""
    return torch.bincount(_supervised(batch)[1], minlength=2 * _pairs(batch)).view(-1, 2)


def _supervised(batch: Batch) -> tuple[Tensor, Tensor]:
    """Places of the supervised tokens, and to which answer each belongs: twice its pair's number, plus 1 in the rejected one."""
    assert batch.branch_ids is not None
    places = (batch.labels != IGNORE_INDEX).nonzero().flatten()
    return places, 2 * batch.document_ids[places] + batch.branch_ids[places] - 1


def _pairs(batch: Batch) -> int:
    return int(batch.document_ids[-1]) + 1
