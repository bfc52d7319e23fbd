"""Linear readings of a whole picture: few numbers, fitted to the optimum, beside heads that learn step by step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gammascope.networks.logistic import fit_logistic


class Readings(nn.Module):
    """A weighted sum of logistic regressions, one for each kind of statistics of a picture.

    A strongly penalised linear layer errs on other pictures than heads that are trained for hundreds of steps on the
    same few thousand images, and spectra err on others than content does: on families that nothing trained on
    resembles, the sum ranks better than any of them; on known ones it costs (docs/experiments.md, E17 and E18). Until
    it is fitted it says 0.

    Source: our design.

    Args:
        trust: By kind, a factor on each standardised number when the regression is fitted; below 1: penalised more.
        shares: By kind, the factor on its logit in the sum; kinds without one are not read.
    """

    def __init__(
        self, trust: Mapping[str, Float[Tensor, " _d"]], shares: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.trust = {kind: trust[kind] for kind in shares}
        self.shares = dict(shares)
        for kind in shares:
            self.register_buffer(f"{kind}_weight", torch.zeros(len(trust[kind])))
            self.register_buffer(f"{kind}_bias", torch.zeros(()))

    def forward(self, summary: Mapping[str, Float[Tensor, "b _d"]]) -> Float[Tensor, " b"]:
        """Return the sum of what is read from each kind of statistics."""
        # Products and a sum, no matrix product: quantising that would cost more than it saves, and NNCF cannot.
        read = [
            share
            * ((summary[kind].float() * self._of(kind, "weight")).sum(1) + self._of(kind, "bias"))
            for kind, share in self.shares.items()
        ]
        return torch.stack(read).sum(0)

    @torch.no_grad()
    def fit(
        self, summary: Mapping[str, Float[Tensor, "n _d"]], truth: Int[Tensor, " n"], penalty: float
    ) -> None:
        """Set every regression to its optimum.

        Args:
            summary: Statistics of each picture, by kind.
            truth: 1 if a generator made it, 0 if it is a photo; both occur.
            penalty: As ``fit_logistic`` has it.

        Raises:
            GammascopeError: As ``fit_logistic``.
        """
        for kind in self.shares:
            found = fit_logistic(summary[kind], truth, penalty, self.trust[kind])
            self._of(kind, "weight").copy_(found.weight)
            self._of(kind, "bias").copy_(found.bias)

    def _of(self, kind: str, part: str) -> Tensor:
        return self.get_buffer(f"{kind}_{part}")
