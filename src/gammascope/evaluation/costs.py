"""What a detector costs: time for an image, memory, numbers in its weights, bytes of its file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gammascope import checkpoints, machine
from gammascope.detection import fusion
from gammascope.files import complete_or_absent

SPEED = "speed.json"
"""Name of the file that adds up what several runs of one evaluation took."""


class Stopwatch:
    """How long it took to answer, decoding and re-encoding included."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def speed(self, answers: int, device: str, place: Path | None = None) -> dict[str, Any] | None:
        """Return the time for each answer so far in plain types.

        Args:
            answers: How many there were: one for every image in every column it differs in.
            device: What the network runs on.
            place: Folder whose ``speed.json`` holds earlier runs of the same evaluation on the same machine; they are
                added, and it is written anew.

        Returns:
            None if nothing was answered, now or before.
        """
        now: dict[str, Any] = {
            "seconds": time.perf_counter() - self._start,
            "answers": answers,
            "machine": machine.name(),
            "device": device,
            "peak_memory_mib": machine.peak_mib(),
        }
        if place is not None:
            now = _with_earlier(now, place / SPEED)
        if not now["answers"]:
            return None
        return now | {"ms_per_image": round(1000 * now["seconds"] / now["answers"], 3)}


def _with_earlier(now: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        before = json.loads(path.read_text("utf-8"))
        same = all(before[key] == now[key] for key in ("machine", "device"))
    except (OSError, ValueError, KeyError, TypeError):
        before, same = now | {"seconds": 0.0, "answers": 0}, True
    if not now["answers"]:  # all was there already: looking for it is no time of the detector's
        return dict(before)
    if same:
        now |= {key: now[key] + before[key] for key in ("seconds", "answers")}
        peaks = [run.get("peak_memory_mib") for run in (now, before)]
        now["peak_memory_mib"] = max((peak for peak in peaks if peak is not None), default=None)
    with complete_or_absent(path) as unfinished:
        unfinished.write_text(json.dumps(now) + "\n", "utf-8")
    return now


def size_of(weights: str, then: str | None = None) -> dict[str, Any]:
    """Return how large what ``--weights`` and ``--then`` name is: "parameters" (None: not known) and "megabytes".

    Parameters are the numbers in the checkpoints, so statistics of normalising layers count too.
    """
    files = [checkpoints.resolve(name) for name in (weights, then) if name is not None]
    if weights.endswith(".json"):
        own = files[0]
        files = [own.parent / name for name in fusion.read_plan(own).members]
    counts = [
        checkpoints.parameters_of(path) if path.suffix == ".safetensors" else None for path in files
    ]
    known = [count for count in counts if count is not None]
    return {
        "parameters": sum(known) if len(known) == len(files) else None,
        "megabytes": round(sum(map(_bytes, files)) / 1e6, 3),
    }


def facts_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return speed and size as a summary tells them; None where an older one does not."""
    return {"speed": summary.get("speed"), "size": summary.get("size")}


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path, path.with_suffix(".bin"))
    own = sum(file.stat().st_size for file in files if file.is_file())
    towers = checkpoints.towers_of(path) if path.suffix == ".safetensors" else []
    return own + sum(tower.stat().st_size for tower in towers)
