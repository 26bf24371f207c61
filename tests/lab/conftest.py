"""The lab: three hosts on this machine, Ray or a real Slurm on them. Skipped, with the reason, where it cannot be built."""

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


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts n1, n2, n3 that see one file system."""
    if reason := lab_hosts.why_not():
        pytest.skip(reason)
    with Lab.of(tmp_path_factory.mktemp("lab"), count=3) as built:
        yield built
