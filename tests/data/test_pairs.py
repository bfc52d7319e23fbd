"""Photos beside their twins: one window, one chain, and nothing else that tells them apart."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from gammascope.data.laws import Mixture, Nuisance, Pairs
from gammascope.data.manifest import read_manifest
from gammascope.data.pictures import Pictures
from gammascope.data.synthesis import Stream
from gammascope.errors import MissingDataError
from gammascope.imaging import codecs
from gammascope.sample import Entry, Label

SIZE = 48
HALF = replace(
    Mixture(**dict.fromkeys((item.name for item in fields(Mixture)), 0.0)), authentic=0.5, twins=0.5
)
ALL = Pairs(share=1.0)
PLAIN = replace(ALL, own_quality=0.0, blend=0.0, smaller=0.0, larger=0.0)
UNTOUCHED = codecs.EncodingLaw(1.0, 0.0, 0.0, 0.0)
CALM = Nuisance(
    UNTOUCHED, codecs.RescaleLaw(0.0), UNTOUCHED, again=0.0, tone=0.0, noise=0.0, blur=0.0
)
WILD = Nuisance(again=0.5, tone=1.0, noise=1.0, blur=0.5)


@pytest.fixture
def same(photos, tmp_path) -> list[Entry]:
    """Photos with twins that equal them to the bit: whatever differs in a view, the chain did."""
    entries = []
    for name, suffix in (("cat", "jpg"), ("coffee", "png")):
        encoding = codecs.Encoding("jpeg" if suffix == "jpg" else "png", 92)
        photo, twin = tmp_path / f"{name}.{suffix}", tmp_path / f"{name}-t.png"
        photo.write_bytes(codecs.encode(photos[name], encoding))
        decoded = Pictures(0).image(photo)
        twin.write_bytes(codecs.encode(decoded, codecs.Encoding("png")))
        fake = {"label": Label.FAKE, "generator": "mirror", "source": name}
        entries += [Entry(photo, Label.REAL, source=name), Entry(twin, host_path=photo, **fake)]
    return entries


def stream_of(entries, pairs, nuisance=CALM, *, seed=0, **how) -> Stream:
    return Stream(entries, Pictures(10**9), SIZE, HALF, nuisance, pairs=pairs, seed=seed, **how)


@pytest.mark.parametrize("fit", ["tiles", "resize"])
@pytest.mark.parametrize("nuisance", [CALM, WILD, Nuisance()], ids=["calm", "wild", "everyday"])
def test_a_photo_and_its_twin_go_one_way(same, nuisance, fit):
    """Same picture, same place, same flips, scale, noise, tones and encoders: equal to the bit."""
    pairs = replace(ALL, own_quality=0.0, blend=0.0)
    stream = stream_of(same, pairs, nuisance, fit=fit)
    for number in range(24):
        photo, twin = stream[2 * number], stream[2 * number + 1]
        assert (photo.kind, twin.kind) == ("authentic", "twins")
        assert photo.source == twin.source
        assert np.array_equal(photo.pixels, twin.pixels)
        assert not photo.generated.any()
        assert twin.generated.all()
        assert not photo.edited.any() | twin.edited.any()


def test_without_pairs_views_are_drawn_as_ever(same):
    single, none = stream_of(same, None, Nuisance()), stream_of(same, Pairs(), Nuisance())
    for number in range(12):
        assert np.array_equal(single[number].pixels, none[number].pixels)
    photo, twin = single[0], single[1]
    assert not np.array_equal(photo.pixels, twin.pixels)


def test_a_share_of_pairs_leaves_the_rest_to_the_mixture(same):
    some = stream_of(same, replace(PLAIN, share=0.5))
    single = stream_of(same, None)
    paired = 0
    for number in range(100):
        views = [some[2 * number], some[2 * number + 1]]
        alone = [single[2 * number], single[2 * number + 1]]
        unpaired = all(
            np.array_equal(one.pixels, other.pixels)
            for one, other in zip(views, alone, strict=True)
        )
        paired += not unpaired
    assert 30 < paired < 70


def test_pairs_depend_on_seed_and_number_alone(same):
    one, other = stream_of(same, ALL, WILD), stream_of(same, ALL, WILD)
    backwards = [other[number].pixels for number in reversed(range(12))][::-1]
    assert all(np.array_equal(one[n].pixels, backwards[n]) for n in range(12))
    assert not np.array_equal(one[0].pixels, stream_of(same, ALL, WILD, seed=1)[0].pixels)
    assert not np.array_equal(one[0].pixels, one.numbered(0, 1).pixels)


def test_half_of_the_twins_are_saved_as_their_photo_was(photos, tmp_path):
    """On the photo's own grid: the twin of a photo, saved at its quality, is what that JPEG file holds."""
    original = np.ascontiguousarray(photos["cat"])
    photo, twin = tmp_path / "p.jpg", tmp_path / "t.png"
    photo.write_bytes(codecs.encode(original, codecs.Encoding("jpeg", 60)))
    twin.write_bytes(codecs.encode(original, codecs.Encoding("png")))
    fake = {"label": Label.FAKE, "generator": "g", "source": "s", "host_path": photo}
    entries = [Entry(photo, Label.REAL, source="s"), Entry(twin, **fake)]
    stream = stream_of(entries, replace(PLAIN, own_quality=0.5))
    differences = []
    for number in range(60):
        pair = [stream[2 * number + k].pixels.astype(int) for k in (0, 1)]
        # Blocks at the window's border were saved with other neighbours' colours: away from it.
        differences.append(np.abs(pair[0] - pair[1])[16:-16, 16:-16].mean())
    saved = sum(difference < 0.05 for difference in differences)
    assert 18 < saved < 42
    assert max(differences) > 1
    assert stream.pictures.saved_as(photo) == codecs.Encoding("jpeg", 60)
    assert stream.pictures.saved_as(twin) is None


