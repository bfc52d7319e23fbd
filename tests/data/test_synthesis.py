"""Streams of training views: reproducible, as mixed as asked, truthful, and without a shortcut to the label."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from sklearn.metrics import roc_auc_score

from gammascope.data.drawn import Drawn, Scope
from gammascope.data.laws import Mixture, Nuisance
from gammascope.data.manifest import read_manifest
from gammascope.data.pictures import Pictures
from gammascope.data.synthesis import Stream
from gammascope.errors import MissingDataError, RecipeError
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.imaging.views import ViewSpec, views_of
from gammascope.manipulation import regions
from gammascope.sample import Entry, Label

SIZE = 48
NOTHING = Mixture(**dict.fromkeys((item.name for item in fields(Mixture)), 0.0))
UNTOUCHED = codecs.EncodingLaw(1.0, 0.0, 0.0, 0.0)
CALM = Nuisance(
    UNTOUCHED, codecs.RescaleLaw(0.0), UNTOUCHED, again=0.0, tone=0.0, noise=0.0, blur=0.0
)
"""Views as they are cut and composed, so that pixels can be compared."""

PNG = codecs.Encoding("png")

KINDS = [item.name for item in fields(Mixture)]


def only(**shares: float) -> Mixture:
    return replace(NOTHING, **{kind: float(share) for kind, share in shares.items()})


def all_of(kind: str) -> Mixture:
    """Draw one kind; a stream insists on something fake, so real ones get an edit that is never drawn."""
    return only(
        **({kind: 1.0} | ({"copy_move": 1e-12} if kind in {"authentic", "control"} else {}))
    )


def stream_of(
    entries: list[Entry],
    mixture: Mixture | None = None,
    nuisance: Nuisance | None = None,
    *,
    size: int = SIZE,
    cap: int | None = None,
    seed: int = 0,
) -> Stream:
    return Stream(entries, Pictures(10**9), size, mixture, nuisance, cap=cap, seed=seed)


@pytest.fixture(scope="module")
def entries(collection) -> list[Entry]:
    return read_manifest(collection)


def digest(drawn: Drawn) -> str:
    parts = (drawn.pixels.tobytes(), drawn.generated.tobytes(), drawn.edited.tobytes())
    text = f"{drawn.kind} {drawn.source}".encode()
    return hashlib.sha256(b"".join([*parts, text])).hexdigest()


def digests(manifest: Path, indices: list[int]) -> list[str]:
    stream = stream_of(read_manifest(manifest), seed=3)
    return [digest(stream[index]) for index in indices]


def saved(folder: Path, name: str, image: np.ndarray, **facts) -> Entry:
    path = folder / name
    encoding = codecs.Encoding("jpeg", 92) if path.suffix == ".jpg" else codecs.Encoding("png")
    path.write_bytes(codecs.encode(np.ascontiguousarray(image), encoding))
    return Entry(path, **({"label": Label.REAL} | facts))


def test_a_view_depends_on_seed_and_number_alone(collection, entries):
    there = digests(collection, list(range(24)))
    back = digests(collection, list(reversed(range(24))))
    assert there == back[::-1]
    assert len(set(there)) == 24
    forgetful = Stream(entries, Pictures(0), SIZE, seed=3)
    assert [digest(forgetful[index]) for index in range(24)] == there
    assert digest(stream_of(entries, seed=4)[0]) != there[0]


def test_another_process_draws_the_same_views(collection):
    indices = [0, 5, 17, 3]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.apply(digests, (collection, indices))
    assert elsewhere == digests(collection, indices)


def test_views_do_not_depend_on_what_lies_in_the_folder_of_another_machine(
    collection, entries, tmp_path
):
    """Absolute paths differ between machines; the order of the manifest does not."""
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in collection.parent.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert digests(moved / collection.name, [0, 1, 2, 3]) == digests(collection, [0, 1, 2, 3])


def test_shares_are_those_of_the_mixture(entries):
    mixture = Mixture()
    stream = stream_of(entries, mixture, CALM, size=16)
    drawn = Counter(stream[index].kind for index in range(600))
    total = sum(getattr(mixture, kind) for kind in KINDS)
    for kind in KINDS:
        share = getattr(mixture, kind) / total
        # Four standard deviations of a count.
        assert abs(drawn[kind] / 600 - share) <= 4 * (share * (1 - share) / 600) ** 0.5, kind


def test_collections_count_by_the_root_of_their_size(photos, tmp_path):
    """Sixteen pictures of one collection are drawn four times as often as one of another; a cap evens it out."""
    cat = photos["cat"][:64, :64]
    crowd = [saved(tmp_path, f"{i}.jpg", cat, source="large") for i in range(16)]
    entries = [*crowd, saved(tmp_path, "single.jpg", cat, source="small")]
    for cap, expected in ((None, 0.8), (16, 0.8), (4, 2 / 3), (1, 0.5)):
        stream = stream_of(entries, only(authentic=1, copy_move=1e-9), CALM, size=16, cap=cap)
        drawn = Counter(stream[index].source for index in range(500))
        assert drawn["large"] / 500 == pytest.approx(expected, abs=0.07)
    with pytest.raises(RecipeError, match="cap = 0"):
        stream_of(entries, cap=0)


EXPECTED_MASKS = {
    # (generated, edited): "none", "all" or "some".
    "authentic": ("none", "none"),
    "control": ("none", "none"),
    "generated": ("all", "none"),
    "twins": ("all", "none"),
    "inpainted": ("some", "some"),
    "filled": ("none", "some"),
    "copy_move": ("none", "some"),
}


def extent(mask: np.ndarray) -> str:
    return "all" if mask.all() else "some" if mask.any() else "none"


@pytest.mark.parametrize("kind", EXPECTED_MASKS)
@pytest.mark.parametrize("nuisance", [None, CALM], ids=["everyday", "calm"])
def test_masks_say_what_was_done(kind, nuisance, entries):
    stream = stream_of(entries, all_of(kind), nuisance)
    wanted = EXPECTED_MASKS[kind]
    shown = 0
    for index in range(25):
        drawn = stream[index]
        assert drawn.kind == kind
        assert drawn.pixels.shape == (SIZE, SIZE, 3)
        assert drawn.generated.shape == drawn.edited.shape == (SIZE, SIZE)
        for mask, expected in ((drawn.generated, wanted[0]), (drawn.edited, wanted[1])):
            # A crop may miss an edit, or lie within it.
            assert expected == "some" or extent(mask) == expected
        if kind == "inpainted":
            assert np.array_equal(drawn.generated, drawn.edited)
        shown += int(drawn.edited.any())
    assert shown >= 18 * (wanted[1] == "some"), "most views of edited photos show the edit"


def test_splices_are_of_three_sorts(entries):
    stream = stream_of(entries, only(spliced=1), CALM)
    sorts: Counter[str] = Counter()
    for index in range(200):
        drawn = stream[index]
        if not drawn.edited.any() or drawn.edited.all():
            continue
        inside, outside = drawn.generated[drawn.edited], drawn.generated[~drawn.edited]
        assert inside.all() == inside.any(), "the piece has one origin"
        assert outside.all() == outside.any(), "the host has one origin"
        assert not (inside.any() and outside.any())
        sorts["into generated" if outside.any() else "generated" if inside.any() else "real"] += 1
    total = sum(sorts.values())
    assert sorts["real"] / total == pytest.approx(0.60, abs=0.12)
    assert sorts["generated"] / total == pytest.approx(0.25, abs=0.12)
    assert sorts["into generated"] / total == pytest.approx(0.15, abs=0.10)


@pytest.fixture(scope="module")
def black_and_white(tmp_path_factory) -> list[Entry]:
    """A black photo, its white twin, and a white generated picture: origins can be read off the pixels."""
    folder = tmp_path_factory.mktemp("black_and_white")
    black, white = (np.full((150, 170, 3), level, np.uint8) for level in (0, 255))
    photo = saved(folder, "photo.jpg", black, source="camera")
    fake = {"label": Label.FAKE, "generator": "chalk"}
    twin = saved(folder, "twin.png", white, source="camera", host_path=photo.path, **fake)
    return [photo, twin, saved(folder, "made.png", white, source="chalk", **fake)]


@pytest.mark.parametrize("kind", ["generated", "twins", "inpainted", "authentic"])
def test_masks_lie_on_the_pixels_they_tell_of(kind, black_and_white):
    """Through flips, turns, resizing and cropping: white is generated, black is not."""
    nuisance = replace(CALM, rescale=codecs.RescaleLaw(0.5))
    stream = stream_of(black_and_white, all_of(kind), nuisance)
    for index in range(40):
        drawn = stream[index]
        level = drawn.pixels.mean(2)
        # A feathered or resampled seam is grey, up to four pixels on either side of it.
        assert (drawn.generated != (level > 127)).mean() < 0.12
        if drawn.generated.all() or not drawn.generated.any():
            assert extent(level > 127) != "some" or kind == "inpainted"
        assert (drawn.generated & (level < 20)).mean() < 0.06
        assert (~drawn.generated & (level > 235)).mean() < 0.06


def test_the_label_follows_from_what_is_visible(entries):
    stream = stream_of(entries)
    for index in range(60):
        drawn = stream[index]
        assert drawn.contains_generated == (drawn.generated.mean() > 0.002)
        assert drawn.was_edited == (drawn.edited.mean() > 0.002)


def panels_of(colours: list[int], side: int) -> np.ndarray:
    half = side // 2
    picture = np.zeros((side, side, 3), np.uint8)
    for index, colour in enumerate(colours):
        row, column = divmod(index, 2)
        picture[row * half : (row + 1) * half, column * half : (column + 1) * half] = colour
    return picture


@pytest.mark.parametrize("side", [2 * SIZE, 160, 401])
def test_panels_are_never_crossed(side, photos, tmp_path):
    fake = {"label": Label.FAKE, "generator": "g", "panels": 2}
    collage = saved(tmp_path, "collage.png", panels_of([20, 90, 160, 230], side), **fake)
    stream = stream_of([saved(tmp_path, "p.jpg", photos["cat"]), collage], only(generated=1), CALM)
    levels = set()
    for index in range(30):
        view = stream[index].pixels
        assert view.min() == view.max()
        levels.add(int(view.min()))
    assert levels == {20, 90, 160, 230}


def test_the_twin_of_a_collage_is_cut_like_it(photos, tmp_path):
    collage = saved(tmp_path, "c.jpg", panels_of([20, 90, 160, 230], 160), panels=2, source="c")
    fake = {"label": Label.FAKE, "generator": "g", "host_path": collage.path, "source": "c"}
    twin = saved(tmp_path, "t.png", panels_of([20, 90, 160, 230], 160), panels=2, **fake)
    for kind in ("twins", "inpainted"):
        stream = stream_of([collage, twin], all_of(kind), CALM)
        for index in range(12):
            view = stream[index].pixels.astype(int)
            assert view.max() - view.min() <= 4  # JPEG of flat panels


@pytest.mark.parametrize("size", [(1, 1), (5, 200), (15, 15), (16, 16), (47, 49), (200, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_tiny_pictures_work(kind, size, photos, tmp_path):
    width, height = size
    small = np.ascontiguousarray(photos["astronaut"][100 : 100 + height, 200 : 200 + width])
    photo = saved(tmp_path, "small.jpg", small, source="s")
    fake = {"label": Label.FAKE, "generator": "g", "source": "s"}
    twin = saved(tmp_path, "twin.png", small, host_path=photo.path, **fake)
    everywhere = mask_file(tmp_path, "mask.png", np.ones((height, width), bool))
    edit = saved(tmp_path, "edit.png", small, kind="inpainting", edited_path=everywhere, **fake)
    whole = saved(tmp_path, "made.png", small, **fake)
    stream = stream_of([photo, twin, whole, edit], all_of(kind))
    for index in range(6):
        drawn = stream[index]
        assert drawn.pixels.shape == (SIZE, SIZE, 3)
        assert drawn.generated.shape == drawn.edited.shape == (SIZE, SIZE)


def test_manipulated_entries_are_left_out_unless_they_have_a_share(entries, photos, tmp_path):
    strange = saved(
        tmp_path, "montage.jpg", photos["cat"], label=Label.FAKE, kind="splicing", source="strange"
    )
    before, after = stream_of(entries), stream_of([*entries, strange])
    assert strange not in after.entries
    assert [digest(after[n]) for n in range(8)] == [digest(before[n]) for n in range(8)]


def mask_file(folder: Path, name: str, mask: np.ndarray) -> Path:
    path = folder / name
    path.write_bytes(codecs.encode(np.repeat(mask[..., None] * np.uint8(255), 3, 2), PNG))
    return path


@pytest.fixture
def edited(tmp_path) -> dict[str, Entry]:
    """A black photo, and what was done to it: edited pixels are white, what a generator wrote around them is grey."""
    region = np.zeros((300, 340), bool)
    region[40:130, 60:160] = True
    masks = {"some": region, "all": np.ones_like(region), "none": np.zeros_like(region)}
    files = {name: mask_file(tmp_path, f"{name}.png", mask) for name, mask in masks.items()}
    black = np.zeros((300, 340, 3), np.uint8)
    pasted, redecoded = black.copy(), black + np.uint8(120)
    pasted[region] = redecoded[region] = 255
    fake = {"label": Label.FAKE, "source": "camera"}
    drawn = {"generator": "brush", "kind": "inpainting"}
    some = {"edited_path": files["some"]}
    return {
        "photo": saved(tmp_path, "photo.png", black, source="camera"),
        "inpainted": saved(
            tmp_path, "i.png", pasted, generated_path=files["some"], **fake, **drawn, **some
        ),
        "redecoded": saved(
            tmp_path, "r.png", redecoded, generated_path=files["all"], **fake, **drawn, **some
        ),
        "moved": saved(tmp_path, "m.png", pasted, kind="copy_move", **fake, **some),
        "unsure": saved(tmp_path, "u.png", pasted, **fake, **drawn, **some),
        "unlocated": saved(tmp_path, "l.png", pasted, **fake, **drawn),
        "retouched": saved(tmp_path, "t.png", pasted, kind="retouch", **fake),
        "spliced": saved(tmp_path, "s.png", pasted, kind="splicing", **fake),
    }


@pytest.mark.parametrize(
    ("name", "generated", "label"),
    [
        ("inpainted", lambda level: level > 188, 1),
        ("redecoded", lambda level: level > 60, 1),
        ("moved", lambda level: level > 300, 0),
    ],
)
def test_manipulated_pictures_of_manifests_are_drawn_with_their_masks(
    name, generated, label, edited
):
    """The two-bit code: pasted back, a frame that was written anew, and an edit without a generator."""
    nuisance = replace(CALM, rescale=codecs.RescaleLaw(0.5))
    stream = stream_of([edited["photo"], edited[name]], only(made=1), nuisance)
    assert edited[name] in stream.entries
    shown = 0
    for index in range(40):
        drawn = stream[index]
        level = drawn.pixels.mean(2)
        assert (drawn.kind, drawn.source, drawn.unknown) == ("made", "camera", frozenset())
        assert (drawn.edited != (level > 188)).mean() < 0.06, "a resampled seam is grey"
        assert (drawn.generated != generated(level)).mean() < 0.06
        if drawn.was_edited:
            shown += 1
            assert drawn.contains_generated == bool(label)
    assert 26 <= shown < 40, "windows look for the edit, but not all of them"


def test_manipulated_pictures_alone_are_something_to_train_on(edited):
    with pytest.raises(MissingDataError, match=r"data\.mixture\.made"):
        stream_of([edited["photo"], edited["inpainted"]], only(authentic=1, generated=1))
    stream = stream_of([edited["photo"], edited["inpainted"]], only(authentic=1, made=1), CALM)
    assert {stream[index].kind for index in range(20)} == {"authentic", "made"}


def test_where_the_generated_pixels_are_unknown_the_edit_tells(edited):
    """Pasted back or written anew? Nobody knows; but the region itself was filled by the generator."""
    stream = stream_of([edited["photo"], edited["unsure"]], only(made=1), CALM)
    drawn = [stream[index] for index in range(40)]
    assert {view.unknown for view in drawn} == {frozenset({"generated"})}
    assert {(view.was_edited, view.answer("generated")) for view in drawn} == {
        (True, True),
        (False, None),
    }


@pytest.mark.parametrize(
    ("name", "generated"), [("unlocated", True), ("retouched", None), ("spliced", False)]
)
def test_without_a_mask_the_whole_picture_is_shown_and_only_its_label_is_known(
    name, generated, edited
):
    whole = stream_of([edited["photo"], edited[name]], only(made=1), replace(CALM, overview=0.3))
    for index in range(8):
        view = whole[index]
        assert view.unknown == {"generated", "edited"}
        assert (view.answer("generated"), view.answer("edited")) == (generated, True)
        assert 0.07 < (view.pixels > 128).mean() < 0.15, "the largest square, with its edit"
    with pytest.raises(MissingDataError, match=r"data\.nuisance\.overview"):
        stream_of([edited["photo"], edited[name]], only(authentic=1, made=1), CALM)


def test_manipulated_collections_are_capped_and_told_apart_by_kind(edited):
    crowd = [replace(edited["moved"], source="large") for _ in range(16)]
    entries = [edited["photo"], *crowd, edited["inpainted"]]
    for cap, expected in ((None, 0.8), (1, 0.5)):
        stream = stream_of(entries, only(made=1), CALM, size=16, cap=cap)
        drawn = Counter(stream[index].source for index in range(400))
        assert drawn["large"] / 400 == pytest.approx(expected, abs=0.08)
    same = [replace(edited["moved"], source="camera") for _ in range(16)]
    stream = stream_of([edited["photo"], *same, edited["inpainted"]], only(made=1), CALM, size=16)
    filled = sum(stream[index].generated.any() for index in range(200))
    assert filled > 20, "one inpainting is not lost among sixteen copies"


def test_shares_that_cannot_be_served_are_dropped(entries):
    photos_only = [entry for entry in entries if entry.label is Label.REAL]
    stream = stream_of(photos_only)
    assert set(stream.kinds) == {"authentic", "control", "filled", "copy_move", "spliced"}
    assert sum(stream.shares) == pytest.approx(1)
    for index in range(30):
        assert not stream[index].generated.any()
    no_twins = [entry for entry in entries if entry.host_path is None]
    assert set(KINDS) - set(stream_of(no_twins).kinds) == {"twins", "inpainted", "made"}


def test_one_class_alone_is_refused(entries):
    photos_only = [entry for entry in entries if entry.label is Label.REAL]
    with pytest.raises(MissingDataError, match="Nothing fake to train on"):
        stream_of(photos_only, only(authentic=1, control=1, generated=1))
    with pytest.raises(MissingDataError, match="No real photo"):
        stream_of([entry for entry in entries if entry.label is Label.FAKE])


def test_pictures_are_not_written_to(entries):
    pictures = Pictures(10**9)
    before = {entry.path: pictures.image(entry.path).copy() for entry in entries}
    stream = Stream(entries, pictures, SIZE)
    for index in range(60):
        stream[index]
    for path, image in before.items():
        assert np.array_equal(pictures.image(path), image)


# Probes: what a detector could read off a view without looking for traces of a generator.


def blockiness(view: np.ndarray) -> float:
    """How much stronger steps are on the most conspicuous of the eight phases of a JPEG grid."""
    grey = view.astype(float).mean(2)
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(grey, axis=axis)).mean(1 - axis)
        phases = np.array([steps[phase::8].mean() for phase in range(8)])
        ratios.append(phases.max() / (np.median(phases) + 0.1))
    return float(np.mean(ratios))


def sharpness(view: np.ndarray) -> float:
    grey = view.astype(float).mean(2)
    return float(np.abs(np.diff(np.diff(grey, axis=0), axis=1)).mean())


def flatness(view: np.ndarray) -> float:
    grey = view.astype(float).mean(2)
    return float((np.diff(grey, axis=1) == 0).mean())


def colour_detail(view: np.ndarray) -> float:
    """Fine structure of a colour difference, which JPEG throws away first."""
    blue = view[..., 2].astype(float) - view.astype(float).mean(2)
    return float(np.abs(np.diff(blue, axis=1)).mean())


PROBES = (blockiness, sharpness, flatness, colour_detail)


@pytest.fixture(scope="module")
def same_content(photos, tmp_path_factory) -> list[Entry]:
    """Every picture twice: as a "photo" in a JPEG file and as a "fake" in a PNG file. Nothing else differs."""
    folder = tmp_path_factory.mktemp("same_content")
    entries = []
    for name, photo in photos.items():
        entries.append(saved(folder, f"{name}.jpg", photo, source=name))
        fake = {"label": Label.FAKE, "generator": "none", "source": name}
        entries.append(saved(folder, f"{name}.png", photo, **fake))
    return entries


def separation(entries: list[Entry], nuisance: Nuisance, count: int = 400) -> dict[str, float]:
    """Return each probe's distance from chance: |AUROC - 0.5|."""
    stream = stream_of(entries, only(authentic=1, generated=1), nuisance, size=96, seed=1)
    views = [stream[index] for index in range(count)]
    truth = [drawn.contains_generated for drawn in views]
    return {
        probe.__name__: abs(roc_auc_score(truth, [probe(drawn.pixels) for drawn in views]) - 0.5)
        for probe in PROBES
    }


