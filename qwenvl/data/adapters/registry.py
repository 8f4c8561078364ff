"""The table of adapters: what each reads, as which files, and where its schema was read.

A new one is a row here, or in rows.py, and a fixture in tests/fixtures/adapters/NAME; `qwenvl data adapters --markdown` gives the
table of docs/data_adapters.md.
"""

from __future__ import annotations

import difflib

from qwenvl.data.adapters import captions, charts, ocr, regions, vqa
from qwenvl.data.adapters.adapter import Adapter
from qwenvl.data.adapters.captions import IMG2DATASET, WRITER
from qwenvl.data.adapters.rows import ROWS
from qwenvl.types import QwenVLError


class AdapterError(QwenVLError, ValueError):
    """An adapter that does not exist, or a task that it does not make."""


EXAMPLES = f"{WRITER} and dataset_examples/"
MMPRETRAIN = "open-mmlab/mmpretrain @ ee7f2e8, mmpretrain/datasets/"
VISUAL_GENOME = "ranjaykrishna/visual_genome_python_driver @ b092f5e, visual_genome/local.py and utils.py"
VG_FILES = "`image_data.json`, `VG_100K/`, `VG_100K_2/`"
REFER = "lichengunc/refer @ e3bbaa3, refer.py and data/README.md"
REFER_FILES = "`refs(unc).p` or `refs(umd).p`, `instances.json`; COCO's `train2014/`"

CAPTION, VQA, PLACES = ("caption",), ("vqa",), ("referring", "naming")

