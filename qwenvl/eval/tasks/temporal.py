"""When what is queried happens in a video: Charades-STA (section 3 of arXiv 2502.13923 reports its mIoU)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qwenvl.data.adapters.files import clip
from qwenvl.data.adapters.videos import read_charades_sta
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.peers import LMMS
from qwenvl.eval.schema import of_schema
from qwenvl.eval.scorers.temporal import when
from qwenvl.eval.task import Decoding

TALL = "jiyanggao/TALL @ 3df6794, README.md"


def _read(folder: Path, split: str) -> Iterator[Item]:
    for record in read_charades_sta(folder):
        if record["split"] != split:
            continue
        with of_schema(f"{folder}/charades_sta_{split}.txt, line {record['number'] + 1}"):
            times, mark, sentence = record["line"].partition("##")
            name, start, end = times.split()
            span, query = (float(start), float(end)), sentence.strip().rstrip(".")
            if not mark or not query:
                raise ValueError("it is not VIDEO START END##SENTENCE")
            video = clip(folder, name, id=f"charades_sta {record['number']}")
        answer = f"The given query happens in {span[0]:.1f} - {span[1]:.1f} seconds."
        yield Item(f"{record['number']:04d}", {"query": query}, (video,), answer, {"span": list(span)})


BENCHMARKS: dict[str, Benchmark] = {
    "charades_sta": Benchmark(
        name="charades_sta",
        title="Charades-STA",
        get="charades_sta_test.txt of jiyanggao/TALL, and Charades' videos in a folder beside it (Charades_v1_480.zip of Ai2).",
        source=f"{TALL}; {LMMS}/charades_sta/utils.py",
        splits={"test": Split(("charades_sta_test.txt", "*/*.mp4"))},
        prompts={
            "chat": Prompt(
                "Give the query: '{query}', when does the described content occur in the video?",
                "QwenLM/Qwen2.5-VL @ f0af299, cookbooks/video_understanding.ipynb, part 3; its limit "
                f"{LMMS}/charades_sta/charades.yaml",
                Decoding(max_new_tokens=50),
                style="chat",
            )
        },
        read=_read,
        score=lambda prediction, markup: when(prediction),
        measure="miou",
    )
}
