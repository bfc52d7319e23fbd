"""``--help``: readable in a narrow terminal, every command in a group, with an example that works."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections import Counter
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from gammascope import choices
from gammascope.cli import failures
from gammascope.cli.app import app
from gammascope.cli.help import ALIASES, GROUPS
from gammascope.data import edits
from gammascope.detection import fusion
from gammascope.detection.pipeline import ORDINARY_PROCESSING, Execution, Pipeline
from gammascope.evaluation.robustness import suite
from gammascope.generation.spatial_context import FAMILIES
from gammascope.imaging.views import places_of

COMMANDS: Any = typer.main.get_command(app)
EXAMPLES = {name: line for commands in GROUPS.values() for name, line in commands.items()}


def shown(*arguments: str) -> str:
    result = CliRunner(env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).invoke(
        app, [*arguments, "--help"]
    )
    assert result.exit_code == 0
    return result.stdout


def test_the_list_of_commands_is_written_without_what_only_commands_need():
    """Each of these takes longer to import than the rest of ``gammascope --help`` takes."""
    code = "import sys, gammascope.cli.app; print(*{'numpy', 'PIL', 'pydantic', 'rich.table'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_command_is_in_one_group():
    named = [name for group in GROUPS.values() for name in group]
    assert sorted(named) == sorted(COMMANDS.commands)
    text = shown()
    for group in GROUPS:
        assert f"\n{group}:\n" in text


@pytest.mark.parametrize("name", ["", *EXAMPLES, *ALIASES])
def test_help_fits_a_narrow_terminal_and_says_nothing_about_flags_that_they_do_not(name):
    text = shown(*name.split())
    assert max(map(len, text.splitlines())) <= 80
    for noise in ("<bool>", "``", "│", "…"):
        assert noise not in text


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_command_has_an_example_that_is_understood(name):
    assert f"Example:\n  {EXAMPLES[name]}\n" in shown(name)
    program, *words = shlex.split(EXAMPLES[name].partition(" >> ")[0])
    assert program == "gammascope"
    with COMMANDS.make_context("gammascope", list(words)) as context:
        found, command, rest = COMMANDS.resolve_command(context, list(words))
        assert found == name
        command.make_context(name, rest, parent=context).close()


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("scan", choices.Profile),
        ("scan", choices.Engine),
        ("calibrate", choices.Zone),
        ("calibrate", choices.Curve),
    ],
)
def test_words_to_choose_from_are_whole(command, values):
    assert f"<{'|'.join(get_args(values))}>" in shown(command)


def test_words_to_choose_from_are_those_that_the_library_knows():
    assert get_args(choices.EditKind) == tuple(edits.KINDS)
    assert get_args(choices.ContextFamily) == tuple(FAMILIES)


def test_help_of_stability_is_what_the_code_does():
    times = {3: "three"}[1 + len(ORDINARY_PROCESSING)]
    assert f"up to {times} times slower" in " ".join(shown("scan").split())


def test_help_names_the_views_of_the_embedded_detector():
    views = {
        name: len(places_of((9999, 9999), Pipeline.load(execution=Execution(profile=name)).view))
        for name in ("default", "fast")
    }
    text = " ".join(shown("scan").split())
    assert f"(embedded detector: {views['default']}), fast fewer ({views['fast']})" in text


@pytest.mark.parametrize("command", ["scan", "fuse"])
def test_help_names_the_zone_of_the_code(command, monkeypatch):
    assert "Default: 0.1,0.9." in " ".join(shown(command).split())
    monkeypatch.setattr(fusion, "ZONE", (0.25, 0.75))
    assert "Default: 0.25,0.75." in " ".join(shown(command).split())


def test_help_of_the_quick_suite_is_what_the_code_does():
    assert "one to three severities" in " ".join(shown("robustness").split())
    counts = Counter(each.family for each in suite("quick"))
    assert (min(counts.values()), max(counts.values())) == (1, 3)


def test_exit_codes_in_help_are_those_of_the_code():
    for command in ("scan", "doctor"):
        assert f"Exit with {failures.FOUND} if" in " ".join(shown(command).split())
        assert f"{failures.PARTLY_DONE} some" in " ".join(shown(command).split())


@pytest.mark.parametrize(("alias", "command"), ALIASES.items())
def test_a_word_of_the_field_runs_the_same_command(alias, command, tmp_path):
    outputs = [CliRunner().invoke(app, [name, str(tmp_path)]) for name in (alias, command)]
    assert outputs[0].exit_code == outputs[1].exit_code == 3
    assert outputs[0].stderr == outputs[1].stderr
