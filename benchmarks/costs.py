"""Machines, hours and price for a million pictures by profile, from what ``scan_speed.py --json`` measured.

    python benchmarks/costs.py runs/benchmarks/scan_speed.json [--cluster runs/benchmarks/cluster_scan.json]
    python benchmarks/costs.py ... --a-day 1e9 --core-price 0.02 --load 0.6 --copies 0.2 --into docs/scaling.md

Everything measured comes from the files: pictures a second on a number of cores and, with ``--cluster``, the share of
twice one worker's speed that two have. Everything else is assumed, an option, and said so in what is printed.
``--into`` writes it between the lines ``<!-- costs -->`` and ``<!-- /costs -->`` of a document.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gammascope.report import percent

PROFILES = ("fast", "default", "thorough")
MARKS = "<!-- costs -->", "<!-- /costs -->"
DAY = 86_400.0


@dataclass(frozen=True)
class Assumed:
    """What nobody measured.

    Attributes:
        a_day: Pictures that come in a day.
        cores: Of a machine.
        core_price: $ an hour.
        load: Of machines in the mean, 0..1; the rest is for peaks.
        copies: Share of pictures whose bytes were there before, which are read and not examined.
        megabytes: Of a picture.
        row_bytes: Of a row on disk.
    """

    a_day: float
    cores: int
    core_price: float
    load: float
    copies: float
    megabytes: float
    row_bytes: float


@dataclass(frozen=True)
class Cost:
    """What a profile takes.

    Attributes:
        core_seconds: For one picture that is examined, on the machine that was measured.
        core_hours: For a million pictures, copies among them.
        hours: For a million on one machine.
        machines: For all that come in a day.
        price: $ for a million; ``price_a_day`` for a day.
    """

    core_seconds: float
    core_hours: float
    hours: float
    machines: int
    price: float
    price_a_day: float


def cost(rate: float, measured_cores: int, efficiency: float, assumed: Assumed) -> Cost:
    """Return what pictures cost that one machine examines at a rate (a second) on so many cores."""
    core_seconds = measured_cores / rate
    # Cores that idle for peaks, or wait for others, are paid for as well.
    core_hours = 1e6 * (1 - assumed.copies) * core_seconds / efficiency / assumed.load / 3600
    in_a_day = core_hours * assumed.a_day / 1e6 / 24
    price = core_hours * assumed.core_price
    return Cost(
        core_seconds,
        core_hours,
        core_hours / assumed.cores,
        math.ceil(in_a_day / assumed.cores),
        price,
        price * assumed.a_day / 1e6,
    )


def markdown(
    measured: dict[str, Any], pictures: str, cluster: dict[str, Any] | None, assumed: Assumed
) -> str:
    """Draw the table, with what was measured and what is assumed below it."""
    runs = measured["sets"][pictures]["runs"]
    efficiency = cluster["ratios"]["2 workers / twice 1 worker"] if cluster else 1.0
    lines = [
        "| profile | pictures/s | core-s a picture | core-h a million | hours a million, one machine "
        f"| machines for {assumed.a_day:,.0f} a day | $ a million | $ a day |",
        f"| --- |{' ---: |' * 7}",
    ]
    for profile in PROFILES:
        run = runs[profile]
        rate = run["images"] / run["seconds"]
        one = cost(rate, measured["threads"], efficiency, assumed)
        lines.append(
            f"| `{profile}` | {rate:.2f} | {one.core_seconds:.3f} | {one.core_hours:,.0f} | {one.hours:,.1f} | "
            f"{one.machines:,} | {one.price:,.2f} | {one.price_a_day:,.0f} |"
        )
    megabytes = assumed.a_day * assumed.megabytes / DAY
    whence = (
        f"{percent(efficiency, 0)} of twice one worker's speed with two ({cluster['machine']})"
        if cluster
        else "no loss among machines (--cluster was not given)"
    )
    lines += [
        f"\nMeasured: pictures a second of {pictures} on {measured['threads']} cores of {measured['machine']}, "
        f"weights {measured['weights']}, medians of {measured['repeats']} runs; {whence}.",
        f"\nAssumed: machines of {assumed.cores} cores as fast, {assumed.core_price:g} $ a core-hour, "
        f"{percent(assumed.load)} load in the mean, {percent(assumed.copies)} copies, {assumed.megabytes:g} MB a "
        f"picture, {assumed.row_bytes:g} bytes a row. So {assumed.a_day / DAY:,.0f} pictures and {megabytes:,.0f} MB "
        f"({8 * megabytes / 1000:,.1f} Gbit) come in a second, and {assumed.a_day * assumed.row_bytes / 1e9:,.0f} GB "
        "of rows in a day.",
    ]
    return "\n".join(lines)


def put_into(document: Path, text: str) -> None:
    """Write a text between the two marks of a document."""
    whole = document.read_text("utf-8")
    first, last = (whole.find(mark) for mark in MARKS)
    if not 0 <= first < last:
        sys.exit(f"{document} has no lines {MARKS[0]} and {MARKS[1]} in this order: write them.")
    start = first + len(MARKS[0])
    document.write_text(f"{whole[:start]}\n\n{text}\n\n{whole[last:]}", "utf-8")


def read(place: Path, target: str) -> dict[str, Any]:
    """Read what a benchmark measured, or say how to measure it."""
    if not place.is_file():
        sys.exit(f"No {place}: measure it first (make {target}).")
    found: dict[str, Any] = json.loads(place.read_text("utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measured", type=Path, help="of scan_speed.py --json")
    parser.add_argument("--cluster", type=Path, help="of cluster_scan.py --json")
    parser.add_argument("--set", dest="pictures", help='"1 MP" where it is there, else the first')
    parser.add_argument("--a-day", type=float, default=1e9, help="pictures")
    parser.add_argument("--cores", type=int, default=32, help="of a machine")
    parser.add_argument("--core-price", type=float, default=0.02, help="$ an hour")
    parser.add_argument("--load", type=float, default=0.6, help="in the mean, above 0 and up to 1")
    parser.add_argument("--copies", type=float, default=0.2, help="share, 0 and up, below 1")
    parser.add_argument("--megabytes", type=float, default=0.3, help="of a picture")
    parser.add_argument("--row-bytes", type=float, default=500, help="on disk")
    parser.add_argument("--into", type=Path, help="document with the two marks")
    chosen = parser.parse_args()
    if not (0 < chosen.load <= 1 and 0 <= chosen.copies < 1):
        parser.error(f"--load {chosen.load:g}, --copies {chosen.copies:g}: shares of 1 are wanted.")
    measured = read(chosen.measured, "bench")
    sets = list(measured["sets"])
    pictures = chosen.pictures or ("1 MP" if "1 MP" in sets else sets[0])
    if pictures not in sets:
        parser.error(f"--set {pictures!r}: {chosen.measured} has {', '.join(sets)}.")
    cluster = read(chosen.cluster, "bench-scale") if chosen.cluster else None
    given = {name: getattr(chosen, name) for name in Assumed.__dataclass_fields__}
    text = markdown(measured, pictures, cluster, Assumed(**given))
    print(text)
    if chosen.into:
        put_into(chosen.into, text)


if __name__ == "__main__":
    main()
