"""Curves of score tables, written to files; the ending of the name chooses PNG, SVG or PDF."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gammascope.errors import MissingDataError, MissingExtraError
from gammascope.evaluation.intervals import Value
from gammascope.evaluation.metrics import auroc, ece, roc_points
from gammascope.evaluation.robustness import Point
from gammascope.files import complete_or_absent
from gammascope.sample import Label

_SIZE_INCHES = (5.0, 4.5)
_PANEL_INCHES = (3.5, 2.8)  # of a figure with several
_DPI = 150
_COLOURS = {Label.REAL: "#0072B2", Label.FAKE: "#D55E00"}  # told apart with any colour vision
_CURVES = (
    ("auroc", "#000000", "o"),
    ("real_accuracy", _COLOURS[Label.REAL], "s"),
    ("fake_accuracy", _COLOURS[Label.FAKE], "^"),
)
_APART = 0.13  # steps of severity between curves: bars on one line would hide each other
_LEAST_FALSE_RATE = 1e-3  # left end of the logarithmic axis


def plot_roc(
    curves: Mapping[str, tuple[Float[np.ndarray, " _n"], Int[np.ndarray, " _n"]]], path: Path
) -> None:
    """Draw ROC curves of (score, label) by name, false alarms on a logarithmic axis.

    Logarithmic, because use is at few false alarms, where a linear axis shows nothing.

    Raises:
        MissingDataError: If a curve lacks one of the classes.
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes = _figure()
    for name, (score, label) in curves.items():
        area = auroc(score, label)
        if np.isnan(area):
            raise MissingDataError(f"No ROC curve for {name!r}: it needs real and fake images.")
        false_rate, true_rate = roc_points(score, label)
        axes.step(
            np.maximum(false_rate, _LEAST_FALSE_RATE),
            true_rate,
            where="post",
            label=f"{name} (AUROC {area:.3f})",
        )
    chance = np.geomspace(_LEAST_FALSE_RATE, 1.0, 100)
    axes.plot(chance, chance, color="0.6", linestyle=":", label="chance")
    axes.set(
        xscale="log",
        xlim=(_LEAST_FALSE_RATE, 1.0),
        ylim=(0.0, 1.01),
        xlabel="false alarms on real images",
        ylabel="fakes found",
    )
    axes.legend(loc="lower right", fontsize="small")
    axes.grid(visible=True, color="0.9")
    _save(figure, path)


def plot_reliability(
    probability: Float[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    path: Path,
    *,
    bins: int = 15,
) -> None:
    """Draw the share of fakes against the stated probability, and how many images each bin has.

    Raises:
        MissingDataError: If there is no image.
        MissingExtraError: If matplotlib is not installed.
        ValueError: If a score is not a probability.
    """
    if not len(label):
        raise MissingDataError("No reliability to draw: there is no image.")
    error = ece(bins)(probability, label)
    place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], probability)
    number = np.bincount(place, minlength=bins)
    used = number > 0
    stated = np.bincount(place, weights=probability, minlength=bins)[used] / number[used]
    found = np.bincount(place, weights=label, minlength=bins)[used] / number[used]
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="calibrated")
    axes.plot(stated, found, marker="o", color=_COLOURS[Label.FAKE], label=f"ECE {error:.3f}")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="stated probability", ylabel="share of fakes")
    counts = axes.twinx()
    middle = (np.arange(bins) + 0.5) / bins
    counts.bar(middle, number, width=0.9 / bins, color="0.5", alpha=0.25)
    counts.set(ylabel="images (bars)")
    axes.set_zorder(counts.get_zorder() + 1)  # the curve over the bars, whose axes are drawn later
    axes.patch.set_visible(False)
    axes.legend(loc="upper left", fontsize="small")
    _save(figure, path)


