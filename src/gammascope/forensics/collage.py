"""A part that does not belong: what a vision model sees of each place of a picture, weighed by a small network.

CLIP's tower reads squares that cover the picture, enlarged or reduced to 224 px; where the detector has read the middle
one already, it reads the others only if that one looks odd. Each of their 14 x 14 cells is judged by its tokens of five
blocks, and by what these have that the mean of the square has not; a picture is scored by its clearest cells. So a
piece of another picture is found by its content and its outline, also where saving and reducing left no other trace.

Source: ours; that such tokens tell where edits lie is in docs/experiments/e33.md, e49.md and e50.md.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import safetensors.numpy
from jaxtyping import Float

from gammascope.forensics.base import CELL_PX, Finding, Outcome, Picture, Silence, standardised
from gammascope.imaging import views
from gammascope.imaging.views import Box

SIDE_PX = 224
GRID = 14
"""Cells along a side of a square."""

SMALLEST_PX = 112
"""Shorter side below which the tower sees little but enlarged pixels."""

MOST_SQUARES = 4
"""Pictures longer than so many times their shorter side are left out."""

PROMISING = 2.0
"""Score of the middle square, where the detector has read it already, above which the tower reads all squares."""

CLEAREST = 0.05
"""Share of a picture's cells that its score is the mean of."""

WEIGHTS = Path(__file__).with_name("collage.safetensors")
"""The network, which ``benchmarks/edits_by_eyes.py`` makes."""


def examine(picture: Picture) -> Outcome:
    """Mark the part that looks least as if it belonged."""
    width, height = picture.size
    if min(width, height) < SMALLEST_PX:
        return Silence(f"smaller than {SMALLEST_PX} px on the shorter side")
    if max(width, height) > MOST_SQUARES * min(width, height):
        return Silence("too narrow")
    boxes = squares(picture.size)
    if picture.middle is not None:
        said = logits(picture.middle[None])
        if len(boxes) == 1 or score_of(said) <= PROMISING:
            note = "" if len(boxes) == 1 else "Only its middle square was looked at."
            return _finding(said, [views.middle_square(picture.size)], picture.size, note)
    if picture.eyes is None:
        return Silence("no vision tower looked at it as a whole")
    shown = [views.reduced(picture.image, box, SIDE_PX) for box in boxes]
    return _finding(logits(picture.eyes(np.stack(shown))), boxes, picture.size)


def _finding(
    said: Float[np.ndarray, "n cells"], boxes: list[Box], size: tuple[int, int], note: str = ""
) -> Finding:
    width, height = size
    # The last cells may reach beyond the picture.
    columns, rows = -(-width // CELL_PX), -(-height // CELL_PX)
    across, down = columns / width, rows / height
    small: list[Box] = [
        (left * across, top * down, side * across, side * down) for left, top, side, _ in boxes
    ]
    cells = views.paste(said.reshape(-1, GRID, GRID), small, (columns, rows))
    chance = 1 / (1 + np.exp(-cells))
    return Finding(score_of(said), chance.astype(np.float32), (0, 0), CELL_PX, size, note)


def squares(size: tuple[int, int]) -> list[Box]:
    """Return squares that cover a picture of this width and height, evenly spread along its longer side."""
    side = min(size)
    count = -(-max(size) // side)
    width, height = (extent - side for extent in size)
    steps = [at / max(1, count - 1) for at in range(count)]
    corners = [(float(round(width * step)), float(round(height * step))) for step in steps]
    return [(left, top, float(side), float(side)) for left, top in corners]


def score_of(said: Float[np.ndarray, "n cells"]) -> float:
    """Return the mean logit of the clearest cells."""
    ordered = np.sort(said, axis=None)
    return float(ordered[-max(1, round(CLEAREST * ordered.size)) :].mean())


def logits(tokens: Float[np.ndarray, "n d 14 14"]) -> Float[np.ndarray, "n cells"]:
    """Return for each cell how much it looks as if it did not belong; 0: as likely as not among cells of both kinds.

    The network is given the tokens of a cell, and what these have that the mean of their square has not.
    """
    net = _network()
    cells = tokens.reshape(*tokens.shape[:2], -1).astype(np.float32, copy=False)
    inputs = np.concatenate([cells, cells - cells.mean(2, keepdims=True)], 1)
    seen = standardised(inputs, net["mean"][:, None], net["spread"][:, None])
    hidden = np.maximum(net["first"].T @ seen + net["first_bias"][:, None], 0)
    return np.asarray(net["last"] @ hidden + net["last_bias"])


@cache
def _network() -> dict[str, np.ndarray]:
    stored = safetensors.numpy.load_file(WEIGHTS)
    return {name: value.astype(np.float32) for name, value in stored.items()}
