"""The machine this process runs on: its processor, its cores, its memory."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

_PROCESSORS = Path("/proc/cpuinfo")  # Linux alone says a processor's full name there
_STATUS = Path("/proc/self/status")


def name() -> str:
    """Name the processor and how many of its cores may be used."""
    count = cores()
    return f"{processor()}, {count} core{'s' if count > 1 else ''}"


def processor() -> str:
    """Name the processor."""
    try:
        lines = _PROCESSORS.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def cores() -> int:
    """Return how many cores this process may use: ``OMP_NUM_THREADS``, or those it is bound to."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    bound = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(bound(0)) if bound else os.cpu_count() or 1


def peak_mib() -> float | None:
    """Return the most memory that this process has held, in MiB; None where the system does not tell.

    On Linux it is not what ``getrusage`` says, which also counts what the parent held when it started this process.
    """
    try:
        return int(_STATUS.read_text("utf-8").split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError, ValueError):
        pass
    if sys.platform == "win32":
        return None
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on a Mac, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def keep_freed_memory() -> None:
    """Let glibc keep big freed blocks for the next picture or batch: fewer page faults, a tenth to a half less time.

    For processes that work through many pictures or batches. What was freed stays with the process.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has none
        libc.mallopt(-4, 0)  # M_MMAP_MAX: big blocks come from the heap
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: and stay there


def one_thread_for_products() -> None:
    """Let numpy multiply matrices on the thread that asks for it alone, in the whole process.

    Its further threads wait by spinning: beside a network, which has threads of its own, a scan of 1 megapixel took
    468 instead of 396 CPU-ms.
    """
    import threadpoolctl  # not worth the start of commands that scan nothing

    threadpoolctl.threadpool_limits(1, "blas")
