"""The scorers, on hand-made cases: a right answer earns its point, a wrong one nothing."""

import json
import math

import pytest

from qwenvl.data.places import markup_record
from qwenvl.eval.scorers.boxes import box_iou, box_of, match, quad_iou, span_iou
from qwenvl.eval.scorers.scenes import make_scorer
from qwenvl.eval.scorers.text import Lexicon, edit_distance, is_exact, normalise, normalise_reading, phrase_overlap, similarity
from qwenvl.eval.task import EvaluationError, Prediction, summarise, wilson
from qwenvl.families import find_preset
from qwenvl.types import Region

LEXICON = Lexicon(["a cat", "two cats", "a red circle", "a circle", "an owl", "一只猫", "两只猫", "一个红色的圆形"])


@pytest.mark.parametrize(
    ("reply", "accepted", "right"),
    [
        ("Yes.", ["yes"], True),
        (" yes", ["yes"], True),
        ("no", ["yes"], False),
        ("yesterday", ["yes"], False),
        ("", [""], False),
        ("A red circle!", ["a red circle"], True),
        ("a circle", ["a red circle"], False),
        ("是的。", ["是的"], True),
        ("不是", ["是"], False),
        ("３", ["3"], True),
        ("两 只 猫", ["两只猫"], True),
    ],
)
def test_exact_answers(reply: str, accepted: list[str], right: bool) -> None:
    assert is_exact(reply, accepted) is right


def test_normalisation_is_idempotent() -> None:
    for text in ("  “A  Dog”. ", "一只 狗，两只猫。", "ＡＢＣ１２"):
        assert normalise(normalise(text)) == normalise(text)
        assert normalise_reading(normalise_reading(text)) == normalise_reading(text)


def test_reading_keeps_case_and_inner_characters() -> None:
    assert normalise_reading("“AB C”.") == "AB C"
    assert normalise_reading("ab") != normalise_reading("AB")
    assert normalise_reading("A.B") == "A.B"


def test_caption_phrases_are_counted_by_exact_phrase() -> None:
    assert phrase_overlap("There is a cat and a red circle.", ["a cat", "a red circle"], LEXICON) == (2, 2, 2)
    # A wrong count is both a miss and a false alarm; so is a missing colour.
    assert phrase_overlap("Two cats and a circle.", ["a cat", "a red circle"], LEXICON) == (0, 2, 2)
    assert phrase_overlap("a caterpillar", ["a cat"], LEXICON) == (0, 1, 0)
    assert phrase_overlap("a cat, a cat, a cat", ["a cat"], LEXICON) == (1, 1, 1)
    assert phrase_overlap("图中有一只猫和一个红色的圆形。", ["一只猫", "一个红色的圆形"], LEXICON) == (2, 2, 2)
    assert phrase_overlap("图中有两只猫。", ["一只猫"], LEXICON) == (0, 1, 1)
    assert phrase_overlap("", ["a cat"], LEXICON) == (0, 1, 0)


def test_edit_distance_and_similarity() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert similarity("ABC", "ABC") == 1.0
    assert similarity("", "ABC") == similarity("XYZ", "ABC") == 0.0
    assert similarity("ABD", "ABC") == pytest.approx(2 / 3)


def test_box_iou() -> None:
    assert box_iou((0.1, 0.1, 0.5, 0.5), (0.1, 0.1, 0.5, 0.5)) == pytest.approx(1.0)
    assert box_iou((0.0, 0.0, 0.2, 0.2), (0.1, 0.0, 0.3, 0.2)) == pytest.approx(1 / 3)
    assert box_iou((0.0, 0.0, 0.2, 0.2), (0.2, 0.0, 0.4, 0.2)) == 0.0
    assert box_iou((0.5, 0.5, 0.1, 0.1), (0.1, 0.1, 0.5, 0.5)) == 0.0  # swapped corners earn nothing


