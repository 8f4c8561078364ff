"""A run without its workers: verdicts on a small corpus with known faults, the run's folder, the report, the command's options."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from qwenvl.cli.data_clean import Clean, read_config
from qwenvl.cli.data_clean import clean as clean_command
from qwenvl.cli.options import UsageError
from qwenvl.config import ConfigError
from qwenvl.data.clean.config import CleanConfig, Columns, Dataset
from qwenvl.data.clean.engine import Engine, _heed_interrupts, on_workers
from qwenvl.data.clean.examine import Examiner, Row, examine_shard
from qwenvl.data.clean.inputs import InputError, Pair
from qwenvl.data.clean.pipeline import kept_samples
from qwenvl.data.clean.report import write_report
from qwenvl.data.clean.scorers import ScorerError, scorer_factory
from qwenvl.data.clean.state import CleanError, Run, open_run
from qwenvl.data.shards import ShardReader, write_shard
from qwenvl.types import TextPart
from tests.clean_corpus import ACADEMIC, WEB, Case, Maker, PretendScorer, config_of, rows_of, unfetched, write_corpus

pa: Any = pytest.importorskip("pyarrow")


def examined(run: Run) -> None:
    """What the workers do first; and no duplicates found."""
    for shard in run.shards:
        examine_shard(shard.file, shard.number, Examiner(shard.dataset, PretendScorer()), run.verdicts(shard))
        for file in run.duplicate_files(shard.dataset).values():
            doubles(file, {})


def doubles(file: Path, found: dict[int, int]) -> None:
    file.parent.mkdir(exist_ok=True)
    columns = {"place": pa.array(found.keys(), pa.int64()), "better": pa.array(found.values(), pa.int64())}
    pa.parquet.write_table(pa.table(columns), file)


def verdicts(run: Run) -> list[tuple[str, str | None]]:
    return [(row["verdict"], row["text"]) for shard in run.shards for row in pa.parquet.read_table(run.verdicts(shard)).to_pylist()]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    folder = tmp_path_factory.mktemp("corpus")
    rows = rows_of(WEB, 400, seed=0)
    unfetched(rows, 4, 10)
    write_corpus(folder / "web", rows, 4)
    return folder, rows


def test_every_fault_is_found_and_nothing_else(web: tuple[Path, list[Case]], tmp_path: Path) -> None:
    """Duplicates apart, which are found among all rows: those are in test_clean_duplicates and, at scale, in the slow tier."""
    corpus, rows = web
    within = [
        case if case.verdict not in ("exact_duplicate", "near_duplicate") else Case("", "", None, clean=case.clean) for case in rows
    ]
    with open_run(config_of(corpus), tmp_path / "out") as run:
        examined(run)
        found = verdicts(run)
    wrong = [
        (case.kind, case.text, got)
        for case, got in zip(within, found)
        if got[0] != case.verdict or (not got[0] and got[1] != case.clean)
    ]
    assert len(found) == len(rows) and not wrong
    kinds = {case.verdict for case in rows}
    assert kinds >= {
        "emoji",
        "characters",
        "text_length",
        "aspect_ratio",
        "small_image",
        "broken_image",
        "image_text_score",
        "not_fetched",
    }


def test_damaged_pictures_are_dropped_and_never_stop_the_run() -> None:
    """Bytes of pictures of every kind, changed and cut at random."""
    make, examiner = Maker(7), Examiner(Dataset(name="x", inputs=("a",), rules={"small_image": {"minimum": 2}}))
    turned = Image.Exif()
    turned[0x0112], turned[0x010E] = 6, "a description"
    broken = 0
    for form in ("jpeg", "png", "gif", "webp", "tiff", "bmp"):
        whole = make.file(form=form, **({"exif": turned} if form in ("jpeg", "webp", "tiff") else {}))
        for number in range(60):
            content = bytearray(whole[: make.rng.randrange(len(whole))] if number % 3 == 0 else whole)
            for _ in range(make.rng.choice([1, 3, 30])):
                if content:
                    content[make.rng.randrange(min(len(content), make.rng.choice([40, 10_000])))] = make.rng.randrange(256)
            row = Row(0)
            examiner.look(Pair(0, "0", "three small words", bytes(content), None), row)
            assert row.verdict in ("", "broken_image", "aspect_ratio", "small_image")
            broken += row.verdict == "broken_image"
    assert broken > 100


def test_special_tags_of_academic_captions(tmp_path: Path) -> None:
    rows = rows_of(ACADEMIC, 40, seed=1)
    write_corpus(tmp_path / "academic", rows, 1)
    with open_run(config_of(tmp_path), tmp_path / "out") as run:
        examined(run)
        found = [verdict for verdict, _ in verdicts(run)]
    assert found == [case.verdict if case.verdict != "longest_text" else "" for case in rows]
    assert found.count("special_tags") > 2


def test_a_row_that_fails_several_rules_is_counted_once_and_named_for_all(tmp_path: Path) -> None:
    make = Maker(0)
    write_corpus(tmp_path / "web", [Case("", "😀 Привет", make.file(make.picture((10, 200))))], 1)
    with open_run(config_of(tmp_path), tmp_path / "out") as run:
        examined(run)
        [row] = pa.parquet.read_table(run.verdicts(run.shards[0])).to_pylist()
    assert row["verdict"] == "emoji" and row["reason"] == "😀"
    assert row["failed"] == ["emoji", "characters", "text_length"]
    assert row["width"] is None, "a picture whose text is dropped is not opened"


def test_the_pictures_that_stay_are_written_as_they_were_and_as_captions(tmp_path: Path) -> None:
    make = Maker(0)
    rows = [make.good("plain") for _ in range(6)]
    write_corpus(tmp_path / "web", rows, 2)
    with open_run(config_of(tmp_path), tmp_path / "out") as run:
        examined(run)
        doubles(run.duplicates(run.config.datasets[0], run.config.datasets[0].ruleset().duplicates[0]), {(1 << 23) | 1: 0})
        for shard in run.shards:
            write_shard(shard.out, kept_samples(run, shard))
    reader = ShardReader(tmp_path / "out" / "web")
    kept = [case for number, case in enumerate(rows) if number != 4]
    assert len(reader) == len(kept)
    for number, case in enumerate(kept):
        sample = reader.sample(number)
        assert (sample.task, sample.source, sample.id.split("/")[0]) == ("caption", "web", "web")
        assert sample.images[0].image == case.image
        assert sample.messages[-1].parts[-1] == TextPart(case.clean)
        assert sample.language == ("zh" if "旁边" in case.text else "en")
    assert reader.sample(0).extra["url"] == "http://example.org/0.jpg" and reader.sample(0).extra["score"] == pytest.approx(0.28)


def test_a_damaged_file_keeps_its_rows_before_the_damage_and_is_named(tmp_path: Path) -> None:
    make = Maker(0)
    write_corpus(tmp_path / "web", [make.good("plain") for _ in range(20)], 1)
    tar = tmp_path / "web" / "00000.tar"
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    with open_run(config_of(tmp_path), tmp_path / "out") as run:
        examined(run)
        samples = list(kept_samples(run, run.shards[0]))
        data = write_report(run)
    assert 5 < len(samples) < 15
    assert data["datasets"][0]["cleaned"] == data["datasets"][0]["rows"] == len(samples)
    assert "00000.tar: damaged" in data["datasets"][0]["damaged_files"][0]
    assert "00000.tar: damaged" in (tmp_path / "out" / "report.html").read_text()


def test_the_report_counts_every_row_once(web: tuple[Path, list[Case]], tmp_path: Path) -> None:
    corpus, rows = web
    with open_run(config_of(corpus), tmp_path / "out") as run:
        examined(run)
        data = write_report(run)
    [row] = data["datasets"]
    assert row["rows"] == len(rows) and row["not_fetched"] == 10 and row["original"] == len(rows) - 10
    assert row["cleaned"] == row["original"] - sum(rule["dropped"] for rule in row["rules"]) == sum(row["languages"].values())
    assert row["remaining_percent"] == round(100 * row["cleaned"] / row["original"], 1)
    dropped = {rule["rule"]: rule["dropped"] for rule in row["rules"]}
    for name in ("emoji", "broken_image", "image_text_score"):
        assert dropped[name] == sum(case.verdict == name for case in rows)
    assert row["score_quantiles"]["0.5"] == pytest.approx(0.28) and sum(row["text_cleaned"].values()) > 3
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == data


def test_the_report_shows_examples_and_lets_no_text_become_markup(tmp_path: Path) -> None:
    make = Maker(0)
    attack = Case("", "<script>alert(1)</script> <img src=x onerror=alert(1)> a big dog", make.file(make.picture((10, 10))))
    same = make.good("plain")
    write_corpus(tmp_path / "web", [attack, same, Case("", same.text, same.image), make.good("plain", "<b>{}</b>")], 1)
    with open_run(config_of(tmp_path), tmp_path / "out") as run:
        examined(run)
        doubles(run.duplicates(run.config.datasets[0], run.config.datasets[0].ruleset().duplicates[0]), {2: 1})
        write_report(run)
        once = (tmp_path / "out" / "report.html").read_bytes()
        write_report(run)
    page = once.decode()
    assert once == (tmp_path / "out" / "report.html").read_bytes()
    assert "<script" not in page and "onerror=alert(1)&gt;" in page and "stays instead" in page
    assert page.count("data:image/jpeg;base64,") == 5 and "http" not in page.replace("http://example.org", "")
    assert "&lt;b&gt;" in page and "small image" in page and "kept, text cleaned" in page


def test_a_run_goes_on_with_the_same_settings_and_inputs_alone(tmp_path: Path) -> None:
    write_corpus(tmp_path / "web", [Maker(0).good("plain")], 1)
    config, out = config_of(tmp_path), tmp_path / "out"
    with open_run(config, out) as run:
        (left := out / "state" / "verdicts").mkdir()
        (left / ".000000.123.0123abcd.parquet").touch()
        assert run.shards[0].out == out / "web" / "part-00000.parquet"
        with pytest.raises(CleanError, match="another run is at work"), open_run(config, out):
            pass
    with open_run(config, out):
        assert not list(left.iterdir()), "what a killed process left behind is cleared away"
    (left / "000000.parquet").touch()
    other = config.model_dump(mode="json")
    other["datasets"][0]["rules"]["small_image"]["minimum"] = 31
    with pytest.raises(CleanError, match=r"another datasets.web.rules.small_image.minimum"), open_run(CleanConfig(**other), out):
        pass
    (tmp_path / "web" / "00000.tar").write_bytes(b"other")
    with pytest.raises(CleanError, match=r"holds a run with another files\..*00000.tar"), open_run(config, out):
        pass
    with pytest.raises(CleanError, match="not empty, and not of a cleaning run"), open_run(config, tmp_path / "web"):
        pass


def options(*inputs: str, **changed: Any) -> Clean:
    return Clean(inputs=inputs, **changed)


def test_options_describe_one_dataset(tmp_path: Path) -> None:
    config = read_config(
        options("a.tar", preset="coyo", min_score=0.3, scorer="clip:x", set=("rules.emoji=null", "rules.small_image.minimum=64"))
    )
    [dataset] = config.datasets
    rules = dataset.ruleset()
    assert (dataset.name, dataset.inputs, rules.emoji) == ("coyo", ("a.tar",), None)
    assert (
        rules.small_image and rules.small_image.minimum == 64 and rules.image_text_score and rules.image_text_score.minimum == 0.3
    )
    file = tmp_path / "clean.yaml"
    file.write_text("datasets: [{name: a, inputs: [x.csv], preset: sbu}]\n")
    assert read_config(options(config=file, set=("examples=2",))).examples == 2


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (options(), UsageError, "nothing to clean"),
        (options("a.csv", config=Path("x.yaml")), UsageError, "inputs stand in the file"),
        (options("a.csv", preset="nothing"), ConfigError, "unknown preset 'nothing'"),
        (options("a.csv", min_score=0.3), ConfigError, "image_text_score needs a scorer"),
        (options("a.csv", set=("rules.emojis=null",)), ConfigError, "emojis: unknown key; did you mean 'emoji'"),
        (options(config=Path("missing.yaml")), ConfigError, "missing.yaml: cannot be read"),
    ],
)
def test_wrong_options_are_named(given: Clean, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        read_config(given)


def test_wrong_scorers_and_engines_are_named(tmp_path: Path) -> None:
    for spec, message in (("clip", "give clip:FOLDER"), ("blip:x", "give clip:FOLDER"), ("clip:/nowhere", "no such folder")):
        with pytest.raises(ScorerError, match=message):
            scorer_factory(spec)
    with pytest.raises(ScorerError, match="give clip"):
        scorer_factory("model:x")
    assert scorer_factory("model:x", likelihood=Recorder)().name == "x"  # type: ignore[attr-defined]
    assert list(on_workers(lambda: print, [], Engine())) == []


class Recorder(PretendScorer):
    def __init__(self, name: str) -> None:
        self.name = name


def test_a_table_without_text_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("url,colour\nhttp://x.org,red\n")
    dataset = Dataset(name="x", inputs=(str(tmp_path / "rows.csv"),))
    with pytest.raises(InputError, match=r"rows.csv: which column is the text\?"):
        examine_shard(tmp_path / "rows.csv", 0, Examiner(dataset), tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_scores_are_taken_in_the_same_batches_whatever_is_dropped(tmp_path: Path) -> None:
    class Batches(PretendScorer):
        sizes: ClassVar[list[int]] = []

        def score(self, pictures: Sequence[Any], texts: Sequence[str]) -> Any:
            self.sizes.append(len(texts))
            return super().score(pictures, texts)

    make = Maker(0)
    rows = [make.good("plain") if number % 3 else make.bad("text_length", "short") for number in range(150)]
    write_corpus(tmp_path / "web", rows, 1)
    config = config_of(tmp_path)
    with open_run(config, tmp_path / "out") as run:
        examine_shard(run.shards[0].file, 0, Examiner(run.shards[0].dataset, Batches()), run.verdicts(run.shards[0]))
        assert [verdict for verdict, _ in verdicts(run)] == [case.verdict for case in rows]
    assert Batches.sizes == [64, 36]


def test_a_pair_that_the_scorer_does_not_take_has_no_score_and_is_dropped_by_a_threshold(tmp_path: Path) -> None:
    class Choosy(PretendScorer):
        def score(self, pictures: Sequence[Any], texts: Sequence[str]) -> Any:
            found = super().score(pictures, texts)
            found[0] = float("nan")
            return found

    make = Maker(0)
    write_corpus(tmp_path / "web", [make.good("plain") for _ in range(3)], 1)
    dataset = config_of(tmp_path).datasets[0]
    measured = dataset.model_copy(update={"rules": dataset.rules | {"image_text_score": None}})
    path = tmp_path / "web" / "00000.tar"
    first, *others = Examiner(dataset, Choosy()).rows(path, 0)
    assert (first.verdict, first.reason, first.score) == ("image_text_score", "the scorer does not take the pair", None)
    assert not any(row.verdict for row in [*others, *Examiner(measured, Choosy()).rows(path, 0)])


def test_a_picture_that_goes_away_between_the_steps_is_named(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.png").write_bytes(Maker(0).file(form="png"))
    (tmp_path / "web" / "rows.csv").write_text("path,text\na.png,three small words\n")
    with open_run(config_of(tmp_path), tmp_path / "out") as run:
        examined(run)
        (tmp_path / "web" / "a.png").unlink()
        with pytest.raises(CleanError, match=r"rows.csv: the picture of 0 is gone"):
            list(kept_samples(run, run.shards[0]))


def test_a_run_that_has_judged_nothing_yet_may_go_on_with_better_settings(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n")
    for columns in ({}, {"text": "a", "image": "b"}):
        dataset = Dataset(name="x", inputs=(str(tmp_path / "rows.csv"),), columns=Columns(**columns))
        with open_run(CleanConfig(datasets=(dataset,)), tmp_path / "out") as run:
            assert run.config.datasets == (dataset,)


def test_ctrl_c_is_heeded_by_a_job_in_the_background_too() -> None:
    """daft stops there as well, and what it has so far must not be taken for all."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _heed_interrupts()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_gpus_below_zero_are_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--gpus -1: give 0 or more"):
        clean_command(options("a.csv", out=tmp_path, gpus=-1))
