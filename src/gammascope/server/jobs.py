"""Many files at once, answered later: accepted into memory, examined a few at a time, kept until they are fetched.

A webhook tells another server that a job is finished; only servers named at the start, never inside the network.
The message says which job and how it went; the results are fetched with the key that sent the job, so that nothing
about a picture leaves by this door. The name is resolved once and that very address is called, so it cannot change
between check and call. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import json
import logging
import re
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from gammascope.report import FORMAT
from gammascope.server import batching
from gammascope.server.batching import Engine
from gammascope.server.limits import ServerLimits
from gammascope.server.problems import Problem, problem_of
from gammascope.server.store import Results
from gammascope.server.telemetry import Figures, failure, log
from gammascope.server.uploads import Share, Upload

SECONDS: Final = 10.0
"""For one call, from connecting to the status line."""

PAUSES_S: Final = (0.0, 2.0, 10.0)
"""Before each try."""

_TARGET: Final = re.compile("[!-~]*")
"""Path and query of a URL, as they are sent: without spaces, and in ASCII (RFC 3986)."""

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
"""A gateway turns these into the IPv4 addresses that they end with (RFC 6052)."""

_PORTS: Final = {"http": 80, "https": 443}

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class UnreachableError(Exception):
    """The call was not made, or not answered with success."""


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet.

    >>> is_public(ipaddress.ip_address("10.0.0.1")), is_public(ipaddress.ip_address("9.9.9.9"))
    (False, True)
    """
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    if address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


class Webhooks:
    """Calls the addresses that jobs name.

    Args:
        hosts: Names that may be called, as ``example.org`` or ``example.org:8443``; without a port, those of http and
            https.
        reachable: Whether an address may be called.
        pauses_s: Before each try.
    """

    def __init__(
        self,
        hosts: Iterable[str] = (),
        reachable: Callable[[Address], bool] = is_public,
        pauses_s: Iterable[float] = PAUSES_S,
    ) -> None:
        self._hosts = {host.lower() for host in hosts}
        self._reachable, self._pauses_s = reachable, tuple(pauses_s)

    def check(self, url: str) -> None:
        """Refuse what will not be called.

        Raises:
            Problem: "webhook-refused".
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Problem("webhook-refused", f"The webhook is no URL: {error}.") from error
        host = (parts.hostname or "").lower()
        if parts.scheme not in _PORTS or not host:
            raise Problem("webhook-refused", "The webhook does not start with http:// or https://.")
        if parts.username is not None or parts.password is not None:
            raise Problem("webhook-refused", "The webhook holds a user name or a password.")
        if not _TARGET.fullmatch(parts.path + parts.query):
            raise Problem(
                "webhook-refused",
                "The webhook's path holds a space, a control character or a letter beyond ASCII: percent-encode it "
                "(a space is %20).",
            )
        usual = port is None or port == _PORTS[parts.scheme]
        if f"{host}:{port}" not in self._hosts and not (usual and host in self._hosts):
            raise Problem(
                "webhook-refused",
                "The webhook's host is not on this server's list (gammascope serve --webhook-host).",
            )

    def call(self, url: str, message: Mapping[str, Any]) -> bool:
        """Send a message; blocks. Returns whether it was taken."""
        reason = ""
        for pause in self._pauses_s:
            time.sleep(pause)
            try:
                self._post(urlsplit(url), json.dumps(message).encode())
            except (UnreachableError, OSError, http.client.HTTPException) as error:
                reason = type(error).__name__
                continue
            return True
        log("webhook-failed", tries=len(self._pauses_s), error=reason)
        return False

    def _post(self, url: SplitResult, body: bytes) -> None:
        host, port = url.hostname or "", url.port or _PORTS[url.scheme]
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
        connection.sock = socket.create_connection((self._address(host, port), port), SECONDS)
        try:
            if url.scheme == "https":
                context = ssl.create_default_context()
                connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            connection.request("POST", target, body, {"Content-Type": "application/json"})
            status = connection.getresponse().status
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise UnreachableError(f"status {status}")

    def _address(self, host: str, port: int) -> str:
        """Resolve a name; any address of it inside the network spoils them all."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in found]
        if not addresses or not all(self._reachable(address) for address in addresses):
            raise UnreachableError("not a public address")
        return str(addresses[0])


