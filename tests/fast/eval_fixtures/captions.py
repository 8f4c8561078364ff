"""NoCaps, Flickr30K, Flickr30k-CN and COCO-CN as they are distributed: a few pictures each.

Captions of one picture are alike, and of two pictures have no word in common: the key then gets the most that CIDEr gives, 10.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import save
from tests.fast.eval_fixtures.vqa import write

ENGLISH = ("A baby is standing in front of his house.", "Several green bicycles lean near the old wall.")
CHINESE = ("一个 男人 正在 玩 滑板", "两 只 猫 坐 在 窗台 上")


def build_nocaps(folder: Path) -> None:
    images = [
        {
            "id": number, "open_images_id": f"0013ea208702090{number}", "height": 48, "width": 64, "coco_url": "", "license": 0,
            "file_name": f"0013ea208702090{number}.jpg", "date_captured": "2018-11-06 11:04:33",
        }
        for number in range(2)
    ]  # fmt: skip
    for image in images:
        save(folder / "images" / str(image["file_name"]))
    annotations = [
        {"image_id": image["id"], "id": 10 * number + copy, "caption": ENGLISH[number]}
        for number, image in enumerate(images)
        for copy in range(10)
    ]
    head = {"licenses": [], "info": {"description": "nocaps validation dataset", "year": 2018, "version": "0.1"}}
    write(folder / "nocaps_val_4500_captions.json", {**head, "images": images, "annotations": annotations})
    write(folder / "nocaps_test_image_info.json", {**head, "images": images})


def build_flickr30k(folder: Path) -> None:
    images = []
    for number, split in enumerate(("test", "test", "train", "train", "val")):
        name, caption = f"10000927{number}.jpg", ENGLISH[number % 2]
        sentences = [
            {"tokens": caption.lower().rstrip(".").split(), "raw": caption, "imgid": number, "sentid": 5 * number + copy}
            for copy in range(5)
        ]
        told = {"sentids": [one["sentid"] for one in sentences], "imgid": number, "split": split, "filename": name}
        images.append({**told, "sentences": sentences})
        save(folder / "flickr30k-images" / name)
    write(folder / "dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})


def build_flickr30k_cn(folder: Path) -> None:
    for name, kind, tagged, first in (
        ("flickr30kzhmbosontest", "zhm", True, 1007129816), ("flickr30kzhbbosontrain", "zhb", False, 2007129816),
        ("flickr30kzhbbosonval", "zhb", False, 3007129816),
    ):  # fmt: skip
        ids = [str(first + number) for number in range(2)]
        lines = []
        for id, caption in zip(ids, CHINESE, strict=True):
            words = " ".join(f"{word}:n" for word in caption.split()) if tagged else caption
            lines += [f"{id}#{kind}#{copy} {words}" for copy in range(5)]
            save(folder / "flickr30k-images" / f"{id}.jpg")
        for path, text in ((f"ImageSets/{name}.txt", ids), (f"TextData/seg.{name}.caption.txt", lines)):
            (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / path).write_text("\n".join(text) + "\n", encoding="utf-8")


def build_coco_cn(folder: Path) -> None:
    named = {"COCO_val2014_000000412975.jpg": 8, "COCO_train2014_000000504987.jpg": 20483}
    images: list[dict[str, Any]] = [{"file_name": name, "id": id} for name, id in named.items()]
    annotations = [
        {"source": "cn", "caption": CHINESE[number], "id": 5, "image_id": image["id"]}
        for number, image in enumerate(images)
        for _ in range(6)
    ]
    head = {"info": {}, "licenses": [], "type": "captions"}
    write(folder / "merged_captions_coco-cn_test.json", {**head, "images": images, "annotations": annotations})
    train = ("COCO_train2014_000000000101", "COCO_val2014_000000000102")
    release = folder / "coco-cn-version1805v1.1"
    release.mkdir()
    (release / "coco-cn_train.txt").write_text("\n".join(train) + "\n", encoding="utf-8")
    written = [f"{id}#0\t{caption.replace(' ', '')}" for id, caption in zip(train, CHINESE, strict=True)]
    (release / "imageid.human-written-caption.txt").write_text("\n".join(written) + "\n", encoding="utf-8")
    for name in (*train, *(str(image["file_name"])[:-4] for image in images)):
        save(folder / name.split("_")[1] / f"{name}.jpg")


MOST = {"cider": 10.0, "bleu_1": 1.0, "bleu_4": 1.0, "rouge_l": 1.0}
LEAST = {"cider": 0.0, "bleu_1": 0.0, "bleu_4": 0.0, "rouge_l": 0.0}
FIXTURES: dict[str, Fixture] = {
    "nocaps": Fixture(build_nocaps, "val", MOST, LEAST, questions=2),
    "flickr30k": Fixture(build_flickr30k, "test", MOST, LEAST, questions=2),
    "flickr30k_cn": Fixture(build_flickr30k_cn, "test", MOST, LEAST, questions=2),
    "coco_cn": Fixture(build_coco_cn, "test", MOST, LEAST, questions=2),
}
