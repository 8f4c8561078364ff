"""`qwenvl data scene|pictures|vocabulary`: look at synthetic scenes, save them as files, train the small vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Scene:
    """Draw scenes with their boxes, and every question about them, on one HTML page."""

    out: Path
    """The page to write."""
    index: int = 0
    """Number of the first scene."""
    count: int = 9
    """How many scenes."""
    seed: int = 0
    """Seed of the stream of scenes, and of the questions."""
    kind: Literal["mixed", "text"] = "mixed"
    """Scenes of things, or of lettering alone."""
    split: Literal["train", "held_out"] = "train"
    """The stream that training draws from, or the one kept for evaluation."""
    language: Literal["en", "zh", "both"] = "both"
    style: Literal["raw", "chat", "both"] = "both"
    """The paper's pre-training formats, or chat."""


@dataclass(frozen=True)
class Pictures:
    """Save scenes as PNG files, with truth.json that says what each shows and where (boxes in pixels)."""

    out: Path
    """The folder to write into."""
    index: int = 0
    """Number of the first scene."""
    count: int = 9
    """How many scenes."""
    seed: int = 0
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
    seed: int = 0
    texts: int = 200_000
    """How many pieces of text to train on."""


Command = (
    Annotated[Scene, tyro.conf.subcommand("scene")]
    | Annotated[Pictures, tyro.conf.subcommand("pictures")]
    | Annotated[Vocabulary, tyro.conf.subcommand("vocabulary")]
)


def main(arguments: list[str]) -> int:
    command: Scene | Pictures | Vocabulary = tyro.cli(Command, args=arguments, prog="qwenvl data", description=__doc__)
    if isinstance(command, Scene):
        return draw_scenes(command)
    return save_pictures(command) if isinstance(command, Pictures) else train_vocabulary(command)


def draw_scenes(options: Scene) -> int:
    from qwenvl.data.inspect import scene_page
    from qwenvl.data.synth.scene import SceneSpec, generate_scene
    from qwenvl.data.tasks import LANGUAGES
    from qwenvl.runtime import atomic_write
    from qwenvl.types import QwenVLError, Style

    if options.count < 1:
        raise QwenVLError(f"--count {options.count}: ask for at least one scene")
    spec = SceneSpec(kind=options.kind, split=options.split)
    scenes = [generate_scene(spec, options.seed, options.index + number) for number in range(options.count)]
    languages = LANGUAGES if options.language == "both" else (options.language,)
    styles: tuple[Style, ...] = ("raw", "chat") if options.style == "both" else (options.style,)
    page = scene_page(scenes, languages, styles, options.seed)
    with atomic_write(options.out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(f"{options.out}: {options.count} scenes")
    return 0


def save_pictures(options: Pictures) -> int:
    import json

    from qwenvl.config import validate
    from qwenvl.data.synth.scene import SceneSpec, generate_scene
    from qwenvl.runtime import atomic_write

    spec = validate({"canvas": [options.canvas, options.canvas], "split": options.split}, SceneSpec, "--canvas")
    options.out.mkdir(parents=True, exist_ok=True)
    truth = {}
    for number in range(1, options.count + 1):
        scene = generate_scene(spec, options.seed, options.index + number - 1)
        name = f"scene-{number}.png"
        with atomic_write(options.out / name) as temporary:
            scene.image.save(temporary, format="png", optimize=True)
        things = [{"kind": thing.kind, "name": thing.name, "colour": thing.colour, "box": list(thing.box)} for thing in scene.things]
        truth[name] = {"seed": scene.seed, "index": scene.index, "split": options.split, "background": scene.background, "things": things}
    with atomic_write(options.out / "truth.json") as temporary:
        temporary.write_text(json.dumps(truth, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{options.out}: {options.count} pictures and truth.json")
    return 0


def train_vocabulary(options: Vocabulary) -> int:
    from qwenvl.data.vocabulary import corpus
    from qwenvl.processing.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(corpus(options.seed, options.texts), options.size)
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(options.out)
    print(f"{options.out / 'tokenizer.json'}: {tokenizer.vocab_size} tokens")
    return 0
