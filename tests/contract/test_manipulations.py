"""What every manipulation promises, checked over all of them; and golden numbers."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data

import gammascope.manipulation as package
from gammascope.manipulation import (
    MANIPULATIONS,
    CopyMove,
    IdentitySeam,
    Inpainting,
    Mixture,
    Splicing,
    TwinPaste,
)
from gammascope.manipulation.base import Manipulation
from gammascope.manipulation.blending import Seam
from gammascope.manipulation.inpainting import NavierStokes, Telea
from gammascope.manipulation.regions import Regions
from gammascope.manipulation.splicing import Donor
from gammascope.sample import Image, Mask

KINDS = {"copy_move", "splicing", "inpainting", "inpainting_classical"}
GOLDEN = Path(__file__).parents[1] / "golden" / "manipulations.json"
SIZES = [(16, 16), (16, 300), (97, 64), (240, 200)]


def painting(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Waves and grain: no flat areas, no two places alike, the same on every machine."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [
        128 + 70 * np.sin(rows / (7 + 5 * c + seed) + columns / (13 - 3 * c) + seed)
        for c in range(3)
    ]
    grain = rng.integers(-15, 16, (height, width, 3))
    image: np.ndarray = np.clip(np.stack(waves, -1) + grain, 0, 255).astype(np.uint8)
    return image


class InvertedInpainter:
    """A whole-frame generator that costs nothing: the negative, everywhere."""

    generative = True
    replaces_content = True

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> Image:  # noqa: ARG002 - the Inpainter protocol
        return 255 - image


def donor(*, generated: bool):
    return lambda rng: Donor(painting(120, 90, seed=7 + int(rng.integers(3))), (), generated)


def examples(size: tuple[int, int]) -> dict[str, Manipulation]:
    """At least one instance of every class, made for photos of a size."""
    return {
        "CopyMove": CopyMove(),
        "CopyMove poisson": CopyMove(seam=Seam(poisson_share=1.0)),
        "IdentitySeam": IdentitySeam(),
        "Inpainting telea": Inpainting(Telea()),
        "Inpainting strokes": Inpainting(NavierStokes(), regions=Regions(shapes=("strokes",))),
        "Inpainting pasted": Inpainting(InvertedInpainter()),
        "Inpainting whole": Inpainting(InvertedInpainter(), paste_back=False),
        "Mixture": Mixture(((1.0, CopyMove()), (2.0, Inpainting(Telea())))),
        "Splicing real": Splicing(donor(generated=False)),
        "Splicing generated": Splicing(donor(generated=True), seam=Seam(colour_share=1.0)),
        "Splicing host": Splicing(donor(generated=False), host_generated=True),
        "TwinPaste": TwinPaste(255 - painting(*size)),
    }


def cases() -> list[Any]:
    return [pytest.param(n, s, id=f"{n}-{s[0]}x{s[1]}") for s in SIZES for n in examples(s)]


def disc(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - height / 3, columns - width / 2)
    return np.asarray(distance < min(height, width) / 5)


def test_the_listing_and_the_examples_cover_every_manipulation():
    found = set()
    for module in pkgutil.iter_modules(package.__path__):
        names = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
        for thing in names.values():
            if not inspect.isclass(thing) or not callable(getattr(thing, "__call__", None)):  # noqa: B004 - classes are always callable, their instances are asked for
                continue
            if thing.__module__.startswith(package.__name__) and thing is not Manipulation:
                parameters = list(inspect.signature(thing.__call__).parameters)
                if parameters == ["self", "image", "rng", "objects"]:
                    found.add(thing)
    assert found == set(MANIPULATIONS)
    assert {type(example) for example in examples((64, 64)).values()} == found


@pytest.mark.parametrize(("name", "size"), cases())
def test_contract(name, size):
    manipulate = examples(size)[name]
    photo = painting(*size)
    objects = [disc(*size), np.zeros(size, dtype=bool), np.ones(size, dtype=bool)]
    before = photo.copy()
    for seed in range(6):
        given = objects if seed % 2 else ()
        made = manipulate(photo, np.random.default_rng(seed), given)
        again = manipulate(photo, np.random.default_rng(seed), given)

        assert np.array_equal(photo, before), "the photo was written to"
        assert made.image.shape == photo.shape
        assert made.image.dtype == np.uint8
        assert np.array_equal(made.image, again.image)
        assert np.array_equal(made.generated, again.generated)
        assert np.array_equal(made.edited, again.edited)
        assert not np.shares_memory(made.image, photo)
        if made.kind is None:
            assert not made.generated.any()
            assert not made.edited.any()
        else:
            assert made.kind in KINDS
            assert made.edited.any()
            assert not made.edited.all()
            untouched = ~(made.generated | made.edited)
            assert np.array_equal(made.image[untouched], photo[untouched])


@pytest.mark.parametrize("name", examples((16, 16)))
def test_another_state_of_the_generator_gives_another_edit(name):
    size = (240, 200)
    manipulate = examples(size)[name]
    rng = np.random.default_rng(0)
    made = [manipulate(painting(*size), rng) for _ in range(4)]
    answers = {(m.image.tobytes(), m.generated.tobytes(), m.edited.tobytes()) for m in made}
    assert len(answers) > 1


@pytest.mark.parametrize("name", examples((16, 16)))
def test_a_photo_too_small_is_refused_with_its_size(name):
    with pytest.raises(ValueError, match="15x40 px is too small"):
        examples((40, 15))[name](painting(40, 15), np.random.default_rng(0))


@pytest.mark.parametrize("kind", [CopyMove(), IdentitySeam(), Inpainting(Telea())])
def test_works_on_a_real_photo(kind):
    photo = skimage.data.astronaut()
    made = kind(photo, np.random.default_rng(3), [disc(512, 512)])
    changed = (made.image != photo).any(-1).mean()
    assert 0.001 < changed < 0.6


def fingerprint(name: str) -> list[float]:
    """Over four edits: means of eight tiles, then mean numbers of generated and edited pixels."""
    size = (160, 120)
    rows = []
    for seed in range(4):
        made = examples(size)[name](painting(*size), np.random.default_rng(seed), [disc(*size)])
        tiles = made.image.reshape(4, 40, 2, 60, 3).mean((1, 3, 4)).ravel()
        rows.append([*tiles, made.generated.sum(), made.edited.sum()])
    return [round(float(value), 3) for value in np.mean(rows, axis=0)]


@pytest.mark.parametrize("name", examples((16, 16)))
def test_golden(name):
    """A changed result moves every model trained afterwards: change the file knowingly.

    GAMMASCOPE_UPDATE_GOLDEN=1 rewrites the entry.
    """
    now = fingerprint(name)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("GAMMASCOPE_UPDATE_GOLDEN") == "1":
        golden[name] = now
        lines = (f"  {json.dumps(k)}: {json.dumps(golden[k])}" for k in sorted(golden))
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    # Grey levels: versions of OpenCV round interpolation and solvers differently.
    assert now[:8] == pytest.approx(golden[name][:8], abs=0.3)
    assert now[8:] == pytest.approx(golden[name][8:], rel=0.01, abs=5)


def test_the_golden_file_has_no_stale_entries():
    assert set(json.loads(GOLDEN.read_text())) == set(examples((16, 16)))
