"""Using a model: a cache, pieces and a batch change nothing; styles, limits and stops; places in pixels of the original."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import qwenvl
from qwenvl.families import get_family
from qwenvl.families.spec import Markup
from qwenvl.inference.draw import COLOURS, draw_regions, find_fonts, runs_of
from qwenvl.inference.features import TensorCache, looks_of, visual_tokens
from qwenvl.inference.sampling import OptionError
from qwenvl.inference.session import Session, alpha_of, run_model, split_prompt
from qwenvl.models.attention import PackedLayout
from qwenvl.models.rope import ntk_alpha
from qwenvl.processing.encode import ready_picture
from qwenvl.processing.tokenizer import train_tokenizer
from qwenvl.processing.video import ready_video
from qwenvl.types import Encoded, QwenVLError, Region, VideoPart
from qwenvl.weights.io import save_model
from tests.fast.tiny import (
    CONTEXT,
    NATIVE,
    TRAINED_LENGTH,
    Visual,
    document,
    ids_of,
    make_it_say,
    native_config,
    picture,
    random_prompt,
    tiny_model,
    write_tiny,
)
from tests.small_text import CORPUS, small_tokenizer

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> qwenvl.QwenVL:
    return qwenvl.load(folder, device="cpu")


def ask(*content: object, text: str = "Where is it?") -> list[dict[str, object]]:
    images = [{"type": "image", "image": item} for item in content]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def no_cache(model: qwenvl.QwenVL, prompt: Encoded, tokens: list[int], alpha: float) -> torch.Tensor:
    """Logits after the prompt and after each of `tokens`, recomputed from the start at the prompt's alpha."""
    ids = np.concatenate([prompt.input_ids, tokens])
    whole = prompt.with_(input_ids=ids, labels=ids, position_ids=np.tile(np.arange(len(ids)), (3, 1)))
    hidden = run_model(model.model, [whole], [alpha], PackedLayout.of(torch.zeros(len(ids), dtype=torch.long)))
    return model.model.logits(hidden)[len(prompt) - 1 :].detach()


# One prompt is short, one grows across the trained length while it decodes, two begin beyond it, at alpha 3 and 7.
LENGTHS = [10, TRAINED_LENGTH - 3, TRAINED_LENGTH + 1, 2 * TRAINED_LENGTH + 5]


@pytest.mark.parametrize("length", LENGTHS)
def test_cache_equals_no_cache(model: qwenvl.QwenVL, length: int) -> None:
    prompt = random_prompt(model.config, length)
    session = Session(model.model, [prompt], room=8)
    tokens = [7, 250, 3, 42, 42, 100, 9, 8]
    cached = torch.cat([session.prefill(), *(session.step([token]) for token in tokens)])
    assert session.next_positions == [length + len(tokens)]
    torch.testing.assert_close(cached, no_cache(model, prompt, tokens, session.alphas[0]), atol=TOLERANCE, rtol=0)


def spoken(model: qwenvl.QwenVL) -> list[Encoded]:
    """With one picture and with two, up to the trained length and beyond it: at alpha 1, 3 and 7."""
    return [
        model.encode(ask(picture(1), text="?"), style="raw"),
        model.encode(ask(picture(2), picture(3), text="how many"), style="raw"),
        model.encode(ask(picture(4), picture(5), text="a red circle " * 3)),
        model.encode(ask(picture(6), text="a red circle and a dog " * 4)),
    ]


