"""Settings that programs which generate pictures leave in their files: prompt, model, workflow.

They stand in PNG text chunks or, in JPEG and WebP files, in EXIF fields. The formats are described by example, not by a
standard; what is recognised here is what the named programs are known to write.

Some are hidden in the lowest bit of pixels: by NovelAI, and by an extension of Stable Diffusion WebUI.
The bits go down the columns: a name of 15 letters, a length of 32 bits, then text, mostly packed. Converting, resizing
or lossy saving destroys them. That layout, too, is described by example.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image

from gammascope.imaging.decode import opened
from gammascope.imaging.provenance.containers import excerpt
from gammascope.report import Evidence, Strength

_MOST = 4
_LIMITS = (
    "Plain text that anyone can copy into a photograph or take out of a generated picture; programs that convert or "
    "share pictures mostly drop it, so its absence says nothing."
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What was recognised in one text.

    Attributes:
        program: Who writes such texts.
        model: The generator's name; empty if not said.
        prompt: What was asked for; empty if not said.
    """

    program: str
    model: str = ""
    prompt: str = ""


def findings(texts: Iterable[tuple[str, str]]) -> Iterator[Evidence]:
    """State which generating programs left their settings, with a short excerpt.

    Args:
        texts: Keyword and text: PNG text chunks, EXIF fields, comments.
    """
    best: dict[str, Settings] = {}
    texts = list(texts)
    apart = _easy_diffusion({keyword.lower(): text for keyword, text in texts})
    if apart is not None:
        best[apart.program] = apart
    for keyword, text in texts:
        found = recognised(keyword, text)
        if found is None:
            continue
        known = best.get(found.program, found)
        best[found.program] = Settings(
            found.program, known.model or found.model, known.prompt or found.prompt
        )
    for at, found in enumerate(list(best.values())[:_MOST]):
        more = (
            f" Settings of {len(best) - _MOST} more programs are there."
            if at == _MOST - 1 < len(best) - 1
            else ""
        )
        model = f", model {excerpt(found.model, 60)}" if found.model else ""
        prompt = f", prompt “{excerpt(found.prompt)}”" if found.prompt else ""
        yield Evidence(
            "provenance:generator",
            f"The file holds generation settings as {found.program} writes them{model}{prompt}.{more}",
            strength=Strength.MODERATE,
            limits=_LIMITS,
        )


def recognised(keyword: str, text: str) -> Settings | None:
    """Tell whether a text is the settings of a generating program, and what they say."""
    for look in _RECOGNISERS:
        found = look(keyword, text)
        if found is not None:
            return found
    return None


def _webui(_keyword: str, text: str) -> Settings | None:
    """Recognise the three-part text of Stable Diffusion WebUI, which many programs write."""
    line = re.search(r"\bSteps: \d{1,6}, [^\n]*", text)
    if line is None or not re.search(r"\b(Sampler|Seed|CFG scale|Schedule type): ", line[0]):
        return None
    app = re.search(r"\bApp: ([^,\n]+)", line[0])
    model = re.search(r"\bModel: ([^,\n]+)", line[0])
    prompt = text[: line.start()].partition("Negative prompt:")[0]
    return Settings(
        excerpt(app[1], 40) if app else "Stable Diffusion WebUI",
        model[1] if model else "",
        prompt,
    )


def _comfy(keyword: str, text: str) -> Settings | None:
    """Recognise ComfyUI's graph: nodes by number, or the editor's own form of them."""
    if keyword.startswith("EXIF "):  # "workflow:{...}" in the fields of the camera.
        name, _, text = text.partition(":")
        if name not in ("prompt", "workflow"):
            return None
    graph = _object(text)
    if isinstance(graph.get("nodes"), list) and ("links" in graph or "last_node_id" in graph):
        return Settings("ComfyUI")
    nodes = [node for node in graph.values() if isinstance(node, dict) and "class_type" in node]
    if not nodes:
        return None
    inputs = [node.get("inputs") for node in nodes]
    model = prompt = ""
    for values in inputs:
        if isinstance(values, dict):
            model = model or _string(values, "ckpt_name", "unet_name", "model_name")
            prompt = prompt or _string(values, "text", "prompt", "positive")
    return Settings("ComfyUI", model, prompt)


def _invoke(keyword: str, text: str) -> Settings | None:
    if keyword in ("invokeai_metadata", "sd-metadata"):
        values = _object(text)
        model = values.get("model")
        name = _string(model, "name", "model_name") if isinstance(model, dict) else ""
        return Settings(
            "InvokeAI",
            name or _string(values, "model_weights"),
            _string(values, "positive_prompt", "prompt"),
        )
    return Settings("InvokeAI") if keyword in ("invokeai_graph", "invokeai_workflow") else None


def _dream(keyword: str, text: str) -> Settings | None:
    """Recognise the command line that InvokeAI's forerunners keep: a quoted prompt, then options of one letter."""
    found = re.match(r'\s*"(.*)"((?:\s+-{1,2}\w+[ =]?\S*)+)', text, re.DOTALL)
    if keyword != "Dream" or found is None or not re.search(r"\s-[sSCAWH]\s?[\w.]+", found[2]):
        return None
    return Settings("InvokeAI (Dream)", prompt=found[1])


