"""Diffusion inpainting: any inpainting pipeline of `diffusers` as an inpainter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float

from gammascope.errors import GammascopeError, MissingDataError, MissingExtraError
from gammascope.files import refuse_no_model, why_no_model
from gammascope.sample import Image, Mask

_FEATURE = "Diffusion inpainting"
_MULTIPLE = 8
"""Sides given to a pipeline: the stride of the autoencoders of latent diffusion."""


@dataclass(frozen=True, slots=True)
class InpaintingPipeline:
    """An inpainter on top of a diffusers pipeline.

    The answer is the pipeline's whole frame. Latent pipelines change pixels outside the mask, too:
    say so in the masks by ``Inpainting(pipeline, paste_back=False)``, or restore the photo there by
    ``paste_back=True``.

    Attributes:
        pipeline: A loaded inpainting pipeline; see :meth:`load`.
        prompts: One is drawn for each photo; "" leaves the content to the surroundings.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        strength: Share of the noise schedule that is run; 1 forgets what was under the mask.
        generative: A generator writes the pixels.
        replaces_content: The region shows something else.
    """

    pipeline: Any
    prompts: tuple[str, ...] = ("",)
    steps: int = 30
    guidance: float = 7.5
    strength: float = 1.0
    generative: bool = True
    replaces_content: bool = True

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        **ours: Any,
    ) -> InpaintingPipeline:
        """Load a folder saved by ``save_pretrained``, or a hub id.

        Text-to-image weights are accepted where diffusers can inpaint with them. A hub id downloads
        on first use; a folder never does.

        Args:
            model: Local folder or hub id.
            device: Where to run.
            dtype: Precision of the parameters; None: as saved.
            **ours: Other fields of this class.

        Raises:
            MissingExtraError: If diffusers is not installed.
            MissingDataError: If there is no such pipeline, or none that can inpaint.
        """
        try:
            from diffusers import AutoPipelineForInpainting
        except ImportError as error:
            raise MissingExtraError.of(_FEATURE, "diffusers", "diffusion") from error
        refuse_no_model("inpainting pipeline", model)
        try:
            pipeline = AutoPipelineForInpainting.from_pretrained(str(model))
        except (OSError, ValueError) as error:
            raise MissingDataError(
                f"No inpainting pipeline at {model}: {why_no_model(model, error)}"
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        return cls(pipeline.to(device, dtype), **ours)

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> Image:
        """Paint with a prompt drawn from :attr:`prompts`."""
        return self.paint(image, mask, self.prompts[int(rng.integers(len(self.prompts)))], rng)

    def paint(self, image: Image, mask: Mask, prompt: str, rng: np.random.Generator) -> Image:
        """Fill the mask as the prompt says; any image size, which is kept.

        Sides are padded by reflection to multiples of 8, never resized, and cropped back.

        Args:
            image: sRGB.
            mask: True where to paint.
            prompt: "" for none.
            rng: Seeds the pipeline's noise; the same state gives the same image on one device.

        Raises:
            GammascopeError: If the pipeline's own safety checker blanked the image.
        """
        height, width = image.shape[:2]
        rim = ((0, -height % _MULTIPLE), (0, -width % _MULTIPLE))
        photo = np.pad(image, (*rim, (0, 0)), mode="reflect")
        region = np.pad(mask, rim).astype(np.uint8) * 255
        # The noise is drawn on the CPU, so that a seed means the same on every device.
        generator = torch.Generator("cpu").manual_seed(int(rng.integers(2**63)))
        answer = self.pipeline(
            prompt=prompt,
            image=PIL.Image.fromarray(photo),
            mask_image=PIL.Image.fromarray(region),
            height=photo.shape[0],
            width=photo.shape[1],
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            strength=self.strength,
            generator=generator,
            output_type="np",
        )
        if any(getattr(answer, "nsfw_content_detected", None) or []):
            raise GammascopeError(
                f"The pipeline's safety checker blanked the answer to prompt {prompt!r}: "
                "choose another prompt or photo."
            )
        painted: Float[np.ndarray, "rows columns 3"] = answer.images[0][:height, :width]
        pixels: Image = np.rint(np.clip(painted, 0, 1) * 255).astype(np.uint8)
        return pixels
