"""IQ-VAE on photos that it did not see: likelihood of their codes, use of the codes, and how well edges are followed.

    python benchmarks/iq_vae.py RUN [RUN ...] --data MANIFEST.csv [--split dev] [--photos 200] [--drawn 16]

Likelihood: nats per code under true prefixes, after edges and after nothing; log(codes) is chance. Edges: the
correlation of a drawn picture's edges with those that it was asked for; no more can be followed than the codes of the
photo itself keep. Intervals: 95 %, over photos.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from gammascope.data.manifest import read_manifest
from gammascope.generation import base
from gammascope.generation.iq_vae import IqVae, code_use, edges_of
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.imaging.views import crop_at
from gammascope.sample import Label


def photos(manifest: Path, split: str, count: int, px: int) -> torch.Tensor:
    entries = [entry for entry in read_manifest(manifest, split) if entry.label is Label.REAL]
    squares = []
    for entry in entries[:: max(1, len(entries) // count)][:count]:
        image = decode(entry.path).image
        small = codecs.rescale(image, px / min(image.shape[:2]))
        height, width = small.shape[:2]
        squares.append(base.to_pixels(crop_at(small, (width - px) // 2, (height - px) // 2, px)))
    return torch.cat(squares)


@torch.no_grad()
def nats(network: IqVae, pixels: torch.Tensor, *, edges: bool) -> np.ndarray:
    sheet = torch.cat([edges_of(pixels) * edges, torch.zeros(len(pixels), 4, *pixels.shape[2:])], 1)
    tokens = network.tokens(pixels)
    logits = network.logits(network.condition_tokens(sheet), network.picture_code(tokens))
    return (
        functional.cross_entropy(logits.transpose(1, 2), tokens, reduction="none").mean(1).numpy()
    )


def alike(made: torch.Tensor, photos: torch.Tensor) -> np.ndarray:
    pairs = zip(edges_of(made).flatten(1), edges_of(photos).flatten(1), strict=True)
    return np.array([np.corrcoef(a.numpy(), b.numpy())[0, 1] for a, b in pairs])


def followed(network: IqVae, pixels: torch.Tensor) -> np.ndarray:
    drawn = []
    for index, edges in enumerate(edges_of(pixels)):
        asked = base.to_image(edges.expand(3, -1, -1)[None])
        size = (network.native_px, network.native_px)
        drawn.append(base.to_pixels(network.sample(asked, size, np.random.default_rng(index))))
    return alike(torch.cat(drawn), pixels)


def shown(values: np.ndarray) -> str:
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} +- {half:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--drawn", type=int, default=16)
    asked = parser.parse_args()
    for run in asked.runs:
        network = base.load(run)
        if not isinstance(network, IqVae):
            raise SystemExit(f"{run} holds a {network.name}, no iq_vae.")
        pixels = photos(asked.data, asked.split, asked.photos, network.native_px)
        with torch.no_grad():
            decoded = network.decoded(network.tokens(pixels))
        error = (decoded - pixels).square().mean((1, 2, 3)).numpy()
        print(f"{run}: coupling {network.config.coupling}, {len(pixels)} photos")
        print(f"  reconstruction {shown(-10 * np.log10(error))} dB")
        print(
            f"  code use {code_use(network, pixels):.2f}, chance {np.log(network.config.codes):.2f} nats"
        )
        print(f"  nats after edges {shown(nats(network, pixels, edges=True))}")
        print(f"  nats after nothing {shown(nats(network, pixels, edges=False))}")
        print(f"  edges of photos kept by their codes {shown(alike(decoded, pixels))}")
        print(f"  edges followed {shown(followed(network, pixels[: asked.drawn]))}")


if __name__ == "__main__":
    main()
