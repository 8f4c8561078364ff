"""A corpus of image-text pairs with known faults and near-misses, as files of every kind that `qwenvl data clean` reads.

The verdict on each row is known from how it was made, not from the rules. As a program it cleans such a corpus, for tests that need
a process of its own: `python -m tests.clean_corpus CORPUS OUT native|ray`.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import random
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from qwenvl.data.clean.config import CleanConfig
from qwenvl.data.clean.engine import Engine
from qwenvl.data.clean.pipeline import clean

MINIMUM, RATIO, SCORE = 32, 3.0, 0.28
MISMATCH = "mismatched"
SIZE = (64, 48)

PLACES = "harbour market museum station bridge garden castle beach forest valley island airport library theatre stadium"
THINGS = "bicycle lantern guitar painting teapot umbrella statue fountain balloon telescope carriage piano sailboat windmill"
COLOURS = "red blue green yellow orange purple silver golden crimson turquoise"
FOLK = "children sailors dancers farmers students painters musicians travellers cyclists tourists"
ZH = [
    "港口", "市场", "博物馆", "车站", "大桥", "花园", "城堡", "海滩", "森林", "山谷", "岛屿", "机场", "图书馆", "剧院",
    "体育场", "广场",
]  # fmt: skip
ZH_THINGS = [
    "自行车", "灯笼", "吉他", "油画", "茶壶", "雨伞", "雕像", "喷泉", "气球", "望远镜", "马车", "钢琴", "帆船", "风车",
]  # fmt: skip

# Characters as they stand in real captions of other languages, and in real English and Chinese ones.
FOREIGN = [
    "Привет из Москвы", "Красная площадь", "東京タワーの夜景", "すごい", "カメラ", "서울의 밤", "กรุงเทพ", "مدينة دبي",
    "Αθήνα", "β-Carotin", "Straße", "Łódź", "Erdoğan", "Dvořák", "शहर", "ירושלים", "𝐁𝐎𝐋𝐃", "\ue000", "Þingvellir",
    "Việt Nam",
]  # fmt: skip
ORDINARY = [
    "Café Müller", "naïve façade", "Beyoncé at Coachella", "“curly quotes” — and ‘more’", "São Paulo", "Curaçao",
    "jalapeño", "25 °C", "½ price", "€ 10 or £9", "5 × 7 print", "→ next", "№ 5", "Ångström", "Nestlé", "smörgåsbord",
    "10 ㎡", "《红楼梦》", "“你好”，世界！", "ＡＢＣ公司", "二〇二四年", "時々", "①②③", "nǐ hǎo", "π day is 3.14"[2:],
    "don’t", "……", "~100 m²", "★★★", "C♯ and B♭", "✓ done", "㈠", "¥100", "¿Qué",
]  # fmt: skip
EMOJI = [
    "😀", "❤️", "👍🏽", "🇨🇳", "👨‍👩‍👧", "1️⃣", "☀️", "❤", "🔥🔥", "☺", "✈", "&#128512;",
]  # fmt: skip
SIGNS = [
    "©2020", "Brand®", "Name™", "#1", "5*", "→", "☎ 555", "♥", "♠ and ♦", "ℹ", "✔", "▶ play", "¶", "†", "^_^", ":-)",
]  # fmt: skip

# What is written -> what has to remain. The second list has to remain as it is.
MENDED = [
    ("<b>{}</b>", "{}"), ("{}<br/>", "{}"), ("<p class='x'>{}</p>", "{}"), ("{} &amp; more", "{} & more"),
    ("{}&nbsp;here", "{} here"), ("{} valentine&amp;#39;s day", "{} valentine's day"),
    ("<a href=\"http://x.org/a?b=1\">{}</a>", "{}"), ("<!-- old -->{}", "{}"), ("{} <img src=\"http://x.org/pict", "{}"),
    ("<STRONG>{}</STRONG><script>var a = 1 < 2;</script>", "{}"), ("{} &lt;i&gt;now&lt;/i&gt;", "{} now"),
    ("{} http://example.org/a/b.html?x=1", "{}"), ("{} www.example.org", "{}"), ("IMG_20200101_123456 {}", "{}"),
    ("{} DSC01234.JPG", "{}"), ("{}!!!!!", "{}!"), ("{} me@example.org", "{}"), ("| {} |", "{}"), ("- {}", "{}"),
    ("{}\t\n here", "{} here"), ("{}\u200b\ufeff", "{}"), ("Load image into Gallery viewer, {}", "{}"),
    ("{} Click to enlarge", "{}"), ("{} 点击查看大图", "{}"), ("{}......", "{}..."), ("{} ()", "{}"),
    ("{}，，，，", "{}，"), ("cafe\u0301 {}", "café {}"), ("{}-----", "{}-"), ("{} \x07\x1f", "{}"),
]  # fmt: skip
UNTOUCHED = [
    "{} a < b and b > c", "I <3 {}", "{} x<y>z", "AT&T {}", "R&D of {}", "{} &notanentity; here", "{}...", "{}!!",
    "{} -- there", "C++ {}", "{} Node.js v1.2.3", "U.S. {}", "{} 16:9", "IMG Academy {}", "{} e.g. here", "-5 °C {}",
    "{} (2019)", "{} 10,000", "f() {}", "{} No. 5", "{} and/or", "{} [detail]", "http {}", "{} page.html",
    "{} 2001: A Space Odyssey", "{}？！", "{}……", "{} \\o/",
]  # fmt: skip


@dataclass
class Case:
    """A row and what has to become of it: the rule that drops it, or its clean text where it stays (verdict "")."""

    kind: str
    text: str
    image: bytes | None
    verdict: str = ""
    clean: str = ""
    url: str | None = None
    twins: list[Case] = field(default_factory=list)
    """Rows of which only the first in the order of the corpus stays; `twin_rule` drops the others."""
    twin_rule: str = ""


class Maker:
    """Rows by chance, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.noise = np.random.default_rng(seed)
        self.made = 0

    def caption(self, words: int = 9) -> str:
        """A sentence; of Chinese in every third."""
        pick, self.made = self.rng.choice, self.made + 1
        if self.made % 3 == 0:
            return f"{pick(ZH)}旁边的{pick(ZH_THINGS)}和{pick(ZH_THINGS)}，{pick(ZH)}附近，第{self.rng.randrange(10**4)}张"
        tail = self.rng.sample(PLACES.split(), 8)[: words - 6]
        return " ".join(
            [pick(COLOURS.split()), pick(THINGS.split()), "with", pick(FOLK.split()), "near", str(self.rng.randrange(10**5)), *tail]
        )

    def picture(self, size: tuple[int, int] = SIZE) -> Image.Image:
        """Soft blotches: every perceptual hash is far from every other."""
        small = Image.fromarray(self.noise.integers(0, 256, (7, 7, 3), dtype=np.uint8))
        return small.resize(size, Image.Resampling.BICUBIC)

    def file(self, picture: Image.Image | None = None, form: str | None = None, **options: Any) -> bytes:
        out = io.BytesIO()
        form = form or self.rng.choice(["jpeg", "jpeg", "png", "webp"])
        (picture or self.picture()).save(out, form, **options)
        return out.getvalue()

    def good(self, kind: str, template: str = "{}", clean: str | None = None) -> Case:
        said = self.caption()
        return Case(
            kind, template.replace("{}", said), self.file(), clean=(template if clean is None else clean).replace("{}", said)
        )

    def bad(self, rule: str, text: str | None = None, image: bytes | None = None) -> Case:
        return Case(rule, self.caption() if text is None else text, self.file() if image is None else image, verdict=rule)

    def sized(self, rule: str, size: tuple[int, int], dropped: bool) -> Case:
        made = self.bad(rule, image=self.file(self.picture(size))) if dropped else self.good(f"not {rule}")
        made.image = self.file(self.picture(size))
        return made