def test_pairs_are_scaled_alike_and_never_below_a_view(same):
    law = replace(ALL, smaller=0.5, larger=0.25)
    rng = np.random.default_rng(0)
    drawn = [law.scale(0.4, rng) for _ in range(400)]
    factors = [scale[0] for scale in drawn if scale]
    assert 0.4 <= min(factors) < 0.45
    assert 3.3 < max(factors) <= 3.5
    assert len({scale[1] for scale in drawn if scale}) == 6
    assert sum(scale is None for scale in drawn) / 400 == pytest.approx(0.25, abs=0.07)
    small = [scale[0] for _ in range(40) if (scale := law.scale(2.0, rng))]
    assert min(small) == 1, "a photo that does not fill a view is not reduced"
    with pytest.raises(ValueError, match="0 < smallest <= 1 <= largest"):
        replace(law, smallest=2.0)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        replace(law, smaller=0.8)


def test_spectra_mixed_in_one_ratio_are_mixed_pixels(photos):
    """So one share of blended twins stands for both mixtures of the published code."""
    photo, twin = photos["cat"][:48, :64], photos["coffee"][:48, :64]
    bases = [dct_basis(length) for length in photo.shape[:2]]

    def there(image):
        return np.einsum("ky,yxc,lx->klc", bases[0], image.astype(float), bases[1])

    spectrum = 0.3 * there(photo) + 0.7 * there(twin)
    back = np.einsum("ky,klc,lx->yxc", bases[0], spectrum, bases[1])
    pixels = codecs.blend(twin, photo, 0.3)
    assert np.abs(back - pixels).max() <= 0.5 + 1e-4, "rounding to whole numbers, and no more"


def dct_basis(length: int) -> np.ndarray:
    """Rows of the orthonormal discrete cosine transform."""
    place, wave = np.arange(length) + 0.5, np.arange(length)
    rows = np.sqrt(2 / length) * np.cos(np.pi * wave[:, None] * place / length)
    rows[0] /= np.sqrt(2)
    return rows


def test_some_twins_are_blended_with_their_photo(collection):
    entries = read_manifest(collection)
    pure = stream_of(entries, PLAIN)
    mixed = stream_of(entries, replace(PLAIN, blend=1.0))
    nearer = 0
    for number in range(1, 24, 2):
        photo, twin, blended = (
            view.pixels.astype(int) for view in (pure[number - 1], pure[number], mixed[number])
        )
        nearer += np.abs(blended - photo).mean() <= np.abs(twin - photo).mean()
        assert np.array_equal(mixed[number - 1].pixels, pure[number - 1].pixels)
    assert nearer == 12


def test_parts_of_a_stream_have_no_pairs(collection):
    stream = stream_of(read_manifest(collection), ALL)
    assert {stream.authentic()[number].kind for number in range(8)} == {"authentic"}
    assert {stream.wholes()[number].kind for number in range(16)} == {"authentic", "generated"}


def test_a_twin_of_another_size_is_named(same, tmp_path):
    small = tmp_path / "small.png"
    small.write_bytes(codecs.encode(np.zeros((60, 60, 3), np.uint8), codecs.Encoding("png")))
    entries = [same[0], replace(same[1], path=small)]
    with pytest.raises(
        MissingDataError, match=r"small\.png is 60 x 60 px and its photo .*cat\.jpg"
    ):
        stream_of(entries, ALL)[0]


def test_pairs_need_twins(collection):
    entries = [entry for entry in read_manifest(collection) if entry.host_path is None]
    mixture = replace(HALF, generated=0.5)
    with pytest.raises(MissingDataError, match="synthesize --kind twin"):
        Stream(entries, Pictures(0), SIZE, mixture, CALM, pairs=ALL)
