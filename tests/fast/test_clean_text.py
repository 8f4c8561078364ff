"""Cleaning text: what is mark-up or noise goes, what only looks like it stays; and it is fast."""

from __future__ import annotations

import time

import pytest

from qwenvl.config import ConfigError, validate
from qwenvl.data.clean.config import Dataset
from qwenvl.data.clean.examine import Examiner, Row
from qwenvl.data.clean.text import IRREGULAR, Pattern, TextCleaner, compared, language_of, strip_html, words
from tests.clean_corpus import MENDED, UNTOUCHED, WEB, rows_of

CLEANER = TextCleaner(strip_html=True, patterns=IRREGULAR)


@pytest.mark.parametrize(("written", "clean"), MENDED)
def test_noise_is_cleaned_out_of_english_and_chinese(written: str, clean: str) -> None:
    for caption in ("an old lighthouse by the sea", "海边的老灯塔"):
        text, changed = CLEANER.clean(written.replace("{}", caption))
        assert text == clean.replace("{}", caption)
        assert changed or text == " ".join(written.replace("{}", caption).split()) or "\u0301" in written


@pytest.mark.parametrize("written", UNTOUCHED)
def test_what_only_looks_like_noise_stays(written: str) -> None:
    for caption in ("an old lighthouse by the sea", "海边的老灯塔"):
        assert CLEANER.clean(written.replace("{}", caption)) == (written.replace("{}", caption), ())


def test_cleaning_twice_changes_nothing_more() -> None:
    for written, _ in MENDED:
        once, _ = CLEANER.clean(written.replace("{}", "an old lighthouse"))
        assert CLEANER.clean(once) == (once, ())


@pytest.mark.parametrize("piece", [" ", " -", "a-", "a.", "<!--", "<script>", "<a x=", "&a", "a@a.", "http://", "( ", "<", "."])
def test_no_text_takes_long(piece: str) -> None:
    """Texts of 20,000 characters that would make a careless pattern try every place from every place."""
    text = piece * (20_000 // len(piece)) + "x"
    before = time.process_time()
    CLEANER.clean(text)
    assert time.process_time() - before < 1


def test_it_is_told_what_has_changed_the_text() -> None:
    assert CLEANER.clean("<b>a</b> photo!!!! IMG_1234.jpg")[1] == ("html", "file", "repeated")
    assert CLEANER.clean("- a dog | <b></b>") == ("a dog", ("html", "edge"))
    assert TextCleaner(strip_html=False, patterns=()).clean("<b>a</b>  photo!!!!") == ("<b>a</b> photo!!!!", ())


def test_patterns_are_a_list_that_a_user_may_change() -> None:
    rules = {
        "irregular": [{"name": "stock", "find": r"\s*- stock photo$"}, {"name": "colour", "find": "colour", "replace": "color"}]
    }
    ruleset = Dataset(name="x", inputs=("a",), rules=rules).ruleset()
    cleaner = TextCleaner(ruleset.html, ruleset.irregular)
    assert cleaner.clean("a colour wheel!!!! - stock photo") == ("a color wheel!!!!", ("stock", "colour"))
    with pytest.raises(ConfigError, match=r"irregular.0.find: not a regular expression"):
        validate({"irregular": [{"name": "x", "find": "("}]}, type(ruleset), "config.yaml")
    assert all(isinstance(pattern, Pattern) and pattern.name for pattern in IRREGULAR)


def test_only_elements_of_html_are_tags() -> None:
    assert strip_html("<PERSON> <section>a</section><Foo>b</Foo> <3") == "<PERSON>  a <Foo>b</Foo> <3"
    assert strip_html("&notanentity; &copy; &#x41;&#66; &amp;lt;") == "&notanentity; © AB <"


def test_what_is_cut_off_within_a_comment_or_script_is_hidden_too() -> None:
    assert strip_html("a dog <!-- the rest of the pa") == strip_html("a dog <script>var a = 1;") == "a dog  "
    assert strip_html("a <!-- b --> c <!-- d") == "a   c  "


def test_words_count_han_characters_one_by_one() -> None:
    assert words("The cat's e-mail, 3.5 kg: 两只猫 iPhone手机") == [
        "The", "cat's", "e-mail", "3.5", "kg", "两", "只", "猫", "iPhone", "手", "机",
    ]  # fmt: skip
    assert [language_of(text) for text in ("a cat", "", "两只猫", "iPhone 15 手机壳", "the word 猫 means cat")] == [
        "en",
        "en",
        "zh",
        "zh",
        "en",
    ]
    assert compared("The CAT, “Ｔｏｍ”!") == compared("the cat tom")


def test_foreign_texts_are_told_apart_as_fast() -> None:
    """In a crawl of many languages most rows are dropped by `characters`, which names the scripts."""
    examiner = Examiner(Dataset(name="x", inputs=("a",)))
    texts = ["Красивая картинка с фигурами на стене", "美しい風景のテキスト写真集", "아름다운 풍경 사진과 텍스트"] * 300

    def seconds() -> float:
        before = time.process_time()
        for number, text in enumerate(texts):
            examiner.judge_text(text, Row(number))
        return time.process_time() - before

    assert len(texts) / min(seconds() for _ in range(3)) > 5_000


def test_ten_thousand_rows_a_second_go_through_the_text_rules() -> None:
    """Cleaning and all rules of text, on one core: the corpus of the slow test, faults and all."""
    examiner = Examiner(Dataset(name="x", inputs=("a",)))
    texts = [case.text for case in rows_of(WEB, 1000, seed=5)] * 3
    examiner.judge_text(texts[0], Row(0))

    def seconds() -> float:
        before = time.process_time()
        for number, text in enumerate(texts):
            examiner.judge_text(text, Row(number))
        return time.process_time() - before

    assert len(texts) / min(seconds() for _ in range(3)) > 10_000
