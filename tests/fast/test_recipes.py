"""Recipes: the faithful ones say what the paper says, all of them fit together, and a mistake in one is told in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qwenvl.cli.main import main
from qwenvl.config import ConfigError
from qwenvl.data.mixture import MixtureRecipe
from qwenvl.data.scene_recipe import SceneRecipe
from qwenvl.data.scene_rows import SceneRows
from qwenvl.data.stream import block_counts
from qwenvl.families import find_preset
from qwenvl.models.quantised import BLOCK
from qwenvl.models.select import linear_layers
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.encode import Processor
from qwenvl.processing.grid import image_grid
from qwenvl.train import parallel
from qwenvl.train.build import fingerprint, row_source, tokenizer_of
from qwenvl.train.checkpoint import CheckpointError, lock_run
from qwenvl.train.recipe import Recipe, changed_keys, load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
FOLDER = RECIPES / "nano"
FILES = sorted(FOLDER.rglob("*.yaml"))
FULL = sorted(path for family in ("qwen_vl", "qwen2_vl", "qwen2_5_vl") for path in (RECIPES / family).glob("*.yaml"))
"""Recipes of published sizes."""
NANOS = {"qwen-vl-nano", "qwen2-vl-nano", "qwen-vl-nano-chat", "qwen2-vl-nano-chat", "qwen2.5-vl-nano", "qwen2.5-vl-nano-chat"}
"""Models that ship with the package, which a stage may start from."""
FAITHFUL = ("1_pretrain", "2_multitask", "3_sft")
SEVEN_TASKS = {
    "caption": 19.7, "vqa": 3.6, "grounded_caption": 3.5, "referring": 8.7, "naming": 8.7, "ocr": 24.8, "text": 7.8,
}  # fmt: skip
"""Millions of samples in the second stage: arXiv 2308.12966, section 3.2."""


def faithful(stage: str) -> Recipe:
    return load_recipe(FOLDER / "qwen_vl" / f"{stage}.yaml")


def rows_of(recipe: Recipe, data: SceneRecipe | None = None) -> SceneRows:
    data = data or recipe.data
    assert isinstance(data, SceneRecipe)
    return SceneRows(data, Processor(recipe.model_config_of_stage(), recipe.family(), tokenizer_of(recipe), recipe.markup()))


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def twin_of(path: Path) -> Path:
    """The nano recipe of the same stage."""
    stage = {"sft": "3_sft"}.get(path.stem, path.stem)
    return FOLDER / path.parent.name / f"{stage}.yaml"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_recipe_can_be_built_and_starts_from_runs_that_recipes_make(path: Path) -> None:
    recipe = load_recipe(path)
    row_source(recipe)
    assert Path(recipe.run).name == recipe.name == path.stem
    assert recipe.deviations, "say how it departs from the paper"
    assert set(recipe.init_from.values()) <= {load_recipe(other).run for other in FILES} | NANOS
    assert recipe.data.rows_per_step % 2 == 0, "two processes share a step"


@pytest.mark.parametrize("path", FULL, ids=name_of)
def test_full_size_recipes_start_from_each_other_or_from_weights_and_name_their_tokenizer(path: Path) -> None:
    recipe = load_recipe(path)
    recipe.model_config_of_stage()
    runs = {load_recipe(other).run for other in FULL if other.parent == path.parent}
    assert find_preset(recipe.model.preset).config.family == path.parent.name and "nano" not in recipe.model.preset
    assert Path(recipe.run) == Path("runs", path.parent.name, path.stem) and recipe.name == path.stem
    assert recipe.deviations, "say how it departs from the paper or script"
    assert all(source in runs or source.startswith("weights/") for source in recipe.init_from.values())
    assert recipe.model.tokenizer and recipe.model.tokenizer.startswith("weights/"), "the package's vocabulary is the nano's"
    assert isinstance(recipe.data, MixtureRecipe)
    assert all(source.shards for source in recipe.data.sources), "what trains a real model is made beforehand"
    block_counts([source.weight for source in recipe.data.sources], [source.name for source in recipe.data.sources])


@pytest.mark.parametrize("path", FULL, ids=name_of)
def test_full_size_recipes_say_of_every_field_where_its_value_comes_from(path: Path) -> None:
    section, told = "", False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if re.match(r"\w+:", line):
            section, told = line.partition(":")[0], False
        elif section in ("objective", "lora", "optim", "train", "parallel") and re.match(r"  \w+:", line):
            assert told or "#" in line, f"{path.name}:{number}: {line.strip()}"
        told = told or "as what follows" in line or "as all of this section" in line or line.strip().startswith("#")


@pytest.mark.parametrize("path", FULL, ids=name_of)
def test_a_full_size_recipe_and_its_nano_twin_agree_in_structure(path: Path) -> None:
    """What trains, on which objective, in which style; packing and schedule too, unless the twin names that as its deviation."""
    recipe, twin = load_recipe(path), load_recipe(twin_of(path))
    assert recipe.train.frozen == twin.train.frozen and recipe.data.style == twin.data.style
    assert recipe.objective.kind == twin.objective.kind
    said = " ".join(twin.deviations)
    if recipe.objective.kind == "dpo":
        assert recipe.objective == twin.objective.model_copy(update={"chosen_weight": 0.0})
        assert twin.objective.chosen_weight == 0 or "that of the chosen answer" in said
    assert recipe.data.packing == twin.data.packing or (twin.data.packing == "share_prefix" and "share its tokens" in said)
    assert recipe.optim.schedule == twin.optim.schedule or "The rate" in said
    assert (recipe.lora is None) == (twin.lora is None)
    if recipe.lora is not None and twin.lora is not None:
        assert recipe.lora.targets == twin.lora.targets and recipe.lora.whole == twin.lora.whole
        assert recipe.lora.base == twin.lora.base and recipe.lora.dropout == twin.lora.dropout
        assert recipe.lora.alpha / recipe.lora.rank == twin.lora.alpha / twin.lora.rank
        assert recipe.train.activation_checkpointing == twin.train.activation_checkpointing


PUBLISHED = {
    # resolution, sequence, batch, steps, warm-up, peak and least rate, tower decay, frozen, packing, model parallel, accumulation
    "1_pretrain": (224, 512, 30720, 50000, 500, 2e-4, 1e-6, 0.95, ("decoder",), "isolate", 1, 6),
    "2_multitask": (448, 2048, 4096, 19000, 400, 5e-5, 1e-5, 0.95, (), "interleave", 2, 8),
    "3_sft": (448, 2048, 128, 8000, 3000, 1e-5, 1e-6, 1.0, ("vision_tower",), "isolate", 2, 8),
}


@pytest.mark.parametrize("stage", PUBLISHED)
def test_qwen_vl_at_full_size_has_all_of_table_10(stage: str) -> None:
    """arXiv 2308.12966, version 1, Table 10 and section 3. A published decay of 0 belongs to a tower that does not train. How many
    GPUs there were is not published: the number in the recipe's head gives the published accumulation."""
    path = RECIPES / "qwen_vl" / f"{stage}.yaml"
    recipe = load_recipe(path)
    data, optim, train = recipe.data, recipe.optim, recipe.train
    nodes = re.search(r"--nproc-per-node (\d+) --nnodes (\d+)", path.read_text(encoding="utf-8"))
    assert nodes
    readers = int(nodes[1]) * int(nodes[2]) // recipe.parallel.tensor
    assert PUBLISHED[stage] == (
        recipe.model.image_size, data.row_tokens, data.rows_per_step, train.steps, optim.warmup_steps, optim.lr, optim.min_lr,
        optim.tower_layer_decay, train.frozen, data.packing, recipe.parallel.tensor,
        data.rows_per_step / readers / train.micro_batch_rows,
    )  # fmt: skip
    assert (optim.betas, optim.eps, optim.weight_decay, optim.clip) == ((0.9, 0.98), 1e-6, 0.05, 1.0)
    assert (optim.schedule, train.precision, train.activation_checkpointing) == ("cosine", "bf16", False)
    assert recipe.parallel.data == "fsdp" and data.style == ("chat" if stage == "3_sft" else "raw")


