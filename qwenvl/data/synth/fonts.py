"""Fonts, read from Debian packages at run time: the allow-list of scenes, and glyphs and words of any face as cached masks.

The faces of pages of text are in text/scripts.py. No font file belongs to this project. Licences of the scenes' fonts, from each
package's copyright file: DejaVu - Bitstream Vera's, changes in the public domain; Roboto, Roboto Slab, Open Sans, Caladea, Droid
Sans Fallback - Apache-2.0; Arimo, Tinos, Cousine, Carlito, Lato, Inter, Noto Color Emoji - OFL-1.1. Fonts under the GPL are left
out of scenes, whatever their exceptions: weights trained on their pictures are published.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import PIL
from PIL import Image, ImageFont, features

from qwenvl.data.synth.names import CLDR_FOLDER, CLDR_PACKAGE
from qwenvl.types import QwenVLError

FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/share/fonts-droid-fallback"), Path("/usr/share/texmf/fonts"))

INK = 24
"""Opacity (of 255) from which a pixel counts as ink. Fainter edges are not drawn at all, so that boxes match what is seen."""


class FontError(QwenVLError, LookupError):
    """A font that is absent, or lacks a character that it is asked for."""


@dataclass(frozen=True, slots=True)
class Face:
    """One font of the allow-list; `index` is its place in a collection (.ttc)."""

    family: str
    file: str
    package: str
    index: int = 0


def _faces(family: str, package: str, *files: str) -> tuple[Face, ...]:
    return tuple(Face(family, file, package) for file in files)


# Drawn families; a family is picked first and then one of its faces, so that many weights do not make a family frequent.
LATIN: tuple[tuple[Face, ...], ...] = (
    _faces("DejaVu Sans", "fonts-dejavu-core", "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    _faces("DejaVu Sans Mono", "fonts-dejavu-core", "DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"),
    _faces("Arimo", "fonts-croscore", "Arimo-Regular.ttf", "Arimo-Bold.ttf", "Arimo-BoldItalic.ttf"),
    _faces("Tinos", "fonts-croscore", "Tinos-Regular.ttf", "Tinos-Bold.ttf", "Tinos-BoldItalic.ttf"),
    _faces("Cousine", "fonts-croscore", "Cousine-Regular.ttf", "Cousine-Bold.ttf"),
    _faces("Carlito", "fonts-crosextra-carlito", "Carlito-Regular.ttf", "Carlito-Bold.ttf"),
    _faces("Caladea", "fonts-crosextra-caladea", "Caladea-Regular.ttf", "Caladea-Bold.ttf"),
    _faces("Roboto Slab", "fonts-roboto-slab", "RobotoSlab-Regular.otf", "RobotoSlab-Bold.otf"),
    _faces("Roboto", "fonts-roboto-unhinted", "Roboto-Regular.ttf", "Roboto-Medium.ttf", "Roboto-Black.ttf"),
    _faces("Roboto Condensed", "fonts-roboto-unhinted", "RobotoCondensed-Regular.ttf", "RobotoCondensed-Bold.ttf"),
    _faces("Open Sans", "fonts-open-sans", "OpenSans-Regular.ttf", "OpenSans-Semibold.ttf", "OpenSans-ExtraBold.ttf"),
    _faces("Lato", "fonts-lato", "Lato-Regular.ttf", "Lato-Bold.ttf", "Lato-Black.ttf"),
    _faces("Inter", "fonts-inter", "Inter-Regular.otf", "Inter-SemiBold.otf", "Inter-ExtraBold.otf"),
)
HELD_OUT: tuple[Face, ...] = _faces("DejaVu Serif", "fonts-dejavu-core", "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf")
"""The family that no training scene shows."""
CHINESE: tuple[Face, ...] = _faces("Droid Sans Fallback", "fonts-droid-fallback", "DroidSansFallbackFull.ttf")
EMOJI_FACE = Face("Noto Color Emoji", "NotoColorEmoji.ttf", "fonts-noto-color-emoji")
EMOJI_SIZE = 109
"""The only size of Noto Color Emoji's bitmaps (CBDT strikes of 136 x 128 pixels)."""

ALL_FACES: tuple[Face, ...] = (*(face for family in LATIN for face in family), *HELD_OUT, *CHINESE, EMOJI_FACE)


