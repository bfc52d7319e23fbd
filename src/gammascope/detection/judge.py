"""A vision-language model that judges what a picture shows: the semantic branch of AlignGemini (arXiv:2512.06746).

Any image-and-text model of ``transformers`` serves. It answers one question, and the answer is how much likelier it
finds the sentence for "fake" than the one for "real": no sampling, no parsing, a score for every picture. It may also
answer in its own words (``Judge.verdict``); an answer without a verdict is undecided. Adapters on its language half are
tuned by preferences (DPO) or by the right answers alone (SFT), on pictures whose low-level traces were scrambled away,
so that only content is left to judge by.

Known from third parties' accounts of the paper: DPO with beta 0.05, LoRA of rank 16 and alpha 32, learning rate 1e-6,
one epoch, forced verdict sentences, degraded pictures. The words, the scrambling's numbers and the score are ours.
"""

from __future__ import annotations

import hashlib
import json
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gammascope import checkpoints, losses, settings
from gammascope.checkpoints import Calibration
from gammascope.detection.scores import Scores
from gammascope.errors import (
    IncompatibleCheckpointError,
    InterruptedScanError,
    MissingDataError,
    MissingExtraError,
    RecipeError,
    UndecodableImageError,
    said_by,
)
from gammascope.files import complete_or_absent, refuse_no_model, why_no_model
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.imaging.views import ViewSpec
from gammascope.networks.adapters import add_lora
from gammascope.sample import Entry, Image, Label

SETTINGS, ADAPTER = "judge.json", "adapter.safetensors"

STATE = "state.pt"
"""Name of the file that an interrupted tuning goes on from."""

REASONS = "reasons.jsonl"
"""Name of the file with what a larger model wrote about the pictures that a judge is tuned on."""

_UPDATES_BETWEEN_STATES = 10

QUESTION = (
    "Judge only whether what this picture shows is plausible: shape and number of things, anatomy and hands, writing, "
    "physics, light, shadows and reflections, and whether the scene holds together. Ignore noise, blur, compression "
    "and resolution. Begin with exactly one of these sentences and then say why: "
)


Verdict: TypeAlias = Literal["real", "fake", "undecided"]
"""What an answer in a model's own words comes to."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a judge is tuned.

    Attributes:
        objective: "sft" learns the chosen answers alone. It is ours, for comparison; the paper's is "dpo".
        beta: Of DPO: how far the adapters may lead away from the model.
        learning_rate: Of AdamW.
        epochs: Passes over the pairs.
        accumulate: Pairs per update.
        seed: Of the order; every epoch draws another.
    """

    objective: Literal["dpo", "sft"] = "dpo"
    beta: float = 0.05
    learning_rate: float = 1e-6
    epochs: int = 1
    accumulate: int = 8
    seed: int = 0


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """All that turns a model into a judge.

    Attributes:
        base: Hub id of the model with its processor, or the whole path of its folder.
        question: Asked before the two verdicts, which follow it.
        verdicts: The sentences for real and for fake.
        per_token: Compare mean instead of summed log-probabilities, where the sentences differ in length.
        rank: Of the adapters.
        alpha: Their scale.
        targets: Linear layers of the language half that get one.
        calibration: As in checkpoints.
        tuning: How it was tuned last; None: never.
        sources: Of the pictures that it was tuned on.
    """

    base: str
    question: str = QUESTION
    verdicts: tuple[str, str] = ("This picture is real.", "This picture is fake.")
    per_token: bool = True
    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    calibration: dict[str, Calibration] = field(default_factory=dict)
    tuning: Tuning | None = None
    sources: tuple[str, ...] = ()

    @classmethod
    def at(cls, place: str | Path) -> JudgeSettings:
        """Read those of a saved judge; a model that was never tuned, by hub id or folder, has the usual ones.

        Raises:
            MissingDataError: If the folder of the judge's model is gone.
            RecipeError: If the file has an unknown key or an impossible value.
        """
        folder, file = Path(place).absolute(), Path(place, SETTINGS)
        if not file.is_file():
            return cls(str(folder if folder.is_dir() else place))
        how = settings.parse(cls, json.loads(file.read_text("utf-8")), f"judge {folder.name}")
        if not (how.base.startswith(".") or Path(how.base).is_absolute()):
            return how
        base = folder / how.base
        if not base.is_dir():
            raise MissingDataError(
                f"The judge {place} was tuned on the model in {base}, which is gone: bring it back, or write its new "
                f'whole path as "base" into {file}.'
            )
        return replace(how, base=str(base))

    def plain(self, folder: Path) -> dict[str, Any]:
        """Return plain types for a judge's folder, which may be moved: a model inside of it moves along."""
        base, home = Path(self.base).absolute(), folder.absolute()
        where = self.base
        if base.is_dir():
            inside = base.is_relative_to(home)
            where = f"./{base.relative_to(home).as_posix()}" if inside else str(base)
        values: dict[str, Any] = settings.plain(replace(self, base=where))
        return values

    @property
    def facts(self) -> checkpoints.Facts:
        """What a judge says about itself, as a checkpoint does: its tuning is its recipe."""
        unnamed = "unnamed sources" if self.tuning else f"not tuned; {Path(self.base).name}"
        return checkpoints.Facts(
            method="judge",
            config={},
            view=ViewSpec(1, "resize"),
            calibration=self.calibration,
            recipe=settings.plain(self.tuning) if self.tuning else {},
            trained_on=", ".join(self.sources) or unnamed,
            seen=self.sources,
        )


