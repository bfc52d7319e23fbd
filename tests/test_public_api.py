"""What a user imports: there, documented, and quick to import."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import gammascope


@pytest.mark.parametrize("name", gammascope.__all__)
def test_every_public_name_is_there_and_documented(name):
    thing = getattr(gammascope, name)
    assert inspect.getdoc(thing)
    assert name in dir(gammascope)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'detekt'"):
        gammascope.detekt  # noqa: B018 - the access is what is tested


def test_all_errors_on_purpose_share_one_root():
    for name in gammascope.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(gammascope, name), gammascope.GammascopeError)


def test_importing_the_package_is_cheap():
    code = "import sys, gammascope; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
