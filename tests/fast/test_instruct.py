"""Self-instruction: the address is asked no more than needed, what it says is checked, and nothing that fails is hidden."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qwenvl.cli.data_instruct import Instruct
from qwenvl.cli.data_instruct import instruct as run_command
from qwenvl.cli.options import UsageError
from qwenvl.config import ConfigError
from qwenvl.data.instruct.api import Api, ApiError, RequestFailed, Usage
from qwenvl.data.instruct.cache import Cache
from qwenvl.data.instruct.prompts import KINDS, book, facts, questions, request
from qwenvl.data.instruct.replies import BadReply, check_turns, read_places, read_turns
from qwenvl.data.instruct.run import InstructSpec, Outcome, forget_failures, instruct
from qwenvl.data.shards import ShardReader, write_shard
from qwenvl.data.shown import Named, gather
from qwenvl.types import ImagePart, Message, Region, RegionPart, Sample, TextPart
from tests.fake_api import FakeApi, completion, serve

DOG, BALLS = Region.box(0.1, 0.2, 0.5, 0.9), (Region.box(0.6, 0.7, 0.7, 0.8), Region.box(0.8, 0.7, 0.9, 0.8))
THINGS = (Named("a dog", (DOG,)), Named("two balls", BALLS))
HELLO = [{"role": "user", "content": "hello"}]
GOOD = json.dumps([{"question": "What is there?", "answer": "There is [a brown dog](1) beside [the balls](2)."}])


def picture_samples(count: int) -> list[Sample]:
    """A caption with places about each of some pictures."""
    made = []
    for number in range(count):
        image = ImagePart(Image.new("RGB", (40, 30), (number, 0, 0)))
        said = (RegionPart("a dog", (DOG,)), TextPart(" and "), RegionPart("two balls", BALLS), TextPart("." * number))
        messages = (Message("user", (image, TextPart("Describe."))), Message("assistant", said))
        made.append(Sample(messages, f"p{number}", "grounded_caption", "en", "test"))
    return made


def client(fake: FakeApi, cache: Path | None = None, waits: list[float] | None = None, **options: Any) -> Api:
    sleep = (waits if waits is not None else []).append
    return Api(fake.url, "big", cache=Cache(cache) if cache else None, sleep=sleep, **options)


# The client


def test_a_request_has_the_published_form_and_its_reply_is_counted() -> None:
    with serve(FakeApi(lambda body, number: "hi")) as fake:
        api = client(fake, key="secret", max_tokens=7)
        reply = api.ask(HELLO)
    assert (reply.text, reply.finished, reply.kept) == ("hi", True, False)
    assert fake.bodies == [{"path": "/v1/chat/completions", "model": "big", "messages": HELLO, "temperature": 0.7, "max_tokens": 7}]
    assert fake.keys == ["Bearer secret"]
    assert (api.usage.requests, api.usage.prompt_tokens, api.usage.completion_tokens) == (1, 100, 20)


def test_what_passes_is_tried_again_with_longer_and_longer_waits() -> None:
    failures: list[tuple[int, dict[str, str], bytes]] = [
        (503, {}, b"busy"), (429, {"Retry-After": "9"}, b'{"error": {"message": "slow down"}}'), (200, {}, b"not json"),
    ]  # fmt: skip
    waits: list[float] = []
    with serve(FakeApi(lambda body, number: failures[number] if number < len(failures) else "at last")) as fake:
        api = client(fake, waits=waits)
        assert api.ask(HELLO).text == "at last"
    assert waits == [1.0, 9.0, 18.0], "doubled, and at least what the server asks for"
    assert (api.usage.requests, api.usage.retries) == (1, 3)


def test_a_request_that_never_succeeds_fails_with_its_reason() -> None:
    with serve(FakeApi(lambda body, number: (500, {}, b'{"error": "out of memory"}'))) as fake:
        with pytest.raises(RequestFailed, match="HTTP 500: out of memory"):
            client(fake, tries=3).ask(HELLO)
        assert len(fake.bodies) == 3
    with pytest.raises(RequestFailed, match="no connection"):
        client(fake, tries=2, usage=Usage(requests=1)).ask(HELLO)  # the server is gone


def test_a_server_that_never_answered_ends_the_run() -> None:
    with serve(FakeApi(lambda body, number: "hi")) as fake:
        pass
    with pytest.raises(ApiError, match=r"no server has answered yet .*; start it, or check the address"):
        client(fake, tries=2).ask(HELLO)


def test_a_bad_request_is_not_repeated_and_a_wrong_key_ends_the_run() -> None:
    with serve(FakeApi(lambda body, number: (400, {}, b'{"error": {"message": "too long"}}'))) as fake:
        with pytest.raises(RequestFailed, match="HTTP 400: too long"):
            client(fake).ask(HELLO)
        assert len(fake.bodies) == 1
    refused = FakeApi(lambda body, number: (401, {}, b'{"error": {"message": "no such key"}}'))
    with serve(refused) as fake, pytest.raises(ApiError, match="401 no such key; check the address, the key"):
        client(fake, key="secret").ask(HELLO)


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with serve(FakeApi(lambda body, number: "stolen")) as other:
        away = (307, {"Location": f"{other.url}/chat/completions"}, b"")
        with serve(FakeApi(lambda body, number: away)) as fake, pytest.raises(ApiError, match="HTTP 307"):
            client(fake, key="secret").ask(HELLO)
        assert not other.bodies


def test_the_same_question_is_paid_for_once(tmp_path: Path) -> None:
    with serve(FakeApi(lambda body, number: f"reply {number}")) as fake:
        first, again = client(fake, tmp_path), client(fake, tmp_path)
        assert first.ask(HELLO).text == again.ask(HELLO).text == "reply 0"
        assert again.ask(HELLO).kept and (again.usage.requests, again.usage.kept) == (0, 2)
        assert client(fake, tmp_path, temperature=0.1).ask(HELLO).text == "reply 1", "another request"
        next(tmp_path.rglob("*.json")).write_text("{damaged")
        assert {client(fake, tmp_path).ask(HELLO).text, client(fake, tmp_path, temperature=0.1).ask(HELLO).text} != {"reply 0"}
        assert len(fake.bodies) == 3, "a damaged file is asked again"


def test_a_budget_ends_the_run() -> None:
    with serve(FakeApi(lambda body, number: "ok")) as fake:
        api = client(fake, usage=Usage(price_in=10, price_out=50), max_cost=0.003)
        assert api.ask(HELLO) and api.usage.cost == pytest.approx(0.002)
        api.ask(HELLO)
        with pytest.raises(ApiError, match=r"0.004 of a budget of 0.003 is spent; raise --max-cost"):
            api.ask(HELLO)


def test_nothing_leaves_this_machine_while_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENVL_OFFLINE", "1")
    for url in ("https://api.example.com/v1", "http://192.168.0.1/v1"):
        with pytest.raises(ApiError, match="QWENVL_OFFLINE is set"):
            Api(url, "big")
    with pytest.raises(ApiError, match="not an address"):
        Api("localhost:8000", "big")
    assert Api("http://localhost:8000/v1/chat/completions", "big").url == "http://localhost:8000/v1"


# What is asked


def test_a_picture_is_told_as_captions_and_numbered_boxes() -> None:
    (shown,) = gather(picture_samples(1))
    assert facts(shown).splitlines() == [
        "Captions:", "- a dog and two balls", "",
        "Things, with their numbers and boxes (left, top, right, bottom, in thousandths of width and height):",
        "1. a dog (100, 200, 500, 900)", "2. two balls (600, 700, 700, 800) (800, 700, 900, 800)",
    ]  # fmt: skip
    for kind in KINDS:
        for language in ("en", "zh"):
            system, user = request(shown, kind, language)  # type: ignore[arg-type]
            assert system["content"].endswith(book()["rules"][language]) and user["content"] == facts(shown)
    _, user = request(shown, "detail", "en", with_picture=True)
    assert user["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,") and user["content"][1]["text"] == facts(
        shown
    )


# What comes back


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"Here you are:\n```json\n{GOOD}\n```\nAnything else?",
        GOOD.replace('"', "'").replace("}]", "},]"),
        "Question: What is there?\nAnswer: There is [a brown dog](1) beside [the balls](2).",
        "**Q1:** What is there?\n**A1:** There is [a brown dog](1) beside [the balls](2).",
    ],
)  # fmt: skip
def test_a_reply_is_read_however_it_is_written(text: str) -> None:
    assert read_turns(text) == [("What is there?", "There is [a brown dog](1) beside [the balls](2).")]


def test_what_was_cut_off_is_left_out() -> None:
    two = '[{"question": "a?", "answer": "b."}, {"question": "c?", "answer": "half of i'
    assert read_turns(two, finished=False) == [("a?", "b.")]
    assert read_turns("Q: a?\nA: b.\nQ: c?\nA: half of i", finished=False) == [("a?", "b.")]
    assert read_turns("I cannot help with that.") == []


def test_numbers_become_the_places_of_their_things() -> None:
    parts = read_places("There is [a brown dog](1) beside [the balls](#2), at (600, 701, 703, 800).", THINGS)
    assert parts == (
        TextPart("There is "), RegionPart("a brown dog", (DOG,)), TextPart(" beside "), RegionPart("the balls", BALLS),
        TextPart(", at "), RegionPart(None, (BALLS[0],)), TextPart("."),
    )  # fmt: skip
    assert read_places("[all of it](1, 2)", THINGS) == (RegionPart("all of it", (DOG, *BALLS)),)
    assert read_places("at [0.1, 0.2, 0.5, 0.9]", THINGS)[1] == RegionPart(None, (DOG,))
    assert read_places("see (1) and [this]", THINGS) == (TextPart("see (1) and [this]"),), "no mention, no place"


@pytest.mark.parametrize("text", ["[a cat](3)", "[a cat](0)", "a cat at (10, 20, 30, 40)", "a cat at [0.3, 0.3, 0.4, 0.4]"])
def test_a_place_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(BadReply, match=r"a thing that is not in the list|coordinates that are no box of the list"):
        read_places(text, THINGS)


def test_from_the_first_bad_turn_on_nothing_is_used() -> None:
    turns = [("What is it?", "[A dog](1)."), ("And this?", "[A cat](9)."), ("Where?", "There.")]
    good, reason = check_turns(turns, THINGS, "en")
    assert [turn.question for turn in good] == [(TextPart("What is it?"),)] and reason == "a thing that is not in the list"
    bad = {
        "it speaks of what it was told, not of the picture": ("What?", "The caption says a dog."),
        "another language than was asked for": ("What?", "一只狗在草地上。"),
        "a question is put twice": ("What is it?", "A dog again."),
    }
    for expected, turn in bad.items():
        assert check_turns([turns[0], turn], THINGS, "en")[1] == expected
    assert check_turns([("图里有什么？", "[一只狗](1)。"), ("几只？", "1")], THINGS, "zh")[1] is None
    assert check_turns([("What?", "A dog.")], THINGS, "zh")[1] == "another language than was asked for"
    assert check_turns([("What does the sign say?", "It says 出口.")], THINGS, "zh")[1] == "another language than was asked for"
    assert check_turns([("What does it say?", "It says 出口.")], THINGS, "en")[1] is None


# A whole run


def answer_by_kind(body: dict[str, Any], number: int) -> str:
    return "A dog stands beside [two balls](2)." if "one detailed paragraph" in body["messages"][0]["content"] else GOOD


def test_conversations_are_written_with_places_and_counted(tmp_path: Path) -> None:
    with serve(FakeApi(answer_by_kind)) as fake:
        outcome = instruct(picture_samples(3), tmp_path, InstructSpec(block=2), client(fake), workers=2)
    assert outcome.samples == {"conversation": 3, "detail": 3, "reasoning": 3} and outcome.exchanges == 9
    reader = ShardReader(tmp_path)
    found = [reader.sample(index) for index in range(len(reader))]
    assert [sample.id for sample in found[:4]] == ["p0 conversation", "p0 detail", "p0 reasoning", "p1 conversation"], "in order"
    asked, said = found[0].messages
    assert isinstance(asked.parts[0], ImagePart) and asked.parts[1:] == (TextPart("What is there?"),)
    assert said.parts[1] == RegionPart("a brown dog", (DOG,)) and found[0].extra["written_by"] == "big"
    assert found[1].messages[0].parts[1].text in questions("detail", "en")[:-1]  # type: ignore[union-attr]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["pictures"] == 3 and report["usage"]["requests"] == 9 and report["model"] == "big"


def test_no_more_requests_at_once_than_allowed(tmp_path: Path) -> None:
    def slow(body: dict[str, Any], number: int) -> str:
        time.sleep(0.02)
        return GOOD

    with serve(FakeApi(slow)) as fake:
        instruct(picture_samples(8), tmp_path, InstructSpec(kinds=("conversation",)), client(fake), workers=3)
    assert fake.most_at_work == 3


def test_failures_are_counted_and_asked_again_on_demand(tmp_path: Path) -> None:
    broken = threading.Event()
    broken.set()

    def answer(body: dict[str, Any], number: int) -> Any:
        return (400, {}, b"{}") if broken.is_set() and number == 1 else "I cannot." if number == 2 else GOOD

    spec = InstructSpec(kinds=("conversation",), block=2)
    with serve(FakeApi(answer)) as fake:
        first = instruct(picture_samples(4), tmp_path, spec, client(fake, tmp_path / "replies"), workers=1)
        assert first.failed == {"HTTP 400": 1} and first.refused == {"no question and answer in it": 1}
        assert sum(first.samples.values()) == 2 and first.pictures == 4
        assert instruct(picture_samples(4), tmp_path, spec, client(fake, tmp_path / "replies"), workers=1) == first
        assert len(fake.bodies) == 4, "nothing is asked again by itself"
        broken.clear()
        assert forget_failures(tmp_path) == 1
        again = instruct(picture_samples(4), tmp_path, spec, client(fake, tmp_path / "replies"), workers=1)
    assert not again.failed and sum(again.samples.values()) == 3 and len(fake.bodies) == 5


def test_stopped_and_continued_gives_the_same_as_uninterrupted(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], number: int) -> str:
        return GOOD if len(body["messages"][1]["content"]) % 2 else "No."

    spec = InstructSpec(block=2)
    samples = picture_samples(5)
    with serve(FakeApi(answer)) as fake:
        whole = instruct(samples, tmp_path / "whole", spec, client(fake), workers=2)
        paid = len(fake.bodies)
        stopping = client(fake, tmp_path / "replies", usage=Usage(price_out=50), max_cost=0.0085)
        with pytest.raises(ApiError, match="budget"):
            instruct(samples, tmp_path / "parts", spec, stopping, workers=1)
        assert 0 < len(list((tmp_path / "parts").glob("*.parquet"))) < 3
        goes_on = client(fake, tmp_path / "replies")
        assert instruct(samples, tmp_path / "parts", spec, goes_on, workers=2) == whole
        assert len(fake.bodies) == 2 * paid, "nothing was paid for twice"
    for name in ("part-00000.parquet", "part-00001.parquet", "part-00002.parquet"):
        one, other = (ShardReader(tmp_path / folder / name) for folder in ("whole", "parts"))
        assert [one.record(index) for index in range(len(one))] == [other.record(index) for index in range(len(other))]


def test_another_runs_folder_is_refused(tmp_path: Path) -> None:
    with serve(FakeApi(answer_by_kind)) as fake:
        instruct(picture_samples(1), tmp_path, InstructSpec(), client(fake))
        with pytest.raises(ConfigError, match=r"begun with kinds .*; give another folder"):
            instruct(picture_samples(1), tmp_path, InstructSpec(kinds=("detail",)), client(fake))
        other = [replace(sample, id=f"other {sample.id}") for sample in picture_samples(1)]
        with pytest.raises(ConfigError, match=r"begins with .*, not other .*; give another folder"):
            instruct(other, tmp_path, InstructSpec(), client(fake))


def test_the_command_reports_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "in" / "part-00000.parquet", picture_samples(2))
    with serve(FakeApi(lambda body, number: GOOD if number else (200, {}, completion(None)))) as fake:
        options = Instruct(
            tmp_path / "in", tmp_path / "out", fake.url, "big", kinds=("conversation",), concurrency=1, price_in=1, price_out=10
        )
        assert run_command(options) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("1 samples (conversation 1) about 2 pictures")
    assert said[1] == "1 requests (0 retries), 0 replies from disk; 100 tokens sent and 20 received, cost 0.0003"
    assert said[2] == "failed: a reply without text 1"


def test_outcomes_survive_being_stored() -> None:
    outcome = Outcome(3, exchanges=2)
    outcome.failed["HTTP 500"] += 1
    assert Outcome.from_json(json.loads(json.dumps(outcome.as_json()))) == outcome


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "http://[::1"}, "not an address"), ({"url": "http://localhost:port/v1"}, "not an address"),
        ({"key": "sk-1\nsk-2"}, "the key has a line break"), ({"key": "ключ"}, "the key has a line break or a letter"),
    ],
)  # fmt: skip
def test_an_address_or_key_that_cannot_be_is_refused_before_anything_is_asked(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ApiError, match=message):
        Api(**{"url": "http://localhost/v1", "model": "big", **settings})


def test_odd_replies_are_counted_and_kept(tmp_path: Path) -> None:
    usage = {"prompt_tokens": "many", "completion_tokens": -1}
    odd = {"choices": [{"message": {"content": "hi", "more": "\ud83d"}}], "usage": usage}
    half = {"choices": [{"message": {"content": "hi \ud83d"}}]}
    replies = [json.dumps(reply).encode() for reply in (half, odd)]
    with serve(FakeApi(lambda body, number: (200, {}, replies[number]))) as fake:
        api = client(fake, tmp_path)
        assert (api.ask(HELLO).text, api.usage.retries, api.usage.prompt_tokens, api.usage.completion_tokens) == ("hi", 1, 0, 0)
        assert api.ask(HELLO).kept


def test_shards_of_others_are_not_written_over(tmp_path: Path) -> None:
    write_shard(tmp_path / "part-00000.parquet", picture_samples(1))
    before = (tmp_path / "part-00000.parquet").read_bytes()
    with serve(FakeApi(answer_by_kind)) as fake, pytest.raises(ConfigError, match="is of no run of `qwenvl data instruct`"):
        instruct(picture_samples(1), tmp_path, InstructSpec(), client(fake))
    assert (tmp_path / "part-00000.parquet").read_bytes() == before and not fake.bodies


def test_a_run_that_ends_tries_nothing_again(tmp_path: Path) -> None:
    with serve(FakeApi(lambda body, number: GOOD if number == 0 else (500, {}, b"{}"))) as fake:
        api = Api(fake.url, "big")
        instruct(picture_samples(1), tmp_path, InstructSpec(kinds=("conversation",)), api)
        with pytest.raises(RequestFailed, match="HTTP 500"):
            api.ask(HELLO)  # in a thread that is still at work
    assert len(fake.bodies) == 2


def test_prices_and_times_are_numbers_that_can_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--timeout 0: give a number above 0"):
        run_command(Instruct(tmp_path, tmp_path, "http://localhost", "big", timeout=0))
    with pytest.raises(UsageError, match="--price-in nan: give a number above 0, or 0"):
        run_command(Instruct(tmp_path, tmp_path, "http://localhost", "big", price_in=float("nan")))
