from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DModel, VQModel

from gammascope.errors import IncompatibleCheckpointError, MissingDataError, MissingExtraError
from gammascope.generation.autoencoder import (
    Autoencoder,
    AutoencoderFill,
    TinyAutoencoder,
    from_diffusers,
    round_trip,
)
from gammascope.manipulation.inpainting import Inpainting, Telea
from gammascope.sample import Image

PHOTO: Image = np.ascontiguousarray(skimage.data.astronaut()[:70, 60:141])


def tiny_kl() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=3,
        sample_size=16,
    )


def tiny_taesd() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )


def tiny_vq() -> VQModel:
    return VQModel(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=3,
        num_vq_embeddings=16,
    )


@pytest.fixture(scope="module")
def tiny() -> TinyAutoencoder:
    torch.manual_seed(0)
    return TinyAutoencoder(latent_channels=4, width=8).eval()


def saved(network: TinyAutoencoder, folder: Path) -> Path:
    torch.save(network.encoder.half().state_dict(), folder / "any_encoder.pth")
    torch.save(network.decoder.half().state_dict(), folder / "any_decoder.pth")
    return folder


class Blocks:
    """An autoencoder whose answers are known: block means, repeated."""

    stride = 8
    device = torch.device("cpu")

    def encode(self, pixels):
        assert pixels.shape[-1] % 8 == 0
        assert pixels.shape[-2] % 8 == 0
        return torch.nn.functional.avg_pool2d(pixels, 8)

    def decode(self, latent):
        return latent.repeat_interleave(8, 2).repeat_interleave(8, 3).clamp(0, 1)


def test_latents_are_an_eighth_of_the_size(tiny):
    pixels = torch.rand(2, 3, 32, 48)
    latent = tiny.encode(pixels)
    assert latent.shape == (2, 4, 4, 6)
    decoded = tiny(pixels)
    assert decoded.shape == pixels.shape
    assert 0 <= decoded.min() <= decoded.max() <= 1
    assert isinstance(tiny, Autoencoder)


@pytest.mark.parametrize(
    ("latent_channels", "width", "mixing"), [(4, 8, False), (16, 8, False), (32, 4, True)]
)
def test_a_folder_says_which_member_of_the_family_it_holds(
    tmp_path, latent_channels, width, mixing
):
    network = TinyAutoencoder(latent_channels, width, mixing=mixing)
    loaded = TinyAutoencoder.from_folder(saved(network, tmp_path))
    assert loaded.encode(torch.rand(1, 3, 16, 16)).shape == (1, latent_channels, 2, 2)
    assert not loaded.training
    for ours, theirs in zip(network.parameters(), loaded.parameters(), strict=True):
        assert theirs.dtype == torch.float32
        assert torch.equal(ours.float(), theirs)


def test_a_folder_without_the_two_files_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match=r"one file \*encoder.pth"):
        TinyAutoencoder.from_folder(tmp_path)


def test_files_of_another_network_are_refused(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "encoder.pth")
    torch.save({"weight": torch.ones(2)}, tmp_path / "decoder.pth")
    with pytest.raises(IncompatibleCheckpointError, match="no TAESD-family encoder"):
        TinyAutoencoder.from_folder(tmp_path)


def test_halves_that_do_not_match_are_refused(tmp_path):
    saved(TinyAutoencoder(4, 8), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    saved(TinyAutoencoder(16, 8), other)
    (other / "any_decoder.pth").replace(tmp_path / "any_decoder.pth")
    with pytest.raises(IncompatibleCheckpointError, match="size mismatch"):
        TinyAutoencoder.from_folder(tmp_path)


@pytest.mark.weights
def test_the_published_weights_reconstruct_a_photo():
    """GAMMASCOPE_TAEF2 names the folder with the FLUX.2 files of madebyollin/taesd."""
    if "GAMMASCOPE_TAEF2" not in os.environ:
        pytest.skip("GAMMASCOPE_TAEF2 is not set")
    network = TinyAutoencoder.from_folder(Path(os.environ["GAMMASCOPE_TAEF2"]))
    photo = np.ascontiguousarray(skimage.data.astronaut()[:256, :256])
    made = round_trip(photo, network)
    error = np.mean((made.astype(float) - photo) ** 2)
    assert 10 * np.log10(255**2 / error) > 29


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 8), (70, 81), (3, 200)])
@pytest.mark.parametrize("scale", [1.0, 0.6, 1.5])
def test_any_size_survives(tiny, size, scale):
    image = PHOTO[: size[0], : size[1]] if size != (3, 200) else skimage.data.coffee()[:3, :200]
    before = image.copy()
    made = round_trip(image, tiny, scale=scale)
    assert made.shape == image.shape
    assert made.dtype == np.uint8
    assert np.array_equal(image, before)


def test_reconstructions_are_aligned_with_the_image():
    made = round_trip(PHOTO, Blocks())
    want = PHOTO[8:16, 24:32].mean((0, 1))
    assert np.abs(made[8:16, 24:32] - want).max() <= 0.51


def test_borders_are_padded_by_reflection():
    column = np.zeros((8, 9, 3), dtype=np.uint8)
    column[:, 8] = 160
    made = round_trip(column, Blocks())
    # The ninth column is followed by the reflected eighth to second: one of eight is bright.
    assert made[0, 8].tolist() == [20, 20, 20]


def test_scaling_down_costs_detail():
    sharp = round_trip(PHOTO, TinyIdentity())
    assert np.array_equal(sharp, PHOTO)
    soft = round_trip(PHOTO, TinyIdentity(), scale=0.5)
    assert 0.1 < np.abs(soft.astype(int) - PHOTO).mean() < 20


