"""Upscaled photos: a fake whose fine detail a super-resolution network invented.

A photo is reduced by the network's factor and enlarged again by the network to its own size: same scene, same
composition, aligned pixel by pixel, with all that is fine written by a generator.

Networks are in ncnn's text format (``.param`` beside ``.bin``), read and run by torch; nothing in the files is
executed.

Only what image-to-image networks of convolutions need is known: an unknown layer, parameter or kind of weights is
refused by its name, and every byte of the weights must be accounted for.

Source: ncnn's documentation, "param and model file structure" and "operation param weight table"
(github.com/Tencent/ncnn/wiki).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope.errors import IncompatibleCheckpointError, MissingDataError
from gammascope.sample import Image

_MAGIC = "7767517"
_FLOAT32, _FLOAT16 = 0, 0x01306B47
"""What stands before a convolution's weights."""
_LIST_KEY = -23300
"""Keys of parameters with several values count down from here."""
_LARGEST_FACTOR = 16
"""A side grows by no more than this: a file cannot ask for unlimited memory."""


class _Convolution(nn.Module):
    """Convolve with kernels that are there already, of step 1."""

    def __init__(self, kernels: Tensor, offsets: Tensor | None, padding: int) -> None:
        super().__init__()
        self.kernels, self.padding = nn.Parameter(kernels), padding
        self.offsets = None if offsets is None else nn.Parameter(offsets)

    def forward(self, grid: Tensor) -> Tensor:
        return functional.conv2d(grid, self.kernels, self.offsets, padding=self.padding)


class _Sum(nn.Module):
    """Add inputs, each times its coefficient."""

    def __init__(self, coefficients: list[float] | None = None) -> None:
        super().__init__()
        self.coefficients = coefficients

    def forward(self, *inputs: Tensor) -> Tensor:
        weights = self.coefficients or [1.0] * len(inputs)
        total = weights[0] * inputs[0]
        for weight, value in zip(weights[1:], inputs[1:], strict=True):
            total = total + weight * value
        return total


