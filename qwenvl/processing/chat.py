"""The renderer: a Sample becomes ids, labels and the places of its visual tokens, in one pass, for training and for inference.

Two styles. `raw` is the paper's pre-training format (Box B of arXiv 2308.12966): parts one after another, no role names, every
answer ended by `<|endoftext|>`. `chat` is ChatML as the published make_context writes it (Qwen-VL/qwen_generation_utils.py,
repository wangjl1993/extract_human_attri @ fc9525f): `<|im_start|>role\n...<|im_end|>`, turns joined by a newline, role and
content tokenised apart.

Supervision is the paper's: the assistant's answer and the special token that ends it; never role names, questions or pictures.
The published finetune.py differs: it also supervises `<|im_start|>`, `<|im_end|>` and the newline after it of every turn, the
user's and the system's included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qwenvl.families.spec import FamilySpec, Markup
from qwenvl.processing.regions import Piece, Special, write_regions
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.types import IGNORE_INDEX, ImagePart, Message, Part, QwenVLError, RegionPart, Sample, Style, TextPart, name_of


class RenderError(QwenVLError, ValueError):
    """A conversation that has no rendering: empty, a misplaced system turn, a part that the model does not take."""


class PlaceholderError(QwenVLError, ValueError):
    """Placeholders in the ids and visual tokens of the pictures do not match."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The span of one picture in a rendered text: `count` placeholders between its tags."""

    count: int


@dataclass(slots=True)
class Rendered:
    """`input_ids` and `labels` of one length (T); `visual_slots`: the index of every placeholder, in order of the pictures."""

    input_ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    visual_slots: list[int] = field(default_factory=list)

    def add(self, ids: Sequence[int], supervised: bool = False) -> None:
        self.input_ids += ids
        self.labels += ids if supervised else [IGNORE_INDEX] * len(ids)


def render(
    sample: Sample,
    tokenizer: Tokenizer,
    spec: FamilySpec,
    style: Style,
    visual_counts: Sequence[int],
    for_generation: bool = False,
    markup: Markup | None = None,
) -> Rendered:
    """Render a conversation.

    `visual_counts` holds the visual tokens of each picture, in order. `for_generation` ends with what precedes the answer: the
    assistant's header in chat, nothing in raw; a last assistant message is then left open, to be continued.
    Raises PlaceholderError, RenderError or RegionError, naming the sample.
    """
    where = name_of(sample.id)
    if len(visual_counts) != len(sample.images):
        raise PlaceholderError(f"{where}: {len(sample.images)} pictures but visual token counts for {len(visual_counts)}")
    if not sample.messages:
        raise RenderError(f"{where}: no messages; give at least one")
    if any(message.role == "system" for message in sample.messages[1:]):
        raise RenderError(f"{where}: a system message must come first")
    writer = _Writer(tokenizer, spec, markup or Markup(), where, list(visual_counts), numbered=style == "chat")
    if style == "raw":
        _render_raw(writer, sample.messages, for_generation)
    elif style == "chat":
        _render_chat(writer, sample.messages, for_generation)
    else:
        raise RenderError(f"{where}: unknown style {style!r}; use 'raw' or 'chat'")
    return writer.out


def _render_raw(writer: _Writer, messages: Sequence[Message], for_generation: bool) -> None:
    for message in messages:
        answer = message.role == "assistant"
        writer.parts(message.parts, supervised=answer)
        if answer and not (for_generation and message is messages[-1]):
            writer.special(writer.spec.chat.document_end, supervised=True)


def _render_chat(writer: _Writer, messages: Sequence[Message], for_generation: bool) -> None:
    rules = writer.spec.chat
    if messages[0].role != "system":
        messages = (Message.of("system", rules.system), *messages)
    for number, message in enumerate(messages):
        if number:
            writer.text("\n")
        writer.turn_start(message.role)
        answer = message.role == "assistant"
        writer.parts(message.parts, supervised=answer)
        if answer and for_generation and message is messages[-1]:
            return
        writer.special(rules.turn_end, supervised=answer)
    if for_generation:
        writer.text("\n")
        writer.turn_start("assistant")


class _Writer:
    """Appends parts to a Rendered, counting the pictures of the conversation."""

    def __init__(
        self, tokenizer: Tokenizer, spec: FamilySpec, markup: Markup, where: str, visual_counts: list[int], numbered: bool
    ) -> None:
        self.out = Rendered()
        self.spec = spec
        self._tokenizer = tokenizer
        self._markup = markup
        self._where = where
        self._visual_counts = visual_counts
        self._numbered = numbered
        self._pictures = 0

    def text(self, text: str, supervised: bool = False) -> None:
        self.out.add(self._tokenizer.encode(text), supervised)

    def special(self, name: str, supervised: bool = False) -> None:
        self.out.add([self._tokenizer.special(name)], supervised)

    def turn_start(self, role: str) -> None:
        self.special(self.spec.chat.turn_start)
        self.text(role)
        self.text("\n")

    def parts(self, parts: Sequence[Part], supervised: bool) -> None:
        """Neighbouring plain text is joined before it is tokenised: how a message is cut into parts does not show in the ids."""
        plain = ""
        for piece in self._pieces(parts):
            if isinstance(piece, str):
                plain += piece
                continue
            self.text(plain, supervised)
            plain = ""
            if isinstance(piece, Special):
                self.special(piece.name, supervised)
            else:
                self._picture(piece)
        self.text(plain, supervised)

    def _pieces(self, parts: Sequence[Part]) -> list[Piece | Picture]:
        pieces: list[Piece | Picture] = []
        for part in parts:
            if isinstance(part, TextPart):
                pieces.append(part.text)
            elif isinstance(part, RegionPart):
                pieces += write_regions(part, self._markup, self._where)
            elif isinstance(part, ImagePart):
                pieces += self._picture_pieces()
            else:
                raise RenderError(f"{self._where}: {self.spec.name} takes no {type(part).__name__}; give pictures instead")
        return pieces

    def _picture_pieces(self) -> list[Piece | Picture]:
        picture = Picture(self._visual_counts[self._pictures])
        self._pictures += 1
        if not self._numbered:
            return [picture]
        rules = self.spec.chat
        return [rules.picture.format(n=self._pictures), picture, rules.after_picture]

    def _picture(self, picture: Picture) -> None:
        """Every placeholder is the pad token: the published path bytes in the span do not reach the model's result."""
        tokens = self.spec.image_tokens
        self.special(tokens.start)
        first = len(self.out.input_ids)
        self.out.visual_slots += range(first, first + picture.count)
        self.out.add([self._tokenizer.special(tokens.pad)] * picture.count)
        self.special(tokens.end)
