"""What a URL carries beside the place: it must not go where others read it, as a model card, a report or W&B."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit


def without_credentials(value: Any) -> Any:
    """The same values, but URLs without user, password and query (a presigned URL carries its signature there)."""
    if isinstance(value, dict):
        return {key: without_credentials(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_credentials(inner) for inner in value]
    if isinstance(value, str) and "://" in value:
        url = urlsplit(value)
        return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment=""))
    return value
