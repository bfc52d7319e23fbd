"""From a real photo to an edited one with exact masks: copy-move, splicing, inpainting."""

from __future__ import annotations

from gammascope.manipulation.base import Mixture
from gammascope.manipulation.control import IdentitySeam
from gammascope.manipulation.copy_move import CopyMove
from gammascope.manipulation.inpainting import Inpainting, TwinPaste
from gammascope.manipulation.splicing import Splicing

MANIPULATIONS = (CopyMove, IdentitySeam, Inpainting, Mixture, Splicing, TwinPaste)
"""Every manipulation there is; the contract tests run over them."""

__all__ = [
    "MANIPULATIONS",
    "CopyMove",
    "IdentitySeam",
    "Inpainting",
    "Mixture",
    "Splicing",
    "TwinPaste",
]
