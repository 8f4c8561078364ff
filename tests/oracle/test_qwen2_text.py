"""The text of Qwen2-VL and Qwen2.5-VL against transformers: ids of its Qwen2 tokenizer, and conversations through its templates.

The template here says what the published one is known to do: a default system turn, a newline after every turn, one placeholder
per picture or video, numbered only with add_vision_id, each kind on its own.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenvl.families import get_family
from qwenvl.processing.chat import render
from qwenvl.processing.messages import messages_to_sample
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.processing.vocabulary_files import BYTE_SYMBOLS
from tests.small_text import CORPUS, small_tokenizer

transformers = pytest.importorskip("transformers")

QWEN2_SPECIALS = get_family("qwen2_vl").special_tokens.published
TOOL_TOKENS = ("<tool_call>", "</tool_call>")  # of Qwen2.5-VL: added, but not special

TEMPLATE = """\
{%- set n = namespace(pictures=0, videos=0) -%}
{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}{{ message.content }}{% else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
{%- set n.pictures = n.pictures + 1 -%}
{%- if add_vision_id %}{{ 'Picture ' ~ n.pictures ~ ': ' }}{% endif -%}
{{ '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.type == 'video' -%}
{%- set n.videos = n.videos + 1 -%}
{%- if add_vision_id %}{{ 'Video ' ~ n.videos ~ ': ' }}{% endif -%}
{{ '<|vision_start|><|video_pad|><|vision_end|>' }}
{%- else %}{{ part.text }}{% endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""


@lru_cache(1)
def tables() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """vocab.json and merges.txt of a small trained vocabulary."""
    model = json.loads(small_tokenizer().to_json())["model"]
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    return model["vocab"], merges


def added_tokens() -> list[dict[str, Any]]:
    first = max(tables()[0].values()) + 1
    names = (*QWEN2_SPECIALS, *TOOL_TOKENS)
    return [{"id": first + place, "content": name, "special": name not in TOOL_TOKENS} for place, name in enumerate(names)]


@lru_cache(1)
def pair() -> tuple[Tokenizer, Any]:
    vocabulary, merges = tables()
    theirs = transformers.Qwen2Tokenizer(vocab=dict(vocabulary), merges=list(merges))
    theirs.add_tokens([transformers.AddedToken(token["content"], special=token["special"]) for token in added_tokens()])
    theirs.chat_template = TEMPLATE
    return Tokenizer.from_vocabulary(vocabulary, merges, added_tokens()), theirs


def test_special_tokens_have_the_same_ids() -> None:
    ours, theirs = pair()
    names = (*QWEN2_SPECIALS, *TOOL_TOKENS)
    assert [(ours.specials | ours.words)[name] for name in names] == theirs.convert_tokens_to_ids(list(names))
    assert len(ours.specials) == 14 and list(ours.words) == list(TOOL_TOKENS)


PIECES = st.sampled_from(
    ["'s", "'LL", " ", "  ", "\t", "\n", "\n\n", "\r\n", "\u3000", "é", "e\u0301"]
    + ["👩‍👩‍👧", "中文", "两个。", "(1,2)", "42", *TOOL_TOKENS]
)
TEXTS = st.lists(PIECES | st.text(st.characters(exclude_categories=["Cs"]), max_size=10) | st.sampled_from(CORPUS), max_size=8)


def without_specials(text: str) -> bool:
    """Text in which no special token is spelt: there we differ on purpose, because what is typed stays text."""
    return not any(name in text for name in QWEN2_SPECIALS)


@settings(max_examples=400)
@given(TEXTS.map("".join).filter(without_specials))
def test_ids_equal_the_qwen2_tokenizer_of_transformers(text: str) -> None:
    ours, theirs = pair()
    assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids
    assert ours.decode(ours.encode(text), skip_special=True) == theirs.decode(ours.encode(text), skip_special_tokens=True)


def test_files_of_a_checkpoint_give_the_same_tokenizer(tmp_path: Path) -> None:
    """vocab.json with merges.txt, with and without a tokenizer_config.json; tokenizer.json as transformers saves it."""
    ours, theirs = pair()
    vocabulary, merges = tables()
    text = "There is <tool_call> 两个 dogs.\n\n42"
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    plain = Tokenizer.from_folder(tmp_path)
    assert list(plain.specials) == list(QWEN2_SPECIALS) and not plain.words
    assert plain.special("<|video_pad|>") == ours.special("<|video_pad|>")
    decoder = {str(token["id"]): {key: token[key] for key in ("content", "special")} for token in added_tokens()}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    read = Tokenizer.from_folder(tmp_path)
    assert (read.specials, read.words, read.encode(text)) == (ours.specials, ours.words, ours.encode(text))
    theirs.save_pretrained(tmp_path / "saved")
    saved = Tokenizer.from_folder(tmp_path / "saved")
    assert (saved.words, saved.encode(text)) == (ours.words, ours.encode(text))
    again = Tokenizer.from_json(saved.to_json())
    assert (again.specials, again.words, again.encode(text)) == (saved.specials, saved.words, ours.encode(text))


def picture() -> dict[str, Any]:
    return {"type": "image", "image": "a.png"}


def video() -> dict[str, Any]:
    return {"type": "video", "video": "a.mp4"}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def user(*parts: dict[str, Any] | str) -> dict[str, Any]:
    return {"role": "user", "content": parts[0] if isinstance(parts[0], str) else list(parts)}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


CONVERSATIONS = [
    [user("Hi")],
    [user("\n\nHi \n")],
    [user("  two dogs?")],
    [{"role": "system", "content": "Be brief."}, user("Hi"), assistant("Hello."), user("And?")],
    [{"role": "system", "content": ""}, user("Hi")],
    [user(picture(), said("What is this?"))],
    [user(said("Look: "), picture(), said(" and "), picture(), said("\nWhat?")), assistant("Dogs."), user(picture(), said("?"))],
    [user(video(), said("When?"))],
    [user(video(), picture(), video(), said("\nCompare.")), assistant(" one\n"), user(said("Now "), picture(), video(), said("?"))],
    [user(said("图中有"), picture(), said("多少个?")), assistant("两个。"), user("谢谢")],
    [user(picture()), assistant(""), user("\tagain")],
    [user("<tool_call> is a word"), assistant('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>')],
]


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_conversations_get_the_ids_of_the_published_template(conversation: list[dict[str, Any]], numbered: bool) -> None:
    ours, theirs = pair()
    asking = conversation[-1]["role"] == "user"
    text = theirs.apply_chat_template(conversation, tokenize=False, add_generation_prompt=asking, add_vision_id=numbered)
    counts = [3 + place for place in range(len(re.findall(r"<\|(?:image|video)_pad\|>", text)))]
    places = iter(counts)
    text = re.sub(r"<\|(?:image|video)_pad\|>", lambda pad: pad.group() * next(places), text)
    sample = messages_to_sample(conversation)
    for family in ("qwen2_vl", "qwen2_5_vl"):
        rendered = render(sample, ours, get_family(family), "chat", counts, for_generation=asking, numbered=numbered)
        assert ours.decode(rendered.input_ids) == text
        assert rendered.input_ids == theirs(text, add_special_tokens=False).input_ids
        assert len(rendered.visual_slots) == sum(counts)


def test_the_alphabet_of_bytes_is_the_published_one() -> None:
    _, theirs = pair()
    assert len(set(BYTE_SYMBOLS)) == 256
    assert all(bytes([byte]).decode("latin-1") == symbol for byte, symbol in enumerate(BYTE_SYMBOLS) if 0x21 <= byte < 0x7F)
    assert theirs.backend_tokenizer.decoder.decode(list(BYTE_SYMBOLS[:128])) == bytes(range(128)).decode()
