"""The broker's log on real files: durable, recovered, bounded, and set aside when damaged."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from mesh.buses.contract import ORIGIN, Follower, Position
from mesh.buses.zmq import log as log_module
from mesh.buses.zmq.log import Advancing, Group, Log, Seen
from mesh.errors import AlreadyRunning, InvalidInput, LogBroken, SchemaMismatch
from tests.buses.histories import FIRST, chain, second

EVENTS = chain(10)
ORDERS = chain(5, stream="orders")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "bus"


@pytest.fixture
def log(directory):
    log = Log(directory)
    yield log
    log.close()


def commit(log, *events, **rest):
    found = log.stage(Group(events=events, **rest))
    log.commit()
    return found


def begin(log, *streams):
    commit(log, advances=tuple(Advancing(name, (FIRST,), ORIGIN) for name in streams))


def filled(directory, *events):
    """A closed log that holds these."""
    log = Log(directory)
    begin(log, "order")
    commit(log, *events)
    log.close()


def query(directory, sql):
    connection = sqlite3.connect(directory / "bus.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_committed_events_are_read_back_equal_and_in_order(log):
    begin(log, "order", "orders")
    commit(log, *EVENTS[:3])
    commit(log, *ORDERS, *EVENTS[3:])
    assert log.read("order", 0, 100, 10**6) == EVENTS
    assert log.read("orders", 2, 100, 10**6) == ORDERS[2:]
    arrived = log.arrivals(0, 100, 10**6)
    assert [each.arrival for each in arrived] == list(range(1, 16))
    assert [each.event for each in arrived] == [*EVENTS[:3], *ORDERS, *EVENTS[3:]]


def test_staged_events_are_not_read_before_their_commit(log):
    begin(log, "order")
    log.stage(Group(events=EVENTS))
    assert log.read("order", 0, 100, 10**6) == ()
    log.commit()
    assert log.arrival == 10


def test_reading_is_bounded_in_rows_and_bytes_but_brings_one(log):
    begin(log, "order")
    commit(log, *chain(20, body=b"x" * 1000))
    assert len(log.read("order", 0, 7, 10**6)) == 7
    assert len(log.read("order", 0, 100, 5000)) == 4
    assert len(log.read("order", 0, 100, 1)) == 1


def test_streams_are_recovered_with_head_and_lineage_when_opened_again(directory):
    filled(directory, *EVENTS)
    log = Log(directory)
    (stream,) = log.streams
    assert (stream.name, stream.head, stream.staged) == ("order", EVENTS[-1].link, stream.head)
    assert stream.epochs == (FIRST,)
    assert log.arrival == 10
    log.close()


def test_uncommitted_events_are_gone_when_opened_again(directory):
    log = Log(directory)
    begin(log, "order")
    commit(log, *EVENTS[:2])
    log.stage(Group(events=EVENTS[2:]))
    log.close()
    log = Log(directory)
    assert log.streams[0].head == EVENTS[1].link
    commit(log, *EVENTS[2:])
    assert [each.arrival for each in log.arrivals(0, 100, 10**6)] == list(range(1, 11))
    log.close()


def test_replaced_events_become_ghosts_when_an_epoch_begins(directory, log):
    begin(log, "order", "orders")
    commit(log, *EVENTS, *ORDERS)
    new = second(EVENTS[3].link)
    fresh = chain(2, after=EVENTS[3].link, epoch=2)
    (found,) = commit(log, advances=(Advancing("order", (new,), EVENTS[3].link),))
    assert found == EVENTS[3].link
    commit(log, *fresh)
    assert log.read("order", 0, 100, 10**6) == (*EVENTS[:4], *fresh)
    assert log.read("orders", 0, 100, 10**6) == ORDERS
    ghosts = query(directory, "SELECT seq, epoch, new_epoch FROM ghost ORDER BY seq")
    assert ghosts == [(seq, 1, 2) for seq in range(5, 11)]


def test_nothing_is_replaced_when_the_log_has_another_hash_at_the_base(directory, log):
    begin(log, "order")
    commit(log, *EVENTS)
    other = chain(4, body=b"other")[-1].link
    (found,) = commit(log, advances=(Advancing("order", (second(other),), other),))
    assert found == EVENTS[3].link
    assert len(log.read("order", 0, 100, 10**6)) == 10
    assert query(directory, "SELECT count(*) FROM epoch") == [(1,)]


def test_quarantine_is_remembered_until_an_epoch_begins(directory):
    log = Log(directory)
    begin(log, "order")
    commit(log, *EVENTS, quarantines=(("order", "two histories"),))
    log.close()
    log = Log(directory)
    assert log.streams[0].quarantined == "two histories"
    commit(log, advances=(Advancing("order", (second(EVENTS[3].link),), EVENTS[3].link),))
    log.close()
    log = Log(directory)
    assert log.streams[0].quarantined == ""
    log.close()


def test_cursors_of_consumers_are_kept_one_a_name(directory, log):
    begin(log, "order")
    for seq in (3, 7):
        commit(log, seen=(Seen("order", Follower("product", Position(1, seq), 1, seq, True)),))
    commit(log, seen=(Seen("order", Follower("user", Position(1, 2), 1, 9, False)),))
    rows = query(directory, "SELECT stream, name, seq FROM consumer ORDER BY name")
    assert rows == [("order", "product", 7), ("order", "user", 2)]


def test_files_are_private(directory):
    old = os.umask(0)
    try:
        log = Log(directory)
        begin(log, "order")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        log.close()
    finally:
        os.umask(old)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert set(modes) == {"bus.db", "bus.db-wal", "bus.db-shm", "bus.lock"}
    assert set(modes.values()) == {0o600}


def test_second_bus_is_refused_while_the_first_holds_the_log(directory, log):
    with pytest.raises(AlreadyRunning):
        Log(directory)


def test_log_is_refused_when_its_place_is_a_file(tmp_path):
    (tmp_path / "bus").write_text("")
    with pytest.raises(InvalidInput, match="cannot log"):
        Log(tmp_path / "bus")


def test_log_of_a_newer_version_is_refused_and_left_alone(directory):
    filled(directory, *EVENTS)
    connection = sqlite3.connect(directory / "bus.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SchemaMismatch):
        Log(directory)
    assert query(directory, "SELECT count(*) FROM log") == [(10,)]


@pytest.mark.parametrize("keep", [0, 1, 50, 100, 4096, 4097, 8192, 12288, -1, -4096])
def test_truncated_log_is_made_anew_or_still_right(directory, keep):
    filled(directory, *EVENTS)
    path = directory / "bus.db"
    os.truncate(path, keep if keep >= 0 else path.stat().st_size + keep)
    log = Log(directory)
    if not log.streams:
        begin(log, "order")
        commit(log, *EVENTS)
    assert log.read("order", 0, 100, 10**6) == EVENTS
    log.close()


def test_log_is_made_anew_when_it_is_not_a_database(directory):
    filled(directory, *EVENTS)
    (directory / "bus.db").write_bytes(b"not a database" * 1000)
    log = Log(directory)
    assert log.streams == ()
    log.close()


def test_log_is_made_anew_when_it_does_not_end_at_its_head(directory):
    filled(directory, *EVENTS)
    connection = sqlite3.connect(directory / "bus.db")
    connection.execute("UPDATE stream SET head_hash = zeroblob(16)")
    connection.commit()
    connection.close()
    log = Log(directory)
    assert log.streams == ()
    log.close()


def test_log_has_another_life_when_it_is_made_anew(directory):
    log = Log(directory)
    first = log.life
    log.close()
    log = Log(directory)
    assert log.life == first
    log.close()
    for path in directory.glob("bus.db*"):
        path.unlink()
    log = Log(directory)
    assert log.life != first
    log.close()


def test_old_evidence_goes_when_damage_repeats(directory):
    for _ in range(4):
        filled(directory, *EVENTS)
        (directory / "bus.db").write_bytes(b"not a database" * 1000)
        Log(directory).close()
        for path in directory.glob("bus.db"):
            path.unlink()
    assert len(list(directory.glob("bus.db.damaged-*"))) <= 2


def test_damage_found_while_reading_is_told(directory):
    filled(directory, *chain(200, body=b"x" * 4000))
    log = Log(directory)
    with (directory / "bus.db").open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 4096 * 150)
    with pytest.raises(LogBroken) as caught:
        log.read("order", 0, 1000, 10**9)
    assert caught.value.code == "log-damaged"
    log.close()


def test_wal_stays_bounded_when_checkpoints_are_made_as_they_fall_due(directory, monkeypatch):
    monkeypatch.setattr(log_module, "WAL_IDLE_BYTES", 256 * 1024)
    log = Log(directory)
    begin(log, "order")
    after = ORIGIN
    for _ in range(60):
        events = chain(20, after=after, body=b"x" * 1000)
        after = events[-1].link
        commit(log, *events)
        if log.checkpoint_due(idle=True):
            log.checkpoint()
            assert not log.checkpoint_due(idle=True)
    assert (directory / "bus.db-wal").stat().st_size < 1024 * 1024
    assert len(log.read("order", 0, 10_000, 10**9)) == 1200
    log.close()


def test_wal_shrinks_when_it_has_grown_large(directory, monkeypatch):
    monkeypatch.setattr(log_module, "WAL_BYTES_MAX", 64 * 1024)
    log = Log(directory)
    begin(log, "order")
    commit(log, *chain(200, body=b"x" * 1000))
    assert (directory / "bus.db-wal").stat().st_size > 64 * 1024
    assert log.checkpoint_due(idle=False)
    log.checkpoint()
    assert (directory / "bus.db-wal").stat().st_size == 0
    log.close()


_FULL = """
import sys
from pathlib import Path
from mesh.buses.contract import ORIGIN
from mesh.buses.zmq.log import Advancing, Group, Log
from mesh.errors import StorageFull
from tests.buses.histories import FIRST, chain

