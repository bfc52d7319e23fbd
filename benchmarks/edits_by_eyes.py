"""Whether CLIP's tower sees edits that forensic traces do not, above all after halving: cell by cell, and as a whole.

    python benchmarks/edits_by_eyes.py FOLDER MANIFEST [MANIFEST ...] --graph runs/eyes/blank.onnx --decoder TAEF2

Edits of training photos are made by the laws of ``fit_consistency.py``, in a form of chance and halved as JPEG 90;
photos of sources left out are edited by the laws of the bed (``edits_bed.py``), in its three forms. Of every picture
the tower reads two squares that cover it. A small network learns from tokens of cells, edited and not, and from what
each has that the mean of its square has not; a picture's score is the mean of its clearest cells. Beside it stands a
penalised linear reading of whole squares (docs/experiments/e49.md). What was read is kept in FOLDER.

With ``--untouched`` many more photos are learnt from without edits, in the same forms: of each square the cells that
look most edited to the weights that ship, and some by chance. What was read is kept, so later weights learn from the
same.
"""

from __future__ import annotations

import argparse
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from edits_bed import KINDS, SMALLEST_PX, drawn
from edits_bed import edits as edits_of_the_bed
from eyes import GRADIENT, PENALTY, Space
from eyes_reading import SIDE, before_head
from fit_consistency import Course, in_some_form, is_apart, is_learnt, learn, share_of
from fit_consistency import edits as edits_to_learn
from rich.progress import track
from sklearn.metrics import f1_score
from token_reading import CELLS, VIEW

from forensics import FORMS, cut, in_form, truth_in
from gammascope.data.manifest import read_manifest
from gammascope.errors import UndecodableImageError
from gammascope.evaluation.metrics import auroc_against
from gammascope.files import complete_or_absent
from gammascope.forensics import collage
from gammascope.forensics.base import standardised
from gammascope.generation.autoencoder import TinyAutoencoder
from gammascope.imaging import codecs, views
from gammascope.imaging.decode import decode
from gammascope.networks.fitted import fit_logistic
from gammascope.report import percent
from gammascope.sample import Entry, Image, Mask

HALVED = FORMS[-1]
PIXELS = 150_000
KEPT = 12
"""Cells of either kind of a square that are learnt from."""
SUSPICIOUS = 16
"""Cells of a square of an untouched photo that are learnt from because they look edited."""
OF_COLLECTION, OF_OWNER = 40, 16
"""Untouched photos of each that are learnt from."""
HIDDEN, COURSE = 128, Course(passes=3, batch=512, rate=1e-3, decay=0.1)


def reduced(image: Image) -> Image:
    """Return all of a picture, reduced to ``PIXELS``."""
    share = (PIXELS / (image.shape[0] * image.shape[1])) ** 0.5
    return codecs.rescale(image, share) if share < 1 else image


AS_IT_IS = "as it is"
FRAMES: Mapping[str, Callable[[Image], Image]] = {
    "cut": lambda image: cut(image, PIXELS),
    "whole": reduced,
    AS_IT_IS: lambda image: image,
}