def spliced(caption: str, piece: str, rng: random.Random) -> str:
    """The piece as a word of its own somewhere within the caption."""
    return rng.choice([f"{caption} {piece} x", f"x {piece} {caption}"])


def emoji(make: Maker) -> list[Case]:
    bad = make.bad("emoji", spliced(make.caption(), make.rng.choice(EMOJI), make.rng))
    return [bad, make.good("not emoji", spliced("{}", make.rng.choice(SIGNS), make.rng))]


def characters(make: Maker) -> list[Case]:
    bad = make.bad("characters", spliced(make.caption(), make.rng.choice(FOREIGN), make.rng))
    return [bad, make.good("not characters", spliced("{}", make.rng.choice(ORDINARY), make.rng))]


def text_length(make: Maker) -> list[Case]:
    number = make.rng.randrange(10**5)
    short = ["", "photo", "my dog", "猫狗", "a b c", "http://x.org/a.jpg", "<br>", f"IMG_{number:05}.jpg", "... !!!", "   "]
    long = [" ".join(["word"] * 257), "x" * 995 + " y zzz", "汉" * 257, "x" * 30_000]
    enough = [f"dog {number} cat", "汉字图", " ".join([str(number), *["w"] * 255]), f"{number:05} y " + "x" * 992, "汉" * 256]
    fits = make.rng.choice(enough)
    near = Case("not text_length", fits, make.file(), clean=fits)
    return [make.bad("text_length", make.rng.choice(short)), make.bad("text_length", make.rng.choice(long)), near]


