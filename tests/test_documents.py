"""What documents promise a reader: links that lead somewhere, symbols that exist, answers on one page."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def slugs(path: Path) -> set[str]:
    """Return what links to headings of a document look like."""
    headings = re.findall(r"(?m)^#+ (.*)$", path.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    for place, heading in LINK.findall(path.read_text("utf-8")):
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), place
        if heading and target.suffix == ".md":
            assert heading in slugs(target), f"{place}#{heading}"


def test_the_symbols_that_answer_a_newcomers_questions_exist():
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    table = text[text.index("## Where is") : text.index("## Choices")]
    named = re.findall(r"`(gammascope\.[\w.]+)`", table)
    for question in ("decides the verdict", "is the threshold", "a mask reach the report"):
        assert re.search(rf"(?m)^\|[^|]*{question}\?[^|]*\|[^|]+\|[^|]*`gammascope\.", table), (
            question
        )
    for name in named:
        words = name.split(".")
        depth = next(n for n in range(len(words), 0, -1) if _is_module(".".join(words[:n])))
        found: Any = importlib.import_module(".".join(words[:depth]))
        for word in words[depth:]:
            fields = getattr(found, "__dataclass_fields__", {})
            assert word in fields or hasattr(found, word), name
            found = getattr(found, word, None)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_the_answers_of_benchmarks_fit_a_page():
    lines = (ROOT / "docs" / "benchmarks.md").read_text("utf-8").splitlines()
    assert len(lines) <= 150


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_examples_in_documents_import_exists(path):
    for block in re.findall(r"(?ms)^```python\n(.*?)^```", path.read_text("utf-8")):
        for module, names in re.findall(r"(?m)^from (gammascope[\w.]*) import ([\w, ]+)$", block):
            for name in names.split(","):
                found = importlib.import_module(module)
                whole = f"{module}.{name.strip()}"
                assert hasattr(found, name.strip()) or _is_module(whole), whole