Made = tuple[str, str, Image, Mask | None]
"""Kind, form, pixels, and what was edited."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--decoder", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=240, help="that are learnt from")
    parser.add_argument("--judged", type=int, default=60, help="photos of sources left out")
    parser.add_argument("--hard", type=Path, action="append", default=[], help="listed photos")
    parser.add_argument("--untouched", type=Path, action="append", default=[], help="of photos")
    parser.add_argument("--out", type=Path, default=collage.WEIGHTS)
    parser.add_argument("--apart", type=int, nargs=2, metavar=("N", "K"), default=(4, 1))
    chosen = parser.parse_args()
    photos = drawn([e for path in chosen.manifests for e in read_manifest(path, "train")], None)
    judged = [e for e in photos if is_apart(e, *chosen.apart)]
    learnt = [e for e in photos if not is_apart(e, *chosen.apart)]
    hard = [e for path in chosen.hard for e in read_manifest(path, "train")]
    hard = [e for e in drawn(hard, None) if is_learnt(e)]
    decoder = TinyAutoencoder.from_folder(chosen.decoder)
    reader = Reader(before_head(chosen.graph, cells=True), chosen.folder)
    to_learn = partial(taught, photos=learnt)
    to_judge = partial(tested, photos=judged, decoder=decoder)
    known, asked = [], []
    for frame in ("cut", "whole"):
        known += reader.read("learnt", learnt, chosen.photos, frame, to_learn, some_of_either)
        asked += reader.read("judged", judged, chosen.judged, frame, to_judge, all_of)
    known += reader.read("hard", hard, chosen.photos, "whole", to_learn, some_of_either)
    plain = [e for path in chosen.untouched for e in read_manifest(path, "train")]
    plain = some_of_each(plain, chosen.apart)
    known += reader.read("untouched", plain, len(plain), AS_IT_IS, untouched, suspicious)
    print(f"{len(known)} photos learnt from, {len(asked)} judged")
    fit(known, chosen.out)
    show("cells", asked, by_cells(asked, chosen.out))
    show("whole squares", asked, by_squares(known, asked))


def some_of_each(entries: list[Entry], apart: tuple[int, int]) -> list[Entry]:
    """Return photos that may be learnt from: the first of each collection, and of each owner of a website."""
    had: Counter[str] = Counter()
    kept = []
    for entry in drawn(entries, None):
        listed = f"{entry.source}".startswith("web-")
        if is_learnt(entry) if listed else not is_apart(entry, *apart):
            had[f"{entry.source}"] += 1
            if had[f"{entry.source}"] <= (OF_OWNER if listed else OF_COLLECTION):
                kept.append(entry)
    return kept


def taught(entry: Entry, image: Image, photos: list[Entry]) -> Iterator[Made]:
    """Yield a training photo and its edits, each in a form of chance and halved."""
    rng = np.random.default_rng(zlib.crc32(entry.path.name.encode()) + 1)
    for made, truth in edits_to_learn(entry, image, photos, rng, ()):
        kind = KINDS[0] if truth is None else "edit"
        picture, shown = in_some_form(made, truth, rng)
        yield kind, "chance", picture.image, shown
        yield kind, HALVED, in_form(made, HALVED).image, truth_in(truth, HALVED)


def untouched(entry: Entry, image: Image) -> Iterator[Made]:
    """Yield a photo, cut or reduced, in the forms of ``taught``, for no form must tell what was edited."""
    rng = np.random.default_rng(zlib.crc32(entry.path.name.encode()) + 2)
    image = FRAMES["cut" if rng.random() < 0.4 else "whole"](image)
    if min(image.shape[:2]) >= SMALLEST_PX:
        yield KINDS[0], "chance", in_some_form(image, None, rng)[0].image, None
        yield KINDS[0], HALVED, in_form(image, HALVED).image, None


def tested(
    entry: Entry, image: Image, photos: list[Entry], decoder: TinyAutoencoder
) -> Iterator[Made]:
    """Yield a photo and the bed's edits of it, in every form."""
    for kind, made, truth in edits_of_the_bed(entry, image, photos, decoder, PIXELS):
        for form in FORMS:
            yield kind, form, in_form(made, form).image, truth_in(truth, form)


@dataclass(frozen=True)
class Seen:
    """What the tower read of a photo and its edits.

    Attributes:
        kinds, forms: Of each picture.
        picture: Of each square, the picture's number.
        whole: What an embedded reading is given of each square.
        square: Of each cell, the square's number.
        cells: Tokens of all blocks.
        mean: Mean of the tokens of each square.
        share: Share of each cell that was edited.
    """

    kinds: np.ndarray
    forms: np.ndarray
    picture: np.ndarray
    whole: np.ndarray
    square: np.ndarray
    cells: np.ndarray
    mean: np.ndarray
    share: np.ndarray


@dataclass(frozen=True)
class Reader:
    """Reads what is made of photos, and keeps it in a folder."""

    tower: Any
    folder: Path

    def read(
        self,
        group: str,
        photos: Sequence[Entry],
        count: int,
        frame: str,
        make: Callable[[Entry, Image], Iterator[Made]],
        kept: Callable[[Seen], Seen],
    ) -> list[Seen]:
        """Return what the tower reads of the first photos that are large enough.

        Args:
            group: Folder within the folder.
            photos: In order.
            count: How many.
            frame: "cut": a part at its own resolution; "whole": all, reduced; or all as it is.
            make: What is made of each.
            kept: Chooses cells.
        """
        folder = self.folder / f"{group} {frame}"
        folder.mkdir(parents=True, exist_ok=True)
        found: list[Seen] = []
        for entry in track(photos, folder.name):
            if len(found) >= count:
                break
            place = folder / f"{zlib.crc32(str(entry.path).encode()):08x}.npz"
            if not place.is_file():
                try:
                    image = FRAMES[frame](decode(entry.path).image)
                    if min(image.shape[:2]) < SMALLEST_PX:
                        continue
                    made = list(make(entry, image))
                except UndecodableImageError:
                    continue
                if not made:
                    continue
                seen = kept(seen_in(made, self.tower))
                with complete_or_absent(place) as unfinished, unfinished.open("wb") as file:
                    np.savez(file, **vars(seen))
            with np.load(place) as values:
                found.append(Seen(**{name: values[name] for name in values.files}))
        return found


