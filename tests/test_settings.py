"""From plain mappings to dataclasses and back; and what is refused on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gammascope import settings
from gammascope.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Lens:
    length_mm: float = 50.0
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Camera:
    shots: int = 36
    film: Literal["colour", "grey"] = "colour"
    loaded: bool = True
    lens: Lens = field(default_factory=Lens)
    spare: Mapping[str, Lens] = field(default_factory=dict)
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.shots < 1:
            raise ValueError(f"shots={self.shots}: expected at least 1.")


def parse(**values: Any) -> Camera:
    return settings.parse(Camera, values, "here")


def test_missing_keys_keep_their_defaults():
    assert parse() == Camera()
    assert parse(lens={"names": ["a"]}) == Camera(lens=Lens(50.0, ("a",)))


def test_types_come_out_as_they_are_annotated():
    camera = parse(lens={"length_mm": 35, "names": ["a", "b"]}, spare={"far": {"length_mm": 300}})
    assert camera.lens == Lens(35.0, ("a", "b"))
    assert isinstance(camera.lens.length_mm, float)
    assert camera.spare == {"far": Lens(300.0)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shot": 1}, r"here: unknown key 'shot'. Did you mean 'shots'\? Known: shots, film"),
        ({"zzz": 1}, r"here: unknown key 'zzz'. Known: shots"),
        (
            {"lens": {"lengthmm": 1}},
            r"here\.lens: unknown key 'lengthmm'. Did you mean 'length_mm'",
        ),
        ({"shots": "many"}, r"here: shots = 'many': .*integer"),
        ({"shots": 2.5}, r"here: shots = 2\.5: .*integer"),
        ({"film": "sepia"}, r"here: film = 'sepia': .*'colour' or 'grey'"),
        ({"lens": {"length_mm": "long"}}, r"here: lens\.length_mm = 'long': .*number"),
        ({"lens": 3}, "here: lens = 3: "),
        ({"lens": {"names": "abc"}}, r"here: lens\.names = 'abc': .*tuple"),
        ({"loaded": "perhaps"}, "here: loaded = 'perhaps': .*boolean"),
        ({"shots": 0}, "shots=0: expected at least 1"),
        ({"limit": "x"}, "here: limit = 'x': "),
    ],
)
def test_wrong_settings_are_refused_in_one_line(values, message):
    with pytest.raises(RecipeError, match=message) as caught:
        parse(**values)
    assert "\n" not in str(caught.value)


cameras = st.builds(
    Camera,
    shots=st.integers(1, 10**9),
    film=st.sampled_from(["colour", "grey"]),
    loaded=st.booleans(),
    lens=st.builds(
        Lens,
        length_mm=st.floats(allow_nan=False, allow_infinity=False),
        names=st.lists(st.text()).map(tuple),
    ),
    spare=st.dictionaries(st.text(), st.builds(Lens)),
    limit=st.none() | st.integers(),
)


@given(camera=cameras)
def test_plain_is_json_and_comes_back(camera):
    text = json.dumps(settings.plain(camera))
    assert settings.parse(Camera, json.loads(text), "here") == camera


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        ([], {"a": {"b": 1, "c": "x"}, "d": 2}),
        (["a.b=3"], {"a": {"b": 3, "c": "x"}, "d": 2}),
        (["a.b=3", "a.b=4"], {"a": {"b": 4, "c": "x"}, "d": 2}),
        (["d=1e-3"], {"a": {"b": 1, "c": "x"}, "d": 1e-3}),
        (["d=[1, 2]"], {"a": {"b": 1, "c": "x"}, "d": [1, 2]}),
        (["d=true"], {"a": {"b": 1, "c": "x"}, "d": True}),
        (["d='5'"], {"a": {"b": 1, "c": "x"}, "d": "5"}),
        (["d=a/b=c.csv"], {"a": {"b": 1, "c": "x"}, "d": "a/b=c.csv"}),
        (["d="], {"a": {"b": 1, "c": "x"}, "d": ""}),
        (["new.deep.key=1"], {"a": {"b": 1, "c": "x"}, "d": 2, "new": {"deep": {"key": 1}}}),
    ],
)
def test_overrides(assignments, expected):
    values = {"a": {"b": 1, "c": "x"}, "d": 2}
    assert settings.override(values, assignments) == expected
    assert values == {"a": {"b": 1, "c": "x"}, "d": 2}, "the input was written to"


@pytest.mark.parametrize("assignment", ["size", "=3", " =3", ""])
def test_an_override_without_a_name_or_a_value_is_refused(assignment):
    with pytest.raises(RecipeError, match=r"expected section\.key=value"):
        settings.override({}, [assignment])


def test_an_override_cannot_turn_a_value_into_a_section():
    with pytest.raises(RecipeError, match="'d' is a value, not a section"):
        settings.override({"d": 2}, ["d.e=1"])
