"""`qwenvl data scene|clip|tokens|pictures|vocabulary`: look at scenes, clips and what is taught; save scenes; make a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from qwenvl.cli.options import FromZero
from qwenvl.cli.progress import counted, progress

if TYPE_CHECKING:
    from rich.console import Console

    from qwenvl.data.synth.names import Language
    from qwenvl.types import Style

EXAMPLES = """
qwenvl data scene --out scenes.html --count 9
qwenvl data clip clips.png --count 3
qwenvl data clip clips.png --count 1 --frames frames
qwenvl data tokens --task referring
qwenvl data pictures --out pictures --count 20
qwenvl data vocabulary --out vocabulary --size 1600
"""


@dataclass(frozen=True)
class Scene:
    """Draw scenes with their boxes: with every question about them on one HTML page, or pictures alone on one PNG."""

    out: Path
    """The page to write; a name that ends in .png gets the pictures alone."""
    index: FromZero = 0
    """Number of the first scene."""
    count: int = 9
    """How many scenes."""
    seed: FromZero = 0
    """Seed of the stream of scenes, and of the questions."""
    kind: Literal["mixed", "text"] = "mixed"
    """Scenes of things, or of lettering alone."""
    split: Literal["train", "held_out"] = "train"
    """The stream that training draws from, or the one kept for evaluation."""
    language: Literal["en", "zh", "both"] = "both"
    style: Literal["raw", "chat", "both"] = "both"
    """The paper's pre-training formats, or chat."""
    preset: str = "qwen-vl-nano"
    """The model that reads them (`qwenvl model list`): places are written as it writes them."""


@dataclass(frozen=True)
class Clip:
    """Draw clips as film strips with boxes, and below when each thing is there; print what is asked about them."""

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT.png")]
    """The picture to write."""
    index: FromZero = 0
    """Number of the first clip."""
    count: int = 3
    """How many clips."""
    seed: FromZero = 0
    """Seed of the stream of clips, and of the questions."""
    split: Literal["train", "held_out"] = "train"
    """The stream that training draws from, or the one kept for evaluation."""
    language: Literal["en", "zh", "both"] = "en"
    style: Literal["raw", "chat", "both"] = "chat"
    """The paper's pre-training formats, or chat."""
    frames: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Also save every clip's frames, two for each second, in FOLDER/NUMBER: `qwenvl ask FOLDER/NUMBER QUESTION --fps 2`."""


@dataclass(frozen=True)
class Tokens:
    """Show a question about a scene as training reads it, raw and in chat: every token, the supervised ones on red."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="OUT.svg|OUT.html", help_behavior_hint="")] = None
    """A picture (.svg) or a page (.html) to write beside what the terminal shows."""
    task: str = "referring"
    """A task of the scenes, such as caption, referring, count or ocr_quad."""
    index: FromZero = 0
    """Number of the scene."""
    seed: FromZero = 0
    language: Literal["en", "zh"] = "en"
    model: str = "qwen-vl-nano"
    """A built-in model, a folder or a hub id: its tokenizer and markup are used."""


@dataclass(frozen=True)
class Pictures:
    """Save scenes as PNG files, with truth.json that says what each shows and where (boxes in pixels)."""

    out: Path
    """The folder to write into."""
    index: FromZero = 0
    """Number of the first scene."""
    count: int = 9
    """How many scenes."""
    seed: FromZero = 0
    canvas: int = 448
    """Side of the pictures in pixels, 56 to 512."""
    split: Literal["train", "held_out"] = "held_out"
    """The stream that training draws from, or the one kept for evaluation."""


@dataclass(frozen=True)
class Vocabulary:
    """Train the small model's tokenizer on what the tasks can say, and write tokenizer.json."""

    out: Path
    """The folder to write tokenizer.json into."""
    size: int = 1600
    """Number of tokens, the special ones included."""
    seed: FromZero = 0
    texts: int = 200_000
    """How many pieces of text to train on."""


def draw_scenes(options: Scene) -> int:
    from qwenvl.data.inspect import contact_sheet, scene_page
    from qwenvl.data.synth.scene import SceneSpec, generate_scene
    from qwenvl.families import find_preset
    from qwenvl.runtime import atomic_write
    from qwenvl.types import QwenVLError

    if options.count < 1:
        raise QwenVLError(f"--count {options.count}: ask for at least one scene")
    if options.out.is_dir():
        raise QwenVLError(f"--out {options.out}: is a folder; give the name of a file")
    spec = SceneSpec(kind=options.kind, split=options.split)
    scenes = [generate_scene(spec, options.seed, options.index + number) for number in range(options.count)]
    languages, styles = _wanted(options)
    preset = find_preset(options.preset)
    with atomic_write(options.out) as temporary:
        if options.out.suffix.lower() == ".png":
            # 128 colours: half the bytes, and no difference that the eye would find.
            contact_sheet(scenes).quantize(128).save(temporary, format="png", optimize=True)
        else:
            temporary.write_text(scene_page(scenes, languages, styles, options.seed, preset), encoding="utf-8")
    print(f"{options.out}: {options.count} scenes")
    return 0


def _wanted(options: Scene | Clip) -> tuple[tuple[Language, ...], tuple[Style, ...]]:
    from qwenvl.data.tasks import LANGUAGES

    languages = LANGUAGES if options.language == "both" else (options.language,)
    return languages, ("raw", "chat") if options.style == "both" else (options.style,)


