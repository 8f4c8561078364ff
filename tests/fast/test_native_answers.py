"""A whole path through a tiny model of native resolution: a clip on the command line, places in JSON, and clips by ids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import qwenvl
from qwenvl.cli.main import main
from qwenvl.processing.encode import ContextError
from qwenvl.processing.video import VideoError
from qwenvl.types import QwenVLError, VideoPart
from tests.fast.tiny import NATIVE, make_it_say, picture, write_tiny, write_tiny_native

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: write_tiny_native(root / family, family, max_new_tokens=60) for family in NATIVE}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("av")
    from tests.clips import write_clip

    return str(write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", 30, fps=10))


def ask(folder: Path, *arguments: str) -> int:
    return main(["ask", *arguments, "--model", str(folder), "--device", "cpu"])


@pytest.mark.parametrize("family", NATIVE)
def test_a_clip_is_asked_about_on_the_command_line(
    family: str, folders: dict[str, Path], clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random weights: the words are noise, but every step from the file to the text is taken."""
    assert ask(folders[family], clip, "When does the dog appear?", "--json", "--max-new-tokens", "5") == 0
    answer = json.loads(capsys.readouterr().out)
    # 3 seconds at 2 frames a second are 6 frames, 3 patches in time.
    assert answer["usage"]["image_tokens"] % 3 == 0 and answer["usage"]["image_tokens"] > 0
    assert answer["usage"]["completion_tokens"] <= 5
    frames = answer["usage"]["image_tokens"]
    assert ask(folders[family], clip, "When?", "--json", "--max-new-tokens", "1", "--max-frames", "2") == 0
    assert json.loads(capsys.readouterr().out)["usage"]["image_tokens"] * 3 == frames
    assert ask(folders[family], clip, "When?", "--max-new-tokens", "2") == 0
    assert ask(folders[family], clip, "When?" * 400) == 1
    assert "1 video" in (line := capsys.readouterr().err) and "max_pixels or fps" in line


