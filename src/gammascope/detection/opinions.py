"""A second opinion: several detectors that look at the same pictures in one scan or server, side by side.

None of their verdicts is combined with another's: that would be a fusion, which has to be fitted. Where they differ,
that is said in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gammascope.detection.pipeline import Besides, Pipeline
from gammascope.errors import RecipeError
from gammascope.files import shown
from gammascope.report import Report

_ONCE = ("format", "image", "width", "height")  # Of the picture, not of an opinion.


@dataclass(frozen=True, slots=True)
class Detectors:
    """The detectors of a scan or a server.

    Attributes:
        names: Short and distinct, for people.
        pipelines: In the same order. The first speaks for all; it alone reads what files say of their origin, and looks
            for parts with another history.
    """

    names: tuple[str, ...]
    pipelines: tuple[Pipeline, ...]

    @classmethod
    def load(
        cls, weights: Sequence[str], besides: Besides, load: Callable[..., Pipeline]
    ) -> Detectors:
        """Load each of several ``--weights`` by a function that takes its name, and ``besides``.

        Raises:
            RecipeError: If two of them are the same detector.
        """
        quiet = replace(besides, provenance=False, forensics=False)
        first, *further = weights
        pipelines = (
            load(first, besides=besides),
            *(load(name, besides=quiet) for name in further),
        )
        seen: dict[str, str] = {}
        for name, pipeline in zip(weights, pipelines, strict=True):
            if pipeline.weights_sha256 in seen:
                twin = seen[pipeline.weights_sha256]
                raise RecipeError(f"--weights {twin} and {name} are one detector: name it once.")
            seen[pipeline.weights_sha256] = name
        return cls(short_names(weights), pipelines)

    @property
    def key(self) -> str:
        """What their answers depend on besides the picture: which weights look, how many views, and who says so."""
        spoke = [f"{one.weights_sha256}:{one.profile}" for one in self.pipelines]
        if not self.several:  # no name is in its answers
            return spoke[0]
        return ";".join(f"{name}={which}" for name, which in zip(self.names, spoke, strict=True))

    @property
    def several(self) -> bool:
        """Whether there is a second opinion."""
        return len(self.names) > 1

    def named(self, reports: Sequence[Report]) -> dict[str, Report]:
        """Return the reports on one picture by the detectors' names."""
        return dict(zip(self.names, reports, strict=True))


def short_names(weights: Sequence[str]) -> tuple[str, ...]:
    """Return names for people: as short as tells the detectors apart.

    >>> short_names(["default", "runs/a/checkpoint.safetensors"])
    ('default', 'checkpoint')
    >>> short_names(["runs/a/checkpoint.safetensors", "runs/b/checkpoint.safetensors"])
    ('a/checkpoint', 'b/checkpoint')
    """
    paths = [Path(name) for name in weights]
    short = [path.stem for path in paths]
    longer = [f"{path.parent.name}/{path.stem}" for path in paths]
    for made in (short, longer):
        if len(set(made)) == len(made):
            return tuple(map(shown, made))
    return tuple(map(shown, weights))


def differences(reports: Mapping[str, Report]) -> list[str]:
    """Say on which questions detectors do not say the same; one sentence each.

    Args:
        reports: On one picture, by the detectors' names.
    """
    said = []
    for question in dict.fromkeys(name for report in reports.values() for name in report.answers):
        verdicts = {
            name: report.answers[question].verdict
            for name, report in reports.items()
            if question in report.answers
        }
        if len(set(verdicts.values())) > 1:
            each = ", ".join(
                f"{name} says {verdict.on(question)}" for name, verdict in verdicts.items()
            )
            said.append(f"The detectors differ on {question}: {each}.")
    return said


def opinions_json(
    reports: Mapping[str, Report], plain: Callable[[Report], dict[str, Any]] = Report.to_json
) -> dict[str, Any]:
    """Return the first report as plain types and the others below "second_opinions", with what they differ on.

    Args:
        reports: On one picture, by the detectors' names.
        plain: Makes plain types of one report.
    """
    (name, first), *further = reports.items()
    row = plain(first)
    if not further:
        return row
    opinions = [
        {"detector": other}
        | {key: value for key, value in plain(report).items() if key not in _ONCE}
        for other, report in further
    ]
    beside = {"second_opinions": opinions, "differences": differences(reports)}
    return row | {"detector": name} | beside
