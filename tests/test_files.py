"""Names that are no text: written readably, and found again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gammascope.files import path_of, shown


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_any_bytes_become_text_that_everything_can_hold(raw: bytes) -> None:
    text = shown(os.fsdecode(raw))
    text.encode("utf-8")
    assert json.loads(json.dumps(text)) == text
    assert b"\\x" in raw or os.fsencode(path_of(text)) == os.fsencode(Path(os.fsdecode(raw)))


@given(st.text(st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF), min_size=1))
def test_surrogates_of_any_origin_are_written(name: str) -> None:
    shown(name).encode("utf-8")


def test_a_file_that_is_really_called_so_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(r"a\xe9").touch()
    assert path_of(r"a\xe9") == Path(r"a\xe9")
    assert path_of(r"b\xe9") == Path("b\udce9")
    assert path_of(r"b\x41\n") == Path(r"b\x41\n")