@dataclass(frozen=True, slots=True)
class Preference:
    """A picture with an answer that is better than another."""

    image: Image
    chosen: str
    rejected: str


class Judge:
    """A model, its processor, and adapters on the attention of its language half; everything else is frozen."""

    def __init__(self, model: Any, processor: Any, how: JudgeSettings) -> None:
        self.model, self.processor, self.how = model.eval(), processor, how
        layers = model.get_decoder().layers
        blocks = next(name for name, part in model.named_modules() if part is layers)
        model.requires_grad_(False)
        add_lora(model, blocks=blocks, targets=how.targets, rank=how.rank, alpha=how.alpha)
        for parameter in self._trained().values():
            # In a model of half precision, they would be of half precision, too, and small steps would round to none.
            parameter.data = parameter.data.float()

    @property
    def facts(self) -> checkpoints.Facts:
        """What it says about itself."""
        return self.how.facts

    @classmethod
    def load(
        cls, place: str | Path, *, how: JudgeSettings | None = None, device: str = "cpu"
    ) -> Judge:
        """Load a judge from the folder that ``save`` wrote, or a model that was never tuned, by hub id or folder.

        Args:
            place: The folder, or the model.
            how: Settings in place of its own.
            device: Where it runs, as torch names it.

        Raises:
            MissingDataError: If there is no such model.
            IncompatibleCheckpointError: If settings or adapter do not fit.
            MissingExtraError: If ``transformers``, or a package that the model's processor wants, is not installed.
        """
        try:
            from transformers import AutoModelForImageTextToText, AutoProcessor
        except ImportError as error:
            raise MissingExtraError.of("A judge", "transformers", "backbones") from error
        how = how or JudgeSettings.at(place)
        refuse_no_model("model", how.base)
        try:
            model = AutoModelForImageTextToText.from_pretrained(how.base, use_safetensors=True)
            processor = AutoProcessor.from_pretrained(how.base)
        except (OSError, ValueError, KeyError) as error:
            raise MissingDataError(
                f"No model with its processor at {how.base!r}: {why_no_model(how.base, error)}"
            ) from error
        except (
            ImportError
        ) as error:  # processors of Qwen's models also take videos, with torchvision
            why = said_by(error).partition(". ")[0]
            raise MissingExtraError(
                f"The model {how.base} needs a package that is not installed: {why}. Get it with pip install."
            ) from error
        judge = cls(model.to(device), processor, how)
        adapter = Path(place, ADAPTER)
        if adapter.is_file():
            judge._fill(_tensors(adapter), adapter)
        return judge

    def save(self, folder: Path) -> None:
        """Write settings and adapter; the model itself stays where it is."""
        from safetensors.torch import save

        folder.mkdir(parents=True, exist_ok=True)
        with complete_or_absent(folder / ADAPTER) as unfinished:
            unfinished.write_bytes(save({k: v.contiguous() for k, v in self._adapter().items()}))
        with complete_or_absent(folder / SETTINGS) as unfinished:
            unfinished.write_text(json.dumps(self.how.plain(folder), indent=1) + "\n", "utf-8")

    @property
    def weights_sha256(self) -> str:
        """Of the adapter and what it was asked; the model is named, not hashed, wherever its folder lies."""
        base = Path(self.how.base)
        how = replace(self.how, base=base.name) if base.is_absolute() else self.how
        digest = hashlib.sha256(json.dumps(settings.plain(how), sort_keys=True).encode())
        for name, tensor in sorted(self._adapter().items()):
            digest.update(name.encode() + tensor.float().numpy().tobytes())
        return digest.hexdigest()

    def scores_of(
        self,
        images: Sequence[UInt8[np.ndarray, "_h _w 3"]],
        stop: threading.Event | None = None,
    ) -> list[Scores]:
        """Answer "generated" for several pictures, as a detector does; there are no maps.

        Raises:
            InterruptedScanError: If ``stop`` was set before the last one.
        """
        logits = []
        with torch.inference_mode():
            for image in images:
                if stop is not None and stop.is_set():
                    raise InterruptedScanError("Stopped before the image was examined.")
                logits.append(float(self.logit(image)))
        return [Scores(value, {"generated": value}, {}, 1) for value in logits]

    def logit(self, image: Image) -> Float[Tensor, ""]:
        """Return by how much the sentence for fake is likelier than the one for real."""
        real, fake = (self.log_probability(image, text) for text in self.how.verdicts)
        return fake - real

    def log_probability(self, image: Image, answer: str) -> Float[Tensor, ""]:
        """Return the log-probability of an answer's tokens (their mean, with ``per_token``) after the question."""
        inputs, count = self._inputs(image, answer)
        logits = self.model(**inputs, use_cache=False).logits[0, -count - 1 : -1].float()
        chosen = logits.log_softmax(-1).gather(1, inputs["input_ids"][0, -count:, None])
        total: Tensor = chosen.mean() if self.how.per_token else chosen.sum()
        return total

    def explain(self, image: Image, longest: int = 128, *, begun: str = "") -> str:
        """Let the model answer in its own words, the likeliest token at a time; return what follows ``begun``."""
        inputs, _ = self._inputs(image, begun)
        with torch.inference_mode():
            made = self.model.generate(**inputs, max_new_tokens=longest, do_sample=False)
        words = made[0, inputs["input_ids"].shape[1] :]
        said: str = self.processor.tokenizer.decode(words, skip_special_tokens=True)
        return said

    def verdict(self, image: Image, longest: int = 128) -> tuple[Verdict, str]:
        """Let the model answer in its own words, and read its verdict off them.

        Returns:
            The verdict, and the words. "undecided" where they do not begin with exactly one of the two sentences; it
            counts as no sign of a fake.
        """
        words = self.explain(image, longest)
        return self.read(words), words

    def read(self, words: str) -> Verdict:
        """Say which of the two sentences an answer begins with, whatever its spaces and capitals."""
        said = _plain(words)
        begun = [said.startswith(_plain(sentence)) for sentence in self.how.verdicts]
        if sum(begun) != 1:
            return "undecided"
        return "fake" if begun[1] else "real"

    @contextmanager
    def untuned(self) -> Iterator[None]:
        """Answer as the model without adapters does, within the block."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        layers = [part for part in self.model.modules() if isinstance(part, BaseTunerLayer)]
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)
            # Switching adapters off also freezes them.
            for parameter in self._trained().values():
                parameter.requires_grad_()

    def loss(self, pair: Preference, how: Tuning) -> Float[Tensor, ""]:
        """Return what tuning lowers."""
        if how.objective == "dpo":
            return self.preference_loss(pair, how.beta)
        return -self.log_probability(pair.image, pair.chosen)

    def preference_loss(self, pair: Preference, beta: float) -> Float[Tensor, ""]:
        """Return the DPO loss of one pair against the model without adapters."""
        with self.untuned(), torch.no_grad():
            start = [self._summed(pair.image, text) for text in (pair.chosen, pair.rejected)]
        now = [self._summed(pair.image, text) for text in (pair.chosen, pair.rejected)]
        return losses.preference(torch.stack(now), torch.stack(start), beta=beta)

    def _summed(self, image: Image, answer: str) -> Float[Tensor, ""]:
        found = self.log_probability(image, answer)
        return found * self._tokens(answer).shape[1] if self.how.per_token else found

    def _tokens(self, answer: str) -> Tensor:
        if not answer:
            return torch.zeros(1, 0, dtype=torch.long)
        found = self.processor.tokenizer(answer, add_special_tokens=False, return_tensors="pt")
        tokens: Tensor = found["input_ids"]
        return tokens

    def _inputs(self, image: Image, answer: str) -> tuple[dict[str, Tensor], int]:
        """Return all that the processor makes, whatever its names, with the answer's tokens at the end."""
        first, second = sorted(self.how.verdicts)  # their order says nothing about which is which
        asked = f"{self.how.question}'{first}' or '{second}'"
        content = [{"type": "image"}, {"type": "text", "text": asked}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        picture = PIL.Image.fromarray(image)
        inputs = dict(self.processor(text=[text], images=[picture], return_tensors="pt"))
        tokens, shape = self._tokens(answer), inputs["input_ids"].shape
        for name, tensor in inputs.items():
            if tensor.shape == shape:  # one value for each token: the mask, say
                more = torch.full_like(tokens, 1 if name == "attention_mask" else 0)
                more = tokens if name == "input_ids" else more.to(tensor.dtype)
                inputs[name] = torch.cat([tensor, more], 1)
        device = next(self.model.parameters()).device
        return {name: tensor.to(device) for name, tensor in inputs.items()}, tokens.shape[1]

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return {name: value for name, value in self.model.named_parameters() if ".lora_" in name}

    def _adapter(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu() for name, value in self._trained().items()}

    def _fill(self, found: Mapping[str, Tensor], path: Path) -> None:
        own = self._trained()
        fits = found.keys() == own.keys() and all(found[n].shape == own[n].shape for n in own)
        if not fits:
            raise IncompatibleCheckpointError(
                f"{path} is the adapter of another model than {self.how.base}, or its rank is not {self.how.rank}."
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(found[name])


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        found: dict[str, Tensor] = load(path.read_bytes())
    except SafetensorError as error:
        raise IncompatibleCheckpointError(f"{path} is not a safetensors file: {error}.") from error
    return found


def _plain(words: str) -> str:
    return "".join(words.casefold().split())


class Pairs:
    """Pairs of photos and generated pictures, each made when it is taken, so that no picture waits in memory.

    All pictures are decoded once beforehand: tuning takes hours, and a broken one must not end it.

    Args:
        entries: With a label each; what was manipulated is left out: its content is a photo's.
        how: Holds the verdicts.
        report: Told how many pictures of how many were decoded.

    Attributes:
        entries: What there are pairs of.
        broken: A line about each picture that was left out because it cannot be read.
        reasons: What is said after the verdicts real and fake, by the picture's whole path; nothing by default.

    Raises:
        MissingDataError: If a class is missing.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        how: JudgeSettings,
        report: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        self.how = how
        self.entries: list[Entry] = []
        self.broken: list[str] = []
        self.reasons: Mapping[str, tuple[str, str]] = {}
        whole = [entry for entry in entries if entry.kind is None and entry.host_path is None]
        for done, entry in enumerate(whole, start=1):
            try:
                decode(entry.path)
            except (MissingDataError, UndecodableImageError) as error:
                self.broken.append(f"{entry.path}: {error}")
            else:
                self.entries.append(entry)
            report(done, len(whole))
        if {entry.label for entry in self.entries} != {Label.REAL, Label.FAKE}:
            unreadable = f" ({len(self.broken)} more cannot be read)" if self.broken else ""
            raise MissingDataError(
                f"{len(self.entries)} whole pictures{unreadable}: a judge is tuned on photos and on generated pictures."
            )

    @property
    def sources(self) -> set[str]:
        """Where the pictures come from, as far as that is known."""
        return {entry.source for entry in self.entries if entry.source}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.entries)

    def __getitem__(self, index: int) -> Preference:
        """Decode and scramble a picture, and make its pair."""
        entry = self.entries[index]
        image = scrambled(decode(entry.path).image, entry.path.name)
        reasons = self.reasons.get(str(entry.path.absolute()), ("", ""))
        return preference(image, entry.label, self.how, reasons)


def preference(
    image: Image, label: Label, how: JudgeSettings, reasons: tuple[str, str] = ("", "")
) -> Preference:
    """Make a pair from a known label: the right verdict is better than the wrong one.

    Args:
        image: Scrambled, so that traces of pixels cannot be learnt.
        label: Chooses the verdict.
        how: Holds the verdicts.
        reasons: Said after the verdicts real and fake; a larger model, forced to begin with each, writes them.
    """
    answers = [
        f"{verdict} {reason}".strip() for verdict, reason in zip(how.verdicts, reasons, strict=True)
    ]
    return Preference(image, answers[label], answers[1 - label])


def scrambled(image: Image, name: str) -> Image:
    """Take low-level traces away: smaller and back, noise, a strong JPEG; the same for the same name.

    Source: operations as in a third party's account of arXiv:2512.06746; numbers are ours.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    height, width = image.shape[:2]
    share = rng.uniform(0.25, 0.5)
    small = (max(1, round(width * share)), max(1, round(height * share)))
    shrunk = PIL.Image.fromarray(image).resize(small, PIL.Image.Resampling.LANCZOS)
    pixels = np.asarray(shrunk.resize((width, height), PIL.Image.Resampling.BICUBIC))
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(2, 10), pixels.shape)
        pixels = np.clip(pixels + noise, 0, 255).round().astype(np.uint8)
    return codecs.reencode(pixels, codecs.Encoding("jpeg", int(rng.integers(30, 71))))


def write_reasons(
    writer: Judge, pairs: Pairs, place: Path, report: Callable[[int, int], None] = lambda *_: None
) -> dict[str, tuple[str, str]]:
    """Let a larger model go on after each of the two verdicts, as if it had given it, about every picture.

    Args:
        writer: With the question and the verdicts of the judge to tune.
        pairs: What to write about, scrambled as for tuning.
        place: Gets a line of JSON for each picture; what it has is not written again.
        report: Told how many pictures of how many are done.

    Returns:
        Reasons for real and for fake, by the picture's whole path.
    """
    found: dict[str, tuple[str, str]] = {}
    for line in place.read_text("utf-8").splitlines() if place.is_file() else ():
        with suppress(ValueError):  # the last line of an interrupted run may be half a line
            row = json.loads(line)
            found[row["path"]] = (row["real"], row["fake"])
    with place.open("a", encoding="utf-8") as file:
        for number, entry in enumerate(pairs.entries):
            name = str(entry.path.absolute())
            if name not in found:
                image = pairs[number].image
                real, fake = (writer.explain(image, begun=v).strip() for v in pairs.how.verdicts)
                found[name] = (real, fake)
                print(json.dumps({"path": name, "real": real, "fake": fake}), file=file, flush=True)
            report(number + 1, len(pairs))
    return found


def tune(
    judge: Judge,
    pairs: Sequence[Preference] | Pairs,
    how: Tuning,
    *,
    sources: Iterable[str] = (),
    state: Path | None = None,
    report: Callable[[int, int], None] = lambda *_: None,
) -> list[float]:
    """Train a judge's adapters on pairs, one at a time.

    Args:
        judge: Changed in place; its settings then say how it was tuned, and on what.
        pairs: In any order.
        how: Objective, order and steps.
        sources: Of the pictures.
        state: File to leave after some updates, and to go on from if it is there; the outcome is the same. None: none.
        report: Told how many pairs of how many are done.

    Returns:
        The mean loss of each update.

    Raises:
        MissingDataError: If there is no pair.
        RecipeError: If the state is that of other pairs.
    """
    if len(pairs) == 0:
        raise MissingDataError("No pair to tune a judge on.")
    trained = list(judge._trained().values())
    optimiser = torch.optim.AdamW(trained, how.learning_rate, weight_decay=0.0)
    told: list[float] = []
    if state is not None and state.is_file():
        told = _go_on(state, judge, optimiser, len(pairs))
    batches = _batches(len(pairs), how)
    done = sum(map(len, batches[: len(told)]))
    for batch in batches[len(told) :]:
        optimiser.zero_grad()
        total = 0.0
        for number in batch:
            value = judge.loss(pairs[number], how) / len(batch)
            value.backward()  # type: ignore[no-untyped-call]
            total += float(value.detach())
            done += 1
            report(done, how.epochs * len(pairs))
        optimiser.step()
        told.append(total)
        last = len(told) == len(batches)
        if state is not None and (last or len(told) % _UPDATES_BETWEEN_STATES == 0):
            kept = {"adapter": judge._adapter(), "optimiser": optimiser.state_dict()}
            with complete_or_absent(state) as unfinished:
                torch.save(kept | {"losses": told, "pairs": len(pairs)}, unfinished)
    seen = tuple(sorted({*judge.how.sources, *sources}))
    judge.how = replace(judge.how, tuning=how, sources=seen)
    return told


def _batches(count: int, how: Tuning) -> list[list[int]]:
    """Return the numbers of the pairs of each update."""
    rng = np.random.default_rng(how.seed)
    orders = [rng.permutation(count).tolist() for _ in range(how.epochs)]
    return [
        order[start : start + how.accumulate]
        for order in orders
        for start in range(0, count, how.accumulate)
    ]


def _go_on(state: Path, judge: Judge, optimiser: torch.optim.Optimizer, pairs: int) -> list[float]:
    """Bring judge and optimiser to where a tuning was interrupted, and return the losses up to there."""
    kept = torch.load(state, map_location="cpu", weights_only=True)
    if kept["pairs"] != pairs:
        raise RecipeError(
            f"{state} is of a tuning on {kept['pairs']} pictures, not on {pairs}: bring back those that are missing, "
            "or choose another folder."
        )
    judge._fill(kept["adapter"], state)
    optimiser.load_state_dict(kept["optimiser"])
    losses: list[float] = kept["losses"]
    return losses
