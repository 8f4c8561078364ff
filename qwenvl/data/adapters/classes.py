"""What a picture shows, by name: folders of classes, and Wikipedia's pictures with the titles of their pages.

Asked in English and in Chinese, in words of ours, wherever there is a name in the language.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.captions import downloaded, read_img2dataset
from qwenvl.data.clean.text import language_of
from qwenvl.data.sources import BadSample, Record, SourceError, records
from qwenvl.data.synth.names import Language
from qwenvl.types import Sample

CLASS_QUESTION: dict[Language, str] = {"en": "What is the main object in the picture?", "zh": "图中的主要物体是什么？"}
ENTITY_QUESTION: dict[Language, str] = {"en": "What is shown in the picture? Give its name.", "zh": "图中是什么？请说出名称。"}

SPLITS = ("train", "val", "test")
NAMES = "classes.csv"
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""IMG_EXTENSIONS of torchvision/datasets/folder.py."""


def read_image_folder(folder: Path) -> Iterator[Record]:
    """CLASS/**/PICTURE, below train/, val/ and test/ where there are such.

    What a class is called stands in classes.csv (columns folder, en, zh, either of which may be empty); otherwise its folder says.
    """
    names = {row["folder"]: row for row in records(folder / NAMES)} if (folder / NAMES).is_file() else {}
    splits: list[str | None] = [split for split in SPLITS if (folder / split).is_dir()]
    found = False
    for split in splits or [None]:
        root = folder / (split or "")
        for place in sorted(path for path in root.iterdir() if path.is_dir()):
            for file in sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES):
                found = True
                yield {"path": str(file.relative_to(folder)), "class": place.name, "split": split, "names": names.get(place.name)}
    if not found:
        raise SourceError(f"{folder}: no CLASS/PICTURE there; give the folder that holds a folder for every class")


def from_image_folder(record: Record, root: Path) -> list[Sample]:
    id, path = f"image_folder {record['path']}", str(root / record["path"])
    names: dict[Language, str] = {language: (record["names"] or {}).get(language) or "" for language in CLASS_QUESTION}
    if not any(names.values()):
        name = record["class"].replace("_", " ")
        names[language_of(name)] = name
    about: dict[str, Any] = {"source": "image_folder", "task": "classification", "split": record["split"], "label": record["class"]}
    asked = [(language, name) for language, name in names.items() if name]
    return [samples.question(path, CLASS_QUESTION[language], name, id=f"{id} {language}", **about) for language, name in asked]


def from_wit(record: Record, root: Path) -> list[Sample]:
    """The title of a page names what its main picture shows. Other pictures, and pages in other languages, are refused."""
    id, image, about = downloaded(record, "wit")
    language = about["language"].partition("-")[0]
    if language not in ENTITY_QUESTION:
        raise BadSample(id, f"its page is in {about['language']!r}, neither English nor Chinese")
    if str(about["is_main_image"]).lower() != "true":
        raise BadSample(id, "not the main picture of its page, whose title does not name it")
    more: dict[str, Any] = {"source": "wit", "task": "entity", "url": about.get("page_url")}
    return [samples.question(image, ENTITY_QUESTION[language], about["page_title"], id=id, **more)]


read_wit = read_img2dataset
