"""What ``gammascope export`` writes, and how far its answers are from torch's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rich.table import Table

from gammascope import checkpoints
from gammascope.data.manifest import read_manifest
from gammascope.detection import export, runtime
from gammascope.errors import MissingDataError, UndecodableImageError
from gammascope.imaging.decode import decode
from gammascope.imaging.views import ViewSpec, views_of
from gammascope.report import percent

_IMAGES = 100
"""Training images that are looked at."""

_VIEWS_OF_EACH = 4
"""Views of each image: many images teach a range more than many views of a few."""


def exported(
    checkpoint: Path, out: Path | None, data: Path | None
) -> tuple[list[Path], list[export.Parity]]:
    """Write the files and compare each engine that is installed with torch.

    Args:
        checkpoint: Of any method.
        out: Folder for files that stand alone; None: a graph beside the checkpoint.
        data: Manifest with images of the split "train"; None: noise is compared on, and nothing is quantised.
    """
    facts = checkpoints.read_facts(checkpoint)
    views = _training_views(data, facts.view) if data else _noise(facts.view)
    if out is None:
        files = [export.graph_beside(checkpoint)]
        graph = files[0]
    else:
        graph = export.to_onnx(checkpoint, out / f"{checkpoint.stem}.onnx")
        files = [graph]
    networks: list[runtime.Network] = []
    known = runtime.available()
    if "onnxruntime" in known:
        networks.append(runtime.OnnxRuntimeNetwork(graph))
    if "openvino" in known:
        networks += [runtime.OpenVinoNetwork(graph), runtime.OpenVinoNetwork(graph, "bf16")]
        if out is not None:
            files.append(export.to_openvino(graph, out / f"{checkpoint.stem}.xml"))
            if data is not None:
                quantised = out / f"{checkpoint.stem}.int8.xml"
                files.append(export.to_openvino(graph, quantised, views))
                networks.append(runtime.OpenVinoNetwork(quantised))
                networks[-1].name = "openvino int8"
    torch = export.reference(checkpoint)
    return files, [export.parity(torch, network, facts, views) for network in networks]


def table(compared: Sequence[export.Parity]) -> Table:
    """Draw one row for each engine and precision."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in (
        "against torch",
        "views",
        "logit difference",
        "mask difference",
        "changed verdicts",
    ):
        drawn.add_column(title, justify="left" if title == "against torch" else "right")
    for one in compared:
        errors = (f"{one.logit_error:.2g}", f"{one.mask_error:.2g}")
        drawn.add_row(one.name, str(one.views), *errors, percent(one.changed, 1))
    return drawn


def plain(files: Sequence[Path], compared: Sequence[export.Parity]) -> dict[str, object]:
    """Return the same for programs."""
    return {"files": [str(file) for file in files], "parity": [asdict(one) for one in compared]}


def _noise(spec: ViewSpec) -> list[Float[np.ndarray, "_b 3 _s _s"]]:
    rng = np.random.default_rng(0)
    shape = (8, 3, spec.size, spec.size)
    return [rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(4)]


def _training_views(manifest: Path, spec: ViewSpec) -> list[Float[np.ndarray, "_b 3 _s _s"]]:
    paths = [entry.path for entry in read_manifest(manifest) if entry.split == "train"]
    if not paths:
        raise MissingDataError(f"{manifest} has no image of the split 'train'.")
    batches = []
    for path in paths[:: max(1, len(paths) // _IMAGES)][:_IMAGES]:
        try:
            views = views_of(decode(path).image, spec)
        except UndecodableImageError:
            continue
        some = views[:: max(1, len(views) // _VIEWS_OF_EACH)][:_VIEWS_OF_EACH]
        batches.append(np.stack([view.pixels for view in some]))
    if not batches:
        raise MissingDataError(f"No image of {manifest} could be read.")
    return batches
