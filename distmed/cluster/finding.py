"""What a check of `distmed doctor` says: one line, and the lines of several hosts told as few.

Findings of one host flow in; the same flow out, those that are equal on several hosts as one that names the hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from distmed.errors import UserError, one_of


@dataclass(frozen=True)
class Finding:
    """`found` is the same on hosts that are alike; `now` is what is so on this host at this moment, such as free memory."""

    state: Literal["ok", "warn", "fail"]
    what: str
    found: str
    todo: str = ""
    now: str = ""

    def line(self) -> str:
        now = f"; {self.now}" if self.now else ""
        return f"{self.state:<4}  {self.what:<16}  {self.found}{now}" + (f"  -> {self.todo}" if self.todo else "")


def guarded(what: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that breaks is itself a finding; the others go on."""
    try:
        yield from check()
    except UserError as error:
        yield Finding("fail", what, error.message, error.hint)
    except Exception as error:  # whatever is wrong with a machine shows here
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        yield Finding(
            "fail", what, found, "this could not be looked at: mend what the error names, or report it as a bug"
        )


def grouped(by_host: dict[str, list[Finding]]) -> Iterator[Finding]:
    """Those of all hosts, check by check; what `now` says is kept where it is of one host alone."""
    order: list[str] = []
    seen: dict[Finding, dict[str, str]] = {}
    for host, findings in by_host.items():
        for finding in findings:
            if finding.what not in order:
                order.append(finding.what)
            seen.setdefault(replace(finding, now=""), {})[host] = finding.now
    for finding, hosts in sorted(seen.items(), key=lambda item: order.index(item[0].what)):
        where = f"all {len(hosts)} hosts" if len(hosts) == len(by_host) else one_of(sorted(hosts))
        now = next(iter(hosts.values())) if len(hosts) == 1 else ""
        yield replace(finding, found=f"on {where}: {finding.found}", now=now)
