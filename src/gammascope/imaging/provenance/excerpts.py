"""Untrusted text, made fit to be shown: on one line, printable, and short."""

from __future__ import annotations

EXCERPT_LETTERS = 160
"""Longest excerpt of a text from a file that a finding shows."""

_READ_LETTERS = 4096


def excerpt(text: str, letters: int = EXCERPT_LETTERS) -> str:
    r"""Return the beginning of a text: runs of blanks become one, unprintable letters "?".

    Letters that change the direction of writing count as unprintable, since they can make a text read as another.

    >>> excerpt("a  prompt\nwith\x07 bells", 20)
    'a prompt with? bells'
    >>> excerpt("abcdefgh", 5)
    'abcd…'
    """
    words = " ".join(text[:_READ_LETTERS].split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in words)
    return shown if len(shown) <= letters else f"{shown[: letters - 1].rstrip()}…"
