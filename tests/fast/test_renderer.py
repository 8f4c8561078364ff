"""The renderer: exact ids, exact labels, and nothing a user types becomes a special token."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenvl.families import get_family
from qwenvl.processing.chat import PlaceholderError, Rendered, RenderError, render
from qwenvl.processing.regions import read_regions
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.processing.vocabulary_files import BYTE_SYMBOLS
from qwenvl.types import IGNORE_INDEX, ImagePart, Message, Region, RegionError, RegionPart, Sample, TextPart, VideoPart
from tests.small_text import golden_tokenizer, golden_tokens, small_tokenizer

SPEC = get_family("qwen_vl")
PICTURE = ImagePart("unopened.png")
TYPED = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(SPEC.special_tokens.trained)

QWEN2_SPEC = get_family("qwen2_5_vl")
QWEN2_TYPED = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(QWEN2_SPEC.special_tokens.published)
CLIP = VideoPart("unopened.mp4")


def supervised_text(rendered: Rendered, tokenizer: Tokenizer) -> list[str]:
    """Every supervised stretch, decoded."""
    stretches: list[list[int]] = [[]]
    for label in rendered.labels:
        if label != IGNORE_INDEX:
            stretches[-1].append(label)
        elif stretches[-1]:
            stretches.append([])
    return [tokenizer.decode(stretch) for stretch in stretches if stretch]


def sample(*messages: Message) -> Sample:
    return Sample(messages, id="s7")


def test_chat_is_the_published_chatml() -> None:
    """make_context: role and content tokenised apart, turns joined by a newline."""
    golden = dict(golden_tokens()["plain"])
    start, end, newline = 151644, 151645, 198
    turn_end = [end, newline, start]
    expected = [
        start, *golden["system"], newline, *golden["You are a helpful assistant."], *turn_end,
        *golden["user"], newline, *golden["这是什么?"], *turn_end,
        *golden["assistant"], newline, *golden[" A"], *turn_end,
        *golden["user"], newline, *golden["Human:"], *turn_end,
        *golden["assistant"], newline,
    ]  # fmt: skip
    conversation = sample(Message.of("user", "这是什么?"), Message.of("assistant", " A"), Message.of("user", "Human:"))
    assert render(conversation, golden_tokenizer(), SPEC, "chat", [], for_generation=True).input_ids == expected


def test_a_picture_is_rendered_as_published_but_for_the_path() -> None:
    """The published span spells the path in the first placeholders; ours is pads throughout."""
    ((_, golden),) = golden_tokens()["image_span"]
    start, end = golden.index(151857), golden.index(151858)
    expected = golden[: start + 1] + [151859] * 256 + golden[end:]
    rendered = render(sample(Message.of("user", PICTURE, "What?")), golden_tokenizer(), SPEC, "chat", [256])
    first = rendered.input_ids.index(golden[0])
    assert rendered.input_ids[first : first + len(expected)] == expected
    assert rendered.visual_slots == list(range(first + start + 1, first + end))


def test_regions_are_rendered_with_the_published_ids() -> None:
    ((_, golden), _) = golden_tokens()["specials"]
    part = RegionPart("击掌", (Region.box(0.536, 0.509, 0.588, 0.602),))
    for role in ("user", "assistant"):
        rendered = render(sample(Message.of(role, part)), golden_tokenizer(), SPEC, "raw", [])
        assert rendered.input_ids[: len(golden)] == golden


def test_raw_has_no_roles_and_supervises_the_answer_and_its_end() -> None:
    tokenizer = small_tokenizer()
    conversation = sample(Message.of("user", PICTURE, "Where is the dog? Answer:"), Message.of("assistant", " here"))
    rendered = render(conversation, tokenizer, SPEC, "raw", [3])
    assert tokenizer.decode(rendered.input_ids) == (
        "<img><imgpad><imgpad><imgpad></img>Where is the dog? Answer: here<|endoftext|>"
    )
    assert supervised_text(rendered, tokenizer) == [" here<|endoftext|>"]
    assert rendered.visual_slots == [1, 2, 3]


def test_chat_supervises_answers_and_their_ends_only() -> None:
    tokenizer = small_tokenizer()
    conversation = sample(
        Message.of("system", "Be brief."), Message.of("user", PICTURE, "assistant"), Message.of("assistant", "user"),
        Message.of("user", PICTURE, PICTURE, "And these?"),
        Message.of("assistant", RegionPart("dogs", (Region.box(0, 0, 0.5, 1),))),
    )  # fmt: skip
    rendered = render(conversation, tokenizer, SPEC, "chat", [1, 2, 1])
    assert supervised_text(rendered, tokenizer) == ["user<|im_end|>", "<ref>dogs</ref><box>(0,0),(500,999)</box><|im_end|>"]
    assert tokenizer.decode(rendered.input_ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nPicture 1: <img><imgpad></img>\nassistant<|im_end|>\n<|im_start|>assistant\nuser<|im_end|>\n"
        "<|im_start|>user\nPicture 2: <img><imgpad><imgpad></img>\nPicture 3: <img><imgpad></img>\nAnd these?<|im_end|>\n"
        "<|im_start|>assistant\n<ref>dogs</ref><box>(0,0),(500,999)</box><|im_end|>"
    )
    pads = [index for index, token in enumerate(rendered.input_ids) if token == tokenizer.special("<imgpad>")]
    assert rendered.visual_slots == pads


def test_pictures_in_an_answer_are_never_supervised() -> None:
    tokenizer = small_tokenizer()
    rendered = render(sample(Message.of("assistant", "see ", PICTURE, " there")), tokenizer, SPEC, "raw", [2])
    assert supervised_text(rendered, tokenizer) == ["see ", " there<|endoftext|>"]


@pytest.mark.parametrize("family", ["qwen_vl", "qwen2_vl"])
@pytest.mark.parametrize("style", ["raw", "chat"])
def test_prompt_is_the_beginning_of_the_training_text(style: str, family: str) -> None:
    """One renderer: what is generated from is what was trained on."""
    spec = get_family(family)
    tokenizer = small_tokenizer(family)
    after_turn = 1 if spec.chat.joined_header and style == "chat" else 0  # the newline after <|im_end|>, not supervised
    question = Message.of("user", PICTURE, "How many dogs?")
    prompt = render(sample(question), tokenizer, spec, style, [2], for_generation=True).input_ids
    trained = render(sample(question, Message.of("assistant", "two")), tokenizer, spec, style, [2])
    answer_end = len(trained.labels) - after_turn
    assert trained.input_ids[: len(prompt)] == prompt
    assert set(trained.labels[: len(prompt)]) == {IGNORE_INDEX}
    assert IGNORE_INDEX not in trained.labels[len(prompt) : answer_end]
    assert trained.labels[answer_end:] == [IGNORE_INDEX] * after_turn
    opened = render(sample(question, Message.of("assistant", "two")), tokenizer, spec, style, [2], for_generation=True)
    assert opened.input_ids == trained.input_ids[: answer_end - 1], "a last answer is left open, to be continued"


@given(QWEN2_TYPED, QWEN2_TYPED, QWEN2_TYPED)
def test_r3_special_tokens_of_qwen2_typed_by_anyone_stay_text(system: str, question: str, answer: str) -> None:
    tokenizer = small_tokenizer("qwen2_5_vl")
    conversation = sample(
        Message.of("system", system), Message.of("user", question, CLIP, question), Message.of("assistant", answer)
    )
    ids = render(conversation, tokenizer, QWEN2_SPEC, "chat", [2]).input_ids
    structure = [index for index in ids if tokenizer.is_special(index)]
    turn, clip = ["<|im_start|>", "<|im_end|>"], ["<|vision_start|>", "<|video_pad|>", "<|video_pad|>", "<|vision_end|>"]
    assert structure == [tokenizer.special(name) for name in (*turn, turn[0], *clip, turn[1], *turn)]


@given(TYPED, TYPED, TYPED)
def test_r3_special_tokens_typed_by_anyone_stay_text(system: str, question: str, answer: str) -> None:
    tokenizer = small_tokenizer()
    conversation = sample(
        Message.of("system", system), Message.of("user", question, PICTURE, question), Message.of("assistant", answer)
    )
    ids = render(conversation, tokenizer, SPEC, "chat", [2]).input_ids
    structure = [index for index in ids if tokenizer.is_special(index)]
    turn, picture = ["<|im_start|>", "<|im_end|>"], ["<img>", "<imgpad>", "<imgpad>", "</img>"]
    names = [*turn, turn[0], *picture, turn[1], *turn]
    assert structure == [tokenizer.special(name) for name in names]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=4))
def test_how_a_text_is_cut_into_parts_does_not_show(texts: list[str]) -> None:
    tokenizer = small_tokenizer()
    cut = render(sample(Message("user", tuple(map(TextPart, texts)))), tokenizer, SPEC, "raw", [])
    assert cut.input_ids == tokenizer.encode("".join(texts))


def test_qwen2_chat_is_one_string_with_a_newline_after_every_turn() -> None:
    tokenizer = small_tokenizer("qwen2_vl")
    conversation = sample(
        Message.of("user", CLIP, PICTURE, "\nassistant"), Message.of("assistant", "user"),
        Message.of("user", CLIP, "two?"), Message.of("assistant", RegionPart("dogs", (Region.box(0, 0, 0.5, 1),))),
    )  # fmt: skip
    spec = get_family("qwen2_vl")
    markup = spec.presets[0].markup
    counts = [2, 1, 1]
    plain = render(conversation, tokenizer, spec, "chat", counts, markup=markup)
    box = "<|object_ref_start|>dogs<|object_ref_end|><|box_start|>(0,0),(500,999)<|box_end|>"
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|video_pad|><|video_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|>\n"
        "assistant<|im_end|>\n<|im_start|>assistant\nuser<|im_end|>\n"
        f"<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>two?<|im_end|>\n<|im_start|>assistant\n{box}<|im_end|>\n"
    )
    assert tokenizer.decode(plain.input_ids) == text
    assert supervised_text(plain, tokenizer) == ["user<|im_end|>", f"{box}<|im_end|>"]
    pads = {tokenizer.special(name) for name in ("<|image_pad|>", "<|video_pad|>")}
    assert plain.visual_slots == [index for index, token in enumerate(plain.input_ids) if token in pads]
    numbered = tokenizer.decode(render(conversation, tokenizer, spec, "chat", counts, markup=markup, numbered=True).input_ids)
    assert re.findall(r"(\w+ \d: )<\|vision_start\|>", numbered) == ["Video 1: ", "Picture 1: ", "Video 2: "]
    assert re.sub(r"(Video|Picture) \d: ", "", numbered) == text


def test_a_family_s_numbering_can_be_chosen() -> None:
    tokenizer = small_tokenizer()
    question = sample(Message.of("user", PICTURE, "What?"))
    plain = render(question, tokenizer, SPEC, "chat", [1], numbered=False)
    assert "user\n<img><imgpad></img>\nWhat?" in tokenizer.decode(plain.input_ids)


def test_role_and_text_of_a_qwen2_turn_are_tokenised_together() -> None:
    """One string: a text that begins with a newline joins the header's. An answer never does, or the prompt would be no prefix."""
    vocabulary = {symbol: place for place, symbol in enumerate(BYTE_SYMBOLS)} | {"ĊĊ": 256}
    tokenizer = Tokenizer.from_vocabulary(vocabulary, [("Ċ", "Ċ")])
    spec = get_family("qwen2_vl")
    conversation = sample(Message.of("user", "\nHi"), Message.of("assistant", "\nHo"))
    trained = render(conversation, tokenizer, spec, "chat", []).input_ids
    assert trained.count(256) == 1
    prompt = render(sample(conversation.messages[0]), tokenizer, spec, "chat", [], for_generation=True).input_ids
    assert trained[: len(prompt)] == prompt


