"""What CLIP's tower reads of pictures, kept in a folder: the features that ``eyes.py`` fits to.

Every picture is seen as its largest square reduced and through a native window; some also through two windows more,
and as a square and a window after a random law of reworking, resizing and re-encoding; a quarter of those also after
what poor light does. Tokens come from the graph that users run, in its int8 arithmetic.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFilter

from gammascope import machine
from gammascope.detection import runtime
from gammascope.errors import UndecodableImageError
from gammascope.imaging import codecs, views
from gammascope.imaging.decode import decode
from gammascope.sample import Entry, Image, Label

SIDE = 224
SHARED_PX = 1_500_000
"""Area that larger pictures are reduced to before they are perturbed."""
AHEAD = 4
"""Pictures that are decoded while the tower looks at another."""
FEW = ("square", "window")
"""Views of every picture."""
FULLY = ("window 2", "window 3", "square, perturbed", "window, perturbed")
"""Further views of a picture that is seen fully."""
POOR = ("square, poor light", "window, poor light")
"""Further views of a share of these."""
POOR_SHARE = 0.25
HEAD = "detector.head.weight"
"""Weight in the graph of what follows the features."""


@dataclass(frozen=True, eq=False)
class Picture:
    """What is known of a picture, and what the tower read of its views by name.

    Attributes:
        name: Hash of its bytes.
        source: Its collection; of a twin, that of its photo.
        family: What counts as one collection when weights are shared out; the decoder of a twin.
        fake: Whether a generator wrote it.
        copy: Whether it was made from a photo that is listed, too: decoded anew (fake) or saved like that one (real).
        graded: Whether its perturbed views were reworked, too.
        size: Longer side, pixels.
        quality: Of a JPEG file; 0 for others.
        read: Features by view.
    """

    name: str
    source: str
    family: str
    fake: bool
    copy: bool
    graded: bool
    size: int
    quality: int
    read: Mapping[str, np.ndarray]


def square(image: Image) -> Image:
    """Return the largest centred square, 224 px; smaller pictures are enlarged."""
    height, width = image.shape[:2]
    side = min(height, width)
    box = (float((width - side) // 2), float((height - side) // 2), float(side), float(side))
    spec = views.ViewSpec(SIDE, "resize", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    if side > SIDE:
        spec = dataclasses.replace(spec, fit="tiles", overview=0.5)
    pixels = views.pixels_at(image, views.Place(box, "overview"), spec)
    return (pixels.transpose(1, 2, 0) * 255).round().astype(np.uint8)


def window(image: Image, across: float, down: float) -> Image:
    """Return a native window at a place, 0..1 in each direction; small pictures are mirrored."""
    height, width = image.shape[:2]
    left = int((width - SIDE) * across) if width > SIDE else (width - SIDE) // 2
    top = int((height - SIDE) * down) if height > SIDE else (height - SIDE) // 2
    return views.crop_at(image, left, top, SIDE)


def reworked(image: Image, rng: np.random.Generator) -> Image:
    """Change a picture as people do in an editor: tones, colour, local contrast, sharpness. The law is our choice."""
    image = codecs.adjust(
        image,
        brightness=rng.uniform(-0.06, 0.06),
        contrast=rng.uniform(0.85, 1.3),
        gamma=float(np.exp(rng.uniform(-0.35, 0.35))),
    )
    grey = np.repeat(image.mean(2, keepdims=True), 3, 2).round().astype(np.uint8)
    image = codecs.blend(grey, image, rng.uniform(0.5, 1.6)).astype(np.uint8)
    if rng.random() < 0.5:
        file = PIL.Image.fromarray(image)
        wide = np.asarray(file.filter(PIL.ImageFilter.GaussianBlur(rng.uniform(8, 40))))
        image = codecs.blend(wide, image, 1 + rng.uniform(0.2, 0.8))
    if rng.random() < 0.4:
        image = codecs.sharpen(image, rng.uniform(0.3, 1.2))
    return image


def in_poor_light(image: Image, rng: np.random.Generator) -> Image:
    """Make a picture dark, soft, noisy or several of these, as poor light and unsteady hands do. Our law."""
    dark, soft, noisy = rng.random(3) < (0.4, 0.4, 0.6)
    if dark or not (soft or noisy):
        image = codecs.adjust(image, gamma=float(np.exp(rng.uniform(0.2, 0.8))))
    if soft:
        image = codecs.blur(image, float(np.exp(rng.uniform(np.log(0.7), np.log(2.5)))))
    if noisy:
        image = codecs.add_noise(image, float(np.exp(rng.uniform(np.log(2), np.log(12)))), rng)
    return image


def wanted(name: str, *, fully: bool) -> tuple[str, ...]:
    """Return which views a picture is seen through: chance is its name."""
    if not fully:
        return FEW
    poor = int(name[:8], 16) < POOR_SHARE * 2**32
    return FEW + FULLY + (POOR if poor else ())


def seen(image: Image, name: str, chosen: Collection[str]) -> tuple[dict[str, Image], bool]:
    """Return some of the views of a picture, and whether the perturbed ones were reworked: chance is its name."""
    shown: dict[str, Image] = {}
    if "square" in chosen:
        shown |= {"square": square(image), "window": window(image, 0.5, 0.5)}
    graded = False
    if "window 2" in chosen:
        shown |= {"window 2": window(image, 0.15, 0.2), "window 3": window(image, 0.85, 0.8)}
        rng = chance_of(name)
        changed, graded = perturbed(image, rng)
        shown["square, perturbed"] = square(changed)
        shown["window, perturbed"] = window(changed, rng.random(), rng.random())
    if POOR[0] in chosen:
        rng = np.random.default_rng(int(name[:16], 16))
        shared = share_of(image)
        changed = in_poor_light(codecs.rescale(image, shared) if shared != 1 else image, rng)
        law = codecs.EncodingLaw(untouched=0.2, jpeg=0.8, double_jpeg=0.0, webp=0.0)
        changed = law(changed, rng)
        shown |= {POOR[0]: square(changed), POOR[1]: window(changed, rng.random(), rng.random())}
    return shown, graded


def chance_of(name: str) -> np.random.Generator:
    """Return what decides how a picture is perturbed."""
    return np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))


def share_of(image: Image) -> float:
    """Return the factor on its sides by which a large picture is passed on reduced."""
    return min(1.0, math.sqrt(SHARED_PX / (image.shape[0] * image.shape[1])))


def perturbed(image: Image, rng: np.random.Generator) -> tuple[Image, bool]:
    """Rework, resize and re-encode a picture, each by chance; return whether it was reworked, too."""
    graded, scaled = rng.random(2) < 0.5
    scale = float(np.exp(rng.uniform(np.log(0.4), np.log(1.3)))) if scaled else 1.0
    # Smaller pictures are scaled first, too, so that reworking ends in a few pixels.
    scale *= share_of(image)
    changed = codecs.rescale(image, scale) if scale != 1 else image
    if graded:
        changed = reworked(changed, rng)
    law = codecs.EncodingLaw(untouched=0.0, jpeg=0.8, double_jpeg=0.0, webp=0.2)
    return law(changed, rng), bool(graded)


def before_head(graph: Path, *, streams: int | None = None, cells: bool = False) -> Any:
    """Compile the part of an exported linear probe before its head, in the int8 arithmetic of scans.

    Args:
        graph: ONNX file.
        streams: Requests that run side by side; None: one, by all cores.
        cells: Also give the patch tokens that the probe averages.
    """
    openvino, core = runtime.import_openvino(), runtime.openvino_core()
    whole = core.read_model(graph)
    head = next(op for op in whole.get_ops() if op.get_friendly_name() == HEAD)
    outputs = [next(iter(head.output(0).get_target_inputs())).get_node().input_value(0)]
    if cells:
        mean = next(op for op in whole.get_ops() if op.get_type_name() == "ReduceMean")
        outputs.append(mean.input_value(0))
    model = openvino.Model(outputs, whole.get_parameters(), "tokens")
    model.reshape([1, 3, SIDE, SIDE])
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": machine.cores(),
        "ENABLE_CPU_PINNING": False,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": runtime.QUANTISED_TOGETHER,
    }
    if streams is not None:
        settings["NUM_STREAMS"] = streams
    return core.compile_model(model, "CPU", settings)


class Tower:
    """The part of an exported linear probe before its head, which reads several views at a time."""

    def __init__(self, graph: Path) -> None:
        openvino, streams = runtime.import_openvino(), machine.cores()
        compiled = before_head(graph, streams=streams)
        self._queue = openvino.AsyncInferQueue(compiled, 2 * streams)
        self._queue.set_callback(self._keep)
        self._answers: dict[int, np.ndarray] = {}

    def _keep(self, request: Any, place: int) -> None:
        self._answers[place] = request.output_tensors[0].data[0].astype(np.float16)

    def __call__(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Read normalised views, 3 x 224 x 224 each; returns views x features."""
        self._answers.clear()
        for place, one in enumerate(pixels):
            self._queue.start_async([one[None]], userdata=place)
        self._queue.wait_all()
        return np.stack([self._answers[place] for place in range(len(pixels))])


