"""What a benchmark is: files as they are distributed become items, items become questions in one of its wordings, and replies
become scores. One benchmark is one `Benchmark` in `eval/tasks`; nothing here knows any of them.

Everything that could make two runs differ has a name and a place: the split, the wording (`Prompt`, with the source that it was
taken from), how answers are drawn (`Decoding`), which examples were shown before the question.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl.data.places import for_markup
from qwenvl.eval.asking import Answerer
from qwenvl.eval.schema import of_schema
from qwenvl.eval.task import Decoding, EvaluationError, Pooled, Prediction, Question, Tally
from qwenvl.families.spec import Markup
from qwenvl.processing.image import picture_size
from qwenvl.processing.regions import style_of
from qwenvl.types import ImagePart, Message, Part, RegionPart, Sample, StoredPicture, Style, TextPart, VideoPart

if TYPE_CHECKING:
    from qwenvl.eval.judge import Rubric

IMAGE_MARK = "<image>"
"""Where a picture or clip of an item stands in the words of a wording, in their order; those without a mark come first."""
REGION_MARK = re.compile(r"<ref>(.*?)</ref>")
"""A phrase that the model's own markup marks as such."""


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a benchmark, before it is put into words.

    fields: what `Prompt.text` is filled with. answer: what a perfect model would say, shown in reports and examples; empty where it
    is withheld. truth: plain data (JSON) for the scorer. options: what is ranked by likelihood, as it stands behind the prompt.
    """

    id: str
    fields: Mapping[str, str] = field(default_factory=dict)
    visuals: tuple[ImagePart | VideoPart, ...] = ()
    answer: str | tuple[Part, ...] = ""
    truth: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    language: str = "en"
    group: str = ""
    """Category or subject, whose score is told apart."""

    @property
    def said(self) -> tuple[Part, ...]:
        """The answer as parts of a message."""
        return (TextPart(self.answer),) if isinstance(self.answer, str) else self.answer


@dataclass(frozen=True, slots=True)
class Prompt:
    """One wording: `text` with {fields}, `<image>` where pictures stand and <ref>…</ref> around phrases that markup marks.

    source: the repository, commit and file, or section of a paper, that it was taken from.
    """

    text: str
    source: str
    decoding: Decoding
    style: Style = "raw"
    system: str | None = None
    numbered: bool | None = None
    """Whether pictures in a chat are numbered; None: as the family does it."""

    def parts(self, item: Item) -> tuple[Part, ...]:
        """Raises EvaluationError for a field that the item lacks, and for marks without a picture."""
        try:
            words = self.text.format(**item.fields)
        except KeyError as error:
            raise EvaluationError(f"{item.id}: the wording speaks of {error}, which the item has not") from None
        return tuple(_placed(words, item))

    def opening(self, item: Item) -> list[Message]:
        """The turn before all others, where there is one. A wording that tells of the picture's size there is a class of its own.
        """
        return [] if self.system is None else [Message.of("system", self.system)]


def _placed(words: str, item: Item) -> Iterator[Part]:
    pieces = words.split(IMAGE_MARK)
    if len(pieces) - 1 > len(item.visuals):
        raise EvaluationError(f"{item.id}: {len(pieces) - 1} places for pictures in its words, and {len(item.visuals)} pictures")
    unplaced = len(item.visuals) - (len(pieces) - 1)
    yield from item.visuals[:unplaced]
    for piece, visual in zip(pieces, (*item.visuals[unplaced:], None), strict=True):
        yield from _marked(piece)
        if visual is not None:
            yield visual


def _marked(words: str) -> Iterator[Part]:
    for index, piece in enumerate(REGION_MARK.split(words)):
        if index % 2:
            yield RegionPart(piece)
        elif piece:
            yield TextPart(piece)


@dataclass(frozen=True, slots=True)
class Split:
    """files: what must lie in the benchmark's folder, as paths or patterns. answers: whether they hold the answers; where they do
    not, a submission is all that can be made. shots: the split that examples are taken from."""

    files: tuple[str, ...]
    answers: bool = True
    shots: str | None = None


Read = Callable[[Path, str], Iterator[Item]]
"""(folder, split) -> items, in the order of the files. Raises SourceError naming the file, EvaluationError naming the item."""
Score = Callable[[Prediction, Markup], Mapping[str, Tally]]
"""A reply, and the markup that its model writes places in."""
Pool = Callable[[Sequence[Prediction], Markup], Mapping[str, Pooled]]
Submit = Callable[[Sequence[Prediction]], Mapping[str, bytes]]
"""Predictions of a split -> {file name: content} as the benchmark's server takes it."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark as a table row and the functions that read, score and hand it in. Most are thirty lines in `eval/tasks`.

    measure: the one that stands beside the published number, of `score` or of `pool`. scale: what a share of 1 is called (100 for
    per cent). source: where its scoring rule and file format were read. get: where the files are got, and how they must lie.
    """

    name: str
    title: str
    get: str
    source: str
    splits: Mapping[str, Split]
    prompts: Mapping[str, Prompt]
    """Version -> wording. `paper` is that of Qwen-VL's published evaluation, for base models; `chat` one for chat models."""
    read: Read
    measure: str
    score: Score = lambda prediction, markup: {}
    pool: Pool = lambda predictions, markup: {}
    submit: Submit | None = None
    judge: Rubric | None = None
    """How a judge is asked, of a benchmark whose replies no rule can score; `score` then reads truth["verdict"]."""
    scale: float = 100.0
    lower: bool = False
    """Less is better."""
    version: int = 1
    """Raised whenever scoring or reading changes, so that scores of two versions are never compared."""

    def split(self, name: str | None) -> str:
        """The split asked for, or the first. Raises EvaluationError."""
        if name is not None and name not in self.splits:
            raise EvaluationError(f"{self.name} has no split {name!r}; known: {', '.join(self.splits)}")
        return name or next(iter(self.splits))

    def items(self, folder: Path, split: str) -> Iterator[Item]:
        """What `read` gives. Raises SourceError too where a file is not of the form that `read` expects."""
        found = self.read(folder, split)
        for number in count(1):
            with of_schema(f"{folder}, item {number} of {split}"):
                item = next(found, None)
            if item is None:
                return
            yield item

    def prompt(self, version: str | None, style: Style) -> str:
        """The version asked for; by default `paper` for models that complete text, `chat` for those that answer, where there is
        one. Raises EvaluationError."""
        if version is not None and version not in self.prompts:
            raise EvaluationError(f"{self.name} has no prompt {version!r}; known: {', '.join(self.prompts)}")
        wanted = "paper" if style == "raw" else "chat"
        return version or (wanted if wanted in self.prompts else next(iter(self.prompts)))


