"""A plan as text for people.

A `Plan` flows in, lines flow out.
"""

from __future__ import annotations

from distmed.plan.devices import GIB
from distmed.plan.plan import Plan


def show(plan: Plan) -> str:
    """Verdict first, then why, then what it takes, then what would help."""
    setup, speed = plan.setup, plan.speed
    machine = setup.machine
    lines = [
        f"{plan.verdict}: {plan.recipe.name} on {machine}",
        "",
        f"model        {_count(plan.shape.total)} parameters, {_count(plan.shape.trainable)} trained; "
        f"largest layer {_count(plan.shape.largest_layer)}",
        f"setup        ZeRO-{setup.stage}{_offload(plan)}, {'bf16' if setup.bf16 else 'fp32'}, micro-batch {setup.rows} x "
        f"{setup.seq_len} tokens x {setup.accumulation} a step{_ways(plan)}",
        "",
        *_parts(
            "each device", plan.memory.device, machine.device.memory, f" at its fullest, in the {plan.memory.moment}"
        ),
    ]
    if plan.memory.host:
        lines += ["", *_parts("each host", plan.memory.host, machine.host_memory)]
    lines += [
        "",
        f"step         {speed.step_s:.3g} s: arithmetic {speed.compute_s:.2g}, links {speed.network_s:.2g}, "
        f"storage {speed.storage_s:.2g}; {speed.network_bytes / GIB:.1f} GiB sent by a device",
        f"speed        {_count(speed.tokens_per_s)} tokens/s, {_count(speed.tokens_per_day)} a day, MFU {speed.mfu:.0%}",
        f"disk         checkpoint {_gib(plan.disk['checkpoint'])}, {_gib(plan.disk['kept'])} kept, "
        f"export {_gib(plan.disk['export'])}" + (f", NVMe {_gib(plan.disk['nvme'])}" if plan.disk["nvme"] else ""),
    ]
    if plan.days is not None and plan.steps is not None:
        total = plan.cost(plan.steps * speed.tokens)
        lines.append(
            f"run          {plan.steps} steps, {_days(plan.days)}{'' if total is None else f', cost {total:,.0f}'}"
        )
    elif plan.price is not None:
        lines.append(f"cost         {plan.cost(1e9):,.0f} for a billion tokens")
    if plan.advice:
        lines += ["", "would fit with, cheapest first:"]
        lines += [f"  {' '.join(a.changes)}   ({a.cost:.2f} x the device time of a token)" for a in plan.advice]
    elif plan.verdict != "fits":
        lines += ["", "no change known here makes it fit: take a smaller model, or larger devices"]
    return "\n".join(lines)


def _parts(title: str, parts: dict[str, int], capacity: int, when: str = "") -> list[str]:
    total = sum(parts.values())
    rows = sorted(parts.items(), key=lambda part: -part[1])
    lines = [f"{title:<12} {_gib(total)} of {_gib(capacity)}{when}"]
    return lines + [f"  {part:<22} {_gib(size):>10}" for part, size in rows]


def _ways(plan: Plan) -> str:
    """What else keeps memory low."""
    setup, tiles = plan.setup, plan.recipe.train.mlp_tiles
    ways = {
        "recomputed": setup.checkpointing,
        "activations on the host": setup.activations_on_host,
        f"MLP in {tiles} parts": tiles > 1,
        f"sequences shared by {setup.sharers}": setup.sharers > 1,
        "base in 4 bits": setup.quantized,
    }
    return "".join(f", {way}" for way, used in ways.items() if used)


def _offload(plan: Plan) -> str:
    places = {"optimizer": plan.setup.offload_optimizer, "weights": plan.setup.offload_param}
    moved = [f"{what} on {place}" for what, place in places.items() if place != "none"]
    return f" ({', '.join(moved)})" if moved else ""


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"


def _days(days: float) -> str:
    return f"{days:.1f} days" if days >= 1 else f"{days * 24:.1f} hours"


def _count(number: float) -> str:
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"
