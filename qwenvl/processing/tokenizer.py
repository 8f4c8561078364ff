"""Text to ids and back: byte-level BPE in the vocabulary of the published `qwen.tiktoken`, or a small trained one.

Special tokens live beside the BPE, never inside it: `encode` takes plain text and cannot yield a special id, whatever the text
says. Whoever means a special token inserts `special(name)`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from qwenvl.runtime import atomic_write
from qwenvl.types import QwenVLError

# Split into words before merging; every digit is a word of its own (PAT_STR in Qwen-VL/tokenization_qwen.py,
# repository wangjl1993/extract_human_attri @ fc9525f).
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# A trained vocabulary keeps every capital of running capitals apart as well: what is read in a picture then is one token a
# letter, whatever its neighbours are.
CAPITAL_PATTERN = r"\p{Lu}(?!\p{Ll})"

IMAGE_SPECIALS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>", "</img>", "<imgpad>")
CHAT_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# 205 unused tokens stand between the two groups in the published vocabulary (ids 151646 to 151850, same file).
PUBLISHED_SPECIALS = (*CHAT_SPECIALS, *(f"<|extra_{index}|>" for index in range(205)), *IMAGE_SPECIALS)
TRAINED_SPECIALS = (*CHAT_SPECIALS, *IMAGE_SPECIALS)

TIKTOKEN_FILE = "qwen.tiktoken"
JSON_FILE = "tokenizer.json"

# Without a limit BPE glues whole templates of a small synthetic corpus into single tokens.
TRAINED_MAX_TOKEN_BYTES = 12
CACHED_LENGTH = 256  # characters; longer texts are rarely repeated
CACHED_TEXTS = 1 << 16


class TokenizerError(QwenVLError, ValueError):
    """A vocabulary that cannot be read or trained, or a special token it does not have."""


class Tokenizer:
    """Plain text to ids, ids to text or bytes, special tokens by name.

    `vocab_size` counts all ids, special ones included; `specials` maps their names to ids. Ids that mean nothing (the padding
    rows of an embedding) decode to nothing.
    """

    def __init__(self, backend: Backend, specials: Mapping[str, int], token_bytes: Mapping[int, bytes]) -> None:
        self.specials = dict(specials)
        self.vocab_size = max((*self.specials.values(), *token_bytes)) + 1
        self._backend = backend
        self._special_ids = frozenset(self.specials.values())
        self._bytes = [b""] * self.vocab_size
        for index, value in token_bytes.items():
            self._bytes[index] = value
        for name, index in self.specials.items():
            self._bytes[index] = name.encode()
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
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        ordered = sorted(self.specials.items(), key=lambda item: item[1])
        data["added_tokens"] = [{"id": index, "content": name, **plain} for name, index in ordered]
        return json.dumps(data, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str = JSON_FILE) -> Tokenizer:
        """From the content of a tokenizer.json with a byte-level BPE. Its added tokens become `specials`."""
        try:
            data = json.loads(text)
            specials = {token["content"]: token["id"] for token in data["added_tokens"]}
            data["added_tokens"] = []
            vocabulary = {token: index for token, index in data["model"]["vocab"].items() if token not in specials}
            data["model"]["vocab"] = vocabulary
            backend = Backend.from_str(json.dumps(data, ensure_ascii=False))
            token_bytes = {index: _to_bytes(token) for token, index in vocabulary.items()}
        except Exception as error:  # `tokenizers` raises bare Exception for a file that it cannot build
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise TokenizerError(f"{where}: not a byte-level BPE tokenizer.json ({reason})") from error
        return cls(backend, specials, token_bytes)

    @classmethod
    def from_ranks(cls, ranks: Mapping[bytes, int], special_names: Sequence[str] = PUBLISHED_SPECIALS) -> Tokenizer:
        """From tiktoken's table of token bytes and ranks (a rank is an id); special ids follow the highest rank."""
        vocabulary = {_to_symbols(token): rank for token, rank in ranks.items()}
        merges = [(_to_symbols(left), _to_symbols(right)) for left, right in merges_of_ranks(ranks)]
        # ignore_merges looks a whole word up before merging, as tiktoken does.
        backend = _with_text_rules(Backend(models.BPE(vocabulary, merges, ignore_merges=True)))
        first = max(ranks.values()) + 1
        specials = {name: first + offset for offset, name in enumerate(special_names)}
        return cls(backend, specials, {rank: token for token, rank in ranks.items()})

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer:
        """Read a checkpoint's tokenizer.json or qwen.tiktoken. Raises TokenizerError where there is neither."""
        folder = Path(folder)
        if (folder / JSON_FILE).is_file():
            return cls.from_json((folder / JSON_FILE).read_text(encoding="utf-8"), str(folder / JSON_FILE))
        if (folder / TIKTOKEN_FILE).is_file():
            return cls.from_ranks(read_ranks(folder / TIKTOKEN_FILE))
        raise TokenizerError(f"{folder}: neither {JSON_FILE} nor {TIKTOKEN_FILE} there; text needs one of them beside the weights")

    def __reduce__(self) -> tuple[Callable[[str], Tokenizer], tuple[str]]:
        return Tokenizer.from_json, (self.to_json(),)

    def _encode(self, text: str) -> tuple[int, ...]:
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
    backend = _with_text_rules(Backend(models.BPE()), CAPITAL_PATTERN)
    trainer = trainers.BpeTrainer(
        vocab_size=merged_size, initial_alphabet=list(_BYTE_SYMBOLS), special_tokens=[], show_progress=False,
        max_token_length=TRAINED_MAX_TOKEN_BYTES,
    )
    backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() != merged_size:
        raise TokenizerError(
            f"the texts yield {backend.get_vocab_size()} tokens, not {merged_size}; give more text or a smaller vocab_size"
        )
    specials = {name: merged_size + offset for offset, name in enumerate(TRAINED_SPECIALS)}
    return Tokenizer(backend, specials, {index: _to_bytes(token) for token, index in backend.get_vocab().items()})


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Read a tiktoken file: one "base64(token bytes) rank" per line, ranks 0, 1, 2, ... without a gap."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(Path(path).read_bytes().splitlines(), start=1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise TokenizerError(f"{path}: line {number} is not 'base64 rank'; fetch the file again") from None
    if not ranks or sorted(ranks.values()) != list(range(len(ranks))):
        raise TokenizerError(f"{path}: ranks have gaps; the file is damaged, fetch it again")
    return ranks


