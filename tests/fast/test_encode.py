"""Sample -> Encoded -> Batch: text and pictures agree, nothing is cut, labels move once."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qwenvl.families import find_preset, get_family
from qwenvl.processing.collate import collate
from qwenvl.processing.encode import (
    ContextError,
    PlaceholderError,
    Processor,
    VisualSpan,
    check_placeholders,
    visual_slots_of,
    visual_spans,
)
from qwenvl.processing.grid import SizeError, window_plan
from qwenvl.processing.image import ImageError, image_to_patches
from qwenvl.processing.messages import MessageError, messages_to_sample
from qwenvl.processing.positions import mrope_positions, next_position, positions_1d
from qwenvl.processing.tokenizer import Tokenizer, TokenizerError
from qwenvl.processing.video import VideoError
from qwenvl.types import IGNORE_INDEX, Encoded, ImagePart, Message, RegionPart, Sample, TextPart, VideoPart
from tests.small_text import golden_tokens, small_config, small_tokenizer

SPEC = get_family("qwen_vl")
PICTURE = Image.new("RGB", (30, 20), "red")


def processor(context: int = 512) -> Processor:
    return Processor(small_config(small_tokenizer(), context=context), SPEC, small_tokenizer())


def two_pictures() -> Sample:
    blue = Image.new("RGB", (64, 48), "blue")
    return Sample(
        (Message.of("user", ImagePart(PICTURE), ImagePart(blue), "What?"), Message.of("assistant", "dogs")), id="s7", task="vqa"
    )


def test_encoded_holds_what_its_types_say() -> None:
    ours = processor()
    encoded = ours.encode(two_pictures(), "chat")
    length = len(encoded)
    assert encoded.input_ids.shape == encoded.labels.shape == (length,)
    assert encoded.position_ids.shape == (3, length)
    assert (encoded.position_ids == np.arange(length)).all()
    whole_numbers = (encoded.input_ids, encoded.labels, encoded.position_ids, encoded.grids, encoded.visual_slots)
    assert {array.dtype for array in whole_numbers} == {np.dtype(np.int64)}
    assert (encoded.patches.shape, encoded.patches.dtype) == ((8, 588), np.float32)
    np.testing.assert_array_equal(encoded.patches[:4], image_to_patches(PICTURE, ours.config, SPEC))
    assert encoded.grids.tolist() == [[1, 2, 2], [1, 2, 2]]
    assert (encoded.input_ids[encoded.visual_slots] == ours.config.image_pad_id).all()
    assert len(encoded.visual_slots) == 8
    assert encoded.image_sizes == ((30, 20), (64, 48))
    assert (encoded.sample_id, encoded.task) == ("s7", "vqa")
    supervised = encoded.labels != IGNORE_INDEX
    assert (encoded.labels[supervised] == encoded.input_ids[supervised]).all()
    assert small_tokenizer().decode(encoded.labels[supervised]) == "dogs<|im_end|>"


def test_pictures_made_ready_before_give_the_same() -> None:
    ours, sample = processor(), two_pictures()
    pictures = [ours.ready(part) for part in sample.images]
    expected, found = ours.encode(sample, "chat"), ours.encode(sample, "chat", pictures=pictures)
    for name in ("input_ids", "labels", "patches", "grids", "visual_slots"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    with pytest.raises(PlaceholderError, match="sample 's7': 2 pictures but visual token counts for 1"):
        ours.encode(sample, "chat", pictures=pictures[:1])


def test_text_alone_has_no_patches() -> None:
    encoded = processor().encode(messages_to_sample("How many?"), "raw")
    assert (encoded.patches.shape, encoded.grids.shape, encoded.visual_slots.shape) == ((0, 588), (0, 3), (0,))


def test_too_long_is_refused_not_cut() -> None:
    sample = two_pictures()
    length = len(processor().encode(sample, "raw"))
    assert len(processor(context=length).encode(sample, "raw")) == length
    counts = rf"sample 's7': {length} tokens \(8 of them for 2 pictures\) .* context of {length - 1};"
    with pytest.raises(ContextError, match=counts):
        processor(context=length - 1).encode(sample, "raw")
    prompt = messages_to_sample("How many?")
    length = len(processor().encode(prompt, "raw", for_generation=True))
    with pytest.raises(ContextError) as caught:
        processor(context=length).encode(prompt, "raw", for_generation=True)
    said = f"the prompt: {length} tokens leave no room for an answer in the context of {length}; shorten the text"
    assert str(caught.value) == said
    shown = messages_to_sample([{"role": "user", "content": [{"type": "image", "image": PICTURE}]}])
    with pytest.raises(ContextError, match=r"^the prompt: 6 tokens \(4 of them for 1 picture\) do not fit in the context of 5;"):
        processor(context=5).encode(shown, "raw")


def test_bad_picture_names_sample_and_number() -> None:
    sample = Sample((Message.of("user", ImagePart(PICTURE), ImagePart("gone.png")),), id="s7")
    with pytest.raises(ImageError, match=r"sample 's7', picture 2: gone.png: no such file"):
        processor().encode(sample, "chat")


def test_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(TokenizerError, match="two models"):
        Processor(find_preset("qwen-vl-7b").config, SPEC, small_tokenizer())


def test_a_tokenizer_with_more_ids_than_the_model_is_refused() -> None:
    config = small_config(small_tokenizer())
    data = json.loads(small_tokenizer().to_json())
    data["added_tokens"].append(data["added_tokens"][-1] | {"id": config.decoder.vocab_size, "content": "<one more>"})
    tokenizer = Tokenizer.from_json(json.dumps(data))
    with pytest.raises(TokenizerError, match="the tokenizer has 321 ids, the model's vocabulary 320"):
        Processor(config, SPEC, tokenizer)


def test_r3_mismatch_names_sample_and_both_numbers() -> None:
    with pytest.raises(PlaceholderError, match=r"sample 'x': 255 placeholders .* 256 visual tokens"):
        check_placeholders(255, 256, "sample 'x'")


def test_slots_are_found_whatever_the_placeholders_say() -> None:
    """Published ids spell the path inside the span, ours are pads."""
    ((_, golden),) = golden_tokens()["image_span"]
    first = golden.index(151857) + 1
    assert golden[first] == ord("a")
    slots = visual_slots_of(golden, find_preset("qwen-vl-7b").config)
    assert slots.tolist() == list(range(first, first + 256))
    encoded = processor().encode(two_pictures(), "chat")
    np.testing.assert_array_equal(visual_slots_of(encoded.input_ids, processor().config), encoded.visual_slots)
    assert visual_slots_of([5, 6], processor().config).shape == (0,)


@pytest.mark.parametrize(
    ("spell", "counts", "message"),
    [
        ("S....", None, "1 image starts and 0 image ends"),
        ("....E", None, "0 image starts and 1 image ends"),
        ("E....S", None, "do not pair up"),
        ("S..S..E..E", None, "do not pair up"),
        ("S...E", None, "ids, picture 1: 3 placeholders .* 4 visual tokens"),
        ("S....ES.....E", None, "picture 2: 5 placeholders"),
        ("S....E", [4, 4], "1 image span in the text but 2 pictures"),
        ("S....E", [5], "4 placeholders .* 5 visual tokens"),
    ],
)
def test_r3_broken_spans_are_refused_with_both_numbers(spell: str, counts: list[int] | None, message: str) -> None:
    config = processor().config
    ids = [{"S": config.image_start_id, "E": config.image_end_id}.get(letter, 7) for letter in spell]
    with pytest.raises(PlaceholderError, match=message):
        visual_slots_of(ids, config, counts, "ids")


def test_positions_of_a_branch_are_those_it_would_have_alone() -> None:
    branches = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    positions = positions_1d(8, branches)
    assert positions.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5]] * 3
    assert next_position(positions_1d(5)) == 5
    with pytest.raises(ValueError, match="must come before"):
        positions_1d(3, np.array([1, 0, 1]))


def native_processor(preset: str = "qwen2.5-vl-nano", context: int = 2048) -> Processor:
    """A nano model of native resolution, at the published bounds, with the small vocabulary."""
    config = find_preset(preset).config
    tokenizer, spec = small_tokenizer(config.family), get_family(config.family)
    tokens = spec.image_tokens
    names = {"image_start": tokens.start, "image_end": tokens.end, "image_pad": tokens.pad, "video_pad": str(tokens.video_pad)}
    changes: dict[str, Any] = {f"{key}_id": tokenizer.special(name) for key, name in names.items()}
    changes["decoder"] = config.decoder.model_copy(update={"max_position_embeddings": context})
    return Processor(config.model_copy(update=changes), spec, tokenizer)


def frames_of(count: int, size: tuple[int, int] = (56, 56)) -> list[Image.Image]:
    return [Image.new("RGB", size, (40 * number, 0, 0)) for number in range(count)]


CLIP = VideoPart(frames_of(5), fps=4, max_pixels=56 * 56)
"""5 frames of 2 x 2 visual tokens, 4 a second: 3 patches in time of half a second."""


def mixed() -> Sample:
    """Picture, clip, picture."""
    last = ImagePart(Image.new("RGB", (300, 300)), max_pixels=100 * 28 * 28)
    return Sample((Message.of("user", ImagePart(PICTURE), "a dog", CLIP, last, "What?"), Message.of("assistant", "two")), id="s9")


@pytest.mark.parametrize("preset", ["qwen2-vl-nano", "qwen2.5-vl-nano"])
def test_a_28_by_224_picture_is_8_and_2_tokens_a_224_square_64_and_2(preset: str) -> None:
    ours = native_processor(preset)
    for size, tokens in (((28, 224), 8 + 2), ((224, 224), 64 + 2), (PICTURE.size, 6 + 2)):
        encoded = ours.encode(Sample((Message.of("user", ImagePart(Image.new("RGB", size))),)), "raw", for_generation=True)
        assert len(encoded) == tokens
        assert encoded.input_ids[[0, -1]].tolist() == [ours.config.image_start_id, ours.config.image_end_id]


@pytest.mark.parametrize("preset", ["qwen2-vl-nano", "qwen2.5-vl-nano"])
def test_pictures_and_videos_travel_in_one_list(preset: str) -> None:
    ours = native_processor(preset)
    config = ours.config
    encoded = ours.encode(mixed(), "chat")
    assert encoded.grids.tolist() == [[1, 4, 6], [3, 4, 4], [1, 20, 20]]
    assert encoded.image_sizes == ((30, 20), (56, 56), (300, 300))
    assert encoded.patches.shape == (24 + 48 + 400, 1176)
    pads = encoded.input_ids[encoded.visual_slots].tolist()
    assert pads == [config.image_pad_id] * 6 + [config.video_pad_id] * 12 + [config.image_pad_id] * 100
    spans = visual_spans(encoded.input_ids, config)
    assert [(span.is_video, span.end - span.start) for span in spans] == [(False, 6), (True, 12), (False, 100)]
    np.testing.assert_array_equal(visual_slots_of(encoded.input_ids, config), encoded.visual_slots)
    np.testing.assert_array_equal(visual_slots_of(encoded.input_ids, config, [6, 12, 100]), encoded.visual_slots)
    seconds = [None, 0.5, None]
    expected = mrope_positions(len(encoded), encoded.visual_slots, encoded.grids, 2, seconds, config.tokens_per_second)
    np.testing.assert_array_equal(encoded.position_ids, expected)
    times = encoded.position_ids[0, spans[1].start : spans[1].end : 4]
    assert (times - times[0]).tolist() == [0, 1, 2], "by patch, and in seconds: half a second is one position"
    plan = window_plan(encoded.grids, config.vision)
    if plan is None:
        assert encoded.windows is None
    else:
        assert encoded.windows is not None
        np.testing.assert_array_equal(encoded.windows.order, plan.order)
        np.testing.assert_array_equal(encoded.windows.lengths, plan.lengths)


def test_bounds_of_one_picture_are_honoured() -> None:
    ours, picture = native_processor(), Image.new("RGB", (280, 280))
    bounds = ((None, None), (None, 25 * 784), (400 * 784, None))
    assert [ours.ready(ImagePart(picture, *pair)).grid for pair in bounds] == [(1, 20, 20), (1, 10, 10), (1, 40, 40)]
    assert ours.ready(VideoPart(frames_of(2), min_pixels=16 * 784, max_pixels=16 * 784)).grid == (1, 8, 8)


def test_errors_number_pictures_and_videos_apart(tmp_path: Path) -> None:
    ours = native_processor()

    def message(error: type[Exception], *parts: ImagePart | VideoPart) -> str:
        with pytest.raises(error) as caught:
            ours.encode(Sample((Message.of("user", *parts),), id="s7"), "chat")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    picture, clip = ImagePart(PICTURE), VideoPart("gone.mp4")
    assert message(VideoError, picture, picture, CLIP, clip).startswith("sample 's7', video 2: gone.mp4: no such file")
    assert message(ImageError, CLIP, ImagePart("gone.png")).startswith("sample 's7', picture 1: gone.png: no such file")
    thin = ImagePart(Image.new("RGB", (3000, 10)))
    assert message(SizeError, CLIP, picture, thin).startswith("sample 's7', picture 2: at 3000x10 pixels one side is 300 times")
    thin.image.save(tmp_path / "thin.png")
    named = message(SizeError, ImagePart(tmp_path / "thin.png"))
    assert named.startswith("sample 's7', picture 1: ") and "thin.png: at 3000x10 pixels one side is 300 times the other" in named
    square = Sample((Message.of("user", picture, VideoPart(frames_of(2))),), id="s7")
    with pytest.raises(VideoError, match="sample 's7', video 1: qwen_vl takes no video; pass its frames as pictures"):
        processor().encode(square, "chat")


def test_too_long_names_pictures_and_videos_and_what_would_help() -> None:
    def message(*parts: ImagePart | VideoPart | str) -> str:
        with pytest.raises(ContextError) as caught:
            native_processor(context=5).encode(Sample((Message.of("user", *parts),)), "raw")
        return str(caught.value)

    picture = ImagePart(PICTURE)
    # Clips get as small as they can first: a token for each of 3 moments.
    assert message(picture, CLIP, CLIP) == (
        "the prompt: 18 tokens (12 of them for 1 picture and 2 videos) do not fit in the context of 5; "
        "shorten the text, give a smaller max_pixels or fps, or leave out pictures or videos"
    )
    assert message(picture, picture) == (
        "the prompt: 16 tokens (12 of them for 2 pictures) do not fit in the context of 5; "
        "shorten the text, give a smaller max_pixels, or leave out pictures"
    )
    assert message(CLIP, "a dog").endswith("for 1 video) do not fit in the context of 5; "
                                  "shorten the text, give a smaller max_pixels or fps, or leave out videos")  # fmt: skip
    assert message("a dog on a blue background").endswith("do not fit in the context of 5; shorten the text")


@pytest.mark.parametrize(
    ("spell", "message"),
    [
        ("Sii.iE", "ids, picture 1: between start and end stands another id than the pad"),
        ("SiiESvvivE", "ids, picture 2: between start and end stands another id than the pad"),
        ("SvvEi", None),
        ("Sii", "1 image starts and 0 image ends"),
    ],
)
def test_r3_spans_of_native_pictures_hold_one_kind_of_pad(spell: str, message: str | None) -> None:
    config = native_processor().config
    letters = {"S": config.image_start_id, "E": config.image_end_id, "i": config.image_pad_id, "v": config.video_pad_id}
    ids = [letters.get(letter, 7) for letter in spell]
    if message is None:
        assert visual_spans(ids, config) == [VisualSpan(1, 3, True)]
        return
    with pytest.raises(PlaceholderError, match=message):
        visual_slots_of(ids, config, where="ids")


def document(labels: list[int], **changes: Any) -> Encoded:
    """Labels as given, one patch, one visual token in the first place."""
    ids, positions = np.arange(len(labels)), positions_1d(len(labels))
    patches, grids, slots = np.zeros((1, 588), np.float32), np.array([[1, 1, 1]]), np.array([0])
    return Encoded(ids, np.array(labels), positions, patches, grids, slots).with_(**changes)


def test_labels_are_aligned_within_documents_and_branches() -> None:
    ignore = IGNORE_INDEX
    branched = document(
        [ignore, 21, 22, 23, 24, 25], branch_ids=np.array([0, 0, 1, 1, 2, 2]), loss_weights=np.array([1, 2, 3, 4, 5, 6], np.float32)
    )
    batch = collate([document([ignore, 11, 12], sample_id="a"), branched])
    # The first token of a branch is nobody's next token: three labels are lost, one of the first token and two of branches.
    assert batch.labels.tolist() == [11, 12, ignore] + [21, ignore, 23, ignore, 25, ignore]
    assert batch.loss_weights.tolist() == [1, 1, 0] + [2, 0, 4, 0, 6, 0]
    assert batch.document_ids.tolist() == [0] * 3 + [1] * 6
    assert batch.branch_ids is not None
    assert batch.branch_ids.tolist() == [0] * 3 + [0, 0, 1, 1, 2, 2]
    assert batch.visual_slots.tolist() == [0, 3]
    assert batch.sample_ids == ("a", "")
    assert (batch.patches.shape, batch.grids.shape, batch.position_ids.shape) == ((2, 588), (2, 3), (3, 9))


@given(st.lists(st.lists(st.sampled_from([IGNORE_INDEX, 5, 6]), min_size=1, max_size=6), min_size=1, max_size=5))
def test_packed_labels_are_those_of_the_documents_alone(documents: list[list[int]]) -> None:
    packed = collate([document(labels) for labels in documents])
    alone = [collate([document(labels)]) for labels in documents]
    assert packed.labels.tolist() == [label for batch in alone for label in batch.labels.tolist()]
    assert packed.branch_ids is None


def test_openai_messages_become_a_sample() -> None:
    out = io.BytesIO()
    PICTURE.save(out, "PNG")
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "image", "image": out.getvalue(), "max_pixels": 50_000},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            {"type": "text", "text": "<ref>typed</ref><box>(1,2),(3,4)</box>"},
        ]},
        {"role": "assistant", "content": "<ref>dog</ref><box>(1,2),(3,4)</box>"},
        {"role": "user", "content": "And?"},
    ]  # fmt: skip
    sample = messages_to_sample(messages, sample_id="r1")
    assert [message.role for message in sample.messages] == ["system", "user", "assistant", "user"]
    assert sample.images == [ImagePart(out.getvalue(), None, 50_000), ImagePart("data:image/png;base64,AAAA")]
    assert sample.messages[1].parts[2] == TextPart("<ref>typed</ref><box>(1,2),(3,4)</box>"), "typed by a user: text"
    assert isinstance(sample.messages[2].parts[0], RegionPart), "the model's own answer: regions again"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "give a list"),
        ({"role": "user", "content": "x"}, "give a list"),
        (["hello"], r"messages\[0\]: expected a mapping"),
        ([{"role": "robot", "content": "x"}], "role 'robot' is not one of"),
        ([{"role": "user"}], "content must be"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "x"}], r"messages\[1\]: a system message"),
        ("", "empty; write a question"),
        ([{"role": "user", "content": [{"type": "text", "text": " \n"}]}], "empty; write a question"),
        ([{"role": "user", "content": [{"type": "audio"}]}], r"content\[0\]: type 'audio' is not one of text, image, image_url"),
        ([{"role": "user", "content": [{"type": "text"}]}], "needs 'text'"),
        ([{"role": "user", "content": [{"type": "image"}]}], "needs 'image'"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "needs 'image_url'"),
        ([{"role": "user", "content": [{"type": "image", "image": "a", "max_pixels": -1}]}], "max_pixels must be"),
        ([{"role": "user", "content": [7]}], "expected a mapping with a type"),
    ],
)
def test_bad_messages_are_one_clear_line(messages: Any, message: str) -> None:
    with pytest.raises(MessageError, match=message) as caught:
        messages_to_sample(messages)
    assert "\n" not in str(caught.value)
