"""Cleaning the text of a pair: mark-up taken out, irregular patterns mended; words counted. Pure functions of a string.

The paper (arXiv 2308.12966, A.1, steps 7 and 8) cleans HTML and "certain unregular patterns" without saying which. The patterns
here are ours, after what alt-texts of public crawls hold; they are a list in the config, and any may be left out or added.
"""

from __future__ import annotations

import html
import html.entities
import re
import unicodedata
from collections.abc import Sequence

from pydantic import field_validator

from qwenvl.config import Strict
from qwenvl.data.clean.unicode import one_of, ranges_of
from qwenvl.data.synth.names import Language

# HTML Living Standard: the index of elements, and 16.2 for the obsolete ones. Those that break a line leave a space behind.
_BREAKING = """
address article aside blockquote body br caption center col colgroup dd details dialog dir div dl dt fieldset figcaption
figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe legend li link main marquee menu meta
nav noframes noscript ol optgroup option p param picture pre search section select source summary table tbody td template
textarea tfoot th thead title tr track ul video
"""
_INLINE = """
a abbr acronym applet area audio b base basefont bdi bdo bgsound big blink button canvas cite code data datalist del dfn em
embed font i img input ins isindex kbd keygen label listing map mark math meter multicol nextid nobr noembed object output
plaintext progress q rb rp rt rtc ruby s samp script slot small spacer span strike strong style sub sup svg time tt u var wbr
xmp
"""
_SPACE = dict.fromkeys(_BREAKING.split(), " ") | dict.fromkeys(_INLINE.split(), "")

_TAG = re.compile(r"</?([a-z][a-z0-9]*)(?:[\s/][^<>]*)?>", re.IGNORECASE)
# A comment or script without its end goes on to the end of the text, as in a browser; so no text is searched twice.
_HIDDEN = re.compile(r"<!--.*?(?:-->|\Z)|<!doctype[^<>]*>|<(script|style)\b[^<>]*>.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_CUT_OFF = re.compile(rf"<(?:{'|'.join(_SPACE)})\s+[a-z-]+\s*=[^<>]*$", re.IGNORECASE)
"""A tag that a limit on the text's length has cut in two."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)
_ROUNDS = 3
"""Text that was escaped twice is unescaped twice; more rounds would only find what someone wrote about HTML."""

_HAN = one_of(ranges_of("Han"))
_WORD = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+(?:['’.-][^\W_{_HAN}]+)*")
HAN = re.compile(f"[{_HAN}]")


class Pattern(Strict):
    """One irregular pattern: what the regular expression finds becomes `replace`."""

    name: str
    find: str
    replace: str = ""

    @field_validator("find")
    @classmethod
    def _compiles(cls, text: str) -> str:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return text


IRREGULAR: tuple[Pattern, ...] = (
    Pattern(name="control", find=r"[\x00-\x1f\x7f-\x9f]+", replace=" "),
    # Zero-width and directional marks, soft hyphens, byte order marks.
    Pattern(name="invisible", find=r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]+"),
    Pattern(name="address", find=r"(?i)\b(?:https?://|www\.)[\x21-\x7e]*[a-z0-9/]|\b[\w.+-]{1,64}@[a-z0-9-]+(?:\.[a-z0-9-]+)+\b"),
    Pattern(name="file", find=r"(?i)(?<![\w.-])[\w-]+\.(?:jpe?g|png|gif|bmp|webp|tiff?|svg|heic)\b"),
    Pattern(name="camera", find=r"\b(?:IMG|DSC[FN]?|DCIM|PICT|PXL|MVI)[_-]?\d{4,}(?:[_-]\w+)*\b"),
    Pattern(
        name="page",
        find=r"(?i)load image into gallery viewer,?|\bclick (?:here |on image )?to (?:enlarge|zoom)\b(?: image)?"
        r"|\bopen image in (?:a )?(?:new (?:tab|window)|slideshow)\b|点击(?:图片)?(?:查看|放大)(?:大图|原图|图片)?|图片加载中",
    ),
    Pattern(name="empty", find=r"(?<!\w)(?:\(\s*\)|\[\s*\]|<\s*>)|（\s*）|【\s*】"),
    # Three dots are an ellipsis, two dashes or exclamation marks are style; more is noise.
    Pattern(name="repeated", find=r"([!?,;:*~=#+|/\\^<>、。，！？·_-])\1{2,}", replace=r"\1"),
    Pattern(name="dots", find=r"\.{4,}", replace="..."),
    # Looks behind, so that a run of separators is tried from its beginning alone.
    Pattern(
        name="edge",
        find=r"^\s*(?:[|\-–—_:;,/\\~*=•·>]+\s+)+|(?<![\s|\-–—_:;,/\\~*=•·<])(?:\s+[|\-–—_:;,/\\~*=•·<]+)+\s*$"
        r"|(?<=[^\s|,;])\s?[|,;]\s*$",
    ),
)


class TextCleaner:
    """Raw text -> clean text, and the names of what has changed it."""

    def __init__(self, strip_html: bool, patterns: Sequence[Pattern]) -> None:
        self.strip_html = strip_html
        self.patterns = [(pattern.name, re.compile(pattern.find), pattern.replace) for pattern in patterns]

    def clean(self, raw: str) -> tuple[str, tuple[str, ...]]:
        """Composed characters (NFC), no HTML, no irregular pattern, single spaces. The names are `html` and the patterns'."""
        changed = []
        # Spaces first: patterns take quadratic time on long runs of them.
        text = " ".join((raw if raw.isascii() else unicodedata.normalize("NFC", raw)).split())
        if self.strip_html and ("<" in text or "&" in text) and (stripped := strip_html(text)) != text:
            changed.append("html")
            text = stripped
        for name, pattern, replacement in self.patterns:
            mended = pattern.sub(replacement, text)
            if mended != text:
                changed.append(name)
                text = mended
        return " ".join(text.split()), tuple(changed)


def strip_html(text: str) -> str:
    """Tags, comments and scripts taken out, entities decoded; what only looks like a tag (`a < b`, `<3`, `<PERSON>`) stays."""
    for _ in range(_ROUNDS):
        before = text
        if "&" in text:
            text = _ENTITY.sub(_decoded, text)
        if "<" in text:
            text = _CUT_OFF.sub("", _TAG.sub(_without_tag, _HIDDEN.sub(" ", text)))
        if text == before:
            break
    return text


def _decoded(entity: re.Match[str]) -> str:
    # html.unescape alone would read "&notanentity;" as the old-fashioned "&not" and a rest.
    known = entity[0][1] == "#" or entity[0][1:] in html.entities.html5
    return html.unescape(entity[0]) if known else entity[0]


def _without_tag(tag: re.Match[str]) -> str:
    return _SPACE.get(tag[1].lower(), tag[0])


def words(text: str) -> list[str]:
    """Words of alphabetic scripts, and every Han character as one of its own."""
    return _WORD.findall(text)


def language_of(text: str) -> Language:
    """`zh` where Han characters are at least as many as the other words, else `en`."""
    han = len(HAN.findall(text)) if not text.isascii() else 0
    return "zh" if han and 2 * han >= len(words(text)) else "en"


def compared(text: str) -> str:
    """The text as near duplicates compare it: words alone, of one case and one width, with single spaces."""
    return " ".join(words(unicodedata.normalize("NFKC", text).casefold()))
