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
    ├── ForeignDetectorError           somebody else's detector failed on an image
    └── RecipeError                    a recipe with an unknown key or an impossible value
"""

from __future__ import annotations

import difflib
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
        """Name the feature, the package it needs and the command that installs it."""
        return cls(f"{feature} needs {package}: pip install 'gammascope[{extra}]'.")


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


class RecipeError(GammascopeError):
    """A recipe with an unknown key or an impossible value."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or "" when none is near.

    >>> did_you_mean("gama", ["gamma", "effort"])
    " Did you mean 'gamma'?"
    >>> did_you_mean("zzz", ["gamma"])
    ''
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
