"""One sentence about a picture: NoCaps and Flickr30K (arXiv 2308.12966, Table 4), and in Chinese Flickr30k-CN and COCO-CN.

The published script takes its examples for Flickr30K from the test set itself, and any of a picture's captions; here they come from
the training set, with the first. NoCaps has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from qwenvl.data.adapters.files import find, picture, rows, whole
from qwenvl.data.formats import CAPTION_PROMPT
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.peers import LMMS, QWEN_VL
from qwenvl.eval.schema import of_schema
from qwenvl.eval.scorers.captions import caption_scores
from qwenvl.eval.scorers.chinese import Cutter, written_words
from qwenvl.eval.scorers.ptb import tokenize
from qwenvl.eval.submission import json_list
from qwenvl.eval.task import Decoding, EvaluationError
from qwenvl.eval.tasks.vqa import COCO
from qwenvl.types import ImagePart

COCO_CAPTION = "salaniz/pycocoevalcap @ ad63453, eval.py"
AS_PUBLISHED = Decoding(max_new_tokens=30, min_new_tokens=8)

ENGLISH = {
    "paper": Prompt("Describe the image in English:", f"{QWEN_VL}/evaluate_caption.py", AS_PUBLISHED),
    "chat": Prompt(
        "Provide a one-sentence caption for the provided image.",
        f"{LMMS}/nocaps/_default_template_nocaps_yaml and nocaps_val.yaml, flickr30k/utils.py and flickr30k_test.yaml",
        Decoding(max_new_tokens=64),
        style="chat",
    ),
}
CHINESE = {
    "ours": Prompt(CAPTION_PROMPT["zh"], "ours (qwenvl/data/formats.py): no evaluation in Chinese was published", AS_PUBLISHED),
    "chat": Prompt("请用一句话描述这张图片。", "ours: none was published", Decoding(max_new_tokens=64), style="chat"),
}


def _truth(id: str, place: int, references: Sequence[str]) -> dict[str, object]:
    """Without references where they are withheld. place: in the order of the files, in which captions are made words."""
    return {"place": place, "image_id": id} | ({"references": list(references)} if references else {})


def read_nocaps(folder: Path, split: str) -> Iterator[Item]:
    """Pictures of Open Images by their names; of test only what is known of them."""
    [file] = find(folder, *(f"{where}nocaps_{NOCAPS_FILES[split]}.json" for where in ("", "annotations/")))
    content = whole(file)
    captions: dict[int, list[str]] = {}
    for caption in content.get("annotations", []) if split == "val" else []:
        with of_schema(str(file)):
            captions.setdefault(caption["image_id"], []).append(caption["caption"])
    for place, image in enumerate(rows(file, "images")):
        with of_schema(f"{file}, image {place + 1}"):
            id, name = str(image["id"]), image["file_name"]
            path = picture(folder, f"images/{name}", f"{split}/{name}", f"images/{split}/{name}", name, id=id)
            if split == "val" and image["id"] not in captions:
                raise EvaluationError(f"{file}: image {id} has no caption; fetch nocaps_val_4500_captions.json again")
            own = captions.get(image["id"], [""])
            truth = _truth(id, place, own if split == "val" else [])
            yield Item(id, {}, (ImagePart(path),), own[0], truth, group=image.get("domain", ""))


NOCAPS_FILES = {"val": "val_4500_captions", "test": "test_image_info"}


def read_flickr30k(folder: Path, split: str) -> Iterator[Item]:
    """Karpathy's split."""
    [file] = find(folder, "dataset_flickr30k.json", "*/dataset_flickr30k.json")
    for place, image in enumerate(rows(file, "images")):
        with of_schema(f"{file}, image {place + 1}"):
            if image["split"] == split:
                name = image["filename"]
                path = picture(folder, *(form.format(name) for form in FLICKR), id=name)
                id, own = str(image["imgid"]), [sentence["raw"] for sentence in image["sentences"]]
                yield Item(id, {}, (ImagePart(path),), own[0], _truth(id, place, own))


FLICKR = ("flickr30k-images/{}", "images/{}", "flickr30k_images/{}", "../flickr30k/flickr30k-images/{}")
"""Where the photographs of Flickr30K may lie."""
FLICKR_CN = {"test": "flickr30kzhmbosontest", "val": "flickr30kzhbbosonval", "train": "flickr30kzhbbosontrain"}
"""Of test people have translated the captions, of the others a machine."""


def read_flickr30k_cn(folder: Path, split: str) -> Iterator[Item]:
    """Lines of IMAGE#KIND#N and words, with parts of speech behind them in test, by the list of the split's images."""
    name = FLICKR_CN[split]
    [images] = find(folder, f"{name}/ImageSets/{name}.txt", f"*/{name}/ImageSets/{name}.txt")
    captions = _cut_captions(images.parent.parent / "TextData" / f"seg.{name}.caption.txt")
    for place, id in enumerate(images.read_text(encoding="utf-8").split()):
        yield _chinese(id, picture(folder, *(form.format(f"{id}.jpg") for form in FLICKR), id=id), captions, place, images)


