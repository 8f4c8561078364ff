"""OmniDocBench as it is distributed: three pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import save
from tests.fast.eval_fixtures.vqa import write

POLY = [60.0, 20.0, 300.0, 20.0, 300.0, 60.0, 60.0, 60.0]


def page(number: int, language: str, items: list[dict[str, Any]], relations: list[dict[str, Any]]) -> dict[str, Any]:
    layout = []
    for place, item in enumerate(items):
        layout.append({"poly": POLY, "ignore": False, "order": place + 1, "anno_id": place, "attribute": {}, **item})
    attributes = {"data_source": "book", "language": language, "layout": "single_column", "watermark": False, "fuzzy_scan": False}
    info = {"page_no": 0, "height": 100, "width": 200, "image_path": f"page_{number}.jpg", "page_attribute": attributes}
    return {"layout_dets": layout, "page_info": info, "extra": {"relation": relations}}


def build_omnidocbench(folder: Path) -> None:
    english: list[dict[str, Any]] = [
        {"category_type": "title", "text": "On tides"},
        {"category_type": "text_block", "text": "The tide comes in slowly, and with it"},
        {"category_type": "text_block", "text": " all of the boats."},
        {"category_type": "equation_isolated", "latex": "$$h = h_{0} + a \\cos(t) \\tag{1}$$"},
        {"category_type": "table", "html": "<table><tr><td>hour</td><td>height</td></tr><tr><td>1</td><td>2.5</td></tr></table>"},
        {"category_type": "figure", "order": None},
        {"category_type": "page_number", "text": "12", "order": None},
    ]
    chinese: list[dict[str, Any]] = [
        {"category_type": "text_block", "text": "今天天气很好，我们去公园散步。"},
        {"category_type": "equation_isolated", "latex": "$$a^2+b^2=c^2$$"},
        {"category_type": "table", "html": "<table><tr><td>时间</td></tr><tr><td>九点</td></tr></table>"},
        {"category_type": "text_block", "text": "晚上回家。"},
    ]
    cut = [{"source_anno_id": 1, "target_anno_id": 2, "relation_type": "truncated"}]
    pages = [
        page(0, "english", english, cut), page(1, "simplified_chinese", chinese, []),
        page(2, "en_ch_mixed", [{"category_type": "text_block", "text": "Tea 茶"}], []),
    ]  # fmt: skip
    write(folder / "OmniDocBench.json", pages)
    for number in range(len(pages)):
        save(folder / "images" / f"page_{number}.jpg")


FIXTURES: dict[str, Fixture] = {
    "omnidocbench": Fixture(
        build_omnidocbench, "test",
        # The dollars of a true formula stay in it, those of a reply do not, so that the best formula has four edits.
        {"overall_en": 4 / 20 / 4, "overall_zh": 4 / 15 / 4, "text_en": 0.0, "order_zh": 0.0, "teds_en": 1.0, "teds_zh": 1.0},
        {"overall_en": 1.0, "overall_zh": 1.0, "teds_en": 0.0},
        nonsense="", questions=3,
    )
}  # fmt: skip
