"""Plots are written complete, and refuse what cannot be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from gammascope.errors import MissingDataError
from gammascope.evaluation.plots import plot_by_label, plot_reliability, plot_roc, plot_scores

RNG = np.random.default_rng(0)
LABEL = np.repeat([0, 1], 200)
LOGITS = RNG.normal(3.0 * LABEL - 1.5, 1.5)
PROBABILITY = 1 / (1 + np.exp(-LOGITS))


def test_each_plot_is_an_image_with_something_on_it(tmp_path: Any) -> None:
    plot_roc(
        {"native": (LOGITS, LABEL), "noisy": (RNG.normal(LOGITS, 3), LABEL)}, tmp_path / "a.png"
    )
    plot_reliability(PROBABILITY, LABEL, tmp_path / "b.png")
    plot_scores(LOGITS, LABEL, tmp_path / "c.png", thresholds={"uncertain": 0.4, "fake": 1.2})
    for path in tmp_path.iterdir():
        with PillowImage.open(path) as file:
            pixels = np.asarray(file.convert("L"))
        assert pixels.shape > (400, 500)
        assert 0.02 < np.mean(pixels < 250) < 0.6
    assert len(list(tmp_path.iterdir())) == 3


def test_the_ending_chooses_the_format(tmp_path: Any) -> None:
    plot_scores(LOGITS, LABEL, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_what_cannot_be_drawn_is_refused_and_leaves_no_file(tmp_path: Any) -> None:
    path = tmp_path / "plot.png"
    with pytest.raises(MissingDataError, match="'photos': it needs real and fake"):
        plot_roc({"photos": (LOGITS[:200], LABEL[:200])}, path)
    with pytest.raises(MissingDataError, match="no image"):
        plot_reliability(np.zeros(0), np.zeros(0, dtype=np.int64), path)
    with pytest.raises(MissingDataError, match="no finite logit"):
        plot_scores(np.array([np.nan]), np.array([1]), path)
    assert not list(tmp_path.iterdir())


def test_properties_are_drawn_by_label_in_as_many_panels_as_needed(tmp_path: Any) -> None:
    label = np.array([0, 0, 0, 1, 1])
    columns = {
        "flag": np.array([0.0, 1.0, 0.0, 1.0, 1.0]),
        "narrow": np.array([5.0, 6.0, 7.0, 6.0, 5.0]),
        "wide": np.array([1.0, 10.0, 1000.0, 3.0, 5.0]),
        "from zero": np.array([0.0, 90.0, 95.0, 80.0, 0.0]),
    }
    plot_by_label(columns, label, tmp_path / "four.png")
    plot_by_label({"flag": columns["flag"]}, label, tmp_path / "one.png")
    plot_by_label(columns, np.ones(5, dtype=np.int64), tmp_path / "fakes only.png")
    with (
        PillowImage.open(tmp_path / "four.png") as four,
        PillowImage.open(tmp_path / "one.png") as one,
    ):
        assert four.height == 2 * one.height
    with pytest.raises(MissingDataError, match="no property"):
        plot_by_label({}, label, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