class TinyIdentity(Blocks):
    """Keeps everything, in latents that are pixels."""

    stride = 1

    def encode(self, pixels):
        return pixels

    def decode(self, latent):
        return latent.clamp(0, 1)


def test_noise_is_relative_to_the_latents_and_repeatable():
    image = np.clip(skimage.data.coffee()[:70, 200:281], 60, 190)
    made = [
        round_trip(image, TinyIdentity(), latent_noise=0.1, rng=np.random.default_rng(s))
        for s in (1, 1, 2)
    ]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    noise = made[0].astype(float) - image
    assert noise.std() == pytest.approx(0.1 * image.std(), rel=0.05)


def test_noise_needs_a_source(tiny):
    with pytest.raises(ValueError, match="latent_noise needs rng"):
        round_trip(PHOTO, tiny, latent_noise=0.1)


def test_a_scale_of_nothing_is_refused(tiny):
    with pytest.raises(ValueError, match=r"scale is 0.0"):
        round_trip(PHOTO, tiny, scale=0.0)


def test_half_precision_is_close_but_not_equal(tiny):
    full, half = (round_trip(PHOTO, tiny, dtype=d) for d in ("float32", "bfloat16"))
    assert not np.array_equal(full, half)
    assert np.abs(full.astype(int) - half).mean() < 3


@pytest.mark.parametrize(
    ("make", "stride"), [(tiny_kl, 4), (tiny_taesd, 2), (tiny_vq, 2)], ids=["kl", "tiny", "vq"]
)
def test_any_diffusers_autoencoder_makes_the_round_trip(make, stride, tmp_path):
    torch.manual_seed(0)
    network = make()
    network.save_pretrained(tmp_path)
    loaded = from_diffusers(tmp_path)
    assert isinstance(loaded, Autoencoder)
    assert loaded.stride == stride
    made = round_trip(PHOTO, loaded)
    assert made.shape == PHOTO.shape
    assert np.array_equal(made, round_trip(PHOTO, from_diffusers(network))), "folder = model"


def test_diffusers_networks_see_and_answer_minus_one_to_one():
    torch.manual_seed(0)
    network = tiny_kl().eval()
    pixels = torch.rand(1, 3, 16, 16)
    ours = from_diffusers(network)
    with torch.inference_mode():
        theirs = network(pixels * 2 - 1, sample_posterior=False).sample
        mine = ours.decode(ours.encode(pixels))
    assert torch.allclose(mine, ((theirs + 1) / 2).clamp(0, 1))


def test_the_autoencoder_of_a_pipeline_is_in_a_subfolder(tmp_path):
    tiny_vq().save_pretrained(tmp_path / "vae")
    assert from_diffusers(tmp_path, subfolder="vae").stride == 2


@pytest.mark.parametrize("name", ["nope", "./nope", "runs/nope/vae"])
def test_a_mistyped_folder_is_refused_before_anything_is_downloaded(name, monkeypatch):
    monkeypatch.setattr("diffusers.AutoModel.from_pretrained", None)
    with pytest.raises(MissingDataError, match=f"no folder '{name}'; a hub id is owner/name"):
        from_diffusers(name)


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`")  # the hub's, of diffusers
def test_where_neither_folder_nor_hub_is_there_both_are_said():
    with pytest.raises(
        MissingDataError,
        match="no such folder here, and the Hugging Face hub could not be reached",
    ):
        from_diffusers("owner/nope")


def test_folders_without_an_autoencoder_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match="No autoencoder at"):
        from_diffusers(tmp_path)
    UNet2DModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    ).save_pretrained(tmp_path)
    with pytest.raises(IncompatibleCheckpointError, match="UNet2DModel, no autoencoder"):
        from_diffusers(tmp_path)


def test_video_autoencoders_are_refused():
    class Video(torch.nn.Conv2d):
        def encode(self, pixels):
            return type("Answer", (), {"latent": pixels[:, :, None]})

    with pytest.raises(IncompatibleCheckpointError, match="latents of 5 axes"):
        from_diffusers(Video(3, 3, 1))


def test_without_diffusers_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"\.\[diffusion\]"):
        from_diffusers(tmp_path)


def test_a_reconstructed_region_is_generated_and_shows_the_same(tiny):
    made = Inpainting(AutoencoderFill(tiny), feather_px=0)(PHOTO, np.random.default_rng(0))
    assert made.kind == "inpainting"
    assert np.array_equal(made.generated, made.edited)
    assert np.array_equal(made.image[made.edited], round_trip(PHOTO, tiny)[made.edited])


def test_a_mere_reconstruction_of_the_whole_frame_is_no_inpainting(tiny):
    with pytest.raises(ValueError, match="no truthful masks"):
        Inpainting(AutoencoderFill(tiny), paste_back=False)


def test_a_fill_before_the_reconstruction_makes_a_generated_smear():
    fill = AutoencoderFill(
        TinyIdentity(), before=Telea(), latent_noise=(0.0, 0.1), scale=(0.9, 1.1)
    )
    mask = np.zeros(PHOTO.shape[:2], dtype=bool)
    mask[20:50, 20:50] = True
    plain = AutoencoderFill(TinyIdentity(), before=Telea())
    expected = Telea()(PHOTO, mask, np.random.default_rng(0))
    assert np.array_equal(plain(PHOTO, mask, np.random.default_rng(0)), expected)
    assert not np.array_equal(fill(PHOTO, mask, np.random.default_rng(0)), expected)
    made = Inpainting(fill, paste_back=False)(PHOTO, np.random.default_rng(0))
    assert made.generated.all()
    assert 0 < made.edited.mean() < 0.7