def _easy_diffusion(texts: Mapping[str, str]) -> Settings | None:
    """Recognise settings that are spread over a text each, as Easy Diffusion writes them."""
    if not {"prompt", "num_inference_steps"} <= texts.keys() or not texts.keys() & _EASY_KEYS:
        return None
    return Settings("Easy Diffusion", texts.get("use_stable_diffusion_model", ""), texts["prompt"])


_EASY_KEYS = {"use_stable_diffusion_model", "guidance_scale", "sampler_name", "seed"}


def _draw_things(keyword: str, text: str) -> Settings | None:
    values = _object(text) if keyword == "EXIF UserComment" else {}
    if (
        "c" in values
        and len({"uc", "model", "sampler", "seed", "steps", "scale"} & values.keys()) >= 3
    ):
        return Settings("Draw Things", _string(values, "model"), _string(values, "c"))
    return None


def _novel(keyword: str, text: str) -> Settings | None:
    if (keyword == "Software" and text.strip() == "NovelAI") or (
        keyword == "Title" and text.startswith("NovelAI generated image")
    ):
        return Settings("NovelAI")
    if keyword == "Comment":
        values = _object(text)
        if {"prompt", "sampler", "uc"} <= set(values):
            return Settings("NovelAI", prompt=_string(values, "prompt"))
    return None


def _json_parameters(keyword: str, text: str) -> Settings | None:
    """Recognise programs that keep their settings as an object."""
    if keyword not in ("parameters", "EXIF UserComment", "Comment"):
        return None
    values = _object(text)
    apart = _easy_diffusion({key: str(value) for key, value in values.items()})
    if apart is not None:
        return apart
    inner = values.get("sui_image_params")
    if isinstance(inner, dict):
        return Settings("SwarmUI", _string(inner, "model"), _string(inner, "prompt"))
    if "base_model" in values and "sampler" in values:
        return Settings("Fooocus", _string(values, "base_model"), _string(values, "prompt"))
    return None


def _midjourney(keyword: str, text: str) -> Settings | None:
    job = re.search(r"\bJob ID: [0-9a-f]{8}-[0-9a-f-]{27}\b", text)
    if keyword not in ("Description", "EXIF ImageDescription") or job is None:
        return None
    return Settings("Midjourney", prompt=text[: job.start()])


_RECOGNISERS: tuple[Callable[[str, str], Settings | None], ...] = (
    _webui,
    _comfy,
    _invoke,
    _dream,
    _draw_things,
    _novel,
    _json_parameters,
    _midjourney,
)


def _object(text: str) -> dict[str, Any]:
    """Parse a JSON object; empty if the text is anything else."""
    if not text.lstrip().startswith("{"):
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _string(values: dict[str, Any], *names: str) -> str:
    return next((values[name] for name in names if isinstance(values.get(name), str)), "")


_ALPHA = {
    b"stealth_pnginfo": False,
    b"stealth_pngcomp": True,
}  # Name, and whether the text is packed.
_COLOURS = {b"stealth_rgbinfo": False, b"stealth_rgbcomp": True}
_NAME_BYTES, _LENGTH_BYTES = 15, 4
_MOST_PIXELS = 64_000_000
_LONGEST_BYTES = 2**20


def hidden_texts(data: bytes, kind: str) -> list[tuple[str, str]]:
    """Return keyword and text of what is hidden, as PNG text chunks would hold it; empty if nothing is.

    Args:
        data: The file's content.
        kind: Its format; only those without loss can hide anything.
    """
    if kind not in ("png", "webp"):
        return []
    try:
        with opened(data, kind) as file:
            if file.mode not in ("RGB", "RGBA") or file.width * file.height > _MOST_PIXELS:
                return []
            return _found(file)
    except Exception:  # Decoders of hostile bytes raise almost any type.
        return []


def _found(file: PIL.Image.Image) -> list[tuple[str, str]]:
    pixels = np.asarray(file)
    # Down the columns; the three colours of a pixel one after the other.
    places = ((_ALPHA, pixels[..., 3:]), (_COLOURS, pixels[..., :3]))
    for names, values in places:
        if not values.size:
            continue
        columns = -(-8 * (_NAME_BYTES + _LENGTH_BYTES) // (len(values) * values.shape[2]))
        head = _bytes(values[:, :columns])
        packed = names.get(head[:_NAME_BYTES])
        if packed is None:
            continue
        start = _NAME_BYTES + _LENGTH_BYTES
        length = int.from_bytes(head[_NAME_BYTES:start], "big") // 8
        if not 0 < length <= min(_LONGEST_BYTES, values.size // 8):
            return []
        columns = -(-8 * (start + length) // (len(values) * values.shape[2]))
        return _texts(_bytes(values[:, :columns])[start : start + length], packed=packed)
    return []


def _bytes(values: np.ndarray) -> bytes:
    return np.packbits(values.swapaxes(0, 1).reshape(-1) & 1).tobytes()


def _texts(content: bytes, *, packed: bool) -> list[tuple[str, str]]:
    if packed:
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(_LONGEST_BYTES)
        except (OSError, EOFError, zlib.error):
            return []
    text = content.decode("utf-8", "replace")
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError):
        return [("parameters", text)]
    if not isinstance(values, Mapping):
        return [("parameters", text)]
    return [
        (str(key), value if isinstance(value, str) else json.dumps(value))
        for key, value in values.items()
    ]
