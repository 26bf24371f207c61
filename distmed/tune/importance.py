"""How much each knob matters: Optuna's fANOVA (Hutter et al. 2014) over the settings that were tried."""

from __future__ import annotations

from distmed.tune.record import Trial
from distmed.tune.space import Space

FEWEST = 4
"""Settings below which a forest says nothing."""


def importance(space: Space, trials: list[Trial], *, mode: str, seed: int) -> dict[str, float]:
    """The share of the metric's variance that each knob explains, the largest first; empty with too few settings.

    Over the knobs that every setting has; stopped trials count with the best value that they reached.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    study = optuna.create_study(direction="minimize" if mode == "min" else "maximize")
    values: set[float] = set()
    for trial in trials:
        best = trial.best(mode)
        distributions = space.distributions(trial.setting)
        if best is None or distributions is None:
            continue
        values.add(best.value)
        params = space.params(trial.setting)
        study.add_trial(optuna.trial.create_trial(value=best.value, params=params, distributions=distributions))
    if len(study.trials) < FEWEST or len(values) < 2:
        return {}
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    return {key: float(share) for key, share in found.items()}
