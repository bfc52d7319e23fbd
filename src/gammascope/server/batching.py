"""From many requests to common batches: a bounded queue, threads that decode, one thread for the network.

A picture's way: accepted (or refused at once), looked up among known results, decoded, gathered with others until a
batch is full or no other picture is on the way, examined, written down, answered.

The answer is the JSON of ``gammascope scan --json``, with masks as small PNG on request.
"""

from __future__ import annotations

import base64
import io
import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from PIL import Image as PillowImage

from gammascope import machine
from gammascope.detection.opinions import Detectors, opinions_json
from gammascope.imaging import views
from gammascope.imaging.decode import Decoded, decode
from gammascope.pages.report_page import fitted, shrunk_map
from gammascope.report import Evidence, Report, without_numbers
from gammascope.server.limits import ServerLimits
from gammascope.server.problems import Problem
from gammascope.server.store import Results
from gammascope.server.telemetry import Figures

MASK_SIDE_PX: Final = 384
"""Longer side of a mask that is sent; the network's own grid is coarser still."""

QUIET_MASK_SIDE_PX: Final = 192
"""The same beside an answer of "no": nearly every picture has such a mask, all are kept, and few are looked at."""

_PACKED: Final = 4
"""How hard masks are compressed: 2.8 instead of 8.3 CPU-ms for one at zlib's usual 6, and 7 % larger."""


def plain(reports: Mapping[str, Report]) -> dict[str, Any]:
    """Return all reports on one picture, by their detectors' names, as plain types with their masks."""
    return opinions_json(reports, _plain)


def shown(
    row: dict[str, Any], name: str, *, masks: bool, quiet_masks: bool = False, labels_only: bool
) -> dict[str, Any]:
    """Return what ``plain`` gave under a file's own name, with or without masks and numbers of confidence.

    Args:
        row: Of one picture.
        name: Of its file.
        masks: Keep those beside answers that are not "no".
        quiet_masks: Keep the others too.
        labels_only: Leave out all numbers of confidence.
    """
    named = (without_numbers(row) if labels_only else row) | {"image": name}

    def kept(opinion: dict[str, Any]) -> dict[str, Any]:
        evidence = [_unmasked(one, masks, quiet_masks) for one in opinion["evidence"]]
        return opinion | {"evidence": evidence}

    if "second_opinions" in named:
        named["second_opinions"] = [kept(one) for one in named["second_opinions"]]
    return kept(named)


def _plain(report: Report) -> dict[str, Any]:
    row = report.to_json()
    for described, evidence in zip(row["evidence"], report.evidence, strict=True):
        if evidence.map is not None:
            described["mask"] = _mask(evidence, evidence.map)
    return row


def _unmasked(evidence: dict[str, Any], masks: bool, quiet_masks: bool) -> dict[str, Any]:
    """Leave a mask out that was not asked for."""
    mask = evidence.get("mask")
    if mask is None or (masks and (quiet_masks or not mask.get("on_request"))):
        return evidence
    return {key: value for key, value in evidence.items() if key != "mask"}


def _mask(evidence: Evidence, values: Float[np.ndarray, "h w"]) -> dict[str, Any]:
    """Encode a map as grey PNG with alpha: 0..255 stands for 0..1, transparent for not examined."""
    side = QUIET_MASK_SIDE_PX if evidence.on_request else MASK_SIDE_PX
    width, height = fitted((values.shape[1], values.shape[0]), side)
    small = shrunk_map(values, (width, height))
    seen = np.isfinite(small)
    grey = np.rint(255 * np.clip(np.where(seen, small, 0), 0, 1)).astype(np.uint8)
    pixels = np.stack([grey, np.where(seen, 255, 0).astype(np.uint8)], axis=2)
    data = io.BytesIO()
    PillowImage.fromarray(pixels, "LA").save(data, "PNG", compress_level=_PACKED)
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    quiet = {"on_request": True} if evidence.on_request else {}
    return {"width": width, "height": height, "png": encoded} | quiet


_LONGEST_WAIT_S: Final = 60
_PACE_MEMORY: Final = 0.9  # share of the old pace in the running average


@dataclass(slots=True, eq=False)
class _Task:
    """One picture on its way."""

    content: bytes
    future: Future[dict[str, Any]]
    key: str = ""
    decoded: Decoded | None = None
    views: int = 0

    @property
    def pixels(self) -> int:
        return 0 if self.decoded is None else self.decoded.image.size // 3


