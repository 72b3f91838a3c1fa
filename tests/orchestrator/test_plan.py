from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.config import Dependency
from mesh.errors import ConfigInvalid
from mesh.orchestrator import plan
from mesh.orchestrator.contract import Program
from mesh.orchestrator.life import Life

SHOP_NEEDS = {"auth": ["bus"], "user": ["bus"], "product": ["bus"], "order": ["bus"], "bus": []}
SHOP_ASKS = {"user": ["auth"], "order": ["product", "auth"], "product": ["auth"]}


def program(name, needs=(), condition="service_healthy", **members):
    return Program(
        name=name,
        entry="m:f",
        depends_on={need: Dependency(condition) for need in needs},
        **members,
    )


def test_closure_is_what_names_lead_to_in_configured_order():
    edges = {"a": ["b"], "b": ["c"], "c": [], "d": ["a"]}
    assert plan.closure(edges, ["b", "a"]) == ["a", "b", "c"]


def test_closure_leaves_out_ends_that_nobody_defined():
    assert plan.closure({"a": ["nats"]}, ["a", "nobody"]) == ["a"]


def test_closure_ends_when_edges_run_in_circles():
    assert plan.closure({"a": ["b"], "b": ["a"]}, ["a"]) == ["a", "b"]


def test_cycle_names_one_way_around():
    assert plan.cycle({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == ["a", "b", "c", "a"]


def test_cycle_is_nothing_when_there_is_none():
    assert plan.cycle({"a": ["b", "x"], "b": ["c"], "c": []}) == []


def test_levels_of_the_shop_have_the_asked_before_those_who_ask():
    assert plan.levels(SHOP_NEEDS, SHOP_ASKS) == [["bus"], ["auth"], ["user", "product"], ["order"]]


def test_levels_put_those_who_ask_each_other_side_by_side():
    needs = {"a": [], "b": [], "c": ["a"]}
    assert plan.levels(needs, {"a": ["b"], "b": ["a"]}) == [["a", "b"], ["c"]]


def test_levels_refuse_a_cycle_and_name_it():
    with pytest.raises(ConfigInvalid) as caught:
        plan.levels({"a": ["b"], "b": ["a"]}, {})
    assert caught.value.complaints == ("depends_on runs in a circle: a → b → a",)


NAMES = [*"abcdef"]
graphs = st.fixed_dictionaries({name: st.lists(st.sampled_from(NAMES)) for name in NAMES})


@given(graphs, graphs)
def test_levels_hold_everybody_once_and_keep_needs_in_order(needs, asks):
    if path := plan.cycle(needs):
        assert path[0] == path[-1]
        assert all(end in needs[begin] for begin, end in pairwise(path))
        return
    levels = plan.levels(needs, asks)
    place = {name: n for n, level in enumerate(levels) for name in level}
    assert sorted(name for level in levels for name in level) == NAMES
    assert all(place[end] < place[name] for name in NAMES for end in needs[name])


def test_check_tells_every_complaint_at_once():
    with pytest.raises(ConfigInvalid) as caught:
        plan.check(
            [
                program("a", ["b"]),
                program("b", ["a"]),
                program("c"),
                program("c"),
                Program(name="d"),
                program("mesh"),
            ]
        )
    assert caught.value.complaints == (
        "c: defined twice",
        "mesh: is the name of the supervisor's own log",
        "d: needs exactly one of entry and command",
        "depends_on runs in a circle: a → b → a",
    )


UP = Life(desired="up", state="ready", alive=True)
STARTING = Life(desired="up", state="starting", alive=True)
WAITING = Life(desired="up", state="starting", waiting=True)
FAILED = Life(desired="up", state="failed")
DONE = Life(desired="down", state="stopped", exit=0)


@pytest.mark.parametrize(
    ("condition", "life", "verdict"),
    [
        ("service_started", UP, "open"),
        ("service_started", STARTING, "open"),
        ("service_started", WAITING, "wait"),
        ("service_started", FAILED, "blocked"),
        ("service_started", DONE, "open"),
        ("service_healthy", UP, "open"),
        ("service_healthy", Life(desired="up", state="degraded", alive=True), "open"),
        ("service_healthy", STARTING, "wait"),
        ("service_healthy", Life(desired="up", state="backoff"), "wait"),
        ("service_healthy", FAILED, "blocked"),
        ("service_completed_successfully", UP, "wait"),
        ("service_completed_successfully", DONE, "open"),
        ("service_completed_successfully", FAILED, "blocked"),
        ("service_healthy", Life(), "open"),
        ("service_healthy", None, "open"),
    ],
)
def test_gate_opens_when_the_condition_holds(condition, life, verdict):
    lives = {} if life is None else {"a": life}
    assert plan.gate(program("b", ["a"], condition), lives).verdict == verdict


def test_gate_lets_pass_when_a_dependency_that_is_not_required_failed():
    asking = Program(name="b", entry="m:f", depends_on={"a": Dependency(required=False)})
    assert plan.gate(asking, {"a": FAILED}).verdict == "open"


def test_gate_says_what_it_waits_for():
    gate = plan.gate(program("c", ["a", "b"]), {"a": STARTING, "b": UP})
    assert gate.cause == "waits for a (service_healthy)"


def test_environment_is_the_base_the_programs_own_and_then_ours():
    asking = program("b", environment={"MINE": "1", "PORT": "9"}, peers=("a-b", "away"))
    found = plan.environment(
        asking, {"PATH": "/bin", "LISTEN_FDS": "3"}, {"a-b": "http://127.0.0.1:1"}, 7002
    )
    assert found == {
        "PATH": "/bin",
        "MINE": "1",
        "MESH_SERVICE": "b",
        "HOST": "127.0.0.1",
        "PORT": "7002",
        "MESH_URL_A_B": "http://127.0.0.1:1",
    }


def test_environment_of_the_program_may_put_a_proxy_before_a_peer():
    asking = program("b", environment={"MESH_URL_A": "http://127.0.0.1:9"}, peers=("a",))
    found = plan.environment(asking, {}, {"a": "http://127.0.0.1:1"}, None)
    assert found["MESH_URL_A"] == "http://127.0.0.1:9"
