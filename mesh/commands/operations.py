"""What a service can be asked, read from its OpenAPI document; pure.

The document is a stranger's: nothing about its shape is trusted, and references are followed to
a bounded depth. It knows no service by name, so it works for any that serves a document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = ("get", "post", "put", "patch", "delete")

REFERENCES_MAX = 16
"""References followed one after another; a longer chain is a circle."""

NESTING_MAX = 3
"""Levels of nested members listed in help, and of alternatives looked into."""

JSON = "application/json"

Schema = dict[str, object]


def members(value: object) -> dict[str, object]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Field:
    """One input of an operation. `example` is None where the document gives none."""

    name: str
    where: Literal["path", "query", "body"]
    schema: Schema
    required: bool
    example: object = None


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call: anyone, users with one of `roles`, the operator, the `services` named.

    A role `""` is every user.
    """

    anyone: bool
    roles: tuple[str, ...]
    operator: bool
    services: tuple[str, ...]

    def __str__(self) -> str:
        """For a person: `customer, staff`, `service order`, `operator`, `anyone`."""
        if self.anyone:
            return "anyone"
        words = [role or "any user" for role in self.roles]
        words += [f"service {name}" for name in self.services]
        words += ["operator"] if self.operator else []
        return ", ".join(words) or "nobody"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `body_example` is the documented body, None where there is none."""

    name: str
    method: str
    path: str
    summary: str
    fields: tuple[Field, ...]
    access: Access
    takes_body: bool
    takes_key: bool
    needs_match: bool
    """Whether it must be told which version was read (If-Match)."""
    takes_others: bool
    """Whether the body may hold members that the document does not name."""
    body_example: object = None

    def field(self, name: str) -> Field | None:
        """The input of that name."""
        return next((field for field in self.fields if field.name == name), None)


class Document:
    """An OpenAPI 3.1 document."""

    def __init__(self, raw: object) -> None:
        """`raw`: the parsed JSON, whatever it is."""
        self._raw = members(raw)

    @property
    def operations(self) -> dict[str, Operation]:
        """By `operationId`, in the document's order; those without one cannot be named."""
        found: dict[str, Operation] = {}
        for path, row in members(self._raw.get("paths")).items():
            for method, raw in members(row).items():
                said = members(raw)
                name = said.get("operationId")
                if method in METHODS and isinstance(name, str):
                    shared = items(members(row).get("parameters"))
                    found.setdefault(name, self._operation(name, method, path, said, shared))
        return found

    def resolve(self, schema: object) -> Schema:
        """The schema that a chain of `$ref` leads to; an empty one if it leads nowhere."""
        found = members(schema)
        for _ in range(REFERENCES_MAX):
            reference = found.get("$ref")
            if not isinstance(reference, str):
                return found
            target: object = self._raw if reference.startswith("#/") else None
            for step in reference.removeprefix("#/").split("/"):
                target = members(target).get(step.replace("~1", "/").replace("~0", "~"))
            found = members(target)
        return {}

    def types(self, schema: object) -> set[str]:
        """The JSON types a value may have; empty when the document does not say."""
        return {kind for found in self.alternatives(schema) for kind in _types_of(found)}

    def alternatives(self, schema: object, depth: int = NESTING_MAX) -> Iterator[Schema]:
        """The schema, and those of its `anyOf`, `oneOf`, `allOf`, resolved."""
        found = self.resolve(schema)
        yield found
        if depth:
            for key in ("anyOf", "oneOf", "allOf"):
                for choice in items(found.get(key))[:REFERENCES_MAX]:
                    yield from self.alternatives(choice, depth - 1)

    def _operation(
        self, name: str, method: str, path: str, said: Schema, shared: list[object]
    ) -> Operation:
        parameters = [self.resolve(raw) for raw in [*items(said.get("parameters")), *shared]]
        headers = {
            str(raw.get("name")).lower(): raw.get("required")
            for raw in parameters
            if raw.get("in") == "header"
        }
        content = members(self.resolve(said.get("requestBody")).get("content"))
        body = members(content.get(JSON))
        schema = self.resolve(body.get("schema"))
        return Operation(
            name=name,
            method=method.upper(),
            path=path,
            summary=str(said.get("summary") or said.get("description") or ""),
            fields=(*_parameter_fields(parameters), *_body_fields(schema)),
            access=_access(items(said.get("security", self._raw.get("security")))),
            takes_body=bool(body),
            takes_key="idempotency-key" in headers,
            needs_match=headers.get("if-match") is True,
            takes_others=bool(schema.get("additionalProperties")),
            body_example=_body_example(body, schema),
        )

    def nested(self, field: Field) -> Iterator[tuple[str, Schema, bool]]:
        """The field and the members inside it: dotted name (`lines[].sku`), schema, required."""
        yield from self._nested(field.name, field.schema, NESTING_MAX, required=field.required)

    def _nested(
        self, name: str, schema: object, depth: int, *, required: bool
    ) -> Iterator[tuple[str, Schema, bool]]:
        found = self.plainest(schema)
        yield name, found, required
        if depth == 0:
            return
        if "items" in found:
            inner = self.plainest(found["items"])
            name, found = f"{name}[]", inner
        needed = items(found.get("required"))
        for member, inside in members(found.get("properties")).items():
            yield from self._nested(
                f"{name}.{member}", inside, depth - 1, required=member in needed
            )

    def plainest(self, schema: object) -> Schema:
        """The one alternative that is not null, with what stands around it; else the schema."""
        found = self.resolve(schema)
        choices = [
            self.resolve(choice)
            for key in ("anyOf", "oneOf")
            for choice in items(found.get(key))
            if self.resolve(choice).get("type") != "null"
        ]
        return {**choices[0], **found} if len(choices) == 1 else found


def _types_of(schema: Schema) -> set[str]:
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return {str(one) for one in kind}
    values = [*items(schema.get("enum")), *([schema["const"]] if "const" in schema else [])]
    return {"string" for value in values if isinstance(value, str)}


def _parameter_fields(parameters: list[Schema]) -> Iterator[Field]:
    for raw in parameters:
        name, where = raw.get("name"), raw.get("in")
        if isinstance(name, str) and (where == "path" or where == "query"):  # noqa: PLR1714  (narrows the type)
            schema = members(raw.get("schema"))
            example = raw.get("example", schema.get("example"))
            required = where == "path" or raw.get("required") is True
            yield Field(name, where, schema, required, example)


def _body_fields(schema: Schema) -> Iterator[Field]:
    needed = items(schema.get("required"))
    for name, inside in members(schema.get("properties")).items():
        yield Field(name, "body", members(inside), name in needed)


def _body_example(body: Schema, schema: Schema) -> object:
    if "example" in body:
        return body["example"]
    named = [members(one).get("value") for one in members(body.get("examples")).values()]
    return next(iter([*named, *items(schema.get("examples")), schema.get("example")]), None)


def _access(security: list[object]) -> Access:
    """An empty list lets anyone in, as OpenAPI has it."""
    rows = [members(row) for row in security]

    def scopes(scheme: str) -> Iterator[list[object]]:
        return (items(row[scheme]) for row in rows if scheme in row)

    return Access(
        anyone=not rows or {} in rows,
        roles=tuple(str(role) for named in scopes("user") for role in named or [""]),
        operator=any(True for _ in scopes("operator")),
        services=tuple(str(name) for named in scopes("service") for name in named),
    )
