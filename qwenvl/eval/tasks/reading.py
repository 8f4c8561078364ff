"""Reading text in pictures: OCRBench, OCRBench v2 and CC-OCR, with the rules that each was published with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from qwenvl.data.adapters.files import picture, whole
from qwenvl.data.sources import SourceError, records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.peers import LMMS, VLMEVALKIT
from qwenvl.eval.scorers import cc_ocr, ocrbench_v2
from qwenvl.eval.scorers.groups import group_mean
from qwenvl.eval.scorers.ocrbench import is_read
from qwenvl.eval.scorers.ocrbench_tables import literal
from qwenvl.eval.scorers.spotting import upright
from qwenvl.eval.task import Decoding, Pooled, Prediction, Tally
from qwenvl.families.spec import Markup
from qwenvl.types import ImagePart

OCR = "Yuliang-Liu/MultimodalOCR @ 794c36d"


def _ocrbench(folder: Path, split: str) -> Iterator[Item]:
    file = folder / "OCRBench.json"
    for number, row in enumerate(records(file)):
        id = f"{number}"
        try:
            answers = row["answers"] if isinstance(row["answers"], list) else [row["answers"]]
            visual = ImagePart(picture(folder / "OCRBench_Images", row["image_path"], id=id))
            truth = {"answers": answers, "dataset": row["dataset_name"]}
            yield Item(id, {"question": row["question"]}, (visual,), answers[0].strip(), truth, group=row["type"])
        except KeyError as error:
            raise SourceError(f"{file}, record {number + 1}: has no {error}; give the file as it is distributed") from None


def _is_read(prediction: Prediction, markup: Markup) -> dict[str, Tally]:
    truth = prediction.truth
    return {"read": (float(is_read(prediction.reply, truth["answers"], truth["dataset"])), 1)}


def _ocrbench_v2(folder: Path, split: str) -> Iterator[Item]:
    file = folder / "OCRBench_v2.json"
    for number, row in enumerate(records(file)):
        id = f"{row.get('id', number)}"
        try:
            kept = ("type", "question", "answers", "eval", "bbox", "content")
            truth: dict[str, Any] = {key: row[key] for key in kept if key in row}
            visual = ImagePart(picture(folder, row["image_path"], id=id))
            language = ocrbench_v2.language_of(row["type"])
            yield Item(id, {"question": row["question"]}, (visual,), _best_reply(truth), truth, (), language, row["type"])
        except KeyError as error:
            raise SourceError(f"{file}, record {number + 1}: has no {error}; give the file as it is distributed") from None


def _best_reply(truth: dict[str, Any]) -> str:
    """What would earn all there is."""
    kind, answers = truth["type"], truth["answers"]
    if kind == "text grounding en":
        return str(answers)
    if kind == "text spotting en":
        words = zip(truth["bbox"], truth["content"], strict=True)
        return str([[*map(int, upright(corners)), text] for corners, text in words])
    first = answers[0] if isinstance(answers, list) else answers
    if kind == "VQA with position en":
        return json.dumps({"answer": first, "bbox": str(truth["bbox"])}, ensure_ascii=False)
    if kind.startswith("key information"):
        pairs = first if isinstance(first, dict) else literal(str(first).strip('"'))
        pairs = pairs if isinstance(pairs, dict) else {}
        said = {name: value[0] if isinstance(value, list) else value for name, value in pairs.items()}
        return json.dumps(said, ensure_ascii=False)
    return str(first)


def _question_score(prediction: Prediction, markup: Markup) -> dict[str, Tally]:
    score = ocrbench_v2.question_score(prediction.reply, prediction.truth)
    return {} if score is None else {"reply": (score, 1)}


def _by_ability(predictions: Sequence[Prediction], markup: Markup) -> dict[str, Pooled]:
    """{"english", "chinese"} -> the mean of its abilities, each the mean of its questions."""
    units: dict[str, list[tuple[str, float]]] = {"english": [], "chinese": []}
    for prediction in predictions:
        score = ocrbench_v2.question_score(prediction.reply, prediction.truth)
        if score is not None:
            kind = prediction.truth["type"]
            units["chinese" if ocrbench_v2.language_of(kind) == "zh" else "english"].append((ocrbench_v2.ABILITY_OF[kind], score))
    return {language: Pooled(tuple(found), group_mean) for language, found in units.items()}


SUBSETS: dict[str, dict[str, tuple[str, ...]]] = {
    "multi_scene_ocr": {
        "scene_text": ("TotalText", "IC15", "InverseText", "Hieragent", "zh_scene"),
        "document_text": ("FUNSD", "CORD", "IAM", "zh_doc", "zh_handwriting"),
        "ugc_text": ("ugc_laion", "zh_vertical", "zh_dense"),
    },
    "multi_lan_ocr": {
        name: (name,)
        for name in (
            "Arabic", "French", "German", "Italian", "Japanese", "Korean", "Portuguese", "Russian", "Spanish", "Vietnamese",
        )
    },
    "doc_parsing": {
        "doc": ("doc_photo_chn", "doc_photo_eng", "doc_scan_chn", "doc_scan_eng"),
        "table": ("table_photo_chn", "table_photo_eng", "table_scan_chn", "table_scan_eng"),
        "molecular": ("molecular_handwriting",), "formula": ("formula_handwriting",),
    },
    "kie": {"constrained_category": ("sroie2019_word", "CORD", "EPHOIE_SCUT", "POIE"), "open_category": ("COLD_SIBR", "COLD_CELL")},
}  # fmt: skip
"""Track -> op -> subsets: index/*.json, Benchmarks/CC-OCR of AlibabaResearch/AdvancedLiterateMachinery @ fb6187e."""
FOLDERS = [(track, op, name) for track, ops in SUBSETS.items() for op, names in ops.items() for name in names]
CHINESE = ("zh_", "chn", "EPHOIE", "COLD_")


def _cc_ocr(folder: Path, split: str) -> Iterator[Item]:
    for track, op, subset in FOLDERS:
        if split not in ("all", track):
            continue
        root = folder / track / op / subset
        labels = whole(root / "label.json")
        for row in records(root / "qa.jsonl"):
            try:
                name = Path(unquote(urlparse(row["url"]).path)).name
                label, id = labels[name], f"{track}/{subset}/{name}"
                truth = {"track": track, "subset": subset, "op": op, "label": label}
                answer = label if isinstance(label, str) else json.dumps(label, ensure_ascii=False)
                visual = ImagePart(picture(root, row["url"], unquote(row["url"]), id=id))
                language = "zh" if any(sign in subset for sign in CHINESE) else "en"
                yield Item(id, {"question": row["prompt"]}, (visual,), answer, truth, (), language, f"{track}/{subset}")
            except KeyError as error:
                raise SourceError(f"{root}: no {error} in qa.jsonl or label.json; unpack the archive again") from None


def _reply_measures(prediction: Prediction, markup: Markup) -> dict[str, Tally]:
    measures = cc_ocr.reply_measures(prediction.reply, prediction.truth)
    return {"reply" if name == "score" else name: tally for name, tally in measures.items()}


def _by_track(predictions: Sequence[Prediction], markup: Markup) -> dict[str, Pooled]:
    units = []
    for prediction in predictions:
        truth, measures = prediction.truth, cc_ocr.reply_measures(prediction.reply, prediction.truth)
        units.append((truth["track"], truth["subset"], measures["score"][0], *measures.get("fields", (0.0, 0.0))))
    pooled = {"total": Pooled(tuple(units), cc_ocr.total)}
    pooled["total_by_tree"] = Pooled(tuple(units), lambda found: cc_ocr.total(found, by_tree=True))
    for track in SUBSETS:
        own = tuple(unit for unit in units if unit[0] == track)
        pooled[track] = Pooled(own, cc_ocr.total)
    return pooled


def _cc_ocr_files(*tracks: str) -> Split:
    return Split(tuple(f"{track}/*/*/{kind}" for track in tracks for kind in ("qa.jsonl", "label.json")))


