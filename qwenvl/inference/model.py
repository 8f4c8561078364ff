"""QwenVL: a loaded model with its tokenizer and rules. `load` is the door to everything that uses a model.

    model = qwenvl.load("qwen-vl-nano-chat")
    question = [{"type": "image", "image": "photo.png"}, {"type": "text", "text": "Where is the dog?"}]
    reply = model.chat([{"role": "user", "content": question}])

Shape letters: T tokens, P patches, V visual tokens, n pictures.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from qwenvl.config import ModelConfig
from qwenvl.families.spec import FamilySpec, Markup
from qwenvl.inference.choice import apply_choice
from qwenvl.inference.features import window_tensors
from qwenvl.inference.reply import Reply, Usage
from qwenvl.inference.sampling import Constraint, GenerationOptions
from qwenvl.inference.session import Draft, Session, alpha_of, decode, run_model
from qwenvl.inference.text_stream import TextStream
from qwenvl.models.attention import PackedLayout
from qwenvl.models.packed import quantise_for_inference
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.encode import (
    PlaceholderError,
    Processor,
    ReadyPicture,
    VisualSpan,
    all_patches,
    assemble,
    check_context,
    ready_picture,
    visual_slots_of,
    visual_spans,
)
from qwenvl.processing.grid import frame_size, window_plan
from qwenvl.processing.messages import messages_to_sample
from qwenvl.processing.tokenizer import Tokenizer, TokenizerError
from qwenvl.processing.video import KeptClips, ready_video
from qwenvl.runtime import resolve_device, resolve_dtype
from qwenvl.types import Encoded, PixelScale, QwenVLError, Sample, Style, VideoPart
from qwenvl.weights.adapters import load_adapter
from qwenvl.weights.hub import resolve
from qwenvl.weights.io import load_model, read_config

Storage = Literal["float32", "bfloat16", "int8", "int4"]
MAX_NEW_TOKENS = 512  # generation_config.json of Qwen-VL and Qwen-VL-Chat
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "qwen.tiktoken")
# `chat_format` of the published generation_config.json -> how messages are rendered.
STYLES: dict[str, Style] = {"chatml": "chat", "raw": "raw"}


def load(
    name_or_path: str | Path, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None,
    quantize: Storage | None = None,
) -> QwenVL:  # fmt: skip
    """Load a built-in model by name, a folder, or a repository of the hub by its id.

    device: the first GPU if there is one, else the CPU. dtype: bfloat16 on a GPU; on the CPU what the
    file holds (int8 becomes float32). quantize: how the decoder's weights are kept in memory, where not in the dtype: int8 and int4
    compute in bfloat16 unless a dtype is given.
    Raises a QwenVLError that names the file and what to do.
    """
    folder = resolve(name_or_path)
    raw, _, spec = read_config(folder)
    device = resolve_device(device)
    dtype = dtype or ("bfloat16" if quantize in ("int8", "int4") else quantize)
    model = load_model(folder, device=device, dtype=resolve_dtype(dtype, device), packed=True)
    if quantize == "int8" or quantize == "int4":
        quantise_for_inference(model, quantize)
    apply_choice(model)
    tokenizer = Tokenizer.from_folder(folder) if any((folder / name).is_file() for name in TOKENIZER_FILES) else None
    return QwenVL(model, spec, spec.read_markup(raw), tokenizer, _generation_config(folder), str(name_or_path))


class QwenVL:
    """A model ready for use. Nothing of a call stays on it: two threads may use one.

    A checkpoint's style is its generation_config.json's `chat_format`: "chatml" renders turns (Qwen-VL-Chat), "raw" writes the
    messages one after the other without role names (Qwen-VL, the base), so that the caller's text is the whole prompt:
    "<picture> What is this? Answer:" has to be spelt out. Sampling settings in that file are not obeyed: greedy unless asked.
    """

    def __init__(
        self, model: VisionLanguageModel, spec: FamilySpec, markup: Markup,
        tokenizer: Tokenizer | None = None, generation_config: dict[str, Any] | None = None, name: str = "",
    ) -> None:  # fmt: skip
        self.model = model.eval()
        self.spec = spec
        self.markup = markup
        self.tokenizer = tokenizer
        self.generation_config = generation_config or {}
        self.name = name
        self.style: Style = STYLES.get(self.generation_config.get("chat_format", "chatml"), "chat")
        model.vision_tower.pixel_scale = PixelScale(spec.images.mean, spec.images.std)  # pictures come as pixels
        self.processor = _processor(model.config, spec, tokenizer, markup, name) if tokenizer is not None else None

    def with_adapter(self, folder: str | Path, name: str) -> QwenVL:
        """The model with a LoRA adapter in PEFT's files, under a name of its own. Both have the same weights in memory, but for
        those that the adapter brings; this one stays as it is. Raises WeightsError for files that are no adapter of it."""
        shared = {id(tensor): tensor for tensor in (*self.model.parameters(), *self.model.buffers())}
        adapted = copy.deepcopy(self.model, shared)
        load_adapter(adapted, folder)
        decoder, own = adapted.decoder, self.model.decoder
        if self.config.decoder.tie_word_embeddings and decoder.embed_tokens.weight is not own.embed_tokens.weight:
            decoder.lm_head = None  # one that was stored beside the embedding is not that of the adapter's embedding
        return QwenVL(adapted, self.spec, self.markup, self.tokenizer, self.generation_config, name)

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def device(self) -> torch.device:
        return self.model.decoder.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.decoder.embed_tokens.weight.dtype

    def need_processor(self) -> Processor:
        """What text calls work with. Raises QwenVLError for a folder without tokenizer."""
        if self.processor is None:
            wanted = " or ".join(TOKENIZER_FILES)
            raise QwenVLError(f"{self.name}: its folder has no tokenizer; put {wanted} there, or call logits() with token ids")
        return self.processor

    def encode(
        self, messages: Sample | Sequence[Any], style: Style | None = None, numbered: bool | None = None,
        kept: KeptClips | None = None,
    ) -> Encoded:  # fmt: skip
        """Messages in the OpenAI shape (or a Sample) as the model reads them.

        Ending with a user's message it is a prompt, ready for the answer; ending with the assistant's it is the whole
        conversation, with labels. numbered: whether pictures and videos are numbered in chat ("Picture 1: ", `add_vision_id` of
        the published template), by default as the family's template does. kept: clips of the conversation's earlier turns, which
        are then not read again. Raises QwenVLError for a folder without tokenizer.
        """
        processor = self.need_processor()
        sample = messages if isinstance(messages, Sample) else messages_to_sample(messages, self.markup)
        generating = not _answered(sample)
        return processor.encode(sample, style or self.style, for_generation=generating, numbered=numbered, kept=kept)

    def _prompt(
        self, messages: Sample | Sequence[Any], style: Style | None, numbered: bool | None, kept: KeptClips | None
    ) -> Encoded:
        """Messages to be answered. Raises QwenVLError where they are answered already."""
        sample = messages if isinstance(messages, Sample) else messages_to_sample(messages, self.markup)
        if _answered(sample):
            raise QwenVLError("messages: the last one is the assistant's; end with a user's message, which is to be answered")
        return self.encode(sample, style, numbered, kept)

    def forward(self, encoded: Encoded) -> Tensor:
        """Logits (T, vocab), float32, of one sequence without a cache; dynamic NTK and logn act beyond the trained length.

        Raises ContextError for more tokens than the context holds.
        """
        check_context(self.config, encoded, answering=False)
        branches = None if encoded.branch_ids is None else torch.from_numpy(encoded.branch_ids).to(self.device)
        layout = PackedLayout.of(torch.zeros(len(encoded), dtype=torch.long, device=self.device), branches)
        hidden = run_model(self.model, [encoded], [alpha_of(self.model, len(encoded))], layout)
        with torch.no_grad():
            return self.model.logits(hidden).float()

    def logits(
        self, input_ids: Any, images: Sequence[Any] = (), videos: Sequence[Any] = (),
        min_pixels: int | None = None, max_pixels: int | None = None, position_ids: Any = None,
    ) -> Tensor:  # fmt: skip
        """Logits (T, vocab), float32, from ids (T,) with placeholders in place, pictures and videos each in order. Needs no
        tokenizer.

        Between a picture's start and end ids stands its pad id as often as it has visual tokens, and a video's likewise; where
        every picture becomes the same square, anything of that length, such as the path bytes of the published tokenizer. A video
        is whatever VideoPart takes, or a VideoPart, which says how it is sampled.
        min_pixels and max_pixels bound the area of every picture and frame; they say nothing to a family of squares, and a
        VideoPart brings its own. position_ids (T,) or (3, T), by the family's rule if not given.
        Raises QwenVLError, one line: ids outside the vocabulary, spans that do not fit the pictures, more than the context holds.
        """
        if len(videos) and self.spec.videos is None:
            raise QwenVLError(f"{self.spec.name} takes no video ({len(videos)} given); pass its frames as pictures")
        ids = _ids(input_ids)
        if not len(ids):
            raise QwenVLError("input_ids is empty: give at least one token id")
        if ids.min() < 0 or ids.max() >= self.config.decoder.vocab_size:
            last = self.config.decoder.vocab_size - 1
            raise QwenVLError(f"input_ids run from {ids.min()} to {ids.max()}, but the model's vocabulary from 0 to {last}")
        pictures, clips = self._ready(images, min_pixels, max_pixels), self._ready_clips(videos, min_pixels, max_pixels)
        visuals = _in_order(visual_spans(ids, self.config), pictures, clips)
        slots = visual_slots_of(ids, self.config, [self.spec.visual_tokens(self.config, visual.grid) for visual in visuals])
        positions = None if position_ids is None else _positions(position_ids, len(ids))
        return self.forward(assemble(self.config, self.spec, ids, slots, visuals, position_ids=positions))

    def visual(
        self, images: Sequence[Any] = (), min_pixels: int | None = None, max_pixels: int | None = None, videos: Sequence[Any] = ()
    ) -> Tensor:
        """Visual tokens (V, hidden), in the model's dtype, of pictures, then of videos: what stands at their placeholders in the
        decoder.

        Videos and pixel bounds as in `logits`. Raises ImageError for what is no picture, VideoError for what is no video or where
        the family takes none, QwenVLError for none at all.
        """
        pictures = self._ready(images, min_pixels, max_pixels) + self._ready_clips(videos, min_pixels, max_pixels)
        if not pictures:
            raise QwenVLError("no pictures given: visual() needs at least one")
        patches = torch.from_numpy(all_patches(self.config, pictures)).to(self.device)
        grids = np.array([picture.grid for picture in pictures], dtype=np.int64)
        windows = window_tensors(window_plan(grids, self.config.vision), self.device)
        with torch.no_grad():
            return self.model.visual(patches, torch.from_numpy(grids), windows=windows)

    def chat(
        self, messages: Sample | Sequence[Any], style: Style | None = None, options: GenerationOptions | None = None,
        numbered: bool | None = None, kept: KeptClips | None = None, **changes: Any,
    ) -> Reply:  # fmt: skip
        """The answer to messages that end with the user's. `numbered` and `kept` as in `encode`; other keywords are the fields of
        GenerationOptions.

        Raises QwenVLError, one line: no tokenizer, a bad message, picture or option, more tokens than the context holds.
        """
        return self.generate([self._prompt(messages, style, numbered, kept)], options, **changes)[0]

    def stream(
        self, messages: Sample | Sequence[Any], style: Style | None = None, options: GenerationOptions | None = None,
        numbered: bool | None = None, kept: KeptClips | None = None, **changes: Any,
    ) -> Iterator[str | Reply]:  # fmt: skip
        """Like chat, yielding the text in chunks as it comes, never half a character, and the Reply as the last item."""
        chosen = GenerationOptions.of(options, **changes)
        encoded = self._prompt(messages, style, numbered, kept)
        session, drafts = self._start([encoded], chosen)

        def chunks() -> Iterator[str | Reply]:
            for _, piece in decode(session, drafts):
                if piece.text:
                    yield piece.text
            yield self.reply(encoded, drafts[0])

        return chunks()  # so that bad messages and options raise here, not at the first next()

    def generate(self, prompts: Sequence[Encoded], options: GenerationOptions | None = None, **changes: Any) -> list[Reply]:
        """Answers to a batch of prompts, decoded together; each is what it would be alone (greedy in float32: token for token).

        Works without a tokenizer: then Reply.tokens holds the answer and its text is empty.
        """
        if not prompts:
            return []
        session, drafts = self._start(prompts, GenerationOptions.of(options, **changes))
        for _ in decode(session, drafts):
            pass
        return [self.reply(encoded, draft) for encoded, draft in zip(prompts, drafts)]

    def _start(self, prompts: Sequence[Encoded], options: GenerationOptions) -> tuple[Session, list[Draft]]:
        drafts = [self.draft(encoded, options) for encoded in prompts]
        return Session(self.model, prompts, room=max(draft.limit for draft in drafts)), drafts

    def draft(
        self, prompt: Encoded, options: GenerationOptions, constraint: Constraint | None = None, logprobs: int | None = None
    ) -> Draft:
        """An answer to begin, with its limit and the ids that end it. Raises ContextError for a prompt that leaves it no room,
        QwenVLError for stop strings without a tokenizer."""
        check_context(self.config, prompt, answering=True)
        if options.stop and self.tokenizer is None:
            raise QwenVLError(f"{self.name}: stop strings need a tokenizer, which its folder does not have")
        wanted = options.max_new_tokens or self.generation_config.get("max_new_tokens") or MAX_NEW_TOKENS
        limit = min(wanted, self.config.decoder.max_position_embeddings - len(prompt))
        text = np.delete(prompt.input_ids, prompt.visual_slots).tolist()
        stream = TextStream(self._shown_bytes, options.stop) if self.tokenizer else None
        return Draft(options, limit, self.stop_ids, text, stream, constraint, logprobs)

    def reply(self, encoded: Encoded, draft: Draft, cached_tokens: int = 0) -> Reply:
        """The answer that a draft has become."""
        text = draft.stream.text.strip() if draft.stream else ""
        return Reply.read(
            text,
            self.markup,
            frames=[frame_size(grid, self.config.vision.patch_size) for grid in encoded.grids.tolist()],
            image_sizes=encoded.image_sizes,
            usage=Usage(len(encoded), len(draft.tokens), len(encoded.visual_slots), cached_tokens),
            finish_reason=draft.finish_reason or "stop",
            tokens=draft.tokens,
            video=bool((encoded.input_ids[encoded.visual_slots] == self.config.video_pad_id).any()),
        )

    def _shown_bytes(self, token: int) -> bytes:
        """A token's bytes; of the special ones only the markup of places is part of a text."""
        assert self.tokenizer is not None
        shown = self.tokenizer.id_to_bytes(token)
        markup = (*self.markup.ref, *self.markup.box, *self.markup.quad)
        return b"" if self.tokenizer.is_special(token) and shown.decode() not in markup else shown

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ends of a turn and of a document, and what the checkpoint's own generation_config.json names."""
        stated = self.generation_config.get("eos_token_id")
        ids = set(stated if isinstance(stated, list) else [] if stated is None else [stated])
        if self.tokenizer is not None:
            rules = self.spec.chat
            ids |= {self.tokenizer.special(name) for name in (rules.turn_start, rules.turn_end, rules.document_end)}
        return frozenset(ids)

    def _ready(self, images: Sequence[Any], min_pixels: int | None, max_pixels: int | None) -> list[ReadyPicture]:
        """Pictures as patches. Raises QwenVLError for a single one, which is easily given instead of a list of one."""
        _check_list(images, "images", "pictures")
        how = (min_pixels, max_pixels, True)
        return [ready_picture(self.config, self.spec, image, f"picture {n}", *how) for n, image in enumerate(images, start=1)]

    def _ready_clips(self, videos: Sequence[Any], min_pixels: int | None, max_pixels: int | None) -> list[ReadyPicture]:
        """Videos as patches; a VideoPart keeps its own pixel bounds."""
        _check_list(videos, "videos", "videos")
        parts = [
            video if isinstance(video, VideoPart) else VideoPart(video, min_pixels=min_pixels, max_pixels=max_pixels)
            for video in videos
        ]
        return [ready_video(self.config, self.spec, part, f"video {n}", pixels=True) for n, part in enumerate(parts, start=1)]


