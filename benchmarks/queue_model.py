"""Waiting times of a server's queue by load, simulated: when to add a machine, before people notice.

    python benchmarks/queue_model.py --seconds-an-image 0.1 [--load 0.3 0.6 0.8 0.9] [--queue 256] [--batch 8]

Requests of one picture arrive as a Poisson process. Whenever the network is free it takes what waits, up to a batch,
for ``overhead`` plus ``seconds-an-image`` for each. A request that finds the queue full is refused. Measure the seconds
with ``benchmarks/server_load.py``; nothing here is measured.
"""

from __future__ import annotations

import argparse
from collections import deque
from dataclasses import dataclass

import numpy as np

from gammascope.report import percent


@dataclass(frozen=True)
class Server:
    """What the queue needs to know; seconds."""

    an_image: float
    overhead: float
    batch: int
    queue: int


def waits_at(server: Server, load: float, requests: int, seed: int = 0) -> tuple[np.ndarray, int]:
    """Seconds from arrival to answer of those accepted, and how many were refused."""
    rng = np.random.default_rng(seed)
    capacity = server.batch / (server.overhead + server.batch * server.an_image)
    arrivals = np.cumsum(rng.exponential(1 / (load * capacity), requests))
    waiting: deque[float] = deque()
    waits: list[float] = []
    free_at, refused, following = 0.0, 0, 0
    while following < requests or waiting:
        if not waiting:
            free_at = max(free_at, float(arrivals[following]))
        while following < requests and arrivals[following] <= free_at:
            if len(waiting) < server.queue:
                waiting.append(float(arrivals[following]))
            else:
                refused += 1
            following += 1
        taken = [waiting.popleft() for _ in range(min(server.batch, len(waiting)))]
        free_at += server.overhead + len(taken) * server.an_image
        waits += [free_at - arrived for arrived in taken]
    return np.array(waits), refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds-an-image", type=float, required=True)
    parser.add_argument("--overhead", type=float, default=0.002)
    parser.add_argument("--load", type=float, nargs="+", default=[0.3, 0.6, 0.8, 0.9, 0.95, 1.1])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--queue", type=int, default=256)
    parser.add_argument("--requests", type=int, default=50_000)
    chosen = parser.parse_args()
    server = Server(chosen.seconds_an_image, chosen.overhead, chosen.batch, chosen.queue)
    for load in chosen.load:
        waits, refused = waits_at(server, load, chosen.requests)
        p50, p95, p99 = 1000 * np.quantile(waits, (0.5, 0.95, 0.99))
        print(f"load {load:4.2f}   p50 {p50:7.0f} ms   p95 {p95:7.0f} ms   p99 {p99:7.0f} ms   "
              f"refused {percent(refused / chosen.requests, 1)}")  # fmt: skip


if __name__ == "__main__":
    main()
