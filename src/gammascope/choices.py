"""Named choices that options, recipes and checkpoints share, each written once."""

from __future__ import annotations

from typing import Literal, TypeAlias

Profile: TypeAlias = Literal["default", "fast", "thorough"]
"""How many views of an image the network gets."""

Engine: TypeAlias = Literal["auto", "openvino", "onnxruntime", "torch"]
"""What runs the network."""

Precision: TypeAlias = Literal["auto", "f32", "bf16"]
"""Of the arithmetic. "auto": int8 where a tower's weights are int8 and the engine can, else as "f32"."""

Curve: TypeAlias = Literal["platt", "isotonic"]
"""What makes probabilities of logits."""

Zone: TypeAlias = Literal["quantile", "worst", "conformal"]
"""How thresholds are set."""

Fusing: TypeAlias = Literal["logistic", "any", "cascade"]
"""How several detectors become one."""

Black: TypeAlias = Literal["skip", "one", "zero"]
"""What an image without a true pixel counts in F1 and IoU.

"skip" leaves it out. "one" gives 1 if nothing is marked, else 0. "zero" gives 0 whatever is marked,
as a division by zero taken for 0 does. Images that are true everywhere are always left out: there
is nothing to locate.
"""

Suite: TypeAlias = Literal["quick", "full"]
"""Which perturbations robustness is measured with."""

EditKind: TypeAlias = Literal[
    "copy_move",
    "splicing",
    "telea",
    "navier_stokes",
    "autoencoder",
    "regenerated",
    "twin",
    "upscaled",
    "restyled",
    "diffusion",
    "inpaint",
    "edit",
    "sample",
]
"""How a photo is edited; ``gammascope.data.edits.KINDS`` says what each needs."""

ContextFamily: TypeAlias = Literal["flags", "voronoi", "alphabet"]
"""Stochastic context models; ``gammascope.generation.spatial_context.FAMILIES`` describes them."""

ContextBounds: TypeAlias = Literal["calibrated", "paper"]
"""Whose bounds decide whether a picture keeps the rules of a context model."""

GuideChoice: TypeAlias = Literal["errors", "random"]
"""Which photos a round edits."""

FailOn: TypeAlias = Literal["fake", "uncertain"]
"""The weakest verdict that makes a scan end with an exit code of its own."""

Where: TypeAlias = Literal["local", "ray"]
"""Where a scan into a folder runs."""
