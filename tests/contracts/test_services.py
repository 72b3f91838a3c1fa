"""One body over every service that exists: its files, its table, and its words for the others.

A service never imports another, so nothing but these tests sees that they mean the same thing.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import replace
from pathlib import Path
from types import NoneType

import pytest
import yaml
from msgspec import Struct

import mesh.services
from mesh import codec
from mesh.client import Call
from mesh.errors import Broken
from mesh.framework import Allow, Listener, Move, Moves, Tells, roles, services
from mesh.framework.agreement import Shop, disagreements
from mesh.framework.compatibility import READ, SENT, misread_type
from mesh.framework.service import check

FOLDER = Path(mesh.services.__file__).parent
ROOT = FOLDER.parent.parent
NAMES = sorted(module.name for module in pkgutil.iter_modules(mesh.services.__path__))
FILES = {"__init__", "service", "messages", "model", "store", "promises", "actions", "listeners"}


def _shop() -> Shop:
    tables = {
        name: importlib.import_module(f"mesh.services.{name}.service").service for name in NAMES
    }
    document = yaml.safe_load((ROOT / "configs" / "mesh.yaml").read_text("utf-8"))
    may_ask = {
        name: frozenset(service.get("calls", ())) for name, service in document["services"].items()
    }
    return Shop(tables, may_ask)


SHOP = _shop()


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
    assert set(SHOP.may_ask) == set(NAMES)
    assert sum(len(SHOP.asks(name)) for name in NAMES) >= len(NAMES)
    assert any(row.stream == "product" for row in SHOP.listeners("order"))


@pytest.mark.parametrize("name", NAMES)
def test_service_has_the_files_that_every_other_has(name: str):
    folder = FOLDER / name
    assert {path.stem for path in folder.glob("*.py")} >= FILES
    folders = {path.name for path in folder.iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == {"schema"}


@pytest.mark.parametrize("name", NAMES)
def test_table_of_each_service_is_right(name: str):
    check(SHOP.tables[name])
    assert SHOP.tables[name].name == name
    for row in SHOP.tables[name].operations:
        assert codec.convert(codec.plain(row.example), row.takes) == row.example, row.name


OF_A_PERSON = frozenset(
    ("email", "login", "display_name", "line1", "line2", "city", "postcode", "region", "phone")
)
SECRETS = frozenset(("password", "new_password"))


@pytest.mark.parametrize("name", NAMES)
def test_what_tells_of_a_person_is_marked_and_no_event_carries_it(name: str):
    """What is marked is refused in an event when the service starts; here nothing is forgotten."""
    table = SHOP.tables[name]
    shapes = [shape for row in table.operations for shape in (row.takes, row.gives)]
    shapes += [row.takes for row in table.deferred] + [row.data for row in table.tells]
    if table.seed is not None:
        shapes.append(table.seed.takes)
    unmarked = []
    for shape in shapes:
        marked = set(codec.personal_fields(shape))
        for part, schema in codec.schemas([shape])[1].items():
            named = {f"{part}.{each}" for each in schema.get("properties", ())}
            unmarked += [
                each for each in named - marked if each.partition(".")[2] in OF_A_PERSON | SECRETS
            ]
    assert sorted(set(unmarked)) == []
    for row in table.tells:
        assert codec.personal_fields(row.data) == [], row.event


def test_services_agree_about_what_they_ask_and_hear():
    assert disagreements(SHOP) == []


def test_who_is_let_in_exists():
    allowed = {
        caller
        for table in SHOP.tables.values()
        for row in table.operations
        for caller in row.allow.services
    }
    assert allowed <= set(NAMES)


def test_moves_say_where_an_entity_begins_and_ends():
    (moves,) = SHOP.tables["order"].moves
    assert moves.initial == ("pending",)
    assert set(moves.terminal) == {"rejected", "expired", "cancelled", "returned"}
    assert [row.cause for row in moves.out_of("paid")] == ["cancel", "ship"]
    assert moves.find("paid", "pay") is None


@pytest.mark.parametrize("name", NAMES)
def test_every_call_that_is_declared_is_in_the_table(name: str):
    words = [
        word
        for module in ("messages", "calls")
        if (FOLDER / name / f"{module}.py").exists()
        for word in vars(importlib.import_module(f"mesh.services.{name}.{module}")).values()
    ]
    assert [word for word in words if isinstance(word, Call)] == [*SHOP.tables[name].asks]


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
    assert complaint in misread_type(Written, read, "x", SENT)


def test_misread_lets_what_is_right_pass():
    assert misread_type(Written, ReadsRight, "x", READ) == []
    assert misread_type(Narrow, dict[str, str | int], "x", SENT) == []
    assert misread_type(Written, ReadsMoreByDefault, "x", SENT) == []
    assert misread_type(Written, ReadsMoreByDefault, "x", READ) == ["x.missing: is not there"]


def _with_table(name: str, **changes: object) -> Shop:
    return replace(SHOP, tables=SHOP.tables | {name: replace(SHOP.tables[name], **changes)})


def _with_operation(name: str, operation: str, **changes: object) -> Shop:
    rows = SHOP.tables[name].operations
    assert any(row.name == operation for row in rows)
    changed = tuple(replace(row, **changes) if row.name == operation else row for row in rows)
    return _with_table(name, operations=changed)


def _with_call(name: str, call: Call, **changes: object) -> Shop:
    return _with_table(name, asks=(replace(call, **changes),))


HOLD = next(call for call in SHOP.asks("order") if call.route.startswith("PUT /holds"))


@pytest.mark.parametrize(
    ("shop", "complaint"),
    [
        (_with_table("product", tells=()), "nobody tells it"),
        (
            _with_table("product", tells=(Tells("product.stock_changed", Narrow, "id"),)),
            "product_id: is not there",
        ),
        (_with_table("auth", tells=(Tells("auth.keys_changed", Narrow, "id"),)), "keys: is not"),
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
        (
            _with_operation("product", "hold", allow=services("order", "user")),
            "user may ask product hold: not in its `calls:`",
        ),
        (replace(SHOP, may_ask=SHOP.may_ask | {"order": frozenset()}), "not in `calls:`"),
    ],
)
def test_disagreements_are_seen_in_a_doctored_shop(shop: Shop, complaint: str):
    assert complaint in "\n".join(disagreements(shop))


def test_a_program_without_a_table_is_left_out():
    without = {name: table for name, table in SHOP.tables.items() if name != "product"}
    assert disagreements(replace(SHOP, tables=without)) == []


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
        {"moves": (Moves("thing", (Move("", "made", "new", ("unknown-work",)),)),)},
        {"moves": (Moves("thing", (Move("", "unasked", "new", by=("owner",)),)),)},
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
