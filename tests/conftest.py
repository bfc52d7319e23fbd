"""What all tests share: reproducible settings and a few real photographs.

Nothing here imports gammascope at its top: the annotation checks are switched on after this file is read, and a module
imported earlier would go unchecked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

# Libraries read it when they are imported, which is later.
os.environ["HF_HUB_OFFLINE"] = "1"

torch.set_num_threads(1)
torch.use_deterministic_algorithms(mode=True)

# "ci" repeats the same examples; "dev" (GAMMASCOPE_HYPOTHESIS=dev) looks for new ones.
_SLOW_IMPORTS = [HealthCheck.too_slow]
settings.register_profile(
    "ci", derandomize=True, database=None, deadline=None, suppress_health_check=_SLOW_IMPORTS
)
settings.register_profile(
    "dev", max_examples=300, deadline=None, suppress_health_check=_SLOW_IMPORTS
)
settings.load_profile(os.environ.get("GAMMASCOPE_HYPOTHESIS", "ci"))


@pytest.fixture(autouse=True)
def as_in_a_process_of_its_own() -> Iterator[None]:
    """Let accelerate forget the precision of a run: it fixes it once per process, and many tests share one."""
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """Real photographs that come with scikit-image: public domain, never downloaded."""
    from skimage import data

    return {
        "astronaut": data.astronaut(),
        "cat": data.chelsea(),
        "coffee": data.coffee(),
        "motorcycle": data.stereo_motorcycle()[0],
        "rocket": data.rocket(),
    }


@pytest.fixture(scope="session")
def collection(photos, tmp_path_factory) -> Path:
    """Return the manifest of a small training collection.

    Five photos as JPEG, five generated images and a twin of every photo as PNG. What stands for a generator is a
    blur: strong enough to be learnt by a tiny detector, and no format or size gives it away. The source "held-out" is
    there for validation.
    """
    from gammascope.data.manifest import write_manifest
    from gammascope.imaging import codecs
    from gammascope.sample import Entry, Label

    root = tmp_path_factory.mktemp("collection")
    entries = []
    for name, whole in photos.items():
        photo = np.ascontiguousarray(whole[:300, :400])
        source = "held-out" if name in {"cat", "rocket"} else name
        original, twin, generated = (root / f"{name}{end}" for end in (".jpg", "-t.png", "-g.png"))
        original.write_bytes(codecs.encode(photo, codecs.Encoding("jpeg", 92)))
        twin.write_bytes(codecs.encode(codecs.blur(photo, 1.2), codecs.Encoding("png")))
        upside_down = np.ascontiguousarray(codecs.blur(photo, 1.2)[::-1])
        generated.write_bytes(codecs.encode(upside_down, codecs.Encoding("png")))
        entries += [
            Entry(original, Label.REAL, source=source, split="train"),
            Entry(
                twin, Label.FAKE, generator="blur", source=source, split="train", host_path=original
            ),
            Entry(generated, Label.FAKE, generator="blur", source=source, split="train"),
        ]
    manifest = root / "manifest.csv"
    write_manifest(entries, manifest)
    return manifest
