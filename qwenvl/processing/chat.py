"""The renderer: a Sample becomes ids, labels and the places of its visual tokens, in one pass, for training and for inference.

Two styles. `raw` is the paper's pre-training format (Box B of arXiv 2308.12966): parts one after another, no role names, every
answer ended by `<|endoftext|>`; base checkpoints are prompted so. `chat` is ChatML, `<|im_start|>role\n...<|im_end|>`, in one of
two ways. Qwen-VL's make_context (Qwen-VL/qwen_generation_utils.py, repository wangjl1993/extract_human_attri @ fc9525f) joins
turns by a newline, tokenises role and content apart, and numbers pictures. The chat_template of Qwen2-VL and Qwen2.5-VL
(`chat.joined_header`) writes one string: a newline ends every turn, the last one too, the role is tokenised with what follows it,
and pictures and videos are numbered, each kind on its own, where the caller asks.

Supervision is the paper's: the assistant's answer and the special token that ends it; never role names, questions or pictures.
The published finetune.py differs: it also supervises `<|im_start|>`, `<|im_end|>` and the newline after it of every turn, the
user's and the system's included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from qwenvl.families.spec import FamilySpec, Markup
from qwenvl.processing.markup_style import Piece, Special
from qwenvl.processing.regions import write_coordinates, write_parts
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.types import (
    IGNORE_INDEX,
    CoordinatesPart,
    ImagePart,
    Message,
    Part,
    QwenVLError,
    RegionPart,
    Sample,
    Style,
    TextPart,
    VideoPart,
    name_of,
)


class RenderError(QwenVLError, ValueError):
    """A conversation that has no rendering: empty, a misplaced system turn, a part that the model does not take."""


class PlaceholderError(QwenVLError, ValueError):
    """Placeholders in the ids and visual tokens of the pictures do not match."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The span of one picture or video in a rendered text: `count` placeholders `pad` between its tags."""

    count: int
    pad: str


@dataclass(slots=True)
class Rendered:
    """`input_ids` and `labels` of one length (T); `visual_slots`: the index of every placeholder, in order."""

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
    *,
    numbered: bool | None = None,
    frames: Sequence[tuple[int, int]] = (),
) -> Rendered:
    """Render a conversation.

    `visual_counts` holds the visual tokens of each picture and video, in order of the conversation; `frames`, where the markup
    writes pixels, the (width, height) that each is resized to. `for_generation` ends with what precedes the answer: the assistant's
    header in chat, nothing in raw; a last assistant message is then left open, to be continued. `numbered`: whether pictures and
    videos are numbered in chat, by default as the family's template does.
    Raises PlaceholderError, RenderError or RegionError, naming the sample.
    """
    where = name_of(sample.id)
    if not sample.messages:
        raise RenderError(f"{where}: no messages; give at least one")
    if any(message.role == "system" for message in sample.messages[1:]):
        raise RenderError(f"{where}: a system message must come first")
    if spec.image_tokens.video_pad is None and len(sample.images) < len(sample.visuals):
        raise RenderError(f"{where}: {spec.name} takes no VideoPart; give pictures instead")
    if len(visual_counts) != len(sample.visuals):
        what = "pictures" if len(sample.images) == len(sample.visuals) else "pictures and videos"
        raise PlaceholderError(f"{where}: {len(sample.visuals)} {what} but visual token counts for {len(visual_counts)}")
    if style not in ("raw", "chat"):
        raise RenderError(f"{where}: unknown style {style!r}; use 'raw' or 'chat'")
    writer = _Writer(tokenizer, spec, markup or Markup(), where, visual_counts, dict(enumerate(frames)))
    if style == "raw":
        _render_raw(writer, sample.messages, for_generation)
    else:
        writer.numbered = spec.chat.numbered if numbered is None else numbered
        writer.after_picture = spec.chat.after_picture
        _render_chat(writer, sample.messages, for_generation)
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
        answer = message.role == "assistant"
        # An answer is generated after its header and is never tokenised with it, not even as history: what a model reads back is
        # what it wrote. Only an answer that begins with a blank line gets other ids from the published template.
        joined = rules.joined_header and not answer
        if joined:
            writer.special(rules.turn_start)
        else:
            writer.turn_start(message.role)
        writer.parts(message.parts, supervised=answer, before=f"{message.role}\n" if joined else "")
        if answer and for_generation and message is messages[-1]:
            return
        writer.special(rules.turn_end, supervised=answer)
    if for_generation:
        writer.text("\n")
        writer.turn_start("assistant")
    elif rules.joined_header:
        writer.text("\n")


class _Writer:
    """Appends parts to a Rendered, counting the pictures and the videos of the conversation."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        spec: FamilySpec,
        markup: Markup,
        where: str,
        visual_counts: Sequence[int],
        frames: Mapping[int, tuple[int, int]],
    ) -> None:
        self.out = Rendered()
        self.spec = spec
        self.numbered = False
        self.after_picture = ""
        self._tokenizer = tokenizer
        self._markup = markup
        self._where = where
        self._visual_counts = iter(visual_counts)
        self._frames = frames
        self._seen: dict[type, int] = {ImagePart: 0, VideoPart: 0}

    def text(self, text: str, supervised: bool = False) -> None:
        self.out.add(self._tokenizer.encode(text), supervised)

    def special(self, name: str, supervised: bool = False) -> None:
        self.out.add([self._tokenizer.special(name)], supervised)

    def turn_start(self, role: str) -> None:
        self.special(self.spec.chat.turn_start)
        if self.spec.chat.joined_header:
            self.text(f"{role}\n")
        else:
            self.text(role)
            self.text("\n")

    def parts(self, parts: Sequence[Part], supervised: bool, before: str = "") -> None:
        """Neighbouring plain text is joined before it is tokenised: how a message is cut into parts does not show in the ids.

        `before` is text that the first of it is joined to.
        """
        plain = before
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
        for kind, group in groupby(parts, type):
            if kind is TextPart:
                pieces += [part.text for part in group if isinstance(part, TextPart)]
            elif kind is RegionPart:
                marked = [part for part in group if isinstance(part, RegionPart)]
                pieces += write_parts(marked, self._markup, self._frames, self._where)
            elif kind is CoordinatesPart:
                bare = [part for part in group if isinstance(part, CoordinatesPart)]
                pieces += [write_coordinates(part, self._markup, self._frames, self._where) for part in bare]
            elif kind in self._seen:
                for _ in group:
                    pieces += self._picture_pieces(kind)
            else:
                raise RenderError(f"{self._where}: {self.spec.name} takes no {kind.__name__}; give text, pictures or regions")
        return pieces

    def _picture_pieces(self, kind: type) -> list[Piece | Picture]:
        rules, tokens = self.spec.chat, self.spec.image_tokens
        pad = (tokens.video_pad or "") if kind is VideoPart else tokens.pad
        picture = Picture(next(self._visual_counts), pad)
        self._seen[kind] += 1
        number = rules.video if kind is VideoPart else rules.picture
        return [number.format(n=self._seen[kind]) if self.numbered else "", picture, self.after_picture]

    def _picture(self, picture: Picture) -> None:
        """Every placeholder is a pad token: the path bytes in Qwen-VL's published span do not reach the model's result."""
        tokens = self.spec.image_tokens
        self.special(tokens.start)
        first = len(self.out.input_ids)
        self.out.visual_slots += range(first, first + picture.count)
        self.out.add([self._tokenizer.special(picture.pad)] * picture.count)
        self.special(tokens.end)
