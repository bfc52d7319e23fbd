"""Arguments and options of the commands that run a service, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

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
