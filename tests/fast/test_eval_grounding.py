"""Places, counts, times and actions in replies: how each family's are read, and what they earn. Peers are in tests/oracle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenvl.data.sources import SourceError
from qwenvl.eval.accessibility import bounds_in_screen
from qwenvl.eval.benchmark import Item, questions
from qwenvl.eval.runner import ask, plain_text
from qwenvl.eval.scorers import actions, counting, detection, masks, places, temporal
from qwenvl.eval.scoring import score_benchmark, score_groups
from qwenvl.eval.task import EvaluationError, Prediction
from qwenvl.eval.tasks import benchmark_named
from qwenvl.families.spec import Markup
from qwenvl.types import CoordinatesPart, QwenVLError, RegionPart
from tests.fast.eval_fixtures import Fixture, agents, grounding, pointing, screens
from tests.fast.eval_fixtures import detection as detected
from tests.fast.eval_fixtures import temporal as timed
from tests.fast.test_benchmarks import Babbler, Key

TAGS, JSON = Markup(), Markup(style="json")
FIXTURES: dict[str, Fixture] = {}
for module in (grounding, detected, pointing, timed, screens, agents):
    FIXTURES |= module.FIXTURES
ANSWERED = [name for name, fixture in FIXTURES.items() if not fixture.submission]


def prediction(reply: str, truth: dict[str, Any], decoding: str = "") -> Prediction:
    return Prediction("", "", "", "en", "", "", reply, "stop", truth, decoding=decoding)


class Smaller(Key):
    """Sees pictures at half their size, so that places are in another frame than the file's."""

    def frame(self, size: tuple[int, int]) -> tuple[int, int]:
        return size[0] // 2, size[1] // 2


# Every family


@pytest.mark.parametrize("name", ANSWERED)
@pytest.mark.parametrize("preset", ["qwen2-vl-nano", "qwen2.5-vl-nano"])
def test_the_key_gets_the_most_in_every_familys_frame(name: str, preset: str, tmp_path: Path) -> None:
    fixture, benchmark, answerer = FIXTURES[name], benchmark_named(name), Smaller(preset)
    fixture.build(tmp_path)
    for version in benchmark.prompts:
        asked = list(questions(benchmark, tmp_path, fixture.split, version, answerer))
        scores = score_benchmark(benchmark, ask(asked, answerer, batch=8), answerer.markup)
        for measure, value in fixture.best.items():
            assert scores[measure].value == pytest.approx(value, abs=0.05), (version, measure)


# Referring


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("<box>(0,0),(999,999)</box>", True),
        ("(0,0),(999,999)", True),  # tags are not looked for
        ("<box>(0, 0),(999, 999)</box>", True),
        ("<box>(0,0), (999,999)</box>", False),  # a space between the corners
        ("<box>(999,999),(0,0)</box>", False),  # swapped
        ("<box>(0,0),(inf,999)</box>", False),
        ("<box>(0,0)</box>", False),
        ("", False),
    ],
)
def test_replies_begun_by_the_script_are_read_by_it(reply: str, found: bool) -> None:
    begun = prediction(reply, {"box": [0.0, 0.0, 1.0, 1.0]}, "greedy max=28 min=10 begin=<box>")
    assert places.refer(begun, TAGS)["acc_iou_50"] == (float(found), 1)


def test_coordinates_are_thousandths_but_for_the_script() -> None:
    truth = {"box": [0.0, 0.0, 0.5, 1.0]}
    reply = "<box>(0,0),(500,1000)</box>"
    assert places.refer(prediction(reply, truth), TAGS)["iou"] == (1.0, 1)
    begun = places.refer(prediction(reply, truth, "begin=<box>"), TAGS)["iou"][0]
    assert begun == pytest.approx((500 / 1000) / ((500 / 999) * (1000 / 999)))


def test_a_begin_of_tags_says_nothing_of_a_model_that_writes_json() -> None:
    truth = {"box": [0.1, 0.1, 0.5, 0.5], "frame": [200, 100]}
    reply = '```json\n[{"bbox_2d": [20, 10, 100, 50], "label": "box"}]\n```'
    assert places.refer(prediction(reply, truth, "begin=<box>"), JSON)["iou"] == (pytest.approx(1.0), 1)


def test_json_of_a_model_of_tags_is_in_its_scale() -> None:
    reply = '[{"bbox_2d": [100, 100, 500, 500], "label": "box"}]'
    [region] = places.said_boxes(reply, TAGS, None)
    assert region.points == ((0.1, 0.1), (0.5, 0.5)) and region.label == "box"


