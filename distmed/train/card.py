"""The model card: what the exported model is, on what it was trained, how good it is and for what it must not be used."""

from __future__ import annotations

from typing import Any

from jinja2 import Template

from distmed import __version__
from distmed.train.job import Job

CARD = Template(
    """\
---
library_name: transformers
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
{% endfor %}
## Metrics

{% if best %}The exported weights are those of step {{ best.step }}, the best by
`{{ recipe.checkpoint.best }}` = {{ "%.4f"|format(best.value) }} on the eval cases; a figure chosen as the best of several
evaluations is optimistic. At the last step:
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


def write_card(job: Job, summary: dict[str, Any]) -> None:
    """Write `README.md` into the exported folder."""
    recipe = job.recipe
    evaluated = job.eval_plan.manifests if job.eval_plan else []
    text = CARD.render(
        recipe=recipe,
        version=__version__,
        labels=len(job.labels),
        train=[
            (source, manifest.rows)
            for source, manifest in zip(recipe.data.train, job.train_plan.manifests, strict=True)
        ],
        evaluation=[(source, manifest.rows) for source, manifest in zip(recipe.data.eval, evaluated, strict=True)],
        best=summary["best"],
        metrics=sorted(summary["eval"].items()),
    )
    (job.run.model / "README.md").write_text(text, encoding="utf-8")
