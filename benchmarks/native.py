"""Pictures at native resolution, against transformers' Qwen2-VL and Qwen2.5-VL: a picture's patches, tower and merger, the first
token of an answer, and the tokens that follow.

Both sides have the same weights, so their outputs are compared too. Positions and the order of windows are worked out inside the
measured calls, on both sides. The peer's image processor is the one of PIL, which needs no torchvision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.decode import STEPS, OurSteps, TheirSteps, relative_difference
from benchmarks.harness import Case, Run
from qwenvl.config import ModelConfig
from qwenvl.families import get_family
from qwenvl.inference.features import window_tensors
from qwenvl.inference.session import Session
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.encode import ready_picture
from qwenvl.processing.grid import window_plan
from qwenvl.processing.positions import next_position, positions_of
from qwenvl.types import Encoded
from qwenvl.weights.maps import hub_name, name_table

FAMILIES = ("qwen2_vl", "qwen2_5_vl")
ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}


@dataclass(frozen=True)
class Size:
    """A member of both families: heads of the decoder are 128 wide and those of the tower 80, as the published ones."""

    hidden: int
    heads: int
    intermediate: int
    layers: int
    width: int
    depth: int
    vision_intermediate: int
    full_blocks: tuple[int, ...]
    vocabulary: int
    square: int
    """Patches along the side of the one picture."""
    pictures: tuple[tuple[int, int], ...]
    """(width, height) in pixels of those that are made into patches."""

    @property
    def special(self) -> list[int]:
        """Ids of start, end and the two pads: the last of the vocabulary."""
        return list(range(self.vocabulary - 4, self.vocabulary))


MID_SIZE = Size(
    hidden=896, heads=7, intermediate=3584, layers=8, width=640, depth=8, vision_intermediate=1712, full_blocks=(3, 7),
    vocabulary=32000, square=32, pictures=((1024, 768), (448, 448), (1920, 1080)),
)  # fmt: skip
MIXED = ((1, 18, 32), (1, 40, 12), (1, 10, 10), (1, 24, 24))
WORDS = 34
BOUNDS = (4 * 784, 16384 * 784)
"""Smallest and largest area of the published preprocessor_config.json; the class of the peer has others."""


def cases(quick: bool, size: Size = MID_SIZE) -> Iterator[Case]:
    for picture in size.pictures[:1] if quick else size.pictures:
        yield of_processing(*picture)
    for family in FAMILIES:
        model, peer = build_pair(family, size)
        side, grids = size.square * 14, ((1, size.square, size.square),)
        yield of_tower(f"visual tokens, {family}, {side} px", model, peer, grids)
        if not quick:
            yield of_tower(f"visual tokens, {family}, four sizes together", model, peer, MIXED)
            yield of_first_token(f"first token after a {side} px picture and {WORDS} tokens, {family}", model, peer, size)
            yield of_decoding(f"decode after a {side} px picture and {WORDS} tokens, {family}", model, peer, size)


def of_processing(width: int, height: int) -> Case:
    """A PIL picture to the patches of Qwen2.5-VL; Qwen2-VL's are the same."""
    spec = get_family("qwen2_5_vl")
    config, peer, picture = spec.presets[0].config, build_processor(), noise(width, height)

    def ours() -> Tensor:
        return torch.from_numpy(ready_picture(config, spec, picture, "picture", *BOUNDS).patches)

    def theirs() -> Tensor:
        return torch.from_numpy(peer(picture, return_tensors="np")["pixel_values"])

    return compare(f"picture of {width} x {height} to patches", "picture", ours, theirs, units=1)


def of_tower(name: str, model: VisionLanguageModel, peer: Any, grids: tuple[tuple[int, int, int], ...]) -> Case:
    table = np.array(grids, dtype=np.int64)
    patches, theirs_grids = random_patches(model.config, table), torch.from_numpy(table)

    @torch.inference_mode()
    def ours() -> Tensor:
        windows = window_tensors(window_plan(table, model.config.vision), patches.device)
        return model.visual(patches, theirs_grids, windows=windows)

    @torch.inference_mode()
    def theirs() -> Tensor:
        return peer.model.visual(patches, grid_thw=theirs_grids).pooler_output

    return compare(name, "picture", ours, theirs, units=len(grids))


def of_first_token(name: str, model: VisionLanguageModel, peer: Any, size: Size) -> Case:
    """From a picture in memory and ids to the logits of the first token, which is then chosen. The peer's `generate` is not used,
    whose further work would count against it."""
    picture, processor = noise(size.square * 14, size.square * 14), build_processor()
    spec, ids = get_family(model.config.family), prompt_ids(size)

    def ours() -> Tensor:
        ready = ready_picture(model.config, spec, picture, "picture", *BOUNDS)
        logits = Session(model, [encode(model.config, ids, ready.patches, ready.grid)], room=1).prefill()[0]
        int(logits.argmax())
        return logits

    @torch.inference_mode()
    def theirs() -> Tensor:
        seen = processor(picture, return_tensors="pt")
        peer.model.rope_deltas = None
        given = their_inputs(model.config, ids, seen["pixel_values"], seen["image_grid_thw"])
        logits = peer(**given, use_cache=True, logits_to_keep=1).logits[0, -1]
        int(logits.argmax())
        return logits

    return compare(name, "answer", ours, theirs, units=1)


