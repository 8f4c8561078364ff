"""Requests: OpenAI's chat completions and completions with our fields beside theirs, and tokenize.

A field that would change the answer and that we do not have is refused by name; one that would not is taken and not read.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from qwenvl.serve.parts import Form, ImageUrl, Message, Text, one_or_many

Name = Annotated[str, Field(min_length=1, max_length=256)]
StopText = Annotated[str, Field(min_length=1, max_length=256)]
Stops = Annotated[
    Annotated[StopText, Tag("text")] | Annotated[list[StopText], Field(max_length=4), Tag("list")], one_or_many("text")
]
Tokens = Annotated[int, Field(ge=1, le=1 << 20)]
Penalty = Annotated[float, Field(ge=-2, le=2)]

REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "logit_bias": (({},), "tokens have no bias here"),
    "audio": ((), "answers are text"),
    "modalities": ((["text"],), "answers are text"),
    "functions": (([],), "use tools"),
    "function_call": (("none",), "use tool_choice"),
    "web_search_options": ((), "nothing is searched"),
    "reasoning_effort": (("none",), "these models do not reason before they answer"),
    "verbosity": (("medium",), "say in the prompt how long the answer shall be"),
    "prediction": ((), "give the beginning of the answer in the prompt"),
    "best_of": ((1,), "use n"),
    "suffix": (("",), "only what follows a prompt is written"),
    "echo": ((False,), "put the prompt before the answer yourself"),
}
"""Fields of OpenAI's that would change the answer -> values that would not, and what to do instead."""


class Harmless(Form):
    """Fields of OpenAI's that say nothing about the answer."""

    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = cls.model_fields
        for name, (neutral, advice) in REFUSED.items():
            if name in data and name not in known and data[name] is not None and data[name] not in neutral:
                raise ValueError(f"{name} is not supported: {advice}")
        return {name: value for name, value in data.items() if name not in REFUSED or name in known}


class StreamOptions(Form):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Drawing(Harmless):
    """How answers are drawn; greedy unless temperature, top_p or top_k is given."""

    default_tokens: ClassVar[int | None] = None

    model: Name | None = None
    """The first one served, if not given."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    min_tokens: Annotated[int, Field(ge=0, le=1 << 20)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1 << 20)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    stop: Stops | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None

    @property
    def limit(self) -> int | None:
        """Most tokens of an answer; None: the model's own limit."""
        return self.max_tokens if self.max_tokens is not None else self.default_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @model_validator(mode="after")
    def _agree(self) -> Drawing:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is for streams; set stream to true")
        if self.min_tokens is not None and self.limit is not None and self.min_tokens > self.limit:
            raise ValueError(f"min_tokens, {self.min_tokens}, is more than the most tokens, {self.limit}")
        return self


class Function(Form):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Form):
    type: Literal["function"]
    function: Function


class NamedFunction(Form):
    name: Annotated[str, Field(min_length=1, max_length=64)]


class NamedTool(Form):
    type: Literal["function"]
    function: NamedFunction


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("text")] | Annotated[NamedTool, Tag("named")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "named"),
]


class SchemaFormat(Form):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: Text | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class PlainFormat(Form):
    type: Literal["text", "json_object"]


class JsonSchemaFormat(Form):
    type: Literal["json_schema"]
    json_schema: SchemaFormat


ResponseFormat = Annotated[PlainFormat | JsonSchemaFormat, Field(discriminator="type")]


class ChatRequest(Drawing):
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    grammar: Literal["boxes"] | None = None
    """boxes: nothing but well-formed places with their phrases."""
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def top(self) -> int | None:
        """Likely tokens to report beside each one taken; None: no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def forced(self) -> list[Function]:
        """Functions one of which must be called; none where the model is free."""
        if self.tool_choice in (None, "none", "auto"):
            return []
        functions = [tool.function for tool in self.tools or ()]
        if isinstance(self.tool_choice, NamedTool):
            return [function for function in functions if function.name == self.tool_choice.function.name]
        return functions

    @model_validator(mode="after")
    def _fit_together(self) -> ChatRequest:
        if self.messages[-1].role == "assistant":
            raise ValueError("messages: the last one is the assistant's; end with what is to be answered")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise ValueError("tools: two functions have one name")
        if self.tool_choice not in (None, "none", "auto") and not self.forced:
            raise ValueError("tool_choice asks for a function that is not among tools")
        kinds = [self.grammar, self.forced, self.response_format is not None and self.response_format.type != "text"]
        if sum(map(bool, kinds)) > 1:
            raise ValueError(
                "an answer has one form: give only one of response_format, grammar and a tool_choice that asks for a call"
            )
        return self


Prompt = Annotated[
    Annotated[Text, Tag("text")] | Annotated[list[Text], Field(min_length=1, max_length=8), Tag("list")], one_or_many("text")
]


class CompletionRequest(Drawing):
    """A text to be continued. `images` stand before it, as in a base model's training."""

    default_tokens: ClassVar[int | None] = 16  # OpenAI's

    prompt: Prompt
    images: Annotated[list[ImageUrl], Field(max_length=256)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @model_validator(mode="after")
    def _not_too_many(self) -> CompletionRequest:
        if len(self.prompts) * (self.n or 1) > 8:
            raise ValueError("prompt and n ask for more than 8 answers; send several requests")
        if not self.images and not all(self.prompts):
            raise ValueError("prompt is empty; write the beginning of a text")
        return self


class TokenizeRequest(Form):
    """Either messages, as chat completions take them, or a prompt, as completions do."""

    model: Name | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    prompt: Text | None = None
    images: Annotated[list[ImageUrl], Field(max_length=256)] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> TokenizeRequest:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give either messages or a prompt")
        return self
