"""Very many images: every source, every name one row, the same bytes once, and kills at any moment."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gammascope import checkpoints, machine, settings
from gammascope.data import ledger
from gammascope.data.audit import COPY_RADIUS, hash_of
from gammascope.detection.pipeline import Besides, Pipeline
from gammascope.detectors import gamma
from gammascope.errors import MissingDataError, RecipeError
from gammascope.imaging import codecs
from gammascope.imaging.decode import Limits
from gammascope.imaging.provenance import TrustList
from gammascope.report import COUNTED, Verdict
from gammascope.scanning.ordered import Plan, scan_into
from gammascope.scanning.results import LOOK, ResultsFolder, Row, Seen, by_verdict
from gammascope.scanning.sources import Item, listed


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    detector = gamma.build(gamma.METHOD.tiny)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    config = settings.plain(gamma.METHOD.tiny)
    checkpoints.save(path, detector, checkpoints.Facts("gamma", config, detector.view))
    return path


@pytest.fixture(scope="module")
def pipeline(weights) -> Pipeline:
    return Pipeline.load(weights)


def png(photo: np.ndarray, side: int) -> bytes:
    data = io.BytesIO()
    PIL.Image.fromarray(photo[:side, :side]).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def contents(photos) -> dict[str, bytes]:
    made = {f"{side}.png": png(photos["cat"], side) for side in range(40, 46)}
    made["twin of 40.png"] = made["40.png"]
    made["broken.png"] = made["41.png"][:150]
    made["empty.jpg"] = b""
    return made


def write(root: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_tar(path: Path, contents: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in {"notes.json": b"{}", **contents}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def rows_at(folder: Path) -> list[dict[str, Any]]:
    """All rows in their order, read as any program would that knows nothing of us."""
    return sorted(pq.read_table(folder).to_pylist(), key=lambda row: row["number"])


def by_name(folder: Path) -> dict[str, dict[str, Any]]:
    rows = {Path(row["image"]).name: row for row in rows_at(folder)}
    for row in rows.values():
        del row["number"], row["image"]
    return rows


def scanned(folder: Path, pipeline: Pipeline, *sources, **plan) -> dict[str, dict[str, Any]]:
    scan_into(folder, Plan(tuple(map(str, sources)), **plan), pipeline)
    return by_name(folder)


class Counting(Pipeline):
    """A pipeline that counts the pictures it is shown."""

    shown = 0
    counted = threading.Lock()

    def reports_of(self, pictures, stop=None):
        with self.counted:
            self.shown += len(pictures)
        return super().reports_of(pictures, stop)


@pytest.fixture
def counting(pipeline) -> Counting:
    return Counting(pipeline.detector, pipeline.facts, pipeline.weights_sha256)


def test_every_name_has_its_row_and_the_same_bytes_are_examined_once(contents, counting, tmp_path):
    write(tmp_path / "in", contents)
    rows = scanned(tmp_path / "out", counting, tmp_path / "in")
    assert rows.keys() == contents.keys()
    assert counting.shown == 6
    assert rows["twin of 40.png"] == rows["40.png"]
    for name, row in rows.items():
        if name in {"broken.png", "empty.jpg"}:
            assert row["error"]
            assert row["verdict"] is row["report"] is None
            continue
        expected = counting.report(contents[name]).to_json()
        del expected["image"]
        assert json.loads(row["report"]) == expected
        assert (row["verdict"], row["probability"]) == (
            expected["verdict"],
            expected["probability"],
        )
        assert (row["width"], row["bytes"]) == (expected["width"], len(contents[name]))
    assert rows["empty.jpg"]["error"] == "empty file."


def test_names_that_are_no_text_have_rows_and_scans_of_them_go_on(contents, counting, tmp_path):
    odd = {os.fsdecode(b"caf\xe9.png"): contents["40.png"], "a.png": contents["41.png"]}
    write(tmp_path / "in", odd)
    write(tmp_path / os.fsdecode(b"\xff"), odd)
    write_tar(tmp_path / "t.tar", odd)
    sources = (tmp_path / "in", tmp_path / os.fsdecode(b"\xff"), tmp_path / "t.tar")
    rows = scanned(tmp_path / "out", counting, *sources)
    assert rows.keys() == {r"caf\xe9.png", "a.png"}
    assert all(row["error"] is None for row in rows.values())
    images = [row["image"] for row in rows_at(tmp_path / "out")]
    assert len(set(images)) == 6
    assert scanned(tmp_path / "out", counting, *sources) == rows
    assert counting.shown == 2


def test_a_list_of_names_as_text_is_still_read(contents, counting, tmp_path):
    items = {"name": "/a/b.png", "file": "/a/b.png", "start": None, "size": None}
    assert Item.of(items) == Item.of(items | dict.fromkeys(("name", "file"), b"/a/b.png"))


def test_a_memory_that_fails_costs_work_and_no_scan(contents, counting, tmp_path):
    write(tmp_path / "in", contents)
    memory = Seen(tmp_path / "seen.sqlite")
    memory._connection.execute("PRAGMA max_page_count = 1")
    for number in range(50):
        memory.put(bytes([number]) * 32, "x" * 5000)
    memory.close()
    memory.put(b"later", "x")
    assert memory.get(b"later") is None
    (tmp_path / "folder.sqlite").mkdir()
    elsewhere = Seen(tmp_path / "folder.sqlite")
    elsewhere.put(b"a", "x")
    assert elsewhere.get(b"a") == "x"
    elsewhere.close()


def test_twins_are_examined_once_however_many_threads_meet_them(contents, counting, tmp_path):
    write(tmp_path / "in", {f"{number}.png": contents["40.png"] for number in range(12)})
    rows = scanned(tmp_path / "out", counting, tmp_path / "in", threads=6)
    assert counting.shown == 1
    assert len({row["report"] for row in rows.values()}) == 1


def test_several_pictures_are_examined_at_once(contents, pipeline, tmp_path, monkeypatch):
    both, report_of = threading.Barrier(2, timeout=30), pipeline.report_of

    def together(*picture):
        both.wait()  # broken where one comes alone
        return report_of(*picture)

    monkeypatch.setattr(pipeline, "report_of", together)
    write(tmp_path / "in", {name: contents[name] for name in ("40.png", "41.png")})
    rows = scanned(tmp_path / "out", pipeline, tmp_path / "in", threads=2)
    assert [row["error"] for row in rows.values()] == [None, None]


def test_near_duplicates_are_told_and_each_has_a_verdict_of_its_own(photos, counting, tmp_path):
    cat, coffee = np.ascontiguousarray(photos["cat"]), np.ascontiguousarray(photos["coffee"])
    contents = {
        "cat.png": codecs.encode(cat, codecs.Encoding("png")),
        "cat again.png": codecs.encode(cat, codecs.Encoding("png")),
        "cat 60.jpg": codecs.encode(cat, codecs.Encoding("jpeg", 60)),
        "half a cat.jpg": codecs.encode(codecs.rescale(cat, 0.5), codecs.Encoding("jpeg", 90)),
        "coffee.jpg": codecs.encode(coffee, codecs.Encoding("jpeg", 90)),
        "broken.jpg": b"no picture",
    }
    write(tmp_path / "in", contents)
    rows = scanned(tmp_path / "out", counting, tmp_path / "in")
    assert counting.shown == 4
    looks = {name: row[LOOK] for name, row in rows.items()}
    assert looks["cat.png"] == looks["cat again.png"] == hash_of(cat)
    assert looks["broken.jpg"] is None
    apart = {name: (look ^ looks["cat.png"]).bit_count() for name, look in looks.items() if look}
    assert max(apart["cat 60.jpg"], apart["half a cat.jpg"]) <= COPY_RADIUS < apart["coffee.jpg"]
    for name in ("cat.png", "cat 60.jpg", "half a cat.jpg"):
        assert rows[name]["probability"] == pytest.approx(
            counting.report(contents[name]).probability, abs=1e-6
        )
    summary = ResultsFolder(tmp_path / "out").summary()
    assert (summary.copies, summary.alike, summary.alike_groups) == (1, 3, 1)
    assert sum(summary.words.values()) == 5
    assert sum(summary.contents.values()) == 4
    assert sum(summary.pictures.values()) == 2


def results_of(folder: Path, *rows: tuple[str, Verdict | None, int]) -> ResultsFolder:
    """Write rows of contents (a letter), their verdicts (None: unreadable) and looks."""
    results = ResultsFolder(folder)
    whole = {"width": 1, "height": 1, "question": "generated", "probability": 0.5, "answers": {}}
    with results.writer() as add:
        for number, (content, verdict, look) in enumerate(rows):
            said = (
                {"error": "broken"}
                if verdict is None
                else {**whole, "verdict": verdict, LOOK: look}
            )
            add(Row(number, f"{number}.png", content * 64, 1, json.dumps(said)))
    return results


def test_verdicts_are_also_counted_once_for_each_content_and_for_what_looks_alike(tmp_path):
    """Of those that look alike the gravest counts, wherever it stands; what cannot be read has none."""
    no, unsure, fake = Verdict
    rows: list[tuple[str, Verdict | None, int]]
    rows = [("a", no, 0), ("b", fake, 2), ("b", fake, 2), ("c", unsure, 4), ("d", no, 7 << 40)]
    rows += [("d", no, 7 << 40), ("e", None, 0), ("e", None, 0), ("f", unsure, 7 << 50)]
    summary = results_of(tmp_path, *rows).summary()
    assert by_verdict(summary.words) == {no: 3, unsure: 2, fake: 2}
    assert by_verdict(summary.contents) == {no: 2, unsure: 2, fake: 1}
    assert by_verdict(summary.pictures) == {no: 1, unsure: 1, fake: 1}
    assert (summary.copies, summary.alike, summary.alike_groups, summary.failed) == (3, 3, 1, 2)


def test_counting_what_nothing_was_found_in_gives_zeros(tmp_path):
    summary = results_of(tmp_path, ("a", None, 0)).summary()
    assert summary.contents == summary.pictures == dict.fromkeys(COUNTED, 0)
    assert summary.failed == 1


def test_edits_are_counted_apart_from_fakes_but_are_a_yes(tmp_path):
    """A picture is edited where nothing else was found; what is generated and edited is a fake."""
    results = ResultsFolder(tmp_path)
    whole = {"width": 1, "height": 1, "verdict": "fake", "question": "edited", "probability": 0.9}
    with results.writer() as add:
        for number, generated in enumerate(("no sign", "uncertain", "fake")):
            answers = {
                question: {"verdict": verdict, "probability": 0.9}
                for question, verdict in (("generated", generated), ("edited", "fake"))
            }
            said = json.dumps(whole | {"answers": answers, LOOK: number << 40})
            add(Row(number, f"{number}.png", f"{number}" * 64, 1, said))
        # A detector that tells neither from the other, and is surer than whoever found the edit.
        answers = {name: {"verdict": "fake", "probability": 0.9} for name in ("fake", "edited")}
        said = json.dumps(whole | {"question": "fake", "answers": answers, LOOK: 3 << 40})
        add(Row(3, "3.png", "3" * 64, 1, said))
    summary = results.summary()
    assert summary.words == dict(zip(COUNTED, (0, 0, 2, 2), strict=True))
    assert summary.contents == summary.words
    assert by_verdict(summary.words)[Verdict.FAKE] == 4


def test_very_many_pictures_that_share_a_look_are_counted_in_little_memory(tmp_path):
    """Pictures of one colour do. All pairs of 30,000 take 7 GB."""
    count = 30_000
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "verdict": ["no sign"] * (2 * count),
            "generated_verdict": ["no sign"] * (2 * count),
            "edited_verdict": pa.nulls(2 * count, pa.string()),
            "sha256": [f"{number:064x}"[::-1] for number in range(2 * count)],
            LOOK: np.append(np.zeros(count, np.uint64), rng.integers(2**62, size=count, dtype=np.uint64) * 2 + 2),
            "error": pa.nulls(2 * count, pa.string()),
        }
    )  # fmt: skip
    ledger.write_part(tmp_path, 0, table)
    tracemalloc.start()
    summary = ResultsFolder(tmp_path).summary()
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 200 * 2**20
    assert summary.contents[str(Verdict.NO_SIGN)] == 2 * count
    assert summary.pictures[str(Verdict.NO_SIGN)] == count + 1
    assert (summary.alike, summary.alike_groups) == (count, 1)


def test_without_deduplication_each_is_examined(contents, counting, tmp_path):
    write(tmp_path / "in", contents)
    scanned(tmp_path / "out", counting, tmp_path / "in", deduplicate=False)
    assert counting.shown == 7


def test_all_sources_give_the_same_rows(contents, pipeline, tmp_path):
    """Only a table cannot hold an image without bytes: its error is worded differently."""
    write(tmp_path / "in", contents)
    expected = scanned(tmp_path / "folder", pipeline, tmp_path / "in")
    memory = fsspec.filesystem("memory")
    memory.pipe({f"/bulk/in/{name}": content for name, content in contents.items()})
    write_tar(tmp_path / "shard-000.tar", dict(list(contents.items())[:4]))
    write_tar(tmp_path / "shard-001.tar", dict(list(contents.items())[4:]))
    memory.pipe("/bulk/shard.tar", (tmp_path / "shard-000.tar").read_bytes())
    names = "path\n" + "".join(f"in/{name}\n" for name in contents)
    (tmp_path / "list.csv").write_text(names, "utf-8")
    memory.pipe("/bulk/list.csv", names.encode())
    pq.write_table(pa.table({"path": [f"in/{name}" for name in contents]}), tmp_path / "l.parquet")
    sources = {
        "pattern": [f"{tmp_path}/in/*"],
        "files": [tmp_path / "in" / name for name in contents],
        "overlapping": [tmp_path / "in", tmp_path / "in" / "40.png", f"{tmp_path}/in/"],
        "tar": [f"{tmp_path}/shard-{{000..001}}.tar"],
        "csv": [tmp_path / "list.csv"],
        "parquet": [tmp_path / "l.parquet"],
        "file url": [(tmp_path / "in").as_uri()],
        "memory": ["memory://bulk/in"],
        "memory pattern": ["memory://bulk/in/*"],
        "memory csv": ["memory://bulk/list.csv"],
    }
    for kind, places in sources.items():
        assert scanned(tmp_path / f"out {kind}", pipeline, *places) == expected, kind
    some = scanned(tmp_path / "memory tar", pipeline, "memory://bulk/shard.tar")
    assert some == {name: expected[name] for name in list(contents)[:4]}
    memory.rm("/bulk", recursive=True)


@pytest.mark.parametrize("place", ["file", "memory"])
@pytest.mark.parametrize("kind", ["bytes", "struct"])
def test_tables_with_images_inside(contents, pipeline, tmp_path, kind, place):
    write(tmp_path / "in", contents)
    expected = scanned(tmp_path / "folder", pipeline, tmp_path / "in")
    values = [
        content if kind == "bytes" else {"bytes": content, "path": name}
        for name, content in contents.items()
    ]
    data = io.BytesIO()
    pq.write_table(pa.table({"id": range(len(values)), "image": values}), data, row_group_size=3)
    table = str(tmp_path / "images.parquet")
    Path(table).write_bytes(data.getvalue())
    if place == "memory":
        fsspec.filesystem("memory").pipe("/images.parquet", data.getvalue())
        table = "memory://images.parquet"
    rows = scanned(tmp_path / "out", pipeline, table)
    for number, name in enumerate(contents):
        row = rows[f"{number}.image"]
        if name == "empty.jpg":
            assert "holds no image" in row["error"]
        else:
            assert row == expected[name]


def test_a_shard_that_breaks_off_has_rows_for_what_it_holds(contents, pipeline, tmp_path):
    write_tar(tmp_path / "whole.tar", contents)
    whole = (tmp_path / "whole.tar").read_bytes()
    items = list(listed([str(tmp_path / "whole.tar")]))
    third = items[2]
    assert third.start is not None
    (tmp_path / "cut.tar").write_bytes(whole[: third.start + 100])
    (tmp_path / "none.tar").write_bytes(b"no archive at all" * 100)
    rows = scanned(tmp_path / "out", pipeline, tmp_path / "cut.tar", tmp_path / "none.tar")
    assert rows["40.png"]["verdict"]
    assert rows["42.png"]["error"] == "cannot be read (the archive ends inside it)"
    assert "is broken after 0 images" in rows["none.tar"]["error"]


def test_what_is_gone_too_large_or_not_a_file_is_a_row(contents, pipeline, tmp_path):
    write(tmp_path, contents)
    names = ["40.png", "gone.png", ".", "44.png"]
    (tmp_path / "list.csv").write_text("path\n" + "\n".join(names), "utf-8")
    rows = scanned(
        tmp_path / "out", pipeline, tmp_path / "list.csv", limits=Limits(max_pixels=40 * 40)
    )
    assert rows["40.png"]["error"] is None
    assert "no such file" in rows["gone.png"]["error"]
    assert "44 x 44" in rows["44.png"]["error"]
    assert [row["error"] for row in rows.values() if row["error"]].count(None) == 0
    assert len(rows) == 4


def test_sources_that_are_not_there_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("file,label\nx,y\n")
    (tmp_path / "a.tar.gz").write_bytes(b"x")
    for source, words in {
        "nowhere": "No file or folder",
        "empty": "No image found",
        "*.xyz": "No image found",
        "a.csv": "no column 'path'",
        "a.tar.gz": "unpack it to a plain .tar",
    }.items():
        with pytest.raises(MissingDataError, match=words):
            list(listed([str(tmp_path / source)]))
    for source in ("memory://nowhere/a.png", "nosuchkind://a/b"):
        with pytest.raises(MissingDataError):
            list(listed([source]))


def test_a_finished_scan_does_nothing_and_another_is_refused(contents, counting, tmp_path):
    write(tmp_path / "in", contents)
    first = scanned(tmp_path / "out", counting, tmp_path / "in")
    before, counting.shown = rows_at(tmp_path / "out"), 0
    (tmp_path / "in" / "new.png").write_bytes(contents["45.png"])  # the list is fixed by then
    assert scanned(tmp_path / "out", counting, tmp_path / "in") == first
    assert (rows_at(tmp_path / "out"), counting.shown) == (before, 0)
    with pytest.raises(RecipeError, match="max_pixels is"):
        scanned(tmp_path / "out", counting, tmp_path / "in", limits=Limits(max_pixels=5))
    with pytest.raises(RecipeError, match="sources is"):
        scanned(tmp_path / "out", counting, tmp_path / "in" / "40.png")


def test_a_scan_goes_on_under_the_same_trust_list_alone(contents, pipeline, tmp_path):
    """What the list is called is no difference; a folder that says only whether there was one goes on without."""

    def under(trust: TrustList | None) -> Pipeline:
        return Pipeline(
            pipeline.detector, pipeline.facts, pipeline.weights_sha256, Besides(trust=trust)
        )

    write(tmp_path / "in", {"40.png": contents["40.png"]})
    ours, plain = tmp_path / "ours", tmp_path / "plain"
    scanned(ours, under(TrustList("one authority", "a.pem")), tmp_path / "in")
    scanned(plain, under(None), tmp_path / "in")
    scanned(ours, under(TrustList("one authority", "b.pem")), tmp_path / "in")
    for folder, other in (
        (ours, TrustList("another authority", "a.pem")),
        (ours, None),
        (plain, TrustList("one authority", "a.pem")),
    ):
        with pytest.raises(RecipeError, match="trust"):
            scanned(folder, under(other), tmp_path / "in")
    for folder in (ours, plain):
        place = folder / "_ledger" / ledger.RUN
        run = json.loads(place.read_text("utf-8"))
        del run["trust_sha256"]
        place.write_text(json.dumps(run), "utf-8")
    scanned(plain, under(None), tmp_path / "in")
    with pytest.raises(RecipeError, match="trust_sha256 is null there"):
        scanned(ours, under(TrustList("one authority", "a.pem")), tmp_path / "in")


def test_a_scan_of_nothing_leaves_its_folder_to_the_right_command(contents, pipeline, tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "in", contents)
    with pytest.raises(MissingDataError, match="No image found"):
        scanned(tmp_path / "out", pipeline, tmp_path / "empty")
    assert len(scanned(tmp_path / "out", pipeline, tmp_path / "in")) == len(contents)


def test_an_interruption_keeps_what_was_found(contents, counting, tmp_path):
    write(tmp_path / "in", contents)
    plan = Plan((str(tmp_path / "in"),))

    def stop(what: str, done: int, _: int | None) -> None:
        if what == "Scanning" and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan_into(tmp_path / "out", plan, counting, stop)
    assert len(rows_at(tmp_path / "out")) == 4
    scan_into(tmp_path / "out", plan, counting)
    assert [row["number"] for row in rows_at(tmp_path / "out")] == list(range(9))
    assert counting.shown == 6


def test_small_parts_are_merged_and_a_stop_in_between_loses_nothing(tmp_path):
    results = ResultsFolder(tmp_path, rows=10, merged_rows=40)
    numbers = list(range(100))
    np.random.default_rng(0).shuffle(numbers)  # as they come from a cluster
    with results.writer() as add:
        for number in numbers:
            add(Row(number, f"{number}.png", None, None, '{"error": "none"}'))
    assert len(ledger.parts(tmp_path)) > 10
    assert results.left(100) == 0
    small = {path.name: path.read_bytes() for path, _ in ledger.parts(tmp_path)}
    results.merge()
    merged = ledger.parts(tmp_path)
    assert len(merged) <= 3
    write(tmp_path, dict(list(small.items())[:5]))
    with results.alone():
        assert [row["number"] for row in rows_at(tmp_path)] == list(range(100))
    assert results.summary().failed == 100


def test_a_long_list_is_read_from_where_rows_are_missing(tmp_path):
    results = ResultsFolder(tmp_path, listed_rows=7)
    from gammascope.scanning.sources import Item

    assert results.list_once(Item(str(n), str(n), start=n) for n in range(50)) == 50
    with results.writer() as add:
        for number in (*range(5, 21), 30, *range(44, 50)):
            add(Row(number, "", None, None, '{"error": ""}'))
    found = [(number, item.start) for number, item in results.items(50)]
    assert found == [(n, n) for n in (*range(5), *range(21, 30), *range(31, 44))]


@given(
    st.sets(st.integers(0, 60)),
    st.integers(0, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(n, 60))),
)
def test_gaps_meet_what_looking_at_every_number_finds(without, span):
    numbers = sorted(without)
    stretches = [range(number, number + 1) for number in numbers]
    gaps = ledger.Gaps(stretches)
    assert [number for number in range(61) if number in gaps] == numbers
    assert gaps.meet(range(*span)) == any(span[0] <= number < span[1] for number in numbers)


def test_going_on_takes_as_long_however_scattered_the_missing_rows_are(tmp_path):
    """A cluster's rows come in no order, so one that is killed leaves thousands of gaps."""
    results = ResultsFolder(tmp_path)
    total = 40_000
    results.list_once(Item(f"{n}.png", f"{n}.png") for n in range(total))
    spent = {}
    for kind, gaps in {
        "one": [range(total // 2)],
        "many": [range(at, at + 1) for at in range(0, total, 2)],
    }.items():
        begun = time.process_time()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ledger, "missing", lambda *_, gaps=gaps: gaps)
            found = [number for number, _ in results.items(total)]
        spent[kind] = time.process_time() - begun
        assert found == [number for gap in gaps for number in gap]
    assert spent["many"] < 5 * spent["one"]  # it was a hundred times and more


# The network of the killed processes is slowed down, so that kills fall into all phases; all else is the real path.
# Each scan is a process of its own, forked where everything is imported already: imports would take most of the time.
PROGRAM = """
import os, sys, time, traceback
from pathlib import Path
import torch
from gammascope.detection.pipeline import Besides, Pipeline
from gammascope.scanning import results
from gammascope.scanning.ordered import Plan, scan_into
torch.set_num_threads(1)
class Slow(Pipeline):
    def reports_of(self, pictures, stop=None):
        time.sleep(0.01)
        with open(sys.argv[4], "a") as log: log.write("x")
        return super().reports_of(pictures, stop)
folder = results.ResultsFolder
make = folder.__init__
def small(self, path): make(self, path, rows=6, seconds=0.05, merged_rows=64, listed_rows=16)
folder.__init__ = small
pipeline = Slow.load(sys.argv[3])
for _ in sys.stdin:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            scan_into(Path(sys.argv[1]), Plan((sys.argv[2],)), pipeline)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def killed_again_and_again(tmp_path, weights, photos, kills: int) -> None:
    images = 60
    contents = {f"{n:03}.png": png(photos["coffee"], 40 + n % 30) for n in range(images)}
    write(tmp_path / "in", contents | {"999.png": b"broken"})
    out, log = tmp_path / "out", tmp_path / "log"
    command = [sys.executable, "-c", PROGRAM, out, tmp_path / "in", weights, log]
    rng, done, landed = np.random.default_rng(kills), 0, 0
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as forking:
        assert forking.stdin is not None
        assert forking.stdout is not None

        def begun() -> int:
            print(file=forking.stdin, flush=True)
            return int(forking.stdout.readline())

        while landed < kills:
            scanning = begun()
            time.sleep(rng.uniform(0, 0.4))
            with suppress(ProcessLookupError):
                os.kill(scanning, signal.SIGKILL)
            ended = int(forking.stdout.readline())
            assert ended in {0, -signal.SIGKILL}
            landed += ended != 0
            if ended == 0:  # finished between two kills: begin another folder
                done += 1
                check_complete(out, contents)
                out.rename(tmp_path / f"done {done}")
                log.unlink(missing_ok=True)
        begun()
        assert int(forking.stdout.readline()) == 0
        forking.stdin.close()
    check_complete(out, contents)
    # 30 contents; each kill may cost those that were under way, one for each core.
    assert len(log.read_text()) <= 30 + kills * machine.cores()


def check_complete(out: Path, contents: dict[str, bytes]) -> None:
    rows = rows_at(out)
    names = Counter(Path(row["image"]).name for row in rows)
    assert names == Counter([*contents, "999.png"])
    assert [row["number"] for row in rows] == list(range(len(contents) + 1))
    assert [row["image"][-7:] for row in rows if row["error"]] == ["999.png"]


def test_kills_at_random_moments_lose_and_double_nothing(tmp_path, weights, photos):
    killed_again_and_again(tmp_path, weights, photos, kills=3)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [100, 1000])
def test_many_kills_lose_and_double_nothing(tmp_path, weights, photos, kills):
    killed_again_and_again(tmp_path, weights, photos, kills)
