"""The training loop, on accelerate: one CPU or many machines, and a resumed run equals an uninterrupted one."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import gammascope
from gammascope import checkpoints, machine, settings
from gammascope.data.batches import Draws
from gammascope.detectors import base
from gammascope.errors import MissingExtraError, RecipeError
from gammascope.networks.backbones import TransformerBackbone
from gammascope.networks.pretrained import refuse_untaught
from gammascope.training import dividing
from gammascope.training.recipe import (
    Optimisation,
    Recipe,
    plain_recipe,
    recipe_of,
    without_places,
)
from gammascope.training.run_folder import RECIPE, Progress, claim
from gammascope.training.validation import summarise
from gammascope.training.views import (
    Views,
    loader_of,
    pretext,
    sources_of,
    streams,
    views_of_photos,
    views_of_wholes,
)

STATE = "state"
LOG = "log.jsonl"
CHECKPOINT = "checkpoint.safetensors"


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    stop_after: int | None = None,
    report: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Follow a recipe and write ``checkpoint.safetensors`` into a folder.

    Args:
        recipe: What to do.
        folder: Gets the recipe, TensorBoard curves, ``log.jsonl``, the state to resume from, and the checkpoint.
        resume: Go on from the folder's state; the outcome is the one of an uninterrupted run.
        stop_after: Stop, resumably, after this many steps of this call; None goes to the end.
        report: Told about progress.

    Returns:
        The checkpoint's path; not calibrated yet.

    Raises:
        MissingDataError: If there is nothing to train on, or nothing to resume.
        MissingExtraError: If accelerate is not installed.
        RecipeError: If the method needs no training, a frozen backbone has random weights, or the folder holds another
            recipe's run.
    """
    machine.keep_freed_memory()
    definition = base.get(recipe.method)
    if definition.loss is None:
        raise RecipeError(f"Method {recipe.method!r} needs no training.")
    accelerator = _accelerator(recipe, folder)
    if accelerator.is_main_process:
        _restore(folder)
        claim(
            folder,
            settings.plain(plain_recipe(recipe)),
            STATE,
            resume=resume,
            known=lambda values: plain_recipe(recipe_of(values, str(folder / RECIPE))),
        )
    accelerator.wait_for_everyone()
    torch.manual_seed(recipe.seed)
    detector = _built(definition, recipe, resume=resume)
    loss = definition.loss(recipe.config)
    training, validation = streams(recipe, detector, report)
    views = views_of_photos(training, recipe, detector.view, accelerator.device)
    shown = pretext(definition, recipe, training, detector) or training
    if definition.prepare is not None and not resume:  # the state to resume from holds the outcome
        definition.prepare(detector.to(accelerator.device), views)
    weights = _weights(definition, recipe, accelerator.num_processes)
    run = _Run(recipe, folder, accelerator, detector, shown, weights)
    run.begin(resume=resume)
    last = recipe.optimisation.steps
    if stop_after is not None:
        last = min(last, run.step + stop_after)
    for batch in run.batches(last):
        values = run.update(batch, loss)
        report(Progress("training", run.step, recipe.optimisation.steps, values))
        if run.due(recipe.rhythm.validate, last):
            run.log("validation", validate(run.detector, validation, recipe, report))
        if run.due(recipe.rhythm.save, last):
            run.save()
    result = run.whole()
    wholes = views_of_wholes(training, recipe, detector.view, accelerator.device)
    if accelerator.is_main_process and _afterwards(definition, result, views, wholes):
        run.log("concluded", validate(result, validation, recipe, report))
    return run.finish(result, sources_of(training.entries))


def _built(definition: base.Method[Any], recipe: Recipe, *, resume: bool) -> base.Detector:
    """Make the network to train."""
    detector = definition.build(recipe.config)
    if not resume:  # the state to resume from holds the weights
        refuse_untaught(recipe.config, detector)
    if recipe.optimisation.channels_last and not recipe.optimisation.divided:  # FSDP wants rows
        detector = cast(Any, detector).to(memory_format=torch.channels_last)
    keep_states(detector, recipe)
    return detector


