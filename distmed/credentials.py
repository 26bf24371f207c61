"""What a URL carries beside the place: it must not go where others read it, as a model card, a report or W&B."""

from __future__ import annotations

import re
from typing import Any

# Chains of fsspec (zip://a.csv::https://…) are several URLs.
_URL = re.compile(r"[A-Za-z][\w+.-]*://(?:(?!::)[^\s'\"<>])+")


def without_credentials(value: Any) -> Any:
    """The same values, but URLs without user, password and query (a presigned URL carries its signature there)."""
    if isinstance(value, dict):
        return {key: without_credentials(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_credentials(inner) for inner in value]
    return _URL.sub(_bare, value) if isinstance(value, str) else value


def _bare(url: re.Match[str]) -> str:
    scheme, _, rest = re.split(r"[?#]", url[0], maxsplit=1)[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
