"""Plain values from text, as a recipe writes them: YAML, with whole numbers and truth values as YAML 1.2 has them.

YAML 1.1 reads the code 012 as 10, the time 12:30 as 750 and the answer no as false. Here all three are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

_ANEW = {
    "tag:yaml.org,2002:bool": r"true|True|TRUE|false|False|FALSE",
    "tag:yaml.org,2002:int": r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+",
}


class _Loader(yaml.SafeLoader):
    pass


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag not in _ANEW]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _form in _ANEW.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_form})$"), list("tTfF-+0123456789"))


def parse(text: str) -> Any:
    """Raises yaml.YAMLError for text that is not YAML."""
    return yaml.load(text, _Loader)


MISSING = object()


class Difference(NamedTuple):
    """A dotted key and its two values; MISSING where one side has no such key."""

    key: str
    before: Any
    now: Any


def differences(before: Any, now: Any, key: str = "") -> Iterator[Difference]:
    """Where two nests of mappings differ; lists are compared whole."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*before, *(name for name in now if name not in before)]:
            yield from differences(before.get(name, MISSING), now.get(name, MISSING), f"{key}.{name}".lstrip("."))
    elif before != now:
        yield Difference(key, before, now)