def test_times_are_read_from_an_answer_about_a_clip_only(
    folders: dict[str, Path], clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "The given query happens in 0.5 - 1.5 seconds."
    make_it_say(monkeypatch, said, said, '[{"start_time": "00:01.00", "end_time": "00:02.50", "description": "狗"}]')
    folder = folders["qwen2_5_vl"]
    assert ask(folder, clip, "When does the dog appear?") == 0
    assert capsys.readouterr().out == f"{said}\n  then: 0.50 s to 1.50 s\n"
    picture(0).save(tmp_path / "still.png")
    assert ask(folder, str(tmp_path / "still.png"), "When?", "--json") == 0
    assert json.loads(capsys.readouterr().out)["spans"] == []
    assert ask(folder, clip, "What happens?", "--json", "--max-new-tokens", "200") == 0
    assert json.loads(capsys.readouterr().out)["spans"] == [{"start": 1.0, "end": 2.5, "label": "狗"}]


def test_boxes_in_json_come_back_in_pixels_of_the_original(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The model counts in the picture that it saw: 400 x 200 in 1,024 pixels is 44 x 20."""
    model = qwenvl.load(folders["qwen2_5_vl"], device="cpu")
    written = '```json\n[{"bbox_2d": [11, 5, 33, 30], "label": "a dog"}, {"point_2d": [22, 10], "label": "nose"}]\n```'
    make_it_say(monkeypatch, written)
    content = [{"type": "image", "image": picture(1, (400, 200))}, {"type": "text", "text": "Where?"}]
    reply = model.chat([{"role": "user", "content": content}], max_new_tokens=200)
    assert reply.text == written and reply.image_sizes == ((400, 200),)
    assert reply.usage.image_tokens == 55, "11 x 5"
    box, point = reply.pixels
    assert (box.kind, box.label, box.image) == ("box", "a dog", 0)
    assert np.allclose(box.points, [(100, 50), (300, 200)]), "the lower edge is moved back into the picture"
    assert reply.clamped == 1
    assert (point.kind, point.label) == ("point", "nose") and np.allclose(point.points, [(200, 100)])


def test_the_older_family_writes_its_boxes_in_tags(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = qwenvl.load(folders["qwen2_vl"], device="cpu")
    names = ("<ref>", "</ref>", "<box>", "</box>")  # the ids of these have other names in this family
    written = "{}a dog{}{}(250,100),(750,900){}".format(*names)
    make_it_say(monkeypatch, written)
    content = [{"type": "image", "image": picture(1, (400, 200))}, {"type": "text", "text": "Where?"}]
    reply = model.chat([{"role": "user", "content": content}])
    assert reply.text == "<|object_ref_start|>a dog<|object_ref_end|><|box_start|>(250,100),(750,900)<|box_end|>"
    assert reply.readable == "a dog"
    assert [place.points for place in reply.pixels] == [((100.0, 20.0), (300.0, 180.0))]


@pytest.mark.parametrize("family", NATIVE)
def test_ids_with_a_clip_and_a_picture_give_the_logits_of_the_chat_prompt(family: str, folders: dict[str, Path], clip: str) -> None:
    model = qwenvl.load(folders[family], device="cpu")
    image = picture(2, (40, 24))
    content = [{"type": "image", "image": image}, {"type": "video", "video": clip}, {"type": "text", "text": "When?"}]
    encoded = model.encode([{"role": "user", "content": content}])
    assert encoded.grids[1, 0] == 3
    logits = model.logits(encoded.input_ids, [image], [clip])
    assert torch.equal(logits, model.forward(encoded))
    slower = model.logits(encoded.input_ids, [image], [VideoPart(clip, fps=2.0)])
    assert torch.equal(slower, logits), "2 a second is the family's own rate"
    with pytest.raises(QwenVLError, match="1 video span in the text but 0 videos"):
        model.logits(encoded.input_ids, [image])
    with pytest.raises(QwenVLError, match="videos: give a list of videos, not one str"):
        model.logits(encoded.input_ids, [image], clip)


def test_pictures_and_clips_are_numbered_where_the_caller_asks(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """`add_vision_id` of the published template, each kind counted on its own."""
    model = qwenvl.load(folders["qwen2_5_vl"], device="cpu")
    image, frames = picture(2, (16, 16)), [picture(seed, (16, 16)) for seed in range(2)]
    content = [{"type": "image", "image": image}, {"type": "video", "video": frames}, {"type": "image", "image": image}]
    asked = [{"role": "user", "content": [*content, {"type": "text", "text": "Same?"}]}]
    tokenizer = model.need_processor().tokenizer
    plain, numbered = (tokenizer.decode(model.encode(asked, numbered=chosen).input_ids.tolist()) for chosen in (None, True))
    assert "Picture" not in plain and "Video" not in plain
    places = [numbered.index(f"{name}<|vision_start|>") for name in ("Picture 1: ", "Video 1: ", "Picture 2: ")]
    assert places == sorted(places)
    make_it_say(monkeypatch, "yes")
    tokens = model.chat(asked, numbered=True).usage.prompt_tokens
    assert tokens == len(model.encode(asked, numbered=True)) > len(model.encode(asked))


@pytest.mark.parametrize("family", NATIVE)
def test_visual_tokens_of_pictures_stand_before_those_of_clips(family: str, folders: dict[str, Path]) -> None:
    model = qwenvl.load(folders[family], device="cpu")
    image, frames = picture(2, (40, 24)), [picture(seed, (16, 16)) for seed in range(4)]
    still, moving = model.visual([image]), model.visual(videos=[frames])
    both = model.visual([image], videos=[frames])
    assert len(both) == len(still) + len(moving)
    torch.testing.assert_close(both, torch.cat([still, moving]), atol=TOLERANCE, rtol=0)
    small = model.visual([image], max_pixels=256, videos=[VideoPart(frames, max_pixels=64)])
    assert len(small) < len(both)


def test_a_family_without_video_says_so_by_ids_too(tmp_path: Path) -> None:
    model = qwenvl.load(write_tiny(tmp_path / "tiny"), device="cpu")
    frames = [picture(0), picture(1)]
    with pytest.raises(VideoError, match="video 1: qwen_vl takes no video; pass its frames as pictures"):
        model.visual(videos=[frames])
    with pytest.raises(QwenVLError, match=r"qwen_vl takes no video \(1 given\)"):
        model.logits([1, 2, 3], videos=[frames])


def test_a_conversation_goes_on_after_a_clip(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a clip stands after its last moment, in the second round as in the first."""
    model = qwenvl.load(folders["qwen2_5_vl"], device="cpu")
    frames = [picture(seed, (16, 16)) for seed in range(8)]
    asked = [{"role": "user", "content": [{"type": "video", "video": frames, "fps": 0.1}, {"type": "text", "text": "When?"}]}]
    make_it_say(monkeypatch, "two")
    first = model.encode(asked)
    reply = model.chat(asked)
    second = model.encode([*asked, {"role": "assistant", "content": reply.text}, {"role": "user", "content": "And then?"}])
    shared = len(first)
    assert np.array_equal(second.input_ids[:shared], first.input_ids)
    assert np.array_equal(second.position_ids[:, :shared], first.position_ids)
    clip_end = int(first.position_ids[0, first.visual_slots].max())
    assert clip_end > len(first.visual_slots), "40 seconds between patches, two positions a second"
    after = second.position_ids[:, first.visual_slots[-1] + 1 :]
    assert (np.diff(after) == 1).all() and (after[:, 0] == clip_end + 1).all()
    with pytest.raises(ContextError):
        model.encode([{"role": "user", "content": "word " * 2000}])
