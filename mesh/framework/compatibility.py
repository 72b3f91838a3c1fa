"""Whether what one side writes can be read by the other, compared as JSON Schema; pure.

Used twice: for a consumer's own declaration against its owner's, and for an older document of a
service against a newer one. What it finds are sentences that begin with the place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from mesh import codec
from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

Node = Mapping[str, object]

LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
SAME = ("pattern", "multipleOf", "uniqueItems")
"""Limits that fit only what has the same: nothing else about them can be decided here."""


_WIDER = {"integer": ("number",)}


class Rules(NamedTuple):
    """What counts beside names and types."""

    limits: bool = False
    """A value that the writer may write must be within the reader's limits."""
    optional: bool = False
    """What the writer may leave out must not be required by the reader."""
    whole: bool = False
    """What the reader would read must be written, also where it has a default."""


SENT = Rules()
READ = Rules(whole=True)
TAKEN = Rules(limits=True, optional=True)
GIVEN = Rules(limits=True, optional=True, whole=True)


def _node(value: object) -> Node:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


class Side:
    """One JSON Schema, followed through its references into `parts`."""

    def __init__(self, node: object, parts: Node) -> None:
        found, steps = _node(node), 0
        while "$ref" in found and steps <= len(parts):
            found = _node(parts.get(str(found["$ref"]).rpartition("/")[2]))
            steps += 1
        self.node, self.parts = found, parts

    def at(self, node: object) -> Side:
        """A schema inside this one."""
        return Side(node, self.parts)

    @property
    def choices(self) -> list[Side]:
        """The alternatives; itself where there are none."""
        return [self.at(each) for each in _list(self.node.get("anyOf"))] or [self]

    @property
    def members(self) -> Node:
        """An object's members by name."""
        return _node(self.node.get("properties"))

    @property
    def required(self) -> list[object]:
        """Names of members that are always there."""
        return _list(self.node.get("required"))

    @property
    def values(self) -> list[object] | None:
        """The few values there are; None for any."""
        if "const" in self.node:
            return [self.node["const"]]
        return _list(self.node["enum"]) if "enum" in self.node else None

    @property
    def kind(self) -> str:
        """The type's name; `anything` where there is none."""
        if "type" in self.node:
            return str(self.node["type"])
        kinds = {type(value) for value in self.values or ()}
        names = {str: "string", int: "integer", bool: "boolean", type(None): "null"}
        return names.get(kinds.pop(), "anything") if len(kinds) == 1 else "anything"


def misread(written: Side, read: Side, place: str, rules: Rules) -> list[str]:
    """Why what is written cannot be read; nothing when it always can."""
    return list(dict.fromkeys(_misread(written, read, place, rules, frozenset())))


def misread_type(written: type, read: type, place: str, rules: Rules) -> list[str]:
    """The same for two message types."""
    (one, other), parts = codec.schemas([written, read])
    return misread(Side(one, parts), Side(other, parts), place, rules)


_Seen = frozenset[tuple[int, int]]


def _misread(written: Side, read: Side, place: str, rules: Rules, seen: _Seen) -> Iterator[str]:
    here = (id(written.node), id(read.node))
    if here in seen:  # a type within itself
        return
    seen |= {here}
    if "anyOf" in written.node or "anyOf" in read.node:
        for one in written.choices:
            tries = [list(_misread(one, other, place, rules, seen)) for other in read.choices]
            if all(tries):
                yield min(tries, key=len)[0]
        return
    if read.kind not in {written.kind, "anything", *_WIDER.get(written.kind, ())}:
        yield f"{place}: {written.kind} is read as {read.kind}"
        return
    yield from _unheard_of(written, read, place)
    if rules.limits:
        yield from _beyond(written, read, place)
    if read.kind == "array":
        yield from _misread_items(written, read, place, rules, seen)
    elif read.kind == "object":
        yield from _misread_members(written, read, place, rules, seen)


def _unheard_of(written: Side, read: Side, place: str) -> Iterator[str]:
    if read.values is None:
        return
    more = [value for value in written.values or () if value not in read.values]
    if written.values is None or more:
        what = ", ".join(map(str, more)) or f"any {written.kind}"
        yield f"{place}: {what} is written, not among {', '.join(map(str, read.values))}"


def _beyond(written: Side, read: Side, place: str) -> Iterator[str]:
    if written.values is not None and read.values is not None:
        return
    for key in (*LOWER, *UPPER, *SAME):
        asked, had = read.node.get(key), written.node.get(key)
        if asked is None or asked is False or asked == had or _within(key, had, asked):
            continue
        yield f"{place}: {key} {'none' if had is None else had} is read with {key} {asked}"


def _within(key: str, had: object, asked: object) -> bool:
    if key in SAME or not (isinstance(had, int | float) and isinstance(asked, int | float)):
        return False
    return had >= asked if key in LOWER else had <= asked


def _misread_items(
    written: Side, read: Side, place: str, rules: Rules, seen: _Seen
) -> Iterator[str]:
    theirs, ours = (_list(side.node.get("prefixItems")) for side in (written, read))
    if ours and len(theirs) != len(ours):
        yield f"{place}: {len(theirs) or 'any'} items are read as {len(ours)}"
        return
    for n, (one, other) in enumerate(zip(theirs, ours, strict=False)):
        yield from _misread(written.at(one), read.at(other), f"{place}[{n}]", rules, seen)
    if not ours:
        every = theirs or [written.node.get("items")]
        for one in every:
            other = read.at(read.node.get("items"))
            yield from _misread(written.at(one), other, f"{place}[]", rules, seen)


