"""What the fixtures of data adapters become: question and answer of every Sample, as the published Qwen-VL writes them."""

from __future__ import annotations

CAPTIONED = "Generate the caption in English:| "
BOAT = "<box>(125,250),(625,750)</box>"
REFERRED = [
    f"<ref>boat in front</ref>|{BOAT}", f"<ref>This</ref>{BOAT}| is boat in front",
    f"<ref>small boat</ref>|{BOAT}", f"<ref>This</ref>{BOAT}| is small boat",
]  # fmt: skip
HANGER = "a wire hanger with a paper cover that reads thanks"
COVER, WIRE = "<box>(250,250),(750,750)</box>", "<box>(0,125),(999,999)</box>"

EXPECTED: dict[str, list[str]] = {
    "laion": [f"{CAPTIONED}A red kite over the bay", "用中文生成图片描述：|海边的红色风筝"],
    "laion_coco": [f"{CAPTIONED}a kite flies over the water"],
    "coyo": [f"{CAPTIONED}Wooden boat at the pier"],
    "datacomp": [f"{CAPTIONED}Blue enamel teapot, 1 litre"],
    "cc3m": [f"{CAPTIONED}a teapot on the table in the garden ."],
    "cc12m": [f"{CAPTIONED}<PERSON> pours tea in the garden"],
    "sbu": [f"{CAPTIONED}My cat in the green chair"],
    "coco_captions": [f"{CAPTIONED}Two plates of rice on a mat.", f"{CAPTIONED}Rice and beans for two."] * 2,
    "vqav2": [" What colour is the boat? Answer:| grey"],
    "gqa": [" Is the boat grey? Answer:| yes"],
    "vgqa": [" What stands on the table? Answer:| A teapot."],
    "ocr_vqa": [" Who wrote this book? Answer:| Ada Quill", " What is the title of this book? Answer:| Tea for Boats"],
    "docvqa": [" What is the total? Answer:| $12.50"],
    "textvqa": [" what is the brand of this kettle? Answer:| steam"],
    "dvqa": [" How many units did item tea sell? Answer:| 7"],
    "chartqa": [" Which bar is red? Answer:| Tea", " What was the value in 2018? Answer:| 4.2"],
    "ai2d": [
        "\nQuestion: What is A in the diagram?\nOptions: A. ears\nB. nose\nC. mouth\nD. face\nAnswer:| B",
        "\nQuestion: What do ears do?\nOptions: A. hear\nB. see\nAnswer:| A",
    ],
    "grit": [
        f"Generate the caption in English with grounding:| <ref>a wire hanger</ref>{WIRE} with "
        f"<ref>a paper cover that reads thanks</ref>{COVER}",
        f"<ref>{HANGER}</ref>|{WIRE}", f"<ref>This</ref>{WIRE}| is {HANGER}",
        f"<ref>a paper cover that reads thanks</ref>|{COVER}", f"<ref>This</ref>{COVER}| is a paper cover that reads thanks",
    ],
    "vg_regions": [
        "<ref>the lid of a teapot</ref>|<box>(250,250),(750,750)</box>",
        "<ref>This</ref><box>(250,250),(750,750)</box>| is the lid of a teapot",
        "<ref>a table</ref>|<box>(500,792),(999,999)</box>",  # as annotators draw: a pixel beyond the picture's edge
        "<ref>This</ref><box>(500,792),(999,999)</box>| is a table",
    ],
    "refcoco": REFERRED, "refcoco+": REFERRED, "refcocog": REFERRED,
    "synthdog": ["Read all the text in the image.|Tea keeps warm under a cosy", "读出图中的所有文字。|茶在壶中保温"],
}  # fmt: skip

WHEN = "Give the query: '{}', when does the described content occur in the video?|The given query happens in {} seconds."
MOVES = ("A square stands on the left", "It moves to the right")
EVENTS = (
    "Localize a series of activity events in the video, output the start and end timestamp for each event, and describe each event "
    "with sentences. Provide the result in json format with 'mm:ss.ff' format for time depiction.|```json\n[\n"
    f'\t{{"start_time": "00:00.00", "end_time": "00:00.80", "description": "{MOVES[0]}."}},\n'
    f'\t{{"start_time": "00:00.80", "end_time": "00:02.00", "description": "{MOVES[1]}."}}\n]\n```'
)
ELEMENT = ["<ref>{}</ref>|" + BOAT, "<ref>This</ref>" + BOAT + "| is {}"]
PAIR = ["What is in the picture?|A cat in a green chair."]


