"""What a model is told at each step: the cookbook's words and the paper's, in the frame of the model that reads them."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from qwenvl.agent.actions import ActionError, Button, Swipe, Tap, Terminate, Type
from qwenvl.agent.dialogue import Past, ToolDialogue
from qwenvl.agent.keywords import PHONE_KEYWORDS, KeywordDialogue, write_keyword
from qwenvl.agent.model import LoadedModel, Said, ScriptedModel, sides
from qwenvl.agent.reading import TOOLS
from qwenvl.data.formats import phone_step
from qwenvl.families import find_preset
from qwenvl.families.spec import Markup
from qwenvl.processing.actions import COMPUTER, PHONE
from qwenvl.processing.regions import parts_text
from qwenvl.processing.tools import ToolCall, write_call
from qwenvl.types import ImagePart, Message, Region

SCREEN = Image.new("RGB", (412, 915))
PIXELS = ScriptedModel([], find_preset("qwen2.5-vl-nano").markup, lambda wide, high: (420, 924))
TAGS = ScriptedModel([], Markup())
KEYWORDS = KeywordDialogue("keywords", PHONE_KEYWORDS)


def text(messages: tuple[Message, ...], model: ScriptedModel = PIXELS) -> str:
    frames = dict.fromkeys(range(9), model.frame(SCREEN.size))
    return "".join(f"<{one.role}>" + parts_text(one.parts, model.markup, frames, "<image>") for one in messages)


def past(dialogue: Any, *answers: str, model: ScriptedModel = PIXELS, note: str = "") -> list[Past]:
    steps: list[Past] = []
    for answer in answers:
        steps.append(Past(SCREEN, answer, dialogue.read(Said(answer), steps, SCREEN.size, model), note))
    return steps


def test_the_phone_is_asked_as_it_was_trained() -> None:
    """As data/formats.py writes it, which follows cookbooks/mobile_agent.ipynb of QwenLM/Qwen3-VL @ 8cdcb85."""
    dialogue = ToolDialogue(TOOLS[PHONE])
    call = ToolCall(PHONE, {"action": "click", "coordinate": [210, 462]})
    told = dialogue.messages("Set an alarm", past(dialogue, f"I tap.\n{write_call(call)}"), SCREEN, PIXELS)
    known = ToolCall(PHONE, {"action": "click", "coordinate": Region("point", ((0.5, 0.5),))})
    assert text(told) == text(phone_step(SCREEN, "Set an alarm", [known], known)[:2])
    assert text(told[1:]) == (
        "<user>The user query:  Set an alarm\nTask progress (You have done the following operation on the current device): "
        'Step 1: {"name": "mobile_use", "arguments": {"action": "click", "coordinate": [210, 462]}}; <image>'
    )
    assert "The screen's resolution is 420x924." in text(told)


def test_only_the_latest_screen_is_shown_by_tools() -> None:
    dialogue = ToolDialogue(TOOLS[COMPUTER])
    steps = past(dialogue, *[write_call(ToolCall(COMPUTER, {"action": "wait", "time": 1}))] * 3)
    told = dialogue.messages("x", steps, SCREEN, PIXELS)
    assert text(told).count("<image>") == 1 and "Step 3: " in text(told)


def test_what_went_wrong_is_told() -> None:
    dialogue = ToolDialogue(TOOLS[COMPUTER])
    [good] = past(dialogue, write_call(ToolCall(COMPUTER, {"action": "wait"})), note="the page said 'Hello'")
    bad = Past(SCREEN, "well", None, "not done: the answer makes no call")
    told = text(dialogue.messages("x", [good, bad], SCREEN, PIXELS))
    assert '"wait"}} [the page said \'Hello\']; Step 2: [not done: the answer makes no call]; ' in told


def test_each_model_counts_in_its_own_frame() -> None:
    call = write_call(ToolCall(PHONE, {"action": "click", "coordinate": [210, 462]}))
    dialogue = ToolDialogue(TOOLS[PHONE])
    assert sides(PIXELS, SCREEN.size) == (420, 924) and sides(TAGS, SCREEN.size) == (1000, 1000)
    assert dialogue.read(Said(call), [], SCREEN.size, PIXELS).action == Tap((0.5, 0.5))
    assert dialogue.read(Said(call), [], SCREEN.size, TAGS).action == Tap((0.21, 0.462))
    assert "resolution is 999x999" in text(dialogue.messages("x", [], SCREEN, TAGS), TAGS)


def test_keywords_are_told_as_the_paper_prints_them() -> None:
    """The box "Visual Agent" in section 2.2.1 of arXiv 2409.12191, with both of its actions."""
    two = KeywordDialogue("two", {name: PHONE_KEYWORDS[name] for name in ("Tap", "Home")})
    expected = """\
