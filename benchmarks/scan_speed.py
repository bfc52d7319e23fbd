"""How fast a scan is, beside decoding alone and the same network one view at a time, and where the time goes.

    python benchmarks/scan_speed.py --synthetic [--images 40] [--threads 2] [--markdown FILE] [--json FILE]
    python benchmarks/scan_speed.py FOLDER

Each measurement runs in a process of its own, ``--repeats`` times; the one that took the processor least counts,
because the others were disturbed. Processor time is that of all threads, and also holds on a machine that is shared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from gammascope.detection.pipeline import Execution, Pipeline

T = TypeVar("T")
SIZES = {"0.26 MP": (512, 512), "1 MP": (1024, 1024), "12 MP": (4000, 3000)}
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
        rows = int(min(photo.shape[:2]) * rng.uniform(0.5, 0.75))
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


def decode_only(paths: list[Path]) -> dict[str, float]:
    from gammascope import machine
    from gammascope.imaging.decode import decode

    machine.keep_freed_memory()
    decode(paths[0])
    pixels = (decode(path).image.size // 3 for path in paths)
    return counted(lambda: {"megapixels": sum(pixels) / 1e6, "failed": 0})


def scanned(
    paths: list[Path], execution: Execution, at_once: int | None = None
) -> dict[str, float]:
    from gammascope.detection.pipeline import Pipeline
    from gammascope.scanning.ordered import scan

    pipeline = Pipeline.load(execution=execution)
    if at_once is not None:
        pipeline.network.at_once = at_once
    list(scan(paths[:1], pipeline))
    return counted(lambda: {"failed": sum(row.error is not None for row in scan(paths, pipeline))})


def unbatched(paths: list[Path]) -> dict[str, float]:
    from gammascope.detection import runtime
    from gammascope.detection.pipeline import Execution

    runtime._MOST_REQUESTS = 1
    return scanned(paths, Execution(engine="openvino", profile="fast"), at_once=1)


def by_profile(paths: list[Path], **how: Any) -> dict[str, float]:
    from gammascope.detection.pipeline import Execution

    return scanned(paths, Execution(**how), at_once=1 if how.get("engine") == "torch" else None)


def stages(paths: list[Path]) -> dict[str, float]:
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
        execution=Execution(profile="fast"), besides=Besides(provenance=False)
    )
    spec, at_once = pipeline.view, pipeline.network.at_once
    pipeline.report(paths[0])
    for path in paths:
        data = step("read", path.read_bytes)
        step("hash", hashlib.sha256, data)
        decoded = step("decode", decode, data)
        step("provenance", partial(provenance_of, quick=True), data)
        image = decoded.image
        boxes = views.boxes_of((image.shape[1], image.shape[0]), spec)
        tiles = len(boxes) - views.has_overview((image.shape[1], image.shape[0]), spec)
        for name, some in (("tiles", boxes[:tiles]), ("overview", boxes[tiles:])):
            for box in some:
                step(name, views.pixels_at, image, box, spec)
        pixels = np.stack([views.pixels_at(image, box, spec) for box in boxes])
        for start in range(0, len(pixels), at_once):
            part = pixels[start : start + at_once]
            step("network", pipeline.network.look, part)
        scores = pipeline.scores(image)
        report = step("maps", pipeline._report, decoded, "", scores)
        step("JSON", json.dumps, report.to_json())
    return {name: 1e3 * seconds / len(paths) for name, seconds in spent.items()}


def arithmetic(_paths: list[Path]) -> dict[str, float]:
    """Return what a view costs and what a core can do at best: the floor below which no runtime gets in float32."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from gammascope import checkpoints

    torch.set_num_threads(1)
    detector = checkpoints.load(checkpoints.default_path()).detector
    side = detector.view.size
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        detector(torch.zeros(1, 3, side, side))
    gflop = counter.get_total_flops() / 1e9
    matrix = torch.ones(1024, 1024)
    best = 0.0
    for _ in range(20):
        begun = time.process_time()
        torch.mm(matrix, matrix)
        best = max(best, 2 * 1024**3 / 1e9 / (time.process_time() - begun))
    return {"gflop_a_view": gflop, "gflops": best, "cpu": gflop / best}


MEASURES: dict[str, Callable[[list[Path]], dict[str, float]]] = {
    "decoding alone": decode_only,
    "torch, one view at a time, fast": lambda p: by_profile(p, engine="torch", profile="fast"),
    "OpenVINO, one view at a time, fast": unbatched,
    "fast": lambda paths: by_profile(paths, profile="fast"),
    "fast, bf16": lambda p: by_profile(p, engine="openvino", profile="fast", precision="bf16"),
    "default": by_profile,
    "thorough": lambda paths: by_profile(paths, profile="thorough"),
    "stages": stages,
    "arithmetic": arithmetic,
}
TABLED = [name for name in MEASURES if name not in {"stages", "arithmetic"}]
"""Scans, with a row each; the others are told below."""


