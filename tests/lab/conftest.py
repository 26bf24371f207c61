"""The lab: four hosts on this machine, Ray or a real Slurm on them. Skipped, with the reason, where it cannot be built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import hosts as lab_hosts
from tests.lab.hosts import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that lies here needs the lab."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.lab)
            item.add_marker(pytest.mark.slow)
            # On a machine that does much else; each wait inside has a limit of its own.
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Hosts n1 to n4 that see one file system."""
    if reason := lab_hosts.why_not():
        pytest.skip(reason)
    with Lab.of(tmp_path_factory.mktemp("lab"), count=4) as built:
        yield built
