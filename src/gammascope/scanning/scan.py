"""Many files in, their reports out, in order: every core decodes and looks, each at a picture of its own.

So nothing waits for anything: a picture is in the hands of one thread from its bytes to its row, and both decoders and
networks let other threads run meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gammascope import machine
from gammascope.detection.pipeline import Pipeline
from gammascope.errors import GammascopeError
from gammascope.imaging.decode import Limits, decode
from gammascope.report import Report
from gammascope.sample import Image

HELD_BYTES = 2**28
"""Nothing new is begun while rows that are ready hold this much: panoramas must not fill the memory."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """One file of a scan.

    Attributes:
        path: The file, as it was given.
        report: What was found; None if the file could not be examined.
        image: Its upright pixels; None if the file could not be examined.
        error: One line that says why it could not; None if it was.
        further: What further detectors found, in their order.
    """

    path: Path
    report: Report | None
    image: Image | None
    error: str | None
    further: tuple[Report, ...] = ()


def scan(
    paths: Sequence[Path],
    pipeline: Pipeline,
    *,
    further: Sequence[Pipeline] = (),
    ahead: int | None = None,
    limits: Limits | None = None,
) -> Generator[Scanned, None, None]:
    """Examine files in their order; every file gives one row, readable or not.

    The threads end with the iteration, also when that is left early: what is under way then stops at its next batch.

    Args:
        paths: Image files.
        pipeline: Answers for one image.
        further: Answer for the same pixels, each for itself; a file is decoded once.
        ahead: Pictures begun at most before they are asked for, 1 and up; fewer if they are huge (``HELD_BYTES``).
            None: twice the cores.
        limits: What a file may cost; None: the decoder's own limits.
    """
    machine.keep_freed_memory()
    threads = machine.cores()
    ahead = 2 * threads if ahead is None else ahead
    if ahead < 1:
        raise ValueError(f"ahead={ahead}: expected 1 or more.")
    limits, stop = limits or Limits(), threading.Event()
    asked = (pipeline, *further)
    waiting: deque[Future[Scanned]] = deque()
    left = iter(paths)
    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as pool:
        try:
            while True:
                while len(waiting) < ahead and (not waiting or _held(waiting) < HELD_BYTES):
                    path = next(left, None)
                    if path is None:
                        break
                    waiting.append(pool.submit(_examined, path, asked, limits, stop))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            stop.set()
            for examining in waiting:
                examining.cancel()


def _held(waiting: deque[Future[Scanned]]) -> int:
    """Bytes of the pixels of rows that are ready and not asked for yet."""
    done = [one.result() for one in waiting if one.done() and one.exception() is None]
    return sum(row.image.nbytes for row in done if row.image is not None)


def _examined(
    path: Path, asked: Sequence[Pipeline], limits: Limits, stop: threading.Event
) -> Scanned:
    """Decode and look, or say why not: an error belongs to its row and must not reach the ones before it."""
    try:
        decoded = decode(path, limits)
        report, *further = [one.report_of(decoded, path.name, stop) for one in asked]
    except GammascopeError as error:
        return Scanned(path, None, None, str(error))
    except MemoryError:
        return Scanned(path, None, None, f"{path.name}: not enough memory to examine it.")
    return Scanned(path, report, decoded.image, None, tuple(further))
