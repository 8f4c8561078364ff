"""Options under letters, as wordings of multiple choice show them, and the two forms that such benchmarks are distributed in:
VLMEvalKit's TSV, with pictures in base64, and the hub's Parquet."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwenvl.data.sources import Record, SourceError, records
from qwenvl.eval.benchmark import Prompt
from qwenvl.eval.peers import VLMEVALKIT
from qwenvl.eval.scorers.choices import LETTERS
from qwenvl.eval.shelf import Shelf
from qwenvl.eval.task import Decoding, EvaluationError
from qwenvl.types import ImagePart, VideoPart

RANKED = Decoding(1, rank=True)
WRITTEN = Decoding(2048)
"""max_new_tokens of vlmeval/vlm/qwen2_vl/model.py, whose top_k of 1 is greedy."""
SHORT = Decoding(16)
"""generation_kwargs of most tasks of lmms-eval."""

CHOICE = Prompt(
    "{hint}Question: {question}\nOptions:\n{options}\n{ask}",
    f"{VLMEVALKIT}, vlmeval/vlm/qwen2_vl/prompt.py (_build_mcq_prompt), model.py",
    WRITTEN,
    style="chat",
)
"""How VLMEvalKit asks Qwen2-VL and Qwen2.5-VL a question of multiple choice, pictures first. Its fields are `choice_fields`."""
ASK = "Please select the correct answer from the options above."
ASK_CHINESE = "请直接回答选项字母。"
CHINESE = re.compile("[\u4e00-\u9fff]")

REFERENCE = 64
"""Characters: a shorter field of a picture is the index of the row that has it."""


def lettered(options: Sequence[str]) -> dict[str, str]:
    """Letter -> option."""
    return dict(zip(LETTERS, options, strict=False))


def listed(choices: Mapping[str, str], form: str = "{}. {}") -> str:
    """One option a line."""
    return "\n".join(form.format(letter, text) for letter, text in choices.items())


def to_rank(choices: Mapping[str, str]) -> tuple[str, ...]:
    """The options as QwenLM/Qwen-VL ranks them: " A", " B"…"""
    return tuple(f" {letter}" for letter in choices)


def choice_fields(question: str, choices: Mapping[str, str], hint: str = "") -> dict[str, str]:
    """The fields of CHOICE: it asks in Chinese where anything that it shows is Chinese."""
    shown = f"Hint: {hint}\n" if hint else ""
    ask = ASK_CHINESE if CHINESE.search(shown + question + "".join(choices.values())) else ASK
    return {"hint": shown, "question": question, "options": listed(choices), "ask": ask}


def hub_picture(stored: Any, id: str, shelf: Shelf) -> ImagePart:
    """A picture as the `datasets` library stores it in Parquet: {bytes, path}. Raises EvaluationError."""
    if not isinstance(stored, Mapping) or not stored.get("bytes"):
        raise EvaluationError(f"{id}: no picture in its row ({type(stored).__name__}); fetch the Parquet files again")
    return ImagePart(shelf.keep(stored["bytes"]))


def tsv_rows(path: Path) -> Iterator[tuple[Record, ImagePart]]:
    """Rows of a TSV as VLMEvalKit and TouchStone have it, with their picture: base64, or the index of a row before that has it
    (`ImageBaseDataset` in vlmeval/dataset/image_base.py). Raises SourceError naming the row."""
    pictures, shelf = dict[str, ImagePart](), Shelf()
    for row in records(path):
        index, stored = str(row["index"]), row.pop("image")
        if len(stored) > REFERENCE:
            pictures[index] = ImagePart(shelf.keep(_decoded(stored, path, index)))
        elif stored in pictures:
            pictures[index] = pictures[stored]
        else:
            raise SourceError(f"{path}, row {index}: its picture is that of row {stored}, which is not before it; fetch it again")
        yield row, pictures[index]


def _decoded(stored: str, path: Path, index: str) -> bytes:
    try:
        return base64.b64decode(stored, validate=True)
    except binascii.Error as error:
        raise SourceError(f"{path}, row {index}: its picture is not base64 ({error}); fetch the file again") from None


def row_choices(row: Mapping[str, str]) -> dict[str, str]:
    """The options of a TSV's row: its columns A, B, C… that are not empty."""
    return {letter: row[letter] for letter in LETTERS if row.get(letter)}


def video_at(path: Path, id: str) -> VideoPart:
    """A video, or folder of frames. Raises EvaluationError where there is none."""
    if not path.exists():
        raise EvaluationError(f"{id}: its video is not there: {path}")
    return VideoPart(str(path))


def check_answer(answer: str, choices: Mapping[str, str], id: str) -> str:
    """The letter. Raises EvaluationError for one that no option has."""
    if answer not in choices:
        raise EvaluationError(f"{id}: its answer is {answer!r}, its options are {', '.join(choices)}")
    return answer


def letter_of(answer: str, choices: Mapping[str, str], id: str) -> str:
    """The letter of an answer that is given as a text. Raises EvaluationError for one that is no option."""
    found = [letter for letter, text in choices.items() if text == answer]
    if not found:
        raise EvaluationError(f"{id}: its answer {answer!r} is none of its options")
    return found[0]
