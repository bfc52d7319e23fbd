"""Many files in, their reports out, one by one: the next pictures are decoded while the network looks at this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gammascope.errors import GammascopeError
from gammascope.imaging.decode import Decoded, Limits, decode
from gammascope.pipeline import Pipeline
from gammascope.report import Report
from gammascope.sample import Image

HELD_BYTES = 2**30
"""Decoding pauses while this much is decoded and waiting: panoramas must not fill the memory."""

_Decoding = Future[Decoded | str]


@dataclass(frozen=True, slots=True)
class Scanned:
    """One file of a scan.

    Attributes:
        path: The file, as it was given.
        report: What was found; None if the file could not be examined.
        image: Its upright pixels; None if the file could not be examined.
        error: One line that says why it could not; None if it was.
    """

    path: Path
    report: Report | None
    image: Image | None
    error: str | None


def scan(
    paths: Sequence[Path], pipeline: Pipeline, *, ahead: int = 4, limits: Limits | None = None
) -> Generator[Scanned, None, None]:
    """Examine files in their order; every file gives one row, readable or not.

    Decoding runs ahead in one background thread, which ends with the iteration, also when that is left early.

    Args:
        paths: Image files.
        pipeline: Answers for one image.
        ahead: Pictures decoded at most before they are asked for, 1 and up; fewer if they are huge (``HELD_BYTES``).
        limits: What a file may cost; None: the decoder's own limits.
    """
    if ahead < 1:
        raise ValueError(f"ahead={ahead}: expected 1 or more.")
    limits = limits or Limits()
    waiting: deque[tuple[Path, _Decoding]] = deque()
    left = iter(paths)
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
        try:
            while True:
                while len(waiting) < ahead and (not waiting or _held(waiting) < HELD_BYTES):
                    path = next(left, None)
                    if path is None:
                        break
                    waiting.append((path, thread.submit(_decoded, path, limits)))
                if not waiting:
                    return
                path, decoding = waiting.popleft()
                yield _examined(path, decoding.result(), pipeline)
        finally:
            for _, decoding in waiting:
                decoding.cancel()


def _held(waiting: deque[tuple[Path, _Decoding]]) -> int:
    """Bytes of the pixels that are decoded and not asked for yet."""
    done = (decoding.result() for _, decoding in waiting if decoding.done())
    return sum(result.image.nbytes for result in done if not isinstance(result, str))


def _decoded(path: Path, limits: Limits) -> Decoded | str:
    """Decode, or say why not: an error belongs to its row and must not reach the ones before it."""
    try:
        return decode(path, limits)
    except GammascopeError as error:
        return str(error)
    except MemoryError:
        return f"{path.name}: not enough memory to decode it."


def _examined(path: Path, decoded: Decoded | str, pipeline: Pipeline) -> Scanned:
    if isinstance(decoded, str):
        return Scanned(path, None, None, decoded)
    try:
        report = pipeline.report_of(decoded, path.name)
    except GammascopeError as error:
        return Scanned(path, None, None, str(error))
    except MemoryError:
        return Scanned(path, None, None, f"{path.name}: not enough memory to examine it.")
    return Scanned(path, report, decoded.image, None)
