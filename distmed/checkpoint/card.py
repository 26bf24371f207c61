"""The model card: what the exported model is, on what it was trained, how good it is and for what it must not be used.

A recipe and what is known of its run flow in, the text of README.md flows out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Template

from distmed import __version__
from distmed.credentials import without_credentials
from distmed.recipe import Recipe, Source
from distmed.recipe_file import check, load_recipe
from distmed.rundir import RunDir

CARD = Template(
    """\
---
library_name: {{ "peft" if adapters else "transformers" }}
tags: [distmed, medical]
---

# {{ recipe.name }}

{% if recipe.task == "classify" %}A classifier over {{ labels }} diagnoses{% else %}A generator of answers{% endif %},
trained from `{{ recipe.model.path }}` ({{ recipe.model.init }} weights) by distmed {{ version }}
with DeepSpeed `{{ recipe.deepspeed }}` in {{ recipe.train.precision }}.

## Intended use

Research on diagnostic models. It is not a medical device, and no diagnosis or treatment may rest on its answer. It was measured
on the cases below and on no others; expect it to be worse where patients, wording or prevalence differ.

## Data

| | source | format | cases |
| --- | --- | --- | --- |
{% for source, cases in train %}| train | `{{ source.source }}` | {{ source.format }} | {{ cases }} |
{% endfor %}{% for source, cases in evaluation %}| eval | `{{ source.source }}` | {{ source.format }} | {{ cases }} |
{% endfor %}{% for source in recipe.data.test %}| kept for a last test | `{{ source.source }}` | {{ source.format }} | |
{% endfor %}
## Metrics

{% if best %}The exported weights are those of step {{ best.step }}, the best by
`{{ recipe.checkpoint.best }}` = {{ "%.4f"|format(best.value) }} on the eval cases; a figure chosen as the best of several
evaluations is optimistic. At the last step:
{% elif step %}The exported weights are those of step {{ step }}.{% if metrics %} At the last evaluation before it:{% endif %}
{% endif %}
| metric | value |
| --- | --- |
{% for name, value in metrics %}| `{{ name }}` | {{ "%.4f"|format(value) }} |
{% endfor %}
## Recipe

```yaml
{{ recipe.to_yaml() }}```
""",
    keep_trailing_newline=True,
)


def card(
    recipe: Recipe,
    *,
    labels: int,
    best: dict[str, Any] | None,
    metrics: dict[str, float],
    train_cases: list[int] | None = None,
    eval_cases: list[int] | None = None,
    step: int | None = None,
    adapters: bool = False,
) -> str:
    """Text for all the world: URLs are shown without what only their owner may know.

    `best`: the evaluation whose weights these are, by `step` and `value`; `step`: theirs, where no evaluation chose
    them. `adapters`: these alone are in the folder.

    Numbers of cases are left out where they are not known.
    """
    recipe = check(without_credentials(recipe.model_dump(mode="json")))
    return CARD.render(
        recipe=recipe,
        version=__version__,
        labels=labels,
        train=_with(recipe.data.train, train_cases),
        evaluation=_with(recipe.data.eval, eval_cases),
        best=best,
        metrics=sorted(metrics.items()),
        step=step,
        adapters=adapters,
    )


def _with(sources: list[Source], cases: list[int] | None) -> list[tuple[Source, int | str]]:
    return [(source, cases[number] if cases else "") for number, source in enumerate(sources)]


def card_of_checkpoint(run: Path | None, state: dict[str, Any], *, adapters: bool) -> str | None:
    """The card of a checkpoint of the run in that folder, None where there is none or its recipe is not there.

    `state`: what the run wrote into the checkpoint.
    """
    if run is None or not RunDir(run).recipe.is_file() or "run" not in state:
        return None
    found, cases = state["run"], state.get("cases", {})
    labels = len(state["model"]["config"].get("id2label") or {})
    return card(
        load_recipe(RunDir(run).recipe),
        labels=labels,
        best=None,
        metrics=found.get("evaluation") or {},
        train_cases=cases.get("train"),
        eval_cases=cases.get("eval"),
        step=found["step"],
        adapters=adapters,
    )
