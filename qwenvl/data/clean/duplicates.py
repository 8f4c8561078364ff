"""Exact and near duplicates among all rows of a dataset, by daft: on this machine or on a cluster, with the same outcome.

A row is dropped if any better row is its double (see config.Duplicates). First rows that are equal in all that the rule compares
are reduced to the best of each; then the rest meet in buckets that doubles are sure, or nearly sure, to share, and each row of a
bucket is compared with the better ones. Buckets are the rows of one file or text where those must be the same; they are divided,
where there are none or they grow beyond CROWDED, first by texts, which tell more rows apart, then by pictures:

- texts: minhash (daft's `minhash`), HASHES hashes in bands of r rows. Texts of similarity s share a band with a chance of
  1 - (1 - s ** r) ** (HASHES // r); r is the largest of BAND_ROWS that overlooks at most one in 5000 at min_similarity.
- pictures: the 64 bits of the hash are cut into max_distance + 1 blocks. Hashes that differ in at most max_distance bits have a
  block in common (the pigeonhole principle), so nothing is overlooked.

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

HASHES = 128
BAND_ROWS = (4, 3, 2)
MOST_OVERLOOKED = 1 / 5000
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
    def bands(signatures: Series, sizes: Series) -> list[list[int]]:
        hashes = signatures.to_arrow().flatten().to_numpy().reshape(-1, HASHES)
        return divided(text_bands(hashes, rule.min_similarity), sizes.to_pylist())

    @func.batch(return_dtype=numbers)
    def blocks(hashes: Series, sizes: Series) -> list[list[int]]:
        return divided(hash_blocks(hashes.to_arrow().to_numpy(), rule.max_distance), sizes.to_pylist())

    @func.batch(return_dtype=DataType.list(pair))
    def doubles(*members: Series) -> list[list[dict[str, int]]]:
        buckets = zip(*(series.to_pylist() for series in members), strict=True)
        return [doubles_in(ranks, hashes, texts, rule) for ranks, hashes, texts in buckets]

    keys = [name for name in _compared_columns(rule) if name in ("image_key", "text_key")]
    # Divisions multiply rows: in between only keys and ranks are carried, and rows that are alone in their bucket are left out.
    members, facts = rows.select(*keys, "rank"), rows.select("rank", "image_hash", "compared")
    signature = minhash(col("compared"), num_hashes=HASHES, ngram_size=rule.ngram)
    divisions: dict[str, tuple[str | None, Any, Any]] = {
        "band": (rule.text, bands, signature),
        "block": (rule.image, blocks, col("image_hash")),
    }
    for name, (asked, divide, of) in divisions.items():
        if asked == "near":
            met = _met(members, keys) if keys else members.with_column("size", lit(CROWDED + 1))
            parts = met.join(facts, on="rank").with_column(name, divide(of, col("size")))
            members = parts.select(*keys, "rank", name).explode(name).collect()  # read twice below
            keys.append(name)
    crowds = _met(members, keys).join(facts, on="rank")
    buckets = crowds.groupby(*keys).agg(*(col(name).list_agg() for name in ("rank", "image_hash", "compared")))
    found = buckets.select(doubles(col("rank"), col("image_hash"), col("compared")).alias("pair")).explode("pair")
    return found.where(col("pair").not_null()).select(col("pair")["rank"].alias("rank"), col("pair")["better"].alias("better"))


def _met(members: Any, keys: Sequence[str]) -> Any:
    """The rows that are not alone in their bucket, each with the bucket's `size`."""
    import daft

    col: Any = daft.col
    sizes = members.groupby(*keys).agg(col("rank").count().alias("size"))
    return members.join(sizes.where(col("size") > 1), on=list(keys))


def hash_blocks(hashes: np.ndarray, max_distance: int) -> np.ndarray:
    """(n, blocks) uint64 of n 64-bit hashes: those at most max_distance bits apart have a number in common, in one column."""
    count = max(max_distance + 1, 2)
    edges = [64 * block // count for block in range(count + 1)]
    columns = []
    for block, (low, high) in enumerate(itertools.pairwise(edges)):
        content = hashes.astype(np.uint64) >> np.uint64(low) & np.uint64((1 << (high - low)) - 1)
        columns.append(content | np.uint64(block << 32))  # a block has at most 32 bits; its number keeps columns apart
    return np.stack(columns, axis=1)


def band_rows(min_similarity: float) -> int:
    """The largest of BAND_ROWS, so the smallest buckets, that overlooks no more than MOST_OVERLOOKED; the last if none does."""
    overlooked = {rows: (1 - min_similarity**rows) ** (HASHES // rows) for rows in BAND_ROWS}
    return next((rows for rows in BAND_ROWS if overlooked[rows] <= MOST_OVERLOOKED), BAND_ROWS[-1])


def text_bands(signatures: np.ndarray, min_similarity: float) -> np.ndarray:
    """(n, bands) uint64 of n minhash signatures (n, HASHES): texts with equal numbers have a band in common."""
    length = band_rows(min_similarity)
    bands = HASHES // length
    rows = signatures[:, : bands * length].reshape(-1, bands, length).astype(np.uint64)
    mixed = np.zeros(rows.shape[:2], dtype=np.uint64) + np.arange(bands, dtype=np.uint64)
    for number in range(length):
        mixed = (mixed ^ rows[:, :, number]) * np.uint64(0x9E3779B97F4A7C15)  # the golden ratio in 64 bits spreads what is near
        mixed ^= mixed >> np.uint64(29)
    return mixed


def divided(values: np.ndarray, sizes: Sequence[int]) -> list[list[int]]:
    """Of each row its numbers (n, parts) where its bucket is crowded; otherwise the bucket stays one."""
    return [row if size > CROWDED else [0] for row, size in zip(values.tolist(), sizes, strict=True)]


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
