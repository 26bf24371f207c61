"""Ray on the hosts of the lab: a head and nodes, each with a folder of its own for temporary files."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.lab.hosts import Host, environment, run, wait_until

PORT, DASHBOARD = 6379, 8265


class RayCluster:
    """`address` is what RAY_ADDRESS gets. A host may come later (`join`) and go (`lose`)."""

    def __init__(self, folder: Path, head: Host, *, dashboard: bool = False, **variables: str) -> None:
        self.folder = folder
        self.head = head
        self.dashboard = dashboard
        self.known: list[Host] = []
        self.address = f"{head.address}:{PORT}"
        self.environment = {**environment(), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64, **variables}

    def start_head(self, cpus: int) -> None:
        dashboard = [f"--dashboard-host={self.head.address}", f"--dashboard-port={DASHBOARD}"]
        shown = dashboard if self.dashboard else ["--include-dashboard=false"]
        self._start(self.head, cpus, "--head", f"--port={PORT}", *shown)
        wait_until("the head answers", 300, lambda: self._answers(PORT))
        if self.dashboard:
            wait_until("the dashboard answers", 600, lambda: self._answers(DASHBOARD))

    def _answers(self, port: int) -> bool:
        return not run("bash", "-c", f"</dev/tcp/{self.head.address}/{port}", check=False).returncode

    def join(self, host: Host, cpus: int) -> None:
        if host not in self.known:
            self.known.append(host)
        self._start(host, cpus, f"--address={self.address}")

    def _start(self, host: Host, cpus: int, *arguments: str) -> None:
        log = (self.folder / f"ray-{host.name}.log").open("a")
        # Ray gives a node 30 s to start, which a machine that does much else does not always keep.
        again = 'for turn in 1 2 3 4 5; do "$@" && break; sleep 1; done'
        ray = [
            "ray", "start", *arguments, f"--node-ip-address={host.address}", f"--num-cpus={cpus}", "--num-gpus=0",
            f"--object-store-memory={128 * 2**20}", f"--temp-dir=/tmp/lab-ray-{host.name}", "--disable-usage-stats", "--block",
        ]  # fmt: skip
        host.start("bash", "-c", again, "start", *ray, log=log, env=self.environment)

    @staticmethod
    def lose(host: Host) -> None:
        """Every Ray process of the host dies at once."""
        host.kill(naming="ray")

    def drain(self, host: Host, seconds: int) -> None:
        """Ray hears that the host will be taken away in so many seconds, as a cloud tells of a spot machine."""
        alike = f"n['Alive'] and n['NodeManagerAddress'] == '{host.address}'"
        node = self._asked(f"next(n['NodeID'] for n in ray.nodes() if {alike})")
        reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the lab"]
        where = ["--address", self.address, "--node-id", node, "--deadline-remaining-seconds", str(seconds)]
        self.head.run("ray", "drain-node", *where, *reason, env=self.environment)

    def become(self, hosts: list[Host], cpus: int = 1) -> None:
        """Beside the head, exactly `hosts` are nodes: those that were lost join, others leave."""
        running = {host.name for host in self.known if any("raylet" in line for line in host.commands().values())}
        changed = False
        for host in self.known:
            if host.name in running and host not in hosts:
                self.lose(host)
                changed = True
        for host in hosts:
            if host.name not in running:
                self.join(host, cpus)
                changed = True
        if changed:
            wait_until(f"{len(hosts) + 1} Ray nodes", 600, lambda: self.nodes() == len(hosts) + 1, every=1)

    def nodes(self) -> int:
        """How many hosts the head counts as alive."""
        return int(self._asked("sum(n['Alive'] for n in ray.nodes())") or 0)

    def _asked(self, question: str) -> str:
        """What an expression gives on the head, empty where Ray does not answer."""
        code = f"import ray; ray.init(logging_level='ERROR'); print('answer:', {question})"
        done = self.head.run("python", "-c", code, env={**self.environment, "RAY_ADDRESS": self.address}, check=False)
        found = re.search(r"^answer: (\w+)$", done.stdout, re.MULTILINE)  # Ray's own words may stand around it
        return found[1] if found else ""


@contextlib.contextmanager
def ray_on(
    folder: Path, hosts: list[Host], cpus: int | list[int] = 2, *, dashboard: bool = False, **variables: str
) -> Iterator[RayCluster]:
    """Ray with its head on the first of `hosts`, `cpus` logical CPUs each; `variables` are in the environment of all."""
    each = cpus if isinstance(cpus, list) else [cpus] * len(hosts)
    cluster = RayCluster(folder, hosts[0], dashboard=dashboard, **variables)
    try:
        cluster.start_head(each[0])
        for host, count in zip(hosts[1:], each[1:], strict=True):
            cluster.join(host, count)
        wait_until(f"{len(hosts)} Ray nodes", 600, lambda: cluster.nodes() == len(hosts), every=1)
        yield cluster
    finally:
        for host in [hosts[0], *cluster.known]:
            host.kill()
            shutil.rmtree(f"/tmp/lab-ray-{host.name}", ignore_errors=True)
