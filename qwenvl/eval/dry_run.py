"""The first questions of a benchmark as a page, before anything is asked."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

from qwenvl.data.html_page import html_page
from qwenvl.eval.task import Question
from qwenvl.processing.image import open_image

SIDE = 480
"""Longest side of a picture in the page, in pixels."""
STYLE = "img { max-width: 30em; margin: .5em } pre { white-space: pre-wrap; background: var(--panel); padding: 1em }"


def write_dry_run(shown: Sequence[tuple[Question, str]]) -> str:
    """shown: questions with their prompts as written for the model."""
    body = []
    for question, text in shown:
        pictures = "".join(f'<img alt="" src="{data_url(part.image)}">' for part in question.sample.images)
        reference = html.escape(str(question.truth))
        words = f"<pre>{html.escape(text)}</pre><p><small>truth: {reference}</small></p>"
        body.append(f"<h2>{html.escape(question.id)}</h2>{pictures}{words}")
    return html_page("Dry run", "\n".join(body), STYLE)


def data_url(image: Any) -> str:
    """A picture as a JPEG in a data URL, seen smaller where it is large."""
    small = open_image(image).copy()
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
