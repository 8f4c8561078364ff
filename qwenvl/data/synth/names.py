"""What the things of a scene are called: English and Chinese nouns, plurals, articles, counts and measure words.

Nouns come from the short names ("tts") of Unicode CLDR's annotations, read at run time from Debian's unicode-cldr-core
(licence Unicode-DFS-2016). Those names describe a picture character ("dog face", "red apple"), not a thing in a scene,
so that a table here overrides the ones that nobody would say. Keys are the same everywhere: an emoji's key is its English noun.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from qwenvl.types import QwenVLError

Language = Literal["en", "zh"]

CLDR_FOLDER = Path("/usr/share/unicode/cldr/common/annotations")
CLDR_PACKAGE = "unicode-cldr-core"

# Sixty classes that stay apart at 21 pixels. The order is frozen: a class id is a place in it.
EMOJI: dict[str, int] = {
    "dog": 0x1F436,
    "cat": 0x1F431,
    "rabbit": 0x1F430,
    "fox": 0x1F98A,
    "panda": 0x1F43C,
    "frog": 0x1F438,
    "pig": 0x1F437,
    "monkey": 0x1F435,
    "lion": 0x1F981,
    "penguin": 0x1F427,
    "owl": 0x1F989,
    "butterfly": 0x1F98B,
    "turtle": 0x1F422,
    "octopus": 0x1F419,
    "crab": 0x1F980,
    "fish": 0x1F41F,
    "whale": 0x1F433,
    "elephant": 0x1F418,
    "snail": 0x1F40C,
    "duck": 0x1F986,
    "apple": 0x1F34E,
    "banana": 0x1F34C,
    "watermelon": 0x1F349,
    "strawberry": 0x1F353,
    "lemon": 0x1F34B,
    "pineapple": 0x1F34D,
    "carrot": 0x1F955,
    "mushroom": 0x1F344,
    "pizza": 0x1F355,
    "hamburger": 0x1F354,
    "donut": 0x1F369,
    "cake": 0x1F382,
    "car": 0x1F697,
    "bus": 0x1F68C,
    "bicycle": 0x1F6B2,
    "airplane": 0x2708,
    "rocket": 0x1F680,
    "sailboat": 0x26F5,
    "tractor": 0x1F69C,
    "house": 0x1F3E0,
    "tent": 0x26FA,
    "cactus": 0x1F335,
    "tree": 0x1F333,
    "sunflower": 0x1F33B,
    "rose": 0x1F339,
    "moon": 0x1F319,
    "sun": 0x2600,
    "rainbow": 0x1F308,
    "snowman": 0x26C4,
    "umbrella": 0x2602,
    "soccer ball": 0x26BD,
    "basketball": 0x1F3C0,
    "guitar": 0x1F3B8,
    "gift": 0x1F381,
    "balloon": 0x1F388,
    "book": 0x1F4D5,
    "camera": 0x1F4F7,
    "key": 0x1F511,
    "clock": 0x23F0,
    "robot": 0x1F916,
}

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star")

# Colours of shapes, letters and backgrounds (8-bit sRGB), far enough apart to be named without doubt. The order is frozen.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "orange": (250, 135, 20),
    "yellow": (250, 220, 40),
    "green": (40, 160, 60),
    "blue": (35, 85, 215),
    "purple": (130, 50, 170),
    "pink": (250, 150, 190),
    "brown": (125, 75, 40),
    "black": (25, 25, 28),
    "white": (244, 244, 244),
}

COLOUR_NAMES: dict[str, dict[str, str]] = {
    "red": {"en": "red", "zh": "红色"},
    "orange": {"en": "orange", "zh": "橙色"},
    "yellow": {"en": "yellow", "zh": "黄色"},
    "green": {"en": "green", "zh": "绿色"},
    "blue": {"en": "blue", "zh": "蓝色"},
    "purple": {"en": "purple", "zh": "紫色"},
    "pink": {"en": "pink", "zh": "粉色"},
    "brown": {"en": "brown", "zh": "棕色"},
    "black": {"en": "black", "zh": "黑色"},
    "white": {"en": "white", "zh": "白色"},
}

_SHAPE_NAMES = {
    "circle": {"en": "circle", "zh": "圆形"},
    "square": {"en": "square", "zh": "正方形"},
    "triangle": {"en": "triangle", "zh": "三角形"},
    "star": {"en": "star", "zh": "星形"},
}

# CLDR names that nobody would use for a thing in a picture. What is absent here is taken from CLDR as it stands.
OVERRIDES: dict[str, dict[str, str]] = {
    "en": {
        "apple": "apple",
        "whale": "whale",
        "donut": "donut",
        "cake": "cake",
        "car": "car",
        "tree": "tree",
        "moon": "moon",
        "snowman": "snowman",
        "gift": "gift",
        "book": "book",
        "clock": "clock",
    },
    "zh": {
        "rabbit": "兔子",
        "monkey": "猴子",
        "pig": "猪",
        "turtle": "乌龟",
        "crab": "螃蟹",
        "whale": "鲸鱼",
        "apple": "苹果",
        "lemon": "柠檬",
        "cake": "蛋糕",
        "tree": "树",
        "moon": "月亮",
        "umbrella": "雨伞",
        "book": "书",
    },
}
_EN_SUFFIX = " face"
_ZH_SUFFIX = "脸"

_IRREGULAR_PLURALS = {"fish": "fish", "snowman": "snowmen", "octopus": "octopuses", "cactus": "cacti"}

# Chinese counts things with a measure word of their kind; 个 where nothing else is usual.
_MEASURE_WORDS = {
    "只": "dog cat rabbit fox panda frog monkey penguin owl butterfly turtle octopus crab snail duck",
    "头": "pig lion elephant whale",
    "条": "fish",
    "根": "banana carrot",
    "块": "watermelon pizza",
    "朵": "mushroom sunflower rose",
    "辆": "car bus bicycle tractor",
    "架": "airplane",
    "枚": "rocket",
    "艘": "sailboat",
    "座": "house",
    "顶": "tent",
    "棵": "cactus tree",
    "道": "rainbow",
    "把": "umbrella guitar key",
    "本": "book",
    "台": "camera",
}
_MEASURE_OF = {key: word for word, keys in _MEASURE_WORDS.items() for key in keys.split()}

_NUMBERS: dict[str, tuple[str, ...]] = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    # A count before a measure word: 两, not 二.
    "zh": ("零", "一", "两", "三", "四", "五", "六", "七", "八", "九", "十"),
}


class NamesError(QwenVLError, LookupError):
    """A name that cannot be given: CLDR is absent, or the key is unknown."""


@cache
def _cldr_names(language: Language) -> dict[str, str]:
    """Character -> short name, from CLDR's annotation file of that language."""
    path = CLDR_FOLDER / f"{language}.xml"
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise NamesError(f"{path}: names of things cannot be read ({error}); run: apt-get install {CLDR_PACKAGE}") from None
    return {node.get("cp", ""): node.text or "" for node in root.iter("annotation") if node.get("type") == "tts"}


