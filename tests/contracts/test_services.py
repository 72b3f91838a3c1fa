"""One body over every service that exists: its files, its table, and its words for the others.

A service never imports another, so nothing but these tests sees that they mean the same thing.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

import pytest
import yaml
from msgspec import Struct

import mesh.services
from mesh import codec
from mesh.client import Call
from mesh.errors import Broken
from mesh.framework import Allow, Listener, Move, Moves, Service, Tells, identity, roles, services
from mesh.framework.service import check

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(mesh.services.__file__).parent
ROOT = FOLDER.parent.parent
NAMES = sorted(module.name for module in pkgutil.iter_modules(mesh.services.__path__))
FILES = {"__init__", "service", "messages", "model", "store", "actions", "listeners"}


@dataclass(frozen=True)
class Shop:
    """Every service with what it hears, asks and may ask."""

    tables: dict[str, Service]
    listeners: dict[str, tuple[Listener, ...]]
    calls: dict[str, tuple[Call, ...]]
    configured: dict[str, frozenset[str]]


def _shop() -> Shop:
    tables, listeners, calls = {}, {}, {}
    for name in NAMES:
        tables[name] = importlib.import_module(f"mesh.services.{name}.service").service
        listeners[name] = tables[name].listeners
        calls[name] = tables[name].asks
        if name != identity.ISSUER:  # what the framework hears and asks in each service's name
            keys = Listener("auth.keys_changed", lambda tx, data: None, identity.KeySet)
            listeners[name] = (*listeners[name], keys)
            calls[name] = (*calls[name], identity.JWKS)
    document = yaml.safe_load((ROOT / "configs" / "mesh.yaml").read_text("utf-8"))
    configured = {
        name: frozenset(service.get("calls", ())) for name, service in document["services"].items()
    }
    return Shop(tables, listeners, calls, configured)


SHOP = _shop()


# What one side writes and the other reads, compared as JSON Schema


def _resolved(shape: object) -> tuple[dict, dict]:
    (found,), parts = codec.schemas([shape])
    return found, parts


class _Side:
    """One JSON Schema, followed through its references."""

    def __init__(self, node: dict, parts: dict) -> None:
        while "$ref" in node:
            node = parts[node["$ref"].rpartition("/")[2]]
        self.node, self.parts = node, parts

    def at(self, node: dict) -> _Side:
        return _Side(node, self.parts)

    @property
    def choices(self) -> list[_Side]:
        return [self.at(each) for each in self.node.get("anyOf", [self.node])]

    @property
    def members(self) -> dict[str, dict]:
        return self.node.get("properties", {})

    @property
    def kind(self) -> str:
        if "type" in self.node:
            return self.node["type"]
        kinds = {type(value) for value in self.node.get("enum", ())}
        return {frozenset({str}): "string", frozenset({int}): "integer"}.get(frozenset(kinds), "?")


def _misread(written: _Side, read: _Side, place: str) -> Iterator[str]:
    """Why what is written cannot be read; nothing when it always can, limits on values aside."""
    if len(written.choices) > 1 or len(read.choices) > 1:
        for one in written.choices:
            tries = [list(_misread(one, other, place)) for other in read.choices]
            if all(tries):
                yield min(tries, key=len)[0]
        return
    if written.kind != read.kind:
        yield f"{place}: {written.kind} is read as {read.kind}"
    elif "enum" in read.node and not set(written.node.get("enum", "?")) <= set(read.node["enum"]):
        yield f"{place}: more is written than {read.node['enum']}"
    elif read.kind == "array":
        yield from _misread(
            written.at(written.node["items"]), read.at(read.node["items"]), f"{place}[]"
        )
    elif read.kind == "object":
        yield from _misread_members(written, read, place)


def _misread_members(written: _Side, read: _Side, place: str) -> Iterator[str]:
    rest = read.node.get("additionalProperties", True)
    for name, node in read.members.items():
        if name in written.members:
            yield from _misread(written.at(written.members[name]), read.at(node), f"{place}.{name}")
        elif name in read.node.get("required", ()):
            yield f"{place}.{name}: is not there"
    for name, node in written.members.items():
        if name in read.members:
            continue
        if rest is False:
            yield f"{place}.{name}: is not accepted"
        elif isinstance(rest, dict):
            yield from _misread(written.at(node), read.at(rest), f"{place}.{name}")
    more = written.node.get("additionalProperties")
    if isinstance(more, dict) and isinstance(rest, dict):
        yield from _misread(written.at(more), read.at(rest), f"{place}.*")


def misread(written: type, read: type, place: str) -> list[str]:
    return list(_misread(_Side(*_resolved(written)), _Side(*_resolved(read)), place))


def unread(written: type, read: type, place: str) -> list[str]:
    """Fields that are read, though with a default, and that nobody writes."""
    if NoneType in {written, read}:
        return []
    return [
        f"{place}.{name}: is not there"
        for name in codec.fields(read)
        if name not in codec.fields(written)
    ]


# What must agree between the services of a shop


def wrong_listeners(shop: Shop) -> list[str]:
    found = []
    for name, rows in shop.listeners.items():
        for row in rows:
            place = f"{name} hears {row.event}"
            owner = shop.tables.get(row.stream)
            told = [each for each in owner.tells if each.event == row.event] if owner else []
            if not told:
                found.append(f"{place}: nobody tells it")
                continue
            found += {
                *misread(told[0].data, row.reads, place),
                *unread(told[0].data, row.reads, place),
            }
    return found


def wrong_calls(shop: Shop) -> list[str]:
    found = []
    for name, calls in shop.calls.items():
        for call in calls:
            place = f"{name} asks {call.service} {call.route}"
            if call.service not in shop.configured.get(name, ()):
                found.append(f"{place}: not in `calls:`")
            owner = shop.tables.get(call.service)
            asked = [row for row in owner.operations if row.route == call.route] if owner else []
            if not asked:
                found.append(f"{place}: no such route")
                continue
            allow = asked[0].allow
            if not (allow.anyone or name in allow.services):
                found.append(f"{place}: not allowed")
            found += misread(call.takes, asked[0].takes, f"{place}: sent")
            if call.gives is not NoneType:
                found += {
                    *misread(asked[0].gives, call.gives, f"{place}: read"),
                    *unread(asked[0].gives, call.gives, f"{place}: read"),
                }
    return found


def wrong_permissions(shop: Shop) -> list[str]:
    return [
        f"{caller} may ask {name} {row.name}: not in its `calls:`"
        for name, table in shop.tables.items()
        for row in table.operations
        for caller in row.allow.services
        if name not in shop.configured.get(caller, ())
    ]


FORBIDDEN = re.compile(
    r"\b(DEFERRABLE|AUTOINCREMENT|INSERT\s+OR\s+REPLACE|RAISE\s*\(\s*ROLLBACK"
    r"|ON\s+CONFLICT\s+ROLLBACK)|datetime\s*\(\s*'now'",
    re.IGNORECASE,
)
_STRICT = re.compile(r"\)[\w\s,]*\bSTRICT\b[\w\s,]*$", re.IGNORECASE)


def wrong_schema(sql: str) -> list[str]:
    bare = re.sub(r"--[^\n]*", "", sql)
    statements = [statement.strip() for statement in bare.split(";")]
    return [
        *(match.group() for match in FORBIDDEN.finditer(bare)),
        *(
            f"not STRICT: {statement.splitlines()[0]}"
            for statement in statements
            if re.match(r"CREATE\s+(TEMP\s+)?TABLE\b", statement, re.IGNORECASE)
            and not _STRICT.search(statement)
        ),
    ]


def test_services_are_found():
    assert set(NAMES) >= {"auth", "user", "product", "order"}
    assert set(SHOP.configured) == set(NAMES)
    assert sum(map(len, SHOP.calls.values())) >= len(NAMES)
    assert any(row.stream == "product" for row in SHOP.listeners["order"])


@pytest.mark.parametrize("name", NAMES)
def test_service_has_the_same_files_as_every_other(name: str):
    folder = FOLDER / name
    assert {path.stem for path in folder.glob("*.py")} == FILES
    folders = {path.name for path in folder.iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == {"schema"}


@pytest.mark.parametrize("name", NAMES)
def test_table_of_each_service_is_right(name: str):
    check(SHOP.tables[name])
    assert SHOP.tables[name].name == name
    for row in SHOP.tables[name].operations:
        assert codec.convert(codec.plain(row.example), row.takes) == row.example, row.name


def test_moves_say_where_an_entity_begins_and_ends():
    (moves,) = SHOP.tables["order"].moves
    assert moves.initial == ("pending",)
    assert set(moves.terminal) == {"rejected", "expired", "cancelled", "returned"}
    assert [row.cause for row in moves.out_of("paid")] == ["cancel", "ship"]
    assert moves.find("paid", "pay") is None


def test_what_is_heard_is_what_is_told():
    assert wrong_listeners(SHOP) == []


def test_what_is_asked_is_what_is_answered():
    assert wrong_calls(SHOP) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_call_of_the_messages_is_in_the_table(name: str):
    words = vars(importlib.import_module(f"mesh.services.{name}.messages")).values()
    assert [word for word in words if isinstance(word, Call)] == [*SHOP.tables[name].asks]


def test_who_is_let_in_is_configured_to_ask():
    assert wrong_permissions(SHOP) == []


SCHEMAS = sorted([*FOLDER.glob("*/schema/*.sql"), *FOLDER.parent.glob("framework/schema/*.sql")])


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_schema_is_portable_and_strict(path: Path):
    assert wrong_schema(path.read_text("utf-8")) == []


# Each check sees what it is there for


class Written(Struct):
    id: str
    number: int
    tags: list[str]
    note: str | None


class Narrow(Struct, forbid_unknown_fields=True):
    id: str
    number: int


class ReadsMore(Struct):
    id: str
    missing: int


class ReadsMoreByDefault(Struct):
    id: str
    missing: int = 0


class ReadsText(Struct):
    number: str


class ReadsNumbers(Struct):
    tags: list[int]


class ReadsAlways(Struct):
    note: str


class ReadsRight(Struct):
    id: str
    note: str | None
    tags: tuple[str, ...]


@pytest.mark.parametrize(
    ("read", "complaint"),
    [
        (Narrow, "x.tags: is not accepted"),
        (ReadsMore, "x.missing: is not there"),
        (ReadsText, "x.number: integer is read as string"),
        (ReadsNumbers, "x.tags[]: string is read as integer"),
        (ReadsAlways, "x.note: null is read as string"),
        (dict[str, str], "x.number: integer is read as string"),
    ],
)
def test_misread_sees_a_difference(read: type, complaint: str):
    assert complaint in misread(Written, read, "x")


def test_misread_lets_what_is_right_pass():
    assert misread(Written, ReadsRight, "x") == []
    assert misread(Narrow, dict[str, str | int], "x") == []
    assert unread(Written, ReadsMoreByDefault, "x") == ["x.missing: is not there"]


def _with_table(name: str, **changes: object) -> Shop:
    return replace(SHOP, tables=SHOP.tables | {name: replace(SHOP.tables[name], **changes)})


def _with_operation(name: str, operation: str, **changes: object) -> Shop:
    rows = SHOP.tables[name].operations
    assert any(row.name == operation for row in rows)
    changed = tuple(replace(row, **changes) if row.name == operation else row for row in rows)
    return _with_table(name, operations=changed)


def _with_call(name: str, call: Call, **changes: object) -> Shop:
    return replace(SHOP, calls=SHOP.calls | {name: (replace(call, **changes),)})


HOLD = next(call for call in SHOP.calls["order"] if call.route.startswith("PUT /holds"))


@pytest.mark.parametrize(
    ("shop", "complaint"),
    [
        (_with_table("product", tells=()), "nobody tells it"),
        (
            _with_table("product", tells=(Tells("product.stock_changed", Narrow, "id"),)),
            "product_id: is not there",
        ),
        (_with_table("auth", tells=(Tells("auth.keys_changed", Narrow, "id"),)), "keys: is not"),
    ],
)
def test_wrong_listeners_sees_a_doctored_table(shop: Shop, complaint: str):
    assert complaint in "\n".join(wrong_listeners(shop))


@pytest.mark.parametrize(
    ("shop", "complaint"),
    [
        (_with_call("order", HOLD, route="PUT /holds/{id}"), "no such route"),
        (_with_call("order", HOLD, service="nobody"), "not in `calls:`"),
        (_with_call("order", HOLD, takes=Written), "sent.tags: is not accepted"),
        (_with_call("order", HOLD, takes=ReadsMore), "sent.order_id: is not there"),
        (_with_call("order", HOLD, gives=ReadsMore), "read.missing: is not there"),
        (_with_call("order", HOLD, gives=ReadsMoreByDefault), "read.missing: is not there"),
        (_with_operation("product", "hold", allow=services("user")), "not allowed"),
        (_with_operation("product", "hold", allow=roles("customer")), "not allowed"),
        (_with_operation("product", "hold", route="POST /holds/{order_id}"), "no such route"),
        (_with_operation("product", "hold", gives=NoneType), "null is read as object"),
        (replace(SHOP, configured=SHOP.configured | {"order": frozenset()}), "not in `calls:`"),
    ],
)
def test_wrong_calls_sees_a_doctored_shop(shop: Shop, complaint: str):
    assert complaint in "\n".join(wrong_calls(shop))


def test_wrong_permissions_sees_a_caller_that_is_not_configured():
    shop = _with_operation("product", "hold", allow=Allow(services=("order", "user")))
    assert wrong_permissions(shop) == ["user may ask product hold: not in its `calls:`"]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Product"},
        {"tells": (Tells("order.thing_told", Narrow, "id"),)},
        {"tells": (Tells("product.thing_told", Narrow, "key"),)},
        {"listeners": (Listener("stock", lambda tx, data: None, Narrow),)},
        {"listeners": (Listener("order.told", lambda tx, data: None, Narrow),) * 2},
        {"asks": (Call("product", "GET /x", ReadsText, ReadsText),)},
        {"asks": (Call("order", "FETCH /x", ReadsText, ReadsText),)},
        {"asks": (Call("order", "GET /x/{id}", ReadsText, ReadsText),)},
        {"asks": (Call("order", "GET /x", ReadsText, ReadsText),) * 2},
        {"operations": (replace(SHOP.tables["product"].operations[0], allow=Allow()),)},
        {"operations": SHOP.tables["product"].operations * 2},
        {"operations": (replace(SHOP.tables["product"].operations[0], name="List_All"),)},
        {"operations": (replace(SHOP.tables["product"].operations[0], route="GET /x/{other}"),)},
        {"operations": (replace(SHOP.tables["product"].operations[0], route="FETCH /x"),)},
        {"moves": (Moves("thing", (Move("", "made", "new"), Move("", "made", "old"))),)},
        {"moves": (Moves("thing", (Move("", "made", "new"), Move("old", "sold", "gone"))),)},
    ],
)
def test_check_sees_a_doctored_table(changes: dict[str, object]):
    with pytest.raises(Broken):
        check(replace(SHOP.tables["product"], **changes))


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE a (b TEXT);",
        "CREATE TABLE a (b TEXT PRIMARY KEY) WITHOUT ROWID;",
        "CREATE TABLE a (b TEXT) STRICT; CREATE TABLE strict (b TEXT);",
        "CREATE TABLE a (b INTEGER PRIMARY KEY AUTOINCREMENT) STRICT;",
        "CREATE TABLE a (b TEXT REFERENCES c (d) DEFERRABLE INITIALLY DEFERRED) STRICT;",
        "CREATE TABLE a (b TEXT DEFAULT (datetime('now'))) STRICT;",
        "insert or replace into a values (1);",
        "CREATE TRIGGER t BEFORE INSERT ON a BEGIN SELECT RAISE(ROLLBACK, 'no'); END;",
    ],
)
def test_wrong_schema_sees_what_is_forbidden(sql: str):
    assert wrong_schema(sql)
