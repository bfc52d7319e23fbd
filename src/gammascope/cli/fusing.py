"""What ``gammascope fuse`` is fed with and shows, and which detector the options ``--weights`` and ``--then`` name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from gammascope import checkpoints, fusion, settings
from gammascope.cli import terminal
from gammascope.data.manifest import read_manifest
from gammascope.errors import RecipeError
from gammascope.pipeline import Besides, Execution, Pipeline
from gammascope.report import percent
from gammascope.sample import Entry, KeptApart

if TYPE_CHECKING:
    from gammascope.evaluation.fusing import Cost


def loaded(  # noqa: PLR0913 - each is an option
    weights: str,
    *,
    then: str | None,
    zone: str | None,
    method: str | None,
    device: str,
    besides: Besides,
    execution: Execution,
) -> Pipeline:
    """Load a checkpoint, a fusion file (.json), or a cascade of two checkpoints.

    Raises:
        RecipeError: If options contradict each other.
        GammascopeError: As ``Pipeline.load`` and ``fusion.load``.
    """
    fused = weights.endswith(".json")
    if fused and (then is not None or method is not None):
        raise RecipeError(
            f"--weights {weights} names its members itself: leave out --then and --method."
        )
    if zone is not None and then is None:
        raise RecipeError(f"--zone {zone} belongs to a cascade: add --then, the strong detector.")
    if fused:
        return fusion.load(Path(weights), device=device, besides=besides, execution=execution)
    first = Pipeline.load(
        weights, method=method, device=device, besides=besides, execution=execution
    )
    if then is None:
        return first
    strong = fusion.member_at(checkpoints.resolve(then), device=device, execution=execution)
    return fusion.cascade(first, strong, zone_of(zone), besides=besides)


def zone_of(text: str | None) -> tuple[float, float]:
    """Read "0.2,0.8".

    Raises:
        RecipeError: If these are no two numbers.
    """
    if text is None:
        return fusion.ZONE
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError(f"--zone {text}: expected two probabilities, as in 0.1,0.9.") from None
    return low, high


def saving(pipeline: Pipeline) -> str | None:
    """Return what a cascade saved; None for anything else."""
    if isinstance(pipeline, fusion.Fused) and pipeline.plan.kind == "cascade":
        return str(pipeline.saving)
    return None


def entries_of(
    members: Sequence[Path], manifests: Sequence[Path], sources: Sequence[str]
) -> list[Entry]:
    """List the images to fit to: of the given sources, else of those that every member kept apart in training."""
    kept = [
        checkpoints.read_facts(path).kept_apart
        for path in members
        if not path.is_dir()  # a judge
    ]
    wanted = [KeptApart(frozenset(sources))] if sources else kept
    entries = [
        entry
        for path in manifests
        for entry in read_manifest(path)
        if wanted and all(apart.holds(entry) for apart in wanted)
    ]
    if not entries:
        raise RecipeError("No image is of a source that all members kept apart: give --source.")
    return entries


def plain(plan: fusion.Plan, costs: Sequence[Cost]) -> dict[str, Any]:
    """Return plan and costs for JSON."""
    return {"plan": settings.plain(plan), "costs": [settings.plain(cost) for cost in costs]}


def table(costs: Sequence[Cost]) -> Table:
    """Draw what members and combinations cost."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("on the images fitted to", "false alarms", "fakes found", "AUROC"):
        drawn.add_column(title, justify="left" if title.startswith("on") else "right")
    for cost in costs:
        drawn.add_row(
            terminal.literal(cost.name),
            percent(cost.false_alarms, 1),
            percent(cost.found, 1),
            f"{cost.auroc:.3f}",
        )
    return drawn
