"""`mesh verify` finds each broken promise: one doctored row of each kind, one at a time."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from mesh import cli
from tests.support.running import LAMP, SHOP, RunningMesh

if TYPE_CHECKING:
    from pathlib import Path

ALICE = "usr_00000000-0000-7000-8000-000000000001"
SERVICES = ("auth", "user", "product", "order")
SUBSCRIPTIONS = {
    name: {row.stream for row in table.listeners} | ({"auth"} - {name})
    for name in SERVICES
    for table in [importlib.import_module(f"mesh.services.{name}.service").service]
}
"""Who hears whom in the shop; everybody hears of auth's keys."""


ASKED = {"prd_": ("product",), "ord_": ("order",), "usr_": ("user", "auth")}
"""Who can be asked to explain what."""


@dataclass(frozen=True)
class Shop:
    """A shop at rest with an order of each kind."""

    data: Path
    reserved: str
    paid: str
    waiting: str
    rare: str


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Orders that are reserved, paid, cancelled and backordered; then nothing runs any more."""
    mesh = RunningMesh(tmp_path_factory.mktemp("shop")).up()
    try:
        orders = [mesh.order([(LAMP, 1)], key=f"order-{n}").body["id"] for n in range(3)]
        alice = mesh.login("alice")
        for order, verb, body in (
            (orders[1], "payment", {"payment_token": "tok_visa"}),
            (orders[2], "cancel", {}),
        ):
            assert (
                mesh.ask("order", "POST", f"/orders/{order}/{verb}", body, token=alice).status < 300
            )
        rare = mesh.product(on_hand=1)
        waiting = mesh.order([(rare, 5)], key="too-many").body
        assert waiting["status"] == "backordered"
        mesh.idle()
        assert mesh.json("verify")["ok"], "while it runs"
    finally:
        mesh.down()
    return Shop(mesh.directory / "data", orders[0], orders[1], waiting["id"], rare)


@dataclass(frozen=True)
class Case:
    """Doctored rows, and the offender that is to be named; `{…}` are the shop's ids."""

    sql: str
    named: str
    file: str = ""


