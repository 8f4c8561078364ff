"""The renderer: exact ids, exact labels, and nothing a user types becomes a special token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenvl.families import get_family
from qwenvl.processing.chat import PlaceholderError, Rendered, RenderError, render
from qwenvl.processing.regions import read_regions
from qwenvl.processing.tokenizer import TRAINED_SPECIALS, Tokenizer
from qwenvl.types import IGNORE_INDEX, ImagePart, Message, Region, RegionError, RegionPart, Sample, TextPart, VideoPart
from tests.small_text import golden_tokenizer, golden_tokens, small_tokenizer

SPEC = get_family("qwen_vl")
PICTURE = ImagePart("unopened.png")
TYPED = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(TRAINED_SPECIALS)


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


@pytest.mark.parametrize("style", ["raw", "chat"])
def test_prompt_is_the_beginning_of_the_training_text(style: str) -> None:
    """One renderer: what is generated from is what was trained on."""
    tokenizer = small_tokenizer()
    question = Message.of("user", PICTURE, "How many dogs?")
    prompt = render(sample(question), tokenizer, SPEC, style, [2], for_generation=True).input_ids
    trained = render(sample(question, Message.of("assistant", "two")), tokenizer, SPEC, style, [2])
    assert trained.input_ids[: len(prompt)] == prompt
    assert set(trained.labels[: len(prompt)]) == {IGNORE_INDEX}
    assert IGNORE_INDEX not in trained.labels[len(prompt) :]
    opened = render(sample(question, Message.of("assistant", "two")), tokenizer, SPEC, style, [2], for_generation=True)
    assert opened.input_ids == trained.input_ids[:-1], "a last answer is left open, to be continued"


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


def test_r1_sample_to_tokens_to_text_to_regions() -> None:
    """R1: the whole way round, for the family's own markup, within one unit of the written scale."""
    tokenizer = small_tokenizer()
    dog = Region.box(0.1004, 0.25, 0.9, 1.0, label="dog")
    sign = Region("quad", ((0.0, 0.0), (0.5, 0.0), (0.5, 0.25), (0.0, 0.25)), label="EXIT")
    answer = Message.of("assistant", "A ", RegionPart("dog", (dog,)), " under ", RegionPart("EXIT", (sign,)))
    for preset in SPEC.presets:
        rendered = render(sample(Message.of("user", PICTURE), answer), tokenizer, SPEC, "chat", [1], markup=preset.markup)
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
