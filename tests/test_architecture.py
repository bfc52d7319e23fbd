"""Rules of the code base that no formatter or linter checks for us."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest

import gammascope

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Documented: TypeAlias = ast.Module | ast.ClassDef | Function

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "gammascope"
FOLDERS = ("src", "tests", "benchmarks", "examples")

FORBIDDEN_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "core", "lib"}
MAX_CODE_LINES = 400
MAX_FUNCTION_LINES = 60
MIN_COPIED_LINES = 8

# Joined at run time, so that this file passes its own test.
REGISTRIES = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"))]
REGISTRIES += [".".join(parts) for parts in (("npmjs", "org"), ("anaconda", "org"))]
PERSONAL_FOLDERS = "home|work|root|tmp|mnt|media|scratch|Users"
SYSTEM_FOLDERS = "usr|opt|var|etc|srv"

# Speech of people for what software does. Say who does what: run, read, write, predict, return, cache, release.
STOP_LIST = re.compile(
    r"\b(?:look(?:s|ed)? at|(?:is|are) (?:told|asked)|asked for|let go|nobody|somebody|strangers)\b"
)
MOST_STOPPED = 94
"""Occurrences in docstrings and comments of the package. It may only fall: lower it when you rewrite a sentence."""

# What must not be imported before somebody asks for a detector: it costs seconds.
HEAVY = {"torch", "transformers", "peft", "diffusers", "accelerate", "matplotlib", "cv2", "sklearn"}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


SOURCES = python_files("src")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_source = pytest.mark.parametrize("path", SOURCES, ids=named)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), named(path))


def functions_of(path: Path) -> list[Function]:
    found = ast.walk(tree_of(path))
    return [node for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def without_docstring(node: Documented) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body


def docstring_lines(node: Documented) -> set[int]:
    if ast.get_docstring(node, clean=False) is None:
        return set()
    return set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))


def code_lines(path: Path) -> set[int]:
    """Lines with code: neither empty, nor only a comment, nor part of a docstring."""
    skipped = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree_of(path)):
        if isinstance(node, Documented):
            lines -= docstring_lines(node)
    return lines


def strings_of(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def undocumented(path: Path) -> Iterator[str]:
    """Name the public module, classes, functions and methods of a file that say nothing."""
    tree = tree_of(path)
    if not ast.get_docstring(tree):
        yield "module"
    owners: list[ast.Module | ast.ClassDef] = [tree]
    while owners:
        for node in owners.pop().body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("_") or _repeats_another(node):
                continue
            if not ast.get_docstring(node):
                yield f"{node.name} (line {node.lineno})"
            if isinstance(node, ast.ClassDef):
                owners.append(node)


def _repeats_another(node: ast.ClassDef | Function) -> bool:
    """Overloads and setters are documented once, where they are implemented or read."""
    written = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any(name.endswith(("overload", "override", ".setter")) for name in written)


def imported_packages(path: Path) -> set[str]:
    """Top-level packages imported anywhere in a file, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", python_files(*FOLDERS), ids=named)
def test_file_and_folder_names_say_what_is_inside(path):
    parts = {part.lower().strip("_") for part in path.relative_to(ROOT).with_suffix("").parts}
    assert parts & FORBIDDEN_NAMES == set()


@every_source
def test_files_fit_the_budget(path):
    assert len(code_lines(path)) <= MAX_CODE_LINES


@every_source
def test_functions_fit_the_budget(path):
    too_long = {}
    for function in functions_of(path):
        first, last = function.lineno, function.end_lineno or function.lineno
        length = last - first + 1 - len(docstring_lines(function))
        if length > MAX_FUNCTION_LINES:
            too_long[function.name] = length
    assert too_long == {}


@every_source
def test_everything_public_has_a_docstring(path):
    assert list(undocumented(path)) == []