CASES: dict[tuple[str, str], Case] = {
    ("auth", "every password is kept as argon2id and in no other way"): Case(
        f"UPDATE credentials SET hash = 'open' WHERE subject = '{ALICE}'", ALICE
    ),
    ("auth", "a session has at most one refresh token that can be used"): Case(
        "DROP INDEX sessions_one_live_token;"
        f" INSERT INTO sessions VALUES ('twin', '{ALICE}', zeroblob(32), 'family', 1, NULL),"
        f" ('twin2', '{ALICE}', zeroblob(31), 'family', 1, NULL)",
        ALICE,
    ),
    ("auth", "where there are sessions, one key signs"): Case(
        f"UPDATE signing_keys SET retires_at_ms = 1; UPDATE sessions SET subject = '{ALICE}'",
        ALICE,
    ),
    ("user", "a user is told of as registered once"): Case(
        "INSERT INTO outbox SELECT 1000, epoch, epoch, hash, hash, randomblob(16), type, key, ts_ms,"
        f" trace, body, acked FROM outbox WHERE type = 'user.registered' AND key = '{ALICE}'",
        ALICE,
    ),
    ("user", "who is pending has no role and has not been told of"): Case(
        f"UPDATE users SET status = 'pending' WHERE id = '{ALICE}'", ALICE
    ),
    ("user", "who is active can log in: auth has their credentials"): Case(
        f"DELETE FROM credentials WHERE subject = '{ALICE}'", ALICE, file="auth"
    ),
    ("user", "whoever can log in is a user"): Case(
        f"DELETE FROM users WHERE id = '{ALICE}'", ALICE
    ),
    ("user", "nobody who was erased is here"): Case(
        f"INSERT INTO erased VALUES ('{ALICE}', 0)", ALICE
    ),
    ("user", "auth has forgotten who was erased, or is about to"): Case(
        f"INSERT INTO erased VALUES ('{ALICE}', 0)", ALICE
    ),
    ("product", "nothing is oversold: 0 ≤ reserved ≤ on_hand"): Case(
        f"UPDATE products SET on_hand = reserved - 1 WHERE id = '{LAMP}'", LAMP
    ),
    ("product", "stock is the sum of its ledger and of open holds"): Case(
        f"UPDATE products SET on_hand = on_hand + 1 WHERE id = '{LAMP}'", LAMP
    ),
    ("product", "what is said of a hold is the same for each of its lines"): Case(
        "INSERT INTO hold_lines SELECT order_id, '{rare}', quantity, unit_price_minor, 'expired',"
        " version, expires_at_ms, traceparent, cause FROM hold_lines WHERE order_id = '{reserved}'",
        "{reserved}",
    ),
    ("product", "whatever is held and not paid is looked at when its time is over"): Case(
        "DELETE FROM deferred WHERE action = 'expire-holds'", "{reserved}"
    ),
    ("product", "one event was told for each ledger row"): Case(
        "INSERT INTO ledger SELECT product_id, 1000, 0, 0, 0, 0, 'x', 'x', at_ms FROM ledger"
        f" WHERE product_id = '{LAMP}' LIMIT 1",
        LAMP,
    ),
    ("order", "an order costs what its lines cost"): Case(
        "UPDATE lines SET unit_price_minor = unit_price_minor + 1 WHERE order_id = '{reserved}'",
        "{reserved}",
    ),
    ("order", "money kept is the total of what is paid for"): Case(
        "UPDATE payments SET amount_minor = 1 WHERE order_id = '{paid}'", "{paid}"
    ),
    ("order", "every step is in the table of moves"): Case(
        "UPDATE history SET new = 'delivered' WHERE order_id = '{paid}' AND version = 2", "{paid}"
    ),
    ("order", "the history is contiguous"): Case(
        "DELETE FROM history WHERE order_id = '{paid}' AND version = 2", "{paid}"
    ),
    ("order", "one event was told for each step"): Case(
        "INSERT INTO history SELECT order_id, 1000, old, new, reason, actor, cause, at_ms FROM history"
        " WHERE order_id = '{paid}' AND version = 2",
        "{paid}",
    ),
    ("order", "each order is the effect of one key"): Case(
        "INSERT INTO orders (id, user_id, status, reason, on_shortage, created_ms, version)"
        " SELECT 'ord_twice', user_id, 'cancelled', reason, on_shortage, created_ms + 10000, 0"
        " FROM orders WHERE id = '{paid}'",
        "ord_twice",
    ),
    ("order", "an order's answer was given to its owner"): Case(
        "UPDATE orders SET user_id = 'usr_mallory' WHERE id = '{reserved}'", "{reserved}"
    ),
    ("order", "who is backordered waits for each product"): Case(
        "DELETE FROM backorders WHERE order_id = '{waiting}'", "{waiting}"
    ),
    ("order", "what is pending or paying is driven on"): Case(
        "UPDATE orders SET status = 'pending' WHERE id = '{reserved}'", "{reserved}"
    ),
    ("order", "whatever is not paid is looked at when the time for it is over"): Case(
        "DELETE FROM deferred WHERE action = 'expire'", "{reserved}"
    ),
    ("order", "stock is held for an order as long as its status says so"): Case(
        "UPDATE hold_lines SET state = 'released' WHERE order_id = '{paid}'",
        "{paid}",
        file="product",
    ),
    ("order", "what is held is what was ordered"): Case(
        "UPDATE hold_lines SET quantity = 7 WHERE order_id = '{paid}'", "{paid}", file="product"
    ),
    ("order", "what order knows of stock is what product told last"): Case(
        f"UPDATE stock_seen SET stock_version = stock_version - 1 WHERE product_id = '{LAMP}'", LAMP
    ),
    ("order", "no backorder sleeps while its stock is there"): Case(
        "UPDATE products SET on_hand = 5 WHERE id = '{rare}'", "{waiting}", file="product"
    ),
    ("bus", "the log is chained, and what its producers told"): Case(
        "UPDATE log SET body = x'7b7d' WHERE stream = 'product' AND seq = 2", "product event 2"
    ),
}
for _service in SERVICES:
    CASES[_service, "each key has had one effect"] = Case(
        "INSERT INTO request VALUES (NULL, 'user:x', 'make', 'one', x'', 'ord_same', 201, x'', 0),"
        " (NULL, 'user:x', 'make', 'two', x'', 'ord_same', 201, x'', 0)",
        "ord_same",
    )
    CASES[_service, "its events are chained, none is gone"] = Case(
        "UPDATE outbox SET ts_ms = ts_ms + 1 WHERE seq = 1", "event 1"
    )
    for _stream in sorted(SUBSCRIPTIONS[_service]):
        CASES[_service, f"every event of {_stream} is accounted for"] = Case(
            f"UPDATE mlp_cursor SET seq = 5000 WHERE stream = '{_stream}'", f"{_stream} 5000"
        )

