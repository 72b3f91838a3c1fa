"""Services, operations and fields, as `mesh call` lists them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mesh.commands import output
from mesh.commands.operations import items

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mesh.commands.operations import Document, Operation, Schema

_BOUNDS = (
    ("minimum", "≥ {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "≤ {}"),
    ("exclusiveMaximum", "< {}"),
)
_SIZES = (("minLength", "maxLength", "characters"), ("minItems", "maxItems", "items"))


def services(states: Mapping[str, str], urls: Mapping[str, str], *, as_json: bool) -> None:
    """The services that serve HTTP, with their states."""
    if as_json:
        rows = [{"name": name, "url": url, "state": states.get(name)} for name, url in urls.items()]
        output.json_line({"schema": "mesh.services/1", "services": rows})
        return
    output.table(
        ["SERVICE", "URL", "STATE"],
        [[name, url, states.get(name, "-")] for name, url in urls.items()],
    )
    output.note(("hint:", "cyan"), " mesh call SERVICE lists its operations")


def operations(service: str, document: Document, *, as_json: bool) -> None:
    """What one service can be asked."""
    found = list(document.operations.values())
    if as_json:
        rows = [
            {
                "name": one.name,
                "method": one.method,
                "path": one.path,
                "who": str(one.access),
                "summary": one.summary,
            }
            for one in found
        ]
        output.json_line({"schema": "mesh.operations/1", "service": service, "operations": rows})
        return
    output.table(
        ["OPERATION", "REQUEST", "WHO", "SUMMARY"],
        [[one.name, f"{one.method} {one.path}", str(one.access), one.summary] for one in found],
    )
    output.note(("hint:", "cyan"), f" mesh call {service} OPERATION --help shows its fields")


def operation(service: str, document: Document, one: Operation) -> None:
    """The fields, types, limits and example of one operation."""
    output.out((f"mesh call {service} {one.name}", "strong"), f"   {one.method} {one.path}")
    if one.summary:
        output.out(one.summary)
    output.out(f"Who: {one.access}")
    if one.takes_key:
        output.out("Takes an Idempotency-Key: a fresh one is sent, unless --idempotency-key K.")
    if one.needs_match:
        output.out("Changes what was read: -H 'If-Match: \"3\"' says which ETag; without it, any.")
    output.out("")
    rows = [
        [name, field.where, _type(document, schema), "yes" if needed else "", _limits(schema)]
        for field in one.fields
        for name, schema, needed in document.nested(field)
    ]
    if rows:
        output.table(["FIELD", "IN", "TYPE", "NEEDED", "LIMITS"], rows)
    else:
        output.out("It takes no fields.")
    example = [
        f"{field.name}={field.example}"
        for field in one.fields
        if field.where != "body" and field.example is not None
    ]
    if example or one.body_example is not None:
        output.out("")
        output.out(("Example", "strong"), " (sent when no field is given):")
        for line in example:
            output.out(f"  {line}")
        if one.body_example is not None:
            output.json_block(one.body_example)


def _type(document: Document, schema: Schema) -> str:
    kinds = document.types(schema) - {"null"}
    name = " or ".join(sorted(kinds)) or "any"
    if name == "array":
        inner = " or ".join(sorted(document.types(schema.get("items")))) or "any"
        return f"list of {inner}"
    return name


def _limits(schema: Schema) -> str:
    return ", ".join(_each_limit(schema))


def _each_limit(schema: Schema) -> Iterator[str]:
    choices = items(schema.get("enum"))
    if choices:
        yield "one of " + ", ".join(str(choice) for choice in choices)
    for key, form in _BOUNDS:
        if key in schema:
            yield form.format(schema[key])
    for low, high, unit in _SIZES:
        if low in schema and high in schema:
            yield f"{schema[low]} to {schema[high]} {unit}"
        elif low in schema or high in schema:
            yield f"{'≥' if low in schema else '≤'} {schema.get(low, schema.get(high))} {unit}"
    for key in ("pattern", "format"):
        if key in schema:
            yield f"{key} {schema[key]}"
    if schema.get("default") is not None:
        yield f"default {json.dumps(schema['default'], ensure_ascii=False)}"