@cache
def noun(key: str, language: Language) -> str:
    """The singular noun of an emoji or shape. Raises NamesError for an unknown key, or if CLDR is not installed."""
    if key in _SHAPE_NAMES:
        return _SHAPE_NAMES[key][language]
    if key not in EMOJI:
        raise NamesError(f"no thing is called {key!r}; see EMOJI and SHAPES in qwenvl.data.synth.names")
    if key in OVERRIDES[language]:
        return OVERRIDES[language][key]
    character = chr(EMOJI[key])
    try:
        name = _cldr_names(language)[character]
    except KeyError:
        where = CLDR_FOLDER / f"{language}.xml"
        raise NamesError(f"{where}: has no name for {key!r} (U+{EMOJI[key]:04X}); run: apt-get install {CLDR_PACKAGE}") from None
    return name.removesuffix(_EN_SUFFIX if language == "en" else _ZH_SUFFIX)


def plural(key: str) -> str:
    """The English plural of a thing's noun."""
    if key in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[key]
    name = noun(key, "en")
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def article(phrase: str) -> str:
    """The English indefinite article of a noun phrase: "a" or "an" by its first letter (no name here breaks that rule)."""
    return "an" if phrase[0].lower() in "aeio" or phrase.startswith("umbrella") else "a"


def measure_word(key: str) -> str:
    """The Chinese measure word that counts a thing."""
    return _MEASURE_OF.get(key, "个")


def number(n: int, language: Language) -> str:
    """A small count as a word; digits beyond ten. In Chinese the form that stands before a measure word (两)."""
    words = _NUMBERS[language]
    return words[n] if 0 <= n < len(words) else str(n)


def described(key: str, language: Language, colour: str | None = None) -> str:
    """The noun with its colour, if it has one: "red circle", "红色的圆形"."""
    if colour is None:
        return noun(key, language)
    joint = " " if language == "en" else "的"
    return COLOUR_NAMES[colour][language] + joint + noun(key, language)


def counted(key: str, n: int, language: Language, colour: str | None = None) -> str:
    """A count of things: "a dog", "two dogs", "an orange star" / "一只狗", "两只狗", "一个橙色的星形"."""
    if language == "zh":
        return number(n, "zh") + measure_word(key) + described(key, "zh", colour)
    if n == 1:
        phrase = described(key, "en", colour)
        return f"{article(phrase)} {phrase}"
    phrase = plural(key) if colour is None else f"{COLOUR_NAMES[colour]['en']} {plural(key)}"
    return f"{number(n, 'en')} {phrase}"


# Every Chinese character of the emoji's names, sorted: what scenes write in Chinese, and the order of its class ids. Frozen;
# a test compares it with the names, so that another CLDR cannot shift the labels in silence.
HAN = (
    "乌书交亮人他仙企伞兔公匙卜吉向器圈堡大太头子帆帐彩房披拉拖掌日月机果柠树檬气汉汽火熊牛物狐狗狮狸猪猫"
    "猴玫球瑰瓜甜相礼章箭篮篷糕胡自船苹草莓菇菠萝萨葵蕉蘑虹蛋蛙蜗蝴蝶螃蟹行西象足车钟钥闹阳雨雪青飞香鱼鲸"
    "鸭鹅鹰龟"
)
