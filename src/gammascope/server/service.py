"""The addresses of the server, and what each of them does.

The page for people is a few files of our own, read once at the start, under a policy that allows nothing else; viewer,
words and style are those of ``gammascope scan --report``. A stop has two steps: readiness says no, and later
connections are refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from types import FrameType
from typing import Annotated, Any, Final

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gammascope import __version__
from gammascope.detection.opinions import Detectors
from gammascope.errors import did_you_mean
from gammascope.report import FORMAT, without_numbers
from gammascope.server import batching, problems, schema, telemetry
from gammascope.server.access import Caller, Guard, Keys
from gammascope.server.batching import Engine
from gammascope.server.jobs import Jobs, Webhooks, failed
from gammascope.server.limits import ServerLimits
from gammascope.server.problems import Problem, problem_of
from gammascope.server.store import Database, Results
from gammascope.server.telemetry import Figures, failure, log
from gammascope.server.uploads import FormLimits, Held, Upload, read_form

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)

_PRUNED_EVERY_S: Final = 600.0

_SHARED: Final = (
    "page.css", "words.js", "opinions.js", "viewer.js", "findings.js", "sheet.js"
)  # fmt: skip
_OWN: Final = ("visit.css", "masks.js", "upload.js", "visit.js")
_KINDS: Final = {"css": "text/css", "js": "text/javascript", "html": "text/html"}


def page_routes() -> list[Route]:
    """Return the addresses of the page and its parts."""
    shared, own = resources.files("gammascope.pages") / "web", resources.files(__package__) / "web"
    parts = {name: (shared / name).read_bytes() for name in _SHARED}
    parts |= {name: (own / name).read_bytes() for name in _OWN}
    viewer = (shared / "viewer.html").read_text("utf-8")
    page = (own / "visit.html").read_text("utf-8").replace("{{viewer}}", viewer).encode()

    async def index(request: Request) -> Response:
        return _sent(request, "visit.html", page)

    async def part(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in parts:
            return Problem("not-found", "The page has no such part.").response()
        return _sent(request, name, parts[name])

    return [Route("/", index, name="page"), Route("/web/{name}", part, name="part of the page")]


def _sent(request: Request, name: str, content: bytes) -> Response:
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-cache",
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    kind = _KINDS[name.rpartition(".")[2]]
    return Response(content, headers=headers, media_type=f"{kind}; charset=utf-8")


router = APIRouter()


@dataclass(frozen=True, slots=True)
class Parts:
    """What a server is made of.

    Attributes:
        detectors: Answer; the first speaks for all.
        database: Keeps results.
        limits: Bounds.
        keys: Who may ask.
        webhooks: Whom to tell of finished jobs.
        hosts: Names the server answers to; None: any.
    """

    detectors: Detectors
    database: Database
    limits: ServerLimits
    keys: Keys
    webhooks: Webhooks
    hosts: frozenset[str] | None = None


class Service:
    """A running server's state."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.limits, self.keys = parts, parts.limits, parts.keys
        self.figures = Figures()
        self.results = Results(
            parts.database,
            parts.detectors.key,
            parts.limits.results_kept,
            parts.limits.result_days,
        )
        self.engine = Engine(parts.detectors, self.results, parts.limits, self.figures)
        self.jobs = Jobs(self.engine, self.results, parts.webhooks, parts.limits, self.figures)
        self.held = Held(parts.limits.held_bytes)
        self.stopping = False
        self.figures.watch("queue_files", "Files not yet answered.", lambda: self.engine.accepted)
        self.figures.watch("open_jobs", "Jobs not yet finished.", lambda: self.jobs.open)
        self.figures.watch("held_bytes", "Uploads in memory.", lambda: self.held.bytes)

    async def prune(self) -> None:
        """Delete what has expired, again and again: a server that has nothing to do must not keep it either."""
        while True:
            await asyncio.sleep(_PRUNED_EVERY_S)
            try:
                await asyncio.to_thread(self.results.prune)
            except Exception as error:  # drivers have types of their own
                log("results-unwritable", logging.WARNING, **failure(error))

    async def close(self) -> None:
        """Finish what was accepted, then release everything."""
        self.stopping = True
        await self.jobs.finish()
        await asyncio.to_thread(self.engine.close)
        await asyncio.to_thread(self.results.close)