@dataclass(frozen=True, slots=True)
class Shots:
    """Examples before a question: so many, drawn by seed from the split that the benchmark names for it."""

    count: int = 0
    seed: int = 0


def questions(
    benchmark: Benchmark, folder: Path, split: str, version: str, answerer: Answerer, shots: Shots = Shots(),
    limit: int | None = None,
) -> Iterator[Question]:  # fmt: skip
    """The questions of a split to a model, in the order of its files. Raises what `Read` raises, and EvaluationError for examples
    that are not to be had."""
    from qwenvl.eval.shots import draw_shots

    prompt = benchmark.prompts[version]
    draw = draw_shots(benchmark, folder, split, shots)
    for number, item in enumerate(benchmark.items(folder, split)):
        if limit is not None and number >= limit:
            return
        yield question_of(benchmark, split, prompt, item, answerer, draw(item))


def question_of(
    benchmark: Benchmark, split: str, prompt: Prompt, item: Item, answerer: Answerer, examples: Sequence[Item] = ()
) -> Question:
    """The item in words, after examples with their answers: in raw style one run of text, in chat style turns.

    Where the model writes places in pixels of a resized picture, truth["frame"] has the size that it gives the item's first one.
    """
    turns = prompt.opening(item)
    if prompt.style == "raw":
        before: list[Part] = []
        for example in examples:
            # As the public script has it: the wording, a space, the answer, and nothing between two of them.
            before += [*prompt.parts(example), TextPart(" "), *example.said]
        turns.append(Message("user", (*before, *prompt.parts(item))))
    else:
        for example in examples:
            turns += [Message("user", prompt.parts(example)), Message("assistant", example.said)]
        turns.append(Message("user", prompt.parts(item)))
    turns.append(Message("assistant", item.said))
    truth = dict(item.truth) | ({"options": list(item.options)} if item.options else {})
    truth |= {"group": item.group} if item.group else {}
    if style_of(answerer.markup).in_pixels and item.visuals and isinstance(item.visuals[0], ImagePart):
        truth["frame"] = list(answerer.frame(picture_size(item.visuals[0].image)))
    return Question(
        id=f"{split}/{item.id}",
        task=benchmark.name,
        condition=split,
        language=item.language,
        sample=for_markup(Sample(tuple(turns), id=f"{benchmark.name}/{split}/{item.id}"), answerer.markup),
        truth=truth,
        decoding=prompt.decoding,
        style=prompt.style,
        numbered=prompt.numbered,
        options=item.options if prompt.decoding.rank else (),
        digest=item_digest(item),
    )


def item_digest(item: Item) -> str:
    """Of an item's words, truth, the names of its files and the pictures that its own file holds: two runs that differ in it were
    asked something else."""
    told = [item.id, dict(item.fields), dict(item.truth), list(item.options), repr(item.said), file_names(item)]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_names(item: Item) -> list[str]:
    """What tells its pictures and clips from others: names of files, and digests of what is no file of its own."""
    names = []
    for visual in item.visuals:
        file = visual.image if isinstance(visual, ImagePart) else visual.video
        if isinstance(file, StoredPicture):
            names.append(file.digest)
        elif isinstance(file, bytes):
            names.append(hashlib.sha256(file).hexdigest())
        elif isinstance(file, str | Path):
            names.append(Path(file).name)
    return names


def prompt_hash(prompt: Prompt) -> str:
    """Of what a wording says and how answers to it are drawn."""
    told = repr((prompt.text, prompt.style, prompt.system, prompt.numbered, sorted(asdict(prompt.decoding).items())))
    return hashlib.sha256(told.encode()).hexdigest()[:12]
