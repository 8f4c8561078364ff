"""The description of the API at /openapi.json. Requests are read by `body`, not by FastAPI, so that their forms are told here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from qwenvl.serve.errors import TYPES
from qwenvl.serve.schema import ChatRequest, CompletionRequest, TokenizeRequest

if TYPE_CHECKING:
    from fastapi import FastAPI

_TEXT, _WHOLE, _LIST, _ANY = {"type": "string"}, {"type": "integer"}, {"type": "array"}, {"type": "object"}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_DETAILS = _object(image_tokens=_WHOLE, cached_tokens=_WHOLE)
_USAGE = _object(prompt_tokens=_WHOLE, completion_tokens=_WHOLE, total_tokens=_WHOLE, prompt_tokens_details=_DETAILS)
_MESSAGE = _object(
    role={"const": "assistant"}, content={"type": ["string", "null"]}, regions={"type": "array", "items": _ANY}, readable=_TEXT
)
_CHAT = _object(index=_WHOLE, message=_MESSAGE, finish_reason=_TEXT)
_CHOICE = _object(index=_WHOLE, text=_TEXT, finish_reason=_TEXT, regions={"type": "array", "items": _ANY}, readable=_TEXT)
_MODEL = _object(id=_TEXT, object={"const": "model"}, created=_WHOLE, owned_by=_TEXT, qwenvl=_ANY)


def _completion(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    choices = {"type": "array", "items": choice}
    return _object(id=_TEXT, object={"const": kind}, created=_WHOLE, model=_TEXT, choices=choices, usage=_USAGE, timings=_ANY)


ANSWERS: dict[str, dict[str, Any]] = {
    "ChatCompletion": _completion("chat.completion", _CHAT),
    "Completion": _completion("text_completion", _CHOICE),
    "Tokenized": _object(count=_WHOLE, tokens={"type": "array", "items": _WHOLE}, image_tokens=_WHOLE, max_model_len=_WHOLE),
    "ModelList": _object(object={"const": "list"}, data={"type": "array", "items": _MODEL}),
    "Model": _MODEL,
    "Health": _object(status=_TEXT),
    "Error": _object(
        error=_object(message=_TEXT, type=_TEXT, param={"type": ["string", "null"]}, code={"type": ["string", "null"]})
    ),
}


def asking(form: str, answer: str, streams: bool = False) -> dict[str, Any]:
    """What FastAPI is told of a route that takes a body."""
    body = {"required": True, "content": {"application/json": {"schema": _ref(form)}}}
    content: dict[str, Any] = {"application/json": {"schema": _ref(answer)}}
    if streams:
        content["text/event-stream"] = {"schema": _object(data=_TEXT)}  # of each event; data is JSON, or [DONE]
    errors = (400, 401, 403, 404, 408, 413, 415, 429, 500, 503, 504)
    return {
        "openapi_extra": {"requestBody": body},
        "responses": {200: {"description": "The answer", "content": content}, **_errors(*errors)},
    }


def telling(answer: str, *errors: int) -> dict[str, Any]:
    """What FastAPI is told of a route that takes none."""
    content = {"application/json": {"schema": _ref(answer)}} if answer in ANSWERS else {"text/plain": {"schema": _TEXT}}
    return {"responses": {200: {"description": "What is known", "content": content}, **_errors(401, 403, 503, *errors)}}


def _errors(*statuses: int) -> dict[int, dict[str, Any]]:
    content = {"application/json": {"schema": _ref("Error")}}
    return {status: {"description": TYPES[status], "content": content} for status in statuses}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def description(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What makes the description, once."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            from fastapi.openapi.utils import get_openapi

            told = get_openapi(title=app.title, version="1", routes=app.routes)
            forms = [(form, "validation") for form in (ChatRequest, CompletionRequest, TokenizeRequest)]
            _, schemas = models_json_schema(forms, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
            told["components"] = {
                "schemas": {**schemas.get("$defs", {}), **ANSWERS},
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            }
            for path, methods in told["paths"].items():
                for operation in methods.values():
                    operation["responses"].pop("422", None)
                    if path != "/health":
                        operation["security"] = [{"key": []}, {}]
            app.openapi_schema = told
        return app.openapi_schema

    return describe
