"""What would make a run fit, cheapest first: changes to a setup, each tried alone and with others, by arithmetic.

A `Setup` that does not fit flows in, at most three `Advice` flow out, each with what it costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from distmed.plan.devices import Machine
from distmed.plan.setup import Setup
from distmed.recipe import Lora

MOST_TOGETHER = 3
MOST_DEVICES = 8


@dataclass(frozen=True)
class Change:
    """`text`: the words to add to the command line. `kind`: of changes of one kind, one is made."""

    text: str
    kind: str
    setup: Callable[[Setup], Setup]


@dataclass(frozen=True)
class Advice:
    """`changes` as words of the command line; `cost`: device-seconds a token, relative to the setup as it is."""

    changes: list[str]
    setup: Setup
    cost: float


def changes_for(setup: Setup) -> list[Change]:
    """Those that mean something here; none changes what is learned, but LoRA, which comes last."""
    found: list[Change] = []
    gpu = not setup.machine.device.is_cpu
    if setup.stage < 3 and setup.workers > 1:
        found.append(Change("deepspeed=zero3", "zero", lambda s: replace(s, stage=3)))
    if setup.offload_optimizer == "none" and gpu:
        found.append(Change("deepspeed=zero3_offload", "zero", _offloaded))
    if setup.offload_optimizer != "nvme" and (setup.lora is None):
        found.append(Change("deepspeed=zero3_nvme", "zero", _on_nvme))
    if not setup.checkpointing:
        found.append(
            Change("train.activation_checkpointing=true", "recompute", lambda s: replace(s, checkpointing=True))
        )
    size = setup.rows // 2
    while size >= 1:
        found.append(Change(f"train.micro_batch={size}", "micro", lambda s, size=size: replace(s, micro_batch=size)))  # type: ignore[misc]
        size //= 2
    for factor in (2, 4, MOST_DEVICES):
        more = setup.machine.workers * factor
        if gpu and more // setup.sharers <= setup.global_batch:
            grown = _grown(setup, factor)
            found.append(Change(f"{more} devices ({grown})", "devices", lambda s, g=grown: replace(s, machine=g)))  # type: ignore[misc]
    if setup.lora is None:
        found.append(Change("model.lora.rank=16", "lora", lambda s: replace(s, lora=Lora())))
    return found


def _offloaded(setup: Setup) -> Setup:
    return replace(setup, stage=3, offload_optimizer="cpu", offload_param="cpu", sub_group=100_000_000)


def _on_nvme(setup: Setup) -> Setup:
    return replace(setup, stage=3, offload_optimizer="nvme", sub_group=100_000_000)


def _grown(setup: Setup, factor: int) -> Machine:
    machine = setup.machine
    if machine.per_node * factor <= 8:
        return replace(machine, per_node=machine.per_node * factor)
    return replace(machine, nodes=machine.nodes * factor)


def advise(
    setup: Setup, fits: Callable[[Setup], bool], seconds_per_token: Callable[[Setup], float], most: int = 3
) -> list[Advice]:
    """The cheapest sets of changes with which `fits` says yes; no set holds another one that does."""
    before = seconds_per_token(setup) * setup.workers
    enough: list[frozenset[str]] = []
    found: list[Advice] = []
    for changes in _sets(changes_for(setup)):
        words = frozenset(change.text for change in changes)
        if any(smaller <= words for smaller in enough):
            continue
        changed = setup
        for change in changes:
            changed = change.setup(changed)
        if fits(changed):
            enough.append(words)
            cost = seconds_per_token(changed) * changed.workers / before
            found.append(Advice([change.text for change in changes], changed, cost))
    return sorted(found, key=lambda advice: (round(advice.cost, 2), len(advice.changes)))[:most]


def _sets(changes: list[Change]) -> Iterator[tuple[Change, ...]]:
    for together in range(1, MOST_TOGETHER + 1):
        for chosen in combinations(changes, together):
            if len({change.kind for change in chosen}) == together:
                yield chosen
