"""How every verb reads its options: by tyro, with examples under the help, and without the noise of unset defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from qwenvl.types import QwenVLError

_QUIET = tyro.conf.arg(help_behavior_hint="")


def _at_least(least: int) -> tyro.constructors.PrimitiveConstructorSpec[int]:
    """How tyro reads a whole number that may not be smaller."""

    def read(texts: list[str]) -> int:
        try:
            number = int(texts[0])
        except ValueError:
            raise ValueError(f"{texts[0]!r} is not a whole number") from None
        if number < least:
            raise ValueError(f"{number} is too small; give {least} or more")
        return number

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1, metavar="INT", instance_from_str=read, is_instance=lambda value: value is None or isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )  # fmt: skip


Flag = Annotated[bool, _QUIET]
"""False unless given. The help does not say "(default: False)"."""
Text = Annotated[str | None, _QUIET]
Whole = Annotated[int | None, _QUIET]
FromZero = Annotated[int, _at_least(0)]
FromOne = Annotated[int, _at_least(1)]
"""A seed, a number of the first sample; a count of samples."""
SomeOf = Annotated[int | None, _at_least(1), _QUIET]
"""A limit: 1 or more, None for all."""
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

Quantize = Annotated[
    Literal["float32", "bfloat16", "int8", "int4"] | None, _QUIET, tyro.conf.arg(metavar="float32|bfloat16|int8|int4")
]


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
