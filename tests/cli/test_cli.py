"""The command line, as people and scripts use it: outputs, errors on one line, exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.PngImagePlugin
import pyarrow.parquet
import pytest
import torch
from rich.console import Console
from tests.generation.made_networks import numbered_styles, upscaler
from typer.testing import CliRunner, Result

import gammascope
from gammascope import checkpoints, forensics, settings
from gammascope.cli import terminal
from gammascope.cli.app import app
from gammascope.cli.scan_results import Results, meaning
from gammascope.cli.terminal import TrainingDisplay
from gammascope.data.manifest import read_manifest
from gammascope.detection.opinions import Detectors
from gammascope.detection.pipeline import Pipeline
from gammascope.detectors import gamma, linear_probe
from gammascope.evaluation.score_table import ScoreTable
from gammascope.generation.autoencoder import TinyAutoencoder
from gammascope.report import percent
from gammascope.sample import Label
from gammascope.training.run_folder import Progress

COMMANDS = (
    *("scan", "train", "calibrate", "evaluate", "compare", "leaderboard", "robustness", "doctor"),
    *("autoencoders", "synthesize", "benchmarks", "methods", "report-error"),
)
QUESTIONS = ("generated", "edited")


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    """Wide and without colours, whatever the tests are started from."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


def written_checkpoint(path, calibration=None, method=gamma):
    torch.manual_seed(0)
    detector = method.build(method.METHOD.tiny)
    name, config = method.__name__.rpartition(".")[-1], settings.plain(method.METHOD.tiny)
    facts = checkpoints.Facts(name, config, detector.view, calibration=calibration or {})
    checkpoints.save(path, detector, facts)
    return path


def always(uncertain_from: float, fake_from: float) -> dict[str, checkpoints.Calibration]:
    fitted = checkpoints.Calibration(1.0, uncertain_from, fake_from, (0.05, 0.01), 200, ("mine",))
    return dict.fromkeys(QUESTIONS, fitted)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    return str(written_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.safetensors"))


@pytest.fixture(scope="module")
def collection(collection, tmp_path_factory) -> Path:
    """The collection of all tests, its pictures cut to a few tiles: commands are tested here, not detectors."""
    root = tmp_path_factory.mktemp("collection")
    for path in collection.parent.iterdir():
        if path.suffix == ".csv":
            shutil.copy(path, root)
            continue
        with PIL.Image.open(path) as image:
            image.crop((100, 100, 228, 196)).save(root / path.name, quality=92, subsampling=0)
    return root / collection.name


@pytest.fixture
def folder(photos, tmp_path):
    root = tmp_path / "photos"
    (root / "below").mkdir(parents=True)
    for name, photo in (("cat.png", "cat"), ("rocket.jpg", "rocket"), ("below/cup.png", "coffee")):
        PIL.Image.fromarray(np.ascontiguousarray(photos[photo][:64, :80])).save(root / name)
    return root


def run(*arguments) -> Result:
    return CliRunner().invoke(
        app, [str(argument) for argument in arguments], catch_exceptions=False
    )


def in_a_process(*arguments, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from gammascope.cli.app import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def one_line(result: Result) -> str:
    """Return the message of a failed command: one line, no traceback."""
    assert "Traceback" not in result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


# Scanning: for people


def test_the_table_has_a_row_for_every_file_and_says_what_it_means(folder, weights):
    result = run("scan", folder, "--weights", weights)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "file",
        "verdict",
        "generated",
        "P(generated)",
        "edited",
        "P(edited)",
    ]
    assert [line.split()[0] for line in lines[1:4]] == ["below/cup.png", "cat.png", "rocket.jpg"]
    assert all(
        re.search(r"([●◐○] (fake|edited|uncertain|no sign).*){3}", line) for line in lines[1:4]
    )
    assert lines[4].startswith("3 files: ")
    assert "All: Not calibrated: probabilities and thresholds are raw." in lines
    assert "That is no proof, and 'no sign' only means" in result.stdout


def test_a_question_that_has_no_answer_for_a_picture_is_a_dash_in_its_row(photos, tmp_path):
    for name, side in (("cat.png", 200), ("small.png", 40)):
        PIL.Image.fromarray(np.ascontiguousarray(photos["cat"][:side, :side])).save(tmp_path / name)
    result = run("scan", tmp_path, "--profile", "thorough")
    assert result.exit_code == 0
    header, large, small = result.stdout.splitlines()[:3]
    assert "P(edited)" in header
    ranks = r"no sign +\d+\.\d % +\d+\.\d %"
    assert re.search(ranks + r" +[●◐○!?-] (no sign|uncertain|fake) +0\.\d+", large)
    assert re.search(r" - +- ", small)


def test_verdicts_follow_the_calibration_and_it_is_told_of(folder, tmp_path):
    path = written_checkpoint(tmp_path / "w.safetensors", always(-99.0, 99.0))
    result = run("scan", folder, "--weights", path)
    assert result.stdout.count("◐ uncertain") == 9
    assert "3 files: 3 uncertain" in result.stdout
    assert "(at most 1 % of 200 held-out photos were called so" in result.stdout
    assert ", 5 % with 'uncertain')" in result.stdout


def test_half_a_per_cent_is_not_told_as_none(folder, tmp_path):
    rare = {
        name: replace(known, rates=(0.025, 0.005)) for name, known in always(-99.0, 99.0).items()
    }
    result = run("scan", folder, "--weights", written_checkpoint(tmp_path / "w.safetensors", rare))
    assert "(at most 0.5 % of 200 held-out photos were called so" in result.stdout
    assert ", 2.5 % with 'uncertain')" in result.stdout


def test_ranks_among_held_out_pictures_stand_in_place_of_a_probability(folder, tmp_path):
    ranks = ((-99.0, 1.0, 1.0), (99.0, 0.0, 0.25))
    known = {"generated": replace(always(-99.0, 99.0)["generated"], ranks=ranks)}
    path = written_checkpoint(tmp_path / "w.safetensors", known, linear_probe)
    header, row, *rest = run("scan", folder, "--weights", path).stdout.splitlines()
    assert re.split("  +", header.strip()) == ["file", "verdict", "photos as high", "fakes as high"]
    assert len(re.findall(r"\d+\.\d %", row)) == 2
    assert any(line.startswith("As high: the share of held-out photos") for line in rest)
    assert "P(" not in header
    (line,) = run("scan", folder / "rocket.jpg", "--weights", path, "--json").stdout.splitlines()
    assert set(json.loads(line)["answers"]["generated"]["as_high"]) == {"photos", "fakes"}


def test_a_part_that_stands_out_is_hinted_at_in_a_line_of_its_own(composite, weights, tmp_path):
    (tmp_path / "pasted.jpg").write_bytes(composite)
    lines = run("scan", tmp_path / "pasted.jpg", "--weights", weights).stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("hint: "))
    assert line.startswith("hint: pasted.jpg: Earlier compression: a part, ")
    quick = run("scan", tmp_path / "pasted.jpg", "--weights", weights, "--profile", "fast")
    assert "hint:" not in quick.stdout


