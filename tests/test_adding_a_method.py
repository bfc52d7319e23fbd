"""The page about adding a method, followed to the letter: its files are made, installed, tested and trained."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gammascope.errors import BrokenPackageError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "adding_a_method.md"


def blocks() -> dict[str, str]:
    """Return the page's files: code blocks that begin with a comment naming one."""
    found = {}
    for body in re.findall(r"^```\w+\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S):
        named = re.match(r"# ([\w/]+\.\w+)\n", body)
        if named:
            found[named[1]] = body[named.end() :]
    return found


def command() -> list[str]:
    """Return the page's command that runs the contract tests."""
    line = re.search(r"^```sh\n(pytest .*)$", PAGE.read_text("utf-8"), re.M)
    assert line
    return line[1].split()


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """The page's package, as pip would leave it: the modules, and metadata with its entry points."""
    folder = tmp_path_factory.mktemp("package")
    for name, content in blocks().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, "utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", "utf-8"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture
def installed(package, monkeypatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(package))
    yield package
    sys.modules.pop("residue", None)


def test_the_page_has_all_files():
    assert blocks().keys() == {"residue.py", "pyproject.toml", "recipes/residue.toml"}


def test_it_is_listed_beside_our_own(installed):
    from gammascope.detectors import base

    assert {"residue", "gamma"} <= set(base.names())
    assert base.get("residue").title == "Residue (example)"


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("def METHOD(:", "cannot be loaded: SyntaxError"),
        ("import no_such_package", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("METHOD = 1", "is of the type int, expected a Method"),
    ],
)
def test_one_that_cannot_be_loaded_is_named_and_the_others_are_listed(
    package, tmp_path, monkeypatch, module, said
):
    from gammascope.cli.app import app
    from gammascope.detectors import base

    broken = tmp_path / "installed"
    shutil.copytree(package, broken)
    (broken / "residue.py").write_text(module, "utf-8")
    monkeypatch.syspath_prepend(str(broken))
    sys.modules.pop("residue", None)
    listed = CliRunner().invoke(app, ["methods", "--json"])
    assert listed.exit_code == 4
    rows = {row["name"] for row in json.loads(listed.stdout)}
    assert "gamma" in rows
    assert "residue" not in rows
    message = " ".join(listed.stderr.split())
    assert "residue of the package my-methods (entry point residue:METHOD" in message
    assert said in message
    with pytest.raises(BrokenPackageError, match="Mend or uninstall that package"):
        base.get("residue")
    assert base.get("gamma").title
    sys.modules.pop("residue", None)


def test_its_recipe_trains_a_checkpoint_that_scans(installed, collection, tmp_path):
    from gammascope.detection.pipeline import Pipeline
    from gammascope.training.following import follow
    from gammascope.training.recipe import read_recipe

    smaller = ["method.width=4", "method.size=32", "optimisation.steps=2", "optimisation.batch=4"]
    smaller += ["data.workers=0", "optimisation.precision=no", f"data.manifests=['{collection}']"]
    recipe = read_recipe(installed / "recipes" / "residue.toml", smaller)
    path = follow(recipe, tmp_path / "run")
    report = Pipeline.load(path, method="residue").report(np.zeros((40, 50, 3), np.uint8))
    assert "generated" in report.answers


def test_it_keeps_the_contract(package):
    """Run as the page says; golden numbers are for our own methods."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(package), str(ROOT / "src")]),
        "COVERAGE_PROCESS_START": "",
    }
    arguments = [sys.executable, "-m", *command(), "-q", "--deselect"]
    arguments += ["tests/contract/test_detectors.py::test_golden[residue]"]
    done = subprocess.run(
        arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) >= 15
