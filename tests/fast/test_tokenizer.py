"""The tokenizer: published ids, plain text stays plain, nothing lost on the way back."""

from __future__ import annotations

import base64
import json
import os
import pickle
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from qwenvl.families import find_preset, get_family
from qwenvl.processing.tokenizer import (
    TRAINED_SPECIALS,
    Tokenizer,
    TokenizerError,
    merges_of_ranks,
    read_ranks,
    train_tokenizer,
)
from tests.small_text import CORPUS, golden_ranks, golden_tokenizer, golden_tokens, small_tokenizer

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
PUBLISHED = os.environ.get("QWENVL_QWEN_TIKTOKEN")


@pytest.mark.parametrize(("text", "ids"), golden_tokens()["plain"])
def test_plain_text_gets_the_published_ids(text: str, ids: list[int]) -> None:
    assert golden_tokenizer().encode(text) == ids
    assert golden_tokenizer().decode(ids) == unicodedata.normalize("NFC", text)


def test_special_tokens_have_the_published_ids() -> None:
    published = {
        "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<|extra_0|>": 151646, "<|extra_204|>": 151850,
        "<ref>": 151851, "</ref>": 151852, "<box>": 151853, "</box>": 151854, "<quad>": 151855, "</quad>": 151856,
        "<img>": 151857, "</img>": 151858, "<imgpad>": 151859,
    }  # fmt: skip
    tokenizer = golden_tokenizer()
    assert {name: tokenizer.special(name) for name in published} == published
    assert tokenizer.vocab_size == 151860


@pytest.mark.parametrize(("text", "ids"), golden_tokens()["specials"])
def test_published_ids_decode_with_and_without_special_tokens(text: str, ids: list[int]) -> None:
    plain = text
    for name in get_family("qwen_vl").special_tokens.published:
        plain = plain.replace(name, "")
    assert golden_tokenizer().decode(ids) == text
    assert golden_tokenizer().decode(ids, skip_special=True) == plain


@given(st.lists(st.sampled_from(TRAINED_SPECIALS) | ANY_TEXT, max_size=6).map("".join))
def test_special_tokens_typed_by_a_user_stay_text(text: str) -> None:
    """R3: whatever the text says, no special id comes out of it, and the text comes back."""
    for tokenizer in (small_tokenizer(), golden_tokenizer()):
        ids = tokenizer.encode(text)
        assert not any(tokenizer.is_special(index) for index in ids)
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


@given(ANY_TEXT)
def test_bytes_of_the_tokens_are_the_bytes_of_the_text(text: str) -> None:
    tokenizer = small_tokenizer()
    assert b"".join(map(tokenizer.id_to_bytes, tokenizer.encode(text))) == unicodedata.normalize("NFC", text).encode()


def test_half_an_emoji_is_not_a_crash() -> None:
    tokenizer = small_tokenizer()
    assert tokenizer.decode(tokenizer.encode("a\ud83d")) == "a\ufffd"
    assert tokenizer.decode(tokenizer.encode("\ud83d\udc36")) == "🐶"


def test_cut_characters_and_padding_rows_decode_softly() -> None:
    tokenizer = golden_tokenizer()
    ids = tokenizer.encode("🐶")
    assert tokenizer.decode(ids[:-1]) in ("", "\ufffd")
    assert tokenizer.id_to_bytes(tokenizer.vocab_size) == tokenizer.id_to_bytes(151935) == b""


def test_trained_tokenizer_is_deterministic_and_ends_with_the_special_tokens() -> None:
    first, second = train_tokenizer(CORPUS, 320), train_tokenizer(iter(CORPUS), 320)
    assert first.to_json() == second.to_json()
    assert list(first.specials) == list(TRAINED_SPECIALS)
    assert list(first.specials.values()) == list(range(308, 320))
    assert max(len(first.id_to_bytes(index)) for index in range(308)) <= 12
    assert len(first.encode("12345")) == 5, "every digit is a token of its own"


def test_trained_tokenizer_fits_the_nano_preset() -> None:
    config = find_preset("qwen-vl-nano").config
    specials = {name: config.decoder.vocab_size - 12 + offset for offset, name in enumerate(TRAINED_SPECIALS)}
    ids = (config.image_start_id, config.image_end_id, config.image_pad_id)
    assert ids == (specials["<img>"], specials["</img>"], specials["<imgpad>"])


