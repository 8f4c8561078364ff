"""Charades-STA: lines of text, and a folder of videos (of which questions need but the names)."""

from __future__ import annotations

from pathlib import Path

from tests.fast.eval_fixtures import Fixture

MEASURES = ("miou", "r1_iou_30", "r1_iou_50", "r1_iou_70")


def charades_sta(folder: Path) -> None:
    videos = folder / "Charades_v1_480"
    videos.mkdir()
    for name in ("AO8RW", "3MSZA"):
        (videos / f"{name}.mp4").write_bytes(b"")
    lines = ("3MSZA 24.3 30.4##person turn a light on.", "AO8RW 0.0 6.9##a person is putting a book on a shelf.")
    (folder / "charades_sta_test.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "charades_sta_train.txt").write_text("AO8RW 1.0 2.0##person sits.\n", encoding="utf-8")


FIXTURES = {
    "charades_sta": Fixture(
        charades_sta, "test", dict.fromkeys(MEASURES, 1.0), dict.fromkeys(MEASURES, 0.0), questions=2
    ),
}  # fmt: skip
