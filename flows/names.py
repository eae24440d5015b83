"""What runs are called: as the person who started them typed, or else after what they are about."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from coolname.data import config
from prefect import runtime

LONGEST = 60

_FORM = re.compile(
    r"(Awesome|Rustic|Small|Gorgeous|Fantastic|Sleek|Intelligent|Unbranded|Refined|Licensed|Generic|Practical|Ergonomic"
    r"|Handcrafted|Tasty|Handmade|Incredible)-[A-Z].{1,5}"
)
"""How the form of Prefect's UI fills in its field for the name."""


def typed_or(describe: Callable[[Mapping[str, Any]], str]) -> Callable[[], str]:
    """Return a `flow_run_name`: the name that somebody gave, or else what `describe` says of the parameters."""

    def name() -> str:
        given = str(runtime.flow_run.name)
        return describe(runtime.flow_run.parameters)[:LONGEST] if is_made_up(given) else given

    return name


def is_made_up(name: str) -> bool:
    """Whether Prefect's server or its UI made a name, for want of one."""
    words = name.split("-")
    return bool(_FORM.fullmatch(name)) or (len(words) == 2 and all(word in _words() for word in words))


@cache
def _words() -> frozenset[str]:
    """Return every word that the server's names are made from."""
    lists: Mapping[str, Any] = config
    return frozenset(word for words in lists.values() for word in words.get("words", ()))
