"""What frozen blocks say is looked up, and never other than it was said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gammascope.errors import RecipeError
from gammascope.networks.backbones import Adaptation, TransformerBackbone

TOWER = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
}
VIEWS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def tower(**options) -> TransformerBackbone:
    torch.manual_seed(0)
    return TransformerBackbone.from_config(TOWER, **{"taps": [3, 4]} | options)


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("reads", [(), (1, 2, 4)])
def test_the_second_look_says_the_same_in_any_company(reads, tmp_path):
    network = tower(reads=reads)
    without = network(VIEWS)
    network.keep(tmp_path, 3)
    first, second = network(VIEWS), network(VIEWS[[2, 0]])
    for name in ("token", "grid"):
        told = getattr(first, name)
        torch.testing.assert_close(told, getattr(without, name), atol=5e-3, rtol=5e-3)
        torch.testing.assert_close(getattr(second, name), told[[2, 0]], atol=1e-6, rtol=1e-5)
    assert len(files_of(tmp_path)) == 3


def test_what_is_there_is_not_computed_again(tmp_path):
    network = tower()
    network.keep(tmp_path, 3)
    said = network(VIEWS).token
    later = tower()
    later.keep(tmp_path, 3)
    with torch.no_grad():  # unseen by the name of the file: whoever computed would notice
        for block in list(later.tower.encoder.layers)[:3]:
            block.mlp.fc1.weight.fill_(torch.nan)
    assert torch.equal(later(VIEWS).token, said)
    with pytest.raises(RecipeError, match="too large for half precision"):
        later(VIEWS + 1)


def test_other_weights_views_and_precisions_have_files_of_their_own(tmp_path):
    network = tower()
    network.keep(tmp_path, 2)
    network(VIEWS)
    other = TransformerBackbone.from_config(TOWER)
    other.keep(tmp_path, 2)
    other(VIEWS)
    assert len(files_of(tmp_path)) == 6
    with torch.autocast("cpu", torch.bfloat16):
        network(VIEWS)
    assert len(files_of(tmp_path)) == 9


def test_runs_that_train_other_later_blocks_share_a_look(tmp_path):
    frozen, tuned = tower(), tower(adaptation=Adaptation("full"))
    tuned.train_only_last(1)
    frozen.keep(tmp_path, 3)
    said = frozen(VIEWS)
    before = files_of(tmp_path)
    tuned.keep(tmp_path, 3)
    assert torch.equal(tuned(VIEWS).token, said.token)
    assert files_of(tmp_path) == before
    tuned(VIEWS).token.sum().backward()
    assert tuned.tower.encoder.layers[3].mlp.fc1.weight.grad is not None


def test_a_broken_file_is_made_anew(tmp_path):
    network = tower()
    network.keep(tmp_path, 3)
    said = network(VIEWS).token
    broken = next(tmp_path.iterdir())
    broken.write_bytes(b"cut short")
    assert torch.equal(network(VIEWS).token, said)
    assert broken.stat().st_size > 100


def test_dropped_patches_and_prompts_are_looked_at_anew(tmp_path):
    network = tower()
    network.keep(tmp_path, 3)
    network(VIEWS, torch.arange(4).expand(3, -1))
    network(VIEWS, prompts=[torch.zeros(2, 32)])
    assert files_of(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "blocks", "words"),
    [
        ({}, 5, "expected 1 to 4"),
        ({}, 4, "the patch tokens of block 3 are read"),
        ({"adaptation": Adaptation("full")}, 1, "are trained"),
        ({"adaptation": Adaptation("lora")}, 1, "are trained"),
    ],
)
def test_what_would_not_stay_the_same_is_refused(options, blocks, words, tmp_path):
    with pytest.raises(RecipeError, match=words):
        tower(**options).keep(tmp_path, blocks)
