"""Steps that a restart repeats: each loss is held against what the same step gave before.

Losses flow in as they are logged; a line flows out at the first that differs, since a fault may come before the last one, and
once all that was lost is made up for. A checkpoint
that came back wrong, or arithmetic that differs between hosts, would otherwise show in no curve.
"""

from __future__ import annotations

# More than lie between two checkpoints of any run, and little memory.
KEPT = 10_000
# What another cut of a batch makes of a loss by rounding alone (docs/exactness.md).
ROUNDING = 1e-3


class Repeated:
    """The newest loss of each step, in order. `until`: the last step that a restart has to repeat."""

    def __init__(self) -> None:
        self.logged: dict[int, float] = {}
        self.until = 0
        self._seen: list[float] = []

    def restart(self) -> None:
        """What was logged and comes again is repeated from here on, also what an earlier restart did not get to."""
        self.until, self._seen = max(self.logged, default=0), []

    def log(self, step: int, loss: float) -> str | None:
        """Keep the loss of a step; what to tell of the first that differs, and when it is the last one that was repeated."""
        before = self.logged.get(step)
        self.logged[step] = loss
        if len(self.logged) > KEPT:
            del self.logged[next(iter(self.logged))]
        if before is None:
            return None
        share = abs(loss - before) / max(abs(before), 1e-12)
        self._seen.append(share)
        if step == self.until:
            return self._told()
        first = share and not any(self._seen[:-1])
        return f"step {step}, repeated, gave another loss, by a share of {share:.1e}" if first else None

    def _told(self) -> str:
        count, worst = len(self._seen), max(self._seen)
        steps = "the repeated step" if count == 1 else f"the {count} repeated steps"
        if not worst:
            return f"{steps} gave the same loss{'' if count == 1 else 'es'}"
        beyond = ", more than rounding does" if worst > ROUNDING else ""
        return f"{steps} gave another loss, by a share of {worst:.1e} at most{beyond}"