def test_quad_iou_equals_box_iou_for_upright_quads_and_knows_turned_ones() -> None:
    def upright(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
        return [(left, top), (right, top), (right, bottom), (left, bottom)]

    first, second = (0.0, 0.0, 0.4, 0.2), (0.1, 0.05, 0.5, 0.3)
    assert quad_iou(upright(*first), upright(*second)) == pytest.approx(box_iou(first, second))
    assert quad_iou(list(reversed(upright(*first))), upright(*second)) == pytest.approx(box_iou(first, second))
    assert quad_iou(upright(0, 0, 0.1, 0.1), upright(0.5, 0.5, 0.6, 0.6)) == 0.0
    # A diamond in a square covers half of it, and a square turned by 45 degrees shares an octagon with itself.
    assert quad_iou([(0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)], upright(0, 0, 1, 1)) == pytest.approx(0.5)
    reach = math.sqrt(0.5)
    turned = [(0.5, 0.5 - reach), (0.5 + reach, 0.5), (0.5, 0.5 + reach), (0.5 - reach, 0.5)]
    octagon = 2 * (math.sqrt(2) - 1)
    assert quad_iou(turned, upright(0, 0, 1, 1)) == pytest.approx(octagon / (2 - octagon))
    crossed = [(0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0)]
    assert quad_iou(crossed, upright(0, 0, 1, 1)) == 0.0


def test_box_of_a_quad_is_upright() -> None:
    quad = Region("quad", ((0.5, 0.1), (0.9, 0.5), (0.5, 0.9), (0.1, 0.5)))
    assert box_of(quad) == (0.1, 0.1, 0.9, 0.9)


def test_span_iou() -> None:
    assert span_iou((1.0, 3.0), (1.0, 3.0)) == 1.0
    assert span_iou((0.0, 2.0), (1.0, 3.0)) == pytest.approx(1 / 3)
    assert span_iou((0.0, 1.0), (1.0, 2.0)) == 0.0
    assert span_iou((1.0, 1.0), (0.0, 2.0)) == span_iou((2.0, 1.0), (0.0, 3.0)) == 0.0


def scored(task: str, reply: str, truth: dict[str, object], preset: str = "qwen2.5-vl-nano") -> dict[str, tuple[float, float]]:
    markup = markup_record(find_preset(preset).markup)
    scorer = make_scorer({"markup": json.loads(json.dumps(markup)), "lexicon": {"en": ["a cat", "a dog", "two cats"]}})
    return dict(scorer(Prediction("x", task, "main", "en", "", "", reply, "stop", truth)))


def test_a_point_is_a_hit_inside_the_box_in_pixels_of_the_resized_picture() -> None:
    truth = {"regions": [[0.25, 0.5, 0.5, 1.0]], "frame": [200, 100]}
    assert scored("point", '```json\n[{"point_2d": [60, 75]}]\n```', truth) == {"point": (1.0, 1)}
    assert scored("point", '<points x1="99" y1="51">cat</points>', truth) == {"point": (1.0, 1)}
    for missed in ('{"point_2d": [60, 20]}', '{"point_2d": [150, 75]}', '{"bbox_2d": [50, 50, 100, 100]}', "here", ""):
        assert scored("point", missed, truth) == {"point": (0.0, 1)}


def test_boxes_of_json_are_read_in_the_frame_and_stand_for_quads() -> None:
    truth = {"regions": [[0.25, 0.5, 0.5, 1.0]], "frame": [200, 100]}
    assert scored("referring", '{"bbox_2d": [50, 50, 100, 100]}', truth) == {"referring_acc50": (1.0, 1), "referring_iou": (1.0, 1)}
    assert scored("referring", '{"bbox_2d": [250, 500, 500, 999]}', truth)["referring_iou"][0] < 0.1
    quads = {"quads": [[0.1, 0.2, 0.5, 0.1, 0.6, 0.5, 0.2, 0.6]], "texts": ["AB"], "frame": [200, 100]}
    found = {"ocr_quad": (1, 1), "ocr_quad_text": (1, 1)}
    assert scored("ocr_quad", '{"bbox_2d": [20, 10, 120, 60], "label": "AB"}', quads) == found
    tags = "<|object_ref_start|>AB<|object_ref_end|><|box_start|>(100,100),(600,600)<|box_end|>"
    assert scored("ocr_quad", tags, quads, "qwen2-vl-nano") == {"ocr_quad": (0, 1), "ocr_quad_text": (0, 1)}


@pytest.mark.parametrize(
    ("reply", "overlap"),
    [("The given query happens in 1.0 - 3.0 seconds.", 1.0), ("from 2 to 3 seconds", 0.5), ("5 - 6 seconds", 0.0), ("soon", 0.0)],
)
def test_the_first_span_of_an_answer_counts(reply: str, overlap: float) -> None:
    expected = {"clip_when_acc50": (float(overlap >= 0.5), 1), "clip_when_iou": (overlap, 1)}
    assert scored("clip_when", reply, {"span": [1.0, 3.0]}) == expected


def test_all_things_of_a_clip_and_no_others_have_to_be_named() -> None:
    truth = {"things": [{"phrase": "a cat"}, {"phrase": "a dog"}]}
    assert scored("clip_what", "A dog and a cat.", truth) == {"clip_what": (1.0, 1)}
    for wrong in ("A dog.", "A dog, a cat and two cats.", ""):
        assert scored("clip_what", wrong, truth) == {"clip_what": (0.0, 1)}
    way = {"value": "up", "choices": {"up": ["up"], "left": ["left"]}, "accept": ["up", "It moves up."]}
    assert scored("clip_direction", "It moves up.", way) == {"clip_direction": (1.0, 1)}
    assert scored("clip_direction", "up or left", way) == {"clip_direction": (0.0, 1)}


def test_matching_uses_each_box_once_and_prefers_the_best() -> None:
    assert match([[0.9, 0.8], [0.85, 0.2]], 0.5) == [(0, 0)]
    assert match([[0.6, 0.9], [0.8, 0.0]], 0.5) == [(0, 1), (1, 0)]
    assert match([[0.7], [0.9], [0.8]], 0.5) == [(1, 0)]
    assert match([[0.49]], 0.5) == []
    assert match([], 0.5) == []


def test_wilson_interval_against_published_values() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for hits, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):
        assert wilson(hits, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_a_score_is_the_ratio_of_sums_with_an_interval_around_it() -> None:
    tallies = [(1.0, 1.0), (1.0, 3.0), (0.0, 1.0), (2.0, 2.0)] * 20
    score = summarise(tallies)
    assert score.value == pytest.approx(4 / 7)
    assert score.interval == "bootstrap"
    assert score.low < score.value < score.high
    assert score == summarise(tallies)
    assert summarise([(1.0, 1.0)] * 10).interval == "wilson"
    assert summarise([(1.0, 1.0)] * 10).low < 1.0
    assert summarise([(0.0, 3.0)] * 10).high > 0.0
    with pytest.raises(EvaluationError):
        summarise([(0.0, 0.0)])
