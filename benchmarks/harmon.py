"""Harmon on photos that it did not see: is the class heard, does guidance help, are known tokens kept?

    python benchmarks/harmon.py RUN --data MANIFEST.csv --classes '{"dog": ["SOURCE"]}' \
        [--learnt train] [--split dev] [--photos 200] [--drawn 16]

Heard: the error of the noise of masked tokens, told the photo's class and told nothing, under the same masks and noise;
1 is what a network without a clue has. Guidance: how often a probe (logistic regressions on means and deviations of the
latents' channels, fitted on photos of the split learnt, one class against the others) names the class that was asked
for. Intervals: 95 %, over photos or pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gammascope.data.manifest import read_manifest
from gammascope.generation import base
from gammascope.generation.harmon import Harmon
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.imaging.views import crop_at
from gammascope.networks.fitted import fit_logistic
from gammascope.sample import Label

MASKED = 0.85
"""Share of the tokens that are hidden: the middle of what training hides."""

_AT_ONCE = 16  # pictures that are encoded together; a hundred of 256 px take more memory than most machines have


def photos(
    manifest: Path, split: str, classes: dict[str, list[str]], count: int, network: Harmon
) -> tuple[Tensor, Tensor]:
    """Return squares from the middle of photos, and the index of their class."""
    where = {source: name for name, sources in classes.items() for source in sources}
    found = [
        entry
        for entry in read_manifest(manifest, split)
        if entry.label is Label.REAL and entry.source in where
    ]
    squares, kinds, px = [], [], network.native_px
    for entry in found[:: max(1, len(found) // count)][:count]:
        image = decode(entry.path).image
        small = codecs.rescale(image, px / min(image.shape[:2]))
        height, width = small.shape[:2]
        squares.append(base.to_pixels(crop_at(small, (width - px) // 2, (height - px) // 2, px)))
        kinds.append(network.config.classes.index(where[entry.source or ""]))
    return torch.cat(squares), torch.tensor(kinds)


@torch.no_grad()
def error(network: Harmon, photo: Tensor, kind: int, seed: int) -> float:
    torch.manual_seed(seed)
    tokens = network.tokens(photo[None])
    order = torch.randperm(tokens.shape[1])[None]
    masked = round(MASKED * order.shape[1])
    told = network.told(tokens, order[:, masked:].sort(1).values, torch.tensor([kind]))
    hidden = order[0, :masked]
    found, _ = network.mar.diffloss.terms(tokens[0, hidden], told[0, hidden])
    return float(found.mean())


def features(network: Harmon, pixels: Tensor) -> Tensor:
    few = [network.tokens(some) for some in torch.split(pixels, _AT_ONCE)]
    return torch.cat([torch.cat([tokens.mean(1), tokens.std(1)], 1) for tokens in few])


def shown(values: np.ndarray) -> str:
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} +- {half:.3f}"


def heard(network: Harmon, pixels: Tensor, kinds: Tensor) -> None:
    told = [error(network, photo, int(kinds[n]), n) for n, photo in enumerate(pixels)]
    untold = [error(network, photo, -1, n) for n, photo in enumerate(pixels)]
    print(f"  error of the noise: told the class {shown(np.array(told))}")
    print(f"  told nothing {shown(np.array(untold))}")
    brought = np.array(untold) - np.array(told)
    print(f"  what the class brings, in thousandths {shown(1000 * brought)}")


class Probe:
    """Names the class of pictures."""

    def __init__(self, network: Harmon, pixels: Tensor, kinds: Tensor) -> None:
        self.network, rows = network, features(network, pixels)
        labels = range(len(network.config.classes))
        self.parts = [fit_logistic(rows, (kinds == label).long(), 0.01) for label in labels]

    def __call__(self, pixels: Tensor) -> Tensor:
        rows = features(self.network, pixels)
        return torch.stack([part.logits(rows) for part in self.parts], 1).argmax(1)


def drawn(network: Harmon, probe: Probe, count: int, guidance: float) -> None:
    network.config = dataclasses.replace(network.config, guidance=guidance)
    size = (network.native_px, network.native_px)
    right, begun = [], time.perf_counter()
    for label, name in enumerate(network.config.classes):
        for index in range(count):
            image = network.sample(name, size, np.random.default_rng((label, index)))
            right.append(int(probe(base.to_pixels(image))) == label)
    seconds = (time.perf_counter() - begun) / len(right)
    print(
        f"  guidance {guidance:g}: probe right {shown(np.array(right, float))}; {seconds:.1f} s each"
    )


def kept(network: Harmon, pixels: Tensor) -> None:
    tokens = network.tokens(pixels[:1])[0]
    stay = torch.arange(len(tokens)) % 2 == 0
    made = network.drawn_tokens(-1, tokens, stay, np.random.default_rng(0))
    print(f"  known tokens changed by inpainting: {int((made[stay] != tokens[stay]).sum())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--classes", type=json.loads, required=True)
    parser.add_argument("--learnt", default="train")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--drawn", type=int, default=16)
    asked = parser.parse_args()
    network = base.load(asked.run)
    if not isinstance(network, Harmon):
        raise SystemExit(f"{asked.run} holds a {network.name}, no harmon.")
    pixels, kinds = photos(asked.data, asked.split, asked.classes, asked.photos, network)
    learnt = photos(asked.data, asked.learnt, asked.classes, 2 * asked.photos, network)
    print(f"{asked.run}: {len(pixels)} photos")
    heard(network, pixels, kinds)
    kept(network, pixels)
    probe = Probe(network, *learnt)
    right = (probe(pixels) == kinds).float().numpy()
    print(f"  probe on photos not seen {shown(right)}, chance {1 / len(probe.parts):.3f}")
    for scale in (1.0, 3.0):
        drawn(network, probe, asked.drawn, scale)


if __name__ == "__main__":
    main()