TOLD_OF = "(SELECT seq FROM outbox WHERE key = '{paid}' ORDER BY seq LIMIT 1)"
ALSO = [
    (
        ("order", "one event was told for each step"),
        Case(
            "DELETE FROM history WHERE order_id = '{paid}'; DELETE FROM orders WHERE id = '{paid}';"
            " DELETE FROM request WHERE entity = '{paid}'",
            "{paid}",
        ),
    ),
    (
        ("order", "one event was told for each step"),
        Case(
            "UPDATE outbox SET body = CAST(json_set(CAST(body AS TEXT), '$.version', 2) AS BLOB)"
            f" WHERE seq = {TOLD_OF}",
            "{paid}",
        ),
    ),
    (
        ("product", "one event was told for each ledger row"),
        Case(
            "UPDATE outbox SET body = CAST(json_set(CAST(body AS TEXT), '$.stock_version', 2) AS BLOB)"
            f" WHERE key = '{LAMP}' AND type = 'product.stock_changed'"
            " AND json_extract(CAST(body AS TEXT), '$.stock_version') = 1",
            LAMP,
        ),
    ),
]
"""Further ways to break a promise."""


def doctored(shop: Shop, folder: Path, sql: str, file: str) -> Path:
    """A copy of the shop's data with these rows in it."""
    data = folder / "data"
    shutil.copytree(shop.data, data, ignore=shutil.ignore_patterns("logs"))
    name = data / file / f"{file}.db"
    with contextlib.closing(sqlite3.connect(name, isolation_level=None)) as own:
        own.execute("PRAGMA ignore_check_constraints = ON")
        own.executescript(sql.format(**vars(shop)))
    return data


def verified(data: Path, capsys, *, as_json: bool = True) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.run(
        ["-f", str(SHOP), "--data-dir", str(data), "verify", *(["--json"] if as_json else [])]
    )
    return code, *capsys.readouterr()


def test_every_promise_has_a_doctored_case(shop, tmp_path, capsys):
    code, out, _ = verified(doctored(shop, tmp_path, "SELECT 1", "order"), capsys)
    found = json.loads(out)
    assert code == 0
    assert found["ok"] is True
    assert {(check["service"], check["sentence"]) for check in found["checks"]} == set(CASES)
    assert not list((tmp_path / "data" / "run").glob("verify-*")), "the copies are gone"


@pytest.mark.parametrize(
    ("promise", "case"),
    [*CASES.items(), *ALSO],
    ids=lambda each: ": ".join(each) if isinstance(each, tuple) and len(each) == 2 else "",
)
def test_doctored_row_is_named_and_ends_with_7(shop, tmp_path, capsys, promise, case):
    data = doctored(shop, tmp_path, case.sql, case.file or promise[0])
    code, out, err = verified(data, capsys)
    (check,) = (
        check
        for check in json.loads(out)["checks"]
        if (check["service"], check["sentence"]) == promise
    )
    assert code == 7
    assert "error:" in err
    assert not check["ok"]
    named = {word for each in check["violations"] for word in (each["id"], each["id"].split()[0])}
    assert case.named.format(**vars(shop)) in named
    for each in check["violations"]:
        _, _, service, entity = (each["hint"] or "mesh explain - ").split(" ")
        assert service in ASKED.get(entity[:4], ("-",)), "nobody there knows it"


def test_offenders_are_named_for_a_person_with_the_way_on(shop, tmp_path, capsys):
    sql = CASES["order", "money kept is the total of what is paid for"].sql
    code, out, err = verified(doctored(shop, tmp_path, sql, "order"), capsys, as_json=False)
    assert code == 7
    assert "✗ wrong" in out
    assert "✓ ok" in out
    assert shop.paid in out
    assert shop.paid in err
    assert f"hint: mesh call order history id={shop.paid}" in err or "mesh explain order" in err