def keep_states(detector: base.Detector, recipe: Recipe) -> None:
    """Let a detector's tower keep what its frozen blocks say, where the recipe wants that.

    Raises:
        RecipeError: If it has no tower, or these blocks are trained.
    """
    if recipe.keeping is None:
        return
    backbone = getattr(detector, "backbone", None)
    if not isinstance(backbone, TransformerBackbone):
        raise RecipeError(
            f"Method {recipe.method!r} sees with no tower here: leave out the section keeping."
        )
    backbone.keep(Path(recipe.keeping.folder), recipe.keeping.blocks)


def _afterwards(
    definition: base.Method[Any], result: base.Detector, photos: base.Views, wholes: base.Views
) -> bool:
    """Let a method fit and measure on the trained network what it wants to; return whether it did."""
    if definition.read is not None:
        definition.read(result, wholes)
    if definition.conclude is not None:
        definition.conclude(result, photos)
    return definition.conclude is not None


def validate(
    detector: base.Detector,
    stream: Views | None,
    recipe: Recipe,
    report: Callable[[Progress], None],
) -> dict[str, float]:
    """Score a detector on the first views of the validation stream; empty without one."""
    if stream is None:
        return {}
    count, size = recipe.rhythm.validation_views, recipe.optimisation.batch
    loader = loader_of(stream, 0, count, size, detector.view, recipe.data.workers)
    was_training = detector.training
    detector.eval()
    pairs = []
    with torch.inference_mode():
        for index, batch in enumerate(loader):
            device = next(detector.parameters()).device
            pairs.append((detector(batch.to(device).pixels), batch))
            report(Progress("validating", min(count, (index + 1) * size), count, {}))
    detector.train(was_training)
    return summarise(pairs)