def test_ranks_stay_where_another_question_is_answered_beside(composite, folder, tmp_path):
    (folder / "pasted.jpg").write_bytes(composite)
    ranks = ((-99.0, 1.0, 1.0), (99.0, 0.0, 0.25))
    known = {"generated": replace(always(-99.0, 99.0)["generated"], ranks=ranks)}
    path = written_checkpoint(tmp_path / "w.safetensors", known, linear_probe)
    header, *rows = run("scan", folder, "--weights", path).stdout.splitlines()
    titles = ["file", "verdict", "generated", "photos as high", "fakes as high", "edited"]
    assert re.split("  +", header.strip())[:7] == [*titles, "P(edited)"]
    (pasted,) = (line for line in rows if line.startswith("pasted.jpg"))
    assert re.search(r"edited +. (no sign|uncertain) +\d+\.\d % +\d+\.\d % +. edited +\S", pasted)
    assert "1 edited" in next(line for line in rows if re.match(r"\d files: ", line))
    # What decides is no hint.
    assert any(line.startswith("edited: pasted.jpg: Earlier compression") for line in rows)
    assert not any(line.startswith("hint: ") for line in rows)
    done = run("scan", folder / "pasted.jpg", "--weights", path, "--json").stdout
    row = json.loads(done)
    assert (row["verdict"], row["question"]) == ("fake", "edited")
    (part,) = (item for item in row["evidence"] if item["name"] == "forensics:quantisation")
    assert "strength" not in part
    assert all(line.split()[-1] == "-" for line in rows if line.startswith(("cat", "rocket")))


def test_what_files_say_is_printed_apart_and_can_be_left_out(folder, weights):
    said = PIL.PngImagePlugin.PngInfo()
    said.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a, Seed: 1")
    with PIL.Image.open(folder / "cat.png") as picture:
        picture.save(folder / "cat.png", pnginfo=said)
    result = run("scan", folder, "--weights", weights)
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("says: "))
    assert line.startswith("says: cat.png: ")
    assert "The file holds generation settings" in line
    rows = {}
    for options in ((), ("--no-provenance",)):
        done = run("scan", folder / "cat.png", "--weights", weights, "--json", *options)
        rows[options] = json.loads(done.stdout)
    names = [item["name"] for item in rows[()]["evidence"]]
    assert names[-1] == "provenance:generator"
    assert not any("provenance" in item["name"] for item in rows["--no-provenance",]["evidence"])
    assert rows[()] | {"evidence": []} == rows["--no-provenance",] | {"evidence": []}


def test_an_editor_is_told_of_and_a_declared_generator_first_where_nothing_was_found(
    folder, tmp_path
):
    path = written_checkpoint(tmp_path / "w.safetensors", always(98.0, 99.0))
    for name, program in (("one.jpg", "Adobe Photoshop 25.0"), ("two.jpg", "Midjourney")):
        exif = PIL.Image.Exif()
        exif[PIL.ExifTags.Base.Software] = program
        with PIL.Image.open(folder / "rocket.jpg") as picture:
            picture.save(folder / name, exif=exif)
    lines = run("scan", folder, "--weights", path).stdout.splitlines()
    first, second = (line for line in lines if line.startswith("says: "))
    assert first.startswith("says: two.jpg: The file itself declares a generator, though nothing")
    assert "The metadata name Midjourney" in first
    assert second.startswith("says: one.jpg: The metadata name editing software")


def column(title: str, *cells: str, **how) -> terminal.Column:
    return terminal.Column(title, [terminal.literal(cell) for cell in cells], **how)


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (100, ["file", "verdict", "edited", "P(edited)", "examined"]),
        (55, ["file", "verdict", "edited"]),
        (44, ["file", "verdict"]),
        (30, ["file", "verdict"]),
    ],
)
def test_a_narrow_terminal_keeps_names_and_verdicts(width, titles):
    columns = [
        column("file", "a.avif", "a_picture_with_a_name.jpg"),
        column("verdict", "● edited", "◐ uncertain"),
        column("edited", "● edited", "-", spare=1),
        column("P(edited)", "0.96", "-", right=True, spare=2),
        column("examined", "whole + 1 of 9 tiles", "all", spare=3),
    ]
    console = Console(width=width, force_terminal=True)
    (head, short, long), gone = terminal.fitted_table(columns, console)
    assert head.plain.split() == titles
    assert gone == [one.title for one in columns if one.title not in titles]
    assert all(line.cell_len <= width for line in (head, short, long))
    assert "● edited" in short.plain
    assert "◐ uncertain" in long.plain
    name = "a_picture_with_a_name.jpg" if width > 40 else "a_pic…_a_name.jpg"
    assert long.plain.startswith(f"{name} ")


def test_one_long_name_does_not_widen_the_lines_of_a_file():
    columns = [column("file", "a.jpg", "b" * 240 + ".jpg"), column("verdict", "fake", "no sign")]
    lines, gone = terminal.fitted_table(columns, Console(width=400, file=io.StringIO()))
    assert not gone
    assert lines[1].cell_len < 80
    assert lines[2].plain.split() == ["b" * 240 + ".jpg", "no", "sign"]


def test_stability_is_asked_for_by_an_option(folder, weights):
    row = json.loads(
        run("scan", folder / "cat.png", "--weights", weights, "--json", "--stability").stdout
    )
    changes = [check["change"] for check in row["stability"]]
    assert changes == ["saved as JPEG at quality 80", "reduced to half its size"]
    broken = [check["change"] for check in row["stability"] if not check["holds"]]
    shown = run("scan", folder / "cat.png", "--weights", weights, "--stability").stdout.splitlines()
    assert shown[0].split()[-1] == "holds"
    assert shown[1].split()[-1] == ("no" if broken else "yes")
    assert [c for c in row["caveats"] if c.startswith("The verdict changes")] == [
        f"The verdict changes when the picture is {change}." for change in broken
    ]


def test_a_trust_list_without_certificates_is_refused(folder, weights, tmp_path):
    (tmp_path / "list.pem").write_text("nothing")
    failed = in_a_process(
        "scan", str(folder), "--weights", weights, "--trust", str(tmp_path / "list.pem")
    )
    assert failed.returncode == 3
    assert "holds no certificate" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_unreadable_files_are_named_counted_and_change_the_exit_code(folder, weights):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "empty.png").write_bytes(b"")
    result = run("scan", folder, "--weights", weights)
    assert result.exit_code == 4
    assert "unreadable: broken.jpg: " in result.stdout
    assert "unreadable: empty.png: empty file." in result.stdout
    assert re.search(r"^5 files: .*, 2 unreadable$", result.stdout, re.M)


