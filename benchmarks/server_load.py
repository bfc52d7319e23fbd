"""A server under load: requests per second, waiting times, memory, what batching brings, and the wait on its page.

    python benchmarks/server_load.py FOLDER [--clients 1 8 64] [--seconds 100] [--json load.json]

Everything runs on this machine, over loopback, against ``gammascope serve`` in processes of its own:

- *Load*: each client sends one picture after the other for ``--seconds``. A picture never comes twice, because a few
  bytes behind its end make it new to the server's memory of results. An answer must be that of the picture as the
  pipeline gives it offline, up to the rounding of the network. A refusal ("queue full") is counted and tried again when
  the server says; the waiting time is that of the try that was accepted.
- *Batching*: two servers, one of which never puts two pictures into one batch, take turns in short slices, with the
  pictures as they are and with crops of them, because large pictures fill batches by themselves. The ratio is that of
  requests per second of the servers' own processor time, so that other work on the machine does not decide it.
- *Page*: from the start of the navigation to the shown verdict, in headless Chromium. Cold: a new server and a new
  browser. Warm: the next visits, each with a picture that is new to the server. (Needs playwright; else left out.)

Prints Markdown tables. With the defaults it takes about ten minutes, five of them for the load.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

TOLERANCE: Final = 1e-4
UNBATCHED: Final = ("--limit", "batch_views=1", "--limit", "batch_wait_seconds=0")
CROP_PX: Final = 192
SLICES: Final = 2
WAIT_S: Final = 120

Picture: TypeAlias = tuple[bytes, dict[str, Any]]

numbers = itertools.count()


@dataclass(frozen=True)
class Server:
    """A running server."""

    address: str
    process: int

    def mib(self, what: str) -> float:
        """``VmRSS`` for what is resident now, ``VmHWM`` for the most since ``forget_peak``."""
        found = re.search(rf"{what}:\s+(\d+) kB", self._said("status"))
        return int(found.group(1)) / 1024 if found else float("nan")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """User and system time of all threads so far."""
        fields = self._said("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _said(self, name: str) -> str:
        return Path(f"/proc/{self.process}/{name}").read_text("utf-8")


@dataclass
class Load:
    """What some clients met.

    Attributes:
        clients: At once.
        seconds: That passed.
        cpu_seconds: Of the server.
        waits: Seconds for each answered request.
        refused: Tries answered with "queue full".
        failed: Requests without a proper answer.
        wrong: Requests answered otherwise than offline.
    """

    clients: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    refused: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def at(self, share: float) -> float:
        """The waiting time that this share of the requests stayed below, milliseconds."""
        ordered = sorted(self.waits) or [float("nan")]
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def plain(self) -> dict[str, Any]:
        return {
            "clients": self.clients,
            "seconds": round(self.seconds, 2),
            "requests": len(self.waits),
            "requests_per_second": round(len(self.waits) / self.seconds, 2),
            "requests_per_cpu_second": round(len(self.waits) / max(self.cpu_seconds, 1e-9), 2),
            "p50_ms": round(self.at(0.50), 1),
            "p95_ms": round(self.at(0.95), 1),
            "p99_ms": round(self.at(0.99), 1),
            "refused_429": self.refused,
            "errors": len(self.failed),
            "wrong": len(self.wrong),
        }


@contextmanager
def running(threads: int, *options: str) -> Iterator[Server]:
    """A server on a free port. Its log goes to a file that is thrown away."""
    command = [sys.executable, "-c", "from gammascope.cli.app import main; main()", "serve"]
    command += ["--port", "0", "--results", "memory", *options]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log, env=environment)
        try:
            yield Server(address_in(Path(log.name), process), process.pid)
        finally:
            process.terminate()
            process.wait()


def address_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    while process.poll() is None:
        text = log.read_text("utf-8")
        found = re.search(r"http://\S+/", text)
        if found and '"serving"' in text:
            return found.group()
        time.sleep(0.02)
    raise SystemExit(f"The server did not start: {log.read_text('utf-8')}")


# Pictures, and what must be said of them


def with_answers(contents: Sequence[bytes]) -> list[Picture]:
    from gammascope.detection.pipeline import Pipeline
    from gammascope.errors import GammascopeError

    pipeline = Pipeline.load()
    found = []
    for content in contents:
        try:
            found.append((content, pipeline.report(content).to_json()))
        except GammascopeError as error:
            say(f"left out: {error}")
    return found


def cropped(content: bytes) -> bytes:
    import numpy as np
    from PIL import Image

    from gammascope.imaging.decode import decode

    image = np.ascontiguousarray(decode(content).image[:CROP_PX, :CROP_PX])
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG", compress_level=1)
    return data.getvalue()


def renewed(content: bytes, number: int) -> bytes:
    """The same picture under another hash: decoders stop at its end."""
    return content + f"\n{number}".encode()


def differs(row: dict[str, Any], expected: dict[str, Any]) -> bool:
    keys = ("width", "height", "verdict", "caveats")
    same = all(row[key] == expected[key] for key in keys)
    return not same or any(
        row["answers"][name]["verdict"] != answer["verdict"]
        or abs(row["answers"][name]["probability"] - answer["probability"]) > TOLERANCE
        for name, answer in expected["answers"].items()
    )


# Load


async def loaded(server: Server, pictures: Sequence[Picture], load: Load, seconds: float) -> None:
    """Let the clients of a load ask for so long; what they meet is added to it."""
    import httpx

    turns = itertools.cycle(
        pictures
    )  # from the first on, so that all who are compared get the same
    start, spent = time.perf_counter(), server.cpu_seconds()

    async def client() -> None:
        async with httpx.AsyncClient(base_url=server.address, timeout=WAIT_S) as session:
            while time.perf_counter() < start + seconds:
                number = next(numbers)
                content, expected = next(turns)
                try:
                    await ask(session, load, number, renewed(content, number), expected)
                except httpx.HTTPError as error:
                    load.failed.append(f"{number}: {type(error).__name__}")

    await asyncio.gather(*(client() for _ in range(load.clients)))
    load.seconds += time.perf_counter() - start
    load.cpu_seconds += server.cpu_seconds() - spent


async def ask(
    session: Any, load: Load, number: int, content: bytes, expected: dict[str, Any]
) -> None:
    """Send one picture until it is answered."""
    name = f"{number}.jpg"
    while True:
        began = time.perf_counter()
        answer = await session.post("/v1/detect", files={"files": (name, content)})
        if answer.status_code != 429:
            break
        load.refused += 1
        await asyncio.sleep(int(answer.headers["retry-after"]))
    wait = time.perf_counter() - began
    if answer.status_code != 200:
        load.failed.append(f"{number}: status {answer.status_code}")
        return
    load.waits.append(wait)
    (row,) = answer.json()["results"]
    if row["image"] != name or differs(row, expected):
        load.wrong.append(f"{number}: another answer than offline")


def levels(
    server: Server, pictures: Sequence[Picture], clients: Sequence[int], seconds: float
) -> Iterator[dict[str, Any]]:
    """One row for each number of clients."""
    warm_up(server, pictures)
    for number in clients:
        say(f"load: {number} clients, {seconds:g} s")
        server.forget_peak()
        before = server.mib("VmRSS")
        load = Load(number)
        asyncio.run(loaded(server, pictures, load, seconds))
        memory = {
            "rss_before_mib": round(before),
            "rss_peak_mib": round(server.mib("VmHWM")),
            "rss_after_mib": round(server.mib("VmRSS")),
        }
        yield load.plain() | memory | {"examples": (load.failed + load.wrong)[:5]}


def warm_up(server: Server, pictures: Sequence[Picture]) -> None:
    asyncio.run(loaded(server, pictures, Load(2), 2.0))


def batching(
    pictures: Sequence[Picture], clients: Sequence[int], seconds: float, threads: int
) -> Iterator[dict[str, Any]]:
    """For each number of clients the same load with and without common batches, in turns."""
    with running(threads) as batched, running(threads, *UNBATCHED) as alone:
        for server in (batched, alone):
            warm_up(server, pictures)
        for number in clients:
            say(f"batching: {number} clients, {SLICES} x {seconds / SLICES:g} s each")
            together, apart = Load(number), Load(number)
            for _ in range(SLICES):
                asyncio.run(loaded(batched, pictures, together, seconds / SLICES))
                asyncio.run(loaded(alone, pictures, apart, seconds / SLICES))
            rows = {"batched": together.plain(), "unbatched": apart.plain()}
            ratios = {
                f"ratio_{kind}": round(
                    rows["batched"][f"requests_per_{kind}"]
                    / max(rows["unbatched"][f"requests_per_{kind}"], 1e-9),
                    3,
                )
                for kind in ("second", "cpu_second")
            }
            yield {"clients": number} | rows | ratios


# Page

SHOWN = """() => {
  const verdict = document.querySelector("#panel .plainly");
  return verdict && verdict.offsetWidth ? performance.now() : 0;
}"""


def page_waits(content: bytes, threads: int, colds: int, warms: int) -> dict[str, Any] | None:
    """Milliseconds until the verdict is shown: from the navigation, and from the choice of the file."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        say("page: left out, playwright is not installed")
        return None
    waits: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        for round_number in range(colds):
            say(f"page: visit {round_number + 1} of {colds}")
            with running(threads) as server:
                options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
                browser = driver.chromium.launch(**options)
                for visit in range(1 + (warms if round_number == colds - 1 else 0)):
                    path = Path(folder) / f"{next(numbers)}.jpg"
                    path.write_bytes(renewed(content, next(numbers)))
                    waits["warm" if visit else "cold"].append(
                        visited(browser, server.address, path)
                    )
                browser.close()
    return {
        kind: {
            "visits": len(found),
            "navigation_to_verdict_ms": round(statistics.median(one for one, _ in found)),
            "slowest_ms": round(max(one for one, _ in found)),
            "choice_to_verdict_ms": round(statistics.median(one for _, one in found)),
        }
        for kind, found in waits.items()
    }


