"""Places and times in the texts of Qwen2.5-VL: what is written is read back, and what models really write is understood."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenvl.families import get_family
from qwenvl.families.spec import Markup
from qwenvl.inference.reply import Reply, Usage, readable
from qwenvl.processing.chat import render
from qwenvl.processing.loose_json import find_json
from qwenvl.processing.regions import parts_text, read_places, read_regions, strip_markup, text_to_parts, write_parts
from qwenvl.processing.spans import read_spans, read_time
from qwenvl.types import ImagePart, Message, Region, RegionError, RegionPart, Sample, TextPart, TimeSpan
from tests.small_text import small_tokenizer

JSON = Markup(style="json")
FRAME = (1000, 500)
USAGE = Usage(0, 0, 0)

# Two numbers a pixel apart or more, or they are no box once written in whole pixels.
SIDE = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).filter(lambda pair: pair[1] - pair[0] > 0.005)
BOX = st.builds(lambda x, y: Region.box(x[0], y[0], x[1], y[1]), SIDE, SIDE)
POINT = st.builds(lambda x, y: Region("point", ((x, y),)), st.floats(0, 1), st.floats(0, 1))
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.tuples(ANY_TEXT, BOX | POINT), min_size=1, max_size=4))
def test_r1_written_places_read_back_within_half_a_pixel(named: list[tuple[str, Region]]) -> None:
    text = parts_text([RegionPart(phrase, (region,)) for phrase, region in named], JSON, {0: FRAME})
    reading = read_places(text, JSON, frame=FRAME)
    assert reading.clamped == 0
    assert [region.kind for region in reading.regions] == [region.kind for _, region in named]
    assert [region.label for region in reading.regions] == [phrase.strip() or None for phrase, _ in named]
    for (_, ours), theirs in zip(named, reading.regions, strict=True):
        for (x, y), (read_x, read_y) in zip(ours.points, theirs.points, strict=True):
            assert abs(x - read_x) * FRAME[0] <= 0.5 + 1e-6 and abs(y - read_y) * FRAME[1] <= 0.5 + 1e-6


def test_places_are_written_as_published() -> None:
    dog, spot = Region.box(0.1, 0.2, 0.35, 1.0), Region("point", ((0.5, 0.5),))
    written = '```json\n[\n\t{"bbox_2d": [100, 100, 350, 500], "label": "狗"},\n\t{"point_2d": [500, 250]}\n]\n```'
    assert parts_text([RegionPart("狗", (dog,)), RegionPart(None, (spot,))], JSON, {0: FRAME}) == written
    points = '<points x1="500" y1="250" x2="0" y2="500" alt="a &lt;b&gt; &amp; c">a &lt;b&gt; &amp; c</points>'
    assert [region.label for region in read_regions(points, JSON, frame=FRAME)] == ["a <b> & c"] * 2
    one = '```json\n[\n\t{"bbox_2d": [100, 100, 350, 500], "label": "dog"}\n]\n```'
    assert parts_text([RegionPart("dog", (dog,))], JSON, {0: FRAME}) == one
    assert parts_text([RegionPart("dog")], JSON) == "dog"
    assert strip_markup(f"See {one}!", JSON) == "See dog!"
    assert text_to_parts(one, JSON) == (TextPart(one),)


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (Region("quad", ((0.1, 0.1), (0.2, 0.1), (0.2, 0.2), (0.1, 0.2))), "no quad"),
        (Region.box(0.5, 0.1, 0.2, 0.3), "swapped"),
        (Region.box(0.1, 0.1, 0.2, 0.3, image=1), "picture 2, which is not there"),
    ],
)
def test_what_cannot_be_written_names_the_sample(region: Region, reason: str) -> None:
    with pytest.raises(RegionError, match=f"sample 's7': .*{reason}"):
        write_parts([RegionPart("dog", (region,))], JSON, {0: FRAME}, "sample 's7'")


def test_places_that_follow_each_other_are_one_list_in_the_text() -> None:
    tokenizer = small_tokenizer("qwen2_5_vl")
    dog, cat = (RegionPart(name, (Region.box(0.1, 0.2, 0.3, 0.4, image=1),)) for name in ("dog", "cat"))
    sample = Sample((Message.of("user", ImagePart("a"), ImagePart("b")), Message.of("assistant", "Two: ", dog, cat)))
    frames = [(28, 28), FRAME]
    rendered = render(sample, tokenizer, get_family("qwen2_5_vl"), "chat", [1, 1], markup=JSON, frames=frames)
    text = tokenizer.decode(index for index in rendered.labels if index >= 0)
    assert text.count("```json") == 1 and text.startswith("Two: ```json") and text.endswith("```<|im_end|>")
    assert [region.label for region in read_regions(text, JSON, frame=FRAME)] == ["dog", "cat"]


ONE = (0.1, 0.2, 0.3, 0.4)
TWO = (0.5, 0.2, 0.6, 0.4)
A = '{"bbox_2d": [100, 100, 300, 200], "label": "a"}'
B = '{"bbox_2d": [500, 100, 600, 200], "label": "b"}'
BOTH = [(ONE, "a"), (TWO, "b")]
ANSWERS = [
    # Fences, prose, bare lists and objects.
    (f"```json\n[\n\t{A},\n\t{B}\n]\n```", BOTH),
    (f"[{A}, {B}]", BOTH),
    (A, [(ONE, "a")]),
    (f"{A}\n{B}", BOTH),
    (f"```\n{A}\n```", [(ONE, "a")]),
    (f"```json\n[{A}]\n``` and ```json\n[{B}]\n```", BOTH),
    (f"Here [see below] is it: {A}. Good?", [(ONE, "a")]),
    (f'json\n[{A}]', [(ONE, "a")]),
    (f'{{"objects": [{A}, {B}], "count": 2}}', BOTH),
    (f'{{"a": {{"b": [[{A}]]}}}}', [(ONE, "a")]),
    # Commas, quotes and colons.
    (f"[{A}, {B},]", BOTH),
    (f"[{A} {B}]", BOTH),
    (f"[{A},, {B}]", BOTH),
    ('{"bbox_2d": [100, 100, 300, 200,], "label": "a",}', [(ONE, "a")]),
    ("{'bbox_2d': [100, 100, 300, 200], 'label': 'a'}", [(ONE, "a")]),
    ("{bbox_2d: [100, 100, 300, 200], label: 'a'}", [(ONE, "a")]),
    ("{“bbox_2d”: [100, 100, 300, 200], “label”: “a”}", [(ONE, "a")]),
    ('{"bbox_2d"：[100，100，300，200]，"label"："a"}', [(ONE, "a")]),
    ('{"bbox_2d": [100 100 300 200], "label": "a"}', [(ONE, "a")]),
    ("{'bbox_2d': [100, 100, 300, 200], 'label': 'the dog's bowl'}", [(ONE, "the dog's bowl")]),
    ('{"label": "the "big" dog", "bbox_2d": [100, 100, 300, 200]}', [(ONE, 'the "big" dog')]),
    ('{"label": "a" "bbox_2d": [100, 100, 300, 200]}', [(ONE, "a")]),
    ('{"bbox_2d": [100, 100, 300, 200], "label": "say \\"hi\\"\\n\\u72d7"}', [(ONE, 'say "hi"\n狗')]),
    ('{"bbox_2d": [100, 100, 300, 200], "label": "sign: [EXIT] {1}"}', [(ONE, "sign: [EXIT] {1}")]),
    # Ends that are missing.
    (f"```json\n[\n\t{A},\n\t{B}", BOTH),
    (f'[{A}, {{"bbox_2d": [500, 100, 600, 200], "label": "b', BOTH),
    (f'[{A}, {{"bbox_2d": [500, 100, 600, 200', [(ONE, "a")]),
    (f'[{A}, {{"bbox_2d": [500, 100, 600, 200]', [(ONE, "a"), (TWO, None)]),
    (f'[{A}, {{"bbox_2d": [500, 1', [(ONE, "a")]),
    (f'[{A}, {{"bbox', [(ONE, "a")]),
    ('{"bbox_2d": [100, 100, 300, 200, "label": "a"}', [(ONE, "a")]),
    ('{"bbox_2d": [100, 100, 300, 200}, "label": "a"}', [(ONE, None)]),
    # Other names, other shapes.
    ('{"bbox": [100, 100, 300, 200], "name": "a"}', [(ONE, "a")]),
    ('{"box_2d": [100, 100, 300, 200], "text_content": "a"}', [(ONE, "a")]),
    ('{"label": "a", "BBox-2D": "100, 100, 300, 200"}', [(ONE, "a")]),
    ('{"bbox_2d": ["100", "100", "300", "200"], "label": 7}', [(ONE, "7")]),
    ('{"bbox_2d": [[100, 100], [300, 200]], "label": "a"}', [(ONE, "a")]),
    ('{"bbox_2d": [[100, 100, 300, 200], [500, 100, 600, 200]], "label": "a"}', [(ONE, "a"), (TWO, "a")]),
    ('{"bbox_2d": [[100, 100, 300, 200], [500, 100, 600, 200]], "label": ["a", "b"]}', BOTH),
    ('{"bbox": {"x1": 100, "y1": 100, "x2": 300, "y2": 200}, "label": "a"}', [(ONE, "a")]),
    ('{"bbox_2d": [100, 100, 300, 100, 300, 200, 100, 200], "label": "a"}', [((0.1, 0.2, 0.3, 0.2, 0.3, 0.4, 0.1, 0.4), "a")]),
    ('{"bbox_2d": [300, 200, 100, 100], "label": "a"}', [(ONE, "a")]),
    ('{"bbox_2d": [100.0, 1e2, 300, 200], "label": null}', [(ONE, None)]),
    ('{"point_2d": [100, 100], "label": "a"}', [((0.1, 0.2), "a")]),
    ('{"point": {"x": 100, "y": 100}, "label": "a"}', [((0.1, 0.2), "a")]),
    ('{"points": [[100, 100], [300, 200]], "label": "a"}', [((0.1, 0.2), "a"), ((0.3, 0.4), "a")]),
    # XML points.
    ('<points x1="100" y1="100" x2="300" y2="200" alt="a">a</points>', [((0.1, 0.2), "a"), ((0.3, 0.4), "a")]),
    ("<points x1='100' y1='100'>a</points> <point x=300 y=200>", [((0.1, 0.2), "a"), ((0.3, 0.4), None)]),
    ('<points x1="100" y1="100" x2="300" y2="20', [((0.1, 0.2), None)]),
    # HTML.
    ('```html\n<html><body><h2 data-bbox="100 100 300 200">a  &amp;\n b</h2></body></html>\n```', [(ONE, "a & b")]),
    ('<p data-bbox="100 100 300 200">a <b>bold</b></p><p data-bbox="500 100 600 200">b', [(ONE, "a bold"), (TWO, "b")]),
    ('<div class="image" data-bbox="100 100 300 200"><img data-bbox="100 100 300 200"/></div>', [(ONE, "image")]),
    ('<div data-bbox="100 100 300 200"><div data-bbox="500,100,600,200">b</div> a</div>', [(ONE, "b a"), (TWO, "b")]),
    # No places.
    ("[100, 100, 300, 200]", []),
    ('{"bbox_2d": [], "label": []}', []),
    ('{"bbox_2d": [100, 100, 300], "label": "a"}', []),
    ('{"bbox_2d": [100, 100, 100, 200], "label": "a"}', []),
    ('{"bbox_2d": null, "label": "a"}, {"bbox_2d": true}', []),
    ('{"company": "x", "total": [1, 2, 3, 4]}', []),
    ('<p data-bbox="100 100">a</p><points>b</points>', []),
    ("[[[[{{{{", []),
    ("", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "places"), ANSWERS)
def test_what_models_write_is_understood(text: str, places: list[tuple[tuple[float, ...], str | None]]) -> None:
    reading = read_places(text, JSON, frame=FRAME)
    found = [(tuple(value for point in region.points for value in point), region.label) for region in reading.regions]
    assert found == places
    assert reading.clamped == 0


def test_values_outside_are_clamped_and_counted() -> None:
    text = '[{"bbox_2d": [-20, 100, 1300, 600], "label": "a"}, {"bbox_2d": [1200, 0, 1300, 10]}, {"point_2d": [1e999, 250]}]'
    reading = read_places(text, JSON, image=2, frame=FRAME)
    assert reading.regions == (Region.box(0.0, 0.2, 1.0, 1.0, "a", 2), Region("point", ((1.0, 0.5),), image=2))
    assert reading.clamped == 3 + 2 + 1, "those of a place that has no area left count too"
    assert read_places("<box>(-5,0),(1000,1001)</box>").clamped == 2
    reply = Reply.read(text, JSON, [(28, 28), FRAME], [(10, 10), (2000, 1000)], USAGE, "stop")
    assert reply.clamped == 6 and reply.pixels[0].points == ((0.0, 200.0), (2000.0, 1000.0)) and reply.pixels[0].image == 1
    assert read_regions(A, JSON) == [], "without a picture there is no place"


FRAGMENTS = (
    "[", "]", "{", "}", '"', "'", ",", ":", "\\", " ", "\n", "1", "23", "-4.5e6", "true", "bbox_2d", "point_2d", "label",
    '"bbox_2d": ',
    '"bbox_2d": [1, 2, 3, 4]', "<points",
   ' x1="3"', ' y1="4"', "alt=", ">", "</points>", '<p data-bbox="1 2 3 4">', "</p>", "```json",
    '"start_time": "00:01.5"', '"end_time"', "3.5 - 4 seconds", "<tool_call>", "</tool_call>", '"name": "f"', "狗", "9" * 400,
)  # fmt: skip


@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=25).map("".join) | st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    reply = Reply.read(text, JSON, [FRAME], [FRAME], USAGE, "stop", video=True)
    for region in reply.regions:
        region.check("model")
    assert all(0 <= span.start <= span.end for span in reply.spans)
    assert len(reply.pixels) == len(reply.regions)
    readable(text, Markup())


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON_VALUES, max_size=3) | st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=3), st.booleans())
def test_what_json_reads_is_read_the_same(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    (found,) = find_json(text)
    assert (found.value, found.start, found.end, found.complete) == (value, 0, len(text), True)


@pytest.mark.parametrize("loop", ["[", '{"a":', '["', '["a" ', '<p data-bbox="1 2 3 4">'])
def test_a_loop_of_brackets_is_read_in_bounded_depth(loop: str) -> None:
    read_places(loop * 2_000, JSON, frame=FRAME)


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("The given query happens in 64.0 - 72.0 seconds.", [(64.0, 72.0)]),
        ("from 3.2s to 5.6s, and 8 – 9.5 s", [(3.2, 5.6), (8.0, 9.5)]),
        ("12:34.56s - 12:40s", [(754.56, 760.0)]),
        ("00:12.34 - 00:15.00 and 1:02:03.5 to 1:02:04", [(12.34, 15.0), (3723.5, 3724.0)]),
        ("在3.5秒到7秒之间", [(3.5, 7.0)]),
        ("72.0 - 64.0 seconds", [(64.0, 72.0)]),
        ("3 - 5 dogs, 4:3 to 16:9, 10 - 12 stones, at 5 seconds", []),
        ("", []),
    ],
)
def test_times_in_sentences_are_seconds(text: str, spans: list[tuple[float, float]]) -> None:
    assert [(span.start, span.end) for span in read_spans(text)] == spans


def test_times_in_json_are_seconds() -> None:
    text = (
        'In 1 - 2 seconds: ```json\n[\n{"start_time": "00:00.00", "end_time": "00:21.80", "description": "stirs"},\n'
        '{"start_time": 30, "end_time": "1:02:03.5s", "label": "serves",},\n{"start_time": "00:40.00", "end_time": "00:4'
    )
    assert read_spans(text) == [TimeSpan(0.0, 21.8, "stirs"), TimeSpan(30.0, 3723.5, "serves")]
    reply = Reply.read(text, JSON, [FRAME], [FRAME], USAGE, "stop", video=True)
    assert len(reply.spans) == 2
    assert Reply.read("12:30 - 14:00", JSON, [FRAME], [FRAME], USAGE, "stop").spans == (), "a picture has no times"
    for wrong in (None, "", "soon", True, [1], -3, float("inf")):
        with pytest.raises(ValueError, match="no time"):
            read_time(wrong)
