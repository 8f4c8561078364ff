"""The models that a server has, by name."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from qwenvl.inference.constrain import Grammar, Grammars
from qwenvl.inference.sampling import Constraint
from qwenvl.processing.regions import style_of
from qwenvl.serve.conversation import tool_as_dict
from qwenvl.serve.errors import ApiError
from qwenvl.serve.schema import ChatRequest, JsonSchemaFormat, NamedTool


class Served:
    """A model under the name that requests call it by. `engine` is an `inference.engine.Engine`, or what acts like one."""

    def __init__(self, name: str, engine: Any) -> None:
        self.name = name
        self.engine = engine
        self.model = engine.model
        self.created = int(time.time())
        self._lock = threading.Lock()

    @property
    def context(self) -> int:
        return int(self.model.config.decoder.max_position_embeddings)

    def as_json(self) -> dict[str, Any]:
        model = self.model
        about = {
            "family": model.spec.name,
            "context": self.context,
            "style": model.style,
            "native_resolution": model.config.vision.image_size is None,
            "video": model.spec.videos is not None,
            "grounding": True,
            "regions": list(style_of(model.markup).kinds),
            "tools": model.spec.chat.tools,
        }
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "qwenvl", "qwenvl": about}

    def constraint(self, request: ChatRequest) -> list[Constraint | None]:
        """What each of the answers has to obey. Compiled in the calling thread. Raises GrammarError."""
        count = request.n or 1
        grammar = self._grammar(request)
        return [None] * count if grammar is None else [self.grammars.start(grammar) for _ in range(count)]

    @property
    def grammars(self) -> Grammars:
        with self._lock:
            return self._grammars

    @cached_property
    def _grammars(self) -> Grammars:
        model = self.model
        return Grammars(model.need_processor().tokenizer, model.stop_ids, model.config.decoder.vocab_size, model.markup)

    def _grammar(self, request: ChatRequest) -> Grammar | None:
        form = request.response_format
        if request.grammar is not None:
            return Grammar(request.grammar)
        if request.forced:
            name = request.tool_choice.function.name if isinstance(request.tool_choice, NamedTool) else None
            many = name is None and request.parallel_tool_calls is not False
            return self.grammars.calls([tool_as_dict(tool) for tool in request.tools or ()], name, many)
        if isinstance(form, JsonSchemaFormat):
            return Grammar("json_schema", _json(form.json_schema.schema_))
        return Grammar("json_object") if form is not None and form.type == "json_object" else None


def _json(schema: dict[str, Any]) -> str:
    try:
        return json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise ApiError(400, "response_format: the schema has a number beyond all bounds", param="response_format") from None


class Models:
    """All of them; the first is the one that a request without a name means."""

    def __init__(self, engines: Mapping[str, Any]) -> None:
        self.served = {name: Served(name, engine) for name, engine in engines.items()}

    def find(self, name: str | None) -> Served:
        """Raises ApiError (404)."""
        if name is None:
            return next(iter(self.served.values()))
        if name not in self.served:
            known = ", ".join(self.served)
            raise ApiError(404, f"no model {name[:80]!r} here; there is {known}", param="model", code="model_not_found")
        return self.served[name]