def aspect_ratio(make: Maker) -> list[Case]:
    return [
        make.sized("aspect_ratio", (97, 32), True), make.sized("aspect_ratio", (33, 100), True),
        make.sized("aspect_ratio", (96, 32), False), make.sized("aspect_ratio", (33, 99), False),
    ]  # fmt: skip


def small_image(make: Maker) -> list[Case]:
    return [make.sized("small_image", (40, 31), True), make.sized("small_image", (32, 32), False)]


def broken(make: Maker) -> list[Case]:
    jpeg, png = make.file(form="jpeg"), make.file(form="png")
    hole = png[: len(png) // 2] + png[-12:]  # ends well, with IEND
    files = [
        jpeg[: len(jpeg) // 2], png[: len(png) // 2], jpeg[:20], hole, b"\0" * 500, b"not a picture",
        b"<html><body>404 Not Found</body></html>", make.file(form="webp")[:60], b"GIF89a" + b"\xff" * 30,
    ]  # fmt: skip
    return [make.bad("broken_image", image=make.rng.choice(files)), odd(make)]


def odd(make: Maker) -> Case:
    """An unusual picture that can be read all the same."""
    picture = make.picture()
    turned = Image.Exif()
    turned[0x0112] = 6
    ways: list[Callable[[], bytes]] = [
        lambda: make.file(picture, "jpeg", progressive=True), lambda: make.file(picture.convert("CMYK"), "jpeg"),
        lambda: make.file(picture.convert("P"), "gif", save_all=True, append_images=[picture.rotate(180).convert("P")]),
        lambda: make.file(picture.convert("L").convert("I;16"), "png"), lambda: make.file(picture.convert("RGBA"), "png"),
        lambda: make.file(picture, "bmp"), lambda: make.file(picture, "tiff"), lambda: make.file(picture, "jpeg", exif=turned),
        lambda: make.file(picture, "jpeg") + b"trailing rubbish", lambda: make.file(picture.convert("LA"), "png"),
    ]  # fmt: skip
    case = make.good("not broken_image")
    case.image = make.rng.choice(ways)()
    return case


def score(make: Maker) -> list[Case]:
    return [make.bad("image_text_score", f"{MISMATCH} {make.caption()}"), make.good("not image_text_score", "matched {}")]


def mended(make: Maker) -> list[Case]:
    written, clean = make.rng.choice(MENDED)
    return [make.good("mended", written, clean), make.good("not mended", make.rng.choice(UNTOUCHED))]


def twins(rule: str, *cases: Case) -> list[Case]:
    for case in cases:
        case.kind, case.twins, case.twin_rule = rule, list(cases), rule
    return list(cases)


def exact_duplicate(make: Maker) -> list[Case]:
    """A row and its copy; the same picture with another text, and the same text with another picture, are none."""
    one, other = make.good(""), make.good("")
    copy = Case("", one.text, one.image, clean=one.clean)
    same_picture = Case("not exact_duplicate", make.caption(), other.image)
    same_picture.clean = same_picture.text
    same_text = Case("not exact_duplicate", other.text, make.file(), clean=other.clean)
    return [*twins("exact_duplicate", one, copy), other, same_picture, same_text]


def near_duplicate(make: Maker) -> list[Case]:
    """Compressed anew with one word of nine changed; two words more changed, or the picture mirrored, are too far."""
    picture = make.picture()
    words = [f"w{make.rng.randrange(10**9)}" for _ in range(9)]
    again = Image.open(io.BytesIO(make.file(picture, "jpeg", quality=80)))

    def row(kind: str, shown: Image.Image, changed: int) -> Case:
        text = " ".join([f"v{make.rng.randrange(10**9)}" for _ in range(changed)] + words[changed:])
        return Case(kind, text, make.file(shown, "png"), clean=text)

    pair = twins("near_duplicate", row("", picture, 0), row("", again, 1))
    other = make.picture()
    far = [row("not near_duplicate", other, 0), row("not near_duplicate", other, 4)]
    return [*pair, *far, row("not near_duplicate", picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 0)]


def special_tags(make: Maker) -> list[Case]:
    tagged = make.rng.choice(["<PERSON> on stage", "portrait of <person>", "<PERSON> and <PERSON>"])
    return [make.bad("special_tags", f"{make.caption()} {tagged}"), make.good("not special_tags", "{} person <3")]


def longest_text(make: Maker) -> list[Case]:
    """Several texts of one picture: the longest stays, of two as long the first. The same text of another picture stays too."""
    image, said = make.file(), make.caption()
    shorter = [Case("longest_text", said[:length], image, verdict="longest_text") for length in (4, 11, len(said) - 1)]
    longest = twins("longest_text", *(Case("", said, image, clean=said) for _ in range(make.rng.choice([1, 2]))))
    return [*shorter, *longest, Case("not longest_text", said, make.file(), clean=said)]


WEB = (emoji, characters, text_length, aspect_ratio, small_image, broken, score, mended, exact_duplicate, near_duplicate)
ACADEMIC = (special_tags, longest_text, broken, mended)


def rows_of(kinds: Sequence[Callable[[Maker], list[Case]]], count: int, seed: int) -> list[Case]:
    """So many rows in random order: three in five with a fault or nearly, the rest plain."""
    make = Maker(seed)
    rows: list[Case] = []
    for kind in itertools.cycle(kinds):
        if len(rows) >= 0.6 * count:
            break
        rows += kind(make)
    rows = rows[:count] + [make.good("plain") for _ in range(count - len(rows))]
    make.rng.shuffle(rows)
    first: dict[int, Case] = {}
    for case in rows:
        if case.twins and first.setdefault(id(case.twins[0]), case) is not case:
            case.verdict = case.twin_rule
    return rows


def write_tar(path: Path, rows: Sequence[Case], start: int) -> None:
    """As img2dataset's WebDatasetSampleWriter: KEY.jpg, KEY.txt, KEY.json; and the table of metadata beside it."""
    with tarfile.open(path, "w") as archive:
        for number, case in enumerate(rows, start):
            metadata = {"url": f"http://example.org/{number}.jpg", "caption": case.text, "key": f"{number:09}", "status": "success"}
            for suffix, content in (
                ("jpg", case.image),
                ("txt", case.text.encode()),
                ("json", json.dumps(metadata, indent=4).encode()),
            ):
                member = tarfile.TarInfo(f"{number:09}.{suffix}")
                member.size = len(content or b"")
                archive.addfile(member, io.BytesIO(content or b""))
    pq.write_table(
        pa.table({"url": [f"http://example.org/{number}.jpg" for number in range(len(rows))]}), path.with_suffix(".parquet")
    )


def write_bytes(path: Path, rows: Sequence[Case], start: int) -> None:
    """As img2dataset's ParquetSampleWriter: `jpg` is null where the download failed."""
    keys = [f"{number:09}" for number in range(start, start + len(rows))]
    urls = [case.url or f"http://example.org/{key}.jpg" for case, key in zip(rows, keys)]
    columns = {
        "url": urls,
        "key": keys,
        "jpg": pa.array([case.image for case in rows], pa.binary()),
        "txt": [case.text for case in rows],
    }
    pq.write_table(pa.table(columns), path)


def write_structs(path: Path, rows: Sequence[Case], start: int) -> None:
    """As `datasets` writes pictures, with the column names of LAION."""
    images = [{"bytes": case.image, "path": None} for case in rows]
    columns = {"URL": [case.url for case in rows], "TEXT": [case.text for case in rows], "image": images}
    pq.write_table(pa.table(columns), path)


def write_csv(path: Path, rows: Sequence[Case], start: int) -> None:
    """Paths of files in a folder beside the table."""
    folder = path.with_suffix("")
    folder.mkdir()
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "caption", "url"])
        for number, case in enumerate(rows, start):
            if case.image is not None:
                (folder / f"{number}.jpg").write_bytes(case.image)
            table.writerow([f"{folder.name}/{number}.jpg" if case.image is not None else "", case.text, case.url or ""])