def _misread_members(
    written: Side, read: Side, place: str, rules: Rules, seen: _Seen
) -> Iterator[str]:
    rest, more = (side.node.get("additionalProperties") for side in (read, written))
    for name, node in read.members.items():
        inside = f"{place}.{name}"
        if name in written.members:
            if rules.optional and name in read.required and name not in written.required:
                yield f"{inside}: is not always there"
            other = written.at(written.members[name])
            yield from _misread(other, read.at(node), inside, rules, seen)
        elif name in read.required or (rules.whole and not isinstance(more, Mapping)):
            yield f"{inside}: is not there"
    for name, node in written.members.items():
        if name in read.members:
            continue
        if rest is False:
            yield f"{place}.{name}: is not accepted"
        elif isinstance(rest, Mapping):
            yield from _misread(written.at(node), read.at(rest), f"{place}.{name}", rules, seen)
    if isinstance(more, Mapping) and isinstance(rest, Mapping):
        yield from _misread(written.at(more), read.at(rest), f"{place}.*", rules, seen)


def breaks(old: object, new: object) -> list[str]:
    """What of an older OpenAPI or AsyncAPI document the newer one no longer keeps.

    A caller of the old document must be taken by the new service, and a reader of old answers
    and events must find in the new ones what it reads, with no value it has not heard of.

    Raises: InvalidInput, if they are not two documents of one kind.
    """
    before, after = _node(old), _node(new)
    for kind, compare in (("openapi", _broken_operations), ("asyncapi", _broken_events)):
        if kind in before and kind in after:
            return list(compare(before, after))
    raise InvalidInput("these are not two OpenAPI or two AsyncAPI documents")


def _dig(node: object, *path: str) -> object:
    for step in path:
        node = _node(node).get(step)
    return node


def _operations(document: Node) -> dict[tuple[str, str], Node]:
    return {
        (method, path): _node(row)
        for path, rows in _node(document.get("paths")).items()
        for method, row in _node(rows).items()
        if isinstance(row, Mapping)
    }


def _broken_operations(old: Node, new: Node) -> Iterator[str]:
    parts = [_node(_dig(each, "components", "schemas")) for each in (old, new)]
    after = _operations(new)
    for (method, path), was in _operations(old).items():
        name = str(was.get("operationId", f"{method.upper()} {path}"))
        row = after.get((method, path))
        if row is None:
            yield f"{name}: {method.upper()} {path} is gone"
            continue
        if row.get("operationId") != was.get("operationId"):
            yield f"{name}: is called {row.get('operationId')} now"
        yield from _shut_out(was, row, name)
        before, now = (Side(_taken(each), own) for each, own in zip((was, row), parts, strict=True))
        yield from misread(before, now, f"{name} takes", TAKEN)
        yield from _broken_answers(was, row, name, parts)


def _shut_out(was: Node, row: Node, name: str) -> Iterator[str]:
    """Callers who were let in and are not any more; a scope is one of those that suffice."""
    admitted = [_node(each) for each in _list(row.get("security"))]
    if "security" not in row or {} in admitted:
        return
    for asked in map(_node, _list(was.get("security")) or [{}]):
        for scheme, scopes in asked.items() or [("anyone", [])]:
            offers = [_list(each[scheme]) for each in admitted if scheme in each]
            wanted = _list(scopes)
            if not any(not offer or (wanted and {*wanted} <= {*offer}) for offer in offers):
                yield f"{name}: does not let in {' '.join([scheme, *map(str, wanted)])} any more"


def _taken(row: Node) -> Node:
    """Parameters and body as one object."""
    properties, required = {}, []
    for each in map(_node, _list(row.get("parameters"))):
        name = f"{each.get('in')} {each.get('name')}"
        properties[name] = each.get("schema")
        required += [name] if each.get("required") else []
    body = _node(row.get("requestBody"))
    if body:
        properties["body"] = _dig(body, "content", "application/json", "schema")
        required += ["body"] if body.get("required") else []
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _broken_answers(was: Node, row: Node, name: str, parts: list[Node]) -> Iterator[str]:
    now = _node(row.get("responses"))
    for status, answer in _node(was.get("responses")).items():
        if status not in now:
            yield f"{name}: status {status} is gone"
            continue
        for kind, content in _node(_dig(answer, "content")).items():
            new = _node(_dig(now[status], "content", kind))
            if not new:
                yield f"{name} {status}: no answer of {kind} any more"
                continue
            written, read = (
                Side(new.get("schema"), parts[1]),
                Side(_dig(content, "schema"), parts[0]),
            )
            yield from misread(written, read, f"{name} {status}", GIVEN)


def _told(document: Node) -> set[str]:
    return {
        str(_dig(message, "$ref")).rpartition("/")[2]
        for row in _node(document.get("operations")).values()
        if _dig(row, "action") == "send"
        for message in _list(_dig(row, "messages"))
    }


def _broken_events(old: Node, new: Node) -> Iterator[str]:
    sides = []
    for each in (new, old):
        parts = _node(_dig(each, "components", "schemas"))
        messages = _node(_dig(each, "components", "messages"))
        sides.append(
            {name: Side(_dig(messages.get(name), "payload"), parts) for name in _told(each)}
        )
    written, read = sides
    for name in sorted(read):
        if name in written:
            yield from misread(written[name], read[name], name, GIVEN)
        else:
            yield f"{name}: is not told any more"
