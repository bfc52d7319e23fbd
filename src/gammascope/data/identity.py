"""Which photo and which network: known by what is in them, never by their names.

A folder of made pictures names them after numbers and paths, and a generator's signature is the same for all its
trainings. So a folder keeps these hashes, and what goes on there is made of the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from gammascope import settings
from gammascope.errors import UndecodableImageError
from gammascope.imaging.decode import content_of
from gammascope.sample import Entry, KeptApart


def photo_sha256(path: Path) -> str:
    """Return the hash of a photo's bytes; of its path where it cannot be read, for whoever decodes it says why."""
    try:
        return hashlib.sha256(content_of(path)).hexdigest()
    except UndecodableImageError:
        return hashlib.sha256(bytes(path)).hexdigest()


def photos_sha256(photos: Iterable[tuple[str, Path]]) -> str:
    """Return one hash of photos in their order, each with what is said of it."""
    digest = hashlib.sha256()
    for said, path in photos:
        digest.update(f"{said}\0{photo_sha256(path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def network_sha256(network: object) -> str:
    """Return the hash of a network's config and weights.

    Args:
        network: A module, or what holds one as ``network``; of anything else nothing is known, and the answer is "".
    """
    module = network if isinstance(network, nn.Module) else getattr(network, "network", None)
    if not isinstance(module, nn.Module):
        return ""
    config = json.dumps(settings.plain(getattr(module, "config", None)), default=str)
    digest = hashlib.sha256(config.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"\0{name} {value.dtype} {tuple(value.shape)}\0".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def distinct(photos: Iterable[Entry]) -> list[Entry]:
    """Return the photos without copies of those before them."""
    first: dict[str, Entry] = {}
    for photo in photos:
        first.setdefault(photo_sha256(photo.path), photo)
    return list(first.values())


def without(photos: Sequence[Entry], apart: KeptApart) -> list[Entry]:
    """Return the photos that are not kept apart, nor copies of one that is."""
    held = {photo_sha256(photo.path) for photo in photos if apart.holds(photo)}
    if not held:
        return list(photos)
    return [photo for photo in photos if photo_sha256(photo.path) not in held]
