"""Boards: numbers of several detectors are always of the same images."""

from __future__ import annotations

import numpy as np
import pytest

from gammascope.evaluation.comparing import Contestant, boards
from gammascope.evaluation.metrics import auroc
from gammascope.evaluation.score_table import ScoreTable

N = 120
LABEL = np.arange(N) % 2


def contestant(
    name, rows, *, strength=1.0, question="generated", label=LABEL, kind="", columns=("native",)
):
    rows = np.asarray(rows)
    rng = np.random.default_rng(len(name))
    texts = {each: np.full(len(rows), "") for each in ("generator", "source", "error")}
    logit = rng.normal(0, 1, N) + strength * (2 * LABEL - 1)
    table = ScoreTable(
        texts
        | {
            "path": np.array([f"a/long/name/of/a/folder/{at:04d}.jpg" for at in rows]),
            "label": label[rows],
            "kind": np.where(label[rows] == 1, kind, ""),
            f"logit_{question}": logit[rows],
        }
    )
    return Contestant(name=name, question=question, tables=dict.fromkeys(columns, table)), logit


def test_every_number_of_a_board_is_of_the_images_that_all_detectors_answered_for():
    one, first = contestant("one", range(100))
    other, second = contestant("other", range(20, 120), strength=2.0)
    (board,) = boards([one, other], resamples=20)
    assert board.is_common_part
    assert (board.yes, board.no) == (40, 40)
    common = slice(20, 100)
    assert [row.contestant.name for row in board.rows] == ["other", "one"]  # the better one leads
    for row, logit in zip(board.rows, (second, first), strict=True):
        assert (row.answered, row.left_out) == (100, 20)
        measured = row.columns["native"]["auroc"]
        assert measured["n"] == 80
        assert measured["value"] == pytest.approx(auroc(logit[common], LABEL[common]), abs=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        contestant("apart", range(80, 120))[0],  # too few in common with 0 to 99
        contestant("mislabelled", range(100), label=1 - LABEL)[0],
        contestant("edits", range(100), question="edited", kind="splicing")[0],
    ],
    ids=lambda each: each.name,
)
def test_what_cannot_be_compared_gets_a_board_of_its_own(other):
    one, _ = contestant("one", range(100))
    made = boards([one, other], resamples=20)
    assert [[row.contestant.name for row in board.rows] for board in made] == [
        ["one"],
        [other.name],
    ]
    assert not any(board.is_common_part for board in made)


def test_questions_share_a_board_where_their_truths_agree():
    one, _ = contestant("one", range(100))
    other, _ = contestant("whole", range(100), question="fake")
    (board,) = boards([one, other], resamples=20)
    assert set(board.questions) == {"generated", "fake"}
    # Splices of photos are fake, but nobody generated them.
    splices, _ = contestant("splices", range(100), question="fake", kind="splicing")
    asked, _ = contestant("asked", range(100), kind="splicing")
    assert len(boards([splices, asked], resamples=20)) == 2


def test_a_failure_in_one_column_counts_for_all_of_them_and_the_column_to_quote_ranks():
    one, _ = contestant("one", range(100), strength=3.0, columns=("native", "fakes_aligned"))
    fell, _ = contestant("fell", range(100), strength=0.0)
    broken = dict(one.tables["native"].columns)
    broken["error"] = np.array(["too large", *[""] * 99])
    tables = {"native": one.tables["native"], "fakes_aligned": ScoreTable(broken)}
    cheat = Contestant(
        name="cheat",
        question="generated",
        tables={**tables, "fakes_aligned": fell.tables["native"]},
    )
    honest = Contestant(name="honest", question="generated", tables=tables)
    (board,) = boards([cheat, honest], resamples=20)
    assert board.yes + board.no == 99
    assert [row.contestant.name for row in board.rows] == ["honest", "cheat"]
    assert {row.contestant.name: row.failed for row in board.rows} == {"honest": 1, "cheat": 0}
    assert {value["auroc"]["n"] for row in board.rows for value in row.columns.values()} == {99}
