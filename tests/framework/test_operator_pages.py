"""What every service tells and does for the operator alone: parked and diverged events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mesh import clock
from mesh.bus import NO_HASH, ORIGIN, Epoch, Event
from mesh.framework import divergence, parked
from tests.framework.server import served

if TYPE_CHECKING:
    from tests.framework.server import Server

PAGES = [
    ("GET", "/parked"),
    ("GET", "/parked?id=" + "0" * 32),
    ("POST", "/parked/retry?id=" + "0" * 32),
    ("POST", "/parked/drop?id=" + "0" * 32),
    ("GET", "/diverged"),
    ("GET", "/traffic"),
    ("POST", "/diverged/resolve"),
]


@pytest.fixture
async def server(tmp_path):
    async with served(tmp_path) as made:
        yield made


def event(seq: int) -> Event:
    return Event(
        "product", 1, seq, 1, NO_HASH, NO_HASH, clock.uuid7(), "product.thing_counted", "prd_1", 5,
        b"{}", b'{"n":1}',
    )  # fmt: skip


async def park(server: Server, *events: Event) -> list[str]:
    def insert(tx) -> None:
        for each in events:
            parked.insert(tx, each, "x.on_counted", ("ValueError", "no"), 5)

    await server.room.database.write(insert)
    return [clock.uuid_text(each.id) for each in events]


@pytest.mark.parametrize(("method", "path"), PAGES)
async def test_nobody_but_the_operator_is_let_in(server: Server, method: str, path: str):
    assert (await server.ask(method, path)).status == 401
    assert (await server.ask(method, path, headers=server.user("usr_ada", "admin"))).status == 403
    assert (await server.ask(method, path, headers=server.peer("order"))).status == 403
    assert (await server.ask(method, path, headers=server.peer("operator"))).status in {200, 404}


async def test_parked_events_are_listed_and_shown_whole(server: Server):
    ids = await park(server, event(3), event(4))
    told = await server.ask("GET", "/parked", headers=server.peer("operator"))
    assert told.json["count"] == 2
    assert [row["id"] for row in told.json["parked"]] == ids
    assert "data" not in told.json["parked"][0]
    one = await server.ask("GET", f"/parked?id={ids[1]}", headers=server.peer("operator"))
    assert (one.json["sequence"], one.json["data"], one.json["error"]) == ("4", {"n": 1}, "no")


@pytest.mark.parametrize("text", ["", "17", "x" * 32, "0" * 31, "../" + "0" * 29])
async def test_id_that_is_none_is_refused(server: Server, text: str):
    answer = await server.ask("GET", f"/parked?id={text}", headers=server.peer("operator"))
    assert answer.status == 400
    assert answer.json["errors"][0]["pointer"] == "/id"


async def test_event_that_nobody_listens_to_any_more_cannot_be_retried_but_dropped(server: Server):
    (about,) = await park(server, event(3))
    operator = server.peer("operator")
    answer = await server.ask("POST", f"/parked/retry?id={about}", headers=operator)
    assert (answer.status, answer.json["code"]) == (409, "unheard")
    assert (await server.ask("POST", f"/parked/drop?id={about}", headers=operator)).status == 200
    assert (await server.ask("POST", f"/parked/drop?id={about}", headers=operator)).status == 404
    assert (await server.ask("GET", "/parked", headers=operator)).json["count"] == 0


async def test_divergence_is_told_until_it_is_resolved(server: Server):
    def diverge(tx) -> None:
        tx.execute(
            "INSERT INTO mlp_cursor (stream, epoch, seq, hash, known_epoch, known_base)"
            " VALUES ('product', 1, 9, zeroblob(16), 1, 0)"
        )
        divergence.note_epoch(tx, "product", Epoch(2, 4, NO_HASH, b"n"), ORIGIN)

    await server.room.database.write(diverge)
    operator = server.peer("operator")
    told = await server.ask("GET", "/diverged", headers=operator)
    (row,) = told.json["diverged"]
    assert (row["stream"], row["from_sequence"], row["to_sequence"]) == ("product", "5", "9")
    resolved = await server.ask("POST", "/diverged/resolve", headers=operator)
    assert resolved.json == {"resolved": 1}
    assert (await server.ask("GET", "/diverged", headers=operator)).json == {"diverged": []}


async def test_pages_that_change_something_are_not_there_for_reading(server: Server):
    for path in ("/parked/retry", "/parked/drop", "/diverged/resolve"):
        answer = await server.ask("GET", path, headers=server.peer("operator"))
        assert answer.status == 404


async def test_traffic_counts_whom_is_let_in_and_metrics_tell_the_same(server: Server):
    for _ in range(3):
        assert (await server.ask("GET", "/things/a")).status == 200
    told = (await server.ask("GET", "/traffic", headers=server.peer("operator"))).json
    assert told["asks"] == []
    assert told["admission"] | {"lag_ms": 0} == {
        "places": 64, "taken": 0, "waiting": 0, "admitted": 3, "shed": 0, "lag_ms": 0,
    }  # fmt: skip
    assert told["connections"]["open"] >= 1
    text = (await server.ask("GET", "/metrics")).raw.decode()
    assert "mesh_admitted_total 3.0" in text
    assert "mesh_shed_total 0.0" in text
