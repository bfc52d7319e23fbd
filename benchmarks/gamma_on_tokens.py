"""GAMMA's parts on what CLIP's frozen tower reads: families of generators left out, one table.

    python benchmarks/gamma_on_tokens.py --data MANIFEST.csv --data MANIFEST.csv --graph runs/eyes/blank.onnx \
        --out runs/tokens --hosts 90
    gammascope synthesize runs/tokens/hosts.csv --split train --per-photo 2 --largest-side 512 --kind copy_move \
        --kind splicing --kind telea --kind autoencoder --autoencoder TAEF2 --out runs/tokens/edits
    python benchmarks/gamma_on_tokens.py --data MANIFEST.csv --data MANIFEST.csv --graph runs/eyes/blank.onnx \
        --edits runs/tokens/edits/manifest.csv --out runs/tokens [--folds art sd] [--variants A5 A6] [--seeds 3]

The graph is the one that ``eyes.py`` makes first. Each picture is seen as its largest square reduced and through one
native window, after JPEG 90; class tokens, mean patch tokens and patch tokens of two blocks are kept.
``gamma.py``'s own network and losses are trained on them, with a backbone that gives what was kept. A picture's label
is the mean of its two logits. Windows of edited pictures lie over the edit, those of the untouched host at the same
place; both are as large and as compressed. What is done is skipped: start it again with the same options, or with
``--minutes`` to train on what could be read until then.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablations import BEFORE, VARIANTS, Variant, interval, read
from eyes import GRADIENT, NOT_PHOTOS, PENALTY, Space
from eyes_reading import HEAD, SIDE, square, window
from folds import JPEG90
from rich.progress import track
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor

from gammascope import runtime
from gammascope.data.manifest import load_sample, read_manifest, write_manifest
from gammascope.detectors import gamma
from gammascope.errors import UndecodableImageError
from gammascope.imaging import codecs, views
from gammascope.networks.backbones import FAMILIES
from gammascope.networks.base import Backbone, Features
from gammascope.networks.logistic import Logistic, fit_logistic
from gammascope.prediction import Batch
from gammascope.sample import Entry, Image, Label

CELLS, BLOCK, TAPS = 14, 768, (2, 4)
"""Side of the grid; numbers of a token; which of the graph's patch tokens are kept: blocks 8 and 12 of 4, 6, ... 12."""
LAST = slice(8 * BLOCK, 9 * BLOCK)
"""Where the last block's class token lies among the features."""
VIEWS = ("square", "window")
_NORMAL = FAMILIES["clip"].normalisation
VIEW = views.ViewSpec(SIDE, "center_crop", mean=_NORMAL[0], std=_NORMAL[1])
OF_FAMILY = {
    "art": ("midjourney", "flux", "ckpt:flux", "qwen", "ernie", "fibo", "ideogram", "krea", "z-image", "omnigen"),
    "sd": ("sd", "ckpt:", "unknown-model"),
    "assistants": ("gpt", "chatgpt", "dalle3", "gemini", "nano", "mixed-gallery"),
    "older": ("dalle", "disco", "glid", "latent-diffusion", "majesty", "simulacra", "stylegan", "unnamed-face"),
}  # fmt: skip
"""How names of generators begin; the others nobody named, and no other family learns from them."""
UNNAMED = "unnamed"
FOLDS = (*OF_FAMILY, UNNAMED)
NAMES = {"splicing": "spliced", "inpainting_classical": "filled", "inpainting": "inpainted"}
"""Kinds of manifests as the ablations call them."""
SHARES = {"authentic": 0.36, "control": 0.05, "generated": 0.34, "inpainted": 0.11}
SHARES |= {"filled": 0.04, "copy_move": 0.05, "spliced": 0.05}
"""How often a kind is drawn: as in the embedded recipe, twins counted as generated."""
EDITS: tuple[str, ...] = ("inpainted", "filled", "copy_move", "spliced")
LAW_OF = 200
"""Pictures that means and deviations are taken of."""
BATCH, RATE, WIDTH = 32, 1e-3, 48


@dataclass(frozen=True)
class Row:
    """A network of the table: a variant of the ablations, and what else differs."""

    what: str
    variant: Variant
    before: str
    blocks: int = 2
    every_block: bool = True


