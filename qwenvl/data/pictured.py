"""Captions, places and lettering of one scene: the tasks whose formats the paper fixes (arXiv 2308.12966, Box B).

In raw style every task has the paper's one format; in chat style a question from phrases.yaml. Each builder returns `Turn`s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from qwenvl.data.formats import (
    CAPTION_PROMPT,
    GROUNDED_CAPTION_PROMPT,
    OCR_QUAD_PROMPT,
    REGION_IS,
    REGION_WORD,
    after_prompt,
    question_prompt,
)
from qwenvl.data.synth.names import COLOUR_NAMES, article
from qwenvl.data.wording import (
    Turn,
    Voice,
    a_thing,
    centre,
    fill,
    groups,
    listing,
    name,
    names_alone,
    names_by_position,
    numbers,
    opened,
    plain,
    quad_of,
    region_of,
    the,
    truth,
)
from qwenvl.types import Part, Region, RegionPart, TextPart

if TYPE_CHECKING:
    from qwenvl.data.synth.scene import Scene, Thing

# A few frames keep captions natural; the first is drawn most, so that greedy decoding has one form to settle on.
_FRAMES = {
    "en": (
        "{things} on {a_colour} background.",
        "there {is_are} {things} on {a_colour} background.",
        "{a_colour} background with {things}.",
    ),
    "zh": ("{colour}背景上有{things}。", "图中有{things}，背景是{colour}。", "{colour}的背景，上面有{things}。"),
}
_FIRST_FRAME = 0.6


def caption_frame(scene: Scene, voice: Voice) -> tuple[str, str]:
    """What stands before and after the list of things."""
    frames = _FRAMES[voice.language]
    frame = frames[0] if voice.happens(_FIRST_FRAME) else frames[1 + int(voice.rng.random() * (len(frames) - 1))]
    colour = COLOUR_NAMES[scene.background][voice.language]
    first = groups(scene)[0]
    verb = "are" if len(first.members) > 1 and first.kind != "text" else "is"
    frame = frame.replace("{a_colour}", f"{article(colour)} {colour}").replace("{colour}", colour).replace("{is_are}", verb)
    before, _, after = frame.partition("{things}")
    return before, after


def caption_text(scene: Scene, voice: Voice) -> str:
    """A sentence that names everything in the scene, from left to right, and the background."""
    before, after = caption_frame(scene, voice)
    return before + listing([group.phrase(voice.language) for group in groups(scene)], voice.language) + after


def caption(scene: Scene, voice: Voice) -> list[Turn]:
    if not scene.things:
        return []
    return [_captioned("caption", CAPTION_PROMPT, (TextPart(caption_text(scene, voice)),), scene, voice)]


def grounded_caption(scene: Scene, voice: Voice) -> list[Turn]:
    """The caption with every phrase followed by its boxes, several after one phrase for counted things."""
    if not scene.things:
        return []
    before, after = caption_frame(scene, voice)
    found = groups(scene)
    comma, last = voice.say(", ", "、"), voice.say(" and ", "和")
    parts: list[Part] = [TextPart(before)] if before else []
    for position, group in enumerate(found):
        if position:
            parts.append(TextPart(last if position == len(found) - 1 else comma))
        regions = tuple(region_of(scene, scene.things[index]) for index in group.members)
        parts.append(RegionPart(group.phrase(voice.language), regions))
    parts.append(TextPart(after))
    return [_captioned("grounded_caption", GROUNDED_CAPTION_PROMPT, tuple(parts), scene, voice)]


def _captioned(kind: str, prompts: dict[str, str], parts: tuple[Part, ...], scene: Scene, voice: Voice) -> Turn:
    asked, answer = _prompted(kind, prompts, parts, voice)
    things = []
    for group in groups(scene):
        regions = [numbers(region_of(scene, scene.things[index])) for index in group.members]
        things.append({**truth(group, voice.language), "regions": regions})
    extra = {"kind": kind, "question": asked.text, "answer": plain(answer), "things": things, "background": scene.background}
    return Turn((asked,), answer, extra)


def _prompted(kind: str, prompts: dict[str, str], parts: tuple[Part, ...], voice: Voice) -> tuple[TextPart, tuple[Part, ...]]:
    """The prompt, and the answer as the style begins it: after a space in raw English, with a capital in English chat."""
    if voice.style == "raw":
        return TextPart(prompts[voice.language]), after_prompt(parts, voice.language)
    first = parts[0]
    if isinstance(first, TextPart):
        parts = (TextPart(opened(first.text)), *parts[1:])
    elif isinstance(first, RegionPart) and first.phrase:
        parts = (RegionPart(opened(first.phrase), first.regions), *parts[1:])
    return TextPart(voice.phrasing(kind)), parts


# A phrase and its place; a place and its name.


def referring(scene: Scene, voice: Voice) -> list[Turn]:
    """Phrases that mean one thing of the picture, each with its box."""
    turns = []
    for index, thing in enumerate(scene.things):
        if thing.kind == "text":
            continue
        names = referring_phrases(scene, index, voice)
        if names:
            turns.append(_located("referring", voice.pick(names), index, thing, scene, voice))
    return voice.some(turns, len(turns))


def referring_phrases(scene: Scene, index: int, voice: Voice) -> list[str]:
    """Every phrase at hand that means this thing alone: its name if that is unique, or its place among alike things."""
    names = names_alone(scene, index, voice.language) + names_by_position(scene, index, voice.language)
    if scene.things[index].kind == "shape":
        names += names_by_position(scene, index, voice.language, ignore_colour=True)
    return names


def find_text(scene: Scene, voice: Voice) -> list[Turn]:
    """A string that stands once in the picture, with its box."""
    strings = [thing.name for thing in scene.things if thing.kind == "text"]
    found = [
        _located("find_text", the(name(thing, voice.language), voice.language), index, thing, scene, voice)
        for index, thing in enumerate(scene.things)
        if thing.kind == "text" and strings.count(thing.name) == 1
    ]
    return voice.some(found, len(found))


def _located(kind: str, phrase: str, index: int, thing: Thing, scene: Scene, voice: Voice) -> Turn:
    """Raw: "<ref>phrase</ref>", answered by the box. Chat: a question, answered by phrase and box."""
    region = region_of(scene, thing)
    if voice.style == "raw":
        question: tuple[Part, ...] = (RegionPart(phrase),)
        answer = RegionPart(None, (region,))
    else:
        template = voice.phrasing(kind)
        question = (TextPart(template.format(thing=phrase, text=thing.name)),)
        answer = RegionPart(phrase, (region,))
    extra = {
        "kind": kind, "question": plain(question), "answer": phrase, "phrase": phrase, "regions": [numbers(region)],
        "key": thing.name, "colour": thing.colour, "focus": index,
    }
    return Turn(question, (answer,), extra)


def point(scene: Scene, voice: Voice) -> list[Turn]:
    """A point on one thing, in the middle of its box: of shapes and emoji that is where they are. Raw: the question alone."""
    turns = []
    for index, thing in enumerate(scene.things):
        names = referring_phrases(scene, index, voice) if thing.kind != "text" else []
        if not names:
            continue
        phrase = voice.pick(names)
        asked = voice.phrasing("point").format(thing=phrase)
        place = Region("point", (centre(scene, thing),))
        raw = voice.style == "raw"
        question = TextPart(voice.say(f" {asked}", asked) if raw else asked)
        extra = {
            "kind": "point", "question": asked, "answer": phrase, "phrase": phrase, "key": thing.name, "colour": thing.colour,
            "regions": [numbers(region_of(scene, thing))], "focus": index,
        }
        turns.append(Turn((question,), (RegionPart(None if raw else phrase, (place,)),), extra))
    return voice.some(turns, len(turns))


def naming(scene: Scene, voice: Voice) -> list[Turn]:
    """What is in a box: raw as the paper's "<ref>This</ref><box>…</box> is …"."""
    return [_named(index, thing, scene, voice) for index, thing in voice.some(list(enumerate(scene.things)), len(scene.things))]


