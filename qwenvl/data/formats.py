"""Prompts and answers of training tasks as messages: pure functions from a picture and its truth to a question and its answer.

Where a prompt is published it stands here to the letter with its source; the others, and every Chinese one not said otherwise, are
ours. Places are RegionParts: how they are written is up to the family.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qwenvl.data.synth.names import Language
from qwenvl.data.wording import fill, phrasebook
from qwenvl.processing.actions import call_parts, json_parts, phone_system
from qwenvl.processing.tools import ToolCall
from qwenvl.types import ImagePart, Message, Part, Region, RegionPart, TextPart, VideoPart

# Multi-task training: Box B of arXiv 2308.12966, which shows no Chinese.
CAPTION_PROMPT = {"en": "Generate the caption in English:", "zh": "用中文生成图片描述："}
GROUNDED_CAPTION_PROMPT = {"en": "Generate the caption in English with grounding:", "zh": "用中文生成带定位的图片描述："}
OCR_QUAD_PROMPT = {"en": "OCR with grounding:", "zh": "文字识别与定位："}
OCR_WORDS_PROMPT = {"en": "OCR with grounding of every word:", "zh": "逐词文字识别与定位："}  # ours, as are the next three
OCR_LINE_WORDS_PROMPT = {"en": "OCR with grounding of every word in {box}:", "zh": "对{box}逐词文字识别与定位："}
READ_PLACE_PROMPT = {"en": "Read the text in {box}.", "zh": "读出{box}中的文字。"}
READING_ORDER_PROMPT = {"en": "In which order are these lines read?", "zh": "这些文字行的阅读顺序是什么？"}
QUESTION_PROMPT = {"en": " {question} Answer:", "zh": "{question}答案："}
REGION_WORD = {"en": "This", "zh": "这"}
REGION_IS = {"en": " is ", "zh": "是"}

# English: eval_mm/seed_bench/eval.py of QwenLM/Qwen-VL @ aa00ed0; options are lines of "A. ...", the answer is a letter.
OPTIONS_PROMPT = {"en": "\nQuestion: {question}\nOptions: {options}\nAnswer:", "zh": "\n问题：{question}\n选项：{options}\n答案："}

# "Extract the key-value information in the format:{...}" and 提取图中的：[...] are the OCR cookbook's of QwenLM/Qwen2.5-VL
# (2025-02-10, cookbooks/ocr.ipynb), as are the two prompts below.
KEY_VALUE_PROMPT = {
    "en": "Extract the key-value information in the format:{keys}",
    "zh": "提取图中的：{keys}，并且按照json格式输出。",
}
READ_PROMPT = {"en": "Read all the text in the image.", "zh": "读出图中的所有文字。"}
# The document parsing cookbook's of the same repository (document_parsing.ipynb), as is the English prompt with its blank.
PARSE_SYSTEM = (
    "You are an AI specialized in recognizing and extracting text from images. Your mission is to analyze the image document and "
    "generate the result in QwenVL Document Parser HTML format using specified tags while maintaining user privacy and data "
    "integrity."
)
PARSE_PROMPT = {"en": "QwenVL HTML ", "zh": "用QwenVL HTML格式解析图片。"}
SPOT_PROMPT = {
    "en": "Spotting all the text in the image with line-level, and output in JSON format.",
    "zh": "定位图中的每一行文字，并以JSON格式输出。",
}

# Video grounding: "The given query happens in 64.0 - 72.0 seconds." and the dense prompt are the video cookbook's of
# QwenLM/Qwen2.5-VL (2025-02-10, cookbooks/video_understanding.ipynb), as is the first phrasing of `clip_query`.
WHEN_ANSWER = {"en": "The given query happens in {span}.", "zh": "所述内容发生在{span}。"}
EVENTS_PROMPT = {
    "en": "Localize a series of activity events in the video, output the start and end timestamp for each event, and describe each "
    "event with sentences. Provide the result in json format with 'mm:ss.ff' format for time depiction.",
    "zh": "找出视频中的一系列活动事件，给出每个事件的开始和结束时间，并用句子描述每个事件。以json格式输出，时间写成'mm:ss.ff'。",
}

# The agent cookbook's (see processing/actions.py); the line for one step: guieval/models/qwen2_5_vl.py of
# xiaomi-research/guievalkit @ 5f42b14. Steps are parted by ";" and a space.
PHONE_GOAL = "The user query:  {goal}\n"
PHONE_STEP = "Current step query: {instruction}\n"
PHONE_PROGRESS = "Task progress (You have done the following operation on the current device): "


def exchange(picture: Any, question: str | Sequence[Part], answer: str | Sequence[Part]) -> tuple[Message, ...]:
    """One question about one picture or clip (a VideoPart), and its answer."""
    asked, said = ([TextPart(side)] if isinstance(side, str) else side for side in (question, answer))
    shown = picture if isinstance(picture, VideoPart) else ImagePart(picture)
    return (Message("user", (shown, *asked)), Message("assistant", tuple(said)))


def after_prompt(answer: str | Sequence[Part], language: Language) -> tuple[Part, ...]:
    """An answer that goes on from its prompt, in Box B: in English after a space."""
    parts = [TextPart(answer)] if isinstance(answer, str) else answer
    return (TextPart(" "), *parts) if language == "en" else tuple(parts)


def caption(picture: Any, text: str, language: Language) -> tuple[Message, ...]:
    """Image Captioning of Box B."""
    return exchange(picture, CAPTION_PROMPT[language], after_prompt(text, language))


def grounded_caption(picture: Any, caption: Sequence[Part], language: Language) -> tuple[Message, ...]:
    """Caption with Grounding of Box B: the phrases of the caption that have places are RegionParts."""
    return exchange(picture, GROUNDED_CAPTION_PROMPT[language], after_prompt(caption, language))


def question_prompt(question: str, language: Language) -> str:
    return QUESTION_PROMPT[language].format(question=question)


def vqa(picture: Any, question: str, answer: str, language: Language) -> tuple[Message, ...]:
    """Vision Question Answering and OCR VQA of Box B, which have one format."""
    return exchange(picture, question_prompt(question, language), after_prompt(answer, language))


def multiple_choice(picture: Any, question: str, options: Sequence[str], answer: int, language: Language) -> tuple[Message, ...]:
    """A question with at most 26 options, of which `answer` (from 0) is right."""
    lines = "\n".join(f"{chr(ord('A') + number)}. {option}" for number, option in enumerate(options))
    prompt = OPTIONS_PROMPT[language].format(question=question, options=lines)
    return exchange(picture, prompt, after_prompt(chr(ord("A") + answer), language))


def referring(picture: Any, phrase: str, regions: Sequence[Region]) -> tuple[Message, ...]:
    """Referring Grounding of Box B: the marked phrase is asked, its places are the answer."""
    return exchange(picture, (RegionPart(phrase),), (RegionPart(None, tuple(regions)),))


def naming(picture: Any, region: Region, description: str, language: Language) -> tuple[Message, ...]:
    """Grounded Captioning of Box B: "This", with its place, "is ..."."""
    return exchange(picture, (RegionPart(REGION_WORD[language], (region,)),), REGION_IS[language] + description)


def ocr_quad(picture: Any, lines: Sequence[tuple[str, Region]], language: Language) -> tuple[Message, ...]:
    """OCR of Box B: every line with its quad."""
    parts = [RegionPart(text, (region,)) for text, region in lines]
    return exchange(picture, OCR_QUAD_PROMPT[language], after_prompt(parts, language))


def ocr_words(picture: Any, words: Sequence[tuple[str, Region]], language: Language) -> tuple[Message, ...]:
    """Every word with its quad."""
    parts = [RegionPart(text, (region,)) for text, region in words]
    return exchange(picture, OCR_WORDS_PROMPT[language], after_prompt(parts, language))


def ocr_line_words(picture: Any, line: Region, words: Sequence[tuple[str, Region]], language: Language) -> tuple[Message, ...]:
    """Every word of one line with its quad."""
    asked = fill(OCR_LINE_WORDS_PROMPT[language], RegionPart(None, (line,)))
    return exchange(picture, asked, after_prompt([RegionPart(text, (region,)) for text, region in words], language))


def read_place(picture: Any, place: Region, text: str, language: Language) -> tuple[Message, ...]:
    """What is written in a place."""
    return exchange(picture, fill(READ_PLACE_PROMPT[language], RegionPart(None, (place,))), text)


def reading_order(picture: Any, places: Sequence[Region], order: Sequence[int], language: Language) -> tuple[Message, ...]:
    """Places of lines, numbered from 1, and their numbers in the order of reading."""
    asked: list[Part] = [TextPart(READING_ORDER_PROMPT[language])]
    for number, place in enumerate(places, start=1):
        asked += [TextPart(f" {number}. "), RegionPart(None, (place,))]
    return exchange(picture, asked, ", ".join(map(str, order)))


def json_text(value: Any) -> str:
    """A value as the published models answer JSON: in a fence, Chinese as it is, every member or item on a line of its own."""
    if isinstance(value, Mapping):
        lines, ends = [f"{_line(key)}: {_line(member)}" for key, member in value.items()], "{}"
    elif isinstance(value, list):
        lines, ends = [_line(item) for item in value], "[]"
    else:
        return f"```json\n{_line(value)}\n```"
    return "```json\n" + ends[0] + "\n\t" + ",\n\t".join(lines) + "\n" + ends[1] + "\n```"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def key_values(picture: Any, values: Mapping[str, Any], language: Language) -> tuple[Message, ...]:
    """Key-value extraction: the keys are asked for (in English with empty values, in Chinese as a list), the JSON is the answer."""
    if language == "en":
        keys = json.dumps({key: emptied(value) for key, value in values.items()}, ensure_ascii=False)
    else:
        keys = "[" + ",".join(f"'{key}'" for key in values) + "]"
    return exchange(picture, KEY_VALUE_PROMPT[language].replace("{keys}", keys), json_text(values))


def emptied(value: Any) -> Any:
    """A JSON value's form without what it says: texts are empty, a list keeps one item as the pattern of all."""
    if isinstance(value, Mapping):
        return {key: emptied(member) for key, member in value.items()}
    if isinstance(value, list):
        return [emptied(item) for item in value[:1]]
    return ""