def steps(goal: str, *told: tuple[str, str]) -> list[str]:
    """Of (instruction, arguments): every step once for the goal and once more for its instruction, which the last may lack."""
    made = []
    for number, (instruction, _) in enumerate(told):
        *done, call = [f'{{"name": "mobile_use", "arguments": {{{arguments}}}}}' for _, arguments in told[: number + 1]]
        listed = "".join(f"Step {count}: {earlier}; " for count, earlier in enumerate(done, start=1))
        progress = f"Task progress (You have done the following operation on the current device): {listed}"
        for step in ("", f"Current step query: {instruction}\n") if instruction else ("",):
            made.append(f"The user query:  {goal}\n{step}{progress}|<tool_call>\n{call}\n</tool_call>")
    return made


EXPECTED |= {
    "text": ["Tea keeps warm under a cosy.", "茶在壶中保温。"],
    "text_files": ["The tide comes in.\n\nThe boats rise with it."],
    "c4": ["The kettle sings.\nThe tea is ready.", "A boat waits at the pier."],
    "dolma": ["Kites need wind."],
    "wudao": ["茶壶\n茶壶用来泡茶。", "船在码头。"],
    "sharegpt": ["Who are you?|A small model.|What does <image> mean?|A place for a picture.", "你好|你好！"],
    "llava": [
        "What stands on the table?|A teapot.|Which colour is it?|Blue.", "First:Second:What differs?|The light.",
        "Is tea warm?|Often.",
    ],
    "llava_video": ["Describe the video.|A blue square moves to the right."],
    "qwen_vl": [
        "你好|我是Qwen-VL,一个支持视觉输入的大模型。",
        f"Which animal is it?|A cat.|Frame <ref>the chair</ref>|<ref>the chair</ref>{BOAT}",
        "What do they show?|A cat, and a boat.",
    ],
    "qwen2_5_vl": [
        f"Locate the boat in this image and output the bbox coordinates in JSON format.|{COVER}",
        f"Locate all.|Here they are:\n<ref>boat</ref>{COVER}<ref>sea</ref><box>(0,500),(999,999)</box>",
        'Read it as JSON.|{"bbox_2d": [125, 125, 875, 250], "text_content": "Tea"}',
        "What are the differences?|The light.",
        "What moves?\nOptions:\n(A) A square\n(B) A circle|Answer: (A) A square",
    ],
    "rlhf_v": PAIR, "rlaif_v": PAIR, "trl": PAIR,
    "activitynet_qa": [" does the square move to the right Answer:| yes"],
    "nextqa": [
        "\nQuestion: how does the square move\nOptions: A. it turns\nB. it falls\nC. to the right\nD. to the left\nE. it waits\n"
        "Answer:| C"
    ],
    "charades_sta": [
        WHEN.format("person looks out of the window", "0.5 - 2.0"),
        WHEN.format("a person is putting a book on a shelf", "0.0 - 1.2"),
    ],
    "activitynet_captions": [EVENTS, WHEN.format(MOVES[0], "0.0 - 0.8"), WHEN.format(MOVES[1], "0.8 - 2.0")],
    "screenspot": [ELEMENT[0].format("open the settings")],
    "seeclick": [form.format(phrase) for phrase in ("Home", "go back") for form in ELEMENT],
    "os_atlas": [form.format("Close") for form in ELEMENT],
    "image_folder": [
        " What is the main object in the picture? Answer:| teapot", "图中的主要物体是什么？答案：|茶壶",
        " What is the main object in the picture? Answer:| sail boat",
    ],
    "wit": [" What is shown in the picture? Give its name. Answer:| Half Dome", "图中是什么？请说出名称。答案：|半圓頂"],
    "obelics": ["How to make tea in a pot.\nWarm the pot with hot water before the leaves go in."],
    "mmc4": ["Boats wait at the pier in the morning.\nA kite flies over the bay. In the evening they all come home."],
    "aitz": steps(
        'open app "Clock" (install if not already installed)',
        ("press the home button", '"action": "system_button", "button": "Home"'),
        ("scroll up", '"action": "swipe", "coordinate": [500, 750], "coordinate2": [500, 250]'),
        ("click on the Clock app", '"action": "click", "coordinate": [250, 500]'),
        ("stop and set the query as completed", '"action": "terminate", "status": "success"'),
    ),
    "android_control": steps(
        "Set an alarm for 7 am",
        ("Open the clock", '"action": "open", "text": "Clock"'),
        ("Tap alarm", '"action": "click", "coordinate": [250, 500]'),
        ("Scroll down", '"action": "swipe", "coordinate": [500, 500], "coordinate2": [500, 200]'),
        ("Type the time", '"action": "type", "text": "7 am"'),
        ("", '"action": "terminate", "status": "success"'),
    ),
}  # fmt: skip
