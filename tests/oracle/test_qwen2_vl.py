"""Native-resolution models against transformers' Qwen2-VL and Qwen2.5-VL of equal shape and weights.

Weights are drawn large: with the peers' own 0.02 the logits are nearly constant, and a wrong path would not show. Pictures leave
positions to the peer. Clips give them: transformers 5 lets text after a clip begin within its time range, where the paper and
transformers 4.45 to 4.57 continue after it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from qwenvl.config import DecoderConfig, MergerConfig, ModelConfig, VisionConfig, YarnConfig
from qwenvl.inference.session import Session, run_model
from qwenvl.models.attention import PackedLayout
from qwenvl.models.rope import rotary, yarn_attention_factor, yarn_stretch
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.types import Encoded
from qwenvl.weights.maps import Entry, hub_name, name_table
from tests.fast.tiny import NATIVE, Visual, document

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-4
VOCAB = 160
IDS = {"image_start_id": 150, "image_end_id": 151, "image_pad_id": 152, "video_pad_id": 153}
PEER_IDS = {"vision_start_token_id": 150, "vision_end_token_id": 151, "image_token_id": 152, "video_token_id": 153}
WIDTH, INNER, HIDDEN = 48, 96, 64
YARN = YarnConfig(factor=4.0, original_max_position_embeddings=64)


def our_config(family: str, yarn: YarnConfig | None = None) -> ModelConfig:
    """The tower of Qwen2-VL, or that of Qwen2.5-VL: windows of 8 x 8 patches but in blocks 1 and 3."""
    newer = family == "qwen2_5_vl"
    choices: dict[str, Any] = {"norm": "layer", "mlp": "quick_gelu"}
    if newer:
        choices = {"norm": "rms", "mlp": "swiglu", "window_size": 112, "full_attention_blocks": (1, 3)}
    vision = VisionConfig(
        hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=4, num_attention_heads=3, temporal_patch_size=2,
        rotary_theta=10000.0, merge_size=2, qkv_layout="stacked", **choices,
    )  # fmt: skip
    decoder = DecoderConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=112, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, rope_theta=1e6, use_dynamic_ntk=False, use_logn_attn=False, mrope_section=(2, 3, 3),
        yarn=yarn,
    )  # fmt: skip
    connector = MergerConfig(hidden_size=HIDDEN, norm="rms" if newer else "layer")
    return ModelConfig(
        family=family, vision=vision, connector=connector, decoder=decoder, tokens_per_second=2.0 if newer else None, **IDS
    )


def build_peer(family: str, yarn: YarnConfig | None = None) -> Any:
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    if yarn is not None:
        length = yarn.original_max_position_embeddings
        rope |= {"rope_type": "yarn", "factor": yarn.factor, "original_max_position_embeddings": length}
    text = {
        "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": 112, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_parameters": rope, "eos_token_id": None, "bos_token_id": None,
    }  # fmt: skip
    vision: dict[str, Any] = {"depth": 4, "num_heads": 3}
    if family == "qwen2_vl":
        vision |= {"embed_dim": WIDTH, "hidden_size": HIDDEN, "mlp_ratio": INNER // WIDTH}
        kinds = (transformers.Qwen2VLConfig, transformers.Qwen2VLForConditionalGeneration)
    else:
        vision |= {"hidden_size": WIDTH, "out_hidden_size": HIDDEN, "intermediate_size": INNER, "fullatt_block_indexes": [1, 3]}
        vision |= {"window_size": 112, "tokens_per_second": 2}
        kinds = (transformers.Qwen2_5_VLConfig, transformers.Qwen2_5_VLForConditionalGeneration)
    peer = kinds[1](kinds[0](text_config=text, vision_config=vision, tie_word_embeddings=False, **PEER_IDS)).eval()
    generator = torch.Generator().manual_seed(11)
    for name, parameter in peer.named_parameters():
        centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.15 + centre
    return peer


def entries_of(model: VisionLanguageModel) -> dict[str, Entry]:
    """The published table of the model's weights, by name in the file."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return {entry.published: entry for entry in name_table(model.config, shapes)}


class Pair(NamedTuple):
    ours: VisionLanguageModel
    peer: Any


def build_pair(family: str, yarn: YarnConfig | None = None) -> Pair:
    peer, ours = build_peer(family, yarn), VisionLanguageModel(our_config(family, yarn))
    table, state = entries_of(ours), {}
    for name, tensor in peer.state_dict().items():
        state |= table[hub_name(family, name)].to_ours(tensor)
    ours.load_state_dict(state, strict=True)
    return Pair(ours.eval(), peer)


@pytest.fixture(scope="module", params=NATIVE)
def pair(request: pytest.FixtureRequest) -> Pair:
    return build_pair(request.param)