def _processor(config: ModelConfig, spec: FamilySpec, tokenizer: Tokenizer, markup: Markup, name: str) -> Processor:
    """The Processor of a model. Raises TokenizerError naming the model where its tokenizer is another model's."""
    try:
        return Processor(config, spec, tokenizer, markup, pixels=True)
    except TokenizerError as error:
        raise TokenizerError(f"{name}: {error}") from None


def _answered(sample: Sample) -> bool:
    return bool(sample.messages) and sample.messages[-1].role == "assistant"


def _check_list(values: Any, name: str, noun: str) -> None:
    if not isinstance(values, Sequence) or isinstance(values, str | bytes | bytearray | memoryview):
        raise QwenVLError(f"{name}: give a list of {noun}, not one {type(values).__name__}")


def _in_order(
    spans: Sequence[VisualSpan], pictures: Sequence[ReadyPicture], clips: Sequence[ReadyPicture]
) -> list[ReadyPicture]:
    """Pictures and videos in the order of their spans in the text. Raises PlaceholderError where their numbers differ."""
    moving = sum(span.is_video for span in spans)
    for kind, noun, found, given in (("image", "picture", len(spans) - moving, pictures), ("video", "video", moving, clips)):
        if found != len(given):
            span, ending = "span" if found == 1 else "spans", "" if len(given) == 1 else "s"
            raise PlaceholderError(f"input_ids: {found} {kind} {span} in the text but {len(given)} {noun}{ending}")
    still, moved = iter(pictures), iter(clips)
    return [next(moved if span.is_video else still) for span in spans]


