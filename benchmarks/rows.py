"""The rows of the suite: what each measures and the module that does. A module is imported when its row is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

from benchmarks.harness import Item


@dataclass(frozen=True)
class Entry:
    """A row: its title, and the module whose `cases(quick)` yields what is measured."""

    title: str
    module: str


ROWS = {
    "C1": Entry("a picture to patches", "pictures"),
    "C2": Entry("picture files to patches", "picture_files"),
    "C3": Entry("the tower of Qwen2.5-VL", "vision"),
    "C4": Entry("the tower of Qwen-VL", "vision_squares"),
    "C5": Entry("the first token of an answer", "first_token"),
    "C6": Entry("decoding one answer", "decode"),
    "C7": Entry("decoding eight answers", "decode_batch"),
    "C8": Entry("decoding after a long context", "long_context"),
    "C9": Entry("a step of training", "training"),
    "C10": Entry("memory of the loss", "head"),
    "C11": Entry("packing samples into rows", "packer"),
    "C12": Entry("starting up", "startup"),
    "C13": Entry("the tokenizer", "tokenizer"),
    "C14": Entry("cleaning captions", "cleaning"),
    "C15": Entry("drawing pages", "drawn_pages"),
    "C16": Entry("serving eight at once", "serving"),
}  # fmt: skip


def items(number: str, quick: bool, tiny: bool = False) -> Iterator[Item]:
    """What is measured of a row. tiny: at the size that its module has for a run that says nothing but that all of it works."""
    module = import_module(f"benchmarks.{ROWS[number].module}")
    yield from module.cases(quick, **(getattr(module, "AT_TINY_SIZE", {}) if tiny else {}))
