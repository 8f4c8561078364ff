"""The official client against our server: chat, streams, pictures, tools, schemas, usage; errors as the client's own exceptions."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from PIL import Image
from pydantic import BaseModel
from starlette.testclient import TestClient

from qwenvl.inference.engine import Engine
from qwenvl.inference.model import QwenVL, load
from qwenvl.inference.requests import DeadlineError, Draining, Overloaded, RequestError
from qwenvl.serve.server import create_app
from qwenvl.serve.settings import ServerSettings
from qwenvl.types import QwenVLError
from tests.scripted_engine import Live, ScriptedEngine, ask, data_url, image, live, picture

QUESTION = [{"role": "user", "content": "Is it red?"}]


@pytest.fixture(scope="module")
def chat_model() -> QwenVL:
    return load("qwen-vl-nano-chat")


@pytest.fixture(scope="module")
def native_model() -> QwenVL:
    """Pictures at their own size, video, tools."""
    model = load("qwen2.5-vl-nano")
    model.style = "chat"
    return model


@pytest.fixture(scope="module")
def engines(chat_model: QwenVL, native_model: QwenVL) -> dict[str, ScriptedEngine]:
    return {"squares": ScriptedEngine(chat_model), "native": ScriptedEngine(native_model)}


@pytest.fixture(scope="module")
def server(engines: dict[str, ScriptedEngine]) -> Iterator[Live]:
    with live(engines) as running:
        yield running


@pytest.fixture
def engine(engines: dict[str, ScriptedEngine]) -> ScriptedEngine:
    engines["squares"].reset()
    return engines["squares"]


@pytest.fixture
def native(engines: dict[str, ScriptedEngine]) -> ScriptedEngine:
    engines["native"].reset()
    return engines["native"]


@pytest.fixture
def client(server: Live, engine: ScriptedEngine, native: ScriptedEngine) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


def test_the_official_client_chats(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    answer = client.chat.completions.create(model="squares", messages=QUESTION, seed=3, temperature=0.5, max_tokens=7, stop=["\n"])
    choice = answer.choices[0]
    assert (choice.message.content, choice.message.role, choice.finish_reason) == ("Yes.", "assistant", "stop")
    assert answer.usage and answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens == len(engine.submitted[0].prompt) and answer.model == "squares"
    options = engine.submitted[0].options
    assert (options.seed, options.temperature, options.max_new_tokens, options.stop) == (3, 0.5, 7, ("\n",))
    times = answer.model_extra["timings"]
    assert 0 <= times["queued_ms"] <= times["first_token_ms"] <= times["total_ms"]


def test_the_official_client_streams(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    engine.answer = "  A <ref>dog</ref><box>(100,200),(300,400)</box> and 一只猫 \n"
    chunks = list(client.chat.completions.create(
        model="squares", messages=ask(image(), "?")["messages"], stream=True, stream_options={"include_usage": True}
    ))  # fmt: skip
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == engine.answer.strip()
    assert chunks[0].choices[0].delta.role == "assistant"
    *_, ended, last = chunks
    assert ended.choices[0].finish_reason == "stop" and ended.model_extra["timings"]["total_ms"] > 0
    assert ended.choices[0].model_extra["regions"] == [
        {"label": "dog", "kind": "box", "pixels": [6.4, 9.6, 19.2, 19.2], "image": 0}
    ]
    assert last.choices == [] and last.usage and last.usage.prompt_tokens_details.image_tokens == 36
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 5, "token by token"


def test_answers_carry_regions_in_pixels_of_the_picture_as_it_was_sent(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    engine.answer = "<ref>dog</ref><box>(0,0),(500,999)</box>"
    turned = io.BytesIO()
    sideways = Image.Exif()
    sideways[0x0112] = 6
    Image.new("RGB", (200, 100)).save(turned, "JPEG", exif=sideways)
    message = client.chat.completions.create(
        model="squares", messages=ask(image(data_url(turned.getvalue(), "image/jpeg")), "Where?")["messages"]
    ).choices[0].message  # fmt: skip
    assert message.content == engine.answer and message.model_extra["readable"] == "dog"
    (region,) = message.model_extra["regions"]
    assert region["kind"] == "box" and region["pixels"] == pytest.approx([0, 0, 50, 199.8], abs=0.3), "upright, as people see it"


def test_a_picture_by_data_url_is_what_the_model_sees(client: openai.OpenAI, engine: ScriptedEngine, chat_model: QwenVL) -> None:
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        content = picture(30, 20, kind, "blue")
        client.chat.completions.create(
            model="squares", messages=ask(image(data_url(content, f"image/{kind.lower()}")), "?")["messages"]
        )
        direct = chat_model.encode(
            [{"role": "user", "content": [{"type": "image", "image": content}, {"type": "text", "text": "?"}]}]
        )
        sent = engine.submitted[-1].prompt
        assert sent.input_ids.tolist() == direct.input_ids.tolist()
        assert (sent.patches == direct.patches).all()


def test_r6_detail_and_pixel_bounds_set_how_large_a_picture_is_seen(client: openai.OpenAI, native: ScriptedEngine) -> None:
    url = data_url(picture(400, 400))

    def tokens(**bounds: Any) -> int:
        answer = client.chat.completions.create(model="native", messages=ask(image(url, **bounds), "?")["messages"], max_tokens=1)
        return int(answer.usage.prompt_tokens_details.image_tokens)  # type: ignore[union-attr]

    plain = tokens()
    assert tokens(detail="auto") == tokens(detail="high") == plain
    assert tokens(max_pixels=28 * 28 * 4, min_pixels=1) == 4
    assert tokens(detail="low", max_pixels=28 * 28 * 4, min_pixels=1) == 4, "bounds win over detail"
    assert tokens(min_pixels=560 * 560) == 400
    low = tokens(detail="low", min_pixels=448 * 448)
    assert 16 * 16 <= low <= 512 * 512 / 28 / 28 + 1


def test_r6_an_over_long_prompt_is_refused_with_a_budget_that_fits(client: openai.OpenAI, native: ScriptedEngine) -> None:
    """With counts, and what would fit does fit."""
    url = data_url(picture(1500, 1200))
    parts = [image(url, min_pixels=1400 * 1100, max_pixels=1500 * 1200)] * 2
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="native", messages=ask(*parts, "?")["messages"])
    error = refused.value.body
    assert error["code"] == "context_length_exceeded" and "context of 2048" in error["message"]
    words = error["message"].split()
    assert int(words[words.index("tokens") - 1]) > 4000 and "of them for 2 pictures" in error["message"]
    budget = int(words[words.index("max_pixels") + 1])
    parts = [image(url, max_pixels=budget)] * 2
    client.chat.completions.create(model="native", messages=ask(*parts, "?")["messages"])
    fits = len(native.submitted[-1].prompt)
    assert 2048 - 256 - 2 * 60 < fits <= 2048 - 256, "and is close to the most that fits"


def test_a_clip_by_data_url_is_seen(client: openai.OpenAI, native: ScriptedEngine, native_model: QwenVL) -> None:
    av = pytest.importorskip("av")
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), (number * 30, 0, 0)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    video = {"type": "video_url", "video_url": {"url": data_url(out.getvalue(), "video/mp4"), "fps": 2, "max_frames": 4}}
    client.chat.completions.create(model="native", messages=ask(video, "?")["messages"])
    part = {"type": "video", "video": out.getvalue(), "fps": 2, "max_frames": 4}
    direct = native_model.encode([{"role": "user", "content": [part, {"type": "text", "text": "?"}]}])
    assert native.submitted[-1].prompt.input_ids.tolist() == direct.input_ids.tolist()
    assert (native.submitted[-1].prompt.patches == direct.patches).all()
    with pytest.raises(openai.BadRequestError, match="takes no video"):
        client.chat.completions.create(model="squares", messages=ask(video, "?")["messages"])


def test_a_place_that_the_user_points_at_is_written_in_the_models_markup(
    client: openai.OpenAI, engine: ScriptedEngine, native: ScriptedEngine, chat_model: QwenVL, native_model: QwenVL
) -> None:
    region = {"type": "region", "kind": "box", "pixels": [16, 12, 32, 48], "label": "the car"}
    client.chat.completions.create(model="squares", messages=ask(image(), "What is", region)["messages"])
    text = chat_model.need_processor().tokenizer.decode(engine.submitted[-1].prompt.input_ids.tolist())
    assert "What is<ref>the car</ref><box>(250,250),(500,1000)</box>" in text.replace("(500,999)", "(500,1000)")
    second = image(data_url(picture(100, 200)))
    region = {"type": "region", "kind": "point", "pixels": [[50, 100]], "image": 1}
    client.chat.completions.create(model="native", messages=ask(image(), second, "Here?", region)["messages"])
    sent = native.submitted[-1].prompt
    width, height = (side * 14 for side in sent.grids[1][[2, 1]].tolist())
    text = native_model.need_processor().tokenizer.decode(sent.input_ids.tolist())
    assert f'"point_2d": [{width // 2}, {height // 2}]' in text


def test_several_answers_have_seeds_of_their_own(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    engine.answer = lambda request: f"seed {request.options.seed}"
    answer = client.chat.completions.create(model="squares", messages=QUESTION, n=3, seed=5, temperature=1)
    assert [choice.message.content for choice in answer.choices] == ["seed 5", "seed 6", "seed 7"]
    assert answer.usage.prompt_tokens == len(engine.submitted[0].prompt), "the prompt counts once"
    chunks = client.chat.completions.create(model="squares", messages=QUESTION, n=3, seed=5, temperature=1, stream=True)
    texts = ["", "", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == ["seed 5", "seed 6", "seed 7"]


def test_log_probabilities(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    answer = client.chat.completions.create(model="squares", messages=QUESTION, logprobs=True, top_logprobs=2)
    told = answer.choices[0].logprobs.content
    assert engine.submitted[-1].logprobs == 2 and len(told) == answer.usage.completion_tokens
    assert "".join(entry.token for entry in told) == "Yes." and told[0].logprob == -0.5 and len(told[0].top_logprobs) == 2
    assert bytes(byte for entry in told for byte in entry.bytes) == b"Yes."
    chunks = client.chat.completions.create(model="squares", messages=QUESTION, logprobs=True, stream=True)
    streamed = [entry for chunk in chunks if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content]
    assert [entry.token for entry in streamed] == [entry.token for entry in told]


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather", "description": "of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}  # fmt: skip
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'


def test_tools(client: openai.OpenAI, native: ScriptedEngine, native_model: QwenVL) -> None:
    native.answer = f"I will look. {CALL}\n{CALL}"
    first = client.chat.completions.create(model="native", messages=QUESTION, tools=[WEATHER])
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls" and message.content == "I will look."
    assert [json.loads(call.function.arguments) for call in message.tool_calls] == [{"city": "Köln"}] * 2
    prompt = native_model.need_processor().tokenizer.decode(native.submitted[-1].prompt.input_ids.tolist())
    assert '"name": "weather"' in prompt and native.submitted[-1].constraint is None, "told in the system turn; auto is free"

    told = [*QUESTION, message.model_dump(), {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}]
    client.chat.completions.create(model="native", messages=told, tools=[WEATHER])
    prompt = native_model.need_processor().tokenizer.decode(native.submitted[-1].prompt.input_ids.tolist())
    assert "<tool_response>\nrain\n</tool_response>" in prompt and prompt.count('{"city": "Köln"}') == 2

    none = client.chat.completions.create(model="native", messages=QUESTION, tools=[WEATHER], tool_choice="none")
    assert none.choices[0].message.tool_calls is None and "<tool_call>" in none.choices[0].message.content
    prompt = native_model.need_processor().tokenizer.decode(native.submitted[-1].prompt.input_ids.tolist())
    assert "weather" not in prompt
    with pytest.raises(openai.BadRequestError, match="not trained to call"):
        client.chat.completions.create(model="squares", messages=QUESTION, tools=[WEATHER])


def test_calls_are_streamed_whole(client: openai.OpenAI, native: ScriptedEngine) -> None:
    native.answer = f"I will look. {CALL}\n{CALL}"
    with client.chat.completions.stream(model="native", messages=QUESTION, tools=[WEATHER]) as stream:
        seen = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    message = final.choices[0].message
    assert "".join(seen) == message.content == "I will look." and final.choices[0].finish_reason == "tool_calls"
    assert [call.function.name for call in message.tool_calls] == ["weather", "weather"]
    assert len({call.id for call in message.tool_calls}) == 2
    native.answer = "1 < 2, <tool"
    chunks = client.chat.completions.create(model="native", messages=QUESTION, tools=[WEATHER], stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == native.answer, (
        "what only begins like a call is text"
    )


def test_required_and_named_tools_constrain_the_answer(client: openai.OpenAI, native: ScriptedEngine, native_model: QwenVL) -> None:
    pytest.importorskip("llguidance")
    native.answer = CALL
    named: Any = {"type": "function", "function": {"name": "weather"}}
    for choice in ("required", named):
        client.chat.completions.create(model="native", messages=QUESTION, tools=[WEATHER], tool_choice=choice)
        assert obeys(native_model, native.submitted[-1].constraint, CALL)
        assert not obeys(native_model, native.submitted[-1].constraint, "It is warm.")
    with pytest.raises(openai.BadRequestError, match="not among tools"):
        named = {"type": "function", "function": {"name": "time"}}
        client.chat.completions.create(model="native", messages=QUESTION, tools=[WEATHER], tool_choice=named)


def obeys(model: QwenVL, constraint: Any, text: str) -> bool:
    """Whether a fresh constraint of this request admits a text to its end."""
    for token in model.need_processor().tokenizer.encode(text):
        if not bool(constraint.mask()[token]):
            return False
        constraint.accept(token)
    return constraint.done or any(bool(constraint.mask()[stop]) for stop in model.stop_ids)


class Sign(BaseModel):
    text: str
    floor: int


def test_json_schema_constrains_and_parses(client: openai.OpenAI, engine: ScriptedEngine, chat_model: QwenVL) -> None:
    pytest.importorskip("llguidance")
    engine.answer = '{"text": "EXIT", "floor": 3}'
    parsed = client.chat.completions.parse(model="squares", messages=QUESTION, response_format=Sign)
    assert parsed.choices[0].message.parsed == Sign(text="EXIT", floor=3)
    assert obeys(chat_model, engine.submitted[-1].constraint, engine.answer)
    client.chat.completions.create(model="squares", messages=QUESTION, response_format={"type": "json_object"})
    assert not obeys(chat_model, engine.submitted[-1].constraint, "No.")
    client.chat.completions.create(model="squares", messages=QUESTION, extra_body={"grammar": "boxes"})
    opening = chat_model.need_processor().tokenizer.special("<box>")
    engine.submitted[-1].constraint.accept(opening)
    assert not obeys(chat_model, engine.submitted[-1].constraint, "left of it")
    bad: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="squares", messages=QUESTION, response_format=bad)
    assert "\n" not in refused.value.body["message"]


def test_completions_continue_a_text_as_it_stands(client: openai.OpenAI, engine: ScriptedEngine, chat_model: QwenVL) -> None:
    engine.answer = " blue  "
    answer = client.completions.create(model="squares", prompt=["The sky is", "The sea is"], max_tokens=5, n=2, logprobs=1)
    assert [choice.text for choice in answer.choices] == [" blue  "] * 4, "with the blanks that belong to the text"
    prompts = [chat_model.need_processor().tokenizer.decode(request.prompt.input_ids.tolist()) for request in engine.submitted]
    assert prompts == ["The sky is"] * 2 + ["The sea is"] * 2
    assert answer.usage.prompt_tokens == sum(len(request.prompt) for request in engine.submitted[::2])
    assert "".join(answer.choices[0].logprobs.tokens) == engine.answer
    chunks = client.completions.create(
        model="squares", prompt="The sky is", stream=True, extra_body={"images": [{"url": data_url()}]}
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == engine.answer
    assert len(engine.submitted[-1].prompt.grids) == 1 and engine.submitted[-1].options.max_new_tokens == 16


def test_models_and_tokenize(client: openai.OpenAI, server: Live, chat_model: QwenVL) -> None:
    models = {model.id: model.model_extra["qwenvl"] for model in client.models.list()}
    assert models["squares"]["native_resolution"] is False and models["native"]["video"] is True
    assert client.models.retrieve("native").id == "native"
    with pytest.raises(openai.NotFoundError, match="no model 'x/y'"):
        client.models.retrieve("x/y")
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other", messages=QUESTION)
    assert missing.value.body["code"] == "model_not_found"
    counted = client.post("/../tokenize", cast_to=object, body=ask(image(), "?"))
    direct = chat_model.encode(
        [{"role": "user", "content": [{"type": "image", "image": picture()}, {"type": "text", "text": "?"}]}]
    )
    assert counted == {"count": len(direct), "tokens": direct.input_ids.tolist(), "image_tokens": 36, "max_model_len": 2048}


ENDS: list[tuple[Exception, type[openai.APIStatusError], int]] = [
    (Overloaded(9, 3.2), openai.RateLimitError, 429),
    (Draining("shutting down"), openai.InternalServerError, 503),
    (QwenVLError("the prompt needs more memory"), openai.BadRequestError, 400),
    (RuntimeError("secret of the server"), openai.InternalServerError, 500),
]


@pytest.mark.parametrize(("error", "kind", "status"), ENDS, ids=lambda value: getattr(value, "__name__", None))
def test_what_an_engine_refuses_is_the_clients_exception(
    client: openai.OpenAI, engine: ScriptedEngine, error: Exception, kind: type[openai.APIStatusError], status: int
) -> None:
    engine.refuse = error
    with pytest.raises(kind) as raised:
        client.chat.completions.create(model="squares", messages=QUESTION)
    assert raised.value.status_code == status and "secret" not in str(raised.value)
    if status == 429:
        assert raised.value.response.headers["retry-after"] == "3"
    engine.refuse = None
    assert client.chat.completions.create(model="squares", messages=QUESTION).choices[0].message.content == "Yes."


def test_an_error_after_the_first_token_is_one_event_and_the_end(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    engine.answer = "one two three four five six"
    engine.fail_after = (3, DeadlineError("the answer was not finished in time"))
    engine.delay = 0.02
    got = []
    with pytest.raises(openai.APIError, match="not finished in time"):
        for chunk in client.chat.completions.create(model="squares", messages=QUESTION, stream=True):
            got.append(chunk.choices[0].delta.content)
    assert len(got) >= 2
    with pytest.raises(openai.APIStatusError) as late:
        client.chat.completions.create(model="squares", messages=QUESTION)
    assert late.value.status_code == 504
    engine.fail_after = (0, RequestError("the request failed: out of memory"))
    with pytest.raises(openai.InternalServerError):  # a status of its own: nothing was sent yet
        client.chat.completions.create(model="squares", messages=QUESTION, stream=True)


def test_other_answers_are_cancelled_where_one_fails(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    engine.answer, engine.delay = "word " * 200, 0.01
    engine.fail_after = (2, RequestError("failed"))
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="squares", messages=QUESTION, n=4)
    assert wait_until(lambda: engine.running == 0)


def wait_until(condition: Any, seconds: float = 3.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(server: Live, engine: ScriptedEngine, stream: bool) -> None:
    engine.answer, engine.delay = "word " * 2000, 0.01
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=0.5)
    if stream:
        answer = client.chat.completions.create(model="squares", messages=QUESTION, stream=True)
        next(iter(answer))
        answer.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="squares", messages=QUESTION)
    assert wait_until(lambda: engine.submitted[0].cancelled and engine.running == 0)
    assert not engine.submitted[0].finished


def test_r13_a_repetition_is_told(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    engine.finish_reason = "repetition"
    assert client.chat.completions.create(model="squares", messages=QUESTION).choices[0].finish_reason == "repetition"
    last = list(client.chat.completions.create(model="squares", messages=QUESTION, stream=True))[-1]
    assert last.choices[0].finish_reason == "repetition"


def test_a_quiet_stream_shows_signs_of_life(engine: ScriptedEngine) -> None:
    engine.delay = 0.3
    settings = ServerSettings(keep_alive_seconds=0.1)
    with live({"squares": engine}, settings) as running:
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="any")
        with client.chat.completions.with_streaming_response.create(model="squares", messages=QUESTION, stream=True) as raw:
            lines = list(raw.iter_lines())
        assert sum(line.startswith(": alive") for line in lines) >= 2 and lines[-1] in ("data: [DONE]", "")
        text = "".join(chunk.choices[0].delta.content or "" for chunk in
                       client.chat.completions.create(model="squares", messages=QUESTION, stream=True))  # fmt: skip
        assert text == "Yes."


def test_metrics_count_what_was_done(engines: dict[str, ScriptedEngine], client: openai.OpenAI) -> None:
    with TestClient(create_app(engines, ServerSettings(hosts=None))) as http:
        assert http.post("/v1/chat/completions", json=ask(image(), "?")).status_code == 200
        assert http.post("/v1/chat/completions", json=ask("?", model="other")).status_code == 404
        text = http.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['qwenvl_requests_total{path="/v1/chat/completions",status="200"}'] == "1.0"
    assert lines['qwenvl_requests_total{path="/v1/chat/completions",status="404"}'] == "1.0"
    assert lines['qwenvl_tokens_total{kind="image",model="squares"}'] == "36.0"
    assert lines['qwenvl_time_to_first_token_seconds_count{model="squares"}'] == "1.0"
    assert float(lines['qwenvl_inter_token_seconds_count{model="squares"}']) >= 1
    assert lines['qwenvl_engine_prefix_hits{model="native"}'] == "1.0"


def test_thirty_clients_at_once_get_their_own_answers(server: Live, engine: ScriptedEngine) -> None:
    engine.answer = lambda request: f"you asked with {request.options.seed}"
    engine.delay = 0.002
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    got: dict[int, str] = {}

    def one(seed: int) -> None:
        stream = client.chat.completions.create(model="squares", messages=ask(image(), "?")["messages"], seed=seed, stream=True)
        got[seed] = "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {seed: f"you asked with {seed}" for seed in range(30)}


def test_the_real_engine_answers_as_the_model_alone_does(chat_model: QwenVL) -> None:
    """R5, over HTTP: the same text as `model.chat`, whole and streamed, beside other requests."""
    content = picture(120, 90, colour="green")
    messages = ask(image(data_url(content)), "What is in the picture?")["messages"]
    direct = chat_model.chat(
        [{"role": "user", "content": [{"type": "image", "image": content}, {"type": "text", "text": "What is in the picture?"}]}]
    )
    with Engine(chat_model) as engine, live({"nano": engine}) as running:
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="any")
        answer = client.chat.completions.create(model="nano", messages=messages, n=2)
        assert [choice.message.content for choice in answer.choices] == [direct.text] * 2
        chunks = list(
            client.chat.completions.create(model="nano", messages=messages, stream=True, stream_options={"include_usage": True})
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == direct.text
        assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 0, "the same picture again"
        told = client.chat.completions.create(model="nano", messages=messages, logprobs=True, max_tokens=3)
        assert len(told.choices[0].logprobs.content) == told.usage.completion_tokens == 3
        assert told.choices[0].finish_reason == "length"


def test_a_schema_is_obeyed_by_the_real_engine(chat_model: QwenVL) -> None:
    pytest.importorskip("llguidance")
    with Engine(chat_model) as engine, TestClient(create_app({"nano": engine}, ServerSettings(hosts=None))) as http:
        schema = {"type": "object", "properties": {"red": {"type": "boolean"}}, "required": ["red"], "additionalProperties": False}
        form = {"type": "json_schema", "json_schema": {"name": "colour", "schema": schema, "strict": True}}
        answer = http.post("/v1/chat/completions", json=ask(image(), "Is it red?", response_format=form, max_tokens=150)).json()
        assert set(json.loads(answer["choices"][0]["message"]["content"])) == {"red"}


def test_base64_of_bytes_is_what_the_client_sends() -> None:
    """The helper of these tests is not what makes them pass."""
    assert base64.b64decode(data_url().partition(",")[2]) == picture()