def merges_of_ranks(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The pair that each token is merged from, in order of rank.

    tiktoken merges whichever neighbours join to the lowest rank; a list of merges names the pairs. They agree: when a token
    appears, its bytes have been merged as they would be alone, so the last pair is the one that its own merging ends with.
    """
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        cuts = [cut for cut in range(1, len(token)) if token[:cut] in ranks and token[cut:] in ranks]
        if len(cuts) == 1:
            merges.append((token[: cuts[0]], token[cuts[0] :]))
        elif cuts and len(parts := _merge_below(token, ranks, rank)) == 2:
            merges.append((parts[0], parts[1]))
    return merges


def _merge_below(token: bytes, ranks: Mapping[bytes, int], limit: int) -> list[bytes]:
    """BPE of `token` with the ranks below `limit`."""
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 2:
        pair_ranks = [ranks.get(parts[index] + parts[index + 1], limit) for index in range(len(parts) - 1)]
        lowest = min(pair_ranks)
        if lowest >= limit:
            break
        at = pair_ranks.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _with_text_rules(backend: Backend, *first_splits: str) -> Backend:
    """What happens to text before the merges: NFC, splits of one's own, the published split, bytes as symbols."""
    splits = (pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in (*first_splits, SPLIT_PATTERN))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return backend


def _byte_symbols() -> tuple[str, ...]:
    """The visible character that stands for each byte in a byte-level BPE: itself if printable, else one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printable]
    return tuple(chr(byte) if byte in printable else chr(256 + hidden.index(byte)) for byte in range(256))


_BYTE_SYMBOLS = _byte_symbols()
_SYMBOL_BYTES = {symbol: byte for byte, symbol in enumerate(_BYTE_SYMBOLS)}


def _to_symbols(token: bytes) -> str:
    return "".join(_BYTE_SYMBOLS[byte] for byte in token)


def _to_bytes(symbols: str) -> bytes:
    return bytes(_SYMBOL_BYTES[symbol] for symbol in symbols)
