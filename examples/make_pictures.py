"""Make examples/pictures: untouched photos, three montages, two autoencoder reconstructions.

    python examples/make_pictures.py FOLDER_WITH_THE_TAEF2_FILES

Deterministic: every choice is written here or drawn from a seed. The photos come inside
scikit-image's wheel and are in the public domain or CC0 (see README.md beside this file). The
folder holds one ``*encoder.pth`` and one ``*decoder.pth`` of TAEF2. Ground truth goes to
examples/masks, so that a scan of the pictures does not meet it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PillowImage
from skimage import data

from gammascope.generation.autoencoder import TinyAutoencoder, round_trip
from gammascope.imaging.codecs import Encoding, reencode
from gammascope.manipulation.base import Manipulated
from gammascope.manipulation.blending import feathered
from gammascope.manipulation.inpainting import TwinPaste
from gammascope.manipulation.regions import Pose, Regions, moved
from gammascope.sample import Image, Mask

FOLDER = Path(__file__).resolve().parent
JPEG_QUALITY = 92
EARLIER_QUALITY = 85
"""Of the host that was a JPEG file before it was changed, as nearly every photo from a camera or a website is."""
SEED = 20
# Drawn by hand around the person and the helmet before her, (x, y) in the portrait.
# fmt: off
ASTRONAUT = [
    (155, 100), (152, 75), (158, 58), (172, 42), (190, 28), (210, 20), (232, 16), (255, 19),
    (275, 31), (290, 48), (298, 70), (299, 95), (292, 114), (282, 127), (272, 130), (268, 145),
    (262, 165), (256, 178), (270, 190), (290, 210), (303, 235), (322, 245), (340, 262),
    (352, 290), (360, 330), (362, 350), (385, 345), (415, 345), (445, 356), (470, 376),
    (485, 400), (494, 430), (496, 455), (507, 470), (510, 490), (511, 511), (38, 511), (26, 485),
    (22, 450), (23, 400), (26, 370), (32, 330), (46, 290), (60, 262), (76, 240), (95, 222),
    (114, 208), (113, 190), (123, 170), (140, 155), (160, 150), (185, 149), (182, 130),
    (173, 118), (160, 112),
]
# fmt: on
PHOTOS: dict[str, Callable[[], Image]] = {
    "astronaut": data.astronaut,
    "cat": data.chelsea,
    "coffee": data.coffee,
    "rocket": data.rocket,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("taef2", type=Path, help="folder with TAEF2's encoder and decoder")
    autoencoder = TinyAutoencoder.from_folder(parser.parse_args().taef2)
    for name, photo in PHOTOS.items():
        save_picture(f"{name}_untouched", photo())
    rocket = data.rocket()
    save("rocket_spliced", splice_astronaut_into(rocket))
    compressed = reencode(rocket, Encoding("jpeg", EARLIER_QUALITY))
    save("rocket_jpeg_spliced", splice_astronaut_into(compressed))
    save("astronaut_copy_moved", copy_badge())
    save("cat_partly_reconstructed", reconstruct_face_of_cat(autoencoder))
    save("coffee_wholly_reconstructed", reconstruct_coffee(autoencoder))


def splice_astronaut_into(host: Image) -> Manipulated:
    """Stand the astronaut, cut from her studio portrait, in front of the launch pad."""
    donor = data.astronaut()
    frame = host.shape[:2]
    person = outlined(donor, ASTRONAUT)
    # The portrait ends at the waist, so its lower border has to meet the host's.
    scale = 0.55
    pose = Pose(x=170, y=frame[0] - scale * np.ptp(np.flatnonzero(person.any(1))) / 2, scale=scale)
    patch, where = moved(donor, person, pose, frame)
    return montage(host, patch, where, "splicing", feather_px=2)


def copy_badge() -> Manipulated:
    """Give the astronaut a second mission badge, on her sleeve."""
    host = data.astronaut()
    badge = disc(host, centre=(170, 385), radii=(41, 41))
    pose = Pose(x=84, y=398, scale=0.93, degrees=8, cubic=True)
    patch, where = moved(host, badge, pose, host.shape[:2])
    return montage(host, patch, where, "copy_move", feather_px=2)


def reconstruct_face_of_cat(autoencoder: TinyAutoencoder) -> Manipulated:
    """Let a generator's decoder write the cat's face anew; it shows what it showed before."""
    photo = data.chelsea()
    face = disc(photo, centre=(215, 140), radii=(120, 105))
    regions = Regions(shapes=("object",), dilation_px=(0, 0))
    paste = TwinPaste(round_trip(photo, autoencoder), regions=regions, feather_px=2)
    return paste(photo, np.random.default_rng(SEED), [face])


def reconstruct_coffee(autoencoder: TinyAutoencoder) -> Manipulated:
    """Let the decoder write the whole picture: every pixel is generated, nothing was pasted."""
    photo = data.coffee()
    everywhere = np.ones(photo.shape[:2], dtype=bool)
    return Manipulated(round_trip(photo, autoencoder), everywhere, ~everywhere, kind=None)


def montage(host: Image, patch: Image, where: Mask, kind: str, feather_px: int) -> Manipulated:
    """Paste a patch; both pictures are photos, so that nothing is generated."""
    pasted = feathered(host, patch, where, feather_px)
    return Manipulated(pasted, np.zeros_like(where), where, kind)


def outlined(photo: Image, corners: list[tuple[int, int]]) -> Mask:
    """Return what lies inside an outline of (x, y) corners."""
    canvas = np.zeros(photo.shape[:2], np.uint8)
    cv2.fillPoly(canvas, [np.array(corners, np.int32)], 1)
    mask: Mask = canvas.astype(bool)
    return mask


def disc(photo: Image, centre: tuple[int, int], radii: tuple[int, int]) -> Mask:
    """Return an ellipse given by centre (x, y) and half axes (x, y), in pixels."""
    rows, columns = np.mgrid[: photo.shape[0], : photo.shape[1]]
    across, down = (columns - centre[0]) / radii[0], (rows - centre[1]) / radii[1]
    mask: Mask = across**2 + down**2 <= 1
    return mask


def save(name: str, made: Manipulated) -> None:
    save_picture(name, made.image)
    for kind, mask in (("generated", made.generated), ("edited", made.edited)):
        path = FOLDER / "masks" / f"{name}.{kind}.png"
        path.parent.mkdir(exist_ok=True)
        PillowImage.fromarray(mask).save(path, optimize=True)


def save_picture(name: str, pixels: Image) -> None:
    path = FOLDER / "pictures" / f"{name}.jpg"
    path.parent.mkdir(exist_ok=True)
    PillowImage.fromarray(pixels).save(path, quality=JPEG_QUALITY, optimize=True)
    print(f"{path.relative_to(FOLDER)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