# Text is a count of tokens. Sides that windows of 8 patches divide, and sides that they do not.
TEXT_ONLY = (23,)
ONE_PICTURE = (5, Visual((1, 10, 12)), 7)
PICTURES = (3, Visual((1, 4, 18)), 2, Visual((1, 8, 8)), Visual((1, 2, 2)), 6)
CLIPS = {  # seconds of a temporal patch, of two frames: 1, 2 and 4 frames per second
    "1 fps": (4, Visual((5, 4, 10), 2.0), 5), "2 fps": (4, Visual((3, 10, 4), 1.0), 3, Visual((1, 6, 4)), 5),
    "4 fps": (2, Visual((1, 4, 4)), 1, Visual((6, 4, 4), 0.5), Visual((2, 2, 10), 0.5), 6),
}  # fmt: skip
MIXES = {"text": TEXT_ONLY, "one picture": ONE_PICTURE, "pictures": PICTURES, **CLIPS}


def their_inputs(one: Encoded, explicit: bool | None = None) -> dict[str, Tensor]:
    """What the peer takes for one document; its positions too where a clip is in it, or where `explicit`."""
    ids = torch.from_numpy(one.input_ids)[None]
    clip = one.input_ids[one.visual_slots] == IDS["video_pad_id"]
    of_patch = np.repeat(clip, 4)  # four patches for every visual token
    counts = np.cumsum(one.grids.prod(1) // 4)
    of_grid = clip[counts - 1] if len(counts) else np.zeros(0, bool)
    kinds = (ids == IDS["image_pad_id"]).int() + 2 * (ids == IDS["video_pad_id"]).int()
    inputs = {"input_ids": ids, "mm_token_type_ids": kinds}
    for pixels, grids, chosen in (("pixel_values", "image_grid_thw", False), ("pixel_values_videos", "video_grid_thw", True)):
        if (of_grid == chosen).any():
            inputs[pixels] = torch.from_numpy(one.patches[of_patch == chosen])
            inputs[grids] = torch.from_numpy(one.grids[of_grid == chosen])
    if clip.any() if explicit is None else explicit:
        inputs["position_ids"] = torch.from_numpy(one.position_ids)[:, None]
    return inputs


def their_logits(peer: Any, one: Encoded, **changes: Any) -> Tensor:
    peer.model.rope_deltas = None  # the peer keeps what an earlier call left there
    return peer(**their_inputs(one), **changes).logits[0]


def our_logits(model: VisionLanguageModel, one: Encoded) -> Tensor:
    layout = PackedLayout.of(torch.zeros(len(one), dtype=torch.long))
    return model.logits(run_model(model, [one], [1.0], layout))


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.std() > 0.5, "weights too small for a wrong path to show"
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("mix", MIXES)
def test_logits_equal_transformers(pair: Pair, mix: str) -> None:
    one = document(pair.ours.config, MIXES[mix])
    assert_same(our_logits(pair.ours, one), their_logits(pair.peer, one))


@torch.no_grad()
def test_merged_visual_features_equal_transformers(pair: Pair) -> None:
    one = document(pair.ours.config, PICTURES)
    theirs = pair.peer.model.visual(torch.from_numpy(one.patches), grid_thw=torch.from_numpy(one.grids)).pooler_output
    batch = collate([one])
    assert_same(pair.ours.visual(batch.patches, batch.grids, windows=batch.windows), theirs)


@torch.no_grad()
def test_packed_documents_equal_transformers_one_by_one(pair: Pair) -> None:
    mixes = (PICTURES, TEXT_ONLY, CLIPS["2 fps"], ONE_PICTURE)
    documents = [document(pair.ours.config, mix, seed) for seed, mix in enumerate(mixes)]
    batch = collate(documents)
    hidden = pair.ours(
        batch.input_ids, batch.position_ids, PackedLayout.of(batch.document_ids), patches=batch.patches, grids=batch.grids,
        visual_slots=batch.visual_slots, windows=batch.windows,
    )  # fmt: skip
    assert_same(pair.ours.logits(hidden), torch.cat([their_logits(pair.peer, one) for one in documents]))


@torch.no_grad()
def test_left_padded_batch_of_transformers_equals_our_ragged_prefill(pair: Pair) -> None:
    documents = [document(pair.ours.config, mix, seed) for seed, mix in enumerate((ONE_PICTURE, (4, Visual((1, 4, 6)), 3)))]
    inputs = [their_inputs(one, explicit=False) for one in documents]
    longest = max(len(one) for one in documents)

    def padded(name: str) -> Tensor:
        return torch.cat([torch.nn.functional.pad(one[name], (longest - one[name].shape[1], 0)) for one in inputs])

    mask = torch.stack([(torch.arange(longest) >= longest - len(one)).long() for one in documents])
    pixels = {name: torch.cat([one[name] for one in inputs]) for name in ("pixel_values", "image_grid_thw")}
    pair.peer.model.rope_deltas = None
    text = {"input_ids": padded("input_ids"), "mm_token_type_ids": padded("mm_token_type_ids")}
    theirs = pair.peer(**text, **pixels, attention_mask=mask).logits[:, -1]
    assert_same(Session(pair.ours, documents, room=1).prefill(), theirs)


def test_gradients_equal_transformers(pair: Pair) -> None:
    ours, peer = pair
    one = document(ours.config, (3, Visual((1, 10, 6)), 4, Visual((2, 4, 4), 1.0), 5))
    batch, targets = collate([one]), torch.from_numpy(one.input_ids)
    hidden = ours(
        batch.input_ids, batch.position_ids, PackedLayout.of(batch.document_ids), patches=batch.patches, grids=batch.grids,
        visual_slots=batch.visual_slots, windows=batch.windows,
    )  # fmt: skip
    for model, logits in ((ours, ours.logits(hidden)), (peer, their_logits(peer, one))):
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits[:-1], targets[1:]).backward()
    table, mine = entries_of(ours), dict(ours.named_parameters())
    for name, parameter in peer.named_parameters():
        entry = table[hub_name(ours.config.family, name)]
        for our_name, gradient in entry.to_ours(parameter.grad).items():
            assert gradient.abs().max() > 0, name
            torch.testing.assert_close(mine.pop(our_name).grad, gradient, atol=1e-5, rtol=1e-3)
    assert not mine


