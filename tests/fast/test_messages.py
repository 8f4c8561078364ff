"""Messages in the OpenAI shape with videos: every part understood, every wrong one named."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from qwenvl.processing.messages import MessageError, messages_to_sample
from qwenvl.types import ImagePart, TextPart, VideoPart

FRAMES = [Image.new("RGB", (8, 8)), "second.png"]


def read(*parts: dict[str, Any]) -> tuple[object, ...]:
    return messages_to_sample([{"role": "user", "content": list(parts)}]).messages[0].parts


def test_video_parts_are_read_with_their_bounds() -> None:
    assert read({"type": "video", "video": "a.mp4"}) == (VideoPart("a.mp4"),)
    bounds = {"fps": 0.5, "max_frames": 8, "min_pixels": 3136, "max_pixels": 7840}
    assert read({"type": "video", "video": FRAMES, **bounds}) == (VideoPart(FRAMES, 0.5, 8, 3136, 7840),)
    assert read({"type": "video_url", "video_url": {"url": "a.mp4"}, "fps": "auto"}) == (VideoPart("a.mp4", "auto"),)
    content = [{"type": "video", "video": "a"}, {"type": "image", "image": "b"}, "c"]
    mixed = messages_to_sample([{"role": "user", "content": content}])
    assert mixed.visuals == [VideoPart("a"), ImagePart("b")] and mixed.images == [ImagePart("b")]
    assert mixed.messages[0].parts[-1] == TextPart("c")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "video"}, "needs 'video'"),
        ({"type": "video", "video": []}, "needs 'video'"),
        ({"type": "video", "video": ""}, "needs 'video'"),
        ({"type": "video", "video": "a", "fps": 0}, "fps must be"),
        ({"type": "video", "video": "a", "fps": float("nan")}, "fps must be"),
        ({"type": "video", "video": "a", "fps": "fast"}, "fps must be"),
        ({"type": "video", "video": "a", "fps": True}, "fps must be"),
        ({"type": "video", "video": "a", "max_frames": 2.5}, "max_frames must be"),
        ({"type": "video", "video": "a", "min_pixels": 0}, "min_pixels must be"),
        ({"type": "video_url", "video_url": {}}, "needs 'video_url'"),
        ({"type": "audio"}, "not one of text, image, image_url, video, video_url"),
    ],
)
def test_bad_video_parts_are_one_clear_line(part: dict[str, Any], message: str) -> None:
    with pytest.raises(MessageError, match=rf"messages\[0\]\.content\[0\]: .*{message}") as caught:
        read(part)
    assert "\n" not in str(caught.value)
