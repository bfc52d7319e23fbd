"""Damaged and odd files leave ``convert`` as one line that names the file, whatever is wrong with them."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tests.checkpoints.test_conversion import (
    converted,
    effort_state,
    ferretnet_state,
    gapl_state,
)
from tests.checkpoints.test_conversion_layouts import DRCT, CutResNet, dda_state, dinov2

from gammascope.checkpoints.conversion import convert
from gammascope.errors import IncompatibleCheckpointError

PUBLISHED: Mapping[str, Callable[[], dict[str, Any]]] = {
    "npr": lambda: {"model": CutResNet(1).state_dict()},
    "safe": lambda: {"model": CutResNet(2).state_dict()},
    "drct": lambda: {"model": DRCT().state_dict()},
    "dda": lambda: {"model": dda_state(dinov2())},
    "effort": lambda: {"model": effort_state("backbone.", "head", 2)},
    "gapl": lambda: {"model": gapl_state(whole=True), "prototype": torch.randn(8, 16)},
    "ferretnet": lambda: {"model": ferretnet_state()},
}

both_formats = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def bytes_of(content: object, *, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@both_formats
@pytest.mark.parametrize("length", [0, 1, 2, 4, 100, 0.5, 0.99])
def test_a_file_that_ends_too_early_is_told(tmp_path, zipped, length):
    data = bytes_of(PUBLISHED["npr"](), zipped=zipped)
    path = tmp_path / "cut.pth"
    path.write_bytes(data[: length if isinstance(length, int) else int(length * len(data))])
    with pytest.raises(IncompatibleCheckpointError, match=r"cut\.pth cannot be read as plain"):
        convert(path, "npr", tmp_path / "ours.safetensors")


@both_formats
def test_wrong_bytes_never_end_in_an_error_of_another_kind(tmp_path, zipped):
    """Most of them in what describes the tensors: among the numbers nobody can tell."""
    rng, data = np.random.default_rng(47), bytes_of(PUBLISHED["npr"](), zipped=zipped)
    path, told = tmp_path / "damaged.pth", []
    for _ in range(120):
        damaged = bytearray(data)
        described = data.find(b"\x80\x02") + int(rng.choice([200, 2000, 8000]))
        for _ in range(rng.choice([1, 2, 4, 16])):
            damaged[rng.integers(min(described, len(data)))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            convert(path, "npr", tmp_path / "ours.safetensors")
        except IncompatibleCheckpointError as error:
            told.append(str(error))
    assert len(told) > 30
    assert [text for text in told if not text.isprintable()] == []


@pytest.mark.parametrize("method", PUBLISHED)
def test_a_tensor_of_any_other_shape_is_told(tmp_path, method):
    content = PUBLISHED[method]()
    state = content["model"]
    others = (torch.ones(()), torch.ones(3), torch.ones(0, 3), torch.ones(2, 2, 2))
    # One of each kind of layer: all would take a minute.
    for number, name in enumerate({re.sub(r"\d+", "", name): name for name in state}.values()):
        changed = state | {name: others[number % len(others)]}
        # Some, as counters and a text tower, have no place in ours, and whatever shape they like.
        with contextlib.suppress(IncompatibleCheckpointError):
            converted(tmp_path, content | {"model": changed}, method)
    flat = content | {"model": {name: torch.ones(3) for name in state}}
    with pytest.raises(IncompatibleCheckpointError, match=r"published\.pth"):
        converted(tmp_path, flat, method)


@pytest.mark.parametrize("method", ["npr", "safe"])
def test_a_filter_without_a_shape_is_named(tmp_path, method):
    state = PUBLISHED[method]()["model"] | {"conv1.weight": torch.tensor(1.0)}
    with pytest.raises(IncompatibleCheckpointError, match=r"'conv1\.weight' is of shape \(\)"):
        converted(tmp_path, state, method)


@pytest.mark.filterwarnings("ignore")  # torch warns that quantised tensors are to go
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), r"torch\.qint8"),
        (lambda t: t.to_sparse(), r"torch\.sparse_coo; only dense tensors"),
        (lambda t: t + 1j, r"torch\.complex64"),
        (lambda t: t.to("meta"), "on meta"),
    ],
    ids=["quantised", "sparse", "complex", "meta"],
)
def test_what_is_no_plain_tensor_is_named(tmp_path, change, words):
    state = PUBLISHED["dda"]()["model"]
    name = "base_model.model.blocks.0.mlp.fc1.original_layer.weight"
    with pytest.raises(IncompatibleCheckpointError, match=rf"{name}' is .*{words}"):
        converted(tmp_path, state | {name: change(state[name])}, "dda")


def test_a_block_with_an_absurd_number_is_left_over(tmp_path):
    """It is not the number of blocks."""
    state = effort_state("backbone.", "head", 2)
    last = [name for name in state if ".layers.1." in name]
    moved = {n.replace(".layers.1.", f".layers.{10**12}."): state.pop(n) for n in last}
    with pytest.raises(
        IncompatibleCheckpointError, match=r"no place for \d+ tensors .*layers\.10{12}"
    ):
        converted(tmp_path, state | moved, "effort")


def test_a_damaged_name_is_shown_without_its_control_characters(tmp_path):
    state = PUBLISHED["npr"]()["model"]
    state["bn1\x1b[31m\n.weight"] = state.pop("bn1.weight")
    with pytest.raises(IncompatibleCheckpointError, match=r"bn1\\x1b\[31m\\n\.weight") as caught:
        converted(tmp_path, state, "npr")
    assert str(caught.value).isprintable()


def test_a_file_that_lost_a_part_of_its_clip_does_not_take_another(tmp_path):
    """CLIP comes from elsewhere only where a file has nothing of it."""
    content = PUBLISHED["gapl"]()
    del content["model"]["feature_extractor.embeddings.class_embedding"]
    with pytest.raises(IncompatibleCheckpointError, match="no CLIP vision tower"):
        converted(tmp_path, content, "gapl")
