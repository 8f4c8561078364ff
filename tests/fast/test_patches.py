"""Patches as pixels: the same numbers for the model as the published processors' floats, at an eighth of their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from qwenvl.config import ModelConfig
from qwenvl.families import get_family
from qwenvl.inference.features import looks_of
from qwenvl.models.attention import PackedLayout
from qwenvl.processing.collate import collate
from qwenvl.processing.encode import all_patches, ready_picture
from qwenvl.processing.image import ReadyPicture
from qwenvl.processing.patches import as_numbers, cut_patches, cut_pixels, join_patches, one_frame, uncut_patches
from qwenvl.processing.video import KeptClips, open_clip, ready_video
from qwenvl.types import Encoded, PixelScale, VideoPart
from tests.fast.tiny import NATIVE, Visual, document, native_config, picture, tiny_config, tiny_model

FAMILIES = ("qwen_vl", *NATIVE)
BOUNDS = (16, 400)


def config_of(family: str) -> ModelConfig:
    return tiny_config() if family == "qwen_vl" else native_config(family)


def visuals(family: str, pixels: bool) -> list[ReadyPicture]:
    """Two pictures and, for families that take them, a clip of an odd number of frames between them."""
    config, spec = config_of(family), get_family(family)
    seen = [ready_picture(config, spec, picture(seed, (20, 12)), "picture", *BOUNDS, pixels=pixels) for seed in (1, 2)]
    if spec.videos is not None:
        part = VideoPart([picture(seed, (24, 12)) for seed in range(5)], fps=2.0, min_pixels=16, max_pixels=300)
        seen.insert(1, ready_video(config, spec, part, "video", pixels=pixels))
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_are_small_and_become_the_very_numbers(family: str) -> None:
    config, spec = config_of(family), get_family(family)
    vision = config.vision
    for raw, ready in zip(visuals(family, True), visuals(family, False), strict=True):
        depth = 1 if ready.seconds_per_grid is None else vision.temporal_patch_size
        assert raw.patches.dtype == np.uint8 and raw.patches.flags.c_contiguous and raw.grid == ready.grid
        assert raw.patches.shape == (len(ready.patches), vision.in_channels, depth, vision.patch_size**2)
        np.testing.assert_array_equal(as_numbers(raw.patches, config, spec), ready.patches)
        assert as_numbers(ready.patches, config, spec) is ready.patches
        shown = [uncut_patches(patches, ready.grid, config, spec) for patches in (raw.patches, ready.patches)]
        np.testing.assert_array_equal(*shown)
    joined = all_patches(config, visuals(family, True))
    assert joined.dtype == np.uint8
    np.testing.assert_array_equal(as_numbers(joined, config, spec), all_patches(config, visuals(family, False)))


def encoded(family: str, pixels: bool, chosen: Sequence[int]) -> Encoded:
    config = config_of(family)
    taken = [visuals(family, pixels)[index] for index in chosen]
    mix = [3, *(Visual(one.grid, one.seconds_per_grid) for one in taken), 4]
    if family == "qwen_vl":
        mix = [5]
    made = document(config, mix)
    return made.with_(patches=all_patches(config, taken)) if family != "qwen_vl" else made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", NATIVE)
def test_the_model_gives_the_same_for_pixels_as_for_numbers(family: str, dtype: torch.dtype) -> None:
    """A batch of a document of stills, one with a clip, and one of text alone."""
    model, spec = tiny_model(native_config(family)).to(dtype), get_family(family)
    model.vision_tower.pixel_scale = PixelScale(spec.images.mean, spec.images.std)
    found = []
    for pixels in (True, False):
        text = document(model.config, [6])
        batch = collate([encoded(family, pixels, (0,)), text, encoded(family, pixels, (1, 2))])
        assert (batch.patches.dtype == torch.uint8) == pixels
        with torch.no_grad():
            found.append(model(
                batch.input_ids, batch.position_ids, PackedLayout.of(batch.document_ids), patches=batch.patches, grids=batch.grids,
                visual_slots=batch.visual_slots, windows=batch.windows,
            ))  # fmt: skip
    assert torch.equal(*found)


def test_pixels_keep_what_a_checkpoint_says_of_its_mean() -> None:
    config, spec = native_config("qwen2_vl"), get_family("qwen2_vl")
    other = replace(spec, images=replace(spec.images, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)))
    frames = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    tower = tiny_model(config).vision_tower
    raw = torch.from_numpy(cut_pixels(frames, config))
    with pytest.raises(ValueError, match="not told their scale"):
        tower._numbers(raw)
    tower.pixel_scale = PixelScale(other.images.mean, other.images.std)
    np.testing.assert_array_equal(tower._numbers(raw).numpy(), cut_patches(frames, config, other))


def test_a_clip_that_is_kept_is_kept_as_what_it_was_asked_for() -> None:
    config, spec = native_config("qwen2_vl"), get_family("qwen2_vl")
    kept, clip = KeptClips(), open_clip(config, spec, VideoPart([Image.new("RGB", (8, 8))] * 4, fps=2.0))
    assert [kept.read(clip, pixels).patches.dtype for pixels in (True, False, True)] == [np.uint8, np.float32, np.uint8]


def test_one_part_is_not_copied_and_empty_ones_are_left_out() -> None:
    one, none = np.zeros((2, 3, 1, 4), np.uint8), np.zeros((0, 24), np.float32)
    assert join_patches([none, one]) is one and join_patches([none, none]) is none


def test_a_still_picture_is_known_again_beside_a_clip() -> None:
    """There its one frame is repeated; the digests of what is seen do not change."""
    still, clip, _ = (ready.patches for ready in visuals("qwen2_vl", pixels=True))
    together = join_patches([still, clip])
    assert together.shape[2] == 2
    assert np.array_equal(one_frame(together[: len(still)]), still)
    assert one_frame(together).shape[2] == 2
    config = config_of("qwen2_vl")
    model = tiny_model(config)
    [ready, moving, _] = visuals("qwen2_vl", pixels=True)

    def digests(*seen: ReadyPicture) -> list[bytes]:
        patches, grids = join_patches([one.patches for one in seen]), np.array([one.grid for one in seen], np.int64)
        nothing = np.zeros(0, np.int64)
        prompt = Encoded(nothing, nothing, np.zeros((3, 0), np.int64), patches, grids, nothing)
        return [look.digest for look in looks_of(model, prompt)]

    assert digests(ready) == digests(ready, moving)[:1] and digests(moving) == digests(ready, moving)[1:]


def test_pixels_and_numbers_do_not_mix() -> None:
    (pixels, *_), (numbers, *_) = (visuals("qwen2_vl", pixels=kind) for kind in (True, False))
    with pytest.raises(ValueError, match="some patches are pixels and some numbers"):
        join_patches([pixels.patches, numbers.patches])
    tower = tiny_model(config_of("qwen2_vl")).vision_tower
    tower.pixel_scale = PixelScale((0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ValueError, match="patches of pixels are"):
        tower(torch.zeros(4, 3, 1, 195, dtype=torch.uint8), torch.tensor([[1, 2, 2]]))
