"""Pictures of people's websites and repositories whose origin something shows, as a manifest to train on.

    python benchmarks/proven_pictures.py REPOSITORIES --out pictures

REPOSITORIES holds git repositories, bare or not, each in a folder of its name. A picture is taken

- as real if its file was last changed before July 2021, when no generator of photographs was public, or if it carries a
  camera's name with an exposure or a date. Such pictures are what detectors raise false alarms on: graded, sharpened,
  reduced, cropped, converted, put together;
- as generated if the file declares it: ComfyUI's and other programs' settings, Content Credentials, IPTC's source type.

Every repository is a source, and none gives more than ``--most`` pictures of each proof; no picture counts twice. What
is real and mostly flat, or PNG, or of a repository named by ``--graphics`` (logos, screenshots, certificates, drawings,
renderings, a few product shots) gets a source of its own, "graphics-...": it teaches what is not generated, and is no
measure for photographs.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from gammascope.errors import GammascopeError
from gammascope.imaging.decode import decode
from gammascope.imaging.provenance import provenance_of

UNTIL = "2021-07"
SMALLEST_PX, LARGEST_BYTES, SMALLEST_BYTES = 256, 4_000_000, 20_000
FLAT = 0.75
"""Share of neighbouring pixels without a difference, in a picture reduced to 512 px, from which it is a graphic."""
DECLARES = re.compile(r"\btrainedAlgorithmicMedia", re.IGNORECASE)
"""The source type that C2PA and IPTC have for what a generator made as a whole."""
PICTURE = re.compile(r"\.(jpe?g|webp|png)$", re.IGNORECASE)
SUSPECT = re.compile(
    r"midjourney|dall|stable.?diff|comfy|generated|\bai\b|\bgan\b|result|output|style", re.I
)
"""Names of files that may be the work of a network, whatever their date."""


@dataclass(frozen=True)
class Found:
    """A picture in a repository: its path there, its object, and the day of its last change."""

    path: str
    blob: str
    day: str


def git(repository: Path, *words: str) -> bytes:
    """Return what git says."""
    command = ["git", "--git-dir", str(repository), *words]
    return subprocess.run(command, capture_output=True, check=True).stdout


def repositories(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and the git directory of each repository."""
    for path in sorted(folder.iterdir()):
        for place in (path, path / ".git", path / "repo", path / "repo" / ".git"):
            if (place / "HEAD").is_file():
                yield path.name, place
                break


def pictures(repository: Path) -> Iterator[Found]:
    """Yield the pictures of the newest commit."""
    blobs = {}
    for line in (
        git(repository, "ls-tree", "-r", "-l", "-z", "HEAD").decode(errors="replace").split("\0")
    ):
        facts, _, path = line.partition("\t")
        if PICTURE.search(path):
            _, _, blob, size = facts.split()
            if size.isdigit() and SMALLEST_BYTES < int(size) < LARGEST_BYTES:
                blobs[path] = blob
    days: dict[str, str] = {}
    day = ""
    log = git(
        repository, "log", "--no-renames", "--diff-filter=AM", "--name-only", "-z", "--format=@@%as"
    )
    for word in re.split("[\0\n]", log.decode(errors="replace")):
        if word.startswith("@@"):
            day = word[2:]
        elif word in blobs:
            days[word] = max(days.get(word, ""), day)
    for path, blob in blobs.items():
        yield Found(path, blob, days.get(path, "9999"))


def by_camera(exif: PIL.Image.Exif) -> bool:
    """Return whether a camera wrote its name and an exposure or a date."""
    taken = exif.get_ifd(PIL.ExifTags.IFD.Exif)
    tags = PIL.ExifTags.Base
    named = exif.get(tags.Make) or exif.get(tags.Model)
    return bool(named) and bool(taken.get(tags.ExposureTime) or taken.get(tags.DateTimeOriginal))


def flat(pixels: np.ndarray) -> float:
    """Return the share of neighbouring pixels that do not differ, 0..1, of a picture reduced to 512 px."""
    small = PIL.Image.fromarray(pixels)
    small.thumbnail((512, 512), PIL.Image.Resampling.BOX)
    steps = np.abs(np.diff(np.asarray(small, float), axis=1)).max(2)
    return float((steps < 1.5).mean())


def declared(content: bytes) -> bool:
    """Return whether the file says that a generator made it."""
    return any(
        one.name == "provenance:generator" or DECLARES.search(one.statement)
        for one in provenance_of(content, quick=True)
    )


def proof_of(found: Found, content: bytes) -> tuple[str, bool] | None:
    """Return what shows a picture's origin, and whether the picture is flat; None if nothing does, or it is no use.

    Origins are "generator", "camera" and "day".
    """
    try:
        image = decode(content).image
        exif = PIL.Image.open(io.BytesIO(content)).getexif()
    except (GammascopeError, OSError, ValueError, SyntaxError):
        return None
    if min(image.shape[:2]) < SMALLEST_PX:
        return None
    if declared(content):
        # A flat one is a screenshot of the program, which writes the same settings.
        return None if flat(image) >= FLAT else ("generator", False)
    if by_camera(exif):
        return "camera", flat(image) >= FLAT
    if found.day < UNTIL and not SUSPECT.search(found.path):
        return "day", flat(image) >= FLAT
    return None


def keep(
    folder: Path, content: bytes, digest: str, suffix: str, label: str, source: str
) -> tuple[str, str, str, str, str]:
    """Write a picture's bytes into the folder of its source; return its row of the manifest."""
    path = folder / source / f"{digest[:16]}{suffix.lower()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path.relative_to(folder).as_posix(), label, source, "train", digest


def write_rows(folder: Path, rows: Iterable[tuple[str, str, str, str, str]]) -> None:
    """Write the manifest of what was kept."""
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "source", "split", "sha256"), *rows])


def main() -> None:
    """Write pictures and manifest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repositories", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--graphics", nargs="*", default=[], help="repositories that hold no photos"
    )
    parser.add_argument("--most", type=int, default=40, help="pictures of a repository and proof")
    chosen = parser.parse_args()
    rows, seen = [], set[str]()
    for name, repository in repositories(chosen.repositories):
        try:
            drawn = list(pictures(repository))
        except subprocess.CalledProcessError as error:
            print(f"{name}: left out, git says: {error.stderr.decode(errors='replace').strip()}")
            continue
        drawn.sort(key=lambda found: found.blob)  # in an order that nobody chose
        taken: Counter[str] = Counter()
        for found in drawn:
            content = git(repository, "cat-file", "blob", found.blob)
            digest = hashlib.sha256(content).hexdigest()
            shown = None if digest in seen else proof_of(found, content)
            seen.add(digest)
            if shown is None or taken[shown[0]] >= chosen.most:
                continue
            proof, is_flat = shown
            taken[proof] += 1
            graphic = is_flat or name in chosen.graphics or found.path.lower().endswith(".png")
            made = proof == "generator"
            kind = "declared" if made else "graphics" if graphic else "web"
            source = f"{kind}-{name.split('+')[0].lower()}"
            label = "fake" if made else "real"
            rows.append(keep(chosen.out, content, digest, Path(found.path).suffix, label, source))
        print(
            f"{name}: " + ", ".join(f"{n} by {proof}" for proof, n in sorted(taken.items())),
            flush=True,
        )
    if not rows:
        sys.exit(f"No dated pictures in the git repositories of {chosen.repositories}.")
    write_rows(chosen.out, rows)


if __name__ == "__main__":
    main()
