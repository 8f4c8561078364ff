"""Tables of Markdown as HTML, and HTML tables in the one form that OmniDocBench compares.

vlmeval/dataset/OmniDocBench/{utils,data_preprocess}.py, open-compass/VLMEvalKit @ e8e78f0, what looks like an oversight included:
scores are only comparable if it is the same.
"""

from __future__ import annotations

import html
import re
import unicodedata
from html.parser import HTMLParser

BARRED = re.compile(r"\|\s*.*?\s*\|\n", re.DOTALL)
WHOLE = re.compile(r"<table\b[^>]*>(.*)</table>", re.DOTALL | re.IGNORECASE)
LEFT_OUT = re.compile(r' (?:style|height|width|align|class)=".*?"|</?tbody>')
INNER = re.compile(r'</?(?:sup|sub|span|div|p)>|<spandata-span-identity="">|<colgroup>.*?</colgroup>')
VOID = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "keygen", "link", "menuitem", "meta", "param", "source", "track",
    "wbr", "basefont", "bgsound", "command", "frame", "image", "isindex", "nextid", "spacer",
})  # fmt: skip


def with_html_tables(text: str) -> str:
    """A text in which every stretch between bars has become a table of HTML, and tables that follow each other one."""
    text = text.replace("\r", "") + "\n"
    for block in BARRED.findall(text):
        text = text.replace(block, _table_of_block(block), 1)
    return _joined(text).replace("<table>", '<table border="1" >').replace("<td>", '<td colspan="1" rowspan="1">')


def _table_of_block(block: str) -> str:
    rows = [[cell.strip() for cell in row.strip().split("|")[1:-1]] for row in block.strip().split("\n")]
    head = "".join(f"      <th>{cell}</th>\n" for cell in rows[0])
    body = "".join("    <tr>\n" + "".join(f"      <td>{cell}</td>\n" for cell in row) + "    </tr>\n" for row in rows[2:])
    return f"<table>\n  <thead>\n    <tr>\n{head}    </tr>\n  </thead>\n  <tbody>\n{body}  </tbody>\n</table>\n"


def _joined(text: str) -> str:
    """Lines of tables gathered into one table each, which ends where a line closes it and the next opens no other."""
    kept: list[str] = []
    inside, block, last = False, "", ""
    for line in text.split("\n"):
        if "<table>" in line:
            inside = True
            block += last
        elif inside:
            if not re.search(r"-*?:|---|:-*?", last) and "</thead>" not in last:
                block += "\n" + last
            if "</table>" in last:
                inside = False
                kept.append(_merged(block))
                block = ""
        else:
            kept.append(last)
        last = line
    if last:
        kept.append(_merged(block + "\n" + last) if inside or "</table>" in last else last)
    return "\n".join(kept)


def _merged(block: str) -> str:
    """The rows of a block's tables in one, cells of a heading as others; a table of one or two lines is left out."""
    lines: list[str] = []
    for table in re.findall(r"<table>[\s\S]*?</table>", re.sub(r"<!--[\s\S]*?-->", "", block)):
        found = [line.replace("<th>", "<td>").replace("</th>", "</td>") if "<th>" in line else line for line in table.split("\n")]
        found = [line for line in found if not re.search("</?t(able|head|body)>", line)]
        lines += found if len(found) > 2 else []
    return "\n\n<table>\n{}\n</table>\n\n".format("\n".join(lines))


def normalised_table(text: str) -> str:
    """The rows of a text's tables in one page of HTML: headings as cells, without styles, line breaks and inner tags, NFKC; "" for
    a text without a table."""
    if "<table" not in text.replace(" ", "").replace("'", '"'):
        return ""
    written = _Writer()
    written.feed(text)
    written.close()
    content = unicodedata.normalize("NFKC", html.unescape(written.text()).replace("\n", "")).strip()
    content = re.sub(r"\s+", " ", LEFT_OUT.sub("", "".join(WHOLE.findall(content))))
    return INNER.sub("", f'<html><body><table border="1" >{content}</table></body></html>')


class _Writer(HTMLParser):
    """Writes HTML as BeautifulSoup does that was built by html.parser: tags closed in order and nothing implied, attributes in
    double quotes; th as td, thead and span without their tags, and a formula (math) as its alttext between dollars."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.pieces: list[str] = []
        self.words: list[str] = []
        """Text since the last tag."""
        self.open: list[str] = []
        self.formula: int | None = None
        """How many tags were open around the formula that is being passed over."""

    def text(self) -> str:
        self._end_words()
        while self.open:
            self._close()
        return "".join(self.pieces)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end_words()
        if self.formula is None and tag == "math":
            self.formula = len(self.open)
            self.pieces.append(f"${dict(attrs).get('alttext') or ''}$")
        elif tag not in ("thead", "span"):
            written = "".join(f" {name}={_quoted(value or '')}" for name, value in dict(attrs).items())
            self._write(f"<{'td' if tag == 'th' else tag}{written}{'/' if tag in VOID else ''}>")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        self._end_words()
        if tag in self.open:
            while self._close() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.words.append(html.escape(data, quote=False))

    def handle_entityref(self, name: str) -> None:
        meant = html.unescape(f"&{name};")
        self.handle_data(meant if meant != f"&{name};" else f"&{name}")

    def handle_charref(self, name: str) -> None:
        self.handle_data(html.unescape(f"&#{name};"))

    def handle_comment(self, data: str) -> None:
        self._end_words()
        self._write(f"<!--{data}-->")

    def _end_words(self) -> None:
        """White space alone becomes one line break or space."""
        words = "".join(self.words)
        if words.strip(" \t\n\r\f\v") or "pre" in self.open or "textarea" in self.open:
            self._write(words)
        elif words:
            self._write("\n" if "\n" in words else " ")
        self.words.clear()

    def _close(self) -> str:
        tag = self.open.pop()
        if tag == "math" and self.formula == len(self.open):
            self.formula = None
        elif tag not in ("thead", "span"):
            self._write(f"</{'td' if tag == 'th' else tag}>")
        return tag

    def _write(self, text: str) -> None:
        if self.formula is None:
            self.pieces.append(text)


def _quoted(value: str) -> str:
    value = html.escape(value, quote=False)
    if '"' not in value:
        return f'"{value}"'
    return f"'{value}'" if "'" not in value else '"' + value.replace('"', "&quot;") + '"'
