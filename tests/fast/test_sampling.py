"""Sampling: greedy by default, every option does what it says, nothing global is random; and text as it streams."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qwenvl.families.spec import Markup
from qwenvl.inference.reply import readable
from qwenvl.inference.sampling import GenerationOptions, OptionError, choose_token, distribution, new_generator, penalise
from qwenvl.inference.text_stream import ReadableStream, TextStream

LOGITS = torch.tensor([1.0, 3.0, 2.0, -1.0, 2.5])


def draws(options: GenerationOptions, count: int = 400, history: tuple[int, ...] = ()) -> list[int]:
    generator = new_generator(options.seed or 1)
    return [choose_token(LOGITS, history, options, generator) for _ in range(count)]


def test_greedy_unless_asked() -> None:
    assert GenerationOptions().greedy
    assert GenerationOptions(temperature=0, top_p=0.5).greedy
    assert not GenerationOptions(top_p=0.5).greedy
    assert set(draws(GenerationOptions(), 20)) == {1}


def test_top_k_keeps_the_k_most_likely() -> None:
    assert set(draws(GenerationOptions(top_k=3))) == {1, 4, 2}
    assert set(draws(GenerationOptions(top_k=1), 20)) == {1}


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    probabilities = torch.softmax(LOGITS, 0)
    two = float(probabilities[1] + probabilities[4])
    assert set(draws(GenerationOptions(top_p=two - 0.01))) == {1, 4}
    assert set(draws(GenerationOptions(top_p=two + 0.01))) == {1, 4, 2}
    assert set(draws(GenerationOptions(top_p=1e-6), 20)) == {1}


def test_draws_follow_the_distribution() -> None:
    options = GenerationOptions(temperature=0.7)
    expected = distribution(LOGITS, options)
    torch.testing.assert_close(expected, torch.softmax(LOGITS / 0.7, 0))
    counts = torch.bincount(torch.tensor(draws(options, 4000)), minlength=5) / 4000
    assert (counts - expected).abs().max() < 0.03


@pytest.mark.parametrize("temperature", [1e-3, 1e-40, 1e-320])
def test_a_temperature_near_zero_is_greedy(temperature: float) -> None:
    assert set(draws(GenerationOptions(temperature=temperature), 20)) == {1}


def test_repetition_penalty_makes_seen_tokens_less_likely_whatever_their_sign() -> None:
    scores = penalise(LOGITS, [1, 1, 3], 2.0)
    assert scores.tolist() == [1.0, 1.5, 2.0, -2.0, 2.5]
    assert LOGITS[1] == 3.0  # the input is not changed
    assert choose_token(LOGITS, [1], GenerationOptions(repetition_penalty=2.0), new_generator(0)) == 4


def test_a_seed_repeats_the_draw_and_global_randomness_is_untouched() -> None:
    options = GenerationOptions(temperature=1.0, seed=5)
    state = torch.random.get_rng_state()
    assert draws(options, 50) == draws(options, 50)
    assert draws(options, 50) != draws(GenerationOptions(temperature=1.0, seed=6), 50)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1}, {"temperature": math.nan}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": -1}, {"max_new_tokens": 0},
     {"repetition_penalty": 0}, {"stop": ("",)}, {"temperature": "hot"}, {"maximum": 3}, {"max_new_tokens": 2.5}, {"top_k": 1.5},
     {"seed": -1}, {"seed": 1.5}, {"seed": 2**64}, {"seed": True}],
)  # fmt: skip
def test_a_wrong_option_is_one_line_that_names_it(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError) as caught:
        GenerationOptions.of(**wrong)
    assert next(iter(wrong)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_logits_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(Exception, match="not finite"):
        choose_token(torch.tensor([0.0, math.nan]), (), GenerationOptions(), new_generator(0))


def stream(pieces: list[bytes], stops: tuple[str, ...] = ()) -> tuple[list[str], TextStream]:
    text = TextStream(lambda index: pieces[index], stops)
    chunks = [text.push(index) for index in range(len(pieces))]
    return [*chunks, text.finish()], text


def test_a_character_is_never_streamed_in_halves() -> None:
    chunks, text = stream([bytes([byte]) for byte in "狗 dog 🐶".encode()])
    assert all("\ufffd" not in chunk for chunk in chunks)
    assert text.text == "".join(chunks) == "狗 dog 🐶"


def test_an_unfinished_character_at_the_end_is_shown_as_such() -> None:
    assert stream(["狗".encode()[:2]])[1].text == "\ufffd"


def test_a_stop_string_across_tokens_ends_the_text_before_it() -> None:
    chunks, text = stream([b"one ", b"ST", b"ay, ", b"two S", b"TO", b"P three"], ("STOP",))
    assert text.stopped
    assert text.text == "".join(chunks) == "one STay, two "


@given(st.text("abS", max_size=12), st.lists(st.text("abS", min_size=1, max_size=3), max_size=3), st.integers(1, 4))
def test_streaming_cuts_where_the_whole_text_would_be_cut(whole: str, stops: list[str], size: int) -> None:
    pieces = [whole[start : start + size].encode() for start in range(0, len(whole), size)]
    places = [whole.find(stop) for stop in stops if stop in whole]
    text = stream(pieces, tuple(stops))[1]
    if not places:
        assert (text.stopped, text.text) == (False, whole)
    else:
        # Only a stop that is complete can be seen: the earliest end decides, then the earliest beginning.
        assert text.stopped
        assert whole.startswith(text.text)
        assert not any(stop in text.text for stop in stops)


ANSWER = (
    "There is <ref>a dog</ref><box>(1,2),(3,4)</box><box>(5,6),(7,8)</box> and "
    "<ref>a sign</ref><quad>(1,1), (2,1), (2,2), (1,2)</quad>."
)


def test_people_read_an_answer_without_markup() -> None:
    assert readable(ANSWER, Markup()) == "There is a dog and a sign."
    assert readable("<box>(1,2),(3,4)</box>", Markup()) == ""
    assert readable("a <ref>dog", Markup()) == "a dog"
    assert readable("a<box>(1,2),(3", Markup()) == "a"


@pytest.mark.parametrize("size", [1, 3, 7])
def test_streamed_readable_text_equals_the_whole_and_never_takes_back(size: int) -> None:
    markup = Markup()
    chunks = [ANSWER[start : start + size] for start in range(0, len(ANSWER), size)]  # halves of tags too
    people = ReadableStream(lambda text: readable(text, markup), (markup.ref, markup.box, markup.quad))
    assert "".join([*(people.push(chunk) for chunk in chunks), people.finish()]) == readable(ANSWER, markup)
