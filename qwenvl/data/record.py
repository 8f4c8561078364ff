"""Samples as plain data: one record of strings, lists and {bytes, path} media, for Parquet and JSON, and back without loss.

A record has `id`, `task`, `language`, `source`, `messages` and `extra` (both JSON texts), `images` and `videos` (lists of
{bytes, path}, as the `datasets` library reads them) and `image_sizes` (a [width, height] for each of `images`).

Messages are `[{"role", "parts": [part, ...]}, ...]`; a part is one of

    {"type": "text", "text"}
    {"type": "image", "image": number in `images`, "min_pixels"?, "max_pixels"?}
    {"type": "video", "video": number in `videos`, or "frames": [numbers in `images`], "fps"?, "max_frames"?, ...}
    {"type": "region", "phrase", "regions": [{"kind", "points", "label"?, "image"?}]}
    {"type": "coordinates", "region": {"kind", "points", ...}, "separator"}

A preference pair is stored as a Sample too: its messages are the prompt and the chosen answer, `extra["rejected"]` the parts of
the rejected one, as above and without pictures. Whoever knows nothing of preferences reads a good conversation.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from qwenvl.processing.image import ImageError, describe, picture_size
from qwenvl.types import (
    CoordinatesPart,
    ImagePart,
    Message,
    Part,
    PreferenceSample,
    QwenVLError,
    Region,
    RegionPart,
    Sample,
    StoredPicture,
    TextPart,
    VideoPart,
)

Media = dict[str, Any]
"""{"bytes": the file's content or None, "path": its name or None}."""

VIDEO_OPTIONS = ("fps", "max_frames", "min_pixels", "max_pixels")
IMAGE_OPTIONS = ("min_pixels", "max_pixels")


class RecordError(QwenVLError, ValueError):
    """A record that is no Sample, or a Sample that cannot be stored: the message names its id."""


def sample_to_record(sample: Sample, embed: bool = True) -> dict[str, Any]:
    """A Sample as plain data. `embed`: files are read in, so that the record stands alone; otherwise their paths are kept.

    Raises ImageError for a picture that is not there or not a picture, RecordError for anything else that cannot be stored.
    """
    media = _Media(embed)
    try:
        messages = [{"role": turn.role, "parts": [_part_to_json(part, media) for part in turn.parts]} for turn in sample.messages]
        written, extra = _json(messages), _json(sample.extra)
        check_text(sample)
    except ImageError as error:
        raise ImageError(f"sample {sample.id!r}: {error}") from error
    except RecordError:
        raise
    except (TypeError, ValueError, OSError) as error:
        raise RecordError(f"sample {sample.id!r}: cannot be stored ({error}); extra holds plain data alone") from error
    return {
        "id": sample.id, "task": sample.task, "language": sample.language, "source": sample.source,
        "messages": written, "images": media.images, "image_sizes": media.sizes, "videos": media.videos, "extra": extra,
    }  # fmt: skip


def check_text(sample: Sample) -> None:
    """Raises RecordError for half of a surrogate pair, which UTF-8 cannot write. JSON has them where a text was cut in an emoji."""
    about = (sample.id, sample.task, sample.language, sample.source, _json(sample.extra))
    parts = [part for message in sample.messages for part in message.parts]
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    texts += [part.phrase or "" for part in parts if isinstance(part, RegionPart)]
    texts += [region.label or "" for part in parts if isinstance(part, RegionPart) for region in part.regions]
    try:
        "".join((*about, *texts)).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise RecordError(f"sample {sample.id!r}: a text with half of a character ({half!r}); mend the text") from None


def record_to_sample(record: Mapping[str, Any], root: str | Path | None = None) -> Sample:
    """The Sample of a record. Paths of media that are not embedded are looked for under `root`.

    Raises RecordError naming the id.
    """
    name = record.get("id") or ""
    images, videos = record.get("images") or [], record.get("videos") or []
    try:
        messages = tuple(
            Message(turn["role"], tuple(_part_from_json(part, images, videos, root) for part in turn["parts"]))
            for turn in json.loads(record["messages"])
        )
        extra = json.loads(record.get("extra") or "{}")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RecordError(f"sample {name!r}: not a record of a Sample ({type(error).__name__}: {error}); write it again") from error
    return Sample(messages, name, record.get("task") or "", record.get("language") or "", record.get("source") or "", extra)


def preference_to_sample(pair: PreferenceSample) -> Sample:
    """A pair as the Sample that is stored. Raises RecordError for answers that are not an assistant's, or show pictures."""
    name = f"sample {pair.prompt.id!r}"
    for answer in (pair.chosen, pair.rejected):
        if answer.role != "assistant" or any(isinstance(part, ImagePart | VideoPart) for part in answer.parts):
            raise RecordError(f"{name}: a chosen or rejected answer is the assistant's words and places, without pictures")
    rejected = [_part_to_json(part, _Media(embed=False)) for part in pair.rejected.parts]
    chosen, _ = pair.answered
    return replace(chosen, extra={**chosen.extra, "rejected": rejected})


def sample_to_preference(sample: Sample) -> PreferenceSample:
    """The pair of a Sample that `preference_to_sample` made. Raises RecordError for another one."""
    extra = dict(sample.extra)
    try:
        rejected = Message("assistant", tuple(_part_from_json(part, [], [], None) for part in extra.pop("rejected")))
        prompt = replace(sample, messages=sample.messages[:-1], extra=extra)
        return PreferenceSample(prompt, sample.messages[-1], rejected)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RecordError(f"sample {sample.id!r}: no preference pair ({type(error).__name__}: {error})") from error


@dataclass(slots=True)
class _Media:
    """The media of one record, numbered as they come; the same object, shown twice, is stored once."""

    embed: bool
    images: list[Media] = field(default_factory=list)
    sizes: list[list[int]] = field(default_factory=list)
    videos: list[Media] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)

    def image(self, source: Any) -> int:
        if id(source) not in self.seen:
            stored, size = _store_image(source, self.embed)
            self.seen[id(source)] = len(self.images)
            self.images.append(stored)
            self.sizes.append(list(size))
        return self.seen[id(source)]

    def video(self, source: Any) -> int:
        if isinstance(source, bytes):
            stored: Media = {"bytes": source, "path": None}
        else:
            path = os.fspath(source)
            stored = {"bytes": Path(path).read_bytes() if self.embed else None, "path": path}
        self.videos.append(stored)
        return len(self.videos) - 1