def create_app(parts: Parts) -> FastAPI:
    """Build the application; its threads run from here on and end with its lifespan."""
    service = Service(parts)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        pruning = asyncio.create_task(service.prune())
        yield
        pruning.cancel()
        await service.close()

    app = FastAPI(
        title="gammascope",
        version=__version__,
        summary="Tells real photographs from AI-generated and edited ones, and shows where.",
        lifespan=lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # another address is another address, and a redirect would need the body twice
    )
    app.state.service = service
    app.include_router(router)
    app.router.routes.extend(page_routes())
    app.add_exception_handler(Problem, problems.answer_problem)
    app.add_exception_handler(RequestValidationError, problems.answer_invalid)
    app.add_exception_handler(HTTPException, problems.answer_http)
    app.add_middleware(Guard, figures=service.figures, hosts=parts.hosts)
    return app


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


# For the description only; ``Keys`` reads the headers itself.
_BEARER = HTTPBearer(auto_error=False, description="Where the server asks for keys.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same in a header.")


def _caller(
    request: Request,
    _bearer: Annotated[Any, Depends(_BEARER)],
    _header: Annotated[Any, Depends(_HEADER)],
) -> Caller:
    caller = _service(request).keys.caller(request)
    if caller.name:
        request.state.facts["key"] = caller.name
    return caller


def _refuse_unknown(request: Request) -> None:
    """Refuse a query parameter that an address does not know: a mistyped one would change nothing, silently."""
    known = sorted(field.alias for field in request.scope["route"].dependant.query_params)
    for name in request.query_params:
        if name not in known:
            raise Problem(
                "invalid-parameter",
                f"There is no parameter {name!r} here.{did_you_mean(name, known)} Known: {', '.join(known) or 'none'}.",
            )


_ONLY_KNOWN = [Depends(_refuse_unknown)]

Serving = Annotated[Service, Depends(_service)]
Asking = Annotated[Caller, Depends(_caller)]


@router.post(
    "/v1/detect",
    dependencies=_ONLY_KNOWN,
    summary="Examine pictures now",
    responses=schema.responses({200: {"model": schema.DetectShape}}, *schema.UPLOAD_PROBLEMS),
    openapi_extra=schema.form(webhook=False),
)
async def detect(
    request: Request,
    service: Serving,
    caller: Asking,
    masks: bool = False,
    quiet_masks: bool = False,
    labels_only: bool = False,
) -> Response:
    """Answer one report for each file, in order; a file that cannot be examined gets a problem instead.

    If no file can be examined, the answer is a problem itself: that of the file if there was one, else
    "no-file-examined" with all of them. ``masks`` adds the maps of suspicious regions to the evidence, and with
    ``quiet_masks`` also those beside "no sign", each marked "on_request": something is always marked, so show them only
    to who asks. ``labels_only`` leaves out every number of confidence. Where several detectors answer, the row is the
    first one's, with the others' reports in ``second_opinions`` and what they disagree on in ``differences``.
    """
    caller.take(0)
    service.engine.refuse_if_full()
    limits = service.limits
    with service.held.share() as share:
        bounds = FormLimits(
            limits.largest_request, limits.file_bytes, limits.files, limits.receive_seconds
        )
        form = await read_form(request, bounds, share)
        caller.take(len(form.files))
        outcomes = await _outcomes(service, form.files, request)
    rows = [
        failed(upload.name, outcome)
        if isinstance(outcome, BaseException)
        else batching.shown(
            outcome, upload.name, masks=masks, quiet_masks=quiet_masks, labels_only=labels_only
        )
        for upload, outcome in zip(form.files, outcomes, strict=True)
    ]
    request.state.facts.update(files=len(rows), failed=sum("problem" in row for row in rows))
    problem = _problem_of_all(outcomes, rows)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            service.figures.files.labels(problem_of(outcome).kind).inc()
    answer = {"format": FORMAT, "version": __version__, "results": rows}
    return problem.response() if problem else JSONResponse(answer)


