"""What goes with the weights of a run: card.json for programs, and README.md, the hub's model card, for readers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from qwenvl.data.mixture import MixtureRecipe
from qwenvl.data.synth.fonts import versions
from qwenvl.train.recipe import Recipe
from qwenvl.train.sight.evaluations import read_evaluations
from qwenvl.weights.hub import builtin_models

DRAWN = "Apache-2.0; drawn with fonts under OFL-1.1, Apache-2.0 and Bitstream Vera's licence, names from Unicode CLDR"
UNKNOWN = "that of the weights it starts from and of the data it was trained on; see README.md"


def card(recipe: Recipe, steps: int, fingerprint: Mapping[str, str]) -> dict[str, Any]:
    """What a reader of the weights should know, and what would be needed to make them again."""
    drawn = _is_drawn(recipe)
    return {
        "summary": recipe.summary,
        "recipe": recipe.name,
        "steps": steps,
        "rows": steps * recipe.data.rows_per_step,
        "seed": recipe.seed,
        "starts_from": dict(recipe.init_from),
        "deviations": list(recipe.deviations),
        "fingerprint": dict(fingerprint),
        "data_versions": versions() if drawn else {},
        "licence": DRAWN if drawn else UNKNOWN,
    }


def readme(recipe: Recipe, steps: int, run: Path) -> str:
    """The model card: Markdown behind the metadata that the hub reads (huggingface.co/docs/hub/model-cards), with the data mix, the
    recipe, the pixel budget, and the scores of the run's last evaluation."""
    head: dict[str, Any] = {"library_name": "qwenvl", "pipeline_tag": "image-text-to-text", "language": ["en", "zh"]}
    if _is_drawn(recipe):
        head["license"] = "apache-2.0"
    sections = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n# {recipe.model.preset}, {recipe.name}\n\n{recipe.summary}".rstrip(),
        f"## Training\n\n{_table(_training(recipe, steps))}",
        f"## Data\n\n{_table(_data(recipe))}",
        f"## Pixel budget\n\n{_pixels(recipe)}",
    ]
    if recipe.deviations:
        sections.append("## Departures from the paper\n\n" + "\n".join(f"- {line}" for line in recipe.deviations))
    evaluations = read_evaluations(run)
    if evaluations:
        sections.append(f"## Scores\n\nAfter {evaluations[-1]['step']} steps, in percent.\n\n{_scores(evaluations[-1])}")
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    sections.append(f"## Recipe\n\n<details><summary>all of it, as it was resolved</summary>\n\n```yaml\n{text}```\n\n</details>")
    return "\n\n".join(sections) + "\n"


def _is_drawn(recipe: Recipe) -> bool:
    """Whether nothing but drawn data, models of the package and runs went in, as far as the recipe says."""
    if any(source not in builtin_models() and not (Path(source) / "checkpoints").is_dir() for source in recipe.init_from.values()):
        return False
    return not isinstance(recipe.data, MixtureRecipe) or all(source.synth for source in recipe.data.sources)


def _training(recipe: Recipe, steps: int) -> list[tuple[str, str]]:
    optim, start = recipe.optim, ", ".join(f"{part}: {source}" for part, source in recipe.init_from.items())
    rows = [
        ("objective", recipe.objective.kind),
        ("starts from", start or "random weights"),
        ("frozen", ", ".join(recipe.train.frozen) or "nothing"),
        ("steps", f"{steps:,} of {recipe.data.rows_per_step} rows of up to {recipe.data.row_tokens:,} tokens"),
        ("learning rate", f"{optim.lr:g} to {optim.min_lr:g}, {optim.schedule}, {optim.warmup_steps} steps of warm-up"),
        ("AdamW", f"beta {optim.betas}, eps {optim.eps:g}, weight decay {optim.weight_decay}, clip {optim.clip}"),
        ("precision", recipe.train.precision),
    ]
    if lora := recipe.lora:
        what = f"rank {lora.rank}, alpha {lora.alpha:g}, beside {', '.join(lora.targets)}; the base in {lora.base}; merged here"
        rows.append(("LoRA", what))
    return rows


def _data(recipe: Recipe) -> list[tuple[str, str]]:
    data = recipe.data
    if isinstance(data, MixtureRecipe):
        total = sum(source.weight for source in data.sources)
        return [(source.name, f"{100 * source.weight / total:.1f} %") for source in data.sources]
    if not data.tasks:
        return [("scenes", "pictures alone")]
    total = sum(data.tasks.values())
    return [(f"scenes, {task}", f"{100 * weight / total:.1f} %") for task, weight in data.tasks.items()]


def _pixels(recipe: Recipe) -> str:
    rule, config = recipe.family().images, recipe.model_config_of_stage()
    if config.vision.image_size is not None:
        return f"Every picture is seen as {config.vision.image_size} x {config.vision.image_size} pixels."
    return f"Pictures are seen at their own shape, of {rule.min_pixels:,} to {rule.max_pixels:,} pixels."


def _scores(record: Mapping[str, Any]) -> str:
    chance = record["chance"]
    known = {name: f"{100 * level:.0f}" for name, level in chance.items()}
    rows = [(name, f"{100 * score:.1f}", known.get(name, "")) for name, score in record["scores"].items()]
    return "| | score | chance |\n|---|---:|---:|\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _table(rows: list[tuple[str, str]]) -> str:
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows)


def write_cards(folder: Path, recipe: Recipe, steps: int, fingerprint: Mapping[str, str]) -> None:
    text = json.dumps(card(recipe, steps, fingerprint), indent=2, ensure_ascii=False)
    (folder / "card.json").write_text(text + "\n", encoding="utf-8")
    (folder / "README.md").write_text(readme(recipe, steps, folder.parent), encoding="utf-8")
