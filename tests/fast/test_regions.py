"""Regions and their markup: what is written is what is read, and what models really write is understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenvl.families.spec import Markup
from qwenvl.processing.regions import parts_text, read_regions, strip_markup, text_to_parts, write_parts
from qwenvl.types import Region, RegionError, RegionPart, TextPart

PADDED = Markup(digits=3)
FRACTION = st.floats(0, 1)
# Wider than two units of the written scale: thinner ones have no area once written.
INTERVAL = st.tuples(FRACTION, FRACTION).map(sorted).filter(lambda pair: pair[1] - pair[0] > 0.003)
PHRASE = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda text: not text.startswith(" ")
)
BOX = st.builds(lambda x, y: Region.box(x[0], y[0], x[1], y[1]), INTERVAL, INTERVAL)
QUAD = st.builds(
    lambda x, y: Region("quad", ((x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]))), INTERVAL, INTERVAL
)


@given(st.lists(BOX | QUAD, min_size=1, max_size=3), PHRASE, st.sampled_from([Markup(), PADDED]))
def test_r1_written_regions_read_back_within_one_unit(regions: list[Region], phrase: str, markup: Markup) -> None:
    """R1: half a unit of rounding, one at the far edge, where 1000 is written 999."""
    text = parts_text([RegionPart(phrase, tuple(regions))], markup)
    found = read_regions(text, markup)
    assert [region.kind for region in found] == [region.kind for region in regions]
    assert {region.label for region in found} == {phrase}
    for ours, theirs in zip(regions, found, strict=True):
        for (x, y), (read_x, read_y) in zip(ours.points, theirs.points, strict=True):
            assert abs(x - read_x) <= 0.001 + 1e-9
            assert abs(y - read_y) <= 0.001 + 1e-9


def test_regions_are_written_as_published() -> None:
    box = RegionPart("bees", (Region.box(0.6611, 0.6119, 0.833, 0.812), Region.box(0, 0, 0.0354, 1)))
    assert parts_text([box], Markup()) == "<ref>bees</ref><box>(661,612),(833,812)</box><box>(0,0),(35,999)</box>"
    assert parts_text([box], PADDED).endswith("<box>(000,000),(035,999)</box>")
    quad = RegionPart("EXIT", (Region("quad", ((0.1, 0.2), (0.3, 0.2), (0.3, 0.4), (0.1, 0.4))),))
    written = parts_text([quad], Markup())
    assert written == "<ref>EXIT</ref><quad>(100,200), (300,200), (300,400), (100,400)</quad>"
    assert parts_text([RegionPart("This")], Markup()) == "<ref>This</ref>"
    assert parts_text([RegionPart(None, box.regions[:1])], Markup()) == "<box>(661,612),(833,812)</box>"


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (Region.box(0.1, 0.1, 1.2, 0.3), "leaves"),
        (Region.box(0.5, 0.1, 0.2, 0.3), "swapped"),
        (Region.box(0.5, 0.1, 0.5, 0.3), "empty"),
        (Region("quad", ((0.1, 0.1), (0.2, 0.2))), "4 points"),
        (Region("quad", ((0.1, 0.1), (0.2, 0.1), (0.2, 0.1), (0.1, 0.1))), "no area"),
        (Region.box(0.1, float("nan"), 0.2, 0.3), "leaves"),
        (Region("point", ((0.1, 0.1),)), "no point"),
    ],
)
def test_r1_bad_regions_are_refused_with_the_samples_id(region: Region, reason: str) -> None:
    with pytest.raises(RegionError, match=f"sample 'coco-17': .*{reason}"):
        write_parts([RegionPart("dog", (region,))], Markup(), where="sample 'coco-17'")


ONE = (0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("<box>(100,200),(300,400)</box>", [ONE]),
        ("<box>(100,200,300,400)</box>", [ONE]),
        ("<box> ( 100 , 200 ) , ( 300 , 400 ) </box>", [ONE]),
        ("<box>[100, 200, 300, 400]</box>", [ONE]),
        ("<box>（100，200），（300，400）</box>", [ONE]),
        ("<box>100,200,300,400</box>", [ONE]),
        ("<box>(100,200),(300,400)", [ONE]),
        ("<box>(100,200),(300,400) and 2 more dogs", [ONE]),
        ("<box>(100,200),(300,400)<box>(100,200),(300,400)</box>", [ONE, ONE]),
        ("<box>(300,400),(100,200)</box>", [ONE]),
        ("<box>(300,200),(100,400)</box>", [ONE]),
        ("<box>(-50,200),(1300,400)</box>", [(0.0, 0.2, 1.0, 0.4)]),
        ("<box>(-50,200),(" + "9" * 5000 + ",400)</box>", [(0.0, 0.2, 1.0, 0.4)]),
        ("<box>(100.0,200.0),(300.0,400.0)</box>", [ONE]),
        ("<box>(007,020),(300,400)</box>", [(0.007, 0.02, 0.3, 0.4)]),
        ("<box>(100,200),(100,400)</box>", []),
        ("<box>(1100,200),(1300,400)</box>", []),
        ("<box>(100,200),(300</box>", []),
        ("<box>none</box>", []),
        ("<box></box>", []),
        ("<box>", []),
        ("(100,200),(300,400)", []),
        ("", []),
    ],
)
def test_what_models_write_is_understood(text: str, boxes: list[tuple[float, ...]]) -> None:
    found = read_regions(text)
    assert [tuple(value for point in region.points for value in point) for region in found] == boxes


def test_a_phrase_labels_its_places_up_to_the_next() -> None:
    text = (
        "<ref> Woman</ref><box>(451,379),(731,806)</box> and<ref> her dogs</ref><box>(219,424),(576,896)</box>"
        "<box>(1,2),(3,4)</box> by <ref>the sea<box>(5,6),(7,8)</box>"
    )
    assert [region.label for region in read_regions(text)] == ["Woman", "her dogs", "her dogs", "the sea"]
    assert read_regions("<box>(1,2),(3,4)</box>", image=2) == [Region.box(0.001, 0.002, 0.003, 0.004, image=2)]
    assert strip_markup(text) == " Woman and her dogs by <ref>the sea<box>(5,6),(7,8)</box>"


def test_scale_of_the_published_grounding_evaluation() -> None:
    (region,) = read_regions("<box>(0,0),(999,999)</box>", scale=999)
    assert region == Region.box(0.0, 0.0, 1.0, 1.0)
    (region,) = read_regions("<box>(0,0),(999,999)</box>")
    assert region.pixels(2000, 1000) == ((0.0, 0.0), (1998.0, 999.0))


FRAGMENTS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "(", ")", ",", " ", "12", "345", "狗")


@given(st.lists(st.sampled_from(FRAGMENTS) | st.just("<box>(12,34),(567,890)</box>")))
def test_any_mixture_of_markup_is_read_without_an_error(fragments: list[str]) -> None:
    text = "".join(fragments)
    for region in read_regions(text):
        region.check("model")
    assert parts_text(text_to_parts(text), Markup()) == text


def test_an_answer_fed_back_becomes_regions_again() -> None:
    text = "A <ref>dog</ref><box>(100,200),(300,400)</box> and <box>(1,2)</box> not."
    assert text_to_parts(text) == (
        TextPart("A "), RegionPart("dog", (Region.box(*ONE),)), TextPart(" and <box>(1,2)</box> not."),
    )  # fmt: skip
    padded = "<ref>dog</ref><box>(001,020),(300,400)</box>"
    assert len(text_to_parts(padded, PADDED)) == 1
    assert text_to_parts(padded, Markup()) == (TextPart(padded),), "other digits than the model's own stay text"
