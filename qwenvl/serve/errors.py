"""Errors as OpenAI's API writes them: a status, and {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenvl.types import QwenVLError

TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    405: "invalid_request_error", 408: "timeout_error", 413: "invalid_request_error", 415: "invalid_request_error",
    429: "rate_limit_error", 500: "server_error", 503: "service_unavailable_error", 504: "timeout_error",
}  # fmt: skip
LONGEST = 500  # characters of a message: it may quote what was sent


class ApiError(QwenVLError):
    """A request that is not answered. `param` names what is wrong in it, as a path: messages[0].content[1].image_url.url."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        message = " ".join(str(self).split())
        message = message if len(message) <= LONGEST else f"{message[: LONGEST - 3]}..."
        error = {"message": message, "type": TYPES.get(self.status, "api_error"), "param": self.param, "code": self.code}
        return {"error": error}


class ClientGone(Exception):
    """The client left; nobody reads an answer."""


def busy(message: str, retry_after: float) -> ApiError:
    """429 with the seconds after which to come again, at least one."""
    seconds = max(1, round(retry_after))
    return ApiError(429, message, code="rate_limit_exceeded", headers={"Retry-After": str(seconds)})


def as_api_error(error: BaseException, param: str | None = None) -> ApiError:
    """What an error of ours means to the client who sent the request. One that is no QwenVLError is a bug: 500, without details."""
    from qwenvl.inference.requests import DeadlineError, Draining, Overloaded

    if isinstance(error, ApiError):
        return error
    if isinstance(error, Overloaded):
        return busy(str(error), error.retry_after)
    if isinstance(error, Draining):
        return ApiError(503, str(error), code="shutting_down", headers={"Retry-After": "5"})
    if isinstance(error, DeadlineError):
        return ApiError(504, str(error), code="deadline_exceeded")
    if isinstance(error, QwenVLError):
        return ApiError(400, str(error), param=param)
    return ApiError(500, "the server failed on this request; its log says why", code="internal_error")
