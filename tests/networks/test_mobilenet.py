"""MobileNetV2 as a backbone: its published shape, foreign weights, odd sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gammascope.errors import IncompatibleCheckpointError, MissingDataError
from gammascope.networks.mobilenet import MobileNetBackbone, MobileNetConfig, SameConv

SMALL = MobileNetConfig(8, (8, 8, 12), (1, 2, 1), (1, 2, 2), expansion=2, fused=8, token=16)
OWN = ("to_grid", "norm_grid", "norm_statistics", "to_token")


def small(seed: int = 0) -> MobileNetBackbone:
    torch.manual_seed(seed)
    return MobileNetBackbone(SMALL).eval()


def test_the_standard_sizes_are_the_published_ones():
    """Counted by hand from table 2 of arXiv:1801.04381, up to the stage of 160 channels."""
    network = MobileNetBackbone(MobileNetConfig())
    published = sum(p.numel() for name, p in network.named_parameters() if not name.startswith(OWN))

    def convolution(width_in: int, width_out: int, taps: int = 1) -> int:
        return width_in * width_out * taps + 2 * width_out  # and a norm

    expected = convolution(3, 32, 9) + convolution(1, 32, 9) + convolution(32, 16)
    width = 16
    for channels, blocks in ((24, 2), (32, 3), (64, 4), (96, 3), (160, 3)):
        for _ in range(blocks):
            inner = 6 * width
            expected += convolution(width, inner) + convolution(1, inner, 9)
            expected += convolution(inner, channels)
            width = channels
    assert published == expected
    assert sum(p.numel() for p in network.parameters()) <= 2_500_000


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 33), (32, 32), (41, 8)])
def test_any_size_gives_a_cell_for_every_eight_pixels(rows, columns):
    features = small()(torch.randn(2, 3, rows, columns))
    assert features.token.shape == (2, 16)
    assert features.grid.shape == (2, 8, -(-rows // 8), -(-columns // 8))
    assert features.grid.isfinite().all()
    assert features.token.isfinite().all()


def test_strides_pad_below_and_to_the_right_first():
    """TensorFlow's rule: with an even side, a 3 x 3 filter's first window starts at the first pixel."""
    conv = SameConv(1, 1, 3, stride=2)
    torch.nn.init.ones_(conv.weight)
    image = torch.zeros(1, 1, 4, 4)
    image[..., 0, 0] = 1.0
    assert conv(image)[0, 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    image = torch.zeros(1, 1, 4, 4)
    image[..., 2, 2] = 1.0  # all four windows but the first start at it or reach it
    assert conv(image)[0, 0].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    odd = torch.zeros(1, 1, 5, 5)
    odd[..., 0, 0] = 1.0
    assert conv(odd).shape == (1, 1, 3, 3)
    assert conv(odd)[0, 0, 0, 0] == 1.0


def test_the_token_tells_a_texture_from_its_mean():
    network = small()
    flat = torch.zeros(1, 3, 64, 64)
    noisy = flat + 0.5 * torch.randn(1, 3, 64, 64)
    assert not torch.allclose(network(flat).token, network(noisy).token, atol=1e-3)


def foreign(path: Path, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Write half-precision weights with a classifier, as published files have them."""
    state = {n: t.half() for n, t in small(1).state_dict().items() if not n.startswith(OWN)}
    state = {n: (t.long() if n.endswith("tracked") else t) for n, t in state.items()}
    state |= {"conv_head.weight": torch.zeros(4, 12, 1, 1), "classifier.bias": torch.zeros(4)}
    save_file(state | changes, path)
    return state


def test_pretrained_weights_are_taken_exactly_and_our_layers_stay(tmp_path):
    state = foreign(tmp_path / "net.safetensors")
    network, untouched = small(), small()
    network.load_pretrained(tmp_path / "net.safetensors")
    for name, tensor in network.state_dict().items():
        expected = untouched.state_dict()[name] if name.startswith(OWN) else state[name].to(tensor)
        assert torch.equal(tensor, expected), name


def test_other_weights_are_refused_and_nothing_is_loaded(tmp_path):
    network, untouched = small(), small()
    foreign(tmp_path / "wide.safetensors", **{"conv_stem.weight": torch.zeros(16, 3, 3, 3)})
    with pytest.raises(IncompatibleCheckpointError, match=r"conv_stem\.weight .*\(1 of"):
        network.load_pretrained(tmp_path / "wide.safetensors")
    (tmp_path / "page.html").write_text("<html>not found</html>")
    with pytest.raises(IncompatibleCheckpointError, match="no safetensors"):
        network.load_pretrained(tmp_path / "page.html")
    with pytest.raises(MissingDataError, match=r"absent\.safetensors"):
        network.load_pretrained(tmp_path / "absent.safetensors")
    assert all(
        torch.equal(a, b)
        for a, b in zip(network.state_dict().values(), untouched.state_dict().values(), strict=True)
    )


def test_lengths_that_disagree_are_refused():
    with pytest.raises(ValueError, match="As many channels"):
        MobileNetBackbone(MobileNetConfig(channels=(8, 8), blocks=(1,), strides=(1, 2)))


def with_choices(**choices) -> MobileNetBackbone:
    torch.manual_seed(0)
    return MobileNetBackbone(dataclasses.replace(SMALL, **choices))


