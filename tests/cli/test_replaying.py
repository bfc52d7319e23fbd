"""Evaluations without pictures, and evaluations of anybody's detector, as on the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.compute
import pyarrow.parquet
import pytest
import torch
from typer.testing import CliRunner, Result

from gammascope import checkpoints, settings
from gammascope.cli.app import app
from gammascope.detectors import gamma
from gammascope.evaluation.metrics import auroc
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.tables import truth_of

MADE_ANEW = ("columns", "calibration", "calibrated", "method", "weights_sha256", "definitions")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(
        app, [str(argument) for argument in arguments], catch_exceptions=False
    )


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory) -> Path:
    """Photos and, as fakes, darker ones: a detector of brightness is right."""
    tmp_path = tmp_path_factory.mktemp("data")
    for number in range(12):
        name = ("cat", "coffee", "rocket")[number % 3]
        pixels = photos[name][number * 4 : number * 4 + 72, :80]
        for label, shown in (("real", pixels), ("fake", pixels // 4)):
            path = tmp_path / "secret folder" / "maker" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(np.ascontiguousarray(shown)).save(path)
    (tmp_path / "secret folder" / "maker" / "fake" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path / "secret folder"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    detector = gamma.build(gamma.METHOD.tiny)
    config = settings.plain(gamma.METHOD.tiny)
    known = checkpoints.Calibration(1.3, -0.2, 0.1, (0.05, 0.01), 200, ("mine",))
    facts = checkpoints.Facts(
        "gamma", config, detector.view, calibration=dict.fromkeys(("generated", "edited"), known)
    )
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    checkpoints.save(path, detector, facts)
    return path


@pytest.fixture(scope="module")
def evaluated(data, weights, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out")
    result = run("evaluate", data, "--weights", weights, "--out", out, "--quiet")
    assert result.exit_code == 0, result.output
    return out


def test_a_replay_gives_every_number_without_pictures(data, evaluated, tmp_path):
    shown = json.loads((evaluated / "summary.json").read_text("utf-8"))
    shipped = tmp_path / "shipped.parquet"
    shipped.write_bytes((evaluated / "replay.parquet").read_bytes())
    data.rename(data.with_name("elsewhere"))
    try:
        again = run("evaluate", "--replay", shipped, "--json", "--out", tmp_path / "again")
    finally:
        data.with_name("elsewhere").rename(data)
    assert again.exit_code == 0, again.output
    replayed = json.loads(again.stdout)
    assert {name: replayed[name] for name in MADE_ANEW} == {name: shown[name] for name in MADE_ANEW}
    assert replayed["data"] == "secret folder"
    again_drawn = (tmp_path / "again" / "tables.md").read_text("utf-8")
    assert again_drawn == (evaluated / "tables.md").read_text("utf-8")


def test_what_is_shipped_tells_no_paths(data, evaluated):
    table = pyarrow.parquet.read_table(evaluated / "replay.parquet")
    texts = json.dumps(table.to_pylist()) + str(table.schema.metadata)
    assert str(data.parent) not in texts
    assert ".png" not in texts
    rows = [row for row in table.to_pylist() if row["column"] == "native"]
    assert len(rows) == 25
    assert all(len(row["path"]) == 64 for row in rows if not row["error"])
    assert [row["error"] for row in rows if row["error"]] == ["not scored"]


def test_what_cannot_be_replayed_is_said_in_one_line(weights, tmp_path):
    (tmp_path / "no.parquet").write_bytes(b"no table")
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a"]}), tmp_path / "other.parquet")
    for name in ("no.parquet", "other.parquet", "gone.parquet"):
        done = run_in_main("evaluate", "--replay", tmp_path / name)
        assert done[0] == 3, done
        assert name in done[1]
        assert len(done[1].strip().splitlines()) == 1
    done = run_in_main("evaluate", "data", "--replay", tmp_path / "no.parquet")
    assert done[0] == 2


def run_in_main(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, SystemExit):
        return result.exit_code, result.stderr
    from gammascope.cli.failures import explain

    assert isinstance(result.exception, Exception)
    return explain(result.exception, debug=False), str(result.exception)


DETECTOR = """
import numpy as np, PIL.Image
seen = []
def darkness(path):
    seen.append(path)
    assert path.endswith(".png")
    with PIL.Image.open(path) as picture:
        assert not picture.info
        return 1 - np.asarray(picture).mean() / 255
