"""Pictures: everything a user may pass becomes upright RGB or one clear line; patches are the published transform's."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qwenvl.families import find_preset, get_family
from qwenvl.processing.grid import image_grid
from qwenvl.processing.image import ImageError, image_to_patches, open_image
from qwenvl.processing.patches import cut_patches

SPEC = get_family("qwen_vl")
NANO = find_preset("qwen-vl-nano").config
SPEC_NATIVE, NATIVE = get_family("qwen2_vl"), find_preset("qwen2-vl-2b").config
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def half_red_half_blue(mode: str = "RGB") -> Image.Image:
    """40 x 20, red on the left."""
    picture = Image.new("RGB", (40, 20), BLUE)
    picture.paste(RED, (0, 0, 20, 20))
    return picture.convert(mode)


def encoded(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def corners(picture: Image.Image) -> tuple[Any, Any]:
    """Top left and bottom right."""
    return picture.getpixel((0, 0)), picture.getpixel((picture.width - 1, picture.height - 1))


def test_r14_paths_bytes_and_urls_give_the_same_picture(tmp_path: Path) -> None:
    content = encoded(half_red_half_blue())
    path = tmp_path / "a picture.png"
    path.write_bytes(content)
    spelled = base64.b64encode(content).decode()
    wrapped = "\n".join(spelled[index : index + 60] for index in range(0, len(spelled), 60)).rstrip("=")
    sources = [
        path, str(path), path.as_uri(), content, bytearray(content), memoryview(content), Image.open(path), half_red_half_blue(),
        f"data:image/png;base64,{spelled}", f"DATA:image/png;BASE64,{wrapped}",
        "data:image/png," + "".join(f"%{byte:02x}" for byte in content),
        "data:image/png;base64," + base64.urlsafe_b64encode(content).decode(),
    ]  # fmt: skip
    expected = np.asarray(half_red_half_blue())
    for source in sources:
        assert (np.asarray(open_image(source)) == expected).all()


def test_r14_a_data_url_of_megabytes_works() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    url = "data:image/png;base64," + base64.b64encode(encoded(Image.fromarray(noise), compress_level=0)).decode()
    assert len(url) > 5_000_000
    assert (np.asarray(open_image(url)) == noise).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """The stored pixels are turned so that, upright, red is on the left in every one of the eight cases."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = half_red_half_blue()
    stored = stored.transpose(undo[orientation]) if orientation > 1 else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(stored, exif=exif)
    for source in (content, Image.open(io.BytesIO(content))):
        upright = open_image(source)
        assert upright.size == (40, 20)
        assert corners(upright) == (RED, BLUE)


def test_alpha_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert corners(open_image(encoded(clear))) == (WHITE, WHITE)
    assert corners(open_image(half))[0] == (255, 127, 127)
    assert corners(open_image(clear.convert("LA")))[0] == WHITE
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    assert corners(open_image(encoded(palette, transparency=0)))[0] == WHITE
    assert corners(open_image(encoded(Image.new("RGB", (4, 4), RED), transparency=RED)))[0] == WHITE


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 40 * 20).reshape(20, 40).astype(np.uint16)
    expected = np.round(ramp / 257.0).astype(np.uint8)
    for content in (encoded(Image.fromarray(ramp)), encoded(Image.fromarray(ramp), "TIFF")):
        picture = np.asarray(open_image(content))
        assert picture.shape == (20, 40, 3)
        assert np.abs(picture[..., 0].astype(int) - expected).max() <= 1
    wide = Image.fromarray(ramp.astype(np.int32))
    assert wide.mode == "I"
    assert (np.asarray(open_image(wide)) == picture).all()


