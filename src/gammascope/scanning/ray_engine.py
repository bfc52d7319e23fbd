"""The scan of ``bulk`` on a Ray cluster: the same rows, from actors that hold the pipeline on every machine.

Ray Data streams the list of images through a pool of actors, holds reading back while rows wait, and gives the work
of a lost actor or machine to another. The machine that started the scan writes the parts and keeps what was found for
each content, so the folder is that of a local scan, and either engine goes on where the other stopped.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gammascope import checkpoints
from gammascope.data import ledger
from gammascope.detection.pipeline import Besides, Execution, Pipeline
from gammascope.errors import IncompatibleCheckpointError, MissingExtraError
from gammascope.imaging.decode import Limits
from gammascope.scanning.ordered import Plan, Progress, examine, prepared
from gammascope.scanning.results import Forgetful, Memory, ResultsFolder, Row, Seen, pyarrow_here
from gammascope.scanning.sources import Item
from gammascope.weights import DETECTORS

IMAGES_AT_ONCE = 64
"""Images in one task of an actor at most: what is done again when it is lost."""

_TASKS_EACH = 4  # Of every actor at least: rows come by the task, and progress with them.

_PATIENCE_S = 15.0
"""Seconds without a row after which it is said what the cluster is doing, and how long until it is said again."""

_SHOWN_BY = "RAY_BACKEND_LOG_LEVEL"
"""Ray's own setting of what it prints; where it is set, its lines are wanted."""

TRIES = 4
"""How often a task is given to an actor, and how often the scan begins anew with what is left, before it stops: an
image may be what kills them."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where to find the machines.

    Attributes:
        address: As ``ray.init`` takes it; None: the cluster this process is in, or one on this machine.
        weights: Path of a checkpoint or an exported graph, which is sent with what lies beside it. An embedded
            detector, or None for the default one, goes by its name, for every machine has it.
        device: Where the networks run; "cuda" asks Ray for one GPU for each actor.
        execution: What runs them, and how many views they read.
    """

    address: str | None = None
    weights: Path | None = None
    device: str = "cpu"
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True, slots=True)
class _Setup:
    """What an actor needs to begin; ``sent`` and ``memory`` are references that Ray understands.

    Attributes:
        weights: Name of an embedded detector, or of the file among those sent.
        sent: Files by name; None: the detector is embedded.
        weights_sha256: Of the detector that began the scan.
        network: What ran it there, as ``runtime.Network`` names it.
    """

    weights: str
    sent: Any
    weights_sha256: str
    network: str
    device: str
    execution: Execution
    besides: Besides
    limits: Limits
    memory: Any
    gaps: ledger.Gaps = field(default_factory=lambda: ledger.Gaps(()))


def scan_on(
    cluster: Cluster,
    folder: Path,
    plan: Plan,
    pipeline: Pipeline,
    progress: Progress = lambda *_: None,
) -> None:
    """Do as ``bulk.scan_into`` on a cluster.

    Every machine must have this version of gammascope and see the images and the folder under the same names.

    Args:
        cluster: The machines.
        folder: As in ``scan_into``.
        plan: What to do.
        pipeline: The detector that the folder's ``run.json`` names; it does no work here.
        progress: Told after each image.

    Raises:
        MissingExtraError: If Ray is not installed.
        GammascopeError: As ``scan_into``.
    """
    asked_for = _SHOWN_BY in os.environ
    os.environ.setdefault(_SHOWN_BY, "fatal")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = _ray()
    results = ResultsFolder(folder.absolute())
    progress("Starting Ray", 0, None)
    with results.alone(), _connected(ray, cluster.address, quiet=not asked_for):
        total = prepared(results, plan, pipeline, progress)
        name, files = what_actors_load(cluster.weights, pipeline.network.name)
        setup = _Setup(
            weights=name,
            sent=None if files is None else ray.put(files),
            weights_sha256=pipeline.weights_sha256,
            network=pipeline.network.name,
            device=cluster.device,
            execution=cluster.execution,
            besides=pipeline.besides,
            limits=plan.limits,
            memory=_memory(ray, results) if plan.deduplicate else None,
        )
        left = TRIES
        while left and results.left(total):
            left -= 1
            _round(ray, results, setup, (total, progress), last=not left)
        results.merge()


