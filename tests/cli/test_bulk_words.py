"""What a scan into a folder says when it is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from gammascope.cli import scan_into
from gammascope.cli.failures import INTERRUPTED, explain


def test_ctrl_c_says_how_to_go_on(capsys):
    with pytest.raises(KeyboardInterrupt) as stopped, scan_into._told_how_to_go_on(Path("rows")):
        raise KeyboardInterrupt
    assert explain(stopped.value, debug=False) == INTERRUPTED
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "Interrupted.",
        "What was found is kept in rows: the same command goes on from there.",
    ]
