"""Text to ids and back: byte-level BPE in the published vocabularies (`qwen.tiktoken`, `tokenizer.json`, `vocab.json` with
`merges.txt`), or a small trained one.

Special tokens live beside the BPE, never inside it: `encode` takes plain text and cannot yield a special id, whatever the text
says. Whoever means a special token inserts `special(name)`. Added tokens that a file does not call special (`<tool_call>` of
Qwen2.5-VL) are words: found in any text, and shown in any answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from qwenvl.families.qwen2_vl import QWEN2_VL
from qwenvl.families.qwen_vl import QWEN_VL
from qwenvl.families.spec import FamilySpec
from qwenvl.processing.vocabulary_files import (
    BYTE_SYMBOLS,
    MERGES_FILE,
    VOCAB_FILE,
    TokenizerError,
    merges_of_ranks,
    read_ranks,
    read_vocabulary,
    to_bytes,
    to_symbols,
)
from qwenvl.runtime import atomic_write

# Split into words before merging; every digit is a word of its own (PAT_STR in Qwen-VL/tokenization_qwen.py,
# repository wangjl1993/extract_human_attri @ fc9525f).
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# A trained vocabulary keeps every capital of running capitals apart as well: what is read in a picture then is one token a
# letter, whatever its neighbours are.
CAPITAL_PATTERN = r"\p{Lu}(?!\p{Ll})"

TRAINED_SPECIALS = QWEN_VL.special_tokens.trained
"""What a vocabulary calls its special tokens when it is trained; `of_family` gives it the names of another family."""

TIKTOKEN_FILE = "qwen.tiktoken"
JSON_FILE = "tokenizer.json"

# Without a limit BPE glues whole templates of a small synthetic corpus into single tokens.
TRAINED_MAX_TOKEN_BYTES = 12
CACHED_LENGTH = 256  # characters; longer texts are rarely repeated
CACHED_TEXTS = 1 << 16


class Tokenizer:
    """Plain text to ids, ids to text or bytes, special tokens by name.

    `vocab_size` counts all ids, special ones included; `specials` maps their names to ids, `words` those of added tokens that are
    found in plain text. Ids that mean nothing (the padding rows of an embedding) decode to nothing.
    """

    def __init__(
        self,
        backend: Backend,
        specials: Mapping[str, int],
        token_bytes: Mapping[int, bytes],
        words: Mapping[str, int] | None = None,
    ) -> None:
        self.specials = dict(specials)
        self.words = dict(words or {})
        self.vocab_size = max((*self.specials.values(), *self.words.values(), *token_bytes)) + 1
        self._backend = backend
        self._special_ids = frozenset(self.specials.values())
        self._bytes = [b""] * self.vocab_size
        for index, value in token_bytes.items():
            self._bytes[index] = value
        for name, index in (self.specials | self.words).items():
            self._bytes[index] = name.encode()
        longest_first = sorted(self.words, key=len, reverse=True)
        self._words = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if self.words else None
        self._encode_cached: Callable[[str], tuple[int, ...]] = lru_cache(CACHED_TEXTS)(self._encode)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, NFC-normalised. A special token's name in the text is text like any other."""
        return list(self._encode_cached(text) if len(text) <= CACHED_LENGTH else self._encode(text))

    def special(self, name: str) -> int:
        """The id of a special token such as `<|im_start|>` or `<ref>`. Raises TokenizerError for an unknown one."""
        try:
            return self.specials[name]
        except KeyError:
            named = ", ".join(known for known in self.specials if "extra_" not in known)  # hundreds of them have no meaning
            raise TokenizerError(f"this tokenizer has no special token {name!r}; it has {named}") from None

    def is_special(self, index: int) -> bool:
        return index in self._special_ids

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """Text of ids; bytes that are not UTF-8 become U+FFFD."""
        kept = (index for index in ids if not (skip_special and index in self._special_ids))
        return b"".join(map(self.id_to_bytes, kept)).decode("utf-8", errors="replace")

    def id_to_bytes(self, index: int) -> bytes:
        """The bytes of one token: what a streaming decoder joins, since a character may span tokens."""
        return self._bytes[index] if 0 <= index < self.vocab_size else b""

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json, readable by any `tokenizers` library, special tokens included."""
        with atomic_write(Path(folder) / JSON_FILE) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        data = json.loads(self._backend.to_str())
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        ordered = sorted((self.specials | self.words).items(), key=lambda item: item[1])
        data["added_tokens"] = [
            {"id": index, "content": name, **plain, "special": name in self.specials} for name, index in ordered
        ]
        return json.dumps(data, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str = JSON_FILE) -> Tokenizer:
        """From the content of a tokenizer.json with a byte-level BPE. Its added tokens become `specials` and `words`."""
        try:
            data = json.loads(text)
            specials, words = _added(data["added_tokens"])
            data["added_tokens"] = []
            added = specials | words
            vocabulary = {token: index for token, index in data["model"]["vocab"].items() if token not in added}
            data["model"]["vocab"] = vocabulary
            backend = Backend.from_str(json.dumps(data, ensure_ascii=False))
            token_bytes = {index: to_bytes(token) for token, index in vocabulary.items()}
        except Exception as error:  # `tokenizers` raises bare Exception for a file that it cannot build
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise TokenizerError(f"{where}: not a byte-level BPE tokenizer.json ({reason})") from error
        return cls(backend, specials, token_bytes, words)

    @classmethod
    def from_vocabulary(
        cls, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], added: Sequence[Mapping[str, Any]] = ()
    ) -> Tokenizer:
        """From the tables of vocab.json and merges.txt, both in byte-level symbols.

        `added` are tokens as tokenizer_config.json lists them, {"id", "content", "special"}; without any, the special ones of the
        Qwen2 families, whose files these are, follow the highest id.
        """
        names = QWEN2_VL.special_tokens.published
        specials, words = _added(added) if added else (dict(zip(names, count(max(vocabulary.values()) + 1))), {})
        plain = {token: index for token, index in vocabulary.items() if token not in specials | words}
        backend = _with_text_rules(Backend(models.BPE(plain, list(merges))))
        return cls(backend, specials, {index: to_bytes(token) for token, index in plain.items()}, words)

    @classmethod
    def from_ranks(cls, ranks: Mapping[bytes, int]) -> Tokenizer:
        """From Qwen-VL's tiktoken table of token bytes and ranks (a rank is an id); its special ids follow the highest rank."""
        vocabulary = {to_symbols(token): rank for token, rank in ranks.items()}
        merges = [(to_symbols(left), to_symbols(right)) for left, right in merges_of_ranks(ranks)]
        # ignore_merges looks a whole word up before merging, as tiktoken does.
        backend = _with_text_rules(Backend(models.BPE(vocabulary, merges, ignore_merges=True)))
        specials = dict(zip(QWEN_VL.special_tokens.published, count(max(ranks.values()) + 1)))
        return cls(backend, specials, {rank: token for token, rank in ranks.items()})

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer:
        """Read a checkpoint's tokenizer.json, vocab.json with merges.txt, or qwen.tiktoken. Raises TokenizerError without any."""
        folder = Path(folder)
        if (folder / JSON_FILE).is_file():
            return cls.from_json((folder / JSON_FILE).read_text(encoding="utf-8"), str(folder / JSON_FILE))
        if (folder / VOCAB_FILE).is_file():
            return cls.from_vocabulary(*read_vocabulary(folder))
        if (folder / TIKTOKEN_FILE).is_file():
            return cls.from_ranks(read_ranks(folder / TIKTOKEN_FILE))
        known = f"neither {JSON_FILE} nor {TIKTOKEN_FILE} nor {VOCAB_FILE} with {MERGES_FILE}"
        raise TokenizerError(f"{folder}: {known} there; text needs one of them beside the weights")

    def of_family(self, spec: FamilySpec) -> Tokenizer:
        """A vocabulary of TRAINED_SPECIALS as a family takes it: same ids, the family's names; tokens that it has more come last.

        Text is tokenised alike, so that a decoder trained on text serves all families. Raises TokenizerError for a name that is
        not there.
        """
        names = spec.special_tokens.trained
        changed = {self.special(old): new for old, new in zip(TRAINED_SPECIALS, names)}
        specials = {changed.get(index, name): index for name, index in self.specials.items()}
        specials |= zip(names[len(TRAINED_SPECIALS) :], count(self.vocab_size))
        data = json.loads(self.to_json())
        data["added_tokens"] = [{"content": name, "id": index} for name, index in specials.items()]
        data["added_tokens"] += [{"content": name, "id": index, "special": False} for name, index in self.words.items()]
        return Tokenizer.from_json(json.dumps(data, ensure_ascii=False))

    def __reduce__(self) -> tuple[Callable[[str], Tokenizer], tuple[str]]:
        return Tokenizer.from_json, (self.to_json(),)

    def _encode(self, text: str) -> tuple[int, ...]:
        if self._words is None:
            return self._encode_plain(text)
        pieces = self._words.split(text)  # words at the odd places
        return tuple(
            index
            for place, piece in enumerate(pieces)
            for index in ((self.words[piece],) if place % 2 else self._encode_plain(piece))
        )

    def _encode_plain(self, text: str) -> tuple[int, ...]:
        try:
            return tuple(self._backend.encode(text, add_special_tokens=False).ids)
        except (UnicodeEncodeError, TypeError):
            # Lone surrogates (half an emoji cut from JSON) have no UTF-8: pairs are joined, the rest becomes U+FFFD.
            mended = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            return tuple(self._backend.encode(mended, add_special_tokens=False).ids)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE whose last ids are the special tokens, in the order of TRAINED_SPECIALS.

    The same texts in the same order give the same tokenizer. Raises TokenizerError if the texts do not yield enough tokens.
    """
    merged_size = vocab_size - len(TRAINED_SPECIALS)
    if merged_size < 256:
        raise TokenizerError(f"vocab_size {vocab_size} leaves no room for 256 bytes and {len(TRAINED_SPECIALS)} special tokens")
    if merged_size >= 2**31:
        raise TokenizerError(f"vocab_size {vocab_size} is more than any text yields; give a smaller one")
    backend = _with_text_rules(Backend(models.BPE()), CAPITAL_PATTERN)
    trainer = trainers.BpeTrainer(
        vocab_size=merged_size, initial_alphabet=list(BYTE_SYMBOLS), special_tokens=[], show_progress=False,
        max_token_length=TRAINED_MAX_TOKEN_BYTES,
    )
    backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() != merged_size:
        raise TokenizerError(
            f"the texts yield {backend.get_vocab_size()} tokens, not {merged_size}; give more text or a smaller vocab_size"
        )
    specials = dict(zip(TRAINED_SPECIALS, count(merged_size)))
    return Tokenizer(backend, specials, {index: to_bytes(token) for token, index in backend.get_vocab().items()})


def _added(tokens: Sequence[Mapping[str, Any]]) -> tuple[dict[str, int], dict[str, int]]:
    """Special tokens and words, name to id; a token is special unless the file says that it is not."""
    specials = {token["content"]: token["id"] for token in tokens if token.get("special", True)}
    return specials, {token["content"]: token["id"] for token in tokens if token["content"] not in specials}


def _with_text_rules(backend: Backend, *first_splits: str) -> Backend:
    """What happens to text before the merges: NFC, splits of one's own, the published split, bytes as symbols."""
    splits = (pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in (*first_splits, SPLIT_PATTERN))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return backend
