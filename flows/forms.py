"""The form of a task type in Prefect's UI, derived from its parameters: flat, the usual fields first, the rest apart.

Prefect's UI draws a form from a deployment's `parameter_openapi_schema`. Pydantic's own schema would show a union with
null for each optional field, and fields that accept one value only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tasks_lib.secret_blocks import DEFAULT
from tasks_lib.types.base import TaskType

USUAL = (
    "image_urls", "image_url", "clips", "character_image_url", "motion_video_url", "start_image_url", "end_image_url",
    "mask_url", "style_reference_image", "base_prompts", "base_prompt", "prompt", "negative_prompt", "segment_index",
    "segment_frames", "num_frames", "scale_factor", "strength", "num_images", "resolution", "seed", "model_name",
)  # fmt: skip
"""What people usually set, in the order in which they think of it; everything else is advanced."""

ADVANCED = "advanced"
COMMON: Mapping[str, Mapping[str, Any]] = {
    "idempotency_key": {
        "type": "string",
        "description": "A run with a key that was used before makes nothing new and shows the first task.",
    },
    "token_block": {
        "type": "string",
        "default": DEFAULT,
        "description": "The Prefect Secret block with your token; `unitask token create NAME --block` makes it.",
    },
    "sealed_token": {
        "type": "string",
        "description": "For programs: the caller's token, sealed for the task's request; leave it empty.",
    },
}
"""The parameters of every form that are not the task's own, below its own."""

Schema = dict[str, Any]


def form_of(declared: TaskType[Any], *, also_as_request: bool = False) -> Schema:
    """Return the schema of a type's form. With `also_as_request` programs may send one `request` in place of fields.

    Then nothing is required by the server, and the flow asks for what is missing.
    """
    schema = _plain(declared.params.model_json_schema(by_alias=False, ref_template="#/definitions/{model}"))
    fields: Schema = schema["properties"]
    required = [name for name in schema.get("required", ()) if name in fields]
    first = sorted({*required, *(name for name in USUAL if name in fields)}, key=_place)
    project = {
        "title": "Project",
        "type": "string",
        "format": "uuid",
        "description": "Id of the project that the result belongs to; `unitask token create` shows it.",
    }
    rest = {name: _unset(field) for name, field in fields.items() if name not in first}
    advanced = {
        "title": "Advanced",
        "type": "object",
        "description": "Everything else; what is left alone has its usual value.",
        "properties": _in_order(rest),
    }
    properties = {"project_id": project, **{name: fields[name] for name in first}, **COMMON, ADVANCED: advanced}
    if also_as_request:
        for name in ("project_id", *required):
            properties[name] = {**properties[name], "description": f"Required. {properties[name]['description']}"}
    return {
        "title": "Parameters",
        "type": "object",
        "properties": _in_order(properties),
        "required": [] if also_as_request else ["project_id", *required],
        "definitions": schema.get("$defs", {}),
    }


def _unset(field: Schema) -> Schema:
    """Return a field that stays empty unless somebody fills it in: a form sends every value that it shows.

    An object is written as JSON, since a form sends the defaults of its parts even if nobody wants it.
    """
    field = dict(field)
    if "$ref" in field:
        field = {"title": field.get("title") or "", "type": "object", "description": field.get("description", "")}
    if (usual := field.pop("default", None)) not in (None, "", [], False):
        field["description"] = f"{field['description'].rstrip('.')}; usually {json.dumps(usual)}."
    return field


def _place(name: str) -> tuple[int, str]:
    return (USUAL.index(name) if name in USUAL else -1, name)


def _in_order(properties: Schema) -> Schema:
    return {
        name: {**field, "title": field.get("title") or name.replace("_", " ").title(), "position": position}
        for position, (name, field) in enumerate(properties.items())
    }


def _plain(schema: Any) -> Any:
    """Return a schema without null as a choice, and without fields that accept a single value."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _plain(value) for key, value in schema.items() if key not in ("properties", "anyOf")}
    if "anyOf" in schema:
        # The simple choice is the one that a form opens with.
        choices = sorted(
            (_plain(choice) for choice in schema["anyOf"] if choice != {"type": "null"}),
            key=lambda choice: choice.get("type") == "array",
        )
        plain = plain | (choices[0] if len(choices) == 1 else {"anyOf": choices})
        if "default" in plain and plain["default"] is None:
            del plain["default"]
    if "properties" in schema:
        kept = {name: field for name, field in schema["properties"].items() if not _is_withdrawn(field)}
        plain["properties"] = {name: _plain(field) for name, field in kept.items()}
    return plain


def _is_withdrawn(field: Schema) -> bool:
    choices = [choice for choice in field.get("anyOf", [field]) if choice != {"type": "null"}]
    return all("const" in choice or len(choice.get("enum", "..")) == 1 for choice in choices)
