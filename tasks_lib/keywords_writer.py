"""Write keywords.py: what each helper takes, as type checkers see it, made from the models of task_params.py.

`python -m tasks_lib.keywords_writer` writes it anew when a parameter has changed; a test compares.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import AliasChoices, BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from tasks_lib import task_params
from tasks_lib.task_params import HelperParams
from tasks_lib.types.join_clips_orchestrator import Clip

FILE = Path(__file__).parent / "keywords.py"
HEAD = '''"""What each helper takes, for type checkers. `python -m tasks_lib.keywords_writer` writes this file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict
from uuid import UUID

from pydantic import SecretStr

'''
BESIDE = "HelperKeywords"
ALSO_TEXT = (Clip,)
"""Models in whose place a text is taken, though their schema does not say so: forms would be harder to fill in."""


def text() -> str:
    """The whole file."""
    helpers = [kind for kind in vars(task_params).values() if _is_helper(kind)]
    nested: dict[str, type[BaseModel]] = {}
    for helper in helpers:
        _collect(helper, nested)
    dictionaries = [_typed_dict(f"{name}Dict", _fields(model)) for name, model in sorted(nested.items())]
    beside = _fields(HelperParams)
    dictionaries.append(_typed_dict(BESIDE, [*beside, "token: str | SecretStr | None"]))
    written: dict[tuple[str, ...], str] = {}
    for helper in helpers:
        name, own = helper.__name__.removesuffix("Params"), [line for line in _fields(helper) if line not in beside]
        base = written.setdefault(tuple(own), name)
        dictionaries.append(_typed_dict(name, own, BESIDE) if base == name else f"class {name}({base}):\n    pass\n")
    modules: dict[str, set[str]] = {}
    for name, model in nested.items():
        modules.setdefault(model.__module__, set()).add(name)
    imports = [f"from {module} import {', '.join(sorted(names))}\n" for module, names in sorted(modules.items())]
    return HEAD + "".join(imports) + "\n\n" + "\n\n".join(dictionaries)


def _is_helper(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, HelperParams) and kind is not HelperParams


def _typed_dict(name: str, fields: Sequence[str], base: str = "TypedDict") -> str:
    return f"class {name}({base}, total=False):\n" + "".join(f"    {field}\n" for field in fields)


def _fields(model: type[BaseModel]) -> list[str]:
    return [
        f"{alias}: {_written(_annotation(info))}"
        for field, info in model.model_fields.items()
        for alias in _aliases(field, info)
    ]


def _aliases(field: str, info: FieldInfo) -> list[str]:
    """Every name that a field may be sent by."""
    if isinstance(info.validation_alias, AliasChoices):
        return [alias for alias in info.validation_alias.choices if isinstance(alias, str)]
    return [field]


def _annotation(info: FieldInfo) -> Any:
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def _written(annotation: Any) -> str:
    """A type as it stands in the file: what may be given for it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        for extra in arguments[1:]:
            if isinstance(extra, BeforeValidator) and isinstance(extra.json_schema_input_type, type | types.UnionType):
                return _written(extra.json_schema_input_type)
        return _written(arguments[0])
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(map(_written, arguments)))
    if origin is Literal:
        return f"Literal[{', '.join(map(_quoted, arguments))}]"
    if origin in (list, tuple):
        return f"Sequence[{_written(arguments[0])}]"
    if annotation is UUID:
        return "UUID | str"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        forms = [annotation.__name__, f"{annotation.__name__}Dict", *(["str"] if annotation in ALSO_TEXT else [])]
        return " | ".join(forms)
    return "None" if annotation is type(None) else str(annotation.__name__)


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _collect(model: type[BaseModel], nested: dict[str, type[BaseModel]]) -> None:
    for info in model.model_fields.values():
        for found in _models(info.annotation):
            if found.__name__ not in nested:
                nested[found.__name__] = found
                _collect(found, nested)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


if __name__ == "__main__":
    FILE.write_text(text())
