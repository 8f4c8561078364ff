"""The values that flow through the system: Sample -> Encoded -> Batch.

Everything that enters becomes a `Sample`; one renderer turns it into an `Encoded`; several of those make a `Batch`.
Neither torch nor a model generation is known here: `Encoded` holds numpy arrays, `Batch` torch tensors (typed lazily).

Shape letters: T tokens, P patches, V visual tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch

IGNORE_INDEX = -100
"""Label of a token that is not supervised (the value torch's cross entropy ignores)."""

Role = Literal["system", "user", "assistant"]
Style = Literal["raw", "chat"]
"""How a Sample is rendered: the raw pre-training format of the paper's Box B, or ChatML turns."""

Point = tuple[float, float]
REGION_POINTS = {"box": 2, "quad": 4, "point": 1}


class QwenVLError(Exception):
    """Anything the user can mend: its message is one line that says what is wrong, where, and what to do."""


class RegionError(QwenVLError, ValueError):
    """A region that cannot be taught or drawn: out of range, swapped or degenerate."""


@dataclass(frozen=True, slots=True)
class Region:
    """A place in a picture, in [0, 1] of the original picture's width and height.

    `points` holds (left, top), (right, bottom) for a box; four corners, clockwise from the top left, for a quad; one for a point.
    `image` counts the pictures of the conversation from 0; `label` is the phrase that the region belongs to.
    """

    kind: Literal["box", "quad", "point"]
    points: tuple[Point, ...]
    label: str | None = None
    image: int = 0

    @classmethod
    def box(cls, left: float, top: float, right: float, bottom: float, label: str | None = None, image: int = 0) -> Region:
        return cls("box", ((left, top), (right, bottom)), label, image)

    def check(self, where: str) -> Region:
        """Return self if it can be taught; raise RegionError naming `where` (a sample's id) if not."""
        if len(self.points) != REGION_POINTS[self.kind]:
            raise RegionError(f"{where}: a {self.kind} needs {REGION_POINTS[self.kind]} points, not {len(self.points)}")
        if not all(0.0 <= value <= 1.0 for point in self.points for value in point):
            raise RegionError(f"{where}: {self.kind} {self.points} leaves [0, 1]; give it as fractions of the picture")
        if self.kind == "box" and not (self.points[0][0] < self.points[1][0] and self.points[0][1] < self.points[1][1]):
            raise RegionError(f"{where}: box {self.points} is empty or swapped; order it left, top, right, bottom")
        if self.kind == "quad" and any(len(set(values)) == 1 for values in zip(*self.points, strict=True)):
            raise RegionError(f"{where}: quad {self.points} has no area; give its four corners, clockwise from the top left")
        return self

    def pixels(self, width: int, height: int) -> tuple[Point, ...]:
        """The points in pixels of a picture of that size, clamped to it."""
        return tuple((min(max(x, 0.0), 1.0) * width, min(max(y, 0.0), 1.0) * height) for x, y in self.points)


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """A stretch of a video, in seconds from its beginning; `label` says what happens in it."""

    start: float
    end: float
    label: str | None = None


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A picture whose file is read when it is opened: of thousands that lie in one file, none stays in memory.

    size: bytes. digest: of them, which tells it from others.
    """

    size: int
    digest: str
    read: Callable[[], bytes] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture: a path, bytes, a data URL, a PIL image or a StoredPicture. Pixel bounds apply to this picture alone."""

    image: Any
    min_pixels: int | None = None
    max_pixels: int | None = None


@dataclass(frozen=True, slots=True)
class VideoPart:
    """A clip: a file, a folder of frames or a list of pictures.

    fps: frames to draw per second, "auto" by how much changes, None the family's; of a folder or list it says instead at which
    rate its frames were taken. Pixel bounds are areas of one frame.
    """

    video: Any
    fps: float | Literal["auto"] | None = None
    max_frames: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None


@dataclass(frozen=True, slots=True)
class RegionPart:
    """A phrase tied to places in a picture. Without a phrase: only the places; without places: only the marked phrase."""

    phrase: str | None = None
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True)
class CoordinatesPart:
    """The bare numbers of a place, joined by `separator`: what stands in an attribute of HTML or in an argument of an action.

    As everywhere, they are written in the frame of the model that reads them.
    """

    region: Region
    separator: str = " "


