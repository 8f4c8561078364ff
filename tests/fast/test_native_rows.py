"""Rows for families of native resolution: labels, windows and positions lie where the model looks for them, for every packing.

And the other family's rows stay as they were: what qwen-vl-nano is taught is frozen.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qwenvl.config import ConfigError, ModelConfig
from qwenvl.data.loader import SCENES_PER_ROW, NumberedRows, RowStream
from qwenvl.data.packing import interleave, share_prefix
from qwenvl.data.places import for_markup, markup_record
from qwenvl.data.row_recipe import LossWeights
from qwenvl.data.scene_recipe import SceneRecipe
from qwenvl.data.scene_rows import SceneRows
from qwenvl.data.synth import fonts
from qwenvl.data.synth.clip import generate_clip
from qwenvl.data.synth.dense import dense_targets
from qwenvl.data.synth.scene import Scene, SceneSpec, Thing, generate_scene
from qwenvl.data.tasks import POINTING, questions
from qwenvl.data.token_weights import TokenWeights
from qwenvl.families import family_of_preset, find_preset
from qwenvl.families.spec import Markup
from qwenvl.models.attention import PackedLayout
from qwenvl.processing.collate import collate
from qwenvl.processing.encode import Processor
from qwenvl.processing.grid import window_plan
from qwenvl.processing.positions import mrope_positions
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.train.build import TOKENIZER
from qwenvl.train.recipe import load_recipe
from qwenvl.types import IGNORE_INDEX, Encoded, ImagePart, Message, Region, RegionPart, Sample, TextPart
from tests.fast.tiny import NATIVE, Visual, document, native_config, tiny_model

needs_fonts = pytest.mark.usefixtures("scene_sources")

NANOS = {"qwen2_vl": "qwen2-vl-nano", "qwen2_5_vl": "qwen2.5-vl-nano"}
LONG = {"canvas": [112, 112], "aspect": [0.5, 2.0]}
TASKS = {"caption": 2.0, "grounded_caption": 1.0, "referring": 3.0, "ocr_quad": 1.0, "yes_no": 2.0, "naming": 1.0}


def processor(family: str) -> Processor:
    preset = find_preset(NANOS.get(family, "qwen-vl-nano"))
    spec = family_of_preset(preset)
    return Processor(preset.config, spec, Tokenizer.from_folder(TOKENIZER).of_family(spec), preset.markup)


def rows(family: str, dense: bool = False, **recipe: Any) -> SceneRows:
    data = {"tasks": TASKS, "per_picture": {"referring": 2}, "scenes": [{"spec": LONG}], "row_tokens": 400, "box_jitter": 1.0}
    return SceneRows(SceneRecipe.model_validate(data | recipe), processor(family), dense)


# Labels of patches


@pytest.mark.parametrize("family", ["qwen_vl", *NATIVE])
@pytest.mark.parametrize("size", [(196, 112), (84, 140), (112, 112)])
def test_labels_of_patches_lie_where_their_patches_are(family: str, size: tuple[int, int]) -> None:
    """White things on black: where the picture is bright, a patch belongs to a thing, in the very order of the tower's patches."""
    boxes = ((10, 20, 45, 90), (50, 5, 80, 60))
    picture = Image.new("RGB", size)
    for box in boxes:
        picture.paste((255, 255, 255), box)
    things = tuple(Thing("emoji", "dog", None, box, (), 7 + number) for number, box in enumerate(boxes))  # type: ignore[arg-type]
    ours = processor(family)
    ready = ours.ready(ImagePart(picture))
    classes, places = dense_targets(Scene(picture, things, "black", 0, 0), ready.grid[1:], ours.config.vision.merge_size)
    values = ready.patches.mean(axis=1)
    bright = (values - values.min()) / (values.max() - values.min())
    assert len(classes) == len(bright) and set(classes) == {0, 7, 8}
    assert bright[classes > 0].min() > 0.15 and bright[classes == 0].max() < 0.5  # two things may each touch a patch a little
    for number, box in enumerate(boxes):
        own = places[classes == 7 + number]
        assert own == pytest.approx(np.broadcast_to(np.array(box) / (*size, *size), own.shape))


