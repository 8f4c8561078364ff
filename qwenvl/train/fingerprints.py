"""Hashes of what weights learn to read and write, by which a run knows whether weights belong to it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from qwenvl.data.places import markup_record
from qwenvl.families.spec import FamilySpec, Markup
from qwenvl.processing.tokenizer import Tokenizer, TokenizerError
from qwenvl.weights.io import read_config


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def vocabulary_print(tokenizer: Tokenizer) -> str:
    return hash_of(tokenizer.to_json())


def markup_print(markup: Markup) -> str:
    return hash_of(json.dumps(markup_record(markup)))


def for_family(stored: Tokenizer, spec: FamilySpec) -> Tokenizer:
    """The vocabulary with the special tokens of the family. Raises TokenizerError for one that cannot be made so."""
    return stored if spec.image_tokens.pad in stored.specials else stored.of_family(spec)


def of_model(folder: Path) -> dict[str, str]:
    """Those of a finished model that says nothing of its training, such as a published one: its tokenizer's and its markup's.
    Nothing where the folder has no tokenizer."""
    raw, _, spec = read_config(folder)
    try:
        tokenizer = for_family(Tokenizer.from_folder(folder), spec)
    except TokenizerError:
        return {}
    return {"vocabulary": vocabulary_print(tokenizer), "markup": markup_print(spec.read_markup(raw))}