ROWS = {
    name: Row(VARIANTS[name].what, VARIANTS[name], BEFORE.get(name, ""))
    for name in ("A0", "A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9")
}
ROWS["A5c"] = Row("A5, heads judge each cell alone", VARIANTS["A5"], "A5", blocks=0)
ROWS["A0t"] = Row("A0, token of the last block alone", VARIANTS["A0"], "A0", every_block=False)
ROWS["A6t"] = Row("A6, token of the last block alone", VARIANTS["A6"], "A6", every_block=False)
READINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "L": ("linear reading, one of each view", ("generated",)),
    "L3": ("L, manipulated photos called fake", ("generated", *EDITS)),
    "Le": ("linear reading of *edited*", EDITS),
}


def family_of(entry: Entry) -> str:
    name = (entry.generator or "").lower()
    return next((f for f, starts in OF_FAMILY.items() if name.startswith(starts)), UNNAMED)


def chosen_of(
    manifests: Sequence[Path], without: set[str], apart: Sequence[str], cap: int
) -> list[Entry]:
    """Return at most so many whole pictures of a collection and class, the first of each first."""
    found: list[tuple[int, Entry]] = []
    had: Counter[tuple[str | None, Label]] = Counter()
    listed = [e for m in manifests for e in read_manifest(m, "train")]
    for entry in sorted(listed, key=lambda e: hashlib.sha256(e.path.name.encode()).hexdigest()):
        drawn = (entry.source or "").startswith(NOT_PHOTOS)
        if entry.kind or entry.source in apart or drawn or had[entry.source, entry.label] >= cap:
            continue
        if hashlib.sha256(entry.path.read_bytes()).hexdigest() not in without:
            had[entry.source, entry.label] += 1
            found.append((had[entry.source, entry.label], entry))
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def folds_of(entries: Sequence[Entry]) -> dict[str | None, str]:
    """Return the fold of each source's photos: that of its generated pictures, or the smallest so far."""
    fakes: dict[str | None, Counter[str]] = {}
    for entry in entries:
        if entry.label is Label.FAKE:
            fakes.setdefault(entry.source, Counter())[family_of(entry)] += 1
    photos = Counter(e.source for e in entries if e.label is Label.REAL)
    found = {source: fakes[source].most_common(1)[0][0] for source in photos if source in fakes}
    size = Counter(dict.fromkeys(FOLDS, 0))
    for source, fold in found.items():
        size[fold] += photos[source]
    for source in sorted(photos.keys() - found.keys(), key=str):
        found[source] = min(FOLDS, key=lambda fold: size[fold])
        size[found[source]] += photos[source]
    return found


def shown(
    entry: Entry, place: tuple[float, float], recode: bool
) -> tuple[list[Image], list[np.ndarray]]:
    """Return both views, and of each the share of every cell that is generated, and edited."""
    sample = load_sample(entry)
    code = np.zeros_like(sample.image)
    for channel, mask in enumerate((sample.generated, sample.edited)):
        if mask is not None:
            code[..., channel] = 255 * mask
    rows, columns = (extent // entry.panels for extent in sample.image.shape[:2])
    image = np.ascontiguousarray(sample.image[:rows, :columns])
    code = np.ascontiguousarray(code[:rows, :columns])
    if recode:
        image = codecs.reencode(image, JPEG90)
    pair = [[square(x), window(x, *place)] for x in (image, code)]
    side = SIDE // CELLS
    cells = [x.reshape(CELLS, side, CELLS, side, 3).mean((1, 3)) / 255 for x in pair[1]]
    return pair[0], [c[..., :2].transpose(2, 0, 1) for c in cells]


def places_of(edits: Sequence[Entry]) -> dict[Path, tuple[float, float]]:
    """Return where the window lies over each edit, 0..1 in each direction, and over its untouched host."""
    found: dict[Path, tuple[float, float]] = {}
    controls = {_host_of(e.path): e.path.resolve() for e in edits if not e.kind}
    for entry in (e for e in edits if e.kind):
        edited = load_sample(entry).edited
        if edited is None or not edited.any():
            continue
        middle = np.argwhere(edited).mean(0)
        room = np.array(edited.shape) - SIDE
        down, across = np.clip((middle - SIDE / 2) / np.maximum(room, 1), 0, 1)
        found[entry.path.resolve()] = (float(across), float(down))
        found.setdefault(controls[_host_of(entry.path)], found[entry.path.resolve()])
    return found


def _host_of(path: Path) -> str:
    """Return what ``synthesize`` puts into the names of everything that it makes of one photo."""
    return path.name.removesuffix(path.suffix).rstrip("0123456789").removesuffix(".")


def tower_of(graph: Path) -> Any:
    """Compile the part of an exported linear probe before its head, with the patch tokens that it averages."""
    openvino, core = runtime.import_openvino(), runtime.openvino_core()
    whole = core.read_model(graph)
    head = next(op for op in whole.get_ops() if op.get_friendly_name() == HEAD)
    tokens = next(iter(head.output(0).get_target_inputs())).get_node().input_value(0)
    mean = next(op for op in whole.get_ops() if op.get_type_name() == "ReduceMean")
    model = openvino.Model([tokens, mean.input_value(0)], whole.get_parameters(), "tokens")
    model.reshape([1, 3, SIDE, SIDE])
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": runtime.cores(),
        "ENABLE_CPU_PINNING": False,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": runtime.QUANTISED_TOGETHER,
    }
    return core.compile_model(model, "CPU", settings)


