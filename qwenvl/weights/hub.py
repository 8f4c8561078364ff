"""From what a user writes after --model to a folder: a path, the name of a model in the package, or a hub id.

Nothing is downloaded but by `resolve` of a hub id, and never with QWENVL_OFFLINE=1 (or HF_HUB_OFFLINE=1).
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

import qwenvl
from qwenvl import runtime
from qwenvl.families import FAMILIES
from qwenvl.types import QwenVLError

HUB_ID = re.compile(r"(?P<id>[\w][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")
PATTERNS = ("*.json", "*.safetensors", "*.bin", "*.tiktoken", "*.txt")
"""What a model folder needs. Code of the repository is not fetched: it would never be run."""


class ModelNotFound(QwenVLError, FileNotFoundError):
    """Nothing of that name: no folder, not in the package, not on the hub or not in its local cache."""

    def __str__(self) -> str:  # OSError would print an errno
        return str(self.args[0])


def builtin_models() -> dict[str, Path]:
    """The models in the package: name -> folder."""
    root = Path(qwenvl.__file__).parent / "assets" / "models"
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


def offline() -> bool:
    """Whether the environment forbids downloads, by our variable or by huggingface_hub's."""
    return runtime.offline() or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def resolve(name_or_path: str | Path) -> Path:
    """The folder of a model. A folder that exists wins, then a built-in name, then a hub id (`org/name`, `org/name@revision`).

    Raises ModelNotFound, one line that says what the name could have been.
    """
    name = str(name_or_path)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return folder
    builtin = builtin_models()
    if name in builtin:
        return builtin[name]
    if name and folder.is_file():
        raise ModelNotFound(f"{name}: is a file; give the folder that holds config.json and the weights")
    match = HUB_ID.fullmatch(name)
    if match and not isinstance(name_or_path, Path):
        return _from_hub(match["id"], match["revision"])
    raise ModelNotFound(_unknown(name, list(builtin)))


def _unknown(name: str, builtin: list[str]) -> str:
    """The line for a name that is nothing we know."""
    presets = [preset.name for family in FAMILIES for preset in family.presets]
    if name in presets:
        return f"model {name!r} is a configuration without weights; give a folder that holds them, or a hub id (Qwen/Qwen-VL)"
    if "/" in name or os.sep in name:
        return f"{name}: no such folder; give the folder of a model, a built-in name or a hub id (org/name)"
    close = difflib.get_close_matches(name, builtin, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown model {name!r}; {guess}built in: {', '.join(builtin) or 'none'}; or give a folder or a hub id (org/name)"


def _from_hub(repository: str, revision: str | None) -> Path:
    """Download a model to the hub's cache, or find it there. Files that are there already are not fetched again."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    forbidden = offline()
    endpoint = os.environ.get("HF_ENDPOINT") or None
    hub = endpoint or "the hub"
    try:
        # The environment is read here, at the call: huggingface_hub itself reads it once, when first imported.
        folder = snapshot_download(
            repository, revision=revision, endpoint=endpoint, cache_dir=os.environ.get("HF_HUB_CACHE") or None,
            allow_patterns=list(PATTERNS), local_files_only=forbidden,
        )
    except LocalEntryNotFoundError:
        if forbidden:
            raise ModelNotFound(
                f"{repository}: not whole in the local cache, and QWENVL_OFFLINE or HF_HUB_OFFLINE forbids downloads; "
                "unset it, or give a folder"
            ) from None
        raise ModelNotFound(f"{repository}: no such folder here, and {hub} cannot be reached; check the connection") from None
    except GatedRepoError:
        raise ModelNotFound(f"{repository}: {hub} asks for a login; accept its terms there and set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise ModelNotFound(f"{repository}: {hub} has no revision {revision!r} of it") from None
    except RepositoryNotFoundError:
        raise ModelNotFound(f"{repository}: no such folder here, and {hub} has no such model") from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelNotFound(f"{repository}: download from {hub} failed ({reason}); try again") from None
    return Path(folder)