def measured(name: str, folder: Path, chosen: argparse.Namespace) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": str(chosen.threads)}
    command = [
        sys.executable,
        __file__,
        str(folder),
        "--images",
        str(chosen.images),
        "--only",
        name,
    ]
    runs: list[dict[str, float]] = []
    for _ in range(chosen.repeats):
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        runs.append(json.loads(done.stdout))
    return min(runs, key=lambda run: run.get("cpu", run.get("network", 0.0)))


def cold_start(path: Path, repeats: int) -> dict[str, float]:
    """Return the least seconds from ``gammascope scan one.jpg`` to its verdict."""
    runs = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        command = [sys.executable, "-m", "gammascope", "scan", "--json", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        runs.append({"seconds": time.perf_counter() - start, "cpu": cpu})
    return min(runs, key=lambda run: run["seconds"])


def markdown(result: dict[str, Any]) -> str:
    """Draw a table of ratios for each set of images, and one of the stages."""
    lines = [f"{result['machine']}, {result['threads']} threads."]
    for name, found in result["sets"].items():
        count, runs = found["images"], found["runs"]
        decode, torch = runs["decoding alone"], runs["torch, one view at a time, fast"]
        alone = runs["OpenVINO, one view at a time, fast"]
        lines += [
            f"\n**{name}**, {count} images of {decode['megapixels'] / count:.2f} megapixels\n",
            "| what | images/s | CPU-ms an image | time, of decoding | speed, of torch "
            "| speed, of unbatched | peak memory |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        lines += [
            f"| {what} | {count / run['seconds']:.1f} | {1e3 * run['cpu'] / count:.1f} | "
            f"{run['cpu'] / decode['cpu']:.2f} | {torch['cpu'] / run['cpu']:.2f} | "
            f"{alone['cpu'] / run['cpu']:.2f} | {run['peak_mib']:.0f} MiB |"
            for what, run in runs.items()
            if what in TABLED
        ]
    steps = list(dict.fromkeys(key for s in result["sets"].values() for key in s["runs"]["stages"]))
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
        f"\nA view is {floor['gflop_a_view']:.2f} GFLOP; the largest product of matrices that a core was seen to do is "
        f"{floor['gflops']:.0f} GFLOP/s, so no float32 runtime takes less than {1e3 * floor['cpu']:.1f} CPU-ms for it."
    )
    cold = result["cold_start"]
    lines.append(
        f"\nCold start, `gammascope scan one.jpg` to the verdict: {cold['seconds']:.2f} s "
        f"({cold['cpu']:.2f} CPU-s)."
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
    for at, (name, found) in enumerate(result["sets"].items()):
        rates = [found["images"] / found["runs"][what]["seconds"] for what in TABLED]
        places = [row + at * height for row in range(len(TABLED))]
        bars = left.barh(places, rates, height, label=name)
        left.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
    left.set_yticks([row + height * (len(sets) - 1) / 2 for row in range(len(TABLED))], TABLED)
    left.set(xscale="log", xlabel=f"images a second, {result['threads']} threads")
    left.invert_yaxis()
    left.margins(x=0.15)
    left.legend(fontsize=8)
    ends = dict.fromkeys(sets, 0.0)
    for step in result["sets"][sets[0]]["runs"]["stages"]:
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
    parser.add_argument("--synthetic", action="store_true", help="write and scan photos of 3 sizes")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--images", type=int, default=40, help="a quarter of them at 12 MP")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--only", choices=MEASURES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if (chosen.folder is None) != chosen.synthetic:
        parser.error("name a FOLDER of images, or --synthetic.")
    return chosen


def main() -> None:
    chosen = parsed()
    from gammascope.data.folder import find_images

    if chosen.only:
        paths = find_images([str(chosen.folder)])[: chosen.images]
        print(json.dumps(MEASURES[chosen.only](paths)))
        return
    result: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "threads": chosen.threads,
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
            runs = {}
            for what in MEASURES:
                runs[what] = measured(what, folder, chosen)
                print(f"{name}: {what} {runs[what]}", file=sys.stderr)
            count = len(find_images([str(folder)])[: chosen.images])
            result["sets"][name] = {"images": count, "runs": runs}
        first = find_images([str(next(iter(folders.values())))])[0]
        result["cold_start"] = cold_start(first, chosen.repeats)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if chosen.plot:
        plot(result, chosen.plot)
    if chosen.markdown:
        chosen.markdown.write_text(markdown(result), "utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