def plot_scores(
    logits: Float[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    path: Path,
    *,
    thresholds: Mapping[str, float] | None = None,
) -> None:
    """Draw a histogram of logits for each class, each of area one, with thresholds by name.

    Raises:
        MissingDataError: If there is no finite logit.
        MissingExtraError: If matplotlib is not installed.
    """
    finite = np.isfinite(logits)
    if not finite.any():
        raise MissingDataError("No histogram to draw: there is no finite logit.")
    shown, of = logits[finite].astype(np.float64), label[finite]
    edges = np.histogram_bin_edges(shown, bins=40)
    figure, axes = _figure()
    for each in Label:
        members = shown[of == each]
        if len(members):
            axes.hist(
                members,
                bins=edges,
                density=True,
                alpha=0.55,
                color=_COLOURS[each],
                label=f"{each.name.lower()} ({len(members)})",
            )
    for style, (name, at) in zip(("--", "-", "-.", ":"), (thresholds or {}).items(), strict=False):
        axes.axvline(at, color="0.2", linestyle=style, label=f"{name} from {at:.2f}")
    axes.set(xlabel="logit", ylabel="density")
    axes.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    _save(figure, path)


def plot_robustness(
    families: Mapping[str, Sequence[Point]], unperturbed: Sequence[Point], path: Path
) -> None:
    """Draw AUROC and both accuracies against severity, a panel for each family by its title.

    Each curve starts from the images that are not perturbed; bars are 95 % intervals.

    Raises:
        MissingDataError: If there is no family.
        MissingExtraError: If matplotlib is not installed.
    """
    if not families:
        raise MissingDataError("No robustness to draw: there is no perturbation.")
    across = min(len(families), 4)
    figure, axes = _figure((math.ceil(len(families) / across), across))
    panels = np.atleast_1d(axes).ravel()
    for panel, (title, points) in zip(panels, families.items(), strict=False):
        steps = [*unperturbed, *points]
        places = np.arange(len(steps))
        for number, (name, colour, marker) in enumerate(_CURVES):
            values: list[Value] = [getattr(point, name) for point in steps]
            middle = np.array([value.value for value in values])
            reach = [(each.value - each.low, each.high - each.value) for each in values]
            panel.errorbar(
                places + _APART * (number - (len(_CURVES) - 1) / 2),
                middle,
                yerr=np.maximum(np.array(reach).T, 0.0),
                color=colour,
                marker=marker,
                markersize=4,
                capsize=2,
                linewidth=1.2,
                label=name.replace("_", " ").replace("auroc", "AUROC"),
            )
        panel.axhline(0.5, color="0.6", linestyle=":")
        panel.axvline(len(unperturbed) - 0.5, color="0.8")
        labels = [point.severity.replace("_", "\n") for point in steps]
        panel.set_xticks(places, labels, fontsize="small")
        panel.set(ylim=(-0.02, 1.02))
        panel.set_title(textwrap.fill(title, 44), fontsize="small")
        panel.grid(visible=True, axis="y", color="0.9")
    for panel in panels[len(families) :]:
        panel.set_visible(False)
    panels[0].legend(fontsize="small", loc="lower left")
    _save(figure, path)


def plot_by_label(
    columns: Mapping[str, Float[np.ndarray, " n"]], label: Int[np.ndarray, " n"], path: Path
) -> None:
    """Draw how each property is distributed among real and among fake images, three panels a row.

    A property of zeros and ones becomes two bars with the share of ones; any other a histogram, on a logarithmic axis
    where its values span more than two orders of magnitude.

    Raises:
        MissingDataError: If there is no property to draw.
        MissingExtraError: If matplotlib is not installed.
    """
    if not columns:
        raise MissingDataError("No distribution to draw: there is no property.")
    rows = -(-len(columns) // 3)
    figure, grid = _figure((rows, 3), _PANEL_INCHES)
    panels = np.ravel(grid)
    for axes in panels[len(columns) :]:
        axes.set_axis_off()
    for axes, (name, values) in zip(panels, columns.items(), strict=False):
        of = {each: values[label == each] for each in Label}
        if np.isin(values, (0, 1)).all():
            shares = [float(members.mean()) if len(members) else 0.0 for members in of.values()]
            axes.bar([each.name.lower() for each in of], shares, color=list(_COLOURS.values()))
            axes.set(ylim=(0, 1), ylabel="share of images")
        else:
            _histograms(axes, of)
        axes.set_title(name, fontsize="small")
    _save(figure, path)


def _histograms(axes: Any, of: Mapping[Label, Float[np.ndarray, " _n"]]) -> None:
    values = np.concatenate(list(of.values()))
    low, high = float(values.min()), float(values.max())
    wide = low > 0 and high > 100 * low
    edges = np.geomspace(low, high, 31) if wide else np.histogram_bin_edges(values, bins=30)
    for each, members in of.items():
        # Shares, not densities: these stay readable on a logarithmic axis.
        weights = np.full(len(members), 1 / max(len(members), 1))
        name = each.name.lower()
        axes.hist(members, edges, weights=weights, alpha=0.55, color=_COLOURS[each], label=name)
    axes.set(xscale="log" if wide else "linear", ylabel="share of images")
    axes.legend(fontsize="small")


def _figure(
    grid: tuple[int, int] = (1, 1), panel: tuple[float, float] = _SIZE_INCHES
) -> tuple[Any, Any]:
    """Return a figure of its own and its axes: no state that other drawings would share."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError.of("A plot", "matplotlib", "evaluate") from error
    down, across = grid
    size = (panel[0] * across, panel[1] * down)
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(down, across)


def _save(figure: Any, path: Path) -> None:
    kind = path.suffix.lower().lstrip(".") or "png"
    with complete_or_absent(path) as unfinished:
        figure.savefig(unfinished, format=kind, dpi=_DPI)
