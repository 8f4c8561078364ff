"""`qwenvl data VERB`: from raw files to rows of training. Each verb is a form and a function in a data_*.py beside this file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from inspect import cleandoc
from operator import or_
from typing import Annotated, Any

import tyro

from qwenvl.cli import (
    data_books,
    data_clean,
    data_convert,
    data_dialogues,
    data_documents,
    data_instruct,
    data_look,
    data_preferences,
    data_scenes,
    data_synth,
)
from qwenvl.cli.options import parse

SUMMARY = "Make training data of raw files and of nothing; look at it, and at what is taught."
EXAMPLES = """
qwenvl data clean pairs.parquet --out shards/pairs
qwenvl data convert chartqa "ChartQA Dataset" shards/chartqa
qwenvl data synth text shards/pages --count 1000
qwenvl data inspect shards/chartqa --out taught.html
qwenvl data VERB --help    options and examples of one verb
"""

VERBS: dict[str, tuple[type, Callable[[Any], int]]] = {
    "clean": (data_clean.Clean, data_clean.clean),
    "adapters": (data_convert.Adapters, data_convert.list_adapters),
    "convert": (data_convert.Convert, data_convert.convert),
    "pdf": (data_documents.Pdf, data_documents.pdf),
    "html": (data_documents.Html, data_documents.html),
    "synth": (data_synth.Synth, data_synth.synth),
    "books": (data_books.Books, data_books.make_books),
    "dialogues": (data_dialogues.Dialogues, data_dialogues.dialogues),
    "preferences": (data_preferences.Preferences, data_preferences.preferences),
    "instruct": (data_instruct.Instruct, data_instruct.instruct),
    "inspect": (data_look.Inspect, data_look.inspect),
    "stats": (data_look.Stats, data_look.stats),
    "scene": (data_scenes.Scene, data_scenes.draw_scenes),
    "clip": (data_scenes.Clip, data_scenes.draw_clips),
    "tokens": (data_scenes.Tokens, data_scenes.show_tokens),
    "pictures": (data_scenes.Pictures, data_scenes.save_pictures),
    "vocabulary": (data_scenes.Vocabulary, data_scenes.train_vocabulary),
}


def main(arguments: list[str]) -> int:
    if arguments and arguments[0] in VERBS:
        verb, *rest = arguments
        form, run = VERBS[verb]
        return run(parse(form, rest, f"qwenvl data {verb}", cleandoc(form.__doc__ or ""), examples_of(form, verb)))
    listed = [Annotated[form, tyro.conf.subcommand(verb, description=_first_paragraph(form))] for verb, (form, _) in VERBS.items()]
    parse(reduce(or_, listed), arguments, "qwenvl data", SUMMARY, EXAMPLES)  # prints the list, or which verb was meant, and ends
    return 2


def examples_of(form: type, verb: str) -> str:
    """Those of the form's module that call `verb`."""
    lines = str(sys.modules[form.__module__].EXAMPLES).strip().splitlines()
    return "\n".join(line for line in lines if line.startswith(f"qwenvl data {verb}"))


def _first_paragraph(form: type) -> str:
    return cleandoc(form.__doc__ or "").partition("\n\n")[0]