def test_grit_is_handed_in_in_pixels_of_the_picture(tmp_path: Path) -> None:
    benchmark = benchmark_named("grit_refexp")
    FIXTURES["grit_refexp"].build(tmp_path)
    for preset, reply in (("qwen-vl-nano", "<box>(100,100),(500,500)</box>"), ("qwen2.5-vl-nano", '{"bbox_2d": [10, 5, 50, 25]}')):
        answerer = Babbler(reply, preset)
        answerer.frame = Smaller(preset).frame  # type: ignore[method-assign]
        version = "paper" if preset == "qwen-vl-nano" else "chat"
        asked = list(questions(benchmark, tmp_path, "test", version, answerer))
        assert benchmark.submit is not None
        first, second = json.loads(benchmark.submit(ask(asked, answerer, batch=8))["refexp.json"])
        assert first == {"example_id": "refexp_0", "confidence": 1.0, "bboxes": [[20, 10, 100, 50]]}
        assert second["example_id"] == "refexp_1"


def test_only_the_references_of_the_split_are_asked(tmp_path: Path) -> None:
    grounding.original("refs(unc).p", "testA")(tmp_path)
    benchmark = benchmark_named("refcoco")
    assert [item.id for item in benchmark.read(tmp_path, "testA")] == ["1-10", "2-20"]
    assert list(benchmark.read(tmp_path, "testB")) == []


def test_a_true_box_is_whole_and_its_answer_within_the_picture(tmp_path: Path) -> None:
    """The published script does not cut what an annotator drew beyond the edge; markup cannot write it."""
    grounding.converted(tmp_path)
    file = tmp_path / "refcoco_val.jsonl"
    row = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
    row["bbox"] = [-2.0, 0.0, row["width"] / 2, row["height"] + 1.0]
    file.write_text(json.dumps(row), encoding="utf-8")
    [item] = benchmark_named("refcoco").read(tmp_path, "val")
    assert item.truth["box"] == pytest.approx([-2 / row["width"], 0.0, 0.5, 1 + 1 / row["height"]])
    [part] = item.said
    assert isinstance(part, RegionPart) and part.regions[0].points == ((0.0, 0.0), (0.5, 1.0))


def test_a_row_of_another_form_is_named(tmp_path: Path) -> None:
    grounding.converted(tmp_path)
    file = tmp_path / "refcoco_val.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace('"sent"', '"text"'), encoding="utf-8")
    with pytest.raises(SourceError, match=r"refcoco_val.jsonl, line 1: not of the benchmark's form \(no field 'sent'\)"):
        list(benchmark_named("refcoco").read(tmp_path, "val"))
    (tmp_path / "train2014" / grounding.NAME).unlink()
    with pytest.raises(QwenVLError, match="its picture is not there"):
        list(benchmark_named("refcoco").read(tmp_path, "val"))


# Clicking and pointing


@pytest.mark.parametrize(
    ("markup", "reply", "point"),
    [
        (JSON, '<tool_call>\n{"name": "computer_use", "arguments": {"action": "left_click", "coordinate": [50, 40]}}', (0.5, 0.8)),
        (JSON, '<tool_call>{"name": "computer_use", "arguments": {"coordinate": [40, 30, 60, 50]}}</tool_call>', (0.5, 0.8)),
        (JSON, '[{"point_2d": [50, 40], "label": "ok"}, {"point_2d": [1, 1]}]', (0.5, 0.8)),
        (JSON, '[{"bbox_2d": [40, 30, 60, 50]}]', (0.5, 0.8)),
        (JSON, '<points x1="50" y1="40" alt="ok">ok</points>', (0.5, 0.8)),
        (TAGS, "<ref>ok</ref><box>(400,700),(600,900)</box>", (0.5, 0.8)),
        (TAGS, '<tool_call>{"name": "computer_use", "arguments": {"coordinate": [500, 800]}}</tool_call>', (0.5, 0.8)),
        (TAGS, '<points x1="500" y1="800" alt="ok">ok</points>', (0.5, 0.8)),
        (TAGS, "I cannot see it.", None),
        (JSON, '<tool_call>{"name": "computer_use", "arguments": {"coordinate": "50, 40"}}</tool_call>', None),
    ],
)
def test_a_click_is_read_from_calls_points_and_boxes(markup: Markup, reply: str, point: tuple[float, float] | None) -> None:
    assert places.said_points(reply, markup, (100, 50))[:1] == ([] if point is None else [pytest.approx(point)])


