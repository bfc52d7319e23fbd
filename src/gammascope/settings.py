"""Frozen dataclasses from plain mappings (TOML, JSON): typed, complete, and strict about unknown keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from gammascope.errors import RecipeError, did_you_mean

T = TypeVar("T")


def parse(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build a (nested) dataclass from a mapping; missing keys keep their defaults.

    Args:
        kind: A dataclass; its annotations say which values are possible.
        values: Plain types, as TOML and JSON give them.
        where: Named in errors ("recipe gamma.toml, section method").

    Raises:
        RecipeError: On an unknown key (the nearest known one is offered) or an impossible value.
    """
    _refuse_unknown(kind, values, where)
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if not place:  # said by the class itself, which names what it refuses
            reason = first["msg"].removeprefix("Value error, ").rstrip(".")
            raise RecipeError(f"{where}: {reason}.") from None
        raise RecipeError(
            f"{where}: {place} = {first.get('input')!r}: {first['msg'].lower()}."
        ) from None
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: {error}") from None


def plain(value: Any) -> Any:
    """Turn a (nested) dataclass into types that JSON and TOML can hold; the reverse of ``parse``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def override(values: Mapping[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Apply ``section.key=value`` assignments, as given on a command line, to nested mappings.

    Values are read as TOML; what is not TOML is taken as text.

    >>> override({"method": {"size": 160}}, ["method.size=224", "method.backbone=compact"])
    {'method': {'size': 224, 'backbone': 'compact'}}
    """
    import copy
    import tomllib

    result: dict[str, Any] = copy.deepcopy(dict(values))
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign or not name.strip():
            raise RecipeError(f"Cannot read override {assignment!r}: expected section.key=value.")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *sections, key = name.strip().split(".")
        place = result
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise RecipeError(f"Cannot set {name!r}: {section!r} is a value, not a section.")
        place[key] = value
    return result


def _refuse_unknown(kind: Any, values: Mapping[str, Any], where: str) -> None:
    known = {item.name: item for item in dataclasses.fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise RecipeError(
                f"{where}: unknown key {key!r}.{did_you_mean(key, known)} Known: {', '.join(known)}."
            )
        nested = _nested(kind, key)
        if nested is not None and isinstance(value, Mapping):
            _refuse_unknown(nested, value, f"{where}.{key}")


def _nested(kind: Any, name: str) -> Any:
    import typing

    hint = typing.get_type_hints(kind)[name]
    return hint if dataclasses.is_dataclass(hint) else None