def read_coco_cn(folder: Path, split: str) -> Iterator[Item]:
    """Test: the annotations that the authors score by. Train, for examples: the captions that people wrote, which are not cut."""
    if split == "test":
        [file] = find(folder, "merged_captions_coco-cn_test.json", "*/merged_captions_coco-cn_test.json")
        names = {image["id"]: Path(image["file_name"]).stem for image in rows(file, "images")}
        merged: dict[str, list[str]] = {}
        for caption in rows(file, "annotations"):
            with of_schema(str(file)):
                merged.setdefault(names[caption["image_id"]], []).append(written_words(caption["caption"]))
        listed, captions = list(names.values()), merged
    else:
        [file] = find(folder, f"coco-cn_{split}.txt", f"*/coco-cn_{split}.txt")
        listed = file.read_text(encoding="utf-8").split()
        captions = _captions(file.with_name("imageid.human-written-caption.txt"))
    for place, id in enumerate(listed):
        path = picture(folder, *(form.format(id.split("_")[1], f"{id}.jpg") for form in COCO), id=id)
        yield _chinese(id, path, captions, place, file)


def _cut_captions(file: Path) -> dict[str, list[str]]:
    return {id: [written_words(line) for line in lines] for id, lines in _captions(file).items()}


def _captions(file: Path) -> dict[str, list[str]]:
    """Image -> what stands behind IMAGE#… on its lines."""
    found: dict[str, list[str]] = {}
    for line in find(file.parent, file.name)[0].read_text(encoding="utf-8-sig").splitlines():
        key, _, text = line.strip().replace("\t", " ", 1).partition(" ")
        if text.strip():
            found.setdefault(key.partition("#")[0], []).append(text.strip())
    return found


def _chinese(id: str, path: str, captions: Mapping[str, Sequence[str]], place: int, file: Path) -> Item:
    if id not in captions:
        raise EvaluationError(f"{file}: image {id} has no caption; fetch the captions of this split again")
    own = captions[id]
    return Item(id, {}, (ImagePart(path),), "".join(own[0].split()), _truth(id, place, own), language="zh")


def _own_words(replies: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """References as they are cut, and replies cut like them."""
    cutter = Cutter(reference for own in references for reference in own)
    return [cutter.cut(reply) for reply in replies], [list(own) for own in references]


def _own_words_by_ptb(replies: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """And through the English tokenizer, as COCO-CN's authors have it."""
    said, own = _own_words(replies, references)
    rest = iter(tokenize([reference for one in own for reference in one]))
    return tokenize(said), [[next(rest) for _ in one] for one in own]


BENCHMARKS: dict[str, Benchmark] = {
    "nocaps": Benchmark(
        "nocaps", "NoCaps",
        "nocaps_val_4500_captions.json from nocaps.s3.amazonaws.com (for test nocaps_test_image_info.json of nocaps.org/download) "
        "in the folder; the pictures, of Open Images, by their names in images, or in val and test.",
        f"{COCO_CAPTION}; files: nocaps.org/download, open-mmlab/mmpretrain @ ee7f2e8, mmpretrain/datasets/nocaps.py",
        {"val": Split(("**/nocaps_val_4500_captions.json",)), "test": Split(("**/nocaps_test_image_info.json",), answers=False)},
        ENGLISH, read_nocaps, "cider", pool=caption_scores(),
        submit=json_list("nocaps_{split}.json", lambda one: {"image_id": int(one.truth["image_id"]), "caption": one.reply.strip()}),
    ),
    "flickr30k": Benchmark(
        "flickr30k", "Flickr30K",
        "dataset_flickr30k.json of Karpathy's split (cs.stanford.edu/people/karpathy/deepimagesent) in the folder, with the "
        "photographs of Flickr30K, asked for at bryanplummer.com/Flickr30kEntities, in flickr30k-images.",
        f"{COCO_CAPTION}; files: open-mmlab/mmpretrain @ ee7f2e8, tools/dataset_converters/convert_flickr30k_ann.py",
        {
            split: Split(("**/dataset_flickr30k.json",), shots=None if split == "train" else "train")
            for split in ("test", "val", "train")
        },
        ENGLISH, read_flickr30k, "cider", pool=caption_scores(),
    ),
    "flickr30k_cn": Benchmark(
        "flickr30k_cn", "Flickr30k-CN",
        "flickr30k-cn.tar.gz, linked in github.com/li-xirong/cross-lingual-cap, unpacked into the folder (flickr30kzhmbosontest, "
        "flickr30kzhbbosontrain), with the photographs of Flickr30K in flickr30k-images.",
        "weiyuk/fluent-cap @ b364fcd, eval.py and text.py; see qwenvl/eval/scorers/chinese.py",
        {
            split: Split(
                (f"**/{name}/ImageSets/{name}.txt", f"**/{name}/TextData/seg.{name}.caption.txt"),
                shots=None if split == "train" else "train",
            )
            for split, name in FLICKR_CN.items()
        },
        CHINESE, read_flickr30k_cn, "cider", pool=caption_scores(_own_words),
    ),
    "coco_cn": Benchmark(
        "coco_cn", "COCO-CN",
        "merged_captions_coco-cn_test.json (kept in github.com/evanmiltenburg/COCO-CN-Results-Viewer, Data/COCO); for examples "
        "also coco-cn-version1805v1.1.tar.gz from the hub's AIMClab-RUC/COCO-CN, unpacked; COCO's train2014 and val2014 pictures.",
        "li-xirong/coco-cn @ 22b218e, code/coco-cn_caption (README.md, eval_utils.py, evals); see qwenvl/eval/scorers/chinese.py",
        {
            "test": Split(("**/merged_captions_coco-cn_test.json",), shots="train"),
            "train": Split(("**/coco-cn_train.txt", "**/imageid.human-written-caption.txt")),
        },
        CHINESE, read_coco_cn, "cider", pool=caption_scores(_own_words_by_ptb),
    ),
}  # fmt: skip