BENCHMARKS: dict[str, Benchmark] = {
    "ocrbench": Benchmark(
        name="ocrbench",
        title="OCRBench",
        get="OCRBench/OCRBench.json of github.com/Yuliang-Liu/MultimodalOCR; beside it the folder OCRBench_Images from the archive "
        "that its README names.",
        source=f"{OCR}, OCRBench/example.py (the reply holds an answer; points of 1000)",
        splits={"test": Split(("OCRBench.json", "OCRBench_Images/*"))},
        prompts={
            "paper": Prompt("{question} Answer:", f"{OCR}, OCRBench/scripts/qwenvl.py", Decoding(100, 1)),
            "chat": Prompt(
                "{question}",
                f"{VLMEVALKIT}, vlmeval/dataset/image_base.py (build_prompt); limit: {LMMS}/ocrbench/ocrbench.yaml",
                Decoding(128),
                style="chat",
            ),
        },
        read=_ocrbench,
        measure="read",
        score=_is_read,
        scale=1000.0,
    ),
    "ocrbench_v2": Benchmark(
        name="ocrbench_v2",
        title="OCRBench v2",
        get="The archive that OCRBench_v2/README.md of github.com/Yuliang-Liu/MultimodalOCR names: OCRBench_v2.json with the "
        "folders EN_part and CN_part. Scoring its pages needs nltk with WordNet, and jieba.",
        source=f"{OCR}, OCRBench_v2/eval_scripts/eval.py and get_score.py",
        splits={"test": Split(("OCRBench_v2.json", "EN_part/*", "CN_part/*"))},
        prompts={
            "chat": Prompt(
                "{question}",
                f"{VLMEVALKIT}, vlmeval/dataset/image_base.py (build_prompt); limit: vlmeval/vlm/qwen2_vl/model.py",
                Decoding(2048),
                style="chat",
            )
        },
        read=_ocrbench_v2,
        measure="english",
        score=_question_score,
        pool=_by_ability,
    ),
    "cc_ocr": Benchmark(
        name="cc_ocr",
        title="CC-OCR",
        get="cc_ocr_data.zip, named in Benchmarks/CC-OCR/data/README.md of github.com/AlibabaResearch/AdvancedLiterateMachinery; "
        "the folder is the one that doc_parsing, kie, multi_lan_ocr and multi_scene_ocr lie in.",
        source="AlibabaResearch/AdvancedLiterateMachinery @ fb6187e, Benchmarks/CC-OCR/evaluation (total: the mean of four tracks, "
        f"by F1 of fields as assets/doc/VLMEvalKit_en.md has it; total_by_tree: by nTED accuracy, as {VLMEVALKIT} has it)",
        splits={"all": _cc_ocr_files(*SUBSETS)} | {track: _cc_ocr_files(track) for track in SUBSETS},
        prompts={
            "chat": Prompt(
                "{question}",
                f"the prompt of each row of qa.jsonl; limit: {LMMS}/cc_ocr/_default_yaml_template",
                Decoding(4096),
                style="chat",
            )
        },
        read=_cc_ocr,
        measure="total",
        score=_reply_measures,
        pool=_by_track,
    ),
}