You are a helpful assistant.
# Actions
## You have the following actions.
### Tap
Tap: A gentle tap that commands, chooses, or navigates through a smartphone’s user interface. Parameters: [{"name": "point", \
"description": "The specific spot of interest on the monitor, denoted by the coordinates (x, y) where x and y range from 0 to \
1000.", "required": True}]
### Home
Home: Go to phone’s home screen. Parameters: []
## Continuously take action until the task is completed.
*FUNCTION*: The action to take, should be one of Tap, Home.
*ARGS*: The input of the action.
*RESULT*: Action results.
*RETURN*: Reply based on action results."""
    assert two.system == expected
    assert "should be one of Tap, Home, Back, Swipe, Input, Enter, Wait." in KEYWORDS.system


def test_a_task_is_one_turn_as_in_the_paper() -> None:
    thought = "Several e-mails are displaying on the phone screen. To open Map, I need go back to the home screen."
    steps = past(KEYWORDS, write_keyword("Home", thought), ": I return. " + write_keyword("Tap", point=(348, 291)))
    told = text(KEYWORDS.messages("Find a pizza restaurant nearby in Map.", steps, SCREEN, PIXELS)[1:])
    assert told == (
        f"<user>Find a pizza restaurant nearby in Map. <image><assistant>{thought} *FUNCTION*: Home *ARGS*: {{}}\n"
        '*RESULT*: <image>\n*RETURN*: I return. *FUNCTION*: Tap *ARGS*: {"point": (348,291)}\n*RESULT*: <image>\n*RETURN*'
    )


def test_what_cannot_continue_gets_turns() -> None:
    class Remote(ScriptedModel):
        continues = False

    steps = past(KEYWORDS, write_keyword("Home"), write_keyword("Tap", point=(348, 291)), note="not done: no")
    told = KEYWORDS.messages("x", steps, SCREEN, Remote([]))
    assert [one.role for one in told] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert text(told[-2:]) == '<assistant>*FUNCTION*: Tap *ARGS*: {"point": (348,291)}<user>*RESULT*: not done: no <image>'


def test_old_screens_are_left_out() -> None:
    few = KeywordDialogue("few", PHONE_KEYWORDS, kept=2)
    told = few.messages("x", past(few, *[write_keyword("Home")] * 5), SCREEN, PIXELS)
    assert sum(isinstance(part, ImagePart) for one in told for part in one.parts) == 2
    assert text(told).endswith("*RESULT*: <image>\n*RETURN*") and "*RESULT*: \n*RETURN*" in text(told)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('*FUNCTION*: Tap *ARGS*: {"point": (250,500)}', Tap((0.25, 0.5))),
        (': I see.\n*FUNCTION*: tap\n*ARGS*: {"point": (250, 500)}\n', Tap((0.25, 0.5))),
        ('*FUNCTION*: Tap\n*ARGS*: {"point": [250, 500]}', Tap((0.25, 0.5))),
        ('*FUNCTION*: Tap *ARGS*: {"point": <box>(250,500)</box>}', Tap((0.25, 0.5))),
        ('*FUNCTION*: Tap *ARGS*: {"point": (250,500),(350,700)}', None),
        ('*FUNCTION*: Swipe *ARGS*: {"start": (0,0), "end": (1000,1000)}', Swipe((0, 0), (1, 1))),
        ('*FUNCTION*: Input *ARGS*: {"text": "at (1, 2)"}', Type("at (1, 2)")),
        ("*FUNCTION*: Home *ARGS*: {}", Button("Home")),
        ("*FUNCTION*: Home", Button("Home")),
        ("*FUNCTION*: Home *ARGS*: {} *RESULT*: {", Button("Home")),
        ("*FUNCTION*: Tap *ARGS*: {}", None),
        ("*FUNCTION*: Fly *ARGS*: {}", None),
        ("*FUNCTION*: Tap *ARGS*: here", None),
        ("", None),
        ("I have found it.", Terminate(True, "I have found it.")),
    ],
)
def test_keywords_are_read(answer: str, expected: Any) -> None:
    before = past(KEYWORDS, write_keyword("Home"))
    for model in (TAGS, PIXELS):  # the paper's words count to 1000 whatever the markup
        if expected is None:
            with pytest.raises(ActionError):
                KEYWORDS.read(Said(answer), before, SCREEN.size, model)
        elif "<box>" not in answer or model is TAGS:
            assert KEYWORDS.read(Said(answer), before, SCREEN.size, model).action == expected


@pytest.mark.parametrize("cut", [False, True])
def test_words_alone_do_not_end_a_task_that_has_not_begun(cut: bool) -> None:
    with pytest.raises(ActionError, match="too long" if cut else "no action"):
        KEYWORDS.read(Said("It is done.", cut), [], SCREEN.size, TAGS)
    with pytest.raises(ActionError, match="too long"):
        KEYWORDS.read(Said("It is", True), past(KEYWORDS, write_keyword("Home")), SCREEN.size, TAGS)


def test_a_loaded_model_goes_on_with_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the built-in model: the prompt ends in *RETURN*, and its screen is the smaller one that was asked for."""
    from qwenvl.inference.model import load

    loaded = load("qwen2-vl-nano-chat")
    model = LoadedModel(loaded, max_pixels=20000, max_new_tokens=2)
    seen: list[Any] = []
    generate = loaded.generate

    def watched(prompts: Any, **options: Any) -> Any:
        seen.extend(prompts)
        assert options["stop"] == KEYWORDS.stop
        return generate(prompts, **options)

    monkeypatch.setattr(loaded, "generate", watched)
    short = KeywordDialogue("short", {"Home": PHONE_KEYWORDS["Home"]})
    said = model.answer(short.messages("x", past(short, write_keyword("Home"), model=TAGS), SCREEN, model), short.stop)
    tokenizer = loaded.need_processor().tokenizer
    assert tokenizer.decode(seen[0].input_ids[-30:].tolist()).endswith("\n*RETURN*")
    wide, high = model.frame(SCREEN.size)
    assert wide * high <= 20000 and said.prompt_tokens == len(seen[0]) and len(seen[0].image_sizes) == 2