def of_decoding(name: str, model: VisionLanguageModel, peer: Any, size: Size) -> Case:
    ids, grid = prompt_ids(size), (1, size.square, size.square)
    patches = random_patches(model.config, np.array([grid]))
    encoded = encode(model.config, ids, patches.numpy(), grid)
    words = ids[-WORDS:].tolist()
    peer.model.rope_deltas = None
    given = their_inputs(model.config, ids, patches, torch.tensor([grid]))
    ours = OurSteps(model, encoded, words)
    theirs = TheirSteps(peer, given, words, next_position(encoded.position_ids))
    variants: dict[str, Run] = {"qwenvl": ours, "transformers": theirs}

    def agreement() -> float:
        return relative_difference(ours.last, theirs.last)

    return Case(f"{name}, float32", "token", variants, units=STEPS, agreement=agreement)


def compare(name: str, unit: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor], units: int) -> Case:
    variants = {"qwenvl": ours, "transformers": theirs}
    return Case(f"{name}, float32", unit, variants, units=units, agreement=lambda: relative_difference(ours(), theirs()))


def prompt_ids(size: Size) -> np.ndarray[Any, Any]:
    """A picture, then text of random ids."""
    start, end, pad, _ = size.special
    text = np.random.default_rng(0).integers(0, start, WORDS)
    return np.concatenate([[start], np.full(size.square**2 // 4, pad), [end], text]).astype(np.int64)


def encode(
    config: ModelConfig, ids: np.ndarray[Any, Any], patches: np.ndarray[Any, Any], grid: tuple[int, int, int]
) -> Encoded:  # fmt: skip
    """What our processor makes of ids with one picture; ids of text that is random need no tokenizer."""
    table = np.array([grid], dtype=np.int64)
    slots = np.flatnonzero(ids == config.image_pad_id)
    positions = positions_of(config, get_family(config.family), len(ids), slots, table)
    return Encoded(ids, ids, positions, patches, table, slots, windows=window_plan(table, config.vision))


def their_inputs(config: ModelConfig, ids: np.ndarray[Any, Any], patches: Tensor, grids: Tensor) -> dict[str, Tensor]:
    kinds = torch.from_numpy(ids == config.image_pad_id)[None].int()
    return {
        "input_ids": torch.from_numpy(ids)[None], "mm_token_type_ids": kinds, "pixel_values": patches, "image_grid_thw": grids,
    }  # fmt: skip


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8))


def random_patches(config: ModelConfig, grids: np.ndarray[Any, Any]) -> Tensor:
    count = int(grids.prod(axis=1).sum())
    return torch.randn(count, config.vision.patch_numbers, generator=torch.Generator().manual_seed(1))


def build_processor() -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(min_pixels=BOUNDS[0], max_pixels=BOUNDS[1])


def build_pair(family: str, size: Size) -> tuple[VisionLanguageModel, Any]:
    """Ours over the very tensors of the peer, which are drawn from a fixed seed."""
    import transformers

    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL"}[family]
    start, end, pad, video_pad = size.special
    config = getattr(transformers, f"{name}Config")(
        text_config=text_config(size), vision_config=vision_config(family, size), tie_word_embeddings=False,
        vision_start_token_id=start, vision_end_token_id=end, image_token_id=pad, video_token_id=video_pad,
    )  # fmt: skip
    peer = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in peer.parameters():
        if parameter.ndim > 1:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return ours_over(peer).eval(), peer


def ours_over(peer: Any) -> VisionLanguageModel:
    """Our model over the very tensors of a transformers model, by the names and layout of the published files."""
    family = peer.config.model_type
    with torch.device("meta"):
        model = VisionLanguageModel(get_family(family).parse_config(peer.config.to_dict()))
    shapes = {parameter: tuple(tensor.shape) for parameter, tensor in model.state_dict().items()}
    table = {entry.published: entry for entry in name_table(model.config, shapes)}
    state: dict[str, Tensor] = {}
    for parameter, tensor in peer.state_dict().items():
        if not (model.config.decoder.tie_word_embeddings and parameter == "lm_head.weight"):
            state |= table[hub_name(family, parameter)].to_ours(tensor)
    model.load_state_dict(state, strict=True, assign=True)
    return model


def text_config(size: Size) -> dict[str, Any]:
    return {
        "vocab_size": size.vocabulary, "hidden_size": size.hidden, "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers, "num_attention_heads": size.heads, "num_key_value_heads": size.heads,
        "rms_norm_eps": 1e-6, "rope_parameters": ROPE, "max_position_embeddings": 4096, "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip


def vision_config(family: str, size: Size) -> dict[str, Any]:
    shared = {"depth": size.depth, "num_heads": size.width // 80}
    if family == "qwen2_vl":
        return {**shared, "embed_dim": size.width, "hidden_size": size.hidden, "mlp_ratio": 4}
    return {
        **shared, "hidden_size": size.width, "out_hidden_size": size.hidden, "intermediate_size": size.vision_intermediate,
        "fullatt_block_indexes": list(size.full_blocks), "window_size": 112, "tokens_per_second": 2,
    }  # fmt: skip
