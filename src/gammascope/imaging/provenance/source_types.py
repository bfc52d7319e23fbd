"""The vocabulary in which XMP and C2PA say how a picture came to be: IPTC's digital source types.

Source: cv.iptc.org/newscodes/digitalsourcetype (terms); the words for a person are ours.
"""

from __future__ import annotations

import re

from gammascope.imaging.provenance.excerpts import excerpt

GENERATIVE = frozenset(
    (
        "trainedAlgorithmicMedia",
        "compositeWithTrainedAlgorithmicMedia",
        "trainedAlgorithmicData",  # C2PA's own.
    )
)
"""Terms that say that a trained generative model made the picture or a part of it."""

_MEANINGS = {
    "trainedAlgorithmicMedia": "made by a generative AI model",
    "compositeWithTrainedAlgorithmicMedia": "composed or edited with the help of a generative AI model",
    "trainedAlgorithmicData": "data made by a generative AI model",
    "algorithmicMedia": "made by an algorithm that was not trained on pictures",
    "compositeSynthetic": "composed with synthetic elements",
    "composite": "composed of several elements",
    "compositeCapture": "composed of several photographs",
    "dataDrivenMedia": "drawn from data",
    "digitalArt": "drawn by a person",
    "digitalCreation": "drawn by a person",
    "virtualRecording": "recorded in a virtual world",
    "screenCapture": "a screenshot",
    "softwareImage": "made by software",
    "digitalCapture": "taken by a digital camera",
    "computationalCapture": "taken by a digital camera that combined several exposures",
    "negativeFilm": "scanned from film",
    "positiveFilm": "scanned from film",
    "print": "scanned from a print",
    "humanEdits": "edited by a person",
    "minorHumanEdits": "edited a little by a person",
    "algorithmicallyEnhanced": "enhanced by an algorithm",
    "empty": "begun as an empty canvas",
}


def term_of(value: str) -> str:
    """Return the last part of a term's address, however programs spell it.

    >>> term_of("http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture")
    'digitalCapture'
    >>> term_of("digsrctype:TrainedAlgorithmicMedia"), term_of("Trained Algorithmic Media")
    ('trainedAlgorithmicMedia', 'trainedAlgorithmicMedia')
    """
    last = re.split(r"[/:#]", value.strip().rstrip("/#"))[-1]
    return _SPELLINGS.get(_bare(last), excerpt(last, 60))


def _bare(term: str) -> str:
    return re.sub(r"[\W_]", "", term).lower()


_SPELLINGS = {_bare(term): term for term in _MEANINGS}


def meaning_of(term: str) -> str:
    """Return what a term says, in words; unknown ones are said to be so."""
    return _MEANINGS.get(term, "a term that is not known here")