def test_the_file_format_does_not_give_the_label_away(same_content):
    """Tolerance 0.1: chance itself strays by 0.03 over 400 views."""
    found = separation(same_content, Nuisance())
    assert max(found.values()) < 0.1, found


def test_the_probes_would_find_the_format(same_content):
    """Without a JPEG's history for the PNG files, colour alone tells them apart: the test above has teeth."""
    assert separation(same_content, CALM)["colour_detail"] > 0.3
    without_history = separation(same_content, Nuisance(history=UNTOUCHED))
    assert without_history["colour_detail"] > 0.1


def test_a_history_like_the_photos_leaves_nothing_to_find(same_content):
    """Where nothing disturbs a view afterwards, too: neither quality nor place of the grid differ."""
    camera = codecs.EncodingLaw(
        0.0, 1.0, 0.0, 0.0, qualities=((92, 1.0),), subsamplings=(("4:2:0", 1.0),)
    )
    found = separation(same_content, replace(CALM, history=camera))
    assert max(found.values()) < 0.1, found


def test_an_overview_shows_the_whole_picture_reduced_and_is_of_one_class(entries):
    calm = replace(CALM, overview=1.0)
    for kind in ("authentic", "generated"):
        stream = stream_of(entries, all_of(kind), calm)
        for number in range(6):
            drawn = stream[number]
            assert drawn.pixels.shape == (SIZE, SIZE, 3)
            assert drawn.generated.all() == drawn.generated.any() == (kind == "generated")
            assert not drawn.edited.any()