def test_qwen_vl_at_full_size_mixes_as_tables_2_and_3_say() -> None:
    first, second = (load_recipe(RECIPES / "qwen_vl" / f"{stage}.yaml").data for stage in ("1_pretrain", "2_multitask"))
    assert isinstance(first, MixtureRecipe) and isinstance(second, MixtureRecipe)
    pairs = {source.name: source.weight for source in first.sources}
    assert sum(pairs.values()) == pytest.approx(1400, rel=0.02), "millions of cleaned pairs"
    assert pairs["laion_zh"] / sum(pairs.values()) == pytest.approx(1 - 0.773, abs=0.005), "Chinese"
    tasks = {source.name: source.weight for source in second.sources}
    assert tasks == {
        "caption": 19.7, "vqa": 3.6, "grounding": 3.5, "ref_grounding": 8.7, "grounded_captioning": 8.7, "ocr": 24.8, "text": 7.8,
    }  # fmt: skip


@pytest.mark.parametrize(
    "family, ours, theirs",
    [
        (
            "qwen2_vl",
            {"1_pretrain": ("decoder",), "2_multitask": (), "3_sft": ("vision_tower",)},
            {"1_pretrain": 6e11, "2_multitask": 8e11},
        ),
        (
            "qwen2_5_vl",
            {"1_pretrain": ("decoder",), "2_multitask": (), "3_long": (), "sft": ("vision_tower",), "dpo": ("vision_tower",)},
            {"1_pretrain": 1.5e12, "2_multitask": 2e12, "3_long": 6e11},
        ),
    ],
)
def test_native_families_at_full_size_train_what_is_published_on_as_many_tokens(
    family: str, ours: dict[str, tuple[str, ...]], theirs: dict[str, float]
) -> None:
    """arXiv 2409.12191, section 2.2; arXiv 2502.13923, Table 2 and section 2.3."""
    recipes = {stage: load_recipe(RECIPES / family / f"{stage}.yaml") for stage in ours}
    assert {stage: recipe.train.frozen for stage, recipe in recipes.items()} == ours
    for stage, tokens in theirs.items():
        recipe = recipes[stage]
        assert recipe.train.steps * recipe.data.rows_per_step * recipe.data.row_tokens == pytest.approx(tokens, rel=1e-3)
    if family == "qwen2_5_vl":
        assert [recipes[stage].data.row_tokens for stage in theirs] == [8192, 8192, 32768]
        data = recipes["sft"].data
        assert isinstance(data, MixtureRecipe)
        assert {source.name: source.weight for source in data.sources} == {"text": 1, "multimodal": 1}, "50 % each"


