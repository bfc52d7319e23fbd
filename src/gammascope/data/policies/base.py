"""The contract of a policy: a pure plan of jobs in two arms, and what becomes of each job's outcome.

What is learnt is authenticity, so each generated picture has a control that went the same way without a generator:
equal factors, equal processing, equal encoding. A pair that fails, fails as a whole; nothing that failed is ever called
a fake.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from gammascope.errors import GammascopeError, RecipeError, did_you_mean
from gammascope.generation.base import Ability
from gammascope.manipulation.base import Manipulated
from gammascope.sample import Entry, Image, KeptApart, Label

Arm: TypeAlias = Literal["generated", "control"]
ARMS: Final[tuple[Arm, ...]] = get_args(Arm)

_DARK, _FLAT, _SAME = 2.0, 2.0, 0.5  # grey levels


class FailedJobError(GammascopeError):
    """A generator's answer cannot be used."""


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to be made.

    Attributes:
        twin: Number of the pair; both jobs of a pair are processed alike.
        arm: With a generator or without.
        host: The photo it is made of.
        prompt: What the generator is asked for; equal in both jobs of a pair, as a factor.
        strength: Of the edit, 0..1; likewise.
    """

    twin: int
    arm: Arm
    host: Entry
    prompt: str
    strength: float

    @property
    def factors(self) -> tuple[str, str, float]:
        """What must be as frequent in one arm as in the other."""
        return self.host.source or "", self.prompt, self.strength


Planner: TypeAlias = Callable[[Sequence[Entry], Sequence[str], int, np.random.Generator], list[Job]]
"""Photos, prompts, budget and a state to pairs of jobs; the same arguments give the same plan, no picture is opened."""

Finisher: TypeAlias = Callable[[Job, Image, Image, np.random.Generator], Manipulated]
"""Job, the generator's answer (the photo itself for a control), the photo, and a state that both of a pair share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One module in ``data/policies/`` defines one, as ``POLICY``; its name is the file's.

    Attributes:
        title: Name as its authors write it.
        paper: arXiv id.
        needs: What the generator must be able to do.
        plan: Which jobs.
        finish: What their outcomes are.
        notice: What a person must accept before using it; "": nothing.
    """

    title: str
    paper: str
    needs: Ability
    plan: Planner
    finish: Finisher
    notice: str = ""


def names() -> list[str]:
    """List the policies by file name.

    >>> "interventions" in names()
    True
    """
    package = importlib.import_module("gammascope.data.policies")
    return sorted({module.name for module in pkgutil.iter_modules(package.__path__)} - {"base"})


def get(name: str, *, accepted: bool = False) -> Policy:
    """Return a policy.

    Args:
        name: Of the policy.
        accepted: Whether its notice, if it has one, was accepted.

    Raises:
        RecipeError: If there is none of this name, or its notice was not accepted.
    """
    known = names()
    if name not in known:
        raise RecipeError(
            f"Unknown policy {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."
        )
    policy: Policy = importlib.import_module(f"gammascope.data.policies.{name}").POLICY
    if policy.notice and not accepted:
        raise RecipeError(
            f"{policy.title} is off: {policy.notice} Accept by --accept-patent-notice."
        )
    return policy


def jobs(
    policy: Policy,
    entries: Sequence[Entry],
    prompts: Sequence[str],
    budget: int,
    seed: int,
    apart: KeptApart,
) -> list[Job]:
    """Plan with the real photos that are not kept apart.

    Args:
        policy: Which one.
        entries: The pool.
        prompts: What the generator can be asked for; none: it is asked for nothing.
        budget: Pairs to make, each of another photo.
        seed: Of all draws.
        apart: Sources that no job may touch.

    Raises:
        RecipeError: If the budget is larger than the pool.
    """
    pool = [e for e in entries if e.label is Label.REAL and not apart.holds(e)]
    pool.sort(key=lambda entry: str(entry.path))
    if not 1 <= budget <= len(pool):
        raise RecipeError(
            f"A budget of {budget} with {len(pool)} photos: expected 1 to {len(pool)}, each photo is used once."
        )
    return policy.plan(pool, prompts or ("",), budget, np.random.default_rng(seed))


def beside_itself(strengths: Sequence[float]) -> Planner:
    """Return a planner: each photo drawn is its own control, over a grid of prompts and these strengths."""

    def plan(
        photos: Sequence[Entry], prompts: Sequence[str], budget: int, rng: np.random.Generator
    ) -> list[Job]:
        grid = [(prompt, strength) for prompt in prompts for strength in strengths]
        return [
            Job(twin, arm, photos[index], *grid[twin % len(grid)])
            for twin, index in enumerate(rng.permutation(len(photos))[:budget])
            for arm in ARMS
        ]

    return plan


def whole(job: Job, made: Image, host: Image, rng: np.random.Generator) -> Manipulated:
    """Finish a job by saying that an edit is generated as a whole, and a control not at all."""
    del rng
    nothing = np.zeros(host.shape[:2], bool)
    if job.arm == "control":
        return Manipulated(host, nothing, nothing.copy(), None)
    return Manipulated(checked(made, host), ~nothing, nothing, None)


def checked(made: Image, host: Image) -> Image:
    """Return a generator's answer, unless it failed.

    Raises:
        FailedJobError: If it is of another size, blank, or the photo itself.
    """
    if made.shape != host.shape:
        raise FailedJobError(f"the answer is {made.shape}, the photo {host.shape}")
    if made.mean() < _DARK and made.std() < _FLAT:
        raise FailedJobError("the answer is black")
    if np.abs(made.astype(int) - host).mean() < _SAME:
        raise FailedJobError("the answer is the photo")
    return made
