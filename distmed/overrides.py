"""`key=value` overrides of a recipe: dotted paths reach into sections, numbers into lists.

Plain values as YAML gives them and an override flow in; the values are changed in place.
"""

from __future__ import annotations

from typing import Any

import yaml

from distmed.errors import UserError
from distmed.values import parse


def apply_override(values: Any, override: str) -> None:
    """Write one `key=value` into plain values, before they are checked."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"not an override: {override}", "write key=value, for example optimizer.lr=1e-5")
    try:
        value = parse(text)
    except yaml.YAMLError as error:
        raise UserError(f"{key}: not a value: {text}", "quote it, or write it as in a YAML file") from error
    assign(values, key, value)


def assign(values: Any, key: str, value: Any) -> None:
    """Set what a dotted path leads to; a section that is null begins to exist. Raises UserError where it leads nowhere."""
    *path, last = key.split(".")
    here = values
    for part in path:
        here = _enter(here, part, key)
    if isinstance(here, list):
        here[_index(here, last, key)] = value
    else:
        here[last] = value


def _enter(here: Any, part: str, key: str) -> Any:
    if isinstance(here, list):
        return here[_index(here, part, key)]
    inner = here.get(part)
    if inner is None:
        inner = here[part] = {}
    if not isinstance(inner, dict | list):
        raise UserError(f"{key}: `{part}` holds a value, not a section", f"set `{part}` itself, or mend the path")
    return inner


def _index(items: list[Any], part: str, key: str) -> int:
    if not part.isdigit() or int(part) >= len(items):
        raise UserError(f"{key}: `{part}` is no index of a list of {len(items)}", f"use 0 to {len(items) - 1}")
    return int(part)
