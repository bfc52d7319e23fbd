"""Run a policy's jobs: pictures of both arms with masks and a manifest, encoded alike; an interrupted run goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np

from gammascope.data.pictures import Pictures
from gammascope.data.policies import base
from gammascope.data.products import (
    SUFFIXES,
    Edits,
    Product,
    claim,
    cut_square,
    make_each,
    write_mask,
    write_picture,
)
from gammascope.errors import RecipeError
from gammascope.generation.base import Critic, Editor, Generator, Guided
from gammascope.imaging.codecs import Encoding
from gammascope.manipulation.base import Manipulated
from gammascope.sample import Entry, Image, KeptApart, Label, Origin

_MEMORY_BYTES = 10**9


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """What is made.

    Attributes:
        policy: Its name.
        budget: Pairs of a generated picture and its control.
        generator: Its signature.
        held_out: Sources that no job touches.
        seed: Of all draws.
        encoding: Of all pictures.
        square: As in ``edits.Plan``.
        accepted: Whether the policy's notice was accepted.
        guided: Share of the pairs whose generated picture goes against a critic, spread evenly.
    """

    policy: str
    budget: int
    generator: str
    held_out: tuple[str, ...] = ()
    seed: int = 0
    encoding: Encoding = field(default_factory=lambda: Encoding("jpeg", 90))
    square: int | None = None
    accepted: bool = False
    guided: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.guided <= 1:
            raise RecipeError(f"guided={self.guided}: expected a share of 0 to 1.")

    def against(self, twin: int) -> bool:
        """Whether the generated picture of this pair goes against the critic."""
        return math.floor((twin + 1) * self.guided) > math.floor(twin * self.guided)


def augment(
    photos: Sequence[Entry],
    folder: Path,
    plan: PolicyPlan,
    generator: Generator,
    *,
    critic: Critic | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Edits:
    """Make what a policy plans.

    Pictures go to ``generated/`` and ``control/``, masks to ``masks/``. A pair whose generated picture fails is left
    out as a whole, so both arms stay alike.

    Args:
        photos: The pool.
        folder: Where everything goes; may hold an earlier, interrupted run of the same plan.
        plan: What is made.
        generator: What writes pixels.
        critic: Whose eyes are to be deceived, where the plan says so.
        progress: Called with (done, all) after each pair.

    Raises:
        RecipeError: If the policy is unknown or off, the generator cannot do what it needs, the budget is larger than
            the pool, a critic is needed and missing, or the folder holds another plan's run.
        MissingDataError: If every pair failed.
    """
    policy = base.get(plan.policy, accepted=plan.accepted)
    generator.require(policy.needs)
    if plan.guided:
        generator.require("guided")
        if critic is None:
            raise RecipeError(f"guided={plan.guided}: pictures against a critic need one.")
    prompts = getattr(generator.config, "classes", ())
    apart = KeptApart(frozenset(plan.held_out))
    planned = base.jobs(policy, photos, prompts, plan.budget, plan.seed, apart)
    claim(folder, plan, PolicyPlan(plan.policy, plan.budget, plan.generator))
    pairs = list(zip(planned[::2], planned[1::2], strict=True))
    return make_each(
        [(pair[0].host.path, pair) for pair in pairs],
        _Work(folder, plan, policy, generator, critic).made_of,
        folder,
        f"None of {len(pairs)} pairs could be made",
        progress,
    )


class _Work:
    """What one run makes of pairs, and what it keeps for the next of them."""

    def __init__(
        self,
        folder: Path,
        plan: PolicyPlan,
        policy: base.Policy,
        generator: Generator,
        critic: Critic | None,
    ) -> None:
        self.folder, self.plan, self.policy = folder, plan, policy
        self.generator, self.critic = generator, critic
        self.pictures = Pictures(_MEMORY_BYTES)

    def made_of(self, pair: tuple[base.Job, base.Job]) -> list[Product]:
        """Make both pictures of a pair, or neither."""
        places = [self._place(job) for job in pair]
        kept = all(place.exists() for place in places)
        if not kept:
            made = [self._made(job) for job in pair]
            for job, place, product in zip(pair, places, made, strict=True):
                self._write(job, place, product)
        return [
            Product(self._entry(job, place), kept) for job, place in zip(pair, places, strict=True)
        ]

    def _made(self, job: base.Job) -> Manipulated:
        host = self._photo(job.host)
        # Each arm has its own draws of the generator's, and both share those of the processing.
        answer = host
        if job.arm == "generated":
            draws = np.random.default_rng((self.plan.seed, job.twin, 1))
            if self.critic is not None and self.plan.against(job.twin):
                answer = cast(Guided, self.generator).guided(host, self.critic, draws)
            else:
                answer = cast(Editor, self.generator).edit(host, job.prompt, job.strength, draws)
        shared = np.random.default_rng((self.plan.seed, job.twin, 0))
        return self.policy.finish(job, answer, host, shared)

    def _photo(self, entry: Entry) -> Image:
        image = self.pictures.image(entry.path)
        return cut_square(image, self.plan.square, entry.path.name) if self.plan.square else image

    def _write(self, job: base.Job, place: Path, product: Manipulated) -> None:
        if product.kind is not None:
            write_mask(self._mask(job, "generated"), product.generated)
            write_mask(self._mask(job, "edited"), product.edited)
        write_picture(place, product.image, self.plan.encoding)

    def _place(self, job: base.Job) -> Path:
        return self.folder / job.arm / f"{job.twin:06}{SUFFIXES[self.plan.encoding.format]}"

    def _mask(self, job: base.Job, name: str) -> Path:
        return self.folder / "masks" / f"{job.twin:06}.{name}.png"

    def _entry(self, job: base.Job, place: Path) -> Entry:
        origin = Origin(self.plan.policy, job.prompt, self.plan.seed, str(job.twin))
        control = Entry(
            place, Label.REAL, source=job.host.source, split=job.host.split, origin=origin
        )
        if job.arm == "control":
            return control
        fake = replace(control, label=Label.FAKE, generator=self.generator.signature)
        generated, edited = (self._mask(job, name) for name in ("generated", "edited"))
        if not generated.exists():
            return fake
        return replace(fake, kind="inpainting", generated_path=generated, edited_path=edited)