def all_of(seen: Seen) -> Seen:
    return seen


def some_of_either(seen: Seen) -> Seen:
    """Keep of each square some edited cells and some others."""
    rng = np.random.default_rng(0)
    kept = []
    for own in _by_square(seen):
        ways = (own[seen.share[own] > 0.6], own[seen.share[own] < 0.05])
        kept += [rng.permutation(way)[:KEPT] for way in ways]
    return _thinned(seen, np.concatenate(kept))


def suspicious(seen: Seen) -> Seen:
    """Keep of each square the cells that look most edited to the weights that ship, and some by chance."""
    rng = np.random.default_rng(0)
    tokens = seen.cells.reshape(-1, CELLS, CELLS, seen.cells.shape[1]).transpose(0, 3, 1, 2)
    kept = [
        own[np.union1d(np.argsort(-said)[:SUSPICIOUS], rng.permutation(len(own))[:KEPT])]
        for own, said in zip(_by_square(seen), collage.logits(tokens), strict=True)
    ]
    return _thinned(seen, np.concatenate(kept))


def _by_square(seen: Seen) -> Iterator[np.ndarray]:
    """Yield the numbers of the cells of each square, of which none is left out yet."""
    yield from np.arange(len(seen.square)).reshape(-1, CELLS * CELLS)


def _thinned(seen: Seen, some: np.ndarray) -> Seen:
    return replace(seen, square=seen.square[some], cells=seen.cells[some], share=seen.share[some])


def seen_in(made: Sequence[Made], tower: Any) -> Seen:
    """Read the squares of each picture."""
    picture, whole, square, cells, mean, share = [], [], [], [], [], []
    for number, (_, _, image, truth) in enumerate(made):
        for shown, edited in squares(image, truth):
            tokens, grid = tower([views.normalised(shown, VIEW)[None]]).values()
            grid = grid[0].reshape(-1, CELLS * CELLS).T
            picture.append(number)
            whole.append(tokens[0].astype(np.float16))
            square.append(np.full(len(grid), len(picture) - 1))
            cells.append(grid.astype(np.float16))
            mean.append(grid.mean(0).astype(np.float16))
            share.append(edited)
    return Seen(
        np.array([kind for kind, *_ in made]),
        np.array([form for _, form, *_ in made]),
        np.array(picture),
        np.stack(whole),
        np.concatenate(square),
        np.concatenate(cells),
        np.stack(mean),
        np.concatenate(share),
    )


