"""Exact and near duplicates among all rows of a dataset, by daft: on this machine or on a cluster, with the same outcome.

A row is dropped if any better row is its double (see config.Duplicates). First rows that are equal in all that the rule compares
are reduced to the best of each; then the rest meet in buckets that doubles are sure, or nearly sure, to share, and each row of a
bucket is compared with the better ones:

- pictures: the 64 bits of the hash are cut into max_distance + 1 blocks. Hashes that differ in at most max_distance bits have a
  block in common (the pigeonhole principle), so nothing is overlooked.
- texts alone: minhash of BANDS bands of BAND_ROWS rows (daft's `minhash`). Texts of similarity s share a band with a chance of
  1 - (1 - s ** BAND_ROWS) ** BANDS: 0.9998 at 0.7, 0.9999999 at 0.8. Buckets of pictures that grow beyond CROWDED are divided the
  same way if the texts have to be alike.

What is decided is never the estimate but the distance of the hashes and the Jaccard similarity of the words themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qwenvl.data.clean.config import Duplicates
from qwenvl.data.clean.state import ROW_BITS, SHARD_BITS

if TYPE_CHECKING:
    import daft
    import pyarrow as pa

BANDS, BAND_ROWS = 32, 4
CROWDED = 1000
COLUMNS = ("place", "text_length", "image_key", "image_hash", "text_key", "compared")
"""What is needed of the table of verdicts."""

_PLACE_BITS = ROW_BITS + SHARD_BITS
_PLACE = (1 << _PLACE_BITS) - 1
_LONGEST = (1 << (63 - _PLACE_BITS)) - 1


def find_duplicates(rows: daft.DataFrame, rule: Duplicates) -> pa.Table:
    """The rows that the rule drops: `place`, and `better`, the place of a better double, ascending. `rows` has COLUMNS."""
    from daft import col

    rank: Any = col("place")
    if rule.keep == "longest":
        length: Any = col("text_length").cast("int64")
        rank = rank + (_LONGEST - length.clip(0, _LONGEST)) * (1 << _PLACE_BITS)
    ranked = rows.with_column("rank", rank)
    same: Any = _compared_columns(rule)
    joined = ranked.join(ranked.groupby(*same).agg(col("rank").min().alias("better")), on=same)
    found = joined.where(col("rank") > col("better")).select("rank", "better")
    if "near" in (rule.image, rule.text):
        found = found.concat(_near(joined.where(col("rank") == col("better")).exclude("better"), rule))
    best = found.groupby("rank").agg(col("better").min())
    table = best.select(_place(col("rank")).alias("place"), _place(col("better")).alias("better")).to_arrow()
    return table.sort_by("place")


def _place(rank: Any) -> Any:
    return rank % (1 << _PLACE_BITS)


def _compared_columns(rule: Duplicates) -> list[str]:
    image = {"exact": ["image_key"], "near": ["image_hash"], None: []}[rule.image]
    return image + {"exact": ["text_key"], "near": ["compared"], None: []}[rule.text]


def _near(rows: Any, rule: Duplicates) -> Any:
    """(rank, better) of rows that have a double in one of their buckets; a row may come several times."""
    import daft
    from daft import DataType, Series, func, lit
    from daft.functions import minhash

    col: Any = daft.col
    numbers, pair = DataType.list(DataType.uint64()), DataType.struct({"rank": DataType.int64(), "better": DataType.int64()})

    @func.batch(return_dtype=numbers)
    def blocks(hashes: Series) -> list[list[int]]:
        return hash_blocks(np.array(hashes.to_pylist(), dtype=np.uint64), rule.max_distance).tolist()

    @func.batch(return_dtype=numbers)
    def bands(signatures: Series, sizes: Series) -> list[list[int]]:
        values = text_bands(np.array(signatures.to_pylist(), dtype=np.uint64))
        return [row if size > CROWDED else [0] for row, size in zip(values.tolist(), sizes.to_pylist(), strict=True)]

    @func.batch(return_dtype=DataType.list(pair))
    def doubles(*members: Series) -> list[list[dict[str, int]]]:
        buckets = zip(*(series.to_pylist() for series in members), strict=True)
        return [doubles_in(ranks, hashes, texts, rule) for ranks, hashes, texts in buckets]

    keys = [name for name in _compared_columns(rule) if name in ("image_key", "text_key")]
    if rule.image == "near":
        rows = rows.with_column("block", blocks(col("image_hash"))).explode("block")
        keys.append("block")
    if rule.text == "near":
        size: Any = lit(CROWDED + 1)
        if keys:
            met = rows.groupby(*keys).agg(col("rank").count().alias("size"))
            rows, size = rows.join(met.where(col("size") > 1), on=keys), col("size")
        signature = minhash(col("compared"), num_hashes=BANDS * BAND_ROWS, ngram_size=rule.ngram)
        rows = rows.with_column("band", bands(signature, size)).explode("band")
        keys.append("band")
    buckets = rows.groupby(*keys).agg(*(col(name).list_agg() for name in ("rank", "image_hash", "compared")))
    crowds = buckets.where(col("rank").list_count() > 1)
    found = crowds.select(doubles(col("rank"), col("image_hash"), col("compared")).alias("pair")).explode("pair")
    return found.where(col("pair").not_null()).select(col("pair")["rank"].alias("rank"), col("pair")["better"].alias("better"))


def hash_blocks(hashes: np.ndarray, max_distance: int) -> np.ndarray:
    """(n, blocks) uint64 of n 64-bit hashes: those at most max_distance bits apart have a number in common, in one column."""
    count = max(max_distance + 1, 2)
    edges = [64 * block // count for block in range(count + 1)]
    columns = []
    for block, (low, high) in enumerate(itertools.pairwise(edges)):
        content = hashes.astype(np.uint64) >> np.uint64(low) & np.uint64((1 << (high - low)) - 1)
        columns.append(content | np.uint64(block << 32))  # a block has at most 32 bits; its number keeps columns apart
    return np.stack(columns, axis=1)


def text_bands(signatures: np.ndarray) -> np.ndarray:
    """(n, BANDS) uint64 of n minhash signatures (n, BANDS * BAND_ROWS): texts with equal numbers have a band in common."""
    rows = signatures.reshape(-1, BANDS, BAND_ROWS).astype(np.uint64)
    mixed = np.zeros(rows.shape[:2], dtype=np.uint64) + np.arange(BANDS, dtype=np.uint64)
    for number in range(BAND_ROWS):
        mixed = (mixed ^ rows[:, :, number]) * np.uint64(0x9E3779B97F4A7C15)  # the golden ratio in 64 bits spreads what is near
        mixed ^= mixed >> np.uint64(29)
    return mixed


def doubles_in(ranks: Sequence[int], hashes: Sequence[int], texts: Sequence[str], rule: Duplicates) -> list[dict[str, int]]:
    """Of the rows of one bucket those that have a better double there, each with the best."""
    order = np.argsort(ranks)
    bits = np.array(hashes, dtype=np.uint64)[order]
    shingles = [word_groups(texts[place], rule.ngram) for place in order] if rule.text == "near" else []
    found = []
    for worse in range(1, len(order)):
        near = np.arange(worse)
        if rule.image == "near":
            near = near[np.bitwise_count(bits[:worse] ^ bits[worse]) <= rule.max_distance]
        for better in near:
            if not shingles or jaccard(shingles[worse], shingles[better]) >= rule.min_similarity:
                found.append({"rank": ranks[order[worse]], "better": ranks[order[better]]})
                break
    return found


def word_groups(text: str, length: int) -> set[str]:
    """Every run of `length` words; the whole text where it has fewer."""
    words = text.split(" ")
    return {" ".join(words[start : start + length]) for start in range(max(len(words) - length + 1, 1))}


def jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)