def visited(browser: Any, address: str, path: Path) -> tuple[float, float]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    chosen = page.evaluate("performance.now()")
    page.set_input_files("#choose", str(path))
    # The page's clock starts with the navigation.
    shown = page.wait_for_function(SHOWN, polling="raf", timeout=1000 * WAIT_S).json_value()
    page.close()
    return shown, shown - chosen


# What is printed

LOAD_COLUMNS: Final = {
    "clients": "clients",
    "requests/s": "requests_per_second",
    "p50 ms": "p50_ms",
    "p95 ms": "p95_ms",
    "p99 ms": "p99_ms",
    "requests": "requests",
    "429": "refused_429",
    "errors": "errors",
    "wrong": "wrong",
    "peak MiB": "rss_peak_mib",
}


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def printed(found: dict[str, Any]) -> str:
    parts = [found["machine"], "", found["pictures"], ""]
    rows = [[row[name] for name in LOAD_COLUMNS.values()] for row in found["load"]]
    parts += [table(list(LOAD_COLUMNS), rows), ""]
    rows = [
        [kind, row["clients"], *(row[mode]["requests_per_second"] for mode in ("batched", "unbatched")),
         row["ratio_second"], row["ratio_cpu_second"],
         sum(row[mode]["wrong"] + row[mode]["errors"] for mode in ("batched", "unbatched"))]
        for kind, rows in found["batching"].items() for row in rows
    ]  # fmt: skip
    speeds = ["batched/s", "unbatched/s", "ratio", "ratio per CPU-second"]
    head = ["pictures", "clients", *speeds, "wrong or failed"]
    parts += [table(head, rows), ""]
    if found["page"]:
        head = ["page", "visits", "navigation to verdict, ms", "slowest, ms", "choice to verdict, ms"]  # fmt: skip
        rows = [[kind, *row.values()] for kind, row in found["page"].items()]
        parts += [table(head, rows), ""]
    return "\n".join(parts)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(names)) or platform.machine()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument(
        "--seconds", type=float, default=100, help="of load for each number of clients"
    )
    parser.add_argument("--compare-seconds", type=float, default=20, help="for each line and server")  # fmt: skip
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each server")
    parser.add_argument("--cold", type=int, default=3, help="visits with a new server and browser")
    parser.add_argument("--warm", type=int, default=10, help="visits after those; 0 and 0: no page")
    parser.add_argument("--json", type=Path, help="also write all figures here")
    chosen = parser.parse_args()
    from gammascope.data.folder import find_images

    contents = [path.read_bytes() for path in find_images([str(chosen.folder)])[: chosen.images]]
    say("answers offline")
    whole = with_answers(contents)
    kinds = {"whole": whole, f"{CROP_PX} px": with_answers([cropped(one) for one, _ in whole])}
    area = statistics.mean(row["width"] * row["height"] for _, row in whole)
    size = statistics.mean(len(content) for content, _ in whole)
    found: dict[str, Any] = {
        "machine": f"{processor()}; {os.cpu_count()} cores, {chosen.threads} threads a server",
        "pictures": f"{len(whole)} pictures, {area / 1e6:.2f} megapixels and {size / 1e3:.0f} kB on average",
    }
    with running(chosen.threads) as server:
        found["load"] = list(levels(server, whole, chosen.clients, chosen.seconds))
    found["batching"] = {
        kind: list(batching(pictures, chosen.clients, chosen.compare_seconds, chosen.threads))
        for kind, pictures in kinds.items()
    }
    found["page"] = None
    if chosen.cold or chosen.warm:
        content = whole[0][0]
        found["page"] = page_waits(content, chosen.threads, max(1, chosen.cold), chosen.warm)
    print(printed(found))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    if any(row["wrong"] or row["errors"] for row in found["load"]):
        raise SystemExit("Some answers were wrong or missing: see above.")


if __name__ == "__main__":
    main()
