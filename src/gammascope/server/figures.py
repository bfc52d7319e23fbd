"""Figures about a running server, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

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
