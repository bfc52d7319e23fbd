"""Parts that are fitted to features at once, not trained step by step.

Logistic regression, solved to the optimum, is the head of a linear probe. Mixtures of Gaussians are a density of what
is real, for one-class detection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
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


Covariance: TypeAlias = Literal["full", "diag"]

_TOLERANCE = 1e-4
_LONGEST = 200


class GaussianMixture(nn.Module):
    """A mixture of Gaussians and the likelihood below which something counts as fake; all of it in buffers.

    Args:
        width: Length of the features.
        components: Gaussians.
        covariance: "full", or "diag" where there are too few features for it.
        ridge: Added to every variance, in squared units of the features.
    """

    log_weights: Tensor
    means: Tensor
    whitening: Tensor
    threshold: Tensor
    scale: Tensor

    def __init__(
        self, width: int, components: int, covariance: Covariance = "full", ridge: float = 1e-6
    ) -> None:
        super().__init__()
        self.components, self.covariance, self.ridge = components, covariance, ridge
        self.register_buffer("log_weights", torch.full((components,), -math.log(components)))
        self.register_buffer("means", torch.zeros(components, width))
        # Inverse Cholesky factors, or inverse standard deviations.
        shape = (components, width, width) if covariance == "full" else (components, width)
        start = torch.eye(width).expand(shape) if covariance == "full" else torch.ones(shape)
        self.register_buffer("whitening", start.clone())
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Return a logit: 0 at the threshold, 1 one standard deviation of real log-likelihoods below it."""
        with torch.autocast(features.device.type, enabled=False):
            return (self.threshold - self.log_likelihood(features.float())) / self.scale

    def log_likelihood(self, features: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Return the log-likelihood of each feature, in nats, in the precision of the buffers."""
        joint = _log_joint(
            features.to(self.means.dtype), self.log_weights, self.means, self.whitening
        )
        return joint.logsumexp(1)

    def fit(self, features: Float[Tensor, "n d"], *, seed: int) -> None:
        """Fit the mixture by expectation-maximisation, in float64, from k-means++ starts.

        Raises:
            ValueError: If there are fewer features than components, or one is not finite.
        """
        if len(features) < self.components or not torch.isfinite(features).all():
            raise ValueError(
                f"{len(features)} features for {self.components} components: expected more, and finite numbers."
            )
        seen = features.detach().clone().double()  # out of inference mode
        share = nn.functional.one_hot(_starts(seen, self.components, seed), self.components)
        share, before = share.double(), -math.inf
        for _ in range(_LONGEST):
            weights, means, whitening = self._maximised(seen, share)
            joint = _log_joint(seen, weights.log(), means, whitening)
            likelihood = joint.logsumexp(1, keepdim=True)
            share, now = (joint - likelihood).exp(), float(likelihood.mean())
            if now - before < _TOLERANCE:
                break
            before = now
        self.log_weights.copy_(weights.log())
        self.means.copy_(means)
        self.whitening.copy_(whitening)

    def measure(self, features: Float[Tensor, "n d"], *, false_alarms: float) -> None:
        """Fit four fifths of the features of photos; let this share of the last fifth count as fake."""
        fitted = math.ceil(0.8 * len(features))
        self.fit(features[:fitted], seed=42)
        self.set_threshold(features[fitted:], false_alarms)

    def set_threshold(self, real: Float[Tensor, "n d"], share: float) -> None:
        """Let this share of real features count as fake; best on ones that were not fitted.

        Args:
            real: Features of photos.
            share: 0..1.
        """
        likelihood = self.log_likelihood(real.clone())
        self.threshold.copy_(likelihood.quantile(share))
        self.scale.copy_(likelihood.std(correction=0).clamp(min=1e-6))

    def _maximised(
        self, seen: Float[Tensor, "n d"], share: Float[Tensor, "n k"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        # A component that nothing belongs to keeps a trace of weight, so that its logarithm is finite.
        count = share.sum(0) + 10 * torch.finfo(share.dtype).eps
        means = share.T @ seen / count[:, None]
        factors = []
        for index in range(self.components):
            centred = seen - means[index]
            weighted = share[:, index, None] * centred
            if self.covariance == "diag":
                variance = (weighted * centred).sum(0) / count[index] + self.ridge
                factors.append(variance.rsqrt())
                continue
            covariance = weighted.T @ centred / count[index]
            covariance.diagonal().add_(self.ridge)
            lower = torch.linalg.cholesky(covariance)
            identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
            factors.append(torch.linalg.solve_triangular(lower, identity, upper=False))
        return count / count.sum(), means, torch.stack(factors)


def _log_joint(
    features: Float[Tensor, "b d"],
    log_weights: Float[Tensor, " k"],
    means: Float[Tensor, "k d"],
    whitening: Float[Tensor, "k ..."],
) -> Float[Tensor, "b k"]:
    """Return the logarithm of weight times density for each component."""
    columns = []
    for log_weight, mean, factor in zip(log_weights, means, whitening, strict=True):
        centred = features - mean
        white = centred @ factor.T if factor.ndim == 2 else centred * factor
        volume = (factor.diagonal() if factor.ndim == 2 else factor).log().sum()
        distance = white.square().sum(1) + features.shape[1] * math.log(2 * math.pi)
        columns.append(log_weight + volume - 0.5 * distance)
    return torch.stack(columns, 1)


def _starts(seen: Float[Tensor, "n d"], components: int, seed: int) -> Int[Tensor, " n"]:
    """Assign every feature to the nearest of some far-apart ones (k-means++)."""
    generator = torch.Generator().manual_seed(seed)
    first = int(torch.randint(len(seen), (1,), generator=generator))
    distances = [(seen - seen[first]).square().sum(1)]
    for _ in range(components - 1):
        nearest = torch.stack(distances).min(0).values.cpu()
        chances = nearest if float(nearest.sum()) > 0 else torch.ones_like(nearest)
        chosen = int(torch.multinomial(chances, 1, generator=generator))
        distances.append((seen - seen[chosen]).square().sum(1))
    return torch.stack(distances).argmin(0)
