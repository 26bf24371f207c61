"""Plain values from text, as a recipe writes them: YAML, with whole numbers and truth values as YAML 1.2 has them.

YAML 1.1 reads the code 012 as 10, the time 12:30 as 750 and the answer no as false. Here all three are text.
"""

from __future__ import annotations

import re
from typing import Any

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
