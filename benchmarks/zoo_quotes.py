"""Quote the zoo's figures wherever they stand, from its file of scores: none is typed by hand.

    python benchmarks/zoo_quotes.py runs/zoo/zoo.parquet

Writes anew what stands between marks of comments in docs/results/zoo.md (all tables) and in the model cards (a table of
the method's own rows), and in methods.json what ``gammascope methods`` quotes of methods without embedded weights. What
was not measured says so.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gammascope.evaluation import replaying
from gammascope.evaluation.tables import Grid, cell, markdown

ROOT = Path(__file__).parents[1]
MARKS = "<!-- zoo.parquet -->\n", "<!-- /zoo.parquet -->"
PAGE = "docs/results/zoo.md"
QUOTED = "dev, native"
JUDGED = (QUOTED, "dev, perturbed")
COLUMNS = (*JUDGED, "validation, native")
PLAIN, EMBEDDED = "plain_regression", "embedded"
ROWS: Mapping[str, tuple[str, ...]] = {
    "mpft": ("mpft", "mpft_random", "mpft_smooth"),
    "sdaie": ("sdaie_one_class", "sdaie"),
    "linear_probe": (EMBEDDED, PLAIN, "univfd"),
}
"""Rows of the zoo that a card quotes, where they are not the one named after the method."""


def filled(text: str, new: str) -> str:
    """Return a page with other lines between its marks.

    Raises:
        SystemExit: If it has no marks, or several.
    """
    start, end = map(re.escape, MARKS)
    made, count = re.subn(f"(?s){start}.*?{end}", lambda _: f"{MARKS[0]}{new}{MARKS[1]}", text)
    if count != 1:
        raise SystemExit(f"{count} pairs of marks {MARKS[0].strip()}: expected one.")
    return made


def measured(row: str, plain: Mapping[str, Any], column: str = QUOTED) -> dict[str, Any] | None:
    """Return what one column of a row comes to; None: not measured."""
    by_column = plain["methods"].get(row, {}).get("columns", {})
    found: dict[str, Any] | None = by_column.get(column, {}).get("generated")
    return found


def card_table(method: str, plain: Mapping[str, Any]) -> str:
    """Draw the rows of a method."""
    lines = []
    for row in ROWS.get(method, (method,)):
        # What ships learnt from the collections that the zoo leaves out: there it is no judgement.
        for column in JUDGED if row == EMBEDDED else COLUMNS:
            found = measured(row, plain, column)
            differences = plain.get("differences", {}).get(row, {}).get(column, {})
            gained = differences.get("against", {}).get(PLAIN, {}).get("over_collections")
            if found is not None:
                images = f"{found['no']} + {found['yes']}"
                lines.append(
                    (f"`{row}`", column, images, cell(found["overall"]["auroc"]), cell(gained))
                )
    if not lines:
        return "Not measured in the zoo's fair table.\n"
    header = (
        *("row", "column", "real + fake images", "AUROC"),
        "minus plain regression, 95 % over collections",
    )
    title = "In the zoo's [fair table](../results/zoo.md#the-fair-table)"
    return markdown([Grid(title, header, tuple(lines))])


def described(about: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return methods.json with the scores of the zoo; embedded weights keep theirs, which are of themselves."""
    made = {}
    for method, known in about.items():
        found, before = measured(method, plain), known.get("measured") or {}
        made[method] = dict(known)
        if found is not None and before.get("weights") != "embedded":
            area = found["overall"]["auroc"]
            made[method]["measured"] = {
                "question": "generated",
                "auroc": round(area["value"], 3),
                "interval": [round(area["low"], 3), round(area["high"], 3)],
                "weights": f"benchmarks/zoo.py, {plain['methods'][method]['costs']['steps']} steps",
                "images": found["yes"] + found["no"],
                "quoted_in": PAGE,
            }
    return made


def quote(scores: Path, root: Path) -> list[str]:
    """Fill all places below a checkout from a file of scores; return their names."""
    told = replaying.replayed(scores)
    facts = root / "src" / "gammascope" / "weights" / "methods.json"
    about = json.loads(facts.read_text("utf-8"))
    new = {facts: json.dumps(described(about, told.plain), indent=1) + "\n"}
    page = root / PAGE
    new[page] = filled(page.read_text("utf-8"), f"\n{markdown(told.grids)}\n")
    for method in about:
        card = root / "docs" / "model_cards" / f"{method}.md"
        new[card] = filled(card.read_text("utf-8"), f"\n{card_table(method, told.plain)}\n")
    changed = [path for path, text in new.items() if path.read_text("utf-8") != text]
    for path in changed:
        path.write_text(new[path], "utf-8")
    return [path.relative_to(root).as_posix() for path in changed]


def main() -> None:
    """Fill the checkout that this script lies in."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scores", type=Path, metavar="ZOO.parquet")
    print("\n".join(quote(parser.parse_args().scores, ROOT)) or "Nothing has changed.")


if __name__ == "__main__":
    main()