Part = TextPart | ImagePart | VideoPart | RegionPart | CoordinatesPart


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, role: Role, *parts: Part | str) -> Message:
        return cls(role, tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation with its provenance. It knows nothing of a model generation."""

    messages: tuple[Message, ...]
    id: str = ""
    task: str = ""
    language: str = ""
    source: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def visuals(self) -> list[ImagePart | VideoPart]:
        """Pictures and videos in the order of the conversation."""
        return [part for message in self.messages for part in message.parts if isinstance(part, ImagePart | VideoPart)]

    @property
    def images(self) -> list[ImagePart]:
        return [part for part in self.visuals if isinstance(part, ImagePart)]


@dataclass(frozen=True, slots=True)
class PreferenceSample:
    """Two answers to one prompt, a conversation that ends with the user's turn: `chosen` is preferred to `rejected`.

    Where it is stored, `data.record` says.
    """

    prompt: Sample
    chosen: Message
    rejected: Message

    @property
    def answered(self) -> tuple[Sample, Sample]:
        """The conversation with the chosen answer, and with the rejected one."""
        messages = self.prompt.messages
        return replace(self.prompt, messages=(*messages, self.chosen)), replace(self.prompt, messages=(*messages, self.rejected))


def name_of(sample_id: str) -> str:
    """What an error calls a sample: by its id, or, where there is none, as what a user has asked."""
    return f"sample {sample_id!r}" if sample_id else "the prompt"


class PixelScale(NamedTuple):
    """What pixels in [0, 1] are lessened by, and then divided by, in each channel, before a tower sees them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(slots=True)
class Windows:
    """The windows that a tower's attention stays within, over the packed visual units (squares of merged patches) of all pictures.

    order (V,) int64: units in window order, so that x[order] lies window by window; lengths (w,) int64: patches of each window,
    none of them 0. numpy arrays in an Encoded, tensors in a Batch.
    """

    order: Any
    lengths: Any


@dataclass(slots=True)
class Encoded:
    """One Sample for one family, at its exact length.

    input_ids (T,) int64 with one placeholder per visual token; labels (T,) int64, the token itself where supervised and
    IGNORE_INDEX elsewhere (collate shifts them, nothing else does); position_ids (3, T) int64, rows t, h, w;
    patches of all pictures and videos, in the order of the conversation: numbers (P, C * frames * patch * patch) float32, or pixels
    (P, C, frames, patch * patch) uint8, frames 1 where all of them are still (see processing.patches);
    grids (n, 3) int64, patches in time, height, width; visual_slots (V,) int64, where the visual tokens go; image_sizes (width,
    height) of the originals;
    windows: the order and sizes of the tower's attention windows, None for a tower without;
    branch_ids (T,) int64 or None: 0 is the shared prefix, tokens of branch b see the prefix and their own branch only;
    loss_weights (T,) float32 or None for weight 1.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray
    patches: np.ndarray
    grids: np.ndarray
    visual_slots: np.ndarray
    image_sizes: tuple[tuple[int, int], ...] = ()
    windows: Windows | None = None
    branch_ids: np.ndarray | None = None
    loss_weights: np.ndarray | None = None
    sample_id: str = ""
    task: str = ""

    def __len__(self) -> int:
        return len(self.input_ids)

    def with_(self, **changes: Any) -> Encoded:
        return replace(self, **changes)


@dataclass(slots=True)
class Batch:
    """Several Encoded packed along one token axis.

    input_ids (T,), labels (T,) already aligned to the next token, loss_weights (T,) float32, position_ids (3, T),
    document_ids (T,) non-decreasing from 0, branch_ids (T,) or None, patches (P, ...), grids (n, 3), visual_slots (V,) into T,
    windows over all pictures.
    `extra` carries what an objective beyond next-token needs (the dense targets of stage 0, say).
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    loss_weights: torch.Tensor
    position_ids: torch.Tensor
    document_ids: torch.Tensor
    branch_ids: torch.Tensor | None
    patches: torch.Tensor
    grids: torch.Tensor
    visual_slots: torch.Tensor
    windows: Windows | None = None
    sample_ids: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def to(self, device: Any) -> Batch:
        def move(value: Any) -> Any:
            if isinstance(value, Windows):
                return Windows(move(value.order), move(value.lengths))
            return value.to(device, non_blocking=True) if hasattr(value, "to") else value

        moved = {name: move(getattr(self, name)) for name in self.__slots__ if name not in ("extra", "sample_ids")}
        return Batch(**moved, sample_ids=self.sample_ids, extra={name: move(value) for name, value in self.extra.items()})