class Engine:
    """Examines pictures of many callers together. Every method may be called from any thread.

    Args:
        detectors: Answer, one after another; used by one thread only.
        results: What was examined before.
        limits: Bounds.
        figures: Told what happens.
    """

    def __init__(
        self, detectors: Detectors, results: Results, limits: ServerLimits, figures: Figures
    ) -> None:
        self._detectors, self._results = detectors, results
        self._limits, self._figures = limits, figures
        self._state = threading.Condition()
        self._accepted = 0  # not answered yet
        self._decoding = 0
        self._ready: deque[_Task] = deque()
        self._ready_bytes = 0
        self._pace_s = 0.1
        self._closing = self._stopped = False
        self._decoders = ThreadPoolExecutor(limits.decoders, "decode")
        self._writer = ThreadPoolExecutor(1, "write")
        machine.one_thread_for_products()
        self._network = threading.Thread(target=self._examine_all, name="network", daemon=True)
        self._network.start()

    @property
    def accepted(self) -> int:
        """Pictures accepted and not yet answered."""
        return self._accepted

    def refuse_if_full(self, files: int = 1) -> None:
        """Raise what ``submit`` would, before anybody goes to the trouble of reading an upload.

        Raises:
            Problem: "queue-full" or "shutting-down".
        """
        with self._state:
            self._refuse(files)

    def submit(self, contents: Sequence[bytes]) -> list[Future[dict[str, Any]]]:
        """Accept files, all of them or none.

        A future that is cancelled before its picture is decoded costs nothing more: its content is released at once.

        Returns:
            For each file the rows of ``answers.plain``, or what the decoder raises.

        Raises:
            Problem: "queue-full" with the time to wait, or "shutting-down".
        """
        with self._state:
            self._refuse(len(contents))
            self._accepted += len(contents)
        tasks = [_Task(content, Future()) for content in contents]
        for task in tasks:
            task.future.add_done_callback(partial(self._answered, task))
            self._decoders.submit(self._prepare, task)
        return [task.future for task in tasks]

    def close(self) -> None:
        """Answer what was accepted, then stop; nothing new is accepted meanwhile."""
        with self._state:
            self._closing = True
            self._state.wait_for(lambda: self._accepted == 0)
            self._stopped = True
            self._state.notify_all()
        self._network.join()
        self._decoders.shutdown()
        self._writer.shutdown()

    def _refuse(self, files: int) -> None:
        if self._closing:
            raise Problem("shutting-down", "Ask again in a moment.", retry_after=5)
        if self._accepted + files > self._limits.queue_files:
            wait = min(_LONGEST_WAIT_S, max(1, math.ceil(self._accepted * self._pace_s)))
            detail = f"{self._accepted} of at most {self._limits.queue_files} files are waiting."
            raise Problem("queue-full", detail, retry_after=wait)

    def _answered(self, task: _Task, _: Future[dict[str, Any]]) -> None:
        # One that was cancelled stays in the decoders' queue until its turn, when its caller's memory is long released.
        task.content = b""
        with self._state:
            self._accepted -= 1
            self._state.notify_all()

    def _prepare(self, task: _Task) -> None:
        """Look a content up, or decode it."""
        with self._state:
            self._state.wait_for(lambda: self._ready_bytes < self._limits.decoded_bytes)
            # Not before: until here its caller may cancel it, and its content is released.
            if not task.future.set_running_or_notify_cancel():
                return
            self._decoding += 1
        try:
            task.key = self._results.key(task.content)
            known = self._results.get(task.key)
            if known is None:
                self._decode(task)
            else:
                self._figures.files.labels("known").inc()
                task.future.set_result(known)
        except BaseException as error:  # belongs to whoever sent the file
            task.future.set_exception(error)
        finally:
            with self._state:
                self._decoding -= 1
                self._state.notify_all()

    def _decode(self, task: _Task) -> None:
        task.decoded = decode(task.content, self._limits.decoding)
        task.content = b""
        height, width = task.decoded.image.shape[:2]
        # No network gets more at once than its own views: they take turns.
        task.views = max(
            len(views.places_of((width, height), one.view)) for one in self._detectors.pipelines
        )
        with self._state:
            self._ready.append(task)
            self._ready_bytes += task.decoded.image.nbytes

    def _examine_all(self) -> None:
        while batch := self._next_batch():
            start = time.perf_counter()
            outcomes = self._examined(batch)
            seconds = (time.perf_counter() - start) / len(batch)
            self._pace_s = _PACE_MEMORY * self._pace_s + (1 - _PACE_MEMORY) * seconds
            self._figures.batch_images.observe(len(batch))
            self._figures.batch_views.observe(sum(task.views for task in batch))
            for task, outcome in zip(batch, outcomes, strict=True):
                self._let_go(task)
                self._writer.submit(self._write, task, outcome)

    def _next_batch(self) -> list[_Task]:
        """Wait for pictures and take as many as go together; none: the end."""
        with self._state:
            self._state.wait_for(lambda: self._ready or self._stopped)
            until = time.monotonic() + self._limits.batch_wait_seconds
            while (
                self._decoding
                and sum(task.views for task in self._ready) < self._limits.batch_views
            ):
                left = until - time.monotonic()
                if left <= 0 or not self._state.wait(left):
                    break
            batch: list[_Task] = []
            while self._ready and self._fits(batch, self._ready[0]):
                batch.append(self._ready.popleft())
            return batch

    def _fits(self, batch: Sequence[_Task], task: _Task) -> bool:
        if not batch:
            return True
        gathered = sum(one.views for one in batch)
        pixels = sum(one.pixels for one in batch) + task.pixels
        return gathered < self._limits.batch_views and pixels <= self._limits.batch_pixels

    def _examined(self, batch: Sequence[_Task]) -> list[Mapping[str, Report] | BaseException]:
        pictures = [(task.decoded, "") for task in batch if task.decoded is not None]
        try:
            each = [one.reports_of(pictures) for one in self._detectors.pipelines]
            return [self._detectors.named(reports) for reports in zip(*each, strict=True)]
        except BaseException as error:  # belongs to a file, and the thread must live on
            if len(batch) == 1:
                return [error]
        # One of them cannot be examined: the others must not suffer from its company.
        return [outcome for task in batch for outcome in self._examined([task])]

    def _let_go(self, task: _Task) -> None:
        with self._state:
            if task.decoded is not None:
                self._ready_bytes -= task.decoded.image.nbytes
            task.decoded = None
            self._state.notify_all()

    def _write(self, task: _Task, outcome: Mapping[str, Report] | BaseException) -> None:
        if isinstance(outcome, BaseException):
            task.future.set_exception(outcome)
            return
        try:
            row = plain(outcome)
            self._results.put(task.key, row)
        except BaseException as error:  # belongs to whoever sent the file
            task.future.set_exception(error)
            return
        self._figures.files.labels("examined").inc()
        self._figures.verdicts.labels(row["verdict"]).inc()
        task.future.set_result(row)
