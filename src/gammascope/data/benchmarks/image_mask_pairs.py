"""Any set of edited photos in IMDL-BenCo's layout, or in a list of pairs as its JSON files hold them.

A list has pairs of an image and its mask, with "Negative" for a photo; its paths are relative to its folder. Masks are
light where edited.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.folder import files_below
from gammascope.data.layouts import Either, tampered
from gammascope.errors import MissingDataError
from gammascope.sample import Entry, Label


def _listed(root: Path, split: str) -> Iterator[Entry]:
    for path in files_below(root, recursive=False, suffixes=(".json",)):
        try:
            pairs = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise MissingDataError(f"{path} is no JSON file: {error}.") from error
        if not isinstance(pairs, list):
            continue
        for number, pair in enumerate(pairs):
            if not (
                isinstance(pair, list) and len(pair) == 2 and all(isinstance(n, str) for n in pair)
            ):
                raise MissingDataError(
                    f"{path}, entry {number}: expected a pair of paths, not {pair!r}."
                )
            image, mask = pair
            if mask.lower() == "negative":
                yield Entry(root / image, Label.REAL, split=split)
            else:
                yield Entry(
                    root / image,
                    Label.FAKE,
                    kind="manipulated",
                    split=split,
                    edited_path=root / mask,
                )


BENCHMARK = Benchmark(
    title="Any set of images and masks (IMDL-BenCo)",
    paper="arXiv:2406.10580",
    licence="that of the set",
    url="https://github.com/scu-zjz/IMDLBenCo",
    splits=("test",),
    labels={"Au": Label.REAL, "Negative": Label.REAL, "Tp": Label.FAKE, "a mask": Label.FAKE},
    tree="""\
├── Au/*      (may be missing)
├── Tp/*
└── Gt/*      (named like Tp, or in the same order)
or:
└── pairs.json      ([["Tp/1.jpg", "Gt/1.png"], ["Au/2.jpg", "Negative"], ...])""",
    read=Either((_listed, tampered())),
    classes=frozenset({Label.FAKE}),
)