def test_sixteen_bit_colour_is_scaled() -> None:
    row = b"\0" + struct.pack(">3H", 65535, 32896, 0)
    chunks = [(b"IHDR", struct.pack(">2I5B", 1, 1, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    assert open_image(content).getpixel((0, 0)) == (255, 128, 0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBA", "RGBX", "LA", "RGBa", "PA", "F", "I"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    grey = Image.new("L", (6, 4), 255)
    picture = {"F": grey.convert("F"), "I": Image.new("I", (6, 4), 65535)}.get(mode)
    if picture is None:
        source = grey.convert("LA") if mode == "PA" else grey.convert("RGBA") if mode == "RGBa" else grey.convert("RGB")
        picture = source.convert(mode)
    opened = open_image(picture)
    assert (opened.mode, opened.size) == ("RGB", (6, 4))
    assert min(opened.getpixel((0, 0))) >= 254


def test_cmyk_jpeg_keeps_its_colours() -> None:
    opened = open_image(encoded(Image.new("RGB", (16, 16), (200, 30, 30)).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(np.array(opened.getpixel((8, 8))) - (200, 30, 30)).max() < 8


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    for form, options in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        content = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert Image.open(io.BytesIO(content)).n_frames == 2
        assert corners(open_image(content)) == (RED, RED)


def test_the_callers_picture_is_left_as_it_was() -> None:
    picture = half_red_half_blue("RGBA")
    before = picture.tobytes()
    open_image(picture)
    assert (picture.mode, picture.tobytes()) == ("RGBA", before)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere/at_all.png", "nowhere/at_all.png: no such file"),
        (Path("nowhere.png"), "nowhere.png: no such file"),
        (".", "a folder"),
        (b"plain text, no picture", "not a picture that can be read"),
        (b"", "not a picture that can be read"),
        ("https://example.org/dog.jpg", "not fetched from the network"),
        ("HTTP://example.org/dog.jpg", "not fetched from the network"),
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,$$$$", "not valid base64"),
        ("data:image/png;base64,A", "not valid base64"),
        ("data:image/png;base64,AAAA", "not a picture"),
        ("x" * 10_000, "cannot be opened"),
        ("nul\0byte.png", "cannot be opened"),
        (None, "pass a path"),
        (17, "pass a path"),
        (Image.new("RGB", (0, 5)), "has no pixels"),
    ],
)
def test_what_is_no_picture_is_one_clear_line(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        open_image(source)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_truncated_file_is_one_clear_line(form: str, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = encoded(noise, form)
    path = tmp_path / "cut.img"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"cut.img: ") as caught:
        open_image(path)
    assert "\n" not in str(caught.value)


@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), st.data())
def test_a_damaged_file_is_a_picture_or_one_clear_line(form: str, data: st.DataObject) -> None:
    content = bytearray(encoded(half_red_half_blue(), form))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert open_image(bytes(content), max_pixels=1 << 20).mode == "RGB"
    except ImageError as error:
        assert "\n" not in str(error)


def test_a_pixel_bomb_is_refused_before_it_is_decoded() -> None:
    header = struct.pack(">2I5B", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\x0aIDAT"
    with pytest.raises(ImageError, match="more than 178000000 pixels"):
        open_image(bomb)
    with pytest.raises(ImageError, match="40x20 is more than 100 pixels"):
        open_image(encoded(half_red_half_blue()), max_pixels=100)


@pytest.mark.parametrize("size", [(1, 1), (30_000, 10), (10, 30_000), (112, 112), (144, 100)])
def test_every_size_becomes_the_same_grid(size: tuple[int, int]) -> None:
    patches = image_to_patches(open_image(encoded(Image.new("RGB", size, RED))), NANO, SPEC)
    assert image_grid(NANO, SPEC, *size) == (1, 8, 8)
    assert (patches.shape, patches.dtype) == ((64, 3 * 14 * 14), np.float32)
    assert patches.flags.c_contiguous
    assert np.ptp(patches.reshape(64, 3, -1), axis=(0, 2)).max() == 0


def test_patches_are_the_published_transform() -> None:
    """Resize bicubic to the square, x / 255, minus CLIP's mean, by its deviation; then conv1's order of a patch: C, y, x."""
    pixels = np.random.default_rng(0).integers(0, 256, (150, 90, 3), dtype=np.uint8)
    patches = image_to_patches(Image.fromarray(pixels), NANO, SPEC)
    square = np.asarray(Image.fromarray(pixels).resize((112, 112), Image.Resampling.BICUBIC)).astype(np.float32) / np.float32(255)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    for row, column in ((0, 0), (0, 7), (3, 5), (7, 7)):
        for channel in range(3):
            tile = square[row * 14 : row * 14 + 14, column * 14 : column * 14 + 14, channel]
            expected = (tile - np.float32(mean[channel])) / np.float32(std[channel])
            found = patches[row * 8 + column].reshape(3, 14, 14)[channel]
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(1, 1), (27, 3), (300, 28), (28, 224), (640, 480)])
def test_native_pictures_of_any_size_keep_their_shape(size: tuple[int, int]) -> None:
    grid = image_grid(NATIVE, SPEC_NATIVE, *size)
    patches = image_to_patches(open_image(encoded(Image.new("RGB", size, RED))), NATIVE, SPEC_NATIVE)
    assert (patches.shape, patches.dtype) == ((grid[1] * grid[2], 3 * 2 * 14 * 14), np.float32)
    assert patches.flags.c_contiguous
    assert not grid[1] % 2 and not grid[2] % 2
    assert np.ptp(patches.reshape(len(patches), 3, -1), axis=(0, 2)).max() == 0


def slow_patches(frames: np.ndarray, merge: int, depth: int, side: int = 14) -> np.ndarray:
    """Frames (F, height, width, 3) cut one patch and one number at a time, as the rule says."""
    rows, columns = frames.shape[1] // side, frames.shape[2] // side
    found = []
    for first in range(0, len(frames), depth):
        for top in range(0, rows, merge):
            for left in range(0, columns, merge):
                for row in range(top, top + merge):
                    for column in range(left, left + merge):
                        where = np.s_[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
                        tile = frames[first : first + depth][where]  # depth, y, x, C
                        found.append(np.stack([tile[..., channel] for channel in range(3)]).ravel())
    return np.stack(found)


def test_native_patches_lie_in_merge_blocks() -> None:
    """Rows: time, block row, block column, row in the block, column in the block; columns: C, T, y, x."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 56, 84, 3), dtype=np.uint8)
    mean, std = (np.asarray(value, np.float32) for value in (SPEC_NATIVE.images.mean, SPEC_NATIVE.images.std))
    values = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    padded = np.concatenate([values, values[-1:]])  # an odd number of frames: the last one again
    np.testing.assert_array_equal(cut_patches(pixels, NATIVE, SPEC_NATIVE), slow_patches(padded, merge=2, depth=2))
    still = image_to_patches(Image.fromarray(pixels[0]), NATIVE, SPEC_NATIVE)
    np.testing.assert_array_equal(still, slow_patches(values[[0, 0]], merge=2, depth=2))


def test_a_grid_given_is_the_size_that_is_cut() -> None:
    patches = image_to_patches(Image.new("RGB", (500, 300)), NATIVE, SPEC_NATIVE, grid=(1, 4, 6))
    assert patches.shape == (24, 1176)