def read_text(picture: Any, text: str, language: Language) -> tuple[Message, ...]:
    """All text of a picture, without places."""
    return exchange(picture, READ_PROMPT[language], text)


def spot_text(picture: Any, lines: Sequence[tuple[str, Region]], language: Language) -> tuple[Message, ...]:
    """Every line of text with its place."""
    return exchange(picture, SPOT_PROMPT[language], [RegionPart(text, (region,)) for text, region in lines])


def parse_document(picture: Any, document: Sequence[Part], language: Language) -> tuple[Message, ...]:
    """Document parsing to QwenVL HTML: `document` is what data/documents/qwenvl_html writes."""
    return (Message.of("system", PARSE_SYSTEM), *exchange(picture, PARSE_PROMPT[language], document))


def time_span(start: float, end: float, language: Language) -> str:
    return f"{start:.1f} - {end:.1f}" + (" seconds" if language == "en" else "秒")


def when(video: VideoPart, query: str, start: float, end: float, language: Language) -> tuple[Message, ...]:
    """When what is queried happens, in seconds from the beginning of the clip."""
    prompt = phrasebook()["clip_query"][language][0].format(event=query)
    return exchange(video, prompt, WHEN_ANSWER[language].format(span=time_span(start, end, language)))


def clock(seconds: float) -> str:
    """mm:ss.ff; minutes go on after an hour."""
    hundredths = round(seconds * 100)
    return f"{hundredths // 6000:02d}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}"


