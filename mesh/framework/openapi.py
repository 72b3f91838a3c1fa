"""The OpenAPI 3.1 document of a service, generated from its table.

`security` names roles: `{"user": ["customer"]}` any user with that role, `{"user": []}` any user,
`{"service": ["order"]}` that service, `{"operator": []}` the mesh's operator, `{}` anyone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import codec

if TYPE_CHECKING:
    from mesh.framework.service import Allow, Operation, Service

PROBLEM = "application/problem+json"

_KEY = "^[!-~]([ -~]*[!-~])?$"
"""An Idempotency-Key: printable ASCII. A space at either end would be no part of a header."""

_TAGS = r'^(\*|(W/)?"[!#-+\--~]*"(, ?(W/)?"[!#-+\--~]*"){0,19})$'
"""If-Match: `*` or entity tags."""

_PROBLEM_SCHEMA: dict[str, object] = {
    "title": "Problem",
    "description": "RFC 9457 problem details; further members carry the facts of this problem.",
    "type": "object",
    "required": ["type", "title", "status", "code", "trace_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "trace_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}

_SECURITY_SCHEMES = {
    "user": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A user's access token; the scopes are roles of which one suffices.",
    },
    "service": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A service's own token for this callee; the scopes are names of services.",
    },
    "operator": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The operator's token, from the mesh's control socket.",
    },
}


def security(allow: Allow) -> list[dict[str, list[str]]]:
    """Who may call, as OpenAPI says it."""
    if allow.anyone:
        return [{}]
    found: list[dict[str, list[str]]] = [{"user": []}] if allow.owner else []
    found.extend({"user": [] if role == "user" else [role]} for role in allow.roles)
    found.extend({"service": [name]} for name in allow.services)
    if allow.operator:
        found.append({"operator": []})
    return found


def document(service: Service, version: str) -> dict[str, object]:
    """The whole document, as plain values."""
    shapes = [row.takes for row in service.operations] + [row.gives for row in service.operations]
    found, components = codec.schemas(shapes)
    components["Problem"] = _PROBLEM_SCHEMA
    count = len(service.operations)
    paths: dict[str, dict[str, object]] = {}
    for row, takes, gives in zip(service.operations, found[:count], found[count:], strict=True):
        path = paths.setdefault(row.path, {})
        path[row.method.lower()] = _operation(row, takes, gives, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": service.name, "version": version, "description": service.summary},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY_SCHEMES},
    }


def _operation(
    row: Operation,  # type: ignore[type-arg]  # each row has types of its own
    takes: dict[str, object],
    gives: dict[str, object],
    components: dict[str, dict[str, object]],
) -> dict[str, object]:
    name = str(takes.get("$ref", "")).rpartition("/")[2]
    properties: dict[str, object] = dict(components[name]["properties"])  # type: ignore[call-overload]
    required = set(components[name].get("required", ()))  # type: ignore[call-overload]
    example: dict[str, object] = codec.plain(row.example)
    outside = row.path_fields if not row.rest_in_query else tuple(properties)
    parameters = [
        {
            "name": field,
            "in": "path" if field in row.path_fields else "query",
            "required": field in row.path_fields or field in required,
            "schema": properties[field],
            **({"example": example[field]} if example.get(field) is not None else {}),
        }
        for field in outside
    ]
    if row.key != "none":
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": row.key == "required",
                "schema": {"type": "string", "maxLength": 255, "pattern": _KEY},
                "description": "Sent again with the same body, the request has one effect.",
            }
        )
    if row.match:
        parameters.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": True,
                "schema": {"type": "string", "maxLength": 255, "pattern": _TAGS},
                "example": "*",
                "description": "The ETag of the version that was read; * for any.",
            }
        )
    answer: dict[str, object] = {"description": row.summary}
    if row.gives is not type(None):
        answer["content"] = {"application/json": {"schema": gives}}
    said: dict[str, object] = {
        "operationId": row.name,
        "summary": row.summary,
        "parameters": parameters,
        "security": security(row.allow),
        "responses": {
            str(row.status): answer,
            **(
                {"202": {**answer, "description": "Accepted; it is still being decided."}}
                if row.may_be_accepted
                else {}
            ),
            "default": {
                "description": "A problem.",
                "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    }
    if not row.rest_in_query and set(properties) - set(row.path_fields):
        body = _without(components[name], row.path_fields) if row.path_fields else takes
        said["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": body,
                    "example": {
                        field: value
                        for field, value in example.items()
                        if field not in row.path_fields and value is not None
                    },
                }
            },
        }
    return said


def _without(schema: dict[str, object], names: tuple[str, ...]) -> dict[str, object]:
    """The same object schema without some members: those that the path carries."""
    properties: dict[str, object] = dict(schema["properties"])  # type: ignore[call-overload]
    for name in names:
        properties.pop(name, None)
    required = [name for name in schema.get("required", ()) if name not in names]  # type: ignore[attr-defined]
    left = {key: value for key, value in schema.items() if key not in {"properties", "required"}}
    return {**left, "properties": properties, **({"required": required} if required else {})}
