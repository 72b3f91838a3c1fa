"""What must hold of the bus's log beside its producers' outboxes."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from mesh import database
from mesh.exercise import ledger

TOLD_MS = 1000


@pytest.fixture
def ask(tmp_path):
    """Ask what the log has beyond a producer that has told 3 events, the last of them in epoch 2."""
    with contextlib.closing(sqlite3.connect(tmp_path / "order.db")) as own, own:
        own.executescript(
            "CREATE TABLE mlp_head (seq, hash); INSERT INTO mlp_head VALUES (3, x'');"
            "CREATE TABLE mlp_epoch (epoch); INSERT INTO mlp_epoch VALUES (1), (2)"
        )

    def asked(rows: list[tuple[str, int, int, int]]):
        with contextlib.closing(sqlite3.connect(tmp_path / "bus.db")) as log, log:
            log.execute("CREATE TABLE log (stream, epoch, seq, ts_ms)")
            log.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", rows)
        with database.opened(tmp_path / "order.db", {"bus": tmp_path / "bus.db"}) as copy:
            return ledger.beyond(copy, ledger.OUTBOX, "order", TOLD_MS + 1, 20)

    return asked


def test_event_that_its_producer_has_lost_is_named(ask):
    rows, count = ask([("order", 2, seq, TOLD_MS) for seq in (3, 4, 5)])
    assert count == 2
    assert [row[0] for row in rows] == ["event 4", "event 5"]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(("product", 2, 4, TOLD_MS), id="of another stream"),
        pytest.param(("order", 1, 4, TOLD_MS), id="replaced by a restore"),
        pytest.param(("order", 2, 4, TOLD_MS + 1), id="told after the cut"),
        pytest.param(("order", 2, 3, TOLD_MS), id="the last one told"),
    ],
)
def test_nothing_else_is_beyond_its_producer(ask, row):
    assert ask([row]) == ([], 0)
