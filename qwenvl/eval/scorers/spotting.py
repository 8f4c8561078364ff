"""Text spotting: words found at their places, as ICDAR's robust reading scores them end to end.

The rules and limits of eval_scripts/spotting_metric.py and spotting_eval/script.py (IOU_CONSTRAINT 0.5, AREA_PRECISION_CONSTRAINT
0.5), OCRBench_v2 of Yuliang-Liu/MultimodalOCR @ 794c36d, for the upright boxes that OCRBench v2 asks for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence

from qwenvl.eval.scorers.boxes import Box, box_iou

SPECIAL = "!?.:,*\"()·[]/'"
"""At one end of a true word, these may be left out."""
UNREADABLE = "###"
FOUND, INSIDE = 0.5, 0.5
LARGEST = 1000
"""Coordinates are thousandths of the picture's sides."""
PIECE = re.compile(r"[\[(]\s*([^\[\]()]*?)\s*[\])]")
QUOTED = re.compile(r'^\s*"(.*)"\s*$')

Word = tuple[Box, str]


def read_words(reply: str) -> list[Word]:
    """The (x1, y1, x2, y2, text) of a reply, each once; those that leave the picture are passed over."""
    try:
        said = ast.literal_eval(reply)
    except Exception:  # any text is read: ValueError, SyntaxError, MemoryError, RecursionError, ...
        pieces: Iterable[Sequence[object]] = (piece.split(",", 4) for piece in PIECE.findall(reply))
    else:
        pieces = (item for item in said if isinstance(item, list | tuple)) if isinstance(said, list | tuple) else ()
    words: dict[Word, None] = {}
    for piece in pieces:
        if len(piece) < 5:
            continue
        try:
            left, top, right, bottom = (int(str(value).strip()) for value in piece[:4])
        except ValueError:
            continue
        if all(0 <= value <= LARGEST for value in (left, top, right, bottom)):
            words[(left, top, right, bottom), str(piece[4]).replace("\n", "").strip().strip('"').strip("'")] = None
    return list(words)


def upright(corners: Sequence[float]) -> Box:
    """The box around x1, y1, x2, y2, ..."""
    return min(corners[::2]), min(corners[1::2]), max(corners[::2]), max(corners[1::2])


def spotting_f1(said: Sequence[Word], true: Sequence[Word]) -> float:
    """F1 of words whose box overlaps a true one's by more than half and whose text is that one's, whatever its case.

    Each pair is made of the first that overlap, whether or not their texts agree. True words that cannot be read (###) ask for
    nothing, and what lies in them by more than half is not counted.
    """
    ours = [(box, _unquoted(text)) for box, text in said if box[0] < box[2] and box[1] < box[3]]
    theirs = [(box, _unquoted(text)) for box, text in true]
    ignored = [box for box, text in theirs if text == UNREADABLE]
    ours = [word for word in ours if not any(_covered(word[0], box) > INSIDE for box in ignored)]
    theirs = [word for word in theirs if word[1] != UNREADABLE]
    if not ours or not theirs:
        return 0.0
    left, right = list(ours), 0
    for box, text in theirs:
        for word in left:
            if box_iou(box, word[0]) > FOUND:
                right += _same(text.upper(), word[1].upper())
                left.remove(word)
                break
    return 2 * right / (len(ours) + len(theirs))


def _unquoted(text: str) -> str:
    """The evaluation reads words from lines, in which double quotes go around a text."""
    found = QUOTED.match(text)
    return found[1].replace("\\\\", "\\").replace('\\"', '"') if found else text


def _covered(box: Box, by: Box) -> float:
    """The share of a box that another one covers."""
    width, height = min(box[2], by[2]) - max(box[0], by[0]), min(box[3], by[3]) - max(box[1], by[1])
    return max(width, 0) * max(height, 0) / ((box[2] - box[0]) * (box[3] - box[1]))


def _same(true: str, said: str) -> bool:
    starts = {0, 1} if true[:1] and true[0] in SPECIAL else {0}
    ends = {0, 1} if true[:1] and true[-1] in SPECIAL else {0}
    return any(true[start : len(true) - end] == said for start in starts for end in ends)
