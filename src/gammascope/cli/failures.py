"""What a command says and returns when it cannot go on: one line and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import typer
from typer.core import TyperGroup

from gammascope.cli.help import ALIASES, write_commands
from gammascope.errors import (
    GammascopeError,
    MissingExtraError,
    RecipeError,
    UnknownBenchmarkError,
    UnknownMethodError,
    said_by,
)

DONE, INTERNAL, USAGE, IMPOSSIBLE, PARTLY_DONE, FOUND = 0, 1, 2, 3, 4, 10
"""Exit codes: done; a bug; a wrong option, recipe or method; nothing done, for a file or an extra is missing or cannot
be read or written; done, but some files were unreadable; a verdict named by --fail-on occurred."""

INTERRUPTED, PIPE_CLOSED = 130, 141
"""Exit codes as shells give them for Ctrl-C, and for output whose reader has left."""


T = TypeVar("T")


class Commands(TyperGroup):
    """Commands in groups, some under a second name; their errors become one line on stderr."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, also by another word of the field."""
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """Write the commands in their groups."""
        write_commands(formatter, self.commands)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and turn what went wrong into an exit code."""
        debug = bool(ctx.params.get("debug"))
        try:
            return super().invoke(ctx)
        except (GammascopeError, OSError, MemoryError, KeyboardInterrupt) as error:
            raise typer.Exit(explain(error, debug=debug)) from error


def terminal_that_never_fails() -> None:
    """Let stdout and stderr replace what they cannot encode: a single name must not cost a finished table.

    Pipes of Windows and terminals of older locales hold few of Unicode's letters.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where a program has no console.
            stream.reconfigure(errors="replace")


def explain(error: BaseException, *, debug: bool) -> int:
    """Print an error as one line (with ``debug``, after its traceback) and its notes; return the exit code."""
    from gammascope.cli.terminal import say

    with contextlib.suppress(ValueError):  # stdout may be closed
        try:
            sys.stdout.flush()
        except OSError:
            _stop_writing()
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return PIPE_CLOSED
    if debug:
        traceback.print_exception(error)
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        error = MissingExtraError.of("This", "torch", "torch")
    line, code = _line_and_code(error)
    say(" ".join(line.split()))
    for drawing in getattr(error, "__notes__", ()):
        say(drawing)
    return code


def _line_and_code(error: BaseException) -> tuple[str, int]:
    match error:
        case KeyboardInterrupt():
            return "Interrupted.", INTERRUPTED
        case RecipeError() | UnknownMethodError() | UnknownBenchmarkError():
            return f"Error: {error}", USAGE
        case GammascopeError():
            return f"Error: {error}", IMPOSSIBLE
        case OSError():
            place = f": {error.filename}" if error.filename else ""
            return f"Error: {error.strerror or error}{place}.", IMPOSSIBLE
        case MemoryError():
            return "Error: not enough memory.", IMPOSSIBLE
    what = f"{type(error).__name__}: {said_by(error)}"
    return f"Internal error, please report it ({what}). More: gammascope --debug ...", INTERNAL


def refuse_unwritable(path: Path, *endings: str) -> None:
    """Find out before hours of work that a file cannot be written, and make its folder.

    Args:
        path: The file.
        endings: How names of what is written end; a file of another ending is not replaced. None: any is.

    Raises:
        OSError: If the folder cannot be made or written to, or the path is a folder, or a picture or another kind of
            file that would be lost.
    """
    from gammascope.data.manifest import picture_kind

    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a folder, expected the name of a file", str(path))
    if path.is_file() and picture_kind(path):
        raise FileExistsError(
            errno.EEXIST, "Is a picture, which would be lost: choose another name", str(path)
        )
    if path.is_file() and endings and path.suffix.lower() not in endings:
        what = f"Does not end in {endings[0]} and would be lost: choose another name"
        raise FileExistsError(errno.EEXIST, what, str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        # The name of the probe would puzzle people.
        raise OSError(error.errno, f"Cannot write ({error.strerror})", str(path)) from error


def refuse_unwritable_folder(path: Path) -> None:
    """Find out before hours of work that nothing can be written into a folder, and make it.

    Raises:
        OSError: If it cannot be made or written to, or is a file.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Is a file, expected a folder", str(path))
    refuse_unwritable(path / ".probe")


def until_interrupted(rows: Iterable[T]) -> Iterator[T]:
    """Hand rows on until Ctrl-C, and never miss one.

    Python drops a KeyboardInterrupt that falls into a destructor or into a callback of the import system; then the
    one before the next row counts. Where Ctrl-C means something else already, or cannot be heard, nothing changes.

    Raises:
        KeyboardInterrupt: At Ctrl-C.
    """
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.default_int_handler(number, frame)

    heard = threading.current_thread() is threading.main_thread()
    if not heard or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield from rows
        return
    signal.signal(signal.SIGINT, note)
    try:
        for row in rows:
            if asked:
                raise KeyboardInterrupt
            yield row
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop_writing() -> None:
    """Let Python's own flush at the end go nowhere: the reader has left (``| head``), or the disk is full."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
