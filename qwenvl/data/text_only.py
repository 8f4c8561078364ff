"""Text without a picture: descriptions, questions about them, numbers, words in two languages; in chat also small talk.

Descriptions are of scenes that were never drawn: the decoder meets the language of captions, and the logic of left and right,
how many and which colour, before it has to see anything.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Literal

from qwenvl.data.answers import colour_choices
from qwenvl.data.pictured import caption_text
from qwenvl.data.synth.names import COLOUR_NAMES, COLOURS, EMOJI, SHAPES, described, noun
from qwenvl.data.vqa import VQA, Ask
from qwenvl.data.vqa import question as vqa_question
from qwenvl.data.wording import Turn, Voice, a_thing, is_there_phrase, listing, opened
from qwenvl.types import TextPart

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from qwenvl.data.synth.scene import Scene, Thing

Kind = Literal["emoji", "shape", "text"]

SIDE = 112
_GRID = 4

# What everyone knows about the colours of things in the list of names.
FACTS = {
    "banana": "yellow", "lemon": "yellow", "strawberry": "red", "carrot": "orange", "frog": "green", "pig": "pink",
    "tree": "green", "cactus": "green", "sunflower": "yellow", "snowman": "white", "crab": "red",
    "basketball": "orange", "turtle": "green", "whale": "blue", "fox": "orange",
}
OPPOSITES = (
    (("left", "right"), ("左", "右")), (("above", "below"), ("上", "下")), (("big", "small"), ("大", "小")),
    (("long", "short"), ("长", "短")), (("hot", "cold"), ("热", "冷")), (("black", "white"), ("黑", "白")),
    (("day", "night"), ("白天", "黑夜")), (("fast", "slow"), ("快", "慢")), (("new", "old"), ("新", "旧")),
)
# Tasks that a list of things in a row or column can answer.
_LISTED = ("what", "count", "yes_no")
_SMALL_TALK = {
    "greeting": ("Hello! Show me a picture and ask me about it.", "你好！给我一张图片，问我吧。"),
    "identity": (
        "I am a small Qwen-VL. I answer questions about simple pictures.",
        "我是一个小型的Qwen-VL，可以回答关于简单图片的问题。",
    ),
    "thanks": ("You are welcome!", "不客气！"),
}


@cache
def _blank() -> Image.Image:
    from PIL import Image

    return Image.new("RGB", (SIDE, SIDE))


def imaginary_scene(rng: np.random.Generator, arrangement: str = "free", text_share: float = 0.3) -> Scene:
    """A scene that is known but not drawn, of one to four things: on cells of a grid ("free"), in a "row" or in a "column"."""
    from qwenvl.data.synth.scene import Scene, Thing

    count = 1 + int(rng.random() * 4) if arrangement == "free" else 2 + int(rng.random() * 3)
    cells = rng.permutation(_GRID * _GRID)[:count] if arrangement == "free" else range(count)
    things: list[Thing] = []
    for place, cell in enumerate(cells):
        kind, name, colour = _imagined(rng, things, text_share if place == 0 else 0.0)
        cell_width = SIDE / (count if arrangement == "row" else _GRID)
        cell_height = SIDE / (count if arrangement == "column" else _GRID)
        column = int(cell) % _GRID if arrangement == "free" else place if arrangement == "row" else 1
        line = int(cell) // _GRID if arrangement == "free" else place if arrangement == "column" else 1
        shrink = 0.7 + 0.25 * rng.random()
        left, top = (column + (1 - shrink) / 2) * cell_width, (line + (1 - shrink) / 2) * cell_height
        right, bottom = left + shrink * cell_width, top + shrink * cell_height
        quad = ((left, top), (right, top), (right, bottom), (left, bottom))
        things.append(Thing(kind, name, colour, (left, top, right, bottom), quad, 0))
    return Scene(_blank(), tuple(things), _pick(rng, tuple(COLOURS)), 0, 0)


def _imagined(rng: np.random.Generator, before: list[Thing], text_share: float) -> tuple[Kind, str, str | None]:
    """Kind, name and colour of a thing; now and then one that is there already, so that there is something to count."""
    if rng.random() < text_share:
        return "text", _imagined_string(rng), None
    if before and before[-1].kind != "text" and rng.random() < 0.25:
        return before[-1].kind, before[-1].name, before[-1].colour
    if rng.random() < 0.3:
        return "shape", _pick(rng, SHAPES), _pick(rng, tuple(COLOURS))
    return "emoji", _pick(rng, tuple(EMOJI)), None


def _imagined_string(rng: np.random.Generator) -> str:
    if rng.random() < 0.3:
        return noun(_pick(rng, tuple(EMOJI)), "zh") if rng.random() < 0.5 else noun(_pick(rng, tuple(EMOJI)), "en").upper()
    letters = string.digits if rng.random() < 0.4 else string.ascii_uppercase + string.digits
    return "".join(_pick(rng, letters) for _ in range(2 + int(rng.random() * 4)))


def _pick(rng: np.random.Generator, items: tuple[str, ...] | str) -> str:
    return items[int(rng.random() * len(items))]


def text(voice: Voice) -> Turn:
    """One piece of text: in raw style a sentence on its own or a question with its answer, in chat always a question."""
    share = voice.rng.random()
    if voice.style == "raw" and share < 0.3:
        return _sentence(voice)
    if share < 0.65:
        return _described(voice)
    return voice.pick(_SMALL if voice.style == "chat" and voice.happens(0.3) else _QUESTIONS)(voice)


def _asked(kind: str, question: str, short: str, long: str, voice: Voice, **extra: object) -> Turn:
    """Raw: "{Q} Answer:" as for questions about pictures, without the space that stands after a picture."""
    if voice.style == "chat":
        prompt, answer = question, long
    else:
        prompt, answer = voice.say(f"{question} Answer:", f"{question}答案："), voice.say(" ", "") + short
    truth = {"kind": kind, "question": question, "answer": answer.strip(), "accept": [short, long], "value": short, **extra}
    return Turn((TextPart(prompt),), (TextPart(answer),), truth)


def _simple(kind: str, answer: str, voice: Voice, **slots: object) -> Turn:
    """A question whose chat answer is the same words as a sentence."""
    finished = answer.endswith((".", "!", "。", "！"))
    long = answer if finished else opened(answer) + voice.say(".", "。")
    return _asked(kind, voice.phrasing(kind).format(**slots), answer, long, voice)


def _sentence(voice: Voice) -> Turn:
    """A description alone: nothing is asked, everything is learnt."""
    said = _description(voice)[0]
    return Turn((), (TextPart(said),), {"kind": "sentence", "question": "", "answer": said})


def _description(voice: Voice) -> tuple[str, Scene, tuple[str, ...]]:
    """A description, its scene, and the tasks that can be asked about it."""
    share = voice.rng.random()
    if share < 0.5:
        scene = imaginary_scene(voice.rng)
        return opened(caption_text(scene, voice)), scene, ("count", "colour", "yes_no")
    arrangement = "row" if share < 0.75 else "column"
    scene = imaginary_scene(voice.rng, arrangement, text_share=0.0)
    things = listing([a_thing(thing, voice.language) for thing in scene.things], voice.language)
    if arrangement == "row":
        return voice.say(f"From left to right: {things}.", f"从左到右：{things}。"), scene, (*_LISTED, "left_right")
    return voice.say(f"From top to bottom: {things}.", f"从上到下：{things}。"), scene, (*_LISTED, "above_below")


def _described(voice: Voice) -> Turn:
    """A description and a question that it answers."""
    while True:
        said, scene, tasks = _description(voice)
        asks: list[Ask] = VQA[voice.pick(tasks)](scene, voice)
        if asks:
            break
    ask = voice.pick(asks)
    question = voice.phrasing("described").format(description=said, question=vqa_question(ask, voice))
    return _asked("described", question, ask.short, ask.long, voice, choices=ask.choices)


def _sum(voice: Voice) -> Turn:
    a, b = int(voice.rng.random() * 10), int(voice.rng.random() * 10)
    return _simple("sum", str(a + b), voice, a=a, b=b)


def _difference(voice: Voice) -> Turn:
    a, b = sorted((int(voice.rng.random() * 10), int(voice.rng.random() * 10)), reverse=True)
    return _simple("difference", str(a - b), voice, a=a, b=b)


def _next_number(voice: Voice) -> Turn:
    a = int(voice.rng.random() * 20)
    return _simple("next_number", str(a + 1), voice, a=a)


def _translate(voice: Voice) -> Turn:
    """A noun, or a colour with a shape, into the other language."""
    share, colour = voice.rng.random(), None
    key = voice.pick(tuple(EMOJI))
    if share < 0.3:
        key, colour = voice.pick(SHAPES), voice.pick(tuple(COLOURS)) if share < 0.2 else None
    english, chinese = described(key, "en", colour), described(key, "zh", colour)
    word, answer = (english, chinese) if voice.language == "en" else (chinese, english)
    # The answer is a word of the other language: neither a capital nor a full stop belongs to it.
    return _asked("translate", voice.phrasing("translate").format(word=word), answer, answer, voice)


def _opposite(voice: Voice) -> Turn:
    english, chinese = voice.pick(OPPOSITES)
    pair = english if voice.language == "en" else chinese
    word, answer = pair if voice.happens(0.5) else pair[::-1]
    return _simple("opposite", answer, voice, word=word)


def _spell(voice: Voice) -> Turn:
    """The letters of a word or of a random string, one by one, as they have to be read in a picture."""
    word = noun(voice.pick(tuple(EMOJI)), "en").upper() if voice.happens(0.4) else _imagined_string(voice.rng)
    answer = " ".join(word.replace(" ", ""))
    return _asked("spell", voice.phrasing("spell").format(word=word), answer, answer, voice)


def _fact_colour(voice: Voice) -> Turn:
    key = voice.pick(tuple(FACTS))
    word = COLOUR_NAMES[FACTS[key]][voice.language]
    phrase = is_there_phrase(key, None, voice.language)
    question = voice.phrasing("fact_colour").format(thing=phrase, a_thing=phrase)
    long = voice.say(f"It is {word}.", f"是{word}。")
    return _asked("fact_colour", question, word, long, voice, choices=colour_choices(voice.language))


def _talk(kind: str) -> Callable[[Voice], Turn]:
    return lambda voice: _simple(kind, voice.say(*_SMALL_TALK[kind]), voice)


# Twice as often: what helps most in pictures, words in both languages and letters one by one.
_QUESTIONS: tuple[Callable[[Voice], Turn], ...] = (
    _sum, _difference, _next_number, _translate, _translate, _opposite, _spell, _spell, _fact_colour,
)  # fmt: skip
_SMALL: tuple[Callable[[Voice], Turn], ...] = tuple(_talk(kind) for kind in _SMALL_TALK)
