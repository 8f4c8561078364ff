"""The rules: what they measure, where exactly they decide, and what a wrong setting says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from qwenvl.config import ConfigError, validate
from qwenvl.data.clean import unicode
from qwenvl.data.clean.config import PRESETS, CleanConfig, Dataset, RuleSet
from qwenvl.data.clean.rules import AspectRatio, Characters, Emoji, ImageTextScore, SmallImage, SpecialTags, TextLength
from tests.clean_corpus import EMOJI, FOREIGN, ORDINARY, SIGNS


def dropped(rule: Any, value: Any) -> bool:
    return bool(rule.drops(rule.statistic(value)))


@pytest.mark.parametrize("name", ["Han", "Latin", "Cyrillic", "Hangul", "Common", "Emoji", "Emoji_Presentation"])
def test_tables_are_those_of_the_standard(name: str) -> None:
    """Every character of ours has the property in `regex`, which follows a later Unicode, and hardly any other has."""
    regex = pytest.importorskip("regex")
    pattern = regex.compile(rf"\p{{{name}}}" if name.startswith("Emoji") else rf"\p{{Script={name}}}")
    ours = "".join(map(chr, (point for first, last in unicode.ranges_of(name) for point in range(first, last + 1))))
    assert len(pattern.findall(ours)) == len(ours)
    letters = "aЖ漢한カ☀😀5©!"
    found = {letter for letter in letters if any(first <= ord(letter) <= last for first, last in unicode.ranges_of(name))}
    assert found == set(pattern.findall(letters))


def test_tables_are_made_from_the_files_of_the_standard(tmp_path: Any) -> None:
    (tmp_path / "emoji").mkdir()
    (tmp_path / "Scripts.txt").write_text(
        "# Scripts-15.0.0.txt\n0041..005A    ; Latin # L&  [26] A..Z\n005B ; Latin # x\n4E00 ; Han\n"
    )
    (tmp_path / "emoji" / "emoji-data.txt").write_text("23F0 ; Emoji_Presentation # x\n23F1 ; Extended_Pictographic# x\n")
    unicode.generate(tmp_path, tmp_path / "out.yaml")
    written = (tmp_path / "out.yaml").read_text()
    assert "Unicode 15.0.0" in written and 'Latin: "41-5B"' in written and 'Emoji_Presentation: "23F0"' in written
    assert "Pictographic" not in written
    with pytest.raises(unicode.CharacterError, match=r"Scripts.txt: no such file"):
        unicode.generate(tmp_path / "emoji")
    assert [unicode.script_of(letter) for letter in "aЖ漢!\ue000"] == ["Latin", "Cyrillic", "Han", "Common", "Unknown"]


@pytest.mark.parametrize("text", FOREIGN)
def test_characters_of_other_languages_are_found(text: str) -> None:
    assert dropped(Characters(), f"a photo of {text} here")


@pytest.mark.parametrize("text", ORDINARY + SIGNS + EMOJI)
def test_characters_of_english_and_chinese_print_may_stand(text: str) -> None:
    assert Characters().statistic(f"a photo of {text}, 照片。") == ""


def test_allowed_characters_are_a_list_that_a_user_may_change() -> None:
    assert not dropped(Characters(scripts=("Han", "Hiragana")), "東京の夜景")
    assert dropped(Characters(letters=""), "café")
    assert not dropped(Characters(ranges=("20-7E", "3B1-3C9")), "angle α")
    assert Characters().statistic("Straße und Łódź") == "ßŁź"
    assert not dropped(Characters(maximum=3), "Straße und Łódź")
    for wrong, message in [
        ({"scripts": ["Elvish"]}, "no script"),
        ({"ranges": ["9-1"]}, "code points"),
        ({"ranges": ["xyz"]}, "code points"),
    ]:
        with pytest.raises(ConfigError, match=message):
            validate(wrong, Characters, "x")


@pytest.mark.parametrize("text", [text for text in EMOJI if not text.startswith("&")])
def test_emoji_are_found(text: str) -> None:
    assert dropped(Emoji(), f"so nice {text}") and dropped(Emoji(), f"{text}很好")


@pytest.mark.parametrize("text", SIGNS + ORDINARY)
def test_signs_of_print_are_no_emoji(text: str) -> None:
    assert Emoji().statistic(text) == ""


def test_signs_are_emoji_where_the_user_says_so() -> None:
    assert dropped(Emoji(ordinary=()), "©2020") and dropped(Emoji(ordinary=("30-39",)), "Brand®")
    assert not dropped(Emoji(ordinary=("30-39", "2764")), "❤ 5")
    assert dropped(Emoji(ordinary=("2764",)), "❤\ufe0f"), "a selector makes it one"


@pytest.mark.parametrize(
    ("text", "statistic", "drops"),
    [
        ("my dog", (2, 6), True), ("my big dog", (3, 10), False), ("a b c", (3, 5), True), ("a b cd", (3, 6), False),
        ("猫狗", (2, 4), True), ("猫狗鸟", (3, 6), False), ("", (0, 0), True), ("!!! ... ???", (0, 11), True),
        (" ".join(["w"] * 256), (256, 511), False), (" ".join(["w"] * 257), (257, 513), True),
        ("汉" * 256, (256, 512), False), ("a b " + "x" * 996, (3, 1000), False), ("a b " + "x" * 997, (3, 1001), True),
    ],
)  # fmt: skip
def test_lengths_are_judged_at_their_exact_limits(text: str, statistic: tuple[int, int], drops: bool) -> None:
    assert TextLength().statistic(text) == statistic
    assert dropped(TextLength(), text) == drops


def test_special_tags() -> None:
    rule = SpecialTags()
    assert rule.statistic("<PERSON> and <person>") == ["<PERSON>", "<person>"]
    assert not dropped(rule, "a person <3") and not dropped(SpecialTags(tags=()), "<PERSON>")
    sbu = Dataset(name="x", inputs=("a",), preset="sbu").ruleset().special_tags
    assert dropped(sbu, "the <unk> tree") and not dropped(sbu, "1 < 2 > x")


def test_pictures_are_judged_at_their_exact_limits() -> None:
    long = [(300, 100), (100, 300), (301, 100), (100, 301)]
    assert [dropped(AspectRatio(), size) for size in long] == [False, False, True, True]
    assert [dropped(SmallImage(), size) for size in [(200, 900), (900, 200), (199, 900), (900, 199)]] == [False, False, True, True]
    assert [ImageTextScore(minimum=0.28).drops(score) for score in (0.28, 0.2799, float("nan"))] == [False, True, True]


def test_presets_are_the_sources_of_table_2() -> None:
    assert {name: preset.remaining for name, preset in PRESETS.items() if preset.remaining} == {
        "laion-en": 14, "laion-coco": 50, "datacomp": 21, "coyo": 28, "cc12m": 66, "cc3m": 100, "sbu": 80, "coco": 100,
        "laion-zh": 97,
    }  # fmt: skip
    web = ["emoji", "characters", "text_length", "aspect_ratio", "small_image", "broken_image"]
    assert Dataset(name="x", inputs=("a",), preset="laion-en").ruleset().names == [*web, "exact_duplicate", "near_duplicate"]
    assert Dataset(name="x", inputs=("a",), preset="cc12m").ruleset().names == ["special_tags", "broken_image", "longest_text"]


def test_settings_are_laid_over_the_preset() -> None:
    rules = {"small_image": {"minimum": 64}, "emoji": None, "special_tags": {"tags": ["<NAME>"]}}
    ruleset = Dataset(name="x", inputs=("a",), preset="cc12m", rules=rules).ruleset()
    assert ruleset.small_image == SmallImage(minimum=64) and ruleset.special_tags == SpecialTags(tags=("<NAME>",))
    assert ruleset.characters is None and RuleSet().emoji is not None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"preset": "laoin-en"}, "unknown preset 'laoin-en'; known: web, laion-en"),
        ({"rules": {"smal_image": {}}}, "smal_image: unknown key; did you mean 'small_image'?"),
        ({"rules": {"image_text_score": {"minimum": 0.3}}}, "image_text_score needs a scorer"),
        ({"rules": {"duplicates": [{"name": "emoji"}]}}, "every rule needs a name of its own"),
        ({"rules": {"duplicates": [{"name": "all", "image": None, "text": None}]}}, "ask for one of them"),
        ({"rules": {"text_length": {"min_words": 9, "max_words": 3}}}, "least must not be above the greatest"),
        ({"name": "../x"}, "name"),
        ({"inputs": []}, "inputs"),
    ],
)
def test_a_wrong_setting_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        validate({"datasets": [{"name": "x", "inputs": ["a"]} | changed]}, CleanConfig, "clean.yaml")


def test_rules_across_datasets_have_names_of_their_own() -> None:
    one, other = ({"name": name, "inputs": ["a"]} for name in "ab")
    with pytest.raises(ConfigError, match=r"across: exact_duplicate is a rule of a already"):
        validate({"datasets": [one, other], "across": [{"name": "exact_duplicate"}]}, CleanConfig, "clean.yaml")
    with pytest.raises(ConfigError, match="name of its own"):
        validate({"datasets": [one, one]}, CleanConfig, "clean.yaml")