@pytest.mark.parametrize("path", [path for path in FULL if "lora" in path.stem], ids=name_of)
def test_adapters_of_full_size_recipes_name_layers_that_can_be_stored_so(path: Path) -> None:
    recipe = load_recipe(path)
    lora = recipe.lora
    assert lora is not None
    with torch.device("meta"):
        layers = linear_layers(VisionLanguageModel(recipe.model_config_of_stage()), lora.targets)
    decoder = {name.rpartition(".")[2] for name in layers if name.startswith("decoder.")}
    assert {"q_proj", "k_proj", "v_proj", "o_proj"} <= decoder
    assert lora.base != "nf4" or all(layer.in_features % BLOCK == 0 for layer in layers.values())
    if path.parent.name == "qwen_vl":
        # c_attn, attn.c_proj, w1 and w2 of finetune.py (QwenLM/Qwen-VL @ 0f31930)
        assert decoder == {"q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj"} and len(layers) == 6 * 32
        assert (lora.rank, lora.alpha, lora.dropout) == (64, 16.0, 0.05)


@pytest.mark.parametrize("stage", FAITHFUL)
def test_faithful_recipes_have_the_published_optimiser(stage: str) -> None:
    """arXiv 2308.12966, table of training hyperparameters in the appendix."""
    recipe = faithful(stage)
    optim = recipe.optim
    assert (optim.betas, optim.eps, optim.weight_decay, optim.clip) == ((0.9, 0.98), 1e-6, 0.05, 1.0)
    assert optim.schedule == "cosine" and optim.warmup_steps > 0 and not optim.lr_multipliers
    assert optim.tower_layer_decay == (1.0 if stage == "3_sft" else 0.95)
    assert recipe.train.precision == "bf16" and recipe.objective.dense_weight == 0 and not recipe.train.unfreeze_after
    weights = recipe.data.loss
    assert (weights.coordinate_digits, weights.box_punctuation, weights.tasks) == ((1.0, 1.0, 1.0), 1.0, {})


