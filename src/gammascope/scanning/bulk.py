"""Very many images into a folder of Parquet parts: resumable, each content examined once, constant memory."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from gammascope import machine
from gammascope.detection.pipeline import Pipeline
from gammascope.errors import GammascopeError, UndecodableImageError
from gammascope.imaging.decode import DEFAULT_LIMITS, Decoded, Limits, decode
from gammascope.imaging.remote import is_remote
from gammascope.names import shown
from gammascope.report import FORMAT
from gammascope.scanning.results import ResultsFolder, Row
from gammascope.scanning.scan import HELD_BYTES
from gammascope.scanning.seen import Forgetful, Memory, Seen
from gammascope.scanning.sources import Item, Reader, listed

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
        threads: Reading and decoding at once.
    """

    sources: tuple[str, ...]
    recursive: bool = True
    limits: Limits = DEFAULT_LIMITS
    deduplicate: bool = True
    threads: int = 2


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
    machine.keep_freed_memory()
    results = ResultsFolder(folder)
    with results.alone():
        total = prepared(results, plan, pipeline, progress)
        memory = Seen(results.seen_path) if plan.deduplicate else Forgetful()
        done = total - results.left(total)
        progress("Scanning", done, total)
        with results.writer() as write:
            for row in examine(results.items(total), pipeline, memory, plan.limits, plan.threads):
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
    threads: int = 2,
) -> Iterator[Row]:
    """Yield a row for each image, in order; the next ones are read and decoded meanwhile.

    Rows depend on the content alone: images never share a batch of the network, whose rounding would tell.

    Args:
        items: Images with their numbers.
        pipeline: Answers for one image.
        memory: What was found for contents before.
        limits: What an image may cost.
        threads: Reading and decoding at once.
    """
    reader = Reader(limits)
    left = iter(items)
    waiting: deque[tuple[int, Item, Future[_Fetched]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="fetch") as pool:
        try:
            while True:
                while len(waiting) < 2 * threads and (not waiting or _held(waiting) < HELD_BYTES):
                    following = next(left, None)
                    if following is None:
                        break
                    number, item = following
                    fetching = pool.submit(_fetched, item, reader, memory, limits)
                    waiting.append((number, item, fetching))
                if not waiting:
                    return
                number, item, fetching = waiting.popleft()
                yield _row(number, item, fetching.result(), pipeline, memory)
        finally:
            for *_, fetching in waiting:
                fetching.cancel()
            reader.close()


@dataclass(frozen=True, slots=True)
class _Fetched:
    """An image on its way: ``outcome`` says what is known already, ``decoded`` is there if nothing is."""

    digest: bytes | None = None
    size: int | None = None
    outcome: str | None = None
    decoded: Decoded | None = None


def _held(waiting: Iterable[tuple[int, Item, Future[_Fetched]]]) -> int:
    """Bytes of the pixels that are decoded and not asked for yet."""
    done = (fetching.result().decoded for *_, fetching in waiting if fetching.done())
    return sum(decoded.image.nbytes for decoded in done if decoded is not None)


def _fetched(item: Item, reader: Reader, memory: Memory, limits: Limits) -> _Fetched:
    """Read, hash and decode, or say why not: an error belongs to its row."""
    digest, size = None, None
    try:
        content = reader.read(item)
        digest, size = hashlib.sha256(content).digest(), len(content)
        known = memory.get(digest)
        if known is not None:
            return _Fetched(digest, size, known)
        return _Fetched(digest, size, decoded=decode(content, limits))
    except UndecodableImageError as error:
        outcome = _failure(str(error).removeprefix("<memory>: "))
        if digest is not None:  # it would fail again
            memory.put(digest, outcome)
        return _Fetched(digest, size, outcome)
    except GammascopeError as error:  # an optional package is missing: true today
        return _Fetched(digest, size, _failure(str(error)))
    except MemoryError:
        return _Fetched(digest, size, _failure(NOT_ENOUGH_MEMORY))


def _row(number: int, item: Item, fetched: _Fetched, pipeline: Pipeline, memory: Memory) -> Row:
    outcome, digest = fetched.outcome, fetched.digest
    if fetched.decoded is not None and digest is not None:
        # Its twin may have been examined while this one was decoded.
        outcome = memory.get(digest)
        if outcome is None:
            outcome = _outcome(fetched.decoded, pipeline)
            if not outcome.startswith('{"error"'):
                memory.put(digest, outcome)
    return Row(
        number, shown(item.name), digest.hex() if digest else None, fetched.size, outcome or ""
    )


def _outcome(decoded: Decoded, pipeline: Pipeline) -> str:
    try:
        (report,) = pipeline.reports_of([(decoded, "")])
    except GammascopeError as error:
        return _failure(str(error))
    except MemoryError:
        return _failure(NOT_ENOUGH_MEMORY)
    plain = report.to_json()
    del plain["image"]
    return json.dumps(plain)


def _failure(reason: str) -> str:
    return json.dumps({"error": shown(reason)})


def _run(plan: Plan, pipeline: Pipeline) -> dict[str, Any]:
    """Return what must be the same for a scan to go on."""
    import gammascope

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
        "trust": pipeline.besides.trust is not None,
        "stability": pipeline.besides.stability,
        "profile": pipeline.profile,
        "network": pipeline.network.name,
    }


def _absolute(sources: Sequence[str]) -> list[str]:
    return [shown(name if is_remote(name) else Path(name).absolute()) for name in sources]
