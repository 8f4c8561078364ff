"""Long clips fit into the context, which is known before they are decoded; and no turn of a conversation reads a file again."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qwenvl.families import find_preset, get_family
from qwenvl.families.spec import FamilySpec
from qwenvl.processing.clip_rules import clip_size, frame_bounds
from qwenvl.processing.encode import ContextError, Processor
from qwenvl.processing.grid import smart_size
from qwenvl.processing.video import Clip, KeptClips, clip_room, fit_clips, open_clip
from qwenvl.processing.video_file import VideoError, VideoFile
from qwenvl.types import ImagePart, Message, Sample, VideoPart
from tests.clips import write_clip
from tests.small_text import small_tokenizer

UNIT = 28 * 28
PUBLISHED = ("qwen2-vl-2b", "qwen2-vl-72b", "qwen2.5-vl-3b", "qwen2-vl-nano", "qwen2.5-vl-nano")


def family_of(preset: str) -> FamilySpec:
    """The family with the preset's own rules for clips, if it has some."""
    found = find_preset(preset)
    spec = get_family(found.config.family)
    return replace(spec, videos=found.videos or spec.videos)


def an_hour(preset: str = "qwen2-vl-2b", size: tuple[int, int] = (64, 32), count: int = 7200, **part: int) -> Clip:
    """An hour at two frames a second; of one picture many times over, so that it costs nothing."""
    frames = [Image.new("RGB", size)] * count
    return open_clip(find_preset(preset).config, family_of(preset), VideoPart(frames, **part), "sample 's', video 1")


@pytest.mark.parametrize("preset", PUBLISHED)
@pytest.mark.parametrize("size", [(64, 32), (640, 360), (1080, 1920), (2000, 100), (4096, 4096)])
def test_an_hour_fits_the_context_of_every_model(preset: str, size: tuple[int, int]) -> None:
    clip = an_hour(preset, size)
    rules = family_of(preset).videos
    assert rules is not None and len(clip.indices) == rules.max_frames, "no frame is lost"
    assert clip.tokens <= clip_room(clip.config) < clip.config.decoder.max_position_embeddings * 0.9 + 1
    assert clip.tokens == np.prod(clip.grid) // 4


def test_what_fits_is_as_published() -> None:
    """Qwen2.5-VL's context is the one that the rule is made for; a short clip fits Qwen2-VL's too."""
    for preset, count in (("qwen2.5-vl-3b", 7200), ("qwen2-vl-2b", 40)):
        clip = an_hour(preset, (640, 360), count)
        assert clip.spec.videos is not None
        bounds = frame_bounds(clip.part, clip.spec.videos, len(clip.indices), 2)
        assert clip.shown == smart_size(640, 360, 28, *bounds, 200)


def test_an_hour_for_qwen2_vl_is_small_frames_at_their_own_rate() -> None:
    """The published least, 128 tokens a moment, would be 49,152 tokens in a context of 32,768."""
    assert an_hour(size=(640, 360)).shown == (308, 168)
    assert an_hour(size=(64, 32)).shown == (168, 84), "tiny frames are enlarged to 16 tokens, not to all there is room for"
    assert an_hour(size=(64, 32), max_pixels=8 * UNIT).tokens <= 8 * 384


@given(st.sampled_from(PUBLISHED), st.integers(1, 768), st.integers(1, 4000), st.floats(0.25, 4), st.floats(0.25, 1))
def test_any_clip_fits_a_quarter_of_the_context(preset: str, count: int, width: int, ratio: float, left: float) -> None:
    config, spec = find_preset(preset).config, family_of(preset)
    assert spec.videos is not None
    room, count = int(clip_room(config) * left), min(count, spec.videos.max_frames)
    wide, high = clip_size(config, spec, VideoPart(None), count, (width, math.ceil(width * ratio)), room)
    assert wide % 28 == high % 28 == 0
    assert wide * high // UNIT * math.ceil(count / 2) <= room


def test_too_many_pixels_asked_for_is_one_line_that_says_what_fits() -> None:
    with pytest.raises(VideoError) as caught:
        an_hour(min_pixels=128 * UNIT)
    line = str(caught.value)
    found = "768 frames of 448x224 are 49152 visual tokens, and the context has room for 29491"
    assert line.startswith(f"sample 's', video 1: list of 7200 frames: {found}; ")
    advice = re.search(r"give max_frames (\d+) or a smaller min_pixels$", line)
    assert advice is not None
    assert an_hour(min_pixels=128 * UNIT, max_frames=int(advice[1])).tokens <= 29491
    with pytest.raises(VideoError):
        an_hour(min_pixels=128 * UNIT, max_frames=int(advice[1]) + 2)


