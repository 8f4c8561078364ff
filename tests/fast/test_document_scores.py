"""The scores of web documents: what each of them punishes, and what is refused for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qwenvl.cli.data_convert import Convert, convert
from qwenvl.config import ConfigError, validate
from qwenvl.data.adapters.registry import AdapterError
from qwenvl.data.document_scores import (
    Document,
    DocumentJudge,
    DocumentThresholds,
    balance,
    complementarity,
    document_of,
    relevance,
    scores,
    similarities_by,
    text_quality,
)
from qwenvl.data.shards import ShardReader
from qwenvl.types import ImagePart, Message, RegionPart, Sample, TextPart
from tests.adapters import FIXTURES, folder_of

RED, BLUE = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (8, 6), "blue")
PROSE = "The tide comes in slowly, and with it all of the boats."


def document(*pieces: str | Image.Image, **extra: object) -> Sample:
    parts = tuple(TextPart(piece) if isinstance(piece, str) else ImagePart(piece) for piece in pieces)
    return Sample((Message("assistant", parts),), id="d1", task="document", extra=extra)


class Colours:
    """A scorer: 1 where the text names the colour of the picture."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def score(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> np.ndarray:
        self.batches.append(len(texts))
        names = ["red" if picture.getpixel((0, 0)) == (255, 0, 0) else "blue" for picture in pictures]
        return np.array([name in text for name, text in zip(names, texts, strict=True)], dtype=np.float32)


def test_text_quality_is_of_prose() -> None:
    prose = text_quality([PROSE])
    assert 0.9 < prose <= 1
    assert text_quality(["茶在壶中保温，茶香四溢。"]) > 0.8
    for worse in ([PROSE, "Home", "Menu", "Share"], [PROSE, PROSE], [f"{PROSE} #### | ==== | ####"]):
        assert text_quality(worse) < 0.9 * prose, worse
    for nothing in ([], [""], ["#### ===="], ["Home", "Menu"]):
        assert text_quality(nothing) == 0


def test_relevance_is_to_the_passages_beside_a_picture() -> None:
    between = Document(("a", "b", "c"), (1,))
    assert relevance(between, [[0.1, 0.4, 0.9]]) == 0.4  # not the last passage, which is far away
    assert relevance(Document(("a", "b"), (0, 2)), [[0.3, 0.9], [0.9, 0.1]]) == pytest.approx(0.2)
    assert relevance(Document(("a",), (0, 1)), [[0.2], [0.4]]) == pytest.approx(0.3)


def test_complementarity_is_what_pictures_do_not_tell() -> None:
    two = Document(("a red square", "tides come and go all day"), (1,))
    assert complementarity(two, [[0.35, 0.2]], told=0.3) == pytest.approx(6 / 9)
    assert complementarity(two, [[0.35, 0.31]], told=0.3) == 0
    assert complementarity(two, [[0.1, 0.1], [0.2, 0.4]], told=0.3) == pytest.approx(3 / 9)


def test_balance_is_between_words_and_pictures() -> None:
    words = " ".join(["tide"] * 100)
    assert balance(Document((words,), (1,)), picture_words=100) == 1
    assert balance(Document((words,), (0, 1, 1, 1)), picture_words=100) == 0.25
    assert balance(Document((words,) * 10, (1,)), picture_words=100) == 0.1
    assert balance(Document((), (0,)), picture_words=100) == balance(Document((words,), ()), picture_words=100) == 0


def test_passages_are_parted_by_pictures() -> None:
    sample = document("One. ", "Two.", RED, BLUE, "Three.", RED)
    assert document_of(sample) == Document(("One. Two.", "Three."), (1, 1, 2))
    assert document_of(document(RED)) == Document((), (0,))


