"""Autoencoder round trips: a fake that shows exactly what the photo shows.

The last network of every latent generator is the decoder of an autoencoder.
``decode(encode(photo))`` therefore carries the decoder's traces and nothing else that separates a
generated picture from a photo: same scene, same style, same composition. That makes it the hardest
and the cleanest negative to train on.

Source: the idea of training on reconstructions of the same photo is that of arXiv:2410.11835
(AlignedForensics); the degradations offered here (scale, latent noise, half precision) are our
choice.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from gammascope.errors import (
    IncompatibleCheckpointError,
    MissingDataError,
    MissingExtraError,
)
from gammascope.files import refuse_no_model, why_no_model
from gammascope.generation.base import tensors_of
from gammascope.manipulation.inpainting import Inpainter
from gammascope.sample import Image, Mask

Precision: TypeAlias = Literal["float32", "bfloat16"]

_FEATURE = "Reconstructing with a diffusers autoencoder"
_PROBE_PX = 64
"""Side of the black square that measures a foreign stride; published strides divide it."""


@runtime_checkable
class Autoencoder(Protocol):
    """Pixels to latents and back; tensors of any device are accepted."""

    @property
    def stride(self) -> int:
        """Pixels per latent cell; sides given to :meth:`encode` must be multiples of it."""

    @property
    def device(self) -> torch.device:
        """Where the network is."""

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c y x"]:
        """Map sRGB pixels (0..1) to latents, without sampling noise."""

    def decode(self, latent: Float[Tensor, "b c y x"]) -> Float[Tensor, "b 3 h w"]:
        """Map latents to sRGB pixels, clipped to 0..1."""


class _Mixing(nn.Sequential):
    """A pixel-wise two-layer perceptron whose normalisation looks at the whole image."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(width, 4 * width, 1, bias=False),
            nn.GroupNorm(4, 4 * width),
            nn.ReLU(),
            nn.Conv2d(4 * width, width, 1, bias=False),
        )


class _Residual(nn.Module):
    """Three 3x3 convolutions beside an identity path; before them, optionally, global mixing."""

    def __init__(self, width: int, *, mixing: bool) -> None:
        super().__init__()
        # Attribute names follow the published files, so that they load strictly and without a key
        # map.
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.pool: nn.Module | None = _Mixing(width) if mixing else None

    def forward(self, grid: Float[Tensor, "b d y x"]) -> Float[Tensor, "b d y x"]:
        if self.pool is not None:
            grid = grid + self.pool(grid)
        return torch.relu(self.conv(grid) + grid)