def test_whole_pictures_are_photos_and_generated_ones_half_each(entries):
    stream = stream_of(entries, only(copy_move=1), CALM)
    wholes = stream.wholes()
    drawn = [wholes[number] for number in range(40)]
    kinds = [view.kind for view in drawn]
    assert set(kinds) == {"authentic", "generated"}
    assert 10 < kinds.count("generated") < 30
    shown = stream_of(entries, all_of("generated"), replace(CALM, overview=1.0))
    assert drawn[0].pixels.shape == shown[0].pixels.shape
    assert stream[0].kind == "copy_move", "the stream itself stays as it is"


def test_whole_pictures_need_generated_ones(entries):
    photos = [entry for entry in entries if entry.label is Label.REAL]
    with pytest.raises(MissingDataError, match="No generated image"):
        stream_of(photos, only(copy_move=1), CALM).wholes()


def test_edits_are_never_shown_as_overviews(entries):
    """Reduced, an edit's mask would be gone."""
    with_overviews = stream_of(entries, only(copy_move=1), replace(CALM, overview=1.0))
    without = stream_of(entries, only(copy_move=1), CALM)
    assert [digest(with_overviews[n]) for n in range(4)] == [digest(without[n]) for n in range(4)]


def gradient(height: int, width: int) -> np.ndarray:
    """Red grows to the right and green downwards, so that pixels tell where they were."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, width)[None].astype(np.uint8)
    picture[..., 1] = np.linspace(0, 255, height)[:, None].astype(np.uint8)
    return picture


def spans(view: np.ndarray) -> list[int]:
    """How far red and green reach: 255 where all of a ``gradient`` is shown."""
    return [int(np.ptp(view[..., channel].astype(int))) for channel in (0, 1)]


@pytest.mark.parametrize("size", [(700, 300), (120, 260), (30, 20)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_that_squeezes_sees_whole_pictures_in_training(kind, size, tmp_path):
    """Native windows would not show what the detector is asked about in tests."""
    picture = gradient(*size)
    photo = saved(tmp_path, "photo.png", picture, source="s")
    fake = {"label": Label.FAKE, "generator": "g", "source": "s"}
    mask = np.zeros(size, bool)
    mask[: size[0] // 2] = True
    entries = [
        photo,
        saved(tmp_path, "twin.png", picture, host_path=photo.path, **fake),
        saved(tmp_path, "whole.png", picture, **fake),
        saved(
            tmp_path,
            "edit.png",
            picture,
            kind="inpainting",
            edited_path=mask_file(tmp_path, "mask.png", mask),
            **fake,
        ),
    ]
    for nuisance in (CALM, replace(CALM, rescale=codecs.RescaleLaw(1.0), overview=1.0)):
        stream = Stream(entries, Pictures(10**9), SIZE, all_of(kind), nuisance, fit="resize")
        for index in range(4):
            drawn = stream[index]
            assert drawn.pixels.shape == (SIZE, SIZE, 3)
            assert min(spans(drawn.pixels)) > 200, "an edit may cover a corner"
            if kind == "made":
                assert 0.4 < drawn.edited.mean() < 0.6
                upper = drawn.pixels[..., 1] < 128
                assert (drawn.edited != upper).mean() < 0.1 or size == (30, 20)
            else:
                assert extent(drawn.generated) == EXPECTED_MASKS.get(kind, ["some"])[0] or (
                    kind == "spliced"
                )


def test_squeezed_views_of_photos_are_what_the_detector_sees_in_tests(photos, tmp_path):
    photo = saved(tmp_path, "cat.jpg", photos["cat"], source="s")
    spec = ViewSpec(SIZE, "resize", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    (expected,) = views_of(decode(photo.path).image, spec)
    stream = Stream([photo], Pictures(10**9), SIZE, all_of("authentic"), CALM, fit="resize")
    shown = [stream[index].pixels.transpose(2, 0, 1) / 255 for index in range(16)]
    upright = min(np.abs(view - expected.pixels).mean() for view in shown)
    assert upright < 0.02, "but for turns, and for the reduction on the way"


def test_squeezed_views_need_no_mask_of_an_edit(edited):
    entries = [edited["photo"], edited["unlocated"]]
    stream = Stream(entries, Pictures(10**9), SIZE, only(made=1), CALM, fit="resize")
    view = stream[0]
    assert (view.answer("generated"), view.answer("edited")) == (True, True)
    assert view.unknown == {"generated", "edited"}


def test_an_overview_keeps_the_pictures_colours(tmp_path):
    image = np.zeros((200, 300, 3), np.uint8)
    image[:, :, 0] = np.linspace(0, 255, 200)[:, None]
    photo = saved(tmp_path, "a.png", image)
    stream = stream_of([photo], all_of("authentic"), replace(CALM, overview=1.0))
    for number in range(5):
        assert abs(float(stream[number].pixels[..., 0].mean()) - 127.5) < 10


def test_photos_can_be_drawn_as_they_are(collection):
    """Turned and mirrored at most: what is measured on them is about photos, not about what happens to them."""
    entries = read_manifest(collection)
    stream = stream_of(entries, nuisance=Nuisance(tone=1.0, noise=1.0, again=1.0), size=24)
    pictures = {
        entry.source: stream.pictures.image(entry.path)
        for entry in entries
        if entry.label is Label.REAL
    }

    def found(view: Drawn) -> bool:
        photo = pictures[view.source]
        for way in (view.pixels, view.pixels[:, ::-1]):
            for turned in (np.rot90(way, k) for k in range(4)):
                starts = np.argwhere((photo[:-23, :-23] == turned[0, 0]).all(2))
                if any(np.array_equal(photo[y : y + 24, x : x + 24], turned) for y, x in starts):
                    return True
        return False

    assert all(found(stream.authentic(disturbed=False)[number]) for number in range(6))
    assert not any(found(stream.authentic()[number]) for number in range(3))


@pytest.fixture
def marked(tmp_path) -> list[Entry]:
    """Photos with one red thing each, whose mask the manifest names; and one picture without any."""
    rng = np.random.default_rng(3)
    entries = []
    for number in range(3):
        pixels = rng.integers(60, 200, (120, 150, 3), dtype=np.uint8)
        thing = np.zeros((120, 150), bool)
        thing[30:75, 40 + 10 * number : 100 + 10 * number] = True
        pixels[thing] = (255, 0, 0)
        PIL.Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        PIL.Image.fromarray(thing).save(tmp_path / f"{number}-thing.png")
        entries.append(
            Entry(
                tmp_path / f"{number}.png",
                Label.REAL,
                source="marked",
                object_paths=(tmp_path / f"{number}-thing.png",),
            )
        )
    return entries


@pytest.mark.parametrize("fit", ["tiles", "resize"])
@pytest.mark.parametrize("kind", ["copy_move", "filled", "spliced"])
def test_things_that_a_manifest_marks_are_edited_in_training(kind, fit, marked, monkeypatch):
    """Their masks lie on them, whatever window is cut, and however far it is reduced."""
    seen: list[tuple[np.ndarray, list[np.ndarray]]] = []
    draw = regions.Pieces.draw if kind != "filled" else regions.Regions.draw
    owner = regions.Pieces if kind != "filled" else regions.Regions

    def noting(self, height, width, rng, objects=()):
        seen.append(((height, width), list(objects)))
        return draw(self, height, width, rng, objects)

    monkeypatch.setattr(owner, "draw", noting)
    stream = Stream(marked, Pictures(10**9), SIZE, only(**{kind: 1.0}), CALM, fit=fit)
    for index in range(12):
        stream[index]
    assert len(seen) >= 12
    assert all(mask.shape == shape for shape, masks in seen for mask in masks)
    assert any(mask.any() for _, masks in seen for mask in masks)
    scope = Scope(side=64) if fit == "tiles" else Scope(reach=50.0)
    for index in range(6):
        scene = stream.scene(marked[0], scope, np.random.default_rng(index))
        red = (scene.image[..., 0] > 230) & (scene.image[..., 1:] < 40).all(2)
        (mask,) = scene.objects
        assert mask.shape == scene.image.shape[:2]
        assert (mask == red).mean() > (0.999 if fit == "tiles" else 0.93)


def test_photos_whose_things_cannot_be_read_are_found_before_training(marked, tmp_path):
    lost = replace(marked[0], object_paths=(tmp_path / "none.png",))
    (tmp_path / "small.png").write_bytes((tmp_path / "0-thing.png").read_bytes())
    PIL.Image.fromarray(np.zeros((9, 9), bool)).save(tmp_path / "small.png")
    small = replace(marked[1], object_paths=(tmp_path / "small.png",))
    found = Pictures(10**9).preload_masks([lost, small, marked[2]])
    assert [path for path, _ in found] == [lost.path, small.path]


@pytest.mark.parametrize("name", ["a.jpg", "b.png", "c.jfif"])
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_content_and_not_the_name_says_whether_a_picture_was_a_jpeg_file(
    name, kind, photos, tmp_path
):
    path = tmp_path / name
    path.write_bytes(codecs.encode(photos["cat"], codecs.Encoding(kind, 92)))
    always = codecs.EncodingLaw(0.0, 1.0, 0.0, 0.0)
    stream = stream_of(
        [Entry(path, Label.REAL)], all_of("authentic"), replace(CALM, history=always)
    )
    window = photos["cat"][:SIZE, :SIZE]
    aged = stream.aged(stream.photos.entries[0], window, Scope(SIZE), np.random.default_rng(0))
    assert np.array_equal(aged, window) == (kind == "jpeg")
