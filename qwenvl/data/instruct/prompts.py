"""What is asked of the language model: the facts of a picture as text, and what to write about it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from qwenvl.data.outlines import thumbnail_url
from qwenvl.data.shown import Named, Shown
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import plain
from qwenvl.processing.image import open_image
from qwenvl.types import Region

Kind = Literal["conversation", "detail", "reasoning"]
KINDS: tuple[Kind, ...] = ("conversation", "detail", "reasoning")

SCALE = 1000
"""Places are told in thousandths: whole numbers, which language models read better than fractions."""
LARGEST = 1024
"""Longer side in pixels of a picture that is sent along."""
_QUALITY = 90


@cache
def book() -> dict[str, Any]:
    """prompts.yaml. Shared: never change it."""
    import yaml

    content: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("prompts.yaml").read_text(encoding="utf-8"))
    return content


def has_facts(shown: Shown) -> bool:
    """Whether enough is known of a picture to write about it."""
    return bool(shown.captions or shown.things)


def facts(shown: Shown) -> str:
    """Captions, numbered things with their boxes, and lettering."""
    heads = book()["facts"]
    sections = [
        ("captions", [f"- {text}" for text in dict.fromkeys(map(plain, shown.captions))]),
        ("things", [f"{number}. {_placed(thing)}" for number, thing in enumerate(shown.things, start=1)]),
        ("texts", [f"- {text.phrase}" for text in shown.texts]),
    ]
    return "\n\n".join("\n".join([heads[name][shown.language], *lines]) for name, lines in sections if lines)


def _placed(thing: Named) -> str:
    return f"{thing.phrase} {' '.join(map(thousandths, thing.regions))}"


def thousandths(region: Region) -> str:
    """A box as it is told: "(120, 300, 560, 910)"."""
    return f"({', '.join(str(round(value * SCALE)) for point in region.points for value in point)})"


def request(shown: Shown, kind: Kind, language: Language, with_picture: bool = False) -> list[dict[str, Any]]:
    """The messages of a chat completion. Raises ImageError for a picture that is to be sent and cannot be opened."""
    prompts = book()
    system = f"{prompts[kind][language]}\n\n{prompts['rules'][language]}"
    content: str | list[dict[str, Any]] = facts(shown)
    if with_picture:
        picture = {"type": "image_url", "image_url": {"url": thumbnail_url(open_image(shown.picture.image), LARGEST, _QUALITY)}}
        content = [picture, {"type": "text", "text": content}]
    return [{"role": "system", "content": system}, {"role": "user", "content": content}]


def questions(kind: Kind, language: Language) -> Sequence[str]:
    """The phrasings of a question that we put ourselves, the last one held out; empty where the model asks too."""
    asked: Sequence[str] = [] if book()[kind]["asks_itself"] else book()[kind]["questions"][language]
    return asked
