"""Model folders in the published layout: read config.json, load strictly, save so that others can read it.

Loading builds the model without memory (meta device) and gives it the file's own pages: 9.6B parameters load in seconds and take
memory only as they are touched, unless another device or dtype is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from qwenvl.config import ConfigError, ModelConfig, in_words
from qwenvl.families import family_of_config, get_family
from qwenvl.families.preprocessor import RULE_FILES, read_rules, write_rules
from qwenvl.families.spec import FamilySpec
from qwenvl.runtime import resolve_device
from qwenvl.weights.files import StoredTensor, open_tensors
from qwenvl.weights.gptq import as_weights, find_quantised, pack_layers, zero_offset
from qwenvl.weights.maps import TIED_HEAD, Entry, Shape, WeightsError, has_rule, hub_name, name_table
from qwenvl.weights.write import MAX_SHARD_BYTES, Quantization, whole_or_nothing, write_shards

if TYPE_CHECKING:
    import torch

    from qwenvl.models.vlm import VisionLanguageModel

CONFIG = "config.json"


def read_config(folder: str | Path) -> tuple[dict[str, Any], ModelConfig, FamilySpec]:
    """config.json in the family's layout, what it means, and the family, with the folder's own rules for pictures and clips.

    Raises ConfigError, one line.
    """
    path = Path(folder) / CONFIG
    raw = _read_object(path)
    if raw is None:
        problem = "no config.json here" if Path(folder).is_dir() else "no such folder"
        raise ConfigError(f"{folder}: {problem}; give the folder of a model")
    spec = family_of_config(raw, str(path))
    zero_offset(raw, str(path))
    rules = {name: content for name in RULE_FILES if (content := _read_object(Path(folder) / name)) is not None}
    try:
        raw = spec.flatten(raw)
        _check_types(raw, spec.write_config(spec.presets[0].config), CONFIG)
        config = spec.parse_config(raw)
        return raw, config, read_rules(rules, spec, config)
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {error.title}: {in_words(key, first['msg'])}") from None


def _read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object of a file, None where there is no file. Raises ConfigError naming it."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a JSON object")
    return raw


def _check_types(raw: Mapping[str, Any], template: Mapping[str, Any], where: str, parent: str = "") -> None:
    """Raise ConfigError naming a key whose value is of another kind than in a config.json of that family."""
    for key, example in template.items():
        if key not in raw:
            continue
        kind, value = _kind(example), raw[key]
        if _kind(value) != kind:
            raise ConfigError(f"{where}: {parent}{key} is {json.dumps(value)[:60]}; expected {kind}")
        if isinstance(example, Mapping):
            _check_types(value, example, where, f"{key}.")


def _kind(value: Any) -> str:
    kinds = ((bool, "true or false"), (int | float, "a number"), (str, "text"), (list, "a list"), (dict, "an object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def build_meta(config: ModelConfig) -> VisionLanguageModel:
    """The model with shapes and no memory: to count parameters, or to be given tensors."""
    import torch
    from torch.overrides import TorchFunctionMode

    from qwenvl.models.vlm import VisionLanguageModel

    class NoDraws(TorchFunctionMode):
        """Leaves out nn.Embedding's normal draw: of a tensor without memory it would import sympy, which takes a second."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return None if func is torch.nn.init.normal_ else func(*args, **(kwargs or {}))

    with torch.device("meta"), NoDraws():
        return VisionLanguageModel(config)


def parameter_shapes(model: torch.nn.Module) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def load_model(
    folder: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None, packed: bool = False
) -> VisionLanguageModel:
    """The model of a folder, in evaluation mode.

    device: None is a GPU if there is one. dtype: None keeps the file's (int8 files: float32; packed: bfloat16). packed: layers that
    the file holds in four bits stay so, for inference; without it they become weights of that dtype.
    Raises ConfigError or WeightsError naming the file and the tensor.
    """
    import torch

    raw, config, _ = read_config(folder)
    stored = open_published(Path(folder), config.family)
    if dtype is None and any(tensor.quantized for tensor in stored.values()):
        dtype = torch.float32
    target = resolve_device(device)
    model = build_meta(config)
    entries = name_table(config, parameter_shapes(model))
    check_names(entries, stored, config, str(folder))
    state: dict[str, torch.Tensor] = {}
    if packed and (offset := zero_offset(raw, str(folder))) is not None:
        dtype = dtype or torch.bfloat16
        layers = find_quantised(open_tensors(Path(folder)), offset).items()
        state = pack_layers(model, entries, {hub_name(config.family, name): layer for name, layer in layers}, target, dtype)
    for entry in entries:
        if f"{entry.ours[0].removesuffix('.weight')}.codes" in state:
            continue
        # On the CPU and in the file's dtype this is no copy: the parameters are views of the mapped file.
        tensor = stored[entry.published].read().to(device=target, dtype=dtype)
        state |= entry.to_ours(tensor)
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def open_published(folder: Path, family: str) -> dict[str, StoredTensor]:
    """`open_tensors` by the hub's names, whichever of a family's names the files hold.

    Raises WeightsError also where a tensor is there under two names.
    """
    tensors: dict[str, StoredTensor] = {}
    for tensor in _whole_weights(folder, family).values():
        published = hub_name(family, tensor.name)
        if published in tensors:
            raise WeightsError(f"{tensor.file}: {tensor.name!r} and {tensors[published].name!r} are one tensor; keep one of them")
        tensors[published] = tensor
    return tensors


