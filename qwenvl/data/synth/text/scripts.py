"""Languages of pages of text: which fonts write them, under which licences, and in which direction.

The families are those of Debian packages, allow-listed: some fonts pass a test of ASCII and draw symbols (Standard Symbols PS,
D050000L, Linux Biolinum Keyboard O). English has 41 families and Chinese 13: the paper's data used 41 and 11 (arXiv 2308.12966,
appendix A.4), without naming them. What a font lacks is refused by fonts.draw.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Literal

from PIL import features

from qwenvl.data.synth import fonts
from qwenvl.data.synth.fonts import Face, FontError

Script = Literal["en", "zh", "ja", "ko", "vi", "ru", "ar"]
Family = tuple[Face, ...]

SCRIPTS: tuple[Script, ...] = ("en", "zh", "ja", "ko", "vi", "ru", "ar")
RIGHT_TO_LEFT: frozenset[Script] = frozenset({"ar"})
UNSPACED: frozenset[Script] = frozenset({"zh", "ja"})
"""Written without spaces between words: a line may end after any character."""

TALLEST: dict[Script, str] = {
    "en": "ÅQgj|", "zh": "国|，", "ja": "国ぎ|、", "ko": "뷁|g", "vi": "ẪỂợgj", "ru": "ЙЩрф|", "ar": "إآلججعغقيّ",
}  # fmt: skip
"""Letters that rise and hang as far as any: some fonts' own metrics are too small for them, or plainly wrong (Lemonada's)."""

FIRST_WIDE = "\u2e80"
"""From this character on (CJK radicals) letters neither join nor kern, and each is drawn and kept on its own."""

# Licence of each package's fonts, from its copyright file; of two to choose from, the one that is taken.
LICENCES = {
    "fonts-b612": "OFL-1.1", "fonts-cabin": "OFL-1.1", "fonts-cantarell": "OFL-1.1", "fonts-comfortaa": "OFL-1.1",
    "fonts-courier-prime": "OFL-1.1", "fonts-croscore": "OFL-1.1", "fonts-crosextra-caladea": "Apache-2.0",
    "fonts-crosextra-carlito": "OFL-1.1", "fonts-dejavu-core": "Bitstream-Vera", "fonts-dosis": "OFL-1.1",
    "fonts-ebgaramond": "OFL-1.1", "fonts-freefont-ttf": "GPL-3+ with font exception", "fonts-inter": "OFL-1.1",
    "fonts-jetbrains-mono": "Apache-2.0", "fonts-jura": "OFL-1.1", "fonts-lato": "OFL-1.1",
    "fonts-liberation": "GPL-2 with font exception", "fonts-linuxlibertine": "OFL-1.1", "fonts-lmodern": "GUST-Font-License",
    "fonts-open-sans": "Apache-2.0", "fonts-oxygen": "OFL-1.1", "fonts-quicksand": "OFL-1.1", "fonts-roboto-slab": "Apache-2.0",
    "fonts-roboto-unhinted": "Apache-2.0", "fonts-sora": "OFL-1.1", "fonts-urw-base35": "AGPL-3 with font exception",
    "fonts-vollkorn": "OFL-1.1",
    "fonts-arphic-gbsn00lp": "Arphic-1999", "fonts-arphic-gkai00mp": "Arphic-1999", "fonts-arphic-ukai": "Arphic-1999",
    "fonts-arphic-uming": "Arphic-1999", "fonts-droid-fallback": "Apache-2.0", "fonts-lxgw-wenkai": "OFL-1.1",
    "fonts-noto-cjk": "OFL-1.1", "fonts-smiley-sans": "OFL-1.1", "fonts-wqy-microhei": "GPL-3+ with font exception",
    "fonts-wqy-zenhei": "GPL-2 with font exception",
    "fonts-ipaexfont-gothic": "IPA-1.0", "fonts-ipaexfont-mincho": "IPA-1.0", "fonts-morisawa-bizud-gothic": "OFL-1.1",
    "fonts-morisawa-bizud-mincho": "OFL-1.1", "fonts-nanum": "OFL-1.1", "fonts-hosny-amiri": "OFL-1.1",
    "fonts-lemonada": "OFL-1.1", "fonts-noto-core": "OFL-1.1", "fonts-sil-scheherazade": "OFL-1.1",
}  # fmt: skip


def _family(name: str, package: str, pattern: str, *styles: str, index: int = 0) -> Family:
    """A family of files that differ in one part of their names, "{}" in the pattern."""
    return tuple(Face(name, pattern.format(style), package, index) for style in styles)


def _name(faces: Family) -> str:
    return faces[0].family


_FOUR = ("Regular", "Bold", "Italic", "BoldItalic")
_URW = ("Roman", "Bold", "Italic", "BoldItalic")

ENGLISH: tuple[Family, ...] = (
    *fonts.LATIN,  # without fonts.HELD_OUT: no training page shows it either
    _family("Latin Modern Sans", "fonts-lmodern", "lmsans10-{}.otf", "regular", "bold", "oblique", "boldoblique"),
    _family("Liberation Sans", "fonts-liberation", "LiberationSans-{}.ttf", *_FOUR),
    _family("Liberation Sans Narrow", "fonts-liberation", "LiberationSansNarrow-{}.ttf", *_FOUR),
    _family("Liberation Serif", "fonts-liberation", "LiberationSerif-{}.ttf", *_FOUR),
    _family("Liberation Mono", "fonts-liberation", "LiberationMono-{}.ttf", *_FOUR),
    _family("FreeSans", "fonts-freefont-ttf", "FreeSans{}.ttf", "", "Bold", "Oblique", "BoldOblique"),
    _family("FreeSerif", "fonts-freefont-ttf", "FreeSerif{}.ttf", "", "Bold", "Italic", "BoldItalic"),
    _family("FreeMono", "fonts-freefont-ttf", "FreeMono{}.ttf", "", "Bold", "Oblique", "BoldOblique"),
    _family("Cantarell", "fonts-cantarell", "Cantarell-{}.otf", "Regular", "Bold"),
    _family("Cabin", "fonts-cabin", "Cabin-{}.otf", *_FOUR),
    _family("Dosis", "fonts-dosis", "Dosis-{}.otf", "Book", "Medium", "Bold"),
    _family("Jura", "fonts-jura", "Jura-{}.otf", "Regular", "Medium", "Bold"),
    _family("Oxygen-Sans", "fonts-oxygen", "Oxygen-Sans{}.ttf", "", "-Bold"),
    _family("Quicksand", "fonts-quicksand", "Quicksand-{}.ttf", "Regular", "Bold"),
    _family("Comfortaa", "fonts-comfortaa", "Comfortaa-{}.ttf", "Regular", "Bold"),
    _family("Sora", "fonts-sora", "Sora-{}.otf", "Regular", "SemiBold", "Bold"),
    _family("B612", "fonts-b612", "B612-{}.otf", *_FOUR),
    _family("EB Garamond", "fonts-ebgaramond", "EBGaramond12-{}.otf", "Regular", "Italic"),
    _family("Linux Libertine O", "fonts-linuxlibertine", "LinLibertine_{}.otf", "R", "RB", "RI"),
    _family("Linux Biolinum O", "fonts-linuxlibertine", "LinBiolinum_{}.otf", "R", "RB", "RI"),
    _family("Vollkorn", "fonts-vollkorn", "Vollkorn-{}.ttf", *_FOUR),
    _family("Latin Modern Roman", "fonts-lmodern", "lmroman10-{}.otf", "regular", "bold", "italic", "bolditalic"),
    _family("Nimbus Roman", "fonts-urw-base35", "NimbusRoman-{}.otf", "Regular", "Bold", "Italic", "BoldItalic"),
    _family("URW Bookman", "fonts-urw-base35", "URWBookman-{}.otf", "Light", "Demi", "LightItalic", "DemiItalic"),
    _family("C059", "fonts-urw-base35", "C059-{}.otf", "Roman", "Bold", "Italic", "BdIta"),
    _family("P052", "fonts-urw-base35", "P052-{}.otf", *_URW),
    _family("Courier Prime", "fonts-courier-prime", "Courier Prime{}.otf", "", " Bold", " Italic", " Bold Italic"),
    _family("JetBrains Mono", "fonts-jetbrains-mono", "JetBrainsMono-{}.ttf", *_FOUR),
)

_CYRILLIC = frozenset(
    ("DejaVu Sans", "DejaVu Sans Mono", "Arimo", "Tinos", "Cousine", "Carlito", "Roboto Slab", "Roboto",
     "Roboto Condensed", "Open Sans", "Lato", "Inter", "Liberation Sans", "Liberation Sans Narrow", "Liberation Serif",
     "Liberation Mono", "FreeSans", "FreeSerif", "FreeMono", "Cantarell", "Jura", "Comfortaa", "Linux Libertine O",
     "Linux Biolinum O", "EB Garamond", "Vollkorn", "Nimbus Roman", "URW Bookman", "C059", "P052", "JetBrains Mono")
)  # fmt: skip
_VIETNAMESE = frozenset(
    ("DejaVu Sans", "Arimo", "Tinos", "Cousine", "Carlito", "Roboto Slab", "Roboto", "Roboto Condensed",
     "Open Sans", "Lato", "Inter", "FreeSans", "FreeSerif", "FreeMono", "Cantarell", "Jura", "Quicksand", "Comfortaa",
     "Linux Libertine O", "Linux Biolinum O", "EB Garamond", "Vollkorn", "Latin Modern Roman",
     "Latin Modern Sans", "JetBrains Mono")
)  # fmt: skip
_TWO = ("Regular", "Bold")

FAMILIES: dict[Script, tuple[Family, ...]] = {
    "en": ENGLISH,
    "ru": tuple(faces for faces in ENGLISH if _name(faces) in _CYRILLIC),
    "vi": tuple(faces for faces in ENGLISH if _name(faces) in _VIETNAMESE),
    "zh": (
        _family("Noto Sans CJK SC", "fonts-noto-cjk", "NotoSansCJK-{}.ttc", *_TWO, index=2),
        _family("Noto Serif CJK SC", "fonts-noto-cjk", "NotoSerifCJK-{}.ttc", *_TWO, index=2),
        _family("Noto Sans Mono CJK SC", "fonts-noto-cjk", "NotoSansCJK-{}.ttc", *_TWO, index=7),
        _family("AR PL SungtiL GB", "fonts-arphic-gbsn00lp", "gbsn00lp.ttf", ""),
        _family("AR PL KaitiM GB", "fonts-arphic-gkai00mp", "gkai00mp.ttf", ""),
        _family("AR PL UKai CN", "fonts-arphic-ukai", "ukai.ttc", ""),
        _family("AR PL UMing CN", "fonts-arphic-uming", "uming.ttc", ""),
        _family("LXGW WenKai", "fonts-lxgw-wenkai", "LXGWWenKai-{}.ttf", *_TWO),
        _family("LXGW WenKai Mono", "fonts-lxgw-wenkai", "LXGWWenKaiMono-{}.ttf", *_TWO),
        _family("Smiley Sans", "fonts-smiley-sans", "SmileySans-Oblique.ttf", ""),
        _family("WenQuanYi Micro Hei", "fonts-wqy-microhei", "wqy-microhei.ttc", ""),
        _family("WenQuanYi Zen Hei", "fonts-wqy-zenhei", "wqy-zenhei.ttc", ""),
        fonts.CHINESE,
    ),
    "ja": (
        _family("Noto Sans CJK JP", "fonts-noto-cjk", "NotoSansCJK-{}.ttc", *_TWO),
        _family("Noto Serif CJK JP", "fonts-noto-cjk", "NotoSerifCJK-{}.ttc", *_TWO),
        _family("IPAexGothic", "fonts-ipaexfont-gothic", "ipaexg.ttf", ""),
        _family("IPAexMincho", "fonts-ipaexfont-mincho", "ipaexm.ttf", ""),
        _family("BIZ UDGothic", "fonts-morisawa-bizud-gothic", "BIZUDGothic-{}.ttf", *_TWO),
        _family("BIZ UDMincho", "fonts-morisawa-bizud-mincho", "BIZUDMincho-{}.ttf", "Regular"),
    ),
    "ko": (
        _family("Noto Sans CJK KR", "fonts-noto-cjk", "NotoSansCJK-{}.ttc", *_TWO, index=1),
        _family("Noto Serif CJK KR", "fonts-noto-cjk", "NotoSerifCJK-{}.ttc", *_TWO, index=1),
        _family("NanumGothic", "fonts-nanum", "NanumGothic{}.ttf", "", "Bold"),
        _family("NanumMyeongjo", "fonts-nanum", "NanumMyeongjo{}.ttf", "", "Bold"),
        _family("NanumBarunGothic", "fonts-nanum", "NanumBarunGothic{}.ttf", "", "Bold"),
        _family("NanumSquare", "fonts-nanum", "NanumSquare{}.ttf", "R", "B"),
    ),
    "ar": (
        _family("Amiri", "fonts-hosny-amiri", "Amiri-{}.ttf", *_TWO),
        _family("Scheherazade", "fonts-sil-scheherazade", "Scheherazade-{}.ttf", *_TWO),
        _family("Lemonada", "fonts-lemonada", "Lemonada-{}.otf", *_TWO),
        _family("Noto Naskh Arabic", "fonts-noto-core", "NotoNaskhArabic-{}.ttf", *_TWO),
        _family("Noto Kufi Arabic", "fonts-noto-core", "NotoKufiArabic-{}.ttf", *_TWO),
        _family("Noto Sans Arabic", "fonts-noto-core", "NotoSansArabic-{}.ttf", *_TWO),
        _family("DejaVu Sans", "fonts-dejavu-core", "DejaVuSans{}.ttf", "", "-Bold"),
    ),
}


def publishable(face: Face) -> bool:
    """Whether weights trained on the face's pictures may be published: its licence is no GPL, whatever the exceptions."""
    return "GPL" not in LICENCES[face.package]


def families(script: Script, publishable_only: bool = False) -> tuple[Family, ...]:
    """The families that write a language."""
    return tuple(family for family in FAMILIES[script] if not publishable_only or publishable(family[0]))


def packages(scripts: Iterable[Script] = SCRIPTS) -> tuple[str, ...]:
    """The Debian packages that pages in these languages need, sorted."""
    return tuple(sorted({face.package for script in scripts for family in FAMILIES[script] for face in family}))


@cache
def require(script: Script, publishable_only: bool = False) -> None:
    """Raise FontError, one line with the apt-get command, unless the language's fonts and the shaping of words are installed."""
    if not (features.check("raqm") and features.check("fribidi")):
        raise FontError("Pillow finds no raqm and fribidi, which shape words; run: apt-get install libfribidi0")
    fonts.require(face for family in families(script, publishable_only) for face in family)


def is_wide(character: str) -> bool:
    """Whether a character is drawn and kept on its own: Chinese, Japanese and Korean ones, and their punctuation."""
    return character >= FIRST_WIDE
