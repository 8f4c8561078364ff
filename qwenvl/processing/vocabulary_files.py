"""Files of published vocabularies: `qwen.tiktoken`, and `vocab.json` with `merges.txt`; and bytes as the symbols of the latter."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwenvl.types import QwenVLError

VOCAB_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
ADDED_FILE = "tokenizer_config.json"


class TokenizerError(QwenVLError, ValueError):
    """A vocabulary that cannot be read or trained, or a special token it does not have."""


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


def read_vocabulary(folder: str | Path) -> tuple[dict[str, int], list[tuple[str, str]], list[dict[str, Any]]]:
    """vocab.json, merges.txt, and the added tokens of tokenizer_config.json, [] without that file.

    Raises TokenizerError naming the file that cannot be used.
    """
    folder = Path(folder)
    vocabulary = _read_json(folder / VOCAB_FILE)
    known = set(SYMBOL_BYTES)
    if not vocabulary or not all(isinstance(index, int) and known.issuperset(token) for token, index in vocabulary.items()):
        raise TokenizerError(f"{folder / VOCAB_FILE}: not a byte-level vocabulary of tokens and ids; fetch the file again")
    path = folder / MERGES_FILE
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise TokenizerError(f"{path}: cannot be read; {VOCAB_FILE} needs it beside it") from None
    # A merge may begin with "#": only the first line can be the header.
    pairs = [line.rstrip("\r").split(" ") for line in lines[lines[0].startswith("#version") :] if line.strip()]
    for pair in pairs:
        if len(pair) != 2 or any(token not in vocabulary for token in (*pair, "".join(pair))):
            raise TokenizerError(f"{path}: {' '.join(pair)!r} is no pair of tokens of {VOCAB_FILE}; fetch both files again")
    added = _read_json(folder / ADDED_FILE).get("added_tokens_decoder", {}) if (folder / ADDED_FILE).is_file() else {}
    try:
        tokens = [{**token, "id": int(index), "content": str(token["content"])} for index, token in added.items()]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise TokenizerError(f"{folder / ADDED_FILE}: added_tokens_decoder is no table of ids and tokens; fetch it again") from None
    return vocabulary, [(left, right) for left, right in pairs], tokens


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise TokenizerError(f"{path}: not valid JSON; fetch the file again") from None
    if not isinstance(data, dict):
        raise TokenizerError(f"{path}: not a JSON object; fetch the file again")
    return data


def _byte_symbols() -> tuple[str, ...]:
    """The visible character that stands for each byte in a byte-level BPE: itself if printable, else one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printable]
    return tuple(chr(byte) if byte in printable else chr(256 + hidden.index(byte)) for byte in range(256))


BYTE_SYMBOLS = _byte_symbols()
SYMBOL_BYTES = {symbol: byte for byte, symbol in enumerate(BYTE_SYMBOLS)}


def to_symbols(token: bytes) -> str:
    return "".join(BYTE_SYMBOLS[byte] for byte in token)


def to_bytes(symbols: str) -> bytes:
    return bytes(SYMBOL_BYTES[symbol] for symbol in symbols)
