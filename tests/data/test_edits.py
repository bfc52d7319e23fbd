"""Edited pictures on disk: true masks, the same files again, and one encoding for both classes."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from tests.generation.made_networks import styles_of_pictures, upscaler

from gammascope.data.edits import KINDS, Generators, Plan, make_edits, photos_of
from gammascope.data.manifest import load_sample, read_manifest
from gammascope.data.products import MANIFEST, PLAN
from gammascope.detection.runtime import openvino_core
from gammascope.errors import MissingDataError, MissingExtraError, RecipeError
from gammascope.generation import base
from gammascope.generation.autoencoder import TinyAutoencoder
from gammascope.generation.restyling import load
from gammascope.generation.upscaling import Upscaler
from gammascope.imaging.codecs import Encoding, jpeg_quality
from gammascope.imaging.decode import decode
from gammascope.sample import Entry, Label

PNG = Encoding("png")


@pytest.fixture(scope="module")
def autoencoder() -> TinyAutoencoder:
    torch.manual_seed(0)
    return TinyAutoencoder(latent_channels=4, width=8, mixing=False).eval()


@pytest.fixture
def folder(photos, tmp_path):
    """Photos of one name in two folders, and of one stem with two endings."""
    for place, name in (("a/1.jpg", "cat"), ("b/1.jpg", "coffee"), ("b/1.png", "rocket")):
        path = tmp_path / "photos" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.ascontiguousarray(photos[name][:120, :160])).save(path)
    return tmp_path / "photos"


@pytest.fixture
def entries(folder) -> list[Entry]:
    return photos_of(sorted(folder.rglob("*.*")), "test")


def test_a_package_that_every_photo_needs_is_said_once(entries, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match="needs opencv"):
        make_edits(entries, tmp_path / "out", Plan(encoding=PNG))


class Painter:
    """An inpainter that paints grey over the whole frame."""

    generative = True
    replaces_content = True

    def __call__(self, image, mask, rng):  # noqa: ARG002 - the Inpainter protocol
        return np.full_like(image, 128)


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_masks_say_exactly_where_a_picture_differs_from_its_photo(entries, tmp_path, autoencoder):
    kinds = tuple(kind for kind, known in KINDS.items() if known.name)
    writer = base.build("small_diffusion", base.get("small_diffusion").tiny)
    plan = Plan(
        kinds,
        per_photo=len(kinds),
        encoding=PNG,
        autoencoder="ae",
        inpainter="grey",
        generator=writer.signature,
    )
    generators = Generators(autoencoder, Painter(), generator=writer)
    made = make_edits(entries, tmp_path / "out", plan, generators)
    assert made.broken == ()
    read = read_manifest(tmp_path / "out" / MANIFEST)
    assert len(read) == len(entries) * (1 + len(kinds))
    edited = [entry for entry in read if entry.label is Label.FAKE]
    for entry in edited:
        sample = load_sample(entry)
        photo = decode(entry.host_path).image
        differs = (sample.image != photo).any(-1)
        assert not (differs & ~(sample.generated | sample.edited)).any()
        assert sample.edited.any()
        assert sample.generated.any() == (entry.generator is not None)
    assert {(entry.kind, entry.generator) for entry in edited} == {
        ("copy_move", None),
        ("splicing", None),
        ("inpainting_classical", None),
        ("inpainting", "ae"),
        ("inpainting", "grey"),
        ("inpainting", "small_diffusion:untrained"),
    }


def test_controls_are_the_photos_and_all_pictures_have_one_encoding(entries, tmp_path):
    make_edits(entries, tmp_path / "out", Plan(encoding=Encoding("jpeg", 71)))
    read = read_manifest(tmp_path / "out" / MANIFEST)
    assert sum(entry.label is Label.REAL for entry in read) == len(entries)
    assert {jpeg_quality(entry.path.read_bytes()) for entry in read} == {71}
    control = next(entry for entry in read if entry.label is Label.REAL)
    original = decode(entries[0].path).image.astype(int)
    assert control.source == "a"
    assert np.abs(decode(control.path).image.astype(int) - original).mean() < 8


def test_a_twin_is_generated_as_a_whole_and_has_no_masks(entries, tmp_path, autoencoder):
    plan = Plan(("twin",), controls=0, autoencoder="taef2")
    make_edits(entries, tmp_path / "out", plan, Generators(autoencoder))
    read = read_manifest(tmp_path / "out" / MANIFEST)
    assert {(entry.kind, entry.generator, entry.label) for entry in read} == {
        (None, "taef2", Label.FAKE)
    }
    sample = load_sample(read[0])
    assert sample.generated.all()
    assert not sample.edited.any()
    assert sample.image.shape == decode(read[0].host_path).image.shape


def test_upscaled_and_restyled_photos_are_generated_as_a_whole_and_aligned(entries, tmp_path):
    generators = Generators(
        upscaler=Upscaler(upscaler(tmp_path / "up.param")),
        styles=load(styles_of_pictures(tmp_path / "pair"), openvino_core()),
    )
    kinds = ("upscaled", "restyled")
    plan = Plan(kinds, 2, controls=0, encoding=PNG, upscaler="up", styles="pair", strength=0.5)
    make_edits(entries, tmp_path / "out", plan, generators)
    read = read_manifest(tmp_path / "out" / MANIFEST)
    assert sorted((e.generator, e.kind, e.label) for e in read) == [
        *[("pair", None, Label.FAKE)] * 3,
        *[("up", None, Label.FAKE)] * 3,
    ]
    for entry in read:
        sample, photo = load_sample(entry), decode(entry.host_path).image.astype(float)
        assert sample.generated.all()
        if entry.generator == "pair":  # half in the style's colour, of which again half: a quarter
            rest = sample.image - 0.75 * photo
            assert np.ptp(rest, axis=(0, 1)).max() <= 2
            assert rest.mean() > 5


def test_a_lone_photo_finds_no_style(entries, tmp_path):
    styles = load(styles_of_pictures(tmp_path / "pair"), openvino_core())
    with pytest.raises(
        MissingDataError, match="there is no other photo of the split test that can be read"
    ):
        make_edits(
            entries[:1],
            tmp_path / "out",
            Plan(("restyled",), controls=0),
            Generators(styles=styles),
        )


def test_a_folder_of_an_earlier_version_with_fewer_settings_goes_on(entries, tmp_path):
    plan = Plan(("copy_move",), controls=0)
    make_edits(entries, tmp_path / "out", plan)
    place = tmp_path / "out" / PLAN
    settings = json.loads(place.read_text())
    place.write_text(json.dumps({key: settings[key] for key in settings if key != "strength"}))
    assert make_edits(entries, tmp_path / "out", plan).kept == len(entries)


def test_photos_of_the_same_name_do_not_overwrite_each_other(entries, tmp_path):
    make_edits(entries, tmp_path / "out", Plan(("copy_move",)))
    assert len(list((tmp_path / "out" / "copy_move").rglob("*.jpg"))) == len(entries) == 3


def test_photos_of_the_same_name_are_edited_in_places_of_their_own(entries, tmp_path):
    namesakes = [entry for entry in entries if entry.path.name == "1.jpg"]
    make_edits(namesakes, tmp_path / "out", Plan(("copy_move",), controls=0))
    masks = [load_sample(row).edited for row in read_manifest(tmp_path / "out" / MANIFEST)]
    assert len(masks) == 2
    assert masks[0].shape == masks[1].shape
    assert (masks[0] != masks[1]).any()


def test_an_interrupted_run_goes_on_and_ends_with_the_same_files(entries, tmp_path):
    plan = Plan(("copy_move", "splicing"), per_photo=2)
    make_edits(entries, tmp_path / "whole", plan)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    parts = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        make_edits(entries, parts, plan, progress=stop)
    assert not (parts / MANIFEST).exists()
    assert list(parts.rglob("*.part")) == []
    written = {path: path.stat().st_mtime_ns for path in parts.rglob("*.jpg")}
    made = make_edits(entries, parts, plan)
    assert made.kept == len(written) == 6
    assert {path: path.stat().st_mtime_ns for path in written} == written
    whole = contents(tmp_path / "whole")
    assert contents(parts) == whole


def test_the_same_seed_gives_the_same_pictures_and_another_one_others(entries, tmp_path):
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    for folder, seed in ((first, 1), (second, 1), (other, 2)):
        make_edits(entries, folder, Plan(("copy_move",), seed=seed))
    pictures = [contents(folder / "copy_move") for folder in (first, second, other)]
    assert pictures[0] == pictures[1]
    assert pictures[0] != pictures[2]


def test_more_pictures_per_photo_may_be_added_later(entries, tmp_path):
    make_edits(entries, tmp_path / "out", Plan(("copy_move",), controls=0))
    made = make_edits(entries, tmp_path / "out", Plan(("copy_move",), per_photo=2, controls=1))
    assert made.kept == 3
    assert len(made.entries) == 7


@pytest.mark.parametrize(
    ("fewer", "message"),
    [
        ({"per_photo": 2}, r"--per-photo 2: .* Give --per-photo 4 or more, or choose another"),
        ({"controls": 1}, r"--controls 1: .* Give --controls 3 or more, or choose another"),
    ],
)
def test_fewer_pictures_than_are_there_are_refused_and_nothing_changes(
    entries, tmp_path, fewer, message
):
    plan = Plan(("copy_move", "telea"), per_photo=4, encoding=PNG)
    make_edits(entries, tmp_path / "out", plan)
    before = contents(tmp_path / "out")
    with pytest.raises(RecipeError, match=message):
        make_edits(entries, tmp_path / "out", replace(plan, **fewer))
    assert contents(tmp_path / "out") == before
    assert make_edits(entries, tmp_path / "out", plan).kept == len(entries) * 5


def test_a_folder_of_another_plan_is_refused(entries, tmp_path):
    make_edits(entries, tmp_path / "out", Plan(("copy_move",)))
    with pytest.raises(
        RecipeError, match=r"plan\.json\): seed is 0 there and 5 here.*another folder"
    ):
        make_edits(entries, tmp_path / "out", Plan(("copy_move",), seed=5))


def test_pictures_of_other_photos_are_not_taken_for_these(folder, tmp_path):
    """Files are named after their photos, which other photos of the same names must not inherit."""
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    shutil.copy(folder / "b" / "1.png", other / "a" / "1.jpg")
    mine, theirs = (photos_of(sorted(place.rglob("*.*")), "test") for place in (folder, other))
    before = make_edits(mine, tmp_path / "out", Plan(("copy_move",)))
    with pytest.raises(RecipeError, match=r"not the same photos \(sha256 .* another folder"):
        make_edits(theirs, tmp_path / "out", Plan(("copy_move",)))
    moved = shutil.move(folder, tmp_path / "moved")
    again = make_edits(
        photos_of(sorted(moved.rglob("*.*")), "test"), tmp_path / "out", Plan(("copy_move",))
    )
    assert again.kept == len(before.entries)


def test_pictures_by_other_weights_are_not_taken_for_these(entries, tmp_path, lively):
    first, second = lively("small_diffusion"), lively("small_diffusion")
    plan = Plan(("edit", "twin"), controls=0, generator=first.signature, autoencoder="ae")
    torch.manual_seed(0)
    decoders = [TinyAutoencoder(latent_channels=4, width=8, mixing=False) for _ in range(2)]
    made = make_edits(entries, tmp_path / "out", plan, Generators(decoders[0], generator=first))
    next(second.parameters()).add_(0.01)
    with pytest.raises(RecipeError, match="not the same generator"):
        make_edits(entries, tmp_path / "out", plan, Generators(decoders[0], generator=second))
    with pytest.raises(RecipeError, match="not the same autoencoder"):
        make_edits(entries, tmp_path / "out", plan, Generators(decoders[1], generator=first))
    again = make_edits(entries, tmp_path / "out", plan, Generators(decoders[0], generator=first))
    assert again.kept == len(made.entries) == len(entries)


@pytest.mark.parametrize("kind", ["edit", "inpaint", "sample", "twin", "restyled"])
def test_what_failed_never_becomes_a_fake(
    entries, tmp_path, lively, autoencoder, kind, monkeypatch
):
    """The generator gives the photo back, or black where it has no photo."""
    writer = lively("small_diffusion")
    monkeypatch.setattr(writer, "edit", lambda image, *_: image.copy())
    monkeypatch.setattr(writer, "inpaint", lambda image, *_: image.copy())
    monkeypatch.setattr(writer, "sample", lambda _, size, *__: np.zeros((*size, 3), np.uint8))
    monkeypatch.setattr("gammascope.data.edits.round_trip", lambda photo, *_, **__: photo.copy())
    generators = Generators(autoencoder, styles=lambda photo, *_: photo.copy(), generator=writer)
    needed = {KINDS[kind].needs: "x"}
    plan = Plan((kind,), encoding=PNG, **needed)
    made = make_edits(entries, tmp_path / "out", plan, generators)
    assert {entry.label for entry in made.entries} == {Label.REAL}
    said = "the answer is black" if kind == "sample" else "the answer is the photo"
    assert [reason for _, reason in made.broken] == [said] * len(entries)
    assert not list((tmp_path / "out" / kind).rglob("*.png"))


def test_an_edit_of_another_size_is_a_failed_one(entries, tmp_path, lively, monkeypatch):
    writer = lively("small_diffusion")
    monkeypatch.setattr(writer, "edit", lambda image, *_: image[:-1])
    with pytest.raises(MissingDataError, match=r"None of 3 photos .* the answer is \(119"):
        make_edits(
            entries,
            tmp_path,
            Plan(("edit",), controls=0, generator="x"),
            Generators(generator=writer),
        )


def test_the_manifest_tells_the_strength_of_edits_also_of_those_made_before(
    entries, tmp_path, lively, monkeypatch
):
    writer = lively("small_diffusion")
    drawn = []

    def edit(image, prompt, strength, rng):
        drawn.append(strength)
        return 255 - image

    monkeypatch.setattr(writer, "edit", edit)
    plan = Plan(("edit",), per_photo=3, controls=0, strength=0.5, generator="x")
    for _ in range(2):
        make_edits(entries, tmp_path, plan, Generators(generator=writer))
        rows = read_manifest(tmp_path / MANIFEST)
        assert [row.origin.strength for row in rows] == drawn
    assert {0.15, 0.25, 0.375} >= set(drawn)
    assert len(set(drawn)) > 1


def test_sources_held_out_and_copies_of_their_photos_are_left_alone(folder, tmp_path):
    shutil.copy(folder / "a" / "1.jpg", folder / "b" / "2.jpg")
    entries = photos_of(sorted(folder.rglob("*.*")), "test")
    made = make_edits(entries, tmp_path / "out", Plan(("copy_move",), held_out=("a",)))
    assert {entry.source for entry in made.entries} == {"b"}
    assert len(made.entries) == 4
    with pytest.raises(MissingDataError, match="without the sources a, b"):
        make_edits(entries, tmp_path / "none", Plan(("copy_move",), held_out=("a", "b")))


def test_broken_and_tiny_photos_are_counted_and_nobody_cuts_from_them(folder, tmp_path):
    (folder / "broken.jpg").write_bytes(b"not a picture")
    PIL.Image.new("RGB", (200, 5)).save(folder / "flat.png")
    photos = photos_of(sorted(folder.rglob("*.*")), "test")
    made = make_edits(photos, tmp_path / "out", Plan(("splicing",), controls=0))
    assert {path.name: reason for path, reason in made.broken} == {
        "broken.jpg": made.broken[0][1],
        "flat.png": "flat.png: 200 x 5 px, both sides need 16 px.",
    }
    assert len(made.entries) == 3


def test_where_every_photo_is_broken_there_is_an_error_and_no_manifest(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(MissingDataError, match=r"None of 1 photos.*empty file"):
        make_edits(
            photos_of([tmp_path / "broken.jpg"], "test"), tmp_path / "out", Plan(("copy_move",))
        )
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_large_photos_are_reduced_edited_and_unedited_alike(entries, tmp_path):
    make_edits(entries, tmp_path / "out", Plan(("copy_move",), largest_side=80))
    read = read_manifest(tmp_path / "out" / MANIFEST)
    assert {load_sample(entry).image.shape for entry in read} == {(60, 80, 3)}
    assert {entry.host_path for entry in read} == {None}  # nothing on disk is aligned with them


def test_objects_of_the_photo_are_what_is_copied(photos, tmp_path):
    photo, mask = tmp_path / "photo.png", tmp_path / "mask.png"
    PIL.Image.fromarray(photos["cat"][:200, :200]).save(photo)
    thing = np.zeros((200, 200), bool)
    thing[90:110, 90:110] = True
    PIL.Image.fromarray(thing).save(mask)
    entry = Entry(photo, Label.REAL, object_paths=(mask,))
    made = make_edits([entry], tmp_path / "out", Plan(("copy_move",), per_photo=8, controls=0))
    areas = [load_sample(entry).edited.sum() for entry in made.entries]
    assert any(100 < area < 1600 for area in areas)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(("twin",)), "'twin' needs a generator: give --autoencoder"),
        (Plan(("diffusion",)), "'diffusion' needs a generator: give --inpainter"),
        (Plan(("upscaled",)), "'upscaled' needs a generator: give --upscaler"),
        (Plan(("restyled",)), "'restyled' needs a generator: give --styles"),
    ],
)
def test_a_kind_without_its_network_is_refused_before_any_work(entries, tmp_path, plan, message):
    with pytest.raises(RecipeError, match=message):
        make_edits(entries, tmp_path / "out", plan)
    assert not (tmp_path / "out").exists()


def test_no_piece_comes_from_a_photo_of_another_split(entries, tmp_path):
    apart = [*entries[:2], replace(entries[2], split="train")]
    made = make_edits(apart, tmp_path / "out", Plan(("splicing",), controls=0))
    assert len(made.entries) == 2
    ((path, reason),) = made.broken
    assert path == apart[2].path
    assert "there is no other photo of the split train" in reason


def test_a_lone_photo_cannot_be_spliced(entries, tmp_path):
    with pytest.raises(MissingDataError, match="at least two photos"):
        make_edits(entries[:1], tmp_path / "out", Plan(("splicing",)))


def test_fakes_are_no_photos(entries, tmp_path):
    fake = Entry(entries[0].path, Label.FAKE)
    with pytest.raises(RecipeError, match="1 of the pictures are fakes"):
        make_edits([*entries, fake], tmp_path / "out", Plan())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": ("inpaint",), "prompt": "dog"}, r"--prompt dog .* inpaint: .* edit, sample"),
        ({"kinds": ("twin",), "strength": 0.5}, r"--strength 0\.5 .* twin: .* restyled, edit"),
        ({"generator": "g"}, r"--generator g .* telea: it goes with inpaint, edit, sample"),
        ({"kinds": ("edit",), "autoencoder": "ae"}, r"--autoencoder ae .* edit"),
    ],
    ids=str,
)
def test_what_no_kind_heeds_is_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        Plan(**settings)
    Plan(("inpaint", "edit"), prompt="dog", strength=0.5, generator="g")


def test_unknown_kinds_are_refused_with_the_nearest_one():
    with pytest.raises(RecipeError, match="Did you mean 'copy_move'"):
        Plan(("copymove",))
    with pytest.raises(RecipeError, match="nothing would be edited"):
        Plan(per_photo=0)
    with pytest.raises(RecipeError, match=r"strength=1\.5"):
        Plan(strength=1.5)


def test_a_disk_that_is_full_or_closed_is_told_of(entries, tmp_path):
    make_edits(entries, tmp_path / "out", Plan(("copy_move",), controls=0))
    place = tmp_path / "out" / "copy_move"
    shutil.rmtree(place)
    place.write_text("in the way")
    with pytest.raises(OSError, match="copy_move"):
        make_edits(entries, tmp_path / "out", Plan(("copy_move",), controls=0))


def test_a_square_is_cut_from_photo_and_objects_alike(tmp_path):
    """A generator of one size only sees squares: what an object's mask covers stays covered."""
    photo = np.zeros((60, 90, 3), np.uint8)
    photo[20:40, 30:60] = 255
    PIL.Image.fromarray(photo).save(tmp_path / "p.png")
    PIL.Image.fromarray(photo[..., 0]).save(tmp_path / "m.png")
    entry = Entry(tmp_path / "p.png", Label.REAL, object_paths=(tmp_path / "m.png",))
    torch.manual_seed(0)
    writer = base.build("iq_vae", base.get("iq_vae").tiny)
    plan = Plan(("inpaint",), encoding=PNG, generator=writer.signature, square=16)
    make_edits([entry], tmp_path / "out", plan, Generators(generator=writer))
    fake = next(e for e in read_manifest(tmp_path / "out" / MANIFEST) if e.label is Label.FAKE)
    sample = load_sample(fake)
    assert sample.image.shape == (16, 16, 3)
    assert fake.host_path is None
    small = Plan(("inpaint",), encoding=PNG, generator=writer.signature, square=61)
    with pytest.raises(MissingDataError, match="shorter side is 60 px"):
        make_edits([entry], tmp_path / "small", small, Generators(generator=writer))