@router.post(
    "/v1/jobs",
    dependencies=_ONLY_KNOWN,
    status_code=202,
    summary="Examine pictures later",
    responses=schema.responses(
        {202: {"model": schema.JobShape}}, *schema.UPLOAD_PROBLEMS, "webhook-refused"
    ),
    openapi_extra=schema.form(webhook=True),
)
async def accept_job(request: Request, service: Serving, caller: Asking) -> Response:
    """Accept many files at once; ``Location`` says where to ask for the results, masks included."""
    caller.take(0)
    service.engine.refuse_if_full(files=0)
    service.jobs.refuse_if_full()
    limits = service.limits
    with service.held.share() as share:
        bounds = FormLimits(
            limits.largest_job,
            limits.file_bytes,
            limits.job_files,
            limits.receive_seconds,
            frozenset(("webhook",)),
        )
        form = await read_form(request, bounds, share)
        caller.take(len(form.files))
        job = await service.jobs.accept(
            caller.name, form.files, form.fields.get("webhook", ""), share
        )
    request.state.facts.update(files=job.files)
    return JSONResponse(job.plain(), 202, {"Location": f"/v1/jobs/{job.id}"})


@router.get(
    "/v1/jobs/{job}",
    dependencies=_ONLY_KNOWN,
    summary="Ask for a job",
    responses=schema.responses(
        {200: {"model": schema.JobShape}},
        "not-authenticated",
        "not-found",
        "wrong-host",
        "job-outdated",
        "invalid-parameter",
        "results-unreadable",
    ),
)
async def get_job(
    job: str, service: Serving, caller: Asking, labels_only: bool = False
) -> Response:
    """Say how far a job is, and give its results once it is finished; only to the key that sent it.

    ``labels_only`` leaves out every number of confidence.
    """
    found = await asyncio.to_thread(service.jobs.get, job, caller.name)
    if found is None:
        detail = "No such job of this key, or its results have expired."
        raise Problem("not-found", detail)
    if labels_only and "results" in found:
        found = found | {"results": [without_numbers(row) for row in found["results"]]}
    headers = {} if found["status"] != "accepted" else {"Retry-After": "1"}
    return JSONResponse(found, headers=headers)


@router.get(
    "/v1/methods",
    dependencies=_ONLY_KNOWN,
    summary="List the detection methods",
    responses=schema.responses(
        {200: {"model": schema.MethodsShape}},
        "not-authenticated",
        "wrong-host",
        "invalid-parameter",
    ),
)
async def methods(service: Serving, caller: Asking) -> Response:  # noqa: ARG001 - only to ask for a key
    """Say which detectors answer here with which bounds, and which methods could be used here instead.

    What stands beside the bounds is the first detector's. The embedded detector needs no torch, all others do: without
    it there are no others.
    """
    detectors, limits = service.parts.detectors, service.limits
    every = [
        {
            "method": one.facts.method,
            "weights_sha256": one.weights_sha256,
            "calibrated": bool(one.facts.calibration),
            "profile": one.profile,
        }
        for one in detectors.pipelines
    ]
    serving = every[0] | {
        "detectors": [
            {"name": name} | one for name, one in zip(detectors.names, every, strict=True)
        ],
        "version": __version__,
        "file_bytes": limits.file_bytes,
        "request_bytes": limits.largest_request,
        "pixels": limits.pixels,
        "files": limits.files,
        "job_files": limits.job_files,
    }
    rows = await asyncio.to_thread(_usable_methods)
    return JSONResponse({"format": FORMAT, "serving": serving, "methods": rows})


