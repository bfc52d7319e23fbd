"""The leaderboard from the command to the page: in a browser, by keyboard, and without scripts."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from gammascope.cli.app import app
from gammascope.evaluation.score_table import ScoreTable

HOSTILE = 'c <img src=x onerror="window.hit=1">{{title}}'
COLUMNS = ("native", "fakes_aligned", "all_recoded")


def evaluation(folder, strength, *, rows=80, parameters=1_000_000, ms=None, prefix="set"):
    """Write what an evaluation leaves: score tables and a summary."""
    folder.mkdir()
    label = np.arange(rows) % 2
    rng = np.random.default_rng(parameters)
    texts = {name: np.full(rows, "") for name in ("generator", "kind", "source", "error")}
    paths = np.array([f"{prefix}/a-rather-long-name-{at:03d}.jpg" for at in range(rows)])
    for name, of in zip(COLUMNS, strength, strict=True):
        logit = rng.normal(0, 1, rows) + of * (2 * label - 1)
        columns = {"path": paths, "label": label, **texts, "logit_generated": logit}
        ScoreTable(columns).to_parquet(folder / f"scores_{name}.parquet")
    point = {"threshold": 0.0, "temperature": 1.0, "offset": 0.0}
    summary = {
        "method": "gamma",
        "weights_sha256": "ab" * 32,
        "calibrated": False,
        "data": prefix,
        "columns": {name: {"generated": point} for name in COLUMNS},
        "size": {"parameters": parameters, "megabytes": 4.0},
    }
    if ms is not None:
        summary["speed"] = {"ms_per_image": ms, "machine": "one core"}
    (folder / "summary.json").write_text(json.dumps(summary), "utf-8")
    return str(folder)


def run(*arguments):
    return CliRunner().invoke(app, ["leaderboard", *arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("boards")
    folders = [
        evaluation(root / "a", (3.0, 0.0, 0.5), parameters=9_000_000, ms=10.0),  # reads formats
        evaluation(root / "b", (1.0, 1.0, 1.0), parameters=2_000_000),
        evaluation(root / HOSTILE.replace("/", ""), (0.5, 0.5, 0.5), rows=70, parameters=5_000_000),
        evaluation(root / "elsewhere", (1.0, 1.0, 1.0), prefix="another"),
    ]
    out = root / "board.html"
    result = run(*folders, "--out", str(out))
    assert result.exit_code == 0
    return out


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A board whose cells are as wide as they get: long names, intervals everywhere, large costs."""
    root = tmp_path_factory.mktemp("wide")
    sizes = {"gamma_embedded_mobilenet": 2_000_000, "effort": 303_000_000}
    folders = [
        evaluation(root / name, (0.5, 1.0, 0.8), rows=200, parameters=size, ms=1234.5)
        for name, size in sizes.items()
    ]
    out = root / "board.html"
    assert run(*folders, "--out", str(out)).exit_code == 0
    return out


def test_json_tells_what_the_page_shows(tmp_path):
    folders = [evaluation(tmp_path / name, (1.0, 1.0, 1.0)) for name in "ab"]
    (board,) = json.loads(run(*folders, "--json").stdout)["boards"]
    assert [row["name"] for row in board["rows"]] == ["a", "b"]
    assert board["rows"][0]["columns"]["native"]["tpr_at_1_percent_fpr"]["n"] == 80
    assert (board["rows"][0]["speed"], board["rows"][0]["size"]["megabytes"]) == (None, 4.0)
    again = run(folders[0], folders[0])
    assert again.exit_code != 0
    assert run(str(tmp_path)).exit_code != 0


def names(board):
    return board.locator("th[scope=rowgroup] > span").all_inner_texts()


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")
def test_titles_sort_by_keyboard_and_the_column_can_be_chosen(browser, page):
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(page.as_uri())
    boards = tab.locator(".board")
    assert boards.count() == 2
    board = boards.nth(0)
    assert "Common part only" in board.inner_text()
    assert "not all scored on the same images" in tab.locator("main > .warning").inner_text()
    assert names(board) == ["b", HOSTILE.replace("/", ""), "a"]  # by fakes aligned, the best first
    board.get_by_label("Sort by numbers of").select_option("native")
    assert names(board)[0] == "a"
    size = board.get_by_role("button", name="Parameters")
    size.focus()
    tab.keyboard.press("Enter")
    assert names(board) == ["b", HOSTILE.replace("/", ""), "a"]
    assert board.locator("th[aria-sort=ascending]").inner_text().startswith("Parameters")
    tab.keyboard.press("Space")
    assert names(board) == ["a", HOSTILE.replace("/", ""), "b"]
    assert board.locator("th[aria-sort=descending]").count() == 1
    board.get_by_role("button", name="ms/image").click()
    assert names(board)[0] == "a"  # what was not measured is last, whichever way
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.evaluate("window.hit") is None
    assert wrong == []


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")
def test_without_scripts_it_is_a_plain_table_in_order(browser, page):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(page.as_uri())
    board = tab.locator(".board").nth(0)
    assert names(board)[0] == "b"
    assert board.get_by_role("button").count() == 0
    assert not board.locator("select").is_visible()
    assert "not measured" in board.inner_text()


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")
def test_a_board_fits_a_laptop_and_scrolls_in_its_frame_where_it_does_not(browser, wide):
    tab = browser.new_page(viewport={"width": 1366, "height": 768})
    tab.goto(wide.as_uri())
    assert tab.locator("td[data-key=ece] small").count() == 6
    frame = tab.locator(".scroll")
    assert frame.evaluate("node => node.scrollWidth - node.clientWidth") == 0
    tab.set_viewport_size({"width": 1000, "height": 768})
    assert frame.evaluate("node => node.scrollWidth - node.clientWidth") > 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1000
    frame.evaluate("node => node.scrollLeft = node.scrollWidth")
    last, inside = tab.locator("th[data-key=megabytes]").bounding_box(), frame.bounding_box()
    assert last["x"] + last["width"] <= inside["x"] + inside["width"]
