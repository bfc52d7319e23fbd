"""Pictures of public repositories that a list names and labels, as a manifest to train on.

    python benchmarks/listed_pictures.py REPOSITORIES --list docs/results/listed_pictures.csv --out pictures

REPOSITORIES holds git repositories, bare or not, each in a folder named "owner+name". The list has a row per picture:
label, source, repository, path there, and the first 16 digits of its sha256. Rows were labelled by folder and file
names of the repositories (quiz games that say which is which, galleries of generated pictures) and looked at by eye.
A picture that is missing or has changed is named and left out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from proven_pictures import git, keep, repositories, write_rows


def main() -> None:
    """Write pictures and manifest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repositories", type=Path)
    parser.add_argument("--list", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    wanted = defaultdict(list)
    with chosen.list.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            wanted[row["repository"]].append(row)
    places = dict(repositories(chosen.repositories))
    rows, lost = [], 0
    for name, pictures in wanted.items():
        place = places.get(name.replace("/", "+"))
        if place is None:
            print(f"{name}: not in {chosen.repositories}, {len(pictures)} pictures left out")
            lost += len(pictures)
            continue
        for row in pictures:
            try:
                content = git(place, "cat-file", "blob", f"HEAD:{row['path']}")
            except subprocess.CalledProcessError:
                content = b""
            digest = hashlib.sha256(content).hexdigest()
            if not digest.startswith(row["sha256"]):
                print(f"{name}: {row['path']} is missing or has changed, left out")
                lost += 1
                continue
            suffix = Path(row["path"]).suffix
            rows.append(keep(chosen.out, content, digest, suffix, row["label"], row["source"]))
    if not rows:
        sys.exit(f"None of the pictures of {chosen.list} lies in {chosen.repositories}.")
    write_rows(chosen.out, rows)
    print(f"{len(rows)} pictures, {lost} left out")


if __name__ == "__main__":
    main()
