"""From drawn views to a batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import DataLoader

from gammascope.data.batches import Collate, StreamSlice
from gammascope.data.drawn import Drawn
from gammascope.data.manifest import read_manifest
from gammascope.data.pictures import Pictures
from gammascope.data.synthesis import Stream
from gammascope.imaging.views import ViewSpec

VIEW = ViewSpec(16, "tiles", mean=(0.5, 0.25, 0.0), std=(0.25, 0.5, 1.0))
BOTH = ("generated", "edited")


def drawn(generated: float, edited: float) -> Drawn:
    """A view whose upper rows are generated and edited in these shares."""
    masks = [np.zeros((16, 16), bool) for _ in range(2)]
    for mask, share in zip(masks, (generated, edited), strict=True):
        mask.flat[: round(share * 256)] = True
    pixels = np.full((16, 16, 3), (0, 51, 255), np.uint8)
    pixels[3, 5] = 255
    return Drawn(pixels, masks[0], masks[1], "authentic", "camera")


def test_pixels_are_normalised_as_the_view_says():
    batch = Collate(VIEW)([drawn(0, 0), drawn(1, 0)])
    assert batch.pixels.shape == (2, 3, 16, 16)
    assert batch.pixels.dtype == torch.float32
    torch.testing.assert_close(batch.pixels[0, :, 0, 0], torch.tensor([-2.0, -0.1, 1.0]))
    torch.testing.assert_close(batch.pixels[0, :, 3, 5], torch.tensor([2.0, 1.5, 1.0]))


def test_labels_and_masks_tell_the_same_story():
    views = [drawn(0, 0), drawn(1, 0), drawn(0, 0.5), drawn(0.5, 0.5), drawn(1, 0.25)]
    batch = Collate(VIEW)(views)
    assert batch.answers["generated"].tolist() == [0, 1, 0, 1, 1]
    assert batch.answers["edited"].tolist() == [0, 0, 1, 1, 1]
    assert batch.label.tolist() == [0, 1, 1, 1, 1]
    for name in ("generated", "edited"):
        expected = np.stack([getattr(view, name) for view in views])
        assert np.array_equal(batch.masks[name].numpy(), expected)
        assert batch.weight[name].tolist() == [1] * 5


def test_what_is_not_known_is_marked_and_its_masks_are_not_trusted():
    nothing = drawn(0, 0)
    retouched = replace(nothing, unknown=frozenset(BOTH), told={"edited": True})
    inpainted = replace(nothing, unknown=frozenset(BOTH), told=dict.fromkeys(BOTH, True))
    unsure = replace(nothing, unknown=frozenset({"generated"}))
    batch = Collate(VIEW)([nothing, retouched, inpainted, unsure])
    assert batch.answers["generated"].tolist() == [0, -1, 1, -1]
    assert batch.answers["edited"].tolist() == [0, 1, 1, 0]
    assert batch.label.tolist() == [0, 1, 1, -1]
    assert batch.weight["generated"].tolist() == [1, 0, 0, 0]
    assert batch.weight["edited"].tolist() == [1, 0, 0, 1]


def test_what_nobody_could_see_is_no_edit():
    """Below 0.2 % of the view: one pixel of 32 x 32, not one of 16 x 16."""
    assert drawn(0, 1 / 256).was_edited
    masks = np.zeros((32, 32), bool)
    masks[0, 0] = True
    tiny = Drawn(np.zeros((32, 32, 3), np.uint8), masks, masks, "inpainted", "")
    assert not tiny.was_edited
    assert not tiny.contains_generated


def test_a_slice_starts_where_the_last_one_stopped(collection):
    stream = Stream(read_manifest(collection), Pictures(10**9), 16)
    pieces = [StreamSlice(stream, 0, 5), StreamSlice(stream, 5, 8)]
    assert [len(piece) for piece in pieces] == [5, 3]
    joined = [piece[index] for piece in pieces for index in range(len(piece))]
    for index, view in enumerate(joined):
        assert np.array_equal(view.pixels, stream[index].pixels)


def test_batches_are_the_same_however_they_are_loaded(collection):
    def load(**options) -> list[torch.Tensor]:
        stream = Stream(read_manifest(collection), Pictures(10**9), 16, seed=2)
        loader = DataLoader(StreamSlice(stream, 0, 10), collate_fn=Collate(VIEW), **options)
        return [batch.pixels for batch in loader]

    whole = torch.cat(load(batch_size=10))
    assert torch.equal(torch.cat(load(batch_size=4)), whole)
    assert torch.equal(torch.cat(load(batch_size=4, num_workers=1)), whole)