def what_actors_load(weights: Path | None, network: str) -> tuple[str, dict[str, bytes] | None]:
    """Return the name of the detector, and the files that a machine needs to run it as this one does.

    Args:
        weights: As in ``Cluster``.
        network: What runs it here, as ``runtime.Network`` names it.

    Returns:
        Name of an embedded detector and None, or of one of the files and their contents by name.
    """
    if weights is None:
        return "default", None
    for name in DETECTORS:
        if weights == checkpoints.resolve(name):
            return name, None
    paths = [weights]
    if weights.suffix == ".xml":
        paths.append(weights.with_suffix(".bin"))
    elif not network.startswith("torch"):
        graph = weights.with_suffix(".onnx")
        paths += [graph, *_read_by(graph)]
    return weights.name, {path.name: path.read_bytes() for path in paths}


def _read_by(graph: Path) -> list[Path]:
    """List the files beside an ONNX file that it takes weights from."""
    content = graph.read_bytes()
    ends = ((found.end(), found[1][0]) for found in _LOCATION.finditer(content))
    names = {os.fsdecode(content[end : end + length]) for end, length in ends}
    return [path for path in (graph.parent / name for name in sorted(names)) if path.is_file()]


_LOCATION = re.compile(rb"\n\x08location\x12([\x01-\x7f])", re.DOTALL)
"""An entry of ``external_data`` in a TensorProto (onnx/onnx.proto), up to the length of the name that follows."""


def _round(
    ray: Any, results: ResultsFolder, setup: _Setup, wanted: tuple[int, Progress], *, last: bool
) -> None:
    """Examine what has no row yet. A lost machine ends a round unless it is the last: the ledger knows what is left."""
    total, progress = wanted
    gaps = ledger.missing(results.folder, total)
    done = total - sum(map(len, gaps))
    progress("Scanning", done, total)
    setup = replace(setup, gaps=ledger.Gaps(gaps))
    with results.writer() as write, _explained(ray, (total, progress)) as came:
        try:
            for row in _rows(ray, results, setup):
                write(row)
                done += 1
                came(done)
                progress("Scanning", done, total)
        except ray.exceptions.RayError as error:
            if last or isinstance(error, ray.exceptions.RayTaskError):  # what our own code raised
                raise


def _rows(ray: Any, results: ResultsFolder, setup: _Setup) -> Iterator[Row]:
    """Yield rows as they come, in no order."""
    parts = [str(path) for path, span in ledger.parts(results.listing) if setup.gaps.meet(span)]
    most, asked = actors_on(ray.cluster_resources(), setup.device)
    left = sum(map(len, setup.gaps.stretches))
    rows = (
        ray.data.read_parquet(parts)
        .repartition(target_num_rows_per_block=images_at_once(left, most))
        .map_batches(
            _Examiner,
            fn_constructor_args=(setup,),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
            max_restarts=-1,
            max_task_retries=TRIES - 1,
            **asked,
        )
    )
    for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from (Row(**values) for values in batch.to_pylist())


def actors_on(resources: Mapping[str, float], device: str) -> tuple[int, dict[str, int]]:
    """Return how many actors a cluster has room for, and what each asks Ray for.

    On a single core they ask for none: the tasks that cut the list need it, and would wait for ever for an actor's.

    >>> actors_on({"CPU": 2.0}, "cpu"), actors_on({"CPU": 1.0}, "cpu")
    ((2, {'num_cpus': 1}), (1, {'num_cpus': 0}))
    """
    cores = max(1, int(resources.get("CPU", 1)))
    asked = {"num_cpus": min(1, cores - 1)}
    if not device.startswith("cuda"):
        return cores, asked
    return max(1, int(resources.get("GPU", 1))), asked | {"num_gpus": 1}


