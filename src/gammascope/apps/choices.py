"""Named values that options of the commands can take."""

from __future__ import annotations

from enum import StrEnum


class ProfileName(StrEnum):
    """How many views of an image are looked at."""

    DEFAULT = "default"
    FAST = "fast"
    THOROUGH = "thorough"


class RuntimeName(StrEnum):
    """What runs the network."""

    AUTO = "auto"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"
    TORCH = "torch"


class PrecisionName(StrEnum):
    """Of the network's arithmetic."""

    AUTO = "auto"
    F32 = "f32"
    BF16 = "bf16"


class FailOn(StrEnum):
    """The weakest verdict that makes a scan end with an exit code of its own."""

    FAKE = "fake"
    UNCERTAIN = "uncertain"


class Truth(StrEnum):
    """What a picture is, as labels of a manifest say it."""

    REAL = "real"
    FAKE = "fake"
    MANIPULATED = "manipulated"
    UNKNOWN = "unknown"


class EngineName(StrEnum):
    """Where a scan into a folder runs."""

    LOCAL = "local"
    RAY = "ray"


class EditKind(StrEnum):
    """How a photo is manipulated; the names of ``gammascope.data.edits.KINDS``."""

    COPY_MOVE = "copy_move"
    SPLICING = "splicing"
    TELEA = "telea"
    NAVIER_STOKES = "navier_stokes"
    AUTOENCODER = "autoencoder"
    REGENERATED = "regenerated"
    TWIN = "twin"
    UPSCALED = "upscaled"
    RESTYLED = "restyled"
    DIFFUSION = "diffusion"
    INPAINT = "inpaint"
    EDIT = "edit"
    SAMPLE = "sample"


class HowFused(StrEnum):
    """How detectors become one; the values of ``fusion.Kind``."""

    LOGISTIC = "logistic"
    ANY = "any"
    CASCADE = "cascade"


class Black(StrEnum):
    """What an image without a true pixel counts; the values of ``localisation.Black``."""

    SKIP = "skip"
    ONE = "one"
    ZERO = "zero"


class SuiteName(StrEnum):
    """Which perturbations; the names of ``robustness.suite``."""

    QUICK = "quick"
    FULL = "full"


class CurveName(StrEnum):
    """What makes probabilities of logits; the values of ``Calibration.method``."""

    PLATT = "platt"
    ISOTONIC = "isotonic"


class ZoneName(StrEnum):
    """How thresholds are set; the values of ``Calibration.zone``."""

    QUANTILE = "quantile"
    WORST = "worst"
    CONFORMAL = "conformal"


class ContextAction(StrEnum):
    """What is done with pictures of a stochastic context model."""

    DRAW = "draw"
    TEST = "test"


class ContextFamily(StrEnum):
    """The names of ``gammascope.generation.spatial_context.FAMILIES``."""

    FLAGS = "flags"
    VORONOI = "voronoi"
    ALPHABET = "alphabet"


class ContextBounds(StrEnum):
    """Whose bounds decide."""

    CALIBRATED = "calibrated"
    PAPER = "paper"


class GuideChoice(StrEnum):
    """Which photos a round edits; the values of ``data.policies.actgen.Choice``."""

    ERRORS = "errors"
    RANDOM = "random"
