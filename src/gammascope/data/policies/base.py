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
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from jaxtyping import UInt8

from gammascope.data.identity import distinct, without
from gammascope.errors import GammascopeError, RecipeError, did_you_mean
from gammascope.generation.base import Ability
from gammascope.manipulation.base import Manipulated
from gammascope.sample import Entry, Image, KeptApart, Label

Arm: TypeAlias = Literal["generated", "control"]
T = TypeVar("T")

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
        prompt: What the generator is asked for; "" in a control.
        strength: Of the edit, 0..1; 0 in a control.
        style: What the photo goes through before the edit, in both jobs of a pair; "": nothing.
    """

    twin: int
    arm: Arm
    host: Entry
    prompt: str = ""
    strength: float = 0.0
    style: str = ""

    @property
    def factors(self) -> tuple[str, str]:
        """What both pictures of a pair show, and is as frequent in one arm as in the other."""
        return self.host.source or "", self.style


Planner: TypeAlias = Callable[[Sequence[Entry], Sequence[str], int, np.random.Generator], list[Job]]
"""Photos, prompts, budget and a state to pairs of jobs; the same arguments give the same plan, no picture is opened."""

Answer: TypeAlias = UInt8[np.ndarray, "rows columns 3"]
"""What a generator made, of any size until it is checked."""

Preparer: TypeAlias = Callable[[Job, Image], Image]
"""Job and photo to what is edited, and kept as it is in a control."""

Finisher: TypeAlias = Callable[[Job, Answer, Image, np.random.Generator], Manipulated]
"""Job, the generator's answer (in a control: what was prepared), what was prepared, a state that both jobs share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One module in ``data/policies/`` defines one, as ``POLICY``; its name is the file's.

    Attributes:
        title: Name as its authors write it.
        paper: arXiv id.
        needs: What the generator must be able to do.
        plan: Which jobs.
        prepare: What both arms do to their photo; nothing, where a policy says nothing else.
        finish: What their outcomes are.
        notice: What a person must accept before using it; "": nothing.
    """

    title: str
    paper: str
    needs: Ability
    plan: Planner
    prepare: Preparer = lambda _, photo: photo
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
    """Plan with the real photos that are neither kept apart nor copies of such, each once, whatever files hold it.

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
    real = [entry for entry in entries if entry.label is Label.REAL]
    real.sort(key=lambda entry: str(entry.path))
    pool = distinct(without(real, apart))
    if not 1 <= budget <= len(pool):
        raise RecipeError(
            f"A budget of {budget} with {len(pool)} photos: expected 1 to {len(pool)}, each photo makes one pair."
        )
    return policy.plan(pool, prompts or ("",), budget, np.random.default_rng(seed))


def pair(
    twin: int, host: Entry, control: Entry, prompt: str, strength: float, style: str = ""
) -> list[Job]:
    """Return both jobs of a pair."""
    return [
        Job(twin, "generated", host, prompt, strength, style),
        Job(twin, "control", control, style=style),
    ]


def spread(values: Sequence[T], count: int, rng: np.random.Generator) -> list[T]:
    """Return so many of the values, each as often as the others but for a rest, in random order.

    Two factors drawn so know nothing of each other.
    """
    numbers = np.resize(rng.permutation(len(values)), count)
    return [values[number] for number in rng.permutation(numbers)]


def beside_itself(strengths: Sequence[float]) -> Planner:
    """Return a planner: each photo drawn is its own control; prompts and these strengths are equally frequent."""

    def plan(
        photos: Sequence[Entry], prompts: Sequence[str], budget: int, rng: np.random.Generator
    ) -> list[Job]:
        hosts = [photos[index] for index in rng.permutation(len(photos))[:budget]]
        drawn = zip(
            hosts, spread(prompts, budget, rng), spread(strengths, budget, rng), strict=True
        )
        return [
            job
            for twin, (host, prompt, strength) in enumerate(drawn)
            for job in pair(twin, host, host, prompt, strength)
        ]

    return plan


def whole(job: Job, made: Answer, host: Image, rng: np.random.Generator) -> Manipulated:
    """Finish a job by saying that an edit is generated as a whole, and a control not at all."""
    del rng
    nothing = np.zeros(host.shape[:2], bool)
    if job.arm == "control":
        return Manipulated(host, nothing, nothing.copy(), None)
    return Manipulated(checked(made, host), ~nothing, nothing, None)


def checked(made: Answer, host: Image | None) -> Image:
    """Return a generator's answer, or the part of it that a generator wrote, unless it failed.

    Args:
        made: The answer.
        host: The photo, or the same part of it; None: it was made of none.

    Raises:
        FailedJobError: If it is of another size, black, or the photo itself.
    """
    if host is not None and made.shape != host.shape:
        raise FailedJobError(f"the answer is {made.shape}, the photo {host.shape}")
    if made.mean() < _DARK and made.std() < _FLAT:
        raise FailedJobError("the answer is black")
    if host is not None and np.abs(made.astype(np.int16) - host).mean() < _SAME:
        raise FailedJobError("the answer is the photo")
    return made
