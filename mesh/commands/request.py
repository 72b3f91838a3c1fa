"""The words after `mesh call SERVICE OPERATION` as an HTTP request; pure.

Fields as HTTPie has them: `quantity=2` is converted to the field's type, `lines:='[…]'` is JSON.
The document tells path, query and body apart. Refuses a name it does not know at once; what a
value must be beyond its type is the service's own business to say.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from mesh.configs.complaints import suggestion
from mesh.errors import WrongUsage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mesh.commands.operations import Document, Field, Operation

_WORD = re.compile(r"(?P<name>[^=:\s]+)(?P<sign>:=|=)(?P<value>.*)", re.DOTALL)
_PLACE = re.compile(r"\{([^{}]+)\}")
_TRUTH = {"true": True, "false": False}


@dataclass(slots=True)
class Request:
    """What is sent: method, path with query, body members (None: no body)."""

    method: str
    target: str
    body: object = None
    from_example: bool = False
    left_out: list[str] = field(default_factory=list)


def _read_json(text: str, what: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"{what} is not JSON: {error}", code="not-json") from None


def parse_data(text: str) -> object:
    """The value of `-d`.

    Raises: WrongUsage.
    """
    return _read_json(text, "the value of -d")


def _convert(document: Document, known: Field, text: str) -> object:
    """`text` as a value of the field's type; text stays text where the document is silent."""
    types = document.types(known.schema)
    if not types or "string" in types:
        return text
    if "null" in types and text == "null":
        return None
    if "boolean" in types and text in _TRUTH:
        return _TRUTH[text]
    for kind, read in (("integer", int), ("number", float)):
        if kind in types:
            try:
                return read(text)
            except ValueError:
                continue
    kinds = " or ".join(sorted(types - {"null"}))
    if types & {"array", "object"}:
        raise WrongUsage(
            f"`{known.name}` is of type {kinds}, which plain text cannot say",
            hint=f"give it as JSON: {known.name}:='{'[…]' if 'array' in types else '{…}'}'",
        )
    raise WrongUsage(f"`{known.name}` must be of type {kinds}, not `{text}`")


def _given(document: Document, operation: Operation, words: Iterable[str]) -> dict[str, object]:
    """The fields on the command line, by name, with their values."""
    given: dict[str, object] = {}
    names = [known.name for known in operation.fields]
    for word in words:
        match = _WORD.fullmatch(word)
        if match is None:
            raise WrongUsage(f"`{word}` is no FIELD=VALUE or FIELD:=JSON")
        name, sign, value = match.group("name", "sign", "value")
        known = operation.field(name)
        if known is None and not (operation.takes_body and operation.takes_others):
            raise WrongUsage(
                f"{operation.name} has no field `{name}`{suggestion(name, names)}",
                code="unknown-field",
                hint=f"its fields are: {', '.join(names) or 'none'}",
            )
        if name in given:
            raise WrongUsage(f"`{name}` is given twice")
        if sign == ":=":
            given[name] = _read_json(value, f"the value of `{name}`")
        else:
            given[name] = _convert(document, known, value) if known else value
    return given


def _parameter_text(value: object) -> str:
    """A value as a path or query carries it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _filled(operation: Operation, values: dict[str, object]) -> str:
    """The path with its places filled and the query behind it; takes those values out."""
    missing = [name for name in _PLACE.findall(operation.path) if name not in values]
    if missing:
        raise WrongUsage(
            f"{operation.name} needs {', '.join(f'`{name}`' for name in missing)}",
            code="missing-field",
            hint=f"{missing[0]}=…, for the place in {operation.path}",
        )
    path = _PLACE.sub(
        lambda place: quote(_parameter_text(values.pop(place.group(1))), safe=""), operation.path
    )
    query = [
        (known.name, _parameter_text(one))
        for known in operation.fields
        if known.where == "query" and known.name in values
        for one in _each(values.pop(known.name))
        if one is not None
    ]
    return f"{path}?{urlencode(query)}" if query else path


def _each(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _example(operation: Operation) -> Request:
    """What the document shows; inputs for which it shows nothing are left out."""
    values = {
        known.name: known.example
        for known in operation.fields
        if known.where != "body" and known.example is not None
    }
    body = operation.body_example if operation.takes_body else None
    shown = bool(values) or body is not None
    return Request(operation.method, _filled(operation, values), body, from_example=shown)


def build(
    document: Document, operation: Operation, words: Sequence[str], data: object | None
) -> Request:
    """What to send. With neither words nor data, the documented example.

    Args:
        data: the parsed value of `-d`; fields in `words` are laid over it.

    Raises: WrongUsage (unknown or missing field, a value that is not of the field's type).
    """
    if not words and data is None:
        return _example(operation)
    given = _given(document, operation, words)
    if data is None:
        values = given
    elif isinstance(data, dict):
        values = {**data, **given}
    elif given:
        raise WrongUsage("fields can be laid over -d only if that is a JSON object")
    else:
        return Request(operation.method, _filled(operation, {}), data)
    target = _filled(operation, values)
    if values and not operation.takes_body:
        raise WrongUsage(f"{operation.name} takes no body, so it has no `{next(iter(values))}`")
    return Request(operation.method, target, values if operation.takes_body else None)
