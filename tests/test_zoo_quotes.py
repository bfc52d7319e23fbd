"""benchmarks/zoo_quotes.py fills every place that quotes the zoo from its file of scores."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gammascope.detectors import base
from gammascope.evaluation import replaying
from gammascope.evaluation.replay_file import Kept
from gammascope.evaluation.score_table import ScoreTable

ROOT = Path(__file__).parents[1]
ABOUT = "src/gammascope/weights/methods.json"
ROWS = ("embedded", "plain_regression", "effort", "mpft", "mpft_random", "gamma")
COLUMNS = ("validation, native", "dev, native", "dev, perturbed")
TRUTH = np.tile([0, 1], 30)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    place = ROOT / "benchmarks" / "zoo_quotes.py"
    spec = importlib.util.spec_from_file_location("zoo_quotes", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def logits(row: str, column: str) -> np.ndarray:
    seed = ROWS.index(row) * len(COLUMNS) + COLUMNS.index(column)
    return TRUTH + np.random.default_rng(seed).normal(size=len(TRUTH))


def scores(row: str) -> Kept:
    texts = {name: np.full(len(TRUTH), "") for name in ("generator", "kind", "error")}
    texts |= {
        "path": np.array([f"{number}.png" for number in range(len(TRUTH))]),
        "source": np.array([f"collection {number // 20}" for number in range(len(TRUTH))]),
    }
    tables = {
        column: ScoreTable(texts | {"label": TRUTH, "logit_generated": logits(row, column)})
        for column in COLUMNS
    }
    definitions: dict[str, dict[str, str]] = {column: {} for column in COLUMNS}
    about = {"method": row, "weights_sha256": "", "definitions": definitions}
    return Kept("evaluation", about, tables)


@pytest.fixture(scope="module")
def checkout(script, tmp_path_factory) -> Path:
    """A copy of what is filled, filled from a zoo in which some methods were not measured."""
    root = tmp_path_factory.mktemp("checkout")
    for place in ("docs/results", "docs/model_cards"):
        shutil.copytree(ROOT / place, root / place)
    (root / ABOUT).parent.mkdir(parents=True)
    shutil.copy(ROOT / ABOUT, root / ABOUT)
    costs = {row: {"steps": "80"} for row in ROWS}
    replaying.zoo(
        {row: scores(row) for row in ROWS},
        costs,
        ["npr"],
        plain=["plain_regression"],
        against="embedded",
    ).save(root / "zoo.parquet")
    changed = script.quote(root / "zoo.parquet", root)
    assert {"docs/results/zoo.md", ABOUT, "docs/model_cards/effort.md"} <= set(changed)
    assert script.quote(root / "zoo.parquet", root) == [], "nothing changes twice"
    return root


def area(row: str, column: str) -> float:
    return float(roc_auc_score(TRUTH, logits(row, column)))


def test_what_the_list_of_methods_quotes_is_the_file_s(checkout):
    about = json.loads((checkout / ABOUT).read_text("utf-8"))
    before = json.loads((ROOT / ABOUT).read_text("utf-8"))
    assert set(about) == set(base.names())
    found = about["effort"]["measured"]
    assert found["auroc"] == round(area("effort", "dev, native"), 3)
    assert found["interval"][0] < found["auroc"] < found["interval"][1]
    assert (found["images"], found["weights"]) == (len(TRUTH), "benchmarks/zoo.py, 80 steps")
    quoted = "{:.3f} [{:.3f}, {:.3f}]".format(found["auroc"], *found["interval"])
    assert quoted in (checkout / found["quoted_in"]).read_text("utf-8")
    for kept in ("gamma", "linear_probe", "npr"):
        assert about[kept] == before[kept], "of embedded weights, or not measured"
    assert {k: v for k, v in about["effort"].items() if k != "measured"} == {
        k: v for k, v in before["effort"].items() if k != "measured"
    }


def test_cards_have_their_own_rows_and_nothing_else_changes(checkout, script):
    card = (checkout / "docs/model_cards/mpft.md").read_text("utf-8")
    for row in ("mpft", "mpft_random"):
        for column in script.COLUMNS:
            start = f"| `{row}` | {column} | 30 + 30 | {area(row, column):.3f} ["
            assert start in card
    assert "| `effort` |" not in card
    absent = (checkout / "docs/model_cards/npr.md").read_text("utf-8")
    assert "Not measured in the zoo's fair table." in absent
    for name in base.names():
        old, new = (
            (root / "docs" / "model_cards" / f"{name}.md").read_text("utf-8")
            for root in (ROOT, checkout)
        )
        assert script.filled(old, "") == script.filled(new, ""), name


def test_the_page_has_all_tables(checkout):
    page = (checkout / "docs/results/zoo.md").read_text("utf-8")
    for title in (
        "zoo: n is real + fake images",
        "zoo: differences in AUROC",
        "zoo: fusion and cascade of the three best on the left-out collections, judged on dev",
    ):
        assert page.count(f"**{title}**") == 1
    assert "| npr | - |" in page


def test_a_page_without_its_marks_is_refused(script):
    with pytest.raises(SystemExit, match="0 pairs of marks"):
        script.filled("# A card\n", "new")
    twice = f"{''.join(script.MARKS)}\n" * 2
    with pytest.raises(SystemExit, match="2 pairs of marks"):
        script.filled(twice, "new")
