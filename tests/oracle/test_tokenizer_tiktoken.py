"""Merges derived from ranks against tiktoken itself: on the published file where it is at hand, on a stand-in always."""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenvl.processing.tokenizer import SPLIT_PATTERN, Tokenizer, read_ranks
from tests.small_text import CORPUS, small_tokenizer

tiktoken = pytest.importorskip("tiktoken")

PUBLISHED = os.environ.get("QWENVL_QWEN_TIKTOKEN")

# Whatever tiktoken's and our own regex engine may disagree on: blanks, marks, digits of many scripts, contractions, emoji.
AWKWARD = st.sampled_from(
    ["'s", "'LL", "'ſ", " ", "  ", "\t", "\n", "\r\n", "\u3000", "\u00a0", "\u0085", "\u001c", "\u200b"]
    + ["٣", "Ⅳ", "½", "é", "e\u0301", "👩‍👩‍👧", "中文", "(1,2)"]
)
TEXTS = st.lists(AWKWARD | st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(CORPUS), max_size=8)


@lru_cache(1)
def pair() -> tuple[Tokenizer, tiktoken.Encoding]:
    if PUBLISHED:
        ranks = read_ranks(PUBLISHED)
    else:
        trained = small_tokenizer()
        ranks = {trained.id_to_bytes(index): index for index in range(trained.vocab_size - len(trained.specials))}
    return Tokenizer.from_ranks(ranks), tiktoken.Encoding("oracle", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={})


@settings(max_examples=500)
@given(TEXTS.map("".join))
def test_ids_equal_tiktoken(text: str) -> None:
    ours, theirs = pair()
    assert ours.encode(text) == theirs.encode(unicodedata.normalize("NFC", text), disallowed_special=())
