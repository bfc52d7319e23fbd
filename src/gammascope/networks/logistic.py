"""Logistic regression, solved to the optimum: the head of a linear probe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from gammascope.errors import MissingDataError, RecipeError

GRADIENT = 1e-7
"""Largest slope of the objective, in any direction, that counts as an optimum."""

_STEPS = 5000


@dataclass(frozen=True, slots=True)
class Logistic:
    """A fitted logistic regression: ``logit = features @ weight + bias``, in double precision."""

    weight: Float[Tensor, " d"]
    bias: Float[Tensor, ""]

    def logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the logit of each row."""
        return features.to(self.weight) @ self.weight + self.bias


def fit_logistic(
    features: Float[Tensor, "n d"],
    truth: Int[Tensor, " n"],
    penalty: float,
    trust: Float[Tensor, " d"] | None = None,
    weight: Float[Tensor, " n"] | None = None,
    gradient: float = GRADIENT,
) -> Logistic:
    """Minimise ``mean BCE + penalty / 2 |w|^2`` over standardised features; the bias is free.

    Convex, so the optimum is the only one; L-BFGS with strong Wolfe line search, in double precision. Standardising
    makes one penalty mean the same for every backbone; it is folded into what is returned, which reads raw features.

    Args:
        features: One row for each view. Columns that never change get weight 0.
        truth: 1 or 0; both occur.
        penalty: Above 0: separable features have no optimum without.
        trust: A factor on each standardised column: one below 1 is penalised more; None: 1 for all.
        weight: How much each row counts, in means and deviations, too; of any sum. None: all the same.
        gradient: Largest slope that counts as an optimum.

    Raises:
        MissingDataError: If only one class occurs, or features are not finite.
        RecipeError: If the penalty is not positive, or so small that no optimum was reached.
    """
    if not penalty > 0:
        raise RecipeError(f"penalty {penalty}: expected more than 0.")
    positives = int(truth.sum())
    if positives in {0, len(truth)}:
        word = "generated" if positives else "real"
        raise MissingDataError(f"All {len(truth)} views are {word}: a probe needs both classes.")
    x, y = features.double(), truth.double()
    if not torch.isfinite(x).all():
        raise MissingDataError("The backbone's features are not finite: its weights are broken.")
    counts = torch.ones_like(y) if weight is None else weight.to(y)
    counts = counts / counts.sum()
    mean = counts @ x
    spread = (counts @ (x - mean).square()).sqrt()
    scale = torch.where(spread > 1e-9 * mean.abs().clamp(min=1e-9), 1 / spread, 0)
    if trust is not None:
        scale = scale * trust.to(scale)
    slopes, bias = _solved((x - mean) * scale, y, counts, penalty, gradient)
    slopes = slopes * scale
    return Logistic(slopes, bias - mean @ slopes)


def log_loss(logits: Float[Tensor, " n"], truth: Int[Tensor, " n"]) -> float:
    """Return the mean binary cross-entropy."""
    return float(functional.binary_cross_entropy_with_logits(logits, truth.to(logits)))


def _solved(
    x: Tensor, y: Tensor, counts: Tensor, penalty: float, gradient: float
) -> tuple[Tensor, Tensor]:
    # The last of the parameters is the bias. A tensor of its own, also where gradients are switched off around us.
    with torch.enable_grad():
        parameters = torch.zeros(x.shape[1] + 1, dtype=x.dtype, requires_grad=True)
        solver = torch.optim.LBFGS(
            [parameters],
            max_iter=_STEPS,
            tolerance_grad=gradient / 10,
            tolerance_change=0.0,
            history_size=30,
            line_search_fn="strong_wolfe",
        )

        def objective() -> Tensor:
            solver.zero_grad()
            logits = x @ parameters[:-1] + parameters[-1]
            value = (
                functional.binary_cross_entropy_with_logits(logits, y, reduction="none") @ counts
            )
            value = value + penalty / 2 * parameters[:-1].square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        solver.step(objective)  # type: ignore[no-untyped-call]
        objective()
    slope = float(parameters.grad.abs().max()) if parameters.grad is not None else 0.0
    if not slope < gradient:
        raise RecipeError(
            f"penalty {penalty}: no optimum after {_STEPS} steps (slope {slope:.1e}); raise it."
        )
    return parameters[:-1].detach(), parameters[-1].detach()