def _ids(input_ids: Any) -> np.ndarray:
    """Ids (T,) int64 from a list, an array or a tensor of whole numbers, (T,) or (1, T). Raises QwenVLError for others."""
    ids = np.asarray(input_ids.cpu() if isinstance(input_ids, torch.Tensor) else input_ids)
    ids = ids[0] if ids.ndim == 2 and len(ids) == 1 else ids
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise QwenVLError(f"input_ids: give one sequence of whole numbers (T,), not {ids.dtype} of shape {ids.shape}")
    return ids.astype(np.int64)


def _positions(position_ids: Any, length: int) -> np.ndarray:
    """Positions (3, T) int64 from (T,) or (3, T). Raises QwenVLError for another shape, and for what is not counted from 0."""
    positions = np.asarray(position_ids.cpu() if isinstance(position_ids, torch.Tensor) else position_ids)
    if positions.shape not in ((length,), (3, length)) or positions.dtype.kind not in "iu" or positions.min() < 0:
        raise QwenVLError(
            f"position_ids: give whole numbers from 0, ({length},) or (3, {length}), not {positions.dtype} {positions.shape}"
        )
    return np.broadcast_to(positions, (3, length)).astype(np.int64)


def _generation_config(folder: Path) -> dict[str, Any]:
    """generation_config.json, {} where there is none. Raises QwenVLError if it cannot be read."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise QwenVLError(f"{path}: not valid JSON ({error}); mend or remove it") from None
    if not isinstance(raw, dict) or raw.get("chat_format", "chatml") not in tuple(STYLES):
        raise QwenVLError(f"{path}: chat_format must be one of {', '.join(STYLES)}")
    limit, ends = raw.get("max_new_tokens", MAX_NEW_TOKENS), raw.get("eos_token_id") or []
    if not isinstance(limit, int) or limit < 1:
        raise QwenVLError(f"{path}: max_new_tokens is {limit!r}; write a whole number of 1 or more")
    if not all(isinstance(end, int) for end in (ends if isinstance(ends, list) else [ends])):
        raise QwenVLError(f"{path}: eos_token_id is {ends!r}; write a token id or a list of them")
    return raw
