"""Can the labels of a data set be told from file headers alone, without a look at the pixels?

If they can, a detector trained or tested on it may answer by format, size or compression, and its numbers say little.

The answer is that of small decision trees, exact and deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from gammascope.data.audit import Examined
from gammascope.evaluation.intervals import Value, wilson
from gammascope.imaging.headers import TRAITS
from gammascope.sample import Label

Impurity: TypeAlias = Callable[
    [Float[np.ndarray, " k"], Float[np.ndarray, " k"]], Float[np.ndarray, " k"]
]
"""How mixed k sets are, from the weight of reals and of fakes in each; sums over sets are minimised."""


def errors(real: Float[np.ndarray, " k"], fake: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Weight of the minority: a stump of least errors has the highest balanced accuracy of all stumps."""
    return np.asarray(np.minimum(real, fake))


def gini(real: Float[np.ndarray, " k"], fake: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Gini impurity times the weight: sees progress that the errors of one split do not show yet.

    Source: L. Breiman et al., Classification and Regression Trees (1984), ch. 4.
    """
    return np.asarray(real * fake / (real + fake))


@dataclass(frozen=True, slots=True)
class Leaf:
    """An answer.

    Attributes:
        fake: Whether at least half of the weight that came here is fake.
    """

    fake: bool


@dataclass(frozen=True, slots=True)
class Split:
    """A question.

    Attributes:
        feature: Column that is compared with the threshold.
        threshold: Values up to it, it included, go to ``low``.
        low: What follows there.
        high: What follows for all others.
    """

    feature: int
    threshold: float
    low: Node
    high: Node


Node: TypeAlias = Leaf | Split


def grow(
    values: Float[np.ndarray, "n d"],
    label: Int[np.ndarray, " n"],
    depth: int,
    impurity: Impurity = gini,
) -> Node:
    """Grow a tree greedily; both labels weigh the same, whatever their numbers.

    Every threshold halfway between neighbouring values of every feature is tried; ties go to the first feature and its
    lowest threshold. The weights are whole numbers, so that the order of the rows cannot matter.

    Args:
        values: Features without NaN.
        label: 1 fake, 0 real; both occur.
        depth: Questions on the longest path; 1 is a stump.
        impurity: What each split lessens most.

    Raises:
        ValueError: If a value is NaN or a label does not occur.
    """
    if np.isnan(values).any():
        raise ValueError("Features hold NaN: give what is missing a value of its own.")
    fakes = int((label == Label.FAKE).sum())
    reals = len(label) - fakes
    if not fakes or not reals:
        raise ValueError(f"{reals} real and {fakes} fake: expected both.")
    is_fake = (label == Label.FAKE).astype(np.float64)
    weight = np.stack([(1 - is_fake) * fakes, is_fake * reals], axis=1)
    return _grown(values, weight, depth, impurity)


def answers(node: Node, values: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
    """Say for each row whether the tree calls it fake."""
    if isinstance(node, Leaf):
        return np.full(len(values), node.fake)
    low = values[:, node.feature] <= node.threshold
    called = np.empty(len(values), dtype=np.bool_)
    called[low] = answers(node.low, values[low])
    called[~low] = answers(node.high, values[~low])
    return called


def _grown(
    values: Float[np.ndarray, "n d"],
    weight: Float[np.ndarray, "n 2"],
    depth: int,
    impurity: Impurity,
) -> Node:
    real, fake = weight.sum(axis=0)
    best = _best_split(values, weight, impurity) if depth and real and fake else None
    if best is None:
        return Leaf(fake=bool(fake >= real))
    feature, threshold = best
    low = values[:, feature] <= threshold
    return Split(
        feature,
        threshold,
        _grown(values[low], weight[low], depth - 1, impurity),
        _grown(values[~low], weight[~low], depth - 1, impurity),
    )


def _best_split(
    values: Float[np.ndarray, "n d"], weight: Float[np.ndarray, "n 2"], impurity: Impurity
) -> tuple[int, float] | None:
    """Return feature and threshold that leave the least impurity; None if no feature has two values."""
    best: tuple[float, int, float] | None = None
    for feature, column in enumerate(values.T):
        order = np.argsort(column, kind="stable")
        ranked = column[order]
        borders = np.flatnonzero(ranked[1:] > ranked[:-1])
        if not len(borders):
            continue
        below = np.cumsum(weight[order], axis=0)
        left, right = below[borders], below[-1] - below[borders]
        mixed = impurity(left[:, 0], left[:, 1]) + impurity(right[:, 0], right[:, 1])
        least = int(np.argmin(mixed))
        if best is None or mixed[least] < best[0]:
            under, over = float(ranked[borders[least]]), float(ranked[borders[least] + 1])
            middle = under + (over - under) / 2
            # Between neighbouring floats there is no middle.
            best = float(mixed[least]), feature, middle if middle < over else under
    return None if best is None else best[1:]


FOLDS = 5
TREE_DEPTH = 3

# The correction of a mean over folds for what they share: variance times 1 + FOLDS * (test / training files).
_SHARED = math.sqrt(1 + FOLDS / (FOLDS - 1))

_METADATA = frozenset({"exif", "xmp", "iptc", "icc", "text", "c2pa"})

_NUMBERS: dict[str, Callable[[Examined], float]] = {
    "shorter side, px": lambda file: min(file.width, file.height),
    "longer side, px": lambda file: max(file.width, file.height),
    "width / height": lambda file: file.width / file.height,
    "file size, kB": lambda file: file.file_bytes / 1e3,
    "bits per pixel": lambda file: 8 * file.file_bytes / (file.width * file.height),
    "JPEG quality (0: no JPEG)": lambda file: file.jpeg_quality or 0,
}


@dataclass(frozen=True, slots=True)
class Feature:
    """What one property of the headers is for every file.

    Attributes:
        name: For tables and plots.
        is_flag: Whether it is yes (1) or no (0), and no quantity.
        values: One per file.
    """

    name: str
    is_flag: bool
    values: Float[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Headers:
    """Header properties of the files of a data set.

    Attributes:
        features: Properties.
        label: 1 fake, 0 real.
        split: Name of each file's split.
    """

    features: tuple[Feature, ...]
    label: Int[np.ndarray, " n"]
    split: Shaped[np.ndarray, " n"]

    @property
    def values(self) -> Float[np.ndarray, "n d"]:
        """All properties, a column each."""
        return np.stack([feature.values for feature in self.features], axis=1)

    def of(self, split: str) -> Headers:
        """Return the files of one split, with the same properties."""
        rows = self.split == split
        features = (replace(feature, values=feature.values[rows]) for feature in self.features)
        return Headers(tuple(features), self.label[rows], self.split[rows])


@dataclass(frozen=True, slots=True)
class FeatureBias:
    """How much one property gives away.

    Attributes:
        name: The property.
        is_flag: Whether it is yes or no, and no quantity.
        balanced_accuracy: Of a threshold on it, cross-validated.
        real: Share of real files that have it; of a quantity, the median.
        fake: The same of fakes.
    """

    name: str
    is_flag: bool
    balanced_accuracy: Value
    real: float
    fake: float


@dataclass(frozen=True, slots=True)
class HeaderBias:
    """The answer.

    Attributes:
        stump: Balanced accuracy of the best threshold on one property, cross-validated; chance is 0.5.
        tree: Of a decision tree that asks TREE_DEPTH questions, cross-validated.
        rule: The best threshold on all files, in words; "" if there is none.
        features: Each property for itself, the most telling first.
    """

    stump: Value
    tree: Value
    rule: str
    features: tuple[FeatureBias, ...]

    @property
    def above_chance(self) -> bool:
        """Whether stump or tree tell the labels better than guessing does, beyond their intervals."""
        return self.stump.low > 0.5 or self.tree.low > 0.5

    @property
    def statement(self) -> str:
        """The answer in a sentence."""
        if math.isnan(self.stump.value):
            return f"Whether headers alone tell the labels cannot be measured: {self.stump.reason}."
        numbers = (
            f"balanced accuracy {self.stump} with the best single property, {self.tree} with "
            f"{TREE_DEPTH} questions, chance 0.5, {self.stump.n} files"
        )
        if self.above_chance:
            return f"Headers alone tell real from fake: {numbers}. Best rule: {self.rule}."
        return f"Headers alone do not tell real from fake: {numbers}."


@dataclass(frozen=True, slots=True)
class Carried:
    """How rules about headers that were learned on one split do on another.

    Attributes:
        learned_on: Name of a split.
        asked_on: Name of another.
        stump: Balanced accuracy there of the best threshold here; below 0.5, the shortcut points the other way.
        tree: Of a decision tree that asks TREE_DEPTH questions.
    """

    learned_on: str
    asked_on: str
    stump: Value
    tree: Value

    @property
    def statement(self) -> str:
        """The answer in a sentence."""
        if math.isnan(self.stump.value):
            return f"Rules about headers cannot be carried over: {self.stump.reason}."
        return (
            f"Rules about headers learned on {self.learned_on} reach a balanced accuracy of "
            f"{self.stump} (a single property) and {self.tree} ({TREE_DEPTH} questions) on "
            f"{self.asked_on}, {self.stump.n} files."
        )


def headers_of(files: Sequence[Examined]) -> Headers:
    """Make features of headers; the order of the files does not matter.

    Copies with the same label and split count once.
    """
    distinct = {(int(file.entry.label), file.sha256, file.entry.split): file for file in files}
    rows = [distinct[key] for key in sorted(distinct)]
    numbers = {name: [measure(file) for file in rows] for name, measure in _NUMBERS.items()}
    features = tuple(
        Feature(name, is_flag, np.array(values, dtype=np.float64))
        for is_flag, columns in ((False, numbers), (True, _flags(rows)))
        for name, values in columns.items()
    )
    label = np.array([int(file.entry.label) for file in rows], dtype=np.int64)
    return Headers(features, label, np.array([file.entry.split for file in rows], dtype=np.str_))


def header_bias(headers: Headers) -> HeaderBias:
    """Measure how well the headers tell the labels.

    Each number is of answers for files that were not learned from: FOLDS parts, each answered by what was learned on
    the others. The best property is chosen anew each time, so that choosing does not flatter the number. The intervals
    are over files, not over sources: where whole sources differ, more files like these make them narrower, not truer.
    """
    features = [each for each in headers.features if len(np.unique(each.values)) > 1]
    reason = _too_few(headers) or ("" if features else "all headers are the same")
    if reason:
        nothing = Value.undefined(len(headers.label), reason)
        return HeaderBias(nothing, nothing, "", ())
    label, values = headers.label, np.stack([feature.values for feature in features], axis=1)
    measured = [
        FeatureBias(
            feature.name,
            feature.is_flag,
            _validated(feature.values[:, None], label, _stump),
            *(_typical(feature, label == each) for each in Label),
        )
        for feature in features
    ]
    measured.sort(key=lambda bias: (-bias.balanced_accuracy.value, bias.name))
    return HeaderBias(
        stump=_validated(values, label, _stump),
        tree=_validated(values, label, _tree),
        rule=_rule(_stump(values, label), features),
        features=tuple(measured),
    )


def carried(headers: Headers, learned_on: str, asked_on: str) -> Carried:
    """Learn rules about headers on one split and measure them on another."""
    here, there = headers.of(learned_on), headers.of(asked_on)
    lacking = [
        f"{split} has {few}"
        for split, few in ((learned_on, _too_few(here)), (asked_on, _too_few(there)))
        if few
    ]
    if lacking:
        nothing = Value.undefined(len(there.label), " and ".join(lacking))
        return Carried(learned_on, asked_on, nothing, nothing)
    fake = there.label == Label.FAKE
    stump, tree = (
        _balanced(answers(learn(here.values, here.label), there.values) == fake, there.label)
        for learn in (_stump, _tree)
    )
    return Carried(learned_on, asked_on, stump, tree)


def _too_few(headers: Headers) -> str:
    """Say which label has fewer files than there are folds; "" if none has."""
    numbers = {each: int((headers.label == each).sum()) for each in Label}
    return " and ".join(
        f"{number} {each.name.lower()} files, expected {FOLDS} or more"
        for each, number in numbers.items()
        if number < FOLDS
    )


def _stump(values: Float[np.ndarray, "n d"], label: Int[np.ndarray, " n"]) -> Node:
    return grow(values, label, 1, errors)


def _tree(values: Float[np.ndarray, "n d"], label: Int[np.ndarray, " n"]) -> Node:
    return grow(values, label, TREE_DEPTH, gini)


def _flags(rows: Sequence[Examined]) -> dict[str, list[bool]]:
    flags = {
        "square": [file.width == file.height for file in rows],
        "both sides multiples of 64": [file.width % 64 == file.height % 64 == 0 for file in rows],
        "any metadata": [bool(file.traits & _METADATA) for file in rows],
    }
    for known in sorted({file.format for file in rows}):
        flags[f"format {known}"] = [file.format == known for file in rows]
    for chroma in sorted({file.subsampling for file in rows if file.subsampling}):
        flags[f"chroma {chroma}"] = [file.subsampling == chroma for file in rows]
    for trait, name in TRAITS.items():
        flags[name] = [trait in file.traits for file in rows]
    return flags


def _validated(
    values: Float[np.ndarray, "n d"],
    label: Int[np.ndarray, " n"],
    learn: Callable[[Float[np.ndarray, "m d"], Int[np.ndarray, " m"]], Node],
) -> Value:
    """Return the balanced accuracy of answers for files that were not learned from."""
    fold = np.empty(len(label), dtype=np.int64)
    for each in Label:
        members = label == each
        fold[members] = np.arange(members.sum()) % FOLDS
    called = np.empty(len(label), dtype=np.bool_)
    for part in range(FOLDS):
        apart = fold == part
        called[apart] = answers(learn(values[~apart], label[~apart]), values[apart])
    return _balanced(called == (label == Label.FAKE), label, _SHARED)


def _balanced(
    right: Bool[np.ndarray, " n"], label: Int[np.ndarray, " n"], wider: float = 1.0
) -> Value:
    """Return the mean accuracy of both labels with its 95 % interval.

    Two Wilson intervals are combined, for the bootstrap would claim certainty where all answers are right. After a
    cross-validation they are made ``wider``, since the folds learn from nearly the same files and err together: where
    headers tell nothing, the plain interval excluded chance in 9 to 16 of 100 simulated data sets, the wider in 3 to 5.

    Source: G. Zou, A. Donner, Statistics in Medicine 27 (2008) 1693-1702, for the combination; C. Nadeau, Y. Bengio,
        Machine Learning 52 (2003) 239-281, for the widening.
    """
    shares = [wilson(int(right[label == each].sum()), int((label == each).sum())) for each in Label]
    value = sum(share.value for share in shares) / 2
    below = math.hypot(*(share.value - share.low for share in shares)) / 2
    above = math.hypot(*(share.high - share.value for share in shares)) / 2
    low, high = value - wider * below, value + wider * above
    return Value(value, max(low, 0.0), min(high, 1.0), len(label))


def _typical(feature: Feature, members: Bool[np.ndarray, " n"]) -> float:
    values = feature.values[members]
    return float(values.mean() if feature.is_flag else np.median(values))


def _rule(stump: Node, features: Sequence[Feature]) -> str:
    if isinstance(stump, Leaf) or not isinstance(stump.high, Leaf):
        return ""
    feature, above_is_fake = features[stump.feature], stump.high.fake
    if feature.is_flag:
        return f"{'fake' if above_is_fake else 'real'} if {feature.name}"
    side = "above" if above_is_fake else "up to"
    return f"fake if {feature.name} is {side} {stump.threshold:.4g}"