def _store_image(source: Any, embed: bool) -> tuple[Media, tuple[int, int]]:
    """The picture as {bytes, path} and its upright (width, height). One made in memory becomes a PNG file."""
    source = source.read() if isinstance(source, StoredPicture) else source
    if isinstance(source, Image.Image):
        file = io.BytesIO()
        source.save(file, "png", compress_level=1)
        return {"bytes": file.getvalue(), "path": None}, source.size
    size = picture_size(source)
    if isinstance(source, bytes):
        return {"bytes": source, "path": None}, size
    path = os.fspath(source)
    return {"bytes": Path(path).read_bytes() if embed else None, "path": path}, size


def _part_to_json(part: Part, media: _Media) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, RegionPart):
        return {"type": "region", "phrase": part.phrase, "regions": [_region_to_json(region) for region in part.regions]}
    if isinstance(part, CoordinatesPart):
        return {"type": "coordinates", "region": _region_to_json(part.region), "separator": part.separator}
    if isinstance(part, ImagePart):
        return {"type": "image", "image": media.image(part.image)} | _options(part, IMAGE_OPTIONS)
    if isinstance(part.video, list | tuple):
        frames = {"frames": [media.image(frame) for frame in part.video]}
        return {"type": "video"} | frames | _options(part, VIDEO_OPTIONS)
    return {"type": "video", "video": media.video(part.video)} | _options(part, VIDEO_OPTIONS)


def _options(part: ImagePart | VideoPart, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(part, name)) is not None}


def _region_to_json(region: Region) -> dict[str, Any]:
    written: dict[str, Any] = {"kind": region.kind, "points": [list(point) for point in region.points]}
    if region.label is not None:
        written["label"] = region.label
    return written | ({"image": region.image} if region.image else {})


def _part_from_json(part: Mapping[str, Any], images: Sequence[Media], videos: Sequence[Media], root: str | Path | None) -> Part:
    kind = part["type"]
    if kind == "text":
        return TextPart(part["text"])
    if kind == "region":
        return RegionPart(part["phrase"], tuple(_region_from_json(region) for region in part["regions"]))
    if kind == "coordinates":
        return CoordinatesPart(_region_from_json(part["region"]), part["separator"])
    if kind == "image":
        return ImagePart(_media(images[part["image"]], root), **{name: part.get(name) for name in IMAGE_OPTIONS})
    if kind != "video":
        raise ValueError(f"unknown part {kind!r}")
    options = {name: part.get(name) for name in VIDEO_OPTIONS}
    if "frames" in part:
        return VideoPart([_media(images[number], root) for number in part["frames"]], **options)
    return VideoPart(_media(videos[part["video"]], root), **options)


def _region_from_json(region: Mapping[str, Any]) -> Region:
    points = tuple((float(x), float(y)) for x, y in region["points"])
    return Region(region["kind"], points, region.get("label"), region.get("image", 0))


def _media(stored: Media, root: str | Path | None) -> bytes | str:
    if stored["bytes"] is not None:
        return stored["bytes"]
    if stored["path"] is None:
        raise ValueError("a picture or video without bytes and without a path")
    return stored["path"] if root is None else os.path.join(root, stored["path"])


def _json(value: Any) -> str:
    """Compact JSON; numbers of numpy count as Python's. Raises TypeError for what is not plain data, ValueError for NaN."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{describe(value)} is not plain data")