@dataclass(frozen=True, slots=True)
class Glyph:
    """A character or word as drawn: its mask cropped to the ink, where it starts from the pen on the baseline, and the advance."""

    mask: Image.Image
    left: int
    top: int
    advance: float


@cache
def _installed() -> dict[str, Path]:
    """File name -> path of every font file below the system's font folders."""
    found: dict[str, Path] = {}
    for folder in FONT_FOLDERS:
        for parent, _, files in os.walk(folder):
            found |= {name: Path(parent) / name for name in files}
    return found


def require(faces: Iterable[Face] = ALL_FACES) -> None:
    """Raise FontError, one line with the apt-get command, unless every face is installed."""
    missing = [face for face in faces if face.file not in _installed()]
    if missing:
        packages = " ".join(sorted({face.package for face in missing}))
        names = ", ".join(sorted({face.family for face in missing}))
        raise FontError(f"fonts are not installed ({names}); run: apt-get install {packages}")


def path_of(face: Face) -> Path:
    require((face,))
    return _installed()[face.file]


@lru_cache(maxsize=256)
def font(face: Face, size: int, shaped: bool = False) -> ImageFont.FreeTypeFont:
    """A face at a size in pixels; `shaped` by HarfBuzz, which ligatures, kerning and Arabic need."""
    engine = ImageFont.Layout.RAQM if shaped else ImageFont.Layout.BASIC
    return ImageFont.truetype(str(path_of(face)), size, index=face.index, layout_engine=engine)


@lru_cache(maxsize=65536)
def glyph(face: Face, size: int, character: str) -> Glyph:
    """One character's mask at a size in pixels. Raises FontError if the font lacks the character."""
    return draw(face, size, character)


def draw(face: Face, size: int, text: str, direction: Literal["ltr", "rtl"] | None = None) -> Glyph:
    """The mask of a character or word at a size in pixels; with a direction its letters are shaped together.

    Raises FontError if the font lacks one of them.
    """
    if missing := lacking(face, text):
        points = ", ".join(f"U+{ord(character):04X}" for character in missing)
        raise FontError(f"{face.family} has no glyph for {missing!r} ({points}); draw it with another font")
    drawn = font(face, size, shaped=direction is not None)
    mask, (left, top) = drawn.getmask2(text, "L", direction=direction, anchor="ls")
    image = clean(Image.frombytes("L", mask.size, bytes(mask)))
    box = image.getbbox() or (0, 0, 1, 1)
    return Glyph(image.crop(box), left + box[0], top + box[1], drawn.getlength(text, direction=direction))


def lacking(face: Face, text: str) -> str:
    """The characters of a text that the font does not draw, each once."""
    return "".join(character for character in dict.fromkeys(text) if not has(face, character))


@cache
def has(face: Face, character: str) -> bool:
    """Whether the font draws the character as itself: its picture is neither empty nor the font's "missing" box."""
    picture = bytes(font(face, 32).getmask(character))
    return any(picture) and picture != _missing(face)


@cache
def _missing(face: Face) -> bytes:
    """What the font draws for a character that no font has."""
    return bytes(font(face, 32).getmask("\U0010ffff"))


def clean(mask: Image.Image) -> Image.Image:
    """The mask without the faint edge that would not count as ink."""
    levels = np.asarray(mask)
    return Image.fromarray(levels * (levels >= INK))


def versions() -> dict[str, str]:
    """What the pictures and names of scenes were drawn from, to be recorded beside a score: Debian package versions, and a digest
    of every font file, since a file may have come another way. Absent parts are reported as "absent"."""
    packages = sorted({face.package for face in ALL_FACES} | {CLDR_PACKAGE})
    found = {package: _package_version(package) for package in packages}
    found["pillow"] = PIL.__version__
    found["freetype"] = features.version("freetype2") or "absent"
    sources = [_installed().get(face.file) for face in ALL_FACES] + [CLDR_FOLDER / "en.xml", CLDR_FOLDER / "zh.xml"]
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes() if path is not None and path.is_file() else b"absent")
    found["files"] = digest.hexdigest()[:16]
    return found


def _package_version(package: str) -> str:
    command = ["dpkg-query", "--show", "--showformat=${Version}", package]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout or "absent"
    except (OSError, subprocess.CalledProcessError):
        return "absent"