def events(video: VideoPart, spans: Sequence[tuple[float, float, str]], language: Language) -> tuple[Message, ...]:
    """Dense video description: every (start, end, description), in seconds."""
    return exchange(video, EVENTS_PROMPT[language], events_text(spans))


def events_text(spans: Sequence[tuple[float, float, str]]) -> str:
    """The answer of dense video description."""
    return json_text([{"start_time": clock(start), "end_time": clock(end), "description": text} for start, end, text in spans])


def phone_trajectory(goal: str, steps: Sequence[tuple[Any, ToolCall]]) -> tuple[Message, ...]:
    """A whole task on a phone as one conversation: the goal and the first screen, the call made on it, the next screen, ...

    `steps` are screens with their calls, whose regions lie in picture 0. That screens follow each other as turns is ours; the
    published prompt tells of earlier steps as text (`phone_step`).
    """
    messages: list[Message] = [phone_system()]
    for number, (screen, call) in enumerate(steps):
        said = (TextPart(PHONE_GOAL.format(goal=goal)),) if number == 0 else ()
        places = {key: replace(value, image=number) for key, value in call.arguments.items() if isinstance(value, Region)}
        made = replace(call, arguments=call.arguments | places)
        messages += [Message("user", (*said, ImagePart(screen))), Message("assistant", call_parts(made))]
    return tuple(messages)


def phone_step(
    screen: Any, goal: str, done: Sequence[ToolCall], call: ToolCall, instruction: str | None = None
) -> tuple[Message, ...]:
    """The next call on a phone, after those that were `done`, towards a goal; `instruction` tells what this one step is to do."""
    step = PHONE_STEP.format(instruction=instruction) if instruction else ""
    asked: list[Part] = [TextPart(PHONE_GOAL.format(goal=goal) + step + PHONE_PROGRESS)]
    for number, earlier in enumerate(done, start=1):
        asked += [TextPart(f"Step {number}: "), *json_parts(earlier), TextPart("; ")]
    return (phone_system(), Message("user", (*asked, ImagePart(screen))), Message("assistant", call_parts(call)))
