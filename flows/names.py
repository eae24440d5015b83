"""What runs are called: as the person who started them typed, or else after what they are about."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from coolname.data import config
from prefect import runtime

from tasks_lib.masking import mask
from tasks_lib.types.base import TaskType

LONGEST = 60
WORDS = ("base_prompt", "prompt", "base_prompts", "generation_name")
MADE_FROM = {"image_urls": "images", "clips": "clips"}

_FORMS = re.compile(
    r"(Awesome|Rustic|Small|Gorgeous|Fantastic|Sleek|Intelligent|Unbranded|Refined|Licensed|Generic|Practical|Ergonomic"
    r"|Handcrafted|Tasty|Handmade|Incredible)-[A-Z].{1,5}"
    r"|(alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|tau|upsilon|phi"
    r"|chi|psi|omega)\d{1,3}(-[a-z]+){1,4}"
)
"""How the forms of Prefect's two UIs fill in their field for the name."""


def typed_or(describe: Callable[[Mapping[str, Any]], str]) -> Callable[[], str]:
    """Return a `flow_run_name`: the name that somebody gave, or else what `describe` says of the parameters."""

    def name() -> str:
        given = str(runtime.flow_run.name)
        return describe(runtime.flow_run.parameters)[:LONGEST] if is_made_up(given) else given

    return name


def named_after(declared: TaskType[Any], params: Mapping[str, Any]) -> str:
    """Return what a task is about in a line: its type, its words, and how many pictures or clips it is made from."""
    said = next((words for name in WORDS if (words := _words_of(params.get(name)))), "")
    many = next((f"{len(params[n])} {what}" for n, what in MADE_FROM.items() if isinstance(params.get(n), list)), "")
    about = ", ".join(part for part in (many, said) if part)
    return mask(f"{declared.display_name}: {about}" if about else declared.display_name)


def _words_of(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else value
    return " ".join(first.split()) if isinstance(first, str) else ""


def is_made_up(name: str) -> bool:
    """Whether Prefect's server or its UI made a name, for want of one."""
    words = name.split("-")
    return bool(_FORMS.fullmatch(name)) or (len(words) == 2 and all(word in _words() for word in words))


@cache
def _words() -> frozenset[str]:
    """Return every word that the server's names are made from."""
    lists: Mapping[str, Any] = config
    return frozenset(word for words in lists.values() for word in words.get("words", ()))
