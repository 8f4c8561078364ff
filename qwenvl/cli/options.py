"""How every verb reads its options: by tyro, with examples under the help, and without the noise of unset defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from qwenvl.types import QwenVLError

_QUIET = tyro.conf.arg(help_behavior_hint="")

Flag = Annotated[bool, _QUIET]
"""False unless given. The help does not say "(default: False)"."""
Text = Annotated[str | None, _QUIET]
Whole = Annotated[int | None, _QUIET]
Number = Annotated[float | None, _QUIET]
FramesPerSecond = Annotated[float | Literal["auto"] | None, _QUIET, tyro.conf.arg(metavar="FPS|auto")]
PromptStyle = Annotated[Literal["chat", "raw"] | None, _QUIET, tyro.conf.arg(metavar="chat|raw")]
OutPicture = Annotated[Path | None, _QUIET, tyro.conf.arg(metavar="OUT.png")]
Functions = Annotated[Path | None, _QUIET, tyro.conf.arg(metavar="FUNCTIONS.json")]
OutFolder = Annotated[Path | None, _QUIET, tyro.conf.arg(metavar="FOLDER")]
"""None unless given; what that means is in the option's help."""
Model = Annotated[str, tyro.conf.arg(metavar="NAME|FOLDER|HUB_ID")]
Device = Annotated[str | None, _QUIET, tyro.conf.arg(metavar="cpu|cuda|cuda:N")]
DType = Annotated[str | None, _QUIET, tyro.conf.arg(metavar="float32|bfloat16")]


class UsageError(QwenVLError):
    """The command line itself is wrong: exit code 2, as for an unknown option."""

    exit_code = 2


def parse(form: Any, arguments: list[str], prog: str, summary: str, examples: str) -> Any:
    """An instance of `form` (a dataclass, or a union of them as subcommands) from the arguments after the verb.

    Prints the help (exit 0) or what is wrong (exit 2) and raises SystemExit, as argparse does.
    """
    description = with_examples(summary, examples)
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
    return tyro.cli(form, args=arguments, prog=prog, description=description, config=config)


def with_examples(summary: str, examples: str) -> str:
    return f"{summary}\n\nexamples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines())