class _Run:
    """The mutable side of a training run: network, optimiser, averages, step, files."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        accelerator: Any,
        detector: base.Detector,
        stream: Draws,
        weights: base.TermWeights | None,
    ) -> None:
        self.recipe, self.folder, self.accelerator, self.stream = (
            recipe,
            folder,
            accelerator,
            stream,
        )
        self.view = detector.view
        average = _moving_average(recipe.optimisation.ema)
        self.averaged = AveragedModel(detector, multi_avg_fn=average, use_buffers=True)
        self.result = copy.deepcopy(detector) if recipe.optimisation.divided else None
        self.network, self.optimiser, kept = self._placed(detector)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, _schedule(recipe.optimisation)
        )
        self.step = 0
        kept = [self.schedule, _Counter(self), *kept]
        self.weights = weights
        if self.weights is not None:
            kept.append(self.weights)
        accelerator.register_for_checkpointing(*kept)

    def _placed(self, detector: base.Detector) -> tuple[nn.Module, Any, list[Any]]:
        """Move network and averages to the device, whole or in parts; return network, optimiser, and state to keep."""
        accelerator, how = self.accelerator, self.recipe.optimisation
        if how.divided:
            for network in (detector, self.averaged.module):
                dividing.divide(network, accelerator.device, accelerator.num_processes)
            self.averaged.n_averaged = self.averaged.n_averaged.to(accelerator.device)
            optimiser = _optimiser(detector, how)
            moments = dividing.WholeMoments(detector, optimiser)
            networks = (self.averaged, detector)
            return detector, optimiser, [*map(dividing.WholeWeights, networks), moments]
        network, optimiser = accelerator.prepare(detector, _optimiser(detector, how))
        self.averaged.to(accelerator.device)
        return network, optimiser, [_Averages(self.averaged)]

    @property
    def detector(self) -> base.Detector:
        """The averaged network, which is the one that is kept."""
        return cast(base.Detector, self.averaged.module)

    def whole(self) -> base.Detector:
        """Return the averaged network in one piece; complete on the main process only, but all must call this."""
        if self.result is None:
            return self.detector
        weights = dividing.whole_weights(self.detector)
        if self.accelerator.is_main_process:
            self.result.load_state_dict(weights)
        return self.result.to(self.accelerator.device).eval()

    def begin(self, *, resume: bool) -> None:
        """Start anew, or load the state left behind."""
        if resume:
            self.accelerator.load_state(str(self.folder / STATE))
        self.accelerator.init_trackers("curves")

    def batches(self, last: int) -> Iterator[Any]:
        """Yield the batches from the present step on, this process's share of each."""
        size = self.recipe.optimisation.batch
        loader = loader_of(
            self.stream, self.step * size, last * size, size, self.view, self.recipe.data.workers
        )
        yield from self.accelerator.prepare(loader)

    def update(self, batch: Any, loss: base.Loss) -> dict[str, float]:
        """Take one step; return the loss terms."""
        self.network.train()
        if self.weights is not None:
            batch = self.weigh(self.weights, batch, loss)
        pixels = batch.pixels
        if self.recipe.optimisation.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            prediction = self.network(pixels)
        terms = loss(prediction, batch)
        if self.weights is not None:
            terms = {name: self.weights.of(name).to(term) * term for name, term in terms.items()}
        total = torch.stack(list(terms.values())).sum()
        self.accelerator.backward(total)
        self.accelerator.clip_grad_norm_(
            self.network.parameters(), self.recipe.optimisation.clip_norm
        )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        self.averaged.update_parameters(self.accelerator.unwrap_model(self.network))
        self.step += 1
        # The mean over processes: each has seen its share of the batch only.
        shares = self.accelerator.reduce(
            {name: term.detach() for name, term in (terms | {"loss": total}).items()}, "mean"
        )
        values = {name: float(share) for name, share in shares.items()}
        if not math.isfinite(values["loss"]):
            raise RecipeError(
                f"The loss is {values['loss']} at step {self.step}: lower the learning rate."
            )
        if self.step % self.recipe.rhythm.log == 0:
            self.log("training", values | {"learning_rate": float(self.schedule.get_last_lr()[0])})
        return values

    def weigh(self, weights: base.TermWeights, batch: Any, loss: base.Loss) -> Any:
        """Let the weights of the terms move by a batch; return the part of it that the step is for."""
        # Differences of losses drown in half precision, so this is outside of ``autocast``.
        group = self.optimiser.param_groups[0]
        left = weights.update(
            self.network,
            lambda some: loss(self.network(some.pixels), some),
            batch,
            step=group["lr"],
            decay=group["weight_decay"],
        )
        if (self.step + 1) % self.recipe.rhythm.log == 0:
            self.log("weights", {name: float(weights.of(name)) for name in weights.names})
        return left

    def due(self, every: int, last: int) -> bool:
        """Whether something that happens every so many steps happens now; the last step always counts."""
        return self.step % every == 0 or self.step == last

    def log(self, stage: str, values: dict[str, float]) -> None:
        """Write figures to TensorBoard and to the log file."""
        if not values or not self.accelerator.is_main_process:
            return
        self.accelerator.log(
            {f"{stage}/{name}": value for name, value in values.items()}, step=self.step
        )
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.step, "stage": stage} | values) + "\n")

    def save(self) -> None:
        """Write the state so that a crash at any moment leaves a complete one."""
        part, whole, old = (self.folder / name for name in (f"{STATE}.part", STATE, f"{STATE}.old"))
        self.accelerator.save_state(str(part))
        if self.accelerator.is_main_process:
            if whole.exists():
                shutil.rmtree(old, ignore_errors=True)
                whole.rename(old)
            part.rename(whole)
            shutil.rmtree(old, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def finish(self, result: base.Detector, seen: Sequence[str]) -> Path:
        """Write the averaged weights as a checkpoint, with the sources that they were trained on."""
        if self.accelerator.is_main_process:
            write_checkpoint(self.folder / CHECKPOINT, result, self.recipe, seen)
        self.accelerator.end_training()
        return self.folder / CHECKPOINT


def write_checkpoint(
    path: Path, detector: base.Detector, recipe: Recipe, seen: Sequence[str] = ()
) -> None:
    """Write a trained detector, with the recipe it was trained by; no path of this machine goes with them.

    Args:
        path: The file.
        detector: The network.
        recipe: What it was trained by.
        seen: Sources that it was trained on.
    """
    recipe = without_places(replace(recipe, config=detector.config))
    facts = checkpoints.Facts(
        method=recipe.method,
        config=settings.plain(recipe.config),
        view=detector.view,
        recipe=plain_recipe(recipe),
        trained_on=recipe.trained_on,
        seen=tuple(seen),
        version=gammascope.__version__,
    )
    checkpoints.save(path, detector, facts)


class _Counter:
    """The step, as accelerate wants state: an object with a state dict."""

    def __init__(self, run: _Run) -> None:
        self.run = run

    def state_dict(self) -> dict[str, int]:
        return {"step": self.run.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.run.step = state["step"]


class _Averages:
    """The averaged weights, as plain tensors."""

    def __init__(self, averaged: AveragedModel) -> None:
        self.averaged = averaged

    def state_dict(self) -> dict[str, Tensor]:
        return self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.averaged.load_state_dict(state)


def _weights(
    definition: base.Method[Any], recipe: Recipe, processes: int
) -> base.TermWeights | None:
    weights = definition.weigh(recipe.config) if definition.weigh is not None else None
    if weights is not None and processes > 1:
        raise RecipeError(
            f"Learnt weights of loss terms need a single process, not {processes}: switch them off in section method."
        )
    return weights


def _optimiser(detector: base.Detector, how: Optimisation) -> torch.optim.AdamW:
    return torch.optim.AdamW(_groups(detector, how), lr=how.learning_rate)


def _groups(detector: base.Detector, how: Optimisation) -> list[dict[str, Any]]:
    """Give the tower a rate of its own, and spare from weight decay what the detector says."""

    def rate(name: str) -> float:
        return how.learning_rate * (how.tower_rate if name.startswith("backbone.") else 1.0)

    trained = [(name, p) for name, p in detector.named_parameters() if p.requires_grad]
    rates = sorted({rate(name) for name, _ in trained}, reverse=True)
    return [
        {
            "params": [p for n, p in trained if rate(n) == of and detector.decays(n, p) == decays],
            "lr": of,
            "weight_decay": how.weight_decay if decays else 0.0,
        }
        for of in rates
        for decays in (True, False)
    ]


def _schedule(optimisation: Optimisation) -> Callable[[int], float]:
    """Return the factor on the learning rate by step: linear warm-up, then a cosine."""
    warmup = max(1, round(optimisation.warmup_share * optimisation.steps))
    floor = optimisation.final_learning_rate / optimisation.learning_rate
    down = optimisation.cosine_steps or max(1, optimisation.steps - warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        share = (step - warmup) / down
        share = share if optimisation.cosine_steps else min(1.0, share)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))

    return factor


def _moving_average(limit: float) -> Callable[[Any, Any, Any], None]:
    """Return an exponential moving average that forgets its start: the decay rises to ``limit`` with the updates."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor) -> None:
        decay = min(limit, (1.0 + float(count)) / (10.0 + float(count)))
        with torch.no_grad():
            for mean, value in zip(averaged, current, strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value.to(mean), 1.0 - decay)
                else:
                    mean.copy_(value)  # counters of batch norm

    return update


def _restore(folder: Path) -> None:
    """Bring the older state back where a run was killed between the two renames of ``save``."""
    state, old = folder / STATE, folder / f"{STATE}.old"
    if old.is_dir() and not state.exists():
        old.rename(state)


def _accelerator(recipe: Recipe, folder: Path) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs
    except ImportError as error:
        raise MissingExtraError.of("Training", "accelerate", "train") from error
    # One process may train several recipes; accelerate would hold on to the precision of the first.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=recipe.optimisation.precision,
        log_with="tensorboard",
        project_dir=str(folder),
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        # Several processes would wait for gradients of weights that a method, or a batch without masks, does not use.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    refuse_divided_weights(str(accelerator.distributed_type.value))
    return accelerator


def refuse_divided_weights(kind: str) -> None:
    """Refuse to train where accelerate or what it calls divides the weights.

    The averaged weights, which validation uses and the checkpoint keeps, are not its business; ``dividing`` divides
    them with the network.

    Args:
        kind: As accelerate calls how processes share the work.

    Raises:
        RecipeError: If it divides weights.
    """
    if kind in {"FSDP", "DEEPSPEED", "MEGATRON_LM", "TP"}:
        raise RecipeError(
            f"Training under accelerate's {kind} is not supported: it would leave the averaged weights whole. Launch "
            "with --multi_gpu, and set optimisation.divided = true to divide all weights among the processes (FSDP)."
        )