def test_the_edges_of_an_element_are_its_own() -> None:
    truth = {"box": [0.5, 0.5, 0.6, 0.6], "element": "icon", "frame": [100, 100]}
    hits = [places.click(prediction(f'{{"point_2d": [{x}, 50]}}', truth), JSON)["accuracy_icon"][0] for x in (49, 50, 60, 61)]
    assert hits == [0, 1, 1, 0]


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_a_mask_as_runs_is_the_mask(width: int, height: int, data: st.DataObject) -> None:
    pixels = np.array(data.draw(st.lists(st.sampled_from([0, 127, 128, 255]), min_size=width * height, max_size=width * height)))
    pixels = pixels.reshape(height, width)
    runs = masks.runs_of(pixels)
    for row in range(height):
        for column in range(width):
            point = ((column + 0.5) / width, (row + 0.5) / height)
            assert masks.in_mask(point, runs, (width, height)) == (pixels[row, column] > 127)
    assert not masks.in_mask((1.0, 0.5), runs, (width, height))
    assert masks.runs_of(np.stack([pixels, np.zeros_like(pixels)], axis=2)) == runs


def test_of_a_count_all_points_must_be_there(tmp_path: Path) -> None:
    FIXTURES["pointbench"].build(tmp_path)
    benchmark = benchmark_named("pointbench")
    item = next(item for item in benchmark.read(tmp_path, "test") if item.group == "counting")
    inside = [(60, 30), (70, 40), (110, 80), (120, 85)]

    def score(points: Sequence[tuple[int, int]]) -> float:
        reply = json.dumps([{"point_2d": [x, y]} for x, y in points])
        truth = {**item.truth, "frame": [200, 100]}
        return benchmark.score(prediction(reply, truth), JSON)["accuracy"][0]

    assert score(inside) == 1
    assert score(inside[:3]) == score([*inside, (61, 31)]) == score([*inside[:3], (5, 5)]) == score([]) == 0


# Detection


def test_boxes_of_no_class_and_of_a_wrong_class_are_told_apart() -> None:
    truth = {"size": [100, 100], "boxes": [["dog", 10, 10, 40, 40, False]], "group": "thermalDogsAndPeople", "picture": 0}
    truth |= {"frame": [100, 100]}

    def value(*boxes: tuple[str, list[int]]) -> float:
        reply = json.dumps([{"bbox_2d": box, "label": label} for label, box in boxes])
        pooled = benchmark_named("odinw13").pool([prediction(reply, truth)], JSON)["map"]
        return pooled.value(pooled.units)

    right = ("Dog", [10, 10, 50, 50])
    for others in ((), (("cat", [10, 10, 50, 50]),), (("person", [0, 0, 9, 9]),)):
        assert value(right, *others) == pytest.approx(1.0)
    assert value(("person", [10, 10, 50, 50])) == value() == 0.0
    assert value(("dog", [60, 60, 90, 90]), right) == pytest.approx(0.5)  # as sure as the right one, and before it


def test_pictures_count_in_the_order_of_their_numbers() -> None:
    about = {"size": [100, 100], "boxes": [["pothole", 10, 10, 40, 40, False]], "group": "pothole", "frame": [100, 100]}
    wrong = prediction('[{"bbox_2d": [60, 60, 90, 90], "label": "pothole"}]', about | {"picture": 2})
    right = prediction('[{"bbox_2d": [10, 10, 50, 50], "label": "pothole"}]', about | {"picture": 10})
    pooled = benchmark_named("odinw13").pool([right, wrong], JSON)["map"]
    assert pooled.value(pooled.units) == pytest.approx(0.5 * 51 / 101)


def test_map_is_the_mean_over_datasets_and_groups_have_their_own(tmp_path: Path) -> None:
    FIXTURES["odinw13"].build(tmp_path)
    benchmark, key = benchmark_named("odinw13"), Key()
    predictions = ask(list(questions(benchmark, tmp_path, "valid", "chat", key)), key, batch=4)
    emptied = [item if item.truth["group"] != "pothole" else prediction("", item.truth) for item in predictions]
    assert score_benchmark(benchmark, emptied, key.markup)["map"].value == pytest.approx(12 / 13)
    groups = score_groups(benchmark, emptied, key.markup)
    assert groups["pothole"]["map"].value == 0.0 and groups["EgoHands"]["map"].value == pytest.approx(1.0)


def test_without_a_true_box_there_is_no_precision() -> None:
    nothing = detection.match(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4)))
    assert detection.mean_average_precision([{"dog": nothing}]) is None


# Counting and times


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("5", 5), ("There are 5 boxes in the image.", 5), ("five", 5), ("There are Five.", 5), ("None of them", 0),
        ('```json\n[{"bbox_2d": [1, 2, 3, 4], "label": "box 9"}]\n```\nThere is a total of 1 box of 9 kinds.', 1),
        ('There are 2 owls.\n```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "owl 7"}]\n```', 2),
        ('```json\n[{"bbox_2d": [1, 2, 3, 4]}]\n```', None), ("", None), ("some", None), ("3.5", None), ("1,000", None),
        ("<ref>two owls</ref><box>(1,2),(3,4)</box> are 4", 4),
    ],
)  # fmt: skip
def test_the_number_said_is_read(reply: str, said: int | None) -> None:
    assert counting.said_count(reply, TAGS if reply.startswith("<ref>") else JSON) == said