WRITERS = ((".tar", write_tar), (".parquet", write_bytes), (".csv", write_csv), (".parquet", write_structs))


def write_corpus(folder: Path, rows: Sequence[Case], shards: int) -> None:
    folder.mkdir(parents=True)
    size = -(-len(rows) // shards)
    for number in range(shards):
        suffix, write = WRITERS[number % len(WRITERS)]
        write(folder / f"{number:05}{suffix}", rows[number * size : (number + 1) * size], number * size)


def unfetched(rows: list[Case], shards: int, count: int) -> None:
    """Take the pictures from some plain rows of shards that are no tars: img2dataset leaves such rows out of tars."""
    size = -(-len(rows) // shards)
    plain = [case for place, case in enumerate(rows) if case.kind == "plain" and place // size % len(WRITERS)]
    for case in plain[:count]:
        case.image, case.url, case.verdict, case.kind = None, "http://example.org/gone.jpg", "not_fetched", "not_fetched"


class PretendScorer:
    """Knows from the text alone; and that it was given pictures."""

    def score(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> np.ndarray:
        assert all(picture.mode == "RGB" for picture in pictures)
        return np.array([SCORE - 0.01 if MISMATCH in text else SCORE for text in texts], dtype=np.float64)


def config_of(corpus: Path) -> CleanConfig:
    """Cleaning for the corpus in `corpus`/web and `corpus`/academic, whose pictures are small."""
    rules = {"small_image": {"minimum": MINIMUM}, "aspect_ratio": {"maximum": RATIO}, "image_text_score": {"minimum": SCORE}}
    web = {"name": "web", "inputs": [str(corpus / "web")], "rules": rules}
    academic = {"name": "academic", "inputs": [str(corpus / "academic")], "preset": "cc12m"}
    datasets = [dataset for dataset in (web, academic) if (corpus / str(dataset["name"])).exists()]
    return CleanConfig.model_validate({"datasets": datasets, "scorer": "pretend", "examples": 3})


def main(corpus: str, out: str, runner: str, workers: str) -> None:
    clean(config_of(Path(corpus)), Path(out), Engine(runner, workers=int(workers)), partial(PretendScorer))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
