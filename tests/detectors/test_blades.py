"""BLADES: eleven tasks in fifty columns, weighed by what serves detection, and both detectors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gammascope import checkpoints, settings
from gammascope.data.pictures import Pictures
from gammascope.detectors import base, blades
from gammascope.detectors.blades import (
    SENTENCES,
    TINY,
    Config,
    Weighting,
    build,
    class_of,
    columns,
)
from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.prediction import Batch
from gammascope.training.loop import STATE, train
from gammascope.training.recipe import (
    Data,
    Optimisation,
    Pretext,
    Recipe,
    Rhythm,
)

ONE_CLASS = replace(TINY, stage="one_class", encoder="")


def views(count: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, TINY.size, TINY.size, generator=generator)


def tags(count: int = 6) -> dict[str, torch.Tensor]:
    ramp = torch.arange(count, dtype=torch.float32)
    known = dict.fromkeys(blades.ORDINAL, ramp)
    known |= dict.fromkeys(blades.CATEGORICAL, 1 + ramp % 2)
    edited = ramp % 2
    return known | {"manipulated": edited, "mouth": edited, "eye": edited * 0, "nose": edited}


def test_eleven_tasks_share_fifty_sentences():
    places = columns()
    assert len(places) == 11
    assert len(SENTENCES) == len(set(SENTENCES)) == 50
    assert [place.start for place in places.values()][1:] == [
        place.stop for place in places.values()
    ][:-1]
    assert places["FocalLength"] == slice(9, 12)
    assert places["Make"] == slice(12, 22)
    assert places["MeteringMode"] == slice(22, 30)
    assert places["ExposureMode"] == slice(30, 37)
    assert places["WhiteBalance"] == slice(37, 39)
    assert places["ExposureProgram"] == slice(39, 45)
    assert places["manipulated"] == slice(45, 47)
    assert places["fine"] == slice(47, 50)
    assert "high" in SENTENCES[2]
    assert "samsung" in SENTENCES[16]
    assert "nose" in SENTENCES[49]


def test_the_image_network_is_as_large_as_a_resnet_50():
    with torch.device("meta"):
        network = blades.Encoder(Config()).network
    # Published: 25,557,032 with the classifier of 1,000 classes.
    assert sum(p.numel() for p in network.parameters()) == 25_557_032 - 2048 * 1000 - 1000


@pytest.mark.parametrize(
    ("tag", "value", "expected"),
    [
        ("Make", [0, 9], [0, 9]),
        ("MeteringMode", [1, 255, 5, 0], [0, 2, 6, None]),
        ("ExposureMode", [0, 1, 2], [0, 3, 1]),
        ("WhiteBalance", [1, 2], [1, None]),
        ("ExposureProgram", [8, 3, 5], [0, 5, None]),
    ],
)
def test_the_numbers_of_exif_find_their_columns(tag, value, expected):
    found = class_of(tag, torch.tensor(value, dtype=torch.float32)).tolist()
    assert [None if math.isnan(v) else v for v in found] == expected


def imagenet_file(folder: Path, **changes: torch.Tensor) -> tuple[Path, dict[str, torch.Tensor]]:
    """A narrow ResNet as torchvision names it, with its classifier and without counters."""
    torch.manual_seed(7)
    network = blades.Encoder(ONE_CLASS).network
    names = network.published_names()
    filled = {
        theirs: torch.rand_like(network.state_dict()[ours])
        for ours, theirs in names.items()
        if not ours.endswith("num_batches_tracked")
    }
    filled |= {"fc.weight": torch.ones(1000, network.channels), "fc.bias": torch.ones(1000)}
    path = folder / "resnet.safetensors"
    save_file(filled | changes, path)
    return path, filled


def test_the_image_network_starts_from_imagenet(tmp_path):
    path, filled = imagenet_file(tmp_path)
    assert {"conv1.weight", "layer1.0.downsample.0.weight", "layer2.0.bn3.running_var"} <= set(
        filled
    )
    detector = build(replace(ONE_CLASS, pretrained=str(path)))
    assert detector.config.pretrained == "", "the weights are in the checkpoint from now on"
    taken = detector.encoder.network.state_dict()
    assert torch.equal(taken["stem.0.weight"], filled["conv1.weight"])
    assert torch.equal(taken["stages.1.body.6.weight"], filled["layer2.0.conv3.weight"])
    assert torch.equal(taken["stages.1.shortcut.1.bias"], filled["layer2.0.downsample.1.bias"])


def test_files_that_are_no_such_network_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match="Cannot read ResNet weights"):
        build(replace(ONE_CLASS, pretrained=str(tmp_path / "nowhere")))
    path, _ = imagenet_file(tmp_path, **{"layer1.0.conv2.weight": torch.ones(1)})
    with pytest.raises(
        IncompatibleCheckpointError, match=r"layer1\.0\.conv2\.weight .* another shape"
    ):
        build(replace(ONE_CLASS, pretrained=str(path)))
    with pytest.raises(RecipeError, match=r"for stage='one_class'"):
        build(replace(TINY, pretrained=str(path)))


def test_all_tasks_train_the_whole_network():
    torch.manual_seed(0)
    detector = build(ONE_CLASS).train()
    batch = Batch(views(), torch.zeros(6).long(), tags=tags())
    terms = blades.loss(ONE_CLASS)(detector(batch.pixels), batch)
    assert list(terms) == list(columns())
    torch.stack(list(terms.values())).sum().backward()
    idle = [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_unknown_settings_teach_nothing():
    detector = build(ONE_CLASS).eval()
    edits = {
        tag: v for tag, v in tags().items() if tag not in {*blades.ORDINAL, *blades.CATEGORICAL}
    }
    batch = Batch(views(), torch.zeros(6).long(), tags=edits)
    terms = blades.loss(ONE_CLASS)(detector(batch.pixels), batch)
    taught = {name for name, value in terms.items() if float(value.detach()) != 0}
    assert taught == {"manipulated", "fine"}


def test_without_edits_there_is_nothing_to_learn():
    batch = Batch(views(), torch.zeros(6).long())
    with pytest.raises(RecipeError, match="No edited faces"):
        blades.loss(ONE_CLASS)(build(ONE_CLASS)(batch.pixels), batch)


def test_features_and_sentences_have_unit_length():
    detector = build(ONE_CLASS).eval()
    prediction = detector(views())
    torch.testing.assert_close(prediction.features["feature"].norm(dim=1), torch.ones(6))
    similarity = prediction.features["similarity"]
    assert similarity.shape == (6, 50)
    assert similarity.abs().max() <= detector.log_scale.exp() + 1e-4


def test_a_word_changes_its_own_sentences_alone():
    detector = build(ONE_CLASS).eval()
    before = detector.text().detach().clone()
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    with torch.no_grad():
        embedding: Any = detector.text.words
        embedding.weight[2 + words.index("nose")].neg_()  # norms take no notice of a constant
    changed = (detector.text() != before).any(1).nonzero().flatten().tolist()
    assert changed == [49]


def photos(count: int, /, *, disturbed: bool = True) -> Iterator[Batch]:
    yield Batch(views(count, seed=5), torch.zeros(count).long())


def test_what_is_unlike_the_photos_is_fake():
    torch.manual_seed(0)
    detector = build(replace(ONE_CLASS, density_views=300))
    wanted = []

    def as_they_are(count: int, /, *, disturbed: bool = True) -> Iterator[Batch]:
        wanted.append(disturbed)
        return photos(count)

    blades.conclude(detector, as_they_are)
    assert wanted == [False]
    detector.eval()
    real = detector(views(200, seed=6)).logit
    assert 0.0 < float((real > 0).float().mean()) < 0.2
    assert (detector(3 * torch.ones(4, 3, 32, 32)).logit > 0).all()


def one_class_checkpoint(folder: Path) -> Path:
    torch.manual_seed(1)
    detector = build(ONE_CLASS)
    blades.conclude(detector, photos)
    path = folder / "one_class.safetensors"
    facts = checkpoints.Facts("blades", settings.plain(detector.config), detector.view)
    checkpoints.save(path, detector, facts)
    return path


def test_a_head_takes_encoder_and_density_over_and_never_changes_them(tmp_path):
    path = one_class_checkpoint(tmp_path)
    held = checkpoints.load(path).detector.state_dict()
    detector = build(replace(TINY, encoder=str(path)))
    assert detector.config.encoder.startswith("sha256:")
    shared = [key for key in held if key.startswith(("encoder.", "density."))]
    assert all(torch.equal(detector.state_dict()[key], held[key]) for key in shared)
    detector.train()
    batch = Batch(views(), torch.tensor([0, 1] * 3))
    terms = blades.loss(TINY)(detector(batch.pixels), batch)
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in detector.encoder.parameters())
    assert all(torch.equal(detector.state_dict()[key], held[key]) for key in shared)


def test_photos_beyond_the_threshold_count_as_fakes_with_their_weight():
    logit = torch.tensor([1.0, -2.0, 0.5])
    unlike = torch.tensor(
        [-1.0, 3.0, 3.0]
    )  # the second is a photo that looks like none; the third is fake anyway
    batch = Batch(views(3), torch.tensor([0, 0, 1]))
    detector = build(TINY).eval()
    prediction = replace(detector(batch.pixels), logit=logit, features={"unlike": unlike})
    terms = blades.loss(replace(TINY, outlier_weight=0.5))(prediction, batch)
    each = torch.nn.functional.softplus(torch.tensor([1.0, 2.0, -0.5]))
    torch.testing.assert_close(terms["label_bce"], (each[0] + each[2]) / 2.5)
    torch.testing.assert_close(terms["outlier_bce"], 0.5 * each[1] / 2.5)


def test_a_head_on_nothing_is_refused():
    with pytest.raises(RecipeError, match="needs an encoder"):
        blades.prepare(build(replace(TINY, encoder="")), photos)


def test_wrong_encoders_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match="to take the encoder from"):
        build(replace(TINY, encoder=str(tmp_path / "nowhere")))
    with pytest.raises(IncompatibleCheckpointError, match="its encoder does not fit"):
        build(replace(TINY, width=8, encoder=str(one_class_checkpoint(tmp_path))))


def recipe(manifest: Path, table: Path, **weighting) -> Recipe:
    return Recipe(
        method="blades",
        config=replace(ONE_CLASS, weighting=Weighting(**weighting)),
        data=Data(
            (str(manifest),),
            validation_sources=("held-out",),
            workers=0,
            pretext=Pretext((str(table),)),
        ),
        optimisation=Optimisation(steps=4, batch=8, precision="no"),
        rhythm=Rhythm(log=1, validate=4, save=2, validation_views=8),
    )


@pytest.fixture(scope="module")
def table(collection, tmp_path_factory) -> Path:
    path = collection.parent / "faces.csv"
    names = ("astronaut", "coffee", "motorcycle")
    rows = [f"{name}.jpg,Canon,{2 + i},{100 * i + 100}" for i, name in enumerate(names)]
    path.write_text("path,Make,FNumber,ISOSpeedRatings\n" + "\n".join(rows) + "\n", "utf-8")
    return path


def test_weights_are_learnt_with_the_network_and_resume_exactly(collection, table, tmp_path):
    plan = recipe(collection, table, rate=0.1)
    whole = train(plan, tmp_path / "whole")
    log = (tmp_path / "whole" / "log.jsonl").read_text("utf-8")
    assert '"stage": "weights"' in log
    train(plan, tmp_path / "parts", stop_after=2)
    parts = train(plan, tmp_path / "parts", resume=True)
    one, other = (checkpoints.load(path).detector.state_dict() for path in (whole, parts))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (tmp_path / "parts" / STATE).is_dir()
    rows = [line for line in log.splitlines() if '"weights"' in line]
    assert rows[-1] in (tmp_path / "parts" / "log.jsonl").read_text("utf-8")


def test_weights_are_learnt_for_the_tasks_alone_and_on_request():
    assert blades.weigh(TINY) is None, "the binary head has one task"
    assert blades.weigh(replace(ONE_CLASS, weighting=Weighting(learnt=False))) is None
    weights = blades.weigh(replace(ONE_CLASS, weighting=Weighting(floor=0.0)))
    assert (weights.proxy, weights.floor) == (blades.COARSE, 0.0)


def test_faces_that_would_be_cropped_are_refused(collection):
    photos = base.Photos([], Pictures(0), {Path("a"): {"FNumber": 2.0}}, 0)
    with pytest.raises(RecipeError, match=r"method\.fit=resize"):
        blades.pretext(build(replace(ONE_CLASS, fit="tiles")), photos)
    with pytest.raises(RecipeError, match="No camera settings in the data"):
        blades.pretext(build(ONE_CLASS), replace(photos, settings={}))
    assert blades.pretext(build(TINY), photos) is None


def test_a_tiny_encoder_learns_edits_that_show():
    torch.manual_seed(0)
    detector = build(ONE_CLASS)
    optimiser = torch.optim.AdamW(detector.parameters(), lr=5e-3)

    def batch(seed: int) -> Batch:
        edited = torch.arange(16) % 2
        pixels = views(16, seed)
        pixels[edited == 1, :, 10:20, 10:20] = 0
        return Batch(
            pixels,
            edited * 0,
            tags={"manipulated": edited.float()} | {r: edited.float() for r in blades.FINE},
        )

    detector.train()
    for step in range(60):
        drawn = batch(100 + step)
        terms = blades.loss(ONE_CLASS)(detector(drawn.pixels), drawn)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
    unseen = batch(999)
    similarity = detector.eval()(unseen.pixels).features["similarity"][:, columns()["manipulated"]]
    assert (similarity.argmax(1) == unseen.tags["manipulated"]).float().mean() > 0.85
