"""ncnn files give the network they describe, or an error that names what is wrong; upscaled photos stay in place."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from tests.generation.made_networks import floats, halves, ncnn, upscaler

from gammascope.errors import IncompatibleCheckpointError, MissingDataError
from gammascope.generation.upscaling import Network, Upscaler

PHOTO = np.ascontiguousarray(skimage.data.astronaut()[:37, 60:113])
CONVOLUTION = """
    Input       in   0 1 data
    Convolution conv 1 1 data out 0=1 1=1 5=1 6=3
"""


def test_all_layers_together_compute_what_their_file_says(tmp_path):
    path = ncnn(
        tmp_path / "all.param",
        """
        Input        in     0 1 data
        Split        fork   1 3 data a b c
        Convolution  conv   1 1 a wide 0=4 1=3 4=1 5=1 6=108 9=2 -23310=1,2.000000e-01
        PReLU        bend   1 1 wide bent 0=4
        PixelShuffle up     1 1 bent fine 0=2
        Interp       near   1 1 b large 0=1 1=2.000000e+00 2=2.000000e+00
        Concat       join   2 1 fine large four
        Convolution  back   1 1 four three 0=3 1=1 5=0 6=12 9=1
        Interp       cubic  1 1 c smooth 0=3 1=2.0 2=2.0
        BinaryOp     add    2 1 three smooth sum
        ReLU         low    1 1 sum kept 0=0.5
        Interp       linear 1 1 kept out 0=2 1=0.5 2=0.5
        """.replace("kept out", "kept less")
        + "Split two 1 2 less p q\nEltwise mean 2 1 p q out 0=1 -23301=2,2.5e-01,7.5e-01",
        halves(*np.linspace(-1, 1, 108))
        + floats(0.1, -0.2, 0.3, -0.4, 0.5, 0.25, -1, 2)
        + b"\0\0\0\0"
        + floats(*np.linspace(-1, 2, 12)),
    )
    pixels = torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0)) - 0.3
    nn = torch.nn.functional
    kernels = torch.from_numpy(np.linspace(-1, 1, 108).astype(np.float16).astype(np.float32))
    wide = nn.conv2d(
        pixels, kernels.view(4, 3, 3, 3), torch.tensor([0.1, -0.2, 0.3, -0.4]), padding=1
    )
    fine = nn.pixel_shuffle(
        nn.prelu(nn.leaky_relu(wide, 0.2), torch.tensor([0.5, 0.25, -1.0, 2.0])), 2
    )
    large = pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)
    last = torch.from_numpy(np.linspace(-1, 2, 12).astype(np.float32)).view(3, 4, 1, 1)
    smooth = nn.interpolate(pixels, scale_factor=2, mode="bicubic")
    total = nn.leaky_relu(torch.relu(nn.conv2d(torch.cat([fine, large], 1), last)) + smooth, 0.5)
    expected = nn.avg_pool2d(total, 2)  # what halving linearly is
    assert torch.allclose(Network(path)(pixels), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "weights", "message"),
    [
        (CONVOLUTION + "Softmax s 1 1 out more", b"", r"layer s \(Softmax\): .* not known"),
        (CONVOLUTION, halves(1, 2, 3), "ends within layer conv .* 16 needed"),
        (CONVOLUTION, b"\x01", "ends within layer conv"),
        (CONVOLUTION, halves(1, 2, 3) + floats(0) + b"\0", "has 17 bytes, .* describes 16"),
        (CONVOLUTION, b"\x38\x4b\x0d\0" + bytes(16), "conv .*: weights of kind 0xd4b38"),
        (CONVOLUTION, halves(1, np.nan, 3) + floats(0), "conv .* no numbers"),
        (CONVOLUTION.replace("6=3", "6=3 3=2"), b"", r"conv \(Convolution\): parameter 3 = 2"),
        (CONVOLUTION.replace("6=3", "6=3 9=5"), halves(1, 2, 3) + floats(0), "activation 5"),
        (CONVOLUTION.replace("0=1", "0=2"), b"", "3 weights do not fill 2 kernels of 1 x 1"),
        (CONVOLUTION.replace("6=3", "6=1000000000"), b"\0" * 4, "ends within layer conv"),
        (CONVOLUTION.replace("6=3", "6=3 7=3,1"), b"", "layer conv .* cannot be read"),
        (CONVOLUTION.replace("data out", "date out"), b"", "nothing before it makes date"),
        (CONVOLUTION + "PReLU p 1 1 data more 0=1", b"", "layer p .* another took it"),
        (CONVOLUTION + "Input again 0 1 more", b"", "not one input and one output"),
        (CONVOLUTION + "Input again 0 1 out", b"", "a value that is there already"),
        (CONVOLUTION + "Concat j 0 1 more 0=0", b"", "layer j .* 0 inputs and 1 outputs"),
        ("Input in 0 1 data\nInterp i 1 1 data out 0=1 1=99 2=99", b"", "out of bounds"),
        ("Input in 0 1 data\nPixelShuffle up 1 1 data out 0=2 1=1", b"", "parameter 1 = 1"),
        ("Input in 0 1 data\nBinaryOp b 1 1 data out 0=0", b"", "layer b .* 1 inputs"),
    ],
)
def test_a_file_that_is_broken_or_unknown_is_refused_with_the_layers_name(
    tmp_path, layers, weights, message
):
    path = ncnn(tmp_path / "made.param", layers, weights)
    with pytest.raises(IncompatibleCheckpointError, match=message):
        Network(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its first line is not 7767517"),
        (b"7767517\n", "its first line"),
        (b"\xff\xfe\x00", "is no text"),
        (b"7767517\n3 3\nInput in 0 1 data\n", "promises 3 3 .* has 1 layers"),
        (b"7767517\n1 1\nInput\n", "layer . .Input.: its line cannot be read"),
    ],
)
def test_a_text_that_is_no_network_is_refused(tmp_path, content, message):
    path = tmp_path / "made.param"
    path.write_bytes(content)
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(IncompatibleCheckpointError, match=message):
        Network(path)


def test_either_file_missing_is_told_of(tmp_path):
    path = upscaler(tmp_path / "made.param")
    path.with_suffix(".bin").unlink()
    with pytest.raises(MissingDataError, match=r"made\.bin"):
        Network(path)
    with pytest.raises(MissingDataError, match=r"other\.param"):
        Network(tmp_path / "other.param")


def test_an_upscaled_photo_has_its_size_and_place_at_odd_sizes_too(tmp_path):
    network = Upscaler(upscaler(tmp_path / "made.param"))
    assert network.factor == 2
    made = network(PHOTO)
    assert made.shape == PHOTO.shape
    red, green, blue = (made[..., n].astype(float) for n in range(3))
    # The network repeats pixels, so what comes back are the cells of the reduced photo.
    assert np.array_equal(made[:36:2, :52:2, :2], made[1:36:2, 1:52:2, :2])
    assert np.abs(blue - np.clip((red + green) / 2 + 63.75, 0, 255)).max() <= 1
    apart = [np.square(np.roll(red, n, 1) - PHOTO[..., 0])[:, 3:-3].mean() for n in (-1, 0, 1)]
    assert min(apart) == apart[1]


def test_a_network_that_does_not_enlarge_pictures_is_no_upscaler(tmp_path):
    same = ncnn(tmp_path / "same.param", "Input in 0 1 data\nReLU r 1 1 data out")
    with pytest.raises(IncompatibleCheckpointError, match="enlarges 2-fold or more"):
        Upscaler(same)
    grey = ncnn(tmp_path / "grey.param", CONVOLUTION, halves(1, 1, 1) + floats(0))
    with pytest.raises(IncompatibleCheckpointError, match=r"makes \(1, 8, 8\)"):
        Upscaler(grey)
    unfit = ncnn(tmp_path / "unfit.param", "Input in 0 1 d\nPixelShuffle up 1 1 d out 0=2")
    with pytest.raises(IncompatibleCheckpointError, match=r"layer up .* does not fit"):
        Upscaler(unfit)
    steps = "\n".join(f"Interp i{n} 1 1 v{n} v{n + 1} 0=1 1=16 2=16" for n in range(9))
    with pytest.raises(IncompatibleCheckpointError, match=r"layer i1 .* enlarges more than 16"):
        Upscaler(ncnn(tmp_path / "bomb.param", f"Input in 0 1 v0\n{steps}"))
