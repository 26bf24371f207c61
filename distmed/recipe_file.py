"""A recipe as it is read: a YAML file and `key=value` overrides flow in, a checked `Recipe` flows out.

Anything wrong becomes a `UserError` that names the key and, for a misspelt one, the nearest that exists.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from distmed.errors import UserError
from distmed.overrides import apply_override
from distmed.recipe import Recipe
from distmed.values import parse


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a YAML recipe and apply `key=value` overrides (dotted paths, lists by index).

    Raises UserError for a missing file, bad YAML, an unknown key (with the nearest known one) or a wrong type.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"recipe not found: {path}", "name a YAML file; recipes to start from lie in recipes/")
    try:
        read = parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}", "mend the file at that place") from error
    if not isinstance(read, dict):
        raise UserError(f"{path} holds no recipe", "a recipe is a mapping that starts with `name:` and `task:`")
    for override in overrides or []:
        apply_override(read, override)
    return check(read)


def check(values: dict[str, Any]) -> Recipe:
    """Validate plain values into a Recipe; the first fault becomes a UserError."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        raise _explain(fault) from error


def _explain(fault: Any) -> UserError:
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _keys_beside(fault["loc"])
        near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known keys there: {', '.join(known)}"
        return UserError(f"unknown recipe key: {where}", hint)
    if fault["type"] == "missing":
        return UserError(f"the recipe lacks {where}", f"add `{fault['loc'][-1]}:` to it")
    if fault["type"] == "value_error" and not where:
        what, _, how = str(fault["ctx"]["error"]).partition("; ")
        return UserError(what, how or "mend the recipe")
    return UserError(f"{where}: {fault['msg'].lower()}, not {fault['input']!r}", "mend the value in the recipe")


def _keys_beside(loc: tuple[Any, ...]) -> list[str]:
    section: type[BaseModel] = Recipe
    of_many = False
    for part in loc[:-1]:
        if of_many:  # the index, or the key, of one of several sections
            of_many = False
            continue
        annotation = section.model_fields[part].annotation
        kinds = _models_in(annotation)
        if not kinds:
            return []
        section, of_many = kinds[0], get_origin(annotation) in (list, dict)
    return list(section.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