@torch.no_grad()
def our_tokens(model: VisionLanguageModel, prompt: Encoded, count: int, vocab: int = VOCAB) -> list[int]:
    """Greedy tokens below `vocab`."""
    session = Session(model, [prompt], room=count)
    logits, tokens = session.prefill(), []
    for _ in range(count):
        tokens.append(int(logits[0, :vocab].argmax()))
        logits = session.step(tokens[-1:])
    return tokens


@torch.no_grad()
def test_greedy_tokens_equal_transformers(pair: Pair) -> None:
    prompt = document(pair.ours.config, PICTURES)
    pair.peer.model.rope_deltas = None
    inputs = their_inputs(prompt)
    mask = torch.ones_like(inputs["input_ids"])
    theirs = pair.peer.generate(**inputs, attention_mask=mask, max_new_tokens=12, do_sample=False)[0, len(prompt) :].tolist()
    assert our_tokens(pair.ours, prompt, 12) == theirs
    assert len(set(theirs)) > 3


@torch.no_grad()
def test_greedy_tokens_after_a_clip_equal_transformers_recomputed(pair: Pair) -> None:
    """A clip longer than its sides: what is decoded continues after its last moment. The peer sees the whole anew every time, in
    which a special id would be taken for a placeholder."""
    whole = document(pair.ours.config, CLIPS["4 fps"])
    text = IDS["image_start_id"]
    tokens = our_tokens(pair.ours, whole, 4, vocab=text)
    for token in tokens:
        assert int(their_logits(pair.peer, whole)[-1, :text].argmax()) == token
        positions = np.append(whole.position_ids, np.full((3, 1), whole.position_ids.max() + 1), axis=1)
        whole = whole.with_(input_ids=np.append(whole.input_ids, token), position_ids=positions)


@torch.no_grad()
def test_yarn_equals_transformers() -> None:
    """Frequencies, scaling and whole logits, at positions beyond the original length."""
    ours, peer = build_pair("qwen2_5_vl", YARN)
    theirs = peer.model.language_model.rotary_emb
    exponent = torch.arange(0, 16, 2).float() / 16
    torch.testing.assert_close(1e6**-exponent * yarn_stretch(YARN, 16, 1e6), theirs.inv_freq, atol=0, rtol=1e-6)
    assert yarn_attention_factor(YARN) == pytest.approx(theirs.attention_scaling, abs=1e-12)
    long = document(ours.config, (40, Visual((1, 4, 6)), 60))
    assert long.position_ids.max() > YARN.original_max_position_embeddings
    assert_same(our_logits(ours, long), their_logits(peer, long))


@pytest.mark.parametrize(("head_dim", "theta", "length"), [(128, 1e6, 32768), (64, 1e4, 2048), (16, 1e4, 8)])
def test_yarn_frequencies_equal_transformers_at_published_sizes(head_dim: int, theta: float, length: int) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    yarn = YarnConfig(factor=4.0, original_max_position_embeddings=length)
    rope = {"rope_type": "yarn", "rope_theta": theta, "factor": 4.0, "original_max_position_embeddings": length}
    config = transformers.Qwen2Config(
        hidden_size=head_dim * 2, num_attention_heads=2, max_position_embeddings=length * 4, rope_parameters=rope
    )
    frequencies, scaling = ROPE_INIT_FUNCTIONS["yarn"](config, torch.device("cpu"))
    table = rotary(torch.ones(3, 1, dtype=torch.long), head_dim, theta, yarn=yarn)
    torch.testing.assert_close(table.sin[0], frequencies.sin() * scaling, atol=1e-7, rtol=1e-5)
