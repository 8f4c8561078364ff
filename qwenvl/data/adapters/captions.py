"""Pictures with a caption: web collections as img2dataset leaves them, SBU, COCO captions.

Captions are kept as they are: special tags, patterns and several captions of one picture are for `qwenvl data clean`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.files import as_mapping, decoded, find, joined, picture, rows
from qwenvl.data.sources import BadSample, Record, SourceError, records
from qwenvl.types import Sample

IMG2DATASET = "what img2dataset wrote: tars, folders of files, or Parquet with pictures"
WRITER = "rom1504/img2dataset @ 95523bc, img2dataset/writer.py"

PICTURES = ("jpg", "jpeg", "png", "webp")
"""What img2dataset names pictures by (`encode_format`), and the columns it puts them into."""


def read_img2dataset(folder: Path) -> Iterator[Record]:
    """What img2dataset has downloaded, whichever of its output formats: as records of its tars.

    webdataset: tars of KEY.jpg, KEY.txt, KEY.json; files: folders of the same; parquet: tables with the picture as a column. The
    tables beside tars and folders hold no pictures and are passed over.
    Read from img2dataset/writer.py and img2dataset/downloader.py, rom1504/img2dataset @ 95523bc.
    """
    if tars := sorted(folder.glob("*.tar")):
        for tar in tars:
            yield from records(tar)
    elif files := sorted(folder.glob("[0-9]*/*.json")):
        yield from map(_of_files, files)
    else:
        for table in find(folder, "*.parquet"):
            for row in records(table):
                column = next((name for name in PICTURES if name in row), None)
                if column is None:
                    raise SourceError(f"{table}: has no pictures, only what is known of them; download them with img2dataset")
                yield {"__key__": row.get("key"), column: row.pop(column), "json": row}


def _of_files(file: Path) -> Record:
    text = file.with_suffix(".txt")
    found = {name: str(file.with_suffix(f".{name}")) for name in PICTURES if file.with_suffix(f".{name}").is_file()}
    caption = {"txt": text.read_bytes()} if text.is_file() else {}
    return {"__key__": file.stem, "json": file.read_bytes(), **caption, **found}


def downloaded(record: Record, source: str) -> tuple[str, bytes | str, Record]:
    """Id, picture and metadata of a record of `read_img2dataset`. Raises BadSample for what was not downloaded."""
    about = dict(as_mapping(record["json"])) if "json" in record else {}
    id = f"{source} {record['__key__']}"
    image = next((record[name] for name in PICTURES if record.get(name) is not None), None)
    if image is None or about.get("status", "success") != "success":
        raise BadSample(id, f"not downloaded: {about.get('error_message') or about.get('status') or 'there is no picture'}")
    return id, image, about


def _web_pair(record: Record, source: str, caption: str = "caption", kept: tuple[str, ...] = ()) -> list[Sample]:
    """A picture and the text of column `caption`; `kept` are columns that cleaning may want, in `extra`."""
    id, image, about = downloaded(record, source)
    text = about.get(caption)
    if text is None and caption == "caption":
        text = decoded(record.get("txt"))
    extra = {name: about.get(name) for name in ("url", *kept)}
    return [samples.caption(image, text, id=id, source=source, **extra)]


# Columns that the download commands keep (save_additional_columns): dataset_examples/{laion400m,laion5B,laion-coco,coyo-700m}.md of
# rom1504/img2dataset @ 95523bc; download_upstream.py of mlfoundations/datacomp @ 4a8df19.


def from_laion(record: Record, root: Path) -> list[Sample]:
    return _web_pair(record, "laion", kept=("similarity", "NSFW", "punsafe", "pwatermark"))


def from_laion_coco(record: Record, root: Path) -> list[Sample]:
    """The synthetic caption, not the web's."""
    return _web_pair(record, "laion_coco", "top_caption", ("similarity", "punsafe", "pwatermark"))


def from_coyo(record: Record, root: Path) -> list[Sample]:
    scores = ("clip_similarity_vitb32", "clip_similarity_vitl14", "nsfw_score_opennsfw2", "nsfw_score_gantman", "watermark_score")
    return _web_pair(record, "coyo", kept=(*scores, "aesthetic_score_laion_v2"))


def from_datacomp(record: Record, root: Path) -> list[Sample]:
    return _web_pair(record, "datacomp", kept=("uid",))


def from_cc3m(record: Record, root: Path) -> list[Sample]:
    return _web_pair(record, "cc3m")


def from_cc12m(record: Record, root: Path) -> list[Sample]:
    return _web_pair(record, "cc12m")


SBU = "SBU_captioned_photo_dataset_{}.txt"


def read_sbu(folder: Path) -> Iterator[Record]:
    """The two lists of the archive, with the photographs beside them by the names that their addresses end in; or img2dataset.

    Addresses whose photograph is not there are passed over: many are gone from the web. Read from torchvision/datasets/sbu.py,
    pytorch/vision @ 0773175.
    """
    lists = sorted(folder.glob(f"**/{SBU.format('urls')}"))
    if not lists:
        yield from read_img2dataset(folder)
        return
    addresses = lists[0].read_text(encoding="utf-8").splitlines()
    captions = lists[0].with_name(SBU.format("captions")).read_text(encoding="utf-8").splitlines()
    if len(addresses) != len(captions):
        raise SourceError(f"{lists[0]}: {len(addresses)} addresses but {len(captions)} captions; fetch both lists again")
    for url, caption in zip(addresses, captions, strict=True):
        photo = lists[0].with_name(url.rpartition("/")[2])
        if photo.is_file():
            yield {"__key__": photo.stem, "jpg": str(photo), "json": {"url": url, "caption": caption}}


def from_sbu(record: Record, root: Path) -> list[Sample]:
    return _web_pair(record, "sbu")


def read_coco_captions(folder: Path) -> Iterator[Record]:
    """Every annotation of annotations/captions_SPLIT.json with its image."""
    for file in find(folder, "annotations/captions_*.json", "captions_*.json"):
        split = file.stem.removeprefix("captions_")
        images = [{"image_id": image.get("id"), **image} for image in rows(file, "images")]
        for record in joined(rows(file, "annotations"), images, "image_id", ("annotation", "image")):
            yield {**record, "split": split}


def from_coco_captions(record: Record, root: Path) -> list[Sample]:
    """One Sample for each caption; a picture has about five."""
    annotation, image, split = record["annotation"], record["image"], record["split"]
    id, name = f"coco_captions {annotation['id']}", image["file_name"]
    path = picture(root, f"{split}/{name}", f"images/{split}/{name}", f"images/{name}", id=id)
    about = {"image_id": image["id"], "split": split.rstrip("0123456789")}
    return [samples.caption(path, annotation["caption"], id=id, source="coco_captions", **about)]
