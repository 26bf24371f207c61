"""Processes that work in turn, a slice of a core's time each, so that a machine whose speed drifts is the same for all.

`serve` is the child: tokens flow in, a line of JSON for each line of standard input flows out. `in_turn` is the parent. Only
the standard library, because a child may run in an environment of its own.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

WARM_UP_S = 2.0
Slice = dict[str, float]


def serve(counts: Iterator[int]) -> None:
    """Warm up, then for each line of input yield tokens for so many seconds of this process's CPU (all threads)."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    next(counts)
    _slice(counts, WARM_UP_S)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_slice(counts, float(line))), flush=True)
    os._exit(0)  # an interleaved stream of `datasets` takes seconds to close


def _slice(counts: Iterator[int], seconds: float) -> Slice:
    began, tokens = time.process_time(), 0
    for count in counts:
        tokens += count
        if time.process_time() - began >= seconds:
            return {"tokens": tokens, "cpu_s": time.process_time() - began}
    raise SystemExit("the stream ended")


def in_turn(commands: dict[str, list[str]], rounds: int, seconds: float) -> dict[str, list[Slice]]:
    """Slices of each command, in the order A B C A B C; whoever has no turn is stopped, its threads too."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    slices: dict[str, list[Slice]] = {name: [] for name in commands}
    running: dict[str, subprocess.Popen[str]] = {}
    with contextlib.ExitStack() as ends:
        for name, command in commands.items():
            running[name] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            ends.callback(running[name].kill)
            while _said(running[name], name) != "ready":
                pass
            running[name].send_signal(signal.SIGSTOP)
        for _ in range(rounds):
            for name, process in running.items():
                process.send_signal(signal.SIGCONT)
                assert process.stdin
                process.stdin.write(f"{seconds}\n")
                process.stdin.flush()
                slices[name].append(json.loads(_said(process, name)))
                process.send_signal(signal.SIGSTOP)
    return slices


def _said(process: "subprocess.Popen[str]", name: str) -> str:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{name} ended: see what it said above")
    return line.strip()