def squares(image: Image, truth: Mask | None) -> Iterator[tuple[Image, np.ndarray]]:
    """Yield the squares that cover a picture, and how much of each of their cells was edited."""
    for box in collage.squares((image.shape[1], image.shape[0])):
        shown = views.reduced(image, box, SIDE)
        if truth is None:
            yield shown, np.zeros(CELLS * CELLS)
            continue
        white = np.repeat(truth[..., None].astype(np.uint8) * 255, 3, 2)
        edited = views.reduced(white, box, SIDE)[..., 0] / 255
        yield shown, edited.reshape(CELLS, SIDE // CELLS, CELLS, -1).mean((1, 3)).ravel()


Scores = dict[int, tuple[np.ndarray, np.ndarray]]
"""Of each judged photo: the score of every picture, and F1 of its marked cells."""


def fit(known: Sequence[Seen], out: Path) -> None:
    """Learn from cells, edited and not as heavy, and write the weights of ``forensics/collage.py``."""
    torch.manual_seed(0)
    values = np.concatenate([_given(seen) for seen in known])
    labels = torch.from_numpy(
        np.concatenate([seen.share > 0.5 for seen in known]).astype(np.float32)
    )
    mean, spread = _law(values)
    first, last = torch.nn.Linear(values.shape[1], HIDDEN), torch.nn.Linear(HIDDEN, 1)
    net = torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Dropout(0.3), last)

    def given(some: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(standardised(values[some.numpy()].astype(np.float32), mean, spread))

    print(
        f"{len(labels):,} cells of {len(known)} photos, {share_of(labels):.2f} edited", flush=True
    )
    learn(net, given, labels, COURSE)
    stored = {
        "mean": mean,
        "spread": spread,
        "first": first.weight.detach().numpy().T.astype(np.float16),
        "first_bias": first.bias.detach().numpy(),
        "last": last.weight.detach().numpy()[0],
        "last_bias": last.bias.detach().numpy(),
    }
    with complete_or_absent(out) as unfinished:
        safetensors.numpy.save_file(
            {name: np.ascontiguousarray(value) for name, value in stored.items()}, unfinished
        )


def by_cells(asked: Sequence[Seen], weights: Path) -> Scores:
    """Score pictures by their clearest cells."""
    collage.WEIGHTS = weights
    found: Scores = {}
    for number, seen in enumerate(asked):
        tokens = seen.cells.reshape(-1, CELLS * CELLS, seen.cells.shape[1]).swapaxes(1, 2)
        said = collage.logits(tokens.reshape(*tokens.shape[:2], CELLS, CELLS))
        shares = seen.share.reshape(said.shape)
        scores, marks = [], []
        for one in range(len(seen.kinds)):
            own, truth = said[seen.picture == one], shares[seen.picture == one] > 0.5
            scores.append(collage.score_of(own))
            marked = f1_score(truth.ravel(), own.ravel() > 0, zero_division=0.0)
            marks.append(marked if truth.any() else np.nan)
        found[number] = np.array(scores), np.array(marks)
    return found


def _given(seen: Seen) -> np.ndarray:
    """Return tokens of cells, and what each has that the mean of its square has not."""
    return np.concatenate([seen.cells, seen.cells - seen.mean[seen.square]], 1)


def _law(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    some = torch.from_numpy(values[:: len(values) // 20_000 + 1]).float()
    return some.mean(0).numpy(), (some.std(0) + 1e-3).numpy()


def by_squares(known: Sequence[Seen], asked: Sequence[Seen]) -> Scores:
    """Fit a penalised linear reading to whole squares; a picture's score is the clearer of its two."""
    whole = torch.from_numpy(np.concatenate([seen.whole for seen in known])).float()
    truth = np.concatenate([seen.kinds[seen.picture] != KINDS[0] for seen in known])
    space = Space.of(whole, components=1024)
    x, weight = space(whole), np.where(truth, 0.5 / truth.sum(), 0.5 / (~truth).sum())
    reading = fit_logistic(
        x,
        torch.from_numpy(truth).long(),
        PENALTY,
        x.std(0),  # coordinates keep the spread of their components, as in eyes.py
        torch.from_numpy(weight),
        gradient=GRADIENT,
    )
    found: Scores = {}
    for number, seen in enumerate(asked):
        said = reading.logits(space(torch.from_numpy(seen.whole).float())).numpy()
        scores = [said[seen.picture == one].max() for one in range(len(seen.kinds))]
        found[number] = np.array(scores), np.full(len(scores), np.nan)
    return found


def show(name: str, asked: Sequence[Seen], scores: Scores) -> None:
    """Print AUROC, how many are found where 1 % of the photos is, and F1 of marked cells."""
    kinds, forms = (
        np.concatenate([getattr(seen, key) for seen in asked]) for key in ("kinds", "forms")
    )
    values, marks = (
        np.concatenate([scores[n][part] for n in range(len(asked))]) for part in (0, 1)
    )
    print(f"\n{name}\n| kind | form | n | AUROC | above all but 1 % of photos | F1 of cells |")
    print("| --- | --- | ---: | --- | ---: | ---: |")
    for form in FORMS:
        reals = np.sort(values[(forms == form) & (kinds == KINDS[0])])[::-1]
        for kind in KINDS[1:]:
            own = (forms == form) & (kinds == kind)
            area = auroc_against(reals, values[own])
            above = float((values[own] > reals[int(0.01 * len(reals))]).mean())
            print(
                f"| {kind} | {form} | {own.sum()} | {area.value:.2f} [{area.low:.2f}, {area.high:.2f}]"
                f" | {percent(above, 0)} | {np.nanmean(marks[own]):.2f} |"
            )


if __name__ == "__main__":
    main()
