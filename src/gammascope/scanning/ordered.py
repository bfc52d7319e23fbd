"""Many files in, their reports out, in order: every core decodes and looks, each at a picture of its own.

So nothing waits for anything: a picture is in the hands of one thread from its bytes to its row, and both decoders and
networks let other threads run meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, cast

from gammascope import machine
from gammascope.detection.pipeline import Pipeline
from gammascope.errors import GammascopeError
from gammascope.imaging.decode import Limits, decode
from gammascope.report import Report
from gammascope.sample import Image

Item = TypeVar("Item")
Row = TypeVar("Row")

_END: Final = object()

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

    Args:
        paths: Image files.
        pipeline: Answers for one image.
        further: Answer for the same pixels, each for itself; a file is decoded once.
        ahead: As ``in_order`` takes it.
        limits: What a file may cost; None: the decoder's own limits.
    """
    asked, limits = (pipeline, *further), limits or Limits()

    def examined(path: Path, stop: threading.Event) -> Scanned:
        return _examined(path, asked, limits, stop)

    def held(row: Scanned) -> int:
        return 0 if row.image is None else row.image.nbytes

    return in_order(paths, examined, ahead=ahead, held=held)


def in_order(
    items: Iterable[Item],
    examined: Callable[[Item, threading.Event], Row],
    *,
    ahead: int | None = None,
    threads: int | None = None,
    held: Callable[[Row], int] = lambda _: 0,
) -> Generator[Row, None, None]:
    """Yield what a function makes of items, in their order; threads work on the next ones meanwhile.

    The threads end with the iteration, also when that is left early. An error of the function ends the iteration.

    Args:
        items: Taken one by one, no further than ``ahead`` allows.
        examined: Called in threads, with an item and an event. The event is set when nobody waits for the row any more.
        ahead: Items begun at most before their rows are taken, 1 and up; fewer if rows are huge (``HELD_BYTES``).
            None: two for each thread.
        threads: Items examined at once; None: one for each core.
        held: Returns the bytes of pixels that a row holds.
    """
    machine.keep_freed_memory()
    threads = machine.cores() if threads is None else threads
    ahead = 2 * threads if ahead is None else ahead
    if ahead < 1:
        raise ValueError(f"ahead={ahead}: expected 1 or more.")
    stop, left = threading.Event(), iter(items)
    waiting: deque[Future[Row]] = deque()

    def full() -> bool:
        ready = [one.result() for one in waiting if one.done() and one.exception() is None]
        return len(waiting) >= ahead or sum(map(held, ready)) >= HELD_BYTES

    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as pool:
        try:
            while True:
                while not full():
                    following = next(left, _END)
                    if following is _END:
                        break
                    waiting.append(pool.submit(examined, cast("Item", following), stop))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            stop.set()
            for examining in waiting:
                examining.cancel()


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
