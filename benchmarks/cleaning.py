"""C14: captions through the rules of `qwenvl data clean`, and perceptual hashes of pictures.

Data-Juicer is not run here: its published rate stands for it (2.0: 70 billion samples on 6,400 cores in two hours, which is 1,520 a
second and core, of a pipeline of its own). The hash is compared with the same one written with PIL and numpy alone; both begin with
the decoded picture.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from benchmarks.harness import Against, Bound, Case, Item, Result, Run, measure
from qwenvl.data.clean.config import Dataset
from qwenvl.data.clean.examine import Examiner, Row
from qwenvl.data.clean.images import perceptual_hash

ROWS, PICTURES = 20_000, 400
AT_TINY_SIZE = {"rows": 400, "pictures": 8}
PUBLISHED = 1520.0
"""Samples a second and core: Data-Juicer's better rate."""
WANTED = 10_000.0

_SUBJECTS = ("a red bicycle", "two dogs", "the old harbour", "an elderly couple", "children with balloons", "my new guitar")
_PLACES = ("in front of the museum", "near the city centre", "on a rainy day", "at sunset over the valley", "in the kitchen")
_ENDS = ("stock photo", "high resolution", "for sale", "by Jane Doe", "- photo 12 of 30", "in black and white")
_CHINESE = ("港口旁边的自行车", "两只狗在草地上奔跑", "老城的市场，人来人往", "木制复古椅子", "孩子们和气球")
_ODD = (
    "<b>{}</b>", "{} &amp; more", "{} http://example.org/a/b.html?x=1", "IMG_20200101_123456 {}", "{} DSC01234.JPG", "{}!!!!!",
    "| {} |",
    "{} www.example.org | Shop", "{} 😀", "{} Привет", "{} © 2020", "Café {}", "“{}” — №5", "{}\u200b\ufeff", "Click to enlarge {}",
)  # fmt: skip
"""What every fourth caption looks like."""


def cases(quick: bool, rows: int = ROWS, pictures: int = PICTURES) -> Iterator[Item]:
    texts = captions(rows // 10 if quick else rows)
    yield lambda rounds: [of_text(texts, rounds)]
    yield of_hashes(pictures // 10 if quick else pictures)


def captions(count: int, seed: int = 0) -> list[str]:
    """Alt texts as a crawl has them: some eighty characters; every eighth is Chinese, every fourth needs mending or goes."""
    draw, made = random.Random(seed), []
    for number in range(count):
        subjects = draw.sample(_SUBJECTS, 2)
        text = f"{subjects[0]} {draw.choice(_PLACES)}, {subjects[1]} {draw.choice(_ENDS)} {draw.randrange(10**6)}"
        if number % 8 == 0:
            text = "，".join(draw.sample(_CHINESE, 3))
        made.append(draw.choice(_ODD).replace("{}", text) if number % 4 == 1 else text)
    return made


def of_text(texts: Sequence[str], rounds: int) -> Result:
    """Every rule of text of the preset `web`."""
    examiner = Examiner(Dataset(name="captions", inputs=("captions",), preset="web"))

    def clean() -> None:
        for number, text in enumerate(texts):
            examiner.judge_text(text, Row(number))

    found = measure(Case("", "", {"qwenvl": clean}, len(texts)), min(rounds, 5))
    ours = found.times["qwenvl"]
    times = {"qwenvl": ours, "Data-Juicer, published": [1e3 / PUBLISHED] * len(ours)}
    rate = 1e3 / found.medians["qwenvl"]
    return Result(
        f"{len(texts)} captions through the rules of text", "caption", times, figures={"captions a second": rate},
        bounds=[Bound("captions a second", at_least=WANTED)],
    )  # fmt: skip


def of_hashes(count: int) -> Case:
    pictures = blotches(min(count, 100))
    repeated = [pictures[number % len(pictures)] for number in range(count)]

    def run(hash_of: Callable[[Image.Image], int]) -> Run:
        return lambda: [hash_of(picture) for picture in repeated]

    def different() -> float:
        """Mean share of the 64 bits: ours reduces a large picture in two steps."""
        return sum((perceptual_hash(picture) ^ plain_hash(picture)).bit_count() for picture in pictures) / (64 * len(pictures))

    variants = {"qwenvl": run(perceptual_hash), "PIL and numpy": run(plain_hash)}
    against = [Against("qwenvl", "PIL and numpy")]
    name = f"perceptual hashes of {count} pictures"
    return Case(name, "picture", variants, count, agreement=different, against=against, rounds=3)


def blotches(count: int, size: tuple[int, int] = (512, 384)) -> list[Image.Image]:
    noise = np.random.default_rng(0)
    small = [Image.fromarray(noise.integers(0, 256, (7, 7, 3), dtype=np.uint8)) for _ in range(count)]
    return [picture.resize(size, Image.Resampling.BICUBIC) for picture in small]


def plain_hash(picture: Image.Image, side: int = 32, kept: int = 8) -> int:
    """pHash as it is defined: grey, 32 x 32, cosine transform, the low frequencies against their median."""
    grey = np.asarray(picture.convert("L").resize((side, side), Image.Resampling.LANCZOS), dtype=np.float64)
    places = np.arange(side)
    waves = np.cos(np.pi * places[:, None] * (2 * places[None, :] + 1) / (2 * side))
    low = (waves @ grey @ waves.T)[:kept, :kept]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")