_ROWS = (
    Adapter(
        "laion", "LAION-400M, LAION-5B", IMG2DATASET, f"{EXAMPLES}laion400m.md, laion5B.md",
        captions.read_img2dataset, captions.from_laion, CAPTION,
    ),
    Adapter(
        "laion_coco", "LAION-COCO, its synthetic captions", f"{IMG2DATASET}, with `top_caption`", f"{EXAMPLES}laion-coco.md",
        captions.read_img2dataset, captions.from_laion_coco, CAPTION,
    ),
    Adapter(
        "coyo", "COYO-700M", IMG2DATASET, f"kakaobrain/coyo-dataset @ 3dc6afb, README.md; {EXAMPLES}coyo-700m.md",
        captions.read_img2dataset, captions.from_coyo, CAPTION,
    ),
    Adapter(
        "datacomp", "DataComp, CommonPool", IMG2DATASET, "mlfoundations/datacomp @ 4a8df19, download_upstream.py",
        captions.read_img2dataset, captions.from_datacomp, CAPTION,
    ),
    Adapter(
        "cc3m", "Conceptual Captions, 3M", IMG2DATASET,
        f"google-research-datasets/conceptual-captions @ 8e25cbd, README.md; {EXAMPLES}cc3m.md",
        captions.read_img2dataset, captions.from_cc3m, CAPTION,
    ),
    Adapter(
        "cc12m", "Conceptual Captions, 12M", IMG2DATASET,
        f"google-research-datasets/conceptual-12m @ 387452e, README.md; {EXAMPLES}cc12m.md",
        captions.read_img2dataset, captions.from_cc12m, CAPTION,
    ),
    Adapter(
        "sbu", "SBU captioned photographs", f"the archive's two lists, the photographs beside them; or {IMG2DATASET}",
        f"pytorch/vision @ 0773175, torchvision/datasets/sbu.py; {EXAMPLES}SBUcaptions.md",
        captions.read_sbu, captions.from_sbu, CAPTION,
    ),
    Adapter(
        "coco_captions", "COCO captions, 2014 or 2017", "`annotations/captions_SPLIT.json`, `SPLIT/` of pictures",
        "cocodataset/cocoapi @ 8c9bcc3, PythonAPI/pycocotools/coco.py",
        captions.read_coco_captions, captions.from_coco_captions, CAPTION,
    ),
    Adapter(
        "vqav2", "VQA 2.0, the answer of maximum confidence",
        "`v2_OpenEnded_mscoco_SPLIT_questions.json`, `v2_mscoco_SPLIT_annotations.json`, COCO's `SPLIT/`",
        f"GT-Vision-Lab/VQA @ a013f00, README.md and PythonHelperTools/vqaTools/vqa.py; {MMPRETRAIN}coco_vqa.py",
        vqa.read_vqav2, vqa.from_vqav2, VQA,
    ),
    Adapter(
        "gqa", "GQA, balanced or all", "`questions/*.json`, `images/`",
        "facebookresearch/mmf @ b0ffc7f, tools/scripts/gqa/convert_gqa_to_vqa.py", vqa.read_gqa, vqa.from_gqa, VQA,
    ),
    Adapter(
        "vgqa", "Visual Genome's questions", f"`question_answers.json`, {VG_FILES}",
        f"{VISUAL_GENOME}; {MMPRETRAIN}visual_genome.py",
        vqa.read_vgqa, vqa.from_vgqa, VQA,
    ),
    Adapter(
        "ocr_vqa", "OCR-VQA, book covers", "`dataset.json`, `images/` by key", f"{MMPRETRAIN}ocr_vqa.py",
        vqa.read_ocr_vqa, vqa.from_ocr_vqa, ("ocr_vqa",),
    ),
    Adapter(
        "docvqa", "DocVQA, single pages", "`SPLIT_v1.0_withQT.json`, `documents/` or `spdocvqa_images/`",
        "https://rrc.cvc.uab.es/?ch=17&com=tasks; Veason-silverbullet/ViTLP @ bdd74eb, finetuning/DocVQA/val_v1.0_withQT.json",
        vqa.read_docvqa, vqa.from_docvqa, VQA,
    ),
    Adapter(
        "textvqa", "TextVQA", "`TextVQA_0.5.1_SPLIT.json`, `train_images/`", f"{MMPRETRAIN}textvqa.py",
        vqa.read_textvqa, vqa.from_textvqa, VQA,
    ),
    Adapter(
        "dvqa", "DVQA, bar charts", "`SPLIT_qa.json`, `images/`", "kushalkafle/DVQA_dataset @ ae4298e, README.md",
        charts.read_dvqa, charts.from_dvqa, VQA,
    ),
    Adapter(
        "chartqa", "ChartQA, human and augmented", "`SPLIT/SPLIT_human.json`, `SPLIT/SPLIT_augmented.json`, `SPLIT/png/`",
        "vis-nlp/ChartQA @ 044eabf, README.md; @ 3dab8e8, ChartQA Dataset/val/val_human.json",
        charts.read_chartqa, charts.from_chartqa, VQA,
    ),
    Adapter(
        "ai2d", "AI2D, science diagrams", "`questions/`, `annotations/`, `images/`; `ai2d_test_ids.csv` of gs://pix2struct-data",
        "google-research/pix2struct @ 42e2427, pix2struct/preprocessing/convert_ai2d.py; "
        "google-research/big_vision @ 11eea57, big_vision/datasets/ai2d/ai2d.py",
        charts.read_ai2d, charts.from_ai2d, ("multiple_choice",),
    ),
    Adapter(
        "grit", "GRIT, the most boxes and none nested", f"{IMG2DATASET}, with `noun_chunks` and `ref_exps`, without borders",
        "microsoft/unilm @ 033e233, kosmos-2/README.md; https://huggingface.co/datasets/zzliang/GRIT",
        regions.read_grit, regions.from_grit, ("grounded_caption", *PLACES), regions.FRACTIONS, regions.grit_boxes,
    ),
    Adapter(
        "vg_regions", "Visual Genome's region descriptions", f"`region_descriptions.json`, {VG_FILES}", VISUAL_GENOME,
        regions.read_vg_regions, regions.from_vg_regions, PLACES, regions.PIXELS, regions.vg_boxes,
    ),
    Adapter(
        "refcoco", "RefCOCO", REFER_FILES, REFER,
        regions.read_refcoco, regions.from_refcoco, PLACES, regions.PIXELS, regions.refcoco_boxes,
    ),
    Adapter(
        "refcoco+", "RefCOCO+", REFER_FILES, REFER,
        regions.read_refcoco, regions.from_refcoco_plus, PLACES, regions.PIXELS, regions.refcoco_boxes,
    ),
    Adapter(
        "refcocog", "RefCOCOg", REFER_FILES, REFER,
        regions.read_refcoco, regions.from_refcocog, PLACES, regions.PIXELS, regions.refcoco_boxes,
    ),
    Adapter(
        "synthdog", "SynthDoG, pages of text", "`SPLIT/metadata.jsonl`, the pictures beside it",
        "clovaai/donut @ 4cfcf97, synthdog/template.py and README.md", ocr.read_synthdog, ocr.from_synthdog, ("ocr",),
    ),
)  # fmt: skip

ADAPTERS: dict[str, Adapter] = {adapter.name: adapter for adapter in (*_ROWS, *ROWS)}


def adapter_named(name: str) -> Adapter:
    """Raises AdapterError with the nearest name."""
    if name not in ADAPTERS:
        close = difflib.get_close_matches(name, ADAPTERS, n=1)
        advice = f"did you mean {close[0]!r}?" if close else "`qwenvl data adapters` lists them"
        raise AdapterError(f"no adapter {name!r}; {advice}")
    return ADAPTERS[name]


def markdown() -> str:
    """The table of docs/data_adapters.md."""
    lines = ["| adapter | data | files | tasks | boxes | schema read in |", "|---|---|---|---|---|---|"]
    for one in ADAPTERS.values():
        tasks = ", ".join(f"`{task}`" for task in one.tasks)
        lines.append(f"| `{one.name}` | {one.description} | {one.files} | {tasks} | {one.convention or ''} | {one.source} |")
    return "\n".join(lines) + "\n"
