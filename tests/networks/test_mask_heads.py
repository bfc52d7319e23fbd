"""Segmentation branches: cells stay where they are, and positions are told apart."""

from __future__ import annotations

import pytest
import torch

from gammascope.networks.mask_heads import MaskHead, Neck, sine_code

mixings = pytest.mark.parametrize("mixing", ["conv", "transformer"])


def head(mixing, *, blocks: int = 2, classes: int = 1) -> MaskHead:
    torch.manual_seed(0)
    return MaskHead(16, blocks=blocks, classes=classes, mixing=mixing, heads=2).eval()


@mixings
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8)])
def test_tokens_and_logits_tell_of_the_same_cells(mixing, size):
    rows, columns = size
    module = head(mixing, classes=3)
    branch = module(torch.randn(2, 16, rows, columns))
    assert branch.tokens.shape == (2, rows * columns, 16)
    assert branch.logits.shape == (2, 3, rows, columns)
    logits = branch.tokens @ module.classify.weight[:, :, 0, 0].T + module.classify.bias
    row_by_row = branch.logits.permute(0, 2, 3, 1).reshape(2, rows * columns, 3)
    torch.testing.assert_close(row_by_row, logits)


@mixings
def test_a_cell_is_felt_where_it_lies(mixing):
    module = head(mixing, blocks=1)
    grid = torch.randn(1, 16, 6, 6)
    other = grid.clone()
    other[0, :, 1, 4] += 5 * torch.randn(16)
    change = (module(other).logits - module(grid).logits)[0, 0].abs()
    assert divmod(int(change.argmax()), 6) == (1, 4)
    if mixing == "transformer":
        assert (change > 1e-6).all(), "self-attention reaches every cell"


def test_without_blocks_a_head_is_a_linear_map():
    module = head("conv", blocks=0)
    grid = torch.randn(1, 16, 4, 4)
    assert torch.equal(module(grid).tokens[0, 5], grid[0, :, 1, 1])


@pytest.mark.parametrize("width", [8, 16, 18, 19])
def test_every_cell_has_a_code_of_its_own(width):
    code = sine_code(width, 7, 9, torch.device("cpu"))
    assert code.shape == (width, 7, 9)
    assert code.abs().max() <= 1
    cells = code.flatten(1).T
    distance = torch.cdist(cells, cells) + torch.eye(len(cells))
    assert distance.min() > 1e-3
    assert not code[4 * (width // 4) :].any()


def test_the_code_is_that_of_the_original_transformer():
    code = sine_code(8, 4, 4, torch.device("cpu"))
    for row in range(4):
        for column in range(4):
            angles = torch.tensor([row, row / 100, column, column / 100]).float()
            expected = [angles[:2].sin(), angles[:2].cos(), angles[2:].sin(), angles[2:].cos()]
            torch.testing.assert_close(code[:, row, column], torch.cat(expected))


def test_a_cell_keeps_its_code_in_a_larger_grid():
    small, large = (sine_code(16, side, side, torch.device("cpu")) for side in (4, 9))
    assert torch.equal(large[:, :4, :4], small)


def test_the_neck_normalises_each_cell_and_adds_its_code():
    torch.manual_seed(0)
    neck = Neck(5, 16)
    grid = 100 * torch.randn(2, 5, 3, 4) + 40
    plain = neck(grid) - sine_code(16, 3, 4, torch.device("cpu"))
    torch.testing.assert_close(plain.mean(1), torch.zeros(2, 3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.var(1, unbiased=False), torch.ones(2, 3, 4), atol=1e-3, rtol=0)


def test_the_neck_tells_equal_cells_apart():
    torch.manual_seed(0)
    same = Neck(5, 16)(torch.ones(1, 5, 3, 3)).flatten(2)[0]
    assert len({tuple(column.tolist()) for column in same.T}) == 9
