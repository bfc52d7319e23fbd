"""Starting and stopping: what may listen where, the socket, the signals."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gammascope.detection.opinions import Detectors
from gammascope.detection.pipeline import Besides
from gammascope.errors import MissingExtraError, RecipeError

if TYPE_CHECKING:
    from gammascope.detection.pipeline import Pipeline
    from gammascope.server.service import Parts

_BACKLOG = 1024  # connections that wait to be accepted

BESIDES = Besides(quiet_maps=True)
"""What a server's reports say besides the verdict. Maps beside "no" cost little, and wait until they are asked for."""

LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]"))


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said.

    Attributes:
        host: Address or name to listen on.
        port: 0 for any free one.
        keys: File of API keys; None: none are needed.
        insecure_no_keys: Listen beyond this machine although none are needed.
        results: Where results are kept; None: a file in the user's cache folder.
        webhook_hosts: Who may be told of finished jobs.
        allow_hosts: Further names this server answers to on a loopback address.
        limits: Changes to the bounds, ``name=value`` each.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: Path | None = None
    insecure_no_keys: bool = False
    results: str | None = None
    webhook_hosts: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


def require_extra() -> None:
    """Make sure that what a server needs is installed.

    Raises:
        MissingExtraError: If not.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        package = str(error.name).replace("_", "-")
        raise MissingExtraError.of("Serving", package, "serve") from error


def refuse_open_door(options: Options) -> None:
    """Refuse to listen beyond this machine where anybody could use it.

    Raises:
        RecipeError: If neither keys are given nor their absence is insisted on.
    """
    if options.keys is None and not options.insecure_no_keys and not is_loopback(options.host):
        raise RecipeError(
            f"--host {options.host} can be reached from other machines, and no keys are asked for: give --keys FILE "
            "(gammascope api-key NAME makes one), or --insecure-no-keys if something in front of it checks who asks."
        )


def refuse_too_many(options: Options, weights: Sequence[str]) -> None:
    """Refuse more detectors than may be held in memory, before the first is loaded.

    Raises:
        RecipeError: If there are more, or a limit is impossible.
    """
    from gammascope.server.limits import limits_of

    most = limits_of(options.limits).detectors
    if len(weights) > most:
        raise RecipeError(
            f"--weights is given {len(weights)} times, and {most} detectors are allowed: each stays in memory. Leave "
            f"some out, or allow more with --limit detectors={len(weights)}."
        )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def parts_of(options: Options, detectors: Detectors) -> Parts:
    """Put together what the options say.

    Raises:
        RecipeError: If a key or limit is impossible.
        MissingDataError: If keys or results cannot be reached.
        MissingExtraError: If psycopg is needed and not installed.
    """
    from gammascope.server.access import Keys, read_keys
    from gammascope.server.jobs import Webhooks
    from gammascope.server.limits import limits_of
    from gammascope.server.service import Parts
    from gammascope.server.store import default_place, opened

    closed = options.keys is None and is_loopback(options.host)
    names = LOOPBACK_NAMES | {name.lower() for name in (options.host, *options.allow_hosts)}
    return Parts(
        detectors=detectors,
        limits=limits_of(options.limits),
        keys=Keys(None) if options.keys is None else read_keys(options.keys),
        webhooks=Webhooks(options.webhook_hosts),
        hosts=names if closed else None,
        database=opened(default_place() if options.results is None else options.results),
    )


def serve(
    options: Options,
    weights: Sequence[str],
    load: Callable[..., Pipeline],
    *,
    say: Callable[[str], None],
) -> None:
    """Load detectors and answer with them, until SIGTERM or SIGINT; then finish what was accepted.

    Args:
        options: What the command line said.
        weights: Names of the detectors, the first of which speaks for all.
        load: As ``Detectors.load`` takes it.
        say: Told where the server is found.

    Raises:
        RecipeError: If something about the options is impossible.
        MissingExtraError: If what a server needs is not installed.
        OSError: If the port cannot be opened.
        GammascopeError: If a detector or the results cannot be had.
    """
    refuse_open_door(options)
    refuse_too_many(options, weights)
    require_extra()
    with listen(options.host, options.port) as listening:
        parts = parts_of(options, Detectors.load(weights, BESIDES, load))
        say(f"Serving on {url_of(listening)} (stop: Ctrl-C)")
        _answer(options, parts, listening)


def _answer(options: Options, parts: Parts, listening: socket.socket) -> None:
    import uvicorn

    from gammascope.server.service import DrainingServer, create_app
    from gammascope.server.telemetry import log, start_logging

    start_logging()
    app = create_app(parts)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        h11_max_incomplete_event_size=32_768,
    )
    server = DrainingServer(config, app.state.service, parts.limits.drain_seconds)
    log("serving", host=options.host, port=listening.getsockname()[1], keys=parts.keys.required)
    with _stops_quietly():
        server.run(sockets=[listening])
    log("stopped")


def listen(host: str, port: int) -> socket.socket:
    """Open the port.

    Raises:
        OSError: If the address is not ours or in use, with the address as its file name.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            # At once: a port in use must be noticed before the detector is loaded.
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from error
    return listening


def url_of(listening: socket.socket) -> str:
    """Return where a browser on this machine finds the server."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


@contextmanager
def _stops_quietly() -> Iterator[None]:
    """Let a stop that was asked for end with exit code 0: uvicorn raises the signal again once it is done."""
    before = {
        name: signal.signal(name, lambda *_: None) for name in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
