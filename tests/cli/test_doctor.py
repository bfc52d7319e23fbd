"""The doctor on folders with real defects: what people read, what programs read, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner, Result

from gammascope.cli.app import app
from gammascope.data.manifest import write_manifest
from gammascope.imaging import codecs
from gammascope.sample import Entry, Label

PNG = codecs.Encoding("png")


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    """Without colours, whatever the tests are started from."""
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments) -> Result:
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)], catch_exceptions=False)


def findings(*arguments) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert len(result.stdout.splitlines()) == 1
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def tiles(photos) -> list[np.ndarray]:
    """Sixty pictures that share no pixel."""
    whole = [
        photo[top : top + 100, left : left + 100]
        for photo in photos.values()
        for top in range(0, 300, 100)
        for left in range(0, 400, 100)
    ]
    return [np.ascontiguousarray(tile) for tile in whole if tile.std() > 10]


@pytest.fixture
def fair(photos, tmp_path) -> Path:
    """A folder whose files follow one law, whatever their label."""
    rng = np.random.default_rng(0)
    for number, tile in enumerate(tiles(photos)):
        encoding = codecs.Encoding("jpeg", int(rng.integers(60, 100)))
        folder = tmp_path / "fair" / ("real" if number % 2 else "fake")
        folder.mkdir(parents=True, exist_ok=True)
        side = int(rng.integers(60, 100))
        (folder / f"{number}.jpg").write_bytes(codecs.encode(tile[:side], encoding))
    return tmp_path / "fair"


@pytest.fixture
def unfair(photos, tmp_path) -> Path:
    """A folder of photos as JPEG and fakes as PNG."""
    for number, tile in enumerate(tiles(photos)):
        real = number % 2
        folder = tmp_path / "unfair" / ("real" if real else "fake")
        folder.mkdir(parents=True, exist_ok=True)
        encoding = codecs.Encoding("jpeg", 90) if real else PNG
        (folder / f"{number}.{encoding.format}").write_bytes(codecs.encode(tile, encoding))
    return tmp_path / "unfair"


@pytest.fixture
def sick(photos, unfair) -> Path:
    """The unfair folder with one of each defect more."""
    cat, cup = photos["cat"][:200, :300], photos["coffee"][:200, :300]
    for split in ("train", "test"):
        (unfair / split / "real").mkdir(parents=True)
        (unfair / split / "fake").mkdir(parents=True)
    jpeg = codecs.encode(cat, codecs.Encoding("jpeg", 90))
    (unfair / "train" / "real" / "cat.jpg").write_bytes(jpeg)
    smaller = codecs.encode(codecs.rescale(cat, 0.6), codecs.Encoding("jpeg", 60))
    (unfair / "test" / "real" / "leaked.jpg").write_bytes(smaller)
    (unfair / "test" / "fake" / "cup.png").write_bytes(codecs.encode(cup, PNG))
    (unfair / "test" / "real" / "cup.jpg").write_bytes(
        codecs.encode(cup, codecs.Encoding("jpeg", 90))
    )
    (unfair / "real" / "png.jpg").write_bytes(codecs.encode(photos["rocket"], PNG))
    (unfair / "real" / "empty.jpg").write_bytes(b"")
    (unfair / "fake" / "cut.jpg").write_bytes(jpeg[:3000])
    return unfair


def test_a_fair_folder_is_told_so(fair):
    result = run(fair, "--strict")
    assert result.exit_code == 0
    assert "Headers alone do not tell real from fake: balanced accuracy 0." in result.stdout
    bias = findings(fair)["header_bias"]["all"]
    assert bias["above_chance"] is False
    assert bias["stump"]["low"] < 0.5 < bias["stump"]["high"]
    assert bias["tree"]["low"] < 0.5


def test_labels_that_follow_the_format_are_told_of(unfair):
    result = run(unfair)
    assert result.exit_code == 0
    assert "Headers alone tell real from fake: balanced accuracy" in result.stdout
    assert "Best rule: fake if JPEG quality (0: no JPEG) is up to 45." in result.stdout
    assert run(unfair, "--strict").exit_code == 10


def test_every_defect_is_in_the_tables(sick):
    result = run(sick)
    assert result.exit_code == 4
    for line in (
        "empty files │ 1",
        "truncated files │ 1",
        "missing files │ 0",
        "pictures in several splits │ 1",
        "pictures of which a label must be wrong │ 1",
        "test/real/leaked.jpg, train/real/cat.jpg │ no │ test, train │ real",
        "test/fake/cup.png, test/real/cup.jpg │ no │ test │ real, fake",
        "real/png.jpg │ png",
        "real/empty.jpg │ empty │ empty.jpg: empty file.",
    ):
        assert line in " ".join(result.stdout.split()), line


def test_json_holds_everything_in_a_fixed_form(sick):
    found = findings(sick)
    assert {name: type(value).__name__ for name, value in found.items()} == {
        "gammascope": "str",
        "data": "str",
        "labels": "str",
        "files": "int",
        "readable": "int",
        "broken": "list",
        "misnamed": "list",
        "duplicates": "list",
        "header_bias": "dict",
        "header_bias_carried": "list",
    }
    assert found["files"] == found["readable"] + len(found["broken"])
    assert {Path(row["path"]).name: row["fault"] for row in found["broken"]} == {
        "empty.jpg": "empty",
        "cut.jpg": "truncated",
    }
    assert found["misnamed"] == [{"path": str(sick / "real" / "png.jpg"), "format": "png"}]
    assert [
        row | {"paths": [Path(path).name for path in row["paths"]]} for row in found["duplicates"]
    ] == [
        {
            "paths": ["cup.png", "cup.jpg"],
            "identical": False,
            "splits": ["test"],
            "labels": ["real", "fake"],
            "leaks": False,
            "conflicts": True,
        },
        {
            "paths": ["leaked.jpg", "cat.jpg"],
            "identical": False,
            "splits": ["test", "train"],
            "labels": ["real"],
            "leaks": True,
            "conflicts": False,
        },
    ]
    assert found["header_bias"].keys() == {"all", "test", "train"}
    whole = found["header_bias"]["all"]
    assert whole.keys() == {
        "above_chance",
        "statement",
        "stump",
        "tree",
        "tree_depth",
        "rule",
        "features",
    }
    assert whole["features"][0].keys() == {"name", "is_flag", "balanced_accuracy", "real", "fake"}
    (over,) = found["header_bias_carried"]
    assert over.keys() == {"learned_on", "asked_on", "stump", "tree", "statement"}
    assert (over["learned_on"], over["asked_on"]) == ("train", "test")
    nothing = found["header_bias"]["train"]
    assert nothing["stump"]["value"] is None
    assert "0 fake files, expected 5 or more" in nothing["statement"]


def test_a_manifest_knows_splits_and_hosts(photos, tmp_path):
    pictures = {}
    for name, image in (("cat", photos["cat"]), ("twin", codecs.blur(photos["cat"], 0.8))):
        pictures[name] = tmp_path / f"{name}.png"
        pictures[name].write_bytes(codecs.encode(image, PNG))
    twin = Entry(pictures["twin"], Label.FAKE, generator="x", host_path=pictures["cat"])
    manifest = tmp_path / "manifest.csv"
    write_manifest([Entry(pictures["cat"], Label.REAL), twin], manifest)
    (group,) = findings(manifest)["duplicates"]
    assert (group["conflicts"], group["leaks"]) == (False, False)
    assert run(manifest, "--strict").exit_code == 0
    write_manifest([Entry(pictures["cat"], Label.REAL, split="train"), twin], manifest)
    assert findings(manifest)["duplicates"][0]["leaks"] is True
    assert run(manifest, "--strict").exit_code == 10


def test_the_page_the_plot_and_all_findings_are_written(sick, tmp_path):
    out = tmp_path / "new" / "audit"
    result = run(sick, "--out", out)
    assert f"Page and findings: {out}" in result.stderr
    assert {path.name for path in out.iterdir()} == {"audit.md", "audit.json", "header_bias.png"}
    page = (out / "audit.md").read_text("utf-8")
    assert page.startswith(f"# Audit of {sick}\n")
    assert "- all: Headers alone tell real from fake" in page
    assert "](header_bias.png)" in page
    assert "| test/real/leaked.jpg, train/real/cat.jpg | no | test, train | real |" in page
    assert json.loads((out / "audit.json").read_text("utf-8")) == findings(sick)
    with PIL.Image.open(out / "header_bias.png") as plot:
        assert plot.width > 1000


def test_a_page_of_headers_that_are_all_the_same_has_no_plot(photos, tmp_path):
    for number, name in enumerate(("real", "fake")):
        folder = tmp_path / "set" / name
        folder.mkdir(parents=True)
        for copy in range(6):
            bmp = PIL.Image.fromarray(tiles(photos)[12 * number + copy])
            bmp.save(folder / f"{copy}.bmp")
    out = tmp_path / "out"
    run(tmp_path / "set", "--out", out)
    assert not (out / "header_bias.png").exists()
    assert "all headers are the same" in (out / "audit.md").read_text("utf-8")


def test_long_lists_are_cut_short_in_the_terminal_only(fair):
    for number in range(30):
        (fair / "real" / f"empty{number}.jpg").write_bytes(b"")
    result = run(fair)
    assert result.stdout.count("empty file.") == 10
    assert "... and 20 more (--out lists all in audit.json)" in result.stdout
    assert len(findings(fair)["broken"]) == 30


def test_names_of_strangers_cannot_steer_the_terminal_or_the_page(fair, tmp_path):
    (fair / "real" / "a\x1b[31m[bold]\n|.jpg").write_bytes(b"")
    result = run(fair, "--out", tmp_path / "out")
    assert "\x1b" not in result.stdout
    page = (tmp_path / "out" / "audit.md").read_text("utf-8")
    assert "\x1b" not in page
    assert "\N{REPLACEMENT CHARACTER}[31m[bold]\N{REPLACEMENT CHARACTER}\\|.jpg" in page


def test_where_no_file_can_be_read_nothing_was_examined(tmp_path):
    for label in ("real", "fake"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.jpg").write_bytes(b"")
    result = run(tmp_path, "--strict")
    assert result.exit_code == 3
    assert "empty files" in result.stdout
    assert "cannot be measured: 0 real files" in result.stdout


def test_large_pictures_can_be_left_out(fair):
    found = findings(fair, "--max-megapixels", "0.007")
    assert 0 < len(found["broken"]) < found["files"]
    assert "more than the 0.007 million allowed" in found["broken"][0]["reason"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "No table at nowhere.csv"),
        (["{empty}"], "No labelled image below"),
        (["{fair}", "--out", "{fair}/real/1.jpg"], "Cannot write"),
    ],
)
def test_what_is_wrong_is_one_line(fair, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    result = run(*(text.format(fair=fair, empty=tmp_path / "empty") for text in arguments))
    assert result.exit_code == 3
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert result.stdout == ""


def test_help_states_the_exit_codes():
    text = " ".join(run("--help").stdout.split())
    for code in ("0 all files could be read", "3 none could", "4 some", "10 --strict"):
        assert code in text