def test_cache_equals_no_cache_with_pictures_across_the_trained_length(model: qwenvl.QwenVL) -> None:
    tokens = [7, 250, 3, 42] * (TRAINED_LENGTH // 4)
    for prompt in spoken(model):
        session = Session(model.model, [prompt], room=len(tokens))
        cached = torch.cat([session.prefill(), *(session.step([token]) for token in tokens)])
        expected = no_cache(model, prompt, tokens, session.alphas[0])
        torch.testing.assert_close(cached, expected, atol=TOLERANCE, rtol=0)
    assert len(spoken(model)[0]) < TRAINED_LENGTH < len(spoken(model)[0]) + len(tokens), "one crosses the length while it decodes"


def test_packed_equals_separate_with_pictures(model: qwenvl.QwenVL) -> None:
    """Whole conversations on one axis, each at the alpha of its own length: neither pictures nor text of a neighbour are seen."""
    together = spoken(model)
    alphas = [alpha_of(model.model, len(one)) for one in together]
    assert {1, 3} < set(alphas)
    documents = torch.repeat_interleave(torch.arange(len(together)), torch.tensor([len(one) for one in together]))
    packed = model.model.logits(run_model(model.model, together, alphas, PackedLayout.of(documents)))
    separate = torch.cat([model.forward(one) for one in together])
    torch.testing.assert_close(packed, separate, atol=TOLERANCE, rtol=0)


def test_batched_logits_equal_single_with_pictures(model: qwenvl.QwenVL) -> None:
    together = spoken(model)
    batch, alone = Session(model.model, together, room=2), [Session(model.model, [one], room=2) for one in together]
    torch.testing.assert_close(batch.prefill(), torch.cat([one.prefill() for one in alone]), atol=TOLERANCE, rtol=0)
    tokens = [5, 6, 7, 8]
    single = torch.cat([one.step([token]) for one, token in zip(alone, tokens)])
    torch.testing.assert_close(batch.step(tokens), single, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_saved_then_loaded_answers_bitwise_the_same(model: qwenvl.QwenVL, tmp_path: Path, dtype: str) -> None:
    first = qwenvl.load(write_tiny(tmp_path / "first"), device="cpu", dtype=dtype)
    save_model(first.model, tmp_path / "second")
    small_tokenizer().save(tmp_path / "second")
    second = qwenvl.load(tmp_path / "second", device="cpu")
    assert second.dtype is first.dtype is getattr(torch, dtype)
    encoded = first.encode(ask(picture(1)))
    assert torch.equal(second.forward(encoded), first.forward(encoded))
    assert torch.equal(second.visual([picture(1)]), first.visual([picture(1)]))
    assert second.chat(ask(picture(1)), max_new_tokens=6) == first.chat(ask(picture(1)), max_new_tokens=6)


@pytest.mark.parametrize("chunk", [1, 7, 16, 1000])
def test_prefill_in_pieces_equals_whole(model: qwenvl.QwenVL, chunk: int) -> None:
    prompt = model.encode(ask(picture(1), picture(2), text="a red circle and a dog " * 6))
    assert len(prompt) > TRAINED_LENGTH
    whole, pieces = Session(model.model, [prompt], room=4), Session(model.model, [prompt], room=4)
    torch.testing.assert_close(in_pieces(pieces, prompt, chunk), whole.prefill(), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(pieces.step([5]), whole.step([5]), atol=TOLERANCE, rtol=0)


def in_pieces(session: Session, prompt: Encoded, chunk: int) -> torch.Tensor:
    """Logits after a prompt that is read as the engine reads one, its pictures first."""
    visual = visual_tokens(session.model, prompt, looks_of(session.model, prompt), TensorCache(0))
    pieces = split_prompt(prompt, chunk)
    rows = visual.split([len(piece.visual_slots) for piece in pieces])
    return [session.feed([piece], tokens) for piece, tokens in zip(pieces, rows)][-1]


def test_pieces_of_a_prompt_lose_nothing(model: qwenvl.QwenVL) -> None:
    prompt = model.encode(ask(picture(1), picture(2)))
    for chunk in range(1, len(prompt) + 1):
        for start in (0, 1, len(prompt) - 1):
            pieces = split_prompt(prompt, chunk, start)
            assert np.concatenate([piece.input_ids for piece in pieces]).tolist() == prompt.input_ids[start:].tolist()
            begins = range(start, len(prompt), chunk)
            slots = np.concatenate([piece.visual_slots + begin for piece, begin in zip(pieces, begins, strict=True)])
            assert slots.tolist() == [slot for slot in prompt.visual_slots.tolist() if slot >= start]


def prompts(model: qwenvl.QwenVL) -> list[Encoded]:
    spoken = [model.encode(ask(picture(1))), model.encode(ask(picture(2), picture(3), text="how many")), model.encode(ask())]
    return [*spoken, *(random_prompt(model.config, length, seed=length) for length in LENGTHS)]


def test_r14_batched_equals_single_token_for_token(model: qwenvl.QwenVL) -> None:
    batch = model.generate(prompts(model), max_new_tokens=12)
    single = [model.generate([prompt], max_new_tokens=12)[0] for prompt in prompts(model)]
    assert [reply.tokens for reply in batch] == [reply.tokens for reply in single]
    assert len({reply.tokens for reply in single}) > 3  # the answers differ, or the test would say nothing


def test_a_seeded_sample_does_not_depend_on_its_neighbours(model: qwenvl.QwenVL) -> None:
    options = {"max_new_tokens": 6, "temperature": 1.5, "seed": 4}
    batch = model.generate(prompts(model), **options)
    assert [reply.tokens for reply in batch] == [model.generate([prompt], **options)[0].tokens for prompt in prompts(model)]


def test_alpha_follows_the_published_rule_and_is_fixed_by_a_sequence_s_own_length(model: qwenvl.QwenVL) -> None:
    assert [ntk_alpha(length, 2048) for length in (1, 2048, 2049, 4096, 4097, 8192, 8193)] == [1, 1, 3, 3, 7, 7, 15]
    lengths = [10, TRAINED_LENGTH, TRAINED_LENGTH + 1, 2 * TRAINED_LENGTH + 1]
    session = Session(model.model, [random_prompt(model.config, length) for length in lengths], room=4)
    session.prefill()
    session.step([1, 2, 3, 4])
    assert session.alphas == [1, 1, 3, 7]
    assert [alpha_of(model.model, length) for length in lengths] == session.alphas


def test_forward_and_logits_agree_and_path_bytes_do_not_matter(model: qwenvl.QwenVL) -> None:
    encoded = model.encode(ask(picture(1)))
    padded = model.logits(encoded.input_ids, [picture(1)])
    assert torch.equal(model.forward(encoded), padded)
    assert padded.shape == (len(encoded), model.config.decoder.vocab_size)
    ids = encoded.input_ids.copy()
    ids[encoded.visual_slots[:3]] = [97, 46, 106]  # as the published tokenizer writes a path
    assert torch.equal(model.logits(ids, [picture(1)]), padded)
    assert not torch.equal(model.logits(ids, [picture(2)]), padded)
    positions = np.arange(len(ids))
    assert torch.equal(model.logits(ids, [picture(1)], position_ids=positions), padded)
    assert not torch.allclose(model.logits(ids, [picture(1)], position_ids=positions * 2), padded)


def test_visual_tokens_of_pictures_come_in_order(model: qwenvl.QwenVL) -> None:
    both = model.visual([picture(1), picture(2)])
    assert both.shape == (8, model.config.decoder.hidden_size)
    torch.testing.assert_close(both[4:], model.visual([picture(2)]), atol=TOLERANCE, rtol=0)


def test_a_folder_without_tokenizer_takes_ids_but_no_text(tmp_path: Path) -> None:
    model = qwenvl.load(write_tiny(tmp_path / "bare", tokenizer=False))
    assert model.logits([1, 2, 3]).shape[0] == 3
    reply = model.generate([random_prompt(model.config, 5)], max_new_tokens=3)[0]
    assert len(reply.tokens) == 3 and reply.text == ""
    with pytest.raises(QwenVLError, match="tokenizer"):
        model.chat(ask())


def test_style_of_a_checkpoint_comes_from_its_generation_config(tmp_path: Path, model: qwenvl.QwenVL) -> None:
    base = qwenvl.load(write_tiny(tmp_path / "base", chat_format="raw"))
    assert model.style == "chat" and base.style == "raw"
    assert base.encode(ask(text="a dog Answer:")).input_ids.tolist() == ids_of("a dog Answer:")
    assert base.encode(ask(text="a dog"), style="chat").input_ids.tolist() == model.encode(ask(text="a dog")).input_ids.tolist()


def test_a_conversation_that_ends_with_an_answer_is_encoded_whole(model: qwenvl.QwenVL) -> None:
    whole = model.encode([*ask(), {"role": "assistant", "content": "two"}])
    assert whole.input_ids.tolist() == model.encode(ask()).input_ids.tolist() + ids_of("two<|im_end|>")
    assert (whole.labels >= 0).sum() == len(ids_of("two<|im_end|>"))


ANSWER = "Two: <ref>a dog</ref><box>(100,200),(300,400)</box>."


def test_reply_says_where_in_pixels_of_the_last_original(model: qwenvl.QwenVL, monkeypatch: pytest.MonkeyPatch) -> None:
    make_it_say(monkeypatch, ANSWER)
    reply = model.chat(ask(picture(1, (50, 50)), picture(2, (640, 480))), max_new_tokens=200)
    assert reply.text == ANSWER and reply.readable == "Two: a dog."
    assert reply.regions == (Region.box(0.1, 0.2, 0.3, 0.4, "a dog", image=1),)
    assert reply.pixels[0].as_json() == {"label": "a dog", "kind": "box", "pixels": [64.0, 96.0, 192.0, 192.0], "image": 1}
    assert reply.finish_reason == "stop"
    assert reply.usage.completion_tokens == len(ids_of(ANSWER)) == len(reply.tokens)
    assert reply.usage.image_tokens == 8 < reply.usage.prompt_tokens


def test_stream_gives_the_chat_s_text_then_its_reply(model: qwenvl.QwenVL, monkeypatch: pytest.MonkeyPatch) -> None:
    make_it_say(monkeypatch, "有一只狗。 a dog", "有一只狗。 a dog")
    expected = model.chat(ask(), max_new_tokens=100)
    *chunks, reply = model.stream(ask(), max_new_tokens=100)
    assert reply == expected
    assert "".join(chunks) == expected.text == "有一只狗。 a dog"
    assert len(chunks) > 3 and not any("\ufffd" in chunk for chunk in chunks)


def test_limits_and_stop_strings(model: qwenvl.QwenVL, monkeypatch: pytest.MonkeyPatch) -> None:
    make_it_say(monkeypatch, *["one two three"] * 2)
    stopped = model.chat(ask(), stop="two", max_new_tokens=100)
    assert (stopped.text, stopped.finish_reason) == ("one", "stop")
    monkeypatch.undo()
    assert model.chat(ask()).usage.completion_tokens <= 8  # generation_config.json's own limit
    cut = model.generate([random_prompt(model.config, CONTEXT - 3)], max_new_tokens=50)[0]
    assert cut.usage.completion_tokens <= 3
    assert cut.finish_reason == ("length" if cut.usage.completion_tokens == 3 else "stop")


def test_r1_a_number_that_was_cut_is_no_place(model: qwenvl.QwenVL, monkeypatch: pytest.MonkeyPatch) -> None:
    """`(396,45` of `(396,451)` would be a box elsewhere; where the model itself stops there, it means what it wrote."""
    text = "<ref>dog</ref><box>(036,166),(396,45"
    for limit, places in ((len(ids_of(text)), 0), (100, 1)):
        make_it_say(monkeypatch, text)
        reply = model.chat(ask(picture(1, (100, 60))), max_new_tokens=limit)
        assert (reply.finish_reason == "length", len(reply.regions)) == (not places, places)
        monkeypatch.undo()


def test_bad_messages_options_and_ids_are_one_line(model: qwenvl.QwenVL) -> None:
    long = random_prompt(model.config, CONTEXT)
    encoded = model.encode(ask(picture(1)))
    ids = encoded.input_ids
    wrong = {
        f"{CONTEXT}": lambda: model.generate([long]),
        "empty": lambda: model.chat([{"role": "user", "content": " "}]),
        "at least one": lambda: model.chat([]),
        "videos|video": lambda: model.logits(ids, [picture(1)], videos=["clip.mp4"]),
        "1 image span in the text but 0 pictures": lambda: model.logits(ids),
        "but 2 pictures": lambda: model.logits(ids, [picture(1), picture(2)]),
        "picture 2: gone.png: no such file": lambda: model.logits(ids, [picture(1), "gone.png"]),
        "give a list of pictures, not one str": lambda: model.visual("photo.png"),
        "give a list of pictures, not one Image": lambda: model.logits(ids, picture(1)),
        r"one sequence of whole numbers \(T,\), not int64 of shape \(2, 3\)": lambda: model.logits([[1, 2, 3], [4, 5, 6]]),
        r"not float64": lambda: model.logits([1.5]),
        "position_ids": lambda: model.logits([1, 2, 3], position_ids=[0, 1]),
        "position_ids.*from 0": lambda: model.logits([1, 2, 3], position_ids=[-1, 0, 1]),
        "assistant's; end with a user's": lambda: model.chat([*ask(), {"role": "assistant", "content": "two"}]),
        "assistant's": lambda: model.stream([*ask(), {"role": "assistant", "content": "two"}]),
        "3 placeholders": lambda: model.logits(np.delete(ids, encoded.visual_slots[0]), [picture(1)]),
        "vocabulary": lambda: model.logits([10**6]),
        "input_ids is empty": lambda: model.logits([]),
        "no pictures": lambda: model.visual([]),
        "tempo": lambda: model.stream(ask(), tempo=1),
    }
    for pattern, call in wrong.items():
        with pytest.raises(QwenVLError, match=pattern) as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(OptionError):
        model.chat(ask(), temperature=-1)


def test_a_damaged_generation_config_is_named(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny")
    (folder / "generation_config.json").write_text(json.dumps({"chat_format": "alpaca"}))
    with pytest.raises(QwenVLError, match="chat_format"):
        qwenvl.load(folder)


def test_a_damaged_value_of_a_generation_config_is_named(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny")
    wrong = {"chat_format": [], "max_new_tokens": "many", "eos_token_id": "<end>"}
    for key, value in wrong.items():
        (folder / "generation_config.json").write_text(json.dumps({key: value}))
        with pytest.raises(QwenVLError, match=f"generation_config.json: {key}"):
            qwenvl.load(folder)


def test_a_tokenizer_of_another_model_is_named_with_its_folder(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny")
    train_tokenizer(CORPUS, 310).save(folder)
    with pytest.raises(QwenVLError, match=r"tiny: <img> is id .* they belong to two models"):
        qwenvl.load(folder)


def test_ids_come_as_list_array_or_tensor(model: qwenvl.QwenVL) -> None:
    expected = model.logits([1, 2, 3])
    for ids in ((1, 2, 3), np.array([1, 2, 3], np.int32), torch.tensor([1, 2, 3]), [[1, 2, 3]]):
        assert torch.equal(model.logits(ids), expected)
    assert torch.equal(model.logits([1, 2, 3], position_ids=torch.arange(3).expand(3, -1)), expected)


def test_r14_pictures_are_taken_in_every_openai_shape(model: qwenvl.QwenVL, tmp_path: Path) -> None:
    import base64

    image, held = picture(1), io.BytesIO()
    image.save(tmp_path / "a.png")
    image.save(held, "PNG")
    url = "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()
    expected = model.encode(ask(image)).patches
    for source in (str(tmp_path / "a.png"), tmp_path / "a.png", held.getvalue(), url):
        assert np.array_equal(model.encode(ask(source)).patches, expected)
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Where is it?"}]
    assert np.array_equal(model.encode([{"role": "user", "content": content}]).patches, expected)


# Native resolution

# A clip longer than its sides, so that its last position is on the axis of time.
MIXES = (
    (3, Visual((1, 6, 10)), 4, Visual((7, 4, 2), 1.0), 5), (9,), (2, Visual((1, 2, 2)), 1, Visual((1, 10, 4)), 30),
    (1, Visual((4, 2, 6), 0.5), 2),
)  # fmt: skip


def native(family: str) -> qwenvl.QwenVL:
    return qwenvl.QwenVL(tiny_model(native_config(family)), get_family(family), Markup(), name=family)


def native_logits(model: qwenvl.QwenVL, prompt: Encoded, tokens: list[int]) -> torch.Tensor:
    """Logits after the prompt and after each of `tokens`, without a cache; they stand after its highest position."""
    ids = np.append(prompt.input_ids, tokens)
    after = prompt.position_ids.max() + 1 + np.arange(len(tokens))
    positions = np.append(prompt.position_ids, np.tile(after, (3, 1)), axis=1)
    return model.forward(prompt.with_(input_ids=ids, labels=ids, position_ids=positions))[len(prompt) - 1 :]


@pytest.mark.parametrize("family", NATIVE)
def test_native_cache_and_batch_equal_no_cache(family: str) -> None:
    model = native(family)
    prompts = [document(model.config, mix, seed) for seed, mix in enumerate(MIXES)]
    tokens = [[5, 60, 7], [8, 9, 10], [11, 12, 13], [60, 2, 1]]
    session = Session(model.model, prompts, room=3)
    batched = [session.prefill(), *(session.step(list(column)) for column in zip(*tokens))]
    for row, (prompt, said) in enumerate(zip(prompts, tokens)):
        expected = native_logits(model, prompt, said)
        torch.testing.assert_close(torch.stack([logits[row] for logits in batched]), expected, atol=TOLERANCE, rtol=0)
        assert session.next_positions[row] == prompt.position_ids.max() + 4
    assert prompts[3].position_ids.max() < prompts[3].position_ids.size


@pytest.mark.parametrize("family", NATIVE)
def test_native_prefill_in_pieces_equals_whole(family: str) -> None:
    model = native(family)
    prompt = document(model.config, [*MIXES[0], *MIXES[2]])
    whole = Session(model.model, [prompt], room=1)
    expected, after = whole.prefill(), whole.step([5])
    for chunk in (1, 4, 25):
        pieces = Session(model.model, [prompt], room=1)
        torch.testing.assert_close(in_pieces(pieces, prompt, chunk), expected, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(pieces.step([5]), after, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", NATIVE)
def test_logits_take_pictures_and_videos_in_the_order_of_the_text(family: str) -> None:
    model = native(family)
    config, spec = model.config, model.spec
    frames = [picture(seed, (24, 12)) for seed in range(6)]
    clip = VideoPart(frames, fps=2.0, min_pixels=16, max_pixels=300)
    bounds = {"min_pixels": 16, "max_pixels": 400}
    ready = [
        ready_picture(config, spec, picture(1), "one", **bounds), ready_video(config, spec, clip, "two"),
        ready_picture(config, spec, picture(2, (9, 30)), "three", **bounds),
    ]  # fmt: skip
    mix = [2, Visual(ready[0].grid), 1, Visual(ready[1].grid, ready[1].seconds_per_grid), Visual(ready[2].grid), 4]
    encoded = document(config, mix).with_(patches=np.concatenate([one.patches for one in ready]))
    images = [picture(1), picture(2, (9, 30))]
    logits = model.logits(encoded.input_ids, images, [clip], **bounds)
    assert torch.equal(logits, model.forward(encoded))
    line = np.arange(len(encoded))
    assert not torch.allclose(model.logits(encoded.input_ids, images, [clip], **bounds, position_ids=line), logits)
    with pytest.raises(QwenVLError, match="1 video span in the text but 0 videos"):
        model.logits(encoded.input_ids, images, **bounds)
    with pytest.raises(QwenVLError, match=r"2 image spans in the text but 1 picture$"):
        model.logits(encoded.input_ids, images[:1], [clip], **bounds)
    second = model.visual(images[1:], **bounds)
    torch.testing.assert_close(model.visual(images, **bounds)[-len(second) :], second, atol=TOLERANCE, rtol=0)


# Drawing


def test_a_drawn_box_lies_on_its_edges_in_the_colour_of_its_label() -> None:
    black = Image.new("RGB", (400, 400))
    regions = [Region.box(0.25, 0.5, 0.75, 0.9), Region.box(0.1, 0.1, 0.2, 0.2, "b")]
    drawn = draw_regions(black, regions)
    assert drawn.size == black.size and black.getbbox() is None
    # The line is two pixels wide; either may be the rounded edge.
    assert COLOURS[0] in {drawn.getpixel((250, round(0.5 * 399) + shift)) for shift in (-1, 0)}
    assert COLOURS[0] in {drawn.getpixel((round(0.75 * 399) + shift, 300)) for shift in (-1, 0)}
    assert COLOURS[1] in {drawn.getpixel((round(0.1 * 399) + shift, 60)) for shift in (-1, 0)}
    assert drawn.getpixel((200, 280)) == (0, 0, 0)  # inside stays as it was


def test_a_label_is_readable_on_white_and_on_black() -> None:
    for background in ("white", "black"):
        canvas = Image.new("RGB", (300, 200), background)
        greys = np.asarray(draw_regions(canvas, [Region.box(0.1, 0.5, 0.9, 0.9, "HHHH")]).crop((34, 82, 60, 97)).convert("L"))
        assert greys.max() > 200 and (greys < 40).mean() > 0.3


def test_every_kind_at_every_edge_and_size_can_be_drawn() -> None:
    quad = Region("quad", ((0.1, 0.1), (0.9, 0.0), (1.0, 1.0), (0.0, 0.9)), "text")
    regions = [Region.box(0, 0, 1, 1, "whole"), quad, Region("point", ((1.0, 1.0),), "corner"), Region.box(-3, -3, 9, 9, "out")]
    for size in ((1, 1), (3, 900), (2000, 20), (64, 64)):
        assert draw_regions(Image.new("RGB", size), regions).size == size
    assert draw_regions(Image.new("RGB", (100, 50)), regions, enlarge_to=480).size == (500, 250)


def test_what_no_font_can_write_becomes_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwenvl.inference.draw.FONT_PATHS", ())
    find_fonts.cache_clear()
    try:
        fonts = find_fonts(14)
        assert [text for _, text in runs_of("dog 狗\n7", fonts)] == ["dog ? 7"]
        draw_regions(picture(), [Region.box(0.1, 0.1, 0.5, 0.5, "狗 dog")])
    finally:
        find_fonts.cache_clear()


def test_a_latin_and_a_chinese_word_share_a_label_where_such_a_font_is_installed() -> None:
    fonts = find_fonts(14)
    if len(fonts) == 1:
        pytest.skip("no font with Chinese glyphs is installed")
    assert [(fonts.index(font), text) for font, text in runs_of("a 狗 dog", fonts)] == [(0, "a "), (1, "狗"), (0, " dog")]
