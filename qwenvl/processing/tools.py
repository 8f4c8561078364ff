"""Function calls: how tools are told to a model, how it calls them, and how their results go back to it.

The published chat template has no branch for tools; NousFnCallPrompt of QwenLM/Qwen-Agent (qwen_agent/llm/fncall_prompts) writes
them into the system turn, and a tool's result into the user's. Its wording is kept to the letter: the models were trained on it.
Two things are ours: a conversation without a system turn gets the chat template's default one before the tools (Qwen-Agent writes
the tools alone), and a call after other words begins on a line of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwenvl.families.spec import ChatRules
from qwenvl.processing.loose_json import find_json
from qwenvl.types import QwenVLError

CALL_TAGS = ("<tool_call>", "</tool_call>")
RESULT_TAGS = ("<tool_response>", "</tool_response>")

SIGNATURES = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{signatures}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


class ToolError(QwenVLError, ValueError):
    """A tool that cannot be told to a model, or a call that cannot be written."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called, with its arguments as JSON gives them. They are the model's words: check them."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


def tools_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """What the system turn says of the tools: one signature per line.

    Each is {"type": "function", "function": {"name", "description", "parameters"}} or the inner mapping alone. Raises ToolError.
    """
    lines = []
    for index, tool in enumerate(tools):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        parameters = function.get("parameters", {}) if isinstance(function, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not isinstance(parameters, Mapping):
            raise ToolError(f"tools[{index}]: give a mapping with a name, a description and parameters")
        try:
            lines.append(json.dumps({"type": "function", "function": dict(function)}, ensure_ascii=False))
        except (TypeError, ValueError) as error:
            raise ToolError(f"tools[{index}]: cannot be written as JSON ({error})") from None
    return SIGNATURES.format(signatures="\n".join(lines))


def with_tools(
    messages: Sequence[Mapping[str, Any]] | str, tools: Sequence[Mapping[str, Any]], rules: ChatRules
) -> list[Mapping[str, Any]]:
    """The messages with the tools told in their system turn: what `chat` takes. One that is missing is added, with what the family
    says there by default; `rules` are its own (`model.spec.chat`)."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not tools:
        return list(messages)
    text = tools_text(tools)
    if not messages or not isinstance(messages[0], Mapping) or messages[0].get("role") != "system":
        return [{"role": "system", "content": f"{rules.system}\n\n{text}"}, *messages]
    system, *rest = messages
    content = system.get("content")
    joined = f"{content}\n\n{text}" if isinstance(content, str) else [*(content or []), {"type": "text", "text": f"\n\n{text}"}]
    return [{**system, "content": joined}, *rest]


def write_call(call: ToolCall) -> str:
    """A call as the model writes it. Raises ToolError for arguments that are no JSON."""
    try:
        written = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ToolError(f"call of {call.name}: its arguments cannot be written as JSON ({error})") from None
    return f"{CALL_TAGS[0]}\n{written}\n{CALL_TAGS[1]}"


def read_calls(text: str) -> list[ToolCall]:
    """The calls in a model's answer, in order; the closing tag may be missing, and the JSON as loose as `loose_json` reads.

    What was cut off is no call: half an argument must not be acted on. Any text is read without an error.
    """
    calls = []
    for written in re.split(CALL_TAGS[0], text)[1:]:
        for found in find_json(written.partition(CALL_TAGS[1])[0]):
            call = _call(found.value) if found.complete else None
            calls += [call] if call else []
    return calls


def strip_calls(text: str) -> str:
    """The text around the calls."""
    return re.sub(rf"{CALL_TAGS[0]}.*?(?:{CALL_TAGS[1]}|$)", "", text, flags=re.DOTALL)


def _call(value: Any) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # JSON within JSON, as in the OpenAI shape
        found = find_json(arguments)
        arguments = found[0].value if len(found) == 1 and found[0].complete else {} if not arguments.strip() else None
    return ToolCall(value["name"], arguments) if isinstance(arguments, dict) else None
