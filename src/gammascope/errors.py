"""Every error raised on purpose.

::

    GammascopeError
    ├── UnknownMethodError             no such detection method
    ├── UnknownBenchmarkError          no such benchmark
    ├── MissingDataError               a folder, manifest or file that should be there is not, or holds no image
    ├── MissingExtraError              an optional package is not installed
    ├── UndecodableImageError          a file that is not an image, is broken, or is larger than allowed
    │   ├── NotAnImageError            its content is of none of the known formats
    │   └── ImageTooLargeError         more bytes or pixels than the limits allow
    ├── ChecksumError                  a file is not the one that was published
    ├── IncompatibleCheckpointError    a file that is not a checkpoint of this method or version
    ├── InterruptedScanError           told to stop before an image was examined
    ├── ForeignDetectorError           a user's own detector failed on an image
    ├── BrokenPackageError             a method or benchmark of another package cannot be loaded
    └── RecipeError                    a recipe with an unknown key or an impossible value
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class GammascopeError(Exception):
    """Root of all errors raised on purpose; its text is one line for a person. A note may add a drawing."""


class UnknownMethodError(GammascopeError):
    """No detection method has this name."""


class UnknownBenchmarkError(GammascopeError):
    """No benchmark has this name."""


class MissingDataError(GammascopeError):
    """A folder, manifest or file that should be there is not, or holds no image."""


class MissingExtraError(GammascopeError):
    """An optional package is not installed."""

    @classmethod
    def of(cls, feature: str, package: str, extra: str) -> MissingExtraError:
        """Name the feature, the package it needs and the command that installs it.

        The command works in a clone: no package index has a package of ours, and what lies there under its name would
        be somebody else's.
        """
        return cls(f"{feature} needs {package}: in your clone, pip install '.[{extra}]'.")


class UndecodableImageError(GammascopeError):
    """A file that is not an image, is broken, or is larger than allowed."""


class NotAnImageError(UndecodableImageError):
    """A file whose content is of none of the known formats."""


class ImageTooLargeError(UndecodableImageError):
    """A file with more bytes or pixels than the limits allow."""


class ChecksumError(GammascopeError):
    """A file is not the one that was published."""


class IncompatibleCheckpointError(GammascopeError):
    """A file that is not a checkpoint of this method or version."""


class InterruptedScanError(GammascopeError):
    """Told to stop before an image was examined."""


class ForeignDetectorError(GammascopeError):
    """Somebody else's detector failed on an image, or answered with what is no probability."""


class BrokenPackageError(GammascopeError):
    """A method or benchmark that another package adds cannot be loaded."""


class RecipeError(GammascopeError):
    """A recipe with an unknown key or an impossible value."""


_TRANSLATED = (
    (
        r"Weights only load failed.*?\bGLOBAL (?P<found>[\w.]+)",
        "it holds {found}, which is code or an object of a program, and no tensor",
    ),
    (r"weights_only", "it is damaged, or holds more than plain tensors"),
    (r"trust_remote_code", "it brings code of its own, which is never run"),
    (r"allow_pickle|unpickl", "it holds pickled objects, which are never read"),
    (r"unpack(_from)? requires a buffer|buffer is smaller than", "it ends too early"),
    (r"not identified by this driver", "its header is damaged"),
)
_ADVICE = re.compile(
    r"arbitrary code|trusted source|verify=False|MAX_IMAGE_PIXELS|LOAD_TRUNCATED_IMAGES|ignore_mismatched",
    re.I,
)
_LONGEST_SAID = 300


def said_by(error: BaseException) -> str:
    """Return why a library failed, as a part of a message of ours: one line, in words for people, and no more.

    Libraries count the bytes of their own buffers, and name the switch that makes them run untrusted code. Such
    words are translated or left out, so that a message of ours never gives that advice.

    >>> said_by(ValueError("Set allow_pickle=True to load it."))
    'it holds pickled objects, which are never read'
    >>> said_by(OSError("No such model. Pass verify=False to go on."))
    'No such model.'
    """
    text = str(error).strip()
    for pattern, words in _TRANSLATED:
        found = re.search(pattern, text, re.DOTALL | re.IGNORECASE)
        if found:
            return words.format(**found.groupdict())
    line = (text or type(error).__name__).splitlines()[0]
    kept = [
        sentence for sentence in re.split(r"(?<=[.!?;])\s+", line) if not _ADVICE.search(sentence)
    ]
    return " ".join(kept or [type(error).__name__])[:_LONGEST_SAID]


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's text that says something: headings, which end with a colon, are left out.

    >>> first_line(RuntimeError("Error(s) in loading state_dict for Net:\n  Missing key(s): 'weight'."))
    "Missing key(s): 'weight'."
    >>> first_line(ValueError())
    'ValueError'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = (line for line in lines if not line.endswith(":"))
    return next(telling, lines[-1] if lines else type(error).__name__)[:_LONGEST_SAID]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or "" when none is near.

    >>> did_you_mean("gama", ["gamma", "effort"])
    " Did you mean 'gamma'?"
    >>> did_you_mean("zzz", ["gamma"])
    ''
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def printable(text: str) -> str:
    """Keep a message on one line, whatever a file is called or says of itself."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
