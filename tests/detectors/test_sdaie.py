"""SDAIE: the size of the paper's network, which patch decides, what is learnt from settings, and both detectors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gammascope import checkpoints, settings
from gammascope.detectors import sdaie
from gammascope.detectors.sdaie import CLASSES, RANKED, TINY, Config, build, class_of
from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.prediction import Batch
from gammascope.training.loop import CHECKPOINT, train
from gammascope.training.recipe import Data, Optimisation, Pretext, Recipe, Rhythm

ONE_CLASS = replace(TINY, stage="one_class", extractor="")


def views(count: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, TINY.size, TINY.size, generator=generator)


def tags(count: int = 4) -> dict[str, torch.Tensor]:
    ramp = torch.arange(count, dtype=torch.float32)
    return dict.fromkeys(RANKED, ramp) | {
        tag: ramp % k + (tag == "MeteringMode") for tag, k in CLASSES.items()
    }


def test_the_extractor_has_the_size_of_the_papers():
    with torch.device("meta"):
        extractor = sdaie.Extractor(Config())
    assert sum(p.numel() for p in extractor.parameters()) == 2_148_448
    assert sum(b.numel() for b in extractor.buffers()) == 750


@pytest.mark.parametrize("count", [1, 3])
def test_stages_have_the_shapes_of_the_specification(count):
    with torch.inference_mode():
        feature, stages = sdaie.Extractor(Config())(torch.zeros(2, count, 3, 64, 64))
    assert feature.shape == (2, 528)
    shapes = [(32, 32, 32), (32, 16, 16), (32, 8, 8), (32, 8, 8), (528,)]
    assert [tuple(stage.shape) for stage in stages] == [(2, count, *shape) for shape in shapes]


def test_the_first_patch_decides_and_the_order_of_the_others_does_not():
    torch.manual_seed(0)
    extractor = sdaie.Extractor(TINY).eval()
    tiles = torch.randn(1, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    feature, _ = extractor(tiles)
    torch.testing.assert_close(extractor(tiles[:, [0, 3, 1, 2]])[0], feature)
    assert not torch.allclose(extractor(tiles[:, [1, 0, 2, 3]])[0], feature, atol=1e-3)
    mean = sdaie.Extractor(replace(TINY, summary="mean")).eval()
    mean.load_state_dict(extractor.state_dict())
    torch.testing.assert_close(mean(tiles[:, [1, 0, 2, 3]])[0], mean(tiles)[0])


def test_patches_are_drawn_in_training_and_the_grid_is_seen_at_test():
    detector = build(TINY)
    pixels = views(2)
    grid = detector.eval().tiles(pixels)
    assert grid.shape == (2, 9, 3, 16, 16)
    assert torch.equal(grid[0, 5], pixels[0, :, 16:32, 32:])
    torch.manual_seed(0)
    drawn = detector.train().tiles(pixels)
    assert drawn.shape == (2, 3, 3, 16, 16)
    windows = pixels[1].unfold(1, 16, 1).unfold(2, 16, 1)
    assert (windows == drawn[1, 0][:, None, None]).all((0, 3, 4)).any()
    assert not torch.equal(drawn, detector.tiles(pixels))


@pytest.mark.parametrize("config", [TINY, ONE_CLASS])
def test_black_views_have_an_answer(config):
    detector = build(config).eval()
    assert torch.isfinite(detector(torch.zeros(2, 3, TINY.size, TINY.size)).logit).all()


def test_every_setting_is_a_task_and_all_of_them_train_the_network():
    torch.manual_seed(0)
    detector = build(ONE_CLASS).train()
    batch = Batch(views(), torch.zeros(4).long(), tags=tags())
    terms = sdaie.loss(ONE_CLASS)(detector(batch.pixels), batch)
    assert len(terms) == 14
    torch.stack(list(terms.values())).sum().backward()
    idle = {n for n, p in detector.named_parameters() if p.grad is None or not p.grad.any()}
    # A ranking is blind to what is added to all scores.
    assert idle <= {f"settings.{tag}.bias" for tag in RANKED}


def test_unknown_settings_teach_nothing():
    detector = build(ONE_CLASS).eval()
    known = tags()
    unknown = known | {"FNumber": torch.full((4,), math.nan), "Make": torch.full((4,), math.nan)}
    prediction = detector(views())
    terms = sdaie.loss(ONE_CLASS)(prediction, Batch(views(), torch.zeros(4).long(), tags=unknown))
    assert float(terms["FNumber_rank"].detach()) == float(terms["Make_ce"].detach()) == 0
    del unknown["Make"]
    fewer = sdaie.loss(ONE_CLASS)(prediction, Batch(views(), torch.zeros(4).long(), tags=unknown))
    assert "Make_ce" not in fewer


def test_without_any_settings_there_is_nothing_to_learn():
    batch = Batch(views(), torch.zeros(4).long())
    with pytest.raises(RecipeError, match="No camera settings"):
        sdaie.loss(ONE_CLASS)(build(ONE_CLASS)(batch.pixels), batch)


@pytest.mark.parametrize(
    ("tag", "value", "expected"),
    [
        ("Make", [0, 6, 9], [0, 6, 6]),
        ("Model", [0, 5, 40], [0, 5, 5]),
        ("Flash", [24, 16, 9, 0, 31], [3, 2, 1, 0, 3]),
        ("MeteringMode", [1, 6, 0, 255], [0, 5, None, None]),
        ("ExposureMode", [0, 2, 7], [0, 2, 3]),
        ("WhiteBalance", [0, 1, 2], [0, 1, None]),
        ("SceneCaptureType", [0, 3, 9], [0, 3, 4]),
    ],
)
def test_the_numbers_of_exif_become_classes(tag, value, expected):
    found = class_of(tag, torch.tensor(value, dtype=torch.float32)).tolist()
    assert [None if math.isnan(v) else v for v in found] == expected
    assert math.isnan(class_of(tag, torch.tensor([math.nan]))[0])


def photos(count: int, /, *, disturbed: bool = True) -> Iterator[Batch]:
    yield Batch(views(count, seed=5), torch.zeros(count).long())


def test_what_is_unlike_the_photos_is_fake():
    torch.manual_seed(0)
    detector = build(replace(ONE_CLASS, density_views=200, false_alarms=0.05))
    sdaie.conclude(detector, photos)
    detector.eval()
    real = detector(views(100, seed=6)).logit
    smooth = torch.nn.functional.avg_pool2d(views(100, seed=7), 5, 1, 2)
    assert (real > 0).float().mean() < 0.2
    assert (detector(smooth).logit > 0).all()


def one_class_checkpoint(folder: Path) -> tuple[sdaie.SDAIE, Path]:
    torch.manual_seed(1)
    detector = build(ONE_CLASS)
    path = folder / "one_class.safetensors"
    facts = checkpoints.Facts("sdaie", settings.plain(detector.config), detector.view)
    checkpoints.save(path, detector, facts)
    return detector, path


def test_a_classifier_takes_the_extractor_over_and_never_changes_it(tmp_path):
    teacher, path = one_class_checkpoint(tmp_path)
    detector = build(replace(TINY, extractor=str(path)))
    path.unlink()
    assert detector.config.extractor.startswith("sha256:"), "named by content, not by place"
    build(detector.config)
    for key, value in teacher.extractor.state_dict().items():
        assert torch.equal(detector.extractor.state_dict()[key], value)
    detector.train()
    batch = Batch(views(), torch.tensor([0, 1, 0, 1]))
    terms = sdaie.loss(TINY)(detector(batch.pixels), batch)
    assert set(terms) == {"label_bce", "drift"}
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in detector.extractor.parameters())
    assert not detector.extractor.training


def test_drift_is_the_weighted_sum_of_the_stages_mean_squares():
    torch.manual_seed(0)
    detector = build(TINY).train()
    detector.student.load_state_dict(detector.extractor.state_dict())
    prediction = detector(views())
    assert prediction.features["drift"].shape == (4, 5)
    assert not prediction.features["drift"].any(), "equal networks see equal patches alike"
    with torch.no_grad():
        for parameter in detector.student.parameters():
            parameter.mul_(1.1)
    batch = Batch(views(), torch.tensor([0, 1, 0, 1]))
    prediction = detector(batch.pixels)
    value = sdaie.loss(replace(TINY, alpha=0.5))(prediction, batch)["drift"]
    torch.testing.assert_close(value, 0.5 * prediction.features["drift"].mean(0).sum())
    assert value > 0


def test_the_logit_is_the_log_odds_of_two_classes():
    detector = build(TINY).eval()
    feature, _ = detector.student(detector.tiles(views()))
    expected = detector.classify(feature).softmax(1)[:, 1]
    torch.testing.assert_close(detector(views()).logit.sigmoid(), expected)


def test_a_classifier_near_nothing_is_refused():
    with pytest.raises(RecipeError, match="needs an extractor"):
        sdaie.prepare(build(replace(TINY, extractor="")), photos)


def test_wrong_extractors_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match="to take the extractor from"):
        build(replace(TINY, extractor=str(tmp_path / "nowhere")))
    _, path = one_class_checkpoint(tmp_path)
    with pytest.raises(IncompatibleCheckpointError, match="its extractor does not fit"):
        build(replace(TINY, width=4, extractor=str(path)))


@pytest.mark.parametrize("changes", [{"patch": 64}, {"patches": 0}, {"depths": (1, 1)}])
def test_impossible_choices_are_refused(changes):
    with pytest.raises(RecipeError, match="expected"):
        build(replace(TINY, **changes))


@pytest.fixture(scope="module")
def table(collection, tmp_path_factory) -> Path:
    """Camera settings of the photos of the small collection, made up."""
    path = collection.parent / "exif.csv"
    names = ("astronaut", "coffee", "motorcycle")
    rows = [f"{name}.jpg,Canon,EOS {i},{2 + i},{100 * i + 100}" for i, name in enumerate(names)]
    path.write_text("path,Make,Model,FNumber,ISOSpeedRatings\n" + "\n".join(rows) + "\n", "utf-8")
    return path


def recipe(manifest: Path, config: Config, **data) -> Recipe:
    return Recipe(
        method="sdaie",
        config=config,
        data=Data((str(manifest),), validation_sources=("held-out",), workers=0, **data),
        optimisation=Optimisation(steps=3, batch=4, precision="no"),
        rhythm=Rhythm(log=1, validate=3, save=3, validation_views=8),
    )


def test_both_stages_train_one_after_the_other(collection, table, tmp_path):
    pretext = Pretext((str(table),))
    first = train(recipe(collection, ONE_CLASS, pretext=pretext), tmp_path / "first")
    facts = checkpoints.read_facts(first)
    assert str(tmp_path) not in str(facts), "no place on this machine"
    assert str(table) not in str(facts)
    log = (tmp_path / "first" / "log.jsonl").read_text("utf-8")
    assert "FNumber_rank" in log
    assert "concluded" in log
    density = checkpoints.load(first).detector.density
    assert density.means.any()
    second = train(recipe(collection, replace(TINY, extractor=str(first))), tmp_path / "second")
    facts = checkpoints.read_facts(second)
    assert facts.config["extractor"].startswith("sha256:")
    assert str(tmp_path) not in str(facts)
    assert second.name == CHECKPOINT


def test_tables_are_given_where_settings_are_learnt_and_nowhere_else(collection, table, tmp_path):
    pretext = Pretext((str(table),))
    with pytest.raises(RecipeError, match="'sdaie' learns nothing from camera settings as it is"):
        train(recipe(collection, TINY, pretext=pretext), tmp_path / "binary")
    with pytest.raises(RecipeError, match="No camera settings in the data"):
        train(recipe(collection, ONE_CLASS), tmp_path / "one_class")


def test_a_tiny_extractor_learns_settings_that_show():
    """Noise that is less smooth stands for sensitivity: in new pictures, most pairs are ranked rightly.

    Its strength alone would not do: the first normalisation takes it away.
    """
    torch.manual_seed(0)
    detector = build(ONE_CLASS).train()
    optimiser = torch.optim.Adam(detector.parameters(), lr=3e-3)

    def batch(seed: int) -> Batch:
        level = torch.rand(16, generator=torch.Generator().manual_seed(seed))
        rough, share = views(16, seed), level[:, None, None, None]
        smooth = 3 * torch.nn.functional.avg_pool2d(rough, 3, 1, 1)
        pixels = share * rough + (1 - share) * smooth
        return Batch(pixels, torch.zeros(16).long(), tags={"ISOSpeedRatings": level})

    for step in range(40):
        drawn = batch(100 + step)
        (value,) = sdaie.loss(ONE_CLASS)(detector(drawn.pixels), drawn).values()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    unseen = batch(999)
    score = detector.eval()(unseen.pixels).features["ISOSpeedRatings"][:, 0]
    truth = unseen.tags["ISOSpeedRatings"]
    right = ((score[:, None] - score) * (truth[:, None] - truth) > 0).float().sum() / (16 * 15)
    assert right > 0.8