def images_at_once(left: int, actors: int) -> int:
    """Return how many images make a task: few where there are few, so that all actors work and rows come steadily.

    >>> images_at_once(24, 2), images_at_once(1_000_000, 64)
    (3, 64)
    """
    return max(1, min(IMAGES_AT_ONCE, left // (_TASKS_EACH * actors)))


@contextmanager
def _explained(ray: Any, wanted: tuple[int, Progress]) -> Iterator[Callable[[int], None]]:
    """Say what the cluster is doing whenever no row comes for a while; yield what is to be told of rows."""
    total, progress = wanted
    over, at, done = threading.Event(), time.monotonic(), 0

    def came(number: int) -> None:
        nonlocal at, done
        at, done = time.monotonic(), number

    def watch() -> None:
        while not over.wait(_PATIENCE_S):
            silent = time.monotonic() - at
            if silent >= _PATIENCE_S:
                progress(f"No row for {silent:.0f} s ({_state_of(ray)})", done, total)

    watching = threading.Thread(target=watch, name="explain", daemon=True)
    watching.start()
    try:
        yield came
    finally:
        over.set()
        watching.join()


def _state_of(ray: Any) -> str:
    """Say how busy the cluster and this machine are, which is mostly why nothing comes."""
    try:
        free, cores = (
            some.get("CPU", 0) for some in (ray.available_resources(), ray.cluster_resources())
        )
    except Exception:  # Ray raises many types while machines come and go.
        return "the cluster does not answer"
    said = f"{free:g} of the cluster's {cores:g} cores are free"
    if hasattr(os, "getloadavg"):
        said += f", {os.getloadavg()[0]:.1f} programs want the {os.cpu_count()} of this machine"
    return said


class _Examiner:
    """An actor: holds the pipeline, takes lists of images, gives rows."""

    def __init__(self, setup: _Setup) -> None:
        self._setup = setup
        self._memory: Memory = Forgetful() if setup.memory is None else _Remote(setup.memory)
        with tempfile.TemporaryDirectory() as folder:
            weights: str | Path = setup.weights
            if setup.sent is not None:
                for name, content in _ray().get(setup.sent).items():
                    Path(folder, name).write_bytes(content)
                weights = Path(folder, setup.weights)
            self._pipeline = Pipeline.load(
                weights, device=setup.device, besides=setup.besides, execution=setup.execution
            )
        if self._pipeline.weights_sha256 != setup.weights_sha256:
            raise IncompatibleCheckpointError(
                "This machine has another embedded detector than the one that started the scan: install the same "
                "version of gammascope on both."
            )
        if self._pipeline.network.name != setup.network:
            raise MissingExtraError(
                f"This machine runs the detector by {self._pipeline.network.name}, the one that started the scan by "
                f"{setup.network}: install the same packages on both."
            )

    def __call__(self, batch: Any) -> Any:
        """Examine a batch of the list, but for images that have rows already."""
        arrow, _ = pyarrow_here()
        items = [
            (values.pop("number"), Item.of(values))
            for values in batch.to_pylist()
            if values["number"] in self._setup.gaps
        ]
        # Two on the core of an actor: one reads while the other computes.
        rows = list(examine(items, self._pipeline, self._memory, self._setup.limits, threads=2))
        kinds = {"number": arrow.int64(), "size": arrow.int64()}
        schema = arrow.schema([(f.name, kinds.get(f.name, arrow.string())) for f in fields(Row)])
        columns = [[astuple(row)[at] for row in rows] for at in range(len(schema))]
        arrays = [arrow.array(*pair) for pair in zip(columns, schema.types, strict=True)]
        return arrow.table(arrays, schema=schema)


class _Remote:
    """The memory of all actors, which lives on the machine that started the scan."""

    def __init__(self, seen: Any) -> None:
        self._seen = seen

    def get(self, digest: bytes) -> str | None:
        """Return the outcome of a content, or None."""
        outcome: str | None = _ray().get(self._seen.get.remote(digest))
        return outcome

    def put(self, digest: bytes, outcome: str) -> None:
        """Keep an outcome."""
        self._seen.put.remote(digest, outcome)


def _memory(ray: Any, results: ResultsFolder) -> Any:
    """Start the memory on this machine, where its file is."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Seen)
    return actor.remote(results.seen_path)


@contextmanager
def _connected(ray: Any, address: str | None, *, quiet: bool) -> Iterator[None]:
    """Join the cluster and leave it, unless this process is in one already."""
    joined = not ray.is_initialized()
    if joined:
        here = {} if address else {"include_dashboard": False}
        with _hushed() if quiet else nullcontext():
            ray.init(address, log_to_driver=False, logging_level="ERROR", **here)
    context = ray.data.DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")] if quiet else []
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            if quiet:
                warnings.filterwarnings("ignore", module=r"gammascope\.scanning\.ray_engine|ray\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        context.enable_progress_bars = shown
        if joined:
            ray.shutdown()


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep what Ray's own processes print while they start off stderr; errors are raised all the same."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError.of("Scanning on a cluster", "ray", "ray") from error
    return ray
