"""Duplicates: daft's joins and buckets find what comparing every row with every other finds; hashes are those of daft."""

from __future__ import annotations

import io
import itertools
import os
import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qwenvl.data.clean import duplicates
from qwenvl.data.clean.config import Duplicates
from qwenvl.data.clean.duplicates import HASHES, band_rows, find_duplicates, hash_blocks, jaccard, text_bands, word_groups
from qwenvl.data.clean.images import perceptual_hash
from tests.clean_corpus import Maker

os.environ["DO_NOT_TRACK"] = "true"  # read by daft when it is imported
daft: Any = pytest.importorskip("daft")
pa: Any = pytest.importorskip("pyarrow")

Rows = list[dict[str, Any]]


def rows(count: int, seed: int) -> Rows:
    """Rows that share pictures and words, exactly and nearly."""
    rng = random.Random(seed)
    hashes = [rng.getrandbits(64) for _ in range(count // 4)]
    texts = [rng.choices([f"w{number}" for number in range(40)], k=rng.randint(0, 12)) for _ in range(count // 4)]
    made: Rows = []
    for number in range(count):
        bits = rng.choice(hashes)
        for _ in range(rng.choice([0, 0, 1, 3, 4, 5, 6])):
            bits ^= 1 << rng.randrange(64)
        words = list(rng.choice(texts))
        for _ in range(min(len(words), rng.choice([0, 0, 1, 2, 3]))):
            words[rng.randrange(len(words))] = f"w{rng.randrange(40)}"
        text = " ".join(words)
        image = f"{rng.randrange(count // 4):032x}"
        same = {"image_key": image, "image_hash": bits, "text_key": text, "compared": text, "text_length": len(text)}
        made.append({"place": number * 7, **same})
    return made


def are_doubles(one: dict[str, Any], other: dict[str, Any], rule: Duplicates) -> bool:
    distance = (one["image_hash"] ^ other["image_hash"]).bit_count()
    image = {"exact": one["image_key"] == other["image_key"], "near": distance <= rule.max_distance, None: True}
    alike = jaccard(word_groups(one["compared"], rule.ngram), word_groups(other["compared"], rule.ngram)) >= rule.min_similarity
    text = {"exact": one["text_key"] == other["text_key"], "near": alike, None: True}
    return image[rule.image] and text[rule.text]


def by_comparing_all(table: Rows, rule: Duplicates) -> dict[int, set[int]]:
    """Place -> the places of all its better doubles."""
    ranked = sorted(table, key=lambda row: (-row["text_length"] if rule.keep == "longest" else 0, row["place"]))
    found = {
        row["place"]: {better["place"] for better in ranked[:number] if are_doubles(row, better, rule)}
        for number, row in enumerate(ranked)
    }
    return {place: better for place, better in found.items() if better}


def found_by_daft(table: Rows, rule: Duplicates) -> dict[int, int]:
    kinds = {"place": pa.int64(), "text_length": pa.int32(), "image_hash": pa.uint64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in table[0]])
    result = find_duplicates(daft.from_arrow(pa.Table.from_pylist(table, schema=schema)), rule)
    assert result["place"].to_pylist() == sorted(result["place"].to_pylist())
    return dict(zip(result["place"].to_pylist(), result["better"].to_pylist()))


KINDS = [kinds for kinds in itertools.product(("exact", "near", None), ("exact", "near", None)) if any(kinds)]


@pytest.mark.parametrize(("image", "text"), KINDS)
def test_what_comparing_all_rows_finds_is_found(image: Any, text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows(120, seed=1)
    for keep, ngram, crowded in (("first", 1, 1000), ("longest", 2 if text == "near" else 1, 2)):
        monkeypatch.setattr(duplicates, "CROWDED", crowded)
        rule = Duplicates(name="x", image=image, text=text, keep=keep, ngram=ngram, max_distance=4)  # type: ignore[arg-type]
        expected, found = by_comparing_all(table, rule), found_by_daft(table, rule)
        assert expected and found.keys() == expected.keys()
        assert all(better in expected[place] for place, better in found.items())


def test_the_order_of_the_rows_does_not_matter() -> None:
    table = rows(80, seed=2)
    rule = Duplicates(name="x", image="near", text=None)
    assert found_by_daft(table, rule) == found_by_daft(random.Random(0).sample(table, len(table)), rule)


@pytest.mark.parametrize("distance", [0, 1, 4, 15])
def test_near_hashes_share_a_block(distance: int) -> None:
    rng = random.Random(distance)
    for _ in range(200):
        one = rng.getrandbits(64)
        other = one
        for bit in rng.sample(range(64), distance):
            other ^= 1 << bit
        blocks = hash_blocks(np.array([one, other], dtype=np.uint64), distance)
        assert (blocks[0] == blocks[1]).any()
    unlike = hash_blocks(np.array([0, 2**64 - 1], dtype=np.uint64), distance)
    assert not (unlike[0] == unlike[1]).any() and len(set(unlike[0].tolist())) == unlike.shape[1], "blocks are told apart"


@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.9])
def test_hardly_a_pair_of_texts_as_alike_as_asked_is_overlooked(similarity: float) -> None:
    """Signatures whose hashes agree as often as the texts are alike, which is what minhash promises."""
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 2**32, (20_000, HASHES), dtype=np.uint64) for _ in range(2))
    alike = np.where(rng.random(one.shape) < similarity, one, other)
    bands, others = text_bands(one, similarity), text_bands(alike, similarity)
    assert (bands == others).any(axis=1).mean() > 0.999
    assert not (bands == text_bands(other, similarity)).any(), "strangers meet in no band"
    assert band_rows(0.7) == 4 and bands.shape[1] == HASHES // band_rows(similarity)


def test_perceptual_hash_is_that_of_daft() -> None:
    """From the same reduced picture the same 64 bits: two implementations of one definition."""
    make = Maker(3)
    pictures = [make.picture((200, 150)) for _ in range(20)]
    small = [
        picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=3.0).convert("RGB") for picture in pictures
    ]
    series = daft.Series.from_pylist([np.asarray(picture) for picture in small]).cast(daft.DataType.image("RGB"))
    table = daft.from_pydict({"image": series}).select(daft.functions.image_hash(daft.col("image"), method="phash"))
    assert [perceptual_hash(picture) for picture in pictures] == [
        int.from_bytes(bits, "big") for bits in table.to_pydict()["image"]
    ]


def test_perceptual_hash_survives_compression_and_resizing_and_tells_pictures_apart() -> None:
    make = Maker(4)
    pictures = [make.picture((256, 192)) for _ in range(30)]
    hashes = [perceptual_hash(picture) for picture in pictures]
    for picture, bits in zip(pictures, hashes):
        for form, size in (("jpeg", (256, 192)), ("webp", (256, 192)), ("png", (128, 96)), ("jpeg", (400, 300))):
            again = Image.open(io.BytesIO(make.file(picture.resize(size), form)))
            assert (perceptual_hash(again) ^ bits).bit_count() <= 4
    assert min((one ^ other).bit_count() for one, other in itertools.combinations(hashes, 2)) > 12