def test_what_imagenet_taught_is_kept_where_only_our_own_layers_are_trained():
    network = with_choices(trained="own", bands=16).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    features = network(torch.randn(4, 3, 32, 32))
    (features.token.sum() + features.grid.sum()).backward()
    for name, parameter in network.named_parameters():
        own = name.startswith((*OWN, "bands"))
        assert parameter.requires_grad == own == (parameter.grad is not None), name
    changed = {n for n, v in network.state_dict().items() if not torch.equal(v, before[n])}
    assert changed  # our own norms learn
    assert all(name.startswith((*OWN, "bands")) for name in changed)


def test_the_token_hears_of_the_later_stages_only():
    network = with_choices(token_from=2)
    assert network.to_token.in_features == 2 * (8 + 12)
    with pytest.raises(ValueError, match="token_from=4"):
        with_choices(token_from=4)


def test_statistics_are_hidden_in_training_only():
    network, pixels = with_choices(dropout=0.9), torch.randn(8, 3, 32, 32)
    assert not torch.equal(network.train()(pixels).token, network(pixels).token)
    assert torch.equal(network.eval()(pixels).token, network(pixels).token)


def test_spectra_join_the_grid_and_leave_the_token_alone():
    network = with_choices(bands=16).eval()
    assert network.bands is not None
    pixels = torch.randn(1, 3, 32, 40)
    seen = network(pixels)
    torch.nn.init.zeros_(network.bands.to_grid.weight)
    blind = network(pixels)
    assert torch.equal(seen.token, blind.token)
    assert not torch.equal(seen.grid, blind.grid)
    with pytest.raises(ValueError, match="bands=8"):
        with_choices(bands=8)


def test_deviations_weigh_what_they_are_told_to():
    """With weight 0, only means reach the token: noise of mean zero on one of them passes unheard."""
    network, pixels = with_choices(spread=0.0).eval(), torch.randn(2, 3, 32, 32)
    token = network(pixels).token
    channels = (8, 8, 12)
    with torch.no_grad():
        start = 0
        for width in channels:
            network.to_token.weight[:, start + width : start + 2 * width] = 7.0
            start += 2 * width
    assert torch.equal(network(pixels).token, token)
    assert not torch.equal(with_choices().eval()(pixels).token, token)


def test_the_last_convolution_is_imagenets_and_speaks_to_the_token_alone(tmp_path):
    state = with_choices(last=20).eval().state_dict()
    head = {n: torch.randn_like(t) if t.is_floating_point() else t for n, t in state.items()}
    head = {n: t for n, t in head.items() if n.startswith(("conv_head", "bn2"))}
    head["bn2.running_var"] = head["bn2.running_var"].abs()
    foreign(tmp_path / "net.safetensors", **head)
    network = with_choices(last=20, trained="own").eval()
    network.load_pretrained(tmp_path / "net.safetensors")
    assert torch.equal(network.state_dict()["conv_head.weight"], head["conv_head.weight"])
    assert not network.state_dict()["bn2.weight"].requires_grad
    pixels = torch.randn(1, 3, 32, 32)
    before = network(pixels)
    with torch.no_grad():
        network.to_token.weight[:, -20:] += 1.0
    after = network(pixels)
    assert not torch.equal(before.token, after.token)
    assert torch.equal(before.grid, after.grid)


def test_the_summary_is_what_the_stages_and_spectra_say_of_the_whole_view():
    sizes = dataclasses.replace(SMALL, last=24, last_in_token=False, token_from=2, bands=16)
    torch.manual_seed(0)
    network, pixels = MobileNetBackbone(sizes).eval(), torch.randn(2, 3, 32, 32)
    seen, summary = network.seen(pixels), network(pixels).summary
    expected = []
    for x in seen[1:3]:
        expected += [x.mean((2, 3)), (x.var((2, 3), correction=0) + 1e-5).sqrt()]
    expected.append(seen[3].mean((2, 3)))
    torch.testing.assert_close(summary["content"], torch.cat(expected, 1))
    energies = network.bands.energies(pixels)
    torch.testing.assert_close(summary["spectrum"][:, :765], energies.mean((2, 3)))
    assert {k: len(t) for k, t in network.trust.items()} == {
        k: s.shape[1] for k, s in summary.items()
    }
    # Deviations of the two stages, of 8 and of 12 channels, are trusted less.
    assert (
        network.trust["content"].tolist()
        == [1.0] * 8 + [0.5] * 8 + [1.0] * 12 + [0.5] * 12 + [1.0] * 24
    )


def test_the_last_convolution_may_stay_out_of_the_token():
    told = []
    for in_token in (True, False):
        sizes = dataclasses.replace(SMALL, last=24, last_in_token=in_token)
        torch.manual_seed(0)
        network = MobileNetBackbone(sizes).eval()
        pixels = torch.randn(2, 3, 32, 32)
        before = network(pixels).token
        torch.nn.init.ones_(network.conv_head.weight)
        told.append(torch.equal(before, network(pixels).token))
    assert told == [False, True]


def test_the_trace_stem_joins_the_grid_leaves_the_token_alone_and_is_trained():
    network = with_choices(traces=(4, 6, 8), trained="own").eval()
    assert network.traces is not None
    pixels = torch.randn(2, 3, 41, 24)
    seen = network(pixels)
    seen.grid.sum().backward()
    assert all(p.grad is not None for p in network.traces.parameters())
    torch.nn.init.zeros_(network.traces.to_grid.weight)
    blind = network(pixels)
    assert torch.equal(seen.token, blind.token)
    assert not torch.equal(seen.grid, blind.grid)
    with pytest.raises(ValueError, match="expected three"):
        with_choices(traces=(4, 6))
