"""A model behind an address is asked what a loaded one is asked, and says so where it cannot be."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qwenvl.config import ConfigError
from qwenvl.data.instruct.api import Api, ApiError
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split, question_of
from qwenvl.eval.remote import RemoteAnswerer, preset_like, wording_for_chat
from qwenvl.eval.runner import predict
from qwenvl.eval.task import Decoding, EvaluationError, Question
from qwenvl.processing.regions import read_regions
from qwenvl.types import ImagePart, Region, RegionPart, TextPart, VideoPart
from tests.fake_api import FakeApi, serve

BOX = Region.box(0.1, 0.2, 0.5, 0.9)
WORDS = Prompt("Where is <ref>{thing}</ref>? ", "ours", Decoding(16), style="chat", system="Be brief.")


def picture(size: tuple[int, int] = (300, 200)) -> Image.Image:
    return Image.effect_noise(size, 80).convert("RGB")


def item(name: str = "0", image: Any = None) -> Item:
    return Item(name, {"thing": "the dog"}, (ImagePart(image or picture()),), (RegionPart("the dog", (BOX,)),))


def benchmark(**prompts: Prompt) -> Benchmark:
    return Benchmark("x", "X", "", "", {"test": Split(())}, prompts, lambda folder, split: iter(()), "m")


def asked(answerer: RemoteAnswerer, thing: Item, prompt: Prompt = WORDS, examples: Sequence[Item] = ()) -> Question:
    return question_of(benchmark(chat=prompt), "test", prompt, thing, answerer, examples)


def remote(fake: FakeApi | None, like: str = "qwen2_5_vl", **options: Any) -> RemoteAnswerer:
    url = fake.url if fake else "http://127.0.0.1:9/v1"
    return RemoteAnswerer(Api(url, "m", sleep=lambda seconds: None, tries=2), like, **options)


def seen(field: dict[str, Any]) -> Image.Image:
    header, _, content = field["image_url"]["url"].partition(",")
    assert header in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_question_is_sent_as_messages_with_its_decoding() -> None:
    decoding = Decoding(16, temperature=0.5, top_p=0.9, stop=("\n", "."))
    with serve(FakeApi(lambda body, number: "there")) as fake:
        answerer = remote(fake, seed=3)
        prompt = Prompt(WORDS.text, "ours", decoding, style="chat", system="Be brief.")
        question = asked(answerer, item(), prompt)
        (answer,) = answerer.answer([question])
    (body,) = fake.bodies
    assert {name: body[name] for name in ("max_tokens", "temperature", "top_p", "stop", "seed")} == {
        "max_tokens": 16, "temperature": 0.5, "top_p": 0.9, "stop": ["\n", "."], "seed": 3,
    }  # fmt: skip
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    image, text = user["content"]
    assert text == {"type": "text", "text": "Where is the dog? "} and seen(image).size == answer.pixels[0]
    assert (answer.text, answer.finish_reason, answer.prompt_tokens, answer.reply_tokens) == ("there", "stop", 100, 20)
    assert answer.prompt == "system: Be brief.\nuser: <image>Where is the dog? " == answerer.written(question)


def test_greedy_is_temperature_nought_and_nothing_else_is_said() -> None:
    with serve(FakeApi(lambda body, number: "x")) as fake:
        answerer = remote(fake)
        answerer.answer([asked(answerer, item())])
    assert set(fake.bodies[0]) == {"path", "model", "messages", "max_tokens", "temperature", "seed"}
    assert fake.bodies[0]["temperature"] == 0


def test_places_are_read_in_the_frame_that_was_sent() -> None:
    """Pixels of the resized picture for Qwen2.5-VL, thousandths for the two before, the same box for all."""
    with serve(FakeApi(lambda body, number: "")) as fake:
        for like, box in (
            ("qwen2.5-vl-7b", '[{{"bbox_2d": [{0}, {1}, {2}, {3}], "label": "the dog"}}]'),
            ("qwen2_vl", "<|box_start|>(100,200),(500,900)<|box_end|>"),
            ("qwen_vl", "<box>(100,200),(500,900)</box>"),
        ):
            answerer = remote(fake, like)
            question = asked(answerer, item())
            (answer,) = answerer.answer([question])
            width, height = answer.pixels[0]
            assert (width, height) == (tuple(question.truth["frame"]) if "frame" in question.truth else (300, 200))
            said = box.format(round(0.1 * width), round(0.2 * height), round(0.5 * width), round(0.9 * height))
            (region,) = read_regions(said, answerer.markup, frame=question.truth.get("frame"))
            flat = [value for point in region.points for value in point]
            assert flat == pytest.approx([0.1, 0.2, 0.5, 0.9], abs=0.005)
    assert remote(None, "qwen2.5-vl-7b").frame((300, 200)) == (308, 196)


def test_examples_are_turns_with_their_own_pictures() -> None:
    with serve(FakeApi(lambda body, number: "x")) as fake:
        answerer = remote(fake)
        examples = [item("1", picture((56, 84))), item("2", picture((140, 140)))]
        answerer.answer([asked(answerer, item(), examples=examples)])
    messages = fake.bodies[0]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [seen(message["content"][0]).size for message in messages[1::2]] == [(56, 84), (140, 140), (308, 196)]
    assert '"bbox_2d": [6, 17, 28, 76]' in messages[2]["content"], "in pixels of its own picture"


def test_files_are_sent_as_they_are_and_upright(tmp_path: Path) -> None:
    plain, turned = tmp_path / "plain.jpg", tmp_path / "turned.jpg"
    picture().save(plain, quality=70)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(turned, exif=exif)
    with serve(FakeApi(lambda body, number: "x")) as fake:
        answerer = remote(fake, "qwen2_vl")
        answerer.answer([asked(answerer, item("0", str(plain))), asked(answerer, item("1", turned))])
    urls = {field["image_url"]["url"] for body in fake.bodies for field in body["messages"][1]["content"][:1]}
    whole = f"data:image/jpeg;base64,{base64.b64encode(plain.read_bytes()).decode()}"
    (other,) = urls - {whole}
    assert seen({"image_url": {"url": other}}).size == (200, 300)


def test_a_clip_is_sent_as_its_frames() -> None:
    frames = [Image.new("RGB", (56, 56), (number * 20, 0, 0)) for number in range(4)]
    clip = Item("0", {"thing": "it"}, (VideoPart(frames),), "yes")
    with serve(FakeApi(lambda body, number: "x")) as fake:
        answerer = remote(fake)
        (answer,) = answerer.answer([asked(answerer, clip)])
    content = fake.bodies[0]["messages"][1]["content"]
    assert [field["type"] for field in content] == ["image_url"] * 4 + ["text"] and len(answer.pixels) == 4
    reds = [seen(field).convert("RGB").getpixel((9, 9))[0] for field in content[:4]]  # type: ignore[index]
    assert reds == pytest.approx([0, 20, 40, 60], abs=4), "in their order"


def test_many_are_asked_at_once_and_answers_keep_their_order() -> None:
    def echo(body: dict[str, Any], number: int) -> str:
        return body["messages"][-1]["content"].split()[-1]

    prompt = Prompt("{thing}", "ours", Decoding(4), style="chat")
    with serve(FakeApi(echo)) as fake:
        answerer = remote(fake, workers=3)
        things = [Item(str(number), {"thing": f"say {number}"}, (), str(number)) for number in range(20)]
        answers = answerer.answer([asked(answerer, thing, prompt) for thing in things])
    assert [answer.text for answer in answers] == [str(number) for number in range(20)]
    assert 1 <= fake.most_at_work <= 3


def test_a_question_without_a_reply_has_its_error_and_the_others_go_on(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], number: int) -> str | tuple[int, dict[str, str], bytes]:
        bad = body["messages"][-1]["content"] == "b"
        return (400, {}, b'{"error": {"message": "too long"}}') if bad else "fine"

    prompt = Prompt("{thing}", "ours", Decoding(4), style="chat")
    with serve(FakeApi(answer)) as fake:
        answerer = remote(fake)
        questions = [asked(answerer, Item(name, {"thing": name}, (), "x"), prompt) for name in "abc"]
        found = predict(questions, answerer, tmp_path, batch=8)
    assert [(one.reply, one.error) for one in found] == [("fine", ""), ("", "HTTP 400: too long"), ("fine", "")]
    refused = FakeApi(lambda body, number: (401, {}, b'{"error": {"message": "no such key"}}'))
    with serve(refused) as fake, pytest.raises(ApiError, match="401 no such key"):
        remote(fake).answer(questions)


def test_what_no_address_can_do_is_said_in_one_line() -> None:
    answerer = remote(None, "qwen2_vl")
    for decoding, why in (
        (Decoding(1, rank=True), "ranks options by likelihood"),
        (Decoding(28, begin="<box>"), "begins the answer with <box>"),
        (Decoding(30, min_new_tokens=8), "asks for 8 tokens at least"),
    ):
        with pytest.raises(EvaluationError, match=f"x: its wording {why}.*take a wording for chat models"):
            answerer.answer([asked(answerer, item(), Prompt("{thing}", "ours", decoding))])
    with serve(FakeApi(lambda body, number: "x")) as fake:
        known = remote(fake, "qwen2_vl", min_tokens=True)
        known.answer([asked(known, item(), Prompt("{thing}", "ours", Decoding(30, min_new_tokens=8)))])
    assert fake.bodies[0]["min_tokens"] == 8


def test_options_are_asked_by_letter_only_where_there_is_a_wording_for_it() -> None:
    ranked, letter = Prompt("{thing}", "ours", Decoding(1, rank=True)), Prompt("{thing}?", "ours", Decoding(4), style="chat")
    assert wording_for_chat(benchmark(paper=ranked, chat=letter)) == "chat"
    assert wording_for_chat(benchmark(paper=ranked, other=letter)) == "other"
    with pytest.raises(EvaluationError, match="x: no wording asks for an answer in words"):
        wording_for_chat(benchmark(paper=ranked))
    with pytest.raises(EvaluationError, match="x: no wording asks"):
        wording_for_chat(benchmark(paper=ranked, chat=letter), "paper")


def test_a_family_or_a_preset_says_how_places_are_written() -> None:
    assert preset_like("qwen2_5_vl").name == "qwen2.5-vl-3b" and preset_like("qwen-vl-7b").name == "qwen-vl-7b"
    with pytest.raises(ConfigError, match="unknown model 'gpt'"):
        preset_like("gpt")
    assert isinstance(item().said[0], RegionPart) and isinstance(Item("0", answer="x").said[0], TextPart)
