"""What every orchestrator promises, asked of the supervisor itself and of its remote."""

from __future__ import annotations

import asyncio
import contextlib
import inspect

import pytest

from mesh import codec
from mesh.errors import Conflict, InvalidInput, NotFound
from mesh.orchestrator import child, logs, ports
from mesh.orchestrator.contract import Explanation, Lease, Orchestrator, Status, Stopped, Transition
from mesh.orchestrator.launcher import Launcher
from mesh.orchestrator.ports import Listener
from mesh.orchestrator.remote import Remote
from mesh.orchestrator.supervisor import Supervisor
from tests.orchestrator.harness import Mesh, program

pytestmark = pytest.mark.e2e

SHAPES = {
    "status": Status,
    "stop": list[Stopped],
    "down": list[Stopped],
    "explain": Explanation,
}

PROGRAMS = [program("order", "wait", port=0), program("product", "wait")]


class Near:
    """A supervisor on this very loop."""

    def __init__(self, supervisor):
        self.supervisor = supervisor

    async def ask(self, method, *args):
        found = getattr(self.supervisor, method)(*args)
        return await found if inspect.isawaitable(found) else found

    @contextlib.asynccontextmanager
    async def lend(self, name):
        yield await self.supervisor.lend(name)
        self.supervisor.give_back([name])

    @contextlib.asynccontextmanager
    async def hold(self, names, why):
        yield await self.supervisor.hold(names, why)
        self.supervisor.give_back(names)

    async def watch(self):
        async with contextlib.aclosing(self.supervisor.watch()) as changes:
            async for change in changes:
                yield change


class Far:
    """A supervisor in another process; what comes as JSON must be what the contract says."""

    def __init__(self, remote):
        self.remote = remote

    async def ask(self, method, *args):
        found = await asyncio.to_thread(getattr(self.remote, method), *args)
        return codec.convert(found, SHAPES.get(method, type(found)))

    @contextlib.asynccontextmanager
    async def lend(self, name):
        with self.remote.lend(name) as (lease, _):
            yield codec.convert(lease, Lease)

    @contextlib.asynccontextmanager
    async def hold(self, names, why):
        with await asyncio.to_thread(self.remote.hold, names, why) as again:
            yield again

    async def watch(self):
        changes = self.remote.watch(10.0)
        while change := await asyncio.to_thread(next, changes, None):
            yield codec.convert(change, Status if "schema" in change else Transition)
        changes.close()


@pytest.fixture
async def near(tmp_path):
    launcher = Launcher([])
    listeners = {"order": Listener("order", 0, shared=True)}
    child.adopt_orphans(yes=True)
    journal = logs.Journal(tmp_path / "mesh.log")
    with contextlib.closing(journal), ports.held(listeners.values(), ["order"]):
        supervisor = Supervisor(
            PROGRAMS,
            project="test",
            logs_dir=tmp_path,
            sockets=tmp_path,
            listeners=listeners,
            launcher=launcher,
            journal=journal,
            mint="{} for {}".format,
            on_change=lambda _: None,
            linger=True,
        )
        launcher.attach(lambda: None)
        supervisor.begin(["order", "product"])
        yield Near(supervisor)
        await supervisor.down(2.0)
        supervisor.close()
        launcher.close()
        child.adopt_orphans(yes=False)


@pytest.fixture
async def far(tmp_path):
    mesh = Mesh(tmp_path, PROGRAMS).up()
    yield Far(mesh.remote)
    mesh.close()


@pytest.fixture(params=["near", "far"])
def orchestrator(request):
    return request.getfixturevalue(request.param)


async def until(orchestrator, **states):
    async with contextlib.aclosing(orchestrator.watch()) as changes:
        status = await anext(changes)
        found = {row.name: row.state for row in status.services}
        while any(found[name] != state for name, state in states.items()):
            change = await anext(changes)
            found[change.name] = change.new


async def row(orchestrator, name):
    status = await orchestrator.ask("status")
    return next(one for one in status.services if one.name == name)


@pytest.mark.parametrize("kind", [Supervisor, Remote])
def test_orchestrator_answers_everything_in_the_contract(kind):
    for name, method in inspect.getmembers(Orchestrator, inspect.isfunction):
        if not name.startswith("_"):
            asked = [*inspect.signature(method).parameters]
            assert [*inspect.signature(getattr(kind, name)).parameters][: len(asked)] == asked


async def test_status_has_every_program_in_order(orchestrator):
    await until(orchestrator, order="ready", product="ready")
    status = await orchestrator.ask("status")
    order, product = status.services
    assert (status.schema, status.project) == ("mesh.ps/1", "test")
    assert (order.name, product.name) == ("order", "product")
    assert order.url == f"http://127.0.0.1:{order.port}"
    assert product.port is None
    assert order.rss_bytes > 2**20
    assert order.uptime_s > 0


async def test_stop_and_start_are_no_crash(orchestrator):
    await until(orchestrator, order="ready", product="ready")
    [stopped] = await orchestrator.ask("stop", ["order"])
    assert (stopped.name, stopped.how) == ("order", "graceful")
    [again] = await orchestrator.ask("stop", ["order"])
    assert (again.how, again.after_s) == ("already stopped", 0.0)
    assert (await row(orchestrator, "order")).state == "stopped"
    await orchestrator.ask("start", ["order"])
    await until(orchestrator, order="ready")
    assert (await row(orchestrator, "order")).restarts == 0