@dataclass
class Pool:
    """All pictures, and what the tower read of both views of each: standardised, which helps what learns by steps."""

    entries: list[Entry]
    kinds: np.ndarray
    folds: np.ndarray
    families: np.ndarray
    features: Tensor
    cells: Tensor
    masks: Tensor

    @cached_property
    def sources(self) -> np.ndarray:
        return np.array([e.source for e in self.entries])

    def tested(self, fold: str) -> np.ndarray:
        own = np.where(self.kinds == "generated", self.families, self.folds)
        return np.flatnonzero(own == fold)

    def learnt(self, fold: str) -> np.ndarray:
        """Return what has neither family nor collection in common with what is tested, unnamed fakes left out."""
        apart = set(self.sources[self.tested(fold)])
        other = (self.families != UNNAMED) & (self.families != fold)
        return np.flatnonzero(other & ~np.isin(self.sources, list(apart)))


def read_pool(chosen: argparse.Namespace, whole: Sequence[Entry], edits: Sequence[Entry]) -> Pool:
    """Read all pictures, or those that there is time for; what was read before is kept."""
    kept = {e.path: _file_of(e, chosen.out / "read") for e in [*edits, *whole]}
    (chosen.out / "read").mkdir(exist_ok=True)
    places, own = places_of(edits), {e.path for e in edits}
    tower, end = tower_of(chosen.graph), time.monotonic() + 60 * chosen.minutes
    for entry in track([e for e in [*edits, *whole] if not kept[e.path].is_file()], "reading"):
        if time.monotonic() > end:
            break
        try:
            place = places.get(entry.path.resolve(), (0.5, 0.5))
            images, masks = shown(entry, place, recode=entry.path not in own)
        except UndecodableImageError as error:
            print(f"left out: {error}")
            continue
        found = [tower([views.normalised(image, VIEW)[None]]).values() for image in images]
        partial = kept[entry.path].with_suffix(".part.npz")
        np.savez(
            partial,
            features=np.stack([tokens[0] for tokens, _ in found]).astype(np.float16),
            cells=np.stack([_tapped(cells) for _, cells in found]).astype(np.float16),
            masks=np.stack(masks).astype(np.float16),
        )
        partial.replace(kept[entry.path])
    entries = [e for e in [*whole, *edits] if kept[e.path].is_file()]
    kinds = [kind_of(e, made=e.path in own) for e in entries]
    families = [
        family_of(e) if k == "generated" else "" for e, k in zip(entries, kinds, strict=True)
    ]
    fold_of = folds_of(whole)
    features, cells, masks = zip(*(_loaded(kept[e.path]) for e in entries), strict=True)
    return Pool(
        entries,
        np.array(kinds),
        np.array([fold_of.get(e.source, "") for e in entries]),
        np.array(families),
        _standardised(features, torch.float32),
        _standardised(cells, torch.bfloat16),
        torch.stack(masks).float(),
    )


