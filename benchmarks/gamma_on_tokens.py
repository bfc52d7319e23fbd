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
place; both are as large and as compressed. What is done is skipped: start it again with the same options.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablations import BEFORE, VARIANTS, Variant, interval, read
from eyes import GRADIENT, PENALTY, Space
from eyes_reading import SIDE
from sklearn.metrics import f1_score, roc_auc_score
from token_reading import BLOCK, CELLS, EDITS, FOLDS, LAST, VIEW, Pool, chosen_of, read_pool
from torch import Tensor

from gammascope import machine
from gammascope.data.manifest import read_manifest, write_manifest
from gammascope.detectors import gamma
from gammascope.networks.base import Backbone, Features
from gammascope.networks.fitted import Logistic, fit_logistic
from gammascope.prediction import Batch
from gammascope.sample import Label

SHARES = {"authentic": 0.36, "control": 0.05, "generated": 0.34, "inpainted": 0.11}
SHARES |= {"filled": 0.04, "copy_move": 0.05, "spliced": 0.05}
"""How often a kind is drawn: as in the embedded recipe, twins counted as generated."""
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


class Kept(Backbone):
    """Stands where the frozen tower stands: its "pixels" are numbers of views that the tower has read.

    Where no branch looks at cells, none are given.
    """

    stride = SIDE // CELLS
    mean, std = VIEW.mean, VIEW.std

    def __init__(self, pool: Pool, row: Row) -> None:
        super().__init__()
        self.pool, self.every_block = pool, row.every_block
        self.looks = row.variant.seg_heads != "none"
        self.token_channels = pool.features.shape[2] if self.every_block else BLOCK
        self.grid_channels = pool.cells.shape[2] if self.looks else 1

    def forward(self, pixels: Tensor) -> Features:
        token = self.pool.features[pixels // 2, pixels % 2]
        token = token if self.every_block else token[:, LAST]
        if not self.looks:
            return Features(token, token.new_zeros(len(token), 1, 1, 1))
        return Features(token, self.pool.cells[pixels // 2, pixels % 2])


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
    loss = gamma.loss(config)
    share = counts(pool, learnt, [kind for kind in row.variant.kinds if kind in SHARES])
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
        for features in pool.features.unbind(1):
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
            for v in range(2)
        ]
        return Said(np.mean(views_said, 0), np.max(views_said, 0), {})


def measured(pool: Pool, tested: np.ndarray, said: Said, beside: Said | None) -> dict[str, float]:
    """Return what a row of the table shows."""
    kinds = pool.kinds[tested]

    def pair(negative: str, positive: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        chosen = (kinds == negative) | np.isin(kinds, positive)
        return chosen, np.isin(kinds[chosen], positive)

    whole, fake = pair("authentic", ["generated"])
    logits = {"": said.label}
    if beside is not None:
        logits[" with L"] = said.label / said.label.std() + beside.label / beside.label.std()
    found: dict[str, float] = {}
    for name, logit in logits.items():
        found[f"auroc{name}"] = float(roc_auc_score(fake, logit[whole]))
        found[f"tpr{name}"] = _tpr(fake, logit[whole])
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
    plain = {fold: readings.said(READINGS["L"][1], fold) for fold in FOLDS}
    names = chosen.variants or (*READINGS, *ROWS)
    for seed, name, fold in product(range(chosen.seeds), names, chosen.folds or FOLDS):
        if (fold, name, seed) in done or (name in READINGS and seed):
            continue
        tested = pool.tested(fold)
        if name in READINGS:
            found = measured(pool, tested, readings.said(READINGS[name][1], fold), None)
        else:
            network = trained(ROWS[name], pool, fold, seed, chosen.steps)
            found = measured(pool, tested, said_by(network, tested), plain[fold])
        with results.open("a") as file:
            file.write(json.dumps({"fold": fold, "variant": name, "seed": seed} | found) + "\n")


COLUMNS: tuple[str, ...] = ("auroc", "tpr", "auroc with L", "edited moved", "edited inpainted")
COLUMNS += ("edited pixel auroc", "edited f1", "generated pixel auroc", "generated f1")


def table(results: Sequence[dict[str, Any]]) -> str:
    """Show means over folds of means over seeds, and steps to the row before over the folds that both have."""

    def by_fold(name: str, number: str) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for row in (r for r in results if r["variant"] == name and number in r):
            found.setdefault(row["fold"], []).append(row[number])
        return {fold: float(np.mean(values)) for fold, values in found.items()}

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
        what, *_ = READINGS.get(name) or (ROWS[name].what,)
        before = "L" if name in READINGS else ROWS[name].before
        means = [list(by_fold(name, number).values()) for number in COLUMNS]
        cells = [f"{np.mean(x):.3f}" if x else "" for x in means]
        cells += [step(name, before), step(name, "L"), _spread(name, results)]
        lines.append("| " + " | ".join([name, what, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _spread(name: str, results: Sequence[dict[str, Any]]) -> str:
    """Return the deviation between seeds within a fold, averaged over folds."""
    own = [r for r in results if r["variant"] == name]
    by_fold = [[r["auroc"] for r in own if r["fold"] == fold] for fold in FOLDS]
    spreads = [np.std(values, ddof=1) for values in by_fold if len(values) > 1]
    return f"{np.mean(spreads):.3f}" if spreads else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--edits", type=Path, help="manifest of edits and untouched hosts")
    parser.add_argument("--hosts", type=int, help="only list so many photos to make edits from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--apart", action="append", default=[], help="sources to leave out")
    parser.add_argument("--without", type=Path, help="text file of hashes of pictures to leave out")
    parser.add_argument("--cap", type=int, default=15, help="pictures of a collection and class")
    parser.add_argument("--folds", nargs="*", choices=FOLDS)
    parser.add_argument("--variants", nargs="*", choices=[*READINGS, *ROWS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    chosen = parser.parse_args()
    torch.set_num_threads(machine.cores())
    without = set(chosen.without.read_text().split()) if chosen.without else set()
    whole = chosen_of(chosen.data, without, chosen.apart, chosen.cap)
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.hosts:
        photos = [e for e in whole if e.label is Label.REAL]
        write_manifest(photos[: chosen.hosts], chosen.out / "hosts.csv")
        return
    edits = read_manifest(chosen.edits, "train")
    run(chosen, read_pool(whole, edits, chosen.out / "read", chosen.graph))
    print(table(read(chosen.out / "results.jsonl")))


if __name__ == "__main__":
    main()
