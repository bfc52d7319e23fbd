"""Copy-moves that others made: how many the forensic methods find, by how the copy was turned and scaled.

    python benchmarks/copies_by_others.py FOLDER [--methods quantisation cloning] [--every 1] [--quality 90]

FOLDER holds the CVIP dataset of copy-moves (Ardizzone, Bruno and Mazzola, 2015), unpacked: forged pictures each with
NAME_mask.bmp beside it, of which names like out_r-10_im3 and out_s0.5_im3 say how the copy was turned (degrees) and
scaled, and originals without a mask. The clearest of the methods decides, as in a report; its masks mark copy and
original both, a part that lacks a compression is the copy alone.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
from edits_bed import SILENT, together

from forensics import saved
from gammascope.evaluation.metrics import auroc_against
from gammascope.forensics import METHODS, Picture
from gammascope.imaging.decode import decode
from gammascope.report import percent


@dataclass(frozen=True)
class Judged:
    """What the methods found in a picture.

    Attributes:
        name: File name without its ending.
        set: Folder below the dataset's.
        forged: Whether it is a forgery.
        score: Clearness of the clearest method; -1: all are silent.
        f1: Of what is marked; NaN for originals.
    """

    name: str
    set: str
    forged: bool
    score: float
    f1: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=["quantisation"])
    parser.add_argument("--every", type=int, default=1, help="judge every n-th picture")
    parser.add_argument("--quality", type=int, help="save all as JPEG before")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    paths = [p for p in sorted(chosen.folder.rglob("*.bmp")) if not p.stem.endswith("_mask")]
    with ProcessPoolExecutor(chosen.workers) as pool:
        judging = partial(
            judged, folder=chosen.folder, methods=chosen.methods, quality=chosen.quality
        )
        rows = list(pool.map(judging, paths[:: chosen.every], chunksize=8))
    show(rows)


def judged(path: Path, folder: Path, methods: Sequence[str], quality: int | None) -> Judged:
    """Judge a picture as it is (none of them is a JPEG file), or saved as one."""
    picture = Picture(decode(path).image)
    if quality is not None:
        picture = saved(picture.image, quality)
    mask = path.with_name(f"{path.stem}_mask.bmp")
    truth = None
    if mask.is_file():
        with PIL.Image.open(mask) as file:
            truth = np.asarray(file.convert("L")) > 127
    score, agreement = together({name: METHODS[name].examine(picture) for name in methods}, truth)
    kind = path.relative_to(folder).parts[0]
    return Judged(path.stem, kind, truth is not None, score, agreement)


def show(rows: Sequence[Judged]) -> None:
    """Print false alarms, and what is found of each set and by each turn and scale."""
    reals = np.sort([row.score for row in rows if not row.forged])[::-1]
    alarms = int((reals > 1).sum())
    print(f"{len(reals)} originals: {alarms} called edited, {(reals == SILENT).sum()} silent\n")
    print("| forgeries | n | AUROC | called edited | F1 |\n| --- | ---: | --- | ---: | ---: |")
    groups: dict[str, list[Judged]] = defaultdict(list)
    for row in rows:
        if row.forged:
            groups[row.set].append(row)
    for row in rows:
        change = re.match(r"out_([rs])(-?[\d.]+)_", row.name)
        if row.forged and change:
            word = "turned by" if change[1] == "r" else "scaled by"
            groups[f"{word} {float(change[2]):g}"].append(row)
    for name, some in groups.items():
        scores = np.array([row.score for row in some])
        area = auroc_against(reals, scores)
        print(
            f"| {name} | {len(some)} | {area.value:.2f} [{area.low:.2f}, {area.high:.2f}]"
            f" | {percent(float((scores > 1).mean()), 0)} | {np.mean([row.f1 for row in some]):.2f} |"
        )


if __name__ == "__main__":
    main()
