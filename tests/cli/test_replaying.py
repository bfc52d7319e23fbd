"""Evaluations without pictures, and evaluations of anybody's detector, as on the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet
import pytest
import torch
from typer.testing import CliRunner, Result

from gammascope import checkpoints, settings
from gammascope.cli.app import app
from gammascope.detectors import gamma
from gammascope.errors import MissingDataError
from gammascope.evaluation import left_out, replaying
from gammascope.evaluation.metrics import auroc
from gammascope.evaluation.replay_file import Kept
from gammascope.evaluation.tables import markdown, truth_of

ROOT = Path(__file__).parents[2]
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
    assert result.exit_code == 4, result.output  # one of the pictures is broken
    assert "No score: " in result.stderr
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


def test_a_replay_does_not_replace_the_numbers_of_an_evaluation(evaluated):
    before = (evaluated / "summary.json").read_bytes()
    code, said = run_in_main(
        "evaluate", "--replay", evaluated / "replay.parquet", "--out", evaluated
    )
    assert code == 3
    assert "Holds scores of an evaluation, whose numbers would be replaced" in said
    assert (evaluated / "summary.json").read_bytes() == before


def test_a_replay_needs_no_torch(evaluated):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['gammascope', 'evaluate', '--replay', {str(evaluated / 'replay.parquet')!r}]\n"
        "from gammascope.cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "AUROC" in done.stdout


def test_a_class_of_few_pictures_is_said_to_make_intervals_too_narrow(evaluated):
    told = run("evaluate", "--replay", evaluated / "replay.parquet").stderr
    assert "intervals of AUROC, error rates and calibration" in " ".join(told.split())
    shipped = ROOT / "docs" / "results" / "clip-dev.parquet"
    assert "too narrow" not in run("evaluate", "--replay", shipped).stderr


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
    assert result.exit_code == 4, result.output
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
    assert result.exit_code == 4, result.output
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


def saved_left_out(path: Path) -> Path:
    """Two large collections, a small one, fakes, drawings; in "fast" the scores of the first ten photos fall."""
    collection = np.array(
        [*["big"] * 120, *["good"] * 120, *["tiny"] * 30, *["others"] * 10, *["big"] * 60]
    )
    fake = np.arange(340) >= 280
    drawn = np.zeros(340, bool)
    drawn[-5:], fake[-5:] = True, False
    logits = np.where(fake, 2.0, -2.0)
    logits[:12] = 1.5  # a tenth of "big"
    logits[240:246] = 0.5  # a fifth of "tiny" is uncertain
    logits[-60:-48] = -3.0  # missed
    logits[-1] = 3.0  # a drawing
    profiles = {"default": logits, "fast": np.where(np.arange(340) < 10, -1.0, logits)}
    tables = {
        name: left_out.table(z, fake, collection, drawn, np.arange(340) % 2 == 0)
        for name, z in profiles.items()
    }
    thresholds = dict.fromkeys(profiles, left_out.Thresholds(0.0, 1.0))
    left_out.kept("ab" * 32, thresholds, tables).save(path)
    return path


def test_collections_left_out_are_counted_anew(tmp_path):
    path = saved_left_out(tmp_path / "left_out.parquet")
    told = run("evaluate", "--replay", path, "--json", "--out", tmp_path / "again")
    assert told.exit_code == 0, told.output
    profiles = json.loads(told.stdout)["profiles"]
    found = profiles["default"]
    assert (found["photos"], found["fakes"], found["drawings"]) == (280, 55, 5)
    assert found["called_fake"]["value"] == pytest.approx(12 / 280, abs=1e-6)
    assert found["called_fake_in_the_mean"]["value"] == pytest.approx(0.1 / 4)
    assert found["called_uncertain_or_fake"]["value"] == pytest.approx(18 / 280, abs=1e-6)
    assert found["recall"]["value"] == pytest.approx(43 / 55, abs=1e-6)
    assert found["drawings_called_fake"]["value"] == 0.2
    assert found["settled_photos"]["value"] == 0.5
    assert found["auroc"]["value"] == pytest.approx(43 / 55, abs=1e-6)
    assert found["auroc"]["low"] < found["auroc"]["value"] < found["auroc"]["high"]
    # 2 of 280 photos at most: the 12 at 1.5 are more, so fakes above them count.
    assert found["tpr_at_1_percent_fpr"]["value"] == pytest.approx(43 / 55, abs=1e-6)
    assert found["collections"]["tiny"]["called_uncertain_or_fake"]["value"] == 0.2
    assert profiles["fast"]["collections"]["big"]["called_fake"]["value"] == pytest.approx(
        2 / 120, abs=1e-6
    )
    drawn = (tmp_path / "again" / "tables.md").read_text("utf-8")
    large, small = drawn.split("**smaller collections")
    assert large.index("| big | 120 | 10.00 % [") < large.index("| good | 120 | 0.00 % [")
    assert large.index("| good |") < large.index("| others | 10 |")
    assert "| tiny | 30 |" in small


def test_a_zoo_tells_the_numbers_of_each_of_its_methods(evaluated, data, detector, tmp_path):
    """One method answers *generated* and *edited*, the other *fake*."""
    other = tmp_path / "other"
    said = run("evaluate", data, "--predict", f"{detector}:darkness", "--json", "--out", other)
    assert said.exit_code == 4, said.output
    folders = {"gamma": evaluated, "darkness": other}
    replaying.zoo(
        {name: Kept.read(folder / "replay.parquet") for name, folder in folders.items()},
        {"gamma": {"steps": "300"}, "darkness": {"steps": "0"}},
        ["blades"],
    ).save(tmp_path / "zoo.parquet")
    told = run(
        "evaluate", "--replay", tmp_path / "zoo.parquet", "--json", "--out", tmp_path / "zoo"
    )
    assert told.exit_code == 0, told.output
    methods = json.loads(told.stdout)["methods"]
    alone = json.loads((evaluated / "summary.json").read_text("utf-8"))["columns"]["native"]
    found = methods["gamma"]["columns"]["native"]
    assert {name: of["overall"] for name, of in found.items()} == {
        name: of["overall"] for name, of in alone.items()
    }
    assert set(methods["darkness"]["columns"]["native"]) == {"fake"}
    lines = (tmp_path / "zoo" / "tables.md").read_text("utf-8").splitlines()[2:]
    assert lines[0].startswith("| method | steps | column | n | AUROC | balanced accuracy |")
    area = json.loads(said.stdout)["columns"]["native"]["fake"]["overall"]["auroc"]["value"]
    first = next(line for line in lines if line.startswith("| darkness | 0 | native | 12 + 12 |"))
    assert f"| {area:.3f} [" in first
    assert lines.index(first) < next(n for n, of in enumerate(lines) if of.startswith("| gamma |"))
    assert lines[-1].startswith("| blades | - |")


def test_runs_of_a_zoo_are_compared_with_a_plain_one(evaluated, tmp_path):
    scores = Kept.read(evaluated / "replay.parquet")
    runs = dict.fromkeys(("plain", "ours", "ours, seed 1"), scores)
    replaying.zoo(
        runs,
        {name: {"steps": "3"} for name in runs},
        runs_of={"ours, seed 1": "ours"},
        plain=["plain"],
    ).save(tmp_path / "zoo.parquet")
    told = replaying.replayed(tmp_path / "zoo.parquet")
    assert set(told.plain["methods"]) == set(runs)
    ours = told.plain["differences"]["ours"]["native"]
    assert len(ours["auroc"]) == 2
    assert ours["against"]["plain"]["over_images"]["value"] == 0.0
    assert [grid.title for grid in told.grids][1] == "zoo: differences in AUROC"


def test_the_best_of_a_zoo_together_are_compared_with_one_of_it(evaluated, tmp_path):
    """A file says why they cannot be where it lacks what is needed; one from before has no such table."""
    scores = Kept.read(evaluated / "replay.parquet")
    costs: dict[str, dict[str, str]] = {"ours": {}, "shipped": {}}
    place = tmp_path / "zoo.parquet"
    kept = replaying.zoo(dict.fromkeys(costs, scores), costs, against="shipped")
    kept.save(place)
    told = replaying.replayed(place)
    assert told.grids[-1].title.startswith("zoo: fusion and cascade of the three best")
    assert told.grids[-1].rows == ((told.plain["together"]["reason"],),)
    older = {name: value for name, value in kept.about.items() if name != "against"}
    replace(kept, about=older).save(place)
    assert "together" not in replaying.replayed(place).plain
    replace(kept, about={**kept.about, "against": "absent"}).save(place)
    with pytest.raises(MissingDataError, match="No scores of absent"):
        replaying.replayed(place)


def test_a_file_that_contradicts_itself_is_refused_in_one_line(tmp_path):
    path = saved_left_out(tmp_path / "left_out.parquet")
    whole = Kept.read(path)
    for changed, words in (
        (replace(whole, kind="left_outs"), "Did you mean 'left_out'"),
        (replace(whole, kind="robustness"), "unknown key"),
        (replace(whole, tables={"fast": whole.tables["fast"]}), "Thresholds of default, fast"),
        (replace(whole, about={**whole.about, "thresholds": {"fast": 3}}), "thresholds.fast"),
    ):
        changed.save(tmp_path / "other.parquet")
        code, said = run_in_main("evaluate", "--replay", tmp_path / "other.parquet")
        assert code == 3, said
        assert words in said
        assert len(said.strip().splitlines()) == 1


RESULTS = Path(__file__).parents[2] / "docs" / "results"
PAGES = {
    "clip-dev": "embedded.md",
    "clip-robustness": "embedded.md",
    "clip-left-out": "embedded.md",
    "mobilenet-dev": "small_detector.md",
    "zoo": "zoo.md",
}
"""Where the tables of a file of scores stand, once it is shipped."""


@pytest.mark.parametrize(
    "scores",
    [
        # So many rows are compared in the zoo that this takes half a minute.
        pytest.param(path.name, marks=[pytest.mark.slow] if path.stem == "zoo" else [])
        for path in sorted(RESULTS.glob("*.parquet"))
    ],
)
def test_shipped_scores_give_the_documented_numbers_and_name_no_file(scores):
    assert f"({RESULTS.name}/{scores})" in (RESULTS.parent / "benchmarks.md").read_text("utf-8")
    documented = (RESULTS / PAGES[scores.removesuffix(".parquet")]).read_text("utf-8")
    whole = Kept.read(RESULTS / scores)
    for table in whole.tables.values():
        assert all(re.fullmatch(r"[0-9a-f]{64}|row \d+", name) for name in table["path"].tolist())
    if whole.kind == "evaluation":  # All of its intervals take a minute.
        native = whole.tables["native"]
        value = auroc(native["logit_generated"], truth_of(native, "generated"))
        assert f"| AUROC | {value:.3f} [" in documented
        return
    for grid in replaying.replayed(RESULTS / scores).grids:
        assert grid.rows
        assert set(markdown([grid]).splitlines()[2:]) <= set(documented.splitlines())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--replay", "x.parquet", "--split", "test"), "--split"),
        (("--replay", "x.parquet", "--weights", "default"), "--weights"),
        (("--replay", "x.parquet", "--recode", "jpeg:90"), "--recode"),
        (("folder", "--replay", "x.parquet"), "data"),
        (("folder", "--predict", "m:f", "--weights", "clip"), "--weights"),
        (("folder", "--predict", "m:f", "--zone", "0.1,0.9"), "--zone"),
    ],
)
def test_what_a_replay_or_another_detector_would_not_heed_is_refused(arguments, named):
    refused = run("evaluate", *arguments)
    assert refused.exit_code == 2
    assert f"Invalid value for {named}" in " ".join(refused.output.split())
    assert "has no use for it" in " ".join(refused.output.split())
