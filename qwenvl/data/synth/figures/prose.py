"""Running text for pages: sentences, headings and list items of prose.yaml with their slots filled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwenvl.data.synth.draws import pick, whole
from qwenvl.data.synth.figures import fields
from qwenvl.data.synth.figures.words import book, say
from qwenvl.data.synth.names import Language


def filled(rng: np.random.Generator, template: str, language: Language) -> str:
    """A template of prose.yaml with a value for every slot."""

    def of(group: str) -> str:
        return say(pick(rng, book("words")["groups"][group]["items"]), language)

    many = whole(rng, 12, 95)
    values = {
        "city": of("cities"), "country": of("countries"), "product": of("products"), "department": of("departments"),
        "month": fields.month(rng, language), "company": fields.company(rng, language), "person": fields.person(rng, language),
        "year": str(whole(rng, 1995, 2024)), "n": str(many), "m": str(whole(rng, 2, 11)),
    }  # fmt: skip
    if language == "en":
        values["product"] = values["product"].lower()
    text = template.format_map(values)
    return text[:1].upper() + text[1:]


def sentences(rng: np.random.Generator, count: int, language: Language) -> list[str]:
    """Different sentences."""
    templates = book("prose")["sentences"][language]
    return [filled(rng, templates[int(place)], language) for place in rng.permutation(len(templates))[:count]]


def paragraph(rng: np.random.Generator, count: int, language: Language) -> str:
    return (" " if language == "en" else "").join(sentences(rng, count, language))


def heading(rng: np.random.Generator, language: Language, used: Sequence[str] = ()) -> str:
    """A heading, another one than those used while there are any."""
    texts = book("prose")["headings"][language]
    text: str = pick(rng, [text for text in texts if text not in used] or texts)
    return text


def title(rng: np.random.Generator, language: Language) -> str:
    return filled(rng, pick(rng, book("prose")["titles"][language]), language)


def items(rng: np.random.Generator, count: int, language: Language) -> list[str]:
    templates = book("prose")["items"][language]
    return [filled(rng, templates[int(place)], language) for place in rng.permutation(len(templates))[:count]]


def caption(rng: np.random.Generator, kind: str, number: int, text: str, language: Language) -> str:
    """A caption as it is printed: "Figure 2: ..."."""
    template: str = pick(rng, book("prose")["captions"][kind][language])
    return template.format(k=number, title=text)