def test_camera_raws_in_a_folder_are_counted_and_named_in_one_line(folder, weights):
    for number in range(3):
        (folder / f"{number}.raf").write_bytes(b"FUJIFILMCCD-RAW " + bytes(100))
    result = run("scan", folder, "--weights", weights)
    assert result.exit_code == 4
    (line,) = re.findall("^unreadable: .*", result.stdout, re.M)
    assert line.startswith("unreadable: 3 files: 0.raf, 1.raf, 2.raf: a camera raw, which holds")
    for number in range(3, 25):
        (folder / f"{number}.raf").write_bytes(b"FUJIFILMCCD-RAW " + bytes(100))
    (line,) = re.findall("^unreadable: .*", run("scan", folder, "--weights", weights).stdout, re.M)
    assert line.startswith("unreadable: 25 files: 0.raf, 1.raf, 10.raf, ")
    assert " and 5 more (see --report or --json): a camera raw" in line


def test_where_no_file_can_be_read_nothing_was_scanned(folder, weights, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    result = run("scan", tmp_path / "empty.png", "--weights", weights)
    assert result.exit_code == 3
    assert "1 file: 1 unreadable" in result.stdout


def test_caveats_that_differ_are_said_with_their_file(folder, photos, weights):
    PIL.Image.fromarray(photos["cat"][:128, :128]).save(folder / "bad.jpg", quality=10)
    PIL.Image.fromarray(photos["cat"][:20, :64]).save(folder / "flat.png")
    told = run("scan", folder, "--weights", weights).stdout
    assert re.search(r"^caveat: bad\.jpg: .*JPEG quality about 10", told, re.M)
    assert re.search(r"^caveat: flat\.png: 64 x 20 px: smaller than", told, re.M)
    assert "caveat: cat.png" not in told


def test_names_of_strangers_cannot_steer_the_terminal(photos, weights, tmp_path):
    evil = tmp_path / "a\x1b[31m[bold]\n.png"
    PIL.Image.fromarray(photos["cat"][:40, :40]).save(evil)
    no_text = tmp_path / os.fsdecode(b"\xff.png")
    PIL.Image.fromarray(photos["cat"][:40, :40]).save(no_text)
    result = run("scan", tmp_path, "--weights", weights, "--report", tmp_path / "page.html")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "a\N{REPLACEMENT CHARACTER}[31m[bold]\N{REPLACEMENT CHARACTER}.png" in result.stdout
    assert "\N{REPLACEMENT CHARACTER}.png" in result.stdout


def test_subfolders_can_be_left_out(folder, weights):
    assert "2 files: " in run("scan", folder, "--no-recursive", "--weights", weights).stdout


def test_patterns_and_files_may_be_mixed(folder, weights):
    result = run("scan", folder / "*.png", folder / "rocket.jpg", "--weights", weights)
    assert "2 files: " in result.stdout


def test_a_file_with_two_names_is_examined_once(folder, weights):
    twice = (folder / "cat.png", folder / "below" / ".." / "cat.png")
    assert "1 file: " in run("scan", *twice, "--weights", weights).stdout


def test_a_limit_on_the_size_makes_larger_images_unreadable(folder, weights):
    result = run("scan", folder, "--max-megapixels", "0.001", "--weights", weights)
    assert result.exit_code == 3
    assert "64 pixels, more than the 0.001 million allowed" in result.stdout


def test_the_page_holds_every_file_and_replaces_an_older_one_only_when_complete(
    folder, weights, tmp_path
):
    (folder / "broken.jpg").write_bytes(b"nothing")
    page = tmp_path / "new" / "page.html"
    result = run("scan", folder, "--weights", weights, "--report", page)
    assert result.exit_code == 4
    assert f"Page: {page}" in result.stderr
    text = page.read_text("utf-8")
    for name in ("below/cup.png", "cat.png", "rocket.jpg", "broken.jpg", "Scan of photos"):
        assert name in text
    assert os.listdir(page.parent) == ["page.html"]  # noqa: PTH208 - hidden files, too


# Scanning: for programs


def test_json_lines_are_all_that_stdout_holds(folder, weights):
    (folder / "broken.jpg").write_bytes(b"nothing")
    result = run("scan", folder, "--json", "--weights", weights)
    assert result.exit_code == 4
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["image"] for row in rows] == [
        str(folder / name) for name in ("below/cup.png", "broken.jpg", "cat.png", "rocket.jpg")
    ]
    assert rows[1].keys() == {"format", "image", "error"}
    assert rows[2]["answers"].keys() == set(QUESTIONS)
    assert rows[2]["verdict"] in {"no sign", "fake", "uncertain"}
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("thresholds", "fail_on", "code"),
    [
        ((-99.0, -99.0), None, 0),
        ((-99.0, -99.0), "fake", 10),
        ((-99.0, -99.0), "uncertain", 10),
        ((-99.0, 99.0), "fake", 0),
        ((-99.0, 99.0), "uncertain", 10),
        ((99.0, 99.0), "uncertain", 0),
    ],
)
def test_verdicts_fail_a_scan_only_on_request(folder, tmp_path, thresholds, fail_on, code):
    path = written_checkpoint(tmp_path / "w.safetensors", always(*thresholds))
    asked = ["--fail-on", fail_on] if fail_on else []
    assert run("scan", folder, "--json", "--weights", path, *asked).exit_code == code


def test_an_edit_alone_fails_a_scan_too(folder, tmp_path):
    calibration = always(99.0, 99.0) | {"edited": always(-99.0, -99.0)["edited"]}
    path = written_checkpoint(tmp_path / "w.safetensors", calibration)
    rows = [
        json.loads(line)
        for line in run("scan", folder, "--weights", path, "--json").stdout.splitlines()
    ]
    assert {(row["verdict"], row["question"]) for row in rows} == {("fake", "edited")}
    assert {row["answers"]["generated"]["verdict"] for row in rows} == {"no sign"}
    assert "3 files: 3 edited" in run("scan", folder, "--weights", path).stdout
    assert run("scan", folder, "--weights", path, "--fail-on", "fake").exit_code == 10


def test_findings_of_one_kind_hide_none_of_another_and_an_unseen_generator_comes_first():
    results = Results([Path("a.jpg")], Detectors((), ()))
    results.said += [(1, "edited", f"{number:02}.jpg", "A part.") for number in range(25)]
    results.said += [(2, "says", f"{number:02}.jpg", "An editor.") for number in range(25)]
    results.said += [(0, "says", "z.png", "A generator.")]
    notes = [note[:2] for note in results._notes(())]
    assert notes[0] == ("says: z.png", "A generator.")
    assert notes[20][0] == "says"
    assert notes[21] == ("edited: 00.jpg", "A part.")
    assert notes[41] == ("edited", "5 more findings; see --report or --json.")


def test_a_verdict_that_was_asked_for_outweighs_unreadable_files(folder, tmp_path):
    (folder / "broken.jpg").write_bytes(b"nothing")
    path = written_checkpoint(tmp_path / "w.safetensors", always(-99.0, -99.0))
    assert run("scan", folder, "--weights", path, "--fail-on", "fake").exit_code == 10


