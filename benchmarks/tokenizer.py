"""C13: text to ids, against the library `tokenizers`, which does our merging, and tiktoken; all must give the same ids.

English and Chinese in turns, sentences of the words that Unicode CLDR names (Debian's unicode-cldr-core), with a vocabulary of
16,384 that is trained on a part of them and read as Qwen-VL's `qwen.tiktoken` is. Whole documents, and captions of one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.harness import Against, Case, Run
from qwenvl.data.synth.text.corpus import open_corpus
from qwenvl.processing.tokenizer import SPLIT_PATTERN, Tokenizer, train_tokenizer

BYTES = 1_500_000
VOCABULARY = 16_384
TRAINED_ON = 300
"""Documents that the vocabulary is made from."""
AT_TINY_SIZE = {"size": 40_000, "vocabulary": 600}
_SENTENCE = re.compile("(?<=[.?!。？！])")

Encode = Callable[[str], Sequence[int]]


def cases(quick: bool, size: int = BYTES, vocabulary: int = VOCABULARY) -> Iterator[Case]:
    texts = documents(size // 8 if quick else size)
    ranks = train(texts[:TRAINED_ON], vocabulary)
    yield compare("documents", texts, ranks)
    if not quick:
        yield compare("captions", [part.strip() for text in texts for part in _SENTENCE.split(text) if part.strip()], ranks)


def documents(size: int) -> list[str]:
    """So many bytes, in texts of some two thousand."""
    corpus, rng = open_corpus(None), np.random.default_rng(0)
    texts: list[str] = []
    while size > 0:
        texts.append(corpus.passage("en" if len(texts) % 2 else "zh", rng))
        size -= len(texts[-1].encode())
    return texts


def train(texts: Sequence[str], vocabulary: int) -> dict[bytes, int]:
    """Tokens and ranks, as a tiktoken file lists them."""
    trained = train_tokenizer(texts, vocabulary)
    return {trained.id_to_bytes(index): index for index in range(vocabulary) if not trained.is_special(index)}


def compare(kind: str, texts: Sequence[str], ranks: dict[bytes, int]) -> Case:
    encoders = {"qwenvl": without_memory(Tokenizer.from_ranks(ranks)), **peers(ranks)}

    def run_of(encode: Encode) -> Run:
        def run() -> None:
            for text in texts:
                encode(text)

        return run

    def different() -> float:
        """The share of texts that do not get the same ids from all."""
        ours, *others = encoders.values()
        return sum(any(list(other(text)) != list(ours(text)) for other in others) for text in texts) / len(texts)

    size = sum(len(text.encode()) for text in texts)
    against = [Against("qwenvl", "tokenizers", 0.9), *(Against("qwenvl", name) for name in encoders if name == "tiktoken")]
    variants = {name: run_of(encode) for name, encode in encoders.items()}
    return Case(f"{len(texts)} {kind}", "kB", variants, size // 1000, agreement=different, against=against, rounds=3)


def without_memory(tokenizer: Tokenizer) -> Encode:
    """Its `encode` without the short texts that it keeps: every caption is one that it has not met."""
    tokenizer._encode_cached = tokenizer._encode
    return tokenizer.encode


def peers(ranks: dict[bytes, int]) -> dict[str, Encode]:
    """The library on the tokenizer.json that ours writes, and tiktoken where it is installed."""
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(Tokenizer.from_ranks(ranks).to_json())
    # Special tokens are no text to ours; a caption has none.
    found: dict[str, Encode] = {"tokenizers": lambda text: backend.encode(text, add_special_tokens=False).ids}
    try:
        import tiktoken
    except ImportError:
        return found
    other = tiktoken.Encoding("qwenvl", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={})
    return {**found, "tiktoken": other.encode_ordinary}
