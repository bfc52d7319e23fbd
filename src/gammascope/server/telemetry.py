"""What a server writes about itself: figures for Prometheus, and one JSON object a line in its log.

Neither holds pictures, file names, keys or addresses.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from gammascope import __version__

MEDIA_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Figures:
    """All that is counted, in a registry of its own, so that several servers may share a process."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "gammascope_requests", "Requests answered.", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "gammascope_request_seconds", "From first byte to answer.", ("route",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.files = Counter(
            "gammascope_files", "Files by outcome: examined, known, or a problem.", ("outcome",),
            registry=registry,
        )  # fmt: skip
        self.verdicts = Counter(
            "gammascope_verdicts", "Answers to the main question.", ("verdict",), registry=registry
        )
        self.batch_views = Histogram(
            "gammascope_batch_views", "Views in one batch.", buckets=_SIZES, registry=registry
        )
        self.batch_images = Histogram(
            "gammascope_batch_images", "Pictures in one batch.", buckets=_SIZES, registry=registry
        )
        self.jobs = Counter("gammascope_jobs", "Jobs by event.", ("event",), registry=registry)
        Gauge("gammascope_build", "Version.", ("version",), registry=registry).labels(
            __version__
        ).set(1)

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Show a number that is asked for whenever the figures are."""
        Gauge(f"gammascope_{name}", meaning, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self.registry)


LOGGER: Final = logging.getLogger("gammascope.server")

_FOREIGN: Final = ("uvicorn", "uvicorn.error", "uvicorn.asgi")


class JsonLines(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; of an exception its type and place, not its text, which may name a file."""
        fields: dict[str, Any] = getattr(record, "fields", {})
        event = record.getMessage() if fields or record.name == LOGGER.name else "server"
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": event,
        }
        if event == "server":
            line["message"] = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            line |= failure(record.exc_info[1])
        return json.dumps(line | fields, ensure_ascii=True, default=str)


def log(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write one line."""
    LOGGER.log(level, event, extra={"fields": fields})


def failure(error: BaseException) -> dict[str, Any]:
    """Say which error it was and where, from the outermost call to the innermost."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [
        f"{frame.filename.rsplit('/', 2)[-1]}:{frame.lineno} {frame.name}" for frame in frames
    ]
    return {"error": type(error).__name__, "where": places[-12:]}


def start_logging() -> None:
    """Send our lines and those of uvicorn to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name in (LOGGER.name, *_FOREIGN):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == LOGGER.name else logging.WARNING)
