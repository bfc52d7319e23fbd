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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

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
    said_by,
)
from gammascope.files import complete_or_absent
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.imaging.views import ViewSpec
from gammascope.networks.adapters import add_lora
from gammascope.sample import Entry, Image, Label

SETTINGS, ADAPTER = "judge.json", "adapter.safetensors"

QUESTION = (
    "Judge only whether what this picture shows is plausible: shape and number of things, anatomy and hands, writing, "
    "physics, light, shadows and reflections, and whether the scene holds together. Ignore noise, blur, compression "
    "and resolution. Begin with exactly one of these sentences and then say why: "
)


Verdict: TypeAlias = Literal["real", "fake", "undecided"]
"""What an answer in a model's own words comes to."""


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """All that turns a model into a judge.

    Attributes:
        base: Hub id or local folder of the model with its processor.
        question: Asked before the two verdicts, which follow it.
        verdicts: The sentences for real and for fake.
        per_token: Compare mean instead of summed log-probabilities, where the sentences differ in length.
        rank: Of the adapters.
        alpha: Their scale.
        targets: Linear layers of the language half that get one.
        calibration: As in checkpoints.
        sources: Collections that it was tuned on; "" = not tuned.
    """

    base: str
    question: str = QUESTION
    verdicts: tuple[str, str] = ("This picture is real.", "This picture is fake.")
    per_token: bool = True
    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    calibration: dict[str, Calibration] = field(default_factory=dict)
    sources: str = ""


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
        self.facts = checkpoints.Facts(
            method="judge",
            config={},
            view=ViewSpec(1, "resize"),
            calibration=how.calibration,
            trained_on=how.sources or f"not tuned; {Path(how.base).name}",
        )

    @classmethod
    def load(cls, place: str | Path, *, device: str = "cpu") -> Judge:
        """Load a judge from the folder that ``save`` wrote, or a model that was never tuned, by hub id or folder.

        Raises:
            MissingDataError: If there is no such model.
            IncompatibleCheckpointError: If settings or adapter do not fit.
            MissingExtraError: If ``transformers`` is not installed.
        """
        try:
            from transformers import AutoModelForImageTextToText, AutoProcessor
        except ImportError as error:
            raise MissingExtraError.of("A judge", "transformers", "backbones") from error
        folder = Path(place)
        how = JudgeSettings(str(place))
        if (folder / SETTINGS).is_file():
            values = json.loads((folder / SETTINGS).read_text("utf-8"))
            how = settings.parse(JudgeSettings, values, f"judge {folder.name}")
        try:
            model = AutoModelForImageTextToText.from_pretrained(how.base, use_safetensors=True)
            processor = AutoProcessor.from_pretrained(how.base)
        except (OSError, ValueError, KeyError) as error:
            raise MissingDataError(
                f"No model with its processor at {how.base!r}: {said_by(error)}"
            ) from error
        judge = cls(model.to(device), processor, how)
        if (folder / ADAPTER).is_file():
            judge._fill(folder / ADAPTER)
        return judge

    def save(self, folder: Path) -> None:
        """Write settings and adapter; the model itself stays where it is."""
        from safetensors.torch import save

        folder.mkdir(parents=True, exist_ok=True)
        with complete_or_absent(folder / ADAPTER) as unfinished:
            unfinished.write_bytes(save({k: v.contiguous() for k, v in self._adapter().items()}))
        with complete_or_absent(folder / SETTINGS) as unfinished:
            unfinished.write_text(json.dumps(settings.plain(self.how), indent=1) + "\n", "utf-8")

    @property
    def weights_sha256(self) -> str:
        """Of the adapter and what it was asked; the model is named, not hashed."""
        digest = hashlib.sha256(json.dumps(settings.plain(self.how), sort_keys=True).encode())
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

    def explain(self, image: Image, longest: int = 128) -> str:
        """Let the model answer in its own words, the likeliest token at a time."""
        inputs, _ = self._inputs(image, "")
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
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(".lora_" in name)

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

    def _adapter(self) -> dict[str, Tensor]:
        named = self.model.named_parameters()
        return {name: value.detach().cpu() for name, value in named if ".lora_" in name}

    def _fill(self, path: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            found = load(path.read_bytes())
        except SafetensorError as error:
            raise IncompatibleCheckpointError(
                f"{path} is not a safetensors file: {error}."
            ) from error
        own = {name: value for name, value in self.model.named_parameters() if ".lora_" in name}
        fits = found.keys() == own.keys() and all(found[n].shape == own[n].shape for n in own)
        if not fits:
            raise IncompatibleCheckpointError(
                f"{path} is the adapter of another model than {self.how.base}."
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(found[name])


def _plain(words: str) -> str:
    return "".join(words.casefold().split())


class Pairs(Sequence[Preference]):
    """Pairs of photos and generated pictures, each made when it is taken, so that no picture waits in memory.

    Args:
        entries: With a label each; what was manipulated is left out: its content is a photo's.
        how: Holds the verdicts.

    Raises:
        MissingDataError: If a class is missing.
    """

    def __init__(self, entries: Sequence[Entry], how: JudgeSettings) -> None:
        self.entries = [
            entry for entry in entries if entry.kind is None and entry.host_path is None
        ]
        self.how = how
        if {entry.label for entry in self.entries} != {Label.REAL, Label.FAKE}:
            raise MissingDataError(
                f"{len(self.entries)} whole pictures: a judge is tuned on photos and on generated pictures."
            )

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Preference: ...
    @overload
    def __getitem__(self, index: slice) -> list[Preference]: ...
    def __getitem__(self, index: int | slice) -> Preference | list[Preference]:
        """Decode and scramble a picture, and make its pair."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        entry = self.entries[int(index)]
        image = scrambled(decode(entry.path).image, entry.path.name)
        return preference(image, entry.label, self.how)


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


def tune(  # noqa: PLR0913 - each is a setting
    judge: Judge,
    pairs: Sequence[Preference],
    *,
    objective: Literal["dpo", "sft"] = "dpo",
    beta: float = 0.05,
    learning_rate: float = 1e-6,
    epochs: int = 1,
    accumulate: int = 8,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda *_: None,
) -> list[float]:
    """Train a judge's adapters on pairs, one at a time.

    Args:
        judge: Changed in place.
        pairs: In any order; every epoch draws another.
        objective: "sft" learns the chosen answers alone. It is ours, for comparison; the paper's is "dpo".
        beta: Of DPO: how far the adapters may lead away from the model.
        learning_rate: Of AdamW.
        epochs: Passes over the pairs.
        accumulate: Pairs per update.
        seed: Of the order.
        report: Told how many pairs of how many are done.

    Returns:
        The mean loss of each update.

    Raises:
        MissingDataError: If there is no pair.
    """
    if not pairs:
        raise MissingDataError("No pair to tune a judge on.")
    trained = [p for p in judge.model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, learning_rate, weight_decay=0.0)
    rng, told, done = np.random.default_rng(seed), [], 0
    for _ in range(epochs):
        order = rng.permutation(len(pairs)).tolist()
        for start in range(0, len(order), accumulate):
            chosen = [pairs[number] for number in order[start : start + accumulate]]
            optimiser.zero_grad()
            total = 0.0
            for pair in chosen:
                value = (
                    judge.preference_loss(pair, beta)
                    if objective == "dpo"
                    else -judge.log_probability(pair.image, pair.chosen)
                ) / len(chosen)
                value.backward()  # type: ignore[no-untyped-call]
                total += float(value.detach())
                done += 1
                report(done, epochs * len(pairs))
            optimiser.step()
            told.append(total)
    return told
