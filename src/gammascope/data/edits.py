"""Edited pictures on disk, made from photos: with both masks, a manifest, and authentic controls encoded alike.

For evaluation and for other people's trainings; our own training edits on the fly (``data.synthesis``). What picture
number ``n`` of a photo becomes depends on the photo's name, ``n`` and the seed (a splice and a style also on the other
photos), so an interrupted run goes on where it stopped and ends with the same files.

Twins are regenerated copies of photos, aligned pixel by pixel. A twin has its photo's content, size and composition, so
nothing but a decoder's traces tells the two apart. Pasted inside a mask, it is an inpainting without a visible seam;
taken whole, a fake without a content bias.
"""

from __future__ import annotations

import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from jaxtyping import UInt8

from gammascope.data.identity import network_sha256, photos_sha256, without
from gammascope.data.manifest import load_mask
from gammascope.data.pictures import Pictures
from gammascope.data.policies.base import checked
from gammascope.data.products import (
    SUFFIXES,
    Edits,
    Frame,
    Product,
    claim,
    make_each,
    write_mask,
    write_picture,
)
from gammascope.errors import (
    GammascopeError,
    MissingDataError,
    RecipeError,
    UndecodableImageError,
    did_you_mean,
)
from gammascope.files import shown
from gammascope.generation.autoencoder import Autoencoder, AutoencoderFill, Precision, round_trip
from gammascope.generation.base import Ability, Editor, Generator, Painter, Painting
from gammascope.generation.restyling import Restyler
from gammascope.generation.upscaling import Upscaler
from gammascope.imaging import codecs
from gammascope.imaging.decode import content_of
from gammascope.manipulation.base import SMALLEST_PX, Manipulated, Manipulation
from gammascope.manipulation.copy_move import CopyMove
from gammascope.manipulation.inpainting import Inpainter, Inpainting, NavierStokes, Telea
from gammascope.manipulation.splicing import Donor, Splicing
from gammascope.sample import Entry, Image, KeptApart, Label, Mask, Origin


@dataclass(frozen=True, slots=True)
class TwinLaw:
    """How a photo is regenerated; drawn anew for each, so that no single setting is learnt.

    Attributes:
        rescaled: Share of twins made at another resolution and brought back.
        scale: Range of that resolution's factor.
        noised: Share of twins with noise in the latent.
        latent_noise: Range of its standard deviation, in latent standard deviations.
        half_precision: Share of twins computed in bfloat16.
    """

    rescaled: float = 0.4
    scale: tuple[float, float] = (0.75, 1.5)
    noised: float = 0.4
    latent_noise: tuple[float, float] = (0.02, 0.25)
    half_precision: float = 0.5

    def __call__(self, photo: Image, autoencoder: Autoencoder, rng: np.random.Generator) -> Image:
        """Return a twin of the photo, of its size."""
        scale = rng.uniform(*self.scale) if rng.random() < self.rescaled else 1.0
        noise = rng.uniform(*self.latent_noise) if rng.random() < self.noised else 0.0
        dtype: Precision = "bfloat16" if rng.random() < self.half_precision else "float32"
        return round_trip(photo, autoencoder, scale=scale, latent_noise=noise, dtype=dtype, rng=rng)


CHEAP_KINDS = ("copy_move", "splicing", "telea")
"""What is made unless other kinds are named: needs no network."""

_T = TypeVar("_T")

_DONOR_TRIES = 20
_MEMORY_BYTES = 10**9  # decoded photos kept, because splices read many of them


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a kind leaves in the manifest, known before it is made.

    Attributes:
        name: ``kind`` of its entries; None: the whole picture is generated.
        needs: Which of ``Generators``; "": none.
        heeds: Which other settings of a plan change it.
    """

    name: str | None
    needs: str = ""
    heeds: tuple[str, ...] = ()


KINDS: Mapping[str, _Kind] = {
    "copy_move": _Kind("copy_move"),
    "splicing": _Kind("splicing"),
    "telea": _Kind("inpainting_classical"),
    "navier_stokes": _Kind("inpainting_classical"),
    "autoencoder": _Kind("inpainting", "autoencoder"),
    "regenerated": _Kind("inpainting", "autoencoder"),
    "twin": _Kind(None, "autoencoder"),
    "upscaled": _Kind(None, "upscaler"),
    "restyled": _Kind(None, "styles", ("strength",)),
    "diffusion": _Kind("inpainting", "inpainter"),
    "inpaint": _Kind("inpainting", "generator"),
    "edit": _Kind(None, "generator", ("prompt", "strength")),
    "sample": _Kind(None, "generator", ("prompt",)),
}
"""How a photo can be changed: "autoencoder" decodes a region anew, "regenerated" one that was smeared over before,
"twin" the whole photo; "upscaled" enlarges the reduced photo, "restyled" gives it another style; "diffusion" paints a
region; "inpaint", "edit" and "sample" are a generator's: a region, the whole photo, a picture from nothing."""

