"""Our own description of the API, against the API: requests that it allows and requests that it does not, by the hundred."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from qwenvl.inference.model import load
from qwenvl.serve.server import create_app
from qwenvl.serve.settings import ServerSettings
from tests.scripted_engine import ScriptedEngine

CHECKS = (
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance, negative_data_rejection,
)  # fmt: skip


OPERATIONS = [
    ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/tokenize"), ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"), ("GET", "/health"), ("GET", "/metrics"),
]  # fmt: skip


@pytest.fixture(scope="module")
def api() -> Any:
    engine = ScriptedEngine(load("qwen-vl-nano-chat"))
    app = create_app({"nano": engine}, ServerSettings(hosts=None))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def test_every_operation_is_tried(api: Any) -> None:
    assert {(method.upper(), path) for path, methods in api.raw_schema["paths"].items() for method in methods} == set(OPERATIONS)


ALLOWED, NOT_ALLOWED = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
TRIED = [(ALLOWED, *one) for one in OPERATIONS] + [(NOT_ALLOWED, *one) for one in OPERATIONS if one[0] != "GET"]
"""GET takes nothing that could be wrong."""


@pytest.mark.parametrize(("mode", "method", "path"), TRIED)
def test_the_api_is_as_it_says(api: Any, method: str, path: str, mode: GenerationMode) -> None:

    @given(case=api[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    def try_all(case: Any) -> None:
        answer = case.call()
        # A text that is longer than any may be is refused as a body that is too large, before it is read.
        if answer.status_code != 413:
            case.validate_response(answer, checks=CHECKS)

    try_all()
