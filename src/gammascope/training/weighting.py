"""Weights of loss terms that are learnt with the network: what helps a proxy of the goal comes to count more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gammascope.errors import RecipeError
from gammascope.prediction import Batch

Terms: TypeAlias = Callable[[Batch], dict[str, Tensor]]
"""Loss terms of a batch under the network's present weights, unweighted."""

GradientMode: TypeAlias = Literal["finite_diff", "exact"]


class BilevelWeights:
    """One weight per loss term, moved so that a step on the weighted terms lowers one of them elsewhere.

    The inner problem is a plain gradient step on the weighted terms of one batch; the outer one is the proxy term on
    another batch, after that step. Its gradient with respect to a weight is ``-step * <grad term, d>``, where ``d`` is
    the proxy's gradient after the step: a term grows if its own gradient points where the proxy's does.

    Source: arXiv:2507.22824, with one unrolled step as in its code (after arXiv:2202.03091); the weights are free, and
    may become negative unless ``floor`` forbids it.

    Args:
        proxy: Name of the term that the outer problem minimises.
        rate: Of Adam on the weights.
        gradient: "finite_diff" takes differences of the terms along ``d``; "exact" multiplies gradients.
        floor: Weights are kept at or above; None: free.
    """

    def __init__(
        self,
        proxy: str,
        *,
        rate: float = 3e-4,
        gradient: GradientMode = "finite_diff",
        floor: float | None = None,
    ) -> None:
        self.proxy, self.rate, self.gradient, self.floor = proxy, rate, gradient, floor
        self.names: list[str] = []
        self.values = torch.ones(0)
        self.optimiser: torch.optim.Adam | None = None

    def of(self, term: str) -> Tensor:
        """Return the weight of a term; 1 before the first update."""
        return self.values[self.names.index(term)] if term in self.names else torch.ones(())

    def update(
        self,
        network: nn.Module,
        terms: Terms,
        batches: tuple[Batch, Batch],
        *,
        step: float,
        decay: float = 0.0,
    ) -> None:
        """Move the weights; the network, its statistics and the random state are left as they were.

        Args:
            network: Whose parameters ``terms`` depends on.
            terms: Evaluates the loss.
            batches: Of the inner and of the outer problem.
            step: Learning rate of the inner step, and of the outer gradient.
            decay: Weight decay of the inner step.

        Raises:
            RecipeError: If there is no term of the proxy's name.
        """
        gradients = self.gradients(network, terms, batches, step=step, decay=decay)
        if self.optimiser is None:
            self._begin(list(gradients), next(iter(gradients.values())))
        assert self.optimiser is not None  # noqa: S101 - for mypy
        self.values.grad = torch.stack([gradients[name] for name in self.names])
        self.optimiser.step()
        if self.floor is not None:
            with torch.no_grad():
                self.values.clamp_(min=self.floor)

    def gradients(
        self,
        network: nn.Module,
        terms: Terms,
        batches: tuple[Batch, Batch],
        *,
        step: float,
        decay: float = 0.0,
    ) -> dict[str, Tensor]:
        """Return the outer gradient of every weight; leaves the network as it was."""
        inner, outer = batches
        parameters = [p for p in network.parameters() if p.requires_grad]
        with _untouched(network) as again:
            again()
            found = terms(inner)
            if self.proxy not in found:
                raise RecipeError(
                    f"No loss term {self.proxy!r} to weigh the others by; there are {', '.join(found)}."
                )
            weighted = torch.stack([self.of(name).to(v) * v for name, v in found.items()]).sum()
            slopes = _slopes(weighted, parameters)
            with torch.no_grad():
                for parameter, slope in zip(parameters, slopes, strict=True):
                    parameter.sub_(step * (slope + decay * parameter))
            again()
            direction = _slopes(terms(outer)[self.proxy], parameters)
        along = self._exact if self.gradient == "exact" else self._difference
        agreement = along(network, terms, inner, direction)
        return {name: -step * value for name, value in agreement.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        inner = None if self.optimiser is None else self.optimiser.state_dict()
        return {"names": self.names, "values": self.values.detach().clone(), "optimiser": inner}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        if state["optimiser"] is None:
            return
        self._begin(list(state["names"]), state["values"])
        with torch.no_grad():
            self.values.copy_(state["values"])
        if self.optimiser is not None:
            self.optimiser.load_state_dict(state["optimiser"])

    def _begin(self, names: list[str], like: Tensor) -> None:
        self.names = names
        self.values = torch.ones(len(names), dtype=like.dtype, device=like.device)
        self.optimiser = torch.optim.Adam([self.values], lr=self.rate)

    def _exact(
        self, network: nn.Module, terms: Terms, batch: Batch, direction: list[Tensor]
    ) -> dict[str, Tensor]:
        parameters = [p for p in network.parameters() if p.requires_grad]
        with _untouched(network) as again:
            again()
            found = terms(batch)
            return {
                name: torch.stack(
                    [
                        (slope * d).sum()
                        for slope, d in zip(_slopes(value, parameters), direction, strict=True)
                    ]
                ).sum()
                for name, value in found.items()
            }

    def _difference(
        self, network: nn.Module, terms: Terms, batch: Batch, direction: list[Tensor]
    ) -> dict[str, Tensor]:
        length = torch.stack([d.square().sum() for d in direction]).sum().sqrt()
        # A step of a hundredth whatever the gradient; no direction, no step.
        epsilon = 0.01 / length.clamp(min=1e-12)
        parameters = [p for p in network.parameters() if p.requires_grad]
        sides = []
        for sign in (1.0, -1.0):
            with _untouched(network) as again, torch.no_grad():
                for parameter, d in zip(parameters, direction, strict=True):
                    parameter.add_(sign * epsilon * d)
                again()
                sides.append(terms(batch))
        ahead, behind = sides
        return {name: (ahead[name] - behind[name]) / (2 * epsilon) for name in ahead}


def _slopes(value: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    if not value.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(p) if slope is None else slope
        for p, slope in zip(parameters, found, strict=True)
    ]


@contextmanager
def _untouched(network: nn.Module) -> Iterator[Callable[[], None]]:
    """Give parameters, statistics and random state back afterwards, bit for bit.

    Yields what sets the random state back in between, so that every evaluation draws the same.
    """
    held = {name: value.detach().clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    try:
        yield lambda: torch.set_rng_state(state)
    finally:
        torch.set_rng_state(state)
        with torch.no_grad():
            for name, value in network.state_dict().items():
                value.copy_(held[name])
