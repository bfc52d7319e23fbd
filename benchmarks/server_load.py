"""A server under load: requests per second, waiting times, memory, what batching brings, and the wait on its page.

    python benchmarks/server_load.py FOLDER [--clients 1 8 64] [--seconds 300] [--json load.json] [--plot load.png]

Everything runs on this machine, over loopback, against ``gammascope serve`` in processes of its own, which keep their
results in SQLite as by default:

- *Load*: each client sends one picture after the other for ``--seconds``. A picture never comes twice, because a few
  bytes behind its end make it new to the server's memory of results. An answer must be what ``gammascope scan --json``
  says of the picture, up to the rounding of the network. A refusal ("queue full") is counted and tried again when
  the server says; the waiting time is that of the try that was accepted. The server's memory is read once a second.
- *Burst*: so many uploads begin at once, once. Each must be answered rightly or refused with a time to come back.
- *Batching*: two servers, one of which never puts two pictures into one batch, take turns in short slices, with the
  pictures as they are and with crops of them, because large pictures fill batches by themselves. The ratio is that of
  requests per second of the servers' own processor time, so that other work on the machine does not decide it.
- *Page*: from the start of the navigation to the shown verdict, in headless Chromium. Cold: a new server and a new
  browser. Warm: the next visits, each with a picture that is new to the server. (Needs playwright; else left out.)

Prints Markdown tables of the medians of ``--repeats`` runs, each with servers of its own; errors and wrong answers are
summed. With the defaults a run takes about twenty minutes, fifteen of them for the load.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

TOLERANCE: Final = 1e-4
GAMMASCOPE: Final = (sys.executable, "-c", "from gammascope.cli.app import main; main()")
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
        wrong: Requests answered otherwise than by a scan.
        memory: Seconds since the start, and MiB of the server then.
    """

    clients: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    refused: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

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

    def grown_mib(self) -> int:
        """How much further the second half of the time took the memory than the first."""
        held = [mib for _, mib in self.memory] or [0]
        middle = max(1, len(held) // 2)
        return max(0, max(held[middle:], default=0) - max(held[:middle]))


@contextmanager
def running(threads: int, *options: str) -> Iterator[Server]:
    """A server on a free port. Its log and its results go to files that are thrown away."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with tempfile.NamedTemporaryFile("w+") as log, tempfile.TemporaryDirectory() as folder:
        command = [*GAMMASCOPE, "serve", "--port", "0", "--results", f"{folder}/results.sqlite"]
        process = subprocess.Popen([*command, *options], stderr=log, env=environment)
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


def with_answers(
    files: Sequence[tuple[str, bytes]], options: Sequence[str]
) -> tuple[list[Picture], float]:
    """Pictures, given with the endings of their names, and what ``gammascope scan --json`` says of them.

    Also the seconds of the processor that the scan took for one, its start included.
    """
    with tempfile.TemporaryDirectory() as folder:
        for number, (ending, content) in enumerate(files):
            Path(folder, f"{number}{ending}").write_bytes(content)
        command = [*GAMMASCOPE, "scan", folder, "--json", "--quiet", *options]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Its exit code tells of fakes, too.
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = {Path(row["image"]).stem: row for row in map(json.loads, said.splitlines())}
    found = [(content, rows.get(str(number), {})) for number, (_, content) in enumerate(files)]
    kept = [(content, row) for content, row in found if "answers" in row]
    if not kept:
        raise SystemExit("scan could not read any of the pictures.")
    say(f"answers of a scan: {len(kept)}, left out: {len(found) - len(kept)}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return kept, cpu / len(kept)


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
    until = time.perf_counter() + seconds

    async def client() -> None:
        async with httpx.AsyncClient(base_url=server.address, timeout=WAIT_S) as session:
            while time.perf_counter() < until:
                await ask(session, load, next(turns))

    async with watched(server, load):
        await asyncio.gather(*(client() for _ in range(load.clients)))


async def burst(server: Server, pictures: Sequence[Picture], load: Load) -> None:
    """Let the clients of a load all ask at once, and only once."""
    import httpx

    turns = itertools.islice(itertools.cycle(pictures), load.clients)
    unbounded = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(base_url=server.address, timeout=WAIT_S, limits=unbounded) as session,
        watched(server, load),
    ):
        await asyncio.gather(*(ask(session, load, one, again=False) for one in turns))


@asynccontextmanager
async def watched(server: Server, load: Load) -> AsyncIterator[None]:
    """Note down what passes: time, the server's own time, and its memory once a second."""
    start, spent = time.perf_counter(), server.cpu_seconds()

    async def watch() -> None:
        while True:
            load.memory.append((round(time.perf_counter() - start, 1), round(server.mib("VmRSS"))))
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        load.seconds += time.perf_counter() - start
        load.cpu_seconds += server.cpu_seconds() - spent


async def ask(session: Any, load: Load, picture: Picture, *, again: bool = True) -> None:
    """Send one picture, by default until it is answered."""
    import httpx

    number, (content, expected) = next(numbers), picture
    name, content = f"{number}.jpg", renewed(content, number)
    while True:
        began = time.perf_counter()
        try:
            answer = await session.post("/v1/detect", files={"files": (name, content)})
        except httpx.HTTPError as error:
            load.failed.append(f"{number}: {type(error).__name__}")
            return
        pause = answer.headers.get("retry-after", "")
        if answer.status_code != 429 or not pause.isdecimal():
            break
        load.refused += 1
        if not again:
            return
        await asyncio.sleep(int(pause))
    wait = time.perf_counter() - began
    if answer.status_code != 200:
        load.failed.append(f"{number}: status {answer.status_code}")
        return
    load.waits.append(wait)
    (row,) = answer.json()["results"]
    if row["image"] != name or differs(row, expected):
        load.wrong.append(f"{number}: another answer than that of a scan")


def levels(
    server: Server, pictures: Sequence[Picture], clients: Sequence[int], seconds: float
) -> Iterator[dict[str, Any]]:
    """One row for each number of clients; with 0 seconds all ask at once, and only once."""
    for number in clients:
        say(f"load: {number} clients, {seconds:g} s" if seconds else f"burst: {number} uploads")
        server.forget_peak()
        before = server.mib("VmRSS")
        load = Load(number)
        asyncio.run(
            loaded(server, pictures, load, seconds) if seconds else burst(server, pictures, load)
        )
        yield load.plain() | {
            "waits_ms": [round(load.at(share / 100), 1) for share in range(101)] if load.waits else [],
            "rss_before_mib": round(before),
            "rss_peak_mib": round(server.mib("VmHWM")),
            "rss_grown_mib": load.grown_mib(),
            "memory_mib": load.memory,
            "examples": (load.failed + load.wrong)[:5],
        }  # fmt: skip


def warm_up(server: Server, pictures: Sequence[Picture]) -> None:
    asyncio.run(loaded(server, pictures, Load(2), 2.0))


def batching(
    pictures: Sequence[Picture],
    clients: Sequence[int],
    seconds: float,
    threads: int,
    options: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """For each number of clients the same load with and without common batches, in turns."""
    with running(threads, *options) as batched, running(threads, *options, *UNBATCHED) as alone:
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


def page_waits(
    content: bytes, threads: int, colds: int, warms: int, options: Sequence[str]
) -> dict[str, Any] | None:
    """Milliseconds until the verdict is shown: from the navigation, and from the choice of the file."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        say("page: left out, playwright is not installed")
        return None
    if shutil.which("chromium") is None:
        say("page: left out, chromium is not installed")
        return None
    waits: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        for round_number in range(colds):
            say(f"page: visit {round_number + 1} of {colds}")
            with running(threads, *options) as server:
                browser = driver.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
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


# Running it


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument(
        "--seconds", type=float, default=300, help="of load for each number of clients"
    )
    parser.add_argument("--burst", type=int, default=1000, help="uploads at once; 0: none")
    parser.add_argument(
        "--compare-seconds", type=float, default=20, help="for each line and server; 0: no batching"
    )
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each server")
    parser.add_argument("--cold", type=int, default=3, help="visits with a new server and browser")
    parser.add_argument("--warm", type=int, default=10, help="visits after those; 0 and 0: no page")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--profile", choices=("default", "fast"), default="default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write all figures here")
    parser.add_argument("--plot", type=Path, help="also draw waiting times and memory")
    return parser.parse_args()


def measured(chosen: argparse.Namespace) -> dict[str, Any]:
    """One run of everything that was asked for."""
    from gammascope import machine
    from gammascope.data.folder import find_images

    options = ["--weights", chosen.weights, "--profile", chosen.profile]
    paths = find_images([str(chosen.folder)])[: chosen.images]
    whole, scan_cpu = with_answers([(path.suffix, path.read_bytes()) for path in paths], options)
    kinds = {"whole": whole}
    if chosen.compare_seconds:
        crops = [(".png", cropped(content)) for content, _ in whole]
        kinds[f"{CROP_PX} px"], _ = with_answers(crops, options)
    area = statistics.mean(row["width"] * row["height"] for _, row in whole)
    size = statistics.mean(len(content) for content, _ in whole)
    found: dict[str, Any] = {
        "machine": f"{machine.name()}, {chosen.threads} threads a server; {' '.join(options)}",
        "pictures": f"{len(whole)} pictures, {area / 1e6:.2f} megapixels and {size / 1e3:.0f} kB on average",
        "scan_cpu": scan_cpu,
    }
    with running(chosen.threads, *options) as server:
        warm_up(server, whole)
        found["load"] = list(levels(server, whole, chosen.clients, chosen.seconds))
        found["burst"] = list(levels(server, whole, [chosen.burst], 0)) if chosen.burst else []
    found["batching"] = {
        kind: list(
            batching(pictures, chosen.clients, chosen.compare_seconds, chosen.threads, options)
        )
        for kind, pictures in (kinds if chosen.compare_seconds else {}).items()
    }
    found["page"] = None
    if chosen.cold or chosen.warm:
        visits = (max(1, chosen.cold), chosen.warm)
        found["page"] = page_waits(whole[0][0], chosen.threads, *visits, options)
    return found


def main() -> None:
    chosen = parsed()
    from scan_speed import repeated
    from server_tables import loads, plot, printed, ratios, summed

    found = summed(repeated(measured, chosen))
    found |= {"repeats": chosen.repeats, "ratios": ratios(found)}
    print(printed(found))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    if chosen.plot:
        plot(found, chosen.plot)
    if any(row["wrong"] or row["errors"] for row in loads(found)):
        raise SystemExit("Some answers were wrong or missing: see above.")


if __name__ == "__main__":
    main()