def _standardised(read_of: Sequence[Tensor], kind: torch.dtype) -> Tensor:
    """Stack what was read of all pictures, views x channels (x cells), each channel by the law of some of them."""
    some = torch.stack(list(read_of[:: len(read_of) // LAW_OF + 1])).float().flatten(0, 1)
    flat = some[:, :, None].flatten(2).transpose(1, 2).flatten(0, 1)
    mean, spread = (
        x.view(-1, *[1] * (read_of[0].dim() - 2)) for x in (flat.mean(0), flat.std(0) + 1e-6)
    )
    return torch.stack([((x.float() - mean) / spread).to(kind) for x in read_of])


def _file_of(entry: Entry, folder: Path) -> Path:
    return folder / f"{hashlib.sha256(str(entry.path.resolve()).encode()).hexdigest()[:24]}.npz"


def _loaded(path: Path) -> list[Tensor]:
    with np.load(path) as found:
        return [torch.from_numpy(found[name]) for name in ("features", "cells", "masks")]


def _tapped(cells: np.ndarray) -> np.ndarray:
    return cells.reshape(-1, BLOCK, CELLS, CELLS)[list(TAPS)].reshape(-1, CELLS, CELLS)


def kind_of(entry: Entry, *, made: bool) -> str:
    if entry.kind:
        return NAMES.get(entry.kind, entry.kind)
    if entry.label is Label.REAL:
        return "control" if made else "authentic"
    return "generated"


class Kept(Backbone):
    """Stands where the frozen tower stands: its "pixels" are numbers of views that the tower has read.

    Where no branch looks at cells, none are given.
    """

    stride = SIDE // CELLS
    mean, std = _NORMAL

    def __init__(self, pool: Pool, row: Row) -> None:
        super().__init__()
        self.pool, self.every_block = pool, row.every_block
        self.looks = row.variant.seg_heads != "none"
        self.token_channels = pool.features.shape[2] if self.every_block else BLOCK
        self.grid_channels = pool.cells.shape[2] if self.looks else 1

    def forward(self, pixels: Tensor) -> Features:
        token = self.pool.features[pixels // 2, pixels % 2]
        grid = (
            self.pool.cells[pixels // 2, pixels % 2]
            if self.looks
            else token.new_zeros(len(token), 1, 1, 1)
        )
        return Features(token if self.every_block else token[:, LAST], grid)


def config_of(row: Row) -> gamma.Config:
    plain: Any = gamma.Config(size=SIDE, width=WIDTH, attention_heads=4, seg_mixing="conv")
    result: gamma.Config = replace(
        plain,
        seg_blocks=row.blocks,
        seg_heads=row.variant.seg_heads,
        correction=row.variant.correction,
        detach_seg=row.variant.detach_seg,
        manip_label=row.variant.manip_label,
        lambda_was_edited=0.25 if row.variant.seg_heads == "both" else 0.0,
    )
    return result


def counts(pool: Pool, rows: np.ndarray, kinds: Sequence[str]) -> np.ndarray:
    """Return how often each picture is drawn: a kind by its share, a collection by the root of its size."""
    found = np.zeros(len(rows))
    for kind in kinds:
        own = pool.kinds[rows] == kind
        sizes = Counter(pool.sources[rows[own]])
        found[own] = [sizes[source] ** -0.5 for source in pool.sources[rows[own]]]
        found[own] *= SHARES[kind] / found[own].sum()
    found /= found.sum()
    return found


def batch_of(pool: Pool, drawn: np.ndarray) -> Batch:
    kinds = pool.kinds[drawn // 2]
    masks = pool.masks[drawn // 2, drawn % 2]
    answers = {
        "generated": torch.from_numpy(np.isin(kinds, ("generated", "inpainted"))).long(),
        "edited": torch.from_numpy(np.isin(kinds, EDITS)).long(),
    }
    names = list(answers)
    return Batch(
        pixels=torch.from_numpy(drawn),
        label=torch.maximum(*answers.values()),
        answers=answers,
        masks={name: masks[:, n] for n, name in enumerate(names)},
        weight={name: torch.ones(len(drawn)) for name in names},
    )


def trained(row: Row, pool: Pool, fold: str, seed: int, steps: int) -> gamma.Gamma:
    """Train a network on everything that has nothing in common with what is tested."""
    torch.manual_seed(seed)
    learnt, config = pool.learnt(fold), config_of(row)
    network = gamma.Gamma(config, Kept(pool, row)).train()
    loss, share = (
        gamma.loss(config),
        counts(pool, learnt, [k for k in row.variant.kinds if k in SHARES]),
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps, pct_start=0.1)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        batch = batch_of(pool, 2 * rng.choice(learnt, BATCH, p=share) + rng.integers(2, size=BATCH))
        with torch.autocast("cpu", torch.bfloat16):
            prediction = network(batch.pixels)
        total = torch.stack(list(loss(prediction, batch).values())).sum()
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return network.eval()


@dataclass
class Said:
    """What is said of the tested pictures: logits of the label and of *edited*, and masks of both views by name."""

    label: np.ndarray
    edited: np.ndarray
    masks: dict[str, np.ndarray]


def said_by(network: gamma.Gamma, tested: np.ndarray) -> Said:
    rows = (2 * tested[:, None] + np.arange(2)).ravel()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        parts = [
            network(torch.from_numpy(some)) for some in np.array_split(rows, len(rows) // 64 + 1)
        ]
    label = torch.cat([p.logit for p in parts]).float().numpy().reshape(-1, 2).mean(1)
    edited = torch.cat([p.answers.get("edited", p.logit) for p in parts]).float().numpy()
    masks = {
        n: torch.cat([p.masks[n] for p in parts]).numpy().reshape(-1, 2, CELLS, CELLS)
        for n in parts[0].masks
    }
    return Said(label, edited.reshape(-1, 2).max(1), masks)


class Readings:
    """Penalised linear readings of principal components, as in the embedded detector, and what they say."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.x = pool, list[Tensor]()
        self.known: dict[tuple[tuple[str, ...], str], Said] = {}
        for view in range(len(VIEWS)):
            features = pool.features[:, view]
            self.x.append(Space.of(features)(features))

    def _fit(
        self, view: int, rows: np.ndarray, positive: Sequence[str], share: np.ndarray
    ) -> Logistic:
        x, weight = self.x[view][rows], torch.from_numpy(share)
        truth = torch.from_numpy(np.isin(self.pool.kinds[rows], positive)).long()
        mean, square_mean = weight.float() @ x, weight.float() @ x.square()
        return fit_logistic(
            x, truth, PENALTY, (square_mean - mean.square()).sqrt(), weight, gradient=GRADIENT
        )

    def said(self, positive: tuple[str, ...], fold: str) -> Said:
        """Fit to what has nothing in common with what is tested; edits that are not positive teach nothing."""
        if (positive, fold) in self.known:
            return self.known[positive, fold]
        kinds = dict.fromkeys(("authentic", "control", "generated", *positive))
        learnt = self.pool.learnt(fold)
        learnt = learnt[np.isin(self.pool.kinds[learnt], list(kinds))]
        share = counts(self.pool, learnt, list(kinds))
        yes = np.isin(self.pool.kinds[learnt], positive)
        for own in (yes, ~yes):
            share[own] /= 2 * share[own].sum()
        tested = self.pool.tested(fold)
        views_said = [
            self._fit(v, learnt, positive, share).logits(self.x[v][tested]).numpy()
            for v in range(len(VIEWS))
        ]
        self.known[positive, fold] = Said(np.mean(views_said, 0), np.max(views_said, 0), {})
        return self.known[positive, fold]


def measured(pool: Pool, tested: np.ndarray, said: Said, beside: Said | None) -> dict[str, float]:
    """Return what a row of the table shows."""
    kinds = pool.kinds[tested]

    def pair(negative: str, positive: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        chosen = (kinds == negative) | np.isin(kinds, positive)
        return chosen, np.isin(kinds[chosen], positive)

    whole, fake = pair("authentic", ["generated"])
    found = {
        "auroc": float(roc_auc_score(fake, said.label[whole])),
        "tpr": _tpr(fake, said.label[whole]),
    }
    if beside is not None:
        both = said.label / said.label[whole].std() + beside.label / beside.label[whole].std()
        found |= {
            "with L": float(roc_auc_score(fake, both[whole])),
            "tpr with L": _tpr(fake, both[whole]),
        }
    for name, positive in (("moved", EDITS[1:]), ("inpainted", EDITS[:1])):
        chosen, yes = pair("control", positive)
        found[f"edited {name}"] = float(roc_auc_score(yes, said.edited[chosen]))
    for name, positive in (("edited", EDITS), ("generated", EDITS[:1])):
        if name in said.masks:
            own = np.isin(kinds, positive)
            truth = pool.masks[tested[own], 1, ("generated", "edited").index(name)].double().numpy()
            found |= _of_masks(name, said.masks[name][own, 1], truth)
    return found


def _tpr(fake: np.ndarray, logit: np.ndarray) -> float:
    return float((logit[fake] > np.quantile(logit[~fake], 0.99, method="higher")).mean())


def _of_masks(name: str, logits: np.ndarray, share: np.ndarray) -> dict[str, float]:
    """Return the means over windows of pixel AUROC and of F1 at 0.5, every pixel judged like its cell."""
    found: list[tuple[float, float]] = []
    for z, own in zip(logits.reshape(len(logits), -1), share.reshape(len(share), -1), strict=True):
        if 0.005 < own.mean() < 0.995:
            truth, weight = np.repeat([True, False], len(z)), np.concatenate([own, 1 - own])
            twice = np.tile(z, 2)
            f1 = f1_score(truth, twice > 0, sample_weight=weight, zero_division=0)
            found.append((float(roc_auc_score(truth, twice, sample_weight=weight)), float(f1)))
    auroc, f1 = np.mean(found, 0)
    return {f"{name} pixel auroc": float(auroc), f"{name} f1": float(f1)}


def run(chosen: argparse.Namespace, pool: Pool) -> None:
    results = chosen.out / "results.jsonl"
    done = {(r["fold"], r["variant"], r["seed"]) for r in read(results)}
    readings = Readings(pool)
    names = chosen.variants or (*READINGS, *ROWS)
    for seed, name, fold in product(range(chosen.seeds), names, chosen.folds or FOLDS):
        if (fold, name, seed) in done or (name in READINGS and seed):
            continue
        tested = pool.tested(fold)
        plain = readings.said(READINGS["L"][1], fold)
        if name in READINGS:
            found = measured(pool, tested, readings.said(READINGS[name][1], fold), None)
        else:
            network = trained(ROWS[name], pool, fold, seed, chosen.steps)
            found = measured(pool, tested, said_by(network, tested), plain)
        with results.open("a") as file:
            file.write(json.dumps({"fold": fold, "variant": name, "seed": seed} | found) + "\n")


COLUMNS: tuple[str, ...] = ("auroc", "tpr", "with L", "edited moved", "edited inpainted")
COLUMNS += ("edited pixel auroc", "edited f1", "generated pixel auroc", "generated f1")


def table(results: Sequence[dict[str, Any]]) -> str:
    """Show means over folds of means over seeds, and steps to the row before over the folds that both have."""

    def by_fold(name: str, number: str) -> dict[str, float]:
        own = [r for r in results if r["variant"] == name and number in r]
        return {
            f: float(np.mean([r[number] for r in own if r["fold"] == f]))
            for f in {r["fold"] for r in own}
        }

    def step(name: str, to: str, number: str = "auroc") -> str:
        mine, other = by_fold(name, number), by_fold(to, number)
        shared = sorted(mine.keys() & other.keys())
        if not shared or name == to:
            return ""
        mean, half = interval([mine[f] - other[f] for f in shared])
        return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}] to {to}"

    lines = ["| variant | what | " + " | ".join(COLUMNS) + " | step | step to L | sd of seeds |"]
    lines.append("| --- " * 2 + "| ---: " * (len(COLUMNS) + 3) + "|")
    for name in (n for n in (*READINGS, *ROWS) if by_fold(n, "auroc")):
        what, before = (
            (READINGS[name][0], "L") if name in READINGS else (ROWS[name].what, ROWS[name].before)
        )
        means = [list(by_fold(name, number).values()) for number in COLUMNS]
        by_seed = [
            [r["auroc"] for r in results if r["variant"] == name and r["fold"] == f] for f in FOLDS
        ]
        spread = [np.std(x, ddof=1) for x in by_seed if len(x) > 1]
        cells = [
            name,
            what,
            *(f"{np.mean(x):.3f}" if x else "" for x in means),
            step(name, before),
            step(name, "L"),
        ]
        lines.append("| " + " | ".join([*cells, f"{np.mean(spread):.3f}" if spread else ""]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument(
        "--edits",
        type=Path,
        help="manifest of edits and of their untouched hosts; without: only read",
    )
    parser.add_argument("--hosts", type=int, help="only list so many photos to make edits from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--apart", action="append", default=[], help="sources to leave out")
    parser.add_argument("--without", type=Path, help="text file of hashes of pictures to leave out")
    parser.add_argument("--minutes", type=float, default=1e9, help="for reading")
    parser.add_argument("--cap", type=int, default=20, help="pictures of a collection and class")
    parser.add_argument("--folds", nargs="*", choices=FOLDS)
    parser.add_argument("--variants", nargs="*", choices=[*READINGS, *ROWS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    chosen = parser.parse_args()
    torch.set_num_threads(runtime.cores())
    without = set(chosen.without.read_text().split()) if chosen.without else set()
    whole = chosen_of(chosen.data, without, chosen.apart, chosen.cap)
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.hosts:
        photos = [e for e in whole if e.label is Label.REAL]
        write_manifest(photos[: chosen.hosts], chosen.out / "hosts.csv")
        return
    run(
        chosen,
        read_pool(chosen, whole, read_manifest(chosen.edits, "train") if chosen.edits else []),
    )
    print(table(read(chosen.out / "results.jsonl")))


if __name__ == "__main__":
    main()