class _Concatenation(nn.Module):
    """Join inputs along their channels."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=1)


@dataclass(frozen=True, slots=True)
class _Line:
    """A layer as its line in the text says.

    Attributes:
        type: ncnn's name of the operation.
        name: The layer's own.
        inputs: Names of the values it takes; each is taken once.
        outputs: Names of what it gives.
        values: Parameters by their number; those with several values are lists.
    """

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[int, float | list[float]]

    def __str__(self) -> str:
        return f"layer {self.name} ({self.type})"

    def number(self, key: int, default: float) -> float:
        """Return a parameter that must be one number.

        Raises:
            IncompatibleCheckpointError: If it is a list.
        """
        value = self.values.get(key, default)
        if isinstance(value, list):
            raise IncompatibleCheckpointError(f"{self}: parameter {key} is a list.")
        return value

    def whole(self, key: int, default: int, lowest: int, highest: int) -> int:
        """Return a parameter that must be a whole number of a range.

        Raises:
            IncompatibleCheckpointError: If it is not.
        """
        value = self.number(key, float(default))
        if not (lowest <= value <= highest and value == int(value)):
            raise IncompatibleCheckpointError(
                f"{self}: parameter {key} is {value:g}, expected a whole number {lowest} to {highest}."
            )
        return int(value)

    def expect(self, allowed: set[int], fixed: Mapping[int, int] | None = None) -> None:
        """Refuse parameters that are not known, or known with one value only.

        Raises:
            IncompatibleCheckpointError: If there is one.
        """
        for key, value in self.values.items():
            if key not in allowed and (fixed or {}).get(key) != value:
                raise IncompatibleCheckpointError(
                    f"{self}: parameter {key} = {value} is not supported."
                )


class _Weights:
    """The bytes of a ``.bin`` file, taken from its beginning to its end."""

    def __init__(self, data: bytes, path: Path) -> None:
        self.data, self.path, self.place = data, path, 0

    def take(self, count: int, kind: str, line: _Line) -> np.ndarray:
        """Return the next ``count`` numbers; fields are padded to four bytes.

        Raises:
            IncompatibleCheckpointError: If the file ends before.
        """
        size = count * np.dtype(kind).itemsize
        if self.place + size > len(self.data):
            raise IncompatibleCheckpointError(
                f"{self.path} ends within {line}: {len(self.data)} bytes, {self.place + size} needed."
            )
        found = np.frombuffer(self.data, kind, count, self.place)
        self.place += -(-size // 4) * 4
        return found

    def floats(self, count: int, line: _Line) -> Tensor:
        """Return float32 numbers.

        Raises:
            IncompatibleCheckpointError: If the file ends before, or one is not finite.
        """
        return self._tensor(self.take(count, "<f4", line), line)

    def flagged(self, count: int, line: _Line) -> Tensor:
        """Return numbers after the flag that says how they are stored.

        Raises:
            IncompatibleCheckpointError: Likewise, and if they are stored in another way than float16 or float32.
        """
        flag = int(self.take(1, "<u4", line)[0])
        if flag not in (_FLOAT32, _FLOAT16):
            raise IncompatibleCheckpointError(
                f"{self.path}, {line}: weights of kind {flag:#x}, expected float32 or float16."
            )
        return self._tensor(self.take(count, "<f2" if flag == _FLOAT16 else "<f4", line), line)

    def _tensor(self, numbers: np.ndarray, line: _Line) -> Tensor:
        if not np.isfinite(numbers).all():
            raise IncompatibleCheckpointError(f"{self.path}, {line}: weights that are no numbers.")
        return torch.from_numpy(numbers.astype(np.float32))


def _convolution(line: _Line, weights: _Weights) -> nn.Module:
    # 2, 3: dilation and stride, 8: int8, 18: padding with another value than 0.
    line.expect({0, 1, 4, 5, 6, 9, 10}, fixed={2: 1, 3: 1, 8: 0, 18: 0})
    wide, side = line.whole(0, 0, 1, 2**16), line.whole(1, 0, 1, 15)
    padding, bias = line.whole(4, 0, 0, side // 2), line.whole(5, 0, 0, 1)
    count = line.whole(6, 0, 1, 2**30)
    inputs, rest = divmod(count, wide * side * side)
    if rest or not inputs:
        raise IncompatibleCheckpointError(
            f"{line}: {count} weights do not fill {wide} kernels of {side} x {side}."
        )
    # Read before anything of that size is made: the numbers may promise more than the file holds.
    kernels = weights.flagged(count, line).reshape(wide, inputs, side, side)
    offsets = weights.floats(wide, line) if bias else None
    made: nn.Module = _Convolution(kernels, offsets, padding)
    slopes = line.values.get(10, [])
    activation = line.whole(9, 0, 0, 99)
    if activation == 0:
        return made
    if activation == 1:
        return nn.Sequential(made, nn.ReLU())
    if activation == 2 and isinstance(slopes, list) and len(slopes) == 1:
        return nn.Sequential(made, nn.LeakyReLU(slopes[0]))
    raise IncompatibleCheckpointError(
        f"{line}: activation {activation} with {slopes} is not supported."
    )


def _prelu(line: _Line, weights: _Weights) -> nn.Module:
    line.expect({0})
    slopes = weights.floats(line.whole(0, 0, 1, 2**16), line)
    made = nn.PReLU(len(slopes))
    made.weight = nn.Parameter(slopes)
    return made


def _relu(line: _Line, _: _Weights) -> nn.Module:
    line.expect({0})
    return nn.LeakyReLU(line.number(0, 0.0))


def _pixel_shuffle(line: _Line, _: _Weights) -> nn.Module:
    line.expect({0}, fixed={1: 0})  # 1: channels in TensorFlow's order
    return nn.PixelShuffle(line.whole(0, 1, 1, _LARGEST_FACTOR))


def _interpolation(line: _Line, _: _Weights) -> nn.Module:
    line.expect({0, 1, 2}, fixed={3: 0, 4: 0, 5: 0, 6: 0})  # sizes in pixels, aligned corners
    factors = line.number(1, 1.0), line.number(2, 1.0)
    if not all(1 / _LARGEST_FACTOR <= factor <= _LARGEST_FACTOR for factor in factors):
        raise IncompatibleCheckpointError(f"{line}: factors {factors} are out of bounds.")
    mode = {1: "nearest", 2: "bilinear", 3: "bicubic"}[line.whole(0, 0, 1, 3)]
    return nn.Upsample(scale_factor=factors, mode=mode)


def _binary(line: _Line, _: _Weights) -> nn.Module:
    line.expect(set(), fixed={0: 0, 1: 0, 2: 0})  # 0: which operation, 0 adds; 1, 2: a constant
    return _Sum()


def _eltwise(line: _Line, _: _Weights) -> nn.Module:
    line.expect({0, 1})
    line.whole(0, 0, 1, 1)  # the default, 0, multiplies
    coefficients = line.values.get(1, [])
    if not isinstance(coefficients, list) or len(coefficients) not in (0, len(line.inputs)):
        raise IncompatibleCheckpointError(
            f"{line}: {coefficients} are no coefficients of {len(line.inputs)} inputs."
        )
    return _Sum(coefficients)


def _concatenation(line: _Line, _: _Weights) -> nn.Module:
    line.expect(set(), fixed={0: 0})  # the axis: channels
    return _Concatenation()


def _same(line: _Line, _: _Weights) -> nn.Module:
    line.expect(set())
    return nn.Identity()


def _input(line: _Line, _: _Weights) -> nn.Module:
    line.expect({0, 1, 2})  # the size it was exported with
    return nn.Identity()


@dataclass(frozen=True, slots=True)
class _Known:
    """How a layer is built, and of how many inputs (lowest, highest)."""

    build: Callable[[_Line, _Weights], nn.Module]
    inputs: tuple[int, int] = (1, 1)


_KNOWN: Mapping[str, _Known] = {
    "BinaryOp": _Known(_binary, (2, 2)),
    "Concat": _Known(_concatenation, (1, 64)),
    "Convolution": _Known(_convolution),
    "Eltwise": _Known(_eltwise, (2, 64)),
    "Input": _Known(_input, (0, 0)),
    "Interp": _Known(_interpolation),
    "PReLU": _Known(_prelu),
    "PixelShuffle": _Known(_pixel_shuffle),
    "ReLU": _Known(_relu),
    "Split": _Known(_same),
}


class Network(nn.Module):
    """A network of one input and one output, as a ``.param`` and a ``.bin`` file describe it."""

    def __init__(self, param: Path) -> None:
        """Read ``param`` and the ``.bin`` file beside it.

        Raises:
            MissingDataError: If one of the files is not there.
            IncompatibleCheckpointError: If they are broken or ask for what is not known here.
        """
        super().__init__()
        stored = param.with_suffix(".bin")
        for path in (param, stored):
            if not path.is_file():
                raise MissingDataError(f"No {path}: an ncnn network is a .param and a .bin file.")
        weights = _Weights(stored.read_bytes(), stored)
        self._lines = _lines(param)
        self._output = _output(self._lines, param)
        self._layers = nn.ModuleList(_KNOWN[line.type].build(line, weights) for line in self._lines)
        if weights.place != len(weights.data):
            raise IncompatibleCheckpointError(
                f"{stored} has {len(weights.data)} bytes, {param.name} describes {weights.place}."
            )
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, pixels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d y x"]:
        """Run it.

        Raises:
            IncompatibleCheckpointError: If layers do not fit each other, or a side grows 16-fold.
        """
        values: dict[str, Tensor] = {}
        for line, layer in zip(self._lines, self._layers, strict=True):
            # What was taken is released: every value is taken once, and all of them would fill the memory.
            taken = [values.pop(name) for name in line.inputs] or [pixels]
            try:
                made: Tensor = layer(*taken)
            except RuntimeError as error:
                raise IncompatibleCheckpointError(
                    f"{line} does not fit what comes before it: {str(error).splitlines()[0]}"
                ) from error
            if max(made.shape[-2:]) > _LARGEST_FACTOR * max(pixels.shape[-2:]):
                raise IncompatibleCheckpointError(
                    f"{line} enlarges more than {_LARGEST_FACTOR}-fold: {tuple(made.shape)}."
                )
            values.update(dict.fromkeys(line.outputs, made))
        return values[self._output]


def _lines(param: Path) -> list[_Line]:
    try:
        rows = param.read_text("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise IncompatibleCheckpointError(
            f"{param} is no text; ncnn's binary form is not read."
        ) from error
    filled = [row.split() for row in rows if row.strip()]
    if len(filled) < 3 or filled[0] != [_MAGIC]:
        raise IncompatibleCheckpointError(
            f"{param} is no ncnn network: its first line is not {_MAGIC}."
        )
    if filled[1][:1] != [str(len(filled) - 2)]:
        raise IncompatibleCheckpointError(
            f"{param} promises {' '.join(filled[1])[:40]} layers and values and has {len(filled) - 2} layers."
        )
    return [_line(words, param) for words in filled[2:]]


def _line(words: list[str], param: Path) -> _Line:
    """Read: type, name, number of inputs and outputs, their names, parameters as KEY=VALUE."""
    where = f"{param}, layer {' '.join(words[1:2]) or '?'} ({words[0]})"
    if words[0] not in _KNOWN:
        raise IncompatibleCheckpointError(
            f"{where}: layers of this type are not known. Known: {', '.join(_KNOWN)}."
        )
    try:
        takes, gives = int(words[2]), int(words[3])
        names = words[4 : 4 + takes + gives]
        values = dict(_parameter(word) for word in words[4 + takes + gives :])
    except (IndexError, ValueError) as error:
        raise IncompatibleCheckpointError(f"{where}: its line cannot be read.") from error
    lowest, highest = _KNOWN[words[0]].inputs
    single = gives == 1 or (words[0] == "Split" and gives > 1)
    if len(names) != takes + gives or not lowest <= takes <= highest or not single:
        raise IncompatibleCheckpointError(
            f"{where}: {takes} inputs and {gives} outputs do not fit it."
        )
    return _Line(words[0], words[1], tuple(names[:takes]), tuple(names[takes:]), values)


def _parameter(word: str) -> tuple[int, float | list[float]]:
    key, _, text = word.partition("=")
    if int(key) > _LIST_KEY:
        return int(key), float(text)
    count, *values = text.split(",")
    if int(count) != len(values):
        raise ValueError(word)
    return _LIST_KEY - int(key), [float(value) for value in values]


def _output(lines: list[_Line], param: Path) -> str:
    """Follow all values and return the one that is left.

    Raises:
        IncompatibleCheckpointError: If one is missing, made or taken twice, or not one input and output are left.
    """
    waiting: set[str] = set()
    for line in lines:
        for name in line.inputs:
            if name not in waiting:
                raise IncompatibleCheckpointError(
                    f"{param}, {line}: nothing before it makes {name}, or another took it."
                )
            waiting.remove(name)
        if waiting & set(line.outputs) or len(set(line.outputs)) != len(line.outputs):
            raise IncompatibleCheckpointError(
                f"{param}, {line}: makes a value that is there already."
            )
        waiting.update(line.outputs)
    if len(waiting) != 1 or sum(line.type == "Input" for line in lines) != 1:
        raise IncompatibleCheckpointError(
            f"{param} has not one input and one output; outputs: {', '.join(sorted(waiting))[:200]}."
        )
    return waiting.pop()


_PROBE_PX = 8
"""Side of the black square that measures a network's factor."""


