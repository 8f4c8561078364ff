"""How well a text fits its picture, as a number: by a CLIP of the user's, or by whatever the caller passes in.

Nothing is loaded until a scorer is made, and a scorer is made in the process that uses it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH = 64
"""Pairs that are scored together, in the order of their rows, so that the same shard always gives the same batches."""


class ScorerError(QwenVLError, ValueError):
    """A scorer that cannot be made: unknown kind, no such folder, a package that is missing."""


class Scorer(Protocol):
    def score(self, pictures: Sequence[Image], texts: Sequence[str]) -> np.ndarray:
        """(n,) float32, the higher the better, of n pairs of an RGB picture and a text; NaN for a pair that it does not take."""
        ...


ScorerFactory = Callable[[], Scorer]
"""Makes the scorer in a worker's process: it has to be picklable."""


def scorer_factory(spec: str, likelihood: Callable[[str], Scorer] | None = None) -> ScorerFactory:
    """The scorer that `spec` asks for: `clip:FOLDER`, `open_clip:FOLDER`, or `model:NAME`, which `likelihood` makes of the name.

    Raises ScorerError for an unknown kind or a folder that is not there; a scorer whose package is missing says so when it is made.
    """
    kind, _, name = spec.partition(":")
    if kind == "model" and likelihood is not None and name:
        return functools.partial(likelihood, name)
    known: dict[str, Callable[[str], Scorer]] = {"clip": TransformersClip, "open_clip": OpenClip}
    if kind not in known or not name:
        raise ScorerError(f"scorer {spec!r}: give clip:FOLDER, open_clip:FOLDER or model:NAME")
    if not Path(name).is_dir():
        raise ScorerError(f"scorer {spec!r}: no such folder; models are not downloaded here")
    return functools.partial(known[kind], name)


class TransformersClip:
    """Cosine of picture and text in a folder of transformers: CLIPModel, ChineseCLIPModel, AltCLIPModel, ..."""

    def __init__(self, folder: str) -> None:
        try:
            from transformers import AutoModel, AutoProcessor
        except ImportError:
            raise ScorerError("scorer clip: needs transformers; pip install transformers") from None
        try:
            self.processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
            self.model: Any = AutoModel.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ScorerError(f"scorer clip:{folder}: cannot be loaded ({_first_line(error)})") from error
        self.device = _device()
        self.model.to(self.device).eval()

    def score(self, pictures: Sequence[Image], texts: Sequence[str]) -> np.ndarray:
        import torch

        inputs = self.processor(text=list(texts), images=list(pictures), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            out = self.model(**inputs.to(self.device))
        return _cosines(out.image_embeds, out.text_embeds)


class OpenClip:
    """Cosine of picture and text in a folder of open_clip, with its open_clip_config.json (schema `local-dir:`)."""

    def __init__(self, folder: str) -> None:
        try:
            open_clip: Any = importlib.import_module("open_clip")
        except ImportError:
            raise ScorerError("scorer open_clip: needs open_clip; pip install open_clip_torch") from None
        name = f"local-dir:{folder}"
        try:
            self.model, self.preprocess = open_clip.create_model_from_pretrained(name)
            self.tokenize = open_clip.get_tokenizer(name)
        except (OSError, ValueError, RuntimeError) as error:
            raise ScorerError(f"scorer open_clip:{folder}: cannot be loaded ({_first_line(error)})") from error
        self.device = _device()
        self.model.to(self.device).eval()

    def score(self, pictures: Sequence[Image], texts: Sequence[str]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            images = self.model.encode_image(torch.stack([self.preprocess(picture) for picture in pictures]).to(self.device))
            return _cosines(images, self.model.encode_text(self.tokenize(list(texts)).to(self.device)))


def _cosines(images: Any, texts: Any) -> np.ndarray:
    from torch.nn.functional import cosine_similarity

    return cosine_similarity(images.float(), texts.float(), dim=-1).cpu().numpy()


def _device() -> Any:
    """A GPU if there is one. On the CPU one thread: workers share the cores, and sums have one order."""
    from qwenvl.runtime import resolve_device, set_threads

    device = resolve_device()
    if device.type == "cpu":
        set_threads(1)
    return device


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
