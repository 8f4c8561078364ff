"""Tools: told in the system turn as published, called tolerantly, answered in a user's turn."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenvl.families import get_family
from qwenvl.families.spec import ChatRules
from qwenvl.processing.chat import render
from qwenvl.processing.messages import MessageError, messages_to_sample
from qwenvl.processing.tools import ToolCall, ToolError, read_calls, strip_calls, tools_text, with_tools, write_call
from qwenvl.types import TextPart
from tests.small_text import small_tokenizer

WEATHER = {"name": "weather", "description": "天气", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
SIGNATURE = '{"type": "function", "function": ' + json.dumps(WEATHER, ensure_ascii=False) + "}"
TOLD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n" + SIGNATURE + "\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
CLICK = ToolCall("mobile_use", {"action": "click", "coordinate": [935, 406]})
WRITTEN = '<tool_call>\n{"name": "mobile_use", "arguments": {"action": "click", "coordinate": [935, 406]}}\n</tool_call>'


def test_tools_are_told_as_published() -> None:
    assert tools_text([WEATHER]) == tools_text([{"type": "function", "function": WEATHER}]) == TOLD
    assert tools_text([WEATHER, WEATHER]).count(SIGNATURE + "\n") == 2


def test_tools_stand_in_the_system_turn() -> None:
    asked = {"role": "user", "content": "Hot?"}
    rules = ChatRules(system="You answer in verse.")
    added, kept = with_tools("Hot?", [WEATHER], rules)
    assert added == {"role": "system", "content": f"You answer in verse.\n\n{TOLD}"} and kept == asked
    joined = with_tools([{"role": "system", "content": "Be brief."}, asked], [WEATHER], rules)
    assert joined == [{"role": "system", "content": f"Be brief.\n\n{TOLD}"}, asked]
    parts = with_tools([{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, asked], [WEATHER], rules)
    assert messages_to_sample(parts).messages[0].parts == (TextPart("Be brief."), TextPart(f"\n\n{TOLD}"))
    assert with_tools([asked], [], rules) == [asked]


@pytest.mark.parametrize("tool", [7, {}, {"name": 3}, {"function": {}}, {"name": "f", "parameters": {1, 2}}])
def test_a_bad_tool_is_one_clear_line(tool: Any) -> None:
    with pytest.raises(ToolError, match=r"tools\[0\]: ") as caught:
        tools_text([tool])
    assert "\n" not in str(caught.value)


def test_a_call_written_is_the_call_read() -> None:
    assert write_call(CLICK) == WRITTEN
    assert read_calls(f"I tap it.\n{WRITTEN}\n{WRITTEN}") == [CLICK, CLICK]
    assert strip_calls(f"I tap it.\n{WRITTEN} Done") == "I tap it.\n Done"


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>', [ToolCall("f", {"a": 1})]),
        ('<tool_call>\n```json\n{"name": "f", "arguments": {"a": 1,},}\n```\n</tool_call>', [ToolCall("f", {"a": 1})]),
        ("<tool_call>{'name': 'f', 'arguments': {'a': True}}</tool_call>", [ToolCall("f", {"a": True})]),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', [ToolCall("f", {"a": 1})]),
        ('<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', [ToolCall("f", {"a": 1})]),
        ('<tool_call>{"name": "f"}</tool_call>', [ToolCall("f")]),
        ('<tool_call>{"name": "f", "arguments": {}}', [ToolCall("f")]),
        ('<tool_call>{"name": "f"}<tool_call>{"name": "g"}', [ToolCall("f"), ToolCall("g")]),
        ('<tool_call>{"name": "f"}\n{"name": "g"}</tool_call>', [ToolCall("f"), ToolCall("g")]),
        # Half a call is none, and neither is what was not marked as one.
        ('<tool_call>{"name": "type", "arguments": {"text": "rm -r', []),
        ('<tool_call>{"name": "type", "arguments": {"text": "a"}', []),
        ('<tool_call>{"name": "wait", "arguments": {"time": 1', []),
        ('{"name": "f", "arguments": {}}', []),
        ('<tool_call>{"name": 3}</tool_call><tool_call>f()</tool_call><tool_call>["f"]</tool_call>', []),
        ('<tool_call>{"name": "f", "arguments": [1]}</tool_call>', []),
        ("", []),
    ],
)
def test_calls_that_models_write_are_understood(text: str, calls: list[ToolCall]) -> None:
    assert read_calls(text) == calls


@given(st.lists(st.sampled_from(["<tool_call>", "</tool_call>", '{"name": ', '"f"', "}", "{", "\n"]) | st.text(max_size=4)))
def test_any_text_is_read_without_an_error(pieces: list[str]) -> None:
    assert all(isinstance(call.arguments, dict) for call in read_calls("".join(pieces)))


def test_calls_and_results_go_back_as_text() -> None:
    """An OpenAI conversation with tools, rendered: calls in the assistant's turn, results of several tools in one user's turn."""
    call = {"type": "function", "function": {"name": "mobile_use", "arguments": json.dumps(CLICK.arguments)}}
    messages = [
        {"role": "user", "content": "Open it."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
        {"role": "tool", "tool_call_id": "2", "content": "seen"},
        {"role": "assistant", "content": "I tap again.", "tool_calls": [call]},
    ]
    tokenizer = small_tokenizer("qwen2_5_vl")
    rendered = render(messages_to_sample(messages), tokenizer, get_family("qwen2_5_vl"), "chat", [])
    assert tokenizer.decode(rendered.input_ids) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nOpen it.<|im_end|>\n"
        f"<|im_start|>assistant\n{WRITTEN}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\ndone\n</tool_response>\n<tool_response>\nseen\n</tool_response><|im_end|>\n"
        f"<|im_start|>assistant\nI tap again.\n{WRITTEN}<|im_end|>\n"
    )


def test_a_call_begins_on_a_line_of_its_own() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    written = write_call(ToolCall("f"))
    for content, text in (("", written), ("Yes.", f"Yes.\n{written}"), ("Yes.\n", f"Yes.\n{written}")):
        (message,) = messages_to_sample([{"role": "assistant", "content": content, "tool_calls": [call]}]).messages
        assert "".join(part.text for part in message.parts if isinstance(part, TextPart)) == text


@pytest.mark.parametrize("call", [7, {}, {"function": {"name": "f", "arguments": "{"}}, {"function": {"arguments": {}}}])
def test_a_bad_call_is_one_clear_line(call: Any) -> None:
    with pytest.raises(MessageError, match=r"messages\[0\]\.tool_calls\[0\]: expected"):
        messages_to_sample([{"role": "assistant", "content": "x", "tool_calls": [call]}])
