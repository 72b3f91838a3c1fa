"""How sure each end of a request is, on real sockets; and that the loop stays open."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from mesh import clock, codec
from mesh.exercise import load as loads
from mesh.exercise import wire as wires
from mesh.exercise.history import Entry, Recorder
from mesh.exercise.load import Load
from mesh.exercise.plan import Arrival
from mesh.exercise.scenario import Ask, Route, Scenario, VisitOver
from mesh.exercise.tally import Tally
from mesh.exercise.wire import Wire, request

ROUTE = Route(
    service="shop",
    name="make",
    method="POST",
    path="/things/{id}",
    places={"id": "path", "how": "query", "body": "body"},
    takes_body=True,
    takes_key=True,
    roles=None,
)


@pytest.fixture
async def shop():
    """A server that does what `how` says; it keeps what it was asked."""
    asked: list[tuple[str, str | None]] = []
    busy: set[str] = set()

    async def answer(got: web.Request) -> web.StreamResponse:
        how, key = got.query.get("how", "200"), got.headers.get("Idempotency-Key")
        asked.append((how, key))
        if how == "cut":
            assert got.transport is not None
            got.transport.close()
        elif how == "late":
            await asyncio.sleep(30)
        elif how == "slow":
            await asyncio.sleep(0.3)
        elif how == "once-busy" and key not in busy:
            busy.add(str(key))
            return web.json_response({"code": "overloaded"}, status=503)
        elif how == "once-running" and key not in busy:
            busy.add(str(key))
            return web.json_response({"code": "request-running"}, status=409)
        elif how.isdigit():
            return web.json_response({"id": "t1", "code": "some"}, status=int(how))
        return web.json_response({"id": "t1"})

    app = web.Application()
    app.router.add_route("*", "/things/{id}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    yield SimpleNamespace(url=f"http://127.0.0.1:{port}", asked=asked)
    await runner.cleanup()


class Trial:
    def __init__(self, url: str, patience_s: float = 0.0) -> None:
        self.written = io.BytesIO()
        self.tally = Tally()
        self.wire = Wire(
            {"shop": url},
            lambda login: f"token of {login}",
            Recorder(self.written),
            self.tally,
            patience_s=patience_s,
        )

    async def ask(self, how: str, *refusals: int):
        fields = {"id": "1", "how": how, "body": [1]}
        due_s = clock.monotonic_s()
        async with self.wire:
            return await self.wire.perform(
                Ask(ROUTE, fields, 0, "k1", due_s, "alice", None, refusals)
            )

    @property
    def entries(self) -> list[Entry]:
        return [codec.decode(line, Entry) for line in self.written.getvalue().splitlines()]

    @property
    def outcome(self) -> str:
        counts = self.tally.of("shop.make")
        (found,) = (
            name for name in ("ok", "refused", "failed", "unknown") if getattr(counts, name)
        )
        return found


@pytest.mark.parametrize(
    ("how", "refusals", "outcome", "end"),
    [
        ("200", (), "ok", "ok"),
        ("409", (409,), "refused", "fail"),
        ("404", (), "failed", "fail"),
        ("500", (), "unknown", "unknown"),
        ("cut", (), "unknown", "unknown"),
        ("late", (), "unknown", "unknown"),
        ("once-busy", (), "failed", "fail"),
    ],
)
async def test_end_says_no_more_than_is_known(shop, monkeypatch, how, refusals, outcome, end):
    monkeypatch.setattr(wires, "ANSWER_S", 0.2)
    trial = Trial(shop.url)
    if outcome in {"failed", "unknown"}:
        with pytest.raises(VisitOver):
            await trial.ask(how, *refusals)
    else:
        await trial.ask(how, *refusals)
    assert trial.outcome == outcome
    assert [each.type for each in trial.entries] == ["invoke", end]
    assert trial.entries[1].value == ({"id": "t1"} if end == "ok" else {})


async def test_refused_connection_has_done_nothing():
    trial = Trial("http://127.0.0.1:1")
    with pytest.raises(VisitOver):
        await trial.ask("200")
    assert trial.outcome == "failed"
    assert [each.type for each in trial.entries] == ["invoke", "fail"]
    assert trial.tally.kinds == {("shop.make", "connection refused"): 1}


@pytest.mark.parametrize("how", ["once-busy", "once-running"])
async def test_patient_visitor_asks_again_with_the_same_key_and_each_try_is_written_down(shop, how):
    trial = Trial(shop.url, patience_s=5.0)
    answer = await trial.ask(how, 409)
    assert answer.ok
    assert shop.asked == [(how, "k1")] * 2
    assert [each.type for each in trial.entries] == ["invoke", "fail", "invoke", "ok"]
    assert trial.outcome == "ok"
    assert trial.tally.of("shop.make").again == 1


async def test_request_is_where_the_document_has_its_fields():
    fields = {"id": "a/b", "how": True, "body": {"x": 1}}
    method, url, body = request(Ask(ROUTE, fields, 0, None, 0.0, None, None, ()), "http://h")
    assert (method, url, body) == ("POST", "http://h/things/a%2Fb?how=true", {"body": {"x": 1}})


def test_what_is_secret_is_not_written_down():
    file = io.BytesIO()
    fields = {"email": "v@x", "password": "hidden", "payment_token": "tok"}
    Recorder(file).invoke(Ask(ROUTE, fields, 0, None, 0.0, None, None, ()), 0.0, None)
    assert b"v@x" in file.getvalue()
    assert b"hidden" not in file.getvalue()
    assert b"tok" not in file.getvalue()


async def load(shop, scenario, count: int, every_s: float):
    trial = Trial(shop.url)
    arrivals = [Arrival(n, n * every_s, 0, n) for n in range(count)]
    async with trial.wire:
        visitors = Load(
            [Scenario("s", scenario)], trial.wire, trial.tally, {"shop.make": ROUTE}, [], "x1"
        )
        await visitors.run(arrivals, asyncio.Event(), 0.0)
    return trial


async def test_slow_answers_do_not_slow_arrivals_down(shop):
    async def slow(visit):
        await visit.ask("shop.make", id="1", how="slow", body=[])

    begun_s = clock.monotonic_s()
    trial = await load(shop, slow, 100, 0.002)
    assert clock.monotonic_s() - begun_s < 15.0, "one after another they would take 30 s"
    assert trial.tally.of("shop.make").ok == 100
    assert trial.tally.visits == 100


async def test_time_for_which_the_generator_was_in_the_way_counts(shop):
    import time

    async def rude(visit):
        if visit.number == 0:
            time.sleep(0.3)  # holds the loop, and with it everybody's sending
        await visit.ask("shop.make", id="1", how="200", body=[])

    trial = await load(shop, rude, 10, 0.01)
    latencies = trial.tally.of("shop.make").latencies
    waited = [due - sent for due, sent in zip(latencies.intended, latencies.sent, strict=True)]
    assert min(waited) > 200, "all the others were due while the loop was held"


async def test_scenario_that_raises_is_named_with_its_line(shop):
    from mesh.errors import Broken

    async def wrong(visit):
        return visit.nothing

    with pytest.raises(ExceptionGroup) as caught:
        await load(shop, wrong, 1, 0.0)
    error = caught.value.exceptions[0]
    assert isinstance(error, Broken)
    assert "the scenario s raised AttributeError" in error.detail
    assert "visit.nothing" in error.evidence[0]


async def test_stopped_run_ends_at_once_and_what_was_under_way_is_unknown(shop):
    async def late(visit):
        await visit.ask("shop.make", id="1", how="late", body=[])

    trial = Trial(shop.url)
    stop = asyncio.Event()
    async with trial.wire:
        visitors = Load(
            [Scenario("s", late)], trial.wire, trial.tally, {"shop.make": ROUTE}, [], "x1"
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(
                visitors.run([Arrival(0, 0.0, 0, 0), Arrival(1, 60.0, 0, 0)], stop, 0.0)
            )
            while not shop.asked:
                await asyncio.sleep(0)
            stop.set()
    assert trial.outcome == "unknown"
    assert [each.type for each in trial.entries] == ["invoke", "unknown"]


async def test_scenario_that_is_no_coroutine_is_said_to_be_none(shop):
    from mesh.errors import Broken

    def plain(visit):
        visit.ask("shop.make", id="1", how="200", body=[]).close()

    with pytest.raises(ExceptionGroup) as caught:
        await load(shop, plain, 1, 0.0)
    error = caught.value.exceptions[0]
    assert isinstance(error, Broken)
    assert error.detail == "the scenario s is no `async def`: it gave NoneType"


async def test_error_below_a_scenario_is_told_by_the_line_of_the_scenario(shop):
    async def strange(visit):
        await visit.ask("shop.make", id="1", how="200", body=object())

    with pytest.raises(ExceptionGroup) as caught:
        await load(shop, strange, 1, 0.0)
    error = caught.value.exceptions[0]
    assert error.evidence[0].startswith(f"{__file__}:")
    assert "body=object()" in error.evidence[0]


async def test_exit_of_a_scenario_is_an_error_of_it(shop):
    async def leaving(visit):
        raise SystemExit(3)

    with pytest.raises(ExceptionGroup) as caught:
        await load(shop, leaving, 1, 0.0)
    assert "the scenario s raised SystemExit: 3" in caught.value.exceptions[0].detail


async def test_run_lasts_as_long_as_it_was_asked_for(shop):
    async def quick(visit):
        await visit.ask("shop.make", id="1", how="200", body=[])

    trial = Trial(shop.url)
    async with trial.wire:
        visitors = Load(
            [Scenario("s", quick)], trial.wire, trial.tally, {"shop.make": ROUTE}, [], "x1"
        )
        await visitors.run([Arrival(0, 0.0, 0, 0)], asyncio.Event(), 0.0, 0.5)
        assert clock.monotonic_s() - trial.wire.begun_s >= 0.5
    assert trial.tally.unfinished == 0


async def test_visitor_who_does_not_end_is_counted(shop, monkeypatch):
    monkeypatch.setattr(loads, "DRAIN_S", 0.1)

    async def endless(visit):
        await asyncio.sleep(3600)

    trial = await load(shop, endless, 2, 0.0)
    assert trial.tally.unfinished == 2


def test_history_that_has_no_room_is_said_to_have_none():
    from mesh.errors import StorageFull

    ask = Ask(ROUTE, {"id": "1"}, 0, None, 0.0, None, None, ())
    full = "history of the run cannot be written: no space left"
    with Path("/dev/full").open("wb", buffering=0) as file:
        recorder = Recorder(file)
        with pytest.raises(StorageFull, match=full):
            recorder.invoke(ask, 0.0, None)
    recorder = Recorder(Path("/dev/full").open("wb"))  # noqa: SIM115  it is what closes it
    recorder.invoke(ask, 0.0, None)
    with pytest.raises(StorageFull, match=full):
        recorder.close()