def test_faithful_stages_freeze_size_and_pack_as_published() -> None:
    first, second, third = map(faithful, FAITHFUL)
    assert [recipe.train.frozen for recipe in (first, second, third)] == [("decoder",), (), ("vision_tower",)]
    assert [recipe.data.packing for recipe in (first, second, third)] == ["isolate", "interleave", "isolate"]
    assert [recipe.data.style for recipe in (first, second, third)] == ["raw", "raw", "chat"]
    sizes = [recipe.model.image_size or 0 for recipe in (first, second, third)]
    assert sizes[0] * 2 == sizes[1] == sizes[2]
    assert set(first.data.tasks) == {"caption"} and first.data.chinese == pytest.approx(0.227)


def test_faithful_second_stage_mixes_the_seven_tasks_by_the_published_counts() -> None:
    data = faithful("2_multitask").data
    vqa = ("what", "count", "where", "colour", "yes_no", "left_right", "above_below")
    groups = {"vqa": vqa, "ocr": ("ocr", "ocr_quad", "find_text")}
    for name, millions in SEVEN_TASKS.items():
        if name != "text":
            assert sum(data.tasks[task] for task in groups.get(name, (name,))) == pytest.approx(millions), name
    assert data.text_rows == pytest.approx(SEVEN_TASKS["text"] / sum(SEVEN_TASKS.values()), abs=0.005)


