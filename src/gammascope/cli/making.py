"""What ``gammascope synthesize`` is fed with, and its outcome as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from gammascope.data.edits import Generators, photos_of
from gammascope.data.folder import SCANNED_SUFFIXES, find_images
from gammascope.data.manifest import read_manifest
from gammascope.data.pictures import Pictures
from gammascope.data.policies import base as policies
from gammascope.data.products import MANIFEST, Edits
from gammascope.detection.runtime import openvino_core
from gammascope.errors import MissingDataError, RecipeError, did_you_mean
from gammascope.generation import restyling
from gammascope.generation.autoencoder import Autoencoder, TinyAutoencoder, from_diffusers
from gammascope.generation.base import Generator, load
from gammascope.generation.small_autoencoder import FILE, SmallAutoencoder
from gammascope.generation.upscaling import Upscaler
from gammascope.imaging.codecs import Encoding
from gammascope.manipulation.inpainting import Inpainter
from gammascope.sample import Entry, KeptApart, Label

_TABLES = {".csv", ".parquet"}
_NETWORK_FILES = {".param", ".onnx"}
_BROKEN_SHOWN = 10
_PICTURES_BYTES = 4 * 10**9


def photos_at(
    paths: Sequence[str], out: Path, split: str | None, held_out: Sequence[str] = ()
) -> list[Entry]:
    """List the photos to edit: the real ones of manifests (of one split, if it is named), and files.

    Raises:
        MissingDataError: If there is none.
        RecipeError: If no photo is of a source that is to be held out, for then it was misspelt.
    """
    tables = [Path(path) for path in paths if Path(path).suffix.lower() in _TABLES]
    others = [path for path in paths if Path(path).suffix.lower() not in _TABLES]
    photos = [
        entry
        for path in tables
        for entry in read_manifest(path, split)
        if entry.label is Label.REAL
    ]
    if others:
        made = out.absolute()
        # Camera raws are listed, so that each is reported.
        files = find_images(others, suffixes=SCANNED_SUFFIXES)
        # On a second run the folder of the photos may hold what was made of them.
        found = [p for p in files if not p.absolute().is_relative_to(made)]
        if not found:
            raise MissingDataError(f"--out {out} holds all the photos: name a folder beside them.")
        photos += photos_of(found, split or "test")
    if not photos:
        raise MissingDataError(f"No real photo in {', '.join(paths)}.")
    for _, (name, *_), known in KeptApart(frozenset(held_out)).absent(photos):
        raise RecipeError(
            f"--held-out {name}: no photo is of this source.{did_you_mean(name, sorted(known))}"
        )
    return photos


def encoding_of(quality: str) -> Encoding:
    """Read "png" or a JPEG quality.

    Raises:
        RecipeError: If it is neither.
    """
    if quality.lower() == "png":
        return Encoding("png")
    try:
        return Encoding("jpeg", int(quality))
    except ValueError:
        raise RecipeError(f"--quality {quality}: expected a JPEG quality 1..100, or png.") from None


def generator_of(folder: Path | None) -> Generator | None:
    """Load a generator's folder, if one was named."""
    return None if folder is None else load(folder)


def generators(
    autoencoder: str | None,
    inpainter: str | None,
    upscaler: Path | None,
    styles: Path | None,
    generator: Generator | None = None,
) -> Generators:
    """Load what was named; a hub id, which only the first two take, downloads."""
    return Generators(
        None if autoencoder is None else autoencoder_at(autoencoder),
        None if inpainter is None else _inpainter(inpainter),
        None if upscaler is None else Upscaler(upscaler),
        None if styles is None else restyling.load(styles, openvino_core()),
        generator,
    )


def refuse_beside_policy(
    policy: str | None, budget: int | None, given: Mapping[str, object]
) -> None:
    """Refuse what a policy has no use for, and a policy without a budget.

    Args:
        policy: Its name.
        budget: Its pairs.
        given: Options that go with kinds of edits alone; what is false was not given.

    Raises:
        RecipeError: With what does not go together, or if there is no such policy.
    """
    if policy is not None:
        policies.get(policy, accepted=True)
    if policy is None or budget is None:
        raise RecipeError(
            "--policy and --budget belong together (--accept-patent-notice to both): give both."
        )
    useless = [f"no --{name}" for name, value in given.items() if value]
    if useless:
        raise RecipeError(f"--policy decides itself what is made: give {' and '.join(useless)}.")