@pytest.mark.parametrize(
    ("reply", "span"),
    [
        ("The given query happens in 24.3 - 30.4 seconds.", (24.3, 30.4)), ("30.4 to 24.3", (24.3, 30.4)),
        ('[{"start_time": "00:24.30", "end_time": "00:30.40"}]', (24.3, 30.4)), ("00:24 - 00:30", (24.0, 30.0)),
        ("It starts at 24.3 s and it ends at 30.4 s.", (24.3, 30.4)), ("at 24 seconds", None), ("", None),
    ],
)  # fmt: skip
def test_the_span_said_is_read(reply: str, span: tuple[float, float] | None) -> None:
    assert temporal.said_span(reply) == (span and pytest.approx(span))


def test_thresholds_are_reached_from_below() -> None:
    assert [temporal.recalls(value)["r1_iou_50"][0] for value in (0.49, 0.5, 1.0)] == [0, 1, 1]


# Phones


def test_windows_and_nodes_of_a_screen_are_read_in_order() -> None:
    tree = agents.forest((10, 30, 40, 50), (0, 0, 0, 0), (-5, 90, 60, 110))
    assert bounds_in_screen(tree) == [(0, 0, *agents.SCREEN), (10, 30, 40, 50), (0, 0, 0, 0), (-5, 90, 60, 110)]
    assert bounds_in_screen(b"") == []


def test_a_step_is_asked_as_it_is_trained_and_low_tells_what_to_do(tmp_path: Path) -> None:
    FIXTURES["androidcontrol"].build(tmp_path)
    benchmark, key = benchmark_named("androidcontrol"), Smaller("qwen2.5-vl-nano")
    low, high = (list(questions(benchmark, tmp_path, split, "chat", key)) for split in ("low", "high"))
    assert [question.id for question in low] == [f"low/7/{number}" for number in range(len(agents.ACTIONS) + 1)]
    system, asked, answer = low[2].sample.messages
    told = plain_text([asked], key.markup, (45, 100))
    assert told == (
        "The user query:  Set an alarm for 7 am\nCurrent step query: Do step 2\nTask progress (You have done the following "
        'operation on the current device): Step 1: {"name": "mobile_use", "arguments": {"action": "open", "text": "Clock"}}; '
        'Step 2: {"name": "mobile_use", "arguments": {"action": "click", "coordinate": [11, 20]}}; '
    )
    assert "The screen's resolution is 45x100." in plain_text([system], key.markup, (45, 100))
    assert any(isinstance(part, CoordinatesPart) for part in answer.parts)
    assert "Current step query" not in plain_text([high[2].sample.messages[1]], key.markup, (45, 100))
    assert "Current step query: finish the task\n" in plain_text([low[-1].sample.messages[1]], key.markup, (45, 100))


def test_only_five_elements_about_the_place_are_kept() -> None:
    boxes = [(0.1 * number, 0.1, 0.05, 0.05) for number in range(9)]
    assert len(actions.boxes_nearest((0.1, 0.0), boxes)) == 5
    assert actions.boxes_about((0.12, 0.52), boxes) == [pytest.approx([0.495, 0.095, 0.06, 0.06])]


def test_progress_ends_at_the_first_wrong_step() -> None:
    right, wrong = '<tool_call>{"name": "mobile_use", "arguments": {"action": "wait"}}</tool_call>', "no"
    replies = {"a": (right, wrong, right, right), "b": (right, right)}
    predictions = [
        prediction(reply, {"action": {"kind": "wait"}, "episode": episode, "step": number, "frame": [9, 9]})
        for episode, said in replies.items()
        for number, reply in reversed(list(enumerate(said)))
    ]
    found = actions.episodes(predictions, JSON, near=0.1)
    assert {name: pooled.value(pooled.units) for name, pooled in found.items()} == {"success_rate": 0.5, "goal_progress": 0.625}


def test_a_wording_for_phones_refuses_other_items() -> None:
    with pytest.raises(EvaluationError, match="7: not a step on a phone"):
        benchmark_named("aitz").prompts["chat"].parts(Item("7"))


def test_an_episode_of_another_form_is_named(tmp_path: Path) -> None:
    FIXTURES["aitz"].build(tmp_path)
    [file] = (tmp_path / "test").rglob("*.json")
    file.write_text(file.read_text(encoding="utf-8").replace('"ui_positions"', '"boxes"'), encoding="utf-8")
    with pytest.raises(SourceError, match=f"{file.name}: not of the benchmark's form .no field 'ui_positions'"):
        list(benchmark_named("aitz").read(tmp_path, "test"))