def _named(index: int, thing: Thing, scene: Scene, voice: Voice) -> Turn:
    region = region_of(scene, thing)
    called = a_thing(thing, voice.language)
    if voice.style == "raw":
        question: tuple[Part, ...] = (RegionPart(REGION_WORD[voice.language], (region,)),)
        answer = REGION_IS[voice.language] + called
    else:
        question = fill(voice.phrasing("naming"), RegionPart(None, (region,)))
        answer = voice.say(f"It is {called}.", f"是{called}。")
    extra = {
        "kind": "naming", "question": plain(question), "answer": answer.strip(), "value": thing.name, "colour": thing.colour,
        "phrase": called, "accept": [answer.strip(), called, name(thing, voice.language)],
        "regions": [numbers(region)], "focus": index,
    }
    return Turn(question, (TextPart(answer),), extra)


# Lettering.


def reading_order(scene: Scene) -> list[Thing]:
    """The texts line by line from the top, each line from the left.

    A text belongs to the line above it when their middles are nearer than half the smaller one's height.
    """
    texts = sorted((thing for thing in scene.things if thing.kind == "text"), key=lambda thing: thing.box[1] + thing.box[3])
    lines: list[list[Thing]] = []
    for thing in texts:
        middle, height = (thing.box[1] + thing.box[3]) / 2, thing.box[3] - thing.box[1]
        if lines:
            start = lines[-1][0].box
            if middle - (start[1] + start[3]) / 2 < min(height, start[3] - start[1]) / 2:
                lines[-1].append(thing)
                continue
        lines.append([thing])
    return [thing for line in lines for thing in sorted(line, key=lambda thing: thing.box[0])]


