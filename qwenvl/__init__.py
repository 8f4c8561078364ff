"""Qwen-VL, from raw data to a served model.

    import qwenvl
    model = qwenvl.load("qwen-vl-nano-chat")
    reply = model.chat([{"role": "user", "content": [{"type": "image", "image": "photo.png"}, "Where is the dog?"]}])

Importing this package imports neither torch nor anything else that is slow: the public names are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwenvl.inference.model import QwenVL, Reply, load
    from qwenvl.types import QwenVLError, Region

__version__ = "0.1.0"

_HOME = {
    "QwenVL": "qwenvl.inference.model",
    "QwenVLError": "qwenvl.types",
    "Region": "qwenvl.types",
    "Reply": "qwenvl.inference.model",
    "load": "qwenvl.inference.model",
}

__all__ = ["QwenVL", "QwenVLError", "Region", "Reply", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'qwenvl' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
