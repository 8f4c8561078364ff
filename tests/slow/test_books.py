"""Long samples of a real manual: what is asked about its pages is where the answer says, and it all fits a model's context."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from qwenvl.cli.data_books import kept_pages
from qwenvl.data.length import Ruler
from qwenvl.data.synth.long.book import BookSpec, books
from qwenvl.processing.image import open_image
from qwenvl.types import RegionPart
from tests.round_trip import check_round_trip

# Of the package debmake-doc: English and Chinese, with headings, code and tables.
MANUALS = [Path(f"/usr/share/doc/debmake-doc/debmake-doc.{language}.pdf") for language in ("en", "zh-cn")]


@pytest.mark.parametrize("manual", MANUALS, ids=lambda path: path.name)
def test_a_manual_becomes_long_samples_whose_places_have_ink(manual: Path) -> None:
    pytest.importorskip("pypdfium2")
    if not manual.exists():
        pytest.skip(f"{manual}: not there; apt-get install debmake-doc")
    spec = BookSpec(tokens=(8192, 16384))
    left_out: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for sample in islice(books(kept_pages([(manual, manual.name)], left_out), spec, 0), 5):
        assert Ruler().sample(sample) <= 16384
        pictures = [np.asarray(open_image(part.image).convert("L")) for part in sample.images]
        first = sample.extra["turns"][0]
        place = first["picture"] if "picture" in first else int(first["value"]) - 1
        assert place >= len(pictures) * 2 / 3 - 1e-9
        kinds.update(turn["kind"] for turn in sample.extra["turns"])
        for message in sample.messages[1::2]:
            for part in message.parts:
                for region in part.regions if isinstance(part, RegionPart) else ():
                    grey = pictures[region.image]
                    (left, top), (right, bottom) = region.pixels(grey.shape[1], grey.shape[0])
                    shown = grey[int(top) : int(bottom) + 1, int(left) : int(right) + 1]
                    assert int(shown.max()) - int(shown.min()) > 60, "letters in the box"
        check_round_trip(sample, "qwen2_5_vl")
    assert len(kinds) > 2
