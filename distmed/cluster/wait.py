"""Wait until every node of an allocation has joined Ray: `python -m distmed.cluster.wait SECONDS NODE…`, RAY_ADDRESS set.

Nodes are told apart by the label `distmed-node`, which slurm/node.sh gives them. Exit status 1, and the missing ones by name,
when time is up.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

LABEL = "distmed-node"
NAMED = 20


def missing_after(seconds: float, nodes: list[str], joined: Callable[[], set[str]]) -> list[str]:
    """Those of `nodes` that have not joined when `seconds` are over; returns at once when none is missing."""
    deadline = time.monotonic() + seconds
    while True:
        there = joined()
        missing = [node for node in nodes if node not in there]
        if not missing or time.monotonic() >= deadline:
            return missing
        time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))


def labels_of_nodes() -> set[str]:
    import ray

    return {node["Labels"].get(LABEL, "") for node in ray.nodes() if node["Alive"]}


def main() -> None:
    import ray

    seconds, nodes = float(sys.argv[1]), sys.argv[2:]
    ray.init(logging_level=logging.ERROR, log_to_driver=False)
    missing = missing_after(seconds, nodes, labels_of_nodes)
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        print(
            f"{len(missing)} of {len(nodes)} nodes did not join within {seconds:g} s: {', '.join(missing[:NAMED])}{more}"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