def _usable_methods() -> list[dict[str, Any]]:
    if find_spec("torch") is None:
        return []
    from gammascope.detection import method_list  # imports torch

    return method_list.rows(lambda reason: log("method left out", logging.WARNING, reason=reason))


@router.get("/healthz", summary="Is it alive", responses=schema.responses({}, "wrong-host"))
async def health() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="May it be asked",
    responses=schema.responses({}, "wrong-host", "shutting-down"),
)
async def ready(service: Serving) -> dict[str, str]:
    """Say whether new requests are welcome: no once a stop was asked for."""
    if service.stopping:
        raise Problem("shutting-down", "Ask another one.", retry_after=5)
    return {"status": "ready"}


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    responses=schema.responses(
        {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        "not-authenticated",
        "wrong-host",
    ),
)
async def metrics(service: Serving, caller: Asking) -> Response:  # noqa: ARG001 - only to ask for a key
    """Give all figures in Prometheus' text format."""
    return Response(service.figures.text(), media_type=telemetry.MEDIA_TYPE)


async def _outcomes(
    service: Service, uploads: Sequence[Upload], request: Request
) -> list[dict[str, Any] | BaseException]:
    """Examine uploads together; what is not there in time, or when the client has gone, is given up."""
    whole = [upload for upload in uploads if upload.problem is None]
    accepted = service.engine.submit([upload.content for upload in whole])
    waiting = [asyncio.wrap_future(future) for future in accepted]
    gone = asyncio.create_task(_gone(request))
    seconds = service.limits.answer_seconds
    done: set[asyncio.Future[Any]] = set()
    try:
        async with asyncio.timeout(seconds):
            left: set[asyncio.Future[Any]] = set(waiting)
            while left and gone not in done:
                some, _ = await asyncio.wait({*left, gone}, return_when=asyncio.FIRST_COMPLETED)
                done |= some
                left -= some
    except TimeoutError:
        pass
    finally:
        gone.cancel()
    found = iter(waiting)
    late = Problem("out-of-time", f"More than {seconds:g} seconds.", retry_after=5)
    return [upload.problem or _outcome(next(found), late) for upload in uploads]


def _outcome(future: asyncio.Future[Any], late: Problem) -> dict[str, Any] | BaseException:
    if not future.done():
        # One that runs already goes on, and its result is kept for the next time.
        future.cancel()
        return late
    error = future.exception()
    if error is not None:
        return error
    row: dict[str, Any] = future.result()
    return row


async def _gone(request: Request) -> None:
    """Wait until the client has closed the connection."""
    with suppress(RuntimeError):
        while (await request.receive())["type"] != "http.disconnect":
            pass


def _problem_of_all(
    outcomes: Sequence[dict[str, Any] | BaseException], rows: Sequence[dict[str, Any]]
) -> Problem | None:
    """Return what is wrong with the request as a whole: nothing if any of its files was examined."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if len(errors) < len(outcomes):
        return None
    if len(errors) == 1:
        return problem_of(errors[0])
    detail = f"{len(errors)} files, each with a problem of its own."
    return Problem("no-file-examined", detail, members={"results": list(rows)})


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which tells load balancers before it stops listening.

    Args:
        config: uvicorn's.
        service: Told at once, so that ``/readyz`` says no.
        drain_seconds: Between the two steps; a second signal cuts it short.
    """

    def __init__(self, config: uvicorn.Config, service: Service, drain_seconds: float) -> None:
        super().__init__(config)
        self._service, self._drain_seconds = service, drain_seconds
        self._drain: threading.Timer | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        log("stopping", signal=sig, queue_files=self._service.engine.accepted)
        first, self._service.stopping = not self._service.stopping, True
        if first and self._drain_seconds:
            self._drain = threading.Timer(self._drain_seconds, super().handle_exit, (sig, frame))
            self._drain.daemon = True
            self._drain.start()
        else:
            if self._drain is not None:
                # It would count as one more signal, after which uvicorn leaves at once, without the accepted jobs.
                self._drain.cancel()
            super().handle_exit(sig, frame)