_FILES_AT_ONCE: Final = 4  # of each job in the queue, so that it leaves room for those who wait
_CALLS_AT_ONCE: Final = (
    4  # of webhooks, in threads of their own: a slow one must not keep others from their results
)
_CALLS_WAITING: Final = 32  # of one receiver; at the slowest, they are over in six minutes
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PAUSE_S: Final = 0.1  # before a file is offered again to a full queue


@dataclass(slots=True)
class Job:
    """One accepted batch.

    Attributes:
        id: Not to be guessed.
        owner: Name of the key that sent it; no other key sees it.
        files: How many.
        webhook: Where to tell that it is finished; "" for nowhere.
        accepted: When, seconds since 1970.
        done: How many files have an outcome.
        results: One row for each file, in order, once all have one.
    """

    id: str
    owner: str
    files: int
    webhook: str
    accepted: float
    done: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether every file has an outcome."""
        return len(self.results) == self.files

    def plain(self) -> dict[str, Any]:
        """Return the job as the server sends it."""
        row: dict[str, Any] = {
            "format": FORMAT,
            "id": self.id,
            "status": "finished" if self.finished else "accepted",
            "accepted": datetime.fromtimestamp(self.accepted, UTC).isoformat(timespec="seconds"),
            "files": self.files,
            "done": self.done,
        }
        if self.finished:
            row["failed"] = sum("problem" in result for result in self.results)
            row["results"] = self.results
        return row


class Jobs:
    """All jobs of this server. Used by the event loop alone.

    Args:
        engine: Examines.
        results: Keeps what is finished, also beyond the end of the process.
        webhooks: Tells of it.
        limits: Bounds.
        figures: Told what happens.
    """

    def __init__(
        self,
        engine: Engine,
        results: Results,
        webhooks: Webhooks,
        limits: ServerLimits,
        figures: Figures,
    ) -> None:
        self._engine, self._results, self._webhooks = engine, results, webhooks
        self._limits, self._figures = limits, figures
        self._open: dict[str, Job] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._telling: dict[asyncio.Task[None], str] = {}  # and whom
        self._callers = ThreadPoolExecutor(_CALLS_AT_ONCE, "webhook")

    @property
    def open(self) -> int:
        """Jobs accepted and not finished; one whose webhook waits for its call is finished."""
        return sum(not job.finished for job in self._open.values())

    def refuse_if_full(self) -> None:
        """Raise "queue-full" if there are as many jobs as allowed.

        Raises:
            Problem: "queue-full".
        """
        if self.open >= self._limits.jobs:
            detail = f"{self.open} of at most {self._limits.jobs} jobs are not finished."
            raise Problem("queue-full", detail, retry_after=5)

    async def accept(
        self, owner: str, uploads: Sequence[Upload], webhook: str, share: Share
    ) -> Job:
        """Take a job over, with the memory its uploads are in; every server that shares results knows it from then on.

        Raises:
            Problem: "queue-full", or "webhook-refused".
        """
        self.refuse_if_full()
        if webhook:
            self._webhooks.check(webhook)
            self._refuse_if_slow(webhook)
        job = Job(secrets.token_urlsafe(18), owner, len(uploads), webhook, time.time())
        self._open[job.id] = job
        share.kept = True
        # Should the process die, whoever asks learns that the job is lost.
        noted = asyncio.create_task(asyncio.to_thread(self._keep, job))
        task = asyncio.create_task(self._run(job, list(uploads), share, noted))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        self._figures.jobs.labels("accepted").inc()
        await asyncio.shield(
            noted
        )  # or a balancer may send who asks at once to a server that knows nothing
        return job

    def get(self, job: str, owner: str) -> dict[str, Any] | None:
        """Return a job of this owner as plain types, or None.

        One that another process accepted is "accepted" until its time is over, and then "lost".

        Raises:
            Problem: "results-unreadable" if the database fails; "job-outdated" if an older version finished the job,
                whose verdicts mean other things.
        """
        if not _ID.fullmatch(job):  # not one of ours; databases differ in which text they take
            return None
        here = self._open.get(job)
        if here is not None:
            return here.plain() if here.owner == owner else None
        try:
            kept = self._results.get_job(job, owner)
        except Exception as error:  # drivers have types of their own
            log("job-unreadable", logging.WARNING, **failure(error))
            raise Problem("results-unreadable", "Ask again in a moment.", retry_after=5) from error
        if kept is None:
            return None
        if kept["status"] == "finished":
            if kept.get("format") != FORMAT:
                raise Problem(
                    "job-outdated", f"Its results {_written_as(kept)}: send the files again."
                )
            return kept
        accepted = datetime.fromisoformat(kept["accepted"]).timestamp()
        over = time.time() > accepted + self._limits.job_seconds + 60
        # What no file was answered in is the same in every format.
        return kept | {"format": FORMAT, "status": "lost" if over else "accepted"}

    async def finish(self) -> None:
        """Wait until every accepted job is finished and told of."""
        while unfinished := {*self._running, *self._telling}:
            await asyncio.wait(unfinished)
        self._callers.shutdown()

    async def _run(
        self, job: Job, uploads: list[Upload], share: Share, noted: asyncio.Task[bool]
    ) -> None:
        until = time.monotonic() + self._limits.job_seconds
        await noted
        turns = asyncio.Semaphore(_FILES_AT_ONCE)
        rows = await asyncio.gather(
            *(self._examined(job, upload, turns, until) for upload in uploads)
        )
        job.results = list(rows)
        uploads.clear()
        share.give_back()
        finished = await asyncio.to_thread(self._keep, job)
        if finished:
            del self._open[job.id]
        else:  # what cannot be written stays in memory as long as it would have stayed on disk
            asyncio.get_running_loop().call_later(
                self._limits.job_kept_seconds, self._open.pop, job.id, None
            )
        self._figures.jobs.labels("finished").inc()
        log(
            "job", files=job.files, failed=job.plain()["failed"], seconds=time.time() - job.accepted
        )
        if job.webhook:
            message = {key: value for key, value in job.plain().items() if key != "results"}
            telling = asyncio.create_task(self._tell(job.webhook, message))
            self._telling[telling] = _receiver(job.webhook)
            telling.add_done_callback(self._telling.pop)

    def _refuse_if_slow(self, webhook: str) -> None:
        waiting = list(self._telling.values()).count(_receiver(webhook))
        if waiting >= _CALLS_WAITING:
            detail = f"{waiting} finished jobs wait until the webhook's host answers; send this one without a webhook."
            raise Problem("queue-full", detail, retry_after=30)

    async def _tell(self, webhook: str, message: Mapping[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        try:
            taken = await loop.run_in_executor(self._callers, self._webhooks.call, webhook, message)
        except Exception as error:  # a bug of ours, which nothing that awaits this task would log
            log("webhook-failed", logging.ERROR, **failure(error))
            taken = False
        self._figures.jobs.labels("told" if taken else "not-told").inc()

    async def _examined(
        self, job: Job, upload: Upload, turns: asyncio.Semaphore, until: float
    ) -> dict[str, Any]:
        try:
            async with turns, asyncio.timeout(until - time.monotonic()):
                row = await self._answer(upload)
            return batching.shown(row, upload.name, masks=True, labels_only=False)
        except TimeoutError:
            detail = f"More than {self._limits.job_seconds:g} seconds after the job was accepted."
            return failed(upload.name, Problem("out-of-time", detail))
        except Exception as error:  # belongs to its file
            return failed(upload.name, error)
        finally:
            job.done += 1

    async def _answer(self, upload: Upload) -> dict[str, Any]:
        if upload.problem is not None:
            raise upload.problem
        while True:
            try:
                future = self._engine.submit([upload.content])[0]
            except Problem as problem:
                if problem.kind != "queue-full":
                    raise
                await asyncio.sleep(_PAUSE_S)
                continue
            return await asyncio.wrap_future(future)

    def _keep(self, job: Job) -> bool:
        try:
            expires = time.time() + self._limits.job_kept_seconds
            if not job.finished:
                expires += self._limits.job_seconds
            self._results.put_job(job.id, job.owner, job.plain(), expires)
        except Exception as error:  # drivers have types of their own
            log("job-unwritable", logging.WARNING, **failure(error))
            return False
        return True


def _receiver(webhook: str) -> str:
    return urlsplit(webhook).hostname or ""


def _written_as(kept: Mapping[str, Any]) -> str:
    return (
        f"have format {kept['format']}, and this server reads {FORMAT}"
        if "format" in kept
        else f"were written before answers had formats, and this server reads format {FORMAT}"
    )


def failed(name: str, error: BaseException) -> dict[str, Any]:
    """Return the row of a file that could not be examined; bugs are logged."""
    problem = problem_of(error)
    if problem.status == 500:
        log("file-failed", logging.ERROR, **failure(error))
    return {"image": name, "problem": problem.document()}