class Upscaler:
    """A network that enlarges sRGB pictures (0..1) by a whole factor, such as those of Real-ESRGAN.

    Args:
        param: Its ``.param`` file, the ``.bin`` file beside it.
        device: Where to run.

    Raises:
        MissingDataError: If one of the files is not there.
        IncompatibleCheckpointError: If they are broken, not known here, or do not enlarge pictures.
    """

    def __init__(self, param: Path, device: str = "cpu") -> None:
        self.network, self.device = Network(param).to(device), device
        with torch.inference_mode():
            probe = self.network(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX, device=device))
        self.factor = probe.shape[-1] // _PROBE_PX
        if self.factor < 2 or probe.shape != (1, 3, *2 * [self.factor * _PROBE_PX]):
            raise IncompatibleCheckpointError(
                f"{param} makes {tuple(probe.shape[1:])} (channels, rows, columns) of "
                f"(3, {_PROBE_PX}, {_PROBE_PX}): an upscaler keeps 3 channels and enlarges 2-fold or more."
            )

    def __call__(self, photo: Image) -> Image:
        """Reduce a photo (bicubic, antialiased) and enlarge it again to its own size."""
        height, width = photo.shape[:2]
        # Whole cells, so that reducing and enlarging are exact and nothing is shifted.
        rim = ((0, -height % self.factor), (0, -width % self.factor), (0, 0))
        padded = np.pad(photo, rim, mode="reflect")
        rows, columns = padded.shape[0] // self.factor, padded.shape[1] // self.factor
        small = PIL.Image.fromarray(padded).resize((columns, rows), PIL.Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            large = self.network(pixels.to(self.device))[0].clamp(0, 1)
        array = large.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
        return np.ascontiguousarray(array[:height, :width])