EDIT_STRENGTHS = (0.3, 0.5, 0.75)
"""One is drawn for each "edit"."""


@dataclass(frozen=True, slots=True)
class Generators:
    """What writes pixels, where a kind needs it.

    Attributes:
        autoencoder: For the kinds "autoencoder", "regenerated" and "twin".
        inpainter: For the kind "diffusion".
        upscaler: For the kind "upscaled".
        styles: For the kind "restyled".
        generator: For the kinds "inpaint", "edit" and "sample".
    """

    autoencoder: Autoencoder | None = None
    inpainter: Inpainter | None = None
    upscaler: Upscaler | None = None
    styles: Restyler | None = None
    generator: Generator | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made of every photo.

    Attributes:
        kinds: Names of KINDS; they take turns, starting at a place that depends on the photo's name.
        per_photo: Edits of each photo.
        controls: How many photos are also written unedited; None: all. Always the same ones.
        seed: Of all draws.
        encoding: Of all pictures, edited or not.
        largest_side: Larger photos are first reduced to this longer side, pixels; None: never.
        autoencoder: Its name in the manifest's ``generator`` column.
        inpainter: Likewise.
        upscaler: Likewise.
        styles: Likewise.
        strength: Of a style: 1 is the restyled photo alone, 0.5 half of it and half of the photo. Of an edit: the share
            of the strength that is drawn.
        generator: Likewise.
        prompt: What the generator is asked for in edits and samples.
        square: Photos are reduced and cut to a square of this side, for a generator that knows no other; None: never.
        held_out: Sources whose photos, and copies of them, are left alone.
    """

    kinds: tuple[str, ...] = CHEAP_KINDS
    per_photo: int = 1
    controls: int | None = None
    seed: int = 0
    encoding: codecs.Encoding = field(default_factory=lambda: codecs.Encoding("jpeg", 90))
    largest_side: int | None = None
    autoencoder: str = ""
    inpainter: str = ""
    upscaler: str = ""
    styles: str = ""
    strength: float = 1.0
    generator: str = ""
    prompt: str = ""
    square: int | None = None
    held_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise RecipeError(
                    f"Unknown kind {kind!r}.{did_you_mean(kind, KINDS)} Known: {', '.join(KINDS)}."
                )
        if not self.kinds or self.per_photo < 1:
            raise RecipeError(
                f"kinds={self.kinds}, per_photo={self.per_photo}: nothing would be edited."
            )
        if not 0 < self.strength <= 1:
            raise RecipeError(f"strength={self.strength}: expected more than 0, at most 1.")
        for option in ("strength", "prompt", *(item.name for item in fields(Generators))):
            given = getattr(self, option)
            heed = [name for name, kind in KINDS.items() if option in (kind.needs, *kind.heeds)]
            if given not in ("", 1.0) and not set(heed) & set(self.kinds):
                raise RecipeError(
                    f"--{option} {given} changes nothing of {', '.join(self.kinds)}: it goes with {', '.join(heed)}."
                )


def make_edits(
    photos: Sequence[Entry],
    folder: Path,
    plan: Plan,
    generators: Generators | None = None,
    *,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Edits:
    """Write edited pictures, masks, controls and ``manifest.csv``; pictures already there are kept.

    Pictures go to ``<kind>/`` and ``authentic/``, masks to ``masks/``, below them each photo's folder within the
    photos' common folder. Files appear whole or not at all, the picture after its masks. A ``host`` is named in the
    manifest unless photos were reduced: then nothing on disk is aligned with the picture.

    Args:
        photos: Authentic entries; fakes are refused.
        folder: Where everything goes; may hold an earlier, interrupted run of the same plan.
        plan: What is made.
        generators: What the plan's kinds need.
        progress: Called with (done, all) after each photo.

    Raises:
        MissingDataError: If there is no photo, a kind lacks its generator, splices lack a second photo, or nothing
            could be made.
        RecipeError: If the folder holds another plan's run, one with other photos or weights, or more pictures than
            the plan makes, or a fake is among the photos.
    """
    generators = generators or Generators()
    photos = without(photos, KeptApart(frozenset(plan.held_out)))
    _check(photos, plan, generators)
    work = _Work(photos, folder, plan, generators)
    named = sorted((work.inside(photo), photo.path) for photo in photos)
    needed = {KINDS[kind].needs for kind in plan.kinds} - {""}
    networks = {name: network_sha256(getattr(generators, name)) for name in sorted(needed)}
    # How many are made may grow, for what is there stays valid.
    unnumbered = replace(plan, per_photo=1, controls=None)
    claim(folder, unnumbered, Plan(), photos=photos_sha256(named), **networks)
    work.refuse_fewer()
    return make_each(
        [(photo.path, photo) for photo in photos],
        work.made_of,
        folder,
        f"None of {len(photos)} photos could be edited",
        progress,
    )


class _Work:
    """What one run makes of photos, and what it keeps for the next of them."""

    def __init__(
        self, photos: Sequence[Entry], folder: Path, plan: Plan, generators: Generators
    ) -> None:
        self.photos, self.folder, self.plan = photos, folder, plan
        self.generators = generators
        self.pictures = Pictures(_MEMORY_BYTES)
        self._root = os.path.commonpath([photo.path.absolute().parent for photo in photos])
        ranked = sorted(photos, key=lambda photo: (_code(photo.path), str(photo.path)))
        self._ranked = ranked
        self._controls = {photo.path for photo in ranked[: plan.controls]}
        self._frame = Frame(plan.largest_side, plan.square)
        self._of_split: dict[str | None, list[Entry]] = defaultdict(list)
        for photo in photos:
            self._of_split[photo.split].append(photo)
        self._among = {e.path: at for some in self._of_split.values() for at, e in enumerate(some)}

    def inside(self, photo: Entry) -> str:
        """Return where a photo is within the photos' common folder."""
        return os.path.relpath(photo.path.absolute(), self._root)

    def refuse_fewer(self) -> None:
        """Refuse to make fewer pictures than are there: the new manifest would not name the others.

        Raises:
            RecipeError: With how many there are.
        """
        edits = max(self._edits_there(photo) for photo in self.photos)
        controls = max(
            (n for n, photo in enumerate(self._ranked, 1) if self._control_at(photo).exists()),
            default=0,
        )
        asked = self.plan.controls
        for option, given, there in (
            ("per-photo", self.plan.per_photo, edits),
            ("controls", controls if asked is None else asked, controls),
        ):
            if given < there:
                raise RecipeError(
                    f"--{option} {given}: {self.folder} holds more, which its manifest would forget. Give "
                    f"--{option} {there} or more, or choose another folder."
                )

    def _edits_there(self, photo: Entry) -> int:
        number = 0
        while self._edit_at(photo, number).exists():
            number += 1
        return number

    def made_of(self, photo: Entry) -> Iterator[Product]:
        """Make everything of one photo that is not there yet."""
        if photo.path in self._controls:
            yield self._control(photo)
        for number in range(self.plan.per_photo):
            yield self._edit(photo, number)

    def _control(self, photo: Entry) -> Product:
        path = self._control_at(photo)
        kept = path.exists()
        if not kept:
            write_picture(path, self._photo(photo.path), self.plan.encoding)
        control = Entry(
            path,
            Label.REAL,
            source=photo.source,
            split=photo.split,
            host_path=None,
            origin=self._origin(photo),
        )
        return Product(control, kept)

    def _edit(self, photo: Entry, number: int) -> Product:
        kind = self._kind(photo, number)
        known = KINDS[kind]
        path = self._edit_at(photo, number)
        masks = {
            name: self._place(photo, f"masks/{kind}", f".{number + 1}.{name}", ".png")
            for name in ("generated", "edited")
        }
        kept = path.exists()
        if not kept:
            made = self._made(photo, kind, self._draws(photo, number))
            if known.name is not None:
                write_mask(masks["generated"], made.generated)
                write_mask(masks["edited"], made.edited)
            write_picture(path, made.image, self.plan.encoding)
        edited = Entry(
            path,
            Label.FAKE,
            generator=getattr(self.plan, known.needs) if known.needs else None,
            kind=known.name,
            source=photo.source,
            split=photo.split,
            # A picture that is generated as a whole has no masks: the label says it all.
            generated_path=masks["generated"] if known.name else None,
            edited_path=masks["edited"] if known.name else None,
            host_path=photo.path if self._aligned(kind) else None,
            origin=self._origin(photo, kind, number),
        )
        return Product(edited, kept)

    def _kind(self, photo: Entry, number: int) -> str:
        return self.plan.kinds[(_code(photo.path) + number) % len(self.plan.kinds)]

    def _control_at(self, photo: Entry) -> Path:
        return self._place(photo, "authentic", "")

    def _edit_at(self, photo: Entry, number: int) -> Path:
        return self._place(photo, self._kind(photo, number), f".{number + 1}")

    def _draws(self, photo: Entry, number: int) -> np.random.Generator:
        return np.random.default_rng((self.plan.seed, _content_code(photo.path), number))

    def _strength(self, draws: np.random.Generator) -> float:
        """Draw an edit's strength: the first of its draws, so that the manifest can tell it of what was made before."""
        return self.plan.strength * float(draws.choice(EDIT_STRENGTHS))

    def _aligned(self, kind: str) -> bool:
        return kind != "sample" and not self.plan.largest_side and not self.plan.square

    def _origin(self, photo: Entry, kind: str = "", number: int = 0) -> Origin:
        twin = shown(Path(self.inside(photo)).as_posix())
        return Origin(
            prompt=self.plan.prompt if kind in {"edit", "sample"} else "",
            seed=self.plan.seed,
            twin=twin,
            strength=self._strength(self._draws(photo, number)) if kind == "edit" else None,
        )

    def _made(self, photo: Entry, kind: str, rng: np.random.Generator) -> Manipulated:
        image = self._photo(photo.path)
        if KINDS[kind].name is None:
            picture = self._generated(photo, image, kind, rng)
            checked(picture, None if kind == "sample" else image)
            whole = np.ones(picture.shape[:2], bool)
            return Manipulated(picture, whole, ~whole, None)
        made = self._manipulation(photo, kind, rng)(image, rng, self._objects(photo))
        if made.generated.any():
            checked(made.image[made.edited][None], image[made.edited][None])
        return made

    def _generated(
        self, photo: Entry, image: Image, kind: str, rng: np.random.Generator
    ) -> UInt8[np.ndarray, "rows columns 3"]:
        """Return the whole photo anew, of its size, or a picture from nothing."""
        if kind == "twin":
            return TwinLaw()(image, cast(Autoencoder, self.generators.autoencoder), rng)
        if kind in {"edit", "sample"}:
            return self._anew(image, kind, rng)
        if kind == "upscaled":
            return cast(Upscaler, self.generators.upscaler)(image)
        restyle = cast(Restyler, self.generators.styles)
        styled = restyle(image, lambda: self._of_another(photo, rng, self._picture), rng)
        return codecs.blend(image, styled, self.plan.strength)

    def _anew(
        self, image: Image, kind: str, rng: np.random.Generator
    ) -> UInt8[np.ndarray, "rows columns 3"]:
        generator = cast(Generator, self.generators.generator)
        if kind == "sample":
            side = generator.native_px
            return generator.sample(self.plan.prompt or None, (side, side), rng)
        return cast(Editor, generator).edit(image, self.plan.prompt, self._strength(rng), rng)

    def _manipulation(self, photo: Entry, kind: str, rng: np.random.Generator) -> Manipulation:
        if kind == "copy_move":
            return CopyMove()
        if kind == "splicing":
            return Splicing(lambda draws: self._of_another(photo, draws, self._donor))
        filler = self._filler(kind)
        # Keeping an inpainter's whole frame and pasting back leave different traces: both are made.
        whole = filler.generative and filler.replaces_content and rng.random() < 0.5
        if isinstance(filler, Painting):
            whole = whole and cast(Generator, self.generators.generator).rewrites
        return Inpainting(filler, paste_back=not whole)

    def _filler(self, kind: str) -> Inpainter:
        """Return what fills regions; _check has seen to it that there is one."""
        if kind == "inpaint":
            return Painting(cast(Painter, self.generators.generator))
        if kind == "diffusion":
            return cast(Inpainter, self.generators.inpainter)
        if kind in {"telea", "navier_stokes"}:
            return Telea() if kind == "telea" else NavierStokes()
        before = Telea() if kind == "regenerated" else None
        autoencoder = cast(Autoencoder, self.generators.autoencoder)
        return AutoencoderFill(autoencoder, before=before, latent_noise=(0.0, 0.25))

    def _of_another(
        self, photo: Entry, rng: np.random.Generator, read: Callable[[Entry], _T]
    ) -> _T:
        """Draw another photo of the same split that can be read, and read it."""
        every = self._of_split[photo.split]
        own = self._among[photo.path]
        for _ in range(_DONOR_TRIES if len(every) > 1 else 0):
            drawn = int(rng.integers(len(every) - 1))
            try:
                return read(every[drawn + (drawn >= own)])
            except GammascopeError:
                continue  # a broken one is reported when its own turn comes
        raise MissingDataError(
            f"{photo.path.name}: there is no other photo of the split {photo.split} that can be read."
        )

    def _donor(self, photo: Entry) -> Donor:
        return Donor(self._photo(photo.path), self._objects(photo))

    def _picture(self, photo: Entry) -> Image:
        return self._photo(photo.path)

    def _photo(self, path: Path) -> Image:
        """Decode, reduce, and refuse what is too small to be edited."""
        image = self.pictures.image(path)
        height, width = image.shape[:2]
        image = self._frame.image(image, path.name)
        if min(image.shape[:2]) < SMALLEST_PX:
            raise MissingDataError(
                f"{path.name}: {width} x {height} px, both sides need {SMALLEST_PX} px."
            )
        return image

    def _objects(self, photo: Entry) -> list[Mask]:
        height, width = self.pictures.image(photo.path).shape[:2]
        masks = (load_mask(path, (height, width)) for path in photo.object_paths)
        return [self._frame.mask(mask) for mask in masks]

    def _place(self, photo: Entry, below: str, ending: str, suffix: str | None = None) -> Path:
        """Name a file after its photo, suffix included: "a.jpg" and "a.png" are different photos."""
        suffix = suffix or SUFFIXES[self.plan.encoding.format]
        return self.folder / below / f"{self.inside(photo)}{ending}{suffix}"


