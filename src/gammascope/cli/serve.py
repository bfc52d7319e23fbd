"""``gammascope serve`` and ``api-key``: answers over HTTP."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from gammascope.cli import detector, options

_ACCESS = "Who may ask"

_STORAGE = "What is kept"

Host: TypeAlias = Annotated[
    str, typer.Option(help="Address to listen on.", rich_help_panel=_ACCESS)
]
Port: TypeAlias = Annotated[
    int, typer.Option(min=0, max=65535, help="0: any free one.", rich_help_panel=_ACCESS)
]
KeyFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        help="File of API keys; needed to listen beyond this machine. See api-key.",
        rich_help_panel=_ACCESS,
    ),
]
InsecureNoKeys: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--insecure-no-keys",
        help="Listen beyond this machine without keys: something in front of it checks who asks.",
        rich_help_panel=_ACCESS,
    ),
]
AllowHosts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        help="Further name that a server without keys answers to; repeatable.",
        rich_help_panel=_ACCESS,
    ),
]
WebhookHosts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--webhook-host",
        help="Host that may be told of finished jobs; repeatable. Default: none.",
        rich_help_panel=_ACCESS,
    ),
]
ResultsPlace: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--results",
        metavar="PLACE",
        help="Where results are kept by content: an SQLite file, a postgresql:// URL, or 'memory'. "
        "Default: a file in the user's cache folder.",
        rich_help_panel=_STORAGE,
    ),
]
ServerBounds: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=VALUE",
        help="Another bound: files=4, pixels=20000000, ...; repeatable.",
        rich_help_panel=_STORAGE,
    ),
]
KeyName: TypeAlias = Annotated[
    str, typer.Argument(help="Letters, digits, '-' and '_'; stands in the log.")
]
FilesPerMinute: TypeAlias = Annotated[float, typer.Option(min=1, help="Rate of this key.")]


def serve(  # noqa: PLR0913, PLR0917 - each is an option
    host: Host = "127.0.0.1",
    port: Port = 8000,
    keys: KeyFile = None,
    insecure_no_keys: InsecureNoKeys = False,
    allow_host: AllowHosts = None,
    webhook_host: WebhookHosts = None,
    results: ResultsPlace = None,
    limit: ServerBounds = None,
    weights: options.SeveralWeights = None,
    method: options.MethodName = None,
    device: options.Device = "cpu",
    profile: options.Profile = "default",
) -> None:
    """Answer over HTTP: a page for people, an API for programs. Log lines in JSON go to stderr."""
    from gammascope.cli import terminal
    from gammascope.detection.pipeline import Execution
    from gammascope.server import serving

    hosts = (tuple(webhook_host or ()), tuple(allow_host or ()))
    chosen = serving.Options(
        host, port, keys, insecure_no_keys, results, *hosts, tuple(limit or ())
    )
    detector.refuse_beside_several(weights or (), None, method)
    execution = Execution(profile=profile)
    load = partial(detector.load, method=method, device=device, execution=execution)
    serving.serve(chosen, weights or ["default"], load, say=terminal.say)


def api_key(name: KeyName, files_per_minute: FilesPerMinute = 120.0) -> None:
    """Make a key for serve: the key goes to stderr, once; its entry for the file of keys to stdout."""
    from gammascope.cli import terminal
    from gammascope.server import serving

    serving.require_extra()
    from gammascope.server import access

    key, entry = access.new_key(name, files_per_minute)
    terminal.say(f"Key of {name}, shown only here: {key}")
    typer.echo(entry, nl=False)