def picky(path):
    if len(seen) % 5 == 0:
        seen.append(path)
        raise ValueError("not this\\none")
    return darkness(path)
def score(path): return 3.2
def leaves(path): raise SystemExit(2)
number = 5
"""


@pytest.fixture
def detector(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"detector_{tmp_path.name.replace('-', '_')}"
    Path(f"{name}.py").write_text(DETECTOR, "utf-8")
    return name


def test_anybodys_detector_is_measured_like_ours(data, detector, tmp_path):
    out = tmp_path / "out"
    result = run("evaluate", data, "--predict", f"{detector}:darkness", "--json", "--out", out)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    native = found["columns"]["native"]["fake"]
    assert native["overall"]["auroc"]["value"] > 0.9
    assert found["method"] == f"{detector}:darkness"
    assert set(found["columns"]) == {"native", "fakes_aligned", "all_recoded"}
    replayed = run("evaluate", "--replay", out / "replay.parquet", "--json")
    assert json.loads(replayed.stdout)["columns"] == found["columns"]


def test_errors_of_somebody_elses_detector_belong_to_their_pictures(data, detector, tmp_path):
    out = tmp_path / "out"
    result = run("evaluate", data, "--predict", f"{detector}:picky", "--out", out, "--quiet")
    assert result.exit_code == 0, result.output
    rows = pyarrow.parquet.read_table(out / "scores_native.parquet").to_pylist()
    errors = [row["error"] for row in rows if row["error"] and "broken" not in row["path"]]
    assert 0 < len(errors) < 12
    assert all("ValueError: not this one" in error for error in errors)


@pytest.mark.parametrize(
    ("function", "code", "words"),
    [
        ("score", 3, "answered 3.2, expected the probability"),
        ("leaves", 3, "SystemExit: 2"),
        ("gone", 2, "cannot be imported: AttributeError"),
        ("number", 2, "is no function"),
    ],
)
def test_what_is_no_detector_is_refused_in_one_line(data, detector, function, code, words):
    done = run_in_main("evaluate", data, "--predict", f"{detector}:{function}")
    assert done[0] == code, done
    assert words in done[1].strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["no_such_module:x", "nameless"])
def test_a_detector_that_is_not_there_is_refused(data, name):
    code, said = run_in_main("evaluate", data, "--predict", name)
    assert code == 2
    assert f"--predict {name}" in said.strip().splitlines()[-1]


RESULTS = Path(__file__).parents[2] / "docs" / "results"
SHIPPED = {"clip-dev.parquet": "embedded.md", "mobilenet-dev.parquet": "small_detector.md"}
"""Scores, and the page that documents them."""


def test_every_shipped_score_is_documented():
    assert {path.name for path in RESULTS.glob("*.parquet")} == SHIPPED.keys()


@pytest.mark.parametrize(("scores", "page"), SHIPPED.items())
def test_shipped_scores_give_the_documented_numbers_and_name_no_file(scores, page):
    documented = (RESULTS / page).read_text("utf-8")
    whole = pyarrow.parquet.read_table(RESULTS / scores)
    native = whole.filter(pyarrow.compute.field("column") == "native").drop_columns(["column"])
    table = ScoreTable.from_arrow(native)
    value = auroc(table["logit_generated"], truth_of(table, "generated"))
    assert f"| AUROC | {value:.3f} [" in documented
    assert all(re.fullmatch(r"[0-9a-f]{64}", name) for name in table["path"].tolist())
