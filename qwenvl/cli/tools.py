"""`--tools FUNCTIONS.json` of `ask` and `chat`: the functions that a model may call. None is ever called by this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl.cli.options import UsageError
from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from qwenvl.inference.model import QwenVL


def read_tools(path: Path | None) -> list[dict[str, Any]]:
    """The functions in a file, none without one: a list of {"name", "description", "parameters": JSON schema}, each alone or in
    {"type": "function", "function": {...}}, as OpenAI's API takes them.

    Raises QwenVLError, one line that names the file, for anything else.
    """
    from qwenvl.processing.tools import ToolError, tools_text

    if path is None:
        return []
    try:
        tools = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise QwenVLError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise QwenVLError(f"{path}: not valid JSON ({error}); write a list of functions") from None
    if not isinstance(tools, list) or not tools:
        raise QwenVLError(f'{path}: not a list of functions; write [{{"name": ..., "description": ..., "parameters": ...}}]')
    try:
        tools_text(tools)
    except ToolError as error:
        raise QwenVLError(f"{path}: {error}") from None
    return tools


def check_calling(model: QwenVL, tools: list[dict[str, Any]]) -> None:
    """Raise UsageError where there are tools, but a model that was not trained to call any."""
    from qwenvl.families import FAMILIES

    if tools and not model.spec.chat.tools:
        trained = ", ".join(family.name for family in FAMILIES if family.chat.tools)
        raise UsageError(f"--tools: {model.spec.name} was not trained to call functions as they are told here; {trained} was")