@dataclass(frozen=True)
class Wish:
    """A row of a manifest, and how it should be seen.

    Attributes:
        entry: The row.
        fully: Through all views; else only as a square and through one window.
        copy: As in ``Picture``.
    """

    entry: Entry
    fully: bool
    copy: bool = False


def read(wishes: Sequence[Wish], folder: Path, graph: Path, view: views.ViewSpec) -> list[Picture]:
    """Read every picture with the tower, or what is kept of it. A picture that cannot be decoded is named and left out.

    Args:
        wishes: What to read.
        folder: Where features are kept, a file for each picture's bytes.
        graph: A linear probe of the same tower and layers, as ONNX.
        view: How the tower wants pixels to be normalised.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tower, found, start = Tower(graph), [], time.monotonic()

    def prepared(wish: Wish) -> tuple[Wish, Path, dict[str, Any], list[np.ndarray]] | str:
        data = wish.entry.path.read_bytes()
        name = hashlib.sha256(data).hexdigest()
        kept, chosen = folder / f"{name}.npz", wanted(name, fully=wish.fully)
        had = _views(kept)
        missing = [view for view in chosen if view not in had]
        if not missing:
            return wish, kept, {}, []
        try:
            image = decode(wish.entry.path).image
        except UndecodableImageError as error:
            return f"left out: {error}"
        shown, graded = seen(image, name, missing)
        facts = {"views": np.array(list(shown)), "graded": np.array(graded)}
        facts |= {"size": np.array(max(image.shape[:2]))}
        facts |= {"quality": np.array(codecs.jpeg_quality(data) or 0)}
        return wish, kept, facts, [views.normalised(one, view) for one in shown.values()]

    for number, ready in enumerate(_ahead(wishes, prepared)):
        if isinstance(ready, str):
            print(ready)
            continue
        wish, kept, facts, pixels = ready
        if pixels:
            _keep(kept, facts, tower(pixels))
        found.append(_loaded(wish, kept))
        if number % 100 == 0:
            speed = number / (time.monotonic() - start)
            print(f"{number} of {len(wishes)} pictures, {speed:.1f}/s", flush=True)
    return found


def _ahead(wishes: Iterable[Wish], prepare: Any) -> Iterator[Any]:
    """Prepare the next pictures in threads of their own."""
    left = iter(wishes)
    with ThreadPoolExecutor(2) as pool:
        waiting: list[Future[Any]] = [pool.submit(prepare, e) for e in islice(left, AHEAD)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(prepare, e) for e in islice(left, 1)]


def _views(kept: Path) -> frozenset[str]:
    """Return through which views a picture was read before."""
    if not kept.is_file():
        return frozenset()
    with np.load(kept) as values:
        return frozenset(values["views"].tolist())


def _keep(kept: Path, facts: Mapping[str, Any], tokens: np.ndarray) -> None:
    """Write what was read of a picture, after what was read before."""
    values = dict(facts)
    if kept.is_file():
        with np.load(kept) as before:
            values["views"] = np.append(before["views"], facts["views"])
            values["graded"] = before["graded"] | facts["graded"]
            tokens = np.concatenate([before["tokens"], tokens])
    partial = kept.with_suffix(".part.npz")
    np.savez(partial, tokens=tokens, **values)
    partial.replace(kept)


def _loaded(wish: Wish, kept: Path) -> Picture:
    with np.load(kept) as values:
        read_of = dict(zip(values["views"].tolist(), values["tokens"], strict=True))
        facts = {key: values[key].item() for key in ("graded", "size", "quality")}
    read_of = {view: read_of[view] for view in wanted(kept.stem, fully=wish.fully)}
    source, fake = wish.entry.source or "", wish.entry.label is not Label.REAL
    return Picture(
        name=kept.stem,
        source=source,
        family=f"twin {wish.entry.generator}" if wish.copy and fake else source,
        fake=fake,
        copy=wish.copy,
        read=read_of,
        **facts,
    )
