"""One detector from several: the mean of weights that were trained from the same start on other draws."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gammascope import checkpoints, settings
from gammascope.checkpoints import Checkpoint
from gammascope.detectors import base
from gammascope.errors import IncompatibleCheckpointError, RecipeError
from gammascope.sample import KeptApart

LEAST_LIKENESS = 0.5
"""Cosine below which weights are taken to come from different starts: other seeds give 0, other data 0.9 and more."""


def average(paths: Sequence[Path], target: Path) -> str:
    """Write the mean of checkpoints as a new one.

    Networks that began with the same weights and saw different data or orders end up in one basin; their mean is
    often better than each on images unlike those trained on, at the cost of one. It is not calibrated. Sources count
    as kept apart only if every member kept them apart.

    Source: "model soups", Wortsman et al., arXiv:2203.05482, the uniform one; the refusal of strangers is ours.

    Args:
        paths: Two or more, of one method and config.
        target: The file to write.

    Returns:
        Its sha256.

    Raises:
        RecipeError: If there are fewer than two, or one is there twice.
        MissingDataError: If one is not there.
        IncompatibleCheckpointError: If method or config differ, or their first weights did.
    """
    if len(paths) < 2:
        raise RecipeError(f"{len(paths)} checkpoint: expected two or more to average.")
    members = [checkpoints.load(path) for path in paths]
    first = members[0]
    for at, (path, member) in enumerate(zip(paths, members, strict=True)):
        twin = next((paths[n] for n in range(at) if members[n].sha256 == member.sha256), None)
        if twin is not None:
            raise RecipeError(f"{path} is the same checkpoint as {twin}.")
        if member.facts.method != first.facts.method or _config(member) != _config(first):
            raise IncompatibleCheckpointError(
                f"{path} ({member.facts.method}) has another method or config than {paths[0]} ({first.facts.method}): "
                "only networks of one design have a mean."
            )
        likeness = _likeness(first.detector.state_dict(), member.detector.state_dict())
        if likeness < LEAST_LIKENESS:
            raise IncompatibleCheckpointError(
                f"{path} and {paths[0]} did not begin with the same weights (cosine {likeness:.2f}, expected at least "
                f"{LEAST_LIKENESS}): their mean would be worse than either. Train them with the same seed."
            )
    states = [member.detector.state_dict() for member in members]
    first.detector.load_state_dict({name: _mean([s[name] for s in states]) for name in states[0]})
    return checkpoints.save(target, first.detector, _facts(members))


def _config(member: Checkpoint) -> Any:
    """Return the config with all defaults, which older files leave out."""
    kind = type(base.get(member.facts.method).config)
    return settings.parse(kind, member.facts.config, "a checkpoint's config"), member.facts.view


def _mean(values: Sequence[Tensor]) -> Tensor:
    if not values[0].is_floating_point():
        return values[0]
    return torch.stack([value.double() for value in values]).mean(0).to(values[0].dtype)


def _likeness(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the cosine between all weights that differ; 1 if none does."""
    names = [
        name
        for name, value in one.items()
        if value.is_floating_point() and value.ndim > 1 and not torch.equal(value, other[name])
    ]
    if not names:
        return 1.0
    a, b = (torch.cat([state[name].double().flatten() for name in names]) for state in (one, other))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def _facts(members: Sequence[Checkpoint]) -> checkpoints.Facts:
    facts = members[0].facts
    apart = functools.reduce(KeptApart.shared, (member.facts.kept_apart for member in members))
    recipe = {
        **facts.recipe,
        "data": {
            **facts.recipe.get("data", {}),
            "validation_sources": sorted(apart.sources),
            "validation_generators": sorted(apart.generators),
        },
        "averaged": [member.sha256 for member in members],
    }
    said = list(dict.fromkeys(m.facts.trained_on for m in members if m.facts.trained_on))
    seen = [set(member.facts.seen) for member in members]
    return replace(
        facts,
        recipe=recipe,
        trained_on="; ".join(said),
        seen=tuple(sorted(set.union(*seen))) if all(seen) else (),
        calibration={},
        profiles={},
        settled={},
    )
