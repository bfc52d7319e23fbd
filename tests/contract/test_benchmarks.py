"""What every benchmark promises, checked on a tiny copy of each layout that it reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from tests.data.benchmarks.layouts import LAYOUTS, SIDE, Layout, Row
from typer.testing import CliRunner

from gammascope.cli.app import app
from gammascope.data import benchmarks
from gammascope.data.manifest import load_sample, read_manifest, write_manifest
from gammascope.errors import BrokenPackageError, MissingDataError, UnknownBenchmarkError
from gammascope.sample import Entry, Label

every_benchmark = pytest.mark.parametrize("name", benchmarks.names())
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=str)
every_file_layout = pytest.mark.parametrize(
    "layout", [layout for layout in LAYOUTS if not layout.tables], ids=str
)


def below(path: Path | None, root: Path) -> str | None:
    return None if path is None else path.relative_to(root).as_posix()


def read(layout: Layout, root: Path) -> list[Entry]:
    return benchmarks.get(layout.benchmark).entries(root, layout.split)


def found(entries: list[Entry], root: Path) -> dict[str | None, Row]:
    return {
        below(e.path, root): Row(e.label, e.generator, e.source, e.kind, below(e.edited_path, root))
        for e in entries
    }


def without(files: Mapping[str, bytes], lost: set[str], root: Path) -> Path:
    for path, content in files.items():
        if path not in lost:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
    return root


def test_every_benchmark_has_a_layout_to_be_tested_on():
    assert {layout.benchmark for layout in LAYOUTS} == set(benchmarks.names())


@every_benchmark
def test_a_benchmark_says_where_its_data_come_from(name):
    benchmark = benchmarks.get(name)
    assert re.match(r"(arXiv:\d{4}\.\d{5}$|doi:10\.|ICML 2024, openreview:|-$)", benchmark.paper)
    assert re.match(r"https?://", benchmark.url)
    assert benchmark.licence
    assert benchmark.title
    assert benchmark.splits
    assert len(set(benchmark.splits)) == len(benchmark.splits)
    assert set(benchmark.labels.values()) >= benchmark.classes
    assert set(benchmark.parts) <= set(benchmark.splits)
    assert " = fake" in benchmark.direction()


def test_titles_are_unique():
    titles = [benchmarks.get(name).title for name in benchmarks.names()]
    assert len(set(titles)) == len(titles)


@every_layout
def test_labels_generators_sources_kinds_and_masks_are_right(layout, tmp_path):
    entries = read(layout, layout.build(tmp_path))
    assert found(entries, tmp_path) == dict(layout.rows)
    assert {entry.split for entry in entries} == {layout.split}
    assert len(entries) == len(layout.rows)


@every_layout
def test_images_and_masks_can_be_loaded(layout, tmp_path):
    for entry in read(layout, layout.build(tmp_path)):
        sample = load_sample(entry)
        assert sample.image.shape == (SIDE, SIDE, 3)
        if entry.edited_path is not None:
            assert sample.edited is not None
            assert sample.edited[:, : SIDE // 2].all()
            assert not sample.edited[:, SIDE // 2 :].any()


@every_layout
def test_the_order_does_not_depend_on_the_disk(layout, tmp_path):
    once = read(layout, layout.build(tmp_path / "once"))
    backwards = dict(reversed(layout.files().items()))
    again = read(layout, without(backwards, set(), tmp_path / "again"))
    relative = [below(entry.path, tmp_path / "once") for entry in once]
    assert relative == [below(entry.path, tmp_path / "again") for entry in again]
    assert once == read(layout, tmp_path / "once")


@every_file_layout
def test_listing_opens_no_image(layout, tmp_path):
    layout.build(tmp_path)
    before = read(layout, tmp_path)
    for path in tmp_path.rglob("*"):
        if path.suffix in {".jpg", ".png", ".tif"}:
            path.write_bytes(b"")
    assert read(layout, tmp_path) == before


@pytest.mark.parametrize(
    "layout", [layout for layout in LAYOUTS if layout.any_case and not layout.tables], ids=str
)
@pytest.mark.parametrize("change", [str.upper, str.lower], ids=["upper", "lower"])
def test_the_case_of_folders_does_not_matter(layout, change, tmp_path):
    for path, content in layout.files().items():
        folders, _, name = path.rpartition("/")
        (tmp_path / change(folders)).mkdir(parents=True, exist_ok=True)
        (tmp_path / change(folders) / name).write_bytes(content)
    entries = read(layout, tmp_path)
    assert [entry.label for entry in entries].count(Label.FAKE) == [
        row.label for row in layout.rows.values()
    ].count(Label.FAKE)
    assert len(entries) == len(layout.rows)
    masks = [row.mask for row in layout.rows.values() if row.mask is not None]
    assert len([entry for entry in entries if entry.edited_path is not None]) == len(masks)


@every_layout
def test_what_was_listed_survives_a_manifest(layout, tmp_path):
    entries = read(layout, layout.build(tmp_path / "data"))
    write_manifest(entries, tmp_path / "manifest.csv")
    assert read_manifest(tmp_path / "manifest.csv") == entries


@every_benchmark
@pytest.mark.parametrize("root", ["none", "empty", "holiday"])
def test_a_wrong_root_is_told_source_licence_and_tree(name, root, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").touch()
    benchmark = benchmarks.get(name)
    for partial in (False, True):
        with pytest.raises(MissingDataError) as caught:
            benchmark.entries(tmp_path / root, partial=partial)
        text = str(caught.value)
        assert "\n" not in text
        assert benchmark.title in text
        assert benchmark.url in text
        assert f"(licence: {benchmark.licence})" in text
        assert any(benchmark.tree in note for note in caught.value.__notes__)


@every_benchmark
def test_an_unknown_split_is_told_the_known_ones(name, tmp_path):
    benchmark = benchmarks.get(name)
    wrong = benchmark.splits[0] + "s"
    with pytest.raises(MissingDataError, match=f"Did you mean '{benchmark.splits[0]}'"):
        benchmark.entries(tmp_path, wrong)


@every_file_layout
@pytest.mark.parametrize("label", Label)
def test_a_class_that_is_missing_is_missed(layout, label, tmp_path):
    benchmark = benchmarks.get(layout.benchmark)
    kept = {path: row for path, row in layout.rows.items() if row.label is not label}
    if label not in benchmark.classes or not kept or not layout.any_case:
        pytest.skip("may be missing, or a list names the files")
    root = without(layout.files(), set(layout.rows) - set(kept), tmp_path)
    with pytest.raises(MissingDataError, match=rf"no {label.name.lower()} image|nothing of"):
        benchmark.entries(root, layout.split)
    entries = benchmark.entries(root, layout.split, partial=True)
    assert set(found(entries, root)) == set(kept)


@pytest.mark.parametrize(
    "layout",
    [layout for layout in LAYOUTS if benchmarks.get(layout.benchmark).parts.get(layout.split)],
    ids=str,
)
def test_a_part_that_is_missing_is_missed(layout, tmp_path):
    benchmark = benchmarks.get(layout.benchmark)
    part = sorted(benchmark.parts[layout.split])[-1]
    lost = {path for path, row in layout.rows.items() if row.source == part}
    tables = {path.rpartition("/")[0] for path in lost} & set(layout.tables)
    root = without(layout.files(), lost | tables, tmp_path)
    if lost | tables >= set(layout.files()) - set(layout.others):
        with pytest.raises(MissingDataError, match="is laid out as expected"):
            benchmark.entries(root, layout.split)
        return
    with pytest.raises(MissingDataError, match=f"is incomplete: nothing of {re.escape(part)}"):
        benchmark.entries(root, layout.split)
    entries = benchmark.entries(root, layout.split, partial=True)
    assert len(entries) == len(layout.rows) - len(lost)


def test_half_a_part_is_missed(tmp_path):
    layout = next(layout for layout in LAYOUTS if layout.benchmark == "genimage")
    lost = {path for path in layout.rows if "wukong" in path and "nature" in path}
    root = without(layout.files(), lost, tmp_path)
    with pytest.raises(MissingDataError, match="is incomplete: no real image of wukong"):
        benchmarks.get("genimage").entries(root)


def test_a_class_called_train_is_no_split(tmp_path):
    layout = next(layout for layout in LAYOUTS if str(layout) == "forensynths-test")
    layout.build(tmp_path)
    with pytest.raises(MissingDataError, match="no image of split 'train' is laid out as expected"):
        benchmarks.get("forensynths").entries(tmp_path / "test", "train")


def test_masks_in_the_wrong_place_are_missed(tmp_path):
    layout = next(layout for layout in LAYOUTS if layout.benchmark == "casia_v2")
    lost = {path for path in layout.files() if "Groundtruth" in path}
    root = without(layout.files(), lost, tmp_path)
    with pytest.raises(MissingDataError, match=r"CASIA v2: 2 of 2 edited photos below .* no mask"):
        benchmarks.get("casia_v2").entries(root)


@pytest.mark.parametrize("label", ["maybe", -1])
def test_a_label_of_unknown_meaning_is_refused(tmp_path, label):
    rows = [{"label": label}, {"label": type(label)(1)}]
    path = "data/test-00000-of-00001.parquet"
    Layout(benchmark="huggingface", split="test", rows={}, tables={path: rows}).build(tmp_path)
    with pytest.raises(
        MissingDataError, match=rf"parquet, row 0: label {label!r} is not understood"
    ):
        benchmarks.get("huggingface").entries(tmp_path)


def test_a_table_without_images_or_that_is_none_is_refused(tmp_path):
    path = "data/test-00000-of-00001.parquet"
    rows = [{"label": "fake"}]
    Layout(
        benchmark="huggingface", split="test", rows={}, tables={path: rows}, image_column="picture"
    ).build(tmp_path)
    with pytest.raises(MissingDataError, match="has no column 'image'; it has label, picture"):
        benchmarks.get("huggingface").entries(tmp_path)
    (tmp_path / path).write_bytes(b"nothing")
    with pytest.raises(MissingDataError, match="cannot be read as a table"):
        benchmarks.get("huggingface").entries(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{nothing", "is no JSON file"), ('[["a.jpg"]]', "expected a pair of paths")],
)
def test_a_broken_list_of_pairs_is_refused(text, reason, tmp_path):
    (tmp_path / "pairs.json").write_text(text)
    with pytest.raises(MissingDataError, match=reason):
        benchmarks.get("image_mask_pairs").entries(tmp_path)


@pytest.mark.parametrize(
    "name", ["GenImage", "DRCT-2M", "AIGCDetectBenchmark", "CASIA v2", "Co-Spy"]
)
def test_names_count_by_their_letters_and_digits(name):
    assert benchmarks.get(name).title.lower().startswith(name.lower()[:4])


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(
        UnknownBenchmarkError, match=r"Did you mean 'genimage'\? Known: ai_genbench"
    ):
        benchmarks.get("gen_images")


def test_other_packages_add_benchmarks(monkeypatch):
    point = EntryPoint(
        "mine", "gammascope.data.benchmarks.found_online:WILDRF", "gammascope.benchmarks"
    )
    monkeypatch.setattr(benchmarks, "entry_points", lambda **_: [point])
    assert "mine" in benchmarks.names()
    assert benchmarks.get("mine").title == "WildRF"


def test_one_of_another_package_that_cannot_be_loaded_leaves_the_others_listed(monkeypatch):
    point = EntryPoint("mine", "no_such_module:MINE", "gammascope.benchmarks")
    monkeypatch.setattr(benchmarks, "entry_points", lambda **_: [point])
    listed = CliRunner().invoke(app, ["benchmarks", "--json"])
    assert listed.exit_code == 4
    assert "genimage" in {row["name"] for row in json.loads(listed.stdout)}
    assert "mine of another package (entry point no_such_module:MINE" in listed.stderr
    with pytest.raises(BrokenPackageError, match="No module named 'no_such_module'"):
        benchmarks.get("mine")


@every_benchmark
def test_the_table_of_the_documentation_says_the_same(name):
    page = Path(__file__).parents[2] / "docs" / "evaluation_data.md"
    (line,) = [
        text for text in page.read_text("utf-8").splitlines() if text.startswith(f"| `{name}`")
    ]
    _, _, title, _, licence, reading, _ = (cell.strip() for cell in line.split("|"))
    benchmark = benchmarks.get(name)
    assert (title, licence) == (benchmark.title, benchmark.licence)
    assert reading == (benchmark.reading or "-")
