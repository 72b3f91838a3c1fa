"""The same seed gives the same visitors, the same draws and the same faults."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from mesh import clock, codec
from mesh.errors import WrongUsage
from mesh.exercise import chaos, plan, shop
from mesh.exercise.chaos import Targets
from mesh.exercise.scenario import Person, Route, Scenario, Visit

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGETS = Targets(("auth", "user", "product", "order", "bus"), ("auth", "user", "product", "order"))


def arrivals(seed: int = 1, rate: float = 50.0, duration_s: float = 20.0, ramp_s: float = 0.0):
    return list(
        plan.arrivals(shop.scenarios, rate=rate, duration_s=duration_s, ramp_s=ramp_s, seed=seed)
    )


def test_same_seed_gives_the_same_arrivals_and_another_others():
    assert arrivals(7) == arrivals(7)
    assert arrivals(7) != arrivals(8)


def test_arrivals_are_in_order_numbered_and_as_many_as_the_rate_says():
    found = arrivals(rate=200.0)
    assert [each.number for each in found] == list(range(len(found)))
    assert [each.at_s for each in found] == sorted(each.at_s for each in found)
    assert 0.9 < len(found) / 4000 < 1.1
    assert found[-1].at_s < 20.0


def test_ramp_grows_from_nothing_to_the_rate():
    found = [each.at_s for each in arrivals(rate=400.0, ramp_s=10.0)]
    quarters = [sum(low <= at_s < low + 5 for at_s in found) for low in (0, 5, 10, 15)]
    assert 0.9 < quarters[0] / 500 < 1.1
    assert 0.9 < quarters[1] / 1500 < 1.1
    assert 0.9 < quarters[3] / 2000 < 1.1


def test_scenarios_come_as_often_as_they_weigh():
    found = arrivals(rate=500.0)
    total = sum(each.weight for each in shop.scenarios)
    for place, scenario in enumerate(shop.scenarios):
        share = sum(each.scenario == place for each in found) / len(found)
        assert share == pytest.approx(scenario.weight / total, abs=0.02)


def test_same_seed_gives_the_same_faults_and_another_others():
    assert schedule(7) == schedule(7)
    assert schedule(7) != schedule(8)


def schedule(seed: int, *kinds: chaos.Kind, duration_s: float = 60.0, every_s: float = 5.0):
    paces = [chaos.Paced(kind, every_s) for kind in kinds or chaos.KINDS]
    return chaos.schedule(paces, TARGETS, duration_s=duration_s, seed=seed)


def test_another_kind_changes_nothing_of_the_others():
    alone = schedule(3, "kill")
    assert [each for each in schedule(3) if each.kind == "kill"] == list(alone)


@pytest.mark.parametrize("kind", chaos.KINDS)
def test_faults_of_a_kind_hit_everybody_and_end_before_the_run(kind):
    found = schedule(5, kind, duration_s=120.0)
    assert {each.target for each in found} == set(TARGETS.of(kind))
    assert all(each.at_s + each.for_s <= 120.0 for each in found)
    gaps = [later.at_s - each.at_s for each, later in itertools.pairwise(found)]
    assert all(4.0 <= gap <= 6.0 for gap in gaps)


def test_supervisor_is_killed_too_and_nothing_else_is_done_to_it():
    found = schedule(5, duration_s=120.0)
    assert {each.kind for each in found if each.target == chaos.SUPERVISOR} == {"kill"}


def test_faults_are_named_and_a_misspelt_one_is_answered_with_a_suggestion():
    assert chaos.asked("kill, pause,kill") == (chaos.Paced("kill"), chaos.Paced("pause"))
    assert chaos.asked("") == ()
    with pytest.raises(WrongUsage, match="did you mean `pause`"):
        chaos.asked("kill,puase")


def test_pace_is_read_kept_and_written_as_it_was_asked():
    paces = chaos.asked("kill:every=0.8,pause,drop:every=2s")
    assert paces == (chaos.Paced("kill", 0.8), chaos.Paced("pause"), chaos.Paced("drop", 2.0))
    assert chaos.asked(",".join(map(str, paces))) == paces
    found = schedule(5, "kill", every_s=0.8, duration_s=820.0)
    assert 950 < len(found) < 1050
    hits = Counter(fault.target for fault in found)
    assert hits.pop(chaos.SUPERVISOR) == pytest.approx(len(found) / 11, abs=1)
    assert all(each == pytest.approx(2 * len(found) / 11, abs=2) for each in hits.values())


@pytest.mark.parametrize("word", ["kill:every=0", "kill:every=", "kill:each=1", "kill:every=x"])
def test_pace_that_is_none_is_refused(word):
    with pytest.raises(WrongUsage, match="does not say how often"):
        chaos.asked(word)


async def carried_out(faults: Sequence[chaos.Fault], *, slow_s: float, end_s: float):
    """When each was made, where felling the supervisor takes so long; on a real clock."""
    made = chaos.Chaos(tuple(faults), lambda _: None, lambda: time.sleep(slow_s), end_s)
    await made.run(clock.monotonic_s(), asyncio.Event())
    return [(each.fault.target, each.at_s) for each in made.done]


async def test_faults_that_come_late_follow_with_half_their_gap_and_end_with_the_run():
    faults = [chaos.Fault(0.0, "kill", chaos.SUPERVISOR)]
    faults += [chaos.Fault(n / 10, "kill", "order") for n in range(1, 20)]
    found = await carried_out(faults, slow_s=0.4, end_s=1.0)
    times = [at_s for _, at_s in found]
    assert times[1] >= 0.45
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[1:])]
    assert min(gaps) >= 0.049
    assert max(times) < 1.1
    assert 5 <= len(found) < 20


class Asked:
    """Answers every request the same, and remembers them."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, object], str | None, str | None]] = []

    async def perform(self, ask):
        from mesh.exercise.scenario import Answer

        self.sent.append((ask.route.label, ask.fields, ask.by, ask.key))
        items = [{"id": f"prd_{n}"} for n in range(6)]
        return Answer(200, {"items": items, "id": "ord_1", "status": "reserved"})


