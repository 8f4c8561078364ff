"""What holds for every book of phrasings."""

from __future__ import annotations

import re
from pathlib import Path

from qwenvl.data.wording import phrasebook


def check_book(path: Path, least: int = 5) -> None:
    """Both languages, several phrasings, no two alike, the same slots in all of a kind, and each in its own script."""
    for kind, languages in phrasebook(path).items():
        assert list(languages) == ["en", "zh"], kind
        slots = {tuple(sorted(set(re.findall(r"{(\w+)}", text)))) for texts in languages.values() for text in texts}
        assert len(slots - {()}) <= 1, f"{kind}: {slots}"
        for language, texts in languages.items():
            assert len(texts) >= least and len(set(texts)) == len(texts), (kind, language)
            for text in texts:
                plain = re.sub(r"{\w+}", "", text)
                assert not plain or bool(re.search("[一-鿿]", plain)) == (language == "zh"), (kind, text)
                assert language == "en" or not re.search("[?,:]|[A-Za-z]{3}", plain.replace("json", "")), (kind, text)