@pytest.mark.parametrize(("size", "message"), [(260, "no room for 256 bytes"), (5000, "give more text")])
def test_impossible_vocabulary_is_one_clear_line(size: int, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        train_tokenizer(CORPUS, size)


def test_unknown_special_token_is_one_clear_line() -> None:
    with pytest.raises(TokenizerError, match=r"no special token '<video>'"):
        small_tokenizer().special("<video>")


@given(ANY_TEXT)
def test_saved_and_pickled_tokenizers_are_the_same(text: str) -> None:
    tokenizer = small_tokenizer()
    for copy in _copies(tokenizer):
        assert copy.encode(text) == tokenizer.encode(text)


def _copies(tokenizer: Tokenizer, made: list[Tokenizer] = []) -> list[Tokenizer]:  # noqa: B006 - made once, used by every example
    if not made:
        made += [Tokenizer.from_json(tokenizer.to_json()), pickle.loads(pickle.dumps(tokenizer))]
    return made


def test_saved_file_is_read_by_the_tokenizers_library(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    tokenizer.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    theirs = Backend.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode("<|im_start|>a dog").ids == [tokenizer.special("<|im_start|>"), *tokenizer.encode("a dog")]
    again = Tokenizer.from_folder(tmp_path)
    assert (again.specials, again.vocab_size) == (tokenizer.specials, tokenizer.vocab_size)


def test_tiktoken_file_of_a_trained_tokenizer_gives_the_same_ids(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    lines = (f"{base64.b64encode(tokenizer.id_to_bytes(index)).decode()} {index}" for index in range(308))
    (tmp_path / "qwen.tiktoken").write_bytes("\r\n".join(lines).encode())
    converted = Tokenizer.from_folder(tmp_path)
    assert converted.special("<|endoftext|>") == 308
    for text in [*CORPUS, "unseen words, 未见过的文字 🐶"]:
        assert converted.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"IQ== 0\nnot a line at all\n", "line 2 is not"),
        (b"IQ== 0\nIg== 2\n", "ranks have gaps"),
        (b"", "ranks have gaps"),
    ],
)
def test_damaged_tiktoken_file_is_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "qwen.tiktoken").write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"added_tokens": [], "model": {"vocab": {}}}'])
def test_damaged_tokenizer_json_is_one_clear_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer.json: not a byte-level BPE") as caught:
        Tokenizer.from_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_folder_without_tokenizer_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"neither tokenizer.json nor qwen.tiktoken nor vocab.json"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl"])
def test_a_vocabulary_of_another_family_has_its_special_tokens_renamed_in_place(family: str) -> None:
    ours, spec = small_tokenizer(), get_family(family)
    theirs = ours.of_family(spec)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
             "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]  # fmt: skip
    assert theirs.specials == dict(zip(names, range(308, 320), strict=True)) | {"<|video_pad|>": 320}
    assert (theirs.vocab_size, ours.vocab_size) == (321, 320)
    for text in (*CORPUS, "<ref>", "<|video_pad|>"):
        assert theirs.encode(text) == ours.encode(text)
    assert theirs.to_json() == Tokenizer.from_json(theirs.to_json()).to_json()
    assert ours.of_family(get_family("qwen_vl")).to_json() == ours.to_json(), "its own names are kept"
    with pytest.raises(TokenizerError, match="no special token '<ref>'"):
        theirs.of_family(spec)


def test_special_tokens_of_the_qwen2_families_have_the_published_ids() -> None:
    ids = {name: 151643 + place for place, name in enumerate(get_family("qwen2_vl").special_tokens.published)}
    published = {
        "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<|object_ref_start|>": 151646,
        "<|box_end|>": 151649, "<|quad_end|>": 151651, "<|vision_start|>": 151652, "<|vision_end|>": 151653,
        "<|vision_pad|>": 151654, "<|image_pad|>": 151655, "<|video_pad|>": 151656,
    }  # fmt: skip
    assert ids | published == ids and len(ids) == 14


def test_added_tokens_that_are_not_special_are_found_in_text() -> None:
    data = json.loads(small_tokenizer().to_json())
    data["added_tokens"] += [
        {"id": 320 + place, "content": name, "special": False} for place, name in enumerate(("<tool_call>", "<tool_call>x"))
    ]
    tokenizer = pickle.loads(pickle.dumps(Tokenizer.from_json(json.dumps(data))))
    plain = small_tokenizer().encode
    assert tokenizer.encode("a<tool_call>x <tool_call>\n") == [*plain("a"), 321, *plain(" "), 320, *plain("\n")]
    assert not tokenizer.is_special(320) and tokenizer.vocab_size == 322
    assert tokenizer.decode([308, 320], skip_special=True) == "<tool_call>"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"vocab.json": "[]"}, r"vocab.json: not a JSON object"),
        ({"vocab.json": "{"}, r"vocab.json: not valid JSON"),
        ({"vocab.json": '{"a b": 1}'}, r"vocab.json: not a byte-level vocabulary"),
        ({"vocab.json": '{"a": "b"}'}, r"vocab.json: not a byte-level vocabulary"),
        ({"vocab.json": '{"a": 0}'}, r"merges.txt: cannot be read"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a a"}, r"merges.txt: 'a a' is no pair"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "#version: 0.2\na"}, r"merges.txt: 'a' is no pair"),
        (
            {"vocab.json": '{"a": 0}', "merges.txt": "", "tokenizer_config.json": '{"added_tokens_decoder": {"x": {}}}'},
            r"tokenizer_config.json: added_tokens_decoder is no table",
        ),
    ],
)
def test_damaged_vocabulary_files_are_one_clear_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(TokenizerError, match=message) as caught:
        Tokenizer.from_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_every_merge_joins_two_tokens_of_lower_rank() -> None:
    ranks = golden_ranks()
    merges = merges_of_ranks(ranks)
    joined = [ranks[left + right] for left, right in merges]
    assert joined == sorted(joined)
    assert all(max(ranks[left], ranks[right]) < ranks[left + right] for left, right in merges)


if PUBLISHED:  # QWENVL_QWEN_TIKTOKEN names the published qwen.tiktoken, which is too large to be kept here

    def test_published_file_loads_in_seconds_and_gives_the_golden_ids() -> None:
        started = time.process_time()
        tokenizer = Tokenizer.from_ranks(read_ranks(str(PUBLISHED)))
        assert time.process_time() - started < 10
        assert tokenizer.vocab_size == 151860
        for text, ids in golden_tokens()["plain"]:
            assert tokenizer.encode(text) == ids