def _whole_weights(folder: Path, family: str) -> dict[str, StoredTensor]:
    """The tensors of a folder by their names, weights that are stored in four bits as one tensor each."""
    tensors = open_tensors(folder)
    offset = zero_offset(_read_object(folder / CONFIG) or {}, str(folder / CONFIG))
    if offset is None:
        return tensors
    biases = frozenset(name for name in tensors if name.endswith(".bias") and has_rule(family, hub_name(family, name)))
    return as_weights(tensors, offset, biases)


def check_names(entries: list[Entry], stored: Mapping[str, StoredTensor], config: ModelConfig, where: str) -> None:
    """Raise WeightsError unless `stored`, by published names, holds exactly the tensors of `entries`, each of its shape."""
    wanted = {entry.published: entry for entry in entries}
    head, embedding = TIED_HEAD[config.family]
    if config.decoder.tie_word_embeddings and head in stored and embedding in stored:
        _check_tied(stored[head], stored[embedding])
        stored = {name: tensor for name, tensor in stored.items() if name != head}
    missing = sorted(wanted.keys() - stored.keys())
    unknown = sorted(stored.keys() - wanted.keys())
    problems = []
    if missing:
        problems.append(f"{_listed('missing', missing)}, wanted with the shape {wanted[missing[0]].shape}")
    if unknown:
        first = stored[unknown[0]]
        in_file = [stored[name].name for name in unknown]  # the newer names, where it has those
        problems.append(f"{_listed('unknown', in_file)}, in {first.file.name} with the shape {first.shape}")
    if problems:
        raise WeightsError(f"{where}: {'; '.join(problems)}; the weights do not belong to this config.json")
    for name, entry in wanted.items():
        tensor = stored[name]
        if tensor.shape != entry.shape:
            raise WeightsError(
                f"{tensor.file}: tensor {tensor.name!r} has the shape {tensor.shape}, but config.json asks for {entry.shape}"
            )
        if not tensor.dtype.is_floating_point:
            raise WeightsError(f"{tensor.file}: tensor {tensor.name!r} has the dtype {tensor.dtype}, not a floating-point one")


def _listed(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{kind} tensor{'s' if len(names) > 1 else ''} {', '.join(map(repr, names[:3]))}{more}"


def _check_tied(head: StoredTensor, embedding: StoredTensor) -> None:
    import torch

    if head.shape != embedding.shape or not torch.equal(head.read(), embedding.read()):
        raise WeightsError(
            f"{head.file}: {head.name!r} {head.shape} differs from {embedding.name!r} {embedding.shape}, "
            "but config.json ties them; set tie_word_embeddings to false or drop the head"
        )


def save_model(
    model: VisionLanguageModel,
    folder: str | Path,
    *,
    spec: FamilySpec | None = None,
    extra_config: Mapping[str, Any] | None = None,
    quantize: Quantization | None = None,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write config.json, the rules for pictures and clips, and the weights under their published names, in one file or in shards.

    spec: the family with the model's own rules, as `read_config` gives it; None leaves rules that the folder has, and writes the
    family's into one that has none. extra_config: further keys of config.json (`coordinate_digits`). dtype: None keeps the
    parameters' own. quantize="int8" stores matrices in int8 with a scale per row and vectors in float32. Other files of an
    existing folder stay; a folder that did not exist appears whole or not at all.
    """
    config = model.config
    parameters = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    entries = name_table(config, {name: tuple(tensor.shape) for name, tensor in parameters.items()})
    family = spec or get_family(config.family)
    raw = family.write_config(config)
    rules = write_rules(family, config)
    if spec is None and any((Path(folder) / name).is_file() for name in RULE_FILES):
        rules = {}
    if not quantize:
        raw["torch_dtype"] = str(dtype or parameters["decoder.embed_tokens.weight"].dtype).removeprefix("torch.")
    raw |= dict(extra_config or {})
    with whole_or_nothing(Path(folder)) as scratch:
        write_shards(entries, parameters, scratch, quantize, dtype, max_shard_bytes)
        for name, content in {CONFIG: raw, **rules}.items():
            (scratch / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
