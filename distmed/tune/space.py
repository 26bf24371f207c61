"""The space of a search: which recipe keys vary over what, held against the recipe's own types before anything starts.

A recipe with a `tune:` block flows in; settings (a value for each active key) drawn by Optuna, and the recipe that a setting
makes, flow out.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from distmed.errors import UserError
from distmed.overrides import assign
from distmed.recipe import Recipe
from distmed.recipe_file import check
from distmed.tuning import Knob, Tune

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial

Setting = dict[str, Any]
"""A value for each knob that is active, by its dotted key."""

FIXED = {
    "name": "it names the run",
    "task": "trials must be comparable",
    "tune": "a search cannot vary itself",
    "tracking": "it does not change a model",
    "checkpoint": "it does not change a model",
    "cluster": "trials must be comparable; --num-workers sets their size",
    "train.seed": "repeat each setting over seeds with tune.seeds",
    "train.eval_every": "trials must be measured at the same steps",
    "data.eval": "all trials must be measured on the same cases",
    "data.test": "it is scored once, for the winner",
}
PROBE = 0.37
"""Where between low and high a value is tried that no whole number hits by chance."""


class Space:
    """The knobs of a recipe's `tune:` block. Raises UserError for one that the recipe has no place or no use for."""

    def __init__(self, recipe: Recipe) -> None:
        assert recipe.tune is not None
        self.recipe = recipe
        self.values: dict[str, Any] = {**recipe.model_dump(mode="json"), "tune": None}
        self.knobs = dict(recipe.tune.space)
        if not self.knobs:
            raise UserError("tune.space names no key", "give it one, such as optimizer.lr: {loguniform: [1e-6, 1e-3]}")
        for key, knob in self.knobs.items():
            _check_place(key)
            if knob.choice == []:
                raise UserError(f"tune.space.{key}: nothing to choose from", "give `choice` at least one value")
        self.order = self._ordered()
        self.knobs = {key: self._normalized(key) for key in self.order}
        self.untuned = self._there(self.values, [key for key in self.order if self._wanted(key, {})])
        self.initial = [self._checked_initial(setting) for setting in recipe.tune.initial]

    def recipe_of(self, setting: Mapping[str, Any]) -> Recipe:
        """The recipe with this setting; raises UserError where both do not fit together."""
        values = copy.deepcopy(self.values)
        for key, value in setting.items():
            assign(values, key, value)
        return check(values)

    def candidates(self) -> Iterator[tuple[str, Any, Recipe]]:
        """Each knob at its ends and at every choice, all else as in the recipe: (key, value, the recipe)."""
        for key in self.order:
            for value in self._ends(self.knobs[key]):
                yield key, value, self._with(key, value)

    def draw(self, trial: BaseTrial) -> Setting:
        """A setting suggested by Optuna; what is not active is left out."""
        setting: Setting = {}
        for key in self.order:
            if self._wanted(key, setting):
                setting[key] = self._decode(key, _suggest(trial, key, self.knobs[key]))
        return setting

    def grid(self) -> list[Setting]:
        """Every combination of the choices, each once; raises UserError for a knob that cannot be enumerated."""
        for key, knob in self.knobs.items():
            if knob.choice is None and knob.randint is None:
                raise UserError(
                    f"tune.search: grid needs whole lists, tune.space.{key} has none", "give it `choice`, or use optuna"
                )
        axes = [self._axis(key) for key in self.order]
        found: dict[str, Setting] = {}
        for values in itertools.product(*axes):
            setting: Setting = {}
            for key, value in zip(self.order, values, strict=True):
                if self._wanted(key, setting):
                    setting[key] = value
            found.setdefault(json.dumps(setting, sort_keys=True), setting)
        return list(found.values())

    def distributions(self, setting: Mapping[str, Any]) -> dict[str, BaseDistribution] | None:
        """Optuna's distributions for the knobs of a setting; None where it lies outside of the space."""
        found = {key: _distribution(self.knobs[key]) for key in setting}
        params = self.params(setting)
        inside = all(_contains(found[key], params[key]) for key in setting)
        return found if inside and set(setting) == set(self._active(setting)) else None

    def params(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """A setting as Optuna knows it: lists and mappings as text."""
        return {key: _encode(value) if self.knobs[key].choice is not None else value for key, value in setting.items()}

    def clip(self, key: str, value: float) -> Any:
        """The nearest value that the knob's bounds allow; whole where it must be."""
        knob = self.knobs[key]
        low, high = knob.uniform or knob.loguniform or knob.randint or (value, value)
        nearest = min(max(value, low), high)
        return round(nearest) if knob.randint else nearest

    # ------------------------------------------------------------------ checks

    def _ordered(self) -> list[str]:
        """The keys so that each comes after those that its `when` names."""
        for key, knob in self.knobs.items():
            for other in knob.when:
                if other not in self.knobs:
                    raise UserError(
                        f"tune.space.{key}.when: {other} is no knob of this search",
                        f"use one of {', '.join(self.knobs)}",
                    )
        order: list[str] = []
        left = dict(self.knobs)
        while left:
            ready = [key for key, knob in left.items() if all(other in order for other in knob.when)]
            if not ready:
                raise UserError(f"tune.space: the `when` of {', '.join(left)} wait for each other", "break the circle")
            order += ready
            for key in ready:
                del left[key]
        return order

    def _normalized(self, key: str) -> Knob:
        """The knob, its choices with the recipe's own types, every end of it accepted by the recipe."""
        knob = self.knobs[key]
        if knob.choice is None:
            for value in [*self._ends(knob), *self._between(knob)]:
                self._with(key, value)
            return knob
        choices = [_plain(read(self._with(key, value).model_dump(mode="json"), key)) for value in knob.choice]
        return knob.model_copy(update={"choice": choices})

    def _with(self, key: str, value: Any) -> Recipe:
        """The recipe with one knob set, and with what that knob's `when` asks for; a fault names the knob."""
        try:
            return self.recipe_of({**self._needed(key), key: value})
        except UserError as error:
            if error.message.startswith("unknown recipe key"):
                raise UserError(f"tune.space: {error.message}", error.hint) from error
            raise UserError(f"tune.space.{key}: {value!r} does not fit: {error.message}", "mend the knob") from error

    def _needed(self, key: str) -> Setting:
        found: Setting = {}
        for other, wanted in self.knobs[key].when.items():
            found |= {**self._needed(other), other: wanted[0] if isinstance(wanted, list) and wanted else wanted}
        return found

    def _checked_initial(self, setting: Setting) -> Setting:
        unknown = [key for key in setting if key not in self.knobs]
        if unknown:
            raise UserError(f"tune.initial: {unknown[0]} is no knob of this search", f"knobs: {', '.join(self.order)}")
        try:
            values = self.recipe_of(setting).model_dump(mode="json")
        except UserError as error:
            raise UserError(f"tune.initial: {error.message}", error.hint) from error
        full = {key: read(values, key) for key in self.order}
        return self._there(values, self._active(full))

    # ------------------------------------------------------------------ values

    @staticmethod
    def _there(values: dict[str, Any], keys: Collection[str]) -> Setting:
        """What the recipe has at these keys; one below a section that is null is nowhere."""
        sections = {key: key.rpartition(".")[0] for key in keys}
        return {key: read(values, key) for key in keys if not sections[key] or read(values, sections[key]) is not None}

    def _wanted(self, key: str, setting: Mapping[str, Any]) -> bool:
        for other, wanted in self.knobs[key].when.items():
            if other not in setting and not self._wanted(other, setting):
                return False
            value = setting.get(other, read(self.values, other))
            if value not in (wanted if isinstance(wanted, list) else [wanted]):
                return False
        return True

    def _active(self, setting: Mapping[str, Any]) -> list[str]:
        return [key for key in self.order if self._wanted(key, setting)]

    @staticmethod
    def _ends(knob: Knob) -> list[Any]:
        bounds = knob.uniform or knob.loguniform or knob.randint
        return list(knob.choice or []) if bounds is None else list(bounds)

    @staticmethod
    def _between(knob: Knob) -> list[float]:
        bounds = knob.uniform or knob.loguniform
        return [] if bounds is None else [bounds[0] + PROBE * (bounds[1] - bounds[0])]

    def _axis(self, key: str) -> list[Any]:
        knob = self.knobs[key]
        return list(range(knob.randint[0], knob.randint[1] + 1)) if knob.randint else list(knob.choice or [])

    def _decode(self, key: str, value: Any) -> Any:
        for choice in self.knobs[key].choice or []:
            if _encode(choice) == value and type(_encode(choice)) is type(value):
                return choice
        return value


def read(values: Any, key: str) -> Any:
    """The value at a dotted path; None below a section that is not there."""
    for part in key.split("."):
        if values is None:
            return None
        values = values[int(part)] if isinstance(values, list) else values.get(part)
    return values


def _check_place(key: str) -> None:
    for fixed, why in FIXED.items():
        if key == fixed or key.startswith(f"{fixed}."):
            raise UserError(f"tune.space: {key} cannot vary: {why}", f"take {key} out of the space")


def _suggest(trial: BaseTrial, key: str, knob: Knob) -> Any:
    if knob.uniform:
        return trial.suggest_float(key, *knob.uniform)
    if knob.loguniform:
        return trial.suggest_float(key, *knob.loguniform, log=True)
    if knob.randint:
        return trial.suggest_int(key, *knob.randint)
    return trial.suggest_categorical(key, [_encode(value) for value in knob.choice or []])


def _distribution(knob: Knob) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if knob.uniform:
        return FloatDistribution(*knob.uniform)
    if knob.loguniform:
        return FloatDistribution(*knob.loguniform, log=True)
    if knob.randint:
        return IntDistribution(*knob.randint)
    return CategoricalDistribution([_encode(value) for value in knob.choice or []])


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (ValueError, TypeError):
        return False


def _encode(value: Any) -> Any:
    """Optuna's categories are scalars."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def tune_of(recipe: Recipe) -> Tune:
    """The recipe's `tune:` block; raises UserError where it has none."""
    if recipe.tune is None:
        raise UserError(
            "the recipe has no `tune:` block", "add one with a `space:`; recipes/tune_phenopackets.yaml shows how"
        )
    return recipe.tune
