"""Many files in, their reports out, in order: into the caller's hands, or into a folder of Parquet parts.

Every core takes one picture from its bytes to its row, so nothing waits for anything; decoders and networks let other
threads run meanwhile. A scan into a folder is resumable, examines each content once, and needs constant memory.
"""

from __future__ import annotations

import hashlib
import json
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, cast

from gammascope import machine
from gammascope.data.audit import hash_of
from gammascope.detection.pipeline import Pipeline
from gammascope.errors import GammascopeError, UndecodableImageError, first_line
from gammascope.files import shown
from gammascope.imaging.decode import DEFAULT_LIMITS, Limits, decode
from gammascope.imaging.storage import is_remote
from gammascope.report import FORMAT, Report
from gammascope.sample import Image
from gammascope.scanning.results import LOOK, Forgetful, Memory, ResultsFolder, Row, Seen
from gammascope.scanning.sources import Item, Reader, listed

Task = TypeVar("Task")
Done = TypeVar("Done")

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
    items: Iterable[Task],
    examined: Callable[[Task, threading.Event], Done],
    *,
    ahead: int | None = None,
    threads: int | None = None,
    held: Callable[[Done], int] = lambda _: 0,
) -> Generator[Done, None, None]:
    """Yield what a function makes of items, in their order; threads work on the next ones meanwhile.

    The threads end with the iteration, also when that is left early. An error of the function ends the iteration.

    Args:
        items: Taken one by one, no further than ``ahead`` allows.
        examined: Called in threads, with an item and an event. The event is set when the row is not awaited any more.
        ahead: Items begun at most before their rows are taken, 1 and up; fewer if rows are huge (``HELD_BYTES``).
            None: two for each thread.
        threads: Items examined at once; None: one for each core.
        held: Returns the bytes of pixels that a row holds.
    """
    machine.keep_freed_memory()
    machine.one_thread_for_products()
    threads = machine.cores() if threads is None else threads
    ahead = 2 * threads if ahead is None else ahead
    if ahead < 1:
        raise ValueError(f"ahead={ahead}: expected 1 or more.")
    stop, left = threading.Event(), iter(items)
    waiting: deque[Future[Done]] = deque()

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
                    waiting.append(pool.submit(examined, cast("Task", following), stop))
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
        return Scanned(path, None, None, f"{path.name}: {NOT_ENOUGH_MEMORY}.")
    except Exception as error:  # a fault of ours, which must not take the other rows with it
        return Scanned(path, None, None, f"{path.name}: {_fault(error)}")
    return Scanned(path, report, decoded.image, None, tuple(further))


def _fault(error: Exception) -> str:
    """Say that our own code failed on a picture, and where."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = (
        f"{type(error).__name__}: {first_line(error)} ({Path(place.filename).name}:{place.lineno})"
    )
    return f"a fault of gammascope kept it from being examined, please report it: {what}."


Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Told what is done ("Listing", "Scanning"), how many are done, and of how many."""

NOT_ENOUGH_MEMORY = "not enough memory to examine it"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is scanned, and how; what could change a row is compared when a scan goes on.

    Attributes:
        sources: As ``sources.listed`` wants them.
        recursive: Look into folders within folders.
        limits: What an image may cost.
        deduplicate: Examine the same bytes once.
        threads: Images examined at once; None: one for each core, two where they come over a network.
    """

    sources: tuple[str, ...]
    recursive: bool = True
    limits: Limits = DEFAULT_LIMITS
    deduplicate: bool = True
    threads: int | None = None


def scan_into(
    folder: Path, plan: Plan, pipeline: Pipeline, progress: Progress = lambda *_: None
) -> None:
    """Examine all images of a plan, but for those that the folder holds rows of already.

    Killed at any moment and called again, it goes on: no row is lost or doubled, and at most what was examined in the
    last half minute is read (not examined) again. An image that cannot be read is a row with its error.

    Args:
        folder: Gets ``<first>-<end>.parquet`` with one row for each image, and ``_ledger`` with what resuming needs.
            Programs that read folders of Parquet files take it for one table.
        plan: What to do.
        pipeline: Answers for one image.
        progress: Told after each image.

    Raises:
        RecipeError: If the folder holds another scan.
        MissingDataError: If a source is not there or holds no image, or another process is writing to the folder.
        MissingExtraError: If pyarrow is not installed.
    """
    results = ResultsFolder(folder)
    with results.alone():
        total = prepared(results, plan, pipeline, progress)
        memory = Seen(results.seen_path) if plan.deduplicate else Forgetful()
        done = total - results.left(total)
        progress("Scanning", done, total)
        with results.writer() as write:
            for row in examine(results.items(total), pipeline, memory, plan.limits, _threads(plan)):
                write(row)
                done += 1
                progress("Scanning", done, total)
        if isinstance(memory, Seen):
            memory.close()
        results.merge()


def prepared(results: ResultsFolder, plan: Plan, pipeline: Pipeline, progress: Progress) -> int:
    """Make sure that the folder is this scan's, list the images unless that is done; return how many there are."""
    results.claim(_run(plan, pipeline))

    def counted() -> Iterator[Item]:
        for number, item in enumerate(listed(plan.sources, recursive=plan.recursive), start=1):
            yield item
            progress("Listing", number, None)

    return results.list_once(counted())


