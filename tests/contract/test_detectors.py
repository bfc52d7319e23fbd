"""What every detection method promises, checked over all of them; and golden numbers."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

from gammascope import checkpoints, settings
from gammascope.detection.pipeline import Pipeline
from gammascope.detectors import base
from gammascope.errors import IncompatibleCheckpointError, MissingExtraError, RecipeError
from gammascope.prediction import Batch, Prediction

GOLDEN = Path(__file__).parents[1] / "golden" / "detectors.json"

CLIP_LARGE = json.dumps(
    {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "patch_size": 14,
        "image_size": 224,
    }
)
"""Stands for the file that a hub would send: the shape of the tower without its weights."""

ABOUT_TRUTH = {"label_bce", "outlier_bce", "contrastive", "pairs", "intra", "was_edited_bce"}
"""Terms that ask for the label, or for an answer about the whole view."""

every_method = pytest.mark.parametrize("name", base.names())


def method_of(name: str) -> base.Method[Any]:
    try:
        return base.get(name)
    except MissingExtraError as error:
        pytest.skip(str(error))


def in_this_package(method: base.Method[Any]) -> bool:
    return type(method.config).__module__.startswith("gammascope.")


def tiny(name: str, *, awake: bool = False) -> base.Detector:
    """Build the tiny detector with fixed random weights.

    Awake: parameters that start at zero (gates) get values, so that everything behind them takes part.
    """
    torch.manual_seed(0)
    detector = method_of(name).build(method_of(name).tiny)
    if awake:
        for parameter in detector.parameters():
            if parameter.requires_grad and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.3)
    return detector


def views(detector: base.Detector, count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, detector.view.size, detector.view.size, generator=generator)


def batch_of(detector: base.Detector, count: int = 4) -> Batch:
    size = detector.view.size
    generated, edited = torch.zeros(2, count, size, size)
    generated[1] = 1  # As a whole.
    generated[2, : size // 2, : size // 2] = 1
    edited[2:, : size // 2, : size // 2] = 1
    answers = {
        "generated": generated.flatten(1).amax(1).long(),
        "edited": edited.flatten(1).amax(1).long(),
    }
    masks = {"generated": generated, "edited": edited}
    return Batch(
        pixels=views(detector, count),
        label=torch.tensor([0, 1, 1, 1])[:count],
        answers=answers,
        masks=masks,
        weight={mask: torch.ones(count) for mask in masks},
    )


def facts_of(name: str, detector: base.Detector) -> checkpoints.Facts:
    return checkpoints.Facts(name, settings.plain(detector.config), detector.view)


def numbers_of(prediction: Prediction) -> dict[str, torch.Tensor]:
    """Everything that a prediction holds, by a name of its own."""
    parts = {"logit": prediction.logit}
    for kind in ("answers", "masks", "evidence", "features"):
        parts |= {f"{kind}/{key}": value for key, value in getattr(prediction, kind).items()}
    return parts


def test_some_method_is_listed():
    assert "gamma" in base.names()
    assert "base" not in base.names()


def test_titles_are_unique():
    titles = [method_of(name).title for name in base.names()]
    assert len(set(titles)) == len(titles)


def test_training_knows_no_method_by_name():
    """What only one method does is a hook in its own file."""
    own = {name for name in base.names() if in_this_package(method_of(name))}
    for path in sorted((Path(base.__file__).parents[1] / "training").glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "gammascope.detectors"
            for alias in node.names
        }
        modules = {
            str(node.module).removeprefix("gammascope.detectors.")
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
        }
        said = {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not own & (imported | modules | said), path.name


@every_method
def test_metadata_says_where_it_comes_from(name):
    method = method_of(name)
    assert re.match(r"arXiv:\d{4}\.\d{4,5}|10\.\d{4,}/", method.paper)
    for weights in method.weights.values():
        assert re.fullmatch(r"[0-9a-f]{64}", weights.sha256)
        assert weights.url.startswith("https://")
        assert weights.licence
        assert weights.trained_on
        assert weights.score


@every_method
def test_the_tiny_config_is_tiny(name):
    assert sum(p.numel() for p in tiny(name).parameters()) < 1_000_000


@every_method
def test_the_full_config_builds_without_memory(name):
    config = method_of(name).config
    if getattr(config, "architecture", None) == "":
        config = dataclasses.replace(config, architecture=CLIP_LARGE)
    with torch.device("meta"):
        detector = method_of(name).build(config)
    assert all(p.is_meta for p in detector.parameters())
    assert any(p.requires_grad for p in detector.parameters())


@every_method
def test_shapes_and_finiteness(name):
    detector = tiny(name, awake=True).eval()
    side = detector.view.size
    prediction = detector(views(detector))
    assert prediction.logit.shape == (4,)
    for part, values in numbers_of(prediction).items():
        assert values.dtype == torch.float32, part
        assert torch.isfinite(values).all(), part
        assert values.shape[0] == 4, part
    for values in prediction.masks.values():
        # Cells are square, so that the map covers the view and nothing else.
        assert values.shape[1] == values.shape[2] <= side
    for values in prediction.answers.values():
        assert values.shape == (4,)


@every_method
def test_a_mask_covers_its_whole_view(name):
    """A change in one corner is felt most in that corner of the map: not flipped, not transposed."""
    detector = tiny(name, awake=True).eval()
    if not detector(views(detector, 1)).masks:
        pytest.skip("no masks")
    side = detector.view.size
    for top, left in ((0, 0), (0, 1), (1, 0), (1, 1)):
        calm = torch.zeros(1, 3, side, side)
        stirred = calm.clone()
        quarter = side // 4
        rows = slice(0, quarter) if top == 0 else slice(side - quarter, side)
        columns = slice(0, quarter) if left == 0 else slice(side - quarter, side)
        stirred[:, :, rows, columns] = views(detector, 1)[:, :, :quarter, :quarter]
        for mask, before in detector(calm).masks.items():
            change = (detector(stirred).masks[mask] - before)[0].abs()
            half = change.shape[0] // 2
            quadrants = change[: 2 * half, : 2 * half].reshape(2, half, 2, half).mean((1, 3))
            assert quadrants.argmax() == 2 * top + left, (mask, quadrants)


@every_method
def test_the_answer_for_one_view_does_not_depend_on_its_neighbours(name):
    detector = tiny(name, awake=True).eval()
    pixels = views(detector)
    together = numbers_of(detector(pixels))
    turned = numbers_of(detector(pixels.flip(0)))
    loud = torch.cat([pixels[:1], 100 * pixels[1:]])
    beside_loud = numbers_of(detector(loud))
    alone = numbers_of(detector(pixels[:1]))
    for part, values in together.items():
        torch.testing.assert_close(turned[part].flip(0), values, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone[part], values[:1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(beside_loud[part][:1], values[:1], rtol=1e-4, atol=1e-5)


@every_method
def test_eval_is_deterministic_and_writes_no_state(name):
    detector = tiny(name, awake=True).eval()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    with torch.inference_mode():
        first = numbers_of(detector(views(detector)))
        torch.rand(7)  # Another state of the global generator.
        second = numbers_of(detector(views(detector)))
    assert all(torch.equal(first[part], second[part]) for part in first)
    after = detector.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@every_method
def test_every_trainable_parameter_learns(name):
    method = method_of(name)
    if method.loss is None:
        pytest.skip("needs no training")
    detector = tiny(name, awake=True).train()
    batch = batch_of(detector)
    terms = method.loss(method.tiny)(detector(batch.pixels), batch)
    assert terms
    for term, value in terms.items():
        assert value.shape == (), term
        assert math.isfinite(float(value.detach())), term
    torch.stack(list(terms.values())).sum().backward()
    idle = [
        key
        for key, parameter in detector.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert idle == []


@every_method
def test_a_method_can_ask_for_an_overview_beside_its_tiles(name):
    """The largest centred square, reduced: shown last, weighed, and obeyed by whoever looks."""
    method = method_of(name)
    if "overview" not in method.tiny.__dataclass_fields__ and not in_this_package(method):
        pytest.skip("its config has no overview")
    config = dataclasses.replace(method.tiny, fit="tiles", overview=0.25)
    detector = method.build(config).eval()
    assert detector.view.overview == 0.25
    side = detector.view.size
    image = np.random.default_rng(0).integers(0, 256, (2 * side, 3 * side, 3), dtype=np.uint8)
    scores = Pipeline(detector, facts_of(name, detector), "").scores(image)
    assert scores.overview
    assert scores.views == 2 * 3 + 1
    with pytest.raises(RecipeError, match=r"overview=0\.25 beside fit='resize'"):
        method.build(dataclasses.replace(config, fit="resize"))


@pytest.mark.parametrize("adapt", ["lora", "full"])
@every_method
def test_what_adapts_a_tower_can_be_held_to_its_last_blocks(name, adapt):
    method = method_of(name)
    if "trained_blocks" not in method.tiny.__dataclass_fields__:
        pytest.skip("adapts no tower")
    changes = {"backbone": "random", "architecture": small_tower(), "trained_blocks": 1}
    fields = {"adapt": adapt, "taps": (3,)}
    changes |= {key: v for key, v in fields.items() if key in method.tiny.__dataclass_fields__}
    if name == "gapl":  # its first stage trains no tower
        changes["stage"] = "prototypes"
    detector = method.build(dataclasses.replace(method.tiny, **changes))
    tower = detector.backbone.tower
    trained = {name for name, p in tower.named_parameters() if p.requires_grad}
    assert any(name.startswith("encoder.layers.2.") for name in trained)
    assert not any(name.startswith(("encoder.layers.0.", "encoder.layers.1.")) for name in trained)
    detector.backbone.keep(Path("states"), 2)  # refuses what is trained
    with pytest.raises(RecipeError, match="4"):
        method.build(dataclasses.replace(method.tiny, **changes | {"trained_blocks": 4}))


def small_tower() -> str:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    small |= {"num_attention_heads": 2, "patch_size": 8, "image_size": 32}
    return json.dumps({"model_type": "clip_vision_model"} | small)


@every_method
def test_class_tokens_of_several_blocks_can_be_read_where_the_method_allows(name):
    """Off by default, as the papers are; ours, and refused in words where a space takes the final token alone."""
    method = method_of(name)
    if "reads" not in method.tiny.__dataclass_fields__:
        pytest.skip("has no exchangeable backbone")
    assert method.config.reads == method.tiny.reads == ()
    refused = r"takes the final token alone|reads every block already"
    with pytest.raises(RecipeError, match=rf"names blocks of a tower|{refused}"):
        method.build(dataclasses.replace(method.tiny, backbone="compact", reads=(1, 2)))
    config = dataclasses.replace(method.tiny, backbone="random", architecture=small_tower())
    if "taps" in config.__dataclass_fields__:
        config = dataclasses.replace(config, taps=(1, 3))
    config = dataclasses.replace(config, reads=(1, 3))
    if name in {"mirage", "rine"}:
        with pytest.raises(RecipeError, match=refused):
            method.build(config)
        return
    torch.manual_seed(0)
    detector = method.build(config).train()
    assert detector.backbone.token_channels == 2 * 32
    batch = batch_of(detector)
    prediction = detector(batch.pixels)
    assert torch.isfinite(prediction.logit).all()
    assert method.loss is not None
    torch.stack(list(method.loss(config)(prediction, batch).values())).sum().backward()
    never = [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert never == [], "several processes would wait for their gradients for ever"


@every_method
def test_without_masks_and_answers_the_label_is_learnt_and_nothing_about_them(name):
    method = method_of(name)
    if method.loss is None:
        pytest.skip("needs no training")
    detector = tiny(name).train()
    batch = batch_of(detector)
    bare = Batch(batch.pixels, batch.label)
    terms = method.loss(method.tiny)(detector(bare.pixels), bare)
    assert "label_bce" in terms
    assert not any(mask in term for term in terms for mask in batch.masks)


@every_method
def test_untrustworthy_masks_teach_nothing(name):
    method = method_of(name)
    if method.loss is None:
        pytest.skip("needs no training")
    detector = tiny(name).eval()
    batch = batch_of(detector)
    lies = {key: 1 - mask for key, mask in batch.masks.items()}
    nothing = {key: torch.zeros(4) for key in batch.masks}
    loss, prediction = method.loss(method.tiny), detector(batch.pixels)
    told = loss(prediction, dataclasses.replace(batch, weight=nothing))
    lied = loss(prediction, dataclasses.replace(batch, weight=nothing, masks=lies))
    assert told.keys() == lied.keys()
    assert all(torch.equal(told[key], lied[key]) for key in told)


@every_method
def test_views_whose_truth_is_not_known_teach_no_label(name):
    """They stand in the batch with the answer -1: an edit that nobody located, say."""
    method = method_of(name)
    if method.loss is None:
        pytest.skip("needs no training")
    detector = tiny(name).eval()
    batch = batch_of(detector)
    nothing = {key: torch.zeros(4) for key in batch.masks}
    unknown = dict.fromkeys(batch.answers, torch.full((4,), -1))
    blind = dataclasses.replace(batch, label=torch.full((4,), -1), answers=unknown, weight=nothing)
    with torch.inference_mode():
        terms = method.loss(method.tiny)(detector(batch.pixels), blind)
    assert all(math.isfinite(float(value)) for value in terms.values())
    assert not any(float(value) for term, value in terms.items() if term in ABOUT_TRUTH)


@every_method
@pytest.mark.parametrize("moment", ["prepare", "conclude"])
def test_what_is_measured_on_photos_lies_in_buffers_and_is_the_same_every_time(name, moment):
    measure = getattr(method_of(name), moment)
    if measure is None:
        pytest.skip("measures nothing then")
    generator = torch.Generator().manual_seed(2)
    side = tiny(name).view.size
    photos = torch.randn(64, 3, side, side, generator=generator)

    def few(count: int, /, *, disturbed: bool = True) -> Iterator[Batch]:
        pixels = photos[torch.arange(count) % len(photos)]
        yield from (Batch(part, torch.zeros(len(part)).long()) for part in pixels.split(8))

    states = []
    for _ in range(2):
        detector = tiny(name).train()
        before = {key: value.clone() for key, value in detector.state_dict().items()}
        measure(detector, few)
        assert detector.training, "left as it was found"
        states.append(detector.state_dict())
        changed = {key for key, value in states[-1].items() if not torch.equal(value, before[key])}
        assert changed <= dict(detector.named_buffers()).keys()
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())
    assert torch.isfinite(detector.eval()(views(detector)).logit).all()


@every_method
def test_a_checkpoint_gives_the_same_detector_back(name, tmp_path):
    detector = tiny(name, awake=True).eval()
    path = tmp_path / "checkpoint.safetensors"
    digest = checkpoints.save(path, detector, facts_of(name, detector))
    loaded = checkpoints.load(path, method=name, sha256=digest)
    assert loaded.detector.view == detector.view
    assert loaded.detector.config == detector.config
    assert not loaded.detector.training
    expected, found = detector.state_dict(), loaded.detector.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    with (
        torch.inference_mode()
    ):  # where gradients are wanted, torch may choose kernels that round otherwise
        before = numbers_of(detector(views(detector)))
        after = numbers_of(loaded.detector(views(detector)))
    assert all(torch.equal(before[part], after[part]) for part in before)


@every_method
def test_a_checkpoint_of_another_method_is_refused(name, tmp_path):
    detector = tiny(name)
    path = tmp_path / "checkpoint.safetensors"
    checkpoints.save(path, detector, facts_of(name, detector))
    with pytest.raises(IncompatibleCheckpointError, match=f"of '{name}', not of 'another'"):
        checkpoints.load(path, method="another")


@every_method
def test_wrong_rank_and_type_are_refused(name):
    detector = tiny(name).eval()
    side = detector.view.size
    wrong = [
        torch.zeros(3, side, side),
        torch.zeros(1, 1, side, side),
        torch.zeros(1, 3, side, side, dtype=torch.uint8),
    ]
    for pixels in wrong:
        with pytest.raises(jaxtyping.TypeCheckError):
            detector(pixels)


@every_method
@pytest.mark.parametrize("size", ["1x1", "3x2000", "2000x3", "-1", "0", "+1"])
def test_images_of_any_size_get_an_answer(name, size):
    detector = tiny(name, awake=True).eval()
    side = detector.view.size
    width, _, height = size.partition("x") if "x" in size else (side + int(size), "", side)
    shape = (int(height), int(width), 3)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    report = Pipeline(detector, facts_of(name, detector), "").report(image)
    assert 0 <= report.probability <= 1
    assert report.size == (int(width), int(height))
    for evidence in report.evidence:
        assert evidence.map is None or evidence.map.shape == shape[:2]


def fingerprint(name: str) -> list[float]:
    """The logits of four views, and the means of all further numbers."""
    with torch.inference_mode():
        detector = tiny(name, awake=True).eval()
        numbers = numbers_of(detector(views(detector)))
    rest = [float(numbers[part].mean()) for part in sorted(numbers.keys() - {"logit"})]
    return [round(value, 5) for value in [*numbers["logit"].tolist(), *rest]]


@every_method
def test_golden(name):
    """A changed result makes published weights worthless: change the file knowingly.

    GAMMASCOPE_UPDATE_GOLDEN=1 rewrites the entry.
    """
    if type(base.get(name).config).__module__.partition(".")[0] != "gammascope":
        pytest.skip("numbers are kept of this package's own methods")
    now = fingerprint(name)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("GAMMASCOPE_UPDATE_GOLDEN") == "1":
        golden[name] = now
        lines = (f"  {json.dumps(k)}: {json.dumps(golden[k])}" for k in sorted(golden))
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    assert now == pytest.approx(golden[name], rel=1e-3, abs=1e-4)  # float32


def test_the_golden_file_has_no_stale_entries():
    assert set(json.loads(GOLDEN.read_text())) == set(base.names())