@needs_fonts
@pytest.mark.parametrize("family", NATIVE)
@pytest.mark.parametrize("packing", ["share_prefix", "interleave", "isolate", "pictures"])
def test_labels_run_along_the_patches_of_pictures_and_clips(family: str, packing: str) -> None:
    source = rows(family, dense=True, packing=packing, clip_rows=0.4, text_rows=0.1)
    seen = Counter[bool]()
    for index in range(12):
        row = source.row(3, 0, index)
        patches = sum(len(one.patches) for one in row.documents)
        assert len(row.targets["patch_classes"]) == len(row.targets["patch_boxes"]) == patches
        seen.update(grid[0] > 1 for one in row.documents for grid in one.grids.tolist())
    assert set(seen) == {False, True}


@needs_fonts
@pytest.mark.parametrize("packing", ["share_prefix", "pictures"])
def test_what_is_taught_of_a_clip_follows_the_frames_that_its_rules_leave(packing: str) -> None:
    """Four frames of sixteen: two patches in time, labelled by those frames and by no others."""
    whole = rows("qwen2_vl", packing=packing, clip_rows=1.0, clip_fps=2.0, clips={"seconds": [8, 8], "stay": [2.5, 2.5]})
    ours = whole.processor
    assert ours.spec.videos is not None
    few = replace(ours.spec, videos=replace(ours.spec.videos, max_frames=4))
    source = SceneRows(whole.recipe, Processor(ours.config, few, ours.tokenizer, ours.markup), dense=True)
    for index in range(6):
        row, clip = source.row(3, 0, index), generate_clip(whole.recipe.clips, 3, index * SCENES_PER_ROW)
        moments = row.targets["patch_classes"].reshape(2, -1)
        for pair, shown in zip(((0, 5), (10, 15)), moments, strict=True):
            there = {track.class_id for track in clip.tracks if any(track.boxes[number] for number in pair)}
            assert set(shown.tolist()) - {0} == there
        assert all(one.grids[0, 0] == 2 for one in row.documents)


# Packing


def question(config: ModelConfig, mix: Sequence[int | Visual], tail: int) -> Encoded:
    """What `document` makes of a mix, and `tail` tokens after it, of which all but the first are supervised."""
    start = document(config, mix, seed=1)
    ids = np.concatenate([start.input_ids, np.random.default_rng(tail).integers(0, 60, tail)])
    labels = np.where(np.arange(len(ids)) > len(start), ids, IGNORE_INDEX)
    seconds = [item.seconds for item in mix if isinstance(item, Visual)]
    merge, speed = config.vision.merge_size, config.tokens_per_second
    positions = mrope_positions(len(ids), start.visual_slots, start.grids, merge, seconds, speed)
    return start.with_(input_ids=ids, labels=labels, position_ids=positions)


MIXES: dict[str, tuple[int | Visual, ...]] = {
    "wide picture": (3, Visual((1, 4, 12))),
    "clip, whose time is its longest axis": (2, Visual((6, 4, 4), 1.5)),
    "picture and clip": (2, Visual((1, 8, 4)), 3, Visual((2, 4, 6), 0.5)),
}


def hidden(config: ModelConfig, documents: Sequence[Encoded]) -> torch.Tensor:
    batch, model = collate(documents), tiny_model(config)
    with torch.no_grad():
        return model(
            batch.input_ids, batch.position_ids, PackedLayout.of(batch.document_ids, batch.branch_ids),
            patches=batch.patches, grids=batch.grids, visual_slots=batch.visual_slots, windows=batch.windows,
        )  # fmt: skip


@pytest.mark.parametrize("family", NATIVE)
@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_branches_behind_a_shared_prefix_are_what_they_are_alone(family: str, mix: tuple[int | Visual, ...]) -> None:
    config = native_config(family)
    samples = [question(config, mix, tail) for tail in (4, 7, 3)]
    row = share_prefix(samples)
    seconds = [item.seconds for item in mix if isinstance(item, Visual)]
    merge, speed = config.vision.merge_size, config.tokens_per_second
    expected = mrope_positions(len(row), row.visual_slots, row.grids, merge, seconds, speed, row.branch_ids)
    assert np.array_equal(row.position_ids, expected)
    together, at = hidden(config, [row]), len(row) - 14
    for sample, own in zip(samples, (4, 7, 3), strict=True):
        assert np.array_equal(row.position_ids[:, at : at + own], sample.position_ids[:, -own:])
        torch.testing.assert_close(together[at : at + own], hidden(config, [sample])[-own:], atol=1e-5, rtol=1e-5)
        at += own