def examine(
    items: Iterable[tuple[int, Item]],
    pipeline: Pipeline,
    memory: Memory,
    limits: Limits,
    threads: int | None = None,
) -> Iterator[Row]:
    """Yield a row for each image, in order; the next ones are examined meanwhile.

    Rows depend on the content alone: images never share a batch of the network, whose rounding would tell. When the
    iteration is left early, images under way are finished: ``memory`` keeps what was found.

    Args:
        items: Images with their numbers.
        pipeline: Answers for one image.
        memory: What was found for contents before.
        limits: What an image may cost.
        threads: Images examined at once; None: one for each core.
    """
    reader, turns = Reader(limits), _Turns()

    def row(numbered: tuple[int, Item], _: threading.Event) -> Row:
        number, item = numbered
        digest, size = None, None
        try:
            content = reader.read(item)
            digest, size = hashlib.sha256(content).digest(), len(content)
            with turns.of(digest):
                outcome = memory.get(digest) or _outcome(content, digest, pipeline, memory, limits)
        except GammascopeError as error:  # true today: a package is missing, a file is not there
            outcome = _failure(str(error).removeprefix("<memory>: "))
        except MemoryError:
            outcome = _failure(NOT_ENOUGH_MEMORY)
        except Exception as error:  # a fault of ours, which must not take the other rows with it
            outcome = _failure(_fault(error))
        return Row(number, shown(item.name), digest.hex() if digest else None, size, outcome)

    try:
        yield from in_order(items, row, threads=threads)
    finally:
        reader.close()


class _Turns:
    """Lets one thread at a time have a content, so that its twins find what it found."""

    def __init__(self) -> None:
        self._free, self._taken = threading.Condition(), set[bytes]()

    @contextmanager
    def of(self, digest: bytes) -> Iterator[None]:
        """Wait until nobody else has the content, and have it within the block."""
        with self._free:
            self._free.wait_for(lambda: digest not in self._taken)
            self._taken.add(digest)
        try:
            yield
        finally:
            with self._free:
                self._taken.remove(digest)
                self._free.notify_all()


def _outcome(
    content: bytes, digest: bytes, pipeline: Pipeline, memory: Memory, limits: Limits
) -> str:
    """Examine a content and keep what is found: a report, or that it cannot be decoded, which stays true."""
    try:
        decoded = decode(content, limits)
    except UndecodableImageError as error:
        outcome = _failure(str(error).removeprefix("<memory>: "))
    else:
        plain = pipeline.report_of(decoded, "").to_json()
        del plain["image"]
        outcome = json.dumps({LOOK: hash_of(decoded.image), **plain})
    memory.put(digest, outcome)
    return outcome


def _failure(reason: str) -> str:
    return json.dumps({"error": shown(reason)})


def _threads(plan: Plan) -> int | None:
    """Return how many images are examined at once: threads that wait for a network leave their core to others."""
    if plan.threads is None and any(map(is_remote, plan.sources)):
        return 2 * machine.cores()
    return plan.threads


def _run(plan: Plan, pipeline: Pipeline) -> dict[str, Any]:
    """Return what must be the same for a scan to go on."""
    import gammascope

    trust = pipeline.besides.trust
    return {
        "format": FORMAT,
        "version": gammascope.__version__,
        "method": pipeline.facts.method,
        "weights_sha256": pipeline.weights_sha256,
        "sources": _absolute(plan.sources),
        "recursive": plan.recursive,
        "max_pixels": plan.limits.max_pixels,
        "max_bytes": plan.limits.max_bytes,
        "provenance": pipeline.besides.provenance,
        "trust": trust is not None,
        # Older folders lack it: they go on where there is no list.
        "trust_sha256": trust and hashlib.sha256(trust.pem.encode()).hexdigest(),
        "stability": pipeline.besides.stability,
        "profile": pipeline.profile,
        "network": pipeline.network.name,
        "columns": LOOK,  # parts begun before there was this one lack it
    }


def _absolute(sources: Sequence[str]) -> list[str]:
    return [shown(name if is_remote(name) else Path(name).absolute()) for name in sources]
