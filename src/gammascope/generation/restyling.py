"""Restyled photos: a network gives a photo the style of another picture, or one of the styles it knows.

The networks are ONNX files, run by OpenVINO on any size of picture; pixels are sRGB, 0..1, on both sides.

Source: the two kinds of networks are those of arXiv:1705.06830 (style predicted from a picture) and arXiv:1610.07629
(a fixed number of styles, chosen by weights).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import Float

from gammascope.errors import IncompatibleCheckpointError, MissingDataError
from gammascope.sample import Image

_CELL = 4
"""Sides given to a network are multiples of it: these networks halve twice and double twice."""


@runtime_checkable
class Restyler(Protocol):
    """What gives a photo another style."""

    def __call__(
        self, photo: Image, another: Callable[[], Image], rng: np.random.Generator
    ) -> Image:
        """Return the restyled photo, of its size and aligned with it.

        Args:
            photo: sRGB.
            another: Gives a picture whose style may be taken; is asked at most once.
            rng: Of all draws.
        """


class _Graph:
    """An ONNX network with one picture among its inputs and one output.

    Attributes:
        side: Of the pictures it wants, pixels; None: any.
        vector: Shape of its other input; None: there is none.
        answer: Shape of its output, -1 where it depends on the picture.
    """

    def __init__(self, path: Path, core: Any, *, any_size: bool) -> None:
        self.path = path
        try:
            model = core.read_model(path)
            shapes = [_shape(port) for port in model.inputs]
            pictures = [n for n, s in enumerate(shapes) if len(s) == 4 and 3 in (s[1], s[3])]
            if len(pictures) != 1 or len(shapes) > 2 or len(model.outputs) != 1:
                raise IncompatibleCheckpointError(
                    f"{path}: inputs {shapes}, {len(model.outputs)} outputs; expected one picture of 3 channels, "
                    "at most one vector, and one output."
                )
            self._picture = pictures[0]
            shape = shapes[self._picture]
            self._last = shape[3] == 3
            self.vector = shapes[1 - self._picture] if len(shapes) == 2 else None
            if self.vector is not None and min(self.vector) < 1:
                raise IncompatibleCheckpointError(
                    f"{path}: a vector of no fixed size, {self.vector}."
                )
            if any_size:
                free = [1, -1, -1, 3] if self._last else [1, 3, -1, -1]
                wanted = {self._picture: free}
                if self.vector is not None:
                    wanted[1 - self._picture] = list(self.vector)
                model.reshape(wanted)
            self.side = None if any_size else shape[1 if self._last else 2]
            self.answer = _shape(model.outputs[0])
            # By default OpenVINO may compute in bfloat16, where the processor can.
            self._compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            raise IncompatibleCheckpointError(
                f"OpenVINO cannot use {path}: {_last_line(error)}"
            ) from error

    def __call__(self, image: Image, vector: np.ndarray | None = None) -> np.ndarray:
        """Return the answer to a picture of any fitting size, without its first axis."""
        pixels = image.astype(np.float32)[None] / 255
        given = {self._picture: pixels if self._last else pixels.transpose(0, 3, 1, 2).copy()}
        if vector is not None:
            given[1 - self._picture] = vector
        try:
            answer: np.ndarray = self._compiled(given)[0][0]
        except RuntimeError as error:
            raise IncompatibleCheckpointError(
                f"{self.path} fails on a picture of {image.shape[1]} x {image.shape[0]} px: {_last_line(error)}"
            ) from error
        return answer

    def repainted(self, photo: Image, vector: Float[np.ndarray, " n"]) -> Image:
        """Return the answer as a picture of the photo's size.

        Raises:
            IncompatibleCheckpointError: If the answer is of another size.
        """
        height, width = photo.shape[:2]
        rim = ((0, -height % _CELL), (0, -width % _CELL), (0, 0))
        padded = np.pad(photo, rim, mode="reflect")
        answer = self(padded, vector.astype(np.float32).reshape(self.vector))
        painted = answer if self._last else answer.transpose(1, 2, 0)
        if painted.shape != padded.shape or not np.isfinite(painted).all():
            raise IncompatibleCheckpointError(
                f"{self.path} makes {painted.shape} of {padded.shape}: expected a picture of the same size."
            )
        pixels: Image = np.rint(np.clip(painted[:height, :width], 0, 1) * 255).astype(np.uint8)
        return pixels


class StylesOfPictures:
    """Any picture's style: one network describes it by a vector, another repaints the photo after that vector.

    Args:
        folder: Holds one file ``*predict.onnx`` and one ``*transform.onnx``.
        core: OpenVINO's, as ``runtime.openvino_core`` returns it.

    Raises:
        MissingDataError: If it does not.
        IncompatibleCheckpointError: If the files are no such pair.
    """

    def __init__(self, folder: Path, core: Any) -> None:
        self._predict = _Graph(_only(folder, "predict"), core, any_size=False)
        self._transform = _Graph(_only(folder, "transform"), core, any_size=True)
        side, described = self._predict.side, self._predict.answer
        if (
            side is None
            or side < 1
            or self._predict.vector is not None
            or self._transform.vector is None
            or min(described) < 1
            or np.prod(described) != np.prod(self._transform.vector)
        ):
            raise IncompatibleCheckpointError(
                f"{folder}: {self._predict.path.name} describes a style by {described}, from pictures of {side} px, "
                f"{self._transform.path.name} takes {self._transform.vector}: no pair."
            )
        self._side = side

    def __call__(
        self, photo: Image, another: Callable[[], Image], rng: np.random.Generator
    ) -> Image:
        """Repaint a photo in the style of the centre square of another picture; draws nothing itself."""
        del rng
        square = PIL.ImageOps.fit(
            PIL.Image.fromarray(another()), (self._side, self._side), PIL.Image.Resampling.LANCZOS
        )
        return self._transform.repainted(photo, self._predict(np.array(square)).ravel())


class NumberedStyles:
    """The styles that one network was trained on; one is drawn for each photo.

    Args:
        path: An ONNX file that takes a picture and one weight for each style.
        core: OpenVINO's, as ``runtime.openvino_core`` returns it.

    Raises:
        MissingDataError: If there is no such file.
        IncompatibleCheckpointError: If it is no such network.
    """

    def __init__(self, path: Path, core: Any) -> None:
        if not path.is_file():
            raise MissingDataError(f"No {path}.")
        self._graph = _Graph(path, core, any_size=True)
        if self._graph.vector is None:
            raise IncompatibleCheckpointError(f"{path} takes no weights of styles.")
        self.styles = int(np.prod(self._graph.vector))

    def __call__(
        self, photo: Image, another: Callable[[], Image], rng: np.random.Generator
    ) -> Image:
        """Repaint a photo in a style that is drawn; other pictures are not asked for."""
        del another
        weights = np.zeros(self.styles)
        weights[int(rng.integers(self.styles))] = 1
        return self._graph.repainted(photo, weights)


def load(place: Path, core: Any) -> Restyler:
    """Load a file of numbered styles, or a folder with a pair of networks that take any picture's style.

    Raises:
        MissingDataError: If there is neither.
        IncompatibleCheckpointError: If the files are no such networks.
    """
    return StylesOfPictures(place, core) if place.is_dir() else NumberedStyles(place, core)


def _only(folder: Path, part: str) -> Path:
    files = sorted(folder.glob(f"*{part}.onnx"))
    if len(files) != 1:
        raise MissingDataError(f"Expected one file *{part}.onnx in {folder}, found {len(files)}.")
    return files[0]


def _shape(port: Any) -> tuple[int, ...]:
    """Return the sides of an input or output; -1 where they are free."""
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return ()
    return tuple(-1 if side.is_dynamic else side.get_length() for side in shape)


def _last_line(error: RuntimeError) -> str:
    """Return what OpenVINO says last: its first lines name places in its own source."""
    return next(
        (row.strip() for row in reversed(str(error).splitlines()) if row.strip()), "no reason given"
    )