@pytest.mark.parametrize("family", NATIVE)
def test_joined_samples_keep_their_windows_and_their_positions_run_on(family: str) -> None:
    config = native_config(family)
    samples = [question(config, mix, 4) for mix in MIXES.values()]
    row = interleave(samples, 1000)
    plan = window_plan(row.grids, config.vision)
    assert (row.windows is None) == (plan is None) == (family == "qwen2_vl")
    if plan is not None and row.windows is not None:
        assert np.array_equal(row.windows.order, plan.order) and np.array_equal(row.windows.lengths, plan.lengths)
    starts = np.cumsum([0, *(len(sample) for sample in samples[:-1])])
    for start, sample in zip(starts, samples, strict=True):
        before = int(row.position_ids[:, :start].max()) + 1 if start else 0
        assert np.array_equal(row.position_ids[:, start : start + len(sample)], sample.position_ids + before)
    # The tower sees each picture as it would alone; only the decoder reads on.
    first = len(samples[0])
    torch.testing.assert_close(hidden(config, [row])[:first], hidden(config, samples[:1]), atol=1e-5, rtol=1e-5)


# Streams


@needs_fonts
@pytest.mark.parametrize("family", NATIVE)
@pytest.mark.parametrize("packing", ["share_prefix", "interleave"])
def test_the_stream_is_the_same_for_any_number_of_ranks_and_micro_batches(family: str, packing: str) -> None:
    stream = RowStream(NumberedRows(rows(family, packing=packing, clip_rows=0.3, text_rows=0.1), seed=4), rows_per_step=6)
    (whole,) = stream.batches(1, 0, 1, 6)
    shares = [stream.batches(1, rank, 2, 1) for rank in (0, 1)]
    parts = [batch for pair in zip(*shares, strict=True) for batch in pair]
    for name in ("input_ids", "labels", "loss_weights", "patches"):
        torch.testing.assert_close(torch.cat([getattr(batch, name) for batch in parts]), getattr(whole, name))
    supervised = whole.labels != IGNORE_INDEX
    assert (whole.extra["task_ids"][supervised] >= 0).all()
    assert (whole.windows is not None) == (family == "qwen2_5_vl")
    if whole.windows is not None:
        assert sorted(whole.windows.order.tolist()) == list(range(len(whole.patches) // 4))
        assert whole.windows.lengths.sum() == len(whole.patches)


@needs_fonts
@pytest.mark.parametrize("family", NATIVE)
def test_clip_rows_ask_several_questions_about_one_clip(family: str) -> None:
    source = rows(family, clip_rows=1.0, tasks={})
    rates = set()
    for index in range(8):
        (row,) = source.row(2, 0, index).documents
        (grid,) = row.grids.tolist()
        assert all(task.startswith("clip_") for task in row.task.split("+")) and row.branch_ids is not None
        assert (row.input_ids[row.visual_slots] == source.processor.config.video_pad_id).all()
        assert len(row.visual_slots) == grid[0] * grid[1] * grid[2] // 4
        times = row.position_ids[0, row.visual_slots].reshape(grid[0], -1)
        assert (times == times[:, :1]).all()
        rates.add(int(times[-1, 0] - times[0, 0]))
    assert len(rates) > 2, "clips are looked at at several rates"
    fixed = rows(family, clip_rows=1.0, tasks={}, clip_fps=2.0).row(2, 0, 0).documents[0]
    clip = generate_clip(source.recipe.clips, 2, 0, 2.0)
    assert fixed.grids[0, 0] == -(-len(clip.frames) // 2)


@needs_fonts
def test_what_a_family_cannot_see_or_write_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.clip_rows: qwen_vl takes no video; set it to 0"):
        rows("qwen_vl", clip_rows=0.1)
    for family in ("qwen_vl", "qwen2_vl"):
        with pytest.raises(ConfigError, match=f"data.tasks: point: the markup of {family} has no points"):
            rows(family, tasks={"point": 1.0})
    with pytest.raises(ConfigError, match=r"data\.clip_tasks: 'clip_wen' is not a task of clips; did you mean 'clip_when'"):
        rows("qwen2_vl", clip_tasks={"clip_wen": 1.0})
    with pytest.raises(ConfigError, match=r"data\.clip_tasks: name at least one task"):
        rows("qwen2_vl", clip_rows=0.1, clip_tasks={"clip_when": 0.0})
    with pytest.raises(ConfigError, match=r"data\.tasks: 'clip_when' is not a task of scenes"):
        rows("qwen2_vl", tasks={"clip_when": 1.0})


# Places as JSON


@needs_fonts
def test_places_of_a_json_family_are_pixels_of_the_picture_as_the_model_sees_it() -> None:
    """Read back from the ids themselves, they are the scene's, within what they are moved by."""
    from qwenvl.processing.regions import read_regions

    source = rows("qwen2_5_vl", tasks={"referring": 2.0, "point": 2.0, "ocr_quad": 1.0}, style="chat", packing="isolate")
    found: Counter[str] = Counter()
    for index in range(10):
        for one in source.row(5, 0, index).documents:
            frame = tuple(int(side) * 14 for side in one.grids[0, :0:-1])
            text = source.processor.tokenizer.decode(one.input_ids[one.labels != IGNORE_INDEX].tolist(), skip_special=True)
            seed, number = one.sample_id.split()[1].split("/")
            things = generate_scene(source.recipe.scenes[0].spec, int(seed), int(number)).things
            width, height = one.image_sizes[0]
            for region in read_regions(text, source.processor.markup, frame=(frame[0], frame[1])):
                found[region.kind] += 1
                across, down = zip(*((x * width, y * height) for x, y in region.points), strict=True)
                near = 2.6 * max(width / frame[0], height / frame[1])
                # A point is the middle of a box, moved as a corner is; a turned text's box is wider than its ink by its quad.
                assert any(
                    box[0] - near - 6 <= min(across) and max(across) <= box[2] + near + 6
                    and box[1] - near - 6 <= min(down) and max(down) <= box[3] + near + 6
                    for box in (thing.box for thing in things)
                )  # fmt: skip
    assert found["box"] > 5 and found["point"] > 5 and not found["quad"]


@needs_fonts
def test_a_point_lies_in_its_thing_and_is_asked_for_in_both_languages() -> None:
    rng = np.random.default_rng(0)
    asked = 0
    for index in range(30):
        scene = generate_scene(SceneSpec(), 3, index)
        for language in ("en", "zh"):
            for style in ("raw", "chat"):
                for sample in questions(scene, *POINTING, language, style, rng):
                    (part,) = sample.messages[1].parts
                    assert isinstance(part, RegionPart) and (part.phrase is None) == (style == "raw")
                    ((x, y),) = part.regions[0].points
                    left, top, right, bottom = sample.extra["regions"][0]
                    assert left < x < right and top < y < bottom
                    assert sample.extra["phrase"] in sample.extra["question"]
                    asked += 1
    assert asked > 100


BOX, OTHER = Region.box(0.1, 0.2, 0.5, 0.6), Region.box(0.5, 0.5, 0.9, 0.9)
QUAD = Region("quad", ((0.2, 0.3), (0.6, 0.2), (0.7, 0.5), (0.3, 0.6)))


def test_json_has_the_sentence_first_and_then_one_list_of_its_places() -> None:
    markup = processor("qwen2_5_vl").markup
    answer = (RegionPart("A dog", (BOX,)), TextPart(" and "), RegionPart("two cats", (BOX, OTHER)), TextPart("."))
    sample = Sample((Message.of("user", "Describe."), Message("assistant", answer)))
    assert for_markup(sample, Markup()) is sample
    text, *places = for_markup(sample, markup).messages[1].parts
    assert text == TextPart("A dog and two cats.\n")
    assert places == [RegionPart("a dog", (BOX,)), RegionPart("two cats", (BOX, OTHER))]
    asked = Message.of("user", "What is in ", RegionPart(None, (BOX,)), "?")
    alone = Sample((asked, Message.of("assistant", RegionPart("AB", (QUAD,)))))
    question, reply = for_markup(alone, markup).messages
    assert question == alone.messages[0]
    (part,) = reply.parts
    assert isinstance(part, RegionPart)
    assert part.phrase == "AB" and part.regions[0].kind == "box" and part.regions[0].points == ((0.2, 0.2), (0.7, 0.6))


def test_digits_of_json_weigh_by_their_place_and_its_words_as_words() -> None:
    ours = processor("qwen2_5_vl")
    recipe = LossWeights(coordinate_digits=(2.5, 1.2, 0.25), box_punctuation=0.05, tasks={"referring": 2.0})
    picture = ImagePart(Image.new("RGB", (224, 224)))
    answer = RegionPart("12 dogs", (Region.box(0.025, 0.2, 0.5, 0.93),))
    sample = Sample((Message.of("user", picture, "345 dogs"), Message.of("assistant", answer, " [12, 34]")), task="referring")
    encoded = ours.encode(for_markup(sample, ours.markup), "raw")
    weights = TokenWeights(recipe, ours.tokenizer, ours.markup).of(encoded)
    pieces = [ours.tokenizer.decode([int(index)]) for index in encoded.input_ids]
    first = pieces.index("`")
    last = len(pieces) - 1 - pieces[::-1].index("`")
    said = list(zip(pieces[first : last + 1], weights[first : last + 1] / 2, strict=True))
    assert (weights[:first] == 2.0).all() and (weights[last + 1 :] == 2.0).all()
    text = "".join(piece for piece, _ in said)
    assert '"bbox_2d": [6, 45, 112, 208], "label": "12 dogs"' in text
    places = np.cumsum([0, *(len(piece) for piece, _ in said[:-1])]).tolist()

    def between(start: int, end: int) -> tuple[str, list[float]]:
        found = [(piece, float(weight)) for place, (piece, weight) in zip(places, said, strict=True) if start <= place < end]
        return "".join(piece for piece, _ in found), [weight for _, weight in found]

    inside = between(text.index("[6") + 1, text.index("]") + 1)
    expected = [0.25, 0.25, 0.05, 1.2, 0.25, 0.25, 0.05, 2.5, 1.2, 0.25, 0.25, 0.05, 2.5, 1.2, 0.25, 0.25]
    assert inside == ("6, 45, 112, 208]", pytest.approx(expected))
    label = text.index("12 dogs")
    assert set(between(label, label + 7)[1]) == {1.0}
    # The first token says that a box follows and not words; the rest of the fence follows from it.
    assert [float(weight) for _, weight in said[:3]] == pytest.approx([1.0, 0.05, 0.05])


# What must never change

FROZEN = {
    "qwen_vl/2_multitask": "ec72685fd847b35b", "shipped/2_multitask": "f65109a5e47f6e17",
    "shipped/3_sft": "c19a28884cd916c2", "shipped/0_tower": "796209ef5c4cf2e9",
}
DRAWN_FROM = {"files": "a53e5bb1a2423e05", "pillow": "13.0.0", "freetype": "2.14.3"}


@needs_fonts
@pytest.mark.parametrize("name", FROZEN)
def test_what_qwen_vl_nano_is_taught_is_frozen(name: str, repository: Any) -> None:
    """A change here changes the data of models that are trained already: it must not happen by the way."""
    if any(fonts.versions()[part] != known for part, known in DRAWN_FROM.items()):
        pytest.skip("drawn from other fonts, names or libraries than the digest was taken from")
    recipe = load_recipe(repository / "recipes" / "nano" / f"{name}.yaml")
    frozen = Processor(recipe.model_config_of_stage(), recipe.family(), Tokenizer.from_folder(TOKENIZER), recipe.markup())
    source = SceneRows(recipe.data, frozen, dense=recipe.objective.kind == "dense_patches")
    digest = hashlib.sha256()
    for index in range(6):
        row = source.row(11, 0, index)
        for one in row.documents:
            for array in (one.input_ids, one.labels, one.position_ids, one.branch_ids, one.loss_weights):
                digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        digest.update(b"".join(row.targets[key].tobytes() for key in sorted(row.targets)))
    assert digest.hexdigest()[:16] == FROZEN[name]


def test_the_record_of_a_markup_of_tags_is_what_it_was_before_there_was_another_style(repository: Any) -> None:
    """Cards and evaluations hold its hash."""
    card = json.loads((TOKENIZER / "card.json").read_text(encoding="utf-8"))
    record = json.dumps(markup_record(find_preset("qwen-vl-nano").markup))
    assert hashlib.sha256(record.encode()).hexdigest() == card["fingerprint"]["markup"]
    assert "style" in markup_record(replace(Markup(), style="json"))