@pytest.mark.parametrize(
    "told, options",
    [
        ("optim.warmup: unknown key; did you mean 'warmup_steps'?", ["--set", "optim.warmup=1"]),
        ("train.steps: Input should be a valid integer", ["--set", "train.steps=many"]),
        ("train.log_every: Input should be greater than 0", ["--set", "train.log_every=0"]),
        ("data.rows_per_step: Input should be greater than 0", ["--set", "data.rows_per_step=0"]),
        ("data.tasks.caption: Input should be greater than or equal to 0", ["--set", "data.tasks.caption=-1"]),
        ("data.scenes: The list should have at least 1 item", ["--set", "data.scenes=[]"]),
        ("unknown part 'tower'", ["--set", "init_from.tower=x"]),
        ("decoder both in train.frozen and in train.unfreeze_after", ["--set", "train.unfreeze_after.decoder=3"]),
        ("write it as dotted.key=value", ["--set", "train.steps"]),
        ("--processes 0: give 1 or more", ["--processes", "0"]),
        ("unknown model 'qwen-vl-nan0'", ["--set", "model.preset=qwen-vl-nan0"]),
        ("image_size 57: must be a multiple of the patch size, 14", ["--set", "model.image_size=57"]),
        ("neither tokenizer.json nor qwen.tiktoken", ["--set", f"model.tokenizer={FOLDER}"]),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line(
    told: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(FOLDER / "qwen_vl" / "1_pretrain.yaml")
    assert main(["train", recipe, "--set", f"run={tmp_path}/run", *options]) == 1
    said = capsys.readouterr().err
    assert told in said and len(said.strip().splitlines()) == 1, said
    assert not (tmp_path / "run").exists(), "a mistake leaves no folder behind"


@pytest.mark.parametrize("options", [["--resume"], []])
def test_weights_that_are_not_there_are_one_line_and_leave_no_folder(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--resume without a run, and a start from a run that was never made."""
    recipe = str(FOLDER / "qwen_vl" / "1_pretrain.yaml")
    changes = ["--set", f"run={tmp_path}/run", "--set", "init_from={decoder: " + f"{tmp_path}/nowhere" + "}"]
    assert main(["train", recipe, *changes, *options]) == 1
    said = capsys.readouterr().err
    told = "run: no checkpoint in it" if options else "nowhere: neither a run nor a model"
    assert f"{tmp_path}/{told}" in said and len(said.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_is_not_there_or_not_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.yaml").write_text("[1, 2]")
    (tmp_path / "broken.yaml").write_text("name: [")
    for name, told in (("none", "cannot be read"), ("list", "expected a mapping"), ("broken", "not valid YAML")):
        assert main(["train", str(tmp_path / f"{name}.yaml")]) == 1
        said = capsys.readouterr().err
        assert told in said and f"{name}.yaml" in said and len(said.strip().splitlines()) == 1


def test_a_run_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    changes = ["--set", f"run={tmp_path}/file/run", "--set", "init_from={}"]
    assert main(["train", str(FOLDER / "qwen_vl" / "1_pretrain.yaml"), *changes]) == 1
    said = capsys.readouterr().err
    assert str(tmp_path / "file") in said and len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "told, change",
    [
        ("data.tasks: 'captoin' is not a task of scenes; did you mean 'caption'?", {"tasks": {"captoin": 1.0}}),
        ("data.per_picture: 'cuont'", {"per_picture": {"cuont": 2}}),
        ("data.loss.tasks: 'box'", {"loss": {"tasks": {"box": 2.0}}}),
        ("data.tasks: name at least one task", {"tasks": {}}),
        ("data.tasks: name at least one task", {"tasks": {"caption": 0.0}}),
        ("data.tasks: name at least one task", {"scenes": [{"tasks": {"ocr": 0.0}}]}),
    ],
)
def test_a_task_that_does_not_exist_or_is_never_drawn_is_refused(told: str, change: dict[str, object]) -> None:
    recipe = faithful("1_pretrain")
    with pytest.raises(ConfigError) as caught:
        rows_of(recipe, SceneRecipe.model_validate({"tasks": {"caption": 1.0}} | change))
    assert told in str(caught.value)


NATIVE = ("qwen2_vl", "qwen2_5_vl")


@pytest.mark.parametrize("family", NATIVE)
def test_stages_of_both_native_families_differ_in_nothing_but_what_their_generation_writes(family: str) -> None:
    """So that generations can be compared: the same scenes, steps and rates; markup, its room and its tasks are the family's."""
    for stage in ("0_tower", "1_align", "2_multitask", "3_sft"):
        recipe, other = (load_recipe(FOLDER / name / f"{stage}.yaml") for name in (family, "qwen2_vl"))
        assert recipe.optim == other.optim and recipe.train == other.train and recipe.model.min_pixels == other.model.min_pixels
        assert [(scenes.weight, scenes.spec) for scenes in recipe.data.scenes] == [
            (scenes.weight, scenes.spec) for scenes in other.data.scenes
        ]
        shared = recipe.data.tasks.keys() - {"point"}
        assert {task: recipe.data.tasks[task] for task in shared} == other.data.tasks
        assert recipe.data.clip_rows == other.data.clip_rows
        assert (recipe.data.clip_fps == "drawn") == (recipe.model_config_of_stage().tokens_per_second is not None)


@pytest.mark.parametrize("family", NATIVE)
def test_a_scene_has_36_to_64_visual_tokens(family: str) -> None:
    recipe = load_recipe(FOLDER / family / "2_multitask.yaml")
    config, spec = recipe.model_config_of_stage(), recipe.family()
    for width, height in [(side, side) for side in range(112, 161)] + [(112, 160), (80, 158), (226, 113)]:
        tokens = spec.visual_tokens(config, image_grid(config, spec, width, height))
        assert 36 <= tokens <= 64 and (tokens == 36 or width != height)


@pytest.mark.parametrize(
    "told, options",
    [
        ("model.image_size 112: qwen2-vl-nano sees pictures at their own size; bound it by", ["model.image_size=112"]),
        ("model.min_pixels 90000 is more than the greatest area, 50176", ["model.min_pixels=90000"]),
        ("model.min_pixels: qwen-vl-nano makes every picture the same square", ["model.preset=qwen-vl-nano"]),
        ("data.clip_rows: qwen_vl takes no video", ["model.preset=qwen-vl-nano", "model.min_pixels=null"]),
    ],
)
def test_sizes_that_a_family_does_not_have_are_one_line(
    told: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [word for option in ("init_from={}", f"run={tmp_path}/run", *options) for word in ("--set", option)]
    assert main(["train", str(FOLDER / "qwen2_vl" / "1_align.yaml"), *changes]) == 1
    said = capsys.readouterr().err
    assert told in said and len(said.strip().splitlines()) == 1, said
    assert not (tmp_path / "run").exists()


def test_all_generations_share_one_vocabulary_of_text() -> None:
    first = load_recipe(FOLDER / "shipped" / "0_text.yaml")
    natives = [load_recipe(FOLDER / name / "1_align.yaml") for name in NATIVE]
    prints = [fingerprint(recipe, tokenizer_of(recipe)) for recipe in (first, *natives)]
    assert "renamed_from" not in prints[0] and {now["renamed_from"] for now in prints[1:]} == {prints[0]["vocabulary"]}
    assert prints[1]["vocabulary"] == prints[2]["vocabulary"] != prints[0]["vocabulary"]
    assert len({now["markup"] for now in prints}) == 3
    text = "两只狗 and 12 red circles"
    assert len({tuple(tokenizer_of(recipe).encode(text)) for recipe in (first, *natives)}) == 1


def test_clips_are_a_part_of_what_a_run_belongs_to() -> None:
    path = FOLDER / "qwen2_5_vl" / "1_align.yaml"
    prints = [fingerprint(recipe, tokenizer_of(recipe)) for recipe in (
        load_recipe(path), load_recipe(path, ["data.clip_rows=0"]), load_recipe(path, ["data.clips.things=[1, 1]"]),
    )]  # fmt: skip
    assert len({now["scenes"] for now in prints}) == 3


def test_a_run_begun_before_a_key_existed_can_be_resumed() -> None:
    recipe = load_recipe(FOLDER / "shipped" / "1_align.yaml")
    saved, now = recipe.model_dump(mode="json"), recipe.model_dump(mode="json")
    for young in ("clip_rows", "clips", "clip_tasks", "clip_fps"):
        del saved["data"][young]
    for scenes in saved["data"]["scenes"]:
        del scenes["spec"]["aspect"]
    assert changed_keys(saved, now) == []
    now["data"]["scenes"][0]["spec"]["aspect"] = [0.5, 2.0]
    now["data"]["clip_rows"] = 0.1
    assert changed_keys(saved, now) == ["data.clip_rows", "data.scenes"]
    with pytest.raises(ConfigError, match=r"the checkpoint's recipe: data\.clip_rwos: unknown key"):
        changed_keys(saved | {"data": saved["data"] | {"clip_rwos": 1}}, now)


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path) -> None:
    held = lock_run(tmp_path)
    with pytest.raises(CheckpointError, match="another process is training"):
        lock_run(tmp_path)
    held.close()
    lock_run(tmp_path).close()


def test_a_rank_bounds_what_the_matrix_library_remembers_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in parallel.BOUND_CACHES:
        monkeypatch.setenv(name, "")  # or what the call below sets would outlive this test
        monkeypatch.delenv(name)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    parallel.bound_caches()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "256" and os.environ["LRU_CACHE_CAPACITY"] == "7"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_memory_that_is_freed_between_what_is_kept_goes_back_to_the_system() -> None:
    """In a process of its own: holes of 64 kB, far below the threshold at which glibc would map them apart."""
    script = """
import os
import re
import subprocess
import sys
from qwenvl.train.parallel import give_back_memory
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
blocks = [b"x" * 65536 for _ in range(3000)]
del blocks[::2]
before = resident()
give_back_memory()
print(before - resident())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50_000_000