def visitor(seed: int, asked: Asked, routes: dict[str, Route]) -> Visit:
    return Visit(
        number=0,
        name="x1-0",
        draw=clock.seeded(seed),
        due_s=0.0,
        perform=asked.perform,
        routes=routes,
        people=[
            Person("alice", ("customer",)),
            Person("bob", ("customer",)),
            Person("sam", ("staff",)),
        ],
    )


def route(label: str, roles: tuple[str, ...] | None, *places: str) -> Route:
    service, _, name = label.partition(".")
    return Route(
        service=service,
        name=name,
        method="POST",
        path="/x",
        places=dict.fromkeys(places, "body"),
        takes_body=True,
        takes_key=True,
        roles=roles,
    )


ROUTES = {
    each.label: each
    for each in (
        route("product.list", None, "page_size"),
        route("order.create", ("customer",), "lines", "ship_to", "on_shortage"),
        route("order.pay", ("",), "id", "payment_token"),
        route("order.get", ("",), "id"),
    )
}


async def visited(scenario: Scenario, seed: int):
    asked = Asked()
    await scenario.act(visitor(seed, asked, ROUTES))
    return asked.sent


async def test_same_seed_gives_the_same_requests():
    buy = next(each for each in shop.scenarios if each.name == "buy")
    first = await visited(buy, 11)
    assert first == await visited(buy, 11)
    assert [label for label, *_ in first] == [
        "product.list",
        "order.create",
        "order.pay",
        "order.get",
    ]
    assert len({str(await visited(buy, seed)) for seed in range(10)}) > 5


async def test_visitor_is_one_person_throughout_and_each_request_has_its_own_key():
    buy = next(each for each in shop.scenarios if each.name == "buy")
    for seed in range(10):
        sent = await visited(buy, seed)
        assert len({by for label, _, by, _ in sent if label != "product.list"}) == 1
        keys = [key for *_, key in sent]
        assert len(set(keys)) == len(keys)


async def test_unknown_operation_and_field_are_answered_with_a_suggestion():
    visit = visitor(1, Asked(), ROUTES)
    with pytest.raises(WrongUsage, match=r"did you mean `order\.create`"):
        await visit.ask("order.craete")
    with pytest.raises(WrongUsage, match="did you mean `lines`"):
        await visit.ask("order.create", linse=[])


def test_fault_that_would_hit_nobody_or_come_never_is_refused():
    def checked(text: str, duration_s: float, *only: str) -> None:
        paces, targets = chaos.asked(text), codec.replace(TARGETS, only=only)
        drawn = chaos.schedule(paces, targets, duration_s=duration_s, seed=1)
        chaos.check(paces, targets, drawn, duration_s)

    checked("kill,latency", 30.0)
    checked("kill", 30.0, "supervisor")
    with pytest.raises(WrongUsage, match="`latency` can hit none of supervisor"):
        checked("kill,latency", 30.0, "supervisor")
    with pytest.raises(WrongUsage, match="in 1 s `kill` breaks nothing"):
        checked("kill", 1.0)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"weight": -1}, "the weight of the scenario greet is not above 0: -1"),
        ({"weight": 0}, "the weight of the scenario greet is not above 0: 0"),
        ({"weight": float("nan")}, "the weight of the scenario greet is not above 0: nan"),
        ({"weight": "3"}, "the weight of the scenario greet is not above 0: '3'"),
        ({"needs": "order.create"}, "what the scenario greet needs is no tuple: 'order.create'"),
        ({"act": 7}, "the scenario greet is no function: 7"),
        ({"name": ""}, "a scenario's name is no text: ''"),
    ],
)
def test_scenario_that_could_not_be_drawn_is_refused_where_it_is_made(made, words):
    async def act(visit):
        pass

    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        Scenario(**{"name": "greet", "act": act, **made})


@pytest.mark.parametrize("number", [20.0, 0.1, 1234.5678, 86399.125, 0.50001])
def test_number_of_a_command_that_repeats_is_the_very_same(number):
    assert float(chaos.plain(number)) == number
    assert chaos.asked(f"kill:every={chaos.plain(1 / 3)}") == (chaos.Paced("kill", 1 / 3),)
    assert str(chaos.Paced("kill", 1 / 3)) == f"kill:every={1 / 3}"
