"""Programs that sign their work: generators of pictures, and editors.

Only fields meant for a program's name are searched, and only for names that are no ordinary words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gammascope.imaging.provenance.containers import excerpt
from gammascope.report import Evidence, Strength

_AI = {
    "Adobe Firefly": r"adobe[ _-]?firefly",
    "Apple Image Playground": r"\bapple image playground\b|\bimage playground\b",
    "Apple Photos Clean Up": r"\bapple photos clean[ -]?up\b",
    "Bing Image Creator": r"bing image creator|microsoft designer|image creator from",
    "ChatGPT or DALL-E": r"\bopenai\b|\bchatgpt\b|\bgpt-(4o|image)|\bdall[-·• ]?e\b",
    "ComfyUI": r"\bcomfy ?ui\b",
    "Draw Things": r"\bdraw things\b",
    "FLUX": r"black forest labs|\bflux[._ -]?[12]\b",
    "Fooocus": r"\bfooocus\b",
    "Google AI": r"\bgoogle (generative )?ai\b|\bimagen ?[234]\b|\bnano[ -]?banana\b|\bgoogle gemini\b"
    r"|\bgemini[ -]?\d|\bgemini.{0,12}\bimage\b",
    "Grok": r"\bxai grok\b|\bgrok (image|imagine)|\bgrok[ -]?[234]\b",
    "Ideogram": r"\bideogram\b",
    "InvokeAI": r"\binvoke[ -]?ai\b",
    "Hunyuan": r"\bhunyuan\b",
    "Jimeng or Dreamina": r"\bjimeng\b|\bdreamina\b",
    "Kling": r"^kling$|\bkling ?ai\b|\bkling[ -]?\d",
    "Krea": r"\bkrea\.ai\b|\bkrea ai\b",
    "Leonardo.Ai": r"\bleonardo[. ]ai\b",
    "Meta AI": r"\bmeta ai\b|\bimagined with ai\b",
    "Midjourney": r"\bmidjourney\b",
    "NovelAI": r"\bnovel ?ai\b",
    "Qwen-Image": r"\bqwen[ _-]?image\b",
    "Recraft": r"\brecraft\b",
    "Seedream": r"\bseed(ream|edit)\b",
    "Stable Diffusion": r"\bstable[ _-]?diffusion\b|\bsd\.next\b|\bsdxl\b|\bautomatic1111\b",
}
_EDITORS = {
    "ACDSee": r"\bacdsee\b",
    "Adobe Lightroom": r"\blightroom\b",
    "Adobe Photoshop": r"\bphotoshop\b|\bimageready\b",
    "Affinity Photo": r"\baffinity\b",
    "Canva": r"\bcanva\b",
    "Capture One": r"\bcapture one\b",
    "darktable": r"\bdarktable\b",
    "FaceApp": r"\bfaceapp\b",
    "Facetune": r"\bfacetune\b",
    "GIMP": r"\bgimp\b",
    "ImageMagick": r"\bimagemagick\b",
    "Krita": r"\bkrita\b",
    "Luminar": r"\bluminar\b",
    "Paint.NET": r"\bpaint\.net\b",
    "PaintShop Pro": r"\bpaint ?shop\b",
    "Photopea": r"\bphotopea\b",
    "Picasa": r"\bpicasa\b",
    "PicsArt": r"\bpicsart\b",
    "Pixelmator": r"\bpixelmator\b",
    "RawTherapee": r"\brawtherapee\b",
    "Snapseed": r"\bsnapseed\b",
    "Topaz": r"\btopaz\b",
}
_MOST = 4
_SEARCHED = 10_000  # Letters; names of programs are short.


def findings(fields: Iterable[tuple[str, str]]) -> Iterator[Evidence]:
    """State which known generators and editors the given fields name.

    Args:
        fields: Field and text: "EXIF Software", "Adobe Photoshop CS".
    """
    ai: dict[str, str] = {}
    editors: dict[str, str] = {}
    for field, text in fields:
        for found, names in ((ai, _AI), (editors, _EDITORS)):
            for name, pattern in names.items():
                if re.search(pattern, text[:_SEARCHED], re.IGNORECASE):
                    found.setdefault(name, f"{field} “{excerpt(text, 60)}”")
    for name, place in list(ai.items())[:_MOST]:
        yield Evidence(
            "provenance:ai_software",
            f"The metadata name {name}, which generates or edits pictures by AI: {place}.",
            strength=Strength.MODERATE,
            limits="Plain text that anyone can write or remove. It does not say whether the whole picture was "
            "generated or a part retouched.",
        )
    if editors:
        places = "; ".join(list(editors.values())[:_MOST])
        yield Evidence(
            "provenance:editor",
            f"The metadata name editing software ({', '.join(list(editors)[:_MOST])}): {places}.",
            strength=Strength.WEAK,
            limits="Developing, cropping and resizing leave the same trace as a montage: it shows that the picture "
            "passed through the program, not what was done. Anyone can write or remove it.",
        )
