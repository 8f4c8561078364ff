"""Whole pages as text: OmniDocBench."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qwenvl.data.adapters.files import picture
from qwenvl.data.sources import SourceError, records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.peers import LMMS, VLMEVALKIT
from qwenvl.eval.scorers.omnidocbench import PARTS, annotated, page_scores
from qwenvl.eval.task import Decoding, Pooled, Prediction, Tally
from qwenvl.families.spec import Markup
from qwenvl.types import ImagePart

TO_MARKDOWN = r"""You are an AI assistant specialized in converting PDF images to Markdown format. Please follow these instructions for the conversion:

    1. Text Processing:
    - Accurately recognize all text content in the PDF image without guessing or inferring.
    - Convert the recognized text into Markdown format.
    - Maintain the original document structure, including headings, paragraphs, lists, etc.

    2. Mathematical Formula Processing:
    - Convert all mathematical formulas to LaTeX format.
    # - Enclose inline formulas with \( \). For example: This is an inline formula \( E = mc^2 \)
    - Enclose block formulas with \\[ \\]. For example: \[ \frac{-b \pm \sqrt{b^2 - 4ac}}{2a} \]

    3. Table Processing:
    - Convert tables to HTML format.
    - Wrap the entire table with <table> and </table>.

    4. Figure Handling:
    - Ignore figures content in the PDF image. Do not attempt to describe or convert images.

    5. Output Format:
    - Ensure the output Markdown document has a clear structure with appropriate line breaks between elements.
    - For complex layouts, try to maintain the original document's structure and format as closely as possible.

    Please strictly follow these guidelines to ensure accuracy and consistency in the conversion. Your task is to accurately convert the content of the PDF image into Markdown format without adding any extra explanations or comments.
    """  # noqa: E501
"""Indents and the line that is commented out stand in it."""
LANGUAGES = {"english": "en", "simplified_chinese": "zh"}
"""Pages in one of them; those in both count in neither score, as published."""


def _read(folder: Path, split: str) -> Iterator[Item]:
    file = folder / "OmniDocBench.json"
    for number, page in enumerate(records(file), start=1):
        try:
            info = page["page_info"]
            name, attributes = Path(info["image_path"]).name, info["page_attribute"]
            truth: dict[str, Any] = {**annotated(page), "language": LANGUAGES.get(attributes["language"], "")}
            visual = ImagePart(picture(folder, f"images/{name}", name, id=name))
            language = truth["language"] or "en"
            yield Item(name, {}, (visual,), _written(truth), truth, (), language, attributes["data_source"])
        except (KeyError, TypeError) as error:
            raise SourceError(f"{file}, record {number}: no page as it is distributed ({error}); fetch the file again") from None


def _written(truth: dict[str, Any]) -> str:
    """The page in the order of reading, as the best reply would have it."""
    lines = sorted((line for part in PARTS[:3] for line in truth[part]), key=lambda line: line[1] or 0)
    return "\n\n".join(line[2] for line in lines)


def _score(prediction: Prediction, markup: Markup) -> dict[str, Tally]:
    """Of each part that a page has, its share of edits: "text_en"; and the likeness of its tables: "teds_en"."""
    language = prediction.truth["language"]
    if not language:
        return {}
    return {f"{part}_{language}": (score, 1) for part, score in page_scores(prediction.reply, prediction.truth).items()}


def _overall(predictions: Sequence[Prediction], markup: Markup) -> dict[str, Pooled]:
    """The mean of the edits of texts, formulas, tables and reading order, each the mean of the pages that have it."""
    units: dict[str, list[dict[str, float]]] = {language: [] for language in LANGUAGES.values()}
    for prediction in predictions:
        if language := prediction.truth["language"]:
            units[language].append(page_scores(prediction.reply, prediction.truth))
    return {f"overall_{language}": Pooled(tuple(found), _mean_of_parts) for language, found in units.items()}


def _mean_of_parts(pages: Sequence[dict[str, float]]) -> float:
    means = [sum(found) / len(found) for part in PARTS if (found := [page[part] for page in pages if part in page])]
    return sum(means) / len(means) if means else 1.0


BENCHMARKS: dict[str, Benchmark] = {
    "omnidocbench": Benchmark(
        name="omnidocbench",
        title="OmniDocBench 1.0",
        get="OmniDocBench.json and the folder images of version 1.0 (981 pages) of OpenDataLab/OmniDocBench, on ModelScope and "
        "elsewhere. Scoring needs pylatexenc.",
        source=f"{VLMEVALKIT}, vlmeval/dataset/OmniDocBench (end to end, quick_match; edits from 0 to 1, less is better)",
        splits={"test": Split(("OmniDocBench.json", "images/*"))},
        prompts={
            "chat": Prompt(
                TO_MARKDOWN.replace("{", "{{").replace("}", "}}"),
                f"{VLMEVALKIT}, vlmeval/dataset/OmniDocBench/omnidocbench.py (system_prompt); limit: "
                f"{LMMS}/omnidocbench/omnidocbench.yaml",
                Decoding(4096),
                style="chat",
            )
        },
        read=_read,
        measure="overall_en",
        score=_score,
        pool=_overall,
        scale=1.0,
        lower=True,
    )
}
