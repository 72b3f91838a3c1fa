"""What every database promises (`mesh/databases/contract.py`), once for each that exists."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from mesh.database import Migration, connect, schemes
from mesh.errors import Broken, Conflict, DatabaseBusy, InvalidInput, NotFound, SchemaMismatch

NOTES = Migration(
    "test",
    1,
    """
    -- what a service remembers; a comment may hold a ';'
    CREATE TABLE notes (
        id TEXT NOT NULL PRIMARY KEY,
        body TEXT,
        size INTEGER NOT NULL DEFAULT 0 CHECK (size >= 0),
        done INTEGER NOT NULL DEFAULT 0,
        raw BLOB
    );
    CREATE INDEX notes_by_size ON notes (size);
    """,
)
INSERT = "INSERT INTO notes (id, body, size) VALUES (:id, :body, :size)"


class Note(Struct, frozen=True):
    id: str
    body: str | None
    size: int = 0
    done: bool = False


def add(tx, note_id, body="", size=0):
    tx.execute(INSERT, id=note_id, body=body, size=size)
    return note_id


def add_then_fail(tx, note_id):
    add(tx, note_id)
    raise NotFound(note_id)


def ids(reader):
    return reader.all(str, "SELECT id FROM notes ORDER BY id")


@pytest.fixture(params=schemes())
def url(request):
    return f"{request.param}://"


@pytest.fixture
async def database(url, tmp_path):
    opened = await connect(url, tmp_path / "notes", "notes")
    await opened.migrate([NOTES])
    yield opened
    await opened.close()


async def test_connect_names_those_present_when_the_scheme_is_unknown(tmp_path):
    with pytest.raises(InvalidInput) as raised:
        await connect("nosuch://", tmp_path, "notes")
    for scheme in schemes():
        assert f"{scheme}://" in raised.value.hint


async def test_write_returns_what_the_function_returns_and_is_read_at_once(database):
    assert await database.write(add, "a", size=3) == "a"
    assert database.read.one(Note, "SELECT * FROM notes WHERE id = :id", id="a") == Note(
        "a", "", 3, done=False
    )


async def test_write_keeps_nothing_when_the_function_raises(database):
    with pytest.raises(NotFound):
        await database.write(add_then_fail, "a")
    assert ids(database.read) == []


async def test_write_rolls_back_only_its_own_when_neighbours_share_the_commit(database):
    answers = await asyncio.gather(
        *(database.write(add_then_fail if n % 3 == 0 else add, f"{n:02}") for n in range(20)),
        return_exceptions=True,
    )
    kept = [f"{n:02}" for n in range(20) if n % 3]
    assert [answer for answer in answers if isinstance(answer, str)] == kept
    assert sum(isinstance(answer, NotFound) for answer in answers) == 7
    assert ids(database.read) == kept


async def test_write_runs_in_the_order_of_the_calls(database):
    order = []
    calls = [database.write(lambda tx, n=n: order.append(n)) for n in range(40)]
    await asyncio.gather(*reversed(calls))
    assert order == list(range(40))


async def test_write_sees_its_own_changes_and_those_before_it(database):
    def size(tx):
        return tx.one(int, "SELECT count(*) FROM notes")

    def add_two(tx):
        add(tx, "a")
        add(tx, "b")
        return size(tx)

    first, second = database.write(add_two), database.write(size)
    assert await first == 2
    assert await second == 2


async def test_write_commits_all_the_same_when_the_caller_is_cancelled(database):
    told = asyncio.Event()

    def fn(tx):
        add(tx, "a")
        tx.after_commit(told.set)

    task = asyncio.ensure_future(database.write(fn))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(60):
        await told.wait()
    assert ids(database.read) == ["a"]
    await database.write(add, "b")  # nothing was left open
    assert ids(database.read) == ["a", "b"]


async def test_execute_returns_how_many_rows_it_changed(database):
    def fn(tx):
        counts = [tx.execute(INSERT, id=name, body="", size=0) for name in "abc"]
        counts.append(tx.execute("UPDATE notes SET size = 1 WHERE id < :id", id="c"))
        counts.append(tx.execute("DELETE FROM notes WHERE id = :id", id="none"))
        counts.append(
            tx.execute(
                "WITH big AS (SELECT id FROM notes WHERE size = 1) "
                "UPDATE notes SET size = 2 WHERE id IN (SELECT id FROM big)"
            )
        )
        counts.append(tx.execute("DELETE FROM notes RETURNING id"))
        counts.append(tx.execute("SELECT 1"))
        return counts

    assert await database.write(fn) == [1, 1, 1, 2, 0, 2, 3, 0]


@pytest.mark.parametrize(
    ("sql", "values", "expected"),
    [
        ("SELECT :a || :b || :a || :ab", {"a": "1", "b": "2", "ab": "3"}, "1213"),
        ("SELECT :b || :a", {"a": "1", "b": "2"}, "21"),
        ("SELECT :a", {"a": "1", "more": "2"}, "1"),
        ("SELECT ':b' || :a", {"a": "1"}, ":b1"),
        ("SELECT 'it''s :b' || :a", {"a": "1"}, "it's :b1"),
        ('SELECT "x:b" || :a FROM (SELECT 0 AS "x:b")', {"a": "1"}, "01"),
        ("SELECT :a -- not ':b\n || :c /* :d ' */ || ':e?'", {"a": "1", "c": "2"}, "12:e?"),
        ("SELECT ':a'", {}, ":a"),
        ("SELECT :größe||'$'", {"größe": "1"}, "1$"),
    ],
)
async def test_values_are_found_by_their_names(database, sql, values, expected):
    assert database.read.one(str, sql, **values) == expected
    assert await database.write(lambda tx: tx.one(str, sql, **values)) == expected


async def test_execute_binds_what_it_names(database):
    def fn(tx):
        tx.execute("INSERT INTO notes (size, body, id) VALUES (:n, :x, :x)", x="a", n=2)

    await database.write(fn)
    assert database.read.all(Note, "SELECT * FROM notes") == [Note("a", "a", 2)]


async def test_value_that_is_missing_is_a_mistake_that_ends_nothing_else(database):
    def fn(tx):
        add(tx, "a")
        with pytest.raises(Broken, match=":size") as raised:
            tx.execute(INSERT, id="b", body="")
        assert raised.value.code == "statement"
        add(tx, "c")

    await database.write(fn)
    assert ids(database.read) == ["a", "c"]
    with pytest.raises(Broken, match=":id"):
        database.read.one(int, "SELECT :id")


async def test_one_returns_what_a_change_returns(database):
    def fn(tx):
        add(tx, "a", size=1)
        return tx.one(Note, "UPDATE notes SET size = size + 1 WHERE id = 'a' RETURNING *")

    assert (await database.write(fn)).size == 2


async def test_execute_raises_conflict_when_a_constraint_forbids_it(database):
    await database.write(add, "a")
    for arguments in ({"note_id": "a"}, {"note_id": "b", "size": -1}):
        with pytest.raises(Conflict) as raised:
            await database.write(add, **arguments)
        assert raised.value.code == "constraint"
    assert ids(database.read) == ["a"]


async def test_transaction_goes_on_when_it_expects_a_conflict(database):
    def fn(tx):
        add(tx, "a")
        with pytest.raises(Conflict):
            add(tx, "a")
        add(tx, "b")

    await database.write(fn)
    assert ids(database.read) == ["a", "b"]


async def test_after_commit_is_called_before_the_caller_goes_on(database):
    seen = []

    def fn(tx):
        add(tx, "a")
        tx.after_commit(lambda: seen.append(ids(database.read)))
        tx.after_commit(lambda: seen.append("second"))

    await database.write(fn)
    assert seen == [["a"], "second"]


async def test_after_commit_is_not_called_when_it_was_rolled_back(database):
    seen = []

    def fn(tx):
        tx.after_commit(lambda: seen.append("told"))
        add_then_fail(tx, "a")

    with pytest.raises(NotFound):
        await database.write(fn)
    await database.write(add, "b")
    assert seen == []


async def test_commits_counts_functions_that_were_kept(database):
    before = database.commits
    await asyncio.gather(
        *(database.write(add, str(n)) for n in range(5)),
        database.write(add_then_fail, "x"),
        return_exceptions=True,
    )
    assert database.commits - before == 5
    assert database.writable


async def test_read_shapes_rows_as_what_was_asked_for(database):
    def fn(tx):
        add(tx, "a", None, 1)
        add(tx, "b", "x", 2)
        tx.execute("UPDATE notes SET done = 1, raw = :raw WHERE id = 'b'", raw=b"\0\xff")

    await database.write(fn)
    read = database.read
    assert read.all(Note, "SELECT id, body, size, done FROM notes ORDER BY id") == [
        Note("a", None, 1, done=False),
        Note("b", "x", 2, done=True),
    ]
    assert read.one(bool, "SELECT done FROM notes WHERE id = 'b'") is True
    assert read.one(bytes, "SELECT raw FROM notes WHERE id = 'b'") == b"\0\xff"
    assert read.one(float, "SELECT 0.5 * :n", n=3) == 1.5
    assert read.all(int, "SELECT size FROM notes ORDER BY size DESC") == [2, 1]


async def test_one_returns_none_when_there_is_no_row_or_no_value(database):
    assert database.read.one(Note, "SELECT * FROM notes") is None
    assert database.read.one(int, "SELECT max(size) FROM notes") is None


@pytest.mark.parametrize(
    ("shape", "sql"),
    [
        (int, "SELECT 'seven'"),
        (str, "SELECT 7"),
        (bool, "SELECT 2"),
        (Note, "SELECT 'a' AS id"),
        (Note, "SELECT 'a' AS id, 7 AS body"),
    ],
)
async def test_read_refuses_a_row_that_does_not_fit(database, shape, sql):
    with pytest.raises(SchemaMismatch):
        database.read.one(shape, sql)
    with pytest.raises(SchemaMismatch):
        await database.scan(shape, sql)


async def test_read_does_not_see_what_is_not_committed(database):
    seen = []

    def fn(tx):
        add(tx, "a")
        asyncio.run_coroutine_threadsafe(look(), loop).result(timeout=60)

    async def look():
        seen.extend(ids(database.read))

    loop = asyncio.get_running_loop()
    await database.write_aside(fn)
    assert seen == []
    assert ids(database.read) == ["a"]


async def test_write_aside_lets_the_loop_turn_and_runs_in_its_turn(database):
    order, go = [], threading.Event()

    def stand(tx):
        assert go.wait(5), "the event loop did not turn meanwhile"
        order.append("aside")
        return add(tx, "b")

    writes = [
        asyncio.ensure_future(database.write(lambda tx: order.append("before"))),
        asyncio.ensure_future(database.write_aside(stand)),
        asyncio.ensure_future(database.write(lambda tx: order.append("after"))),
    ]
    await writes[0]
    await asyncio.sleep(0.02)
    assert order == ["before"]
    go.set()
    assert await writes[1] == "b"
    await writes[2]
    assert order == ["before", "aside", "after"]
    assert ids(database.read) == ["b"]


async def test_write_aside_keeps_nothing_when_the_function_raises(database):
    with pytest.raises(NotFound):
        await database.write_aside(add_then_fail, "a")
    assert ids(database.read) == []
    assert await database.write_aside(add, "a") == "a"


async def test_scan_returns_every_row_shaped(database):
    await asyncio.gather(*(database.write(add, f"{n:03}", size=n) for n in range(200)))
    notes = await database.scan(
        Note, "SELECT id, body, size FROM notes WHERE size >= :least ORDER BY id", least=10
    )
    assert notes == [Note(f"{n:03}", "", n) for n in range(10, 200)]


async def test_scans_run_side_by_side_with_writes(database):
    answers = await asyncio.gather(
        *(database.scan(int, "SELECT :n", n=n) for n in range(10)),
        *(database.write(add, str(n)) for n in range(10)),
    )
    assert answers == [[n] for n in range(10)] + [str(n) for n in range(10)]


async def test_close_finishes_what_is_queued(database, url, tmp_path):
    writes = [asyncio.ensure_future(database.write(add, f"{n:02}")) for n in range(50)]
    await asyncio.sleep(0)
    await asyncio.gather(database.close(), database.close())
    assert await asyncio.gather(*writes) == [f"{n:02}" for n in range(50)]
    with pytest.raises(DatabaseBusy):
        await database.write(add, "late")
    with pytest.raises(DatabaseBusy):
        database.read.one(int, "SELECT 1")
    with pytest.raises(DatabaseBusy):
        await database.scan(int, "SELECT 1")
    again = await connect(url, tmp_path / "notes", "notes")
    assert len(ids(again.read)) == 50
    await again.close()


SECOND = Migration("test", 2, "ALTER TABLE notes ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';")


async def test_migrate_applies_each_once_and_in_order(database):
    await database.write(add, "a")
    await database.migrate([NOTES, SECOND])
    await database.migrate([NOTES, SECOND])
    assert database.read.all(str, "SELECT colour FROM notes") == ["red"]


async def test_read_knows_new_columns_after_a_migration(database):
    class Coloured(Struct):
        id: str
        colour: str = "none"

    await database.write(add, "a")
    sql = "SELECT * FROM notes"
    assert database.read.one(Coloured, sql).colour == "none"
    assert await database.write(lambda tx: tx.one(Coloured, sql).colour) == "none"
    await database.migrate([NOTES, SECOND])
    assert database.read.one(Coloured, sql).colour == "red"
    assert await database.write(lambda tx: tx.one(Coloured, sql).colour) == "red"


async def test_migrate_keeps_owners_apart(database):
    other = Migration("framework", 1, "CREATE TABLE outbox (seq INTEGER PRIMARY KEY);")
    await database.migrate([other])
    await database.migrate([other, NOTES])
    assert database.read.all(int, "SELECT seq FROM outbox") == []


async def test_migrate_refuses_a_file_that_has_changed(database):
    changed = Migration("test", 1, NOTES.sql + "CREATE TABLE more (id TEXT);")
    with pytest.raises(SchemaMismatch, match="test/0001"):
        await database.migrate([changed])
    await database.migrate([NOTES])


async def test_migrate_refuses_a_database_that_is_newer(database):
    await database.migrate([NOTES, SECOND])
    with pytest.raises(SchemaMismatch, match="2 migrations of test"):
        await database.migrate([NOTES])


async def test_migrate_leaves_nothing_of_one_that_fails(database):
    failing = Migration("test", 2, "CREATE TABLE half (id TEXT); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(SchemaMismatch, match="test/0002"):
        await database.migrate([NOTES, failing])
    await database.migrate([NOTES, SECOND])  # the number is free, and so is the name
    await database.migrate([NOTES, SECOND, Migration("test", 3, "CREATE TABLE half (id TEXT);")])


@pytest.mark.parametrize("scheme", schemes())
@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text(), max_size=20), blobs=st.lists(st.binary(), max_size=5))
async def test_values_come_back_as_they_went_in(scheme, texts, blobs):
    def fill(tx):
        for n, text in enumerate(texts):
            add(tx, f"{n:03}", text)
        for n, blob in enumerate(blobs):
            tx.execute("INSERT INTO notes (id, raw) VALUES (:id, :raw)", id=f"raw{n}", raw=blob)

    with tempfile.TemporaryDirectory() as directory:
        database = await connect(f"{scheme}://", Path(directory), "notes")
        await database.migrate([NOTES])
        await database.write(fill)
        by_id = "SELECT body FROM notes WHERE raw IS NULL ORDER BY id"
        assert database.read.all(str, by_id) == texts
        assert await database.scan(str, by_id) == texts
        assert await database.write(lambda tx: tx.all(str, by_id)) == texts
        raws = "SELECT raw FROM notes WHERE raw IS NOT NULL ORDER BY id"
        assert database.read.all(bytes, raws) == blobs
        await database.close()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put and raise", "add", "add twice", "delete", "swallow"]),
        st.sampled_from("abcd"),
        st.integers(0, 9),
    ),
    max_size=60,
)


def play(tx, step, key, value):
    if step in {"put", "put and raise"}:
        tx.execute(
            "INSERT INTO notes (id, size) VALUES (:id, :size) "
            "ON CONFLICT (id) DO UPDATE SET size = excluded.size",
            id=key,
            size=value,
        )
        if step == "put and raise":
            raise NotFound(key)
    elif step == "delete":
        tx.execute("DELETE FROM notes WHERE id = :id", id=key)
    elif step == "swallow":
        try:
            add(tx, key, size=value)
        except Conflict:
            tx.execute("UPDATE notes SET size = size + 1 WHERE id = :id", id=key)
    else:
        add(tx, key, size=value)
        if step == "add twice":
            add(tx, key, size=value)


def play_on_paper(notes, step, key, value):
    """The same on a dict; returns whether it is kept."""
    if step == "put":
        notes[key] = value
    elif step == "delete":
        notes.pop(key, None)
    elif step == "swallow":
        notes[key] = notes[key] + 1 if key in notes else value
    elif step == "add" and key not in notes:
        notes[key] = value
    else:
        return False
    return True


@pytest.mark.parametrize("scheme", schemes())
@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
async def test_functions_that_share_a_commit_end_as_if_run_one_by_one(scheme, steps):
    with tempfile.TemporaryDirectory() as directory:
        database = await connect(f"{scheme}://", Path(directory), "notes")
        await database.migrate([NOTES])
        answers = await asyncio.gather(
            *(database.write(play, *step) for step in steps), return_exceptions=True
        )
        notes = {}
        kept = [play_on_paper(notes, *step) for step in steps]
        assert [not isinstance(answer, Exception) for answer in answers] == kept
        rows = database.read.all(Note, "SELECT id, NULL AS body, size FROM notes ORDER BY id")
        assert {note.id: note.size for note in rows} == notes
        await database.close()