async def test_restart_returns_when_a_new_process_is_up(orchestrator):
    await until(orchestrator, order="ready", product="ready")
    before = {name: (await row(orchestrator, name)).pid for name in ("order", "product")}
    await orchestrator.ask("restart", ["order"])
    after = await row(orchestrator, "order")
    assert (after.state, after.restarts) == ("ready", 0)
    assert after.pid != before["order"]
    assert (await row(orchestrator, "product")).pid == before["product"]


async def test_kill_is_followed_by_a_new_life(orchestrator):
    await until(orchestrator, order="ready")
    before = (await row(orchestrator, "order")).pid
    await orchestrator.ask("kill", ["order"], "KILL")
    async with contextlib.aclosing(orchestrator.watch()) as changes:
        status = await anext(changes)
        found = next(one for one in status.services if one.name == "order")
        while found.pid in {before, None} or found.state != "ready":
            await anext(changes)
            found = await row(orchestrator, "order")
    assert found.restarts == 0


@pytest.mark.parametrize("method", ["start", "stop", "restart", "kill"])
async def test_unknown_name_is_refused_before_anything_is_done(orchestrator, method):
    await until(orchestrator, order="ready", product="ready")
    before = (await row(orchestrator, "order")).pid
    arguments = [["order", "prodct"], *(["KILL"] if method == "kill" else [])]
    with pytest.raises(NotFound, match="prodct") as caught:
        await orchestrator.ask(method, *arguments)
    assert caught.value.hint == "did you mean product?"
    assert (await row(orchestrator, "order")).pid == before


async def test_no_names_are_nobody(orchestrator):
    await until(orchestrator, order="ready", product="ready")
    assert await orchestrator.ask("stop", []) == []
    assert {one.state for one in (await orchestrator.ask("status")).services} == {"ready"}


async def test_kill_refuses_what_is_no_signal(orchestrator):
    with pytest.raises(InvalidInput, match="no signal"):
        await orchestrator.ask("kill", ["order"], "BOOM")


async def test_token_is_for_known_names_only(orchestrator):
    assert await orchestrator.ask("token", "operator", "order") == "operator for order"
    with pytest.raises(NotFound):
        await orchestrator.ask("token", "operator", "nobody")


async def test_explanation_is_of_one_program(orchestrator):
    await until(orchestrator, order="ready", product="ready")
    found = await orchestrator.ask("explain", "order")
    assert (found.schema, found.name, found.state) == ("mesh.explain/1", "order", "ready")
    assert (found.desired, found.cause, found.waits_for) == ("up", "ready", ())
    assert found.pid == (await row(orchestrator, "order")).pid
    with pytest.raises(NotFound):
        await orchestrator.ask("explain", "nobody")


async def test_lent_program_is_stopped_and_comes_back(orchestrator):
    await until(orchestrator, order="ready", product="ready")
    async with orchestrator.lend("order") as lease:
        assert (lease.entry, lease.command) == ("sample:wait", None)
        assert lease.environment["PORT"] == str((await row(orchestrator, "order")).port)
        lent = await row(orchestrator, "order")
        assert (lent.state, lent.pid) == ("stopped", None)
        assert lent.cause.startswith("run by hand (pid ")
        with pytest.raises(Conflict, match="run by hand"):
            await orchestrator.ask("start", ["order"])
        with pytest.raises(Conflict, match="run by hand"):
            await orchestrator.ask("restart", ["order", "product"])
    await until(orchestrator, order="ready")


async def test_program_that_was_stopped_when_it_was_lent_stays_so(orchestrator):
    await until(orchestrator, order="ready", product="ready")
    await orchestrator.ask("stop", ["order"])
    async with orchestrator.lend("order"):
        pass
    await orchestrator.ask("restart", ["product"])
    assert (await row(orchestrator, "order")).state == "stopped"


async def test_held_programs_stay_at_rest_whatever_is_asked_and_come_back(orchestrator):
    await until(orchestrator, order="ready", product="ready")
    await orchestrator.ask("stop", ["product"])
    async with orchestrator.hold(["order", "product"], "being mended") as again:
        assert again == ["order"]
        for ask in ("start", "restart"):
            with pytest.raises(Conflict, match="order is being mended"):
                await orchestrator.ask(ask, ["order"])
        assert (await row(orchestrator, "order")).pid is None
    await until(orchestrator, order="ready")
    assert (await row(orchestrator, "product")).state == "stopped"


async def test_held_program_that_is_stopped_meanwhile_stays_so(orchestrator):
    await until(orchestrator, order="ready", product="ready")
    async with orchestrator.hold(["order", "product"], "being mended") as again:
        assert again == ["order", "product"]
        await orchestrator.ask("stop", ["order"])
    await until(orchestrator, product="ready")
    assert (await row(orchestrator, "order")).state == "stopped"


async def test_down_stops_everybody_and_ends_every_watch(orchestrator):
    await until(orchestrator, order="ready", product="ready")
    stopped = await orchestrator.ask("down", 5.0)
    assert {one.name: one.how for one in stopped} == {"order": "graceful", "product": "graceful"}
