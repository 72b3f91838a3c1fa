"""Kills: nothing accepted is lost, nothing is told twice, nobody is refused, nothing is left behind."""

from __future__ import annotations

import http.client
import itertools
import os
import random
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.running import LAMP, eventually, gone
from tests.support.tally import gaps

if TYPE_CHECKING:
    from tests.support.machine import Machine
    from tests.support.running import Answer, RunningMesh


def _assert_contiguous(mesh: RunningMesh) -> list[dict]:
    """Every event once, in order, in each stream."""
    events = mesh.lines("events", "tail", "--no-follow", "-n", "1000000")
    assert gaps(events) == []
    return events


def test_order_is_killed_between_two_calls_and_nobody_is_refused(mesh: RunningMesh):
    before = mesh.order([(LAMP, 1)], key="before").body
    token = mesh.login("alice")
    for n in range(3):
        pid = mesh.kill("order")
        after = mesh.order([(LAMP, 1)], key=f"after-{n}")
        assert (after.status, after.body["status"]) == (201, "reserved")
        shown = mesh.ask("order", "GET", f"/orders/{before['id']}", token=token)
        assert shown.body == before
        steps = mesh.ask("order", "GET", f"/orders/{before['id']}/history", token=token)
        assert [step["new"] for step in steps.body["items"]] == ["pending", "reserved"]
        assert gone(pid)
    assert mesh.services()["order"]["restarts"] == 3


def test_bus_is_killed_and_every_event_arrives_once_in_order(mesh: RunningMesh):
    product = mesh.product(on_hand=5)
    pid = mesh.kill("bus")
    orders = [mesh.order([(product, 1)], key=f"k{n}") for n in range(10)]
    statuses = [answer.body["status"] for answer in orders]
    assert (statuses.count("reserved"), statuses.count("backordered")) == (5, 5)
    mesh.restock(product, 5)
    mesh.run("wait", "bus")
    mesh.idle()
    token = mesh.login("alice")
    for answer in orders:
        shown = mesh.ask("order", "GET", f"/orders/{answer.body['id']}", token=token)
        assert shown.body["status"] == "reserved"
    events = _assert_contiguous(mesh)
    placed = {answer.body["id"] for answer in orders}
    told = [
        event
        for event in events
        if event["type"] == "order.status_changed" and event["subject"] in placed
    ]
    assert len(told) == 10 + 10 + 5
    assert gone(pid)


def test_supervisor_is_killed_and_its_children_are_gone_within_a_second(
    mesh: RunningMesh, machine: Machine
):
    order = mesh.order([(LAMP, 1)], key="kept").body
    pids = [row["pid"] for row in mesh.services().values()]
    supervisor, killed_s = mesh.supervisor(), time.monotonic()
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: all(gone(pid) for pid in pids), within_s=30)
    assert machine.since_s(killed_s) < 1.0
    mesh.run("ps", exit_code=3)
    mesh.up()
    shown = mesh.ask("order", "GET", f"/orders/{order['id']}", token=mesh.login("alice"))
    assert shown.body == order


@pytest.mark.parametrize("seed", range(3))
def test_same_key_after_a_kill_at_any_moment_is_one_order(tough: RunningMesh, seed: int):
    """The client sends, order or product dies somewhere inside, the client sends again."""
    chance = random.Random(seed)
    product = tough.product(on_hand=1000)
    tough.login("alice")
    answered: list[Answer] = []
    for n in range(8):
        key = f"key-{n}"
        victim = chance.choice(["order", "order", "product"])
        pid = int(tough.services()[victim]["pid"])
        fuse = threading.Timer(chance.uniform(0.0, 0.012), os.kill, (pid, signal.SIGKILL))
        fuse.start()
        first = _try(tough, product, key)
        fuse.join()
        repeated = [_insist(tough, product, key) for _ in range(2)]
        answers = [answer for answer in (first, *repeated) if answer and answer.status < 300]
        assert len({answer.body["id"] for answer in answers}) == 1
        assert repeated[0].body == repeated[1].body
        answered.append(repeated[0])
        tough.run("wait", victim, "--timeout", "30")
    tough.idle()
    placed = tough.placed("alice")
    assert sorted(item["id"] for item in placed) == sorted(answer.body["id"] for answer in answered)
    assert {item["status"] for item in placed} == {"reserved"}
    shown = tough.ask("product", "GET", f"/products/{product}").body
    assert shown["reserved"] == 8
    _assert_contiguous(tough)


def _try(mesh: RunningMesh, product: str, key: str) -> Answer | None:
    try:
        return mesh.order([(product, 1)], key=key)
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _insist(mesh: RunningMesh, product: str, key: str) -> Answer:
    """Send until there is an answer that is not "try again"."""
    for _ in itertools.repeat(None, 100):
        answer = _try(mesh, product, key)
        if answer is not None and answer.status not in {409, 503, 504}:
            return answer
    raise AssertionError("no answer in 100 tries")


def test_wake_up_survives_a_kill_of_order(mesh: RunningMesh):
    product = mesh.product(on_hand=0)
    order = mesh.order([(product, 1)], key="waits").body
    mesh.run("stop", "order")
    mesh.restock(product, 1)
    mesh.run("start", "order")
    mesh.run("wait", "order")
    mesh.idle()
    shown = mesh.ask("order", "GET", f"/orders/{order['id']}", token=mesh.login("alice"))
    assert shown.body["status"] == "reserved"
