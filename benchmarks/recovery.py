"""How long a run stands still after a fault, split in detection, restart, load and first step: root, Linux.

    python benchmarks/recovery.py [--repeat 3] [key=value …]

Three hosts are made of network namespaces (tests/lab); a head without workers, two hosts with one worker each, a Llama of 32 M
parameters. A worker is killed, then a host. The driver's lines and Ray's log are stamped as they come. Appends to
recovery_DATE.md.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.lab.hosts import Lab, why_not
from tests.lab.ray_nodes import RayCluster, ray_on
from tests.lab.runs import LabRun, start

GROUP_STARTED = "Started training worker group"
LIMIT_S = 300.0


@dataclass
class Recovery:
    """Seconds from one mark to the next."""

    detection: float
    restart: float
    load: float
    first_step: float

    @property
    def total(self) -> float:
        return self.detection + self.restart + self.load + self.first_step


class Marks:
    """Lines of the driver and of the run's log, with the moment at which each was seen."""

    def __init__(self, run: LabRun) -> None:
        self.lines: queue.Queue[tuple[float, str]] = queue.Queue()
        for path in (run.said, run.path / "log.txt"):
            threading.Thread(target=self._follow, args=(path,), daemon=True).start()

    def _follow(self, path: Path) -> None:
        while not path.exists():
            time.sleep(0.1)
        with path.open(errors="replace") as file:
            while True:
                line = file.readline()
                if line:
                    self.lines.put((time.monotonic(), line))
                else:
                    time.sleep(0.02)

    def wait_for(self, *texts: str) -> float:
        """When a line with one of `texts` came."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            try:
                moment, line = self.lines.get(timeout=1)
            except queue.Empty:
                continue
            if any(text in line for text in texts):
                return moment
        raise SystemExit(f"not within {LIMIT_S:g} s: {texts}")


def recover(
    lab: Lab, cluster: RayCluster, folder: Path, name: str, words: list[str], fault: Callable[[], None]
) -> Recovery:
    """A run that meets `fault` after ten steps."""
    run = start(folder, lab[0], cluster, name, "train.max_steps=5000", "checkpoint.every=5", *words)
    marks = Marks(run)
    marks.wait_for("step 10/")
    began = time.monotonic()
    fault()
    detected = marks.wait_for(" died\n", " was lost\n", " failed: ")
    started = marks.wait_for(GROUP_STARTED)
    loaded = marks.wait_for("note: restart 1")
    stepped = marks.wait_for("note: first step")
    run.process.send_signal(signal.SIGINT)
    run.end(120)
    return Recovery(detected - began, started - detected, loaded - started, stepped - loaded)


def kill_worker(lab: Lab) -> None:
    (pid,) = [pid for pid, command in lab[2].commands().items() if "RayTrainWorker" in command]
    os.kill(pid, signal.SIGKILL)


def cells(found: list[Recovery]) -> list[str]:
    """Medians of the parts, and how far the whole ranges."""
    parts = ("detection", "restart", "load", "first_step", "total")
    medians = [f"{statistics.median(getattr(each, part) for each in found):.1f}" for part in parts]
    return [*medians, f"{min(each.total for each in found):.1f} to {max(each.total for each in found):.1f}"]


def main() -> None:
    from dated import Dated
    from llama import write_llama_32m

    if reason := why_not():
        raise SystemExit(reason)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeat", type=int, default=3)
    asked, words = parser.parse_known_args()
    workers: list[Recovery] = []
    hosts: list[Recovery] = []
    with tempfile.TemporaryDirectory(prefix="recovery-") as name:
        folder = Path(name)
        words = [f"model.path={write_llama_32m(folder / 'model')}", "model.init=random", *words]
        with Lab.of(folder, 3) as lab, ray_on(folder, lab.hosts, cpus=[0, 1, 1]) as cluster:
            for turn in range(asked.repeat):
                fixed = [*words, "--num-workers", "2"]
                workers.append(recover(lab, cluster, folder, f"worker-{turn}", fixed, lambda: kill_worker(lab)))
                elastic = [*words, "cluster.num_workers=[1,2]"]
                hosts.append(recover(lab, cluster, folder, f"host-{turn}", elastic, lambda: cluster.lose(lab[2])))
                cluster.become(lab.hosts[1:3])
    file = Dated("recovery", "How long a run stands still after a fault")
    file.line(f"Seconds, medians of {asked.repeat}. Aims: 20 s for a worker, 40 s for a host.\n")
    file.table("fault", "detection", "restart", "load", "first step", "in all", "range")
    file.row("a worker is killed", *cells(workers))
    file.row("a host is lost, the run goes on with one worker", *cells(hosts))


if __name__ == "__main__":
    main()