def draw_clips(options: Clip) -> int:
    from itertools import product

    import numpy as np

    from qwenvl.data.clips import CLIP_TASKS, clip_questions
    from qwenvl.data.film import film_sheet
    from qwenvl.data.synth.clip import ClipSpec, generate_clip
    from qwenvl.runtime import atomic_write
    from qwenvl.types import QwenVLError

    if options.count < 1:
        raise QwenVLError(f"--count {options.count}: ask for at least one clip")
    if options.out.suffix.lower() != ".png" or options.out.is_dir():
        raise QwenVLError(f"{options.out}: give the name of a file that ends in .png")
    spec = ClipSpec(split=options.split)
    clips = [generate_clip(spec, options.seed, options.index + number) for number in range(options.count)]
    with atomic_write(options.out) as temporary:
        film_sheet(clips).save(temporary, format="png", optimize=True)
    rng = np.random.default_rng(options.seed)
    languages, styles = _wanted(options)
    for clip in clips:
        if options.frames is not None:
            (folder := options.frames / str(clip.index)).mkdir(parents=True, exist_ok=True)
            for number, frame in enumerate(clip.frames):
                frame.save(folder / f"{number:04}.png")
        print(f"clip {clip.index}: {clip.duration:g} seconds, {len(clip.frames)} frames")
        for style, language, task in product(styles, languages, CLIP_TASKS):
            for sample in clip_questions(clip, task, language, style, rng):
                print(f"  {task:<15} {sample.extra['question']} -> {sample.extra['answer']}")
    print(f"{options.out}: {options.count} clips")
    return 0


def show_tokens(options: Tokens) -> int:
    import numpy as np
    from rich.console import Console

    from qwenvl.data.inspect import tokens_view
    from qwenvl.data.synth.scene import SceneSpec, generate_scene
    from qwenvl.data.tasks import questions
    from qwenvl.processing.encode import Processor
    from qwenvl.processing.tokenizer import Tokenizer
    from qwenvl.weights.hub import resolve
    from qwenvl.weights.io import read_config

    folder = resolve(options.model)
    raw, config, spec = read_config(folder)
    processor = Processor(config, spec, Tokenizer.from_folder(folder), spec.read_markup(raw))
    scene = generate_scene(SceneSpec(), options.seed, options.index)
    console = Console(record=options.out is not None, width=100 if options.out else None)
    styles: tuple[Style, ...] = ("raw", "chat")
    for style in styles:
        asked = questions(scene, options.task, options.language, style, np.random.default_rng(options.seed))
        if not asked:
            console.print(f"{style}: scene {options.index} allows no question of task {options.task}; try another --index\n")
            continue
        encoded = processor.encode(asked[0], style)
        supervised = int((encoded.labels >= 0).sum())
        console.print(f"{style}: {len(encoded)} tokens, {supervised} of them supervised (red)", highlight=False)
        console.print(tokens_view(encoded, processor.tokenizer))
        console.print()
    if options.out is not None:
        save_view(console, options.out)
    return 0


def save_view(console: Console, out: Path) -> None:
    """What the console has shown, as SVG or HTML. Neither fetches anything: rich's links to a web font are taken out."""
    import re

    from rich.terminal_theme import DEFAULT_TERMINAL_THEME

    from qwenvl.runtime import atomic_write
    from qwenvl.types import QwenVLError

    if out.suffix.lower() == ".svg":
        text = console.export_svg(title="what is taught", theme=DEFAULT_TERMINAL_THEME, unique_id="tokens")
        text = re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.DOTALL)
    elif out.suffix.lower() == ".html":
        text = console.export_html(theme=DEFAULT_TERMINAL_THEME, inline_styles=True)
    else:
        raise QwenVLError(f"--out {out}: give a name that ends in .svg or .html")
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_pictures(options: Pictures) -> int:
    import json

    from qwenvl.config import validate
    from qwenvl.data.synth.scene import SceneSpec, generate_scene
    from qwenvl.runtime import atomic_write, make_folder
    from qwenvl.types import QwenVLError

    spec = validate({"canvas": [options.canvas, options.canvas], "split": options.split}, SceneSpec, "--canvas")
    if options.count < 1:
        raise QwenVLError(f"--count {options.count}: ask for at least one scene")
    make_folder(options.out)
    truth = {}
    with progress("drawing", options.count) as advance:
        for number in range(1, options.count + 1):
            scene = generate_scene(spec, options.seed, options.index + number - 1)
            name = f"scene-{number}.png"
            with atomic_write(options.out / name) as temporary:
                scene.image.save(temporary, format="png", optimize=True)
            things = [
                {"kind": thing.kind, "name": thing.name, "colour": thing.colour, "box": list(thing.box)} for thing in scene.things
            ]
            place = {"seed": scene.seed, "index": scene.index, "split": options.split}
            truth[name] = {**place, "background": scene.background, "things": things}
            advance(1)
    with atomic_write(options.out / "truth.json") as temporary:
        temporary.write_text(json.dumps(truth, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{options.out}: {options.count} pictures and truth.json")
    return 0


def train_vocabulary(options: Vocabulary) -> int:
    from qwenvl.data.vocabulary import corpus
    from qwenvl.processing.tokenizer import train_tokenizer
    from qwenvl.runtime import make_folder

    make_folder(options.out)
    with progress("reading", options.texts) as advance:
        tokenizer = train_tokenizer(counted(corpus(options.seed, options.texts), advance), options.size)
    tokenizer.save(options.out)
    print(f"{options.out / 'tokenizer.json'}: {tokenizer.vocab_size} tokens")
    return 0