@pytest.mark.parametrize("family", ["qwen_vl", "qwen2_vl"])
def test_r1_sample_to_tokens_to_text_to_regions(family: str) -> None:
    """R1: the whole way round, for the family's own markup, within one unit of the written scale."""
    spec = get_family(family)
    tokenizer = small_tokenizer(family)
    dog = Region.box(0.1004, 0.25, 0.9, 1.0, label="dog")
    sign = Region("quad", ((0.0, 0.0), (0.5, 0.0), (0.5, 0.25), (0.0, 0.25)), label="EXIT")
    answer = Message.of("assistant", "A ", RegionPart("dog", (dog,)), " under ", RegionPart("EXIT", (sign,)))
    for preset in spec.presets:
        rendered = render(sample(Message.of("user", PICTURE), answer), tokenizer, spec, "chat", [1], markup=preset.markup)
        found = read_regions(supervised_text(rendered, tokenizer)[0], preset.markup)
        assert [(region.kind, region.label) for region in found] == [("box", "dog"), ("quad", "EXIT")]
        for ours, theirs in zip((dog, sign), found, strict=True):
            for point, read in zip(ours.points, theirs.points, strict=True):
                assert point == pytest.approx(read, abs=0.001 + 1e-9)


@pytest.mark.parametrize(
    ("messages", "counts", "error", "message"),
    [
        ([Message.of("user", PICTURE)], [], PlaceholderError, "1 pictures but visual token counts for 0"),
        ([], [], RenderError, "no messages"),
        ([Message.of("user", "a"), Message.of("system", "b")], [], RenderError, "must come first"),
        ([Message.of("user", VideoPart("clip.mp4"))], [], RenderError, "takes no VideoPart"),
        ([Message.of("user", RegionPart("dog", (Region.box(0.5, 0, 0.4, 1),)))], [], RegionError, "swapped"),
    ],
)
def test_what_cannot_be_rendered_names_the_sample(messages, counts, error, message) -> None:
    with pytest.raises(error, match=f"sample 's7': .*{message}"):
        render(sample(*messages), small_tokenizer(), SPEC, "chat", counts)
