"""What a training run leaves is a folder of the hub's layout: transformers opens it, reads a conversation as we do, and gives our
logits; README.md says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from qwenvl.models.attention import PackedLayout
from qwenvl.processing.chat import render
from qwenvl.processing.messages import messages_to_sample
from qwenvl.train.build import build_trainer, export, processor_of
from qwenvl.train.parallel import World
from qwenvl.train.recipe import Recipe
from qwenvl.weights.io import load_model

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("scene_sources")

TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]},
    {"role": "assistant", "content": "A dog."},
    {"role": "user", "content": [{"type": "text", "text": "And here? "}, {"type": "image"}]},
]


def with_pictures(content: Any) -> Any:
    picture = {"type": "image", "image": Image.new("RGB", (56, 56))}
    return content if isinstance(content, str) else [picture if part["type"] == "image" else part for part in content]


@pytest.fixture(scope="module", params=["qwen2-vl-nano", "qwen2.5-vl-nano"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    """The folder of a model that has not been trained, drawn large."""
    run = tmp_path_factory.mktemp("run")
    recipe = Recipe.model_validate({
        "name": "untrained", "run": str(run), "summary": "Random weights.", "deviations": ["All of it."],
        "model": {"preset": request.param},
        "data": {"style": "chat", "tasks": {"caption": 3, "referring": 1}, "rows_per_step": 2},
        "optim": {"lr": 1e-3}, "train": {"steps": 0},
    })  # fmt: skip
    trainer, processor = build_trainer(recipe, World())
    generator = torch.Generator().manual_seed(3)
    for parameter in trainer.model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    trainer.start(False)
    trainer.close()
    return export(trainer, processor), recipe


def test_transformers_opens_it_and_gives_our_logits(exported: tuple[Path, Recipe]) -> None:
    folder, _ = exported
    peer = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_model(folder, device="cpu", dtype=torch.float32)
    ids = torch.arange(40) * 31 % 1500
    with torch.no_grad():
        theirs = peer(input_ids=ids[None]).logits[0]
        mine = ours.logits(ours(ids, torch.arange(40).expand(3, -1), PackedLayout.of(torch.zeros(40, dtype=torch.long))))
    assert theirs.std() > 0.1
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("numbered", [False, True])
def test_its_template_gives_the_ids_of_our_renderer(exported: tuple[Path, Recipe], numbered: bool) -> None:
    folder, recipe = exported
    processor = processor_of(recipe)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert their_tokenizer.eos_token == "<|im_end|>"
    theirs = their_tokenizer.apply_chat_template(TURNS, add_generation_prompt=True, add_vision_id=numbered, return_dict=False)
    sample = messages_to_sample([{**turn, "content": with_pictures(turn["content"])} for turn in TURNS])
    ours = render(sample, processor.tokenizer, processor.spec, "chat", [1, 1], True, processor.markup, numbered=numbered)
    assert ours.input_ids == theirs


def test_the_card_says_what_it_is(exported: tuple[Path, Recipe]) -> None:
    folder, recipe = exported
    head, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1:]
    assert yaml.safe_load(head)["pipeline_tag"] == "image-text-to-text"
    for said in ("Random weights.", "| scenes, caption | 75.0 % |", "- All of it.", "pixels", f"name: {recipe.name}"):
        assert said in text, said
