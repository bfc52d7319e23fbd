"""The tutorials, followed word for word: their files are written, their commands run, their output compared."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gammascope.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.M | re.S)


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Return, in the page's order, the files to write (name, content) and the commands (with "$ ", expected output)."""
    for kind, body in BLOCK.findall((ROOT / "docs" / page).read_text("utf-8")):
        if kind == "python":
            named = re.match(r"# (\w+\.py)\n", body)
            assert named, body
            yield named[1], body
            continue
        for part in re.split(r"(?m)^(?=\$ )", body):
            if part:
                command, _, expected = part.partition("\n")
                yield command, expected


def followed(command: str, last: int) -> tuple[str, int]:
    """Run a command as a shell would, in this folder; return what it prints and its exit code."""
    program, *arguments = shlex.split(command)
    if program == "gammascope":
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        return result.output, result.exit_code
    if program == "python":
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr, done.returncode
    assert arguments == ["$?"], f"no command of a tutorial: {command}"
    return f"{last}\n", 0


def matches(expected: str, output: str) -> bool:
    """Whether an output is the expected one: "..." stands for anything, and all white space is alike."""
    parts = (r"\s+".join(map(re.escape, part.split())) for part in expected.split("..."))
    return re.fullmatch(r".*".join(rf"\s*{part}\s*" for part in parts), output, re.S) is not None


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A folder with what a checkout has, in which commands may write."""
    for name in ("examples", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("page", "leaves"),
    [
        ("first_scan.md", ["report.html"]),
        ("first_training.md", ["runs/probe/checkpoint.safetensors", "results/probe/summary.json"]),
    ],
)
def test_a_tutorial_can_be_followed_word_for_word(page, leaves, checkout):
    code, commands = 0, 0
    for first, second in steps(page):
        if not first.startswith("$ "):
            (checkout / first).write_text(second, "utf-8")
            continue
        output, now = followed(first[2:], code)
        assert matches(second, output), f"{first}\n{output}"
        if code := now:
            assert f"with {code} " in (ROOT / "docs" / page).read_text("utf-8"), output
        commands += 1
    assert commands >= 5
    assert [name for name in leaves if not (checkout / name).is_file()] == []


def test_an_output_that_says_something_else_does_not_match():
    assert matches("a ... fake\n1 file", "a  b   fake\n1 file\n")
    assert not matches("a ... fake\n1 file", "a b no sign\n1 file\n")
    assert not matches("1 file", "1 file: 1 fake")
