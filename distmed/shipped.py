"""Where the files that come with distmed lie: recipes and DeepSpeed configurations, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """`recipes` or `ds_configs`: beside the package in a checkout, inside it when installed from a wheel."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name
