"""Run a policy's jobs: pictures of both arms with masks and a manifest, encoded alike; an interrupted run goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np

from gammascope.data.identity import network_sha256, photos_sha256
from gammascope.data.pictures import Pictures
from gammascope.data.policies import base
from gammascope.data.products import (
    SUFFIXES,
    Edits,
    Frame,
    Product,
    claim,
    make_each,
    write_mask,
    write_picture,
)
from gammascope.errors import RecipeError
from gammascope.generation.base import Critic, Editor, Generator, Guided
from gammascope.imaging.codecs import Encoding
from gammascope.manipulation.base import Manipulated
from gammascope.sample import Entry, KeptApart, Label, Origin

Pair: TypeAlias = tuple[base.Job, base.Job]
"""The generated picture and its control."""

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
        square: As in ``products.Frame``.
        accepted: Whether the policy's notice was accepted.
        guided: Share of the pairs whose generated picture goes against a critic, spread evenly.
        largest_side: As in ``products.Frame``.
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
    largest_side: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.guided <= 1:
            raise RecipeError(f"guided={self.guided}: expected a share of 0 to 1.")

    def against(self, twin: int) -> bool:
        """Whether the generated picture of this pair goes against the critic."""
        return math.floor((twin + 1) * self.guided) > math.floor(twin * self.guided)

    def pairs(self, photos: Sequence[Entry], generator: Generator) -> list[Pair]:
        """Plan with these photos.

        Raises:
            RecipeError: If the policy is unknown or off, or the budget is larger than the pool.
        """
        policy = base.get(self.policy, accepted=self.accepted)
        prompts = getattr(generator.config, "classes", ())
        apart = KeptApart(frozenset(self.held_out))
        planned = base.jobs(policy, photos, prompts, self.budget, self.seed, apart)
        return list(zip(planned[::2], planned[1::2], strict=True))


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
        folder: Where everything goes; may hold an earlier, interrupted run of the same plan with the same photos and
            weights.
        plan: What is made.
        generator: What writes pixels.
        critic: Whose eyes are to be deceived, where the plan says so.
        progress: Called with (done, all) after each pair.

    Raises:
        RecipeError: If the policy is unknown or off, the generator cannot do what it needs, the budget is larger than
            the pool, a critic is needed and missing, or the folder holds another run.
        MissingDataError: If every pair failed.
    """
    policy = base.get(plan.policy, accepted=plan.accepted)
    generator.require(policy.needs)
    if plan.guided:
        generator.require("guided")
        if critic is None:
            raise RecipeError(f"guided={plan.guided}: pictures against a critic need one.")
    pairs = plan.pairs(photos, generator)
    # Files are named by the number of their pair, which only what it is made of tells from another pool's.
    made_of = {"photos_and_sources": _pairs_sha256(pairs), "generator": network_sha256(generator)}
    claim(folder, plan, **made_of)
    return make_each(
        [(generated.host.path, (generated, control)) for generated, control in pairs],
        _Work(folder, plan, policy, generator, critic).made_of,
        folder,
        f"None of {len(pairs)} pairs could be made",
        progress,
    )


def _pairs_sha256(pairs: Sequence[Pair]) -> str:
    def said(job: base.Job) -> str:
        return repr((job.host.source, job.host.split, job.prompt, job.strength, job.style))

    return photos_sha256((said(job), job.host.path) for pair in pairs for job in pair)


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
        self.frame = Frame(plan.largest_side, plan.square)

    def made_of(self, pair: Pair) -> list[Product]:
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
        photo = self.frame.image(self.pictures.image(job.host.path), job.host.path.name)
        host = self.policy.prepare(job, photo)
        # Each arm has its own draws of the generator's, and both share those of the processing.
        answer = host
        if job.arm == "generated":
            draws = np.random.default_rng((self.plan.seed, job.twin, 1))
            if self.plan.against(job.twin):
                critic = cast(Critic, self.critic)
                answer = cast(Guided, self.generator).guided(host, critic, draws)
            else:
                answer = cast(Editor, self.generator).edit(host, job.prompt, job.strength, draws)
        shared = np.random.default_rng((self.plan.seed, job.twin, 0))
        return self.policy.finish(job, answer, host, shared)

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
        origin = Origin(
            policy=self.plan.policy, seed=self.plan.seed, twin=str(job.twin), style=job.style
        )
        control = Entry(
            place, Label.REAL, source=job.host.source, split=job.host.split, origin=origin
        )
        if job.arm == "control":
            return control
        # What goes against a critic follows its slope alone: no class, and a strength of the generator's own.
        asked = (
            replace(origin, guided=True)
            if self.plan.against(job.twin)
            else replace(origin, prompt=job.prompt, strength=job.strength)
        )
        fake = replace(control, label=Label.FAKE, generator=self.generator.signature, origin=asked)
        generated, edited = (self._mask(job, name) for name in ("generated", "edited"))
        if not generated.exists():
            return fake
        return replace(fake, kind="inpainting", generated_path=generated, edited_path=edited)