def test_a_scorer_sees_every_picture_with_every_passage() -> None:
    scorer = Colours()
    sample = document("all is red", RED, "all is blue", BLUE)
    assert similarities_by(scorer, sample) == [[1, 0], [0, 1]]
    found = scores(sample, DocumentThresholds(), similarities_by(scorer, sample))
    assert (found["relevance"], found["complementarity"]) == (1, 0)
    assert list(scores(sample, DocumentThresholds())) == ["text_quality", "balance"]
    many = document(*[piece for number in range(10) for piece in (f"red {number}", RED)])
    scorer.batches.clear()
    assert similarities_by(scorer, many) == [[1.0] * 10] * 10 and scorer.batches == [64, 36]


def test_the_judge_says_what_is_too_low() -> None:
    sample = document(f"{PROSE} All of it is red.", RED, "Nobody had seen such a light on the water before.")
    all_pass = DocumentThresholds(complementarity=0)
    scored, reason = DocumentJudge(all_pass, Colours())(sample)
    assert reason is None and set(scored.extra["scores"]) == {"text_quality", "balance", "relevance", "complementarity"}
    assert scored.messages == sample.messages and json.loads(json.dumps(scored.extra)) == scored.extra
    for name, least in {"text_quality": 1.0, "balance": 0.9, "relevance": 1.1, "complementarity": 0.9}.items():
        judge = DocumentJudge(all_pass.model_copy(update={name: least}), Colours())
        assert judge(sample)[1] == f"{name} {scored.extra['scores'][name]:.3f}, less than {least:g}"
    stored = document(PROSE, RED, similarities=[[0.1]])
    assert DocumentJudge(DocumentThresholds())(stored)[1] == "relevance 0.100, less than 0.2"
    for other in (document(PROSE), Sample((Message.of("user", ImagePart(RED), RegionPart("x")),), task="referring")):
        assert DocumentJudge(DocumentThresholds(text_quality=1))(other) == (other, None)


def test_thresholds_are_strict() -> None:
    for wrong in ({"balances": 0.1}, {"balance": 2}, {"picture_words": 0}):
        with pytest.raises(ConfigError):
            validate(wrong, DocumentThresholds, "thresholds")


def test_documents_are_refused_at_conversion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = tmp_path / "thresholds.yaml", folder_of("mmc4")
    for number, (text, count) in enumerate((("balance: 0.2", 1), ("balance: 0.5", 0), ("text_quality: 0.97\nbalance: 0", 0))):
        file.write_text(text)
        out = tmp_path / str(number)
        assert convert(Convert("mmc4", folder, out, thresholds=file)) == (0 if count else 1)
        assert len(json.loads((out / "report.json").read_text())["first_bad"]) == 1 - count
    assert "balance 0.210, less than 0.5" in capsys.readouterr().out
    assert ShardReader(tmp_path / "0").sample(0).extra["scores"]["relevance"] == 0.31
    with pytest.raises(AdapterError, match="obelics, mmc4"):
        convert(Convert("c4", FIXTURES / "c4", tmp_path / "c4", thresholds=file))


def test_a_picture_that_a_scorer_cannot_open_is_refused(tmp_path: Path) -> None:
    from qwenvl.data.adapters.convert import convert as convert_folder
    from qwenvl.data.adapters.registry import ADAPTERS

    folder = tmp_path / "mmc4"
    pictures = folder / "docs_no_face_shard_0_v3_images"
    pictures.mkdir(parents=True)
    name = "docs_no_face_shard_0_v3.jsonl.zip"
    (folder / name).write_bytes((FIXTURES / "mmc4" / name).read_bytes())
    whole = (FIXTURES / "mmc4" / pictures.name / "b9040a0dbb22.jpg").read_bytes()
    (pictures / "b9040a0dbb22.jpg").write_bytes(whole[: len(whole) // 2])
    judge = DocumentJudge(DocumentThresholds(), Colours())
    report = convert_folder(ADAPTERS["mmc4"], folder, tmp_path / "out", judge_sample=judge)
    [(id, reason)] = report.bad
    assert id == "mmc4 docs_no_face_shard_0_v3 0 document" and "b9040a0dbb22.jpg" in reason