def test_event_that_is_nowhere_is_missed_in_the_sums(shop, tmp_path, capsys):
    sql = (
        "UPDATE mlp_cursor SET seq = seq - 3, hash = (SELECT hash FROM mlp_cursor WHERE stream = 'auth')"
        " WHERE stream = 'product'"
    )
    data = doctored(shop, tmp_path, sql, "order")
    for file, table in (("product", "outbox"), ("bus", "log")):
        with contextlib.closing(sqlite3.connect(data / file / f"{file}.db")) as own, own:
            column = " AND stream = 'product'" if table == "log" else ""
            own.execute(
                f"DELETE FROM {table} WHERE seq = (SELECT max(seq) FROM {table}"
                f" WHERE 1{column}){column}"
            )
    _, out, _ = verified(data, capsys)
    (check,) = (
        each
        for each in json.loads(out)["checks"]
        if each["service"] == "order" and "every event of product" in each["sentence"]
    )
    assert "2 pending" in check["detail"]
    assert "1 are nowhere" in check["violations"][0]["detail"]


def test_end_of_an_outbox_that_is_gone_is_missed_in_the_log(shop, tmp_path, capsys):
    sql = "DELETE FROM outbox WHERE seq = (SELECT seq FROM mlp_head)"
    data = doctored(shop, tmp_path, sql, "product")
    with contextlib.closing(sqlite3.connect(data / "bus" / "bus.db")) as log, log:
        log.execute(  # not told while it is looked at
            "UPDATE log SET ts_ms = ts_ms - 60000 WHERE stream = 'product'"
            " AND seq = (SELECT max(seq) FROM log WHERE stream = 'product')"
        )
    code, out, _ = verified(data, capsys)
    (check,) = (each for each in json.loads(out)["checks"] if each["service"] == "bus")
    assert code == 7
    assert any("its producer has none of it" in each["detail"] for each in check["violations"])


def test_nothing_to_verify_says_how_to_begin(tmp_path, capsys):
    code, _, err = verified(tmp_path / "data", capsys)
    assert code == 1
    assert "mesh up -d" in err


def test_database_that_is_gone_is_missed_by_what_it_has_told(shop, tmp_path, capsys):
    data = doctored(shop, tmp_path, "SELECT 1", "order")
    for file in (data / "order").glob("order.db*"):
        file.unlink()
    code, out, err = verified(data, capsys)
    (check,) = (each for each in json.loads(out)["checks"] if each["service"] == "bus")
    assert code == 7
    assert [each["id"] for each in check["violations"]] == ["order"]
    assert "its database is not there any more" in check["violations"][0]["detail"]
    assert "log-as-told bus: order" in err


def test_log_that_is_gone_is_nothing_to_complain_of(shop, tmp_path, capsys):
    data = doctored(shop, tmp_path, "SELECT 1", "order")
    for file in (data / "bus").glob("bus.db*"):
        file.unlink()
    assert verified(data, capsys)[0] == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no database at all, " * 500, "order.db cannot be read: file is not a database"),
        (b"", "the database of order is not one of a service"),
    ],
    ids=["garbage", "empty"],
)
def test_what_is_no_database_is_named(shop, tmp_path, capsys, content, said):
    data = doctored(shop, tmp_path, "SELECT 1", "order")
    for file in (data / "order").glob("order.db*"):
        file.unlink()
    (data / "order" / "order.db").write_bytes(content)
    code, out, err = verified(data, capsys)
    assert (code, out) == (1, "")
    assert said in err


def test_damaged_database_is_named_in_a_few_lines(shop, tmp_path, capsys):
    data = doctored(shop, tmp_path, "PRAGMA wal_checkpoint(TRUNCATE)", "order")
    with (data / "order" / "order.db").open("r+b") as file:
        file.seek(5 * 4096)
        file.write(bytes(3 * 4096))
    code, _, err = verified(data, capsys)
    assert code == 1
    assert "the copy of order.db is damaged, and so may be the database" in err
    assert "\\n" not in err
    assert len(err.splitlines()) < 10


def test_promise_that_cannot_be_asked_is_named(shop, tmp_path, capsys):
    data = doctored(shop, tmp_path, "DROP VIEW holds", "product")
    code, _, err = verified(data, capsys)
    assert code == 1
    assert "`holds-agree` cannot be asked of order: a statement is wrong: no such table" in err
    assert "hint: mend the query in the service's table" in err
