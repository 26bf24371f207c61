"""The built-in patients: a generative model of findings given disease, and vignettes in varied wording.

Disease, then sex and age, then findings (of the disease, and by chance), then what the note tells of them. `train` and
`eval` come from streams that share no random number; one seed gives one sequence of patients, of which a smaller n is
the beginning.
"""

from __future__ import annotations

import difflib
import math
import random
from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate
from typing import Literal

from distmed.cases.case import Case, Sex
from distmed.cases.conditions import CONDITIONS, Condition
from distmed.cases.demographics import subgroups
from distmed.cases.findings import FINDINGS, ONLY, OPPOSITES, Finding
from distmed.cases.vignettes import COURSES, Uniform, vignette
from distmed.errors import UserError
from distmed.recipe import Source

Part = Literal["train", "eval"]

SEED = 2026
SIZES: dict[Part, int] = {"train": 4000, "eval": 600}
# The share of a patient's findings that the note tells: those of the disease, and those that are there by chance.
_TOLD, _TOLD_BY_CHANCE = 0.75, 0.5
_NEGATIVES = (0, 1, 1, 2, 2, 3, 4)


def builtin_patients(source: Source) -> Iterator[Case]:
    """What `builtin:patients/train` or `…/eval` names: `limit` patients, or else 4,000 and 600."""
    names: dict[str, Part] = {f"builtin:patients/{part}": part for part in SIZES}
    if source.source not in names:
        near = difflib.get_close_matches(source.source, names, n=1)
        raise UserError(
            f"not built in: {source.source}", f"did you mean {near[0]}?" if near else f"there are {' and '.join(names)}"
        )
    if source.where or source.columns:
        raise UserError(f"{source.source} has no columns to choose by", "leave `where` and `columns` out")
    part = names[source.source]
    # Of a range of groups the limit counts what is left of all of them.
    wanted = max(source.limit or 0, SIZES[part]) if source.groups else source.limit or SIZES[part]
    return patients(part, wanted)


def patients(part: Part, n: int, seed: int = SEED) -> Iterator[Case]:
    """n patients; the label is the condition's name, the vignette is `text`, and the told findings stand beside it."""
    # A string seeds Python's generator through SHA-512, and `random()` is the one method promised to stay the same.
    uniform = random.Random(f"distmed patients {part} {seed}").random
    for number in range(n):
        yield _patient(f"{part}-{seed}-{number}", uniform)


class _Model:
    """The tables of a condition in the form that sampling wants."""

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self.own = [(FINDINGS[name], share) for name, share in condition.findings.items()]
        self.by_chance = [(f, f.base) for name, f in FINDINGS.items() if name not in condition.findings]
        self.course = list(accumulate(condition.course))
        self.pertinent = _confusable_findings(condition)


def _confusable_findings(condition: Condition) -> list[Finding]:
    """What a clinician would ask about: frequent findings of this condition and of those that look like it."""
    overlap = {
        other.name: sum(min(share, other.findings.get(name, 0)) for name, share in condition.findings.items())
        for other in CONDITIONS
    }
    near = sorted(CONDITIONS, key=lambda other: -overlap[other.name])[:6]
    names = dict.fromkeys(name for other in near for name, share in other.findings.items() if share >= 0.4)
    return [FINDINGS[name] for name in names if FINDINGS[name].kind in ("symptom", "sign")]


_MODELS = [_Model(condition) for condition in CONDITIONS]
_CUMULATIVE = list(accumulate(condition.weight for condition in CONDITIONS))


def _patient(id: str, uniform: Uniform) -> Case:
    model = _MODELS[bisect(_CUMULATIVE, uniform() * _CUMULATIVE[-1])]
    condition = model.condition
    sex: Sex = "female" if uniform() < condition.female else "male"
    age = _age(condition.age, uniform())
    has = _findings(model, sex, age, uniform)
    told = _told(model, has, uniform)
    negatives = _negatives(model, has, sex, age, uniform)
    course = COURSES[min(bisect(model.course, uniform() * model.course[-1]), 3)]
    return Case(
        id=id,
        kind="diagnosis",
        group=id,
        text=vignette(sex, age, course, told, negatives, uniform),
        findings=tuple(finding.name for finding in told),
        excluded=tuple(finding.name for finding in negatives),
        sex=sex,
        age_years=age,
        label=condition.name,
        label_name=condition.name,
        subgroups={**subgroups(sex, age), "severity": condition.severity},
    )


def _age(triangle: tuple[float, float, float], u: float) -> float:
    """The inverse of the triangular distribution; whole years from two, whole months below."""
    least, likely, most = triangle
    below = (likely - least) / (most - least)
    if u < below:
        years = least + math.sqrt(u * (most - least) * (likely - least))
    else:
        years = most - math.sqrt((1 - u) * (most - least) * (most - likely))
    return float(int(years)) if years >= 2 else max(1, int(years * 12)) / 12


def _findings(model: _Model, sex: Sex, age: float, uniform: Uniform) -> dict[str, Finding]:
    """All that the patient has, told or not."""
    has: dict[str, Finding] = {}
    for finding, share in (*model.own, *model.by_chance):
        if uniform() >= share or not finding.ages[0] <= age <= finding.ages[1]:
            continue
        if ONLY.get(finding.name, sex) == sex and OPPOSITES.get(finding.name) not in has:
            has[finding.name] = finding
    return has


def _told(model: _Model, has: dict[str, Finding], uniform: Uniform) -> list[Finding]:
    """What the note tells, in a random order; at least two findings of the disease, if there are two."""
    own = model.condition.findings
    ranked = sorted((uniform(), name) for name in has)
    due = [name for _, name in ranked if name in own][:2]
    told = [name for u, name in ranked if u < (_TOLD if name in own else _TOLD_BY_CHANCE) or name in due]
    return [has[name] for _, name in sorted((uniform(), name) for name in told)]


def _negatives(model: _Model, has: dict[str, Finding], sex: Sex, age: float, uniform: Uniform) -> list[Finding]:
    """Pertinent findings that the patient was asked about and does not have."""
    count = _NEGATIVES[int(uniform() * len(_NEGATIVES))]
    absent = [f for f in model.pertinent if f.name not in has and f.ages[0] <= age and ONLY.get(f.name, sex) == sex]
    return [absent.pop(int(uniform() * len(absent))) for _ in range(min(count, len(absent)))]