place = Path(sys.argv[1])
log = Log(place / "bus")
log.stage(Group(advances=(Advancing("order", (FIRST,), ORIGIN),)))
log.commit()
first = chain(50, body=b"x" * 4000)
log.stage(Group(events=first))
log.commit()
log.checkpoint()
ballast = place / "ballast"
with ballast.open("wb") as file:
    try:
        while file.write(b"x" * 65536):
            file.flush()
    except OSError:
        pass
more = chain(200, after=first[-1].link, body=b"x" * 4000)
try:
    log.stage(Group(events=more))
    log.commit()
except StorageFull:
    pass
else:
    sys.exit("there was space")
assert log.read("order", 0, 1000, 10**9) == first
ballast.unlink()
log.stage(Group(events=more))
log.commit()
assert log.read("order", 0, 1000, 10**9) == (*first, *more)
assert log.arrival == 250
log.close()
"""


def test_full_disk_refuses_and_reads_on_and_recovers(tmp_path):
    space = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    mount = f"mount -t tmpfs -o size=6m mesh {tmp_path}"
    if subprocess.run([*space, mount], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here, so no small disk")
    run = f'{mount} && exec "$0" -c "$1" {tmp_path}'
    done = subprocess.run(
        [*space, run, sys.executable, _FULL], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