# Errors


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["scan", "nowhere.jpg"], 3, "No file or folder nowhere.jpg"),
        (["scan", "{empty}"], 3, "No image found in"),
        (["scan", "{folder}", "--weights", "no.safetensors"], 3, "No checkpoint at no.safetensors"),
        (["scan", "{folder}", "--weights", "{folder}/cat.png"], 3, "not a safetensors file"),
        (["scan", "{folder}", "--method", "gama"], 3, "not of 'gama'"),
        (["scan", ""], 3, "An empty name is no file or folder"),
        (["scan", "{folder}", "--report", "{folder}"], 3, "Is a folder"),
        (
            ["scan", "{folder}", "--report", "{folder}/cat.png"],
            3,
            "Is a picture, which would be lost",
        ),
        (["scan", "{folder}", "--report", "{folder}/cat.png/page.html"], 3, "Cannot write"),
        (
            ["scan", "{folder}", "--report", "{recipe}"],
            3,
            "Does not end in .html and would be lost",
        ),
        (["fuse", "default", "mobilenet", "--data", "no.csv", "--out", "f.csv"], 2, ".json"),
        (["train", "{recipe}", "--out", "{empty}", "optimisation.stesp=3"], 2, "mean 'steps'?"),
        (["train", "{recipe}", "--out", "{empty}", "nonsense"], 2, "expected section.key=value"),
        (["train", "{recipe}", "--out", "{empty}", "method.name=gama"], 2, "mean 'gamma'?"),
        (["train", "no.toml", "--out", "{empty}"], 3, "Cannot read recipe no.toml"),
        (["train", "{recipe}", "--out", "{empty}"], 3, "give --data MANIFEST.csv"),
        (["train", "{recipe}", "--out", "{empty}", "--data", "no.csv"], 3, "No table at no.csv"),
        (["calibrate", "no.safetensors", "--data", "no.csv"], 3, "No checkpoint at no.safetensors"),
        (["evaluate", "no.csv"], 3, "No table at no.csv"),
        (["evaluate", "{folder}"], 3, "No labelled image below"),
        (["evaluate", "{folder}", "--recode", "jpeg"], 2, "expected 1 to 100, as in jpeg:90"),
        (["evaluate", "{folder}", "--recode", "gif:3"], 2, "expected jpeg:QUALITY"),
        (["synthesize", "{folder}", "--out", "{empty}", "--quality", "0"], 2, "1..100, or png"),
        (["synthesize", "{folder}", "--out", "{empty}", "--kind", "twin"], 2, "--autoencoder"),
        (["synthesize", "{folder}", "--out", "{empty}", "--kind", "upscaled"], 2, "--upscaler"),
        (["synthesize", "{folder}", "--out", "{empty}", "--strength", "0"], 2, "strength=0"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(
    folder, weights, tmp_path, arguments, code, message
):
    (tmp_path / "empty").mkdir()
    recipe = tmp_path / "recipe.toml"
    # Of the precision that the tests of training use: accelerate allows one per process.
    recipe.write_text(
        "[method]\nname = 'gamma'\nbackbone = 'compact'\n[optimisation]\nprecision = 'no'\n"
    )
    places = {"empty": tmp_path / "empty", "folder": folder, "recipe": recipe}
    filled = [argument.format(**places) for argument in arguments]
    if filled[0] == "scan" and "--weights" not in filled:
        filled += ["--weights", weights]
    result = run(*filled)
    assert result.exit_code == code
    line = one_line(result)
    assert line.startswith("Error: ")
    assert message in line
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["scan"],
        ["scan", ".", "--fail-on", "real"],
        ["scan", ".", "--max-megapixels", "-1"],
        ["scan", ".", "--max-megapixels", "inf"],
        ["scan", ".", "--out", "x", "--zone", "0.1,0.9"],
        ["scna"],
        ["synthesize", ".", "--out", "x", "--kind", "copymove"],
    ],
)
def test_wrong_options_are_usage_errors(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_a_device_that_is_not_there_is_a_usage_error(folder, weights):
    result = run("scan", folder, "--weights", weights, "--device", "quantum")
    assert result.exit_code == 2
    assert "'quantum' cannot be used" in result.stderr


def test_debug_shows_the_traceback_and_keeps_the_exit_code():
    result = run("--debug", "scan", "nowhere.jpg")
    assert result.exit_code == 3
    assert "Error: No file or folder nowhere.jpg" in result.output
    done = in_a_process("--debug", "scan", "nowhere.jpg")
    assert done.returncode == 3
    assert "Traceback" in done.stderr


def test_a_page_that_cannot_be_written_is_told_before_the_scan(folder, tmp_path):
    result = run("scan", folder, "--weights", "never read", "--report", tmp_path)
    assert result.exit_code == 3
    assert "Is a folder" in one_line(result)


# In a process of their own


def test_help_is_quick_and_without_torch():
    program = (
        "import sys; from gammascope.cli.app import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=False
    )
    after = os.times()
    # The processor's time, not the clock's: other work on the machine must not fail the test.
    seconds = after.children_user - before.children_user
    seconds += after.children_system - before.children_system
    assert done.returncode == 0, done.stderr
    assert seconds < 0.5
    assert all(command in done.stdout for command in COMMANDS)
    assert "10 scan --fail-on" in re.sub(r"\s+", " ", done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"{command} [OPTIONS]" in result.stdout


def test_the_version_is_printed():
    assert run("--version").stdout == f"gammascope {gammascope.__version__}\n"


def test_the_package_can_be_run_as_a_module():
    command = [sys.executable, "-m", "gammascope", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"gammascope {gammascope.__version__}\n"


def test_a_reader_that_leaves_ends_the_scan_quietly(folder, weights):
    command = [sys.executable, "-c", "from gammascope.cli.app import main; main()"]
    command += ["scan", str(folder), "--json", "--weights", weights]
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True) as process:
        os.close(writing)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 141
    assert errors == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("form", [["--json"], []])
def test_a_full_disk_is_one_line(folder, weights, form):
    command = [sys.executable, "-c", "from gammascope.cli.app import main; main()"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "scan", str(folder), "--weights", weights, *form],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr == "Error: No space left on device.\n"
    assert done.returncode == 3


def test_a_bug_is_one_line_too(folder, weights):
    program = (
        "import gammascope.detection.pipeline as p, sys; from gammascope.cli.app import main\n"
        "def broken(*_, **__): raise ZeroDivisionError('of no use')\n"
        "p.Pipeline.load = broken; main()"
    )
    command = [sys.executable, "-c", program, "scan", str(folder), "--json", "--weights", weights]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Internal error, please report it (ZeroDivisionError: of no use)")
    assert len(done.stderr.splitlines()) == 1


def test_an_interrupted_scan_leaves_whole_lines_and_no_page(photos, weights, tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    for number in range(400):
        PIL.Image.fromarray(photos["cat"]).save(many / f"{number:03}.jpg")
    page = tmp_path / "page.html"
    # A shell's background job, such as a build may be, starts with Ctrl-C switched off.
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{hear}; from gammascope.cli.app import main; main()"]
    command += ["scan", str(many), "--json", "--report", str(page), "--weights", weights]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    rows = [json.loads(line) for line in (first + rest).splitlines()]
    assert 0 < len(rows) < 400
    assert errors.strip() == "Interrupted."
    assert list(tmp_path.glob("*page*")) == []


INTERRUPTED_IN_A_DESTRUCTOR = """
import signal, sys
from gammascope.cli.failures import until_interrupted

dropped, handed_on = [], []
sys.unraisablehook = dropped.append
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts deaf

class Destroyed:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def rows():
    for number in range(5):
        if number == 2:
            Destroyed()
        yield number

try:
    handed_on.extend(until_interrupted(rows()))
except KeyboardInterrupt:
    assert len(dropped) == 1
    assert handed_on[:2] == [0, 1]
    assert 4 not in handed_on
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("interrupted")
"""


def test_an_interrupt_that_python_drops_counts_before_the_next_row():
    """In a process of its own: a signal must not reach the one that runs the tests."""
    command = [sys.executable, "-c", INTERRUPTED_IN_A_DESTRUCTOR]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "interrupted\n", done.stderr


# Progress


def test_a_scan_in_a_terminal_shows_a_bar_on_stderr_unless_asked_not_to(
    folder, weights, monkeypatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take any stream for a terminal
    assert "Scanning" in run("scan", folder, "--weights", weights).stderr
    assert run("scan", folder, "--weights", weights, "--quiet").stderr == ""
    assert run("scan", folder, "--weights", weights, "--json").stderr == ""


def test_training_shows_the_loss_first_and_knows_its_end(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with TrainingDisplay() as display:
        display(Progress("loading", 5, 5, {}))
        display(Progress("training", 1, 2, {"label_bce": 0.5, "loss": 0.75}))
        halfway = display.finished
        display(Progress("training", 2, 2, {"label_bce": 0.25, "loss": 0.625}))
    assert (halfway, display.finished) == (False, True)
    shown = capsys.readouterr().err
    assert "training" in shown
    assert "2/2" in shown
    assert "loss 0.625  label_bce 0.25" in shown


def test_training_without_a_terminal_prints_a_line_now_and_then(capsys):
    with TrainingDisplay() as display:
        for step in range(1, 101):
            display(Progress("training", step, 100, {"loss": 0.5}))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["training 1/100  loss 0.5", "training 100/100  loss 0.5"]


# The other commands


def test_methods_are_listed_for_people_and_programs(weights, monkeypatch):
    monkeypatch.setattr("gammascope.weights.DETECTORS", {"default": ""})
    monkeypatch.setattr("gammascope.weights.named", lambda _: Path(weights))
    rows = {row["name"]: row for row in json.loads(run("methods", "--json").stdout)}
    row = rows.pop("gamma")
    assert row["embedded_weights"] is True
    assert row["calibrated"] is False
    count = sum(p.numel() for p in gamma.build(gamma.METHOD.tiny).state_dict().values())
    assert row["parameters"] == count
    assert not any(other["embedded_weights"] for other in rows.values())
    piped = run("methods").stdout
    assert "2509.10250" in piped
    assert max(map(len, piped.splitlines())) <= 120
    assert "gammascope judge" in piped, "it answers as a method does"
    for name in (*rows, "gamma"):  # a line each
        assert sum(line.split()[0] == name for line in piped.splitlines()) == 1


def test_calibrating_sets_the_thresholds_that_a_scan_uses(collection, folder, tmp_path):
    path = written_checkpoint(tmp_path / "w.safetensors")
    fit = ("calibrate", path, "--data", collection, "--source", "held-out")
    result = run(*fit, "--false-alarms", "0.34")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split()[:2] == ["question", "temperature"]
    fitted = checkpoints.read_facts(path).calibration
    assert {name: fitted[name].sources for name in QUESTIONS} == dict.fromkeys(
        QUESTIONS, ("held-out",)
    )
    assert "held-out photos were called so" in run("scan", folder, "--weights", path).stdout


def test_a_scan_says_what_edited_costs_where_forensics_answers_it():
    detector = linear_probe.METHOD.build(linear_probe.METHOD.tiny)
    known = checkpoints.Calibration(1.0, 0.0, 0.5, (0.02, 0.01), 200, ("s",))
    facts = checkpoints.Facts("linear_probe", {}, detector.view, calibration={"generated": known})
    said = {
        profile: meaning(Pipeline(detector, facts, "abc", profile=profile))
        for profile in ("fast", "default", "thorough")
    }
    assert "edited" not in said["fast"]
    for profile, seen in (("default", forensics.QUICK), ("thorough", forensics.THOROUGH)):
        most = "at most " if profile == "thorough" else ""
        share = f"{most}{percent(seen.fake)} of {seen.photos:,} photos chosen as hard"
        assert (
            f"'edited': a part was pasted, painted or processed by itself ({share}" in said[profile]
        )


def test_a_curve_and_a_conformal_zone_are_stored_told_of_and_used(collection, folder, tmp_path):
    path, out = written_checkpoint(tmp_path / "w.safetensors"), tmp_path / "calibration"
    options = ("--method", "isotonic", "--zone", "conformal", "--false-alarms", "0.4")
    fit = ("calibrate", path, "--data", collection, "--source", "held-out", *options)
    result = run(*fit, "--missed", "0.4", "--out", out)
    assert result.exit_code == 0, result.output
    assert "at most 40 % of real photos are called fake" in result.stderr.replace("\n", " ")
    fitted = checkpoints.read_facts(path).calibration
    for values in fitted.values():
        assert (values.method, values.zone, values.missed) == ("isotonic", "conformal", 0.4)
        assert values.knots
        assert {point.source for point in values.points} == {"held-out"}
    written = json.loads((out / "calibration.json").read_text())
    assert written["calibration"]["edited"] == json.loads(
        json.dumps(settings.plain(fitted["edited"]))
    )
    row = json.loads(run("scan", folder / "cat.png", "--weights", path, "--json").stdout)
    for question, answer in row["answers"].items():
        assert answer["thresholds"] == pytest.approx(fitted[question].thresholds, abs=1e-6)
    assert "at most 40 % of new photos" in run("scan", folder, "--weights", path).stdout


@pytest.mark.parametrize("zone", ["quantile", "worst", "conformal"])
def test_a_promise_that_photos_are_too_few_for_leaves_the_checkpoint_alone(
    collection, tmp_path, zone
):
    path = written_checkpoint(tmp_path / "w.safetensors")
    before = path.read_bytes()
    result = run(*("calibrate", path, "--data", collection, "--source", "held-out", "--zone", zone))
    assert result.exit_code == 3
    assert "2 real photos cannot promise a rate of 0.01: at least 99 are needed" in result.stderr
    assert (
        "2 promise 33.3 % at best; to accept that, say so: --false-alarms 0.3334" in result.stderr
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["default", "mobilenet"])
def test_an_embedded_detector_is_not_rewritten_and_its_file_is_named(collection, name):
    refused = run("calibrate", name, "--data", collection)
    assert refused.exit_code == 2
    assert re.search(r"is not rewritten\. Copy \S+\.safetensors, and calibrate", one_line(refused))


@pytest.mark.parametrize("command", [("export",), ("calibrate", "--data", "none.csv")])
def test_a_fusion_in_place_of_a_checkpoint_is_said_to_be_one(tmp_path, command):
    fusion = tmp_path / "f.json"
    fusion.write_text('{"kind": "any", "members": ["a", "b"], "format": 1}', "utf-8")
    refused = run(*command, fusion)
    assert refused.exit_code == 3
    assert "If it is a fusion: scan, evaluate, robustness and serve take it" in one_line(refused)


def test_a_file_where_export_wants_a_folder_is_refused_before_the_work(
    weights, tmp_path, monkeypatch
):
    monkeypatch.setattr("gammascope.cli.exporting.exported", None)
    place = tmp_path / "taken"
    place.write_text("mine", "utf-8")
    refused = run("export", weights, "--out", place)
    assert refused.exit_code == 3
    assert "Is a file, expected a folder" in one_line(refused)
    assert place.read_text("utf-8") == "mine"


def test_what_holds_many_pictures_is_scanned_with_out_and_the_scan_says_so(
    folder, weights, tmp_path
):
    place = tmp_path / "shards.tar"
    with tarfile.open(place, "w") as archive:
        archive.add(folder / "cat.png", "cat.png")
    scanned = run("scan", place, "--weights", weights)
    assert scanned.exit_code == 3
    said = " ".join(scanned.stderr.split())
    assert "shards.tar: to scan the pictures in it, add --out FOLDER." in said


def test_calibrating_on_a_source_that_is_not_there_offers_the_nearest(collection, tmp_path):
    path = written_checkpoint(tmp_path / "w.safetensors")
    result = run("calibrate", path, "--data", collection, "--source", "heldout")
    assert result.exit_code == 3
    assert "Did you mean 'held-out'" in one_line(result)


def test_an_evaluation_writes_tables_numbers_and_plots(collection, weights, tmp_path):
    out = tmp_path / "evaluation"
    result = run(
        *("evaluate", collection, "--weights", weights, "--recode", "jpeg:60", "--out", out)
    )
    assert result.exit_code == 0, result.output
    columns = ["native", "fakes_aligned", "all_recoded", "jpeg_60"]
    assert {path.name for path in out.iterdir()} == {
        *(f"scores_{column}.{ending}" for column in columns for ending in ("csv", "parquet")),
        *("parts", "summary.json", "tables.md", "replay.parquet", "worst.jpg"),
        *(f"{plot}_{question}.png" for plot in ("reliability", "scores") for question in QUESTIONS),
        "roc_generated.png",
    }
    assert "edited: No ROC curve" in result.stderr  # nothing in the collection is edited
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["columns"]) == columns
    assert summary["definitions"]["all_recoded"]["encoding"] == "jpeg:090:4:2:0"
    assert sum(summary["definitions"]["fakes_aligned"]["encodings_of_reals"].values()) == 5
    assert "Fakes aligned to 5 JPEG photos and 0 that are no JPEG" in result.stderr
    text = (out / "tables.md").read_text()
    assert "| number | native | fakes_aligned | all_recoded | jpeg_60 |" in text
    assert "real and fake of matched sizes" in text
    assert summary["columns"]["native"]["generated"]["yes"] == 10
    assert "AUROC" in result.stdout
    assert "5 real and 10 fake" in result.stderr
    assert "generated from 0.000" in result.stderr
    page = (out / "tables.md").read_text("utf-8")
    assert "**generated: real photos flagged, by kind of file**" in page
    assert "| all | photos | 5 |" in page
    with PIL.Image.open(out / "worst.jpg") as sheet:
        assert sheet.format == "JPEG"


def test_an_evaluation_goes_on_where_it_was_and_refuses_another_detector(
    collection, weights, tmp_path, monkeypatch
):
    out = tmp_path / "evaluation"
    arguments = ("evaluate", collection, "--weights", weights, "--out", out)
    first = run(*arguments)
    asked = []
    monkeypatch.setattr("gammascope.detection.pipeline.Pipeline.scores", lambda *_: asked.append(1))
    again = run(*arguments)
    assert again.stdout == first.stdout
    assert asked == []
    other = written_checkpoint(tmp_path / "other.safetensors", always(0.0, 1.0))
    result = run("evaluate", collection, "--weights", other, "--out", out)
    assert result.exit_code == 2
    assert "holds scores of another run: weights_sha256 is" in one_line_after_notes(result)


def test_without_pyarrow_an_evaluation_stays_in_memory(collection, weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out = tmp_path / "evaluation"
    result = run("evaluate", collection, "--weights", weights, "--out", out)
    assert result.exit_code == 0, result.output
    assert "needs pyarrow" in result.stderr
    assert (out / "scores_fakes_aligned.csv").exists()
    assert not list(out.rglob("*.parquet"))


def test_black_masks_count_as_asked(collection, weights):
    shown = {}
    for black in ("skip", "one", "zero"):
        result = run("evaluate", collection, "--weights", weights, "--json", "--black-masks", black)
        columns = json.loads(result.stdout)["columns"]
        shown[black] = columns["native"]["generated"]["pixels"]["edited"]["f1"]
    assert shown["skip"]["n"] == 0  # nothing in the collection is edited
    assert shown["one"]["n"] == shown["zero"]["n"] == 15
    assert shown["zero"]["value"] == 0.0


def test_two_evaluations_are_compared_on_the_same_images(collection, weights, tmp_path):
    other = written_checkpoint(tmp_path / "other.safetensors", always(0.0, -5.0))
    for name, path in (("a", weights), ("b", other)):
        result = run("evaluate", collection, "--weights", path, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    result = run("compare", tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 0, result.output
    assert re.search(r"fakes_aligned +generated +AUROC .* 0\.000 \[0\.000, 0\.000\]", result.stdout)
    assert "p = " in result.stdout
    assert "15 images that both answered for" in result.stderr
    assert "native, generated: which ranks better may be chance." in result.stderr
    assert "of one class there are 5 pictures only" in result.stderr.lower()
    as_json = json.loads(run("compare", tmp_path / "a", tmp_path / "b", "--json").stdout)
    native = as_json["columns"]["native"]["generated"]
    assert (native["yes"], native["no"]) == (10, 5)
    assert native["balanced_accuracy"]["second"]["value"] == 0.5  # a threshold below all logits
    assert run("compare", tmp_path / "a", tmp_path / "c").exit_code == 3
    (tmp_path / "b" / "scores_native.parquet").unlink()
    assert run("compare", tmp_path / "a", tmp_path / "b").exit_code == 0  # the CSV file is there


def test_robustness_is_measured_and_goes_on_with_further_perturbations(
    collection, weights, tmp_path, monkeypatch
):
    from gammascope.evaluation import robustness

    every = robustness.suite("quick")
    suites = {"quick": every[:2], "full": (*every[:2], *every[-3:])}
    monkeypatch.setattr(robustness, "suite", lambda name: suites[name])
    out = tmp_path / "robustness"
    arguments = ("robustness", collection, "--weights", weights, "--limit", 4, "--out", out)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "JPEG 4:2:0, quality" in result.stdout
    assert {path.name for path in out.iterdir()} == {
        *("parts", "robustness.md", "robustness.csv", "robustness.png", "jpeg_420.png"),
        "replay.parquet",
    }
    modified = {path: path.stat().st_mtime_ns for path in out.glob("parts/*/*.parquet")}
    result = run(*arguments, "--suite", "full", "--json")
    assert result.exit_code == 0, result.output
    points = json.loads(result.stdout)
    assert [point["severity"] for point in points[:2]] == ["native", "fakes_aligned"]
    assert len(points) == 2 + 5
    assert points[0]["real_accuracy"]["n"] == points[0]["fake_accuracy"]["n"] == 4
    for path, time in modified.items():
        assert path.stat().st_mtime_ns == time
    assert (out / "social.png").exists()
    again = run("evaluate", "--replay", out / "replay.parquet", "--json", "--out", tmp_path / "b")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == points
    assert (tmp_path / "b" / "robustness.md").read_text() == (out / "robustness.md").read_text()
    assert str(collection.parent).encode() not in (out / "replay.parquet").read_bytes()
    refused = run(*arguments[:-3], 3, "--out", out)
    assert refused.exit_code == 2
    assert "images is 8 there and 6 here" in one_line_after_notes(refused)


def test_an_evaluation_uses_the_thresholds_of_the_checkpoint(collection, tmp_path):
    path = written_checkpoint(tmp_path / "w.safetensors", always(1.5, 2.5))
    result = run("evaluate", collection, "--json", "--weights", path)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["calibrated"] is True
    assert summary["columns"]["native"]["edited"]["threshold"] == 2.5


def test_a_labelled_folder_is_evaluated_and_its_direction_told(photos, weights, tmp_path):
    for name, label in (("cat", "0_real"), ("rocket", "0_real"), ("coffee", "1_fake")):
        path = tmp_path / "data" / "biggan" / label / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(photos[name][:64, :64]).save(path)
    result = run("evaluate", tmp_path / "data", "--weights", weights)
    assert result.exit_code == 0, result.output
    assert "2 real (from 0_real/) and 1 fake (from 1_fake/)" in result.stderr
    result = run("evaluate", tmp_path / "data", "--weights", weights, "--split", "tset")
    assert result.exit_code == 3
    assert "Did you mean 'test'" in one_line_after_notes(result)


def test_a_bulk_scan_writes_rows_goes_on_and_counts(folder, weights, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    (folder / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "rows"
    command = ("scan", folder, "--weights", weights, "--out", out, "--quiet")
    result = run(*command)
    assert result.exit_code == 4
    assert result.stdout.startswith("4 images: ")
    assert "1 unreadable" in result.stdout
    rows = parquet.read_table(out).to_pylist()
    assert {Path(row["image"]).name for row in rows} == {
        "cat.png",
        "rocket.jpg",
        "cup.png",
        "broken.jpg",
    }
    assert [row["number"] for row in sorted(rows, key=lambda row: row["number"])] == [0, 1, 2, 3]
    again = run(*command, "--json")
    assert json.loads(again.stdout)["images"] == 4
    assert parquet.read_table(out).num_rows == 4


def test_a_bulk_scan_looks_as_it_was_told_and_does_not_mix(photos, weights, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    picture = tmp_path / "large.png"
    PIL.Image.fromarray(np.ascontiguousarray(photos["cat"][:300, :300])).save(picture)
    partly = {}
    for profile in ("fast", "thorough"):
        out = tmp_path / profile
        result = run("scan", picture, "--weights", weights, "--out", out, "--profile", profile)
        assert result.exit_code == 0
        (row,) = parquet.read_table(out).to_pylist()
        caveats = json.loads(row["report"])["caveats"]
        partly[profile] = any("tiles were examined" in caveat for caveat in caveats)
    assert partly == {"fast": True, "thorough": False}
    refused = run(
        "scan", picture, "--weights", weights, "--out", tmp_path / "fast", "--profile", "thorough"
    )
    assert refused.exit_code == 2


@pytest.fixture
def columbia(photos, tmp_path) -> Path:
    """Lay out a benchmark of one photo and one splice, with its mask."""
    for folder, name in (("Au", "cat"), ("Tp", "rocket")):
        path = tmp_path / "columbia" / folder / f"{name}.png"
        path.parent.mkdir(parents=True)
        PIL.Image.fromarray(photos[name][:64, :64]).save(path)
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:32] = 255
    (tmp_path / "columbia" / "Gt").mkdir()
    PIL.Image.fromarray(mask).save(tmp_path / "columbia" / "Gt" / "rocket.png")
    return tmp_path / "columbia"


def test_a_benchmark_is_evaluated_by_name_and_its_direction_told(columbia, weights):
    command = ("evaluate", "--benchmark", "columbia", "--root", columbia, "--weights", weights)
    result = run(*command, "--json")
    assert result.exit_code == 0, result.output
    told = "1 real and 1 fake of split 'test' (4cam_auth, Au = real; 4cam_splc, Tp = fake)"
    assert f"columbia: {told}" in result.stderr
    summary = json.loads(result.stdout)
    assert (summary["data"], summary["labels"]) == ("columbia", told)
    assert summary["columns"]["native"]["edited"]["pixels"]["edited"]["images"] == 1


def test_images_inside_a_table_are_evaluated(photos, weights, tmp_path):
    rows = []
    for label, name in enumerate(("cat", "rocket")):
        sink = io.BytesIO()
        PIL.Image.fromarray(photos[name][:64, :64]).save(sink, "PNG")
        rows.append({"image": {"bytes": sink.getvalue(), "path": None}, "label": label})
    rows.append({"image": {"bytes": b"broken", "path": None}, "label": 1})
    table = tmp_path / "data" / "test-00000-of-00001.parquet"
    table.parent.mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    command = ("evaluate", "--benchmark", "huggingface", "--root", tmp_path / "data")
    result = run(*command, "--weights", weights, "--out", tmp_path / "out", "--quiet")
    assert result.exit_code == 4, result.output
    scores = ScoreTable.read(tmp_path / "out" / "scores_native.csv")
    assert scores["path"][1] == str(table / "1.image")
    assert scores["error"].tolist()[:2] == ["", ""]
    assert "not an image" in scores["error"][2]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Name what to evaluate"),
        (("data", "--benchmark", "columbia", "--root", "x"), 2, "Name what to evaluate"),
        (("--benchmark", "columbia"), 2, "Name what to evaluate"),
        (("data", "--partial"), 2, "Name what to evaluate"),
        (("--benchmark", "colombia", "--root", "x"), 2, "Did you mean 'columbia'"),
    ],
)
def test_what_to_evaluate_must_be_named_once(arguments, code, message):
    result = run("evaluate", *arguments)
    assert result.exit_code == code
    assert message in one_line(result)


def test_an_incomplete_benchmark_is_refused_with_its_tree_unless_wanted(columbia, weights):
    (columbia / "Au" / "cat.png").unlink()
    command = ("evaluate", "--benchmark", "columbia", "--root", columbia, "--weights", weights)
    result = run(*command)
    assert result.exit_code == 3
    said = result.stderr.splitlines()
    assert "incomplete: no real image" in said[0]
    assert "licence: research only" in said[0]
    assert "├── 4cam_auth/*.tif" in said
    assert run(*command, "--partial").exit_code == 0


def test_benchmarks_are_listed_for_people_and_programs():
    rows = {row["name"]: row for row in json.loads(run("benchmarks", "--json").stdout)}
    assert rows["genimage"]["licence"] == "CC-BY-NC-SA-4.0"
    assert rows["genimage"]["labels"]["ai"] == "fake"
    assert rows["rrdataset"]["splits"][:2] == ["original", "transfer"]
    assert "Community Forensics" in run("benchmarks").stdout
    shown = run("benchmarks", "genimage").stdout
    assert "labels: nature, 0_real = real; ai, 1_fake = fake" in shown
    assert "│   └── imagenet_ai_0508_adm/" in shown
    result = run("benchmarks", "genimege")
    assert result.exit_code == 2
    assert "Did you mean 'genimage'" in one_line(result)


def one_line_after_notes(result: Result) -> str:
    return result.stderr.strip().splitlines()[-1]


def test_synthesizing_goes_on_where_it_stopped_and_tells_of_broken_photos(folder, tmp_path):
    (folder / "broken.jpg").write_bytes(b"nothing")
    (folder / "shot.CR3").write_bytes(b"\0\0\0\x18ftypcrx ")
    # Inside the folder of the photos: what is made must not be taken for photos the next time.
    out = folder / "edited"
    first = run("synthesize", folder, "--out", out, "--per-photo", "2", "--seed", "3")
    assert first.exit_code == 4
    assert "9 pictures: " in first.stderr
    assert first.stderr.count("not used: ") == 2
    assert "a camera raw, which holds no finished picture" in " ".join(first.stderr.split())
    entries = read_manifest(out / "manifest.csv")
    assert len(entries) == 9
    second = run("synthesize", folder, "--out", out, "--per-photo", "2", "--seed", "3")
    assert second.exit_code == 4
    assert "9 pictures (9 of them were there already)" in second.stderr
    assert read_manifest(out / "manifest.csv") == entries


def test_synthesizing_from_a_manifest_takes_its_photos_only(collection, tmp_path):
    out = tmp_path / "out"
    arguments = ("--kind", "navier_stokes", "--controls", "2", "--quality", "png")
    result = run("synthesize", collection, "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    entries = read_manifest(out / "manifest.csv")
    assert sum(entry.kind == "inpainting_classical" for entry in entries) == 5
    assert sum(entry.kind is None for entry in entries) == 2
    assert {entry.split for entry in entries} == {"train"}
    assert {entry.path.suffix for entry in entries} == {".png"}
    assert "held-out" in {entry.source for entry in entries}


def test_an_autoencoder_named_by_its_folder_makes_twins(folder, tmp_path):
    torch.manual_seed(0)
    network = TinyAutoencoder(latent_channels=4, width=8, mixing=False)
    place = tmp_path / "little"
    place.mkdir()
    torch.save(network.encoder.state_dict(), place / "little_encoder.pth")
    torch.save(network.decoder.state_dict(), place / "little_decoder.pth")
    out = tmp_path / "out"
    arguments = ("--kind", "twin", "--autoencoder", place, "--controls", "0", "--split", "train")
    result = run("synthesize", folder, "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    entries = read_manifest(out / "manifest.csv", "train")
    assert {(entry.generator, entry.kind) for entry in entries} == {("little", None)}
    assert {entry.host_path for entry in entries} == set(folder.rglob("*.*g"))


@pytest.mark.parametrize("kind", ["upscaled", "restyled"])
def test_networks_named_by_their_files_remake_photos(folder, tmp_path, kind):
    arguments = ["--upscaler", upscaler(tmp_path / "twice.v3-x2.param")]
    if kind == "restyled":
        arguments = ["--styles", numbered_styles(tmp_path / "three.onnx"), "--strength", "0.5"]
        arguments += ["--seed", 1]  # with another, a photo gets the style that changes nothing
    out = tmp_path / "out"
    result = run("synthesize", folder, "--out", out, "--kind", kind, *arguments)
    assert result.exit_code == 0, result.output
    entries = read_manifest(out / "manifest.csv")
    fakes = [entry for entry in entries if entry.label is Label.FAKE]
    name = {"upscaled": "twice.v3-x2", "restyled": "three"}[kind]
    assert {(entry.generator, entry.kind) for entry in fakes} == {(name, None)}
    assert {entry.host_path for entry in fakes} == set(folder.rglob("*.*g"))
    assert len(entries) == 2 * len(fakes)


def test_names_that_are_no_text_or_that_stdout_cannot_encode_cost_no_output(
    folder, weights, tmp_path
):
    for name in (os.fsdecode(b"caf\xe9.png"), "smile\U0001f600.png"):
        (folder / name).write_bytes((folder / "cat.png").read_bytes())
    page = tmp_path / "page.html"
    table = run("scan", folder, "--weights", weights, "--report", page)
    assert table.exit_code == 0
    assert r"caf\xe9.png" in table.stdout
    assert r"caf\\xe9.png" in page.read_text("utf-8")  # in JSON
    rows = run("scan", folder, "--weights", weights, "--json").stdout.splitlines()
    names = [json.loads(row)["image"] for row in rows]
    "".join(names).encode("utf-8")
    assert any(name.endswith(r"caf\xe9.png") for name in names)
    narrow = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "cp1252"}
    piped = in_a_process(
        "scan", str(folder), "--weights", weights, env=os.environ | narrow, encoding="cp1252"
    )
    assert piped.returncode == 0, piped.stderr
    assert "smile?.png" in piped.stdout
    assert "5 files" in piped.stdout


@pytest.mark.parametrize("command", ["doctor", "evaluate", "scan"])
def test_tables_that_are_no_utf8_are_named_with_their_encoding(command, weights, tmp_path):
    table = tmp_path / "table.csv"
    table.write_bytes("path,label\ncafé.png,real\n".encode("cp1252"))
    more = {"doctor": [], "evaluate": ["--weights", weights]}
    scan = ["--weights", weights, "--out", tmp_path / "out"]
    result = run(command, table, *more.get(command, scan))
    assert result.exit_code == 3
    assert f"{table} is not encoded in UTF-8" in one_line(result)
