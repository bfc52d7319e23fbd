"""Whether anything in a folder of odd files makes gammascope fail in a way that it should not.

    python benchmarks/odd_files.py FOLDER [FOLDER ...]

Meant for the test pictures of decoders and metadata readers (Pillow, libvips, sharp, libavif, exif-samples, C2PA's
public test files, ...), which are not ours to ship. Every file is decoded and its provenance read; an error of ours on
one line is right, anything else is a fault. The exit code is 1 if there was one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gammascope.errors import UndecodableImageError
from gammascope.imaging.decode import Limits, decode
from gammascope.imaging.provenance import provenance_of
from gammascope.names import shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--slow", type=float, default=10.0, help="seconds that are worth a line")
    arguments = parser.parse_args()
    files = [
        Path(place, name)
        for folder in arguments.folders
        for place, _, names in os.walk(folder)
        for name in names
    ]
    outcomes: Counter[str] = Counter()
    for file in sorted(files):
        started = time.perf_counter()
        for name, look in (("decoded", examined), ("provenance read", provenance_of)):
            outcomes[outcome(file, name, look)] += 1
        if (took := time.perf_counter() - started) > arguments.slow:
            print(f"slow: {took:.1f} s {shown(file)}", flush=True)
    print(f"{len(files)} files: {', '.join(f'{n} {what}' for what, n in sorted(outcomes.items()))}")
    sys.exit(bool(outcomes["faults"]))


def examined(file: Path) -> object:
    return decode(file, Limits(max_pixels=50_000_000))


def outcome(file: Path, name: str, look: Callable[[Path], object]) -> str:
    try:
        look(file)
    except UndecodableImageError as error:
        if "\n" not in str(error):
            return f"not {name}"
        print(f"fault: {shown(file)}: an error of several lines", flush=True)
    except Exception:  # what this looks for
        print(f"fault: {shown(file)}\n{traceback.format_exc()}", flush=True)
    else:
        return name
    return "faults"


if __name__ == "__main__":
    main()
