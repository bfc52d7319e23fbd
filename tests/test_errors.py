"""What a message of ours passes on of a library's: its reason, never its advice."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
import torch

from gammascope.checkpoints.conversion import convert
from gammascope.errors import (
    IncompatibleCheckpointError,
    MissingDataError,
    UndecodableImageError,
    said_by,
)
from gammascope.generation.autoencoder import TinyAutoencoder
from gammascope.imaging.decode import decode
from gammascope.networks.captions import model_and_tokenizer

ADVICE = ("weights_only", "torch.load", "trust_remote_code", "allow_pickle", "trusted source")


def refused(call, kind) -> str:
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert not [word for word in ADVICE if word in text]
    assert len(text) < 400
    return text


@pytest.fixture
def hostile(tmp_path):
    """A file that torch would only read if it were allowed to run code."""
    path = tmp_path / "stranger_encoder.pth"
    torch.save({"weights": os.system}, path)
    (tmp_path / "stranger_decoder.pth").write_bytes(path.read_bytes())
    return path


def test_code_in_a_checkpoint_is_named_and_no_way_to_run_it(hostile, tmp_path):
    out = tmp_path / "ours.safetensors"
    text = refused(lambda: convert(hostile, "npr", out), IncompatibleCheckpointError)
    assert "it holds posix.system, which is code" in text
    text = refused(lambda: TinyAutoencoder.from_folder(hostile.parent), IncompatibleCheckpointError)
    assert "stranger_encoder.pth cannot be read as plain tensors" in text
    hostile.write_bytes(b"hello, no checkpoint")
    text = refused(lambda: convert(hostile, "npr", out), IncompatibleCheckpointError)
    assert "torch.save did not write it" in text.replace("torch.load", "")


def test_a_model_with_code_of_its_own_is_refused_without_the_switch(tmp_path):
    pytest.importorskip("transformers")
    config = '{"model_type": "unheard-of", "auto_map": {"AutoConfig": "evil.Config"}}'
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "evil.py").write_text("raise SystemExit")
    text = refused(lambda: model_and_tokenizer(str(tmp_path)), MissingDataError)
    assert "it brings code of its own, which is never run" in text


def test_pickled_arrays_are_no_advice_either(tmp_path):
    path = tmp_path / "objects.npy"
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle") as caught:
        np.load(path)
    assert said_by(caught.value) == "it holds pickled objects, which are never read"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        # Which of the two it is hangs on the version of Pillow.
        (b"\xff\xd8\xff", "its header is damaged|truncated after 3 bytes of JPEG data"),
        (b"\xff\xd8\xff\xe0", "truncated after 4 bytes of JPEG data"),
        (b"\x89PNG\r\n\x1a\n", "truncated after 8 bytes of PNG data"),
        (b"GIF89a", "truncated after 6 bytes of GIF data"),
        (b"BM", "truncated after 2 bytes of BMP data"),
        (b"MM\0*", "truncated after 4 bytes of TIFF data"),
    ],
)
def test_a_stump_of_a_file_is_told_in_words_for_people(data, words):
    text = refused(lambda: decode(data), UndecodableImageError)
    assert re.search(words, text)
    assert "buffer" not in text
