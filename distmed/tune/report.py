"""The report of a search: one HTML file without scripts and without anything from the network.

The search and its summary flow in; `report.html` flows out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

from distmed.evaluate.figure import limits_to_read
from distmed.tune.importance import importance
from distmed.tune.table import rows

if TYPE_CHECKING:
    from distmed.tune.search import Search


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _interval(figure: dict[str, Any], form: str) -> str:
    """Empty where there is none: a test split that is one group."""
    low, high = limits_to_read(figure)
    return "" if low is None or high is None else f"{form % low} … {form % high}"


ENVIRONMENT = Environment(autoescape=True)
ENVIRONMENT.filters["figure"] = _shown
ENVIRONMENT.filters["interval"] = _interval
PAGE = ENVIRONMENT.from_string(
    """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Search {{ name }}</title>
<style>
body {font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c2024}
h1 {font-size: 1.6rem} h2 {font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd}
table {border-collapse: collapse; font-size: 13px; display: block}
th, td {padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap}
th:nth-child(2), td:nth-child(2), td:last-child, th:last-child {text-align: left}
tr.stopped {color: #8a9099} tr.failed {color: #b3352b}
.scroll {overflow-x: auto} svg {max-width: 100%; min-width: 36rem; height: auto} .said {color: #555}
</style></head><body><main>
<h1>Search {{ name }}</h1>
<p><b>{{ metric }} {{ "%.4f"|format(best.value) }}</b>{% if best.sd is not none %} ± {{ "%.4f"|format(best.sd) }}{% endif %}
by trial {{ best.trials[0] }}{% if untuned %}; the recipe as it was: <b>{{ "%.4f"|format(untuned.value) }}</b>{% endif %}.
{{ counts.done }} trials ran to their end, {{ counts.stopped }} were stopped, {{ counts.failed }} failed{% if counts.waiting %},
{{ counts.waiting }} were paused and would go on{% endif %};
{{ "%.2f"|format(hours) }} accelerator-hours.{% if ended_by %} {{ ended_by }}.{% endif %}</p>
<p class="said">The best of many is optimistic on the cases it was chosen by. Only the test split says what to expect.</p>
{% if test %}<h2>Test split</h2>
<p class="said">{% if test[0].scored > 1 %}Scored {{ test[0].scored }} times: the search went on and found other winners.
{% else %}Scored once, for the winner.{% endif %}</p>
<table class="scroll">
<tr><th>source</th><th>metric</th><th>winner</th><th>interval</th><th>untuned</th><th>winner − untuned</th></tr>
{% for row in test %}<tr><td>{{ row.source }}</td><td>{{ row.metric }}</td>
{% if row.winner and row.winner.value is not none %}<td>{{ "%.4f"|format(row.winner.value) }}</td>
<td>{{ row.winner|interval("%.4f") }}</td>{% else %}<td></td><td></td>{% endif %}
<td>{% if row.against_untuned %}{{ row.against_untuned.other|figure }}{% endif %}</td>
<td>{% if row.against_untuned %}{% set d = row.against_untuned.difference %}{{ "%+.4f"|format(d.value) }}
{% if d.low is not none %}({{ d|interval("%+.4f") }}){% endif %}{% endif %}</td></tr>{% endfor %}</table>{% endif %}
<h2>The winner</h2>
<table class="scroll"><tr><th>key</th><th>value</th></tr>
{% for key, value in best.setting.items() %}<tr><td>{{ key }}</td><td>{{ value|figure }}</td></tr>{% endfor %}</table>
{% for title, picture, said in pictures %}<h2>{{ title }}</h2><p class="said">{{ said }}</p>
<div class="scroll">{{ picture|safe }}</div>{% endfor %}
<h2>Trials</h2>
<table class="scroll"><tr>{% for column in columns %}<th>{{ column }}</th>{% endfor %}</tr>
{% for row in rows %}<tr class="{{ row.state }}">{% for column in columns %}<td>{{ row[column]|figure }}</td>{% endfor %}</tr>
{% endfor %}</table>
</main></body></html>
"""
)


def write_report(search: Search, summary: dict[str, Any]) -> Path:
    """Write `report.html`; its path."""
    import matplotlib

    matplotlib.use("Agg")
    from distmed.tune import plots

    trials, mode, metric, space = search.trials, search.mode, search.plan.metric, search.space
    shares = importance(space, trials, mode=mode, seed=search.seed)
    pictures = [
        ("History", plots.history(trials, mode=mode, metric=metric), "Blue ran to the end, grey was stopped."),
        ("Learning curves", plots.curves(trials, metric=metric), ""),
        (
            "Settings",
            plots.parallel(space, trials, mode=mode, metric=metric),
            "A line a trial; the better the darker. A line is broken where a knob was not active, or null.",
        ),
        (
            "Importance of each knob",
            plots.bars(shares) if shares else "",
            "Optuna's fANOVA over the settings tried; rough where there are few."
            if shares
            else "Too few settings with a value to say.",
        ),
        (
            "One knob at a time",
            plots.slices(space, trials, mode=mode, metric=metric),
            "Without the trials in which a number was null.",
        ),
        ("Cost", plots.cost(trials), "Blue ran to the end, grey was stopped, red failed."),
    ]
    table = rows(search)
    text = PAGE.render(
        name=search.plan.run.name,
        metric=metric,
        best=summary["best"],
        untuned=summary["untuned"],
        counts=summary["trials"],
        hours=summary["accelerator_hours"],
        ended_by=summary["ended_by"],
        test=summary.get("test", []),
        pictures=pictures,
        columns=list(table[0]),
        rows=table,
    )
    path = search.plan.run / "report.html"
    path.write_text(text, encoding="utf-8")
    return path