def ocr(scene: Scene, voice: Voice) -> list[Turn]:
    """The strings as they stand, joined by a comma, without quotes or a full stop that could be taken for a part of them."""
    texts = [thing.name for thing in reading_order(scene)]
    if not texts:
        return []
    asked, answer = voice.phrasing("ocr"), voice.say(", ", "，").join(texts)
    prompt = question_prompt(asked, voice.language) if voice.style == "raw" else asked
    reply = " " + answer if voice.style == "raw" and voice.language == "en" else answer
    extra = {"kind": "ocr", "question": asked, "answer": answer, "accept": [answer], "texts": texts}
    return [Turn((TextPart(prompt),), (TextPart(reply),), extra)]


def ocr_quad(scene: Scene, voice: Voice) -> list[Turn]:
    """Every string with its four corners."""
    things = reading_order(scene)
    if not things:
        return []
    quads: list[Region] = [quad_of(scene, thing) for thing in things]
    parts: Sequence[Part] = [RegionPart(thing.name, (quad,)) for thing, quad in zip(things, quads, strict=True)]
    if voice.style == "raw":
        asked = TextPart(OCR_QUAD_PROMPT[voice.language])
        answer = after_prompt(parts, voice.language)
    else:
        asked, answer = TextPart(voice.phrasing("ocr_quad")), tuple(parts)
    texts = [thing.name for thing in things]
    extra: dict[str, Any] = {"kind": "ocr_quad", "question": asked.text, "answer": plain(answer), "texts": texts}
    extra["quads"] = [numbers(quad) for quad in quads]
    return [Turn((asked,), answer, extra)]


PICTURED: dict[str, Callable[[Scene, Voice], list[Turn]]] = {
    "caption": caption,
    "grounded_caption": grounded_caption,
    "referring": referring,
    "naming": naming,
    "ocr": ocr,
    "ocr_quad": ocr_quad,
    "find_text": find_text,
}
