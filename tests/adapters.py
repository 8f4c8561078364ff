"""The fixtures of data adapters: tiny files in each true schema, of invented content, by the adapter's name."""

from __future__ import annotations

from pathlib import Path

from qwenvl.data.adapters.registry import ADAPTERS
from qwenvl.families.spec import Markup
from qwenvl.processing.regions import parts_text
from qwenvl.types import Sample

FIXTURES = Path(__file__).resolve().parent / "fixtures/adapters"


def folder_of(name: str) -> Path:
    """Where a user would have unpacked it; the pictures of RefCOCO lie beside its folder."""
    inner = FIXTURES / name / name
    return inner if inner.is_dir() else FIXTURES / name


def samples_of(name: str) -> list[Sample]:
    adapter, folder = ADAPTERS[name], folder_of(name)
    return [sample for number, record in enumerate(adapter.read(folder)) for sample in adapter.samples(record, folder, number)]


def exchanged(sample: Sample) -> str:
    """Question and answer as the published Qwen-VL writes them, parted by "|"."""
    return "|".join(parts_text(message.parts, Markup()) for message in sample.messages)