def prose_of(path: Path) -> str:
    """Return docstrings and comments of a file, in lower case and without line breaks."""
    documented = (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Expr))
    parts = [
        node.value.value
        for node in documented
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
    parts += [token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT]
    return " ".join(" ".join(parts).lower().split())


def test_prose_falls_back_on_speech_of_people_ever_less():
    found = {named(path): len(STOP_LIST.findall(prose_of(path))) for path in SOURCES}
    assert sum(found.values()) <= MOST_STOPPED, sorted(found.items(), key=lambda item: -item[1])[:9]


def test_a_file_name_stands_for_one_thing():
    """``base`` is the contract of each folder; ``views`` are cut in imaging and drawn in training."""
    folders = defaultdict(list)
    for path in SOURCES:
        if path.stem not in {"__init__", "base"}:
            folders[path.name].append(named(path.parent))
    assert {name: places for name, places in folders.items() if len(places) > 1}.keys() <= {
        "views.py"
    }


def test_design_names_every_layer_of_the_import_contract():
    """In a table, so that people read the same order that lint-imports checks."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = [
        [name.strip().removeprefix("gammascope.") for name in layer.split("|")]
        for layer in contract["contracts"][0]["layers"]
    ]
    design = (ROOT / "docs" / "design.md").read_text("utf-8")
    shown = design[design.index("## Layers") : design.index("## Rules")]
    rows = re.findall(r"(?m)^\d+\. (.*)$", shown)
    assert [sorted(re.findall(r"`(\w+)`", row)) for row in rows] == [
        sorted(layer) for layer in reversed(layers)
    ]


def test_no_function_body_exists_twice():
    places = defaultdict(list)
    for path in SOURCES:
        for function in functions_of(path):
            body = without_docstring(function)
            if not body:
                continue
            if (body[-1].end_lineno or 0) - body[0].lineno + 1 >= MIN_COPIED_LINES:
                same = "\n".join(ast.dump(statement) for statement in body)
                places[same].append(f"{named(path)}:{function.lineno} {function.name}")
    assert [where for where in places.values() if len(where) > 1] == []


@pytest.mark.parametrize("path", python_files(*FOLDERS), ids=named)
def test_no_string_names_a_place_on_one_machine_or_a_package_registry(path):
    folders = PERSONAL_FOLDERS
    if path.is_relative_to(PACKAGE):
        folders += "|" + SYSTEM_FOLDERS
    place = re.compile(rf"(?<![\w.:/~>}}*-])/(?:{folders})/\w|\b[A-Z]:\\\w")
    found = [
        (line, text)
        for line, text in strings_of(path)
        if place.search(text) or any(host in text for host in REGISTRIES)
    ]
    assert found == []


@pytest.mark.parametrize("path", python_files("src", "benchmarks"), ids=named)
def test_a_percent_sign_stands_after_a_space(path):
    """As report.percent writes it; f"{share:.1%}" and "5%" do not."""
    texts = [*strings_of(path)]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.JoinedStr):
            whole = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values
            )
            texts.append((node.lineno, whole))
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            texts.append((node.lineno, "0" + ast.unparse(node.format_spec).strip("'\"f")[-1:]))
    wrong = re.compile(r"\d%(?![a-zA-Z0-9])")
    assert [(line, text) for line, text in texts if wrong.search(text)] == []


def test_public_names_are_complete_and_sorted():
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree_of(PACKAGE / "__init__.py"))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gammascope")
        for alias in node.names
    }
    public = {name for name in imported if not name.startswith("_")}
    listed = list(gammascope.__all__)
    assert sorted(public - set(listed)) == []
    assert [name for name in listed if not hasattr(gammascope, name)] == []

    def constants_then_classes_then_rest(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2), name

    assert listed == sorted(set(listed), key=constants_then_classes_then_rest)


def quick_modules() -> list[str]:
    """List what is on the way from the command line to the pixels, as far as it exists."""
    paths = [
        PACKAGE / "__init__.py",
        PACKAGE / "cli" / "app.py",
        PACKAGE / "detection" / "pipeline.py",
    ]
    paths += [PACKAGE / "report.py", PACKAGE / "sample.py"]
    paths += sorted((PACKAGE / "imaging").glob("*.py")) + sorted(
        (PACKAGE / "scanning").glob("*.py")
    )
    return [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in paths
        if path.exists()
    ]


def test_help_and_scanning_start_without_heavy_packages():
    program = (
        "import importlib, json, sys\n"
        "modules, heavy = map(json.loads, sys.argv[1:])\n"
        "brought, seen = {}, set()\n"
        "for module in modules:\n"
        "    importlib.import_module(module)\n"
        "    new = set(heavy) & set(sys.modules) - seen\n"
        "    seen |= new\n"
        "    if new: brought[module] = sorted(new)\n"
        "print(json.dumps(brought))\n"
    )
    command = [sys.executable, "-c", program, json.dumps(quick_modules()), json.dumps(list(HEAVY))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.parent.name == "imaging" or p.stem == "report"], ids=named
)
def test_imaging_and_reports_work_without_torch(path):
    assert "torch" not in imported_packages(path)


@pytest.mark.parametrize(
    "name",
    [
        path.stem
        for path in sorted((PACKAGE / "detectors").glob("*.py"))
        if path.stem != "base" and not path.stem.startswith("_")
    ],
)
def test_every_method_has_a_model_card(name):
    card = ROOT / "docs" / "model_cards" / f"{name}.md"
    assert card.is_file()
    assert card.read_text("utf-8").startswith("# ")


def test_newest_entry_of_the_changelog_is_this_version():
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert headings[0] == gammascope.__version__