def augmented(
    photos: Sequence[Entry],
    out: Path,
    generator: Generator | None,
    policy: tuple[str, int, bool, tuple[str, ...]],
    how: tuple[int, Encoding, int | None],
    *,
    quiet: bool,
) -> Edits:
    """Run a policy.

    Args:
        photos: The pool.
        out: Where everything goes.
        generator: What writes pixels.
        policy: Its name and budget, whether its notice was accepted, and sources held out.
        how: Seed, encoding of all pictures, and the longer side that larger photos are reduced to.
        quiet: Without a bar.

    Raises:
        RecipeError: If there is no generator.
    """
    from gammascope.cli import terminal
    from gammascope.data.augmenting import PolicyPlan, augment

    if generator is None:
        raise RecipeError("A policy needs a generator: give --generator.")
    name, budget, accepted, held_out = policy
    seed, encoding, largest_side = how
    plan = PolicyPlan(
        name,
        budget,
        generator.signature,
        held_out,
        seed,
        encoding,
        square=None if generator.any_size else generator.native_px,
        accepted=accepted,
        largest_side=largest_side,
    )
    with terminal.progress_bar("Augmenting", shown=not quiet) as advance:
        return augment(photos, out, plan, generator, progress=advance)


def designs(names: Sequence[str] | None) -> list[str]:
    """Check names of autoencoder designs; "all": every one, None: the usual ones.

    Raises:
        RecipeError: If one is unknown.
    """
    from gammascope.training.autoencoders import DESIGNS, USUAL

    if names and "all" in names:
        return list(DESIGNS)
    for name in names or ():
        if name not in DESIGNS:
            raise RecipeError(
                f"Unknown design {name!r}.{did_you_mean(name, DESIGNS)} Known: {', '.join(DESIGNS)}."
            )
    return list(dict.fromkeys(names or USUAL))


def preloaded(photos: Sequence[Entry]) -> tuple[list[Entry], Pictures]:
    """Decode photos once for all that is trained on them; return those that could be read, with their pixels."""
    pictures = Pictures(_PICTURES_BYTES)
    broken = {path for path, _ in pictures.preload(entry.path for entry in photos)}
    return [entry for entry in photos if entry.path not in broken], pictures


def autoencoder_made(
    name: str,
    photos: Sequence[Entry],
    pictures: Pictures,
    folder: Path,
    steps: int,
    advance: Callable[[int, int], None],
) -> str:
    """Train one autoencoder unless it is there, and say how close its round trips come to photos."""
    from gammascope.training import autoencoders

    if (folder / FILE).is_file():
        return f"{name}: there already, {folder}"
    network = autoencoders.fit(
        autoencoders.DESIGNS[name],
        photos,
        autoencoders.Schedule(steps),
        pictures=pictures,
        progress=lambda done, total, _: advance(done, total),
    )
    autoencoders.save(network, folder)
    shown = [pictures.image(e.path)[:512, :512] for e in photos[:: max(1, len(photos) // 8)]]
    decibels = autoencoders.fidelity(network, shown)
    return f"{name}: {decibels:.1f} dB on photos it was trained on, {folder}"


def short_name(place: str | Path | None) -> str:
    """Return a generator's name for manifests: the last part of a folder or hub id, a file's without its ending."""
    if not place:
        return ""
    path = Path(place)
    return path.stem if path.suffix in _NETWORK_FILES else path.name


def table(made: Edits) -> Table:
    """Draw how many pictures of which kind there are."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    drawn.add_column("pictures")
    drawn.add_column("number", justify="right")
    counts = Counter(
        "authentic (controls)"
        if entry.label is Label.REAL
        else (entry.kind or "generated as a whole")
        for entry in made.entries
    )
    for name, count in sorted(counts.items()):
        drawn.add_row(name, str(count))
    return drawn


def closing(made: Edits, out: Path) -> str:
    """Return where everything is, and which photos could not be used."""
    kept = f" ({made.kept} of them were there already)" if made.kept else ""
    lines = [f"{len(made.entries)} pictures{kept}: {out / MANIFEST}"]
    shown = made.broken[:_BROKEN_SHOWN]
    lines += [f"not used: {path}: {reason}" for path, reason in shown]
    if len(made.broken) > len(shown):
        lines.append(f"... and {len(made.broken) - len(shown)} more")
    return "\n".join(lines)


def autoencoder_at(place: str) -> Autoencoder:
    """Load an autoencoder of any kind from its folder, or by its hub id."""
    folder = Path(place)
    if (folder / FILE).is_file():
        return SmallAutoencoder.from_folder(folder)
    if any(folder.glob("*encoder.pth")):
        return TinyAutoencoder.from_folder(folder)
    if (folder / "vae").is_dir():
        return from_diffusers(folder, subfolder="vae")
    return from_diffusers(place)


def _inpainter(place: str) -> Inpainter:
    from gammascope.generation.diffusion import InpaintingPipeline

    return InpaintingPipeline.load(place)