def photos_of(paths: Sequence[Path], split: str) -> list[Entry]:
    """Make authentic entries of files; the source of each is the name of its folder."""
    return [
        Entry(path, Label.REAL, source=shown(path.absolute().parent.name) or None, split=split)
        for path in paths
    ]


def _check(photos: Sequence[Entry], plan: Plan, generators: Generators) -> None:
    if not photos:
        apart = f" without the sources {', '.join(plan.held_out)}" if plan.held_out else ""
        raise MissingDataError(f"No photo to edit: the list is empty{apart}.")
    fakes = [photo.path for photo in photos if photo.label is not Label.REAL]
    if fakes:
        raise RecipeError(f"{len(fakes)} of the pictures are fakes ({fakes[0]}): give real photos.")
    for kind in plan.kinds:
        needs = KINDS[kind].needs
        if needs and getattr(generators, needs) is None:
            raise RecipeError(f"Kind {kind!r} needs a generator: give --{needs}.")
        if needs == "generator":
            generator = cast(Generator, generators.generator)
            generator.require(cast(Ability, kind))
            generator.class_of(plan.prompt or None)
    if "splicing" in plan.kinds and len({photo.path for photo in photos}) < 2:
        raise MissingDataError("Splicing needs at least two photos: a host and a donor.")


def _code(path: Path) -> int:
    return zlib.crc32(os.fsencode(path.name))


def _content_code(path: Path) -> int:
    """Number a photo by its bytes: those of one name in several folders get regions of their own."""
    try:
        return zlib.crc32(content_of(path))
    except UndecodableImageError:  # whoever decodes it says why
        return 0
