"""Requests per second and waiting times of a server under load, with every answer checked; its peak memory.

    python benchmarks/server_load.py FOLDER [--clients 1 8 64] [--seconds 20] [--images 40] [--batching]

Starts ``gammascope serve`` in a process of its own. Each client sends one picture after the other; a picture never
comes twice, because a few bytes behind its end make it new to the server's memory of results. An answer must be that
of its picture, up to the rounding of the network; a refusal ("queue full") is counted and tried again when the server
says. ``--batching`` compares the pipeline alone: views of many pictures in common batches, and picture by picture.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOLERANCE = 1e-4


@dataclass
class Load:
    """What some clients met."""

    clients: int
    seconds: float
    waits: list[float] = field(default_factory=list)
    refused: int = 0
    wrong: list[str] = field(default_factory=list)

    def at(self, share: float) -> float:
        """The waiting time that this share of the requests stayed below, milliseconds."""
        ordered = sorted(self.waits)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextmanager
def running(threads: int) -> Iterator[tuple[str, int]]:
    """A server on a free port: its address and process id. Its log goes to a file that is thrown away."""
    command = [sys.executable, "-c", "from gammascope.apps.cli import main; main()", "serve"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, "--port", "0", "--results", "memory"], stderr=log, env=environment
        )
        try:
            yield address_of(process), process.pid
        finally:
            process.terminate()
            process.wait()


def address_of(process: subprocess.Popen[bytes]) -> str:
    while process.poll() is None:
        # Read through a name of its own: the server writes at the position that the file is at.
        text = Path(f"/proc/{process.pid}/fd/2").read_text("utf-8")
        found = re.search(r"http://\S+/", text)
        if found and '"serving"' in text:
            return found.group()
        time.sleep(0.1)
    raise SystemExit("The server did not start.")


def peak_mib(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text("utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) / 1024 if found else float("nan")


def expected_answers(paths: list[Path]) -> list[tuple[bytes, dict[str, Any]]]:
    from gammascope.pipeline import Pipeline

    pipeline = Pipeline.load()
    return [(path.read_bytes(), pipeline.report(path.read_bytes()).to_json()) for path in paths]


def differs(row: dict[str, Any], expected: dict[str, Any]) -> bool:
    keys = ("width", "height", "verdict", "caveats")
    same = all(row[key] == expected[key] for key in keys)
    return not same or any(
        abs(row["answers"][name]["probability"] - answer["probability"]) > TOLERANCE
        for name, answer in expected["answers"].items()
    )


async def measured(
    address: str, pictures: list[tuple[bytes, dict[str, Any]]], clients: int, seconds: float
) -> Load:
    import httpx

    load = Load(clients, seconds)
    numbers = itertools.count()
    start = time.perf_counter()

    async def client() -> None:
        async with httpx.AsyncClient(base_url=address, timeout=120) as session:
            while time.perf_counter() < start + seconds:
                number = next(numbers)
                content, expected = pictures[number % len(pictures)]
                # Decoders stop at the end of the picture; a hash does not.
                new = content + f"{clients} {number}".encode()
                await ask(session, load, f"{number}.jpg", new, expected)

    await asyncio.gather(*(client() for _ in range(clients)))
    load.seconds = time.perf_counter() - start
    return load


async def ask(
    session: Any, load: Load, name: str, content: bytes, expected: dict[str, Any]
) -> None:
    """Send one picture until it is answered; the waiting time counts from the try that was accepted."""
    while True:
        began = time.perf_counter()
        answer = await session.post("/v1/detect", files={"files": (name, content)})
        if answer.status_code != 429:
            break
        load.refused += 1
        await asyncio.sleep(int(answer.headers["retry-after"]))
    load.waits.append(time.perf_counter() - began)
    if answer.status_code != 200:
        load.wrong.append(f"{name}: status {answer.status_code}")
        return
    (row,) = answer.json()["results"]
    if row["image"] != name or differs(row, expected):
        load.wrong.append(f"{name}: another answer than expected")


def batching(paths: list[Path], side: int, rounds: int = 3) -> tuple[float, float]:
    """Pictures per CPU-second of the pipeline picture by picture, and in common batches; best of the rounds.

    Pictures are cropped to ``side`` pixels, because large ones fill batches by themselves. The processor's time, not
    the clock's, so that other work on the machine does not decide the ratio.
    """
    import numpy as np

    from gammascope.imaging.decode import decode
    from gammascope.pipeline import Pipeline

    pipeline = Pipeline.load()
    images = [np.ascontiguousarray(decode(path).image[:side, :side]) for path in paths]
    alone, together = [], []
    for _ in range(rounds):
        start = time.process_time()
        for image in images:
            pipeline.scores(image)
        middle = time.process_time()
        for first in range(0, len(images), 32):
            pipeline.scores_of(images[first : first + 32])
        end = time.process_time()
        alone.append(len(images) / (middle - start))
        together.append(len(images) / (end - middle))
    return max(alone), max(together)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batching", action="store_true")
    chosen = parser.parse_args()
    from gammascope.data.folder import find_images

    paths = find_images([str(chosen.folder)])[: chosen.images]
    print(f"machine   {platform.processor() or platform.machine()}, {chosen.threads} threads")
    if chosen.batching:
        import torch

        torch.set_num_threads(chosen.threads)
        for side in (96, 192):
            alone, together = batching(paths, side)
            rates = f"alone {alone:6.1f}   together {together:6.1f} pictures a CPU-second"
            print(f"{side:4} px   {rates}   x {together / alone:.2f}")
        return
    pictures = expected_answers(paths)
    mean = sum(len(content) for content, _ in pictures) / len(pictures)
    area = sum(row["width"] * row["height"] for _, row in pictures) / len(pictures)
    print(f"pictures  {len(paths)}, {area / 1e6:.2f} megapixels and {mean / 1e3:.0f} kB on average")
    wrong = []
    with running(chosen.threads) as (address, process):
        for clients in chosen.clients:
            load = asyncio.run(measured(address, pictures, clients, chosen.seconds))
            rate = len(load.waits) / load.seconds
            times = "   ".join(
                f"p{share:.0%}"[:-1] + f" {load.at(share):.0f} ms" for share in (0.5, 0.95, 0.99)
            )
            print(f"{clients:3} clients   {rate:6.1f} requests/s   {times}   refused {load.refused}   "
                  f"wrong {len(load.wrong)} of {len(load.waits)}   peak {peak_mib(process):.0f} MiB")  # fmt: skip
            wrong += load.wrong
    if wrong:
        raise SystemExit(json.dumps(wrong[:10]))


if __name__ == "__main__":
    main()
