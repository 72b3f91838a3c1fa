"""Any mixture of functions has the effect that they have one after the other, whoever shares a commit."""

from __future__ import annotations

import asyncio
import random

import pytest

from mesh.database import Migration
from mesh.databases.sqlite import connect, solo
from mesh.databases.sqlite.solo import WARY_COMMITS
from mesh.errors import Conflict

ROWS = Migration("test", 1, "CREATE TABLE rows (id INTEGER PRIMARY KEY, n INTEGER NOT NULL);")
KINDS = ["adds"] * 6 + ["raises first", "changes nothing", "passes over", "conflicts", "tells"]
RARE = ["raises last", "tells and raises", "must be durable"]


class Raised(Exception):
    """By a function, with its number."""


def function(tx, n: int, kind: str, size: int, told: list[int]) -> int:
    """Adds rows with its number; returns how many there are then."""
    if kind == "raises first":
        tx.one(int, "SELECT count(*) FROM rows")
        raise Raised(n)
    if kind == "passes over":
        with pytest.raises(Conflict):
            tx.execute("INSERT INTO rows (id, n) VALUES (0, :n)", n=n)
    for _ in range(0 if kind == "changes nothing" else size):
        tx.execute("INSERT INTO rows (n) VALUES (:n)", n=n)
    if kind == "conflicts":
        tx.execute("INSERT INTO rows (id, n) VALUES (0, :n)", n=n)
    if kind.startswith("tells"):
        tx.after_commit(lambda: told.append(n))
    if kind == "must be durable":
        tx.make_durable()
    if kind.endswith(("raises", "last")):
        raise Raised(n)
    return tx.one(int, "SELECT count(*) FROM rows")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("bursts", "most", "wary"), [(5, 40, WARY_COMMITS), (60, 3, 0)])
async def test_mixture_is_as_one_after_the_other(tmp_path, monkeypatch, bursts, most, wary, seed):
    """Many at once; or few, and whatever a function could wait for is committed on the loop."""
    monkeypatch.setattr(solo, "UNKNOWN_COMMITS", 0)
    monkeypatch.setattr(solo, "WARY_COMMITS", wary)
    draw = random.Random(seed)
    database = await connect("sqlite://", tmp_path / "rows", "rows")
    await database.migrate([ROWS])
    await database.write(lambda tx: tx.execute("INSERT INTO rows (id, n) VALUES (0, -1)"))
    rows, expected, asked = [-1], [], []
    told: list[int] = []
    to_tell: list[int] = []
    for burst in range(bursts):
        kinds = KINDS + RARE if burst % 2 else KINDS
        ways = [database.write_delayed] * 4 + [database.write] * (burst % 3)
        for _ in range(draw.randint(1, most)):
            n, kind, size = len(asked), draw.choice(kinds), draw.randint(1, 3)
            way = draw.choice([*ways, database.write_aside] if draw.random() < 0.1 else ways)
            asked.append(asyncio.ensure_future(way(function, n, kind, size, told)))
            raises = kind in {"raises first", "raises last", "tells and raises"}
            if raises or kind == "conflicts":
                expected.append(f"Raised({n})" if raises else "Conflict")
                continue
            rows += [n] * (0 if kind == "changes nothing" else size)
            to_tell += [n] if kind == "tells" else []
            expected.append(len(rows))
        await asyncio.sleep(draw.choice([0.0, 0.0, 0.01]))
        await asyncio.wait(asked)
    found = await asyncio.gather(*asked, return_exceptions=True)
    there = database.read.all(int, "SELECT n FROM rows ORDER BY id")
    await database.close()
    assert [
        repr(each)
        if isinstance(each, Raised)
        else "Conflict"
        if isinstance(each, Conflict)
        else each
        for each in found
    ] == expected
    assert (there, told) == (rows, to_tell)
