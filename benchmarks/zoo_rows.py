"""The rows of the zoo's table: which trainings each has, by whose recipe, and what differs from it."""

from __future__ import annotations

from dataclasses import dataclass

TOWER = ("method.backbone=clip-vit-b16",)
LAST = (*TOWER, "method.trained_blocks=4")
"""What is before the last four blocks is frozen in every row that may adapt a part: it is computed once for all."""
TWINS = "twins/manifest.csv"
RATE = 1e-3
"""Learning rate of networks without a tower, and of heads, prompts and low-rank changes."""
WHOLE = ("optimisation.tower_rate=0.02",)
"""Whole blocks learn at 2e-5, and the new head above them as every other."""


@dataclass(frozen=True)
class Stage:
    """One training.

    Attributes:
        recipe: Whose recipe, in recipes/.
        values: What differs from it, beside what differs everywhere (``recipe_of``).
        rate: Learning rate; None: it is fitted.
        start: Value that names the checkpoint of the stage before.
        pictures: Manifests that it sees, in OUT.
        kept: Whether the first blocks of its tower are frozen, so that what they say is shared.
        cameras: Whether it learns camera settings.
    """

    recipe: str
    values: tuple[str, ...] = ()
    rate: float | None = RATE
    start: str = ""
    pictures: tuple[str, ...] = ("train.csv",)
    kept: bool = False
    cameras: bool = False


WINDOW = ("method.size=224", "method.fit=center_crop")
SDAIE = ("method.fit=center_crop",)
PHOTOGRAPHED = ("train.csv", "cameras.csv")
HALF = ("optimisation.precision=bf16", "optimisation.channels_last=true")
DENSITY = ("method.covariance=diag", "method.density_views=640")
PLAIN = ("plain_regression", "plain_tuning")
CONTROLS = ("mpft_random", "mpft_smooth")
"""Rows that are no method: what a method is measured against."""
EMBEDDED = "embedded"
ROWS: dict[str, tuple[Stage, ...]] = {
    "plain_regression": (
        Stage(
            "linear_probe_clip",
            (*TOWER, *WINDOW, "method.reads=[4,5,6,7,8,9,10,11,12]", "method.penalties=[0.1]"),
            rate=None,
            kept=True,
        ),
    ),
    "plain_tuning": (
        Stage(
            "mpft_clip",
            (*LAST, *WINDOW, *WHOLE, "method.mask=none", "method.taps=[12]"),
            kept=True,
        ),
    ),
    "univfd": (
        Stage("linear_probe_clip", (*TOWER, *WINDOW, "method.penalties=[0.1]"), None, kept=True),
    ),
    "effort": (Stage("effort_clip", (*LAST, *WINDOW), kept=True),),
    "mpft": (Stage("mpft_clip", (*LAST, *WINDOW, *WHOLE)),),
    "mpft_random": (Stage("mpft_clip", (*LAST, *WINDOW, *WHOLE, "method.mask=random")),),
    "mpft_smooth": (Stage("mpft_clip", (*LAST, *WINDOW, *WHOLE, "method.mask=smooth")),),
    "gapl": (
        Stage(
            "gapl_stage1_clip",
            (*TOWER, *WINDOW, "method.normalisation=backbone", "method.projecting.epochs=20"),
            rate=None,
            kept=True,
        ),
        Stage(
            "gapl_clip",
            (*LAST, *WINDOW, "method.normalisation=backbone"),
            start="start",
            kept=True,
        ),
    ),
    "align_gemini": (
        Stage("align_gemini_dinov2", (*LAST, *WINDOW), pictures=("hosts.csv", TWINS), kept=True),
    ),
    "ns_net": (
        Stage(
            "ns_net_clip",
            (*LAST, "method.semantics=content", "method.centre=true", "method.measured_on=128"),
        ),
    ),
    "gamma": (
        Stage(
            "gamma_clip",
            (*TOWER, *WINDOW, "method.adapt=frozen", "method.taps=[8,12]"),
            pictures=("train.csv", TWINS),
            kept=True,
        ),
    ),
    "mirage": (
        Stage(
            "mirage_clip",
            (*TOWER, *WINDOW, "method.text_architecture=own", "method.temperature=0.07"),
        ),
    ),
    "rine": (Stage("rine", (*TOWER, *WINDOW)),),
    "npr": (Stage("npr_full", WINDOW),),
    "ferretnet": (Stage("ferretnet", WINDOW),),
    "sdaie_one_class": (
        Stage("sdaie_one_class_full", (*SDAIE, *DENSITY), pictures=PHOTOGRAPHED, cameras=True),
    ),
    "sdaie": (Stage("sdaie_full", (*SDAIE, HALF[0]), start="extractor"),),
    "blades": (
        Stage(
            "blades_one_class_full",
            (*DENSITY, "method.components=3", *HALF),
            pictures=PHOTOGRAPHED,
            cameras=True,
        ),
        Stage(
            "blades_full",
            (*DENSITY, "method.components=3", *HALF),
            start="encoder",
            pictures=("faces.csv",),
        ),
    ),
    EMBEDDED: (),
}
"""The trainings of every row, the most telling first; the last one trains nothing."""
GOES_ON = {"sdaie": "sdaie_one_class"}
"""Rows that start from another row's last checkpoint."""