class _SoftClamp(nn.Module):
    """Keep latents within ±3 without a corner, as the decoder saw them in its training."""

    def forward(self, latent: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        return 3 * torch.tanh(latent / 3)


def _encoder(latent_channels: int, width: int, *, mixing: bool) -> nn.Sequential:
    """Three halvings; one residual block at full size, three after each halving."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 3, padding=1),
        _Residual(width, mixing=False),
    ]
    for deepest in (False, False, True):
        layers.append(nn.Conv2d(width, width, 3, padding=1, stride=2, bias=False))
        layers.extend(_Residual(width, mixing=mixing and deepest) for _ in range(3))
    layers.append(nn.Conv2d(width, latent_channels, 3, padding=1))
    return nn.Sequential(*layers)


def _decoder(latent_channels: int, width: int, *, mixing: bool) -> nn.Sequential:
    """The encoder's mirror image, with nearest-neighbour doublings."""
    layers: list[nn.Module] = [
        _SoftClamp(),
        nn.Conv2d(latent_channels, width, 3, padding=1),
        nn.ReLU(),
    ]
    for deepest in (True, False, False):
        layers.extend(_Residual(width, mixing=mixing and deepest) for _ in range(3))
        layers.append(nn.Upsample(scale_factor=2))
        layers.append(nn.Conv2d(width, width, 3, padding=1, bias=False))
    layers.append(_Residual(width, mixing=False))
    layers.append(nn.Conv2d(width, 3, 3, padding=1))
    return nn.Sequential(*layers)


class TinyAutoencoder(nn.Module):
    """A distilled convolutional autoencoder of the TAESD family: 8x down, a few million parameters.

    Args:
        latent_channels: 4 for the latents of Stable Diffusion 1 and 2, 16 for SD 3 and FLUX.1, 32
            for FLUX.2.
        width: Channels of every hidden layer.
        mixing: Whether the blocks of the deepest level mix globally, as in the FLUX.2 version.

    Source: layout inferred from the keys and shapes of the files of madebyollin/taesd (MIT);
    written anew.
    """

    def __init__(self, latent_channels: int = 32, width: int = 64, *, mixing: bool = True) -> None:
        super().__init__()
        self.encoder = _encoder(latent_channels, width, mixing=mixing)
        self.decoder = _decoder(latent_channels, width, mixing=mixing)

    @classmethod
    def from_folder(cls, folder: Path) -> TinyAutoencoder:
        """Load the two files of a folder whose names end in ``encoder.pth`` and ``decoder.pth``.

        Sizes are read from the files; half-precision parameters become float32; nothing in the
        files is executed.

        Raises:
            MissingDataError: If the folder does not hold exactly one file of each.
            IncompatibleCheckpointError: If the files do not describe one autoencoder of this
                family.
        """
        encoder, decoder = _parameters(folder, "encoder"), _parameters(folder, "decoder")
        last = max((k for k in encoder if re.fullmatch(r"\d+\.bias", k)), default="", key=_index)
        if "0.weight" not in encoder or not last:
            raise IncompatibleCheckpointError(
                f"{folder} holds no TAESD-family encoder: first keys are {sorted(encoder)[:3]}."
            )
        network = cls(
            latent_channels=encoder[last].shape[0],
            width=encoder["0.weight"].shape[0],
            mixing=any(".pool." in key for key in encoder),
        )
        try:
            network.encoder.load_state_dict(encoder)
            network.decoder.load_state_dict(decoder)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise IncompatibleCheckpointError(
                f"{folder} is no TAESD-family autoencoder: {first}"
            ) from error
        return network.eval().requires_grad_(requires_grad=False)

    @property
    def stride(self) -> int:
        """Pixels per latent cell: 8."""
        return 8

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c y x"]:
        """Map pixels (0..1) to latents; nothing is sampled."""
        latent: Tensor = self.encoder(pixels.to(self.device))
        return latent

    def decode(self, latent: Float[Tensor, "b c y x"]) -> Float[Tensor, "b 3 h w"]:
        """Map latents to pixels, clipped to 0..1; latents are clamped softly to ±3 first."""
        pixels: Tensor = self.decoder(latent.to(self.device))
        return pixels.clamp(0, 1)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Encode and decode."""
        return self.decode(self.encode(pixels))


def _index(key: str) -> int:
    return int(key.split(".", maxsplit=1)[0])


def _parameters(folder: Path, part: str) -> dict[str, Tensor]:
    """Read the one file of a part, as float32."""
    files = sorted(folder.glob(f"*{part}.pth"))
    if len(files) != 1:
        raise MissingDataError(
            f"Expected one file *{part}.pth in {folder}, found {len(files)}. "
            "Put both halves of one autoencoder of madebyollin/taesd into a folder of their own."
        )
    loaded = tensors_of(files[0])
    return {key: value.float() for key, value in loaded.items()}


class DiffusersAutoencoder:
    """Any image autoencoder of `diffusers` behind the :class:`Autoencoder` protocol.

    Handles the families that differ in their answers: AutoencoderKL (a distribution; its mode is
    taken), AutoencoderTiny and AutoencoderDC (a latent), VQModel (a latent, quantised on decoding).
    All of them work on -1..1.

    Args:
        network: The loaded model; put in evaluation mode, its parameters are left as they are.

    Raises:
        IncompatibleCheckpointError: If its latents are not a 2-D grid (video autoencoders).
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()
        parameter = next(network.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        with torch.inference_mode():
            probe = self._latent(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX))
        if probe.ndim != 4:
            raise IncompatibleCheckpointError(
                f"{type(network).__name__} gives latents of {probe.ndim} axes; "
                "a round trip of images needs 4."
            )
        self._stride = _PROBE_PX // probe.shape[-1]

    @property
    def stride(self) -> int:
        """Pixels per latent cell, measured once on a black square."""
        return self._stride

    @property
    def device(self) -> torch.device:
        """Where the parameters were when the adapter was made."""
        return self._device

    def _latent(self, pixels: Tensor) -> Tensor:
        network: Any = self.network
        answer = network.encode(pixels.to(self._device, self._dtype) * 2 - 1)
        if hasattr(answer, "latent_dist"):
            latent: Tensor = answer.latent_dist.mode()
        elif hasattr(answer, "latents"):
            latent = answer.latents
        else:
            latent = answer.latent
        return latent

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c y x"]:
        """Map pixels (0..1) to latents; the mode where the network predicts a distribution."""
        return self._latent(pixels)

    def decode(self, latent: Float[Tensor, "b c y x"]) -> Float[Tensor, "b 3 h w"]:
        """Map latents to pixels, clipped to 0..1."""
        network: Any = self.network
        pixels: Tensor = network.decode(latent.to(self._device, self._dtype)).sample
        return ((pixels + 1) / 2).clamp(0, 1)


def from_diffusers(model: str | Path | nn.Module, *, subfolder: str | None = None) -> Autoencoder:
    """Adapt an autoencoder of `diffusers`: a loaded model, a folder saved by it, or a hub id.

    The class is read from the model's own ``config.json``. A hub id downloads on first use; a
    folder never does.

    Args:
        model: Loaded network, local folder or hub id.
        subfolder: Where the autoencoder lies inside a pipeline's folder or repository, usually
            "vae".

    Raises:
        MissingExtraError: If diffusers is not installed.
        MissingDataError: If the folder or hub id cannot be read.
        IncompatibleCheckpointError: If it is no image autoencoder.
    """
    if isinstance(model, nn.Module):
        return DiffusersAutoencoder(model)
    try:
        from diffusers import AutoModel
    except ImportError as error:
        raise MissingExtraError.of(_FEATURE, "diffusers", "diffusion") from error
    refuse_no_model("autoencoder", model)
    try:
        network = AutoModel.from_pretrained(str(model), subfolder=subfolder)
    except OSError as error:
        within = f" (subfolder {subfolder})" if subfolder else ""
        raise MissingDataError(
            f"No autoencoder at {model}{within}: {why_no_model(model, error)}"
        ) from error
    if not (hasattr(network, "encode") and hasattr(network, "decode")):
        raise IncompatibleCheckpointError(
            f"{model} holds a {type(network).__name__}, no autoencoder. Try subfolder='vae'."
        )
    return DiffusersAutoencoder(network)


def round_trip(
    image: Image,
    autoencoder: Autoencoder,
    *,
    scale: float = 1.0,
    latent_noise: float = 0.0,
    dtype: Precision = "float32",
    rng: np.random.Generator | None = None,
) -> Image:
    """Reconstruct an image of any size; the answer is aligned with it pixel by pixel.

    In this order: resize by ``scale``, pad on the right and at the bottom by reflection to
    multiples of the stride, encode, add noise, decode, crop, resize back.

    Args:
        image: sRGB.
        autoencoder: What reconstructs it.
        scale: Factor on both sides before encoding (each side rounded, at least 1 px), undone after
            decoding; both by bicubic resampling with antialiasing. 1 resamples nothing.
        latent_noise: Standard deviation of Gaussian noise on the latents, in units of this image's
            latent standard deviation: 0.1 imitates a generator that lands near, not on, the
            photo's latent.
        dtype: Arithmetic of the networks (autocast); float32 leaves a network in its own precision.
        rng: Source of the noise; needed only when there is noise.

    Raises:
        ValueError: If ``scale`` is not positive, or noise is asked for without a source.
    """
    if scale <= 0:
        raise ValueError(f"scale is {scale}: give a positive factor.")
    height, width = image.shape[:2]
    small = _resize(image, max(1, round(height * scale)), max(1, round(width * scale)))
    rows, columns = small.shape[:2]
    padding = ((0, -rows % autoencoder.stride), (0, -columns % autoencoder.stride), (0, 0))
    padded = np.pad(small, padding, mode="reflect")
    pixels = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode(), _precision(autoencoder.device, dtype):
        latent = autoencoder.encode(pixels)
        if latent_noise > 0:
            latent = latent + latent_noise * latent.std(correction=0) * _noise_like(latent, rng)
        decoded = autoencoder.decode(latent)
    array = decoded[0].float().mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return _resize(np.ascontiguousarray(array[:rows, :columns]), height, width)


@dataclass(frozen=True, slots=True)
class AutoencoderFill:
    """An inpainter that decodes anew: alone a reconstruction, after another fill a generated one.

    Alone, the region shows what the photo shows and its seam is invisible; only the decoder's
    traces differ. After a classical fill it is a smear as written by a generator: something else is
    shown, in a decoder's texture.

    Attributes:
        autoencoder: What reconstructs the whole frame.
        before: Fills the region first; None: the photo itself is reconstructed.
        latent_noise: Smallest and largest noise, see :func:`round_trip`; drawn uniformly.
        scale: Smallest and largest scale, see :func:`round_trip`; drawn uniformly.
        dtype: Arithmetic of the networks.
        generative: A decoder writes the pixels.
    """

    autoencoder: Autoencoder
    before: Inpainter | None = None
    latent_noise: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    dtype: Precision = "float32"
    generative: bool = True

    @property
    def replaces_content(self) -> bool:
        """Whether another fill comes first."""
        return self.before is not None

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> Image:
        """Return the whole frame, decoded anew."""
        filled = image if self.before is None else self._fill(self.before, image, mask, rng)
        return round_trip(
            filled,
            self.autoencoder,
            scale=rng.uniform(*self.scale),
            latent_noise=rng.uniform(*self.latent_noise),
            dtype=self.dtype,
            rng=rng,
        )

    @staticmethod
    def _fill(before: Inpainter, image: Image, mask: Mask, rng: np.random.Generator) -> Image:
        # Only the region is taken from the first fill, whatever it did to the rest.
        return np.where(mask[..., None], before(image, mask, rng), image)


def _noise_like(latent: Tensor, rng: np.random.Generator | None) -> Tensor:
    if rng is None:
        raise ValueError("latent_noise needs rng: pass numpy.random.default_rng(seed).")
    drawn = rng.standard_normal(tuple(latent.shape), dtype=np.float32)
    return torch.from_numpy(drawn).to(latent.device, latent.dtype)


def _precision(device: torch.device, dtype: Precision) -> AbstractContextManager[Any]:
    if dtype == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _resize(image: Image, height: int, width: int) -> UInt8[np.ndarray, "rows columns 3"]:
    if image.shape[:2] == (height, width):
        return image
    resized = PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BICUBIC)
    return np.array(resized)
