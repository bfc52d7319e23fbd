"""What every detection method promises about training: its numbers come to say the truth, each with the right sign.

Shapes, checkpoints and gradients (``test_detectors.py``) are the same for a detector that learns the opposite. So each
tiny one is trained on toy views that anyone can tell apart, by its own loss, and its logit and answers must then be
positive for fakes and negative for photos, on views it never saw.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional

from gammascope.detectors import base
from gammascope.errors import MissingExtraError, RecipeError
from gammascope.prediction import Batch, Prediction

STEPS = 60
RATE = 1e-2
SURE = 0.05
"""Cross-entropy of a batch at which training may end."""


def method_of(name: str) -> base.Method[Any]:
    try:
        return base.get(name)
    except MissingExtraError as error:
        pytest.skip(str(error))


def toy(side: int, seed: int, count: int = 16) -> Batch:
    """Photos are fine bright noise, fakes coarse dark noise; fakes are generated and edited all over."""
    generator = torch.Generator().manual_seed(seed)
    fine = torch.randn(count, 3, side, side, generator=generator)
    coarse = fine[:, :, ::2, ::2].repeat_interleave(2, -2).repeat_interleave(2, -1)
    label = torch.arange(count) % 2
    fake = label[:, None, None, None] == 1
    pixels = torch.where(fake, coarse[:, :, :side, :side] - 1, fine + 1)
    masks = dict.fromkeys(("generated", "edited"), label[:, None, None].expand(count, side, side))
    return Batch(
        pixels=pixels,
        label=label,
        answers=dict.fromkeys(masks, label),
        masks={name: mask.float() for name, mask in masks.items()},
        weight={name: torch.ones(count) for name in masks},
    )


def photos(side: int) -> base.Views:
    def views(count: int, /, *, disturbed: bool = True) -> Iterator[Batch]:
        seen = toy(side, 7, 2 * count)
        yield Batch(seen.pixels[::2], seen.label[::2])

    return views


def trained(method: base.Method[Any]) -> base.Detector:
    """Train the tiny detector by the method's own loss, until a batch is told apart."""
    torch.manual_seed(0)
    detector = method.build(method.tiny)
    side = detector.view.size
    if method.prepare is not None:
        method.prepare(detector, photos(side))
    assert method.loss is not None
    loss = method.loss(method.tiny)
    learnt = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(learnt, lr=RATE)
    detector.train()
    for step in range(STEPS):
        batch = toy(side, 100 + step)
        prediction = detector(batch.pixels)
        terms = loss(prediction, batch)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        wrong = functional.binary_cross_entropy_with_logits(
            prediction.logit.detach(), batch.label.float()
        )
        if step >= STEPS // 3 and float(wrong) < SURE:
            break
    return detector.eval()


def check_signs(detector: base.Detector) -> None:
    """Logit and answers of views never seen are positive for fakes, negative for photos."""
    unseen = toy(detector.view.size, 1)
    with torch.inference_mode():
        prediction = detector(unseen.pixels)
    said = {"logit": prediction.logit} | dict(prediction.answers)
    for name in ("logit", *unseen.answers):
        if name not in said:
            continue
        wrong = ((said[name] > 0) != unseen.label.bool()).sum()
        assert int(wrong) == 0, f"{name}: {said[name].tolist()} for {unseen.label.tolist()}"


@pytest.mark.parametrize("name", base.names())
def test_what_is_learnt_is_said_with_the_right_sign(name):
    method = method_of(name)
    if method.loss is None:
        pytest.skip("needs no training")
    check_signs(trained(method))


@pytest.mark.parametrize("name", base.names())
def test_what_is_fitted_is_said_with_the_right_sign(name):
    method = method_of(name)
    torch.manual_seed(0)
    detector = method.build(method.tiny).eval()
    if not isinstance(detector, base.FittedDetector):
        pytest.skip("is not fitted")
    try:
        _ = detector.seen_through
    except RecipeError as error:
        pytest.skip(str(error))
    batch = toy(detector.view.size, 2, 64)
    with torch.no_grad():
        features = detector.features(batch.pixels)
    detector.fit(base.Seen(features, batch.label, batch.answers), None)
    check_signs(detector.eval())


class Changed(base.Detector):
    """A detector whose prediction is changed on the way out."""

    def __init__(self, inner: base.Detector, change: Callable[[Prediction], Prediction]) -> None:
        super().__init__()
        self.inner, self.change, self.view, self.config = inner, change, inner.view, inner.config

    def forward(self, pixels: torch.Tensor) -> Prediction:
        return self.change(self.inner(pixels))


def changing(
    method: base.Method[Any], change: Callable[[Prediction], Prediction]
) -> base.Method[Any]:
    return dataclasses.replace(
        method, build=lambda config: Changed(method.build(config), change), prepare=None
    )


def probability_as_logit(method: base.Method[Any]) -> base.Method[Any]:
    return changing(
        method, lambda said: dataclasses.replace(said, logit=said.logit.sigmoid(), answers={})
    )


def answer_reversed(method: base.Method[Any]) -> base.Method[Any]:
    def change(said: Prediction) -> Prediction:
        return dataclasses.replace(said, answers=dict(said.answers, generated=-said.logit))

    return changing(method, change)


def labels_swapped(method: base.Method[Any]) -> base.Method[Any]:
    def loss_of(config: Any) -> base.Loss:
        assert method.loss is not None
        inner = method.loss(config)

        def terms(prediction: Prediction, batch: Batch) -> dict[str, torch.Tensor]:
            answers = {name: 1 - answer for name, answer in batch.answers.items()}
            swapped = dataclasses.replace(batch, label=1 - batch.label, answers=answers)
            return inner(prediction, swapped)

        return terms

    return dataclasses.replace(method, loss=loss_of)


@pytest.mark.parametrize("mistake", [probability_as_logit, answer_reversed, labels_swapped])
@pytest.mark.parametrize("name", ["linear_probe", "mpft"])
def test_mistakes_that_leave_every_shape_right_are_found(name, mistake):
    method = mistake(method_of(name))
    with pytest.raises(AssertionError, match=r"(logit|generated): \["):
        check_signs(trained(method))
