"""What the runs of ``server_load.py`` come to: medians, ratios, tables and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from scan_speed import middle

LOAD_COLUMNS: Final = (
    "clients", "requests_per_second", "p50_ms", "p95_ms", "p99_ms", "requests", "refused_429", "errors", "wrong",
    "rss_before_mib", "rss_peak_mib", "rss_grown_mib",
)  # fmt: skip
BURST_COLUMNS: Final = (
    "clients", "requests", "refused_429", "errors", "wrong", "seconds", "rss_before_mib", "rss_peak_mib",
)  # fmt: skip
HEADS: Final = {
    "requests_per_second": "requests/s", "refused_429": "429", "rss_before_mib": "MiB before",
    "rss_peak_mib": "peak MiB", "rss_grown_mib": "MiB more in the second half",
}  # fmt: skip


def tabled(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    heads = [HEADS.get(name, name.replace("_", " ")) for name in columns]
    return table(heads, [[row[name] for name in columns] for row in rows])


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(written, line))} |" for line in lines)


def written(cell: Any) -> str:
    # The median of an even number of runs may have more digits than were measured.
    return f"{cell:g}" if isinstance(cell, float) else str(cell)


def printed(found: dict[str, Any]) -> str:
    parts = [f"{found['machine']}; medians of {found['repeats']} runs", "", found["pictures"], ""]
    parts += [tabled(LOAD_COLUMNS, found["load"]), ""]
    if found["burst"]:
        parts += ["At once:", "", tabled(BURST_COLUMNS, found["burst"]), ""]
    rows = [
        [kind, row["clients"], *(row[mode]["requests_per_second"] for mode in ("batched", "unbatched")),
         row["ratio_second"], row["ratio_cpu_second"],
         sum(row[mode]["wrong"] + row[mode]["errors"] for mode in ("batched", "unbatched"))]
        for kind, rows in found["batching"].items() for row in rows
    ]  # fmt: skip
    speeds = ["batched/s", "unbatched/s", "ratio", "ratio per CPU-second"]
    head = ["pictures", "clients", *speeds, "wrong or failed"]
    if rows:
        parts += [table(head, rows), ""]
    if found["page"]:
        head = ["page", "visits", "navigation to verdict, ms", "slowest, ms", "choice to verdict, ms"]  # fmt: skip
        rows = [[kind, *row.values()] for kind, row in found["page"].items()]
        parts += [table(head, rows), ""]
    return "\n".join(parts)


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw the shares of requests answered within a time, and the server's memory over the load."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for row in found["load"]:
        left.plot(row["waits_ms"], range(len(row["waits_ms"])), label=f"{row['clients']} clients")
        right.plot(*zip(*row["memory_mib"], strict=True), label=f"{row['clients']} clients")
    for row in found["burst"]:
        right.plot(*zip(*row["memory_mib"], strict=True), label=f"{row['clients']} at once")
    left.set(xscale="log", xlabel="milliseconds to the answer", ylabel="% of requests")
    right.set(xlabel="seconds of the load", ylabel="MiB of the server", ylim=(0, None))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def summed(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the runs, but sums of errors and wrong answers, none of which may be lost in a median."""
    found: dict[str, Any] = middle(list(runs))
    for row, *rows in zip(loads(found), *map(loads, runs), strict=True):
        row |= {name: sum(one[name] for one in rows) for name in ("errors", "wrong")}
        row["examples"] = [text for one in rows for text in one.get("examples", [])][:5]
    return found


def loads(found: dict[str, Any]) -> list[dict[str, Any]]:
    """All that was sent to a server, whichever part asked for it."""
    batching = [row for rows in found["batching"].values() for row in rows]
    both = [row[mode] for row in batching for mode in ("batched", "unbatched")]
    return [*found["load"], *found["burst"], *both]


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """The server beside a scan of the same pictures, and batches beside none; more is better."""
    told = {}
    for row in found["load"]:
        name, cpu = f"{row['clients']:.0f} clients", found["scan_cpu"]
        told[f"{name}: CPU of a scan / of the server"] = cpu * row["requests_per_cpu_second"]
        told[f"{name}: CPU of a scan / p50"] = 1000 * cpu / row["p50_ms"]
        told[f"{name}: memory before / at most"] = row["rss_before_mib"] / row["rss_peak_mib"]
    for row in found["burst"]:
        name = f"{row['clients']:.0f} at once"
        told[f"{name}: memory before / at most"] = row["rss_before_mib"] / row["rss_peak_mib"]
    for kind, rows in found["batching"].items():
        for row in rows:
            name = f"{kind}, {row['clients']:.0f} clients"
            told[f"{name}: batched / unbatched, per CPU-second"] = row["ratio_cpu_second"]
    return told