def test_frames_too_long_and_thin_for_the_room_are_fewer_or_none() -> None:
    """No side is shorter than a token's, so that such a frame cannot get small."""
    with pytest.raises(VideoError, match=r"768 frames of 2996x28 are 41088 visual tokens, .* room for 29491; give max_frames 550$"):
        an_hour(size=(3000, 20))
    assert an_hour(size=(3000, 20), max_frames=550).tokens <= 29491


def test_clips_share_the_room_by_what_they_want() -> None:
    long, short = an_hour(size=(640, 360)), an_hour(size=(640, 360), count=8)
    room = clip_room(long.config)
    assert fit_clips([short, short], room) == [short, short], "what fits is left alone"
    fitted = fit_clips([long, short, long], room)
    assert sum(clip.tokens for clip in fitted) <= room
    assert fitted[0].shown == fitted[2].shown < long.shown
    assert fitted[1].tokens > short.tokens / 3


CONFIG, SPEC = find_preset("qwen2.5-vl-nano").config, family_of("qwen2.5-vl-nano")


@pytest.fixture
def processor() -> Processor:
    tokenizer = small_tokenizer(CONFIG.family)
    names = {"image_start_id": "start", "image_end_id": "end", "image_pad_id": "pad", "video_pad_id": "video_pad"}
    ids = {key: tokenizer.special(getattr(SPEC.image_tokens, name)) for key, name in names.items()}
    return Processor(CONFIG.model_copy(update=ids), SPEC, tokenizer)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many frames of files have been converted since it was last asked."""
    seen: list[int] = []
    read = VideoFile.read

    def counted(self: VideoFile, indices: list[int]) -> object:
        for frame in read(self, indices):
            seen.append(1)
            yield frame

    def count() -> int:
        number = len(seen)
        seen.clear()
        return number

    monkeypatch.setattr(VideoFile, "read", counted)
    return count


def question(*parts: VideoPart | ImagePart | str) -> Sample:
    return Sample((Message.of("user", *parts),))


def test_a_prompt_that_is_too_long_is_refused_before_a_clip_is_decoded(
    processor: Processor, decoded: Callable[[], int], tmp_path: Path
) -> None:
    clip = VideoPart(write_clip(tmp_path / "clip.mp4", 60))
    assert len(processor.encode(question(clip, "What?"), "chat", for_generation=True)) < 2048
    assert decoded() == 1 + 12, "one for the size, and two a second for six seconds"
    with pytest.raises(ContextError, match="do not fit in the context of 2048"):
        processor.encode(question(clip, "word " * 2048), "chat", for_generation=True)
    assert decoded() == 1


def test_a_picture_takes_from_the_clips_room(processor: Processor) -> None:
    frames = VideoPart([Image.new("RGB", (640, 360))] * 72)
    picture = ImagePart(Image.new("RGB", (1400, 784)), max_pixels=1400 * 784)
    encoded = processor.encode(question(picture, frames, "What?"), "chat", for_generation=True)
    alone = processor.encode(question(frames, "What?"), "chat", for_generation=True)
    assert encoded.grids[0].tolist() == [1, 56, 100]
    assert encoded.grids[1].prod() // 4 <= clip_room(CONFIG, 1400) < alone.grids[0].prod() // 4


def test_kept_clips_are_not_read_again(processor: Processor, decoded: Callable[[], int], tmp_path: Path) -> None:
    path, kept = str(write_clip(tmp_path / "clip.mp4", 60)), KeptClips()
    first = processor.encode(question(VideoPart(path), "What?"), "chat", kept=kept)
    assert decoded() == 1 + 12
    scan, VideoFile._scan = VideoFile._scan, None  # type: ignore[assignment, method-assign]
    try:
        again = processor.encode(question(VideoPart(path), "And then?"), "chat", kept=kept)
    finally:
        VideoFile._scan = scan  # type: ignore[method-assign]
    assert decoded() == 0
    assert again.patches is first.patches
    other = processor.encode(question(VideoPart(path, fps=1), "What?"), "chat", kept=kept)
    assert decoded() == 1 + 6, "other options, another clip"
    fresh = processor.encode(question(VideoPart(path, fps=1), "What?"), "chat")
    np.testing.assert_array_equal(other.patches, fresh.patches)


def test_a_kept_clip_is_read_anew_when_it_has_to_be_smaller(
    processor: Processor, decoded: Callable[[], int], tmp_path: Path
) -> None:
    frames = (np.zeros((180, 320, 3), np.uint8) for _ in range(40))
    clip, kept = VideoPart(str(write_clip(tmp_path / "clip.mp4", frames, fps=2))), KeptClips()
    alone = processor.encode(question(clip, "What?"), "chat", kept=kept)
    picture = ImagePart(Image.new("RGB", (1400, 952)), max_pixels=1400 * 952)
    beside = processor.encode(question(clip, picture, "What?"), "chat", kept=kept)
    assert decoded() == 1 + 40 + 40
    assert beside.grids[0].prod() < alone.grids[0].prod()
